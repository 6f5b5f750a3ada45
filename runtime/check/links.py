"""Whether PLCs answer and server addresses are free, with nothing written to anybody."""

from __future__ import annotations

import asyncio
import errno
import socket
import time
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from cada_edge.runtime.check.dial import Dial
from cada_edge.runtime.check.finding import Finding
from cada_edge.runtime.config import LineConfig
from cada_edge.runtime.control import CONTROL_WORDS, decode_control
from cada_edge.runtime.links.assembly import address_of, make_link, make_server
from cada_edge.runtime.links.config import (
    AnyLink,
    DigitalConfig,
    ModbusRtuConfig,
    ModbusServerConfig,
    OpcUaServerConfig,
    WriterConfig,
)
from cada_edge.runtime.links.link import Link
from cada_edge.runtime.links.supervisor import BLIND_NS
from cada_edge.runtime.registers import WORDS, StatusBlock

_LOOPBACK, _READS = "127.0.0.1", 3
# Modbus RTU, request and answer without their registers, bytes: function 16 writes, function 3 reads.
_WRITE_BYTES, _READ_BYTES = 9 + 8, 8 + 5


def link_dials(config: LineConfig, timeout_s: float) -> list[Dial]:
    """Every link; a server's address also against those of the others and of the page."""
    taken = Counter(_addresses(config))
    return [
        Dial("link", _name(link), timeout_s, partial(_look, link, taken, _triggers(config, link)))
        for link in config.all_links()
    ]


def blind_ms(link: WriterConfig, read_ms: float) -> float:
    """How long it takes from the beginning of one look at the control block to the end of the next, ms.

    Between them the supervisor writes the status block. Nothing may be written to measure how long that takes:
    on a serial line the bytes and their speed tell, elsewhere it counts as twice a read, as the block is twice as long.

    Args:
        link: whose baud rate and `poll_ms` count.
        read_ms: how long one read of the control block takes.
    """
    write_ms = 2 * read_ms
    if isinstance(link, ModbusRtuConfig):
        more_bytes = 2 * (WORDS - CONTROL_WORDS) + _WRITE_BYTES - _READ_BYTES
        bits = 1 + 8 + (link.parity != "N") + link.stop_bits
        write_ms = read_ms + 1e3 * more_bytes * bits / link.baud
    return max(read_ms, link.poll_ms) + write_ms + read_ms


def address_finding(area: str, what: str, host: str, port: int, taken: Counter[tuple[str, int]]) -> Finding:
    """Whether an address can be listened on."""
    if port and taken[host, port] > 1:
        return Finding(area, what, "fail", f"port {port} is wanted twice on this line", "give each a port of its own")
    try:
        _bind(host, port)
    except OSError as error:
        return Finding(area, what, "fail", f"{host}:{port}: {error.strerror or error}", _mend(error, port))
    return Finding(area, what, "ok", "the system chooses the port" if port == 0 else f"port {port} is free")


def page_dials(config: LineConfig, timeout_s: float) -> list[Dial]:
    """The page's address, where the line has a page."""
    page = config.page
    if page is None:
        return []
    return [Dial("page", f"{page.host}:{page.port}", timeout_s, partial(_look_at_page, config))]


def _look_at_page(config: LineConfig) -> Finding:
    import cada_edge.runtime.page.http  # noqa: F401, PLC0415  # says which package the page lacks

    page = config.page
    assert page is not None
    return address_finding("page", f"{page.host}:{page.port}", page.host, page.port, Counter(_addresses(config)))


def _addresses(config: LineConfig) -> list[tuple[str, int]]:
    servers = [link for link in config.all_links() if isinstance(link, ModbusServerConfig | OpcUaServerConfig)]
    page = [(config.page.host, config.page.port)] if config.page else []
    return [(server.host, server.port) for server in servers] + page


def _name(link: AnyLink) -> str:
    return f"{link.kind} {address_of(link)}"


def _triggers(config: LineConfig, link: AnyLink) -> bool:
    """Whether triggers come in by this link."""
    stations = config.stations_or_one()
    modes = {one.id: one.mode for one in stations}
    return link.control and modes.get(link.station or stations[0].id) == "triggered"


def _look(link: AnyLink, taken: Counter[tuple[str, int]], triggers: bool) -> Finding:
    if isinstance(link, ModbusServerConfig | OpcUaServerConfig):
        return _look_at_server(link, taken)
    if isinstance(link, DigitalConfig):
        return _look_at_wires(link)
    return _look_at_plc(link, triggers)


def _look_at_server(link: ModbusServerConfig | OpcUaServerConfig, taken: Counter[tuple[str, int]]) -> Finding:
    address = address_finding("link", _name(link), link.host, link.port, taken)
    if address.state == "ok":
        asyncio.run(_serve_for_a_moment(link))
    return address


async def _serve_for_a_moment(link: ModbusServerConfig | OpcUaServerConfig) -> None:
    """The real server, where no PLC looks: finds an absent package and a certificate that is none."""
    hidden = link.model_copy(update={"host": _LOOPBACK, "port": 0})
    server = make_server(hidden, StatusBlock, lambda _words: None)
    try:
        await server.start()
    finally:
        await server.stop()


def _look_at_plc(link: WriterConfig, triggers: bool) -> Finding:
    peer = make_link(link)
    begun_s = time.monotonic()
    try:
        peer.open()
        opened_s = time.monotonic()
        words, read_ms = _read(peer)
    finally:
        peer.close()
    told = f"connected in {1e3 * (opened_s - begun_s):.0f} ms, {_control(words, read_ms)}; nothing written"
    limit_ms, expected_ms = max(BLIND_NS / 1e6, 3 * link.poll_ms), blind_ms(link, read_ms)
    if words is None or not triggers or expected_ms <= limit_ms:
        return Finding("link", _name(link), "ok", told)
    advice = (
        f"two reads with a write between them will take about {expected_ms:.0f} ms, and a trigger found after "
        f"{limit_ms:.0f} ms without a look counts as missed, as most then would: make network or controller faster, "
        "or take another protocol"
    )
    return Finding("link", _name(link), "warn", told, advice)


def _read(peer: Link) -> tuple[Sequence[int] | None, float]:
    """The control block, and the time of the quickest of some reads, ms. Raises `LinkError`."""
    words, times_ms = None, []
    for _ in range(_READS):
        begun_s = time.monotonic()
        words = peer.read_control()
        times_ms.append(1e3 * (time.monotonic() - begun_s))
    return words, min(times_ms)


def _control(words: Sequence[int] | None, read_ms: float) -> str:
    if words is None:
        return "shows only: no control block"
    block = decode_control(words)
    flags = " ".join(flag.name or "" for flag in type(block.flags) if flag in block.flags) or "no flag"
    return f"control block read in {read_ms:.1f} ms ({flags}, heartbeat {block.heartbeat})"


def _look_at_wires(link: DigitalConfig) -> Finding:
    """Taking the lines would drive them, so the chip alone is looked at."""
    make_link(link)
    if link.driver == "gpiod" and not Path(link.chip).exists():
        return Finding("link", _name(link), "fail", f"{link.chip} does not exist", "name the chip as `gpiodetect` does")
    found = "driver and chip are there; the lines were left alone, for taking them drives them"
    return Finding("link", _name(link), "warn", found, "prove the wires by hand, as docs/links.md says")


def _bind(host: str, port: int) -> None:
    """Bind without listening: a PLC that polls is refused as before, not accepted and dropped."""
    family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)


def _mend(error: OSError, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"if this line runs already, its own `cada-edge run` holds it; else see who does: ss -ltnp sport = :{port}"
        )
    if error.errno == errno.EACCES:
        return "ports below 1024 need a right: use the unit of `cada-edge service`, or a higher port"
    return "host must be an address of this machine, or 0.0.0.0 for all of them"
