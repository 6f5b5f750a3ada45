"""From verdicts to status blocks: the free-running state a PLC sees, without any I/O."""

from __future__ import annotations

from dataclasses import replace

from cada_edge.runtime.registers import (
    WORST_SCORE,
    ErrorCode,
    OfflineReason,
    ResultFlag,
    StatusBlock,
    StatusFlag,
    milliseconds,
    next_counter,
    safe,
)
from cada_edge.types import Frame, Prediction, Verdict

_UINT32 = 1 << 32


class Publisher:
    """Keeps one line's status block.

    A reject is held: for `min_hold_ms` after it no later frame may show PASS, so that a
    slowly polling PLC cannot miss it. A good part that comes within the hold is shown as
    REJECT alone (neither FAIL nor UNKNOWN): parts must not come faster than the hold.
    """

    def __init__(self, checksum: int = 0, min_hold_ms: int = 20) -> None:
        self._block = StatusBlock(checksum=checksum)
        self._hold_ns = min_hold_ms * 1_000_000
        self._held_until_ns = 0

    @property
    def block(self) -> StatusBlock:
        """The block as it stands; its heartbeat is left to the server."""
        return self._block

    def verdict(self, verdict: Verdict, frame: Frame, prediction: Prediction | None) -> StatusBlock:
        """The block that announces one more verdict."""
        old, now_ns = self._block, verdict.t_decided_ns
        if not verdict.passed:
            self._held_until_ns = now_ns + self._hold_ns
        held = verdict.passed and now_ns < self._held_until_ns
        error = error_code(verdict, frame, prediction)
        flags = (old.flags ^ StatusFlag.RESULT_TOGGLE) | StatusFlag.RESULTS_VALID | StatusFlag.ONLINE
        self._block = replace(
            old,
            flags=flags | StatusFlag.ERROR if error else flags & ~StatusFlag.ERROR,
            offline=OfflineReason.NONE,
            result=ResultFlag.REJECT if held else result_bits(verdict, frame),
            seq=next_counter(old.seq),
            score=_bounded(verdict.score),
            threshold=0.0 if verdict.threshold is None else _bounded(verdict.threshold),
            result_ms=milliseconds(now_ns - frame.t_capture_ns),
            frame_age_ms=milliseconds(now_ns - frame.t_arrival_ns),
            error=error,
            total=(old.total + 1) % _UINT32,
            rejected=(old.rejected + (not verdict.passed)) % _UINT32,
            unknown=(old.unknown + (verdict.status == "undecided")) % _UINT32,
        )
        return self._block

    def online(self) -> StatusBlock:
        """The block once model and sources are ready; no result is made valid by it."""
        if StatusFlag.ONLINE not in self._block.flags:
            flags = self._block.flags | StatusFlag.ONLINE
            self._block = replace(self._block, flags=flags, offline=OfflineReason.NONE)
        return self._block

    def offline(self, reason: OfflineReason) -> StatusBlock:
        """The safe state: Online and ResultsValid fall, REJECT rises."""
        self._block = safe(self._block, reason)
        return self._block


def result_bits(verdict: Verdict, frame: Frame) -> ResultFlag:
    """Word 2 for a verdict: PASS alone, or REJECT with the reason."""
    if verdict.passed:
        return ResultFlag.PASS
    bits = ResultFlag.REJECT | (ResultFlag.FAIL if verdict.status == "ng" else ResultFlag.UNKNOWN)
    if frame.status == "incomplete":
        bits |= ResultFlag.IMAGE_QUALITY
    if frame.status == "late":
        bits |= ResultFlag.LATE
    return bits


def error_code(verdict: Verdict, frame: Frame, prediction: Prediction | None) -> ErrorCode:
    """Why a verdict is undecided; `ErrorCode.NONE` for the others."""
    if verdict.status != "undecided":
        return ErrorCode.NONE
    if frame.status == "late":
        return ErrorCode.LATE
    if frame.status == "incomplete":
        return ErrorCode.FRAME_INCOMPLETE
    if prediction is None:
        return ErrorCode.ENGINE_FAILED
    if verdict.threshold is None:
        return ErrorCode.NO_THRESHOLD
    return ErrorCode.NOVEL if prediction.finite().all() else ErrorCode.NOT_FINITE


def _bounded(value: float | None) -> float:
    """A float32 in range; `WORST_SCORE` for none."""
    return WORST_SCORE if value is None else min(max(value, -WORST_SCORE), WORST_SCORE)
