"""A station, the simulated PLC and its referee, step by step in a time of their own, with faults between them."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from cada_edge.errors import CadaEdgeError
from cada_edge.runtime.control import ControlBlock
from cada_edge.runtime.handshake import Acquire, Action, Life, StationOptions
from cada_edge.runtime.outcome import Outcome
from cada_edge.runtime.plc_sim.player import Plan, Player
from cada_edge.runtime.plc_sim.referee import Referee
from cada_edge.runtime.plc_sim.rules import Rule, Terms, Violation
from cada_edge.runtime.registers import ErrorCode, ResultFlag, decode, encode
from cada_edge.runtime.station import Station

STEP_NS, SECOND_NS = 5_000_000, 10**9
_HOUR_NS = 3600 * SECOND_NS
PATIENT = StationOptions(mode="triggered", deadline_ns=_HOUR_NS, ack_timeout_ns=_HOUR_NS)


@dataclass
class Faults:
    """What a station does wrong; as it stands, nothing.

    Attributes:
        shown: what becomes of a block on its way to the PLC.
        heard: what becomes of a control block on its way to the station.
        answers: whether the pipeline answers.
        delay_ns: from trigger to answer.
    """

    shown: Callable[[list[int]], Sequence[int]] = list
    heard: Callable[[ControlBlock], ControlBlock] = replace
    answers: bool = True
    delay_ns: int = 30_000_000


@dataclass
class Table:
    """One game. Blocks reach the station `lag` steps after they were written."""

    plan: Plan
    faults: Faults
    options: StationOptions = PATIENT
    lag: int = 0
    violations: list[Violation] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.now_ns = _HOUR_NS
        self.station = Station(self.options)
        self.player = Player(self.plan)
        self.referee = Referee(Terms(triggered=self.plan.triggered, deadline_ns=self.plan.deadline_ns))
        self._chance = random.Random(self.plan.seed)
        self._written = ControlBlock()
        self._coming: deque[tuple[int, ControlBlock]] = deque()
        self._due: list[tuple[int, int]] = []

    def play(self, seconds: float) -> set[Rule]:
        """The rules broken in so much time, or until every cycle is over."""
        until_ns = self.now_ns + int(seconds * SECOND_NS)
        while self.now_ns < until_ns and not self.player.done:
            self._step()
        return {one.rule for one in self.violations}

    def _step(self) -> None:
        self.now_ns += STEP_NS
        while self._coming and self._coming[0][0] <= self.now_ns:
            self._do(self.station.control(self.faults.heard(self._coming.popleft()[1]), self.now_ns))
        self._do(self.station.life(Life(self.now_ns), self.now_ns))
        self._answer()
        words = list(self.faults.shown(encode(self.station.block)))
        self.violations += self.referee.read(words, self.now_ns, self.now_ns)
        try:
            control = self.player.step(decode(words), self.now_ns)
        except CadaEdgeError:
            return
        if control != self._written:
            self._written = control
            self.referee.wrote(control, self.now_ns)
            self._coming.append((self.now_ns + self.lag * STEP_NS, control))

    def _answer(self) -> None:
        if not self.plan.triggered and self._chance.random() < 0.05:
            self._do(self.station.outcome(self._outcome(None), self.now_ns))
        for due in [due for due in self._due if due[0] <= self.now_ns]:
            self._due.remove(due)
            self._do(self.station.acquired(due[1], self.now_ns))
            self._do(self.station.outcome(self._outcome(due[1]), self.now_ns))

    def _do(self, actions: Sequence[Action]) -> None:
        for action in actions:
            if isinstance(action, Acquire) and self.faults.answers:
                self._due.append((self.now_ns + self.faults.delay_ns, action.part))

    def _outcome(self, part: int | None) -> Outcome:
        now_ns = self.now_ns
        return Outcome(part, ResultFlag.PASS, ErrorCode.NONE, 0.25, 0.5, now_ns, now_ns, now_ns)
