"""Latency of the whole exported graph against that of its bare encoder, in one process.

    python tests/bench_latency.py line.cada [--runs 200] [--threads 2]

Both graphs take the same uint8 pixels and standardise them; the encoder's stops at the
feature maps. They run in turns, A B A B, so that a busy machine slows both alike. Not
collected by pytest: no test asserts wall-clock times.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import torch
import typer
from torch import Tensor, nn

from cada_edge.bundle import MODEL, Bundle
from cada_edge.export.graph import simplify
from cada_edge.export.onnx import trace
from cada_edge.models import UnifiedModel, load_model


class Features(nn.Module):
    """Pixels to the encoder's feature maps, nothing behind them."""

    def __init__(self, model: UnifiedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Uint8 (N, H, W, 3) to one float32 (N, C_i, H/s_i, W/s_i) per stride."""
        return tuple(self.model.encoder(self.model.standardise(images)))


def encoder_graph(model: UnifiedModel) -> bytes:
    """The bare encoder as ONNX, cleaned by the same passes as the whole graph."""
    example = torch.zeros(2, *model.spec.size_hw, 3, dtype=torch.uint8)
    proto = trace(Features(model), example, [f"features{s}" for s in model.encoder.strides])
    simplify(proto)
    return bytes(proto.SerializeToString())


def open_session(graph: bytes, threads: int) -> Any:
    """An ONNX Runtime session on the CPU with `threads` threads."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def measure(sessions: dict[str, Any], image: npt.NDArray[np.uint8], runs: int) -> dict[str, list[float]]:
    """Milliseconds of `runs` interleaved runs of each session, after 20 runs to warm up."""
    times: dict[str, list[float]] = {name: [] for name in sessions}
    for i in range(runs + 20):
        for name, session in sessions.items():
            start = time.perf_counter_ns()
            session.run(None, {"image": image})
            if i >= 20:
                times[name].append((time.perf_counter_ns() - start) / 1e6)
    return times


def bench(
    bundle: Annotated[Path, typer.Argument(help="Exported bundle.")],
    runs: Annotated[int, typer.Option(help="Timed runs of each graph.")] = 200,
    threads: Annotated[int, typer.Option(help="Threads of ONNX Runtime.")] = 2,
) -> None:
    """Print percentiles of both graphs and the ratio of their medians, as JSON."""
    loaded = Bundle.read(bundle)
    model = load_model(loaded)
    graphs = {"whole": loaded.file(MODEL), "encoder": encoder_graph(model)}
    image = np.random.default_rng(0).integers(0, 256, (1, *model.spec.size_hw, 3), np.uint8)
    times = measure({name: open_session(graph, threads) for name, graph in graphs.items()}, image, runs)
    ratios = np.divide(times["whole"], times["encoder"])
    report = {
        name: {f"p{q}_ms": round(float(np.percentile(values, q)), 3) for q in (5, 50, 99)}
        for name, values in times.items()
    }
    setting = {"runs": runs, "threads": threads, "size_hw": list(model.spec.size_hw), "load": os.getloadavg()[0]}
    medians = report["whole"]["p50_ms"] / report["encoder"]["p50_ms"]
    typer.echo(json.dumps({**report, **setting, "ratio_p50": medians, "median_pair_ratio": float(np.median(ratios))}))


if __name__ == "__main__":
    typer.run(bench)
