"""What share of this processor's fp32 peak the encoder of a bundle reaches in ONNX Runtime, on one thread.

    PYTHONPATH=.:tests taskset -c 0 python benchmarks/peak.py line.cada [--n 200] [--json peak.json]

The peak is measured, not looked up: a loop of nothing but fused multiply-adds on registers, compiled
here by gcc (`fma.c`), and beside it large matrix products of NumPy and PyTorch. Multiply-adds of the
encoder are counted from its ONNX graph by kind of layer. All run in turns, and what counts is the time
that this thread computes: on a busy machine it leaves out the waiting. ONNX Runtime's profiler then
says how the encoder's time is shared among the kinds.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import onnx
import onnxruntime as ort
import torch
import typer
from bench_latency import encoder_graph
from onnx import ModelProto

from cada_edge.bundle import Bundle
from cada_edge.export.graph import known_shapes
from cada_edge.imaging import write_atomic
from cada_edge.models import load_model
from cada_edge.runtime.benchmark.machine import machine, state
from cada_edge.runtime.benchmark.stats import ratio
from cada_edge.types import UInt8Array

Call = Callable[[], object]
Row = dict[str, Any]
ENCODER, LOOP = "encoder", "multiply-adds on registers"
TURNS, SIDE = 500_000, 1024  # of the loop; of the square matrices
WARM, PROFILED = 5, 50


def multiply_adds(model: ModelProto) -> dict[str, int]:
    """Of one image, by kind of convolution; raises `ValueError` for other operators that multiply matrices."""
    shapes = known_shapes(model)
    weights = {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
    found: dict[str, int] = defaultdict(int)
    for node in model.graph.node:
        if node.op_type in {"Gemm", "MatMul", "ConvTranspose", "Einsum"}:
            raise ValueError(f"{node.name} is a {node.op_type}, which is not counted here")
        if node.op_type == "Conv":
            kernel, output = weights[node.input[1]], shapes[node.output[0]]
            found[kind_of(kernel)] += int(np.prod([side or 1 for side in output[1:]]) * np.prod(kernel[1:]))
    return dict(found)


def kind_of(kernel: list[int]) -> str:
    """Of a convolution, by its kernel (C_out, C_in / groups, kh, kw)."""
    if kernel[1] == 1:
        return "depthwise"
    return "pointwise" if kernel[2:] == [1, 1] else "ordinary"


def loop(work: Path) -> tuple[Call, int, int]:
    """The compiled loop, the multiply-adds of one call, and the bytes of the registers it uses."""
    library = work / "fma.so"
    source = Path(__file__).with_name("fma.c")
    flags = ["-O3", "-march=native", "-ffp-contract=fast", "-shared", "-fPIC"]
    subprocess.run(["gcc", *flags, "-o", library, source], check=True)  # noqa: S603, S607  # our own source
    code = ctypes.CDLL(str(library))
    code.run.argtypes, code.run.restype = [ctypes.c_long, ctypes.c_float, ctypes.c_float], ctypes.c_float
    return lambda: code.run(TURNS, 0.5, 1.0), TURNS * code.multiply_adds_per_turn(), code.register_bytes()


def products() -> dict[str, Call]:
    """Square float32 matrix products into memory that is kept."""
    torch.set_num_threads(1)
    a, b = np.random.default_rng(0).random((2, SIDE, SIDE), np.float32)
    out, ours = np.empty_like(a), torch.empty(SIDE, SIDE)
    theirs = torch.from_numpy(a), torch.from_numpy(b)
    return {
        f"NumPy, {SIDE} x {SIDE}": lambda: np.matmul(a, b, out=out),
        f"PyTorch, {SIDE} x {SIDE}": lambda: torch.mm(*theirs, out=ours),
    }


def session(graph: bytes, profile: Path | None = None) -> Any:
    """As `cada-edge run` opens a graph, on one thread."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.use_deterministic_compute = True
    if profile is not None:
        options.enable_profiling, options.profile_file_prefix = True, str(profile)
    return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def in_turns(calls: Mapping[str, Call], n: int) -> dict[str, list[int]]:
    """ns that this thread computed in `n` calls of each, one after the other in every round."""
    times: dict[str, list[int]] = {name: [] for name in calls}
    for turn in range(-WARM, n):
        for name, call in calls.items():
            start_ns = time.thread_time_ns()
            call()
            if turn >= 0:
                times[name].append(time.thread_time_ns() - start_ns)
    return times


def by_kind(graph: bytes, image: UInt8Array, work: Path) -> dict[str, float]:
    """Share of the time of each kind of convolution, and of each other operator, by ONNX Runtime's profiler.

    Medians of each node: a call that another process interrupted counts little.
    """
    profiled = session(graph, work / "profile")
    for _ in range(PROFILED):
        profiled.run(None, {"image": image})
    events = json.loads(Path(profiled.end_profiling()).read_text())
    nodes: dict[tuple[str, str], list[int]] = defaultdict(list)
    for event in events:
        if event["name"].endswith("_kernel_time"):
            nodes[event["name"], _kind_of_event(event["args"])].append(event["dur"])
    times: dict[str, float] = defaultdict(float)
    for (_, kind), each in nodes.items():
        times[kind] += float(np.median(each))
    return {kind: each / sum(times.values()) for kind, each in times.items()}


def _kind_of_event(args: dict[str, Any]) -> str:
    """A convolution's kernel is its second input; nodes that were fused or laid out anew have other names."""
    if args["op_name"] != "Conv":
        return str(args["op_name"])
    return kind_of(next(iter(args["input_type_shape"][1].values())))


def table(counts: Mapping[str, int], share: Mapping[str, float], encoder_ns: float, peak: float) -> list[Row]:
    """The whole encoder and each kind, largest share first; `peak` in multiply-adds a nanosecond."""
    parts = [("all", 1.0), *sorted(share.items(), key=lambda pair: -pair[1])]
    amounts = {"all": sum(counts.values()), **counts}
    return [
        {
            "kind": kind,
            "multiply_adds": amounts.get(kind, 0),
            "share_of_time": part,
            "share_of_peak": amounts.get(kind, 0) / (part * encoder_ns) / peak,
        }
        for kind, part in parts
    ]


def main(
    bundle: Annotated[Path, typer.Argument(help="Trained bundle.")],
    n: Annotated[int, typer.Option("--n", help="Rounds.")] = 200,
    out: Annotated[Path | None, typer.Option("--json", help="Figures and raw samples.")] = None,
) -> None:
    """Print the peak as each way reaches it, and the encoder's share of it."""
    if len(os.sched_getaffinity(0)) != 1:  # other threads' work would be counted, their time would not
        raise typer.BadParameter("keep it to one core: taskset -c 0 python benchmarks/peak.py ...")
    model = load_model(Bundle.read(bundle))
    graph, before = encoder_graph(model), state()
    image = np.random.default_rng(0).integers(0, 256, (1, *model.spec.size_hw, 3), np.uint8)
    counts, opened = multiply_adds(onnx.load_from_string(graph)), session(graph)
    with TemporaryDirectory() as work:
        spin, per_call, width = loop(Path(work))
        calls = {LOOP: spin, **products(), ENCODER: lambda: opened.run(None, {"image": image})}
        times = in_turns(calls, n)
        share = by_kind(graph, image, Path(work))
    amounts = {**dict.fromkeys(calls, SIDE**3), LOOP: per_call, ENCODER: sum(counts.values())}
    ways = {name: _speed(amounts[name], amounts[LOOP], each, times[LOOP]) for name, each in times.items()}
    p50 = {name: float(np.median(each)) for name, each in times.items()}
    found = table(counts, share, p50[ENCODER], per_call / p50[LOOP])
    if out is not None:
        about = {"n": n, "register_bytes": width, "machine": machine(), "state": {"before": before, "after": state()}}
        write_atomic(out, json.dumps({**about, "ways": ways, "encoder": found, "samples_ns": times}, indent=1).encode())
    _render(ways, found)


def _speed(amount: int, loop_amount: int, each: list[int], loop_ns: list[int]) -> Row:
    """GFLOP/s (a multiply-add is two) and the share of the loop's speed, with the ends of its 95 % interval."""
    to_loop, factor = ratio(loop_ns, each, 0.5, paired=True), amount / loop_amount
    interval = [factor * value for value in (to_loop.value, to_loop.low, to_loop.high)]
    return {"gflops": 2 * amount / float(np.median(each)), "share_of_loop": interval}


def _render(ways: Mapping[str, Row], found: list[Row]) -> None:
    typer.echo("| | GFLOP/s | of the loop (95 %) |\n|---|---|---|")
    for name, way in ways.items():
        share, low, high = (100 * value for value in way["share_of_loop"])
        typer.echo(f"| {name} | {way['gflops']:.1f} | {share:.1f} % ({low:.1f} to {high:.1f}) |")
    typer.echo("\n| encoder's | multiply-adds, million | of its time | of the peak |\n|---|---|---|---|")
    for row in found:
        amount = row["multiply_adds"]
        other = f"| {100 * row['share_of_time']:.1f} % |"
        counted = f"{amount / 1e6:.1f} | {100 * row['share_of_time']:.1f} % | {100 * row['share_of_peak']:.0f} %"
        typer.echo(f"| {row['kind']} | {counted if amount else other} |")


if __name__ == "__main__":
    typer.run(main)
