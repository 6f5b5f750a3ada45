"""The seam to a PLC that is the client: a server on the event loop of the PLC process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import Context, ContextVar
from dataclasses import dataclass
from typing import Protocol, TypeVar

from cada_edge.runtime.registers import StatusBlock

ShownBlock = Callable[[], StatusBlock]
OnControl = Callable[[Sequence[int]], None]
_T = TypeVar("_T")


@dataclass(frozen=True)
class Reading:
    """An answer in the making.

    Attributes:
        reader: the connection that asked, the same object for as long as it lasts. Another one may
            belong to another client, or to one that lost its answers: nobody knows what it has seen.
        result: whether the answer tells the result; who reads the heartbeat alone has not seen it.
        seqs: the numbers of the results that it tells, where it does not tell whichever is the newest.
    """

    reader: object
    result: bool
    seqs: frozenset[int] | None = None

    def tells(self, seq: int) -> bool:
        """Whether the result of this number, the newest, is in the answer."""
        return self.result and (self.seqs is None or seq in self.seqs)


_READING: ContextVar[Reading | None] = ContextVar("reading", default=None)


@contextmanager
def answering(reader: object, *, result: bool, seqs: frozenset[int] | None = None) -> Iterator[None]:
    """Within, a `ShownBlock` gives the block as `reader` may see it; arguments as of `Reading`.

    A task or a timer made within would go on for the same reader, long after its answer: make it `for_nobody`.
    """
    token = _READING.set(Reading(reader, result, seqs))
    try:
        yield
    finally:
        _READING.reset(token)


def being_answered() -> Reading | None:
    """Who gets the block that is asked for; ``None`` for nobody."""
    return _READING.get()


def for_nobody(act: Callable[[], _T]) -> _T:
    """What `act` gives; neither it nor any task or timer that it makes answers anybody."""
    return Context().run(act)  # a task and a timer keep a copy of the context they were made in


class Server(Protocol):
    """Shows one station's status block and takes its control block.

    Made with its section of ``line.yaml``, a function that gives the block as it may be seen at
    this moment, called within `answering`, and one that takes the 16 words of the control block
    whenever a client wrote one. Everything happens on one event loop; nothing blocks.
    """

    async def start(self) -> int:
        """Listen; the port it listens on. Raises `OSError` for an address that cannot be had."""

    def refresh(self) -> None:
        """What can be seen has changed; on the loop."""

    async def stop(self) -> None:
        """Hang up and listen no more. Safe to call twice."""
