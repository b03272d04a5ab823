"""A model repository for Triton from a model.onnx or a TensorRT plan: configuration, artifact and manifest.

    OUT/<model name>/config.pbtxt
    OUT/<model name>/manifest.json
    OUT/<model name>/1/model.onnx or model.plan

A stream is a sequence of requests; its states stay in the server (implicit state management) and begin as zeros. Triton
pairs input and output states by their place in sorted order, whatever the configuration says; the manifest's rule for
state names keeps both orders the same. The graph has no control inputs: all of them are optional, and what they would
tell the model, Triton does by itself.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ..runtime.engines.protocol import HEADS
from ..runtime.engines.sidecar import read_sidecar, sidecar_of
from ..runtime.errors import EngineError, InputError, ManifestError, OutputError, UsageError
from ..runtime.manifest import METADATA_KEY, Manifest
from .onnx_export import read_graph

__all__ = ["CONFIG_FILE", "MANIFEST_FILE", "write_repository"]

CONFIG_FILE = "config.pbtxt"
MANIFEST_FILE = "manifest.json"
VERSION = "1"
_STATE_TYPES = {"float32": "TYPE_FP32", "float16": "TYPE_FP16"}
BACKENDS = {".onnx": "onnxruntime", ".plan": "tensorrt"}
# A stream that was silent for so long has gone. Triton's own default is 1 s, which a hiccup of the network can exceed.
MAX_IDLE_US = 10_000_000
_FOLDER_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_CURRENT_FOLDER, _EXCHANGE = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of Linux


def write_repository(artifact: Path, out: Path, *, max_batch: int = 32, max_streams: int = 256) -> Path:
    """Write `out`/<model name> for a .onnx file, or for a .plan with its sidecar .plan.json; returns that folder.

    `max_batch` streams share a call at most (a plan must have been built for as many); `max_streams` are open at a time
    on each instance (each GPU), and further ones wait until one of them ends. The folder appears as a whole, also in
    place of one that an earlier call wrote.

    Raises InputError where there is no artifact, EngineError where it is not ours or not the sidecar's, UsageError for
    what Triton cannot serve, OutputError where the folder cannot be written or is not one of ours.
    """
    _check_sizes(max_batch, max_streams)
    manifest = _read_manifest(artifact, max_batch)
    name = _model_name(manifest)
    folder = out / name
    _check_replaceable(folder)
    with _written_aside(folder) as aside:
        (aside / VERSION).mkdir()
        shutil.copyfile(artifact, aside / VERSION / f"model{artifact.suffix}")
        document = json.dumps(manifest.to_dict(), indent=2, ensure_ascii=False)
        (aside / MANIFEST_FILE).write_text(document + "\n", encoding="utf-8")
        config = _config(name, manifest, artifact.suffix, max_batch, max_streams)
        (aside / CONFIG_FILE).write_text(config, encoding="utf-8")
    return folder


def _check_sizes(max_batch: int, max_streams: int) -> None:
    if not 1 <= max_batch <= max_streams:
        raise UsageError(
            f"a batch of {max_batch} with {max_streams} streams: expected 1 <= max_batch <= max_streams, "
            "since a batch holds one call of each stream at most"
        )


def _read_manifest(artifact: Path, max_batch: int) -> Manifest:
    """The manifest inside a .onnx file or beside a .plan."""
    if artifact.suffix not in BACKENDS:
        raise UsageError(f"{artifact}: Triton is given a .onnx or a .plan file; name one that export-model wrote")
    if not artifact.is_file():
        raise InputError(f"{artifact}: no such file; expected a model that export-model wrote")
    return read_graph(artifact)[1] if artifact.suffix == ".onnx" else _plan_manifest(artifact, max_batch)


def _plan_manifest(path: Path, max_batch: int) -> Manifest:
    """From the sidecar, which also tells whether Triton can load the plan."""
    manifest, record = read_sidecar(path)
    flavour = record.get("flavour")
    if flavour != "tensorrt":
        raise UsageError(
            f"{path}: a plan of {flavour}; Triton loads plans of tensorrt only: "
            "build one with TensorRT, or serve the .onnx file"
        )
    try:
        smallest, _, largest = record["profiles"][0]["batch"]
        fits = smallest <= 1 and max_batch <= largest
    except (LookupError, TypeError, ValueError) as error:
        raise EngineError(f"{sidecar_of(path)}: does not say which batches the plan takes; build it again") from error
    if not fits:
        raise UsageError(
            f"{path}: takes {smallest} to {largest} streams, and Triton makes batches of 1 to {max_batch}; "
            f"build it with --batch 1,1,{max_batch}, or choose a smaller max_batch"
        )
    if record.get("plan_sha256") != hashlib.sha256(path.read_bytes()).hexdigest():
        raise EngineError(f"{sidecar_of(path)} does not describe {path}: one of them was replaced; build it again")
    return manifest


def _model_name(manifest: Manifest) -> str:
    """The name that clients ask for; precisions other than float32 get one of their own, to be served side by side."""
    name = manifest.name if manifest.precision == "float32" else f"{manifest.name}-{manifest.precision}"
    if not _FOLDER_NAME.fullmatch(name):
        raise UsageError(
            f"model name '{name}' cannot name a folder; expected letters, digits, '_', '-' and '.': export it renamed"
        )
    return name


def _config(name: str, manifest: Manifest, suffix: str, max_batch: int, max_streams: int) -> str:
    """config.pbtxt: protobuf text of Triton's ModelConfig."""
    # Plans run on GPUs only; for ONNX, Triton takes the GPUs where there are some.
    kind = "KIND_GPU" if suffix == ".plan" else "KIND_AUTO"
    return f"""\
# Written by ghostnote. Exporting again replaces this folder as a whole, with any change made here.
# audio: whole tokens of {manifest.samples_per_token} samples at {manifest.sample_rate} Hz;
# outputs: {manifest.frames_per_token} frames per token.
name: "{name}"
backend: "{BACKENDS[suffix]}"
max_batch_size: {max_batch}
{_tensors(manifest)}
{_sequences(manifest, max_batch, max_streams)}
instance_group [
  {{ kind: {kind} count: 1 }}
]
# The manifest again, so that clients can ask the server for it.
parameters {{
  key: "{METADATA_KEY}"
  value: {{ string_value: {_quoted(manifest.to_json())} }}
}}
"""


def _tensors(manifest: Manifest) -> str:
    """What a request brings and gets. Shapes leave out the batch, which Triton puts in front."""
    inputs = [_tensor("audio", "TYPE_FP32", [-1]), _tensor("delay", "TYPE_INT64", [1])]
    outputs = [_tensor(head, "TYPE_FP32", [-1, manifest.n_classes]) for head in HEADS]
    return f"""\
input [
{_joined(inputs)}
]
output [
{_joined(outputs)}
]"""


def _sequences(manifest: Manifest, max_batch: int, max_streams: int) -> str:
    """How streams are batched, and the states that Triton keeps for them."""
    states = [
        _state(state, _STATE_TYPES[manifest.state_type(state)], manifest.states[state])
        for state in sorted(manifest.states)
    ]
    return f"""\
sequence_batching {{
  max_sequence_idle_microseconds: {MAX_IDLE_US}
  # Batches what is waiting, without waiting for more: a stream that is alone pays no delay.
  oldest {{
    max_candidate_sequences: {max_streams}
    preferred_batch_size: [ {max_batch} ]
  }}
  state [
{_joined(states)}
  ]
}}"""


def _tensor(name: str, data_type: str, dims: Sequence[int]) -> str:
    return f'  {{ name: "{name}" data_type: {data_type} dims: {_dims(dims)} }}'


def _state(name: str, data_type: str, dims: Sequence[int]) -> str:
    return f"""\
    {{
      input_name: "{name}"
      output_name: "{name}_out"
      data_type: {data_type}
      dims: {_dims(dims)}
      initial_state: {{ name: "zeros" data_type: {data_type} dims: {_dims(dims)} zero_data: true }}
    }}"""


def _dims(dims: Sequence[int]) -> str:
    return f"[ {', '.join(map(str, dims))} ]"


def _joined(blocks: Sequence[str]) -> str:
    return ",\n".join(blocks)


def _quoted(json_text: str) -> str:
    """A protobuf text literal; JSON has escaped line ends and control characters already."""
    escaped = json_text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _check_replaceable(folder: Path) -> None:
    """Only a folder that holds what we write, and nothing else, may be replaced."""
    if not os.path.lexists(folder):
        return
    ours = {Path(CONFIG_FILE), Path(MANIFEST_FILE), Path(VERSION)}
    ours |= {Path(VERSION, f"model{suffix}") for suffix in BACKENDS}
    found = {path.relative_to(folder) for path in folder.rglob("*")}
    if not folder.is_dir() or folder.is_symlink() or not _has_manifest(folder):
        raise OutputError(f"{folder}: is there and was not written by ghostnote; name another folder or move it away")
    if found - ours:
        foreign = ", ".join(sorted(path.as_posix() for path in found - ours)[:3])
        raise OutputError(f"{folder}: holds {foreign}, which exporting again would delete; move it away")


def _has_manifest(folder: Path) -> bool:
    try:
        Manifest.from_json((folder / MANIFEST_FILE).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ManifestError):
        return False
    return True


@contextmanager
def _written_aside(folder: Path) -> Iterator[Path]:
    """A folder to write to, which becomes `folder` at the end. Raises OutputError where anything cannot be written.

    It lies beside the repository, not inside: Triton takes every folder of a repository for a model, so that what a
    killed run leaves there would keep a server from starting.
    """
    out = folder.parent.resolve()
    aside = out.with_name(f".{out.name}.{folder.name}.{os.getpid()}.partial")
    try:
        out.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(aside, ignore_errors=True)  # of a killed run with our number, which in containers often is 1
        aside.mkdir()
        try:
            yield aside
            _put_in_place(aside, folder)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written ({error.strerror or error})") from error


def _put_in_place(aside: Path, folder: Path) -> None:
    """Give `aside` its final name; an older folder of that name is at `aside` afterwards."""
    if not folder.exists():
        aside.rename(folder)
    elif not _exchange(aside, folder):
        older = aside.with_suffix(".older")
        folder.rename(older)
        try:
            aside.rename(folder)
        except OSError:
            older.rename(folder)
            raise
        older.rename(aside)


def _exchange(one: Path, other: Path) -> bool:
    """Swap two folders in one step; False where the system or the file system cannot (then nothing has happened)."""
    try:
        renameat2 = ctypes.CDLL(None).renameat2
    except AttributeError:  # not Linux
        return False
    return renameat2(_CURRENT_FOLDER, os.fsencode(one), _CURRENT_FOLDER, os.fsencode(other), _EXCHANGE) == 0
