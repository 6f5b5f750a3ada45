"""A station and a PLC program in structured text, cycle by cycle in a time of their own, with the referee between."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from st_kit import Cpu

from cada_edge.runtime.control import ControlBlock, decode_control
from cada_edge.runtime.handshake import Acquire, Action, Execute, Life, StationOptions
from cada_edge.runtime.outcome import Outcome
from cada_edge.runtime.plc_sim.referee import Referee
from cada_edge.runtime.plc_sim.rules import Terms, Violation
from cada_edge.runtime.registers import ErrorCode, ResultFlag, encode
from cada_edge.runtime.station import Station

CYCLE_NS = 10_000_000
PASS, FAIL = ResultFlag.PASS, ResultFlag.FAIL | ResultFlag.REJECT
_START_NS = 3600 * 10**9


@dataclass
class Bench:
    """One line.

    Attributes:
        cpu: the PLC.
        program: its program.
        answers: what the pipeline says of each part, in order; then always PASS; ``None``: nothing.
        delay_ns: from trigger to answer.
        spoil: what becomes of a block between station and PLC.
        runs: whether the PLC's program runs.
        lives: whether the pipeline gives signs of life.
        recipes: numbers that can be loaded.
    """

    cpu: Cpu
    program: Any
    answers: list[ResultFlag | None] = field(default_factory=list)
    delay_ns: int = 50_000_000
    spoil: Callable[[list[int]], Sequence[int]] = list
    runs: bool = True
    lives: bool = True
    recipes: tuple[int, ...] = (1, 2)
    violations: list[Violation] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.now_ns, self.recipe = _START_NS, 1
        self.station = Station(StationOptions(mode="triggered", deadline_ns=10 * 10**9))
        self.referee = Referee(Terms(deadline_ns=10 * 10**9))
        self._control = ControlBlock()
        self._due: list[tuple[int, int, ResultFlag]] = []
        self._gates: list[bool] = []

    def cycle(self, **inputs: Any) -> None:
        """The station settles, the PLC reads, runs with these inputs, and writes."""
        self.now_ns += CYCLE_NS
        if self.lives:
            self._do(self.station.life(Life(self.now_ns, recipe=self.recipe), self.now_ns))
        for due in [due for due in self._due if due[0] <= self.now_ns]:
            self._due.remove(due)
            self._do(self.station.acquired(due[1], self.now_ns))
            self._do(self.station.outcome(self._outcome(*due[1:]), self.now_ns))
        self._do(self.station.tick(self.now_ns))
        words = encode(self.station.block)
        self.violations += self.referee.read(words, self.now_ns, self.now_ns)
        if self.runs:
            self._run(self.spoil(words), inputs)

    def until(self, done: Callable[[], bool], cycles: int = 1000, **inputs: Any) -> None:
        """Run cycles until something holds."""
        for _ in range(cycles):
            if done():
                return
            self.cycle(**inputs)
        raise AssertionError(f"not within {cycles} cycles: {self['reason']=}, {self.station.block}")

    def part(self) -> tuple[bool, int]:
        """A part comes when the station is ready, stays until it has its answer, and goes: gate, and reason."""
        self.cycle(partinplace=False)
        self.until(lambda: bool(self["ready"]), partinplace=False)
        return self.sudden_part()

    def sudden_part(self) -> tuple[bool, int]:
        """The same, whether the station is ready or not."""
        self.cycle(partinplace=True)
        self.until(lambda: bool(self["done"]), partinplace=True)
        self.cycle(partinplace=True)
        found = bool(self.program["gateopen"]), int(self["reason"])
        self.cycle(partinplace=False)
        assert not self.program["gateopen"]
        return found

    def __getitem__(self, name: str) -> Any:
        """A variable of the program's function block."""
        return self.program["station"][name]

    def _run(self, words: Sequence[int], inputs: dict[str, Any]) -> None:
        self.cpu.now_ns = self.now_ns
        self.program.values["cadastatus"][:] = words
        self.program.call(inputs)
        control = decode_control(self["control"])
        if control != self._control:
            self._control = control
            self.referee.wrote(control, self.now_ns)
            self._do(self.station.control(control, self.now_ns))

    def _do(self, actions: Sequence[Action]) -> None:
        for action in actions:
            if isinstance(action, Acquire):
                answer = self.answers.pop(0) if self.answers else PASS
                if answer is not None:
                    self._due.append((self.now_ns + self.delay_ns, action.part, answer))
            elif isinstance(action, Execute):
                done = action.recipe in self.recipes
                self.recipe = action.recipe if done else self.recipe
                self._do(self.station.command_ended(action.recipe, done, self.now_ns))

    def _outcome(self, part: int, result: ResultFlag) -> Outcome:
        now_ns = self.now_ns
        return Outcome(part, result, ErrorCode.NONE, 0.25, 0.5, now_ns, now_ns, now_ns)


def bench(folder: Path, line: str, program: str, **settings: Any) -> Bench:
    """A line whose PLC runs ``cada_station.st`` and one of the programs beside it."""
    cpu = Cpu(folder / "cada_station.st", folder / line)
    return Bench(cpu, cpu.make(program), **settings)
