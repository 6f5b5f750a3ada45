"""A Modbus TCP server: the status block as registers to read, the control block as registers to write."""

from __future__ import annotations

import contextlib
import socket
from contextvars import ContextVar

from pymodbus.constants import ExcCodes
from pymodbus.server import ModbusTcpServer
from pymodbus.server.requesthandler import ServerRequestHandler
from pymodbus.simulator import DataType, SimData, SimDevice

from cada_edge.runtime.control import CONTROL_WORDS, ControlBlock, encode_control
from cada_edge.runtime.links.config import ModbusServerConfig
from cada_edge.runtime.links.modbus_strict import FUNCTIONS, REQUESTS
from cada_edge.runtime.links.server import OnControl, ShownBlock, answering
from cada_edge.runtime.registers import RESULT, WORDS, StatusBlock, encode

_CONNECTION: ContextVar[object] = ContextVar("connection")  # whose request is being answered


class ModbusServer:
    """Answers to every unit id, in holding and in input registers alone: nothing is a coil.

    The status block is filled in while a read is being answered, without giving up the event
    loop in between, so that no read sees half of two blocks. Only the control block can be
    written, and not even that where the link may not drive the station.
    """

    def __init__(self, config: ModbusServerConfig, block: ShownBlock, on_control: OnControl) -> None:
        self._config, self._block, self._on_control = config, block, on_control
        self._control = encode_control(ControlBlock())
        self._server: ModbusTcpServer | None = None

    async def start(self) -> int:
        """Listen; the port it listens on. Raises `OSError` for an address that cannot be had."""
        port = _free_port(self._config.host, self._config.port)
        self._server = _Server(self._device(), address=(self._config.host, port), custom_pdu=REQUESTS)
        await self._server.serve_forever(background=True)
        return port

    def refresh(self) -> None:
        """Nothing to do: a block is made when it is read."""

    async def stop(self) -> None:
        """Hang up and listen no more. Safe to call twice."""
        server, self._server = self._server, None
        if server is not None:
            with contextlib.suppress(OSError):  # a peer that reset its connection meanwhile
                await server.shutdown()  # type: ignore[no-untyped-call]  # pymodbus leaves it unannotated

    def _device(self) -> SimDevice:
        blocks = [SimData(self._config.base, values=encode(StatusBlock()), datatype=DataType.REGISTERS, readonly=True)]
        if self._config.control:
            words = encode_control(ControlBlock())
            blocks.append(SimData(self._config.control_base, values=words, datatype=DataType.REGISTERS))
        return SimDevice(0, simdata=sorted(blocks, key=lambda block: block.address), action=self._answer)

    async def _answer(  # noqa: PLR0917  # as pymodbus calls it
        self,
        function: int,
        start: int,
        address: int,
        count: int,
        registers: list[int],
        values: list[int] | list[bool] | None,
    ) -> ExcCodes | None:
        """pymodbus asks before it reads `registers` or writes `values` into them."""
        if function not in FUNCTIONS:  # coils would be bits of the control block
            return ExcCodes.ILLEGAL_FUNCTION
        if values is not None:
            return self._write(address, [int(value) for value in values])
        first = address - self._config.base  # of the status block, that is asked for
        if first + count <= 0:  # the control block
            return None
        with answering(_CONNECTION.get(None) or _Unknown(), result=first <= RESULT < first + count):
            words = encode(self._block())
        at = self._config.base - start
        registers[at : at + WORDS] = words
        return None

    def _write(self, address: int, values: list[int]) -> ExcCodes | None:
        at = address - self._config.control_base
        if not self._config.control or at < 0 or at + len(values) > CONTROL_WORDS:
            return ExcCodes.ILLEGAL_FUNCTION
        self._control[at : at + len(values)] = values
        self._on_control(tuple(self._control))
        return None


class _Server(ModbusTcpServer):
    """Tells apart whose request is being answered."""

    def callback_new_connection(self) -> ServerRequestHandler:
        return _Handler(self, self.trace_packet, self.trace_pdu, self.trace_connect)  # type: ignore[no-untyped-call]  # as above


class _Unknown:
    """Whoever asks where pymodbus does not tell: each request is then the first one of its connection."""


class _Handler(ServerRequestHandler):
    """One connection."""

    async def handle_request(self) -> None:
        """Answer one request; pymodbus gives each a task, and thus a context, of its own."""
        _CONNECTION.set(self)
        await super().handle_request()  # type: ignore[no-untyped-call]  # as above


def _free_port(host: str, port: int) -> int:
    """Bind once by ourselves: pymodbus would only log why an address cannot be had."""
    family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))
        probe.listen(1)
        return int(probe.getsockname()[1])
