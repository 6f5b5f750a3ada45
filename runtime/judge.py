"""One frame in, exactly one verdict out, whatever happens in between."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from cada_edge.decision import decide, undecided
from cada_edge.imaging import prepare
from cada_edge.protocols import Runner
from cada_edge.types import Frame, Prediction, Threshold, Verdict


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
    """Asks the runner and decides.

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

    def warm_up(self, rounds: int = 2) -> None:
        """Let the runner allocate and compile before the first part. Raises `EngineError`."""
        blank = np.zeros((1, *self._runner.spec.size_hw, 3), np.uint8)
        for _ in range(rounds):
            self._runner.infer(blank)

    def judge(self, frame: Frame) -> Judgement:
        """The verdict for one frame; never raises for what the frame or the runner does."""
        if frame.image is None or frame.status != "ok":
            status = frame.status if frame.status != "ok" else "incomplete"
            return self._undecided(replace(frame, status=status), f"frame is {status}")
        if late := self._late(frame, self._clock()):
            return late
        try:
            prediction = self._runner.infer(prepare(frame.image, self._runner.spec)[None])
        except Exception as error:  # noqa: BLE001  # any fault of a runner is a reject, not the end of the line
            return self._undecided(frame, f"no prediction: {error}", error=error)
        verdict = decide(frame, prediction, self._threshold, self._clock())
        if late := self._late(frame, verdict.t_decided_ns, prediction):
            return late
        return Judgement(verdict, frame, prediction)

    def _late(self, frame: Frame, now_ns: int, prediction: Prediction | None = None) -> Judgement | None:
        age_ns = now_ns - frame.t_capture_ns
        if self._deadline_ns is None or age_ns <= self._deadline_ns:
            return None
        reason = f"late: {age_ns / 1e6:.0f} ms after capture, the deadline is {self._deadline_ns / 1e6:.0f} ms"
        return self._undecided(replace(frame, status="late"), reason, prediction)

    def _undecided(
        self, frame: Frame, reason: str, prediction: Prediction | None = None, error: Exception | None = None
    ) -> Judgement:
        verdict = undecided(frame, reason, self._clock(), self._threshold)
        return Judgement(verdict, frame, prediction, error)
