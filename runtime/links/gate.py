"""Decides what of the newest block a PLC may be shown, without I/O or clock.

Three rules of writer mode, each towards REJECT:

* after a connect, the result that stood there is not shown again: only one with another number is;
* a result that cannot be written before its deadline is shown as late, and stays so;
* a write that failed counts as not written, and ends the connection: the first rule applies.

In server mode the second rule holds for each reader on its own: what one has read in time, another has not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from weakref import WeakKeyDictionary

from cada_edge.errors import ConfigError
from cada_edge.runtime.links.masks import as_late, without_result
from cada_edge.runtime.links.server import Reading
from cada_edge.runtime.registers import HEAD, TAIL, WORDS, ResultFlag, decode, encode


@dataclass(frozen=True)
class Shown:
    """The newest block.

    Attributes:
        words: the 32 words.
        seq: the number of its result, the same as in the words.
        valid_until_ns: monotonic time until which its result may be published for the first
            time; ``None`` for no limit.
    """

    words: tuple[int, ...]
    seq: int
    valid_until_ns: int | None = None

    def __post_init__(self) -> None:
        if len(self.words) != WORDS or not self.words[HEAD] == self.words[TAIL] == self.seq:
            raise ConfigError(f"block to show: got {self.words} for result {self.seq}, expected 32 words that say so")

    def after(self, previous: Shown) -> Shown:
        """The same, with the limit told before for the same result where this one names none."""
        keeps = self.seq == previous.seq and self.valid_until_ns is None
        return replace(self, valid_until_ns=previous.valid_until_ns) if keeps else self


class ResultGate:
    """Keeps count of which result was written in time on this connection. For one thread."""

    def __init__(self) -> None:
        self._barred: int | None = None
        self._in_time: int | None = None
        self._late: int | None = None
        self._late_count = 0

    @property
    def late_count(self) -> int:
        """Results that were decided in time and shown as late because this link could not write them in time."""
        return self._late_count

    def connected(self, seq: int) -> None:
        """A connection was made while the result `seq` stood: it will not be shown as valid."""
        self._barred, self._in_time = seq, None

    def admit(self, shown: Shown, arrival_ns: int) -> Sequence[int]:
        """The words that may be written now; `arrival_ns` is when the peer will have them."""
        if shown.seq == self._barred:
            return encode(without_result(decode(shown.words)))
        self._barred = None
        if shown.seq == self._in_time:
            return shown.words
        if shown.seq == self._late or _overdue(shown, arrival_ns):
            self._note_late(shown)
            return encode(as_late(decode(shown.words)))
        return shown.words

    def written(self, shown: Shown) -> None:
        """What `admit` gave last arrived at the peer."""
        if shown.seq not in (self._barred, self._late):
            self._in_time = shown.seq

    def _note_late(self, shown: Shown) -> None:
        if shown.seq != self._late and ResultFlag.LATE not in decode(shown.words).result:
            self._late_count += 1
        self._late = shown.seq


class ReaderGates:
    """A `ResultGate` for every reader of a server, forgotten with the reader. For one thread."""

    def __init__(self) -> None:
        self._gates: WeakKeyDictionary[object, ResultGate] = WeakKeyDictionary()

    def admit(self, shown: Shown, reading: Reading | None, now_ns: int) -> Sequence[int]:
        """The words for who is being answered; for nobody (``None``), those of a reader that never came before."""
        gate = ResultGate() if reading is None else self._gates.setdefault(reading.reader, ResultGate())
        words = gate.admit(shown, now_ns)
        if reading is not None and reading.tells(shown.seq):
            gate.written(shown)
        return words


def _overdue(shown: Shown, arrival_ns: int) -> bool:
    return shown.valid_until_ns is not None and arrival_ns > shown.valid_until_ns
