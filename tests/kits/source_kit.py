"""Independent cameras for the tests of sources: Aravis' fake GigE camera and an RTSP server."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from cada_edge.errors import MissingDependencyError
from cada_edge.runtime.sources.introspection import require
from cada_edge.types import Frame

FAKE_CAMERA = "arv-fake-gv-camera-0.8"


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
    camera = FakeCamera(serial, *options)
    try:
        yield camera
    finally:
        camera.thaw()
        camera.kill()


def until(frames: Iterator[Frame], status: str, limit: int = 2000) -> list[Frame]:
    """Frames up to the first of this status, which is the last of the list."""
    seen: list[Frame] = []
    for frame in frames:
        seen.append(frame)
        if frame.status == status:
            return seen
        if len(seen) == limit:
            break
    return pytest.fail(f"none of {len(seen)} frames is {status}")
