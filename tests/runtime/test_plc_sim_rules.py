"""Each promise that the simulated PLC judges: broken by a station that does just that, kept by a good one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from modbus_peer import Memory
from sim_bench import SECOND_NS, Faults, Table
from typer.testing import CliRunner
from whole_line import free_port

from cada_edge.cli.app import build
from cada_edge.runtime.control import ControlBlock, ControlFlag
from cada_edge.runtime.handshake import StationOptions
from cada_edge.runtime.links.config import ModbusServerConfig
from cada_edge.runtime.plc_sim.player import Misbehaviour, Plan
from cada_edge.runtime.plc_sim.rules import Rule, Terms
from cada_edge.runtime.plc_sim.session import Game, play
from cada_edge.runtime.plc_sim.wires import make_wire
from cada_edge.runtime.registers import OfflineReason, ResultFlag, StatusBlock, StatusFlag, encode

VALID = StatusFlag.RESULTS_VALID
Shown = Callable[[list[int]], Sequence[int]]


def of_results(change: Callable[[list[int]], object]) -> Shown:
    """Change every block with a valid result."""

    def shown(words: list[int]) -> Sequence[int]:
        if words[0] & VALID:
            change(words)
        return words

    return shown


def setting(word: int, value: Callable[[int], int]) -> Callable[[list[int]], object]:
    """Change one word."""
    return lambda words: words.__setitem__(word, int(value(words[word])))


def numbered_by_two(words: list[int]) -> Sequence[int]:
    """Every second number is left out."""
    words[3] = words[31] = 2 * words[3]
    return words


def forgetful() -> Shown:
    """The second result is said to be of the first trigger."""
    ids: list[list[int]] = []

    def shown(words: list[int]) -> Sequence[int]:
        of = [*words[4:6], *words[22:24]]
        if words[0] & VALID and of not in ids:
            ids.append(of)
        if len(ids) == 2:
            words[4:6], words[22:24] = ids[0][:2], ids[0][2:]
        return words

    return shown


def fidgety() -> Shown:
    """The score of a valid result is another at each look."""
    looks = count(1)
    return of_results(setting(7, lambda _: next(looks)))


def coming_back() -> Shown:
    """A result that was taken back is valid once more, for one look."""
    looks = count()

    def shown(words: list[int]) -> Sequence[int]:
        if words[3] and not words[0] & (VALID | StatusFlag.BUSY) and next(looks) == 3:
            words[0] |= VALID
        return words

    return shown


def hasty(words: list[int]) -> Sequence[int]:
    """PASS is up while the part is under way."""
    return [words[0], words[1], int(ResultFlag.PASS), *words[3:]] if words[0] & StatusFlag.BUSY else words


def deaf(control: ControlBlock) -> ControlBlock:
    """RESULTS_ACK is not heard."""
    return replace(control, flags=control.flags & ~ControlFlag.RESULTS_ACK)


OFFLINE = int(VALID | OfflineReason.SOURCE_LOST << 4)
FAULTS = {
    Rule.TORN_READ: Faults(shown=of_results(setting(31, lambda seq: seq ^ 1))),
    Rule.NOT_A_BLOCK: Faults(shown=of_results(setting(6, lambda _: 0x7FC0))),
    Rule.PASS_WITH_REJECT: Faults(shown=of_results(setting(2, lambda result: result | ResultFlag.REJECT))),
    Rule.NO_VERDICT: Faults(shown=lambda words: [*words[:2], 0, *words[3:]]),
    Rule.VALID_OFFLINE: Faults(shown=of_results(setting(0, lambda flags: flags & StatusFlag.RESULT_TOGGLE | OFFLINE))),
    Rule.CONTRADICTION: Faults(shown=of_results(setting(0, lambda flags: flags | OfflineReason.STOPPED << 4))),
    Rule.HEARTBEAT_STILL: Faults(shown=lambda words: [words[0], 7, *words[2:]]),
    Rule.SEQUENCE_GAP: Faults(shown=numbered_by_two),
    Rule.TOGGLE_STILL: Faults(shown=lambda words: [words[0] & ~StatusFlag.RESULT_TOGGLE, *words[1:]]),
    Rule.WRONG_TRIGGER: Faults(shown=of_results(setting(23, lambda encoder: encoder ^ 1))),
    Rule.TWO_RESULTS: Faults(shown=forgetful()),
    Rule.LATE_PASS: Faults(delay_ns=3 * SECOND_NS // 2),
    Rule.RESULT_CHANGED: Faults(shown=fidgety()),
    Rule.PASS_NOT_VALID: Faults(shown=hasty),
    Rule.SHOWN_AGAIN: Faults(shown=coming_back()),
    Rule.ACK_IGNORED: Faults(heard=deaf),
    Rule.NO_ANSWER: Faults(answers=False),
}
# What a fault breaks besides, for one follows from the other.
ALSO = {Rule.TWO_RESULTS: {Rule.NO_ANSWER}}


@pytest.mark.parametrize("rule", Rule, ids=lambda rule: rule.name)
def test_a_station_that_breaks_one_rule_is_told_of_that_rule_alone(rule: Rule) -> None:
    """Every rule has a station that breaks it, and no other rule fires on that station."""
    table = Table(Plan(cycles=4, period_ns=600_000_000), FAULTS[rule], lag=2)
    assert table.play(12) == {rule} | ALSO.get(rule, set())
    assert all(one.after and one.detail for one in table.violations)


@given(
    st.integers(0, 1 << 30),
    st.sets(st.sampled_from([Misbehaviour.EARLY, Misbehaviour.HOLD, Misbehaviour.NO_ACK])),
    st.sampled_from([0, 0, 1, 4, 8]),
    st.integers(0, 6),
    st.integers(0, 1500),
)
@settings(max_examples=60, deadline=None)
def test_no_behaviour_of_the_plc_makes_a_good_station_break_a_rule(
    seed: int, wrong: set[Misbehaviour], buffer: int, lag: int, delay_ms: int
) -> None:
    """Whatever the PLC does wrong and however slow pipeline and wire are, a station of the codec breaks nothing."""
    plan = Plan(cycles=12, heartbeat=bool(seed % 2), buffer=buffer, misbehave=frozenset(wrong), seed=seed)
    table = Table(plan, Faults(delay_ns=delay_ms * 1_000_000), StationOptions(mode="triggered"), lag)
    assert table.play(60) == set(), table.violations[0]
    assert table.player.taken


def test_free_run_of_a_good_station_breaks_nothing() -> None:
    """Results that nobody triggered are counted, and none is of a wrong trigger."""
    table = Table(Plan(cycles=50, triggered=False), Faults(), StationOptions())
    assert table.play(60) == set()
    assert len(table.player.taken) == 50


def test_a_server_that_lies_is_told_with_the_words_it_said() -> None:
    """Over TCP, from another's Modbus server: the rule, why, and the words of the block, for people; exit code 1."""
    port = free_port()
    server = Memory("modbus-tcp", f"127.0.0.1:{port}")
    block = StatusBlock(StatusFlag.ONLINE | VALID, OfflineReason.STOPPED, seq=1)
    server._words[100:132] = encode(block)
    command = ["plc-sim", "--port", str(port), "--cycles", "1", "--patience-s", "0.3"]
    done = CliRunner().invoke(build("plc-sim"), command)
    assert done.exit_code == 1
    assert "CONTRADICTION: flags and offline reason contradict each other" in done.output
    assert " ".join(f"{word:04x}" for word in encode(block)[:4]) in done.output


def test_an_interrupted_game_keeps_what_was_seen() -> None:
    """Ctrl-C ends a game as patience does: with its violations, and why it ended."""
    port = free_port()
    server = Memory("modbus-tcp", f"127.0.0.1:{port}")
    server._words[100:132] = [0xFFFF] * 32
    wire = make_wire(ModbusServerConfig(kind="modbus-server", port=port))

    def interrupt(game: Game) -> None:
        if game.violations:
            raise KeyboardInterrupt

    game = play(wire, Plan(cycles=1), Terms(), interrupt)
    assert game.violations
    assert game.stopped == "interrupted"
