"""Look inside a graph: run it and read tensors that are no outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
from onnx import ModelProto, helper

from cada_edge.errors import EngineError
from cada_edge.export.zones import Zones, key
from cada_edge.types import Float32Array, UInt8Array


class Taps:
    """Tensors `names` of a graph, for batches of images. Called like a function.

    Raises `EngineError` when ONNX Runtime cannot load or run the graph.
    """

    def __init__(self, proto: ModelProto, names: Sequence[str]) -> None:
        self.names, self._input = list(names), proto.graph.input[0].name
        tapped = ModelProto()
        tapped.CopyFrom(proto)
        del tapped.graph.output[:]
        tapped.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
        options = ort.SessionOptions()
        options.log_severity_level = 3  # errors only
        options.use_deterministic_compute = True
        try:
            self._session = ort.InferenceSession(
                tapped.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime's exceptions share no base but Exception
            raise EngineError(f"ONNX Runtime cannot load the graph with {names} as outputs: {error}") from error

    def __call__(self, batch: UInt8Array) -> dict[str, npt.NDArray[Any]]:
        """Tensors by name, for uint8 (N, H, W, 3)."""
        try:
            found = self._session.run(self.names, {self._input: np.ascontiguousarray(batch)})
        except Exception as error:  # as above
            raise EngineError(f"ONNX Runtime failed on a batch of {len(batch)}: {error}") from error
        return dict(zip(self.names, found, strict=True))


def descriptor_tensors(proto: ModelProto, zones: Zones) -> list[str]:
    """What the head reads of the encoder: the pooled maps, each (N, C)."""
    network = {name for node in proto.graph.node if key(node) in zones.network for name in node.output}
    return [key(n) for n in proto.graph.node if key(n) in zones.expectation and network.intersection(n.input)]


def describe(taps: Taps, batch: UInt8Array) -> Float32Array:
    """float32 (N, D): the tensors of `taps`, joined."""
    return np.concatenate([values.reshape(len(batch), -1) for values in taps(batch).values()], axis=1)
