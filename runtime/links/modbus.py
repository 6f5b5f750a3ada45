"""What Modbus over TCP and over a serial line have in common: registers of a PLC, by pymodbus."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from pymodbus.client import ModbusSerialClient, ModbusTcpClient
from pymodbus.exceptions import ModbusException
from pymodbus.pdu.register_message import ReadHoldingRegistersResponse, WriteMultipleRegistersResponse

from cada_edge.errors import LinkError
from cada_edge.runtime.control import CONTROL_WORDS
from cada_edge.runtime.links.config import ModbusRtuConfig, ModbusTcpConfig

Client = ModbusTcpClient | ModbusSerialClient


class ModbusLink:
    """Writes the status block with one request of function 16, reads the control block with one of function 3.

    Args:
        config: addresses and unit.
        connect: makes the client, with the time-out and without retries.
        peer: for messages.
        advice: what to check when it does not answer.
    """

    def __init__(
        self, config: ModbusTcpConfig | ModbusRtuConfig, connect: Callable[[], Client], peer: str, advice: str
    ) -> None:
        self._config, self._connect, self._peer, self._advice = config, connect, peer, advice
        self._client: Client | None = None

    def open(self) -> None:
        """Connect. Raises `LinkError`."""
        logging.getLogger("pymodbus").setLevel(logging.CRITICAL)  # each failure is raised; once is enough
        client = self._connect()
        if not client.connect():
            raise LinkError(f"{self._peer}: cannot connect; {self._advice}")
        self._client = client

    def write_status(self, words: Sequence[int]) -> None:
        """Write the 32 words in one request. Raises `LinkError`."""
        base, unit, client = self._config.base, self._config.unit, self._opened()
        where = f"write {len(words)} registers at {base}"
        reply = self._ask(where, lambda: client.write_registers(base, list(words), device_id=unit))
        if not isinstance(reply, WriteMultipleRegistersResponse) or (reply.address, reply.count) != (base, len(words)):
            raise LinkError(f"{self._peer}: {where}: got the answer to something else: {reply}")

    def read_control(self) -> Sequence[int] | None:
        """The 16 words, or ``None`` where this link may not drive the station. Raises `LinkError`."""
        if not self._config.control:
            return None
        base, unit, client = self._config.control_base, self._config.unit, self._opened()
        where = f"read {CONTROL_WORDS} registers at {base}"
        reply = self._ask(where, lambda: client.read_holding_registers(base, count=CONTROL_WORDS, device_id=unit))
        if not isinstance(reply, ReadHoldingRegistersResponse) or len(reply.registers) != CONTROL_WORDS:
            raise LinkError(f"{self._peer}: {where}: got the answer to something else: {reply}")
        return list(reply.registers)

    def close(self) -> None:
        """Disconnect."""
        client, self._client = self._client, None
        if client is not None:
            client.close()  # type: ignore[no-untyped-call]  # as above

    def _opened(self) -> Client:
        if self._client is None:
            raise LinkError(f"{self._peer}: not open")
        return self._client

    def _ask(self, where: str, request: Callable[[], Any]) -> Any:
        """One request and its answer, which is not an error."""
        try:
            reply = request()
        except (ModbusException, OSError) as error:
            raise LinkError(f"{self._peer}: {where}: {error}; {self._advice}") from error
        if reply.isError():
            raise LinkError(f"{self._peer}: {where}: refused with {reply}; are these holding registers of the PLC?")
        return reply
