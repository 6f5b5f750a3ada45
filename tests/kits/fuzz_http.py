"""Malformed HTTP at the operator's page and its metrics, in the page's own process."""

from __future__ import annotations

import random
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from fuzz_kit import BrokenPromiseError, Process, mutated
from page_kit import CONFIG, fill, get, make_board, status_of
from runtime_kit import wait_until

from cada_edge.runtime.page.publisher import PagePublisher

_WAIT_S = 0.05
_LINE = re.compile(rb"HTTP/1\.1 (\d{3}) ")
_MOVING = {"alive_mono_s", "t_unix_s", "host"}  # of what is shown, what time alone changes
_SERVER_FAULTS = {500, 502}
_PATHS = (b"/", b"/status.json", b"/metrics", b"/healthz", b"/image/cam1.jpg", b"/heatmap/cam1.jpg?1", b"/reject/1.jpg")
_HOSTILE_PATHS = (
    b"/../../etc/passwd",
    b"/%2e%2e/%2e%2e/etc/passwd",
    b"//etc/passwd",
    b"/image/..%2f..%2f.jpg",
    b"/image/%00.jpg",
    b"/reject/-1.jpg",
    b"/reject/99999999999999999999.jpg",
    b"/%ff%fe",
    b"/%",
    b"/image/" + b"a" * 4000 + b".jpg",
    b"http://evil.example/",
    b"*",
    b"",
    b"/status.json?" + b"x" * 7000,
    b"/\xc3\x28",
    b"/image/cam1.jpg?" + b"9" * 400,
)
_METHODS = (
    b"GET",
    b"HEAD",
    b"POST",
    b"PUT",
    b"DELETE",
    b"OPTIONS",
    b"TRACE",
    b"CONNECT",
    b"PATCH",
    b"get",
    b"G E T",
    b"\x00",
)
_HEADERS = (
    b"Content-Length: 5",
    b"Content-Length: -1",
    b"Content-Length: 1\r\nContent-Length: 2",
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: chunked\r\nContent-Length: 4",
    b"Upgrade: websocket\r\nConnection: Upgrade",
    b"Expect: 100-continue",
    b"Host: evil.example",
    b"Host:",
    b"Host: a\r\nHost: b",
    b" folded: yes",
    b"no colon",
    b"A: \x00",
    b"A: " + b"b" * 9000,
    b"Connection: close",
    b"Range: bytes=0-",
    b"X: \xff\xfe",
    b"Cookie: " + b"a=b;" * 500,
    b": empty",
    b"Content-Length: 1e3",
)
_TLS_HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"


class PageTarget:
    """The page's process with a full board. It has nothing to write to; what it shows must stay."""

    def __init__(self, publisher: PagePublisher) -> None:
        assert publisher.port is not None
        assert publisher.pid is not None
        self._publisher, self._port, self._pid = publisher, publisher.port, publisher.pid
        wait_until(lambda: status_of(self._port)["status"] is not None)
        self._process, self._first = Process(self._pid), self._shown()

    def one(self, chance: random.Random) -> str:
        """One connection. Every answer must be HTTP, and none a fault of the server."""
        with socket.create_connection(("127.0.0.1", self._port), timeout=5) as line:
            line.settimeout(_WAIT_S)
            with suppress(ConnectionError):
                line.sendall(request(chance))
            if chance.random() < 0.5:
                line.shutdown(socket.SHUT_WR)
            return _met(line)

    def audit(self) -> list[str]:
        """The same process shows the same line to a good client."""
        found = self._process.grown()
        if self._publisher.pid != self._pid:
            found.append("the page's process was started anew")
        if (now := self._shown()) != self._first:
            found.append(f"shown was {self._first}, is {now}")
        return found

    def _shown(self) -> tuple[object, ...]:
        status = status_of(self._port)["status"]
        return {name: value for name, value in status.items() if name not in _MOVING}, get(self._port, "/")


@contextmanager
def page_target() -> Iterator[PageTarget]:
    """A page of its own."""
    board = make_board()
    fill(board)
    with PagePublisher(board, CONFIG, lambda _what, _error: None) as publisher:
        wait_until(lambda: publisher.port is not None)
        yield PageTarget(publisher)


def request(chance: random.Random) -> bytes:
    """Something a browser would never send."""
    match chance.randrange(6):
        case 0:
            return chance.choice((chance.randbytes(chance.randint(1, 9000)), _TLS_HELLO + chance.randbytes(500)))
        case 1:
            return mutated(chance, _request(chance, b"GET", chance.choice(_PATHS), []), 8)
        case 2:
            return _request(chance, b"GET", chance.choice(_HOSTILE_PATHS), [])
        case 3:
            return _request(chance, chance.choice(_METHODS), chance.choice(_PATHS), []) + chance.randbytes(20)
        case 4:
            return _request(chance, b"GET", chance.choice(_PATHS), chance.sample(_HEADERS, chance.randint(1, 4)))
        case _:
            good = _request(chance, b"GET", chance.choice(_PATHS), [])
            return good * chance.randint(1, 5) + mutated(chance, good)


def _request(chance: random.Random, method: bytes, path: bytes, headers: list[bytes]) -> bytes:
    version = chance.choice((b"HTTP/1.1",) * 6 + (b"HTTP/1.0", b"HTTP/2.0", b"HTTP/9", b""))
    head = [b" ".join((method, path, version)), b"Host: localhost", *headers]
    return chance.choice((b"\r\n",) * 5 + (b"\n",)).join(head) + b"\r\n\r\n"


def _met(line: socket.socket) -> str:
    """In a word; raises for an answer that is none, or that tells of a fault of the server."""
    data = b""
    with suppress(TimeoutError, ConnectionError):
        while len(data) < 1 << 16 and (more := line.recv(1 << 14)):
            data += more
    if not data:
        return "closed or waiting"
    if not (found := _LINE.match(data)):
        raise BrokenPromiseError(f"no HTTP: {data[:80]!r}")
    status = int(found[1])
    if status in _SERVER_FAULTS:
        raise BrokenPromiseError(f"answered {status}")
    return "refused" if status >= 400 else "answered"
