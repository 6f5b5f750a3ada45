"""Runs a bundle's ONNX graph with OpenVINO, on the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import openvino

from cada_edge.bundle import Bundle
from cada_edge.bundle_runner import BundleRunner
from cada_edge.errors import EngineError
from cada_edge.runtime.runners.how import How
from cada_edge.runtime.runners.ort import without_functions
from cada_edge.runtime.runners.reuse import Reused
from cada_edge.types import Prediction, UInt8Array

_OUTPUTS = ("score", "map", "u", "gamma", "novelty")


class OpenVinoRunner(BundleRunner):
    """A `Runner` over OpenVINO, for one thread at a time. A context manager that owns its model.

    OpenVINO cannot read a graph with functions, so ONNX Runtime writes their bodies out first. The graph
    is compiled for one picture and for the batch of `how`, before the first call; others are cut into these.

    Args:
        bundle: read with `Bundle.read`, hence verified.
        how: precision, threads, options of the graph, batch.

    Raises:
        BundleError: the bundle holds no such graph.
        UnsafeFileError: the graph refers to other files.
        EngineError: the graph does not fit the bundle's contract, or cannot be compiled.
    """

    def __init__(self, bundle: Bundle, how: How) -> None:
        self._graph, fixed = without_functions(bundle, how.precision, folded=how.graph.level == "basic")
        super().__init__(bundle, fixed)
        self._settings: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": "f32",  # else rounded to bfloat16 where the processor has it
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            **({} if how.threads is None else {"INFERENCE_NUM_THREADS": how.threads}),
        }
        self._core, self._maps = openvino.Core(), Reused()
        sizes = [fixed] if fixed else sorted({how.batch, 1}, reverse=True)
        self._requests = {size: self._compiled(size) for size in sizes}
        self._graph = b""

    def _infer(self, batch: UInt8Array) -> Prediction:
        parts, at = list[Prediction](), 0
        while at < len(batch):
            size = next(one for one in self._requests if one <= len(batch) - at)
            parts.append(self._call(self._requests[size], batch[at : at + size]))
            at += size
        return parts[0] if len(parts) == 1 else Prediction.concatenate(parts)

    def _call(self, request: Any, batch: UInt8Array) -> Prediction:
        try:
            found = request.infer({"image": np.ascontiguousarray(batch)}, share_inputs=True, share_outputs=True)
            score, maps, *others = (found[name] for name in _OUTPUTS)
            return Prediction(score.copy(), self._maps.copy(maps), *(other.copy() for other in others))
        except RuntimeError as error:
            raise EngineError(f"OpenVINO failed on a batch of {len(batch)}: {error}") from error

    def _compiled(self, batch: int) -> Any:
        try:
            model = self._core.read_model(self._graph)
            model.reshape({"image": [batch, *self.spec.size_hw, 3]})
            return self._core.compile_model(model, "CPU", self._settings).create_infer_request()
        except RuntimeError as error:
            last = str(error).strip().splitlines()[-1]
            raise EngineError(f"OpenVINO cannot run the graph for a batch of {batch}: {last}") from error

    def _release(self) -> None:
        self._requests.clear()
