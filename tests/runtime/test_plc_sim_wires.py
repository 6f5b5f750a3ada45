"""The simulated PLC on single wires: a good station breaks no promise, and each that wires can break is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner
from wire_bench import MS, SECOND_NS, WIRES, Bench, Fault, Levels, Net, good

from cada_edge.cli.app import build
from cada_edge.runtime.control import ControlBlock, ControlFlag, encode_control
from cada_edge.runtime.handshake import StationOptions
from cada_edge.runtime.links.config import DigitalConfig
from cada_edge.runtime.links.pins import Edge
from cada_edge.runtime.plc_sim.moments import KNOWN_AFTER_NS, SETTLE_NS, Moment, Moments
from cada_edge.runtime.plc_sim.player import Misbehaviour, Plan
from cada_edge.runtime.plc_sim.referee import Referee
from cada_edge.runtime.plc_sim.rules import Rule, Terms
from cada_edge.runtime.plc_sim.wire_digital import DigitalController
from cada_edge.runtime.registers import ResultFlag, StatusFlag, decode

ALL = tuple(WIRES)
PASS, FAIL, UNDECIDED = (
    ResultFlag.PASS,
    ResultFlag.FAIL | ResultFlag.REJECT,
    ResultFlag.UNKNOWN | ResultFlag.REJECT,
)
FREE_RUN = Plan(cycles=200, triggered=False)
Mode = Literal["pulse", "level"]


def without(*names: str) -> tuple[str, ...]:
    """Every wire but these."""
    return tuple(name for name in ALL if name not in names)


@pytest.mark.parametrize("mode", ["pulse", "level"])
@pytest.mark.parametrize("wires", [ALL, without("ack"), without("valid"), without("valid", "ack"), without("busy")])
def test_a_good_station_breaks_nothing_on_any_wiring(mode: Mode, wires: tuple[str, ...]) -> None:
    """Hundreds of parts, some undecided so that HEALTHY falls: each answered, the passed ones passed, no breach."""
    cycles = 300 if wires == ALL else 60
    acks = StationOptions(mode="triggered", ack_timeout_ns=SECOND_NS if "ack" in wires else 0)
    plan = Plan(cycles=cycles, acknowledge="ack" in wires)
    bench = Bench(plan, mode=mode, wires=wires, options=acks, results=(PASS, UNDECIDED, PASS, FAIL))
    assert bench.play(600) == set()
    assert (bench.taken, bench.player.given_up) == (cycles, 0)
    assert [one.passed for one in bench.player.taken] == [True, False] * (cycles // 2)


@given(
    seed=st.integers(0, 1 << 30),
    mode=st.sampled_from(["pulse", "level"]),
    wires=st.sampled_from([ALL, without("valid"), without("busy"), without("healthy")]),
    wrong=st.sets(st.sampled_from([Misbehaviour.HOLD, Misbehaviour.NO_ACK, Misbehaviour.DROP])),
    plc_poll_ms=st.sampled_from([1, 2, 7]),
    delay_ms=st.integers(3, 60),
    keeps_edges=st.booleans(),
    skew_ns=st.integers(0, SETTLE_NS),
    troubles=st.frozensets(st.integers(50, 3000), max_size=5),
    naps=st.frozensets(st.integers(50, 3000), max_size=1),
)
@settings(max_examples=40)
def test_whatever_the_plc_does_a_good_station_breaks_nothing(
    *,
    seed: int,
    mode: Mode,
    wires: tuple[str, ...],
    wrong: set[Misbehaviour],
    plc_poll_ms: int,
    delay_ms: int,
    keeps_edges: bool,
    skew_ns: int,
    troubles: frozenset[int],
    naps: frozenset[int],
) -> None:
    """Bad programs, slow ones, chips that must be looked at, cameras that go away: no promise of ours is broken."""
    bench = Bench(
        Plan(cycles=10, misbehave=frozenset(wrong), seed=seed),
        mode=mode,
        wires=wires,
        plc_poll_ms=plc_poll_ms,
        delay_ns=delay_ms * MS,
        results=(PASS, UNDECIDED, PASS, FAIL),
        troubles=troubles,
        keeps_edges=keeps_edges,
        skew_ns=skew_ns,
        naps=naps,
    )
    assert bench.play(80) == set()
    assert bench.taken + bench.player.given_up == 10


@pytest.mark.parametrize("plc_poll_ms", [2, 50])
def test_a_pulse_shorter_than_the_plcs_cycle_counts(plc_poll_ms: int) -> None:
    """Two hundred pulses of free run, every second a PASS, none lost on a PLC that looks every 50 ms."""
    bench = Bench(
        FREE_RUN, options=StationOptions(hold_ns=0), wires=("pass", "valid", "healthy"), plc_poll_ms=plc_poll_ms
    )
    assert bench.play(60) == set()
    assert (bench.taken, sum(one.passed for one in bench.player.taken)) == (200, 100)


def when(condition: Callable[[Levels, int], bool], **levels: bool) -> Fault:
    """These wires are so while something holds; the time is in ms."""
    return lambda meant, now_ns: {**meant, **levels} if condition(meant, now_ns // MS) else meant


def since(name: str, condition: Callable[[int], bool], **levels: bool) -> Fault:
    """These wires are so depending on how long ago, in ms, a wire rose."""
    rose_ns = [0, 0]  # when, and whether it is up

    def fault(meant: Levels, now_ns: int) -> Levels:
        if meant.get(name) and not rose_ns[1]:
            rose_ns[0] = now_ns
        rose_ns[1] = bool(meant.get(name))
        return {**meant, **levels} if rose_ns[0] and condition((now_ns - rose_ns[0]) // MS) else meant

    return fault


def passing(fault: Fault) -> Fault:
    """Only while PASS is meant."""
    return lambda meant, now_ns: fault(meant, now_ns) if meant.get("pass") else meant


SLOWLY = Plan(cycles=4, period_ns=600 * MS)
UNACKNOWLEDGED = {"plan": replace(SLOWLY, acknowledge=False), "wires": without("ack"), "mode": "level"}
DEAF = since("valid", lambda ms: ms < 1500, **{"valid": True, "pass": True, "ready": False})
FAULTS: dict[str, tuple[Rule, Fault, dict[str, Any]]] = {
    "a PASS after the deadline": (
        Rule.LATE_PASS,
        good,
        {"plan": replace(SLOWLY, deadline_ns=250 * MS), "delay_ns": 400 * MS},
    ),
    "the same where BUSY alone tells": (
        Rule.LATE_PASS,
        good,
        {"plan": replace(SLOWLY, deadline_ns=250 * MS), "delay_ns": 400 * MS, "wires": without("valid")},
    ),
    "two pulses for one trigger": (Rule.TWO_RESULTS, since("valid", lambda ms: 60 <= ms < 80, valid=True), {}),
    "no answer": (Rule.NO_ANSWER, lambda meant, _: {**meant, "valid": False, "pass": False}, {}),
    "no answer where BUSY alone tells": (
        Rule.NO_ANSWER,
        since("busy", lambda ms: ms >= 0, busy=True, healthy=True, ready=False),
        {"wires": without("valid")},
    ),
    "READY beside a HEALTHY that fell": (Rule.CONTRADICTION, when(lambda _, ms: 300 <= ms < 320, healthy=False), {}),
    "BUSY beside a HEALTHY that fell": (Rule.CONTRADICTION, since("busy", lambda ms: 5 <= ms < 9, healthy=False), {}),
    "PASS beside an inactive HEALTHY": (Rule.VALID_OFFLINE, passing(lambda m, _: {**m, "healthy": False}), {}),
    "PASS before VALID": (Rule.PASS_NOT_VALID, when(lambda meant, _: meant.get("busy", False), **{"pass": True}), {}),
    "PASS after VALID": (
        Rule.RESULT_CHANGED,
        passing(since("valid", lambda ms: ms < 4, **{"pass": False})),
        UNACKNOWLEDGED,
    ),
    "PASS that goes under VALID": (
        Rule.RESULT_CHANGED,
        since("valid", lambda ms: ms > 30, **{"pass": False}),
        UNACKNOWLEDGED,
    ),
    "a result that stays after its acknowledgement": (Rule.ACK_IGNORED, DEAF, {"mode": "level", "results": (PASS,)}),
}


@pytest.mark.parametrize("name", FAULTS)
def test_each_promise_that_wires_can_break_is_told_alone(name: str) -> None:
    """A station that does one thing wrong is told of that rule and of no other."""
    rule, fault, settings_ = FAULTS[name]
    bench = Bench(**{"plan": SLOWLY, "fault": fault, **settings_})
    assert bench.play(20) == {rule}


@pytest.mark.parametrize("wires", [ALL, without("busy"), without("valid")])
def test_a_trigger_that_may_have_been_missed_is_given_up_and_not_told(wires: tuple[str, ...]) -> None:
    """READY falls and BUSY does not rise: a station that could not look in time counts it, and owes no answer."""
    silent: Levels = {"busy": False, "valid": False, "pass": False}
    bench = Bench(SLOWLY, fault=lambda meant, _: {**meant, **silent}, wires=wires)
    assert bench.play(20) == set()
    assert (bench.taken, bench.player.given_up) == (0, 4)


class Played:
    """A PLC's end and its referee, by hand: time passes as told, wires are set as told."""

    def __init__(self, **levels: bool) -> None:
        self.net = Net()
        self.net.now_ns = SECOND_NS
        self.net.put(levels)
        lines: dict[str, Any] = {f"{name}_line": line for name, line in WIRES.items()}
        config = DigitalConfig(kind="digital", mode="level", **lines)
        outputs = without("trigger", "ack")
        self.wire = DigitalController(config, lambda _config: self.net.join(outputs), lambda: self.net.now_ns)
        self.referee = Referee(Terms())
        self.wire.open()

    def look(self, ms: int = 10, **levels: bool) -> tuple[StatusFlag, set[Rule]] | None:
        """Set wires, wait, read; flags and rules broken, or nothing where nothing is known."""
        self.net.put(levels)
        self.net.now_ns += ms * MS
        words = self.wire.read()
        if words is None:
            return None
        told = self.referee.read(words, self.wire.as_of_ns, self.net.now_ns)
        return decode(words).flags, {one.rule for one in told}

    def trigger(self) -> None:
        """Raise TRIGGER."""
        control = ControlBlock(ControlFlag.TRIGGER, trigger_id=5)
        self.wire.write(encode_control(control))
        self.referee.wrote(control, self.net.now_ns)


def test_a_result_that_nobody_asked_for_is_told() -> None:
    """A station that is ready and shows a result without a trigger."""
    played = Played(ready=True, healthy=True)
    assert played.look() == (StatusFlag.ONLINE | StatusFlag.TRIGGER_READY, set())
    seen = played.look(valid=True, ready=False)
    assert seen is not None
    assert seen[1] == {Rule.WRONG_TRIGGER}


def test_a_result_that_came_before_its_trigger_is_no_answer_to_it() -> None:
    """VALID rose before we raised TRIGGER, though we saw it afterwards."""
    played = Played(ready=True, healthy=True)
    played.look()
    played.look()
    played.net.put({"valid": True, "ready": False})
    played.net.now_ns += MS
    played.trigger()
    seen = played.look()
    assert seen is not None
    assert seen[1] == {Rule.WRONG_TRIGGER}


def test_a_part_under_way_at_the_start_is_not_judged() -> None:
    """What somebody else asked for is answered after we came: nothing is known until then, and no promise broken."""
    played = Played(busy=True, healthy=True)
    assert played.look() is None
    assert played.look() is None
    seen = played.look(**{"busy": False, "valid": True, "pass": True})
    assert seen is not None
    assert StatusFlag.RESULTS_VALID in seen[0]
    assert seen[1] == set()


def test_a_result_that_stands_at_the_start_is_seen() -> None:
    """A wire that is active before we take the lines tells no edge; its level counts."""
    played = Played(**{"valid": True, "pass": True, "healthy": True})
    played.net.now_ns += MS
    played.net.put({"ready": True})
    seen = played.look()
    assert seen is not None
    assert StatusFlag.RESULTS_VALID | StatusFlag.TRIGGER_READY in seen[0]
    assert seen[1] == set()


def test_ready_beside_an_inactive_healthy_may_be_an_error() -> None:
    """After an undecided part HEALTHY is down until the next good one: online with an error, and no breach."""
    played = Played(ready=True)
    assert played.look() == (StatusFlag.ONLINE | StatusFlag.ERROR | StatusFlag.TRIGGER_READY, set())
    assert played.wire.doubtful
    assert played.look(ready=False) == (StatusFlag(0), set())


def edge(line: int, rose: bool, at_ms: float, after_ms: float | None = None) -> Edge:
    """Of a kernel, or between two looks."""
    return Edge(line, rose, int(at_ms * MS), int((at_ms if after_ms is None else after_ms) * MS))


def test_edges_close_together_are_one_moment() -> None:
    """In any order of arrival; a second change of a line is another moment, one that changes nothing is none."""
    moments = Moments({1: False, 2: False, 3: True})
    moments.add([edge(2, True, 11), edge(3, True, 11)])
    moments.add([edge(1, True, 10), edge(2, False, 12), edge(3, False, 30)])
    assert moments.next(10 * MS + KNOWN_AFTER_NS) is None
    first, second, third = (moments.next(100 * MS) for _ in range(3))
    assert first == Moment(frozenset({1, 2}), frozenset(), 10 * MS, 11 * MS)
    assert second == Moment(frozenset(), frozenset({2}), 12 * MS, 12 * MS)
    assert third == Moment(frozenset(), frozenset({3}), 30 * MS, 30 * MS)
    assert moments.next(100 * MS) is None
    assert moments.levels == {1: True, 2: False, 3: False}


def test_what_two_looks_found_may_be_one_moment() -> None:
    """PASS was read before it changed and VALID after: the look that finds PASS began before that moment was over."""
    moments = Moments({1: False, 2: False})
    moments.add([edge(2, True, at_ms=20, after_ms=10), edge(1, True, at_ms=30, after_ms=19)])
    assert moments.until_ns(100 * MS) == 10 * MS
    only = moments.next(100 * MS)
    assert only is not None
    assert only.rose == {1, 2}
    assert moments.until_ns(100 * MS) == 100 * MS - KNOWN_AFTER_NS


CHIP = "/dev/gpiochip-none"
ENOUGH = "pass=1,valid=2,ready=3,trigger=4"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([CHIP], "--wires: got '', where pass is missing"),
        ([CHIP, "--wires", "valid=2"], "where pass is missing"),
        ([CHIP, "--wires", f"{ENOUGH},go=5"], "got 'go=5', expected one of pass, valid, ready, busy, healthy"),
        ([CHIP, "--wires", f"{ENOUGH},ack"], "ack: got '', expected the number of a line, 0..1023"),
        ([CHIP, "--wires", f"{ENOUGH},ack=1024"], "ack: got '1024', expected the number of a line"),
        ([CHIP, "--wires", f"{ENOUGH},pass=5"], "pass stands twice, on lines 1 and 5"),
        ([CHIP, "--wires", f"{ENOUGH},ack=3"], "ready and ack are both on line 3"),
        ([CHIP, "--wires", "pass=1,valid=2,ready=3"], "without trigger no part can be asked for"),
        ([CHIP, "--wires", "pass=1,valid=2,trigger=3"], "without ready nobody knows which trigger must be answered"),
        ([CHIP, "--wires", "pass=1,ready=2,trigger=3"], "without valid and busy a reject cannot be told"),
        ([CHIP, "--wires", ENOUGH, "--free-run"], "leave out trigger and ack"),
        ([CHIP, "--wires", "pass=1", "--free-run"], "without valid a reject cannot be told from no result"),
        ([CHIP, "--wires", "pass=1,valid=2", "--free-run", "--mode", "level"], "--mode level: in free run"),
        ([CHIP, "--wires", ENOUGH, "--mode", "both"], "mode: got 'both', expected 'pulse' or 'level'"),
        ([CHIP, "--wires", ENOUGH, "--driver", "pi"], "driver: got 'pi', expected 'gpiod' or 'jetson'"),
        ([CHIP, "--wires", ENOUGH, "--debounce-ms", "-1"], "debounce_ms: got -1"),
        ([CHIP, "--wires", ENOUGH, "--heartbeat"], "single wires tell nothing of heartbeats"),
        ([CHIP, "--wires", ENOUGH, "--misbehave", "early"], "leave them out with --link digital"),
        ([CHIP, "--wires", ENOUGH, "--misbehave", "no-ack"], "without ack in --wires no result is ever acknowledged"),
        ([CHIP, "--wires", ENOUGH, "--port", "1"], "--port: a link of kind digital has no such setting"),
        (["chip", "--wires", ENOUGH], "chip: got 'chip'"),
    ],
)
def test_wires_that_do_not_fit_are_one_clear_error(arguments: list[str], told: str) -> None:
    """A name or number that cannot be meant, and a wire that is missed, are told with what to do."""
    done = CliRunner().invoke(build("plc-sim"), ["plc-sim", "--link", "digital", *arguments])
    assert done.exit_code in (1, 2)
    assert told in " ".join(done.output.split())
    assert "Traceback" not in done.output


def test_wires_of_another_link_are_refused() -> None:
    """`--wires` belongs to single wires alone."""
    done = CliRunner().invoke(build("plc-sim"), ["plc-sim", "--wires", ENOUGH])
    assert "--wires: a link of kind modbus-server has no such setting" in " ".join(done.output.split())


def test_a_chip_that_is_not_there_is_told() -> None:
    """At once, with which end of the wires it must be."""
    pytest.importorskip("gpiod", reason="gpiod is not installed")
    done = CliRunner().invoke(build("plc-sim"), ["plc-sim", "--link", "digital", CHIP, "--wires", ENOUGH])
    assert done.exit_code == 1
    assert f"{CHIP}:" in " ".join(done.output.split())
    assert "the PLC's end of the wires has a chip of its own" in " ".join(done.output.split())
