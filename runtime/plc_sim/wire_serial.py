"""A simulated controller on a serial line: text instead of registers."""

from __future__ import annotations

import binascii
import re
import termios
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import replace

import serial

from cada_edge.errors import ConfigError, LinkError
from cada_edge.runtime.control import ControlBlock, ControlFlag, decode_control
from cada_edge.runtime.links.config import SerialLineConfig
from cada_edge.runtime.links.serial_line import LineReader
from cada_edge.runtime.plc_sim.listen import NotToBeHadError
from cada_edge.runtime.plc_sim.well import heartbeat
from cada_edge.runtime.registers import (
    TAIL,
    OfflineReason,
    ResultFlag,
    StatusBlock,
    StatusFlag,
    encode,
    next_counter,
)

_RESULT = re.compile(rb"R,(\d{1,5}),(\d{1,10}),(PASS|REJECT),([-+.\deE]{1,16})")
_MOST_BYTES_A_READ, _MOST = 4096, 0xFFFF


class SerialController:
    """Makes of lines the block that a PLC would have read, as far as lines say it.

    What they leave out is taken for well: the station is online, its heartbeat steps, it takes a trigger as soon
    as it is told, and the encoder comes back. A line whose checksum does not hold, or that is none, is handed on
    as a torn block, once: the number in front is not the one behind. What was said while the port was closed is
    lost, so the numbers of a connection are made to count on from those of the one before.

    Args:
        config: of the link; `device` is the port at this end of the wire.
    """

    def __init__(self, config: SerialLineConfig) -> None:
        self._config = config
        self._port: serial.Serial | None = None
        self._reader, self._lines = LineReader(), deque[bytes]()
        self._ahead: int | None = None  # the line's numbers less those shown; None before the first
        self._control = ControlBlock()
        self._encoders: dict[int, int] = {}  # of triggers that were not answered yet
        self._block = StatusBlock(StatusFlag.ONLINE, OfflineReason.NONE)

    def open(self) -> None:
        """Open the port for this program alone, and forget what lies in it. Raises `NotToBeHadError`."""
        config = self._config
        self._reader, self._lines, self._ahead = LineReader(), deque(), None
        try:
            self._port = serial.Serial(
                config.device,
                config.baud,
                parity=config.parity,
                stopbits=config.stop_bits,
                timeout=0,
                write_timeout=config.timeout_ms / 1000,
                exclusive=True,
            )
            self._port.reset_input_buffer()
        except (OSError, ValueError, termios.error) as error:  # SerialException is an OSError
            raise NotToBeHadError(
                f"{config.device}: cannot open: {error}; the controller has this end of the wire, the line the other"
            ) from error

    def read(self) -> Sequence[int] | None:
        """The block as of the next line, or as it stands. Raises `LinkError`."""
        self._lines.extend(self._reader.feed(self._bytes()))
        whole = not self._lines or self._take(self._lines.popleft())
        words = encode(replace(self._block, flags=self._shown(), heartbeat=heartbeat(time.monotonic_ns())))
        if not whole:
            words[TAIL] = next_counter(words[TAIL])
        return words

    def write(self, words: Sequence[int]) -> None:
        """A line for each rise of TRIGGER and of RESULTS_ACK. Raises `LinkError`."""
        control = decode_control(words)
        rising = control.flags & ~self._control.flags
        if ControlFlag.RESULTS_ACK in rising:
            self._say(b"A\n")
            self._block = replace(self._block, flags=self._block.flags & ~StatusFlag.RESULTS_VALID)
        if ControlFlag.TRIGGER in rising:
            self._encoders[control.trigger_id] = control.encoder
            self._say(b"T,%d,%d\n" % (control.trigger_id, control.encoder))
        self._control = control

    def close(self) -> None:
        """Close the port."""
        port, self._port = self._port, None
        if port is not None:
            port.close()

    def _take(self, line: bytes) -> bool:
        """Show the result that a line tells of; False for a line that is none."""
        body, _, checksum = line.rpartition(b",")
        found = _RESULT.fullmatch(body)
        if not found or checksum != b"%04X" % binascii.crc_hqx(body, 0):
            return False
        number = int(found[2])
        try:
            block = replace(
                self._block,
                flags=(self._block.flags ^ StatusFlag.RESULT_TOGGLE) | StatusFlag.RESULTS_VALID,
                result=ResultFlag.PASS if found[3] == b"PASS" else ResultFlag.REJECT,
                seq=self._counted_on(int(found[1])),
                trigger_id=number,
                encoder=self._encoders.get(number, self._block.encoder),
                score=float(found[4]),
            )
        except (ConfigError, ValueError):
            return False
        self._encoders.pop(number, None)
        self._block = block
        return True

    def _counted_on(self, number: int) -> int:
        """The number to show. Raises `ValueError` for one that no result has."""
        if not 1 <= number <= _MOST:
            raise ValueError(f"result {number}")
        if self._ahead is None:
            self._ahead = number - next_counter(self._block.seq)
        return (number - self._ahead - 1) % _MOST + 1

    def _shown(self) -> StatusFlag:
        flags = self._block.flags
        if ControlFlag.TRIGGER in self._control.flags:
            return flags | StatusFlag.TRIGGER_ACK
        return flags if StatusFlag.RESULTS_VALID in flags else flags | StatusFlag.TRIGGER_READY

    def _bytes(self) -> bytes:
        try:
            return bytes(self._opened().read(_MOST_BYTES_A_READ))
        except (OSError, termios.error) as error:
            raise LinkError(f"{self._config.device}: read: {error}; is the wire in?") from error

    def _say(self, line: bytes) -> None:
        try:
            self._opened().write(line)
        except (OSError, termios.error) as error:
            raise LinkError(f"{self._config.device}: write: {error}; does the other side read?") from error

    def _opened(self) -> serial.Serial:
        if self._port is None:
            raise LinkError(f"{self._config.device}: not open")
        return self._port
