"""A batch as `RenderedBatches` makes them, without rendering: noise with bursts where the hits are."""

import torch

from ghostnote.models.config import PRESETS

TINY = PRESETS["tiny"]


def make_batch(clips=2, tokens=30, delay=1, dropped=-1, seed=0):
    """Noise with a burst at each of four hits per clip."""
    generator = torch.Generator().manual_seed(seed)
    times = torch.sort(torch.rand(clips, 4, generator=generator) * 0.5).values
    audio = 0.01 * torch.randn(clips, tokens * TINY.samples_per_token, generator=generator)
    for clip, row in enumerate(times):
        for time in row:
            audio[clip, int(time * 44100) : int(time * 44100) + 400] += 0.5
    return {
        "audio": audio,
        "times": times,
        "classes": torch.randint(0, 18, (clips, 4), generator=generator),
        "velocities": torch.rand(clips, 4, generator=generator),
        "ignored": torch.zeros(clips, 4, dtype=torch.bool),
        "labelled": torch.ones(clips, 18, dtype=torch.bool),
        "exact": torch.ones(clips, dtype=torch.bool),
        "delay": torch.full((clips, 1), delay),
        "dropped_view": torch.full((clips,), dropped),
    }
