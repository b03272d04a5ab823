"""Performances to audio with exact labels: a kit is drawn, hits are added up, then room, bus, backing and channel.

Letters: B clips, N samples, M hits of the fullest clip (shorter ones are padded with class -1).
A label's time is the physical attack: the sample at which the placed one-shot's attack mark lies, or where it begins to
sound if that is later (`Voice.lag`). Hits that the other sounds cover are kept, but marked `ignored`, unless whoever
knows the pattern knows that they were struck (`_inferred`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from ...runtime.vocabulary import CODES, PARENTS
from . import effects
from .drums.audibility import Heard, band_energies, heard
from .drums.kits import OTHER, Kit, KitShelf
from .drums.pieces import CYMBALS, Piece, Voice, make_piece
from .packed import SAMPLE_RATE
from .performances.performance import TIMEKEEPERS, TOGETHER_S, Performance
from .recipe import Draws, RenderRecipe, within
from .separation import demixed

__all__ = ["PREROLL_S", "Band", "Clips", "Renderer"]

# Peak levels in dB of a balanced kit, by class. Kits disagree: every clip starts here and moves each class by a draw.
LEVEL_DB = {
    "BD": 0, "SD": -1, "SS": -7, "CLP": -5, "CHH": -13, "PHH": -16, "OHH": -11, "TB": -12, "LT": -3, "MT": -3, "HT": -4,
    "CRC": -8, "SPC": -10, "CHC": -8, "RD": -12, "RB": -10, "CB": -9, "CL": -11, OTHER: -10,
}  # fmt: skip
HIHATS = frozenset({"CHH", "PHH", "OHH"})
COVERING = frozenset({"BD", "SD"})  # loud and wide enough to hide what is struck with them
MOSTLY = 0.5  # share of a part that must be heard for the rest to be told from it
BEAT = TIMEKEEPERS | {"BD", "SD"}  # parts of which a pattern is made
FULL_VELOCITY = 0.25  # of a stroke that belongs to the pattern; softer ones are ghost notes
LEVEL_CURVE = 1.3  # a stroke lies (1 - velocity) ** LEVEL_CURVE of the piece's depth under its loudest
SOFTEST = 0.04  # velocity
CLOSED_S = 0.05  # an open hi-hat that is closed so soon is heard as a closed one
PARENT_OF = torch.tensor([next(i for i, parent in enumerate(PARENTS) if code in parent) for code in CODES])
BLOCK = SAMPLE_RATE // 2
PREROLL_S = 1.0  # rendered ahead of the clip and cut off, so that clips begin inside ringing tails

Hits = list[tuple[float, str, float]]  # seconds, class, velocity, in time order


class Band(Protocol):
    """Plays the music under the drums."""

    def play(self, rng: np.random.Generator, hits: list[tuple[float, str]], n_samples: int) -> np.ndarray:
        """Accompaniment, float32 [n_samples] at any level; `hits` are the drums' (seconds, class)."""
        ...


class Clips(NamedTuple):
    """A batch of rendered clips."""

    audio: Tensor  # [B, N] float32
    times: Tensor  # [B, M] float32, seconds from the clip's first sample
    classes: Tensor  # [B, M] int64, -1 = no hit
    velocities: Tensor  # [B, M] float32, 0..1
    ignored: Tensor  # [B, M] bool: too covered by other sounds to be learnt from; they cost nothing, found or not


@dataclass
class Take:
    """The drums of one clip before any bus: what was struck, and its sound."""

    buses: Tensor  # [2, N]: drums, cymbals
    labels: list[tuple[int, int, float]] = field(default_factory=list)  # sample, class, velocity
    energies: list[Tensor] = field(default_factory=list)  # [K] of every label's own opening


class Renderer:
    """Renders performances with kits drawn from a shelf, over a band, on a torch device."""

    def __init__(self, shelf: KitShelf, band: Band, recipe: RenderRecipe, device: torch.device | str = "cpu"):
        self.shelf, self.band, self.recipe = shelf, band, recipe
        self.device = torch.device(device)

    def render(self, performances: list[list[Performance]], draws: list[Draws], samples: int) -> Clips:
        """The drummers of every clip, each PREROLL_S longer than it, and its draws -> clips of `samples` samples."""
        before = int(PREROLL_S * SAMPLE_RATE)
        total = samples + before
        takes = [self._take(drummers, d, total) for drummers, d in zip(performances, draws, strict=True)]
        bus = self._bus(torch.stack([take.buses for take in takes]), draws)
        bus, mix = self._with_others(bus, performances, draws)
        final = effects.through(effects.CHANNEL, mix, draws, self.recipe)
        kept = []
        for take, clip_bus, clip_final in zip(takes, bus, final, strict=True):
            learnt = self._learnt(take, clip_bus, clip_final)
            kept.append([(s - before, c, v, not known) for (s, c, v), known in zip(take.labels, learnt, strict=True)])
        audio = effects.through(effects.LEVEL, final[:, before:], draws, self.recipe)
        return Clips(audio, *_pad_labels(kept, self.device))

    # --- drums ---

    def _take(self, drummers: list[Performance], draws: Draws, total: int) -> Take:
        """Every hit of every drummer added to its bus."""
        take = Take(torch.zeros(2, total, device=self.device))
        for performance in drummers:
            self._perform(performance, draws, take)
        return take

    def _perform(self, performance: Performance, draws: Draws, take: Take) -> None:
        recipe = self.recipe
        kit = self.shelf.draw(draws, recipe)
        hits = _with_closed(_with_other_percussion(performance, kit, draws, recipe))
        # Sorted: a set's order changes from process to process, and every piece draws from the clip's generators.
        pieces = {code: self._piece(kit, code, draws) for code in sorted({code for _, code, _ in hits})}
        balance = draws["balance"]
        class_db, depths, stroke_db = (
            recipe.setting("balance", name, off)
            for name, off in (("class_db", 0.0), ("softest_db", (30, 30)), ("stroke_db", 0.0))
        )
        level_db = {code: LEVEL_DB[code] + float(np.clip(balance.normal(0, class_db), -10, 9)) for code in pieces}
        depth_db = within(balance, depths)
        openings: dict[tuple[str, int], Tensor] = {}
        hits = _softened(hits, depth_db, draws["covering"], recipe)
        for (time_s, code, velocity), choke in zip(hits, _choke_times(hits), strict=True):
            piece = pieces[code]
            if piece is None:
                continue
            chosen = piece.pick(velocity, balance)
            voice, sample = piece.voices[chosen], round(time_s * SAMPLE_RATE)
            sounds = sample + voice.lag
            stroke = level_db[code] - depth_db * (1 - velocity) ** LEVEL_CURVE + balance.normal(0, stroke_db)
            gain = 10 ** (stroke / 20)
            end = None if choke is None else round(choke * SAMPLE_RATE) - sample
            added = _add(take.buses[int(code in CYMBALS)], voice, sample, gain, end)
            if added and sounds < take.buses.shape[1] and code != OTHER:
                if (code, chosen) not in openings:
                    openings[code, chosen] = band_energies(voice.opening()[None])[0]
                take.labels.append((sounds, CODES.index(code), velocity))
                take.energies.append(openings[code, chosen] * gain**2)

    def _piece(self, kit: Kit, code: str, draws: Draws) -> Piece | None:
        sounds = kit.sounds.get(code)
        if not sounds:
            return None
        return make_piece(sounds, self.shelf.others(code, draws["layering"]), code, draws, self.recipe, self.device)

    # --- microphones, room, bus ---

    def _bus(self, buses: Tensor, draws: list[Draws]) -> Tensor:
        """[B, 2, N] -> [B, N], peak 1: an equaliser and bleed per bus, a shared room, compression, saturation."""
        recipe = self.recipe
        audio = effects.normalised(self._mix(buses, draws))
        if "compressor" in recipe:
            compressed = effects.compress(audio, [d["compressor"] for d in draws], recipe["compressor"])
            audio = effects.normalised(compressed)
        if "saturation" in recipe:
            audio = effects.saturate(audio, [d["saturation"] for d in draws], recipe["saturation"])
        return audio

    def _mix(self, buses: Tensor, draws: list[Draws]) -> Tensor:
        return torch.stack([self._mixed(clip, d) for clip, d in zip(buses, draws, strict=True)])

    def _mixed(self, buses: Tensor, draws: Draws) -> Tensor:
        """One clip's buses through bleed, equaliser and room: [2, N] -> [N]."""
        recipe, total = self.recipe, buses.shape[1]
        if "bleed" in recipe:
            buses = torch.stack([effects.bleed(bus, draws["bleed"], recipe["bleed"]) for bus in buses])
        size = effects.smooth_size(total)
        drums, cymbals = torch.fft.rfft(buses, n=size)
        if "equaliser" in recipe:
            kit, more = (effects.resized(curve, len(drums), self.device) for curve in self._curves(draws["equaliser"]))
            drums, cymbals = drums * kit, cymbals * (kit * more)
        dry = drums + cymbals
        if "room" in recipe:
            sends, room = self._room(draws["room"], total)
            wet = torch.fft.rfft(torch.from_numpy(room).to(self.device), n=size)
            dry = dry + wet * (sends[0] * drums + sends[1] * cymbals)
        return torch.fft.irfft(dry, n=size)[:total]

    def _curves(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Gain curves of the whole kit, and of the cymbals on top of it."""
        spread_db, tilt_db = (self.recipe["equaliser"][name] for name in ("spread_db", "tilt_db"))
        return (
            effects.equaliser_curve(rng, spread_db, tilt_db),
            effects.equaliser_curve(rng, spread_db / 2, tilt_db / 2),
        )

    def _room(self, rng: np.random.Generator, total: int) -> tuple[list[float], np.ndarray]:
        """Send gains of the two buses and the room's response [total]."""
        settings = self.recipe["room"]
        shortest, longest = settings["decay_s"]
        decay_s = shortest * (longest / shortest) ** rng.random()
        wet_db = within(rng, settings["wet_db"])
        sends = [10 ** ((wet_db + rng.uniform(-4, 4)) / 20) for _ in range(2)]
        return sends, effects.room_response(rng, min(total, int(1.05 * longest * SAMPLE_RATE)), decay_s)

    # --- everything that is no drum ---

    def _with_others(
        self, bus: Tensor, performances: list[list[Performance]], draws: list[Draws]
    ) -> tuple[Tensor, Tensor]:
        """[B, N] -> the drums as they are in the mix, and the mix, each [B, N]."""
        pairs = [self._accompanied(*clip) for clip in zip(bus, performances, draws, strict=True)]
        drums, mix = zip(*pairs, strict=True)
        return torch.stack(drums), torch.stack(mix)

    def _accompanied(self, drums: Tensor, drummers: list[Performance], draws: Draws) -> tuple[Tensor, Tensor]:
        """One clip's drums [N] as they are in its mix, and the mix [N], which may be a stem cut out of one."""
        recipe = self.recipe
        cut_out = draws["demixing"].random() < recipe.setting("demixing", "chance", 0.0)
        drums_db = within(draws["demixing"], recipe["demixing"]["drums_db"]) if cut_out else self._drums_db(draws)
        if drums_db is None:
            return drums, drums
        others = self._backing(drums, drummers, draws, drums_db)
        if draws["mastering"].random() < recipe.setting("mastering", "chance", 0.0):
            drums, others = effects.mastered(drums, others, draws["mastering"], recipe["mastering"])
        return drums, demixed(drums, others, draws["demixing"]) if cut_out else drums + others

    def _drums_db(self, draws: Draws) -> float | None:
        """Level of the drums against the backing in this clip; None = no backing."""
        if "backing" not in self.recipe:
            return None
        rng, settings = draws["backing"], self.recipe["backing"]
        kind = rng.random()
        if kind < settings["mix_share"]:
            return within(rng, settings["drums_db"])
        return within(rng, settings["bleed_db"]) if kind < settings["mix_share"] + settings["bleed_share"] else None

    def _backing(self, clip: Tensor, drummers: list[Performance], draws: Draws, drums_db: float) -> Tensor:
        hits = [(t, code) for performance in drummers for t, code, _ in _hits(performance)]
        other = torch.from_numpy(self.band.play(draws["band"], sorted(hits), len(clip))).to(self.device)
        if "backing" in self.recipe:
            other = effects.brighten(other, draws["brightness"], self.recipe["backing"])
        rms, other_rms = _rms_while_played(clip), other.square().mean().sqrt()
        # A clip without a single hit has no level of its own: the backing gets a usual one.
        rms = rms if rms > 1e-4 else torch.full_like(rms, 0.1)
        return other * (rms / other_rms.clamp(min=1e-6) * 10 ** (-drums_db / 20))

    def _learnt(self, take: Take, bus: Tensor, final: Tensor) -> list[bool]:
        """Which hits the model should find: all that can be heard, and those that can be told from these."""
        if not take.labels:
            return []
        samples = torch.tensor([sample for sample, _, _ in take.labels], device=self.device)
        found = heard(torch.stack(take.energies), samples, take.buses.sum(0), bus, final)
        return (found.audible | _inferred(take.labels, found)).tolist()


def _inferred(labels: list[tuple[int, int, float]], found: Heard) -> Tensor:
    """Hits [M] that nobody hears and a listener writes down, because a part that is heard for the most part goes on.

    Full strokes of the beat are told from it whatever hides them. Without them, a place where music is loud would mean
    that no drum is struck there: hits there would cost nothing, and their absence would be learnt. Ghost notes are
    told only in time-keeping parts, under another drum: whoever knows the pattern knows that the hi-hat was struck
    with the snare, and a loud snare must not mean that nothing else was. Nobody can tell a hidden china.
    """
    device = found.audible.device
    samples, classes, velocities = (torch.tensor([label[i] for label in labels], device=device) for i in range(3))
    same = classes[:, None] == classes[None, :]
    mostly = (same & found.audible[None, :]).sum(1) >= MOSTLY * same.sum(1)
    full = _among(classes, BEAT) & (velocities >= FULL_VELOCITY)
    parents = PARENT_OF.to(device)[classes]
    near = (samples[:, None] - samples[None, :]).abs() < TOGETHER_S * SAMPLE_RATE
    under = (near & (parents[:, None] != parents[None, :]) & found.audible[None, :]).any(1)
    return mostly & (full | (_among(classes, TIMEKEEPERS) & under & found.under_drums))


def _among(classes: Tensor, codes: frozenset[str]) -> Tensor:
    """Which classes [M] are among these."""
    return torch.isin(classes, torch.tensor([CODES.index(code) for code in sorted(codes)], device=classes.device))


def _rms_while_played(clip: Tensor) -> Tensor:
    """RMS of the half seconds of [N] that hold more than silence: rests do not make a drummer softer."""
    blocks = clip[: len(clip) // BLOCK * BLOCK].reshape(-1, BLOCK).square().mean(1)
    return blocks[blocks >= blocks.max() * 1e-4].mean().sqrt()


def _hits(performance: Performance) -> Hits:
    return [
        (float(t), CODES[c], float(v))
        for t, c, v in zip(performance.times_s, performance.classes, performance.velocities, strict=True)
    ]


def _with_other_percussion(performance: Performance, kit: Kit, draws: Draws, recipe: RenderRecipe) -> Hits:
    """The performance's hits; in some clips with percussion that is no target.

    Mostly in rhythm, along with one of the parts or in its place: or "in rhythm" would mean "a drum".
    """
    hits, rng = _hits(performance), draws["other_percussion"]
    if not kit.sounds.get(OTHER) or rng.random() >= recipe.setting("other_percussion", "chance", 0.0):
        return hits
    settings = recipe["other_percussion"]
    parts = sorted({code for _, code, _ in hits})
    if parts and rng.random() < settings["in_rhythm"]:
        followed = str(rng.choice(parts))
        played = [(t + float(rng.normal(0, 0.004)), OTHER, v) for t, code, v in hits if code == followed]
        if rng.random() < settings["instead"]:
            hits = [hit for hit in hits if hit[1] != followed]
    else:
        fewest, most = settings["hits"]
        times = rng.uniform(0, performance.duration_s, int(rng.integers(fewest, most, endpoint=True)))
        played = [(float(t), OTHER, float(rng.uniform(0.3, 1))) for t in times]
    return sorted(hits + played)


def _with_closed(hits: Hits) -> Hits:
    """Open hi-hats that the foot closes at once are closed ones, to whoever listens."""
    chokes = _choke_times(hits)
    closed = [end is not None and end - hit[0] < CLOSED_S for hit, end in zip(hits, chokes, strict=True)]
    return [(t, "CHH" if shut else code, v) for (t, code, v), shut in zip(hits, closed, strict=True)]


def _softened(hits: Hits, depth_db: float, rng: np.random.Generator, recipe: RenderRecipe) -> Hits:
    """In some clips what keeps time is struck softer where a kick or snare is struck with it."""
    if "covering" not in recipe or rng.random() >= recipe["covering"]["chance"]:
        return hits
    less_db, spread_db = within(rng, recipe["covering"]["depth_db"]), recipe["covering"]["spread_db"]
    loud = np.array([time_s for time_s, code, _ in hits if code in COVERING])
    softened = []
    for time_s, code, velocity in hits:
        if code in TIMEKEEPERS and (np.abs(loud - time_s) < TOGETHER_S).any():
            below = (1 - velocity) ** LEVEL_CURVE + max(0.0, rng.normal(less_db, spread_db)) / depth_db
            velocity = max(SOFTEST, 1 - min(1.0, below) ** (1 / LEVEL_CURVE))
        softened.append((time_s, code, velocity))
    return softened


def _choke_times(hits: Hits) -> list[float | None]:
    """When the hi-hat's next stroke ends an open hi-hat; None for what rings on."""
    ends: list[float | None] = [None] * len(hits)
    next_stroke = None
    for i in range(len(hits) - 1, -1, -1):
        time_s, code, _ = hits[i]
        if code == "OHH":
            ends[i] = next_stroke
        if code in HIHATS:
            next_stroke = time_s
    return ends


def _add(bus: Tensor, voice: Voice, sample: int, gain: float, end: int | None) -> bool:
    """Add a voice with its attack at `sample`, faded out from `end` samples after it; False for nothing to add."""
    x, start = voice.samples, sample - voice.attack
    if end is not None:
        stop = voice.attack + max(end, 0)
        fade = torch.linspace(1, 0, int(0.03 * SAMPLE_RATE), device=bus.device)
        x = x[: stop + len(fade)].clone()
        if len(x) > stop:
            x[stop:] *= fade[: len(x) - stop]
    if start < 0:
        x, start = x[-start:], 0
    n = min(len(x), len(bus) - start)
    if n <= voice.attack // 2:
        return False
    bus[start : start + n].add_(x[:n], alpha=float(gain))
    return True


def _pad_labels(
    labels: list[list[tuple[int, int, float, bool]]], device: torch.device
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Labels (sample, class, velocity, ignored) per clip -> times, classes, velocities, ignored, each [B, M]."""
    kept = [[row for row in rows if row[0] >= 0] for rows in labels]
    padded = np.zeros((len(kept), max(1, *(len(rows) for rows in kept)), 4))
    padded[:, :, 1] = -1
    for i, rows in enumerate(kept):
        padded[i, : len(rows)] = np.array(rows, dtype=np.float64).reshape(-1, 4)
    columns = torch.from_numpy(padded).to(device)
    times, classes, velocities, ignored = columns.unbind(2)
    return (times / SAMPLE_RATE).float(), classes.long(), velocities.float(), ignored.bool()
