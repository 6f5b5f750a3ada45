"""What the CADA head costs: the numbers it stores, and its share of the graph's latency.

The latency is that of the exported graph against the same graph cut down to the raw map and
its score. Both run on one thread in turns, A B B A, and what is counted is the time that this
thread computes: on an idle machine that is the latency, and on a busy one, other than the time
on the wall, it leaves out the waiting. The share is taken pair by pair.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnx import numpy_helper
from safetensors.numpy import load

from cada_edge.bundle import MODEL, Bundle
from cada_edge.export.graph import drop_unused
from cada_edge.export.normalise import DOMAIN, OP_TYPE
from cada_edge.export.onnx import INPUT
from cada_edge.types import UInt8Array

_WARM_UP_PAIRS = 10
_Times = npt.NDArray[np.float64]


@dataclass(frozen=True)
class HeadCost:
    """Of one bundle on this machine.

    Attributes:
        head_numbers: numbers the head stores, weights and constants.
        model_numbers: numbers the whole model stores, encoder and memory banks included.
        latency_share: median over pairs of (with - without) / with; noise may take it below 0.
        latency_share_p25: lower quartile of the pairs.
        latency_share_p75: upper quartile of the pairs.
        graph_ms: median computing time of the whole graph, one image, one thread.
        pairs: how many.
    """

    head_numbers: int
    model_numbers: int
    latency_share: float
    latency_share_p25: float
    latency_share_p75: float
    graph_ms: float
    pairs: int


def head_cost(bundle: Bundle, pairs: int) -> HeadCost:
    """Measure an exported bundle on the CPU, one image at a time on one thread.

    Raises `BundleError` when the bundle has no graph.
    """
    model = bundle.file(MODEL, "export it first")
    image = np.random.default_rng(0).integers(0, 256, (1, *bundle.manifest.spec.size_hw, 3), np.uint8)
    whole, bare = _times(_session(model), _session(without_head(model)), image, pairs)
    share = (whole - bare) / whole
    low, middle, high = (float(q) for q in np.percentile(share, (25, 50, 75)))
    return HeadCost(
        head_numbers=_numbers(bundle, "head.safetensors"),
        model_numbers=sum(_numbers(bundle, name) for name in bundle.files if name.endswith(".safetensors")),
        latency_share=middle,
        latency_share_p25=low,
        latency_share_p75=high,
        graph_ms=float(np.median(whole)),
        pairs=pairs,
    )


def without_head(model: bytes) -> bytes:
    """The exported graph cut down to ``score`` and ``map`` before alignment."""
    proto = onnx.load_from_string(model)
    graph = proto.graph
    aligner = next(node for node in graph.node if (node.domain, node.op_type) == (DOMAIN, OP_TYPE))
    # Mean 0 and maximum 1 for every image: the fused node then leaves the map as it is.
    for index, value in ((-2, 0.0), (-1, 1.0)):
        name = f"without_head/{value:g}"
        graph.initializer.append(numpy_helper.from_array(np.array([value], np.float32), name))
        aligner.input[index] = name
    kept = [output for output in graph.output if output.name in aligner.output]
    del graph.output[:]
    graph.output.extend(kept)
    drop_unused(graph)
    return bytes(proto.SerializeToString())


def _session(graph: bytes) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def _times(
    whole: ort.InferenceSession, bare: ort.InferenceSession, image: UInt8Array, pairs: int
) -> tuple[_Times, _Times]:
    """Milliseconds of computing of each run: two float64 (pairs,)."""
    times = np.empty((pairs, 2))
    for pair in range(-_WARM_UP_PAIRS, pairs):
        for which in (0, 1) if pair % 2 == 0 else (1, 0):
            start = time.thread_time_ns()
            (whole, bare)[which].run(None, {INPUT: image})
            if pair >= 0:
                times[pair, which] = (time.thread_time_ns() - start) / 1e6
    return times[:, 0], times[:, 1]


def _numbers(bundle: Bundle, name: str) -> int:
    """How many numbers a safetensors file of the bundle holds."""
    return sum(tensor.size for tensor in load(bundle.file(name)).values())
