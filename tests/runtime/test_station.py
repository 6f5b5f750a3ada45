"""Promises of the station: its handshake with a PLC, and that nothing late or doubtful passes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from cada_edge.runtime.control import Command, ControlBlock, ControlFlag, decode_control, encode_control
from cada_edge.runtime.handshake import Acquire, Action, Execute, Life, Published, Quiet, State, StationOptions, Tally
from cada_edge.runtime.outcome import Outcome
from cada_edge.runtime.registers import (
    WORST_SCORE,
    Alarm,
    ErrorCode,
    OfflineReason,
    ResultFlag,
    StatusBlock,
    StatusFlag,
    decode,
    encode,
)
from cada_edge.runtime.station import Station

MS = 1_000_000
TRIGGERED = StationOptions("triggered", deadline_ns=200 * MS, ack_timeout_ns=300 * MS)
ENABLE, TRIGGER, ACK, BUFFER = (
    ControlFlag.TRIGGER_ENABLE,
    ControlFlag.TRIGGER,
    ControlFlag.RESULTS_ACK,
    ControlFlag.BUFFER_RESULTS,
)
REJECT = ResultFlag.REJECT | ResultFlag.FAIL
UNKNOWN = ResultFlag.REJECT | ResultFlag.UNKNOWN


def judged(part: int | None, now_ns: int, result: ResultFlag = ResultFlag.PASS) -> Outcome:
    """What the pipeline says of a part just captured."""
    score = 0.25 if result == ResultFlag.PASS else 0.75
    return Outcome(part, result, ErrorCode.NONE, score, 0.5, now_ns, now_ns, now_ns)


class Bench:
    """A station with a clock, driven as pipeline and PLC drive it."""

    def __init__(self, options: StationOptions = TRIGGERED) -> None:
        self.station, self.now_ns, self.flags = Station(options), 1_000 * MS, ControlFlag(0)
        self.actions: list[Action] = []
        self.trigger_id = 0
        self.live()
        if options.mode == "triggered":
            self.write(ENABLE)

    def write(self, flags: ControlFlag, **words: int) -> None:
        """The PLC writes its control block."""
        self.trigger_id = words.get("trigger_id", self.trigger_id)
        self.flags = flags
        block = ControlBlock(flags, **{"trigger_id": self.trigger_id, **words})
        self.actions += self.station.control(decode_control(encode_control(block)), self.now_ns)

    def live(self, **facts: object) -> None:
        """A sign of life."""
        life = replace(Life(self.now_ns, checksum=7), **facts)  # type: ignore[arg-type]  # names of its fields
        self.actions += self.station.life(life, self.now_ns)

    def wait(self, ms: float, *, alive: bool = True) -> None:
        """Time passes, with ticks as `wake_ns` asks for them."""
        until_ns = self.now_ns + int(ms * MS)
        while self.now_ns < until_ns:
            self.now_ns = min(until_ns, max(self.now_ns + 1, self.station.wake_ns(self.now_ns)))
            if alive:
                self.live()
            self.actions += self.station.tick(self.now_ns)

    def trigger(self, trigger_id: int = 1) -> int:
        """A rising TRIGGER; the number of the part that is to be acquired."""
        self.write(self.flags | TRIGGER, trigger_id=trigger_id)
        return next(a.part for a in reversed(self.actions) if isinstance(a, Acquire))

    def say(self, part: int | None, result: ResultFlag = ResultFlag.PASS) -> None:
        """The pipeline's outcome."""
        self.actions += self.station.acquired(part or 0, self.now_ns)
        self.actions += self.station.outcome(judged(part, self.now_ns, result), self.now_ns)

    def passing(self) -> bool:
        """What a PLC that follows the rule would let through."""
        block = self.station.block
        return (
            StatusFlag.ONLINE in block.flags
            and StatusFlag.RESULTS_VALID in block.flags
            and block.result & ~ResultFlag.SIMULATED == ResultFlag.PASS
        )

    def ready(self) -> bool:
        """TRIGGER_READY shows."""
        return StatusFlag.TRIGGER_READY in self.station.block.flags

    def published(self) -> list[Published]:
        """What went to the records."""
        return [action for action in self.actions if isinstance(action, Published)]


def test_a_whole_handshake() -> None:
    """Trigger, acknowledge, exposure, result with the id, acknowledgement, ready again."""
    bench = Bench()
    assert bench.ready()
    part = bench.trigger(77)
    flags = bench.station.block.flags
    assert StatusFlag.TRIGGER_ACK | StatusFlag.EXPOSING | StatusFlag.BUSY in flags
    assert not bench.ready()
    bench.say(part)
    block = bench.station.block
    assert (bench.passing(), block.trigger_id, block.seq, block.total) == (True, 77, 1, 1)
    bench.write(ENABLE | ACK)
    assert not bench.passing()
    assert not bench.ready()
    bench.write(ENABLE)
    assert bench.ready()
    assert bench.station.state is State.READY
    assert decode(encode(bench.station.block)) == bench.station.block


def test_a_trigger_without_a_picture_is_answered_at_the_deadline() -> None:
    """Nothing came: UNKNOWN and REJECT under the trigger's id, and the reason."""
    bench = Bench()
    bench.trigger(5)
    bench.wait(250)
    block = bench.station.block
    assert (block.result, block.error) == (UNKNOWN | ResultFlag.LATE, ErrorCode.NO_FRAME)
    assert (block.trigger_id, block.score) == (5, WORST_SCORE)
    assert StatusFlag.RESULTS_VALID in block.flags


def test_a_late_pass_is_recorded_and_never_shown() -> None:
    """The verdict that comes after the deadline changes nothing the PLC sees."""
    bench = Bench()
    part = bench.trigger()
    bench.station.acquired(part, bench.now_ns)
    bench.wait(201)
    before = bench.station.block
    bench.say(part)
    assert bench.station.block == before
    assert before.error == ErrorCode.LATE
    assert [(p.seq, p.outcome.result) for p in bench.published()] == [
        (1, UNKNOWN | ResultFlag.LATE), (0, ResultFlag.PASS),
    ]  # fmt: skip


def test_the_last_moment_is_not_late() -> None:
    """At the deadline itself a PASS still counts; a nanosecond later it does not."""
    for past_ns, passing in ((0, True), (1, False)):
        bench = Bench()
        part = bench.trigger()
        bench.now_ns += 200 * MS + past_ns
        bench.live()
        bench.say(part)
        assert bench.passing() is passing


def test_a_trigger_while_busy_is_missed_and_counted() -> None:
    """The second trigger gets no picture, a flag and a count, until the error is cleared."""
    bench = Bench()
    part = bench.trigger(1)
    bench.write(ENABLE)
    bench.write(ENABLE | TRIGGER, trigger_id=2)
    assert bench.station.block.missed == 1
    bench.say(part)
    assert bench.station.block.trigger_id == 1
    assert StatusFlag.MISSED_TRIGGER in bench.station.block.flags
    bench.write(ENABLE | ControlFlag.CLEAR_ERROR)
    assert StatusFlag.MISSED_TRIGGER not in bench.station.block.flags


def test_a_trigger_that_was_up_before_ready_showed_takes_no_picture() -> None:
    """After a restart a PLC that holds TRIGGER gets no inspection of whatever lies there now."""
    bench = Bench()
    fresh = Station(TRIGGERED, Tally(seq=9))
    fresh.life(Life(bench.now_ns), bench.now_ns)
    actions = fresh.control(ControlBlock(ENABLE | TRIGGER, trigger_id=3), bench.now_ns)
    assert actions == []
    assert (fresh.block.missed, fresh.block.seq) == (1, 9)


def test_a_trigger_after_nobody_looked_is_missed() -> None:
    """What the PLC wrote while nobody looked is of an unknown time: no picture fits it. The next trigger counts."""
    bench = Bench()
    bench.actions += bench.station.blind(bench.now_ns)
    bench.write(ENABLE | TRIGGER)
    assert (bench.station.block.missed, bench.actions) == (1, [])
    bench.write(ENABLE)
    assert not bench.ready()
    bench.wait(200)
    assert bench.ready()
    assert bench.trigger(2) == 1


@pytest.mark.parametrize(
    ("facts", "reason"),
    [({"sources_well": False}, OfflineReason.SOURCE_LOST), ({}, OfflineReason.PIPELINE_STALLED)],
)
def test_a_fault_answers_the_part_under_way(facts: dict[str, object], reason: OfflineReason) -> None:
    """Going offline, the station rejects the part it was at, and its verdict is not shown afterwards."""
    bench = Bench(replace(TRIGGERED, deadline_ns=5_000 * MS))
    part = bench.trigger(4)
    if facts:
        bench.live(**facts)
    else:
        bench.wait(1_100, alive=False)
    block = bench.station.block
    assert (block.offline, block.result, block.trigger_id) == (reason, UNKNOWN, 4)
    assert StatusFlag.ONLINE not in block.flags
    bench.live(sources_well=True)
    bench.say(part)
    assert not bench.passing()


def test_a_pass_is_withdrawn_when_a_fault_comes() -> None:
    """A PASS not acknowledged yet is no PASS any more once the camera is lost, nor when it is back."""
    bench = Bench()
    bench.say(bench.trigger())
    assert bench.passing()
    bench.live(sources_well=False)
    bench.live(sources_well=True)
    assert not bench.passing()
    assert StatusFlag.RESULTS_VALID not in bench.station.block.flags


def test_a_hung_pipeline_stops_the_heartbeat() -> None:
    """The heartbeat steps ten times a second while signs of life come, and stops with them."""
    bench = Bench()
    first = bench.station.block.heartbeat
    bench.wait(1_000)
    assert 9 <= bench.station.block.heartbeat - first <= 11
    bench.wait(1_000, alive=False)
    stopped = bench.station.block.heartbeat
    bench.wait(1_000, alive=False)
    assert bench.station.block.heartbeat == stopped


def test_a_plc_that_stops_counting_takes_the_station_offline() -> None:
    """A PLC heartbeat that moved must go on moving; one that is 0 is not supervised."""
    bench = Bench()
    bench.wait(3_000)
    assert bench.ready()
    bench.write(ENABLE, heartbeat=1)
    bench.wait(1_100)
    assert bench.station.block.offline is OfflineReason.PLC_LOST
    bench.write(ENABLE, heartbeat=2)
    assert bench.ready()


def test_without_an_acknowledgement_the_next_result_overwrites() -> None:
    """After the time-out the station is ready with its result still up; the next one tells of the overrun."""
    bench = Bench()
    bench.say(bench.trigger(1))
    bench.write(ENABLE)
    assert not bench.ready()
    bench.wait(301)
    assert bench.ready()
    assert bench.passing()
    bench.say(bench.trigger(2), REJECT)
    assert bench.station.block.trigger_id == 2
    assert StatusFlag.BUFFER_OVERRUN in bench.station.block.flags


def test_results_wait_where_the_plc_buffers() -> None:
    """With BUFFER_RESULTS results queue in order, eight of them, and a ninth is told as overrun."""
    bench = Bench()
    bench.write(ENABLE | BUFFER)
    for number in range(1, 11):
        bench.say(bench.trigger(number))
        bench.write(ENABLE | BUFFER)
    assert bench.station.block.waiting == 8
    assert StatusFlag.BUFFER_OVERRUN in bench.station.block.flags
    seen = []
    for _ in range(9):
        seen.append(bench.station.block.trigger_id)
        bench.write(ENABLE | BUFFER | ACK)
        bench.write(ENABLE | BUFFER)
    assert seen == list(range(1, 10))
    assert not bench.passing()


def test_no_result_is_shown_under_the_acknowledgement_of_another() -> None:
    """A PLC may lower and raise RESULTS_ACK between two looks at it: the next result waits until it was seen low."""
    bench = Bench()
    bench.write(ENABLE | BUFFER)
    bench.say(bench.trigger(1))
    bench.write(ENABLE | BUFFER)
    second = bench.trigger(2)
    bench.write(ENABLE | BUFFER | ACK)
    bench.say(second)
    assert StatusFlag.RESULTS_VALID not in bench.station.block.flags
    bench.write(ENABLE | BUFFER)
    assert (bench.station.block.trigger_id, bench.passing()) == (2, True)


def test_a_recipe_changes_only_offline() -> None:
    """SELECT_RECIPE fails while online; offline it is executed and its end is told."""
    bench = Bench()
    bench.write(ENABLE | ControlFlag.EXECUTE_COMMAND, command=Command.SELECT_RECIPE, recipe=2)
    assert StatusFlag.COMMAND_FAILED in bench.station.block.flags
    assert bench.station.block.error == ErrorCode.COMMAND_NEEDS_OFFLINE
    bench.write(ControlFlag.SET_OFFLINE)
    bench.write(
        ControlFlag.SET_OFFLINE | ControlFlag.EXECUTE_COMMAND, command=Command.SELECT_RECIPE, recipe=2
    )  # fmt: skip
    assert Execute(2) in bench.actions
    bench.station.command_ended(3, True, bench.now_ns)
    assert StatusFlag.COMMAND_EXECUTING in bench.station.block.flags  # that was the end of an earlier one
    bench.station.command_ended(2, True, bench.now_ns)
    assert StatusFlag.COMMAND_DONE in bench.station.block.flags
    bench.write(ControlFlag.SET_OFFLINE)
    assert StatusFlag.COMMAND_DONE not in bench.station.block.flags


def fail_a_command(bench: Bench) -> None:
    """SELECT_RECIPE while online."""
    bench.write(ENABLE | ControlFlag.EXECUTE_COMMAND, command=Command.SELECT_RECIPE, recipe=1)
    assert StatusFlag.COMMAND_FAILED | StatusFlag.ERROR in bench.station.block.flags
    bench.write(ENABLE)
    assert bench.station.block.error == ErrorCode.COMMAND_NEEDS_OFFLINE


def test_a_command_that_is_done_takes_back_the_error_of_the_one_before() -> None:
    """ERROR and word 13 speak of the last result or command."""
    bench = Bench()
    fail_a_command(bench)
    bench.write(ENABLE | ControlFlag.EXECUTE_COMMAND, command=Command.CLEAR_COUNTERS)
    block = bench.station.block
    assert StatusFlag.COMMAND_DONE in block.flags
    assert (StatusFlag.ERROR in block.flags, block.error) == (False, ErrorCode.NONE)


def test_clear_error_takes_back_the_code_as_well() -> None:
    """A PLC that cleared the error finds neither ERROR nor word 13."""
    bench = Bench()
    fail_a_command(bench)
    bench.write(ENABLE | ControlFlag.CLEAR_ERROR)
    assert (StatusFlag.ERROR in bench.station.block.flags, bench.station.block.error) == (False, ErrorCode.NONE)


def test_a_model_changes_between_two_parts() -> None:
    """A reload waits until the PLC took the result of the part under way, then the station is offline for it."""
    bench = Bench()
    part = bench.trigger()
    bench.live(reload=True)
    bench.say(part)
    assert bench.passing()
    bench.write(ENABLE)
    assert not bench.ready()
    assert Quiet() not in bench.actions
    bench.write(ENABLE | ACK)
    assert Quiet() in bench.actions
    assert bench.station.block.offline is OfflineReason.RELOADING
    bench.live(checksum=8)
    assert StatusFlag.ONLINE in bench.station.block.flags
    assert bench.station.block.checksum == 8


@pytest.mark.parametrize("flags", [ENABLE, ENABLE | BUFFER])
def test_a_model_changes_although_the_plc_acknowledges_nothing(flags: ControlFlag) -> None:
    """A PLC that leaves its result up holds a reload for the time-out of the acknowledgement, and takes no part."""
    bench = Bench()
    bench.write(flags)
    part = bench.trigger()
    bench.live(reload=True)
    bench.say(part)
    bench.write(flags)
    for _ in range(31):
        assert not bench.ready()
        bench.now_ns += 10 * MS
        bench.live(reload=True)
    assert bench.station.block.offline is OfflineReason.RELOADING
    assert Quiet() in bench.actions


def test_a_model_changes_only_when_the_plc_has_what_waits() -> None:
    """Results that wait in the buffer are shown one by one before a warm model takes over."""
    bench = Bench()
    bench.write(ENABLE | BUFFER)
    for number in (1, 2):
        bench.say(bench.trigger(number))
        bench.write(ENABLE | BUFFER)
    bench.live(reload=True)
    bench.write(ENABLE | BUFFER | ACK)
    bench.write(ENABLE | BUFFER)
    assert (bench.station.block.trigger_id, bench.passing()) == (2, True)
    bench.write(ENABLE | BUFFER | ACK)
    assert bench.station.block.offline is OfflineReason.RELOADING
    assert all(published.seq for published in bench.published())


def test_rejects_in_a_row_raise_an_alarm() -> None:
    """The third reject in a row raises the alarm; it stays up until the PLC clears it."""
    bench = Bench(StationOptions(reject_run=3))
    for _ in range(3):
        assert bench.station.block.alarms == 0
        bench.say(None, REJECT)
    bench.now_ns += 30 * MS
    bench.say(None)
    assert bench.station.block.alarms == Alarm.REJECT_RUN
    bench.write(ControlFlag.EXECUTE_COMMAND, command=Command.CLEAR_ALARMS)
    assert bench.station.block.alarms == 0


@pytest.mark.parametrize("clear", [False, True])
def test_another_station_goes_on_where_one_ended(clear: bool) -> None:
    """Counters and the alarm that stands go on; number and toggle are one on, so that both change with each result."""
    bench = Bench(StationOptions(reject_run=3))
    bench.say(None)
    for _ in range(3):
        bench.say(None, REJECT)
    if clear:
        bench.write(ControlFlag.EXECUTE_COMMAND, command=Command.CLEAR_ALARMS)
    last = bench.station.block
    bench.station = Station(StationOptions(reject_run=3), bench.station.tally.one_on())
    begun = bench.station.block
    assert (begun.seq, toggled(last, begun)) == (last.seq + 1, True)
    assert (begun.total, begun.rejected, begun.alarms) == (4, 3, 0 if clear else Alarm.REJECT_RUN)
    assert not bench.passing()
    bench.live()
    bench.say(None, REJECT)
    shown = bench.station.block
    assert (shown.seq, toggled(begun, shown), shown.total) == (last.seq + 2, True, 5)
    assert shown.alarms == (0 if clear else Alarm.REJECT_RUN)


def test_every_result_is_told_with_what_is_counted_by_then() -> None:
    """Whoever hears of the last result knows where to go on; a missed trigger and the parts count too."""
    bench = Bench()
    assert bench.station.tally == Tally()
    assert Tally().one_on() == Tally()  # 0 stands for no result yet
    part = bench.trigger(1)
    bench.write(ENABLE)
    bench.write(ENABLE | TRIGGER, trigger_id=2)
    bench.say(part, REJECT)
    (told,) = bench.published()
    assert told.tally == bench.station.tally
    assert told.tally == Tally(1, toggle=True, parts=part, total=1, rejected=1, missed=1, rejects_in_row=1)


def toggled(before: StatusBlock, after: StatusBlock) -> bool:
    """Whether RESULT_TOGGLE changed."""
    return StatusFlag.RESULT_TOGGLE in before.flags ^ after.flags


def test_a_reject_is_held_in_free_run() -> None:
    """A pass that follows a reject sooner than the hold is shown as a reject."""
    bench = Bench(StationOptions(hold_ns=20 * MS))
    bench.say(None, REJECT)
    bench.now_ns += 10 * MS
    bench.say(None)
    assert not bench.passing()
    bench.now_ns += 20 * MS
    bench.say(None)
    assert bench.passing()


class Handshakes(RuleBasedStateMachine):
    """Any order of what a PLC, a pipeline and time can do."""

    def __init__(self) -> None:
        super().__init__()
        self.bench = Bench()
        self.open: dict[int, tuple[int, int]] = {}
        self.passed_in_time: set[int] = set()
        self.last_seq = 0

    @rule(flags=st.sets(st.sampled_from(ControlFlag)), trigger_id=st.integers(0, 9), heartbeat=st.integers(0, 2))
    def plc_writes(self, flags: set[ControlFlag], trigger_id: int, heartbeat: int) -> None:
        """Anything at all."""
        before = len(self.bench.actions)
        self.bench.write(ControlFlag(sum(flags)), trigger_id=trigger_id, heartbeat=heartbeat)
        for action in self.bench.actions[before:]:
            if isinstance(action, Acquire):
                self.open[action.part] = (trigger_id, action.t_trigger_ns)

    @rule()
    def plc_shakes_hands(self) -> None:
        """A clean cycle up to the trigger."""
        for flags in (ENABLE, ENABLE | ACK, ENABLE):
            self.plc_writes({f for f in ControlFlag if f in flags}, 1, 0)
        self.plc_writes({ENABLE, TRIGGER}, len(self.open) + 10, 0)

    @rule(ms=st.sampled_from([1, 50, 150, 400, 1_500]), alive=st.booleans())
    def time_passes(self, ms: int, alive: bool) -> None:
        """With or without signs of life."""
        self.bench.wait(ms, alive=alive)

    @rule()
    def nobody_looks(self) -> None:
        """At what the PLC writes."""
        self.bench.actions += self.bench.station.blind(self.bench.now_ns)

    @rule(well=st.booleans(), reload=st.booleans())
    def pipeline_lives(self, well: bool, reload: bool) -> None:
        """With or without its sources."""
        self.bench.live(sources_well=well, reload=reload)

    @precondition(lambda self: self.open)
    @rule(passes=st.booleans(), data=st.data())
    def pipeline_decides(self, passes: bool, data: st.DataObject) -> None:
        """On any part there ever was, once or twice."""
        part = data.draw(st.sampled_from(sorted(self.open)))
        trigger_id, t_trigger_ns = self.open[part]
        if passes and self.bench.now_ns <= t_trigger_ns + TRIGGERED.deadline_ns:
            self.passed_in_time.add(trigger_id)
        self.bench.say(part, ResultFlag.PASS if passes else REJECT)

    @invariant()
    def only_what_passed_in_time_passes(self) -> None:
        """A PASS shows the id of a part whose PASS came before its deadline."""
        if self.bench.passing():
            assert self.bench.station.block.trigger_id in self.passed_in_time

    @invariant()
    def every_part_is_answered_once(self) -> None:
        """Sequence numbers have no gap, and no more answers than triggers."""
        shown = [action.seq for action in self.bench.published() if action.seq]
        assert shown == list(range(1, len(shown) + 1))
        assert len(shown) <= len(self.open)
        assert decode(encode(self.bench.station.block)) == self.bench.station.block

    @invariant()
    def offline_is_not_ready(self) -> None:
        """Ready, busy and exposing need Online."""
        flags = self.bench.station.block.flags
        if StatusFlag.ONLINE not in flags:
            assert not flags & (StatusFlag.TRIGGER_READY | StatusFlag.BUSY | StatusFlag.EXPOSING)

    def teardown(self) -> None:
        """Given time, every trigger has its answer or was given up, each exactly once."""
        self.bench.wait(1_000)
        answers = [a for a in self.bench.published() if a.seq or "late" not in a.note]
        assert len(answers) == len(self.open)


TestHandshakes = Handshakes.TestCase
TestHandshakes.settings = settings(deadline=None, max_examples=60, stateful_step_count=30)
