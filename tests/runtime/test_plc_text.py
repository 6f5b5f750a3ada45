"""The structured text in docs/plc, run against stations: only a PASS that agrees in everything opens the gate."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

if find_spec("blark") is None:
    pytest.skip("blark, which parses structured text, is not installed: pip install blark", allow_module_level=True)
from st_bench import FAIL, PASS, Bench, bench

from cada_edge.runtime.control import ControlBlock, ControlFlag
from cada_edge.runtime.registers import OfflineReason, ResultFlag, StatusFlag

CHECKOUT = Path(os.environ.get("CADA_EDGE_CHECKOUT") or Path(__file__).resolve().parents[2])
TEXTS = CHECKOUT / "docs" / "plc"
UNKNOWN = ResultFlag.UNKNOWN | ResultFlag.REJECT
PASSED, DAMAGED, UNJUDGED, NOT_READY, MISSED, TIMED_OUT, DEAD, OTHER, CONTRADICTION = range(1, 10)


def modbus_line(**settings: Any) -> Bench:
    """The line of ``line_modbus.st``."""
    return bench(TEXTS, "line_modbus.st", "PLC_LineModbus", **settings)


def data_block_line(**settings: Any) -> Bench:
    """The line of ``line_data_block.st``."""
    return bench(TEXTS, "line_data_block.st", "PLC_LineDataBlock", **settings)


LINES = [modbus_line, data_block_line]


@pytest.mark.parametrize("line", LINES)
def test_the_gate_opens_for_each_part_that_passed_and_for_no_other(line: Callable[..., Bench]) -> None:
    """Forty parts, good, damaged and unjudged: each gets its own answer, and the station has nothing to complain of."""
    told = [(PASS, PASSED), (FAIL, DAMAGED), (PASS, PASSED), (UNKNOWN, UNJUDGED)] * 10
    one = line(answers=[answer for answer, _ in told])
    assert [one.part() for _ in told] == [(reason == PASSED, reason) for _, reason in told]
    assert one.violations == []


@pytest.fixture(scope="module")
def awaiting() -> Bench:
    """A line used again and again, whose parts all pass unless something is spoiled."""
    return modbus_line()


def of_results(change: Callable[[list[int]], object]) -> Callable[[list[int]], Sequence[int]]:
    """Change every block with a valid result, in place."""

    def spoil(words: list[int]) -> Sequence[int]:
        if words[0] & StatusFlag.RESULTS_VALID:
            change(words)
        return words

    return spoil


def flipped(word: int, bit: int) -> Callable[[list[int]], None]:
    """One bit of one word, the other way round."""

    def change(block: list[int]) -> None:
        block[word] ^= 1 << bit

    return change


JUDGING = dict.fromkeys((2, 3, 4, 5, 13, 22, 23, 31), 0xFFFF)  # of these words every bit counts
JUDGING[0] = StatusFlag.ONLINE | StatusFlag.RESULTS_VALID | StatusFlag.ERROR | 0b111 << 4


@pytest.mark.parametrize("word", range(32))
def test_one_wrong_bit_in_what_judges_a_part_keeps_the_gate_shut(awaiting: Bench, word: int) -> None:
    """A bit of a PASS, flipped: the gate opens only where the bit says nothing of this part."""
    for bit in range(16) if word in JUDGING else (0, 15):
        awaiting.part()
        awaiting.spoil = of_results(flipped(word, bit))
        gate, reason = awaiting.sudden_part()
        awaiting.spoil = list
        assert gate == (not JUDGING.get(word, 0) >> bit & 1), f"word {word}, bit {bit}: {reason=}"


def set_to(**words: int) -> Callable[[list[int]], None]:
    """Words, as ``w4=0``, set in a block."""

    def change(block: list[int]) -> None:
        for name, value in words.items():
            block[int(name[1:])] = int(value)

    return change


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (set_to(w2=ResultFlag.PASS | ResultFlag.SIMULATED), CONTRADICTION),
        (set_to(w2=ResultFlag.PASS | ResultFlag.REJECT), CONTRADICTION),
        (set_to(w2=0), CONTRADICTION),
        (set_to(w2=UNKNOWN | ResultFlag.LATE), UNJUDGED),
        (set_to(w13=2), CONTRADICTION),
        (set_to(w5=9), OTHER),
        (set_to(w3=9, w31=9), OTHER),
        (set_to(w23=9), OTHER),
        (set_to(w0=StatusFlag.RESULTS_VALID | 4 << 4), DEAD),
        (set_to(w0=StatusFlag.ONLINE), TIMED_OUT),
        (set_to(w0=StatusFlag.ONLINE, w25=1), MISSED),
        (set_to(w31=9), DEAD),
    ],
)
def test_each_wrong_answer_is_a_reject_with_its_reason(awaiting: Bench, change: Any, reason: int) -> None:
    """What the operator reads tells a simulated, torn, missed, late or foreign answer from a damaged part."""
    awaiting.part()
    awaiting.spoil = of_results(change)
    found = awaiting.sudden_part()
    awaiting.spoil = list
    assert found == (False, reason)
    awaiting.part()
    assert awaiting.part() == (True, PASSED)


def test_an_answer_after_the_time_out_is_dropped_and_the_next_part_passes() -> None:
    """The PASS of a part that was given up meets no other part."""
    one = modbus_line(delay_ns=5 * 10**9)
    assert one.part() == (False, TIMED_OUT)
    for _ in range(400):
        one.cycle(partinplace=False)
        assert not one["pass"]
    one.delay_ns = 50_000_000
    assert one.part() == (True, PASSED)
    assert one.violations == []


def test_a_part_that_comes_while_the_station_is_not_ready_is_a_reject() -> None:
    """Before the station is online a part cannot pass, and is not asked for; after it one can."""
    one = modbus_line(lives=False)
    assert one.sudden_part() == (False, NOT_READY)
    assert one.station.block.missed == 0
    one.lives = True
    assert one.part() == (True, PASSED)


def test_a_new_start_while_a_part_is_under_way_rejects_both() -> None:
    """The answer that then comes for the first part opens nothing for the second."""
    one = modbus_line(delay_ns=10**9)
    one.until(lambda: bool(one["ready"]))
    for there in (True, False, True):
        one.cycle(partinplace=there)
    assert (one["done"], one["pass"], one["reason"]) == (True, False, NOT_READY)
    for _ in range(300):
        one.cycle(partinplace=True)
        assert not one.program["gateopen"]
    assert one.part() == (True, PASSED)


def test_a_part_id_used_twice_is_a_reject() -> None:
    """Two parts of one id could get each other's answer; the second is rejected."""
    one = modbus_line()
    assert one.part() == (True, PASSED)
    one.program.values["partid"] -= 1
    assert one.part() == (False, NOT_READY)


def test_a_heartbeat_that_stands_still_ends_ready_and_the_part_under_way() -> None:
    """A block that shows READY and never changes any more is dead after 1.5 s."""
    one = modbus_line()
    one.part()
    one.until(lambda: bool(one["ready"]), partinplace=False)
    block = list(one["status"])
    one.spoil = lambda _words: block
    assert one.sudden_part() == (False, DEAD)
    assert not one["ready"]


def test_the_first_number_of_a_heartbeat_is_no_life() -> None:
    """A PLC that starts beside a dead station with a ready block in its memory does not trust it."""
    one, frozen = modbus_line(), modbus_line()
    one.until(lambda: bool(one["ready"]))
    block = list(one["status"])
    frozen.spoil = lambda _words: block
    for _ in range(200):
        frozen.cycle(partinplace=False)
        assert not frozen["ready"]


def test_a_plc_that_stops_takes_the_station_offline_and_comes_back() -> None:
    """The program's own heartbeat is watched: while it stands, the station takes nothing."""
    one = modbus_line()
    one.part()
    one.runs = False
    for _ in range(150):
        one.cycle()
    assert one.station.block.offline is OfflineReason.PLC_LOST
    one.runs = True
    assert one.part() == (True, PASSED)


def test_the_reset_button_clears_what_stands() -> None:
    """A missed trigger stays marked until CLEAR_ERROR."""
    one = modbus_line()
    one.station.control(ControlBlock(ControlFlag.TRIGGER), one.now_ns)
    one.part()
    assert StatusFlag.MISSED_TRIGGER in one.station.block.flags
    one.cycle(resetbutton=True)
    assert StatusFlag.MISSED_TRIGGER not in one.station.block.flags


def test_a_product_change_loads_its_recipe_offline_and_comes_back() -> None:
    """Another number of Product: offline, the recipe, online; then parts pass again."""
    one = data_block_line()
    assert one.part() == (True, PASSED)
    one.cycle(product=2)
    assert one.part() == (True, PASSED)
    assert (one.recipe, one.station.block.recipe) == (2, 2)
    one.cycle(product=1)
    assert one.part() == (True, PASSED)
    assert one.recipe == 1


def test_nothing_passes_after_a_product_change_that_failed() -> None:
    """A recipe that cannot be loaded leaves the station untriggered, until it can and the operator says so."""
    one = data_block_line()
    one.cycle(product=7)
    one.until(lambda: bool(one.program["changefailed"]))
    assert one.sudden_part() == (False, NOT_READY)
    one.recipes = (7,)
    one.cycle(resetbutton=True)
    one.cycle(resetbutton=False)
    assert one.part() == (True, PASSED)
    assert one.recipe == 7


def test_a_station_that_comes_back_with_another_recipe_is_set_right_first() -> None:
    """No part passes under a recipe that is not the product's."""
    one = data_block_line()
    one.cycle(product=2)
    one.part()
    one.recipe = 1
    one.cycle()
    assert one.sudden_part() == (False, NOT_READY)
    assert one.part() == (True, PASSED)
    assert one.recipe == 2


def test_the_constants_of_the_text_are_those_of_the_codec(awaiting: Bench) -> None:
    """Every named bit of the function block is the codec's bit of that name."""
    words = {f"RESULT_{flag.name}": int(flag) for flag in ResultFlag}
    bits = {**{str(flag.name): int(flag) for flag in StatusFlag}, **words, "OFFLINE_BITS": 0b111 << 4}
    bits["STATION_ERROR"] = bits["ERROR"]
    named = awaiting.program["station"].constants
    assert len(named) == 12
    assert named == {name.lower(): bits[name.upper()] for name in named}
