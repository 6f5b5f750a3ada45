"""The status block a PLC polls: 32 words of 16 bits, as pure functions.

One layout for every protocol (Modbus registers, a data block, an array of INT). Numbers
of two words are big-endian, high word first. The flag bits follow the order that PLC
people know from other vision sensors.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from enum import IntEnum, IntFlag
from typing import Any

from cada_edge.errors import ConfigError, LineError

WORDS = 32
HEARTBEAT_PERIOD_S = 0.1
HEAD, TAIL, HEARTBEAT, RESULT = 3, 31, 1, 2
WORST_SCORE: float = struct.unpack(">f", b"\x7f\x7f\xff\xff")[0]  # the largest float32: rejects under any threshold

_REASON_SHIFT = 4
_REASON_MASK = 0b111 << _REASON_SHIFT
_MAX = {"u16": 0xFFFF, "u32": 0xFFFFFFFF}
# field name -> (first word, kind); STATUS, RESULT and score x 1000 are handled by name
_LAYOUT: dict[str, tuple[int, str]] = {
    "heartbeat": (1, "u16"),
    "seq": (3, "u16"),
    "trigger_id": (4, "u32"),
    "score": (6, "f32"),
    "threshold": (8, "f32"),
    "result_ms": (11, "u16"),
    "frame_age_ms": (12, "u16"),
    "error": (13, "u16"),
    "recipe": (14, "u16"),
    "waiting": (15, "u16"),
    "total": (16, "u32"),
    "rejected": (18, "u32"),
    "unknown": (20, "u32"),
    "encoder": (22, "u32"),
    "checksum": (24, "u16"),
    "missed": (25, "u16"),
    "alarms": (26, "u16"),
}
_SCORE_X1000 = 10


class StatusFlag(IntFlag):
    """Word 0 without bits 4 to 6, which hold the `OfflineReason`.

    Attributes:
        TRIGGER_READY: a rising TRIGGER will be taken.
        TRIGGER_ACK: the trigger was taken; lower TRIGGER.
        EXPOSING: the picture is being taken.
        MISSED_TRIGGER: a trigger came while the station was not ready; reject that part.
        ONLINE: the station works; without it nothing else counts.
        BUSY: a part is under way.
        RESULT_TOGGLE: changes with every result.
        BUFFER_OVERRUN: a result was lost because it was not acknowledged in time.
        RESULTS_VALID: the result words may be used.
        COMMAND_EXECUTING: the command of EXECUTE_COMMAND runs.
        COMMAND_DONE: it ended well.
        COMMAND_FAILED: it failed; word 13 says why.
        ERROR: the last result or command had an error; word 13 says which.
    """

    TRIGGER_READY = 1 << 0
    TRIGGER_ACK = 1 << 1
    EXPOSING = 1 << 2
    MISSED_TRIGGER = 1 << 3
    ONLINE = 1 << 7
    BUSY = 1 << 8
    RESULT_TOGGLE = 1 << 9
    BUFFER_OVERRUN = 1 << 10
    RESULTS_VALID = 1 << 11
    COMMAND_EXECUTING = 1 << 12
    COMMAND_DONE = 1 << 13
    COMMAND_FAILED = 1 << 14
    ERROR = 1 << 15


class ResultFlag(IntFlag):
    """Word 2. All zero means: no result yet. PASS is the only positive signal.

    Attributes:
        PASS: the part may pass, if it is the part that was asked for.
        FAIL: judged, and damaged.
        UNKNOWN: not judged, or not to be trusted.
        REJECT: not PASS.
        SIMULATED: a station set to simulate; never let such a part pass in production.
        IMAGE_QUALITY: the picture was too poor to judge.
        LATE: the deadline passed.
    """

    PASS = 1 << 0
    FAIL = 1 << 1
    UNKNOWN = 1 << 2
    REJECT = 1 << 3
    SIMULATED = 1 << 4
    IMAGE_QUALITY = 1 << 5
    LATE = 1 << 6


class OfflineReason(IntEnum):
    """Why ONLINE is 0; bits 4 to 6 of word 0."""

    NONE = 0
    STARTING = 1
    STOPPED = 2
    PIPELINE_STALLED = 3
    SOURCE_LOST = 4
    REQUESTED = 5
    PLC_LOST = 6
    RELOADING = 7


class ErrorCode(IntEnum):
    """Word 13: why the last result is UNKNOWN, or the last command failed."""

    NONE = 0
    FRAME_INCOMPLETE = 1
    ENGINE_FAILED = 2
    LATE = 3
    NO_THRESHOLD = 4
    NOT_FINITE = 5
    NOVEL = 6
    NO_FRAME = 7
    IMAGE_QUALITY = 8
    WENT_OFFLINE = 9
    COMMAND_UNKNOWN = 20
    COMMAND_NEEDS_OFFLINE = 21
    COMMAND_FAILED = 22


class Alarm(IntFlag):
    """Word 26: what people should look at; no alarm changes a verdict."""

    REJECT_RUN = 1 << 0
    SCORE_DRIFT = 1 << 1
    FEATURE_DRIFT = 1 << 2


_NO_STATUS, _NO_RESULT = StatusFlag(0), ResultFlag(0)
_WORKING = StatusFlag.ONLINE | StatusFlag.TRIGGER_READY | StatusFlag.EXPOSING | StatusFlag.BUSY


@dataclass(frozen=True)
class StatusBlock:
    """What the 32 words say. The head and tail sequence are one field: `seq`.

    Attributes:
        flags: word 0 without the offline reason.
        offline: bits 4 to 6 of word 0.
        heartbeat: 1..65535, steps each 100 ms while the pipeline lives; 0 before the first.
        result: word 2.
        seq: number of the decision, 1..65535, then 1 again; 0 before the first.
        trigger_id: UINT32, echo of the PLC's trigger; 0 in free run.
        score: float32, finite; `WORST_SCORE` where there is none to be trusted.
        threshold: float32, finite; 0.0 where the bundle has none.
        result_ms: capture (or trigger) to result, ms, 0..65535.
        frame_age_ms: arrival of the frame to result, ms, 0..65535.
        error: an `ErrorCode`.
        recipe: number of the active recipe.
        waiting: results waiting to be acknowledged.
        total: frames judged since start, UINT32.
        rejected: of these not passed, UINT32.
        unknown: of these undecided, UINT32.
        encoder: UINT32, echo of the encoder at the trigger; 0 in free run.
        checksum: of model and threshold; see `model_checksum`.
        missed: triggers that came while the station was not ready or nobody could look, 0..65535.
        alarms: word 26, an `Alarm`.
    """

    flags: StatusFlag = _NO_STATUS
    offline: OfflineReason = OfflineReason.STARTING
    heartbeat: int = 0
    result: ResultFlag = _NO_RESULT
    seq: int = 0
    trigger_id: int = 0
    score: float = WORST_SCORE
    threshold: float = 0.0
    result_ms: int = 0
    frame_age_ms: int = 0
    error: int = ErrorCode.NONE
    recipe: int = 0
    waiting: int = 0
    total: int = 0
    rejected: int = 0
    unknown: int = 0
    encoder: int = 0
    checksum: int = 0
    missed: int = 0
    alarms: int = 0

    def __post_init__(self) -> None:
        for name, (_, kind) in _LAYOUT.items():
            value = getattr(self, name)
            if kind == "f32" and not (math.isfinite(value) and abs(value) <= WORST_SCORE):
                raise ConfigError(f"StatusBlock.{name}: got {value!r}, expected a finite float32")
            if kind != "f32" and not 0 <= value <= _MAX[kind]:
                raise ConfigError(f"StatusBlock.{name}: got {value!r}, expected 0..{_MAX[kind]}")
        if not 0 <= self.flags <= _MAX["u16"] or self.flags & _REASON_MASK:
            raise ConfigError(f"StatusBlock.flags: got {self.flags!r}, expected 16 bits without bits 4 to 6")
        if ResultFlag.PASS in self.result and self.result != ResultFlag.PASS | self.result & ResultFlag.SIMULATED:
            raise ConfigError(f"StatusBlock.result: got {self.result!r}, PASS excludes every other verdict")


def encode(block: StatusBlock) -> list[int]:
    """The 32 words, each 0..65535, of a block."""
    words = [0] * WORDS
    words[0] = int(block.flags) | int(block.offline) << _REASON_SHIFT
    words[RESULT] = int(block.result)
    words[_SCORE_X1000] = _clamp(block.score * 1000.0)
    words[TAIL] = block.seq
    for name, (first, kind) in _LAYOUT.items():
        value = getattr(block, name)
        if kind == "u16":
            words[first] = int(value)
        else:
            packed = struct.pack(">f", value) if kind == "f32" else struct.pack(">I", value)
            words[first : first + 2] = struct.unpack(">HH", packed)
    return words


def decode(words: Sequence[int]) -> StatusBlock:
    """Read 32 words.

    Raises:
        ConfigError: not 32 words, or values no block holds.
        LineError: head and tail differ, so that the block was read while it changed.
    """
    if len(words) != WORDS:
        raise ConfigError(f"status block: got {len(words)} words, expected {WORDS}")
    if words[HEAD] != words[TAIL]:
        raise LineError(f"status block is torn: head is {words[HEAD]}, tail is {words[TAIL]}; read it again in one go")
    values: dict[str, Any] = {name: _read(words, first, kind) for name, (first, kind) in _LAYOUT.items()}
    offline = OfflineReason((words[0] & _REASON_MASK) >> _REASON_SHIFT)
    return StatusBlock(
        flags=StatusFlag(words[0] & ~_REASON_MASK), offline=offline, result=ResultFlag(words[RESULT]), **values
    )


def to_bytes(words: Sequence[int]) -> bytes:
    """64 bytes, big-endian, of 32 words."""
    return struct.pack(f">{WORDS}H", *words)


def from_bytes(data: bytes) -> list[int]:
    """32 words of 64 bytes. Raises `ConfigError` for any other length."""
    if len(data) != 2 * WORDS:
        raise ConfigError(f"status block: got {len(data)} bytes, expected {2 * WORDS}")
    return list(struct.unpack(f">{WORDS}H", data))


def safe(block: StatusBlock, reason: OfflineReason) -> StatusBlock:
    """The same block, taken offline: nothing valid, nothing passing, REJECT up."""
    flags = block.flags & ~(_WORKING | StatusFlag.RESULTS_VALID)
    return replace(block, flags=flags, offline=reason, result=ResultFlag.UNKNOWN | ResultFlag.REJECT)


def next_counter(value: int) -> int:
    """Sequence and heartbeat: 1..65535, then 1 again; 0 only before the first."""
    return value % 0xFFFF + 1


def model_checksum(bundle_sha256: str, threshold: float | None) -> int:
    """16 bits that change with the model or its threshold; never 0."""
    digest = hashlib.sha256(f"{bundle_sha256} {threshold!r}".encode()).digest()
    return int.from_bytes(digest[:2], "big") or 1


def milliseconds(duration_ns: int) -> int:
    """A duration as the block shows it: whole ms, 0..65535."""
    return _clamp(duration_ns / 1e6)


def field_names() -> tuple[str, ...]:
    """Names of the block's fields, in order, for records and protocols with one node each."""
    return tuple(f.name for f in fields(StatusBlock))


def _clamp(value: float) -> int:
    return int(min(max(value, 0.0), 65535.0))


def _read(words: Sequence[int], first: int, kind: str) -> int | float:
    if kind == "u16":
        return words[first]
    packed = struct.pack(">HH", *words[first : first + 2])
    value: int | float = struct.unpack(">f" if kind == "f32" else ">I", packed)[0]
    return value
