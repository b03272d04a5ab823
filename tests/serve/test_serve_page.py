"""The examples of docs/serve.md run."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import soundfile
from serving import Serving, alone

from ghostnote.runtime import open_engine

ROOT = Path(__file__).parents[2]
CLIENT, MOUNTED = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs/serve.md").read_text(), re.MULTILINE | re.DOTALL)


def test_the_client_gets_the_hits_of_the_engine(serve: Callable[..., Serving], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    engine = open_engine("small")
    server = serve(engine=engine)
    found: dict = {}
    exec(CLIENT.replace(":8765", f":{server.port}"), found)
    audio, _ = soundfile.read("examples/groove.flac", dtype="float32")
    expected = alone(engine, audio)
    assert [hit["class"] for hit in found["hits"]] == [hit["class"] for hit in expected]
    assert [hit["time"] for hit in found["hits"]] == pytest.approx([hit["time"] for hit in expected], abs=1e-5)


def test_the_application_can_be_mounted() -> None:
    found: dict = {}
    exec(MOUNTED, found)
    found["pool"].close()
    assert {"/healthz", "/metrics", "/v1/transcribe"} <= {route.path for route in found["app"].routes}
