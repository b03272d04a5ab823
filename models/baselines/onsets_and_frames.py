"""A drum transcriber in the manner of Onsets and Frames, whole file: the yardstick for the streaming model.

Hawthorne et al. 2018 (arXiv 1710.11153) as used for drums by Callender, Hawthorne and Engel 2020 (arXiv 2004.00188):
log-mel spectrogram at 44.1 kHz, 250 bands, hop 441 samples; a convolutional stack and a bidirectional LSTM for onsets,
a convolutional stack of its own for velocities, no frames and offsets. `base` has the sizes published for drums
(filters 16, 16, 32, 256 units, LSTM 64), `large` the filters published for piano with narrower layers after them.
Two departures: no dropout, because rendered clips never repeat; and the loss, threshold and decoder are ours.
Letters: B clips, N samples, F frames, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from ..config import FrameGrid
from ..frontend import mel_bands, scaled_log
from ..training.steps import Recipe, Step
from ..transformer import Outputs, Transcriber

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["PRESETS", "OnsetsAndFrames", "OnsetsAndFramesConfig", "OnsetsAndFramesStep"]

CONTEXT_FRAMES = 3  # what three 3 x 3 convolutions reach to either side
PIECE_FRAMES = 2048  # of a whole file at a time through the convolutions


@dataclass(frozen=True, kw_only=True)
class OnsetsAndFramesConfig(FrameGrid):
    """Shape of an `OnsetsAndFrames`. It reads the whole file, so its delay is 0."""

    kind: ClassVar[str] = "onsets-and-frames"

    subframe: bool = False
    mel_bands: int = 250
    mel_window: int = 2048  # samples
    lowest_hz: float = 30.0
    filters: tuple[int, ...] = (16, 16, 32)
    pools: tuple[int, ...] = (1, 2, 2)  # along frequency, after each convolution
    dense: int = 256
    lstm: int = 64  # units in each direction


PRESETS: dict[str, OnsetsAndFramesConfig] = {
    "tiny": OnsetsAndFramesConfig(name="tiny", mel_bands=40, filters=(4, 4, 8), dense=16, lstm=8),  # for tests
    "base": OnsetsAndFramesConfig(),
    "large": OnsetsAndFramesConfig(name="large", filters=(48, 48, 96), lstm=128),
}


class ConvolutionalStack(nn.Module):
    """Three convolutions over time and frequency (Kelz et al. 2016), then a dense layer: [B, F, bands] -> [B, F, D]."""

    def __init__(self, config: OnsetsAndFramesConfig):
        super().__init__()
        layers: list[nn.Module] = []
        channels, bands = 1, config.mel_bands
        for filters, pool in zip(config.filters, config.pools, strict=True):
            layers += [nn.Conv2d(channels, filters, 3, padding=1, bias=False), nn.BatchNorm2d(filters), nn.ReLU()]
            layers += [nn.MaxPool2d((1, pool))] if pool > 1 else []
            channels, bands = filters, bands // pool
        self.layers = nn.Sequential(*layers)
        self.dense = nn.Linear(channels * bands, config.dense)

    def forward(self, spectrogram: Tensor) -> Tensor:
        x = self.layers(spectrogram[:, None])
        return torch.relu(self.dense(x.transpose(1, 2).flatten(2)))


class OnsetsAndFrames(Transcriber):
    """PCM to onset logits and velocities of a whole clip; hits lie at the centre of their frame."""

    config: OnsetsAndFramesConfig
    window: Tensor
    bands: Tensor

    def __init__(self, config: OnsetsAndFramesConfig):
        super().__init__()
        self.config = config
        window, classes = config.mel_window, len(config.classes)
        frequencies = torch.arange(1, window // 2 + 1) * config.sample_rate / window
        bands = mel_bands(frequencies, config.mel_bands, config.lowest_hz, config.sample_rate / 2)
        # A full-scale sine has power 1.
        self.register_buffer("window", torch.hann_window(window) * 4 / window, persistent=False)
        self.register_buffer("bands", bands, persistent=False)
        self.onset_stack, self.velocity_stack = ConvolutionalStack(config), ConvolutionalStack(config)
        self.lstm = nn.LSTM(config.dense, config.lstm, batch_first=True, bidirectional=True)
        self.onset_head = nn.Linear(2 * config.lstm, classes)
        self.velocity_head = nn.Linear(config.dense, classes)
        nn.init.constant_(self.onset_head.bias, -4.0)  # hits are rare

    def forward(self, audio: Tensor) -> Outputs:
        """[B, F * samples_per_frame] -> outputs of F frames, the whole clip at once."""
        return self._outputs(self._padded(audio), PIECE_FRAMES if not self.training else audio.shape[1])

    def whole(self, audio: Tensor, delay: int = 0) -> Outputs:
        """The same, under the name and with the argument that every kind of model has; the delay can only be 0."""
        if delay != 0:
            raise ValueError(f"delay index {delay} of a whole-file model; it has 0 only")
        return self(audio)

    def _padded(self, audio: Tensor) -> Tensor:
        """With silence at both ends, so that the window of frame k lies about the frame's centre."""
        c = self.config
        before = (c.mel_window - c.samples_per_frame) // 2
        return nn.functional.pad(audio, (before, c.mel_window - c.samples_per_frame - before))

    def _outputs(self, padded: Tensor, piece_frames: int) -> Outputs:
        """Convolutions piece by piece (their memory grows with the file), the LSTM over everything."""
        c = self.config
        frames = (padded.shape[1] - c.mel_window) // c.samples_per_frame + 1
        onset, velocity = [], []
        for start in range(0, frames, piece_frames):
            end = min(frames, start + piece_frames)
            first, last = max(0, start - CONTEXT_FRAMES), min(frames, end + CONTEXT_FRAMES)
            samples = padded[:, first * c.samples_per_frame : (last - 1) * c.samples_per_frame + c.mel_window]
            spectrogram = self._spectrogram(samples)
            onset.append(self.onset_stack(spectrogram)[:, start - first : end - first])
            velocity.append(self.velocity_head(self.velocity_stack(spectrogram)[:, start - first : end - first]))
        logits = self.onset_head(self.lstm(torch.cat(onset, dim=1))[0])
        loudness = torch.sigmoid(torch.cat(velocity, dim=1))
        return Outputs(logits, loudness, torch.zeros_like(loudness))

    def _spectrogram(self, samples: Tensor) -> Tensor:
        """[B, (F - 1) * samples_per_frame + mel_window] -> log power [B, F, bands]."""
        with torch.autocast(samples.device.type, enabled=False):
            windows = samples.unfold(1, self.config.mel_window, self.config.samples_per_frame)
            spectrum = torch.fft.rfft(windows * self.window)[:, :, 1:]
            return scaled_log(torch.matmul(spectrum.abs().square(), self.bands), self.config.power_floor)


class OnsetsAndFramesStep(Step):
    """`OnsetsAndFrames` with the onset, parent and velocity losses of the streaming model."""

    def __init__(self, config: OnsetsAndFramesConfig, recipe: Recipe, teacher: Transcriber | None = None):
        super().__init__(OnsetsAndFrames(config), recipe, teacher)

    def outputs(self, batch: Mapping[str, Tensor]) -> tuple[Outputs, dict[str, Tensor]]:
        return self.model(batch["audio"]), {}
