"""Milliseconds of a peer and of its bare encoder, in turns, on one CPU."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnxruntime
import torch
from peer_encoder import FromPixels, Peer
from torch import Tensor, nn

from cada_edge.errors import ExportError
from cada_edge.export.onnx import trace
from cada_edge.models import Encoder
from cada_edge.types import UInt8Array

Run = Callable[[], object]
_WARM_UP = 10


def compare(peer: Peer, encoder: Encoder, runs: int, threads: int) -> dict[str, dict[str, Any]]:
    """Per backend the medians of both, milliseconds at batch 1, and their ratio.

    Backends: torch, ONNX Runtime, and OpenVINO where it is installed. Where a peer cannot be
    exported the entry holds the reason instead.
    """
    image = np.random.default_rng(0).integers(0, 256, (1, *peer.spec.size_hw, 3), np.uint8)
    pair = {"peer": FromPixels(peer.net, peer.spec).eval(), "encoder": FromPixels(encoder, peer.spec).eval()}
    example = torch.from_numpy(image)
    found = {"torch": _timed({name: in_torch(net, example, threads) for name, net in pair.items()}, runs)}
    try:
        graphs = {
            name: trace(net, example, [f"out{i}" for i in range(_outputs(net, example))]).SerializeToString()
            for name, net in pair.items()
        }
    except ExportError as error:
        return {**found, "onnxruntime": {"reason": str(error)}}
    found["onnxruntime"] = _timed({name: in_onnxruntime(g, image, threads) for name, g in graphs.items()}, runs)
    if importlib.util.find_spec("openvino"):
        found["openvino"] = _timed({name: in_openvino(g, image, threads) for name, g in graphs.items()}, runs)
    return found


def _outputs(net: nn.Module, example: Tensor) -> int:
    with torch.inference_mode():
        return len(net(example))


def _timed(calls: Mapping[str, Run], runs: int) -> dict[str, Any]:
    """Medians of both and the median ratio of neighbours in time."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for i in range(runs + _WARM_UP):
        for name, call in calls.items():
            start = time.perf_counter_ns()
            call()
            if i >= _WARM_UP:
                times[name].append((time.perf_counter_ns() - start) / 1e6)
    medians = {f"{name}_p50_ms": float(np.median(values)) for name, values in times.items()}
    return {**medians, "ratio": float(np.median(np.divide(times["peer"], times["encoder"]))), "times_ms": times}


def in_torch(net: nn.Module, example: Tensor, threads: int) -> Run:
    """One call of `net` in eager torch."""
    torch.set_num_threads(threads)

    def run() -> object:
        with torch.inference_mode():
            return net(example)

    return run


def in_onnxruntime(graph: bytes, image: UInt8Array, threads: int) -> Run:
    """One call of `graph` in ONNX Runtime as it comes."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {session.get_inputs()[0].name: image})


def in_openvino(graph: bytes, image: UInt8Array, threads: int) -> Run:
    """One call of `graph` in OpenVINO, for that size, in float32, as cada-edge runs it."""
    import openvino  # optional

    core = openvino.Core()
    model = core.read_model(graph)
    model.reshape(list(image.shape))
    settings = {
        "INFERENCE_PRECISION_HINT": "f32",  # else rounded to bfloat16 where the processor has it
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": threads,
    }
    compiled = core.compile_model(model, "CPU", settings)
    return lambda: compiled([image])
