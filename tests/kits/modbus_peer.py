"""A PLC whose memory are Modbus registers, by pymodbus' servers: status at 100, control at 0, unit 1."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Sequence
from typing import Any

from pymodbus.framer import FramerType
from pymodbus.server import ModbusSerialServer, ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

STATUS, CONTROL, SIZE = 100, 0, 200


class Memory:
    """Registers 0 to 199; place is ``host:port``, or the path of a serial port.

    The port runs at 115200 baud without parity, for a pseudo terminal has none.
    """

    def __init__(self, kind: str, place: str) -> None:
        logging.getLogger("pymodbus").setLevel(logging.CRITICAL)
        self._words = [0] * SIZE
        up = threading.Event()
        threading.Thread(target=lambda: asyncio.run(self._serve(kind, place, up)), daemon=True).start()
        up.wait(20)

    def status(self) -> Sequence[int]:
        """Words 100 to 131."""
        return self._words[STATUS : STATUS + 32]

    def control(self, words: Sequence[int]) -> None:
        """Words 0 to 15."""
        self._words[CONTROL : CONTROL + 16] = words

    async def _serve(self, kind: str, place: str, up: threading.Event) -> None:
        blocks = [SimData(0, values=[0] * SIZE, datatype=DataType.REGISTERS)]
        device = SimDevice(1, simdata=blocks, action=self._answer)
        if kind == "modbus-rtu":
            server: Any = ModbusSerialServer(device, framer=FramerType.RTU, port=place, baudrate=115_200)
        else:
            host, port = place.split(":")
            server = ModbusTcpServer(device, address=(host, int(port)))
        await server.serve_forever(background=True)
        up.set()
        await asyncio.Event().wait()

    async def _answer(
        self,
        _function: int,
        _start: int,
        address: int,
        _count: int,
        registers: list[int],
        values: list[int] | list[bool] | None,
    ) -> None:
        if values is None:
            registers[:] = self._words
        else:
            self._words[address : address + len(values)] = [int(value) for value in values]
