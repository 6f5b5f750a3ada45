"""What a link may write, for any order of results, connects and delays: never towards PASS."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from link_kit import pattern

from cada_edge.errors import ConfigError
from cada_edge.runtime.links.gate import ResultGate, Shown
from cada_edge.runtime.registers import ResultFlag, StatusFlag, decode

_MS = 1_000_000


def _shown(seq: int, valid_until_ns: int | None = None) -> Shown:
    return Shown(tuple(pattern(seq)), seq, valid_until_ns)


def _passes(words: Sequence[int]) -> bool:
    block = decode(words)
    return ResultFlag.PASS in block.result and StatusFlag.RESULTS_VALID in block.flags


def test_the_result_that_stood_at_the_connect_never_passes() -> None:
    """Only a result with another number is shown, on this connection and on the next."""
    gate = ResultGate()
    gate.connected(4)
    assert not _passes(gate.admit(_shown(4), 0))
    assert _passes(gate.admit(_shown(5), 0))
    gate.connected(5)
    assert not _passes(gate.admit(_shown(5), 0))


def test_a_late_result_stays_late() -> None:
    """A result that could not be there in time is LATE and REJECT, also when it is asked for again; it counts once."""
    gate = ResultGate()
    for arrival_ns in (11 * _MS, 9 * _MS):
        block = decode(gate.admit(_shown(1, 10 * _MS), arrival_ns))
        assert block.result == ResultFlag.LATE | ResultFlag.REJECT | ResultFlag.UNKNOWN
    assert gate.late_count == 1


def test_a_result_shown_in_time_may_stay() -> None:
    """Once it arrived in time it is shown on, however long the PLC takes to acknowledge."""
    gate, shown = ResultGate(), _shown(1, 10 * _MS)
    gate.admit(shown, 9 * _MS)
    gate.written(shown)
    assert _passes(gate.admit(shown, 900 * _MS))


_EVENTS = st.lists(st.tuples(st.sampled_from(["connect", "new", "write"]), st.integers(0, 30)), min_size=1, max_size=60)


@given(_EVENTS)
def test_no_pass_is_shown_first_after_its_time_or_after_a_break(events: list[tuple[str, int]]) -> None:
    """For any history: a PASS is written first in time, and never if it stood while the link was down."""
    gate, seq, now_ms, until_ms = ResultGate(), 1, 0, 10
    barred, in_time = 1, set[int]()
    gate.connected(seq)
    for event, wait_ms in events:
        now_ms += wait_ms
        if event == "new":
            seq, until_ms = seq + 1, now_ms + 10
        elif event == "connect":
            gate.connected(seq)
            barred = seq
        else:
            shown = _shown(seq, until_ms * _MS)
            passes = _passes(gate.admit(shown, now_ms * _MS))
            gate.written(shown)
            assert not passes or (seq != barred and (seq in in_time or now_ms <= until_ms))
            in_time |= {seq} if passes else set()


def test_a_block_that_says_another_number_is_refused() -> None:
    """A number that does not fit the words is a mistake of ours, and is said."""
    with pytest.raises(ConfigError):
        Shown(tuple(pattern(4)), 5)
