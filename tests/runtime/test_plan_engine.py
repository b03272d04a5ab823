"""Plans without a GPU: the laws on a device that lies in host memory, states that come and go, and what can fail."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import laws
import numpy as np
import onnx
import pytest
from host_device import GraphExecution, GraphPlan, HostDevice, plan_engine
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import tokens_of_audio

from ghostnote.export.choices import Precision, StatePrecision
from ghostnote.export.onnx_export import read_graph
from ghostnote.export.pipeline import reduce
from ghostnote.runtime import Engine, EngineError, OnnxRuntimeEngine, StreamingTranscriber
from ghostnote.runtime.engines.device import DeviceError, Tensor
from ghostnote.runtime.engines.plan_engine import PlanEngine
from ghostnote.runtime.engines.plan_profile import PlanProfile

TOKENS = 80
TOKEN = 882
DELAYS = (0, 3, 5)
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def audio() -> np.ndarray:
    """[3, N], three streams."""
    return tokens_of_audio(TOKENS, streams=len(DELAYS), seed=7)


@pytest.fixture(scope="module")
def engine(tiny_onnx: Path) -> Iterator[PlanEngine]:
    """The tiny model as a plan."""
    opened = plan_engine(tiny_onnx)
    yield opened
    opened.close()


@pytest.fixture
def device() -> HostDevice:
    return HostDevice()


@pytest.fixture
def clicks(click_path: Path, device: HostDevice) -> Iterator[PlanEngine]:
    """The click model as a plan, which is fast, on a device of its own."""
    opened = plan_engine(click_path, device)
    yield opened
    opened.close()


def noise(tokens: int, streams: int = 1, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    shape = (streams, tokens, TOKEN)
    return (rng.uniform(-1, 1, shape) * rng.random((streams, tokens, 1))).reshape(streams, -1).astype(np.float32)


def one_token(streams: int = 1) -> tuple[np.ndarray, np.ndarray]:
    return noise(1, streams), np.zeros((streams, 1), np.int64)


def close_to(found: dict[str, np.ndarray], expected: dict[str, np.ndarray], tolerance: float = TOLERANCE) -> bool:
    assert found.keys() == expected.keys()
    return all(np.abs(found[name] - value).max() <= tolerance for name, value in expected.items())


# --- the laws


def test_any_chunking_equals_the_whole_and_a_second_run(engine: PlanEngine, audio: np.ndarray) -> None:
    laws.assert_any_chunking(engine, audio[0], 3, TOLERANCE)


def test_a_batch_equals_each_alone(engine: PlanEngine, audio: np.ndarray) -> None:
    laws.assert_batch_is_alone(engine, audio, DELAYS, TOLERANCE)


def test_without_a_reset_it_differs(engine: PlanEngine, audio: np.ndarray) -> None:
    laws.assert_reset_matters(engine, audio[0], 3)


def test_the_future_changes_nothing(engine: PlanEngine, audio: np.ndarray) -> None:
    laws.assert_causal(engine, audio[0], audio[1], token=40, delay_index=3)


def test_outputs_and_states_are_those_of_onnxruntime(
    engine: PlanEngine, tiny_engine: OnnxRuntimeEngine, audio: np.ndarray
) -> None:
    found, expected = (laws.run_engine(one, audio, DELAYS, laws.random_sizes(1, 9)) for one in (engine, tiny_engine))
    laws.assert_same_heads(found, expected, TOLERANCE, "plan")
    assert close_to(dict(found.state), expected.state)


def test_hits_are_those_of_onnxruntime(engine: PlanEngine, tiny_engine: OnnxRuntimeEngine, audio: np.ndarray) -> None:
    pcm = audio[0][:-311]
    live, whole = StreamingTranscriber(engine, 3), StreamingTranscriber(tiny_engine, 3, tokens_per_call=50)
    found, expected = laws.transcribe(live, pcm, laws.every(1000)), laws.transcribe(whole, pcm, [len(pcm)])
    ties = laws.ties(laws.run_engine(tiny_engine, audio[:1], [3], [TOKENS]), engine.manifest, 3, 2 * TOLERANCE)
    laws.assert_hits_agree(found, expected, ties)
    assert len(found) > 30


@settings(max_examples=25)
@given(data=st.data())
def test_streams_that_take_turns_join_and_leave_are_as_each_alone(click_path: Path, data: st.DataObject) -> None:
    """What a pool does: batches put together by `select` from wherever streams are, and taken apart again."""
    engine, alone = plan_engine(click_path, batch=(1, 4), tokens=(1, 3)), OnnxRuntimeEngine(click_path)
    states = {stream: engine.zero_state(1) for stream in range(5)}
    expected = {stream: alone.zero_state(1) for stream in states}
    for turn in range(6):
        together = data.draw(st.lists(st.sampled_from(sorted(states)), min_size=1, max_size=4, unique=True))
        audio = noise(data.draw(st.integers(1, 5)), len(together), turn)
        delay = np.array(together, np.int64)[:, None]
        output = engine.step(audio, delay, engine.select([(states[stream], 0) for stream in together]))
        for row, stream in enumerate(together):
            states[stream] = engine.select([(output.state, row)])
            one = alone.step(audio[row : row + 1], delay[row : row + 1], expected[stream])
            expected[stream] = one.state
            assert np.array_equal(output.onset_logits[row], one.onset_logits[0])
            assert close_to(dict(states[stream]), one.state, 0.0)
    engine.close()


def test_half_states_lie_on_the_device_as_halves(tiny_onnx: Path, tmp_path: Path) -> None:
    path = tmp_path / "half.onnx"
    # As many streams as a bucket holds: with rows that only fill it up, some processors round the others otherwise.
    audio, delays = tokens_of_audio(TOKENS, streams=4, seed=7), [*DELAYS, 3]
    onnx.save(reduce(*read_graph(tiny_onnx), Precision.FP16, StatePrecision.FP16), path)
    engine, other = plan_engine(path), OnnxRuntimeEngine(path)
    found, expected = (laws.run_engine(one, audio, delays, laws.every(3)) for one in (engine, other))
    laws.assert_same_heads(found, expected, 0.0, "half states")
    assert close_to(dict(found.state), expected.state, 0.0)
    assert {name: value.dtype.name for name, value in found.state.items()}["state_keys_00"] == "float16"
    engine.close()


# --- states


def test_a_state_that_comes_again_is_not_copied(clicks: PlanEngine, device: HostDevice) -> None:
    state = clicks.step(*one_token(), clicks.zero_state(1)).state
    before = device.calls["copy"], device.calls["clear"], device.calls["allocate"]
    for _ in range(5):
        state = clicks.step(*one_token(), state).state
    assert (device.calls["copy"], device.calls["clear"], device.calls["allocate"]) == before


def test_states_that_take_turns_do_not_take_more_and_more_memory(clicks: PlanEngine, device: HostDevice) -> None:
    states = [clicks.zero_state(1) for _ in range(3)]
    used = []
    for _ in range(4):
        states = [clicks.step(*one_token(), state).state for state in states]
        gc.collect()
        used.append(len(device.memory))
    assert used[1] == used[3]


def test_a_state_is_used_once(clicks: PlanEngine) -> None:
    state = clicks.zero_state(1)
    clicks.step(*one_token(), state)
    for use in (lambda: clicks.step(*one_token(), state), lambda: clicks.select([(state, 0)]), lambda: dict(state)):
        with pytest.raises(EngineError, match="used once; `select` makes a copy"):
            use()


def test_select_leaves_what_it_was_given_as_it_is(clicks: PlanEngine) -> None:
    state = clicks.step(*one_token(2), clicks.zero_state(2)).state
    before = dict(state)
    chosen = clicks.select([(state, 1), (clicks.zero_state(1), 0), (state, 0)])
    clicks.step(*one_token(2), clicks.zero_state(2))  # takes the place where it was
    assert close_to(dict(state), before, 0.0)
    for name, value in dict(chosen).items():
        assert np.array_equal(value, [before[name][1], np.zeros_like(value[0]), before[name][0]])


def test_a_state_that_begins_takes_no_memory(clicks: PlanEngine, device: HostDevice) -> None:
    before = len(device.memory)
    assert not any(value.any() for value in clicks.zero_state(8).values())
    assert len(device.memory) == before


# --- sizes of calls


@pytest.mark.parametrize(
    ("batch", "streams", "rows"),
    [((1, 8), 1, 1), ((1, 8), 3, 4), ((1, 8), 8, 8), ((1, 6), 5, 6), ((4, 32), 1, 4), ((3, 3), 2, 3), ((5, 9), 6, 8)],
)
def test_streams_are_padded_to_few_numbers_of_rows(batch: tuple[int, int], streams: int, rows: int) -> None:
    assert PlanProfile(batch, (1, 1)).rows_for(streams) == rows


@given(st.integers(1, 20), st.integers(0, 20), st.integers(1, 200))
def test_long_calls_are_cut_into_few_that_fit(smallest: int, more: int, tokens: int) -> None:
    largest = smallest + more
    fits = any(calls * smallest <= tokens <= calls * largest for calls in range(1, tokens + 1))
    try:
        calls = PlanProfile((1, 1), (smallest, largest)).calls_for(tokens)
    except EngineError:
        assert not fits
    else:
        assert sum(calls) == tokens
        assert all(smallest <= call <= largest for call in calls)
        assert len(calls) == -(-tokens // largest)


def test_a_plan_for_fixed_calls(click_path: Path) -> None:
    engine, other = plan_engine(click_path, batch=(4, 4), tokens=(2, 2)), OnnxRuntimeEngine(click_path)
    audio = noise(12, 3)
    found, expected = (laws.run_engine(one, audio, (0, 1, 2), laws.every(6)) for one in (engine, other))
    laws.assert_same_heads(found, expected, 0.0, "fixed")
    with pytest.raises(
        EngineError, match=r"3 tokens in a call: the plan takes 2 to 2 \(--tokens\); to build it again: export-model"
    ):
        engine.step(noise(3), np.zeros((1, 1), np.int64), engine.zero_state(1))


def test_more_streams_than_the_plan_takes(clicks: PlanEngine) -> None:
    with pytest.raises(
        EngineError, match=r"click\.plan: 9 streams in a call: the plan takes 1 to 8 \(--batch\); to build it again"
    ):
        clicks.step(*one_token(9), clicks.zero_state(9))


# --- graphs


def test_the_second_call_is_captured_and_later_ones_launched(clicks: PlanEngine, device: HostDevice) -> None:
    state = clicks.zero_state(1)
    for _ in range(10):
        state = clicks.step(*one_token(), state).state
    assert device.calls["begin_capture"] == len(device.graphs) == 2  # one per block that is read
    assert device.calls["enqueue"] == 4  # two plain, two captured
    assert device.calls["launch"] == 8
    assert "without CUDA graphs" not in clicks.describe()


def test_each_graph_has_an_execution_of_its_own(click_path: Path, device: HostDevice) -> None:
    engine = plan_engine(click_path, device)
    laws.run_engine(engine, noise(40), [0], [1, 1, 2, 2, 1, 1, 1, 1, *[2] * 15])  # fails if one is changed
    assert len(engine._plan.executions) == len(engine._lanes) == 4
    engine.close()


def test_ways_to_run_that_were_not_used_for_long_are_dropped(
    click_path: Path, device: HostDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ghostnote.runtime.engines.plan_engine._KEPT_LANES", 3)
    engine, other = plan_engine(click_path, device), OnnxRuntimeEngine(click_path)
    sizes = [*[1] * 6, *[2] * 6, 3, 3, *[1] * 6]
    found, expected = (laws.run_engine(one, noise(30), [0], sizes) for one in (engine, other))
    laws.assert_same_heads(found, expected, 0.0, "dropped")
    assert len(engine._lanes) == 3
    assert len(device.graphs) <= 3
    engine.close()
    assert device.graphs == []


@pytest.mark.parametrize("fail", ["begin_capture", "end_capture", "no"])
def test_where_nothing_can_be_captured_it_runs_plainly(click_path: Path, fail: str) -> None:
    device = HostDevice(fail=[fail])
    engine, other = plan_engine(click_path, device), OnnxRuntimeEngine(click_path)
    engine._plan.can_capture = fail != "no"
    found, expected = (laws.run_engine(one, noise(9), [0], laws.every(1)) for one in (engine, other))
    laws.assert_same_heads(found, expected, 0.0, fail)
    assert device.calls["launch"] == 0
    assert device.calls["begin_capture"] == (0 if fail == "no" else 1)
    assert engine.describe() == "click (float32) on a stand-in, host memory, without CUDA graphs"


def test_a_plan_that_fails_while_it_is_captured_runs_plainly(
    clicks: PlanEngine, device: HostDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    enqueue = GraphExecution.enqueue

    def refuses(self: GraphExecution, stream: int) -> None:
        if device.captured is not None:
            raise DeviceError("not permitted when stream is capturing")
        enqueue(self, stream)

    monkeypatch.setattr(GraphExecution, "enqueue", refuses)
    state = clicks.zero_state(1)
    for _ in range(4):
        state = clicks.step(*one_token(), state).state
    assert (device.graphs, device.calls["launch"]) == ([], 0)


# --- what fails


@pytest.mark.parametrize("call", ["upload", "enqueue", "download", "synchronize", "launch"])
def test_a_step_that_fails_leaves_the_state_as_it_was(clicks: PlanEngine, device: HostDevice, call: str) -> None:
    state = clicks.zero_state(1)
    for _ in range(4 if call in ("launch", "synchronize") else 1):
        state = clicks.step(*one_token(), state).state
    kept = clicks.select([(state, 0)])
    device.fail.add(call)
    with pytest.raises(DeviceError, match=rf"click\.plan: {call} failed$") as failed:
        clicks.step(*one_token(), state)
    assert failed.value.exit_code == 7
    device.fail.clear()
    again, expected = (clicks.step(*one_token(), one) for one in (state, kept))
    assert np.array_equal(again.onset_logits, expected.onset_logits)
    assert close_to(dict(again.state), dict(expected.state), 0.0)


def test_a_long_step_that_fails_half_way_leaves_the_state_as_it_was(click_path: Path, device: HostDevice) -> None:
    engine = plan_engine(click_path, device, tokens=(1, 4))
    state = engine.step(*one_token(), engine.zero_state(1)).state
    before = dict(state)
    bad = noise(8)
    bad[0, 5 * TOKEN] = np.inf
    with pytest.raises(EngineError, match="not finite; is the input far beyond full scale"):
        engine.step(bad, np.zeros((1, 1), np.int64), state)
    assert close_to(dict(state), before, 0.0)
    engine.step(noise(8), np.zeros((1, 1), np.int64), state)
    engine.close()


@pytest.mark.parametrize("limit", [500, 20_000, 300_000, 900_000])
def test_too_little_memory_is_told_and_all_is_freed(click_path: Path, limit: int) -> None:
    device = HostDevice(limit=limit)
    with pytest.raises(EngineError, match=r"click\.plan: allocating .*out of memory; to build it again: export-model"):
        plan_engine(click_path, device)
    assert device.memory == {}
    assert device.closed


def test_memory_that_runs_out_later_ends_the_step_only(clicks: PlanEngine, device: HostDevice) -> None:
    state = clicks.step(*one_token(), clicks.zero_state(1)).state
    device.limit = 0
    with pytest.raises(DeviceError, match="out of memory"):
        clicks.step(*one_token(), clicks.zero_state(1))  # no room to park the other one
    clicks.step(*one_token(), state)


def test_closing_frees_everything_once(clicks: PlanEngine, device: HostDevice) -> None:
    state = clicks.zero_state(1)
    for _ in range(4):
        state = clicks.step(*one_token(), state).state
    plan = clicks._plan
    clicks.close()
    clicks.close()
    assert (device.memory, device.graphs, device.closed, plan.open) == ({}, [], True, False)
    for use in (lambda: clicks.step(*one_token(), state), lambda: clicks.select([(state, 0)])):
        with pytest.raises(EngineError, match=r"click\.plan: the engine is closed; open it again"):
            use()


def test_a_device_that_does_nothing_any_more_can_be_closed(clicks: PlanEngine, device: HostDevice) -> None:
    laws.run_engine(clicks, noise(6), [0], laws.every(1))
    plan = clicks._plan
    device.fail |= {"free", "discard", "close"}
    clicks.close()
    assert not plan.open


@pytest.mark.parametrize(
    ("audio", "delay", "streams"),
    [((1, 881), (1, 1), 1), ((2, 882), (1, 1), 2), ((1, 882), (1, 1), 2), ((882,), (1, 1), 1), ((1, 0), (1, 1), 1)],
)
def test_calls_that_do_not_fit_together(clicks: PlanEngine, audio: tuple, delay: tuple, streams: int) -> None:
    with pytest.raises(EngineError, match=r"expected \[B, N\] with N a multiple of 882|0 tokens in a call"):
        clicks.step(np.zeros(audio, np.float32), np.zeros(delay, np.int64), clicks.zero_state(streams))


@pytest.mark.parametrize("delay", [-1, 99])
def test_a_delay_that_the_model_does_not_have(clicks: PlanEngine, delay: int) -> None:
    with pytest.raises(EngineError, match="expected indices 0 to 5"):
        clicks.step(noise(1), np.full((1, 1), delay, np.int64), clicks.zero_state(1))


def _renamed(tensor: Tensor) -> Tensor | None:
    return Tensor("sound", True, tensor.dtype, tensor.shape, tensor.smallest, tensor.largest)


def _half(tensor: Tensor) -> Tensor | None:
    return Tensor(tensor.name, True, "float16", tensor.shape, tensor.smallest, tensor.largest)


def _wider(tensor: Tensor) -> Tensor | None:
    return Tensor(tensor.name, True, tensor.dtype, (-1, -1, 7), tensor.smallest, tensor.largest)


def _too_short(tensor: Tensor) -> Tensor | None:
    return Tensor(tensor.name, True, tensor.dtype, tensor.shape, (1, 100), (8, 800))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_renamed, r"inputs of plan and manifest differ \(audio, sound\)"),
        (_half, r"input 'audio' of the plan is float16 \[-1, -1\], the manifest says float32 \[-1, -1\]"),
        (_wider, r"input 'audio' of the plan is float32 \[-1, -1, 7\], the manifest says float32 \[-1, -1\]"),
        (_too_short, "the plan takes no call: 1 to 8 streams, 1 to 0 tokens"),
    ],
)
def test_plans_that_are_not_what_the_manifest_says(
    click_path: Path, monkeypatch: pytest.MonkeyPatch, change, message: str
) -> None:
    tensors, device = GraphPlan.tensors, HostDevice()
    monkeypatch.setattr(
        GraphPlan, "tensors", lambda plan: [change(t) if t.name == "audio" else t for t in tensors(plan)]
    )
    with pytest.raises(EngineError, match=rf"click\.plan: {message}; to build it again: export-model it"):
        plan_engine(click_path, device)
    assert device.memory == {}


def test_outputs_of_another_size(clicks: PlanEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GraphExecution, "shape", lambda *_: (1, 3, 18))
    with pytest.raises(EngineError, match=r"output 'onset_logits' of the plan has shape \(1, 3, 18\), expected \(1, 2"):
        clicks.step(*one_token(), clicks.zero_state(1))


def test_it_keeps_the_protocol(clicks: PlanEngine) -> None:
    engine: Engine = clicks
    assert engine.describe() == "click (float32) on a stand-in, host memory"
