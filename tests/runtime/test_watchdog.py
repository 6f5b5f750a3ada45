"""What systemd hears, on a real datagram socket."""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from cada_edge.runtime.watchdog import Watchdog


@pytest.fixture(params=["path", "abstract"])
def listener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    """systemd's end, and what it puts into NOTIFY_SOCKET."""
    shown = str(tmp_path / "notify") if request.param == "path" else f"@cada-edge-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind("\0" + shown[1:] if shown.startswith("@") else shown)
        server.settimeout(10)
        yield server, shown


def heard(server: socket.socket) -> list[bytes]:
    """Every datagram that waits."""
    found = []
    while select.select([server], [], [], 0)[0]:
        found.append(server.recv(4096))
    return found


def test_a_line_tells_its_whole_life(listener: tuple[socket.socket, str]) -> None:
    """Ready, status in one line, reloading with its time, ready again, stopping."""
    server, address = listener
    watchdog = Watchdog.from_environment({"NOTIFY_SOCKET": address})
    watchdog.ready()
    watchdog.status("12 judged,\n3 rejected \udcff")
    watchdog.reloading()
    watchdog.ready()
    watchdog.stopping()
    watchdog.close()
    first, status, reloading, again, last = heard(server)
    assert (first, again, last) == (b"READY=1", b"READY=1", b"STOPPING=1")
    assert status == b"STATUS=12 judged, 3 rejected ?"
    assert reloading.startswith(b"RELOADING=1\nMONOTONIC_USEC=")
    assert int(reloading.rpartition(b"=")[2]) > 0


def test_signs_of_life_come_at_half_the_time_systemd_waits(listener: tuple[socket.socket, str]) -> None:
    """A loop that turns a thousand times a second sends one in each half period."""
    server, address = listener
    now_s = [100.0]
    watchdog = Watchdog(address, 2.5, lambda: now_s[0])
    for _ in range(10_000):
        watchdog.alive()
        now_s[0] += 0.001
    watchdog.close()
    assert heard(server) == [b"WATCHDOG=1"] * 4


def test_the_period_is_half_of_what_systemd_says(listener: tuple[socket.socket, str]) -> None:
    """WATCHDOG_USEC counts for the process it names, or for anyone where none is named."""
    server, address = listener
    base = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "5000000"}
    for extra, count in (({}, 1), ({"WATCHDOG_PID": str(os.getpid())}, 1), ({"WATCHDOG_PID": "1"}, 0)):
        watchdog = Watchdog.from_environment({**base, **extra})
        watchdog.alive()
        watchdog.alive()
        assert heard(server) == [b"WATCHDOG=1"] * count
        watchdog.close()


@pytest.mark.parametrize("microseconds", ["", "0", "-5", "soon", "²"])
def test_without_a_watchdog_there_are_no_signs_of_life(listener: tuple[socket.socket, str], microseconds: str) -> None:
    """An absent or odd WATCHDOG_USEC switches it off."""
    server, address = listener
    watchdog = Watchdog.from_environment({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": microseconds})
    watchdog.alive()
    watchdog.close()
    assert heard(server) == []


def test_outside_systemd_and_after_its_end_nothing_happens(tmp_path: Path) -> None:
    """Neither an absent socket nor one that has gone, nor a closed one, is a fault."""
    for environment in ({}, {"NOTIFY_SOCKET": str(tmp_path / "gone"), "WATCHDOG_USEC": "1000"}):
        watchdog = Watchdog.from_environment(environment)
        watchdog.ready()
        watchdog.alive()
        watchdog.close()
        watchdog.close()
        watchdog.stopping()


def test_a_full_queue_never_blocks_the_line(listener: tuple[socket.socket, str]) -> None:
    """systemd that reads nothing costs the loop nothing."""
    server, address = listener
    watchdog = Watchdog(address, 1.0)
    for _ in range(5000):
        watchdog.ready()
    watchdog.close()
    assert 0 < len(heard(server)) < 5000
