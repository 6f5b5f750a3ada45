"""Fuzzing by batches: hostile inputs from a seed, then an audit of what must not have changed."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

BATCH = 100
_SETTLE_S = 10.0


class BrokenPromiseError(AssertionError):
    """An input did what none may do."""


class Target(Protocol):
    """What is fuzzed: open, in a known state."""

    def one(self, chance: random.Random) -> str:
        """Make one input and hand it over; how it was met, in a word. Raises for a broken promise."""

    def audit(self) -> list[str]:
        """What changed since it was opened; empty for nothing."""


@dataclass(frozen=True)
class Protocolled:
    """A target by name, with its share of a campaign.

    Attributes:
        name: for the table and for seeds.
        share: of all inputs, 0..1.
        open: a fresh one.
    """

    name: str
    share: float
    open: Callable[[], AbstractContextManager[Target]]


@dataclass
class Outcome:
    """How a target fared.

    Attributes:
        met: inputs by how they were met.
        crashes: what was raised or died, with the seed of its input.
        changes: what audits found, with the inputs of their batch.
        slowest_s: the longest that one input took.
        seconds: all of it.
    """

    name: str
    met: Counter[str] = field(default_factory=Counter)
    crashes: list[str] = field(default_factory=list)
    changes: list[str] = field(default_factory=list)
    slowest_s: float = 0.0
    seconds: float = 0.0

    @property
    def clean(self) -> bool:
        """Neither a crash nor a change."""
        return not self.crashes and not self.changes


def campaign(one: Protocolled, inputs: int, seed: int, first: int = 0) -> Outcome:
    """Hand `inputs` inputs over, the same for the same seed, with an audit after every `BATCH`."""
    outcome, begun_s = Outcome(one.name), time.monotonic()
    with one.open() as target:
        for start in range(first, first + inputs, BATCH):
            batch = range(start, min(start + BATCH, first + inputs))
            for number in batch:
                _hand_over(target, outcome, f"{seed}:{one.name}:{number}")
            outcome.changes += [f"{seed}:{one.name}:{batch[0]}..{batch[-1]}: {change}" for change in target.audit()]
            if outcome.changes:
                break  # what follows would be found again after every batch
    outcome.seconds = time.monotonic() - begun_s
    return outcome


def _hand_over(target: Target, outcome: Outcome, seed: str) -> None:
    begun_s = time.monotonic()
    try:
        outcome.met[target.one(random.Random(seed))] += 1
    except Exception as error:  # noqa: BLE001  # whatever is raised is what is looked for
        outcome.met["crash"] += 1
        outcome.crashes.append(f"{seed}: {type(error).__name__}: {error}")
    outcome.slowest_s = max(outcome.slowest_s, time.monotonic() - begun_s)


def table(outcomes: Sequence[Outcome]) -> str:
    """Markdown."""
    lines = ["| target | inputs | how they were met | crashes | state changes | slowest, s | s |", "|---|" + "---|" * 6]
    for one in outcomes:
        met = ", ".join(f"{count} {word}" for word, count in sorted(one.met.items()))
        figures = f"{len(one.crashes)} | {len(one.changes)} | {one.slowest_s:.2f} | {one.seconds:.0f}"
        lines.append(f"| {one.name} | {sum(one.met.values())} | {met} | {figures} |")
    total = sum(sum(one.met.values()) for one in outcomes)
    crashes, changes = (sum(len(getattr(one, name)) for one in outcomes) for name in ("crashes", "changes"))
    lines.append(
        f"| **all** | **{total}** | | **{crashes}** | **{changes}** | | {sum(o.seconds for o in outcomes):.0f} |"
    )
    return "\n".join(lines)


class Process:
    """Handles and threads of a process, which no input may add to for good."""

    def __init__(self, pid: int) -> None:
        self._folder = Path(f"/proc/{pid}")
        self._first = self._count()

    def grown(self) -> list[str]:
        """What there is more of than at first, once it had time to settle; that it is gone."""
        until_s = time.monotonic() + _SETTLE_S
        while (now := self._count()) and any(later > first for later, first in zip(now, self._first, strict=True)):
            if time.monotonic() > until_s:
                return [f"handles and threads were {self._first}, are {now}"]
            time.sleep(0.05)
        return [] if now else ["the process is gone"]

    def _count(self) -> tuple[int, ...]:
        with suppress(FileNotFoundError, ProcessLookupError):
            return tuple(len(list((self._folder / name).iterdir())) for name in ("fd", "task"))
        return ()


def mutated(chance: random.Random, data: bytes, most: int = 4) -> bytes:
    """`data` with some bytes flipped, left out, doubled, put in, cut off or set to what programs trip over."""
    spoilt = bytearray(data)
    for _ in range(chance.randint(1, most)):
        at = chance.randrange(len(spoilt) + 1)
        end = min(len(spoilt), at + chance.choice((1, 2, 4, 8)))
        match chance.randrange(7):
            case 0:
                spoilt[at:end] = chance.randbytes(end - at)
            case 1:
                del spoilt[at:end]
            case 2:
                spoilt[at:at] = spoilt[at:end] * chance.randint(1, 50)
            case 3:
                spoilt[at:at] = chance.randbytes(chance.randint(1, 64))
            case 4:
                del spoilt[at:]
            case 5:
                width = chance.choice((1, 2, 4))
                edge = chance.choice((0, 1, (1 << 8 * width - 1) - 1, 1 << 8 * width - 1, (1 << 8 * width) - 1))
                spoilt[at : at + width] = edge.to_bytes(width, chance.choice(("big", "little")))
            case _:
                if at < len(spoilt):
                    spoilt[at] ^= 1 << chance.randrange(8)
    return bytes(spoilt)
