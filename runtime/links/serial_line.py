r"""Plain text over a serial port, for controllers without a field bus.

Out, one line per new result: ``R,<seq>,<trigger id>,PASS|REJECT,<score>,<checksum>\r\n``; the
checksum is CRC-16/XMODEM over everything before its comma, four hexadecimal digits.
In: ``T,<id>[,<encoder>]`` is a trigger, ``A`` an acknowledgement; anything else is ignored.
"""

from __future__ import annotations

import binascii
import re
import termios
from collections.abc import Sequence

import serial

from cada_edge.errors import LinkError
from cada_edge.runtime.control import encode_control
from cada_edge.runtime.links.config import SerialLineConfig
from cada_edge.runtime.links.pending import PendingControl
from cada_edge.runtime.registers import ResultFlag, StatusBlock, StatusFlag, decode

MAX_LINE_BYTES = 64
_MOST_BYTES_A_READ = 4096
_UINT32_MAX = 0xFFFFFFFF
_TRIGGER = re.compile(rb"T,(\d{1,10})(?:,(\d{1,10}))?")


def result_line(block: StatusBlock) -> bytes:
    """The line that tells of the result in `block`; anything but a valid PASS is REJECT."""
    passed = ResultFlag.PASS in block.result and StatusFlag.RESULTS_VALID in block.flags
    verdict = "PASS" if passed else "REJECT"
    text = f"R,{block.seq},{block.trigger_id},{verdict},{block.score:.6g}".encode()
    return text + b",%04X\r\n" % binascii.crc_hqx(text, 0)


class LineReader:
    """Cuts what comes in into lines, and forgets a line too long to be one of ours."""

    def __init__(self) -> None:
        self._rest, self._skipping = b"", False

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that are whole now, without their ends."""
        *lines, rest = (self._rest + data).replace(b"\r", b"\n").split(b"\n")
        if lines and self._skipping:
            lines, self._skipping = lines[1:], False
        if len(rest) > MAX_LINE_BYTES:
            rest, self._skipping = b"", True
        self._rest = rest
        return [line for line in lines if 0 < len(line) <= MAX_LINE_BYTES]


def take_line(line: bytes, pending: PendingControl) -> bool:
    """Do what a line asks for; False where it asks for nothing. Raises `LinkError` when too much waits."""
    if line == b"A":
        pending.ack(on=True)
        pending.ack(on=False)
        return True
    found = _TRIGGER.fullmatch(line)
    if not found or int(found[1]) > _UINT32_MAX or int(found[2] or 0) > _UINT32_MAX:
        return False
    pending.trigger(on=True, trigger_id=int(found[1]), encoder=int(found[2] or 0))
    pending.trigger(on=False)
    return True


class SerialLineLink:
    """Tells each result once, and reads triggers and acknowledgements."""

    def __init__(self, config: SerialLineConfig) -> None:
        self._config, self._peer = config, f"serial-line {config.device}"
        self._port: serial.Serial | None = None
        self._told: int | None = None
        self._reader, self._pending = LineReader(), PendingControl()

    def open(self) -> None:
        """Open the port for this program alone, and forget what lies in it. Raises `LinkError`."""
        config, timeout_s = self._config, self._config.timeout_ms / 1000
        self._told, self._reader, self._pending = None, LineReader(), PendingControl()
        try:
            self._port = serial.Serial(
                config.device,
                config.baud,
                parity=config.parity,
                stopbits=config.stop_bits,
                timeout=0,
                write_timeout=timeout_s,
                exclusive=True,
            )
            self._port.reset_input_buffer()
        except (OSError, ValueError, termios.error) as error:  # SerialException is an OSError
            raise LinkError(
                f"{self._peer}: cannot open: {error}; check the device's path and who may use it"
            ) from error

    def write_status(self, words: Sequence[int]) -> None:
        """Tell of the result if it is valid and was not told yet. Raises `LinkError`."""
        block, port = decode(words), self._opened()
        if StatusFlag.RESULTS_VALID not in block.flags or block.seq == self._told:
            return
        try:
            port.write(result_line(block))
        except (OSError, termios.error) as error:
            raise LinkError(f"{self._peer}: write: {error}; does the other side read, and is the wire in?") from error
        self._told = block.seq

    def read_control(self) -> Sequence[int] | None:
        """The next change of the 16 words; ``None`` where this link may not drive the station. Raises `LinkError`."""
        if not self._config.control:
            return None
        try:
            data = self._opened().read(_MOST_BYTES_A_READ)
        except (OSError, termios.error) as error:
            raise LinkError(f"{self._peer}: read: {error}; is the wire in?") from error
        for line in self._reader.feed(data):
            take_line(line, self._pending)
        return encode_control(self._pending.take())

    def close(self) -> None:
        """Close the port."""
        port, self._port = self._port, None
        if port is not None:
            port.close()

    def _opened(self) -> serial.Serial:
        if self._port is None:
            raise LinkError(f"{self._peer}: not open")
        return self._port
