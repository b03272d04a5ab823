"""Stream audio to a ghostnote model on a Triton server; print the hits as they are found, one JSON object per line.

usage: python examples/triton_client.py INPUT [--url HOST:PORT] [--model NAME] [--latency-ms MS]

INPUT is an audio file, or - for WAV on standard input, live. Needs the extra `triton`.
"""

from __future__ import annotations

import argparse
import queue
import secrets
import sys
from collections.abc import Sequence
from contextlib import closing, suppress
from typing import NamedTuple

import numpy as np
import tritonclient.grpc as triton
from numpy.typing import NDArray

from ghostnote.runtime.engines.protocol import HEADS, State, StepOutput
from ghostnote.runtime.errors import EngineError, GhostnoteError
from ghostnote.runtime.input.audio import AudioReader
from ghostnote.runtime.manifest import METADATA_KEY, Manifest
from ghostnote.runtime.output.writers import Sink, StreamSink, make_format
from ghostnote.runtime.streams.stream import FILE_TOKENS_PER_CALL, StreamingTranscriber

Floats = NDArray[np.float32]


class SequenceState(NamedTuple):
    """The state of a stream on the server: no tensors here, only the number under which the server keeps them."""

    sequence: int
    begun: bool


class TritonEngine:
    """A model on a Triton server behind ghostnote's `Engine` protocol: each stream is a sequence of requests.

    Any number of streams may take turns, each on its own (Triton batches requests, not the client); all of them in
    one thread. Raises EngineError where the server refuses, or is silent for `timeout_s`.
    """

    def __init__(self, url: str, model: str, *, timeout_s: float = 10.0) -> None:
        self._url, self._model, self._timeout_s = url, model, timeout_s
        self._open: set[int] = set()
        self._answers: queue.SimpleQueue[tuple[triton.InferResult, Exception | None]] = queue.SimpleQueue()
        self._client = triton.InferenceServerClient(url)
        try:
            config = self._client.get_model_config(model, client_timeout=timeout_s).config
        except triton.InferenceServerException as error:
            self._client.close()
            raise EngineError(f"{url}: no model '{model}' there ({error.message()}); is the server running?") from None
        if METADATA_KEY not in config.parameters:
            self._client.close()
            raise EngineError(f"{url}: '{model}' is not a ghostnote model; write its repository with export-model")
        self._manifest = Manifest.from_json(config.parameters[METADATA_KEY].string_value)
        self._client.start_stream(lambda result, error: self._answers.put((result, error)))

    @property
    def manifest(self) -> Manifest:
        """What the server's configuration says about the model."""
        return self._manifest

    def zero_state(self, batch: int) -> SequenceState:
        """The start of a new stream; a sequence is one stream, so `batch` must be 1."""
        _expect_one_stream(batch)
        return SequenceState(secrets.randbits(62) + 1, begun=False)  # clients know nothing of each other's numbers

    def step(self, audio: Floats, delay: NDArray[np.int64], state: State) -> StepOutput:
        """One request: audio [1, N], delay [1, 1]; the state stays on the server."""
        _expect_one_stream(len(audio))
        assert isinstance(state, SequenceState)
        self._open.add(state.sequence)
        result = self._ask(audio, delay, state.sequence, start=not state.begun)
        heads = [result.as_numpy(name) for name in HEADS]
        return StepOutput(*heads, SequenceState(state.sequence, begun=True))

    def select(self, rows: Sequence[tuple[State, int]]) -> State:  # noqa: ARG002
        """Not to be had: the states stay on the server, one sequence each."""
        raise EngineError("a Triton server keeps the states; it batches streams itself")

    def describe(self) -> str:
        """One line for humans."""
        return f"{self._manifest.name} ({self._manifest.precision}) on Triton at {self._url}"

    def close(self) -> None:
        """End the sequences, so that the server gives their places to others at once, and hang up."""
        silence = np.zeros((1, self._manifest.samples_per_token), np.float32)
        with suppress(EngineError):  # a server that is gone keeps no sequences
            for sequence in self._open:
                self._ask(silence, np.zeros((1, 1), np.int64), sequence, end=True)
        self._client.stop_stream(cancel_requests=True)
        self._client.close()

    def _ask(
        self, audio: Floats, delay: NDArray[np.int64], sequence: int, *, start: bool = False, end: bool = False
    ) -> triton.InferResult:
        """Send one request and wait for its answer."""
        inputs = [_tensor("audio", "FP32", audio), _tensor("delay", "INT64", delay)]
        try:
            self._client.async_stream_infer(
                self._model, inputs, sequence_id=sequence, sequence_start=start, sequence_end=end
            )
            result, error = self._answers.get(timeout=self._timeout_s)
        except queue.Empty:
            raise EngineError(
                f"{self._url}: no answer within {self._timeout_s:g} s; are all its places taken?"
            ) from None
        except triton.InferenceServerException as failure:
            result, error = None, failure
        if error is not None:
            raise EngineError(f"{self._url}: '{self._model}' failed: {error}")
        return result


def _tensor(name: str, data_type: str, value: np.ndarray) -> triton.InferInput:
    tensor = triton.InferInput(name, list(value.shape), data_type)
    tensor.set_data_from_numpy(np.ascontiguousarray(value))
    return tensor


def _expect_one_stream(batch: int) -> None:
    if batch != 1:
        raise ValueError(
            f"expected one stream per call, found {batch}; Triton itself batches the calls of many streams"
        )


def transcribe(reader: AudioReader, engine: TritonEngine, sink: Sink, latency_ms: float | None) -> None:
    """All of `reader` through `engine` into `sink`: token by token where it is live, in larger calls from a file."""
    per_call = None if reader.is_live else FILE_TOKENS_PER_CALL
    transcriber = StreamingTranscriber(engine, latency_ms=latency_ms, tokens_per_call=per_call)
    for block in reader:
        sink.write(transcriber.feed(block))
    sink.write(transcriber.flush())
    sink.close()


def main() -> int:
    """Run the command line; the exit code is one of docs/architecture.md."""
    parser = argparse.ArgumentParser(description="Transcribe drums with a ghostnote model on a Triton server.")
    parser.add_argument("source", metavar="INPUT", help="audio file, or - for WAV on standard input")
    parser.add_argument("--url", default="localhost:8001", help="host and gRPC port (default: %(default)s)")
    parser.add_argument("--model", default="base", help="its name on the server (default: %(default)s)")
    parser.add_argument("--latency-ms", type=float, help="largest total latency; default: the most accurate setting")
    options = parser.parse_args()
    try:
        with closing(TritonEngine(options.url, options.model)) as engine:
            sink = StreamSink(sys.stdout.buffer, make_format("jsonl", engine.manifest))
            with AudioReader(options.source, engine.manifest.sample_rate) as reader:
                transcribe(reader, engine, sink, options.latency_ms)
    except GhostnoteError as error:
        sys.stderr.write(f"triton_client: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
