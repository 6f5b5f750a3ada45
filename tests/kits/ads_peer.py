"""A Beckhoff controller by pyads' test server: GVL.CadaStatus and GVL.CadaControl, arrays of UINT."""

from __future__ import annotations

import logging
import struct
from collections.abc import Sequence

from pyads.constants import ADST_UINT16
from pyads.testserver import AdsTestServer, AdvancedHandler, PLCVariable


class Memory:
    """Two variables; place is an address, for the port is always 48898."""

    def __init__(self, _kind: str, place: str) -> None:
        logging.disable(logging.CRITICAL)
        self._status = PLCVariable("GVL.CadaStatus", bytes(64), ADST_UINT16, "ARRAY [0..31] OF UINT")
        self._control = PLCVariable("GVL.CadaControl", bytes(32), ADST_UINT16, "ARRAY [0..15] OF UINT")
        handler = AdvancedHandler()
        handler.add_variable(self._status)
        handler.add_variable(self._control)
        self._server = AdsTestServer(handler, ip_address=place, logging=False)
        self._server.server.listen(5)  # the thread does so once it runs: a client would come too early
        self._server.start()

    def status(self) -> Sequence[int]:
        """Little-endian, as the controller has them."""
        return struct.unpack("<32H", self._status.value)

    def control(self, words: Sequence[int]) -> None:
        """As one value."""
        self._control.value = struct.pack("<16H", *words)
