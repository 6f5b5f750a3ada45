"""Wires of a Jetson's 40-pin header, by Jetson.GPIO: for JetPack releases whose GPIO chips have no second interface."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from Jetson import GPIO

from cada_edge.runtime.links.pins import Edge


class JetsonPins:
    """Looks at inputs when asked: a pulse must last longer than two polls. Outputs begin inactive.

    Args:
        outputs: pins of the header to drive.
        inputs: pins of the header to listen to; Jetson.GPIO cannot pull them, so do it on the board.

    Raises `OSError` for pins that cannot be had.
    """

    def __init__(self, outputs: Sequence[int], inputs: Sequence[int]) -> None:
        self._pins, self._inputs = [*outputs, *inputs], list(inputs)
        try:
            GPIO.setmode(GPIO.BOARD)
            if outputs:
                GPIO.setup(list(outputs), GPIO.OUT, initial=GPIO.LOW)
            if inputs:
                GPIO.setup(list(inputs), GPIO.IN)
            self._looked_ns = time.monotonic_ns()
            self._levels = self.levels()
        except (RuntimeError, ValueError) as error:
            raise OSError(f"Jetson.GPIO: {error}") from error

    def set(self, active: Mapping[int, bool]) -> None:
        """Set outputs, one after the other in the order given."""
        GPIO.output(list(active), [GPIO.HIGH if on else GPIO.LOW for on in active.values()])

    def levels(self) -> dict[int, bool]:
        """Whether each input is active, one after the other."""
        return {pin: bool(GPIO.input(pin)) for pin in self._inputs}

    def edges(self) -> Sequence[Edge]:
        """Inputs whose level is not the one of the last call."""
        before_ns, self._looked_ns = self._looked_ns, time.monotonic_ns()
        levels = self.levels()
        at_ns = time.monotonic_ns()
        changed = [Edge(pin, level, at_ns, before_ns) for pin, level in levels.items() if level != self._levels[pin]]
        self._levels = levels
        return changed

    def close(self) -> None:
        """Let go of the pins."""
        GPIO.cleanup(self._pins)
