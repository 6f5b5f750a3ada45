"""What ``line.yaml`` says of the stations at which parts are judged."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from cada_edge.runtime.handshake import Mode, StationOptions
from cada_edge.strict_yaml import Strict

ID = r"^[A-Za-z0-9_-]{1,40}$"
_NS_PER_MS = 1_000_000
_LONGEST_MS = 3_600_000


class StationConfig(Strict):
    """One place where parts are judged. Triggered, it has one or several cameras, and a part passes only if every view
    of it does; in free run, where a PLC sees it, it has one, and every frame is a part.

    Attributes:
        id: for links, records and people.
        sources: ids of its cameras, one in free run; all of the line's where there is one station.
        mode: ``triggered`` by the PLC, or ``free-run``, in which every frame is a part.
        deadline_ms: from trigger (capture, in free run) to result; the line's where absent, then none
            in free run and a second when triggered. A later result is UNKNOWN and REJECT.
        stale_ms: silence of the pipeline after which the PLC sees it stalled; a call of the model is silence, and with
            the line's `batch` it may hold all views of a part.
        plc_stale_ms: standstill of a PLC's heartbeat after which the station goes offline.
        ack_timeout_ms: how long a result waits for RESULTS_ACK; 0: the PLC does not acknowledge.
        hold_ms: in free run, how long a reject keeps later frames from showing PASS.
        buffer: results that may wait while the PLC sets BUFFER_RESULTS.
        reject_run: rejects in a row that raise an alarm; 0 for never.
        simulated: mark every result, for tests with a real PLC.
    """

    id: str = Field(default="station", pattern=ID)
    sources: tuple[Annotated[str, Field(pattern=ID)], ...] = Field(default=(), strict=False)
    mode: Mode = "free-run"
    deadline_ms: Annotated[float, Field(gt=0, le=_LONGEST_MS)] | None = None
    stale_ms: int = Field(default=1000, ge=100, le=60_000)
    plc_stale_ms: int = Field(default=1000, ge=100, le=60_000)
    ack_timeout_ms: int = Field(default=1000, ge=0, le=60_000)
    hold_ms: int = Field(default=20, ge=0, le=10_000)
    buffer: int = Field(default=8, ge=1, le=64)
    reject_run: int = Field(default=0, ge=0, le=10_000)
    simulated: bool = False

    def options(self, line_deadline_ms: float | None) -> StationOptions:
        """For `Station`."""
        usual_ms = 1000.0 if self.mode == "triggered" else _LONGEST_MS
        deadline_ms = self.deadline_ms or line_deadline_ms or usual_ms
        return StationOptions(
            mode=self.mode,
            deadline_ns=int(deadline_ms * _NS_PER_MS),
            stale_ns=self.stale_ms * _NS_PER_MS,
            plc_stale_ns=self.plc_stale_ms * _NS_PER_MS,
            ack_timeout_ns=self.ack_timeout_ms * _NS_PER_MS,
            hold_ns=self.hold_ms * _NS_PER_MS,
            buffer=self.buffer,
            reject_run=self.reject_run,
            simulated=self.simulated,
        )
