"""The PLC's program, as a pure function of what it reads: two automata, one for triggers, one for results."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import Enum

from cada_edge.runtime.control import ControlBlock, ControlFlag
from cada_edge.runtime.registers import HEARTBEAT_PERIOD_S, ResultFlag, StatusBlock, StatusFlag, next_counter

_BEAT_NS = int(HEARTBEAT_PERIOD_S * 1e9)
_SPARE_IDS = 0x8000_0000  # ids of triggers that must never be answered
_LONGEST_HOLD_NS = 300_000_000
_TAKES = StatusFlag.TRIGGER_READY | StatusFlag.TRIGGER_ACK
_ODDS = 4  # one cycle in so many misbehaves


class Misbehaviour(Enum):
    """What a bad PLC program does, now and then."""

    EARLY = "early"  # triggers again while a part is under way
    HOLD = "hold"  # leaves TRIGGER and RESULTS_ACK up for long
    DROP = "drop"  # loses the connection in the middle of a cycle
    NO_ACK = "no-ack"  # never acknowledges a result; late, where results are buffered


@dataclass(frozen=True)
class Plan:
    """What to play. Durations in ns.

    Attributes:
        cycles: handshakes to run, > 0.
        triggered: raise triggers; else only count the results of free run.
        period_ns: least time from trigger to trigger, >= 0.
        deadline_ns: after which, and as much again, an answer is given up, > 0.
        heartbeat: step the PLC's heartbeat, so that the station supervises it.
        buffer: results that may wait to be acknowledged, with BUFFER_RESULTS; 0: one at a time.
        misbehave: what to do wrong, in one cycle of four.
        seed: of what is done wrong and of the first trigger id.
        acknowledge: raise RESULTS_ACK for each result; not where nothing carries it.
    """

    cycles: int = 100
    triggered: bool = True
    period_ns: int = 0
    deadline_ns: int = 1_000_000_000
    heartbeat: bool = False
    buffer: int = 0
    misbehave: frozenset[Misbehaviour] = frozenset()
    seed: int = 0
    acknowledge: bool = True


@dataclass(frozen=True)
class Taken:
    """A result that the PLC saw.

    Attributes:
        trigger_id: echoed.
        seq: its number.
        passed: whether the part may pass.
        round_ns: from the write of TRIGGER to the read that showed the result; ``None`` in free run.
        result_ms: what the station says of that time.
    """

    trigger_id: int
    seq: int
    passed: bool
    round_ns: int | None
    result_ms: int


class Player:
    """Plays one PLC. `step` after every read gives the control block to write.

    Args:
        plan: what to play.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan, self._chance = plan, random.Random(plan.seed)  # noqa: S311  # no secret
        self._next_id = self._chance.randrange(1, _SPARE_IDS // 2)
        self._control = ControlBlock()
        self._raised: dict[int, int] = {}  # trigger id -> when
        self._seen_seq: int | None = None
        self._started = self._given_up = 0
        self._trigger_until_ns: int | None = None  # TRIGGER is up: when it falls at the earliest
        self._ack_until_ns: int | None = None  # the same for RESULTS_ACK, up or still to come
        self._last_ns = self._beat_ns = self._rise_ns = self._missed = 0
        self._wrong: Misbehaviour | None = None
        self._spare = _SPARE_IDS
        self.taken: list[Taken] = []

    @property
    def given_up(self) -> int:
        """Triggers whose answer was waited for in vain."""
        return self._given_up

    @property
    def done(self) -> bool:
        """Every cycle is over and the control bits are down."""
        over = len(self.taken) + self._given_up >= self._plan.cycles
        return over and not self._control.flags & (ControlFlag.TRIGGER | ControlFlag.RESULTS_ACK)

    def step(self, block: StatusBlock, now_ns: int) -> ControlBlock:
        """What to write after this block was read."""
        flags = self._control.flags
        if self._plan.triggered:
            flags |= ControlFlag.TRIGGER_ENABLE
            flags = flags | ControlFlag.BUFFER_RESULTS if self._plan.buffer else flags
        self._control = ControlBlock(flags, self._heartbeat(now_ns), self._control.trigger_id, self._control.encoder)
        self._results(block, now_ns)
        if self._plan.triggered:
            self._triggers(block, now_ns)
        return self._control

    def drops(self) -> bool:
        """Whether to lose the connection now; true once in a cycle that says so."""
        dropping = self._wrong is Misbehaviour.DROP and bool(self._raised) and self._chance.random() < 0.3
        if dropping:
            self._wrong = None
        return dropping

    # Results

    def _results(self, block: StatusBlock, now_ns: int) -> None:
        valid = StatusFlag.RESULTS_VALID in block.flags
        if self._seen_seq is None:
            self._seen_seq = block.seq if not valid or not self._plan.triggered else None
        fresh = valid and block.seq != self._seen_seq
        if self._ack_until_ns is not None:
            self._acknowledge(valid and not fresh, now_ns)
        elif fresh:
            self._take(block, now_ns)
        for late in [one for one, at in self._raised.items() if now_ns - at > 2 * self._plan.deadline_ns]:
            del self._raised[late]
            self._given_up += 1

    def _take(self, block: StatusBlock, now_ns: int) -> None:
        self._seen_seq = block.seq
        raised_ns = self._raised.pop(block.trigger_id, None)
        if raised_ns is not None or not self._plan.triggered:
            passed = StatusFlag.ONLINE in block.flags and ResultFlag.PASS in block.result
            round_ns = None if raised_ns is None else now_ns - raised_ns
            self.taken.append(Taken(block.trigger_id, block.seq, passed, round_ns, block.result_ms))
        if not (self._plan.triggered and self._plan.acknowledge) or (
            self._wrong is Misbehaviour.NO_ACK and not self._plan.buffer
        ):
            return
        self._ack_until_ns = now_ns + self._hold_ns()
        if self._wrong is not Misbehaviour.NO_ACK:
            self._raise(ControlFlag.RESULTS_ACK)

    def _acknowledge(self, valid: bool, now_ns: int) -> None:
        """Hold RESULTS_ACK until the result is taken back, or raise it late."""
        if self._ack_until_ns is None or now_ns < self._ack_until_ns:
            return
        if ControlFlag.RESULTS_ACK not in self._control.flags:
            self._raise(ControlFlag.RESULTS_ACK)
        elif not valid:
            self._lower(ControlFlag.RESULTS_ACK)
            self._ack_until_ns = None

    # Triggers

    def _triggers(self, block: StatusBlock, now_ns: int) -> None:
        if self._trigger_until_ns is not None:
            counted = StatusFlag.TRIGGER_ACK in block.flags or block.missed != self._missed
            if (counted or now_ns - self._rise_ns > self._plan.deadline_ns) and now_ns >= self._trigger_until_ns:
                self._lower(ControlFlag.TRIGGER)
                self._trigger_until_ns = None
        elif self._may_trigger(block, now_ns):
            self._start(block, now_ns)
        elif self._wrong is Misbehaviour.EARLY and self._raised and not block.flags & _TAKES:
            self._wrong, self._spare = None, self._spare + 1
            self._pull(self._spare, block, now_ns)

    def _may_trigger(self, block: StatusBlock, now_ns: int) -> bool:
        due = not self._started or now_ns - self._last_ns >= self._plan.period_ns
        free = len(self._raised) <= max(0, self._plan.buffer - 1)
        ready = StatusFlag.TRIGGER_READY in block.flags and StatusFlag.TRIGGER_ACK not in block.flags
        return due and free and ready and self._started < self._plan.cycles

    def _start(self, block: StatusBlock, now_ns: int) -> None:
        choices = sorted(self._plan.misbehave, key=lambda one: one.value)
        self._wrong = self._chance.choice(choices) if choices and not self._chance.randrange(_ODDS) else None
        self._started, self._last_ns = self._started + 1, now_ns
        self._raised[self._next_id] = now_ns
        self._pull(self._next_id, block, now_ns)
        self._next_id += 1

    def _pull(self, trigger_id: int, block: StatusBlock, now_ns: int) -> None:
        """Raise TRIGGER until the station has taken or counted it."""
        self._rise_ns, self._missed = now_ns, block.missed
        self._trigger_until_ns = now_ns + self._hold_ns()
        self._raise(ControlFlag.TRIGGER, trigger_id=trigger_id, encoder=self._chance.randrange(1 << 32))

    def _hold_ns(self) -> int:
        wrong = self._wrong is Misbehaviour.HOLD or (self._wrong is Misbehaviour.NO_ACK and bool(self._plan.buffer))
        return self._chance.randrange(_LONGEST_HOLD_NS) if wrong else 0

    # The block

    def _heartbeat(self, now_ns: int) -> int:
        if not self._plan.heartbeat or now_ns - self._beat_ns < _BEAT_NS:
            return self._control.heartbeat
        self._beat_ns = now_ns
        return next_counter(self._control.heartbeat)

    def _raise(self, flag: ControlFlag, trigger_id: int | None = None, encoder: int | None = None) -> None:
        old = self._control
        self._control = ControlBlock(
            old.flags | flag,
            old.heartbeat,
            old.trigger_id if trigger_id is None else trigger_id,
            old.encoder if encoder is None else encoder,
        )

    def _lower(self, flag: ControlFlag) -> None:
        old = self._control
        self._control = ControlBlock(old.flags & ~flag, old.heartbeat, old.trigger_id, old.encoder)
