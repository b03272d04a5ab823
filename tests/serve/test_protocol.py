"""The session protocol over real sockets: what is sent is what is heard, in whatever form and pieces it comes."""

from __future__ import annotations

import json
from collections.abc import Callable

import click_model
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serving import Serving, alone, clicks, converse, hits_of, start_message

from ghostnote.runtime import Engine


def test_hits_are_those_of_the_engine_alone(serve: Callable[..., Serving], click_engine: Engine) -> None:
    server, pcm = serve(), clicks(4)
    with server.connect() as socket:
        messages = converse(socket, pcm.tobytes(), sizes=(1, 5001, 3, 4096, 20000))
    ready, *_, end = messages
    expected = alone(click_engine, pcm)
    assert ready["type"] == "ready"
    assert ready["total_latency_ms"] == 100
    assert [entry["code"] for entry in ready["classes"]] == list(click_engine.manifest.codes)
    assert len(expected) > 20
    assert hits_of(messages) == expected
    assert end == {"type": "end", "hits": len(expected), "audio_s": round(len(pcm) / 44100, 6)}
    assert socket.close_code == 1000
