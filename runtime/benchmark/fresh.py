"""What only a new process can tell: cold start, first frame, memory, blocks allocated per frame."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import tracemalloc
from dataclasses import asdict
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

import cada_edge
from cada_edge.decision import decide
from cada_edge.errors import EngineError
from cada_edge.imaging import prepare
from cada_edge.runtime.benchmark import mtrace
from cada_edge.runtime.benchmark.inspection import Target
from cada_edge.types import Frame

_TIMEOUT_S, _FRAMES, _WARM, _OVER = 300.0, 20, 5, 99
HOT = ("copy", "infer", "decide")


def cold_start(target: Target, picture: Path, runs: int = 3) -> list[dict[str, float]]:
    """Of `runs` new processes: ms from their start to each step, and bytes. Raises `EngineError`."""
    return [_ask("cold", target, picture, dict(os.environ)) for _ in range(runs)]


def allocations(target: Target, picture: Path) -> dict[str, Any]:
    """Blocks per frame by stage, of C and Python together, and Python's own peak. Raises `EngineError`."""
    with TemporaryDirectory(prefix="cada-edge-benchmark-") as folder:
        trace = Path(folder) / "trace"
        environment = mtrace.environment(trace)
        found = _ask("blocks", target, picture, environment or dict(os.environ))
        native = None if environment is None or not trace.exists() else _by_stage(trace)
    how = "glibc mtrace: every block, native code included" if native else f"not counted: no {mtrace.LIBRARY} here"
    return {"frames": _FRAMES, "how": how, "per_frame": native, "python_peak_bytes": found["python_peak_bytes"]}


def _by_stage(trace: Path) -> dict[str, dict[str, float]]:
    with trace.open(errors="replace") as lines:
        found = mtrace.parse(lines)
    return {
        name: {key: value / _FRAMES for key, value in asdict(found[number]).items()}
        for number, name in enumerate(HOT)
        if number in found
    }


def _ask(what: str, target: Target, picture: Path, environment: dict[str, str]) -> Any:
    root = str(Path(cada_edge.__file__).resolve().parent.parent)
    path = os.pathsep.join(filter(None, [root, environment.get("PYTHONPATH")]))
    order = {"what": what, "bundle": str(target.path), "picture": str(picture), "setting": asdict(target.setting)}
    command = [sys.executable, "-m", "cada_edge.runtime.benchmark.fresh", json.dumps(order), str(time.monotonic_ns())]
    try:
        done = subprocess.run(  # noqa: S603  # our own module, no shell
            command, env={**environment, "PYTHONPATH": path}, capture_output=True, text=True, check=False,
            timeout=_TIMEOUT_S, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise EngineError(f"a fresh process took longer than {_TIMEOUT_S:.0f} s to judge a picture") from error
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no word"])[-1]
        raise EngineError(f"a fresh process ended with {done.returncode}: {last}")
    return json.loads(done.stdout.splitlines()[-1])


def main(order: dict[str, Any], started_ns: int) -> dict[str, Any]:
    """In the new process: do as ordered."""
    from cada_edge.bundle import Bundle  # noqa: PLC0415  # this import is timed
    from cada_edge.imaging import read_image  # noqa: PLC0415  # as above
    from cada_edge.runtime.benchmark.machine import memory  # noqa: PLC0415  # as above
    from cada_edge.runtime.benchmark.runner import open_runner  # noqa: PLC0415  # as above
    from cada_edge.runtime.benchmark.setting import Setting  # noqa: PLC0415  # as above

    setting = Setting(**{**order["setting"], "affinity": tuple(order["setting"]["affinity"])})
    times, path = {"imported_ms": _since(started_ns)}, Path(order["bundle"])
    bundle = Bundle.read(path)
    times["bundle_read_ms"] = _since(started_ns)
    with open_runner(setting, bundle, path) as runner:
        times["model_open_ms"] = _since(started_ns)
        image = read_image(Path(order["picture"]))
        judge = partial(_inspect, image, runner, bundle, setting.batch)
        begun_ns = time.monotonic_ns()
        judge(None)
        times["first_verdict_ms"] = _since(started_ns)
        times["first_frame_ms"] = _since(begun_ns)
        for _ in range(_WARM):
            begun_ns = time.monotonic_ns()
            judge(None)
        times["warm_frame_ms"] = _since(begun_ns)
        if order["what"] == "cold":
            return {**times, **memory()}
        return _count(judge)


def _count(judge: Any) -> dict[str, Any]:
    traced = mtrace.Tracer() if mtrace.LIBRARY in os.environ.get("LD_PRELOAD", "") else None
    if traced is not None:
        traced.start()
        for _ in range(_FRAMES):
            judge(traced)
        traced.stop()
    tracemalloc.start()
    judge(None)
    before = tracemalloc.get_traced_memory()[0]
    tracemalloc.reset_peak()
    judge(None)
    return {"python_peak_bytes": tracemalloc.get_traced_memory()[1] - before}


def _inspect(image: Any, runner: Any, bundle: Any, batch: int, tracer: mtrace.Tracer | None) -> None:
    """One call of the model with all around it, as `Judge` does it."""
    mark = tracer.mark if tracer else _no_mark
    mark(0)
    pictures = np.stack([prepare(image, runner.spec)] * batch)
    mark(1)
    prediction = runner.infer(pictures)
    mark(2)
    for row in range(batch):
        now_ns = time.monotonic_ns()
        one = prediction if batch == 1 else prediction.take([row])
        decide(Frame(image, "benchmark", row, now_ns, now_ns), one, bundle.manifest.threshold, now_ns)
    mark(_OVER)


def _no_mark(_number: int) -> None:
    """Nothing is traced."""


def _since(start_ns: int) -> float:
    return round((time.monotonic_ns() - start_ns) / 1e6, 3)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(json.loads(sys.argv[1]), int(sys.argv[2]))) + "\n")
