"""One build under the gate: a process that measures on request. Run as a script with that build on PYTHONPATH.

Reads one word per line, answers with one line of JSON. `file`: CPU seconds of transcribing some audio with large calls;
`live`: of the same in single tokens; `facts`: what does not vary from run to run. It uses nothing but the library's
documented interface, because BASE may be any earlier build.

usage: python worker.py MODEL AUDIO_FOLDER LABELS_FOLDER
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from ghostnote.runtime import Engine, Hit, StreamingTranscriber, open_engine, transcribe_file

FILE_TOKENS = 50
FILE_S, LIVE_S = 20.0, 2.0
LATENCY_MS = 100

Floats = np.ndarray


def main() -> None:
    """Answer requests until the input ends."""
    model, audio, labels = sys.argv[1:]
    engine = open_engine(model)
    pcm = _pcm(sorted(Path(audio).iterdir()), engine.manifest.sample_rate)
    answers = {
        "file": lambda: _file_s(engine, pcm[: round(FILE_S * engine.manifest.sample_rate)]),
        "live": lambda: _live_s(engine, pcm[: round(LIVE_S * engine.manifest.sample_rate)]),
        "facts": lambda: _facts(engine, Path(audio), Path(labels), pcm),
    }
    for line in sys.stdin:
        sys.stdout.write(json.dumps(answers[line.strip()]()) + "\n")
        sys.stdout.flush()


def _pcm(files: list[Path], rate: int) -> Floats:
    parts = [soundfile.read(str(path), dtype="float32", always_2d=True) for path in files]
    assert all(found == rate for _, found in parts), "the gate's audio must have the model's rate"
    return np.concatenate([part.mean(1) for part, _ in parts])


def _file_s(engine: Engine, pcm: Floats) -> float:
    transcriber = StreamingTranscriber(engine, latency_ms=LATENCY_MS, tokens_per_call=FILE_TOKENS)
    start = time.process_time()
    transcriber.feed(pcm)
    transcriber.flush()
    return time.process_time() - start


def _live_s(engine: Engine, pcm: Floats) -> float:
    token = engine.manifest.samples_per_token
    transcriber = StreamingTranscriber(engine, latency_ms=LATENCY_MS)
    start = time.process_time()
    for position in range(0, len(pcm) - token + 1, token):
        transcriber.feed(pcm[position : position + token])
    return time.process_time() - start


def _facts(engine: Engine, audio: Path, labels: Path, pcm: Floats) -> dict[str, Any]:
    hits = {path.stem: _hits(engine, path) for path in sorted(audio.iterdir())}
    notes = {path.stem: _labels(path) for path in sorted(labels.iterdir())}
    return {
        "hits": hits,
        "labels": notes,
        "python_calls": _python_calls(engine, pcm),
    }


def _hits(engine: Engine, path: Path) -> list[list[Any]]:
    hits: list[Hit] = transcribe_file(path, engine, latency_ms=LATENCY_MS)
    return [[hit.time_s, hit.code, hit.velocity] for hit in hits]


def _labels(path: Path) -> list[list[Any]]:
    rows = [line.split("\t") for line in path.read_text().splitlines() if line]
    return [[float(time_s), code, float(velocity)] for time_s, code, velocity in rows]


def _python_calls(engine: Engine, pcm: Floats) -> int:
    """Calls of functions, Python's and C's, in 50 live chunks: counts work, as instructions would, and never varies."""
    count = 0

    def note(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    token = engine.manifest.samples_per_token
    transcriber = StreamingTranscriber(engine, latency_ms=LATENCY_MS)
    pieces = [pcm[i * token : (i + 1) * token] for i in range(60)]
    for piece in pieces[:10]:
        transcriber.feed(piece)
    sys.setprofile(note)
    for piece in pieces[10:]:
        transcriber.feed(piece)
    sys.setprofile(None)
    return count


if __name__ == "__main__":
    main()
