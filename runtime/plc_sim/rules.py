"""What a station promises a PLC, as rules that can be broken; those that one block alone can break."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from cada_edge.runtime.registers import ErrorCode, OfflineReason, ResultFlag, StatusBlock, StatusFlag

_NEED_ONLINE = StatusFlag.TRIGGER_READY | StatusFlag.EXPOSING | StatusFlag.BUSY
_NOT_PASS = ResultFlag.FAIL | ResultFlag.UNKNOWN | ResultFlag.REJECT | ResultFlag.IMAGE_QUALITY | ResultFlag.LATE


class Rule(Enum):
    """A promise, in the words in which its breach is told."""

    TORN_READ = "head and tail of one read differ"
    NOT_A_BLOCK = "the words are no status block"
    PASS_WITH_REJECT = "PASS stands with another verdict"  # noqa: S105  # no password
    NO_VERDICT = "a valid result is neither PASS nor REJECT"
    VALID_OFFLINE = "a result is valid while the station is not online"
    CONTRADICTION = "flags and offline reason contradict each other"
    HEARTBEAT_STILL = "the heartbeat stands still while the station is online"
    SEQUENCE_GAP = "the sequence number did not step by one"
    TOGGLE_STILL = "the toggle bit did not change with the sequence number"
    WRONG_TRIGGER = "the result is for a trigger that does not wait for one"
    TWO_RESULTS = "a trigger was answered twice"
    LATE_PASS = "PASS came after the deadline"  # noqa: S105  # no password
    RESULT_CHANGED = "a result changed after it was valid"
    PASS_NOT_VALID = "PASS came up without a valid result"  # noqa: S105  # no password
    SHOWN_AGAIN = "a result became valid a second time"
    ACK_IGNORED = "an acknowledged result is still valid"
    NO_ANSWER = "a trigger was neither answered nor counted as missed"


@dataclass(frozen=True)
class Terms:
    """What was agreed with the station. Durations in ns, > 0.

    Attributes:
        triggered: whether the PLC triggers; in free run, results may come faster than they are read.
        deadline_ns: from trigger to result.
        heartbeat_ns: standstill of the heartbeat that is too long.
        patience_ns: what links may take beyond the deadline, or to pass an acknowledgement on.
    """

    triggered: bool = True
    deadline_ns: int = 1_000_000_000
    heartbeat_ns: int = 1_500_000_000
    patience_ns: int = 1_000_000_000


@dataclass(frozen=True)
class Violation:
    """A broken promise.

    Attributes:
        rule: which.
        detail: the values that disagree.
        t_ns: when the read that shows it was answered; the clock of the one who read.
        before: the 32 words of the read before; ``None`` for the first of a connection.
        after: the words that break the rule.
    """

    rule: Rule
    detail: str
    t_ns: int
    before: tuple[int, ...] | None
    after: tuple[int, ...]


class Breach(NamedTuple):
    """A violation before it has time and words."""

    rule: Rule
    detail: str


class Look(NamedTuple):
    """One read: the words stood in the station at some moment between the two times."""

    words: tuple[int, ...]
    block: StatusBlock
    asked_ns: int
    got_ns: int

    @property
    def valid(self) -> bool:
        """RESULTS_VALID."""
        return StatusFlag.RESULTS_VALID in self.block.flags

    @property
    def passes(self) -> bool:
        """A valid PASS."""
        return self.valid and ResultFlag.PASS in self.block.result


def of_result_word(words: Sequence[int]) -> Iterator[Breach]:
    """Of word 2 as it stands, for no block can hold a PASS with another verdict."""
    result = ResultFlag(words[2])
    if ResultFlag.PASS in result and result & _NOT_PASS:
        yield Breach(Rule.PASS_WITH_REJECT, f"result word is {words[2]:#06x}")


def of_one_block(block: StatusBlock) -> Iterator[Breach]:
    """What a block alone can break."""
    online = StatusFlag.ONLINE in block.flags
    if online != (block.offline is OfflineReason.NONE) or (not online and block.flags & _NEED_ONLINE):
        yield Breach(Rule.CONTRADICTION, f"flags {block.flags!r}, reason {block.offline.name}")
    if StatusFlag.RESULTS_VALID not in block.flags:
        return
    if not block.result & (ResultFlag.PASS | ResultFlag.REJECT) or not block.seq:
        yield Breach(Rule.NO_VERDICT, f"result word is {int(block.result):#06x}, sequence {block.seq}")
    # A part that a fault caught under way is still answered, as undecided.
    caught = block.error == ErrorCode.WENT_OFFLINE and ResultFlag.REJECT in block.result
    if not online and not caught:
        yield Breach(Rule.VALID_OFFLINE, f"reason {block.offline.name}, result {block.result!r}")
