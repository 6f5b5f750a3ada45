"""Wires of any Linux GPIO chip, by libgpiod's second interface."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta

import gpiod
from gpiod.line import Bias, Direction, Edge, Value

_NAME = "cada-edge"


class GpiodPins:
    """Requests all lines at once, outputs inactive; the kernel queues edges, so that short pulses count.

    Args:
        chip: path of the chip.
        outputs: offsets to drive.
        inputs: offsets to listen to; pulled down where the chip can, so that an open wire is at rest.
        debounce_ms: how long an input must hold before it counts.

    Raises `OSError` for a chip that is none, or lines that others have.
    """

    def __init__(self, chip: str, outputs: Sequence[int], inputs: Sequence[int], debounce_ms: float) -> None:
        driven = gpiod.LineSettings(direction=Direction.OUTPUT, output_value=Value.INACTIVE)
        heard = gpiod.LineSettings(
            direction=Direction.INPUT,
            edge_detection=Edge.BOTH,
            bias=Bias.PULL_DOWN,
            debounce_period=timedelta(milliseconds=debounce_ms),
        )
        lines: dict[Iterable[int | str] | int | str, gpiod.LineSettings | None] = {tuple(outputs): driven}
        if inputs:
            lines[tuple(inputs)] = heard
        self._request = gpiod.request_lines(chip, config=lines, consumer=_NAME)

    def set(self, active: Mapping[int, bool]) -> None:
        """Set outputs in one call of the kernel."""
        self._request.set_values({line: Value.ACTIVE if on else Value.INACTIVE for line, on in active.items()})

    def edges(self) -> Sequence[tuple[int, bool]]:
        """Edges since the last call, in order."""
        if not self._request.wait_edge_events(0):
            return ()
        events = self._request.read_edge_events()
        return [(event.line_offset, event.event_type is event.Type.RISING_EDGE) for event in events]

    def close(self) -> None:
        """Let go of the lines."""
        self._request.release()
