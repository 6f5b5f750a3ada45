"""Judges a station by what a PLC reads and writes: blocks and times in, violations out. Pure.

Every judgement is sound: times are those at which a request was sent and answered, and a rule
counts as broken only if it is broken wherever between the two the station took its words.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from cada_edge.errors import ConfigError, LineError
from cada_edge.runtime.control import ControlBlock, ControlFlag
from cada_edge.runtime.plc_sim.rules import Breach, Look, Rule, Terms, Violation, of_one_block, of_result_word
from cada_edge.runtime.registers import HEAD, TAIL, ResultFlag, StatusFlag, decode, next_counter

_KEPT = ("result", "trigger_id", "encoder", "score", "threshold", "result_ms", "frame_age_ms")


@dataclass(frozen=True)
class _Trigger:
    """A trigger that waits for its answer."""

    id: int
    encoder: int
    sent_ns: int
    ready: bool
    taken_ns: int | None = None  # by then the station had taken it
    excused: bool = False  # its answer may have been lost with a connection or an overrun


class Referee:
    """Judges one station. For one thread; times are of one monotonic clock, ns.

    Args:
        terms: what was agreed.
    """

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self._before: Look | None = None
        self._control = ControlBlock()
        self._open: list[_Trigger] = []
        self._answered: set[int] = set()
        self._taken_back: int | None = None  # the number of a result that is no longer valid
        self._ack: tuple[int, int] | None = None  # the number acknowledged, and when
        self._beat: tuple[int, int] | None = None  # the heartbeat, and since when at the latest it stands

    def wrote(self, control: ControlBlock, sent_ns: int) -> None:
        """The PLC wrote its block; `sent_ns` is when the request left."""
        rising, self._control = control.flags & ~self._control.flags, control
        block = self._before.block if self._before else None
        if ControlFlag.TRIGGER in rising:
            ready = block is not None and StatusFlag.TRIGGER_READY in block.flags
            self._open.append(_Trigger(control.trigger_id, control.encoder, sent_ns, ready))
        if ControlFlag.RESULTS_ACK in rising and self._before is not None and self._before.valid:
            self._ack = (self._before.block.seq, sent_ns)

    def reconnected(self) -> None:
        """A new connection, maybe to a station that was started anew: what stood before binds it no more."""
        self._before = self._ack = self._beat = self._taken_back = None
        self.excuse()

    def excuse(self) -> None:
        """The triggers that wait may rightly stay without an answer."""
        self._open = [replace(one, excused=True) for one in self._open]

    def read(self, words: Sequence[int], asked_ns: int, got_ns: int) -> list[Violation]:
        """Judge one read of the 32 words, asked for and answered at these times."""
        breaches = list(of_result_word(words))
        look: Look | None = None
        if words[HEAD] != words[TAIL]:
            breaches.append(Breach(Rule.TORN_READ, f"head {words[HEAD]}, tail {words[TAIL]}"))
        elif not breaches:
            try:
                look = Look(tuple(words), decode(words), asked_ns, got_ns)
            except (ConfigError, LineError) as error:
                breaches.append(Breach(Rule.NOT_A_BLOCK, str(error)))
        if look is not None:
            breaches += self._judge(look)
        before = self._before.words if self._before else None
        found = [Violation(rule, detail, got_ns, before, tuple(words)) for rule, detail in breaches]
        self._before = look or self._before
        return found

    def _judge(self, look: Look) -> Iterator[Breach]:
        yield from of_one_block(look.block)
        yield from self._heart(look)
        self._note_taken(look)
        before = self._before
        if before is None:
            self._adopt(look)
        elif look.block.seq != before.block.seq:
            yield from self._new_result(before, look)
        else:
            yield from self._same_result(before, look)
        if self._terms.triggered:
            yield from self._unanswered(look)

    def _heart(self, look: Look) -> Iterator[Breach]:
        online, beat = StatusFlag.ONLINE in look.block.flags, look.block.heartbeat
        if not online or self._beat is None or self._beat[0] != beat:
            self._beat = (beat, look.got_ns) if online else None
        elif look.asked_ns - self._beat[1] > self._terms.heartbeat_ns:
            self._beat = (beat, look.got_ns)
            yield Breach(Rule.HEARTBEAT_STILL, f"{beat} for more than {self._terms.heartbeat_ns / 1e6:.0f} ms")

    def _adopt(self, look: Look) -> None:
        """The first block of a connection: what stands there may be of before."""
        self._close(look.block.trigger_id) if look.valid else None
        self._taken_back = None if look.valid else look.block.seq

    def _note_taken(self, look: Look) -> None:
        """TRIGGER_ACK: the newest trigger is under way. An overrun: which answer was lost is not known."""
        if StatusFlag.TRIGGER_ACK in look.block.flags and self._open and self._open[-1].taken_ns is None:
            self._open[-1] = replace(self._open[-1], taken_ns=look.got_ns)
        if StatusFlag.BUFFER_OVERRUN in look.block.flags and self._control.flags & ControlFlag.BUFFER_RESULTS:
            self.excuse()

    def _new_result(self, before: Look, look: Look) -> Iterator[Breach]:
        old, new = before.block, look.block
        self._ack, self._taken_back = None, None if look.valid else new.seq
        if self._terms.triggered and new.seq != next_counter(old.seq):
            yield Breach(Rule.SEQUENCE_GAP, f"{old.seq}, then {new.seq}")
        elif new.seq == next_counter(old.seq) and not (old.flags ^ new.flags) & StatusFlag.RESULT_TOGGLE:
            yield Breach(Rule.TOGGLE_STILL, f"at {new.seq} as at {old.seq}")
        if self._terms.triggered:
            yield from self._answer(before, look)

    def _answer(self, before: Look, look: Look) -> Iterator[Breach]:
        block = look.block
        if block.trigger_id in self._answered:
            yield Breach(Rule.TWO_RESULTS, f"trigger {block.trigger_id} again, as result {block.seq}")
            return
        trigger = self._close(block.trigger_id)
        if trigger is None or trigger.encoder != block.encoder:
            waiting = [(one.id, one.encoder) for one in self._open] or "none"
            got = f"trigger {block.trigger_id} at encoder {block.encoder}"
            yield Breach(Rule.WRONG_TRIGGER, f"{got}; {trigger.encoder if trigger else waiting} waits")
        elif look.passes and (late := self._late(trigger, before, look)):
            yield Breach(Rule.LATE_PASS, f"trigger {trigger.id}: {late}")

    def _late(self, trigger: _Trigger, before: Look, look: Look) -> str:
        """Why the answer is late for sure; empty if it may be in time. Who buffers results wants old ones too."""
        limit_ns = self._terms.deadline_ns
        if ControlFlag.BUFFER_RESULTS in self._control.flags:
            return ""
        if look.block.result_ms * 1_000_000 > limit_ns:
            return f"result_ms is {look.block.result_ms}, the deadline {limit_ns / 1e6:g} ms"
        if trigger.taken_ns is not None and before.asked_ns > trigger.taken_ns + limit_ns:
            return f"{(before.asked_ns - trigger.taken_ns) / 1e6:.1f} ms after its trigger there was no result yet"
        return ""

    def _same_result(self, before: Look, look: Look) -> Iterator[Breach]:
        if before.valid and not look.valid:
            self._taken_back = look.block.seq
        if look.valid and not before.valid and self._taken_back == look.block.seq:
            yield Breach(Rule.SHOWN_AGAIN, f"result {look.block.seq}")
        if not look.valid and ResultFlag.PASS in look.block.result & ~before.block.result:
            yield Breach(Rule.PASS_NOT_VALID, f"result {look.block.seq} is {look.block.result!r} and not valid")
        if look.valid and before.valid:
            for name in _KEPT:
                old, new = getattr(before.block, name), getattr(look.block, name)
                if old != new:
                    yield Breach(Rule.RESULT_CHANGED, f"{name} of result {look.block.seq}: {old!r}, then {new!r}")
        if look.valid and self._ack is not None and self._ack[0] == look.block.seq:
            yield from self._still_there(look, self._ack[1])

    def _still_there(self, look: Look, sent_ns: int) -> Iterator[Breach]:
        if look.asked_ns - sent_ns > self._terms.patience_ns:
            self._ack = None
            yield Breach(Rule.ACK_IGNORED, f"result {look.block.seq}, {(look.asked_ns - sent_ns) / 1e6:.0f} ms after")

    def _unanswered(self, look: Look) -> Iterator[Breach]:
        before = self._before
        steps = (look.block.missed - before.block.missed) if before else 0
        for _ in range(max(0, steps)):
            self._drop_missed()
        if look.valid or look.block.waiting:  # a result before it may have to be acknowledged first
            return
        limit_ns = self._terms.deadline_ns + self._terms.patience_ns
        for trigger in [one for one in self._open if look.asked_ns - one.sent_ns > limit_ns]:
            self._open.remove(trigger)
            if not trigger.excused:
                yield Breach(Rule.NO_ANSWER, f"trigger {trigger.id}, {(look.asked_ns - trigger.sent_ns) / 1e6:.0f} ms")

    def _drop_missed(self) -> None:
        """The station counted a missed trigger: one that was raised while it was not ready, else the newest."""
        early = [one for one in self._open if not one.ready] or self._open[-1:]
        if early:
            self._open.remove(early[0])

    def _close(self, trigger_id: int) -> _Trigger | None:
        """The open trigger of this id, open no longer."""
        found = next((one for one in self._open if one.id == trigger_id), None)
        if found is not None:
            self._open.remove(found)
            self._answered.add(trigger_id)
        return found
