"""On a GPU: plans that are built here, and onnxruntime's CUDA provider, held to the laws and to onnxruntime on the CPU.

Not run by default (`-m gpu`). Each says what it lacks where it is skipped.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import laws
import numpy as np
import pytest
from tiny import tokens_of_audio

from ghostnote.export import pipeline
from ghostnote.export.choices import Precision, StatePrecision, Target
from ghostnote.export.errors import MissingLibraryError
from ghostnote.export.parity import TOLERANCES, check_parity, trials
from ghostnote.export.request import Request
from ghostnote.export.tensorrt_plan import build_plan
from ghostnote.runtime import Engine, EngineError, OnnxRuntimeEngine, StreamingTranscriber, open_engine
from ghostnote.runtime.engines.cuda_driver import probe_driver
from ghostnote.runtime.engines.flavours import FLAVOURS, dotted
from ghostnote.runtime.engines.opening import model_file
from ghostnote.runtime.errors import GhostnoteError

pytestmark = pytest.mark.gpu

TOKENS = 160
DELAYS = (0, 3, 5)
TOLERANCE = 1e-4


@pytest.fixture(scope="module", params=["cuda", *FLAVOURS])
def engine(
    request: pytest.FixtureRequest, tiny_onnx: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Engine]:
    """The tiny model on the GPU."""
    driver = probe_driver()
    if driver.problem:
        pytest.skip(driver.problem)
    if request.param == "cuda":
        try:
            opened = open_engine(tiny_onnx, device="cuda")
        except EngineError as error:
            pytest.skip(str(error))
    else:
        plan = tmp_path_factory.mktemp("plan") / "tiny.plan"
        flavour, here = FLAVOURS[request.param], dotted(driver.devices[0].compute_capability)
        if flavour.built_for and here not in flavour.built_for:
            pytest.skip(f"{flavour.product} has no plans for compute capability {here}")
        try:
            build_plan(tiny_onnx, plan, request.param, batch=(1, 1, 8), tokens=(1, 1, 50))
        except GhostnoteError as error:
            pytest.skip(str(error))
        opened = open_engine(plan)  # what was built here must run here
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def audio() -> np.ndarray:
    """[3, N], three streams."""
    return tokens_of_audio(TOKENS, streams=len(DELAYS), seed=7)


def test_any_chunking_equals_the_whole_and_a_second_run(engine: Engine, audio: np.ndarray) -> None:
    laws.assert_any_chunking(engine, audio[0], 3, TOLERANCE)


def test_a_batch_equals_each_alone(engine: Engine, audio: np.ndarray) -> None:
    laws.assert_batch_is_alone(engine, audio, DELAYS, TOLERANCE)


def test_without_a_reset_it_differs(engine: Engine, audio: np.ndarray) -> None:
    laws.assert_reset_matters(engine, audio[0], 3)


def test_the_future_changes_nothing(engine: Engine, audio: np.ndarray) -> None:
    laws.assert_causal(engine, audio[0], audio[1], token=40, delay_index=3)


def test_streams_that_take_turns_are_as_each_alone(engine: Engine, audio: np.ndarray) -> None:
    """States are parked, put together and taken apart on the device."""
    token = engine.manifest.samples_per_token
    expected = [laws.run_engine(engine, audio[b : b + 1, : 20 * token], [0], laws.every(1)) for b in range(3)]
    states, found = [engine.zero_state(1) for _ in range(3)], [[], [], []]
    for turn in range(20):
        together = [b for b in range(3) if b != turn % 4] if turn % 2 else [0, 1, 2]
        for batch in (together, [b for b in range(3) if b not in together]):
            if batch:
                piece = np.ascontiguousarray(audio[batch, turn * token : (turn + 1) * token])
                delay = np.zeros((len(batch), 1), np.int64)
                output = engine.step(piece, delay, engine.select([(states[b], 0) for b in batch]))
                for row, b in enumerate(batch):
                    states[b] = engine.select([(output.state, row)])
                    found[b].append(output.onset_logits[row])
    for b in range(3):
        assert np.abs(np.concatenate(found[b]) - expected[b].onset_logits[0]).max() <= TOLERANCE


def test_parity_with_onnxruntime_on_the_cpu(engine: Engine, tiny_engine: OnnxRuntimeEngine) -> None:
    report = check_parity(tiny_engine, engine, trials(engine.manifest), TOLERANCES["float32"])
    assert report.passed, report


def test_hits_are_those_of_onnxruntime_on_the_cpu(
    engine: Engine, tiny_engine: OnnxRuntimeEngine, audio: np.ndarray
) -> None:
    pcm = audio[0]
    live, whole = StreamingTranscriber(engine, 3), StreamingTranscriber(tiny_engine, 3, tokens_per_call=50)
    found, expected = laws.transcribe(live, pcm, laws.every(1000)), laws.transcribe(whole, pcm, [len(pcm)])
    ties = laws.ties(laws.run_engine(tiny_engine, audio[:1], [3], [TOKENS]), engine.manifest, 3, 2 * TOLERANCE)
    laws.assert_hits_agree(found, expected, ties)
    assert len(found) > 60


def test_plans_run_as_cuda_graphs(engine: Engine) -> None:
    state = engine.zero_state(1)
    for _ in range(6):
        audio = np.zeros((1, engine.manifest.samples_per_token), np.float32)
        state = engine.step(audio, np.zeros((1, 1), np.int64), state).state
    assert "without CUDA graphs" not in engine.describe()


@pytest.mark.parametrize("states", list(StatePrecision))
@pytest.mark.parametrize("flavour", [Target.TENSORRT, Target.TENSORRT_RTX])
def test_an_exported_float16_plan_is_verified_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flavour: Target, states: StatePrecision
) -> None:
    driver = probe_driver()
    if driver.problem:
        pytest.skip(driver.problem)
    here, chosen = dotted(driver.devices[0].compute_capability), FLAVOURS[flavour]
    if chosen.built_for and here not in chosen.built_for:
        pytest.skip(f"{chosen.product} has no plans for compute capability {here}")
    monkeypatch.setattr(pipeline, "REFERENCE_LONG_S", 5.0)
    monkeypatch.setattr(pipeline, "LONG_S", 60.0)
    source = tmp_path / "small.onnx"
    source.write_bytes(Path(str(model_file("small"))).read_bytes())
    made: list[pipeline.Artifact] = []
    request = Request(source, tmp_path, flavour, Precision.FP16, states)
    try:
        pipeline.export_model(request, print, made.append)
    except MissingLibraryError as error:
        pytest.skip(str(error))
    assert made[-1].path.suffix == ".plan"
    assert made[-1].manifest.verified, made[-1].manifest.notes
