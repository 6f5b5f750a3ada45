"""cada-edge's graphs, their bare encoder and anomalib's detectors, in turns, in one process.

    pip install anomalib==2.7.0 openvino        # beside cada-edge's train extra; openvino is optional
    PYTHONPATH=.:tests/peers python benchmarks/peers.py line.cada [more.cada ...] --data DATA --work runs/peers

Every subject gets the same picture at the same moment of the run, A B C A B C, with the same number
of threads, at batch 1, pixels in and score out. anomalib's models have cada-edge's encoder and its
weights (see `tests/peers/anomalib_peers.py` for what is theirs and what is not); they are fitted on
``--images-per-product`` good images, which sets the size of PatchCore's bank and nothing else that
takes time. The first subject is the floor: all ratios are to it, paired, with their 95 % interval.
"""

from __future__ import annotations

import importlib.util
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import onnx
import onnx.inliner
import torch
import typer
from anomalib_peers import Benchmark
from peer_encoder import FromPixels
from peer_latency import _in_onnxruntime, _in_openvino, _in_torch
from peer_models import fit
from peer_settings import PeerSettings

from cada_edge.bundle import MODEL, Bundle
from cada_edge.export.graph import simplify
from cada_edge.export.onnx import trace
from cada_edge.imaging import write_atomic
from cada_edge.models import UnifiedModel, load_model
from cada_edge.runtime.benchmark.machine import machine, state
from cada_edge.runtime.benchmark.stats import ratio, summarise
from cada_edge.types import UInt8Array

Call = Callable[[], object]
FLOOR = "bare encoder, ONNX Runtime"
PAUSE_S = 0.005  # until the threads of the subject before have stopped spinning for more work


class Features(torch.nn.Module):
    """Pixels to the encoder's maps."""

    def __init__(self, model: UnifiedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Images uint8 (N, H, W, 3) to one float32 (N, C, H/s, W/s) per stride."""
        return tuple(self.model.encoder(self.model.standardise(images)))


def encoder_graph(bundle: Bundle) -> bytes:
    """The encoder of a bundle alone, cleaned by the same passes as the whole graph."""
    model = load_model(bundle)
    example = torch.zeros(2, *model.spec.size_hw, 3, dtype=torch.uint8)
    proto = trace(Features(model), example, [f"features{stride}" for stride in model.encoder.strides])
    simplify(proto)
    return bytes(proto.SerializeToString())


def graphs_of(bundles: list[Path]) -> Iterator[tuple[str, bytes]]:
    """Floor first, then each bundle's own graph."""
    read = {path: Bundle.read(path) for path in bundles}
    yield "bare encoder", encoder_graph(read[bundles[0]])
    for path, bundle in read.items():
        yield f"cada-edge {bundle.manifest.detector.kind} ({path.stem})", bundle.file(MODEL)


def in_every_runtime(name: str, graph: bytes, image: UInt8Array, threads: int) -> Iterator[tuple[str, Call]]:
    """The graph in ONNX Runtime and, where it is installed, OpenVINO."""
    yield f"{name}, ONNX Runtime", _in_onnxruntime(graph, image, threads)
    if importlib.util.find_spec("openvino"):
        try:
            inlined = onnx.inliner.inline_local_functions(onnx.load_from_string(graph)).SerializeToString()
            yield f"{name}, OpenVINO", _in_openvino(inlined, image, threads)
        except RuntimeError as error:  # an operator that OpenVINO lacks
            typer.echo(f"{name}, OpenVINO: left out: {str(error).strip().splitlines()[-1]}", err=True)


def peers(names: list[str], source: Benchmark, image: UInt8Array, threads: int) -> dict[str, Call]:
    """anomalib's detectors in torch and as exported graphs."""
    settings, calls = source.settings, dict[str, Call]()
    fitting = source.store.select([item.sha256 for item in source.train])
    for name in names:
        peer = fit(name, settings, fitting, lambda *_: None)
        net, example = FromPixels(peer.net, peer.spec).eval(), torch.from_numpy(image)
        calls[f"anomalib {name}, torch"] = _in_torch(net, example, threads)
        with torch.inference_mode():
            outputs = [f"out{i}" for i in range(len(net(example)))]
        graph = trace(net, example, outputs).SerializeToString()
        calls.update(in_every_runtime(f"anomalib {name}", graph, image, threads))
    return calls


def in_turns(calls: Mapping[str, Call], n: int, warmup: int) -> dict[str, list[int]]:
    """ns of `n` runs of each, one after the other in every round."""
    times: dict[str, list[int]] = {name: [] for name in calls}
    for turn in range(n + warmup):
        for name, call in calls.items():
            time.sleep(PAUSE_S)
            start_ns = time.perf_counter_ns()
            call()
            if turn >= warmup:
                times[name].append(time.perf_counter_ns() - start_ns)
    return times


def table(times: Mapping[str, list[int]]) -> list[dict[str, Any]]:
    """Figures of every subject and its ratio to the floor."""
    rows = []
    for name, samples in times.items():
        to_floor = ratio(samples, times[FLOOR], 0.5, paired=True)
        rows.append({"name": name, **summarise(samples).to_json(), "over_floor_p50": asdict(to_floor)})
    return rows


def main(  # noqa: PLR0917  # options of a command line
    bundles: Annotated[list[Path], typer.Argument(help="Exported bundles of one encoder.")],
    data: Annotated[Path | None, typer.Option(help="Good images for the peers, MVTec AD layout.")] = None,
    work: Annotated[Path, typer.Option(help="Where encoded images are kept.")] = Path("runs/peers"),
    models: Annotated[str, typer.Option(help="anomalib's, by comma.")] = "padim,patchcore",
    images_per_product: Annotated[int, typer.Option(help="That the peers are fitted on.")] = 20,
    n: Annotated[int, typer.Option("--n", help="Rounds.")] = 300,
    threads: Annotated[int, typer.Option(help="Of every runtime.")] = 2,
    out: Annotated[Path | None, typer.Option("--json", help="Figures and raw samples.")] = None,
) -> None:
    """Print a Markdown table of all subjects."""
    torch.set_num_threads(threads)
    spec = Bundle.read(bundles[0]).manifest.spec
    image = np.random.default_rng(0).integers(0, 256, (1, *spec.size_hw, 3), np.uint8)
    calls: dict[str, Call] = {}
    for name, graph in graphs_of(bundles):
        calls.update(in_every_runtime(name, graph, image, threads))
    if data is not None:
        source = Benchmark.of(data, PeerSettings(), images_per_product, work, lambda *_: None)
        calls.update(peers(models.split(","), source, image, threads))
    before = state()
    times = in_turns(calls, n, 20)
    rows = table(times)
    about = {"threads": threads, "n": n, "machine": machine(), "state": {"before": before, "after": state()}}
    if out is not None:
        write_atomic(out, json.dumps({**about, "rows": rows, "samples_ns": times}, indent=1).encode())
    typer.echo("| subject | p50, ms | p99, ms | p50 over the bare encoder (95 %) |\n|---|---|---|---|")
    for row in rows:
        one, p99 = row["over_floor_p50"], row["p99_ms"]
        ends = f"{one['value']:.2f} ({one['low']:.2f} to {one['high']:.2f})"
        typer.echo(f"| {row['name']} | {row['p50_ms']:.2f} | {'-' if p99 is None else f'{p99:.2f}'} | {ends} |")


if __name__ == "__main__":
    typer.run(main)
