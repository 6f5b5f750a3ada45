"""The register map is what the codec does, and the page in docs/ is of this version."""

from __future__ import annotations

import csv
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cada_edge.cli.app import build
from cada_edge.runtime.control import ControlBlock, ControlFlag, encode_control
from cada_edge.runtime.register_map import Entry, described, entries, rendered
from cada_edge.runtime.registers import Alarm, ResultFlag, StatusBlock, StatusFlag, encode

CHECKOUT = Path(os.environ.get("CADA_EDGE_CHECKOUT") or Path(__file__).resolve().parents[2])


def found(block: str, name: str) -> Entry:
    """One field of the map."""
    return next(one for one in entries() if (one.block, one.name) == (block, name))


def test_the_page_is_of_this_version() -> None:
    """docs/registers.md is what the codec generates: run cada-edge registers --out docs/registers.md."""
    assert (CHECKOUT / "docs" / "registers.md").read_text(encoding="utf-8") == rendered("md")


@pytest.mark.parametrize("name", ["trigger_id", "total", "encoder", "recipe", "missed", "checksum"])
def test_a_number_lies_where_the_map_says(name: str) -> None:
    """A value written by the codec is found at the map's words, high word first."""
    one = found("status", name)
    values: dict[str, Any] = {name: 0xABCD}
    words = encode(replace(StatusBlock(), **values))
    assert words[one.word : one.word + one.words] == [0, 0xABCD][-one.words :]


def test_control_lies_where_the_map_says() -> None:
    """The same of the PLC's block."""
    words = encode_control(ControlBlock(ControlFlag.TRIGGER, 1, 0x20003, 0x40005, 6, 7))
    at = {one.name: words[one.word : one.word + one.words] for one in entries() if one.block == "control"}
    assert at == {
        "flags": [2],
        "heartbeat": [1],
        "trigger_id": [2, 3],
        "encoder": [4, 5],
        "recipe": [6],
        "command": [7],
    }


@pytest.mark.parametrize("cls", [StatusFlag, ResultFlag, ControlFlag])
def test_every_bit_is_explained(cls: type[StatusFlag | ResultFlag | ControlFlag | Alarm]) -> None:
    """No bit without a meaning, no meaning without a bit."""
    assert set(described(cls)) == {str(one.name) for one in cls}


def test_every_field_is_explained_and_has_words_of_its_own() -> None:
    """No field without a meaning; no word, the offline reason apart, belongs to two."""
    rows = [one for one in entries() if one.name != "offline"]
    assert all(one.meaning for one in entries())
    taken = [(one.block, one.word + step) for one in rows for step in range(one.words)]
    assert len(taken) == len(set(taken))


def test_the_command_writes_each_form(tmp_path: Path) -> None:
    """CSV and JSON hold every field of the map."""
    for form in ("csv", "json"):
        done = CliRunner().invoke(build("registers"), ["registers", "--format", form, "--out", str(tmp_path / form)])
        assert done.exit_code == 0, done.output
    names = [one.name for one in entries()]
    assert [row["name"] for row in csv.DictReader((tmp_path / "csv").open())] == names
    assert [row["name"] for row in json.loads((tmp_path / "json").read_text())["fields"]] == names
