"""From verdicts to status blocks: the free-running state a PLC sees, without any I/O."""

from __future__ import annotations

from dataclasses import replace

from cada_edge.runtime.outcome import bounded, error_code, result_bits
from cada_edge.runtime.registers import (
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
            score=bounded(verdict.score),
            threshold=0.0 if verdict.threshold is None else bounded(verdict.threshold),
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
