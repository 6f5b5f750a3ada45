"""What came in on single wires or as lines of text, as control blocks, one change after the other."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

from cada_edge.errors import LinkError
from cada_edge.runtime.control import ControlBlock, ControlFlag

_MOST_WAITING = 64
_UINT32 = 1 << 32


class PendingControl:
    """Keeps short pulses apart: each change is one block, however many came between two reads.

    A station sees edges: a trigger that came and went between two reads must still rise and fall.
    More than 64 changes that nobody took raise `LinkError`, for then the peer is not what it should be.
    """

    def __init__(self) -> None:
        self._now = ControlBlock(flags=ControlFlag.TRIGGER_ENABLE)
        self._waiting: deque[ControlBlock] = deque()
        self._triggers = 0

    def trigger(self, on: bool, trigger_id: int | None = None, encoder: int = 0) -> None:
        """The trigger rose or fell; without an id, triggers are numbered from 1. Raises `LinkError`."""
        if on:
            self._triggers = (self._triggers + 1) % _UINT32
            number = self._triggers if trigger_id is None else trigger_id
            self._add(replace(self._last, trigger_id=number, encoder=encoder), ControlFlag.TRIGGER, on)
        else:
            self._add(self._last, ControlFlag.TRIGGER, on)

    def ack(self, on: bool) -> None:
        """The acknowledgement rose or fell. Raises `LinkError`."""
        self._add(self._last, ControlFlag.RESULTS_ACK, on)

    def take(self) -> ControlBlock:
        """The next change; the present state where there is none."""
        if self._waiting:
            self._now = self._waiting.popleft()
        return self._now

    @property
    def _last(self) -> ControlBlock:
        return self._waiting[-1] if self._waiting else self._now

    def _add(self, block: ControlBlock, flag: ControlFlag, on: bool) -> None:
        if len(self._waiting) >= _MOST_WAITING:
            raise LinkError(f"{len(self._waiting)} triggers and acknowledgements wait; is the input noisy?")
        self._waiting.append(replace(block, flags=block.flags | flag if on else block.flags & ~flag))
