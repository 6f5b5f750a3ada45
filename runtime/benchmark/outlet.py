"""The end of the way: a real PLC process whose Modbus registers show each verdict."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING

from cada_edge.errors import LinkError
from cada_edge.runtime.handshake import Life, Published, StationOptions
from cada_edge.runtime.judge import Judgement
from cada_edge.runtime.links.config import ModbusServerConfig
from cada_edge.runtime.plc.wire import Setup, StationSetup
from cada_edge.runtime.stations import Stations

if TYPE_CHECKING:
    from typing_extensions import Self

SOURCE = "benchmark"
_ANSWER_S, _NAP_S = 5.0, 0.0002


class Outlet:
    """A free-running station behind a Modbus server on a port of the system's choice. A context manager."""

    def __init__(self) -> None:
        link = ModbusServerConfig(kind="modbus-server", port=0, control=False, base=100, control_base=0)
        options = StationOptions(hold_ns=0)
        setup = Setup((StationSetup(SOURCE, options, sources=(SOURCE,)),), (link,), linger_ms=0)
        self._problems: list[Exception] = []
        self._stations = Stations(setup, lambda _source, _demand: None, self._problems.append)

    @property
    def port(self) -> int:
        """That the Modbus server listens on."""
        return self._stations.ports[0] or 0

    def live(self) -> None:
        """A sign of life, as the line gives twenty times a second. Raises `LinkError`."""
        self._stations.live(Life(time.monotonic_ns()), (), {})

    def show(self, judgement: Judgement) -> int:
        """Publish one verdict; monotonic ns at which the registers showed it.

        Raises `LinkError` when they do not.
        """
        self._stations.judged(SOURCE, judgement)
        until_s = time.monotonic() + _ANSWER_S
        while time.monotonic() < until_s:
            for packet in self._stations.told():
                if isinstance(packet.message, Published):
                    return packet.message.t_published_ns
            time.sleep(_NAP_S)
        raise LinkError(f"the PLC process showed no verdict within {_ANSWER_S:.0f} s: {self._problems or 'no reason'}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stations.stop()
        self._stations.close()
