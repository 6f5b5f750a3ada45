"""An onlooker's view of the block: read it from anywhere, as a Modbus client beside the PLC."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass

from pymodbus.client import ModbusTcpClient
from pymodbus.exceptions import ModbusException

from cada_edge.errors import SinkError
from cada_edge.runtime.registers import WORDS, StatusBlock, decode


@dataclass(frozen=True)
class Target:
    """Where the block is.

    Attributes:
        host: name or address of the server.
        port: TCP port.
        base: zero-based address of word 0.
        timeout_s: for one request, and without retries: a late answer is no answer.
    """

    host: str = "127.0.0.1"
    port: int = 502
    base: int = 100
    timeout_s: float = 1.0


def watch(target: Target, poll_s: float = 0.01, patience_s: float = 30.0) -> Iterator[StatusBlock]:
    """Yield the block whenever a new result stands in it; the one that stands at the first read is not new.

    The PLC may have acknowledged a result, so that RESULTS_VALID has fallen, before it is read here.

    Raises `SinkError` after `patience_s` without an answer, be it at the start or later. A line that answers
    and has no new result is waited for without end.
    """
    logging.getLogger("pymodbus").setLevel(logging.CRITICAL)  # it reports every refused try; we report once
    client = ModbusTcpClient(target.host, port=target.port, timeout=target.timeout_s, retries=0)
    seen: int | None = None
    last_answer_s = time.monotonic()
    try:
        while True:
            block = _read(client, target)
            if block is not None:
                last_answer_s = time.monotonic()
                new, seen = seen not in (None, block.seq), block.seq
                if new and block.seq:  # 0: the line was started anew and has no result yet
                    yield block
            elif time.monotonic() - last_answer_s > patience_s:
                raise SinkError(
                    f"{target.host}:{target.port} gave no answer for {patience_s:g} s; is `cada-edge run` up, "
                    "and does line.yaml name this host and port in a link of kind modbus-server?"
                )
            time.sleep(poll_s)
    finally:
        client.close()  # type: ignore[no-untyped-call]  # pymodbus leaves it bare


def _read(client: ModbusTcpClient, target: Target) -> StatusBlock | None:
    """One whole block in one request; ``None`` when it did not come or was torn."""
    try:
        if not client.connected and not client.connect():  # type: ignore[no-untyped-call]  # as above
            return None
        reply = client.read_holding_registers(target.base, count=WORDS)
    except (ModbusException, OSError):
        return None
    if reply.isError() or len(reply.registers) != WORDS or reply.registers[3] != reply.registers[31]:
        return None
    return decode(reply.registers)
