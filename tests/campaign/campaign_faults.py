"""The faults: each a context manager that causes it and, at its end, takes the cause away."""

from __future__ import annotations

import http.client
import os
import random
import resource
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

from campaign_camera import NOISE, RUBBISH
from campaign_entry import CRAWLS, HANGS, NANS, RAISES, set_switch
from campaign_plc import Plc
from campaign_rig import Program, Rig

_YEAR_S = 365 * 86_400
_PLC, _PAGE = "cada_edge.runtime.plc", "cada_edge.runtime.page"
Cause = Callable[[Rig, Plc], Iterator[None]]
caused = contextmanager  # a cause is a generator: `with caused(fault.cause)(rig, plc)`


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong.

    Attributes:
        name: in tables.
        cause: a generator function: before its ``yield`` the fault begins, after it ends.
        hold_s: how long it lasts.
        seen: parts cannot be judged meanwhile, so that the PLC must see it; else the line goes on.
    """

    name: str
    cause: Cause
    hold_s: float = 1.8
    seen: bool = True


def _stop(*pids: int | None) -> Iterator[None]:
    known = [pid for pid in pids if pid is not None]
    for pid in known:
        os.kill(pid, signal.SIGSTOP)
    yield
    for pid in known:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def _kill(pid: int | None) -> Iterator[None]:
    if pid is not None:
        os.kill(pid, signal.SIGKILL)
    yield


def _away(program: Program) -> Iterator[None]:
    """Killed, and started again at the end."""
    program.kill()
    yield
    program.start(wait=False)


def _runner(mode: int) -> Cause:
    def cause(rig: Rig, _plc: Plc) -> Iterator[None]:
        set_switch(rig.switch, runner=mode)
        yield
        set_switch(rig.switch)

    return cause


def _camera(behaviour: int) -> Cause:
    def cause(rig: Rig, _plc: Plc) -> Iterator[None]:
        _behave(rig, behaviour)
        yield
        _behave(rig, 0)

    return cause


def _behave(rig: Rig, behaviour: int) -> None:
    with rig.scene.open("r+b") as file:
        file.seek(1)
        file.write(bytes([behaviour]))


def _clock(off_s: int) -> Cause:
    def cause(rig: Rig, _plc: Plc) -> Iterator[None]:
        set_switch(rig.switch, wall_off_s=off_s)
        yield
        set_switch(rig.switch)

    return cause


def _line_away(number: signal.Signals) -> Cause:
    """The line ends, and is started again as by systemd."""

    def cause(rig: Rig, _plc: Plc) -> Iterator[None]:
        rig.guard.paused = True
        rig.line.send(number)
        yield
        rig.line.kill()
        rig.line.start(wait=False)
        rig.guard.paused = False

    return cause


def _all_killed(rig: Rig, _plc: Plc) -> Iterator[None]:
    """The line with its processes, as systemd kills a unit whose main process has died, and started again."""
    rig.guard.paused = True
    pids = [rig.line.pid, rig.line.child(_PLC), rig.line.child(_PAGE)]
    for pid in filter(None, pids):
        os.kill(pid, signal.SIGKILL)
    yield
    rig.line.kill()
    rig.line.start(wait=False)
    rig.guard.paused = False


def _everything_stopped(rig: Rig, _plc: Plc) -> Iterator[None]:
    return _stop(rig.line.pid, rig.line.child(_PLC), rig.line.child(_PAGE))


def _crawls(program_of: Callable[[Rig], Program]) -> Cause:
    """It gets a tenth of the time, in bursts: a camera so treated gives five pictures a second."""

    def cause(rig: Rig, _plc: Plc) -> Iterator[None]:
        over, program = threading.Event(), program_of(rig)

        def crawl() -> None:
            while not over.is_set():
                program.send(signal.SIGSTOP)
                over.wait(0.2)
                program.send(signal.SIGCONT)
                time.sleep(0.02)

        thread = threading.Thread(target=crawl)
        thread.start()
        yield
        over.set()
        thread.join()

    return cause


def _starts_blind(rig: Rig, _plc: Plc) -> Iterator[None]:
    """The line ends and is started again while its camera is off."""
    rig.guard.paused = True
    rig.camera.kill()
    rig.line.terminate()
    rig.line.start(wait=False)
    rig.guard.paused = False
    yield
    rig.camera.start(wait=False)


def _no_part_comes(cause: Cause) -> Cause:
    """The same, while the station waits for a trigger: nobody asks for a picture."""

    def idle(rig: Rig, plc: Plc) -> Iterator[None]:
        with plc.idle(), caused(cause)(rig, plc):
            yield

    return idle


def _dropped(_rig: Rig, plc: Plc) -> Iterator[None]:
    plc.drop()
    yield


def _half_open(_rig: Rig, plc: Plc) -> Iterator[None]:
    plc.forget()
    yield


def _plc_frozen(_rig: Rig, plc: Plc) -> Iterator[None]:
    with plc.frozen():
        yield


def _garbage(rig: Rig, _plc: Plc) -> Iterator[None]:
    """Strangers send noise, half a request, and a request byte by byte."""
    over, chance = threading.Event(), random.Random(0)

    def shout() -> None:
        while not over.is_set():
            with suppress(OSError), socket.create_connection(("127.0.0.1", rig.port), 1) as stranger:
                stranger.sendall(chance.randbytes(chance.randrange(1, 300)))
                for byte in b"\0\1\0\0\0\6\1\3\0\x64\0":
                    stranger.sendall(bytes([byte]))
                    over.wait(0.01)

    threads = [threading.Thread(target=shout) for _ in range(4)]
    for thread in threads:
        thread.start()
    yield
    over.set()
    for thread in threads:
        thread.join()


def _crowd(rig: Rig, _plc: Plc) -> Iterator[None]:
    """A hundred clients that connect and say nothing."""
    with ExitStack() as stack:
        for _ in range(100):
            with suppress(OSError):
                stack.enter_context(socket.create_connection(("127.0.0.1", rig.port), 1))
        yield


def _noise(program_of: Callable[[Rig], Program], noisy_of: Callable[[Rig], Program]) -> Cause:
    """It comes back as something that does not speak its protocol."""

    def cause(rig: Rig, _plc: Plc) -> Iterator[None]:
        program_of(rig).kill()
        noisy_of(rig).start(wait=False)
        yield
        noisy_of(rig).kill()
        program_of(rig).start(wait=False)

    return cause


def _broker(rig: Rig) -> Program:
    """Chosen only where there is one."""
    assert rig.broker is not None
    return rig.broker


def _disk_full(rig: Rig, _plc: Plc) -> Iterator[None]:
    """Not one more byte can be written to any file."""
    _, most = resource.prlimit(rig.line.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(rig.line.pid, resource.RLIMIT_FSIZE, (0, most))
    yield
    resource.prlimit(rig.line.pid, resource.RLIMIT_FSIZE, (most, most))


def _records_locked(rig: Rig, _plc: Plc) -> Iterator[None]:
    """Another program holds the records."""
    other = sqlite3.connect(rig.records, isolation_level=None, timeout=5)
    other.execute("BEGIN IMMEDIATE")
    yield
    other.execute("ROLLBACK")
    other.close()


def _hammered(rig: Rig, _plc: Plc) -> Iterator[None]:
    """The page is asked as fast as eight clients can, and held open by thirty that say nothing."""
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            with suppress(OSError, http.client.HTTPException):
                connection = http.client.HTTPConnection("127.0.0.1", rig.page_port, timeout=1)
                connection.request("GET", "/status.json")
                connection.getresponse().read()
                connection.close()

    threads = [threading.Thread(target=ask) for _ in range(8)]
    with ExitStack() as stack:
        for _ in range(30):
            with suppress(OSError):
                stack.enter_context(socket.create_connection(("127.0.0.1", rig.page_port), 1))
        for thread in threads:
            thread.start()
        yield
        over.set()
        for thread in threads:
            thread.join()


def _reload(broken: bool) -> Cause:
    def cause(rig: Rig, _plc: Plc) -> Iterator[None]:
        path = rig.folder / "line.cada"
        whole = path.read_bytes()
        if broken:
            path.write_bytes(whole[: len(whole) // 2])
        rig.line.send(signal.SIGHUP)
        yield
        path.write_bytes(whole)

    return cause


def _starved(_rig: Rig, _plc: Plc) -> Iterator[None]:
    """Four programs want every core."""
    spin = [sys.executable, "-c", "while True: pass"]
    busy = [subprocess.Popen(spin) for _ in range(4)]
    yield
    for process in busy:
        process.kill()
        process.wait()


FAULTS = (
    Fault("PLC process frozen", lambda rig, _: _stop(rig.line.child(_PLC))),
    Fault("PLC process killed", lambda rig, _: _kill(rig.line.child(_PLC)), 0.0),
    Fault("pipeline frozen", lambda rig, _: _stop(rig.line.pid)),
    Fault("pipeline killed, restarted", _line_away(signal.SIGKILL)),
    Fault("every process of the line killed, restarted", _all_killed),
    Fault("pipeline told to end, restarted", _line_away(signal.SIGTERM)),
    Fault("everything frozen (Ctrl-Z)", _everything_stopped),
    Fault("runner hangs", _runner(HANGS)),
    Fault("runner raises", _runner(RAISES)),
    Fault("runner slower than the deadline", _runner(CRAWLS)),
    Fault("runner gives NaN", _runner(NANS)),
    Fault("camera frozen", lambda rig, _: _stop(rig.camera.pid)),
    Fault("camera killed, restarted", lambda rig, _: _away(rig.camera)),
    Fault("camera away for 6 s", lambda rig, _: _away(rig.camera), 6.0),
    Fault("camera frozen while no part comes", _no_part_comes(lambda rig, _: _stop(rig.camera.pid)), 2.0),
    Fault("camera away while no part comes", _no_part_comes(lambda rig, _: _away(rig.camera)), 2.0),
    Fault("line started while the camera is off", _starts_blind, 6.0),
    Fault("camera sends noise for pictures", _camera(NOISE)),
    Fault("camera sends no protocol", _camera(RUBBISH)),
    Fault("camera at 5 pictures a second", _crawls(lambda rig: rig.camera), seen=False),
    Fault("PLC frozen", _plc_frozen, 1.2, seen=False),
    Fault("PLC loses its connection", _dropped, 0.0),
    Fault("PLC leaves a connection half open", _half_open, 0.0),
    Fault("strangers send garbage", _garbage, seen=False),
    Fault("a hundred silent clients", _crowd, seen=False),
    Fault("written PLC frozen", lambda rig, _: _stop(rig.peer.pid), seen=False),
    Fault("written PLC killed, restarted", lambda rig, _: _away(rig.peer), seen=False),
    Fault("written PLC slowed tenfold", _crawls(lambda rig: rig.peer), seen=False),
    Fault("written PLC answers noise", _noise(lambda rig: rig.peer, lambda rig: rig.noisy_peer), seen=False),
    Fault("disk full", _disk_full, seen=False),
    Fault("records locked", _records_locked, seen=False),
    Fault("wall clock a year ahead", _clock(_YEAR_S), seen=False),
    Fault("wall clock a year back", _clock(-_YEAR_S), seen=False),
    Fault("page hammered", _hammered, seen=False),
    Fault("page frozen", lambda rig, _: _stop(rig.line.child(_PAGE)), seen=False),
    Fault("page killed", lambda rig, _: _kill(rig.line.child(_PAGE)), seen=False),
    Fault("model read again", _reload(broken=False), seen=False),
    Fault("broken model read again", _reload(broken=True), seen=False),
    Fault("no time on any core", _starved, seen=False),
    Fault("broker frozen", lambda rig, _: _stop(_broker(rig).pid), seen=False),
    Fault("broker slowed tenfold", _crawls(_broker), seen=False),
    Fault("broker killed, restarted", lambda rig, _: _away(_broker(rig)), seen=False),
    Fault("broker answers noise", _noise(_broker, lambda rig: rig.noisy_broker), seen=False),
)
