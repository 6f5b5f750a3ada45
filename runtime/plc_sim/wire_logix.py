"""A simulated Allen-Bradley controller whose tags a link of ours writes: a program of its own, which the user installs.

The only free one, cpppo's ``enip_server``, is under the GPL: nothing here imports it. It is started as any program
is, and spoken to over EtherNet/IP as any controller is.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from cada_edge.errors import LinkError, MissingDependencyError
from cada_edge.runtime.control import CONTROL_WORDS
from cada_edge.runtime.links.config import LogixConfig
from cada_edge.runtime.links.logix import LogixTags
from cada_edge.runtime.plc_sim.listen import must_be_free
from cada_edge.runtime.registers import WORDS

_PROGRAM = "enip_server"
# Ends the controller with us, however we end: then the pipe that `read` waits on is closed.
_GUARD = '"$@" </dev/null >/dev/null 2>&1 & read -r _; kill -9 $!'
_START_S, _PAUSE_S = 20.0, 0.02
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # where the user listens, and how we reach it


class LogixMemory:
    """A controller with two arrays of INT under the names of the link; its memory is lost when it hangs up.

    Args:
        config: of the link; `host` and `port` are where to listen, `slot` does not matter.

    Raises:
        MissingDependencyError: the controller is not installed.
    """

    def __init__(self, config: LogixConfig) -> None:
        self._config, self._command = config, _command(config)
        self._guard: subprocess.Popen[bytes] | None = None
        self._tags: LogixTags | None = None

    def open(self) -> None:
        """Start the controller and connect to it. Raises `LinkError`."""
        config = self._config
        must_be_free(config.host, config.port)
        self._guard = subprocess.Popen(  # noqa: S603  # a fixed script, its arguments never parsed by the shell
            ["/bin/sh", "-c", _GUARD, _PROGRAM, *self._command], stdin=subprocess.PIPE, start_new_session=True
        )
        host = _EVERYWHERE.get(config.host, config.host)
        self._await(host, config.port)
        self._tags = LogixTags(config.model_copy(update={"host": host}))
        self._tags.open()

    def read(self) -> Sequence[int] | None:
        """What the link wrote last. Raises `LinkError`."""
        words = self._opened().read(self._config.status_tag, WORDS)
        return words if any(words) else None

    def write(self, words: Sequence[int]) -> None:
        """Leave the words where the link reads them. Raises `LinkError`."""
        self._opened().write(self._config.control_tag, words)

    def close(self) -> None:
        """End the controller."""
        tags, guard, self._tags, self._guard = self._tags, self._guard, None, None
        if tags is not None:
            tags.close()
        if guard is not None and guard.stdin is not None:
            guard.stdin.close()
            guard.wait()

    def _opened(self) -> LogixTags:
        if self._tags is None:
            raise LinkError(f"{self._config.host}:{self._config.port}: not open")
        return self._tags

    def _await(self, host: str, port: int) -> None:
        """Until the controller listens."""
        until_s = time.monotonic() + _START_S
        while time.monotonic() < until_s:
            with suppress(OSError):
                socket.create_connection((host, port), _PAUSE_S).close()
                return
            time.sleep(_PAUSE_S)
        raise LinkError(
            f"{_PROGRAM} does not answer on {host}:{port} within {_START_S:g} s; to see why, run it by hand: "
            f"{' '.join(self._command)}"
        )


def _command(config: LogixConfig) -> list[str]:
    """The controller's command line. Raises `MissingDependencyError`."""
    # Found also where this program's environment is not activated.
    program = shutil.which(_PROGRAM) or shutil.which(_PROGRAM, path=str(Path(sys.executable).parent))
    if program is None:
        raise MissingDependencyError(
            f"plc-sim of logix needs a simulated controller: the program {_PROGRAM} of cpppo, which is under the GPL "
            "and no part of cada-edge, is not installed; run: pip install cpppo"
        )
    tags = [f"{config.status_tag}=INT[{WORDS}]", f"{config.control_tag}=INT[{CONTROL_WORDS}]"]
    return [program, "--no-config", "--no-udp", "--address", f"{config.host}:{config.port}", *tags]
