"""The seam to a PLC that is the client: a server on the event loop of the PLC process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from cada_edge.runtime.registers import StatusBlock

ShownBlock = Callable[[], StatusBlock]
OnControl = Callable[[Sequence[int]], None]


class Server(Protocol):
    """Shows one station's status block and takes its control block.

    Made with its section of ``line.yaml``, a function that gives the block as it may be seen at
    this moment, and one that takes the 16 words of the control block whenever a client wrote one.
    Everything happens on one event loop; nothing blocks.
    """

    async def start(self) -> int:
        """Listen; the port it listens on. Raises `OSError` for an address that cannot be had."""

    def refresh(self) -> None:
        """What can be seen has changed; on the loop."""

    async def stop(self) -> None:
        """Hang up and listen no more. Safe to call twice."""
