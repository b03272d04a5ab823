"""What an engine's score loses in each channel, and without each of its views.

A row: channel, what it does, F pooled and per class at one window, the drop of pooled F against the untouched
recordings (positive = worse); or `not_available`, the reason why there are no figures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...runtime.engines.protocol import Engine
from ...runtime.input.audio import read_audio
from .channels import Channel, Unavailable
from .hearing import Listener, hear, notes_at
from .notes import Note, labels_of
from .scores import score

__all__ = ["NO_VIEWS", "figures", "hits_per_minute", "markdown", "recordings", "table", "without_views"]

Floats = NDArray[np.float32]
Recordings = Mapping[str, tuple[Floats, Sequence[Note]]]  # samples [N] and references, by track
NO_VIEWS = "views can be silenced in a .pt checkpoint of a DrumTransformer only"


def recordings(audio: Mapping[str, Path], references: Mapping[str, Sequence[Note]], rate: int) -> Recordings:
    """Every recording as mono samples at the engine's rate, with its references. Raises InputError."""
    return {name: (read_audio(path, rate), references[name]) for name, path in audio.items()}


def table(
    engine: Listener,
    blinded: Mapping[str, Engine | None],
    found: Recordings,
    channels: Iterable[Channel],
    delay: int,
    *,
    window_s: float,
    group: str,
    watch: Callable[[str], None],
) -> list[dict[str, Any]]:
    """A row per channel (the first is what the others are compared with) and per view (None: cannot be silenced).

    `watch` hears each row's name when it begins.
    """
    rows: list[dict[str, Any]] = []

    def add(name: str, what: str, listener: Listener | None, channel: Channel | None) -> None:
        watch(name)
        try:
            result = _score(listener, found, channel, delay, window_s, group)
        except Unavailable as reason:
            rows.append({"channel": name, "what": what, "not_available": str(reason)})
            return
        row = {"channel": name, "what": what, **_figures(result)}
        rows.append(row | {"drop": (rows[0] if rows else row)["F"] - row["F"]})

    for channel in channels:
        add(channel.name, channel.what, engine, channel)
    for view, listener in blinded.items():
        add(f"no {view} view", f"the latent of the {view} view set to zero", listener, None)
    return rows


def hits_per_minute(engine: Listener, pieces: Iterable[Floats], delay: int) -> float:
    """How many hits are found per minute of recordings [N] each, e.g. of music without drums, where all are false."""
    found, samples = 0, 0
    for piece in pieces:
        found += len(notes_at(hear(engine, piece, delay), engine.manifest, delay))
        samples += len(piece)
    return 60 * found * engine.manifest.sample_rate / samples


def _score(
    engine: Listener | None, found: Recordings, channel: Channel | None, delay: int, window_s: float, group: str
) -> dict[str, Any]:
    if engine is None:
        raise Unavailable(NO_VIEWS)
    estimates = {}
    for name, (audio, _) in found.items():
        heard = hear(engine, channel(audio, name) if channel else audio, delay)
        estimates[name] = labels_of(notes_at(heard, engine.manifest, delay))
    references = {name: labels_of(notes) for name, (_, notes) in found.items()}
    return score(estimates, references, window_s=window_s, group=group)


def _figures(result: Mapping[str, Any]) -> dict[str, Any]:
    pooled = {key: result["micro"][key] for key in ("F", "P", "R", "mean_abs_ms")}
    present = {name: row["F"] for name, row in result["classes"].items() if row["tp"] + row["fp"] + row["fn"]}
    return pooled | {"classes": present}


def without_views(checkpoint: Path) -> dict[str, Engine]:
    """Engines that each have one view less, by view. Raises InputError, also for a model of another kind.

    The latent of the view is zero, as under view dropout in training.
    """
    from ..checkpoint import load
    from ..torch_engine import TorchEngine

    loaded = load(checkpoint)
    engines: dict[str, Engine] = {}
    for view in loaded.streaming_model().config.views:
        model = loaded.streaming_model()
        model.encoders[view].register_forward_hook(_silence)
        engines[view] = TorchEngine(model, loaded.manifest())
    return engines


def _silence(_module: Any, _inputs: Any, latent: Any) -> Any:
    return latent * 0


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as a Markdown table; F in the style of docs/results.md, drops in points."""
    names = list(dict.fromkeys(name for row in rows for name in row.get("classes", ())))
    lines = [f"| channel | F | drop | P | R | {' | '.join(names)} | what |", f"|{'---|' * (len(names) + 6)}"]
    for row in rows:
        cells = [row["channel"], *figures(row, names), row.get("not_available", row["what"])]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def figures(row: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """F, drop in points, P, R and F of the named classes as text; n/a where there are none."""
    if "not_available" in row:
        return ["n/a"] * (4 + len(names))
    f, *rates = (_fraction(row[key]) for key in "FPR")
    return [f, f"{100 * row['drop']:.1f}", *rates, *(_fraction(row["classes"].get(name, 0.0)) for name in names)]


def _fraction(value: float) -> str:
    return f"{value:.3f}".removeprefix("0")
