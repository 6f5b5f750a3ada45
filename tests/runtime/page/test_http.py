"""The page's HTTP server against clients that do not play fair."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from page_kit import get

from cada_edge.runtime.page import http
from cada_edge.runtime.page.http import HEAD_BYTES, Connections
from cada_edge.runtime.page.site import Site

MOST = 4
PLAIN = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """A server of an empty site in a thread; at most four connections."""
    loop = asyncio.new_event_loop()
    connections = Connections(Site("127.0.0.1"), MOST)
    server = loop.run_until_complete(asyncio.start_server(connections.serve, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield server.sockets[0].getsockname()[1]
    loop.call_soon_threadsafe(server.close)  # on its loop: connections may be ending there at this moment
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.run_until_complete(asyncio.sleep(0.05))
    loop.close()


def talk(port: int, data: bytes, end: bool = True) -> bytes:
    """Everything the server says to these bytes until it closes, or to their end."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        try:
            client.sendall(data)
            if end:
                client.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: client.recv(65536), b""))
        except OSError:  # closed while we still talked: that is an answer
            return b""


def wait_until_free(port: int) -> None:
    """Until a client is served again: the server sees a closed connection a moment after its client."""
    until = time.monotonic() + 20
    while not talk(port, PLAIN):
        assert time.monotonic() < until, "no connection was freed"
        time.sleep(0.01)


def test_a_connection_serves_one_request_after_another(port: int) -> None:
    """Two requests in one packet get two answers, in order."""
    reply = talk(port, PLAIN + PLAIN.replace(b"/healthz", b"/"))
    assert reply.count(b"HTTP/1.1 ") == 2
    assert reply.index(b"503") < reply.index(b"<!doctype html>")


def test_every_answer_carries_the_security_headers(port: int) -> None:
    """Refusals too: no script but ours, no frame, no guessing of types, nothing stored."""
    for request in (PLAIN, PLAIN.replace(b"GET", b"POST"), PLAIN.replace(b"/healthz", b"/nothing")):
        head = talk(port, request).partition(b"\r\n\r\n")[0].lower()
        assert b"content-security-policy: default-src 'none'" in head
        assert b"x-content-type-options: nosniff" in head
        assert b"x-frame-options: deny" in head
        assert b"cache-control: no-store" in head
        assert b"access-control-allow-origin" not in head


def test_head_has_the_same_head_and_no_body(port: int) -> None:
    """HEAD says how long the page is without sending it."""
    code, body = get(port, "/", "HEAD")
    assert (code, body) == (200, b"")


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello", b"413"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", b"413"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n", b"413"),
        (b"GET / HTTP/1.1\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: localhost\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 3 * HEAD_BYTES + b"\r\n\r\n", b"431"),
        (b"GET /" + b"x" * 3 * HEAD_BYTES + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", b"431"),
        (b"GET http://evil/ HTTP/1.0\r\nHost: localhost\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n", b"421"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 TLS, by mistake\r\n\r\n", b"400"),
    ],
)
def test_what_is_no_plain_request_is_refused(port: int, request_: bytes, status: bytes) -> None:
    """Bodies, upgrades, two hosts, giants and other protocols get a status, and the connection ends."""
    assert talk(port, request_, end=False).startswith(b"HTTP/1.1 " + status)
    assert get(port, "/")[0] == 200


def test_a_client_that_dribbles_its_request_is_cut_off(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a request does not hold a connection for ever."""
    monkeypatch.setattr(http, "HEAD_S", 0.2)
    assert talk(port, b"GET / HTTP/1.1\r\nHost: local", end=False) == b""


def test_a_client_that_says_nothing_is_cut_off(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """An open connection without a request does not hold its place for ever."""
    monkeypatch.setattr(http, "IDLE_S", 0.2)
    assert talk(port, b"", end=False) == b""


def test_one_connection_too_many_is_closed_at_once(port: int) -> None:
    """A crowd costs a fixed number of connections, and its going frees them."""
    idle = [socket.create_connection(("127.0.0.1", port), timeout=20) for _ in range(MOST)]
    for client in idle:
        client.sendall(PLAIN)
        assert client.recv(20).startswith(b"HTTP/1.1 503")
    assert talk(port, PLAIN) == b""
    for client in idle:
        client.close()
    wait_until_free(port)


@given(data=st.one_of(st.binary(max_size=400), st.binary(max_size=200).map(lambda tail: PLAIN[:-2] + tail)))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_garbage_ends_its_own_connection_alone(port: int, data: bytes) -> None:
    """After any bytes at all the next client is served."""
    talk(port, data)
    wait_until_free(port)
    assert get(port, "/icon.svg")[0] == 200
