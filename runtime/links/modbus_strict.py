"""Modbus requests taken only as long as the specification says they are.

pymodbus reads what it needs from the front of a request and ignores the rest, so that a broken frame could
still write. Here a request whose length, count and byte count do not agree is answered with an exception.
"""

from __future__ import annotations

from pymodbus.exceptions import ModbusIOException
from pymodbus.pdu import ModbusPDU
from pymodbus.pdu.register_message import (
    MaskWriteRegisterRequest,
    ReadHoldingRegistersRequest,
    ReadInputRegistersRequest,
    ReadWriteMultipleRegistersRequest,
    WriteMultipleRegistersRequest,
    WriteSingleRegisterRequest,
)


class _ReadHolding(ReadHoldingRegistersRequest):
    def decode(self, data: bytes) -> None:
        _need(data, 4)
        super().decode(data)


class _ReadInput(ReadInputRegistersRequest):
    def decode(self, data: bytes) -> None:
        _need(data, 4)
        super().decode(data)


class _WriteSingle(WriteSingleRegisterRequest):
    def decode(self, data: bytes) -> None:
        _need(data, 4)
        super().decode(data)


class _WriteMultiple(WriteMultipleRegistersRequest):
    def decode(self, data: bytes) -> None:
        _need_values(data, 2)
        super().decode(data)


class _MaskWrite(MaskWriteRegisterRequest):
    def decode(self, data: bytes) -> None:
        _need(data, 6)
        super().decode(data)


class _ReadWriteMultiple(ReadWriteMultipleRegistersRequest):
    def decode(self, data: bytes) -> None:
        _need_values(data, 6)
        super().decode(data)


REQUESTS: list[type[ModbusPDU]] = [
    _ReadHolding,
    _ReadInput,
    _WriteSingle,
    _WriteMultiple,
    _MaskWrite,
    _ReadWriteMultiple,
]
FUNCTIONS = frozenset(request.function_code for request in REQUESTS)


def _need(data: bytes, size: int) -> None:
    if len(data) != size:
        raise ModbusIOException(f"request of {len(data)} bytes, expected {size}")


def _need_values(data: bytes, at: int) -> None:
    """A count at `at`, a byte count behind it that is twice as much, and so many bytes."""
    if len(data) < at + 3 or data[at + 2] != 2 * int.from_bytes(data[at : at + 2], "big"):
        raise ModbusIOException("count and byte count of the request do not agree")
    _need(data, at + 3 + data[at + 2])
