"""The form of a trained model that is exported: the same function, arranged so that engines have less to do.

PyTorch trains `DrumTransformer`; what is exported is `folded(model)`, computed from it once, in double precision. It
takes and returns what `DrumTransformer.step` does. What is folded, and why (docs/budget.md has the times):

* overlapping windows are convolutions: nothing is copied to cut them;
* the low-pass before the `tone` view adds up without rounding: it decided how exact the logits are after silence;
* scales, offsets and the affine part of a normalisation go into the product behind it, views' embeddings into the
  affine part of the encoders' normalisation, which is one for all views;
* a normalisation is plain arithmetic: onnxruntime's LayerNormalization takes five times as long on a CPU, and its
  variance as a difference of squares is less exact;
* most rows have a mean of 0 before they are normalised, because the products that they are sums of make such rows; only
  convolutions do not;
* attention is over the keys in reach, by distance: the learned bias is added as it is, and nothing is masked (masked
  scores are a row's slowest: their exponentials pass through denormal numbers);
* attention among views is element by element, sums over a head's channels are a product: N matrices of [V, V] are too
  small to be multiplied one by one;
* products are of matrices [N, K], N = B * T, so that engines add the bias within the product.

Letters: B streams, T tokens, N = B * T, V views, E view_width, D width, L layers, H heads, W window_tokens, C classes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ..models.frontend import (
    LEVEL_SCALE,
    AttackView,
    ToneView,
    View,
    WaveView,
    level_offset,
    softened,
    tail_samples,
)
from ..models.transformer import Block, ConcatenatedViews, CrossViewFusion, DrumTransformer, StepOutput, ViewEncoder

__all__ = ["folded"]

M = TypeVar("M", bound=nn.Module)
GRAIN = 2048.0  # steps of a number of 12 bits with its sign


def folded(model: DrumTransformer) -> nn.Module:
    """The model to export in place of `model`: same inputs, outputs and numbers, up to rounding."""
    with torch.no_grad():
        return _Step(model).eval()


class _Product(nn.Module):
    """x [N, K] @ weight [K, M] + bias [M]."""

    def __init__(self, weight: Tensor, bias: Tensor):
        super().__init__()
        self.weight, self.bias = _constant(weight), _constant(bias)

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight + self.bias


class _Norm(nn.Module):
    """Layer normalisation of rows [..., K] whose mean is 0, without its affine part."""

    def __init__(self, norm: nn.LayerNorm):
        super().__init__()
        self.eps = norm.eps

    def forward(self, x: Tensor) -> Tensor:
        return x / torch.sqrt((x * x).mean(-1, keepdim=True) + self.eps)


class _AffineNorm(_Norm):
    """The same with scale and shift, which broadcast against [..., K]."""

    def __init__(self, norm: nn.LayerNorm, scale: Tensor, shift: Tensor):
        super().__init__(norm)
        self.scale, self.shift = _constant(scale), _constant(shift)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * self.scale + self.shift


class _ExactSum(nn.Module):
    """A convolution of samples with filters [taps, M] that rounds its result and hardly anything before.

    Samples and taps of 12 bits have products that float32 adds without rounding, in whatever order; what is left of
    them is so small that its rounding does not count. After silence, bands 90 dB under the loudest depend on it.
    """

    def __init__(self, matrix: Tensor):
        super().__init__()
        coarse = torch.round(matrix * GRAIN) / GRAIN
        # For samples counted in grains.
        self.coarse, self.left, self.whole = (_filters(taps / GRAIN) for taps in (coarse, matrix - coarse, matrix))

    def forward(self, x: Tensor, stride: int) -> Tensor:
        """x [B, 1, 1, n] -> [B, windows * M]."""
        grains = x * GRAIN
        coarse = torch.round(grains)
        convolved = partial(nn.functional.conv2d, stride=(1, stride))
        small = convolved(coarse, self.left) + convolved(grains - coarse, self.whole)
        return (small + convolved(coarse, self.coarse)).permute(0, 2, 3, 1).flatten(1)


class _Tone(nn.Module):
    """`ToneView` as natural logarithms: heard [B, 1, 1, tail + samples] -> [N, features]."""

    def __init__(self, view: ToneView):
        super().__init__()
        c = view.config
        self.features, self.hop = view.features, c.tone_hop
        self.block = view.decimate.shape[1]
        self.stride = self.block * c.tone_decimation
        self.decimate = _ExactSum(view.decimate.double())
        # The decimated past is a whole number of blocks; the windows leave its first samples alone.
        skip = -(-c.tone_window // self.block) * self.block - c.tone_window
        self.dft = _filters(nn.functional.pad(view.dft.double(), (0, 0, skip, 0)))
        self.bands = _bands(view.bands, c.power_floor)

    def forward(self, heard: Tensor) -> Tensor:
        b = heard.shape[0]
        low = self.decimate(heard, self.stride).reshape(b, 1, 1, -1)
        spectrum = _convolved(low, self.dft, self.hop)
        level = _log_bands(_power(spectrum), self.bands)
        return _with_rise(level.reshape(b, -1, level.shape[1]), self.features)


class _Attack(nn.Module):
    """`AttackView` as natural logarithms: heard [B, 1, 1, tail + samples], state [B, 2, K] -> [N, features], state."""

    def __init__(self, view: AttackView):
        super().__init__()
        c = view.config
        self.features, self.hop, self.half_window = view.features, c.attack_hop, c.attack_window // 2
        self.config, self.per_token = c, view.per_token
        self.skip = tail_samples(c) - (c.attack_window - c.attack_hop)
        self.hann, self.same, self.opposite, self.odd = (
            _constant(x) for x in (view.hann, view.same, view.opposite, view.odd)
        )
        self.bands = _constant(view.bands.double() / c.power_floor)

    def forward(self, heard: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        b, first, second = heard.shape[0], *self._halves(heard)
        first, second = first * self.hann[: self.half_window], second * self.hann[self.half_window :]
        early, late = (first + second).chunk(2, dim=1)
        folds = (early + late, self.same), (early - late, self.opposite), (first - second, self.odd)
        power = torch.cat([_power(samples @ fourier) for samples, fourier in folds], dim=1)
        bands = (power @ self.bands).reshape(b, -1, self.per_token, state.shape[2])
        before, last = state.chunk(2, dim=1)
        bands, sums = softened(bands, before * (1 / self.config.power_floor), self.config)
        level = torch.cat([last, torch.log(bands + 1).flatten(1, 2)], dim=1)
        return _with_rise(level, self.features), torch.cat([sums * self.config.power_floor, level[:, -1:]], dim=1)

    def _halves(self, heard: Tensor) -> tuple[Tensor, Tensor]:
        """First and second half of every window, [n, half] each. A half is shorter than a hop: no overlap to copy."""
        half = self.half_window
        spare = self.hop - half
        first = heard[..., self.skip : -(half - spare)].reshape(-1, self.hop)
        second = heard[..., self.skip + half - spare :].reshape(-1, self.hop)
        return first[:, :half], second[:, spare:]


class _Wave(nn.Module):
    """`WaveView` as natural logarithms: heard [B, 1, 1, tail + samples] -> [N, features]."""

    def __init__(self, view: WaveView):
        super().__init__()
        c = view.config
        self.features, self.stride = view.features, c.wave_stride
        self.skip = tail_samples(c) - (c.wave_taps - c.wave_stride)
        self.filters = _filters(view.filters.double())
        self.pool = _bands(torch.eye(c.wave_filters).repeat(c.wave_pool, 1) / c.wave_pool, c.power_floor)

    def forward(self, heard: Tensor) -> Tensor:
        x = _convolved(heard[..., self.skip :], self.filters, self.stride)
        return _log_bands((x * x).reshape(-1, self.pool.weight.shape[0]), self.pool).reshape(-1, self.features)


_VIEWS: dict[type[View], Callable[[Any], nn.Module]] = {ToneView: _Tone, AttackView: _Attack, WaveView: _Wave}


class _Encoder(nn.Module):
    """A view and the two products of its encoder: heard, state -> [N, E], before the normalisation, and the state."""

    def __init__(self, view: View, encoder: ViewEncoder, power_floor: float):
        super().__init__()
        self.view = _VIEWS[type(view)](view)
        first, _, second = encoder.layers
        weight, bias = _linear(_known(nn.Linear, first))
        # `scaled_log` is scale * log + offset; differences of levels (the rise) have the scale alone.
        levels = weight if isinstance(view, WaveView) else _levels(weight, view.per_token)
        self.first = _Product(LEVEL_SCALE * weight, bias + level_offset(power_floor) * levels.sum(0))
        self.second = _Product(*_centred_outputs(*_linear(_known(nn.Linear, second))))

    def forward(self, heard: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """Only the view of attacks has a state."""
        if state:
            features, following = self.view(heard, *state)
            return self._latents(features), following
        return (self._latents(self.view(heard)),)

    def _latents(self, features: Tensor) -> Tensor:
        return self.second(nn.functional.gelu(self.first(features)))


class _HeadSoftmax(nn.Module):
    """Products of queries and keys [N, V keys, V queries, E] -> every key's weight, for each channel that of its head.

    Softmax over the keys of sums over each head's channels.
    """

    def __init__(self, heads: int, width: int):
        super().__init__()
        belongs = torch.eye(heads).repeat_interleave(width // heads, dim=0)
        self.gather, self.spread = _constant(belongs), _constant(belongs.T)

    def forward(self, products: Tensor) -> Tensor:
        v, e = products.shape[2:]
        scores = (products.reshape(-1, e) @ self.gather).reshape(-1, v, v * self.gather.shape[1])
        weights = torch.exp(scores - scores.amax(1, keepdim=True))
        weights = weights / weights.sum(1, keepdim=True)
        return (weights.reshape(-1, self.gather.shape[1]) @ self.spread).reshape(-1, v, v, e)


class _Attention(nn.Module):
    """`CrossViewFusion` behind its embedding: [N, V, E] -> [N, D]."""

    def __init__(self, fusion: CrossViewFusion, views: int):
        super().__init__()
        self.views, width = views, fusion.out.in_features
        self.softmax = _HeadSoftmax(fusion.heads, width)
        self.qkv = _Product(*_scaled_queries(*_linear(fusion.qkv), width, fusion.heads))
        self.out = _Product(*_linear(fusion.out))
        self.norm = _AffineNorm(fusion.norm, fusion.norm.weight, fusion.norm.bias)
        self.gate = _Product(*_linear(fusion.gate))
        weight, bias = _centred_outputs(*_linear(fusion.project))
        self.project = _Product(2 * weight, bias)  # gates are 0..2

    def forward(self, views: Tensor) -> Tensor:
        v, e = self.views, views.shape[2]
        flat = views.reshape(-1, e)
        q, keys, values = self.qkv(flat).reshape(-1, v, 3 * e).chunk(3, dim=2)
        weights = self.softmax(q.unsqueeze(1) * keys.unsqueeze(2))
        mixed = (weights * values.unsqueeze(2)).sum(1)
        views = self.norm(_centred(flat + self.out(mixed.reshape(-1, e))))
        gates = torch.sigmoid(self.gate(views.reshape(-1, v * e)))
        return self.project((views.reshape(-1, v, e) * gates.unsqueeze(2)).reshape(-1, v * e))


class _Concatenation(nn.Module):
    """`ConcatenatedViews`: [N, V, E] -> [N, D]."""

    def __init__(self, fusion: ConcatenatedViews):
        super().__init__()
        self.project = _Product(*_centred_outputs(*_linear(fusion.project)))

    def forward(self, views: Tensor) -> Tensor:
        return self.project(views.flatten(1))


class _Block(nn.Module):
    """`Block` on [N, D], rows with a mean of 0; its taps as [B, 1, conv_tokens - 1, D]."""

    def __init__(self, block: Block):
        super().__init__()
        self.heads, self.window, self.taps = block.heads, block.window, block.taps
        self.conv_norm = _AffineNorm(block.conv_norm, block.conv_norm.weight, block.conv_norm.bias)
        self.conv = _constant(block.conv.T[:, None, None, :])  # one filter per channel
        self.attention_norm, self.feed_norm = _Norm(block.attention_norm), _Norm(block.feed_norm)
        qkv = _behind(block.attention_norm, block.qkv)
        self.qkv = _Product(*_scaled_queries(*qkv, block.qkv.in_features, block.heads))
        self.out = _Product(*_centred_outputs(*_linear(block.out)))
        feed_in, _, feed_out = block.feed
        self.feed_in = _Product(*_behind(block.feed_norm, _known(nn.Linear, feed_in)))
        self.feed_out = _Product(*_centred_outputs(*_linear(_known(nn.Linear, feed_out))))

    def forward(self, x: Tensor, b: int, bias: Tensor, past: tuple[Tensor, Tensor], taps: Tensor) -> tuple[Tensor, ...]:
        """x [N, D], bias [B, H, 1, W + 1] -> x, keys, values and taps that are the next call's past."""
        width = x.shape[1]
        history = torch.cat([taps, self.conv_norm(x).reshape(b, 1, -1, width)], dim=2)
        heard = nn.functional.conv2d(history.permute(0, 3, 1, 2), self.conv, groups=width)
        x = _centred(x + heard.permute(0, 2, 3, 1).reshape(-1, width))
        qkv = self.qkv(self.attention_norm(x)).reshape(b, -1, 3 * self.heads, width // self.heads)
        mixed, keys, values = _attended(qkv, past, bias)
        x = x + self.out(mixed)
        x = x + self.feed_out(nn.functional.gelu(self.feed_in(self.feed_norm(x))))
        return x, keys[:, :, -self.window :], values[:, :, -self.window :], history[:, :, 1 - self.taps :]


class _Step(nn.Module):
    """`DrumTransformer.step`."""

    def __init__(self, model: DrumTransformer):
        super().__init__()
        self.config = c = model.config
        views = {name: _known(View, model.views[name]) for name in c.views}
        encoders = {name: _known(ViewEncoder, model.encoders[name]) for name in c.views}
        self.encoders = nn.ModuleDict({name: _Encoder(views[name], encoders[name], c.power_floor) for name in c.views})
        self.view_norm = _joint_norm([encoder.norm for encoder in encoders.values()], model.fusion)
        self.fusion = _fusion(model.fusion, len(c.views))
        self.delay_embedding = nn.Embedding.from_pretrained(_constant(_centred(model.delay_embedding.weight.double())))
        # By distance from the oldest key to the query itself: [delays, L * H * (W + 1)].
        self.bias = nn.Embedding.from_pretrained(model.bias.detach().flip(-1).flatten(1))
        self.blocks = nn.ModuleList(_Block(_known(Block, block)) for block in model.blocks)
        self.norm = _Norm(model.norm)
        self.head = _Product(*_by_kind(*_behind(model.norm, model.head), c.frames_per_token))

    def forward(self, audio: Tensor, delay: Tensor, *states: Tensor) -> StepOutput:
        c, b = self.config, audio.shape[0]
        state_audio, state_attack, state_taps, *past = states
        heard = torch.cat([state_audio, audio], dim=1)
        windows = heard.reshape(b, 1, 1, -1)
        latents = []
        for name, encoder in self.encoders.items():
            if name == "attack":
                latent, state_attack = encoder(windows, state_attack)
            else:
                (latent,) = encoder(windows)
            latents.append(latent)
        x = self.fusion(self.view_norm(torch.cat(latents, dim=1).reshape(-1, len(c.views), c.view_width)))
        x = (x.reshape(b, -1, c.width) + self.delay_embedding(delay)).reshape(-1, c.width)
        biases = self.bias(delay).reshape(b, c.layers * c.heads, 1, c.window_tokens + 1).split(c.heads, dim=1)
        cache, taps = [], []
        parts = zip(self.blocks, biases, past[::2], past[1::2], state_taps.split(1, dim=1), strict=True)
        for block, bias, keys, values, tap in parts:
            x, keys, values, tap = block(x, b, bias, (keys, values), tap)
            cache += [keys, values]
            taps.append(tap)
        tail = heard[:, -state_audio.shape[1] :]
        return StepOutput(*self._heads(x, b), (tail, state_attack, torch.cat(taps, dim=1), *cache))

    def _heads(self, x: Tensor, b: int) -> tuple[Tensor, Tensor, Tensor]:
        """[N, D] -> onset logits, velocity and offset, [B, F, C] each."""
        kinds = self.head(self.norm(x)).chunk(3, dim=1)
        onset, velocity, offset = (kind.reshape(b, -1, len(self.config.classes)) for kind in kinds)
        offset = 0.5 + torch.tanh(offset) if self.config.subframe else torch.zeros_like(offset)
        return onset, torch.sigmoid(velocity), offset


def _convolved(x: Tensor, filters: Tensor, stride: int) -> Tensor:
    """x [B, 1, 1, n], filters [M, 1, 1, taps] -> [B * windows, M]."""
    return nn.functional.conv2d(x, filters, stride=(1, stride)).permute(0, 2, 3, 1).reshape(-1, filters.shape[0])


def _power(spectrum: Tensor) -> Tensor:
    """[n, 2 * bins] (cosine part, sine part) -> [n, bins]."""
    real, imaginary = (spectrum * spectrum).chunk(2, dim=1)
    return real + imaginary


def _log_bands(power: Tensor, bands: _Product) -> Tensor:
    return torch.log(bands(power))


def _with_rise(level: Tensor, features: int) -> Tensor:
    """[B, 1 + T * per_token, bands] -> [N, 2 * per_token * bands]: levels and their positive differences."""
    now = level[:, 1:]
    return torch.cat([now, torch.relu(now - level[:, :-1])], dim=2).reshape(-1, features)


def _centred(x: Tensor) -> Tensor:
    """Rows [..., K] less their mean."""
    return x - x.mean(-1, keepdim=True)


def _attended(qkv: Tensor, past: tuple[Tensor, Tensor], bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Attention of [B, T, 3 * H, d] over the past and itself -> [N, D], keys and values [B, H, W + T, d]."""
    q, keys, values = qkv.transpose(1, 2).chunk(3, dim=1)
    keys, values = torch.cat([past[0], keys], dim=2), torch.cat([past[1], values], dim=2)
    scores = _by_distance(q @ keys.transpose(-1, -2), bias.shape[3])
    mixed = _by_key(torch.softmax(scores + bias, dim=-1)) @ values
    return mixed.transpose(1, 2).reshape(-1, mixed.shape[1] * mixed.shape[3]), keys, values


def _by_distance(x: Tensor, reach: int) -> Tensor:
    """Of [B, H, T, W + T] the keys in reach of each query, the oldest first: [B, H, T, W + 1]."""
    b, h, t, _ = x.shape
    # Laid end to end and cut again into rows longer by one, each row begins a key later than the one before.
    return nn.functional.pad(x.flatten(2), (0, t)).reshape(b, h, t, -1)[..., :reach]


def _by_key(x: Tensor) -> Tensor:
    """The inverse of `_by_distance`, zeros where a key is out of reach: [B, H, T, W + 1] -> [B, H, T, W + T]."""
    b, h, t, _ = x.shape
    return nn.functional.pad(x, (0, t)).flatten(2)[..., :-t].reshape(b, h, t, -1)


def _constant(values: Tensor) -> nn.Parameter:
    return nn.Parameter(values.detach().float().contiguous(), requires_grad=False)


def _filters(matrix: Tensor) -> nn.Parameter:
    """A matrix [taps, M] as the filters of a convolution [M, 1, 1, taps]."""
    return _constant(matrix.T[:, None, None, :])


def _bands(bands: Tensor, floor: float) -> _Product:
    """Band powers over the power that counts as silent, plus 1: silence is 0 as logarithm, where rounding is least."""
    return _Product(bands.double() / floor, torch.ones(bands.shape[1]))


def _levels(weight: Tensor, per_token: int) -> Tensor:
    """Of an encoder's weights [features, M] those that read levels and not their rise."""
    return weight.reshape(per_token, 2, -1, weight.shape[1])[:, 0].flatten(0, 1)


def _linear(layer: nn.Linear) -> tuple[Tensor, Tensor]:
    """Weight [K, M] and bias [M] in double precision."""
    return layer.weight.double().T, layer.bias.double()


def _behind(norm: nn.LayerNorm, layer: nn.Linear) -> tuple[Tensor, Tensor]:
    """The layer with the affine part of the normalisation before it."""
    weight, bias = _linear(layer)
    return norm.weight.double()[:, None] * weight, bias + norm.bias.double() @ weight


def _centred_outputs(weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """A product that makes rows with a mean of 0: what it made before less their mean, which a normalisation drops."""
    return _centred(weight), _centred(bias)


def _scaled_queries(weight: Tensor, bias: Tensor, width: int, heads: int) -> tuple[Tensor, Tensor]:
    """A product whose first `width` outputs are queries of heads: with the scale of their scores."""
    scale = torch.ones(3 * width, dtype=torch.float64)
    scale[:width] = (width // heads) ** -0.5
    return weight * scale, bias * scale


def _by_kind(weight: Tensor, bias: Tensor, frames: int) -> tuple[Tensor, Tensor]:
    """The head's outputs by kind, frame, class instead of frame, kind, class."""
    order = torch.arange(len(bias)).reshape(frames, 3, -1).transpose(0, 1).flatten()
    return weight[:, order], bias[order]


def _fusion(fusion: CrossViewFusion | ConcatenatedViews, views: int) -> nn.Module:
    return _Attention(fusion, views) if isinstance(fusion, CrossViewFusion) else _Concatenation(fusion)


def _known(kind: type[M], part: nn.Module) -> M:
    """A part of one of torch's containers, which do not say what they hold."""
    if not isinstance(part, kind):
        raise TypeError(f"{type(part).__name__} where {kind.__name__} was to be folded; teach folding.py the new part")
    return part


def _joint_norm(norms: list[nn.LayerNorm], fusion: CrossViewFusion | ConcatenatedViews) -> _AffineNorm:
    """The normalisations of all encoders as one of [N, V, E], the views' embeddings in its shift."""
    shift = torch.stack([norm.bias.double() for norm in norms])
    if isinstance(fusion, CrossViewFusion):
        shift = shift + fusion.view_embedding.double()
    return _AffineNorm(norms[0], torch.stack([norm.weight for norm in norms]), shift)
