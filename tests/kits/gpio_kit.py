"""GPIO chips whose wires are a file: what one process drives, another sees as edges with the kernel's times.

Few kernels that tests run on have a GPIO chip, so `installed` puts modules named ``gpiod`` and ``Jetson`` in front
of the real ones, here and in processes that are started: the drivers of the product run unchanged on them. The
chip is the file; two requests of one chip are the two ends of its wires, line by line.
"""

from __future__ import annotations

import fcntl
import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import pytest

_HEAD = "wires\n"
_CHIP_VARIABLE = "GPIO_KIT_CHIP"
_DRIVERS = (
    "gpiod",
    "gpiod.line",
    "Jetson",
    "cada_edge.runtime.links.pins_gpiod",
    "cada_edge.runtime.links.pins_jetson",
)


class Wires:
    """The file: one line of text for each change of a wire."""

    def __init__(self, chip: str) -> None:
        self._path = Path(chip)
        if not self._path.is_file() or not self._path.read_text().startswith(_HEAD):
            raise FileNotFoundError(2, "No such file or directory", chip)
        self._place = len(_HEAD)

    def put(self, levels: Mapping[int, bool]) -> None:
        """Wires change now, together."""
        with self._path.open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            now_ns = time.monotonic_ns()
            file.write("".join(f"{now_ns} {line} {int(on)}\n" for line, on in levels.items()))

    def changes(self) -> list[tuple[int, int, bool]]:
        """Time, line and level of what was put since the last call."""
        with self._path.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH)
            file.seek(self._place)
            text = file.read()
        self._place += len(text)
        rows = (row.split() for row in text.splitlines())
        return [(int(at_ns), int(line), level == "1") for at_ns, line, level in rows]


# gpiod


class Direction(Enum):
    """As gpiod's."""

    INPUT, OUTPUT = 1, 2


class Bias(Enum):
    """As gpiod's."""

    PULL_DOWN = 1


class Edge(Enum):
    """As gpiod's."""

    NONE, BOTH = 1, 2


class Value(Enum):
    """As gpiod's."""

    INACTIVE, ACTIVE = 0, 1


class LineSettings(NamedTuple):
    """As gpiod's."""

    direction: Direction
    output_value: Value = Value.INACTIVE
    edge_detection: Edge = Edge.NONE
    bias: Bias | None = None
    debounce_period: timedelta = timedelta(0)


class EdgeKind(Enum):
    """As gpiod's."""

    RISING_EDGE, FALLING_EDGE = 1, 2


@dataclass(frozen=True)
class EdgeEvent:
    """As gpiod's."""

    Type: ClassVar = EdgeKind
    event_type: EdgeKind
    timestamp_ns: int
    line_offset: int
    line_seqno: int


class LineRequest:
    """As gpiod's, of one end of the wires."""

    def __init__(self, chip: str, config: Mapping[tuple[int, ...], LineSettings]) -> None:
        self._wires = Wires(chip)
        by_line = {line: one for lines, one in config.items() for line in lines}
        self._out = {line: False for line, one in by_line.items() if one.direction is Direction.OUTPUT}
        self._levels = {line: False for line, one in by_line.items() if one.edge_detection is Edge.BOTH}
        self._numbers = dict.fromkeys(self._levels, 0)
        self._queue: list[EdgeEvent] = []
        self._take()
        self._queue.clear()
        self._numbers = dict.fromkeys(self._levels, 0)
        self._wires.put(self._out)

    def set_values(self, values: Mapping[int, Value]) -> None:
        """What changes goes to the wires."""
        wanted = {line: value is Value.ACTIVE for line, value in values.items()}
        changed = {line: on for line, on in wanted.items() if self._out[line] != on}
        self._out.update(changed)
        if changed:
            self._wires.put(changed)

    def get_values(self, lines: Iterable[int]) -> list[Value]:
        """Inputs as they are; their edges stay in the queue."""
        self._take()
        return [Value.ACTIVE if self._levels[line] else Value.INACTIVE for line in lines]

    def wait_edge_events(self, _timeout: float) -> bool:
        """Whether there are edges."""
        self._take()
        return bool(self._queue)

    def read_edge_events(self) -> list[EdgeEvent]:
        """At most 64, as the library has it."""
        read, self._queue = self._queue[:64], self._queue[64:]
        return read

    def lose(self, line: int) -> None:
        """Have the kernel's queue overflow by one edge."""
        self._numbers[line] += 1

    def release(self) -> None:
        """The wires stay as they are."""

    def _take(self) -> None:
        for at_ns, line, on in self._wires.changes():
            if line in self._levels and self._levels[line] != on:
                self._levels[line] = on
                self._numbers[line] += 1
                kind = EdgeKind.RISING_EDGE if on else EdgeKind.FALLING_EDGE
                self._queue.append(EdgeEvent(kind, at_ns, line, self._numbers[line]))


def request_lines(chip: str, *, config: Mapping[Any, Any], consumer: str, event_buffer_size: int) -> LineRequest:
    """As gpiod's. Raises `OSError` for a file that holds no wires."""
    assert consumer
    assert event_buffer_size
    return LineRequest(chip, config)


# Jetson.GPIO: the pins of the header are the lines of the chip that the environment names


class JetsonHeader:
    """As the module ``Jetson.GPIO``."""

    BOARD, OUT, IN, LOW, HIGH = range(5)

    def __init__(self) -> None:
        self._wires: Wires | None = None
        self._levels: dict[int, bool] = {}

    def setmode(self, mode: int) -> None:
        """Pins go by their place on the board."""
        assert mode == self.BOARD
        self._wires = self._wires or Wires(os.environ[_CHIP_VARIABLE])

    def setup(self, pins: Sequence[int], direction: int, initial: int = 0) -> None:
        """Take pins. Raises `ValueError` for one that is none."""
        if any(pin > 40 for pin in pins):
            raise ValueError(f"Channel {max(pins)} is invalid")
        if direction == self.OUT:
            assert initial == self.LOW
            self._put(dict.fromkeys(pins, False))

    def output(self, pins: Sequence[int], levels: Sequence[int]) -> None:
        """Set pins, one after the other."""
        for pin, level in zip(pins, levels, strict=True):
            self._put({pin: level == self.HIGH})

    def input(self, pin: int) -> int:
        """1 for a pin that is high."""
        assert self._wires is not None
        self._levels.update({line: on for _, line, on in self._wires.changes()})
        return int(self._levels.get(pin, False))

    def cleanup(self, pins: Sequence[int]) -> None:
        """The wires stay as they are."""
        assert pins

    def _put(self, levels: Mapping[int, bool]) -> None:
        assert self._wires is not None
        changed = {pin: on for pin, on in levels.items() if self._levels.get(pin) != on}
        self._levels.update(changed)
        if changed:
            self._wires.put(changed)


GPIO = JetsonHeader()


@contextmanager
def installed(folder: Path) -> Iterator[str]:
    """The path of a chip; while it lasts, `import gpiod` and `import Jetson` find what is above."""
    chip = folder / "gpiochip0"
    chip.write_text(_HEAD)
    modules = folder / "modules"
    for name, source in {
        "gpiod/__init__.py": "from gpio_kit import EdgeEvent, LineSettings, request_lines\n",
        "gpiod/line.py": "from gpio_kit import Bias, Direction, Edge, Value\n",
        "Jetson/__init__.py": "from gpio_kit import GPIO\n",
        # A program of the product puts the folder it is installed in first, where the real modules may be.
        "sitecustomize.py": f"import sys\nsys.path.insert(0, {str(modules)!r})\n",
    }.items():
        (modules / name).parent.mkdir(parents=True, exist_ok=True)
        (modules / name).write_text(source)
    with pytest.MonkeyPatch.context() as patch:
        for name in _DRIVERS:
            patch.delitem(sys.modules, name, raising=False)
        patch.syspath_prepend(str(modules))
        patch.setenv("PYTHONPATH", os.pathsep.join([str(modules), str(Path(__file__).parent)]))
        patch.setenv(_CHIP_VARIABLE, str(chip))
        patch.setattr(sys.modules[__name__], "GPIO", JetsonHeader())
        yield str(chip)
    for name in _DRIVERS:
        sys.modules.pop(name, None)
