"""Servers that end with their test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import click_model
import pytest

from ghostnote.runtime import Engine, open_engine
from ghostnote.runtime.streams.pool import StreamPool

if TYPE_CHECKING:
    from serving import Serving


@pytest.fixture(scope="session")
def click_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """The click model: the same bits whatever is in a call."""
    engine = open_engine(click_model.build(tmp_path_factory.mktemp("model") / "click.onnx"))
    yield engine
    engine.close()


@pytest.fixture
def serve(click_engine: Engine) -> Iterator[Callable[..., Serving]]:
    """Start a server: `serve(idle_timeout_s=1)` are settings, `engine` another engine."""
    from serving import Serving, run_app

    from ghostnote.runtime.serve.app import create_app
    from ghostnote.runtime.serve.metrics import MeteredEngine, Metrics
    from ghostnote.runtime.serve.settings import Settings

    with ExitStack() as stack:

        def start(engine: Engine = click_engine, **settings: Any) -> Serving:
            metrics, limits = Metrics(), Settings(**settings)
            pool = StreamPool(MeteredEngine(engine, metrics), max_streams=limits.max_sessions)
            stack.enter_context(pool)
            port = stack.enter_context(run_app(create_app(pool, limits, metrics), limits))
            return Serving(port, pool, metrics)

        yield start
