"""The seam to single wires: outputs that are set together, inputs that tell their edges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol


class Edge(NamedTuple):
    """A change of an input.

    Attributes:
        line: which.
        rose: whether it became active.
        at_ns: monotonic time by which it had changed.
        after_ns: monotonic time at which it had not; close to `at_ns` where the kernel keeps the time, the look
            before where one has to look.
    """

    line: int
    rose: bool
    at_ns: int
    after_ns: int


class Pins(Protocol):
    """Lines of one chip, requested for us alone. For one thread; every call raises `OSError` when it fails."""

    def set(self, active: Mapping[int, bool]) -> None:
        """Set outputs, at one moment where the driver can."""

    def levels(self) -> Mapping[int, bool]:
        """Whether each input is active now; edges up to now may still be told by `edges`."""

    def edges(self) -> Sequence[Edge]:
        """Since the last call: input lines that changed, in order."""

    def close(self) -> None:
        """Let go of the lines."""
