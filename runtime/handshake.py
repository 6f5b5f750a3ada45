"""What goes into a station and comes out of it: options, signs of life, things to do."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import Literal

from cada_edge.errors import ConfigError
from cada_edge.runtime.outcome import Outcome
from cada_edge.runtime.registers import Alarm, next_counter
from cada_edge.runtime.status import Text

_NO_ALARM = Alarm(0)
Mode = Literal["free-run", "triggered"]


class State(Enum):
    """Where a station is in its handshake."""

    OFFLINE = "offline"
    READY = "ready"
    ACQUIRE = "acquire"
    INSPECT = "inspect"
    RESULT = "result"


@dataclass(frozen=True)
class StationOptions:
    """How a station behaves. Durations in ns, > 0 where nothing else is said.

    Attributes:
        mode: whether the PLC triggers or every frame is a part.
        deadline_ns: from trigger (or capture, in free run) to result; a later one never passes.
        stale_ns: silence of the pipeline after which it counts as hung.
        plc_stale_ns: standstill of a PLC heartbeat that has moved, after which the PLC is lost.
        ack_timeout_ns: how long READY waits for RESULTS_ACK; 0: the PLC does not acknowledge.
        hold_ns: in free run, how long a reject keeps later frames from showing PASS; may be 0.
        buffer: results that may wait while BUFFER_RESULTS is set, the shown one not counted.
        reject_run: rejects in a row that raise the alarm; 0 for never.
        simulated: mark every result SIMULATED.
    """

    mode: Mode = "free-run"
    deadline_ns: int = 1_000_000_000
    stale_ns: int = 1_000_000_000
    plc_stale_ns: int = 1_000_000_000
    ack_timeout_ns: int = 1_000_000_000
    hold_ns: int = 20_000_000
    buffer: int = 8
    reject_run: int = 0
    simulated: bool = False

    def __post_init__(self) -> None:
        if min(self.deadline_ns, self.stale_ns, self.plc_stale_ns, self.buffer) < 1:
            raise ConfigError(f"StationOptions: got {self}, expected deadline, stale times and buffer above 0")
        if min(self.ack_timeout_ns, self.hold_ns, self.reject_run) < 0:
            raise ConfigError(f"StationOptions: got {self}, expected ack time-out, hold and reject run of 0 or more")


@dataclass(frozen=True)
class Tally:
    """What a station has counted, from which another goes on where its process ends.

    Attributes:
        seq: number of the last result, 0..65535; 0 before the first.
        toggle: how RESULT_TOGGLE stands with it.
        parts: number of the last trigger.
        total: results, UINT32.
        rejected: of these not passed, UINT32.
        unknown: of these undecided, UINT32.
        missed: triggers missed, 0..65535.
        rejects_in_row: results not passed since the last that was, or since CLEAR_ALARMS.
        alarms: those that stand until they are cleared.
    """

    seq: int = 0
    toggle: bool = False
    parts: int = 0
    total: int = 0
    rejected: int = 0
    unknown: int = 0
    missed: int = 0
    rejects_in_row: int = 0
    alarms: Alarm = _NO_ALARM

    def one_on(self) -> Tally:
        """For a successor: the last result may have been shown and not told, so that its number is not used again."""
        if not self.seq:
            return self
        return replace(self, seq=next_counter(self.seq), toggle=not self.toggle)


_NOTHING_YET = Tally()


@dataclass(frozen=True)
class Life:
    """A sign of life of the pipeline, for one station.

    Attributes:
        t_sent_ns: monotonic, when the pipeline's loop said so.
        sources_well: every source of the station can give frames.
        checksum: of the model and threshold in use.
        recipe: number of the recipe in use.
        drift: alarms that only the pipeline can see.
        reload: a new model is warm and waits for the station to be quiet.
    """

    t_sent_ns: int
    sources_well: bool = True
    checksum: int = 0
    recipe: int = 0
    drift: Alarm = _NO_ALARM
    reload: bool = False


@dataclass(frozen=True)
class Acquire:
    """To do: take a picture, captured at or after the trigger, with every source."""

    part: int
    t_trigger_ns: int


@dataclass(frozen=True)
class Execute:
    """To do: load the model again, of this recipe (0: the present one). Answer `command_ended` of it."""

    recipe: int


@dataclass(frozen=True)
class Quiet:
    """Said: no part is under way and none will be taken; the model may change now."""


@dataclass(frozen=True)
class Published:
    """For the records: what became of a part.

    Attributes:
        seq: as shown to the PLC; 0 when it was not shown.
        trigger_id: as the PLC gave it; 0 in free run.
        encoder: as the PLC gave it; 0 in free run.
        outcome: shown, or (late or lost) not shown.
        t_trigger_ns: monotonic; capture in free run.
        t_published_ns: monotonic, when it was put into the block, or given up.
        note: why, in words.
        tally: of the station after it.
    """

    seq: int
    trigger_id: int
    encoder: int
    outcome: Outcome
    t_trigger_ns: int
    t_published_ns: int
    note: Text = ""
    tally: Tally = _NOTHING_YET


Action = Acquire | Execute | Quiet | Published
