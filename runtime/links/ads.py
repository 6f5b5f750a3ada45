"""A Beckhoff TwinCAT runtime with an array for either block, by pyads."""

from __future__ import annotations

import ctypes
import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NoReturn

import pyads

from cada_edge.errors import LinkError
from cada_edge.runtime.control import CONTROL_WORDS
from cada_edge.runtime.links.config import AdsConfig
from cada_edge.runtime.registers import WORDS

_ROUTER_PORT = 48898
_LOG_LEVEL, _NOTHING = "_ZN6Logger8logLevelE", 4  # of the vendor's library; 3 is its errors
_STATUS, _CONTROL = pyads.PLCTYPE_UINT * WORDS, pyads.PLCTYPE_UINT * CONTROL_WORDS


class AdsLink:
    """Writer mode into and out of arrays of UINT by name: one request each, whole within a PLC cycle.

    The vendor's library keeps one route per AMS net id in the process: one link per controller.
    """

    def __init__(self, config: AdsConfig) -> None:
        self._config = config
        self._plc: Any = None
        self._status: int | None = None
        self._control: int | None = None
        self._peer = f"ads {config.host} {config.net_id}:{config.ams_port}"

    def open(self) -> None:
        """Connect and look both names up. Raises `LinkError`."""
        config = self._config
        _hush()
        try:
            # The vendor's library would wait minutes for a host that is off.
            socket.create_connection((config.host, _ROUTER_PORT), config.timeout_ms / 1000).close()
            self._plc = pyads.Connection(config.net_id, config.ams_port, config.host)
            self._plc.open()
            self._plc.set_timeout(config.timeout_ms)
            self._status = self._plc.get_handle(config.status_tag)
            self._control = self._plc.get_handle(config.control_tag) if config.control else None
        except (pyads.ADSError, OSError, RuntimeError) as error:
            self._fail("connect", error)

    def write_status(self, words: Sequence[int]) -> None:
        """Write the 32 words in one request. Raises `LinkError`."""
        tag, plc = self._config.status_tag, self._opened()
        try:
            plc.write_by_name(tag, list(words), _STATUS, handle=self._status)
        except (pyads.ADSError, OSError) as error:
            self._fail(f"write {tag}", error)

    def read_control(self) -> Sequence[int] | None:
        """The 16 words, or ``None`` where this link may not drive the station. Raises `LinkError`."""
        if self._control is None:
            return None
        tag, plc = self._config.control_tag, self._opened()
        try:
            words = plc.read_by_name(tag, _CONTROL, handle=self._control)
        except (pyads.ADSError, OSError) as error:
            self._fail(f"read {tag}", error)
        return [int(word) for word in words]

    def close(self) -> None:
        """Disconnect."""
        plc, self._plc = self._plc, None
        handles, self._status, self._control = (self._status, self._control), None, None
        if plc is None:
            return
        with suppress(pyads.ADSError):  # the controller frees them itself when it restarts
            for handle in handles:
                if handle is not None:
                    plc.release_handle(handle)
        with suppress(pyads.ADSError):  # a route that is gone already
            plc.close()

    def _opened(self) -> Any:
        if self._plc is None:
            raise LinkError(f"{self._peer}: not open")
        return self._plc

    def _fail(self, what: str, error: Exception) -> NoReturn:
        self._status = self._control = None  # a controller that does not answer is not asked to free them
        raise LinkError(
            f"{self._peer}: {what}: {error}; is TwinCAT in run mode, does it have a route to this device, "
            "and are the names right?"
        ) from error


def _hush() -> None:
    """Have the vendor's library print nothing: standard error is the line's log, and every failure is raised to us."""
    with suppress(AttributeError, ValueError):  # a build of it without that symbol
        ctypes.c_size_t.in_dll(pyads.pyads_ex._adsDLL, _LOG_LEVEL).value = _NOTHING  # noqa: SLF001  # nothing public does
