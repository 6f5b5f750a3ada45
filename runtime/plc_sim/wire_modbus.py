"""A simulated PLC on Modbus: a client of our server, or the registers that a link of ours writes, TCP or RTU."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from pymodbus.client import ModbusTcpClient
from pymodbus.exceptions import ModbusException
from pymodbus.framer import FramerType
from pymodbus.server import ModbusSerialServer, ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from cada_edge.errors import LinkError
from cada_edge.runtime.control import CONTROL_WORDS
from cada_edge.runtime.links.config import ModbusRtuConfig, ModbusServerConfig, ModbusTcpConfig
from cada_edge.runtime.plc_sim.listen import NotToBeHadError
from cada_edge.runtime.registers import WORDS

_TIMEOUT_S = 3.0


class ModbusClient:
    """A PLC that polls a link of kind ``modbus-server``.

    Args:
        config: of the link.
    """

    def __init__(self, config: ModbusServerConfig) -> None:
        logging.getLogger("pymodbus").setLevel(logging.CRITICAL)  # each failure is raised; once is enough
        self._config = config
        self._client = ModbusTcpClient(config.host, port=config.port, timeout=_TIMEOUT_S, retries=0)

    def open(self) -> None:
        """Connect. Raises `LinkError`."""
        if not self._client.connect():  # type: ignore[no-untyped-call]  # pymodbus leaves it bare
            raise LinkError(
                f"{self._config.host}:{self._config.port} does not answer; is `cada-edge run` up, and does line.yaml "
                "name this host and port in a link of kind modbus-server?"
            )

    def read(self) -> Sequence[int] | None:
        """One request of function 3. Raises `LinkError`."""
        reply = self._ask(lambda: self._client.read_holding_registers(self._config.base, count=WORDS))
        return list(reply.registers)

    def write(self, words: Sequence[int]) -> None:
        """One request of function 16. Raises `LinkError`."""
        self._ask(lambda: self._client.write_registers(self._config.control_base, list(words)))

    def close(self) -> None:
        """Disconnect."""
        self._client.close()  # type: ignore[no-untyped-call]  # as above

    def _ask(self, request: Callable[[], Any]) -> Any:
        try:
            reply = request()
        except (ModbusException, OSError) as error:
            raise LinkError(f"{self._config.host}:{self._config.port}: {error}") from error
        if reply.isError():
            raise LinkError(
                f"{self._config.host}:{self._config.port} refused with {reply}; are base {self._config.base} and "
                f"control base {self._config.control_base} those of line.yaml, and has the link control: true?"
            )
        return reply


class ModbusMemory:
    """A PLC whose memory a link of kind ``modbus-tcp`` or ``modbus-rtu`` writes: a Modbus server with both blocks.

    Args:
        config: of the link; `port` is where to listen, `device` the port at this end of the wire.
    """

    def __init__(self, config: ModbusTcpConfig | ModbusRtuConfig) -> None:
        logging.getLogger("pymodbus").setLevel(logging.CRITICAL)  # a link that hangs up is not our news
        self._config = config
        self._status: tuple[int, ...] | None = None
        self._control = [0] * CONTROL_WORDS
        self._server: ModbusTcpServer | ModbusSerialServer | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="cada-edge-plc-sim", daemon=True)
        self._thread.start()

    def open(self) -> None:
        """Listen. Raises `NotToBeHadError` for an address that cannot be had."""
        if not self._wait(self._listen()):
            raise NotToBeHadError(f"cannot listen on {_advice(self._config)}")

    def read(self) -> Sequence[int] | None:
        """What the link wrote last."""
        return self._status

    def write(self, words: Sequence[int]) -> None:
        """Leave the words where the link reads them."""
        self._control[:] = words

    def close(self) -> None:
        """Hang up; memory keeps what stands in it."""
        server, self._server = self._server, None
        if server is not None:
            self._wait(_shut(server))

    def _wait(self, job: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(job, self._loop).result(_TIMEOUT_S)

    async def _listen(self) -> bool:
        """True once it listens; pymodbus only logs why it does not."""
        blocks = [
            SimData(self._config.control_base, values=[0] * CONTROL_WORDS, datatype=DataType.REGISTERS),
            SimData(self._config.base, values=[0] * WORDS, datatype=DataType.REGISTERS),
        ]
        blocks.sort(key=lambda block: block.address)
        device = SimDevice(self._config.unit, simdata=blocks, action=self._answer)
        self._server = server = _server(self._config, device)
        return bool(await server.listen())

    async def _answer(
        self,
        _function: int,
        start: int,
        address: int,
        _count: int,
        registers: list[int],
        values: list[int] | list[bool] | None,
    ) -> None:
        """pymodbus asks before it reads `registers` or writes `values`."""
        if values is None:
            at = self._config.control_base - start
            if at >= 0:
                registers[at : at + CONTROL_WORDS] = self._control
        elif address == self._config.base and len(values) == WORDS:
            self._status = tuple(int(value) for value in values)


def _server(config: ModbusTcpConfig | ModbusRtuConfig, device: SimDevice) -> ModbusTcpServer | ModbusSerialServer:
    if isinstance(config, ModbusTcpConfig):
        return ModbusTcpServer(device, address=(config.host, config.port))
    return ModbusSerialServer(
        device,
        framer=FramerType.RTU,
        port=config.device,
        baudrate=config.baud,
        parity=config.parity,
        stopbits=config.stop_bits,
    )


def _advice(config: ModbusTcpConfig | ModbusRtuConfig) -> str:
    if isinstance(config, ModbusTcpConfig):
        where = f"{config.host}:{config.port}"
        return f"{where}; choose another --port (above 1023 without privileges) and name it in line.yaml"
    return f"{config.device}; the PLC has this end of the wire, the line the other; who may use it, and who has it?"


async def _shut(server: ModbusTcpServer | ModbusSerialServer) -> None:
    with contextlib.suppress(OSError):  # a peer that reset its connection meanwhile
        await server.shutdown()  # type: ignore[no-untyped-call]  # pymodbus leaves it bare
