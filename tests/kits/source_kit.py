"""Independent cameras for the tests of sources: Aravis' fake GigE camera and an RTSP server."""

from __future__ import annotations

import fcntl
import itertools
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cada_edge.errors import MissingDependencyError
from cada_edge.runtime.sources.introspection import require
from cada_edge.types import Frame

FAKE_CAMERA = "arv-fake-gv-camera-0.8"
RTSP_PACKAGES = (
    "python3-gi gir1.2-gst-rtsp-server-1.0 gir1.2-gst-plugins-base-1.0 "
    "gstreamer1.0-plugins-good gstreamer1.0-plugins-ugly"
)
_SYSTEM_PYTHON, _PEERS = "/usr/bin/python3", Path(__file__).resolve().parents[1] / "peers"


def need_namespace(namespace: str, version: str, packages: str) -> None:
    """Skip where GObject introspection or this namespace is not installed."""
    try:
        require(namespace, version, packages)
    except MissingDependencyError as error:
        pytest.skip(str(error))


class FakeCamera:
    """Aravis' GigE Vision camera on loopback, a program of its own. One at a time: its port is fixed."""

    def __init__(self, serial: str = "GV01", *options: str) -> None:
        self._command = [FAKE_CAMERA, "-i", "127.0.0.1", "-s", serial, *options]
        self._process = self._start()

    def freeze(self) -> None:
        """Stand still, as a camera whose firmware hangs."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Go on."""
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """Be gone at once, as when the cable is pulled."""
        self._process.kill()
        self._process.wait(10)

    def restart(self) -> None:
        """Come back."""
        self._process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(0.3)  # its socket is bound; it says nothing
        if process.poll() is not None:
            pytest.skip(f"{FAKE_CAMERA} ended with {process.returncode}: is its port 3956 taken?")
        return process


@contextmanager
def fake_camera(serial: str = "GV01", *options: str) -> Iterator[FakeCamera]:
    """A running fake camera; skips where it is not installed."""
    need_namespace("Aravis", "0.8", "gir1.2-aravis-0.8")
    if shutil.which(FAKE_CAMERA) is None:
        pytest.skip(f"{FAKE_CAMERA} is not installed; run: apt install aravis-tools")
    with (Path(tempfile.gettempdir()) / "cada-edge-fake-camera.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # its port is fixed, and tests may run side by side
        camera = FakeCamera(serial, *options)
        try:
            yield camera
        finally:
            camera.thaw()
            camera.kill()


def until(frames: Iterator[Frame], wanted: Callable[[Frame], bool], limit: int = 2000) -> Frame:
    """The first frame that is as wanted; fails after `limit` others."""
    found = next((frame for frame in itertools.islice(frames, limit) if wanted(frame)), None)
    return found if found is not None else pytest.fail(f"none of {limit} frames is as wanted")


def whole(frame: Frame) -> bool:
    """Whether its picture is."""
    return frame.status == "ok"


def lost(frame: Frame) -> bool:
    """Whether it stands for a camera that is gone; on a busy machine a single buffer may be incomplete too."""
    return frame.name == "camera lost"


class RtspCamera:
    """GStreamer's RTSP server as a camera of 25 pictures a second that write their time into themselves."""

    def __init__(self, port: int) -> None:
        self.url, self._port = f"rtsp://127.0.0.1:{port}/cam", port
        self.restart()

    def freeze(self) -> None:
        """Stand still; the connection stays open."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Go on."""
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """Be gone at once."""
        self.thaw()
        self._process.kill()
        self._process.communicate(timeout=10)

    def restart(self) -> None:
        """Come back at the same address; skips where the server cannot run."""
        self._process = subprocess.Popen(
            [_SYSTEM_PYTHON, str(_PEERS / "rtsp_server.py"), str(self._port)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "ready\n":
            reason = self._process.communicate(timeout=10)[1].strip().splitlines()[-1:]
            pytest.skip(f"no RTSP server: {reason}; run: apt install {RTSP_PACKAGES}")


@contextmanager
def rtsp_camera() -> Iterator[RtspCamera]:
    """A running RTSP camera on a free port; skips where its packages are not installed."""
    if not Path(_SYSTEM_PYTHON).exists():
        pytest.skip(f"{_SYSTEM_PYTHON} is not there, which runs the RTSP server")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    camera = RtspCamera(port)
    try:
        yield camera
    finally:
        camera.kill()


def written_ms(frame: Frame) -> int:
    """The time that an `RtspCamera` wrote into its picture: CLOCK_MONOTONIC, ms, 32 bits."""
    assert frame.image is not None
    cells = frame.image[8::16, 8::16, 1].reshape(-1)[:32] > 128
    return sum(1 << bit for bit in range(32) if cells[bit])


def true_age_ms(frame: Frame) -> float:
    """From the making of an `RtspCamera`'s picture to now."""
    now_ms = time.monotonic_ns() // 1_000_000 & 0xFFFFFFFF
    return float((now_ms - written_ms(frame)) & 0xFFFFFFFF)
