"""What tests of rendered music share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from bursts import make_batch
from training_runs import RECIPE

from ghostnote.models.data.music import backing
from ghostnote.models.training.trainer import Trainer


@pytest.fixture
def small_pool(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Two pieces of a second per kind, where the pool of synthesised parts has hundreds of twelve."""
    monkeypatch.setattr(backing, "POOL", dict.fromkeys(backing.POOL, 2))
    monkeypatch.setattr(backing, "PIECE_SAMPLES", 44100)
    backing._pool_piece.cache_clear()
    yield
    backing._pool_piece.cache_clear()


@pytest.fixture
def unrendered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training on noise with bursts, for what does not depend on how clips sound."""
    batches = [make_batch(seed=seed) for seed in range(RECIPE.steps)]
    monkeypatch.setattr(Trainer, "_dataset", lambda *_: batches)
