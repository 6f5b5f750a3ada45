"""Brings the records of an outbox to another machine, whatever becomes of that machine."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Protocol

from cada_edge.errors import SinkError
from cada_edge.runtime.records.ledger import Tell
from cada_edge.runtime.sinks.outbox import Outbox, Parcel

_IDLE_S = 0.5  # between two looks after an idle connection


class Transport(Protocol):
    """The way to another machine. Used by one thread; blocks for some seconds at most."""

    def deliver(self, parcels: list[Parcel]) -> int:
        """Bring these, in this order; returns how many of the first are done with. Raises `SinkError` for none."""

    def tend(self) -> None:
        """Keep the connection alive while there is nothing to bring. Raises `SinkError` when it is gone."""

    def hang_up(self) -> None:
        """Give the connection up; the next `deliver` makes a new one. Never raises, safe to repeat."""


@dataclass
class CourierState:
    """How deliveries go.

    Attributes:
        delivered: parcels done with since the start.
        refused: of these, given up because the other side will never take them.
        connected: whether the last attempt succeeded.
        error: what the last attempt failed with; empty when it did not.
    """

    delivered: int = 0
    refused: int = 0
    connected: bool = False
    error: str = ""


@dataclass(frozen=True)
class Delivery:
    """What people are told of deliveries.

    Attributes:
        reached: whether the other side took the last attempt; ``None`` before the first.
        waiting: records that it has not taken yet.
        error: what the last attempt failed with; empty when it did not.
    """

    reached: bool | None
    waiting: int
    error: str = ""


class Courier:
    """Brings an outbox's parcels away in a thread, oldest first, with pauses that grow while nobody takes them.

    Args:
        outbox: emptied from its oldest end.
        transport: the way; hung up after each failure.
        tell: called once when deliveries begin to fail, with the error.
        batch: parcels brought at once, > 0: of these some may arrive twice after a failure.
        pause_s: first and longest pause after a failure.
    """

    def __init__(
        self,
        outbox: Outbox,
        transport: Transport,
        tell: Tell,
        batch: int = 16,
        pause_s: tuple[float, float] = (0.25, 15.0),
    ) -> None:
        self.state = CourierState()
        self._outbox, self._transport, self._tell = outbox, transport, tell
        self._batch, self._pause_s = batch, pause_s
        self._work, self._stopping = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="cada-edge-courier", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def wake(self) -> None:
        """There is something to bring."""
        self._work.set()

    def stop(self, patience_s: float = 1.0) -> None:
        """Let the thread finish what it can within `patience_s`, then leave it. Safe to call twice."""
        self._stopping.set()
        self._work.set()
        self._thread.join(patience_s)
        self._transport.hang_up()
        self._thread.join(patience_s)

    def _run(self) -> None:
        pause_s = self._pause_s[0]
        while True:
            last = self._stopping.is_set()  # asked before looking: what came in while waiting is still brought away
            try:
                idle = self._bring()
                pause_s = self._pause_s[0]
            except Exception as error:  # noqa: BLE001  # whatever a transport meets, the thread must go on
                self._failed(error)
                if self._stopping.wait(pause_s):
                    return
                pause_s = min(2 * pause_s, self._pause_s[1])
                continue
            if idle and last:
                self._transport.hang_up()
                return

    def _bring(self) -> bool:
        """One batch; True when nothing was there. Raises when somebody does not take it."""
        self._work.clear()
        parcels = self._outbox.oldest(self._batch)
        if not parcels:
            self._transport.tend()
            if not self._stopping.is_set():
                self._work.wait(_IDLE_S)
            return True
        done = self._transport.deliver(parcels)
        if done:
            self._outbox.remove(parcels[done - 1].number)
            self.state.delivered += done
        if done < len(parcels):
            raise SinkError(f"only {done} of {len(parcels)} records were taken")
        self.state.connected, self.state.error = True, ""
        return False

    def _failed(self, error: Exception) -> None:
        self._transport.hang_up()
        if not self.state.error:
            self._tell(error)
        self.state.connected, self.state.error = False, str(error) or type(error).__name__
