"""Our own drum synthesiser plays a written groove, so that the recording is ours to give away.

usage: python examples/make_groove.py OUT.flac        (needs the extra `train`)

examples/groove.flac was made by it at commit 78893b8; today's synthesiser draws other drums for the same groove.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import soundfile

from ghostnote.models.data.drums.kits import KitShelf
from ghostnote.models.data.music.backing import BackingShelf
from ghostnote.models.data.packed import SAMPLE_RATE
from ghostnote.models.data.performances.performance import Performance
from ghostnote.models.data.recipe import Draws, RenderRecipe
from ghostnote.models.data.renderer import PREROLL_S, Renderer
from ghostnote.runtime.vocabulary import index_of

STEP_S = 60 / 104 / 4  # sixteenths at 104 beats per minute
BARS = 3
KIT_SEED = 24
# One bar of sixteenths per class: velocity in tenths, '.' = rest. The last bar ends in a tom fill.
GROOVE = {"BD": "9.....7...9.....", "SD": "....9..2.2..9..2", "CHH": "7.4.7.4.7.4.7.4."}
FILL = {
    "BD": "9.....7.........",
    "SD": "....9...99......",
    "CHH": "7.4.7.4.........",
    "HT": "..........89....",
    "LT": "............8989",
}


def groove() -> Performance:
    """Some bars, a crash at the start, a crash at the end."""
    hits = [(0.0, "CRC", 0.9), (BARS * 16 * STEP_S, "CRC", 1.0), (BARS * 16 * STEP_S, "BD", 1.0)]
    for bar in range(BARS):
        for code, line in (FILL if bar == BARS - 1 else GROOVE).items():
            hits += [((bar * 16 + i) * STEP_S, code, int(v) / 10) for i, v in enumerate(line) if v != "."]
    times, codes, velocities = zip(*sorted(hits), strict=True)
    offset_s = PREROLL_S + 0.25
    return Performance.from_hits(
        np.array(times) + offset_s, [index_of(code) for code in codes], velocities, offset_s + times[-1] + 1.5
    )


def main(out: Path) -> None:
    performance = groove()
    samples = round((performance.duration_s - PREROLL_S) * SAMPLE_RATE)
    renderer = Renderer(KitShelf(None), BackingShelf(None), RenderRecipe.load("plain"))
    clips = renderer.render([[performance]], [Draws(KIT_SEED)], samples)
    soundfile.write(out, clips.audio[0].numpy(), SAMPLE_RATE, subtype="PCM_16")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
