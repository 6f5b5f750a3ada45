"""What only a new process can tell: cold start, first frame, memory, blocks allocated per frame."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import cada_edge
from cada_edge.errors import EngineError
from cada_edge.protocols import Runner
from cada_edge.runtime.benchmark import mtrace
from cada_edge.runtime.benchmark.inspection import Target
from cada_edge.runtime.judge import Judge
from cada_edge.types import Frame, Prediction, UInt8Array

_TIMEOUT_S, _FRAMES, _WARM = 300.0, 20, 5
HOT = ("copy", "infer", "decide")
_COPY, _INFER, _DECIDE, _OVER = 0, 1, 2, 99


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
    from cada_edge.runtime.benchmark.setting import Setting  # noqa: PLC0415  # as above
    from cada_edge.runtime.runners.open import open_runner  # noqa: PLC0415  # as above

    setting = Setting(**{**order["setting"], "affinity": tuple(order["setting"]["affinity"])})
    times, path = {"imported_ms": _since(started_ns)}, Path(order["bundle"])
    bundle = Bundle.read(path)
    times["bundle_read_ms"] = _since(started_ns)
    with open_runner(bundle, path, setting.how()) as runner:
        times["model_open_ms"] = _since(started_ns)
        image = read_image(Path(order["picture"]))
        marks = _Marks()
        judge = Judge(cast(Runner, _MarkedRunner(runner, marks)), bundle.manifest.threshold)
        judged = partial(_judged, judge, image, setting.batch, marks)
        begun_ns = time.monotonic_ns()
        judged()
        times["first_verdict_ms"] = _since(started_ns)
        times["first_frame_ms"] = _since(begun_ns)
        for _ in range(_WARM):
            begun_ns = time.monotonic_ns()
            judged()
        times["warm_frame_ms"] = _since(begun_ns)
        if order["what"] == "cold":
            return {**times, **memory()}
        return _count(judged, marks)


def _count(judged: Callable[[], None], marks: _Marks) -> dict[str, Any]:
    if mtrace.LIBRARY in os.environ.get("LD_PRELOAD", ""):
        marks.tracer = mtrace.Tracer()
        marks.tracer.start()
        for _ in range(_FRAMES):
            judged()
        marks.tracer.stop()
        marks.tracer = None
    tracemalloc.start()
    judged()
    before = tracemalloc.get_traced_memory()[0]
    tracemalloc.reset_peak()
    judged()
    return {"python_peak_bytes": tracemalloc.get_traced_memory()[1] - before}


def _judged(judge: Judge, image: UInt8Array, batch: int, marks: _Marks) -> None:
    """One call of the model with all around it, as on the line."""
    now_ns = time.monotonic_ns()
    frames = [(Frame(image, "benchmark", row, now_ns, now_ns), None) for row in range(batch)]
    marks(_COPY)
    judgements = judge.judge_all(frames)
    marks(_OVER)
    for judgement in judgements:
        if judgement.error is not None:
            raise judgement.error


class _MarkedRunner:
    """A runner that marks where its call begins and ends."""

    def __init__(self, runner: Any, mark: Callable[[int], None]) -> None:
        self._runner, self._mark, self.spec = runner, mark, runner.spec

    def infer(self, batch: UInt8Array) -> Prediction:
        """As the runner."""
        self._mark(_INFER)
        found: Prediction = self._runner.infer(batch)
        self._mark(_DECIDE)
        return found


class _Marks:
    """The marks of a trace, once there is one."""

    def __init__(self) -> None:
        self.tracer: mtrace.Tracer | None = None

    def __call__(self, number: int) -> None:
        if self.tracer is not None:
            self.tracer.mark(number)


def _since(start_ns: int) -> float:
    return round((time.monotonic_ns() - start_ns) / 1e6, 3)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(json.loads(sys.argv[1]), int(sys.argv[2]))) + "\n")
