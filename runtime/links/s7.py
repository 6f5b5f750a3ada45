"""A Siemens S7 whose data block holds both blocks, by python-snap7."""

from __future__ import annotations

import logging
import math
import struct
import time
from collections.abc import Sequence
from typing import NoReturn

from snap7.client import Client
from snap7.connection import ISOTCPConnection
from snap7.error import S7ConnectionError, S7Error, S7TimeoutError

from cada_edge.errors import LinkError
from cada_edge.runtime.control import CONTROL_WORDS
from cada_edge.runtime.links.config import S7Config
from cada_edge.runtime.registers import WORDS, to_bytes

_CONTROL = struct.Struct(f">{CONTROL_WORDS}H")
_SMALLEST_PDU = 2 * WORDS + 40  # bytes; below, snap7 would cut the block into several requests
_BROKEN = (S7Error, OSError, ValueError, IndexError, KeyError, struct.error)  # what snap7 raises, or trips over


class _Timed(ISOTCPConnection):
    """snap7 waits its time-out for every byte; here it holds for a whole call."""

    until_s = math.inf

    def allow(self, timeout_s: float) -> None:
        """The next call has so long."""
        self.until_s = time.monotonic() + timeout_s
        if self.socket is not None:
            self.socket.settimeout(timeout_s)

    def _recv_exact(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            left_s = self.until_s - time.monotonic()
            if self.socket is None or left_s <= 0:
                raise S7TimeoutError("no whole answer in time")
            self.socket.settimeout(left_s)
            part = self.socket.recv(size - len(data))
            if not part:
                raise S7ConnectionError("the PLC closed the connection")
            data += part
        return data


class S7Link:
    """Writer mode into a data block: one PUT per status block, one GET per control block."""

    def __init__(self, config: S7Config) -> None:
        self._config, self._timeout_s = config, config.timeout_ms / 1000
        self._client, self._connection = Client(), _Timed(config.host, config.port)
        self._peer = f"s7 {config.host}:{config.port} rack {config.rack} slot {config.slot} DB{config.db}"

    def open(self) -> None:
        """Connect and negotiate. Raises `LinkError`."""
        logging.getLogger("snap7").setLevel(logging.CRITICAL)  # each failure is raised; once is enough
        config, client = self._config, Client()
        # Client.connect waits 5 s whatever it was told, so its steps are taken here.
        tsap = client.connection_type << 8 | config.rack << 5 | config.slot
        connection = _Timed(config.host, config.port, client.local_tsap, tsap)
        client.connection, self._client, self._connection = connection, client, connection
        try:
            connection.allow(self._timeout_s)
            connection.connect(timeout=self._timeout_s)
            connection.allow(self._timeout_s)
            client._setup_communication()  # noqa: SLF001  # the step of Client.connect that has no public name
        except _BROKEN as error:
            self._fail("connect", error)
        if client.pdu_length < _SMALLEST_PDU:
            raise LinkError(f"{self._peer}: takes requests of {client.pdu_length} bytes, expected {_SMALLEST_PDU}")
        client.connected = True

    def write_status(self, words: Sequence[int]) -> None:
        """Write the 64 bytes in one request. Raises `LinkError`."""
        self._connection.allow(self._timeout_s)
        try:
            self._client.db_write(self._config.db, self._config.status_byte, bytearray(to_bytes(words)))
        except _BROKEN as error:
            self._fail(f"write 64 bytes at {self._config.status_byte}", error)

    def read_control(self) -> Sequence[int] | None:
        """The 16 words, or ``None`` where this link may not drive the station. Raises `LinkError`."""
        if not self._config.control:
            return None
        self._connection.allow(self._timeout_s)
        try:
            data = self._client.db_read(self._config.db, self._config.control_byte, _CONTROL.size)
            return _CONTROL.unpack(bytes(data))
        except _BROKEN as error:
            self._fail(f"read {_CONTROL.size} bytes at {self._config.control_byte}", error)

    def close(self) -> None:
        """Disconnect."""
        self._client.disconnect()

    def _fail(self, what: str, error: Exception) -> NoReturn:
        raise LinkError(
            f"{self._peer}: {what}: {error}; is PUT/GET allowed, and is the data block large enough and not optimised?"
        ) from error
