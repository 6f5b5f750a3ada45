"""From verdicts to what a station publishes of a part: the result bits and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cada_edge.runtime.judge import Judgement
from cada_edge.runtime.registers import WORST_SCORE, ErrorCode, ResultFlag
from cada_edge.runtime.status import Text
from cada_edge.types import Frame, Prediction, Verdict


@dataclass(frozen=True)
class Outcome:
    """What the pipeline says of one part.

    Attributes:
        part: the number its trigger was given; ``None`` in free run.
        result: PASS alone, or REJECT with the reason.
        error: why it is undecided.
        score: of its worst view, finite float32; `WORST_SCORE` where there is none.
        threshold: finite float32; 0.0 where the bundle has none.
        t_capture_ns: monotonic, of its oldest view.
        t_arrival_ns: monotonic, of its youngest view.
        t_decided_ns: monotonic.
        note: why, in words.
    """

    part: int | None
    result: ResultFlag
    error: ErrorCode
    score: float
    threshold: float
    t_capture_ns: int
    t_arrival_ns: int
    t_decided_ns: int
    note: Text = ""


def outcome(part: int | None, views: Sequence[Judgement]) -> Outcome:
    """One part from its views, at least one: PASS only if every view passed.

    The view that speaks for a rejected part is the first undecided one, else the one with the
    highest score.
    """
    worst = max(views, key=_badness)
    verdicts, frames = [view.verdict for view in views], [view.frame for view in views]
    return Outcome(
        part=part,
        result=result_bits(worst.verdict, worst.frame),
        error=error_code(worst.verdict, worst.frame, worst.prediction),
        score=bounded(worst.verdict.score),
        threshold=0.0 if worst.verdict.threshold is None else bounded(worst.verdict.threshold),
        t_capture_ns=min(frame.t_capture_ns for frame in frames),
        t_arrival_ns=max(frame.t_arrival_ns for frame in frames),
        t_decided_ns=max(verdict.t_decided_ns for verdict in verdicts),
        note=worst.verdict.reason,
    )


def result_bits(verdict: Verdict, frame: Frame) -> ResultFlag:
    """Word 2 for a verdict: PASS alone, or REJECT with the reason."""
    if verdict.passed:
        return ResultFlag.PASS
    bits = ResultFlag.REJECT | (ResultFlag.FAIL if verdict.status == "ng" else ResultFlag.UNKNOWN)
    if frame.status == "late":
        return bits | ResultFlag.LATE
    return bits if frame.status == "ok" else bits | ResultFlag.IMAGE_QUALITY


def error_code(verdict: Verdict, frame: Frame, prediction: Prediction | None) -> ErrorCode:
    """Why a verdict is undecided; `ErrorCode.NONE` for the others."""
    if verdict.status != "undecided":
        return ErrorCode.NONE
    if frame.status != "ok":
        by_status = {"late": ErrorCode.LATE, "incomplete": ErrorCode.FRAME_INCOMPLETE}
        return by_status.get(frame.status, ErrorCode.IMAGE_QUALITY)
    if prediction is None:
        return ErrorCode.ENGINE_FAILED
    if verdict.threshold is None:
        return ErrorCode.NO_THRESHOLD
    return ErrorCode.NOVEL if prediction.finite().all() else ErrorCode.NOT_FINITE


def _badness(view: Judgement) -> tuple[int, float]:
    rank = {"ok": 0, "ng": 1, "undecided": 2}[view.verdict.status]
    return rank, -WORST_SCORE if view.verdict.score is None else view.verdict.score


def bounded(value: float | None) -> float:
    """A score as the block can hold it: a float32 in range; `WORST_SCORE` for none."""
    return WORST_SCORE if value is None else min(max(value, -WORST_SCORE), WORST_SCORE)
