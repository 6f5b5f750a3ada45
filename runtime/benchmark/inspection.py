"""One inspection after the other through the line's own parts, each stage timed.

::

    decode   a picture file to pixels
    copy     resized and copied into the model's input (`Judge` up to the call of the model)
    infer    the model's own call
    decide   from its answer to a verdict
    signal   from the verdict to the Modbus registers in the PLC process
    wait     with a rate: from when a frame was due to when its round began
    total    from when it was due to the registers: camera to signal
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from cada_edge.bundle import Bundle
from cada_edge.imaging import read_image
from cada_edge.runtime.benchmark.outlet import SOURCE, Outlet
from cada_edge.runtime.benchmark.pacing import Clock, SystemClock, closed_loop, open_loop
from cada_edge.runtime.benchmark.result import TOTAL, Samples
from cada_edge.runtime.benchmark.runner import TimedRunner, threshold_of
from cada_edge.runtime.benchmark.setting import Setting
from cada_edge.runtime.judge import Judge, Judgement
from cada_edge.runtime.runners.how import How
from cada_edge.runtime.runners.open import open_runner
from cada_edge.runtime.tune.store import tuned
from cada_edge.types import Frame

Progress = Callable[[int, int], None]
PAUSE_S = 0.005  # until the threads of the target before have stopped spinning for more work


@dataclass(frozen=True)
class Target:
    """A bundle and how it is run.

    Attributes:
        path: of the bundle.
        bundle: read from it.
        setting: how.
    """

    path: Path
    bundle: Bundle
    setting: Setting

    @cached_property
    def how(self) -> How:
        """It is run; where the setting says ``auto``, what that means here."""
        how = self.setting.how()
        return tuned(self.bundle, self.path, how) if how.backend == "auto" else how

    @property
    def name(self) -> str:
        """For people."""
        way = self.how.backend if self.setting.backend == "auto" else ""
        return f"{self.path.name} {self.setting.backend} {f'({way}) ' if way else ''}{self.setting.precision}"

    def facts(self) -> dict[str, Any]:
        """What was measured."""
        manifest = self.bundle.manifest
        model = {"bundle": self.path.name, "sha256": self.bundle.sha256, "detector": manifest.detector.kind}
        return {**model, "size_hw": list(manifest.spec.size_hw), **self.setting.to_json(), "how": asdict(self.how)}


class Inspection:
    """Rounds of pictures of one target. The caller closes it.

    Raises `BundleError`, `EngineError` or `MissingDependencyError` for what is not here.
    """

    def __init__(self, target: Target, paths: Sequence[Path], outlet: Outlet) -> None:
        self.samples = Samples(target.name, target.facts())
        self._setting, self._paths, self._outlet = target.setting, paths, outlet
        threshold = threshold_of(target.bundle, target.path)
        self._runner = TimedRunner(open_runner(target.bundle, target.path, target.how))
        self._judge = Judge(self._runner, threshold)
        self._next, self._verdicts = 0, Counter[str]()

    def warm_up(self) -> None:
        """Frames that are not counted."""
        self._judge.warm_up(batch=self._setting.batch)
        for _ in range(self._setting.rounds(self._setting.warmup)):
            self.round(time.monotonic_ns())
        self.samples.stages.clear()
        self.samples.starts_ns.clear()
        self._verdicts.clear()

    def round(self, due_ns: int) -> None:
        """Every camera gives a picture that was due at `due_ns`; each is judged and shown."""
        if self._setting.rate_fps is not None:
            self.samples.add("wait", time.monotonic_ns() - due_ns)
        frames = [self._take() for _ in range(self._setting.at_a_time)]
        for at in range(0, len(frames), self._setting.batch):
            for judgement in self._judged(frames[at : at + self._setting.batch]):
                self._show(judgement, due_ns)

    def finish(self, seconds: float) -> Samples:
        """What was found."""
        self.samples.seconds, self.samples.verdicts = seconds, dict(self._verdicts)
        return self.samples

    def close(self) -> None:
        """Free the model."""
        self._runner.close()

    def _take(self) -> Frame:
        path = self._paths[self._next % len(self._paths)]
        start_ns = time.monotonic_ns()
        image = read_image(path)
        end_ns = time.monotonic_ns()
        self.samples.add("decode", end_ns - start_ns)
        self._next += 1
        return Frame(image, SOURCE, self._next, start_ns, end_ns)

    def _judged(self, frames: Sequence[Frame]) -> list[Judgement]:
        self._outlet.live()
        start_ns = time.monotonic_ns()
        judgements = self._judge.judge_all([(frame, None) for frame in frames])
        for judgement in judgements:
            if judgement.error is not None:
                raise judgement.error
        began_ns, ended_ns = self._runner.spans[-1]
        self.samples.add("copy", began_ns - start_ns)
        self.samples.add("infer", ended_ns - began_ns)
        self.samples.add("decide", judgements[-1].verdict.t_decided_ns - ended_ns)
        return judgements

    def _show(self, judgement: Judgement, due_ns: int) -> None:
        shown_ns = self._outlet.show(judgement)
        self.samples.add("signal", shown_ns - judgement.verdict.t_decided_ns)
        self.samples.add(TOTAL, shown_ns - due_ns)
        self.samples.starts_ns.append(due_ns)
        self._verdicts[judgement.verdict.status] += 1


def measure(
    targets: Sequence[Target], paths: Sequence[Path], progress: Progress, clock: Clock | None = None
) -> list[Samples]:
    """Measure targets in turns, A B A B, which share pictures, rounds and the PLC process."""
    clock, setting = clock or SystemClock(), targets[0].setting
    opened: list[Inspection] = []
    with Outlet() as outlet:
        try:
            for target in targets:
                opened.append(Inspection(target, paths, outlet))
                opened[-1].warm_up()
            return _run(opened, setting, progress, clock)
        finally:
            for one in opened:
                one.close()


def _run(opened: Sequence[Inspection], setting: Setting, progress: Progress, clock: Clock) -> list[Samples]:
    rounds, busy_ns = setting.rounds(setting.n), [0] * len(opened)

    def step(index: int, due_ns: int) -> None:
        for number, one in enumerate(opened):
            if len(opened) > 1:
                time.sleep(PAUSE_S)
            start_ns = clock.now_ns()
            one.round(due_ns if len(opened) == 1 else start_ns)
            busy_ns[number] += clock.now_ns() - start_ns
        progress(index + 1, rounds)

    start_ns = clock.now_ns()
    if setting.rate_fps is None:
        closed_loop(step, rounds, clock)
    else:
        open_loop(step, rounds, round(1e9 / setting.rate_fps), clock)
        busy_ns = [clock.now_ns() - start_ns]
    return [one.finish(spent / 1e9) for one, spent in zip(opened, busy_ns, strict=True)]
