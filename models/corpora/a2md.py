"""A2MD (Wei, Wu, Su 2021), as in the published archive a2md_public.zip:

    align_mid/dist0p00/align_mid_00000_TRAAAGR128F425B14B.mid
    ytd_audio/dist0p00/ytd_audio_00000_TRAAAGR128F425B14B.mp3

Songs and Lakh MIDI files aligned to them. Only the MIDI's drum channel is read. Splits: the folders by alignment
distance, `dist0p00` (best) to `dist0p60`; the first two are about as good as crowd labels, the others worse.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from ...runtime.vocabulary import CODES
from .folders import audio_by_stem, midi_labels, of_split, require, wrong_folder
from .recording import CROWD_TOLERANCE_S, Recording, Source, covering

__all__ = ["read"]

LICENCE = "no licence given (A2MD; I. Wei, C. Wu, L. Su, ICASSP 2021); audio: copyrighted songs"
_EXPECTED = "align_mid/dist0p00/align_mid_ID.mid and ytd_audio/dist0p00/ytd_audio_ID.mp3"


def read(folder: Path, split: str | None = None) -> list[Recording]:
    """All songs whose audio is there. Raises InputError for another folder."""
    require(folder, "A2MD", _EXPECTED, "align_mid", "ytd_audio")
    recordings = []
    for bucket in sorted(path for path in (folder / "ytd_audio").iterdir() if of_split(path.name, split)):
        for stem, path in audio_by_stem(bucket).items():
            song = stem.removeprefix("ytd_audio_")
            annotation = folder / "align_mid" / bucket.name / f"align_mid_{song}.mid"
            if annotation.exists():
                labels = partial(midi_labels, annotation, drum_channel=True)
                audio = {"mix": (Source(path),)}
                recordings.append(
                    Recording(
                        f"{bucket.name}_{song}",
                        audio,
                        labels,
                        covering(*CODES),
                        CROWD_TOLERANCE_S,
                        LICENCE,
                        bucket.name,
                    )
                )
    if not recordings and split is None:
        raise wrong_folder(folder, "A2MD", _EXPECTED)
    return recordings
