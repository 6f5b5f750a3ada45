"""Times the fused kernels against torch and against the memory: ``python tests/plugin/bench_gpu.py``.

Needs a GPU, torch, nvcc, and tests/kits and the checkout on PYTHONPATH. In one run, interleaved:
the kernels, the same mathematics in torch eager and torch.compile, and a copy of as many bytes as
the kernels move, which is the bandwidth this GPU really has. Prints medians over `RUNS` and ratios.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from gpu_kit import GpuCall, build_driver
from plugin_kit import Case, make_case
from roofline import SHAPES, work
from torch import Tensor

from cada_edge.models.detector import cosine_distance
from cada_edge.models.unified import Smoother, image_score
from cada_edge.types import MIN_SPREAD

RUNS, WARM_UP = 200, 30
Step = Callable[[], object]


def by_torch(case: Case, tensors: list[Tensor]) -> Callable[[], tuple[Tensor, Tensor]]:
    """The node's mathematics as the model's torch modules have it."""
    spec, levels = case.fusion.spec, case.fusion.levels
    smoother = Smoother(spec).cuda()

    def step() -> tuple[Tensor, Tensor]:
        *features, u, gamma = tensors
        up = [
            torch.nn.functional.interpolate(
                cosine_distance(t.float(), s.float())[:, None] / level, size=spec.size_hw, mode="bilinear"
            )
            for t, s, level in zip(features[::2], features[1::2], levels, strict=True)
        ]
        raw = smoother(torch.cat(up, dim=1).mean(dim=1))
        aligned = (raw - u[:, None, None]) / (gamma - u).clamp_min(MIN_SPREAD)[:, None, None]
        return aligned, image_score(aligned, spec)

    return step


def timed_us(step: Step) -> float:
    """One call between two events, after the L2 cache was filled with something else."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]  # torch's
    flush = torch.empty(256 << 20, dtype=torch.uint8, device="cuda").zero_()
    start.record()
    step()
    end.record()
    end.synchronize()
    del flush
    return 1e3 * float(start.elapsed_time(end))


def captured(step: Step) -> Step:
    """The same work as one graph, without the host's launch costs."""
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # torch's
    with torch.cuda.stream(stream):
        step()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def measured_us(steps: dict[str, Step]) -> dict[str, float]:
    """Median of each, interleaved so that clocks and heat meet all alike."""
    samples: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(WARM_UP + RUNS):
        for name, step in steps.items():
            value = timed_us(step)
            if number >= WARM_UP:
                samples[name].append(value)
    return {name: statistics.median(values) for name, values in samples.items()}


def row(library: Path, name: str, batch: int, *, half: bool) -> str:
    """One line of the table."""
    case = make_case(SHAPES[name], (64, 64), batch=batch, top=0.01, half=half)
    call = GpuCall(library, case)
    eager = by_torch(case, call.tensors)
    moved = work(SHAPES[name], batch, 2 if half else 4).bytes
    source = torch.empty(moved // 2, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    steps: dict[str, Step] = {
        "fused": captured(call.launch),
        "eager": eager,
        "eager graph": captured(eager),
        "compile": torch.compile(eager),
        "copy": captured(lambda: target.copy_(source)),
    }
    times = measured_us(steps)
    ratios = [f"{times[other] / times['fused']:.1f}x" for other in ("eager", "eager graph", "compile")]
    share = f"{100 * times['copy'] / times['fused']:.0f} %"
    cells = [name, "fp16" if half else "fp32", str(batch), f"{times['fused']:.1f}", *ratios, share]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Print the table."""
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, medians of {RUNS}")  # noqa: T201  # a program
    print("| features | type | batch | fused, us | eager | eager graph | compile | of copy bandwidth |")  # noqa: T201
    print("|" + "---|" * 8)  # noqa: T201
    with tempfile.TemporaryDirectory() as folder:
        library = build_driver(Path(folder))
        for name in SHAPES:
            for half in (False, True):
                for batch in (1, 8):
                    print(row(library, name, batch, half=half))  # noqa: T201


if __name__ == "__main__":
    main()
