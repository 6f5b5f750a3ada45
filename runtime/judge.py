"""Frames in, exactly one verdict out for each, whatever happens in between."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cada_edge.decision import decide, undecided
from cada_edge.imaging import prepare
from cada_edge.protocols import Runner
from cada_edge.types import Frame, Prediction, Threshold, UInt8Array, Verdict


@dataclass(frozen=True)
class Judgement:
    """A verdict with what it rests on.

    Attributes:
        verdict: the answer.
        frame: the frame judged; its status is ``late`` where the deadline was missed.
        prediction: of this frame alone, or ``None`` where there is none.
        error: what the runner raised, or ``None``.
    """

    verdict: Verdict
    frame: Frame
    prediction: Prediction | None = None
    error: Exception | None = None


class Judge:
    """Asks the runner and decides. For one thread at a time.

    Args:
        runner: the model.
        threshold: of the bundle; without one every verdict is undecided.
        deadline_ms: from capture to verdict, > 0; ``None`` for no limit.
        clock: monotonic, ns.
    """

    def __init__(
        self,
        runner: Runner,
        threshold: Threshold | None,
        deadline_ms: float | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._runner, self._threshold, self._clock = runner, threshold, clock
        self._deadline_ns = None if deadline_ms is None else int(deadline_ms * 1e6)
        self._input = np.empty((0, *runner.spec.size_hw, 3), np.uint8)  # of the runner, written anew for each call

    def warm_up(self, rounds: int = 2, batch: int = 1) -> None:
        """Let the runner allocate and compile before the first part. Raises `EngineError`."""
        self._reserve(batch)
        self._input[:] = 0
        for size in [*[batch] * rounds, *[1] * rounds]:  # a picture that comes alone is judged alone
            self._runner.infer(self._input[:size])

    def judge(self, frame: Frame, until_ns: int | None = None) -> Judgement:
        """The verdict for one frame; never raises for what the frame or the runner does.

        `until_ns` is its own deadline (monotonic), in place of the one from its capture.
        """
        return self.judge_all([(frame, until_ns)])[0]

    def judge_all(self, wanted: Sequence[tuple[Frame, int | None]]) -> list[Judgement]:
        """The verdicts for frames, each with its deadline as in `judge`, by one call of the runner."""
        jobs = [_Job(frame, self._until(frame) if until_ns is None else until_ns) for frame, until_ns in wanted]
        for job in jobs:
            job.judgement = self._refused(job)
        waiting = [job for job in jobs if job.judgement is None]
        self._reserve(len(waiting))
        ready: list[_Job] = []
        for job in waiting:
            if self._prepared(job, self._input[len(ready)]):
                ready.append(job)
        if ready:
            self._infer(ready)
        return [job.judgement for job in jobs if job.judgement is not None]

    def _refused(self, job: _Job) -> Judgement | None:
        """The verdict of a frame that need not be looked at."""
        frame = job.frame
        if frame.image is not None and frame.status == "ok":
            return self._late(job, self._clock())
        status = frame.status if frame.status != "ok" else "incomplete"
        reason = f"frame is {status}" + (f": {frame.note}" if frame.note else "")
        return self._undecided(replace(frame, status=status), reason)

    def _reserve(self, batch: int) -> None:
        """Room for so many inputs, kept from call to call."""
        if batch > len(self._input):
            self._input = np.empty((batch, *self._runner.spec.size_hw, 3), np.uint8)

    def _prepared(self, job: _Job, row: UInt8Array) -> bool:
        """Whether the picture became an input, in `row`; a bad one must not spoil its neighbours."""
        try:
            assert job.frame.image is not None
            prepare(job.frame.image, self._runner.spec, row)
        except Exception as error:  # noqa: BLE001  # whatever is wrong with a picture is a reject
            job.judgement = self._undecided(job.frame, f"no prediction: {error}", error=error)
        return job.judgement is None

    def _infer(self, jobs: Sequence[_Job]) -> None:
        try:
            prediction = self._runner.infer(self._input[: len(jobs)])
        except Exception as error:  # noqa: BLE001  # any fault of a runner is a reject, not the end of the line
            for job in jobs:
                job.judgement = self._undecided(job.frame, f"no prediction: {error}", error=error)
            return
        for index, job in enumerate(jobs):
            job.judgement = self._decided(job, prediction if len(jobs) == 1 else prediction.take([index]))

    def _decided(self, job: _Job, prediction: Prediction) -> Judgement:
        verdict = decide(job.frame, prediction, self._threshold, self._clock())
        return self._late(job, verdict.t_decided_ns, prediction) or Judgement(verdict, job.frame, prediction)

    def _until(self, frame: Frame) -> int | None:
        return None if self._deadline_ns is None else frame.t_capture_ns + self._deadline_ns

    def _late(self, job: _Job, now_ns: int, prediction: Prediction | None = None) -> Judgement | None:
        if job.until_ns is None or now_ns <= job.until_ns:
            return None
        age_ms, limit_ms = ((end - job.frame.t_capture_ns) / 1e6 for end in (now_ns, job.until_ns))
        reason = f"late: {age_ms:.0f} ms after capture, the deadline is {limit_ms:.0f} ms"
        return self._undecided(replace(job.frame, status="late"), reason, prediction)

    def _undecided(
        self, frame: Frame, reason: str, prediction: Prediction | None = None, error: Exception | None = None
    ) -> Judgement:
        verdict = undecided(frame, reason, self._clock(), self._threshold)
        return Judgement(verdict, frame, prediction, error)


@dataclass
class _Job:
    """A frame on its way to a verdict."""

    frame: Frame
    until_ns: int | None
    judgement: Judgement | None = None
