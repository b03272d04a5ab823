"""The model repository: its configuration by Triton's own schema, what is refused, and that it appears as a whole."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest

from ghostnote.export import triton
from ghostnote.export.choices import Precision, StatePrecision
from ghostnote.export.onnx_export import attach_manifest, read_graph
from ghostnote.export.pipeline import reduce
from ghostnote.export.triton import write_repository
from ghostnote.runtime.engines.opening import model_file
from ghostnote.runtime.errors import EngineError, GhostnoteError, InputError, ManifestError, OutputError, UsageError
from ghostnote.runtime.manifest import METADATA_KEY, Manifest

ONNX_TYPES = {
    onnx.TensorProto.FLOAT: "TYPE_FP32",
    onnx.TensorProto.FLOAT16: "TYPE_FP16",
    onnx.TensorProto.INT64: "TYPE_INT64",
}


@pytest.fixture(scope="module")
def model() -> Path:
    """A bundled model."""
    return Path(str(model_file("small")))


@pytest.fixture(scope="module")
def manifest(model: Path) -> Manifest:
    (text,) = (entry.value for entry in onnx.load(model).metadata_props if entry.key == METADATA_KEY)
    return Manifest.from_json(text)


@pytest.fixture
def plan(tmp_path: Path, manifest: Manifest) -> Path:
    return write_plan(tmp_path / "small.plan", manifest)


def write_plan(
    path: Path, manifest: Manifest, flavour: str = "tensorrt", batch: tuple[int, int, int] = (1, 1, 32)
) -> Path:
    """Something in the place of a plan (nothing here runs it), and a sidecar."""
    path.write_bytes(b"plan")
    record = {"flavour": flavour, "version": "11.4", "profiles": [{"batch": batch, "tokens": (1, 1, 96)}]}
    sidecar = manifest.to_dict() | {"plan": record | {"plan_sha256": hashlib.sha256(b"plan").hexdigest()}}
    path.with_name(f"{path.name}.json").write_text(json.dumps(sidecar))
    return path


def config_of(folder: Path) -> Any:
    pytest.importorskip("tritonclient.grpc", reason="Triton's schema is not installed; pip install 'ghostnote[triton]'")
    from triton_server import read_config

    return read_config(folder)


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def onnx_shape(value: onnx.ValueInfoProto) -> list[int]:
    """Without the batch; axes with a name are free."""
    return [-1 if axis.dim_param else axis.dim_value for axis in value.type.tensor_type.shape.dim][1:]


# --- the folder


def test_the_folder_holds_configuration_manifest_and_model(model: Path, manifest: Manifest, tmp_path: Path) -> None:
    folder = write_repository(model, tmp_path / "new" / "repository")
    assert folder == tmp_path / "new" / "repository" / "small"
    assert files(folder) == {"config.pbtxt", "manifest.json", "1/model.onnx"}
    assert (folder / "1" / "model.onnx").read_bytes() == model.read_bytes()
    assert Manifest.from_json((folder / "manifest.json").read_text(encoding="utf-8")) == manifest


def test_a_plan_goes_to_the_tensorrt_backend(plan: Path, tmp_path: Path) -> None:
    folder = write_repository(plan, tmp_path / "out", max_batch=8)
    assert files(folder) == {"config.pbtxt", "manifest.json", "1/model.plan"}
    config = config_of(folder)
    assert (config.backend, config.max_batch_size) == ("tensorrt", 8)
    assert [group.kind for group in config.instance_group] == [config.instance_group[0].KIND_GPU]


def test_precisions_are_served_side_by_side(manifest: Manifest, tmp_path: Path) -> None:
    half = write_plan(tmp_path / "half.plan", replace(manifest, precision="float16"))
    assert write_repository(half, tmp_path / "out").name == "small-float16"


# --- the configuration


@pytest.mark.parametrize("batch", [(1, 1, 8), (2, 2, 32)])
def test_a_plan_of_other_batches_than_tritons_is_refused(
    manifest: Manifest, tmp_path: Path, batch: tuple[int, int, int]
) -> None:
    plan = write_plan(tmp_path / "small.plan", manifest, batch=batch)
    with pytest.raises(UsageError, match=rf"takes {batch[0]} to {batch[2]} streams, .* --batch 1,1,32"):
        write_repository(plan, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_plan_that_is_not_the_sidecars_is_refused(plan: Path, tmp_path: Path) -> None:
    plan.write_bytes(b"another plan")
    with pytest.raises(
        EngineError, match=r"small\.plan\.json does not describe .*small\.plan: one of them was replaced"
    ):
        write_repository(plan, tmp_path / "out")


def test_a_sidecar_that_tells_no_batches_is_refused(plan: Path, tmp_path: Path) -> None:
    sidecar = plan.with_name("small.plan.json")
    sidecar.write_text(sidecar.read_text().replace('"profiles"', '"others"'))
    with pytest.raises(EngineError, match="does not say which batches"):
        write_repository(plan, tmp_path / "out")


@pytest.mark.parametrize("states", list(StatePrecision))
def test_tensors_are_those_of_the_graph(model: Path, tmp_path: Path, states: StatePrecision) -> None:
    if states is StatePrecision.FP16:
        proto = reduce(*read_graph(model), Precision.FP16, states)
        model = tmp_path / "half.onnx"
        onnx.save(proto, model)
    config = config_of(write_repository(model, tmp_path))
    graph = onnx.load(model).graph
    states = config.sequence_batching.state
    inputs = {t.name: t for t in config.input} | {s.input_name: s for s in states}
    outputs = {t.name: t for t in config.output} | {s.output_name: s for s in states}
    kinds = type(config.input[0]).DESCRIPTOR.fields_by_name["data_type"].enum_type.values_by_number
    for values, tensors in ((graph.input, inputs), (graph.output, outputs)):
        assert {value.name for value in values} == set(tensors)
        for value in values:
            tensor = tensors[value.name]
            assert kinds[tensor.data_type].name == ONNX_TYPES[value.type.tensor_type.elem_type], value.name
            assert all(want in (-1, have) for have, want in zip(tensor.dims, onnx_shape(value), strict=True)), (
                value.name
            )
    assert list(inputs["audio"].dims) == [-1]
    assert list(inputs["delay"].dims) == [1]


def test_states_begin_as_zeros_and_are_paired_also_by_sorted_name(
    model: Path, manifest: Manifest, tmp_path: Path
) -> None:
    states = config_of(write_repository(model, tmp_path)).sequence_batching.state
    pairs = [(state.input_name, state.output_name) for state in states]
    assert pairs == [(name, f"{name}_out") for name in sorted(manifest.states)]
    assert pairs == list(zip(*(sorted(side) for side in zip(*pairs, strict=True)), strict=True))
    for state in states:
        (initial,) = state.initial_state
        assert initial.WhichOneof("state_data") == "zero_data"
        assert initial.zero_data
        assert initial.name  # Triton refuses one without
        assert list(initial.dims) == list(state.dims) == list(manifest.states[state.input_name])
        assert initial.data_type == state.data_type


def test_sequences_are_batched_oldest_first_without_control_inputs(model: Path, tmp_path: Path) -> None:
    config = config_of(write_repository(model, tmp_path, max_batch=16, max_streams=100))
    batching = config.sequence_batching
    assert (config.name, config.backend, config.max_batch_size) == ("small", "onnxruntime", 16)
    assert batching.WhichOneof("strategy_choice") == "oldest"
    assert batching.oldest.max_candidate_sequences == 100
    assert list(batching.oldest.preferred_batch_size) == [16]
    assert batching.oldest.max_queue_delay_microseconds == 0
    assert list(batching.control_input) == []
    assert batching.max_sequence_idle_microseconds == 10_000_000
    assert [(group.count, group.kind) for group in config.instance_group] == [(1, config.instance_group[0].KIND_AUTO)]


def test_clients_get_the_manifest_from_the_configuration(manifest: Manifest, tmp_path: Path) -> None:
    awkward = replace(manifest, notes=('quote " backslash \\ line\nend', "Übung – 𝄞"))
    folder = write_repository(write_plan(tmp_path / "a.plan", awkward), tmp_path / "out")
    assert Manifest.from_json(config_of(folder).parameters[METADATA_KEY].string_value) == awkward


# --- refusals


def test_a_plan_for_rtx_is_refused(manifest: Manifest, tmp_path: Path) -> None:
    plan = write_plan(tmp_path / "small.plan", manifest, flavour="tensorrt-rtx")
    with pytest.raises(UsageError, match="a plan of tensorrt-rtx; Triton loads plans of tensorrt only"):
        write_repository(plan, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("sidecar", "error", "message"),
    [
        (None, InputError, "plan.json: cannot be read"),
        ("{", EngineError, "plan.json: not JSON"),
        ("[]", EngineError, "plan.json: expected a manifest"),
        ('{"plan": 1}', EngineError, "plan.json: expected a manifest"),
        ('{"plan": {"flavour": "tensorrt"}}', ManifestError, "small.plan.json: manifest"),
    ],
)
def test_a_sidecar_that_does_not_serve(
    plan: Path, tmp_path: Path, sidecar: str | None, error: type[GhostnoteError], message: str
) -> None:
    path = plan.with_name("small.plan.json")
    path.unlink() if sidecar is None else path.write_text(sidecar)
    with pytest.raises(error, match=message):
        write_repository(plan, tmp_path / "out")


def test_files_that_are_no_models_of_ours(tmp_path: Path) -> None:
    broken, foreign, checkpoint = (tmp_path / name for name in ("broken.onnx", "foreign.onnx", "model.pt"))
    broken.write_bytes(b"not protobuf")
    onnx.save(onnx.ModelProto(), foreign)
    checkpoint.touch()
    for path, error, message in (
        (broken, EngineError, "not an ONNX file"),
        (foreign, EngineError, "not a ghostnote model"),
        (checkpoint, UsageError, r"a \.onnx or a \.plan file"),
        (tmp_path / "missing.onnx", InputError, "no such file"),
    ):
        with pytest.raises(error, match=message):
            write_repository(path, tmp_path / "out")


@pytest.mark.parametrize("sizes", [{"max_batch": 0}, {"max_batch": 8, "max_streams": 4}])
def test_sizes_that_make_no_sense(model: Path, tmp_path: Path, sizes: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="1 <= max_batch <= max_streams"):
        write_repository(model, tmp_path, **sizes)


def test_a_name_that_leads_elsewhere(manifest: Manifest, tmp_path: Path) -> None:
    plan = write_plan(tmp_path / "a.plan", replace(manifest, name="../elsewhere"))
    with pytest.raises(UsageError, match="cannot name a folder"):
        write_repository(plan, tmp_path / "out")


# --- replacing


@pytest.mark.parametrize("system_swaps", [True, False])
def test_our_own_folder_is_replaced_as_a_whole(
    plan: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, system_swaps: bool
) -> None:
    if not system_swaps:
        monkeypatch.setattr(triton, "_exchange", lambda _one, _other: False)
    folder = write_repository(plan, tmp_path / "out")
    assert write_repository(model, tmp_path / "out") == folder
    assert files(tmp_path / "out") == {f"small/{name}" for name in ("config.pbtxt", "manifest.json", "1/model.onnx")}
    assert leftovers(tmp_path) == []


def test_a_foreign_folder_is_refused(model: Path, tmp_path: Path) -> None:
    (tmp_path / "small").mkdir()
    (tmp_path / "small" / "config.pbtxt").write_text('name: "small"')
    with pytest.raises(OutputError, match="not written by ghostnote"):
        write_repository(model, tmp_path)
    assert files(tmp_path) == {"small/config.pbtxt"}


def test_what_was_added_to_our_folder_is_not_deleted(model: Path, tmp_path: Path) -> None:
    added = write_repository(model, tmp_path) / "2" / "model.onnx"
    added.parent.mkdir()
    added.touch()
    with pytest.raises(OutputError, match=r"2/model\.onnx"):
        write_repository(model, tmp_path)
    assert added.exists()


def test_a_link_is_not_followed(model: Path, tmp_path: Path) -> None:
    folder = write_repository(model, tmp_path / "real")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "small").symlink_to(folder)
    with pytest.raises(OutputError, match="not written by ghostnote"):
        write_repository(model, tmp_path / "out")


@pytest.mark.parametrize("older", [True, False])
def test_a_failure_half_way_leaves_what_was_there(
    plan: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, older: bool
) -> None:
    if older:
        write_repository(plan, tmp_path / "out")

    def full_disk(_source: Path, target: Path) -> None:
        target.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full_disk)
    with pytest.raises(OutputError, match="small: cannot be written \\(No space left on device\\)"):
        write_repository(model, tmp_path / "out")
    expected = {"small/config.pbtxt", "small/manifest.json", "small/1/model.plan"} if older else set()
    assert files(tmp_path / "out") == expected
    assert leftovers(tmp_path) == []


def test_a_killed_run_leaves_nothing_where_a_server_looks(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed: not even the cleaning up runs."""

    class KilledError(BaseException):
        pass

    def killed(_aside: Path, _folder: Path) -> None:
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(triton, "_put_in_place", killed)
        patch.setattr(shutil, "rmtree", lambda *_arguments, **_options: None)
        with pytest.raises(KilledError):
            write_repository(model, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []
    (aside,) = leftovers(tmp_path)
    assert aside.startswith(".out.small.")
    assert write_repository(model, tmp_path / "out").is_dir()  # the next run, here of the same number
    assert leftovers(tmp_path) == []


def test_a_failed_swap_puts_the_older_folder_back(
    plan: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_repository(plan, tmp_path / "out")
    monkeypatch.setattr(triton, "_exchange", lambda _one, _other: False)
    rename = Path.rename

    def refuse_the_new(self: Path, target: Path) -> Path:
        if self.name.endswith(".partial"):
            raise OSError(5, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse_the_new)
    with pytest.raises(OutputError, match="Input/output error"):
        write_repository(model, tmp_path / "out")
    assert "small/1/model.plan" in files(tmp_path / "out")
    assert leftovers(tmp_path) == []


def test_out_is_a_file(model: Path, tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        write_repository(model, tmp_path / "out")


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


def test_a_graph_with_another_manifest_is_described_by_that(model: Path, manifest: Manifest, tmp_path: Path) -> None:
    """The manifest is read from the file itself, whatever the file is called."""
    proto = onnx.load(model)
    attach_manifest(proto, replace(manifest, name="other"))
    onnx.save(proto, tmp_path / "base.onnx")
    assert write_repository(tmp_path / "base.onnx", tmp_path / "out").name == "other"
