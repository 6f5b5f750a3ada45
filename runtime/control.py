"""The control block a PLC writes: 16 words of 16 bits, as pure functions."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum, IntFlag

from cada_edge.errors import ConfigError

CONTROL_WORDS = 16
_U16, _U32 = 0xFFFF, 0xFFFFFFFF


class ControlFlag(IntFlag):
    """Word 0. The order is the one PLC people know from other vision sensors.

    Attributes:
        TRIGGER_ENABLE: the PLC wants to trigger.
        TRIGGER: rising: inspect a part; hold it until TRIGGER_ACK.
        BUFFER_RESULTS: keep results until they are acknowledged.
        RESULTS_ACK: rising: the result was read; hold it until RESULTS_VALID falls.
        EXECUTE_COMMAND: rising: run the command of word 7.
        SET_OFFLINE: take the station offline.
        CLEAR_ERROR: rising: take ERROR, word 13, MISSED_TRIGGER and BUFFER_OVERRUN back.
    """

    TRIGGER_ENABLE = 1 << 0
    TRIGGER = 1 << 1
    BUFFER_RESULTS = 1 << 2
    RESULTS_ACK = 1 << 3
    EXECUTE_COMMAND = 1 << 4
    SET_OFFLINE = 1 << 7
    CLEAR_ERROR = 1 << 8


class Command(IntEnum):
    """Word 7: what a rising EXECUTE_COMMAND asks for.

    Attributes:
        NONE: nothing; it fails.
        CLEAR_COUNTERS: of this station, words 16 to 21 and 25.
        CLEAR_ALARMS: of this station, those that stand until they are cleared.
        SELECT_RECIPE: judge by the bundle of word 6's number; only while offline, and for every station of the line.
        RELOAD: read bundle and threshold again from disk; only while offline, and for every station of the line.
    """

    NONE = 0
    CLEAR_COUNTERS = 1
    CLEAR_ALARMS = 2
    SELECT_RECIPE = 3
    RELOAD = 4


_KNOWN, _NOTHING = sum(ControlFlag), ControlFlag(0)


@dataclass(frozen=True)
class ControlBlock:
    """What the 16 words say; bits and words without a meaning are ignored.

    Attributes:
        flags: word 0.
        heartbeat: 0..65535; 0 means that the PLC is not supervised.
        trigger_id: UINT32, echoed with the result.
        encoder: UINT32 at the trigger, echoed.
        recipe: number asked for; 0 keeps the active one.
        command: a `Command`, or a number unknown here, which will fail.
    """

    flags: ControlFlag = _NOTHING
    heartbeat: int = 0
    trigger_id: int = 0
    encoder: int = 0
    recipe: int = 0
    command: int = 0

    def __post_init__(self) -> None:
        limits = {"heartbeat": _U16, "trigger_id": _U32, "encoder": _U32, "recipe": _U16, "command": _U16}
        for name, limit in limits.items():
            if not 0 <= getattr(self, name) <= limit:
                raise ConfigError(f"ControlBlock.{name}: got {getattr(self, name)!r}, expected 0..{limit}")


def encode_control(block: ControlBlock) -> list[int]:
    """The 16 words, each 0..65535, of a block."""
    high_low = struct.unpack(">4H", struct.pack(">2I", block.trigger_id, block.encoder))
    return [int(block.flags), block.heartbeat, *high_low, block.recipe, block.command, *[0] * 8]


def decode_control(words: Sequence[int]) -> ControlBlock:
    """Read 16 words. Raises `ConfigError` for another number of words or a word that is none."""
    if len(words) != CONTROL_WORDS or not all(0 <= word <= _U16 for word in words):
        raise ConfigError(f"control block: got {list(words)}, expected {CONTROL_WORDS} words of 0..65535")
    trigger_id, encoder = struct.unpack(">2I", struct.pack(">4H", *words[2:6]))
    return ControlBlock(ControlFlag(words[0] & _KNOWN), words[1], trigger_id, encoder, words[6], words[7])
