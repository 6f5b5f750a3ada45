"""Hostile PLCs: real ones, whose answers to our writer links are garbled on the wire."""

from __future__ import annotations

import gc
import os
import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

from fuzz_kit import BrokenPromiseError, Process, mutated
from link_kit import pattern
from link_plcs import Make, Wire, wired
from wire_kit import Spoil, garble

from cada_edge.errors import LinkError
from cada_edge.runtime.control import CONTROL_WORDS
from cada_edge.runtime.links.assembly import make_link
from cada_edge.runtime.links.link import Link

_TIMEOUT_MS = 60


class PlcTarget:
    """A link to a PLC over a spoilt wire, opened anew for each input."""

    def __init__(self, wire: Wire, link: Link, status: Callable[[], list[int]]) -> None:
        self._wire, self._link, self._status, self._seq = wire, link, status, 0
        self._in_order()
        gc.collect()
        self._process = Process(os.getpid())

    def one(self, chance: random.Random) -> str:
        """Open, write and read until an answer is noticed as spoilt. Raises for anything but `LinkError` or words."""
        spoil = chance.choice((garble(chance), _mutator(chance)))
        self._wire.spoil = spoil if chance.random() < 0.4 else None
        try:
            self._link.open()
            self._wire.spoil = spoil
            for _ in range(3):
                self._link.write_status(pattern(1 + chance.randrange(60_000)))
                _check(self._link.read_control())
        except LinkError:
            return "refused"
        finally:
            self._wire.spoil = None
            self._link.close()
        return "taken as words"

    def audit(self) -> list[str]:
        """Over a wire that is mended the same link writes and reads, and nothing is left open."""
        self._in_order()
        gc.collect()
        return self._process.grown()

    def _in_order(self) -> None:
        self._seq += 1
        self._link.open()
        try:
            self._link.write_status(pattern(self._seq))
            _check(self._link.read_control())
            if (words := self._status()) != pattern(self._seq):
                raise BrokenPromiseError(f"wrote {pattern(self._seq)}, the PLC has {words}")
        finally:
            self._link.close()


def plc_target(make: Make) -> Callable[[], AbstractContextManager[PlcTarget]]:
    """A PLC of this make, for as long as the context lasts."""

    @contextmanager
    def opened() -> Iterator[PlcTarget]:
        with ExitStack() as stack:
            plc = make(stack)
            stack.callback(plc.kill)
            plc.start()
            wire, config = stack.enter_context(wired(plc))
            yield PlcTarget(wire, make_link(config.model_copy(update={"timeout_ms": _TIMEOUT_MS})), plc.status)

    return opened


def _check(words: object) -> None:
    if words is None:
        return
    if not isinstance(words, (list, tuple)) or len(words) != CONTROL_WORDS:
        raise BrokenPromiseError(f"read {words!r}, which is no control block")
    if not all(type(word) is int and 0 <= word <= 0xFFFF for word in words):
        raise BrokenPromiseError(f"read {words!r}, which are no words")


def _mutator(chance: random.Random) -> Spoil:
    return lambda data: mutated(chance, data)
