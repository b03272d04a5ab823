"""Three views of the same audio, as constant or learned matrix products that every exporter takes (no DFT operator).

Letters: B streams, N samples, T tokens, V features of a view per token, K bands.
Every window ends at or before the end of its token, so a view of token t depends on no later sample.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from .config import ModelConfig

__all__ = [
    "LEVEL_SCALE",
    "AttackView",
    "ToneView",
    "View",
    "WaveView",
    "faded_sums",
    "level_offset",
    "mel_bands",
    "scaled_log",
    "softened",
    "tail_samples",
]

LEVEL_SCALE = 0.2  # of the natural logarithms of power


def tail_samples(config: ModelConfig) -> int:
    """Samples of the past that the views need before the first new sample (the length of `state_audio`)."""
    block = _decimated_block(config)
    decimated = -(-config.tone_window // block) * block
    return decimated * config.tone_decimation + config.tone_fir_taps - config.tone_decimation


def frames(x: Tensor, window: int, hop: int, skip: int = 0) -> Tensor:
    """Cut [B, N] into overlapping windows [B, n, window], n = (N - skip - window) // hop + 1, from sample `skip` on.

    Made of reshapes and one concatenation, which costs less than a gather and exports to plain operators.
    """
    shifts = -(-window // hop)
    n = (x.shape[1] - skip - window) // hop + 1
    parts = []
    for i in range(shifts):
        length = min(hop, window - i * hop)
        start = skip + i * hop
        # The last block may reach past the end: take whole hops where possible, else pad by what the window never
        # reads.
        block = x[:, start : start + (n - 1) * hop + length]
        block = nn.functional.pad(block, (0, hop - length)) if length < hop else block
        parts.append(block.reshape(x.shape[0], n, hop)[:, :, :length])
    return torch.cat(parts, dim=2)


class View(nn.Module):
    """What the views share. `forward` turns [B, tail + T * samples_per_token] into [B, T, V], V = `features`.

    `AttackView` has a state besides.
    """

    per_token: int  # windows
    features: int

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config


class ToneView(View):
    """Which drum: log-frequency bands up to 2 kHz from a 52 ms window, and their increase since the previous window.

    Factored: a low-pass and decimation by 9 first (block Toeplitz product), then a small DFT at 4.9 kHz.
    """

    decimate: Tensor
    dft: Tensor
    bands: Tensor

    def __init__(self, config: ModelConfig):
        super().__init__(config)
        rate = config.sample_rate / config.tone_decimation
        bins = torch.arange(1, int(2050 / rate * config.tone_window) + 1)
        bands = _tone_bands(bins * rate / config.tone_window)
        self.per_token = config.samples_per_token // config.tone_decimation // config.tone_hop
        self.features = 2 * self.per_token * bands.shape[1]
        self.register_buffer("decimate", _decimation_matrix(config), persistent=False)
        self.register_buffer("dft", _dft_matrix(config.tone_window, bins), persistent=False)
        self.register_buffer("bands", bands, persistent=False)

    def forward(self, audio: Tensor) -> Tensor:
        """[B, tail + T * samples_per_token] -> [B, T, V]."""
        c = self.config
        block = _decimated_block(c)
        window = c.tone_fir_taps - c.tone_decimation + block * c.tone_decimation
        blocks = frames(audio, window, block * c.tone_decimation)
        low = torch.matmul(blocks, self.decimate).flatten(1)
        # The decimated past is a whole number of blocks; the windows need exactly tone_window of it.
        skip = -(-c.tone_window // block) * block - c.tone_window
        spectrum = torch.matmul(frames(low, c.tone_window, c.tone_hop, skip), self.dft)
        level = scaled_log(torch.matmul(_power(spectrum), self.bands), c.power_floor)
        return _with_rise(level, self.per_token)


class AttackView(View):
    """When: log-mel bands up to 18 kHz of 11.6 ms windows, three per token, and their increase since the last.

    What sustains is softened first: a band's amplitude times softening + (1 - softening) P / (P + H + floor), P being
    its power and H the mean power of the tokens before, which fades by 1 / softening_tokens per token: the mask of
    median filtering (FitzGerald 2010) with a mean of the past for the median. Strokes stay as they are; of chords and
    tails less is left, `softening` at least.
    """

    hann: Tensor
    same: Tensor
    opposite: Tensor
    odd: Tensor
    bands: Tensor

    def __init__(self, config: ModelConfig):
        super().__init__(config)
        bins = torch.arange(1, int(18000 / config.sample_rate * config.attack_window) + 1)
        frequencies = bins * config.sample_rate / config.attack_window
        self.per_token = config.samples_per_token // config.attack_hop
        self.features = 2 * self.per_token * config.attack_bands
        bands = mel_bands(frequencies, config.attack_bands, 60.0, 18000.0)
        half = config.attack_window // 2
        # Bins by what becomes of their phase half a window later (odd ones: the opposite), or else a quarter later.
        kinds = {"same": bins % 4 == 0, "opposite": bins % 4 == 2, "odd": bins % 2 == 1}
        for name, kind in kinds.items():
            period = half if name == "odd" else half // 2
            products = _fourier(config.attack_window, bins[kind]).float()[:period]
            self.register_buffer(name, products.clone(), persistent=False)
        self.register_buffer("hann", _hann(config.attack_window).float(), persistent=False)
        self.register_buffer("bands", torch.cat([bands[kind] for kind in kinds.values()]), persistent=False)

    def forward(self, audio: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """[B, tail + T * samples_per_token] and state [B, 2, K] -> [B, T, V] and the state after it.

        The state is the faded sum of the powers before, and the logarithm of the last window's softened power over
        `power_floor`; zeros are silence.
        """
        c = self.config
        skip = tail_samples(c) - (c.attack_window - c.attack_hop)
        windows = frames(audio, c.attack_window, c.attack_hop, skip) * self.hann
        # Samples whose phases are the same, or the opposite, share a product.
        first, second = windows.chunk(2, dim=2)
        early, late = (first + second).chunk(2, dim=2)
        folds = (early + late, self.same), (early - late, self.opposite), (first - second, self.odd)
        power = torch.cat([_power(torch.matmul(samples, fourier)) for samples, fourier in folds], dim=2)
        bands = torch.matmul(power, self.bands) * (1 / c.power_floor)
        heard, sums = softened(bands.unflatten(1, (-1, self.per_token)), state[:, :1] * (1 / c.power_floor), c)
        level = torch.cat([state[:, 1:], torch.log(heard.flatten(1, 2) + 1)], dim=1)
        features = _with_rise(level * LEVEL_SCALE + level_offset(c.power_floor), self.per_token)
        return features, torch.cat([sums * c.power_floor, level[:, -1:]], dim=1)


class WaveView(View):
    """Sub-frame detail: learned strided filters on the waveform, their log envelope every 1.4 ms."""

    def __init__(self, config: ModelConfig):
        super().__init__(config)
        self.per_token = config.samples_per_token // (config.wave_stride * config.wave_pool)
        self.features = self.per_token * config.wave_filters
        self.filters = nn.Parameter(_wave_filters(config))

    def forward(self, audio: Tensor) -> Tensor:
        """[B, tail + T * samples_per_token] -> [B, T, V]."""
        c = self.config
        skip = tail_samples(c) - (c.wave_taps - c.wave_stride)
        x = torch.matmul(frames(audio, c.wave_taps, c.wave_stride, skip), self.filters)
        power = x.square().reshape(x.shape[0], -1, c.wave_pool, c.wave_filters).mean(2)
        level = scaled_log(power, c.power_floor)
        return level.reshape(level.shape[0], -1, self.features)


def scaled_log(power: Tensor, floor: float) -> Tensor:
    """Log power with silence near -2 and full scale near +1.7: every view enters the network at a like scale."""
    # log(power + floor), but with an addend of 1: graph optimisers take one of 1e-8 for zero, and drop it.
    return torch.log(power * (1 / floor) + 1) * LEVEL_SCALE + level_offset(floor)


def softened(bands: Tensor, before: Tensor, config: ModelConfig) -> tuple[Tensor, Tensor]:
    """What `AttackView` does to what sustains, in powers over `power_floor`.

    [B, T, windows, K] and the faded sum of the tokens before [B, 1, K] -> the same softened, and the sum after.
    """
    share = 1 / config.softening_tokens
    sums = faded_sums(torch.cat([before, bands.mean(2)], dim=1), 1 - share)
    background = (sums[:, :-1] * share).unsqueeze(2)
    gain = config.softening + (1 - config.softening) * (bands / (bands + background + 1))
    return bands * (gain * gain), sums[:, -1:]


def faded_sums(x: Tensor, fading: float) -> Tensor:
    """[B, T, K] -> [B, T, K]: y[t] = x[t] + fading * y[t - 1], as one product with a triangular matrix."""
    steps = torch.arange(x.shape[1], device=x.device, dtype=x.dtype)
    weights = torch.exp((steps[:, None] - steps) * math.log(fading))
    return torch.matmul(torch.tril(weights), x)


def level_offset(floor: float) -> float:
    """What `scaled_log` says of silence."""
    return 1.7 + LEVEL_SCALE * math.log(floor)


def _power(spectrum: Tensor) -> Tensor:
    """[B, n, 2 * bins] (cosine part, sine part) -> [B, n, bins] power."""
    real, imaginary = spectrum.square().chunk(2, dim=2)
    return real + imaginary


def _with_rise(level: Tensor, per_token: int) -> Tensor:
    """[B, 1 + T * per_token, bands] -> [B, T, 2 * per_token * bands]: levels and their positive differences."""
    now = level[:, 1:]
    rise = torch.relu(now - level[:, :-1])
    both = torch.cat([now, rise], dim=2)
    return both.reshape(level.shape[0], -1, per_token * both.shape[2])


def _decimated_block(config: ModelConfig) -> int:
    """Decimated samples computed per matrix row: seven rows per token keep the Toeplitz matrix small."""
    return config.samples_per_token // config.tone_decimation // 7


def _decimation_matrix(config: ModelConfig) -> Tensor:
    """Block Toeplitz [block * decimation + taps - decimation, block] of a windowed sinc at 0.45 of the new rate."""
    taps, factor, block = config.tone_fir_taps, config.tone_decimation, _decimated_block(config)
    n = torch.arange(taps, dtype=torch.float64) - (taps - 1) / 2
    fir = torch.sinc(0.9 * n / factor) * torch.hamming_window(taps, periodic=False, dtype=torch.float64)
    fir = fir / fir.sum()
    matrix = torch.zeros(block * factor + taps - factor, block, dtype=torch.float64)
    for i in range(block):
        matrix[i * factor : i * factor + taps, i] = fir
    return matrix.float()


def _dft_matrix(window: int, bins: Tensor) -> Tensor:
    """Hann-windowed DFT [window, 2 * bins], a full-scale sine giving power 1."""
    return (_hann(window)[:, None] * _fourier(window, bins)).float()


def _hann(window: int) -> Tensor:
    """Hann window [window], float64, a full-scale sine giving power 1."""
    return torch.hann_window(window, periodic=True, dtype=torch.float64) * 4 / window


def _fourier(window: int, bins: Tensor) -> Tensor:
    """Cosines and sines [window, 2 * bins], float64."""
    n = torch.arange(window, dtype=torch.float64)
    phase = 2 * math.pi * n[:, None] * bins[None, :] / window
    return torch.cat([phase.cos(), phase.sin()], dim=1)


def _tone_bands(frequencies: Tensor) -> Tensor:
    """Single bins up to 500 Hz, then triangles an eighth of an octave apart: [bins, bands]."""
    single = int((frequencies <= 500).sum())
    edges = 500 * 2 ** (torch.arange(0, 18) / 8.0)
    upper = _triangles(frequencies.float(), edges[edges <= 2200])
    lower = torch.zeros(len(frequencies), single)
    lower[:single, :single] = torch.eye(single)
    return torch.cat([lower, upper], dim=1)


def mel_bands(frequencies: Tensor, count: int, lowest: float, highest: float) -> Tensor:
    """Triangles equally spaced on the mel scale (O'Shaughnessy 1987), at least two bins wide: [bins, count]."""
    mel = torch.linspace(2595 * math.log10(1 + lowest / 700), 2595 * math.log10(1 + highest / 700), count + 2)
    edges = 700 * (10 ** (mel / 2595) - 1)
    spacing = float(frequencies[1] - frequencies[0])
    for i in range(1, len(edges)):  # low mel bands are narrower than a bin: spread them to one bin each
        edges[i] = max(edges[i], edges[i - 1] + spacing)
    return _triangles(frequencies.float(), edges)


def _triangles(frequencies: Tensor, edges: Tensor) -> Tensor:
    """Triangles with unit peak between each edge's neighbours: [bins, edges - 2]."""
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    rising = (frequencies[:, None] - left) / (centre - left)
    falling = (right - frequencies[:, None]) / (right - centre)
    return torch.minimum(rising, falling).clamp(min=0)


def _wave_filters(config: ModelConfig) -> Tensor:
    """Start of the learned filters: Hann-windowed sinusoids from 150 Hz to 16 kHz, log spaced: [taps, filters]."""
    n = torch.arange(config.wave_taps, dtype=torch.float32)
    frequency = 150 * (16000 / 150) ** (torch.arange(config.wave_filters) / (config.wave_filters - 1))
    phase = 2 * math.pi * frequency[None, :] / config.sample_rate * n[:, None]
    return phase.cos() * torch.hann_window(config.wave_taps)[:, None] * 2 / config.wave_taps
