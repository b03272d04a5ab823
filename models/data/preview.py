"""What the model is trained on, to be heard and seen: clips with their labels, and pictures of both.

Letters: N samples, M hits, K frames of the spectrogram, V bands.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ...runtime.vocabulary import CLASSES, CODES
from .packed import SAMPLE_RATE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from .dataset import RenderedBatches

__all__ = ["Example", "Speed", "draw", "examples", "rendering_speed", "spectrogram", "write"]

HOP = 128  # samples: 2.9 ms
SHORT, LONG = 512, 2048  # samples per window: 11.6 ms, so that an attack stands within 6 ms of its mark; 46 ms for lows
LONG_BELOW_HZ = 300.0
BANDS, LOWEST_HZ, HIGHEST_HZ = 112, 40.0, 18000.0
RANGE_DB = 70  # from the loudest cell of a picture to white
INCHES_PER_SECOND, DPI = 2.6, 110
# Families of drums share a hue; all of them dark or strong enough to be seen on grey.
COLOURS = {
    "BD": "#0b5fd0", "SD": "#d62020", "SS": "#ff7f0e", "CLP": "#ff4fa3", "CHH": "#1fa01f", "PHH": "#005a00",
    "OHH": "#86c400", "TB": "#00a3a3", "LT": "#4b1c8f", "MT": "#9b40d8", "HT": "#d77bf0", "CRC": "#b8860b",
    "SPC": "#d0a060", "CHC": "#5d3a1a", "RD": "#f0b400", "RB": "#a04a00", "CB": "#507080", "CL": "#202020",
}  # fmt: skip


@dataclass(frozen=True)
class Example:
    """One clip as the loss sees it."""

    audio: np.ndarray  # float32 [N], full scale 1.0
    times_s: np.ndarray  # [M]
    classes: np.ndarray  # int [M]
    velocities: np.ndarray  # [M], 0..1
    ignored: np.ndarray  # bool [M]: hits too faint to hear, which the loss leaves out
    unlabelled: tuple[str, ...]  # codes of classes that this clip teaches nothing about

    def label_lines(self) -> list[str]:
        """`seconds<TAB>code<TAB>velocity` of every hit that counts, as `ghostnote evaluate` reads them."""
        kept = ~self.ignored
        rows = zip(self.times_s[kept], self.classes[kept], self.velocities[kept], strict=True)
        return [f"{t:.6f}\t{CODES[c]}\t{v:.3f}" for t, c, v in rows]


def examples(batches: RenderedBatches, count: int) -> Iterator[Example]:
    """The first `count` clips of the batches."""
    made = 0
    while made < count:
        batch = {name: value.cpu().numpy() for name, value in batches[made // batches.clips].items()}
        for clip in range(min(batches.clips, count - made)):
            yield _example({name: values[clip] for name, values in batch.items()})
            made += 1


def _example(clip: dict[str, np.ndarray]) -> Example:
    hits = clip["classes"] >= 0
    ignored = clip.get("ignored", np.zeros(len(hits), bool))
    labelled = clip.get("labelled", np.ones(len(CODES), bool))
    return Example(
        audio=clip["audio"],
        times_s=clip["times"][hits],
        classes=clip["classes"][hits],
        velocities=clip["velocities"][hits],
        ignored=ignored[hits],
        unlabelled=tuple(code for code, is_labelled in zip(CODES, labelled, strict=True) if not is_labelled),
    )


class Speed(NamedTuple):
    """Hours of audio rendered per minute, by the clock and by this process's CPU time, and the clips measured."""

    per_minute: float
    per_cpu_minute: float
    clips: int


def rendering_speed(batches: RenderedBatches, first: int, seconds: float) -> Speed:
    """Render batches from number `first` on for some seconds.

    Call it after a batch was rendered: the first one also decodes the sounds and makes the first synthesised kits.
    """
    start, cpu_start = time.perf_counter(), time.process_time()
    clips, audio_s = 0, 0.0
    while clips == 0 or time.perf_counter() - start < seconds:
        audio = batches[first + clips // batches.clips]["audio"].cpu()  # a copy to the CPU waits for the GPU
        clips += len(audio)
        audio_s += audio.numel() / SAMPLE_RATE
    elapsed_s, cpu_s = time.perf_counter() - start, time.process_time() - cpu_start
    return Speed(audio_s / 60 / elapsed_s, audio_s / 60 / max(1e-3, cpu_s), clips)


def write(example: Example, folder: Path, name: str) -> None:
    """NAME.flac, NAME.txt and NAME.png in a folder that exists."""
    import soundfile

    soundfile.write(folder / f"{name}.flac", example.audio, SAMPLE_RATE, subtype="PCM_16")
    (folder / f"{name}.txt").write_text("".join(f"{line}\n" for line in example.label_lines()), encoding="utf-8")
    draw(example, folder / f"{name}.png", name)


def spectrogram(audio: np.ndarray) -> np.ndarray:
    """Level in log-spaced bands in dB, [N] -> [V, K]; frame k is centred on sample k * HOP."""
    centres = _band_edges()[1:-1]
    low, high = (_band_levels(audio, window) for window in (LONG, SHORT))
    return np.where(centres[:, None] < LONG_BELOW_HZ, low, high)


def _band_levels(audio: np.ndarray, window: int) -> np.ndarray:
    """The same with one window for all bands; a sine has the same level whatever the window."""
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(audio, window // 2), window)[::HOP]
    shape = (np.hanning(window) * 2 / window).astype(np.float32)
    power = np.abs(np.fft.rfft(windows * shape, LONG)) ** 2  # zero-padded: all windows share the bands
    return 10 * np.log10(_bands() @ power.T + 1e-12)


def _band_edges() -> np.ndarray:
    return np.geomspace(LOWEST_HZ, HIGHEST_HZ, BANDS + 2)


def _bands() -> np.ndarray:
    """Triangles with sum 1 about log-spaced centres, [V, LONG // 2 + 1]."""
    frequencies, edges = np.fft.rfftfreq(LONG, 1 / SAMPLE_RATE), _band_edges()
    # Never narrower than a bin, or a low band might hold none.
    reach = np.maximum(np.diff(edges), frequencies[1])
    distance = frequencies - edges[1:-1, None]
    weights = 1 - np.abs(distance) / np.where(distance < 0, reach[:-1, None], reach[1:, None])
    weights = weights.clip(min=0)
    return weights / weights.sum(1, keepdims=True)


def draw(example: Example, path: Path, title: str) -> None:
    """Waveform, spectrogram, and a lane of marks per class, one above the other on the same time axis."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    lanes = sorted(set(example.classes.tolist()))
    duration_s = len(example.audio) / SAMPLE_RATE
    heights = [0.9, 4.2, 0.35 + 0.27 * max(1, len(lanes))]
    figure = Figure(figsize=(3 + INCHES_PER_SECOND * duration_s, sum(heights) + 1.3), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    wave, bands, hits = figure.subplots(3, 1, sharex=True, height_ratios=heights)
    _draw_wave(wave, example.audio)
    _draw_bands(bands, example.audio, duration_s)
    _draw_lanes(hits, example, lanes)
    _draw_hairlines((wave, bands), example)
    hits.set_xlim(0, duration_s)
    hits.set_xticks(np.arange(0, duration_s, 0.5))
    hits.set_xlabel("seconds")
    figure.suptitle(f"{title}: {_summary(example)}", fontsize=11)
    figure.legend(handles=_legend(example, lanes), loc="outside right upper", fontsize=9)
    figure.savefig(path)


def _summary(example: Example) -> str:
    ignored = int(example.ignored.sum())
    parts = [f"{len(example.classes) - ignored} hits"]
    if ignored:
        parts.append(f"{ignored} ignored (too faint)")
    if example.unlabelled:
        parts.append(f"not labelled: {' '.join(example.unlabelled)}")
    return ", ".join(parts)


def _draw_wave(axes: Axes, audio: np.ndarray) -> None:
    axes.plot(np.arange(len(audio)) / SAMPLE_RATE, audio, color="0.25", linewidth=0.4)
    axes.set_ylim(-1.05, 1.05)
    axes.set_yticks([-1, 0, 1])


def _draw_bands(axes: Axes, audio: np.ndarray, duration_s: float) -> None:
    level = spectrogram(audio)
    loudest = float(level.max())
    axes.imshow(
        level,
        origin="lower",
        aspect="auto",
        cmap="Greys",
        vmin=loudest - RANGE_DB,
        vmax=loudest,
        extent=(-HOP / 2 / SAMPLE_RATE, duration_s, -0.5, BANDS - 0.5),
        interpolation="nearest",
    )
    shown = [50, 100, 200, 500, 1000, 2000, 5000, 10000]
    axes.set_yticks(np.interp(shown, _band_edges()[1:-1], np.arange(BANDS)))
    axes.set_yticklabels([f"{hz // 1000} kHz" if hz >= 1000 else f"{hz} Hz" for hz in shown])


def _draw_lanes(axes: Axes, example: Example, lanes: list[int]) -> None:
    """A mark per hit, larger when louder, hollow where the loss ignores it."""
    for row, index in enumerate(lanes):
        axes.axhline(row, color="0.85", linewidth=0.8, zorder=0)
        for ignored in (False, True):
            chosen = (example.classes == index) & (example.ignored == ignored)
            axes.scatter(
                example.times_s[chosen],
                np.full(int(chosen.sum()), row),
                s=12 + 60 * example.velocities[chosen],
                facecolors="none" if ignored else _colour(index),
                edgecolors=_colour(index),
                linewidths=1.2,
                zorder=2,
            )
    axes.set_ylim(len(lanes) - 0.4, -0.6)
    axes.set_yticks(range(len(lanes)), [CODES[i] for i in lanes])
    axes.grid(axis="x", color="0.9", linewidth=0.6)


def _draw_hairlines(pictures: tuple[Axes, ...], example: Example) -> None:
    """Where each hit lies in the pictures above its lane; dotted where it is ignored."""
    for axes in pictures:
        for time_s, index, ignored in zip(example.times_s, example.classes, example.ignored, strict=True):
            axes.axvline(
                time_s, color=_colour(index), linewidth=0.8, alpha=0.8, linestyle=":" if ignored else "-", zorder=3
            )


def _legend(example: Example, lanes: list[int]) -> list[Any]:
    from matplotlib.lines import Line2D

    def entry(label: str, colour: Any, face: Any) -> Line2D:
        return Line2D([], [], linestyle="none", marker="o", color=colour, markerfacecolor=face, label=label)

    counted = example.classes[~example.ignored]
    entries = [
        entry(f"{CODES[i]} {CLASSES[i].name} ({int((counted == i).sum())})", _colour(i), _colour(i)) for i in lanes
    ]
    entries.append(entry("larger = louder", "0.4", "0.4"))
    return [*entries, entry("hollow = ignored", "0.4", "none")] if example.ignored.any() else entries


def _colour(index: int) -> str:
    return COLOURS[CODES[index]]
