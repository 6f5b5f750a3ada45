"""Wires of a Jetson's 40-pin header, by Jetson.GPIO: for JetPack releases whose GPIO chips have no second interface."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from Jetson import GPIO


class JetsonPins:
    """Looks at inputs when asked: a pulse must last longer than two polls. Outputs begin inactive.

    Args:
        outputs: pins of the header to drive.
        inputs: pins of the header to listen to; Jetson.GPIO cannot pull them, so do it on the board.

    Raises `OSError` for pins that cannot be had.
    """

    def __init__(self, outputs: Sequence[int], inputs: Sequence[int]) -> None:
        self._pins = [*outputs, *inputs]
        try:
            GPIO.setmode(GPIO.BOARD)
            GPIO.setup(list(outputs), GPIO.OUT, initial=GPIO.LOW)
            if inputs:
                GPIO.setup(list(inputs), GPIO.IN)
            self._levels = {pin: bool(GPIO.input(pin)) for pin in inputs}
        except (RuntimeError, ValueError) as error:
            raise OSError(f"Jetson.GPIO: {error}") from error

    def set(self, active: Mapping[int, bool]) -> None:
        """Set outputs, one after the other in the order given."""
        GPIO.output(list(active), [GPIO.HIGH if on else GPIO.LOW for on in active.values()])

    def edges(self) -> Sequence[tuple[int, bool]]:
        """Inputs whose level is not the one of the last call."""
        levels = {pin: bool(GPIO.input(pin)) for pin in self._levels}
        changed = [(pin, level) for pin, level in levels.items() if level != self._levels[pin]]
        self._levels = levels
        return changed

    def close(self) -> None:
        """Let go of the pins."""
        GPIO.cleanup(self._pins)
