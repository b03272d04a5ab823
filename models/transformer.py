"""`DrumTransformer`: three views, cross-view attention, gated fusion, causal windowed attention, three heads.

Letters: B streams, T tokens in the call, F = T * frames_per_token, C classes, V views, E view_width, D width, L layers,
H heads, W window_tokens. State is explicit: every tensor that outlives a call comes in and goes out, and `step` changes
nothing else. A whole file is one step from zero state; a stream is many.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from .config import VIEWS, FrameGrid, ModelConfig
from .frontend import AttackView, ToneView, View, WaveView, tail_samples

__all__ = ["VIEWS", "DrumTransformer", "Outputs", "StepOutput", "Transcriber", "state_shapes"]

VIEW_MODULES: dict[str, type[View]] = {"tone": ToneView, "attack": AttackView, "wave": WaveView}
MASKED = -1e4  # finite, so that no IsNaN guard enters the exported graph; exp(-1e4) is exactly 0 in float32


class Outputs(NamedTuple):
    """What any kind of model says about a clip."""

    onset_logits: Tensor  # [B, F, C]
    velocity: Tensor  # [B, F, C], 0..1
    offset: Tensor  # [B, F, C], frames


class Transcriber(nn.Module):
    """What any kind of model is, whatever it looks like inside."""

    config: FrameGrid

    def whole(self, audio: Tensor, delay: int) -> Outputs:
        """Outputs of whole clips [B, T * samples_per_token] at the delay with this index."""
        raise NotImplementedError


class StepOutput(NamedTuple):
    """Result of one step, in the order of the exported graph's outputs."""

    onset_logits: Tensor  # [B, F, C]
    velocity: Tensor  # [B, F, C], 0..1
    offset: Tensor  # [B, F, C], frames, -0.5..1.5
    states: tuple[Tensor, ...]  # as `state_shapes` names them


class ViewEncoder(nn.Module):
    """One view's features of a token -> its latent: [B, T, V] -> [B, T, view_width]."""

    def __init__(self, features: int, config: ModelConfig):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(features, 2 * config.view_width), nn.GELU(), nn.Linear(2 * config.view_width, config.view_width)
        )
        self.norm = nn.LayerNorm(config.view_width)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.layers(x))


class CrossViewFusion(nn.Module):
    """Attention over a token's latents, one per view, then a gated sum: [B, T, V, E] -> [B, T, D]."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        width, self.heads, views = config.view_width, 4, len(config.views)
        self.view_embedding = nn.Parameter(torch.randn(views, width) * 0.02)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)
        self.gate = nn.Linear(views * width, views)
        self.project = nn.Linear(views * width, config.width)

    def forward(self, views: Tensor) -> Tensor:
        b, t, v, e = views.shape
        views = views + self.view_embedding
        qkv = self.qkv(views).reshape(b, t, v, 3, self.heads, e // self.heads).permute(3, 0, 1, 4, 2, 5)
        q, k, value = qkv.unbind(0)
        weights = torch.softmax(q @ k.transpose(-1, -2) * (e // self.heads) ** -0.5, dim=-1)
        mixed = (weights @ value).transpose(2, 3).reshape(b, t, v, e)
        views = self.norm(views + self.out(mixed))
        gates = torch.sigmoid(self.gate(views.flatten(2)))
        # One matrix holds the three projections, so that the gated sum is a single product.
        return self.project((views * (2 * gates).unsqueeze(3)).flatten(2))


class ConcatenatedViews(nn.Module):
    """The ablation of `CrossViewFusion`: one product of the concatenated latents, [B, T, V, E] -> [B, T, D]."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.project = nn.Linear(len(config.views) * config.view_width, config.width)

    def forward(self, views: Tensor) -> Tensor:
        return self.project(views.flatten(2))


class Block(nn.Module):
    """Causal depthwise convolution, windowed attention and feed-forward, each pre-norm and residual."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        width = config.width
        self.heads, self.window, self.taps = config.heads, config.window_tokens, config.conv_tokens
        self.conv_norm = nn.LayerNorm(width)
        self.conv = nn.Parameter(torch.randn(config.conv_tokens, width) * 0.1)
        self.attention_norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.feed_norm = nn.LayerNorm(width)
        self.feed = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor, bias: Tensor, taps: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, ...]:
        """x [B, T, D], bias [B, H, R, W + R], taps [B, conv_tokens - 1, D], past keys and values [B, H, W, D / H].

        Returns all but bias. R queries share a product: all T, or W where the clip is long (then a multiple of W).
        """
        history = torch.cat([taps, self.conv_norm(x)], dim=1)
        t = x.shape[1]
        for i in range(self.taps):
            x = x + history[:, i : i + t] * self.conv[i]
        attended, keys, values = self._attend(self.attention_norm(x), bias, keys, values)
        x = x + attended
        x = x + self.feed(self.feed_norm(x))
        return x, history[:, -(self.taps - 1) :], keys, values

    def _attend(self, x: Tensor, bias: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        b, t, width = x.shape
        new = self.qkv(x).reshape(b, t, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        q, new_keys, new_values = new.unbind(0)
        q = q * q.shape[-1] ** -0.5
        keys, values = torch.cat([keys, new_keys], dim=2), torch.cat([values, new_values], dim=2)
        if bias.shape[2] == self.window < t:
            blocks = q.unflatten(2, (-1, self.window))
            scores = blocks @ self._windows(keys).transpose(-1, -2) + bias.unsqueeze(2)
            mixed = (torch.softmax(scores, dim=-1) @ self._windows(values)).flatten(2, 3)
        else:
            mixed = torch.softmax(q @ keys.transpose(-1, -2) + bias, dim=-1) @ values
        attended = self.out(mixed.transpose(1, 2).reshape(b, t, width))
        return attended, keys[:, :, -self.window :], values[:, :, -self.window :]

    def _windows(self, x: Tensor) -> Tensor:
        """Every W tokens with the W before them: [B, H, W + T, D / H] -> [B, H, T / W, 2 W, D / H]."""
        blocks = x.unflatten(2, (-1, self.window))
        return torch.cat([blocks[:, :, :-1], blocks[:, :, 1:]], dim=3)


class DrumTransformer(Transcriber):
    """PCM to onset logits, velocities and sub-frame offsets, streaming. `forward` is `step`."""

    config: ModelConfig

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        views = {name: VIEW_MODULES[name](config) for name in config.views}
        self.views = nn.ModuleDict(views)
        self.encoders = nn.ModuleDict({name: ViewEncoder(view.features, config) for name, view in views.items()})
        self.fusion = (CrossViewFusion if config.fusion == "attention" else ConcatenatedViews)(config)
        self.delay_embedding = nn.Embedding(len(config.delays_ms), config.width)
        # Relative bias per delay, layer, head and distance 0..W: look-ahead decides which past matters.
        self.bias = nn.Parameter(_initial_bias(config))
        self.blocks = nn.ModuleList([Block(config) for _ in range(config.layers)])
        self.norm = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, config.frames_per_token * 3 * len(config.classes))
        nn.init.normal_(self.delay_embedding.weight, std=0.02)
        with torch.no_grad():  # hits are rare: start near their prior so that the first steps are not spent on it
            self.head.bias.view(config.frames_per_token, 3, -1)[:, 0] = -4.0

    def zero_state(self, batch: int) -> tuple[Tensor, ...]:
        """The start of a stream: all zeros, [B, ...] each."""
        like = self.head.weight
        return tuple(like.new_zeros(batch, *shape) for shape in state_shapes(self.config).values())

    def step(self, audio: Tensor, delay: Tensor, *states: Tensor) -> StepOutput:
        """audio [B, T * samples_per_token], delay [B, 1] int64 and states -> outputs and states."""
        state_audio, state_attack, *others = states
        latents, *front_end = self.encode(audio, state_audio, state_attack)
        output = self.read(latents, delay, *others)
        return output._replace(states=(*front_end, *output.states))

    def forward(self, audio: Tensor, delay: Tensor, *states: Tensor) -> StepOutput:
        return self.step(audio, delay, *states)

    def encode(self, audio: Tensor, state_audio: Tensor, state_attack: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Views of every token: [B, T * samples_per_token] -> latents [B, T, V, E] and the two states after it."""
        heard = torch.cat([state_audio, audio], dim=1)
        latents = []
        for name in self.config.views:
            view = self.views[name]
            if name == "attack":
                features, state_attack = view(heard, state_attack)
            else:
                features = view(heard)
            latents.append(self.encoders[name](features))
        return torch.stack(latents, dim=2), heard[:, -state_audio.shape[1] :], state_attack

    def read(
        self,
        latents: Tensor,
        delay: Tensor,
        taps: Tensor,
        *cache: Tensor,
        in_windows: bool = False,
    ) -> StepOutput:
        """Fuse the views and read the rhythm: latents [B, T, V, E], taps and cache -> outputs, and these two after it.

        `in_windows` is for training on whole clips, T a multiple of window_tokens: the same numbers, and no product of
        queries with keys out of their reach.
        """
        c = self.config
        x = self.fusion(latents) + self.delay_embedding(delay)
        bias = self._banded_bias(delay, c.window_tokens if in_windows else x.shape[1])
        following, later_taps = [], []
        # unbind, not indexing: its gradient is one stack instead of a tensor of zeros per layer.
        parts = zip(self.blocks, bias.unbind(1), taps.unbind(1), cache[::2], cache[1::2], strict=True)
        for block, *inputs in parts:
            x, tap, *keys_values = block(x, *inputs)
            later_taps.append(tap)
            following += keys_values
        out = self.head(self.norm(x)).reshape(x.shape[0], -1, 3, len(c.classes))
        onset, velocity, offset = out.unbind(2)
        velocity = torch.sigmoid(velocity)
        offset = 0.5 + torch.tanh(offset) if c.subframe else torch.zeros_like(offset)
        return StepOutput(onset, velocity, offset, (torch.stack(later_taps, 1), *following))

    def whole(self, audio: Tensor, delay: int, chunk_tokens: int = 96) -> Outputs:
        """A whole clip [B, T * samples_per_token] from zero state, in large chunks."""
        index = torch.full((len(audio), 1), delay, device=audio.device)
        state, parts = self.zero_state(len(audio)), []
        for piece in audio.split(chunk_tokens * self.config.samples_per_token, dim=1):
            output = self(piece, index, *state)
            state = output.states
            parts.append(output[:3])
        return Outputs(*(torch.cat(part, dim=1) for part in zip(*parts, strict=True)))

    def _banded_bias(self, delay: Tensor, t: int) -> Tensor:
        """Bias of query i on key j, [B, L, H, T, W + T]: learned at distance i + W - j, masked outside 0..W."""
        window = self.config.window_tokens
        # Every query's row is the one before, moved by a token: rows one longer than they should be, laid end to end.
        row = nn.functional.pad(self.bias[delay[:, 0]].flip(-1), (0, t), value=MASKED)  # [B, L, H, W + 1 + T]
        rows = row.unsqueeze(3).expand(-1, -1, -1, t, -1).flatten(3)
        return rows[..., :-t].reshape(*row.shape[:3], t, window + t)


def state_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Shapes of the states without the batch dimension, by name, in the order of `step`.

    Keys and values of every layer are states of their own: nothing is copied to take them apart or to pack them.
    """
    keys = (config.heads, config.window_tokens, config.width // config.heads)
    cache = {f"state_{kind}_{layer:02}": keys for layer in range(config.layers) for kind in ("keys", "values")}
    return {
        "state_audio": (tail_samples(config),),
        "state_attack": (2, config.attack_bands),
        "state_taps": (config.layers, config.conv_tokens - 1, config.width),
        **cache,
    }


def _initial_bias(config: ModelConfig) -> Tensor:
    """Start of the bias [delays, L, H, W + 1]: recency slopes, a different one per head (ALiBi, Press et al. 2022)."""
    slopes = 2.0 ** -(1 + torch.arange(config.heads, dtype=torch.float32))
    distance = torch.arange(config.window_tokens + 1, dtype=torch.float32)
    bias = -slopes[:, None] * distance[None, :]
    return bias.expand(len(config.delays_ms), config.layers, -1, -1).clone()
