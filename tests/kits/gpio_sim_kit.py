"""GPIO chips that the kernel simulates, and wires between two of them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import pytest

_ANEW = 20
_SIMULATOR = Path("/sys/kernel/config/gpio-sim")


class Chip(NamedTuple):
    """A simulated chip of 8 lines: its device, and the folder of its wires."""

    device: Path
    wires: Path

    def file(self, line: int, what: str) -> Path:
        """The kernel's file of a wire: its `value`, or its `pull` from outside."""
        return self.wires / f"sim_gpio{line}" / what

    def level(self, line: int) -> bool:
        """What is on a wire."""
        return self.file(line, "value").read_text().strip() == "1"

    def pull(self, line: int, up: bool) -> None:
        """Drive a wire from outside."""
        self.file(line, "pull").write_text("pull-up" if up else "pull-down")


@contextmanager
def simulated_chip(name: str) -> Iterator[Chip]:
    """A chip of the kernel; skips where it simulates none."""
    if not _SIMULATOR.is_dir() or not os.access(_SIMULATOR, os.W_OK):
        pytest.skip("this kernel has no gpio-sim, or we may not use it")
    chip, bank = _SIMULATOR / name, _SIMULATOR / name / "bank0"
    bank.mkdir(parents=True)
    (bank / "num_lines").write_text("8")
    (chip / "live").write_text("1")
    device = (bank / "chip_name").read_text().strip()
    try:
        yield Chip(
            Path("/dev") / device, Path("/sys/devices/platform") / (chip / "dev_name").read_text().strip() / device
        )
    finally:
        (chip / "live").write_text("0")
        bank.rmdir()
        chip.rmdir()


@contextmanager
def wired(ends: Mapping[tuple[Chip, int], tuple[Chip, int]]) -> Iterator[None]:
    """Wires from a line of one chip to a line of another; what changes together is carried together, soon after.

    They are a process of their own, before all others: a wire does not wait for a program.
    """
    paths = [(chip.file(line, "value"), other.file(there, "pull")) for (chip, line), (other, there) in ends.items()]
    process = get_context("fork").Process(target=_carry, args=(paths,), daemon=True)
    process.start()
    try:
        yield
    finally:
        process.kill()
        process.join()


def _carry(paths: Sequence[tuple[Path, Path]]) -> None:
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))
    # Kept open, for to open a file takes longer than a wire may.
    files = [(os.open(value, os.O_RDONLY), os.open(pull, os.O_WRONLY)) for value, pull in paths]
    last, count = [b""] * len(files), 0
    while True:
        levels = [os.pread(value, 1, 0) for value, _ in files]
        count += 1
        if count % _ANEW == 0:  # who takes a line and asks for a bias has the simulated chip forget its wire
            last = [b""] * len(files)
        for (_, pull), level, before in zip(files, levels, last, strict=True):
            if level != before:
                os.pwrite(pull, b"pull-up" if level == b"1" else b"pull-down", 0)
        last = levels
        time.sleep(0.0005)
