"""An Allen-Bradley controller with a tag for either block, by pylogix."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Sequence
from typing import Any

from pylogix import PLC
from pylogix.lgx_comm import Connection

from cada_edge.errors import LinkError
from cada_edge.runtime.control import CONTROL_WORDS
from cada_edge.runtime.links.config import LogixConfig
from cada_edge.runtime.registers import WORDS

_SMALL_FORWARD_OPEN = 504  # bytes; both blocks fit, and the large one would be tried first and cost a time-out
_HEADER_BYTES, _MAX_BYTES = 24, 8192
_TICK_S = 0.001
_BROKEN = (OSError, ValueError, TypeError, KeyError, IndexError, AttributeError, struct.error)  # pylogix at garbage


class _Bounded(Connection):  # type: ignore[misc]  # pylogix has no types
    """Its own reader waits forever in a loop for the rest of a message of a peer that hung up."""

    def receive_data(self) -> bytes | None:
        """One whole message, or ``None`` when it did not come in time, as pylogix expects."""
        until_s = time.monotonic() + self.parent.SocketTimeout
        data, wanted = b"", _HEADER_BYTES
        try:
            while len(data) < wanted:
                self.Socket.settimeout(max(until_s - time.monotonic(), _TICK_S))
                part = self.Socket.recv(4096)
                data += part
                if not part:
                    return None
                if len(data) >= _HEADER_BYTES:
                    wanted = _HEADER_BYTES + int(struct.unpack_from("<H", data, 2)[0])
                if wanted > _MAX_BYTES:
                    return None
        except OSError:
            return None
        return data


class LogixTags:
    """Arrays of INT in a controller, each read and written whole: one request each. For one thread.

    Args:
        config: where the controller is, and the time-out.
    """

    def __init__(self, config: LogixConfig) -> None:
        self._config = config
        self._peer = f"logix {config.host}:{config.port} slot {config.slot}"
        self._plc: Any = None

    def open(self) -> None:
        """Get ready; the first request connects."""
        config = self._config
        self._plc = PLC(config.host, slot=config.slot, timeout=config.timeout_ms / 1000, port=config.port)
        self._plc.conn = _Bounded(self._plc)
        self._plc.ConnectionSize = _SMALL_FORWARD_OPEN

    def read(self, tag: str, count: int) -> list[int]:
        """The first `count` words of an array. Raises `LinkError`."""
        values = self._ask(tag, lambda: self._plc.Read(f"{tag}[0]", count)).Value
        if not isinstance(values, list) or len(values) != count or not all(type(v) is int for v in values):
            raise LinkError(f"{self._peer}: {tag}: got {values!r}, expected INT[{count}]")
        return [value & 0xFFFF for value in values]

    def write(self, tag: str, words: Sequence[int]) -> None:
        """The first words of an array. Raises `LinkError`: they may have been written or not."""
        values = [_signed(word) for word in words]
        self._ask(tag, lambda: self._plc.Write(f"{tag}[0]", values))

    def close(self) -> None:
        """Disconnect."""
        plc, self._plc = self._plc, None
        if plc is not None:
            # Not PLC.Close: it asks the peer for leave, and waits another time-out for one that is gone.
            plc.conn.Socket.close()

    def _ask(self, tag: str, request: Callable[[], Any]) -> Any:
        """One request and its answer; pylogix tells of failures by a status, or trips over garbage."""
        if self._plc is None:
            raise LinkError(f"{self._peer}: not open")
        try:
            reply = request()
        except _BROKEN as error:
            raise LinkError(f"{self._peer}: {tag}: {type(error).__name__}: {error}; is this a controller?") from error
        if reply.Status != "Success":
            raise LinkError(
                f"{self._peer}: {tag}: {reply.Status}; is the controller on, and is the tag an array of INT "
                "with external access Read/Write?"
            )
        return reply


class LogixLink:
    """Writer mode into an INT[32] and out of an INT[16]: one request each."""

    def __init__(self, config: LogixConfig) -> None:
        self._config, self._tags = config, LogixTags(config)

    def open(self) -> None:
        """Connect, and read the type of the status tag. Raises `LinkError`."""
        self._tags.open()
        self._tags.read(self._config.status_tag, WORDS)

    def write_status(self, words: Sequence[int]) -> None:
        """Write the 32 words in one request. Raises `LinkError`."""
        self._tags.write(self._config.status_tag, words)

    def read_control(self) -> Sequence[int] | None:
        """The 16 words, or ``None`` where this link may not drive the station. Raises `LinkError`."""
        if not self._config.control:
            return None
        return self._tags.read(self._config.control_tag, CONTROL_WORDS)

    def close(self) -> None:
        """Disconnect."""
        self._tags.close()


def _signed(word: int) -> int:
    return word - 0x10000 if word > 0x7FFF else word
