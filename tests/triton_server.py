"""A stand-in for a Triton server: the few calls that the client makes, answered as Triton documents them.

It loads a model repository as written, and takes all that it knows from config.pbtxt: a request's tensors are checked
against it, a sequence's states begin as it says, and are paired as Triton pairs them, by place in sorted order.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from math import prod
from pathlib import Path

import grpc
import numpy as np
import onnxruntime
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc

NUMPY = {"FP32": np.float32, "FP16": np.float16, "INT64": np.int64}

Arrays = dict[str, np.ndarray]


def read_config(folder: Path) -> model_config_pb2.ModelConfig:
    """config.pbtxt, by Triton's own schema: unknown fields and values are errors."""
    return text_format.Parse((folder / "config.pbtxt").read_text(encoding="utf-8"), model_config_pb2.ModelConfig())


class RefusedError(Exception):
    """A request that Triton answers with an error message."""


class TritonStandIn(service_pb2_grpc.GRPCInferenceServiceServicer):
    """One model, one instance, sequences batched one by one."""

    def __init__(self, folder: Path) -> None:
        self.config = read_config(folder)
        model = folder / "1" / "model.onnx"
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        self._lock = threading.Lock()
        self.sequences: dict[int, Arrays] = {}
        self.requests = 0

    def ModelConfig(self, request, context):  # noqa: N802 - the name of the call
        if request.name != self.config.name:
            context.abort(grpc.StatusCode.NOT_FOUND, f"Request for unknown model: '{request.name}' is not found")
        return service_pb2.ModelConfigResponse(config=self.config)

    def ModelStreamInfer(self, request_iterator, context):  # noqa: N802 - the name of the call
        for request in request_iterator:
            try:
                with self._lock:
                    answer = self._infer(request)
                yield service_pb2.ModelStreamInferResponse(infer_response=answer)
            except RefusedError as refusal:
                yield service_pb2.ModelStreamInferResponse(error_message=str(refusal))

    def _infer(self, request):
        self.requests += 1
        parameters = request.parameters
        sequence = parameters["sequence_id"].int64_param
        inputs = self._inputs(request)
        if parameters["sequence_start"].bool_param:
            self.sequences[sequence] = self._initial_states()
        if sequence not in self.sequences:
            raise RefusedError(
                f"inference request for sequence {sequence} must specify the START flag on the first request"
            )
        outputs = self._run(inputs | self.sequences[sequence])
        self.sequences[sequence] = self._next_states(outputs)
        if parameters["sequence_end"].bool_param:
            del self.sequences[sequence]
        return self._answer(outputs)

    def _inputs(self, request) -> Arrays:
        """The request's tensors [1, ...]; the sequence batcher takes no others."""
        expected = {tensor.name: tensor for tensor in self.config.input}
        if {tensor.name for tensor in request.inputs} != set(expected):
            raise RefusedError(f"expected inputs {sorted(expected)}")
        arrays = {}
        for tensor, raw in zip(request.inputs, request.raw_input_contents, strict=True):
            known, shape = expected[tensor.name], tuple(tensor.shape)
            kind = model_config_pb2.DataType.Name(known.data_type)
            fits = len(shape) == len(known.dims) + 1 and shape[0] == 1
            fits &= all(want in (-1, have) for have, want in zip(shape[1:], known.dims, strict=False))
            if f"TYPE_{tensor.datatype}" != kind or not fits:
                raise RefusedError(f"unexpected {tensor.datatype} {shape} for inference input '{tensor.name}'")
            arrays[tensor.name] = np.frombuffer(raw, NUMPY[tensor.datatype]).reshape(shape)
        return arrays

    def _initial_states(self) -> Arrays:
        """By input name; without `zero_data` Triton leaves memory as it finds it, here: filled with noise."""
        states = {}
        for state in self.config.sequence_batching.state:
            zero = [initial for initial in state.initial_state if initial.zero_data]
            shape = (1, *(zero[0].dims if zero else state.dims))
            dtype = NUMPY[model_config_pb2.DataType.Name(state.data_type).removeprefix("TYPE_")]
            noise = np.random.default_rng(0).standard_normal(prod(shape), np.float32).astype(dtype)
            states[state.input_name] = np.zeros(shape, dtype) if zero else noise.reshape(shape)
        return states

    def _next_states(self, outputs: Arrays) -> Arrays:
        states = self.config.sequence_batching.state
        inputs = sorted(state.input_name for state in states)
        return dict(zip(inputs, (outputs[name] for name in sorted(s.output_name for s in states)), strict=True))

    def _run(self, feed: Arrays) -> Arrays:
        names = [value.name for value in self._session.get_outputs()]
        return dict(zip(names, self._session.run(names, feed), strict=True))

    def _answer(self, outputs: Arrays):
        """What the configuration lists as outputs; states are not among them."""
        answer = service_pb2.ModelInferResponse(model_name=self.config.name, model_version="1")
        for tensor in self.config.output:
            value = outputs[tensor.name]
            answer.outputs.add(name=tensor.name, datatype="FP32", shape=value.shape)
            answer.raw_output_contents.append(value.tobytes())
        return answer


@contextmanager
def serving(folder: Path) -> Iterator[tuple[str, TritonStandIn]]:
    """Serve the model of a repository folder on a free port: (host:port, the stand-in)."""
    stand_in = TritonStandIn(folder)
    server = grpc.server(ThreadPoolExecutor(4))
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(stand_in, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}", stand_in
    finally:
        server.stop(None).wait()
