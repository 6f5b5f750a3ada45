"""The page's process: fed, watched, replaced, and never in the way."""

from __future__ import annotations

import os
import signal
import socket
import sys
from pathlib import Path

import pytest
from page_kit import CONFIG, Lines, fill, get, make_board, put, status_of
from runtime_kit import wait_until

from cada_edge.errors import MissingDependencyError
from cada_edge.runtime.page import publisher
from cada_edge.runtime.page.publisher import PagePublisher


class Problems(list[str]):
    """What was told of the page."""

    def note(self, component: str, error: Exception) -> None:
        """As `cada_edge.runtime.health.Problems.note`."""
        self.append(f"{component}: {error}")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short waits: what takes seconds on a line takes tenths here."""
    monkeypatch.setattr(publisher, "FIRST_BACK_OFF_S", 0.1)
    monkeypatch.setattr(publisher, "SEND_TIMEOUT_S", 0.5)


def port_of(page: PagePublisher) -> int:
    """Its port, once it listens."""
    wait_until(page.healthy)
    assert page.port is not None
    return page.port


def alive(pid: int) -> bool:
    """False once a process has ended, be it reaped or not."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def test_what_is_pinned_on_the_board_is_on_the_page() -> None:
    """Status, picture, heatmap, thumbnail and metrics come through the process."""
    board, told = make_board(), Problems()
    fill(board)
    put(board, 0.9)
    with PagePublisher(board, CONFIG, told.note) as page:
        port = port_of(page)
        wait_until(lambda: status_of(port)["status"] is not None and status_of(port)["thumbnails"] != [])
        assert status_of(port)["status"]["newest"][0]["status"] == "ng"
        wait_until(lambda: get(port, "/heatmap/cam1.jpg")[0] == 200)
        assert get(port, "/image/cam1.jpg")[1].startswith(b"\xff\xd8")
        assert b'cada_edge_verdicts_total{source="cam1",status="ng"} 3.0' in get(port, "/metrics")[1]
        pid = page.pid
    assert told == []
    assert pid is not None
    assert not alive(pid)


def test_the_process_is_polite() -> None:
    """It runs at niceness 10: hammering it takes nothing from the line."""
    with PagePublisher(make_board(), CONFIG, Problems().note) as page:
        port_of(page)
        assert page.pid is not None
        assert os.getpriority(os.PRIO_PROCESS, page.pid) - os.getpriority(os.PRIO_PROCESS, 0) == 10


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_to_the_whole_group_is_no_fault_of_the_page(name: str) -> None:
    """The page stays until the line has ended it, so that a line told to stop has no problem to tell."""
    board, told = make_board(), Problems()
    with PagePublisher(board, CONFIG, told.note) as page:
        port = port_of(page)
        pid = page.pid
        assert pid is not None
        os.kill(pid, signal.Signals[name])
        fill(board)
        wait_until(lambda: status_of(port)["status"] is not None)
        assert page.pid == pid
    assert told == []
    assert not alive(pid)


def test_a_page_that_dies_comes_back() -> None:
    """Its end is told once, and a new process serves the same board."""
    board, told = make_board(), Problems()
    fill(board)
    with PagePublisher(board, CONFIG, told.note) as page:
        port_of(page)
        assert page.pid is not None
        os.kill(page.pid, signal.SIGKILL)
        wait_until(lambda: page.starts == 2)
        port = port_of(page)
        wait_until(lambda: status_of(port)["status"] is not None)
    assert len(told) == 1
    assert "started again" in told[0]


def test_a_page_that_hangs_is_replaced_while_the_board_goes_on() -> None:
    """A frozen process costs the line nothing and is killed."""
    board, told = make_board(), Problems()
    with PagePublisher(board, CONFIG, told.note) as page:
        port_of(page)
        frozen = page.pid
        assert frozen is not None
        os.kill(frozen, signal.SIGSTOP)
        while page.starts == 1:
            fill(board)
        assert not alive(frozen)
        port = port_of(page)
        wait_until(lambda: status_of(port)["status"] is not None)
    assert told == ["page: the page took nothing for 0 s; it is started again"]


def test_a_port_that_is_taken_is_told_and_tried_again() -> None:
    """The line runs without its page, which comes when the port is free."""
    told = Problems()
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        with_port = CONFIG.model_copy(update={"port": taken})
        page = PagePublisher(make_board(), with_port, told.note)
        wait_until(lambda: bool(told))
    with page:
        assert "another program listens there; stop it or set another page.port" in told[0]
        assert port_of(page) == taken


def test_closing_ends_a_frozen_process_too() -> None:
    """The line's end never waits for its page."""
    page = PagePublisher(make_board(), CONFIG, Problems().note)
    port_of(page)
    pid = page.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    page.close()
    page.close()
    assert not alive(pid)


def test_the_page_ends_with_its_line(lines: Lines) -> None:
    """A line that is killed leaves no page behind that would show it."""
    line = lines.start()
    wait_until(lambda: get(line.port, "/healthz") == (200, b"ok\n"))
    line.process.kill()
    line.process.wait()

    def gone() -> bool:
        try:
            return get(line.port, "/healthz")[0] == 0
        except OSError:
            return True

    wait_until(gone)


def test_a_frozen_line_is_stale_to_every_reader(lines: Lines) -> None:
    """The page's own process sees that its line has gone silent, and recovers with it."""
    line = lines.start()
    line.freeze()
    wait_until(lambda: bool(status_of(line.port)["stale"]))
    assert get(line.port, "/healthz")[0] == 503
    line.thaw()
    wait_until(lambda: not status_of(line.port)["stale"])


def test_a_page_without_its_package_is_refused_with_the_command_that_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked for and impossible: said at the start, not in a loop of restarts."""
    monkeypatch.setitem(sys.modules, "h11", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'cada-edge\[page\]'"):
        PagePublisher(make_board(), CONFIG, Problems().note)


def test_a_page_with_a_visitor_ends_without_a_word(capfd: pytest.CaptureFixture[str]) -> None:
    """An open connection at the end is hung up on, and leaves no traceback in the journal."""
    with PagePublisher(make_board(), CONFIG, Problems().note) as page:
        visitor = socket.create_connection(("127.0.0.1", port_of(page)))
        visitor.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nGET")
        assert visitor.recv(20).startswith(b"HTTP/1.1 ")
    visitor.close()
    assert capfd.readouterr().err == ""
