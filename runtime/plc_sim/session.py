"""A game: the player moves, the referee watches every read, until the cycles are over."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from cada_edge.errors import ConfigError, LineError, LinkError
from cada_edge.runtime.control import ControlBlock, encode_control
from cada_edge.runtime.plc_sim.listen import NotToBeHadError
from cada_edge.runtime.plc_sim.player import Plan, Player, Taken
from cada_edge.runtime.plc_sim.referee import Referee
from cada_edge.runtime.plc_sim.rules import Terms, Violation
from cada_edge.runtime.plc_sim.wires import Wire, Witness
from cada_edge.runtime.registers import StatusBlock, decode

_PAUSE_S = 0.05


@dataclass
class Game:
    """How it stands.

    Attributes:
        taken: results seen, in order.
        violations: in order.
        given_up: triggers whose answer did not come.
        reads: blocks read.
        connections: made, the first one counted.
        started_ns: when it began; the clock of the violations.
        seconds: it has taken.
        block: read last.
        stopped: why it ended before every cycle was over; ``None`` where it did not.
    """

    taken: Sequence[Taken] = ()
    violations: list[Violation] = field(default_factory=list)
    given_up: int = 0
    reads: int = 0
    connections: int = 0
    started_ns: int = 0
    seconds: float = 0.0
    block: StatusBlock | None = None
    stopped: str | None = None

    def facts(self) -> dict[str, Any]:
        """For JSON: counts, times in ms and every violation with its words."""
        rounds_ms = [one.round_ns / 1e6 for one in self.taken if one.round_ns is not None]
        return {
            "results": len(self.taken),
            "passed": sum(one.passed for one in self.taken),
            "given_up": self.given_up,
            "stopped": self.stopped,
            "reads": self.reads,
            "connections": self.connections,
            "started_ns": self.started_ns,
            "seconds": round(self.seconds, 3),
            "trigger_to_result_ms": percentiles(rounds_ms),
            "broken": dict(Counter(one.rule.name for one in self.violations)),
            "violations": [{**asdict(one), "rule": one.rule.name} for one in self.violations],
        }


def percentiles(values: Sequence[float]) -> dict[str, float] | None:
    """Half, 99 of 100, and the most; ``None`` for no values."""
    if not values:
        return None
    half, most = np.percentile(values, (50, 99))
    return {"p50": round(float(half), 3), "p99": round(float(most), 3), "max": round(max(values), 3)}


OnTurn = Callable[[Game], None]


def play(
    wire: Wire,
    plan: Plan,
    terms: Terms,
    on_turn: OnTurn = lambda _game: None,
    *,
    poll_s: float = 0.002,
    patience_s: float = 30.0,
) -> Game:
    """Play until every cycle is over; after `patience_s` of nothing, or Ctrl-C, `Game.stopped` says why.

    So it does at once where the PLC's own end, an address to listen on or a serial device, cannot be had at all.

    Args:
        wire: to the station; opened and closed here.
        plan: what to play.
        terms: by which to judge.
        on_turn: called after every read; must be quick.
        poll_s: from the end of one read to the next, as a PLC's cycle.
        patience_s: without a block or a new result, after which the game is off.
    """
    table = _Table(wire, plan, terms, poll_s, patience_s)
    table.game.started_ns = time.monotonic_ns()
    try:
        while not table.over:
            table.turn()
            table.game.seconds = (time.monotonic_ns() - table.game.started_ns) / 1e9
            on_turn(table.game)
    except KeyboardInterrupt:
        table.game.stopped = "interrupted"
    finally:
        wire.close()
    return table.game


class _Table:
    """Where the game is played."""

    def __init__(self, wire: Wire, plan: Plan, terms: Terms, poll_s: float, patience_s: float) -> None:
        self._wire, self._poll_s, self._patience_s = wire, poll_s, patience_s
        self._player, self._referee = Player(plan), Referee(terms)
        self._written: ControlBlock | None = None
        self._connected, self._moved_s, self._results = False, time.monotonic(), 0
        self.game = Game(taken=self._player.taken)

    @property
    def over(self) -> bool:
        return self._player.done or self.game.stopped is not None

    def turn(self) -> None:
        """Connect if need be, then read, judge and move once."""
        try:
            self._connect()
            self._look()
            self._drop()
        except LinkError as error:
            self._lose()
            if isinstance(error, NotToBeHadError) and not self.game.connections:
                self.game.stopped = str(error)
            self._check_patience(str(error))
        self._check_patience("the station gives no results; is it online, and does its mode fit?")
        if not self.over:
            time.sleep(self._poll_s if self._connected else _PAUSE_S)

    def _connect(self) -> None:
        if not self._connected:
            self._wire.open()
            self._connected = True
            self.game.connections += 1
            self._referee.reconnected()

    def _look(self) -> None:
        asked_ns = time.monotonic_ns()
        words = self._wire.read()
        got_ns = time.monotonic_ns()
        if words is None:
            return
        if isinstance(self._wire, Witness):
            asked_ns = min(asked_ns, self._wire.as_of_ns)
            if self._wire.doubtful:
                self._referee.excuse()
        self.game.reads += 1
        self.game.violations += self._referee.read(words, asked_ns, got_ns)
        try:
            self.game.block = decode(words)
        except (ConfigError, LineError):
            return  # the referee has said so; a PLC reads again
        control = self._player.step(self.game.block, got_ns)
        self.game.given_up = self._player.given_up
        self._move(control)

    def _move(self, control: ControlBlock) -> None:
        if control == self._written:
            return
        sent_ns = time.monotonic_ns()
        self._wire.write(encode_control(control))
        self._referee.wrote(control, sent_ns)
        self._written = control

    def _drop(self) -> None:
        if self._player.drops():
            self._lose()

    def _lose(self) -> None:
        self._wire.close()
        self._connected, self._written = False, None

    def _check_patience(self, why: str) -> None:
        if len(self._player.taken) + self._player.given_up != self._results:
            self._results, self._moved_s = len(self._player.taken) + self._player.given_up, time.monotonic()
        elif self.game.stopped is None and time.monotonic() - self._moved_s > self._patience_s:
            self.game.stopped = f"nothing for {self._patience_s:g} s: {why}"
