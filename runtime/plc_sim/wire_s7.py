"""A simulated Siemens PLC whose data block a link of ours writes, by python-snap7's server."""

from __future__ import annotations

import logging
import struct
from collections.abc import Sequence

from snap7.error import S7Error
from snap7.server import Server
from snap7.type import SrvArea

from cada_edge.runtime.control import CONTROL_WORDS
from cada_edge.runtime.links.config import S7Config
from cada_edge.runtime.plc_sim.listen import NotToBeHadError
from cada_edge.runtime.registers import WORDS

_STATUS, _CONTROL = struct.Struct(f">{WORDS}H"), struct.Struct(f">{CONTROL_WORDS}H")


class S7Memory:
    """A CPU with one data block, just long enough for both blocks.

    Args:
        config: of the link; `host` and `port` are where to listen, `rack` and `slot` do not matter.
    """

    def __init__(self, config: S7Config) -> None:
        logging.getLogger("snap7").setLevel(logging.CRITICAL)  # a link that hangs up is not our news
        self._config = config
        size = max(config.status_byte + _STATUS.size, config.control_byte + _CONTROL.size)
        self._data = bytearray(size)
        self._server: Server | None = None

    def open(self) -> None:
        """Listen. Raises `NotToBeHadError` for an address that cannot be had."""
        config, server = self._config, Server(log=False)
        server.register_area(SrvArea.DB, config.db, self._data)
        server.host = config.host
        try:
            server.start(config.port)
        except (S7Error, OSError, ValueError) as error:
            raise NotToBeHadError(
                f"cannot listen on {config.host}:{config.port}: {error}; choose another --port (above 1023 without "
                "privileges) and name it in line.yaml"
            ) from error
        self._server = server

    def read(self) -> Sequence[int] | None:
        """What the link wrote last."""
        words = _STATUS.unpack_from(bytes(self._data), self._config.status_byte)
        return words if any(words) else None

    def write(self, words: Sequence[int]) -> None:
        """Leave the words where the link reads them."""
        at = self._config.control_byte
        self._data[at : at + _CONTROL.size] = _CONTROL.pack(*words)

    def close(self) -> None:
        """Hang up; memory keeps what stands in it."""
        server, self._server = self._server, None
        if server is not None:
            server.stop()
