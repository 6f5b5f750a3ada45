"""What may be shown of a block over a link that broke or was slow: pure functions, never towards PASS."""

from __future__ import annotations

from dataclasses import replace

from cada_edge.runtime.registers import WORST_SCORE, ErrorCode, ResultFlag, StatusBlock, StatusFlag

_KEPT = ResultFlag.SIMULATED


def without_result(block: StatusBlock) -> StatusBlock:
    """The same state of the station, but with no valid result: UNKNOWN and REJECT, and no score to trust."""
    result = ResultFlag.UNKNOWN | ResultFlag.REJECT | block.result & _KEPT
    return replace(block, flags=block.flags & ~StatusFlag.RESULTS_VALID, result=result, score=WORST_SCORE)


def as_late(block: StatusBlock) -> StatusBlock:
    """The same result as one that came too late: UNKNOWN, REJECT and LATE, still to be acknowledged.

    The counters stay as the station has them, for it decided in time; so does an error it knows of.
    """
    result = ResultFlag.UNKNOWN | ResultFlag.REJECT | ResultFlag.LATE | block.result & _KEPT
    return replace(block, result=result, score=WORST_SCORE, error=block.error or ErrorCode.LATE)
