"""A station as the PLC sees it: the state machine between triggers, outcomes and the status block.

::

    OFFLINE --pipeline alive, sources well, PLC alive, not SET_OFFLINE--> READY
    READY   --rising TRIGGER while TRIGGER_READY shows--> ACQUIRE   (TriggerAck; id and encoder kept)
    ACQUIRE --frame--> INSPECT          ACQUIRE, INSPECT --deadline--> RESULT (UNKNOWN | REJECT | LATE)
    INSPECT --outcome--> RESULT         (data, sequence, verdict, valid and toggle in one block)
    RESULT  --rising RESULTS_ACK, or its time-out--> READY, once TRIGGER and RESULTS_ACK are 0
    any     --any fault--> OFFLINE      (a part under way is answered UNKNOWN | REJECT, a PASS withdrawn)

Pure: no I/O, no clock. Events come in with the monotonic time at which they are handled, what has
to be done comes back as actions, and `block` is what the PLC may read. In free run there are no
triggers: each outcome is a result of its own.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace

from cada_edge.runtime.control import Command, ControlBlock, ControlFlag
from cada_edge.runtime.handshake import Acquire, Action, Execute, Life, Published, Quiet, State, StationOptions, Tally
from cada_edge.runtime.outcome import Outcome
from cada_edge.runtime.registers import (
    HEARTBEAT_PERIOD_S,
    WORST_SCORE,
    Alarm,
    ErrorCode,
    OfflineReason,
    ResultFlag,
    StatusBlock,
    StatusFlag,
    milliseconds,
    next_counter,
)

_U16, _UINT32 = 0xFFFF, 1 << 32
_BEAT_NS = int(HEARTBEAT_PERIOD_S * 1e9)
_BLIND_NS = _BEAT_NS  # ample for what a PLC wrote meanwhile to come in
_UNKNOWN = ResultFlag.UNKNOWN | ResultFlag.REJECT
_LATCHED = StatusFlag.MISSED_TRIGGER | StatusFlag.BUFFER_OVERRUN | StatusFlag.ERROR


@dataclass(frozen=True)
class _Part:
    """A trigger that waits for its answer."""

    number: int
    trigger_id: int
    encoder: int
    t_trigger_ns: int


@dataclass(frozen=True)
class _Result:
    """An answer: shown, or waiting to be."""

    part: _Part
    outcome: Outcome
    note: str
    until_ns: int | None


class Station:
    """One station. For one thread; every method takes the present monotonic time, ns.

    Args:
        options: how it behaves.
        tally: what was counted before a restart, so that the PLC sees the next result change and its counters go on,
            and no late outcome of that time fits a new part.
    """

    def __init__(self, options: StationOptions, tally: Tally | None = None) -> None:
        self._options, self._state = options, State.OFFLINE
        before = tally or Tally()
        self._block = _begun(before)
        self._control, self._plc_moved_ns = ControlBlock(), 0
        self._life: Life | None = None
        self._part: _Part | None = None
        self._parts = before.parts
        self._waiting: deque[_Result] = deque()
        self._ack_until_ns: int | None = None  # None: no acknowledgement is awaited
        self._pass_until_ns: int | None = None
        self._held_until_ns, self._blind_until_ns, self._rejects_in_row = 0, 0, before.rejects_in_row
        self._beat_ns, self._quiet_said, self._stopped = 0, False, False
        self._executing = 0  # recipe of the command under way
        self._actions: list[Action] = []

    @property
    def state(self) -> State:
        """Where it is."""
        return self._state

    @property
    def block(self) -> StatusBlock:
        """What the PLC may read now."""
        return self._block

    @property
    def tally(self) -> Tally:
        """What it has counted so far."""
        block = self._block
        return Tally(
            seq=block.seq,
            toggle=StatusFlag.RESULT_TOGGLE in block.flags,
            parts=self._parts,
            total=block.total,
            rejected=block.rejected,
            unknown=block.unknown,
            missed=block.missed,
            rejects_in_row=self._rejects_in_row,
            alarms=Alarm(block.alarms) & Alarm.REJECT_RUN,
        )

    @property
    def pass_until_ns(self) -> int | None:
        """Until when the result in `block` may first reach a PLC; ``None`` for no limit."""
        return self._pass_until_ns

    def control(self, control: ControlBlock, now_ns: int) -> list[Action]:
        """The PLC wrote its block."""
        before, self._control = self._control, control
        if control.heartbeat != before.heartbeat:
            self._plc_moved_ns = now_ns
        rising, falling = control.flags & ~before.flags, before.flags & ~control.flags
        # Only a PLC that was shown TRIGGER_READY may trigger: its block of before counts.
        ready = StatusFlag.TRIGGER_READY in self._block.flags
        self._settle(now_ns)
        if ControlFlag.CLEAR_ERROR in rising:
            self._clear(_LATCHED)
            self._block = replace(self._block, error=ErrorCode.NONE)
        if ControlFlag.TRIGGER in falling:
            self._clear(StatusFlag.TRIGGER_ACK)
        if ControlFlag.RESULTS_ACK in rising:
            self._ack_until_ns = None
            self._clear(StatusFlag.RESULTS_VALID)
        if ControlFlag.TRIGGER in rising and self._options.mode == "triggered":
            self._trigger(ready, now_ns)
        if ControlFlag.EXECUTE_COMMAND in rising:
            self._command()
        if ControlFlag.EXECUTE_COMMAND in falling:
            self._clear(StatusFlag.COMMAND_DONE | StatusFlag.COMMAND_FAILED)
        return self._done(now_ns)

    def blind(self, now_ns: int) -> list[Action]:
        """Nobody looked at what the PLC wrote for a while: a TRIGGER among it is of a time not known, and missed."""
        self._blind_until_ns = now_ns + _BLIND_NS
        return self._done(now_ns)

    def life(self, life: Life, now_ns: int) -> list[Action]:
        """The pipeline gave a sign of life."""
        self._life = life
        return self._done(now_ns)

    def acquired(self, part: int, now_ns: int) -> list[Action]:
        """Every picture of a part is taken."""
        if self._state is State.ACQUIRE and self._part is not None and self._part.number == part:
            self._state = State.INSPECT
        return self._done(now_ns)

    def outcome(self, outcome: Outcome, now_ns: int) -> list[Action]:
        """The pipeline decided on a part; one that is late, or of no part under way, is never shown."""
        self._settle(now_ns)
        if self._options.mode == "free-run":
            self._free(outcome, now_ns)
        elif self._part is not None and outcome.part == self._part.number:
            self._answer(self._part, outcome, outcome.note, now_ns)
        else:
            self._give_up(outcome, "late: its part was answered before", None, now_ns)
        return self._done(now_ns)

    def command_ended(self, recipe: int, done: bool, now_ns: int) -> list[Action]:
        """What `Execute` asked for, by its recipe, was done, or failed; one that ends late ends no other."""
        if StatusFlag.COMMAND_EXECUTING in self._block.flags and recipe == self._executing:
            self._clear(StatusFlag.COMMAND_EXECUTING)
            self._end_command(ErrorCode.NONE if done else ErrorCode.COMMAND_FAILED)
        return self._done(now_ns)

    def tick(self, now_ns: int) -> list[Action]:
        """Time passed: deadlines, time-outs, the heartbeat."""
        return self._done(now_ns)

    def stop(self, now_ns: int) -> list[Action]:
        """Show the safe state for good."""
        self._stopped = True
        return self._done(now_ns)

    def wake_ns(self, now_ns: int) -> int:
        """When `tick` must be called at the latest."""
        due = [self._beat_ns + _BEAT_NS]
        if self._part is not None:
            due.append(self._part.t_trigger_ns + self._options.deadline_ns + 1)
        if self._ack_until_ns is not None and self._ack_until_ns > now_ns:  # else waived already
            due.append(self._ack_until_ns)
        return max(now_ns, min(due))

    # What the PLC asks for

    def _trigger(self, ready: bool, now_ns: int) -> None:
        if not ready or self._state is not State.READY or now_ns < self._blind_until_ns:
            missed = min(self._block.missed + 1, _U16)
            self._block = replace(self._block, missed=missed, flags=self._block.flags | StatusFlag.MISSED_TRIGGER)
            return
        self._parts += 1
        self._part = _Part(self._parts, self._control.trigger_id, self._control.encoder, now_ns)
        self._state = State.ACQUIRE
        self._set(StatusFlag.TRIGGER_ACK)
        self._actions.append(Acquire(self._parts, now_ns))

    def _command(self) -> None:
        command = self._control.command
        if StatusFlag.COMMAND_EXECUTING in self._block.flags:
            return
        if command == Command.CLEAR_COUNTERS:
            self._block = replace(self._block, total=0, rejected=0, unknown=0, missed=0)
            self._end_command(ErrorCode.NONE)
        elif command == Command.CLEAR_ALARMS:
            self._rejects_in_row = 0
            self._block = replace(self._block, alarms=self._block.alarms & ~Alarm.REJECT_RUN)
            self._end_command(ErrorCode.NONE)
        elif command not in (Command.SELECT_RECIPE, Command.RELOAD):
            self._end_command(ErrorCode.COMMAND_UNKNOWN)
        elif self._block.offline is not OfflineReason.REQUESTED:
            self._end_command(ErrorCode.COMMAND_NEEDS_OFFLINE)
        else:
            self._set(StatusFlag.COMMAND_EXECUTING)
            self._executing = self._control.recipe if command == Command.SELECT_RECIPE else 0
            self._actions.append(Execute(self._executing))

    def _end_command(self, error: ErrorCode) -> None:
        """ERROR and its code are of the last result or command: one that is done takes back what stood there."""
        self._clear(StatusFlag.ERROR)
        self._set(StatusFlag.COMMAND_FAILED | StatusFlag.ERROR if error else StatusFlag.COMMAND_DONE)
        self._block = replace(self._block, error=error)

    # Results

    def _free(self, outcome: Outcome, now_ns: int) -> None:
        part = _Part(0, 0, 0, outcome.t_capture_ns)
        until_ns = outcome.t_capture_ns + self._options.deadline_ns
        if self._state is State.OFFLINE:
            self._give_up(outcome, f"the station is offline: {self._block.offline.name}", part, now_ns)
            return
        note = outcome.note
        if now_ns > until_ns:
            note = f"late by {(now_ns - until_ns) / 1e6:.0f} ms"
            outcome = replace(outcome, result=_UNKNOWN | ResultFlag.LATE, error=ErrorCode.LATE, score=WORST_SCORE)
        if ResultFlag.REJECT in outcome.result:
            self._held_until_ns = now_ns + self._options.hold_ns
        elif now_ns < self._held_until_ns:
            outcome, note = replace(outcome, result=ResultFlag.REJECT), "held: it came too soon after a reject"
        self._count(outcome)
        self._show(_Result(part, outcome, note, until_ns), now_ns)

    def _answer(self, part: _Part, outcome: Outcome, note: str, now_ns: int) -> None:
        """The part under way gets its one answer."""
        self._part, self._state = None, State.RESULT
        self._count(outcome)
        result = _Result(part, outcome, note, part.t_trigger_ns + self._options.deadline_ns)
        if self._waiting or (self._buffering() and self._acknowledging()):
            self._enqueue(result, now_ns)
        else:
            self._show(result, now_ns)

    def _acknowledging(self) -> bool:
        """Whether the PLC is yet to acknowledge a result, or holds its acknowledgement: one that it lowers and raises
        again between two looks at its block would be taken for the same, and the result shown under it never end.
        """
        shows = StatusFlag.RESULTS_VALID in self._block.flags
        return shows or ControlFlag.RESULTS_ACK in self._control.flags

    def _enqueue(self, result: _Result, now_ns: int) -> None:
        """Behind the result that the PLC has not acknowledged yet; the PLC asked for it so."""
        if len(self._waiting) >= self._options.buffer:
            self._set(StatusFlag.BUFFER_OVERRUN)
            self._give_up(result.outcome, "the result buffer is full", result.part, now_ns)
            return
        self._waiting.append(replace(result, until_ns=None))
        self._block = replace(self._block, waiting=len(self._waiting))

    def _show(self, result: _Result, now_ns: int) -> None:
        """Data, sequence, verdict, valid and toggle: one new block."""
        old, part, outcome = self._block, result.part, result.outcome
        acknowledged = self._options.mode == "triggered" and self._options.ack_timeout_ns > 0
        flags = (old.flags ^ StatusFlag.RESULT_TOGGLE) | StatusFlag.RESULTS_VALID
        if acknowledged and StatusFlag.RESULTS_VALID in old.flags:
            flags |= StatusFlag.BUFFER_OVERRUN
        bits = outcome.result | ResultFlag.SIMULATED if self._options.simulated else outcome.result
        self._block = replace(
            old,
            flags=flags | StatusFlag.ERROR if outcome.error else flags & ~StatusFlag.ERROR,
            result=bits,
            seq=next_counter(old.seq),
            trigger_id=part.trigger_id,
            encoder=part.encoder,
            score=outcome.score,
            threshold=outcome.threshold,
            result_ms=milliseconds(now_ns - part.t_trigger_ns),
            frame_age_ms=milliseconds(now_ns - outcome.t_arrival_ns),
            error=outcome.error,
        )
        self._pass_until_ns = result.until_ns
        self._ack_until_ns = now_ns + self._options.ack_timeout_ns if acknowledged else None
        self._report(self._block.seq, part, replace(outcome, result=bits), result.note, now_ns)

    def _give_up(self, outcome: Outcome, note: str, part: _Part | None, now_ns: int) -> None:
        self._report(0, part or _Part(outcome.part or 0, 0, 0, outcome.t_capture_ns), outcome, note, now_ns)

    def _report(self, seq: int, part: _Part, outcome: Outcome, note: str, now_ns: int) -> None:
        times = part.t_trigger_ns, now_ns
        self._actions.append(Published(seq, part.trigger_id, part.encoder, outcome, *times, note, self.tally))

    def _count(self, outcome: Outcome) -> None:
        block, passed = self._block, ResultFlag.PASS in outcome.result
        self._rejects_in_row = 0 if passed else self._rejects_in_row + 1
        run = 0 < self._options.reject_run <= self._rejects_in_row
        self._block = replace(
            block,
            total=(block.total + 1) % _UINT32,
            rejected=(block.rejected + (not passed)) % _UINT32,
            unknown=(block.unknown + (ResultFlag.UNKNOWN in outcome.result)) % _UINT32,
            alarms=block.alarms | Alarm.REJECT_RUN if run else block.alarms,
        )

    # What follows from the time and the facts

    def _done(self, now_ns: int) -> list[Action]:
        """Settle, and hand out what is to be done."""
        self._settle(now_ns)
        actions, self._actions = self._actions, []
        return actions

    def _settle(self, now_ns: int) -> None:
        self._expire(now_ns)
        self._go(self._why_offline(now_ns), now_ns)
        self._rest(now_ns)
        self._show_life(now_ns)

    def _expire(self, now_ns: int) -> None:
        part = self._part
        if part is None or now_ns <= part.t_trigger_ns + self._options.deadline_ns:
            return
        if self._state is State.ACQUIRE:
            self._answer(part, _nothing(part, ErrorCode.NO_FRAME, now_ns), "no frame before the deadline", now_ns)
        else:
            self._answer(part, _nothing(part, ErrorCode.LATE, now_ns), "no verdict before the deadline", now_ns)

    def _why_offline(self, now_ns: int) -> OfflineReason:
        life, options = self._life, self._options
        if self._stopped or life is None:
            return OfflineReason.STOPPED if self._stopped else OfflineReason.STARTING
        watched = self._control.heartbeat != 0
        reasons = {
            OfflineReason.PIPELINE_STALLED: now_ns - life.t_sent_ns >= options.stale_ns,
            OfflineReason.SOURCE_LOST: not life.sources_well,
            OfflineReason.REQUESTED: ControlFlag.SET_OFFLINE in self._control.flags,
            OfflineReason.PLC_LOST: watched and now_ns - self._plc_moved_ns >= options.plc_stale_ns,
            OfflineReason.RELOADING: life.reload and self._part is None and self._told(now_ns),
        }
        return next((reason for reason, holds in reasons.items() if holds), OfflineReason.NONE)

    def _acknowledged(self, now_ns: int) -> bool:
        """Whether the PLC has taken the result that shows, or will not say so any more."""
        return self._ack_until_ns is None or now_ns >= self._ack_until_ns

    def _told(self, now_ns: int) -> bool:
        """Whether the PLC has taken every result there is, or takes none any more."""
        coming = bool(self._waiting) and self._ack_until_ns is None  # the next one shows as soon as RESULTS_ACK falls
        return self._acknowledged(now_ns) and not coming

    def _go(self, reason: OfflineReason, now_ns: int) -> None:
        if reason is OfflineReason.NONE and self._state is State.OFFLINE:
            unacknowledged = self._ack_until_ns is not None
            self._state = State.RESULT if unacknowledged else State.READY
        elif reason is not OfflineReason.NONE and self._state is not State.OFFLINE:
            self._withdraw(reason, now_ns)
        self._block = replace(self._block, offline=reason)

    def _withdraw(self, reason: OfflineReason, now_ns: int) -> None:
        """Nothing may pass: drop what waits, take back what shows, answer the part under way."""
        note = f"the station went offline: {reason.name}"
        for result in self._waiting:
            self._give_up(result.outcome, note, result.part, now_ns)
        self._waiting.clear()
        self._clear(StatusFlag.RESULTS_VALID)
        self._block, self._ack_until_ns = replace(self._block, result=_UNKNOWN, waiting=0), None
        if self._part is not None:
            self._answer(self._part, _nothing(self._part, ErrorCode.WENT_OFFLINE, now_ns), note, now_ns)
        self._state = State.OFFLINE

    def _rest(self, now_ns: int) -> None:
        """Show the next result that waits; come back from RESULT."""
        acknowledging = ControlFlag.RESULTS_ACK in self._control.flags
        if self._waiting and self._ack_until_ns is None and not acknowledging:
            result = self._waiting.popleft()
            self._block = replace(self._block, waiting=len(self._waiting))
            self._show(result, now_ns)
        free = self._buffering() or (self._acknowledged(now_ns) and not acknowledging)
        changing = self._life is not None and self._life.reload  # takes no part more, or it would never come to it
        if self._state is State.RESULT and free and not changing and ControlFlag.TRIGGER not in self._control.flags:
            self._state = State.READY

    def _buffering(self) -> bool:
        return ControlFlag.BUFFER_RESULTS in self._control.flags and self._options.ack_timeout_ns > 0

    def _show_life(self, now_ns: int) -> None:
        enabled = self._options.mode == "triggered" and ControlFlag.TRIGGER_ENABLE in self._control.flags
        looked = now_ns >= self._blind_until_ns
        waiting = enabled and looked and ControlFlag.TRIGGER not in self._control.flags
        shown = {
            StatusFlag.ONLINE: self._state is not State.OFFLINE,
            StatusFlag.TRIGGER_READY: waiting and self._state is State.READY,
            StatusFlag.EXPOSING: self._state is State.ACQUIRE,
            StatusFlag.BUSY: self._state in (State.ACQUIRE, State.INSPECT),
        }
        flags = self._block.flags
        for flag, on in shown.items():
            flags = flags | flag if on else flags & ~flag
        self._block = replace(self._block, flags=flags, heartbeat=self._heartbeat(now_ns))
        if (life := self._life) is not None:
            alarms = self._block.alarms & Alarm.REJECT_RUN | life.drift
            self._block = replace(self._block, checksum=life.checksum, recipe=life.recipe, alarms=alarms)
            quiet = life.reload and self._state is State.OFFLINE
            if quiet and not self._quiet_said:
                self._actions.append(Quiet())
            self._quiet_said = quiet

    def _heartbeat(self, now_ns: int) -> int:
        """Steps while the pipeline lives, also while offline for another reason."""
        life = self._life
        alive = life is not None and not self._stopped and now_ns - life.t_sent_ns < self._options.stale_ns
        if now_ns - self._beat_ns < _BEAT_NS:
            return self._block.heartbeat
        self._beat_ns = now_ns
        return next_counter(self._block.heartbeat) if alive else self._block.heartbeat

    def _set(self, flags: StatusFlag) -> None:
        self._block = replace(self._block, flags=self._block.flags | flags)

    def _clear(self, flags: StatusFlag) -> None:
        self._block = replace(self._block, flags=self._block.flags & ~flags)


def _begun(before: Tally) -> StatusBlock:
    """The first block of a station that goes on where another ended."""
    return StatusBlock(
        flags=StatusFlag.RESULT_TOGGLE if before.toggle else StatusFlag(0),
        seq=before.seq,
        total=before.total,
        rejected=before.rejected,
        unknown=before.unknown,
        missed=before.missed,
        alarms=before.alarms,
    )


def _nothing(part: _Part, error: ErrorCode, now_ns: int) -> Outcome:
    """The outcome of a part of which nothing is known."""
    result = _UNKNOWN if error is ErrorCode.WENT_OFFLINE else _UNKNOWN | ResultFlag.LATE
    return Outcome(part.number, result, error, WORST_SCORE, 0.0, part.t_trigger_ns, now_ns, now_ns)
