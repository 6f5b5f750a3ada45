"""Wires of any Linux GPIO chip, by libgpiod's second interface."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta

import gpiod
from gpiod.line import Bias, Direction, Edge, Value

from cada_edge.runtime.links import pins

_NAME = "cada-edge"
_KERNEL_KEEPS = 1024  # edges that nobody has taken yet: the most a kernel allows


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
        lines: dict[Iterable[int | str] | int | str, gpiod.LineSettings | None] = {}
        if outputs:
            lines[tuple(outputs)] = driven
        if inputs:
            lines[tuple(inputs)] = heard
        self._inputs, self._debounce_ns = list(inputs), int(debounce_ms * 1e6)
        self._numbers = dict.fromkeys(inputs, 0)
        self._request = gpiod.request_lines(chip, config=lines, consumer=_NAME, event_buffer_size=_KERNEL_KEEPS)

    def set(self, active: Mapping[int, bool]) -> None:
        """Set outputs in one call of the kernel."""
        self._request.set_values({line: Value.ACTIVE if on else Value.INACTIVE for line, on in active.items()})

    def levels(self) -> Mapping[int, bool]:
        """Whether each input is active now, in one call of the kernel."""
        if not self._inputs:
            return {}
        values = self._request.get_values(self._inputs)
        return {line: value is Value.ACTIVE for line, value in zip(self._inputs, values, strict=True)}

    def edges(self) -> Sequence[pins.Edge]:
        """Edges since the last call, in order. Raises `OSError` where the kernel had to drop some, too."""
        events: list[gpiod.EdgeEvent] = []
        while len(events) < _KERNEL_KEEPS and self._request.wait_edge_events(0):
            events += self._request.read_edge_events()
        for event in events:
            # Counted per line: over all lines, the kernel may queue a number before a smaller one.
            lost = event.line_seqno - self._numbers[event.line_offset] - 1
            self._numbers[event.line_offset] = event.line_seqno
            if lost:
                raise OSError(f"{lost} edges of line {event.line_offset} were lost; is the input noisy?")
        return sorted(map(self._edge, events), key=lambda edge: edge.at_ns)

    def close(self) -> None:
        """Let go of the lines."""
        self._request.release()

    def _edge(self, event: gpiod.EdgeEvent) -> pins.Edge:
        at_ns = event.timestamp_ns  # of the monotonic clock, unless asked for another
        rose = event.event_type is event.Type.RISING_EDGE
        return pins.Edge(event.line_offset, rose, at_ns, at_ns - self._debounce_ns)
