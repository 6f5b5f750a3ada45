"""Single wires to a controller or an ejector: at rest every output is inactive, and that means reject."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from cada_edge.errors import LinkError
from cada_edge.runtime.control import encode_control
from cada_edge.runtime.links.config import DigitalConfig
from cada_edge.runtime.links.pending import PendingControl
from cada_edge.runtime.links.pins import Pins
from cada_edge.runtime.registers import ResultFlag, StatusBlock, StatusFlag, decode


def open_pins(config: DigitalConfig) -> Pins:
    """The lines of `config` by its driver. Raises `OSError`."""
    return take_pins(config, output_lines(config), input_lines(config))


def take_pins(config: DigitalConfig, outputs: Sequence[int], inputs: Sequence[int]) -> Pins:
    """These lines of the chip of `config`, by its driver. Raises `OSError`."""
    if config.driver == "gpiod":
        from cada_edge.runtime.links.pins_gpiod import GpiodPins  # noqa: PLC0415  # its package is an extra

        return GpiodPins(config.chip, outputs, inputs, config.debounce_ms)
    from cada_edge.runtime.links.pins_jetson import JetsonPins  # noqa: PLC0415  # its package is an extra

    return JetsonPins(outputs, inputs)


def output_lines(config: DigitalConfig) -> list[int]:
    """The lines that the station drives."""
    lines = (config.pass_line, config.valid_line, config.ready_line, config.busy_line, config.healthy_line)
    return [line for line in lines if line is not None]


def input_lines(config: DigitalConfig) -> list[int]:
    """The lines that the PLC drives."""
    return [line for line in (config.trigger_line, config.ack_line) if line is not None]


class DigitalLink:
    """Shows a station on wires, and takes trigger and acknowledgement from wires.

    A pulse ends with the first call after its time, so that it may be longer by one poll. It ends at
    once when its result is withdrawn. A level ends when its result is withdrawn or the next part is under way,
    so that a PLC which does not acknowledge never takes it for the answer to its next trigger.

    Args:
        config: which wires.
        pins: opens them.
        clock_ns: monotonic time, ns.
    """

    def __init__(
        self,
        config: DigitalConfig,
        pins: Callable[[DigitalConfig], Pins] = open_pins,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._config, self._make, self._clock_ns = config, pins, clock_ns
        self._peer = f"digital {config.chip if config.driver == 'gpiod' else 'header'}"
        self._pins: Pins | None = None
        self._pending, self._block = PendingControl(), StatusBlock()
        self._told: int | None = None
        self._over: int | None = None  # the result that stood when the next part was taken
        self._pulse_until_ns = 0

    def open(self) -> None:
        """Take the lines, every output inactive. Raises `LinkError`."""
        self._pending, self._block = PendingControl(), StatusBlock()
        self._told, self._over, self._pulse_until_ns = None, None, 0
        try:
            self._pins = self._make(self._config)
        except (OSError, ValueError) as error:
            raise LinkError(
                f"{self._peer}: {error}; does the chip exist, and has another program these lines?"
            ) from error

    def write_status(self, words: Sequence[int]) -> None:
        """Set every output to what the block says now. Raises `LinkError`."""
        before, self._block = self._block, decode(words)
        if StatusFlag.BUSY in self._block.flags & ~before.flags and self._block.seq == self._told:
            self._over = self._told
        if StatusFlag.RESULTS_VALID in self._block.flags and self._block.seq != self._told:
            self._told = self._block.seq
            self._pulse_until_ns = self._clock_ns() + self._config.pulse_ms * 1_000_000
        self._show()

    def read_control(self) -> Sequence[int] | None:
        """The next edge of an input; ``None`` where this link may not drive the station. Raises `LinkError`."""
        self._show()
        config = self._config
        if not config.control:
            return None
        try:
            edges = self._opened().edges()
        except OSError as error:
            raise LinkError(f"{self._peer}: read: {error}") from error
        for edge in edges:
            if edge.line == config.trigger_line:
                self._pending.trigger(on=edge.rose)
            elif edge.line == config.ack_line:
                self._pending.ack(on=edge.rose)
        return encode_control(self._pending.take())

    def close(self) -> None:
        """Every output inactive, and let go."""
        pins, self._pins = self._pins, None
        if pins is not None:
            with suppress(OSError):  # a chip that is gone drives nothing
                pins.set(dict.fromkeys(output_lines(self._config), False))
            with suppress(OSError):
                pins.close()

    def _show(self) -> None:
        flags, config = self._block.flags, self._config
        valid = StatusFlag.RESULTS_VALID in flags and StatusFlag.ONLINE in flags
        if config.mode == "pulse":
            valid = valid and self._clock_ns() < self._pulse_until_ns
        else:
            valid = valid and self._block.seq != self._over
        levels = {
            config.pass_line: valid and ResultFlag.PASS in self._block.result,
            config.valid_line: valid,
            config.ready_line: StatusFlag.TRIGGER_READY in flags,
            config.busy_line: StatusFlag.BUSY in flags,
            config.healthy_line: StatusFlag.ONLINE in flags and StatusFlag.ERROR not in flags,
        }
        try:
            self._opened().set({line: on for line, on in levels.items() if line is not None})
        except OSError as error:
            raise LinkError(f"{self._peer}: write: {error}") from error

    def _opened(self) -> Pins:
        if self._pins is None:
            raise LinkError(f"{self._peer}: not open")
        return self._pins
