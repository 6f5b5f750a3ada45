"""When a PLC may let a part pass is told once, and every text that tells it agrees."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

import pytest

from cada_edge.runtime.plc_sim.rules import Terms
from cada_edge.runtime.register_map import HEARTBEAT_LIMIT_S, PASS_RULE, rendered
from cada_edge.runtime.registers import ResultFlag, StatusBlock, encode

CHECKOUT = Path(os.environ.get("CADA_EDGE_CHECKOUT") or Path(__file__).resolve().parents[2])
TEXTS = ("README.md", "docs/links.md", "docs/registers.md")
TEXT = (CHECKOUT / "docs" / "plc" / "cada_station.st").read_text(encoding="utf-8")


def plain(text: str) -> str:
    """Without line breaks."""
    return " ".join(text.split())


@pytest.mark.parametrize("name", TEXTS)
def test_the_rule_stands_word_for_word(name: str) -> None:
    """Readme, links and register map hold the same sentences, and no other of that kind."""
    text = plain((CHECKOUT / name).read_text(encoding="utf-8"))
    assert text.count(plain(PASS_RULE)) == 1
    assert "last second" not in text
    assert len(re.findall(r"passes only if all of this|reject unless", text)) == 1


@pytest.mark.parametrize("name", ["docs/fault-campaign.md", "docs/plc/README.md"])
def test_other_texts_point_to_it(name: str) -> None:
    """Who relies on the rule says where it stands."""
    assert re.search(r"rule of the \[register map\]\((\.\./)?registers\.md\)", (CHECKOUT / name).read_text())


@pytest.mark.parametrize("told", ["ONLINE", "RESULTS_VALID", "heartbeat", "number", "trigger id", "PASS", "SIMULATED"])
def test_the_rule_names_everything_that_counts(told: str) -> None:
    """Each of these alone keeps a part from passing."""
    assert told in PASS_RULE
    assert told in rendered("md")


def test_one_standstill_of_the_heartbeat_is_too_long_everywhere() -> None:
    """Structured text, sample in the readme and the referee take the figure of the rule."""
    limit_ms = round(1e3 * HEARTBEAT_LIMIT_S)
    assert f"BeatTimeOut : TIME := T#{limit_ms}ms;" in TEXT
    assert f"time.monotonic() - moved < {HEARTBEAT_LIMIT_S}" in (CHECKOUT / "README.md").read_text()
    assert Terms().heartbeat_ns == limit_ms * 10**6


def test_the_numbers_of_words_are_those_of_the_codec() -> None:
    """Word 2 is 1 for PASS alone, and another with SIMULATED; the trigger id lies in words 4 and 5."""
    block = replace(StatusBlock(), trigger_id=0x10002, result=ResultFlag.PASS)
    words, simulated = encode(block), encode(replace(block, result=ResultFlag.PASS | ResultFlag.SIMULATED))
    assert (words[2], words[4:6]) == (1, [1, 2])
    assert simulated[2] != 1


@pytest.mark.parametrize(
    "condition",
    [
        "Copy[3] = Tail",
        "(Flags AND ONLINE) <> 0",
        "(Flags AND RESULTS_VALID) <> 0",
        "WORD_TO_UINT(Block[3]) <> Expected OR Block[4] <> IdHigh OR Block[5] <> IdLow",
        "Block[2] = RESULT_PASS",
        "RESULT_PASS : WORD := 16#0001;",
    ],
)
def test_the_structured_text_asks_for_it(condition: str) -> None:
    """Each condition of the rule stands in the function block; `test_plc_text.py` runs it with each of them broken."""
    assert condition in plain(TEXT)
