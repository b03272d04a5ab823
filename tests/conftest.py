"""Helper modules importable from every test folder, and a tiny model in its forms, made once per session."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from ghostnote.models.checkpoint import Checkpoint
    from ghostnote.models.torch_engine import TorchEngine
    from ghostnote.runtime.engines.onnxruntime_engine import OnnxRuntimeEngine

sys.path.insert(0, str(Path(__file__).parent))

settings.register_profile("untimed", deadline=None)  # how long an example takes says more of the machine than of us
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository root."""
    return Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def tiny() -> Checkpoint:
    """The tiny checkpoint of tiny.py, in memory."""
    from tiny import tiny_checkpoint

    return tiny_checkpoint()


@pytest.fixture(scope="session")
def tiny_onnx(tiny: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model as exported, verified by streaming parity. Do not change the file."""
    from filelock import FileLock

    from ghostnote.export import pipeline

    base = tmp_path_factory.getbasetemp()
    folder = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base  # shared by the worker processes
    path = folder / "tiny.onnx"
    with FileLock(folder / "tiny.onnx.lock"):
        if not path.exists():
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(pipeline, "LONG_S", 20.0)
                pipeline.export_onnx(tiny, path)
    return path


@pytest.fixture(scope="session")
def tiny_torch(tiny: Checkpoint) -> TorchEngine:
    """The tiny model on PyTorch, behind the engine protocol."""
    from ghostnote.models.torch_engine import TorchEngine

    return TorchEngine.of(tiny)


@pytest.fixture(scope="session")
def tiny_engine(tiny_onnx: Path) -> Iterator[OnnxRuntimeEngine]:
    """The tiny model on onnxruntime."""
    from ghostnote.runtime.engines.onnxruntime_engine import OnnxRuntimeEngine

    engine = OnnxRuntimeEngine(tiny_onnx)
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def shared() -> Path:
    """A data folder: $GHOSTNOTE_SHARED, or `shared` beside the clone. Skips where there is none."""
    folder = Path(os.environ.get("GHOSTNOTE_SHARED") or Path(__file__).resolve().parents[2] / "shared")
    if not (folder / "data").is_dir():
        pytest.skip(f"no data folder: {folder} has no data/; name one in GHOSTNOTE_SHARED")
    return folder
