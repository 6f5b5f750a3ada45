"""The structured text of docs/plc by a compiler of the standard, beside what the tests' own interpreter makes of it."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

if find_spec("blark") is None:
    pytest.skip("blark, which parses structured text, is not installed: pip install blark", allow_module_level=True)
from st_bench import FAIL, PASS, bench

TESTS = Path(__file__).resolve().parents[1]
CHECKOUT = Path(os.environ.get("CADA_EDGE_CHECKOUT") or TESTS.parent)
TEXTS = CHECKOUT / "docs" / "plc"
COMPILER = shutil.which("iec2c") or ""
LIBRARY = Path(os.environ.get("MATIEC_LIBRARY") or Path(COMPILER).parent / "lib")  # as MATIEC's own tree has it
CYCLES = 3000

pytestmark = [
    pytest.mark.peer,
    pytest.mark.skipif(not COMPILER, reason="MATIEC's iec2c is not installed; no package registry has it"),
]


def compiled(line: str, folder: Path) -> None:
    """MATIEC's C of the function block and a program."""
    text = "\n".join((TEXTS / name).read_text(encoding="utf-8") for name in ("cada_station.st", line))
    (folder / "all.st").write_text(text, encoding="utf-8")
    command = [COMPILER, "-I", str(LIBRARY), "-T", str(folder), str(folder / "all.st")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@dataclass
class Recorder:
    """A program whose every cycle is written down."""

    bench: Any
    program: Any
    inputs: list[list[int]] = field(default_factory=list)
    outputs: list[list[int]] = field(default_factory=list)

    @property
    def values(self) -> dict[str, Any]:
        """Its variables."""
        found: dict[str, Any] = self.program.values
        return found

    def __getitem__(self, name: str) -> Any:
        return self.program[name]

    def call(self, given: dict[str, Any]) -> None:
        """One cycle."""
        self.program.call(given)
        now_ms = self.bench.now_ns // 1_000_000
        self.inputs.append([now_ms, self["partinplace"], self["resetbutton"], *self["cadastatus"]])
        station = self["station"]
        told = [self["gateopen"], station["done"], station["pass"], station["reason"], self["passed"], self["rejected"]]
        self.outputs.append([*map(int, told), *self["cadacontrol"]])


def troubled(seed: int) -> Recorder:
    """A line on which everything goes wrong now and then, at random."""
    chance = random.Random(seed)
    line = bench(TEXTS, "line_modbus.st", "PLC_LineModbus")
    line.program = Recorder(line, line.program)
    line.spoil = lambda words: [word ^ 1 << chance.randrange(16) if chance.random() < 0.001 else word for word in words]
    part = False
    for _ in range(CYCLES):
        if chance.random() < 0.1:
            part = not part and bool(line["ready"] or chance.random() < 0.1)
        if chance.random() < 0.01:
            line.answers = [chance.choice([PASS, PASS, FAIL, None])]
            line.delay_ns = chance.choice([0, 30, 300, 3000]) * 1_000_000
            line.lives = chance.random() < 0.9
        line.cycle(partinplace=part, resetbutton=chance.random() < 0.01)
    found: Recorder = line.program
    return found


@pytest.mark.parametrize("line", ["line_modbus.st", "line_data_block.st"])
def test_a_compiler_of_the_standard_takes_the_text(line: str, tmp_path: Path) -> None:
    """MATIEC, strict about types, translates block and program."""
    compiled(line, tmp_path)
    assert (tmp_path / "POUS.c").stat().st_size > 0


@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")
def test_compiled_and_interpreted_do_the_same_in_every_cycle(tmp_path: Path) -> None:
    """Thousands of cycles with faults at random: gate, reason, counters and every control word agree."""
    compiled("line_modbus.st", tmp_path)
    plc = tmp_path / "plc"
    source, library = TESTS / "peers" / "matiec_plc.c", LIBRARY / "C"
    subprocess.run(["gcc", "-w", "-I", str(tmp_path), "-I", str(library), str(source), "-o", str(plc)], check=True)
    reasons: set[int] = set()
    for seed in range(4):
        seen = troubled(seed)
        text = "\n".join(" ".join(str(int(number)) for number in cycle) for cycle in seen.inputs)
        done = subprocess.run([str(plc)], input=text, capture_output=True, text=True, timeout=60, check=True)
        assert [[int(word) for word in line.split()] for line in done.stdout.splitlines()] == seen.outputs
        reasons |= {cycle[3] for cycle in seen.outputs}
    assert reasons >= {1, 2, 4, 6, 7}
