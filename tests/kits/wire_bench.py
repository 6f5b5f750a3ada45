"""A station on single wires, the simulated PLC at their other end and its referee, in a time of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from cada_edge.errors import LinkError
from cada_edge.runtime.control import decode_control, encode_control
from cada_edge.runtime.handshake import Acquire, Action, Life, StationOptions
from cada_edge.runtime.links.config import DigitalConfig
from cada_edge.runtime.links.digital import DigitalLink
from cada_edge.runtime.links.pins import Edge
from cada_edge.runtime.outcome import Outcome
from cada_edge.runtime.plc_sim.player import Plan, Player
from cada_edge.runtime.plc_sim.referee import Referee
from cada_edge.runtime.plc_sim.rules import Rule, Terms, Violation
from cada_edge.runtime.plc_sim.wire_digital import DigitalController
from cada_edge.runtime.registers import ErrorCode, ResultFlag, decode, encode
from cada_edge.runtime.station import Station

MS, SECOND_NS = 1_000_000, 10**9
_POLL_MS = 5  # of the line
WIRES = {"pass": 1, "valid": 2, "ready": 3, "busy": 4, "healthy": 5, "trigger": 6, "ack": 7}
Levels = dict[str, bool]
Fault = Callable[[Levels, int], Levels]  # what the station sets and the time -> what its wires show


def good(levels: Levels, _now_ns: int) -> Levels:
    """As set."""
    return levels


class End:
    """One end of the wires: what the other one sets comes in as edges, kept by a kernel or found by looking."""

    def __init__(self, net: Net, inputs: Sequence[str]) -> None:
        self._net, self._inputs = net, inputs
        self._edges: list[Edge] = []
        self._looked_ns, self._seen = net.now_ns, dict(self._levels())

    def set(self, active: Mapping[int, bool]) -> None:
        """Set outputs."""
        self._net.put({name: active[line] for name, line in WIRES.items() if line in active})

    def levels(self) -> Mapping[int, bool]:
        """Inputs as they are."""
        return self._levels()

    def edges(self) -> Sequence[Edge]:
        """Edges since the last call."""
        if self._net.keeps_edges:
            came, self._edges = self._edges, []
            return came
        before_ns, self._looked_ns = self._looked_ns, self._net.now_ns
        levels, seen = self._levels(), self._seen
        self._seen = levels
        return [Edge(line, on, self._looked_ns, before_ns) for line, on in levels.items() if on != seen[line]]

    def hear(self, name: str, on: bool, now_ns: int) -> None:
        """The other end changed a wire."""
        if name in self._inputs:
            self._edges.append(Edge(WIRES[name], on, now_ns, now_ns))

    def close(self) -> None:
        """Let go; the last levels stay."""
        self._net.leave(self)

    def _levels(self) -> dict[int, bool]:
        return {WIRES[name]: self._net.levels[name] for name in self._inputs}


class Net:
    """Wires between two ends. PASS may change a little before the others do, as a slow chip has it."""

    def __init__(self, keeps_edges: bool = True, skew_ns: int = 0) -> None:
        self.keeps_edges, self._skew_ns = keeps_edges, skew_ns
        self.levels: Levels = dict.fromkeys(WIRES, False)
        self.now_ns = 0
        self._ends: list[End] = []

    def join(self, inputs: Sequence[str]) -> End:
        """A new end that hears these wires."""
        end = End(self, inputs)
        self._ends.append(end)
        return end

    def leave(self, end: End) -> None:
        """An end hears no more."""
        if end in self._ends:
            self._ends.remove(end)

    def put(self, levels: Levels) -> None:
        """These wires are set."""
        for name, on in levels.items():
            if on != self.levels[name]:
                self.levels[name] = on
                at_ns = self.now_ns + (0 if name == "pass" else self._skew_ns)
                for end in self._ends:
                    end.hear(name, on, at_ns)


class _StationPins:
    """Outputs of the station on their way to the wires, where `Bench` lets a fault change them."""

    def __init__(self, end: End, bench: Bench) -> None:
        self._end, self._bench = end, bench
        self.levels, self.edges, self.close = end.levels, end.edges, end.close

    def set(self, active: Mapping[int, bool]) -> None:
        self._bench.meant.update({name: active[line] for name, line in WIRES.items() if line in active})
        self._bench.show()


@dataclass
class Bench:
    """One game. Every step is a millisecond.

    Attributes:
        plan: what the PLC plays.
        fault: what is wrong with the wires.
        options: of the station.
        mode: of the link.
        wires: that are there.
        plc_poll_ms: from read to read.
        delay_ns: from trigger to answer.
        results: what the answers are, in turn; one that is undecided brings an error.
        troubles: steps (ms) at which the cameras are lost, for 30 ms.
        keeps_edges: whether the PLC's end keeps edges, or looks.
        skew_ns: by which PASS is seen before the rest.
        naps: steps from which the PLC does nothing for five seconds.
    """

    plan: Plan
    fault: Fault = good
    options: StationOptions = field(
        default_factory=lambda: StationOptions(mode="triggered", deadline_ns=SECOND_NS, ack_timeout_ns=SECOND_NS)
    )
    mode: Literal["pulse", "level"] = "pulse"
    wires: Sequence[str] = tuple(WIRES)
    plc_poll_ms: int = 2
    delay_ns: int = 12 * MS
    results: Sequence[ResultFlag] = (ResultFlag.PASS, ResultFlag.FAIL | ResultFlag.REJECT)
    troubles: frozenset[int] = frozenset()
    keeps_edges: bool = True
    skew_ns: int = 0
    naps: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        self.net = Net(self.keeps_edges, self.skew_ns)
        self.net.now_ns = self._start_ns = 3600 * SECOND_NS
        self.meant: Levels = {}
        lines: dict[str, Any] = {f"{name}_line": WIRES[name] for name in self.wires}
        driver: Literal["gpiod", "jetson"] = "gpiod" if self.keeps_edges else "jetson"
        config = DigitalConfig(kind="digital", driver=driver, **lines, mode=self.mode, pulse_ms=20)
        self.station, self.player = Station(self.options), Player(self.plan)
        self.referee = Referee(Terms(triggered=self.plan.triggered, deadline_ns=self.plan.deadline_ns))
        outputs = [name for name in self.wires if name not in ("trigger", "ack")]
        inputs = [name for name in self.wires if name in ("trigger", "ack")]
        self._link = DigitalLink(config, lambda _config: _StationPins(self.net.join(inputs), self), self._clock)
        self.wire = DigitalController(config, lambda _config: self.net.join(outputs), self._clock)
        self._control: Sequence[int] = ()
        self._shown: Sequence[int] = ()
        self._due: list[tuple[int, int]] = []
        self._answers = 0
        self._written: object = None
        self._connected = False
        self.connections = 0
        self.violations: list[Violation] = []
        self._link.open()

    @property
    def taken(self) -> int:
        """Results that the PLC had."""
        return len(self.player.taken)

    def play(self, seconds: float) -> set[Rule]:
        """The rules broken in so much time, or until every cycle is over."""
        for step in range(int(seconds * 1000)):
            if self.player.done:
                break
            self.net.now_ns += MS
            self._station_turn(step)
            self.show()
            asleep = any(at <= step < at + 5000 for at in self.naps)
            if step % self.plc_poll_ms == 0 and not asleep:
                self._plc_turn()
        return {one.rule for one in self.violations}

    def show(self) -> None:
        """Have the wires show what the station means, or what the fault makes of it."""
        self.net.put(self.fault(dict(self.meant), self.net.now_ns - self._start_ns))

    def _clock(self) -> int:
        return self.net.now_ns

    def _station_turn(self, step: int) -> None:
        now_ns, station = self.net.now_ns, self.station
        if step % _POLL_MS == 0 and (control := self._link.read_control()) and control != self._control:
            self._control = control
            self._do(station.control(decode_control(control), now_ns))
        if step % _POLL_MS == 0:
            well = not any(at <= step < at + 30 for at in self.troubles)
            self._do(station.life(Life(now_ns, sources_well=well), now_ns))
        if not self.plan.triggered and step % 40 == 0:
            self._do(station.outcome(self._outcome(None), now_ns))
        for due in [due for due in self._due if due[0] <= now_ns]:
            self._due.remove(due)
            self._do(station.acquired(due[1], now_ns))
            self._do(station.outcome(self._outcome(due[1]), now_ns))
        if (words := encode(station.block)) != self._shown:
            self._shown = words
            self._link.write_status(words)

    def _plc_turn(self) -> None:
        if not self._connected:
            self.wire.open()
            self.referee.reconnected()
            self._connected, self._written, self.connections = True, None, self.connections + 1
        now_ns = self.net.now_ns
        try:
            words = self.wire.read()
        except LinkError:
            self._lose()
            return
        if words is None:
            return
        if self.wire.doubtful:
            self.referee.excuse()
        self.violations += self.referee.read(words, min(now_ns, self.wire.as_of_ns), now_ns)
        control = self.player.step(decode(words), now_ns)
        if control != self._written:
            self.wire.write(encode_control(control))
            self.referee.wrote(control, now_ns)
            self._written = control
        if self.player.drops():
            self._lose()

    def _lose(self) -> None:
        self.wire.close()
        self._connected = False

    def _do(self, actions: Sequence[Action]) -> None:
        for action in actions:
            if isinstance(action, Acquire):
                self._due.append((self.net.now_ns + self.delay_ns, action.part))

    def _outcome(self, part: int | None) -> Outcome:
        now_ns, result = self.net.now_ns, self.results[self._answers % len(self.results)]
        self._answers += 1
        error = ErrorCode.NOVEL if ResultFlag.UNKNOWN in result else ErrorCode.NONE
        return Outcome(part, result, error, 0.25, 0.5, now_ns, now_ns, now_ns)
