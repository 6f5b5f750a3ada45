"""The Modbus TCP server process: shows one status block, and distrusts its pipeline.

Runs as ``python -m cada_edge.runtime.sinks.modbus_server`` with one end of a socket pair.
The pipeline sends whole blocks; the newest is what a PLC reads. Whatever happens to the
pipeline - it hangs, stops or dies - this process notices, for it alone owns the heartbeat:

* no message for `stale_ms`: the heartbeat stops and the safe state shows;
* the pipe closes, or SIGTERM: the safe state shows for `linger_ms`, then the server ends.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import signal
import socket
import struct
import time
from dataclasses import dataclass, replace
from pathlib import Path

from pymodbus.constants import ExcCodes
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from cada_edge.runtime.registers import (
    HEARTBEAT_PERIOD_S,
    WORDS,
    OfflineReason,
    StatusBlock,
    decode,
    encode,
    from_bytes,
    next_counter,
    safe,
)

_STAMP = struct.Struct(">Q")
MESSAGE_BYTES = _STAMP.size + 2 * WORDS


@dataclass(frozen=True)
class ServerOptions:
    """How to serve.

    Attributes:
        host: address to listen on.
        port: TCP port; 0 lets the system choose.
        base: register address (zero-based) of the block's first word.
        stale_ms: silence of the pipeline after which it counts as hung.
        linger_ms: how long the safe state can still be read after the pipeline ended.
    """

    host: str = "127.0.0.1"
    port: int = 502
    base: int = 100
    stale_ms: int = 1000
    linger_ms: int = 300

    def to_json(self) -> str:
        """For the command line of the server process."""
        return json.dumps(self.__dict__)


class BlockView:
    """What a PLC reads at a given moment: pure but for the state it keeps."""

    def __init__(self, stale_ms: int) -> None:
        self._block = StatusBlock()
        self._alive_ns = 0  # 0 until the pipeline has spoken: STARTING shows
        self._stale_ns = stale_ms * 1_000_000
        self._heartbeat = 0
        self._stopped = False

    def update(self, message: bytes) -> None:
        """Take a message: monotonic time of sending, ns, then the block's 64 bytes."""
        block = decode(from_bytes(message[_STAMP.size :]))  # first: what cannot be read is no sign of life
        (self._alive_ns,), self._block = _STAMP.unpack_from(message), block

    def stop(self) -> None:
        """Show the safe state from now on."""
        self._stopped = True

    def alive(self, now_ns: int) -> bool:
        """True while the pipeline's last sign of life is fresh."""
        spoken = self._alive_ns > 0  # or a machine that has just booted would look alive: its clock starts at 0
        return spoken and not self._stopped and now_ns - self._alive_ns < self._stale_ns

    def beat(self, now_ns: int) -> None:
        """Step the heartbeat if the pipeline lives."""
        if self.alive(now_ns):
            self._heartbeat = next_counter(self._heartbeat)

    def words(self, now_ns: int) -> list[int]:
        """The 32 words to show."""
        shown = self._block
        if self._stopped:
            shown = safe(shown, OfflineReason.STOPPED)
        elif self._alive_ns and not self.alive(now_ns):
            shown = safe(shown, OfflineReason.PIPELINE_STALLED)
        return encode(replace(shown, heartbeat=self._heartbeat))


def pack_message(now_ns: int, block: bytes) -> bytes:
    """The bytes `BlockView.update` takes."""
    return _STAMP.pack(now_ns) + block


def device(view: BlockView, base: int) -> SimDevice:
    """A device, answering to every unit id, whose holding and input registers are the block.

    The block is filled in while a read is being answered, without giving up the event
    loop in between, so that no read sees half of two blocks. Writes are refused.
    """

    async def fill(
        _function: int,
        _start: int,
        _address: int,
        _count: int,
        registers: list[int],
        values: list[int] | list[bool] | None,
    ) -> ExcCodes | None:
        if values is not None:
            return ExcCodes.ILLEGAL_FUNCTION
        registers[:WORDS] = view.words(time.monotonic_ns())
        return None

    block = SimData(base, values=encode(StatusBlock()), datatype=DataType.REGISTERS, readonly=True)
    return SimDevice(0, simdata=[block], action=fill)


async def serve(pipe: socket.socket, options: ServerOptions) -> None:
    """Serve until the pipe closes, then `linger_ms` more. Raises `OSError` for a bad address."""
    view, loop, ended = BlockView(options.stale_ms), asyncio.get_running_loop(), asyncio.Event()
    port = _free_port(options)
    server = ModbusTcpServer(device(view, options.base), address=(options.host, port))
    await server.serve_forever(background=True)
    loop.add_reader(pipe, _drain, pipe, view, ended)
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    pipe.send(json.dumps({"port": port}).encode())
    beating = loop.create_task(_beat(view))
    await ended.wait()
    view.stop()
    beating.cancel()
    await asyncio.sleep(options.linger_ms / 1000)
    await server.shutdown()  # type: ignore[no-untyped-call]  # pymodbus leaves it unannotated


async def _beat(view: BlockView) -> None:
    while True:
        view.beat(time.monotonic_ns())
        await asyncio.sleep(HEARTBEAT_PERIOD_S)


def _drain(pipe: socket.socket, view: BlockView, ended: asyncio.Event) -> None:
    """Take every message there is: after a pause only the newest may be shown."""
    while True:
        try:
            message = pipe.recv(MESSAGE_BYTES)
        except BlockingIOError:
            return
        except ConnectionError:
            message = b""
        if not message:
            asyncio.get_running_loop().remove_reader(pipe)
            ended.set()
            return
        view.update(message)


def _free_port(options: ServerOptions) -> int:
    """Bind once by ourselves: pymodbus would only log why an address cannot be had."""
    family = socket.getaddrinfo(options.host, options.port, type=socket.SOCK_STREAM)[0][0]
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((options.host, options.port))
        probe.listen(1)
        return int(probe.getsockname()[1])


def main() -> int:
    """Entry of the process. Exit code 1: the address cannot be had (the pipe says why)."""
    parser = argparse.ArgumentParser(prog=Path(__file__).stem)
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--options", type=json.loads, required=True)
    arguments = parser.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the pipeline, which closes the pipe
    logging.getLogger("pymodbus").setLevel(logging.CRITICAL)  # a client's bad request is not our news
    pipe = socket.socket(fileno=arguments.fd)
    pipe.setblocking(False)
    try:
        asyncio.run(serve(pipe, ServerOptions(**arguments.options)))
    except OSError as error:
        pipe.send(json.dumps({"errno": error.errno, "error": error.strerror or str(error)}).encode())
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
