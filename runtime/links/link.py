"""The seam to a PLC's memory: a blocking client that one thread owns.

Writer mode: the status block is written into the PLC's memory and the control block read from
it. The same 32 and 16 words serve every protocol; a protocol with named tags or nodes maps them
by `cada_edge.runtime.registers` and `cada_edge.runtime.control`. Server mode, where the PLC is
the client, has no such seam: see `modbus_server` and `opcua_server`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Link(Protocol):
    """A client of one PLC. Every call blocks for at most the time-out it was made with.

    Nothing here retries, reconnects or remembers: the supervisor that owns the link does, and
    makes every call from one thread. After a `LinkError` the link is closed and opened anew.
    """

    def open(self) -> None:
        """Connect. Raises `LinkError` naming the peer, what happened and what to check."""

    def write_status(self, words: Sequence[int]) -> None:
        """Write the 32 words of a status block, in one request where the protocol can.

        Where it cannot, the sequence word at the end is written last and in its own request,
        so that a torn block shows. Raises `LinkError`: it may have been written or not.
        """

    def read_control(self) -> Sequence[int] | None:
        """The 16 words of the control block; ``None`` for a link that only shows. Raises `LinkError`."""

    def close(self) -> None:
        """Disconnect, never raising. Safe to call twice, and without `open`."""
