from __future__ import annotations

import math
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cada_edge.errors import ConfigError, LineError
from cada_edge.runtime.registers import (
    HEAD,
    TAIL,
    WORDS,
    OfflineReason,
    ResultFlag,
    StatusBlock,
    StatusFlag,
    decode,
    encode,
    from_bytes,
    milliseconds,
    model_checksum,
    next_counter,
    safe,
    to_bytes,
)

U16, U32 = st.integers(0, 0xFFFF), st.integers(0, 0xFFFFFFFF)
F32 = st.floats(width=32, allow_nan=False, allow_infinity=False)
FLAGS = st.sampled_from(StatusFlag)  # of a flag enum: any combination
REJECTS = st.lists(st.sampled_from([f for f in ResultFlag if f is not ResultFlag.PASS]))
RESULTS = st.one_of(
    st.just(ResultFlag.PASS),
    st.just(ResultFlag.PASS | ResultFlag.SIMULATED),
    REJECTS.map(lambda flags: ResultFlag(sum(set(flags)))),
)
BLOCKS = st.builds(
    StatusBlock,
    flags=FLAGS, offline=st.sampled_from(OfflineReason), result=RESULTS, score=F32, threshold=F32,
    **dict.fromkeys(("heartbeat", "seq", "result_ms", "frame_age_ms", "error", "recipe", "waiting", "checksum"), U16),
    **dict.fromkeys(("trigger_id", "total", "rejected", "unknown", "encoder"), U32),
)  # fmt: skip


@settings(deadline=None)
@given(BLOCKS)
def test_every_block_survives_the_registers(block: StatusBlock) -> None:
    """A block becomes 32 words of 16 bits, and these become the same block again."""
    words = encode(block)
    assert len(words) == WORDS
    assert all(0 <= word <= 0xFFFF for word in words)
    assert decode(words) == block
    assert from_bytes(to_bytes(words)) == words


@settings(deadline=None)
@given(BLOCKS, st.sampled_from(OfflineReason))
def test_the_safe_state_never_passes(block: StatusBlock, reason: OfflineReason) -> None:
    """Whatever a block said, its safe state is offline, invalid and a reject."""
    shown = safe(block, reason)
    assert not shown.flags & (StatusFlag.ONLINE | StatusFlag.RESULTS_VALID | StatusFlag.TRIGGER_READY)
    assert shown.result == ResultFlag.UNKNOWN | ResultFlag.REJECT
    assert (shown.seq, shown.total) == (block.seq, block.total)


def test_numbers_are_big_endian_high_word_first() -> None:
    """A PLC that reads two words high word first finds the float and the counter."""
    words = encode(StatusBlock(score=1.5, total=0x12345678))
    assert struct.unpack(">f", struct.pack(">HH", *words[6:8])) == (1.5,)
    assert words[10] == 1500
    assert words[16:18] == [0x1234, 0x5678]


def test_the_offline_reason_sits_in_bits_4_to_6() -> None:
    """STATUS holds the reason beside the flags, as documented."""
    words = encode(StatusBlock(flags=StatusFlag.ERROR, offline=OfflineReason.SOURCE_LOST))
    assert words[0] == 0x8000 | 4 << 4


def test_a_fresh_block_has_no_result() -> None:
    """Before the first verdict every result bit is 0 and the line is offline."""
    block = StatusBlock()
    assert (block.result, block.seq, block.flags) == (0, 0, 0)


def test_a_torn_block_is_refused() -> None:
    """Head and tail that differ raise an error which names both."""
    words = encode(StatusBlock(seq=5))
    words[TAIL] = 6
    with pytest.raises(LineError, match="head is 5, tail is 6"):
        decode(words)
    assert words[HEAD] == 5


@pytest.mark.parametrize(
    "changes",
    [
        {"seq": 65536},
        {"total": -1},
        {"score": math.nan},
        {"threshold": math.inf},
        {"flags": 1 << 16},
        {"flags": 1 << 4},
    ],
)
def test_values_no_register_can_hold_are_refused(changes: dict[str, float]) -> None:
    """A block names the field that does not fit."""
    with pytest.raises(ConfigError, match=next(iter(changes))):
        StatusBlock(**changes)  # type: ignore[arg-type]  # wrong on purpose


@settings(deadline=None)
@given(REJECTS.filter(bool))
def test_pass_excludes_every_reject(flags: list[ResultFlag]) -> None:
    """No block can be built that says PASS and anything against it."""
    other = ResultFlag(sum(set(flags))) & ~ResultFlag.SIMULATED
    if other:
        with pytest.raises(ConfigError, match="PASS excludes"):
            StatusBlock(result=ResultFlag.PASS | other)


@pytest.mark.parametrize("words", [[0] * 31, [0] * 33, []])
def test_a_block_of_the_wrong_length_is_refused(words: list[int]) -> None:
    """The error says how many words came and how many a block has."""
    with pytest.raises(ConfigError, match="expected 32"):
        decode(words)


def test_every_offline_reason_can_be_read() -> None:
    """Three bits hold eight reasons, and each has a name."""
    assert [decode([reason << 4, *[0] * 31]).offline for reason in range(8)] == list(OfflineReason)


def test_a_frame_of_bytes_has_64() -> None:
    """Any other number of bytes is refused."""
    with pytest.raises(ConfigError, match="expected 64"):
        from_bytes(b"\0" * 63)


def test_counters_skip_zero_when_they_wrap() -> None:
    """0 means never: after 65535 comes 1."""
    assert [next_counter(v) for v in (0, 1, 65534, 65535)] == [1, 2, 65535, 1]


def test_the_checksum_follows_model_and_threshold() -> None:
    """Another model or another threshold shows as another checksum, never as 0."""
    values = {model_checksum("a", 0.5), model_checksum("b", 0.5), model_checksum("a", 0.6), model_checksum("a", None)}
    assert len(values) == 4
    assert 0 not in values


def test_durations_are_clamped_to_a_word() -> None:
    """A negative or very long duration still fits its register."""
    assert [milliseconds(v) for v in (-5, 1_999_999, 10**15)] == [0, 1, 65535]
