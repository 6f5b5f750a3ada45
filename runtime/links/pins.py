"""The seam to single wires: outputs that are set together, inputs that tell their edges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol


class Pins(Protocol):
    """Lines of one chip, requested for us alone. For one thread; every call raises `OSError` when it fails."""

    def set(self, active: Mapping[int, bool]) -> None:
        """Set outputs, at one moment where the driver can."""

    def edges(self) -> Sequence[tuple[int, bool]]:
        """Since the last call: input lines that changed, in order, and whether they rose."""

    def close(self) -> None:
        """Let go of the lines."""
