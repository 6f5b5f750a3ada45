"""A Siemens PLC by python-snap7's server: DB 7 with the control block at byte 0, the status block at byte 32."""

from __future__ import annotations

import logging
import struct
from collections.abc import Sequence

from snap7.server import Server
from snap7.type import SrvArea


class Memory:
    """A data block of 96 bytes; place is ``host:port``."""

    def __init__(self, _kind: str, place: str) -> None:
        logging.getLogger("snap7").setLevel(logging.CRITICAL)
        host, port = place.split(":")
        self._data, self._server = bytearray(96), Server(log=False)
        self._server.register_area(SrvArea.DB, 7, self._data)
        self._server.start_to(host, int(port))

    def status(self) -> Sequence[int]:
        """Bytes 32 to 95."""
        return struct.unpack(">32H", self._data[32:96])

    def control(self, words: Sequence[int]) -> None:
        """Bytes 0 to 31."""
        self._data[:32] = struct.pack(">16H", *words)
