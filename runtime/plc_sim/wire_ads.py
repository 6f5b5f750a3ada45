"""A simulated Beckhoff controller whose arrays a link of ours writes, by the test server that pyads brings."""

from __future__ import annotations

import select
import struct
from collections import deque
from collections.abc import Sequence
from contextlib import suppress

from pyads.constants import ADST_UINT16
from pyads.testserver import AdsTestServer, AdvancedHandler, PLCVariable
from pyads.testserver.handler import AmsPacket, AmsResponseData
from pyads.testserver.testserver import ADS_PORT, AdsClientConnection

from cada_edge.runtime.control import CONTROL_WORDS
from cada_edge.runtime.links.config import AdsConfig
from cada_edge.runtime.plc_sim.listen import must_be_free
from cada_edge.runtime.registers import WORDS

_STATUS, _CONTROL = struct.Struct(f"<{WORDS}H"), struct.Struct(f"<{CONTROL_WORDS}H")
_NO_SUCH_SYMBOL = struct.pack("<I", 0x710)
_LOOK_S = 0.1
_ADVICE = (
    "the port of ADS cannot be chosen: stop the TwinCAT router or the other simulated PLC that has it, or listen at "
    "another address of this machine (127.0.0.2, say) and name it in line.yaml"
)


class AdsMemory:
    """A controller with two arrays of UINT under the names of the link.

    Args:
        config: of the link; `host` is where to listen, `net_id` and `ams_port` do not matter.
    """

    def __init__(self, config: AdsConfig) -> None:
        self._config = config
        self._status = PLCVariable(config.status_tag, bytes(_STATUS.size), ADST_UINT16, "ARRAY [0..31] OF UINT")
        self._control = PLCVariable(config.control_tag, bytes(_CONTROL.size), ADST_UINT16, "ARRAY [0..15] OF UINT")
        self._server: _Server | None = None

    def open(self) -> None:
        """Listen. Raises `LinkError` for an address that cannot be had."""
        must_be_free(self._config.host, ADS_PORT, _ADVICE)
        handler = _Handler()
        handler.add_variable(self._status)
        handler.add_variable(self._control)
        self._server = _Server(handler, ip_address=self._config.host, logging=False)
        self._server.start()

    def read(self) -> Sequence[int] | None:
        """What the link wrote last; ``None`` also for an array of another length."""
        value = bytes(self._status.value)
        return _STATUS.unpack(value) if len(value) == _STATUS.size and any(value) else None

    def write(self, words: Sequence[int]) -> None:
        """Leave the words where the link reads them."""
        self._control.value = _CONTROL.pack(*words)

    def close(self) -> None:
        """Hang up; memory keeps what stands in it."""
        server, self._server = self._server, None
        if server is not None:
            server.close()


class _Handler(AdvancedHandler):  # type: ignore[misc]  # pyads has no types
    """Answers a name that it does not know as a controller does; pyads' would die of it."""

    def handle_request(self, request: AmsPacket) -> AmsResponseData:
        """One request, one answer."""
        try:
            return super().handle_request(request)
        except (KeyError, ValueError, struct.error):
            (state,) = struct.unpack("<H", request.ams_header.state_flags)
            return AmsResponseData(struct.pack("<H", state | 1), _NO_SUCH_SYMBOL, b"")


class _Connection(AdsClientConnection):  # type: ignore[misc]  # pyads has no types
    """Ends with its peer, also one that resets the connection or is hung up on."""

    def run(self) -> None:
        """Serve one client."""
        with suppress(OSError, ValueError):
            super().run()


class _Server(AdsTestServer):  # type: ignore[misc]  # pyads has no types
    """Keeps no record of requests, for there are hundreds a second."""

    def __init__(self, handler: AdvancedHandler, ip_address: str, logging: bool) -> None:
        super().__init__(handler, ip_address=ip_address, logging=logging)
        self.request_history: deque[AmsPacket] = deque(maxlen=1)
        self.server.listen(5)

    def run(self) -> None:
        """Take clients until `stop`."""
        while self._run:
            if select.select([self.server], [], [], _LOOK_S)[0]:
                client, address = self.server.accept()
                connection = _Connection(self.handler, client, address, self, daemon=True)
                self.clients.append(connection)
                connection.start()

    def stop(self) -> None:
        """Hang up on every client and listen no more. Safe to call twice."""
        self._run = False
        self.join()
        super().stop()
