"""A station in its PLC process, with a pipeline made by hand, and a PLC that shakes hands over Modbus."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from runtime_kit import Plc, wait_until

from cada_edge.errors import LinkError
from cada_edge.runtime.control import ControlBlock, ControlFlag, encode_control
from cada_edge.runtime.handshake import Acquire, Life, Published, StationOptions
from cada_edge.runtime.judge import Judgement
from cada_edge.runtime.links.config import AnyLink, ModbusServerConfig
from cada_edge.runtime.outcome import Outcome, outcome
from cada_edge.runtime.plc.client import PlcProcess
from cada_edge.runtime.plc.wire import Acquired, Setup, StationSetup
from cada_edge.runtime.registers import ErrorCode, ResultFlag, StatusBlock, StatusFlag
from cada_edge.types import Frame, Verdict

MINUTE_MS = 60_000


def options(stale_ms: int = MINUTE_MS, **changes: Any) -> StationOptions:
    """A station that nothing hurries, holds or alarms."""
    usual = {"deadline_ns": 3600 * 10**9, "hold_ns": 0}
    return StationOptions(stale_ns=stale_ms * 10**6, **{**usual, **changes})


class Place:
    """A PLC process with one station, seen over Modbus or `links`; the test is its pipeline."""

    def __init__(
        self, station: StationOptions, linger_ms: int = 0, links: tuple[AnyLink, ...] = (), **link: Any
    ) -> None:
        setup = Setup(
            (StationSetup("st1", station, sources=("cam1",)),),
            links or (ModbusServerConfig(kind="modbus-server", **{"port": 0, **link}),),
            linger_ms,
        )
        self.asked: list[Acquire] = []
        self.problems: list[str] = []
        self.process = PlcProcess(
            setup, lambda _station, acquire: self.asked.append(acquire), lambda error: self.problems.append(str(error))
        )

    @property
    def port(self) -> int:
        """Of the Modbus server."""
        return int(getattr(self.process.links[0], "port", 0))

    def alive(self, **life: Any) -> None:
        """A sign of life."""
        self.process.send(Life(time.monotonic_ns(), **{"checksum": 7, **life}), "st1")

    def send(self, verdict: Verdict, frame: Frame) -> None:
        """Publish one verdict of free run."""
        self.alive()
        self.process.send(outcome(None, [Judgement(verdict, frame)]), "st1")

    def answer(self, part: int, result: ResultFlag = ResultFlag.PASS) -> None:
        """Picture and verdict of a part that was asked for."""
        now_ns = time.monotonic_ns()
        self.process.send(Acquired(part), "st1")
        self.process.send(Outcome(part, result, ErrorCode.NONE, 0.25, 0.5, now_ns, now_ns, now_ns), "st1")

    def published(self) -> list[Published]:
        """What the station said of results since the last call."""
        return [p.message for p in self.process.packets() if isinstance(p.message, Published)]

    def close(self) -> None:
        """End the process."""
        self.process.close()


@contextmanager
def place(station: StationOptions | None = None, **settings: Any) -> Iterator[Place]:
    """A station, closed at the end."""
    opened = Place(station or options(), **settings)
    try:
        yield opened
    finally:
        opened.close()


@contextmanager
def living(one: Place) -> Iterator[None]:
    """Signs of life every 20 ms, as a pipeline gives them."""
    over = threading.Event()

    def live() -> None:
        while not over.wait(0.02):
            with suppress(LinkError):  # a process that was killed a moment ago takes none
                one.alive()

    thread = threading.Thread(target=live)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


class Driver(Plc):
    """A PLC that also writes its control block, at address 0."""

    def control(self, flags: ControlFlag = ControlFlag(0), **fields: int) -> None:  # noqa: B008  # immutable
        """Write the control block, in one request."""
        reply = self.client.write_registers(0, encode_control(ControlBlock(flags, **fields)))
        assert not reply.isError(), reply

    def ready(self) -> None:
        """Enable triggers and wait until one will be taken."""
        self.control(ControlFlag.TRIGGER_ENABLE)
        wait_until(lambda: StatusFlag.TRIGGER_READY in self.block().flags)

    def trigger(self, trigger_id: int) -> None:
        """Raise TRIGGER."""
        self.control(ControlFlag.TRIGGER_ENABLE | ControlFlag.TRIGGER, trigger_id=trigger_id)

    def result(self, trigger_id: int) -> StatusBlock:
        """Wait for the valid result of this trigger."""

        def there() -> bool:
            block = self.block()
            return block.trigger_id == trigger_id and StatusFlag.RESULTS_VALID in block.flags

        wait_until(there)
        return self.block()

    def acknowledge(self) -> None:
        """Take the result, and wait until it is taken back."""
        self.control(ControlFlag.TRIGGER_ENABLE | ControlFlag.RESULTS_ACK)
        wait_until(lambda: StatusFlag.RESULTS_VALID not in self.block().flags)
