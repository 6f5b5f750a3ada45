"""The words of both blocks as a table for PLC people, read off the codec itself.

Where a field lies is found by encoding it; what it means is its line in the codec's docstrings.
"""

from __future__ import annotations

import csv
import inspect
import io
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from enum import IntEnum, IntFlag
from textwrap import indent
from typing import Any, Literal

from cada_edge.errors import ConfigError
from cada_edge.runtime.control import CONTROL_WORDS, Command, ControlBlock, ControlFlag, encode_control
from cada_edge.runtime.registers import (
    HEAD,
    HEARTBEAT,
    TAIL,
    WORDS,
    Alarm,
    ErrorCode,
    OfflineReason,
    ResultFlag,
    StatusBlock,
    StatusFlag,
    encode,
)

Format = Literal["md", "csv", "json"]
_ENTRY = re.compile(r"^ {4}(\w+): (.+)$")
_BITS = (StatusFlag, ResultFlag, Alarm, ControlFlag)
_NUMBERS = (OfflineReason, ErrorCode, Command)
_STATUS_BASE, _CONTROL_BASE, _S7_STATUS, _S7_CONTROL = 100, 0, 32, 0  # as the links have them unless told otherwise
HEARTBEAT_LIMIT_S = 1.5  # a standstill of that long is a dead station: fifteen steps, ample for a slow PLC
# When a PLC may let a part pass. README.md and docs/links.md hold it word for word, which a test compares.
PASS_RULE = f"""\
A part passes only if all of this stands in one block whose words {HEAD} and {TAIL} are equal: ONLINE and
RESULTS_VALID are set, the heartbeat (word {HEARTBEAT}) moved within the last {HEARTBEAT_LIMIT_S} s, the number
(word {HEAD}) is new, the trigger id (words 4-5) is the one that was raised for this part (0 in free run), and
word 2 is 1: PASS and nothing else, SIMULATED neither. Everything else is a reject."""
_RULES = f"""\
* Numbers of two words: high word first. FLOAT32 is IEEE 754. What is not listed is 0; write 0 there.
* Read all {WORDS} status words in one request. Word {HEAD} (head) and word {TAIL} (tail) hold the same number; where
  they differ the block was read while it changed: use nothing of it and read again.
* Where the variables are read one by one, read the tail (`seq_tail`) first and the head (`seq`) last.
* {indent(PASS_RULE, "  ").strip()}
* This is not a safety function.

Modbus: zero-based register addresses, with `base: {_STATUS_BASE}` and `control_base: {_CONTROL_BASE}`; 4xxxx
notation adds 40001. Read by function 3 or 4; write control by function 6, 16, 22 or 23. S7: addresses in the
data block, with status at byte {_S7_STATUS} and control at byte {_S7_CONTROL}. Logix and ADS arrays are indexed by
the word. OPC UA: identifiers in the namespace `urn:cada-edge` of our server.
"""


@dataclass(frozen=True)
class Entry:
    """One field of a block.

    Attributes:
        block: ``status`` (we to the PLC) or ``control`` (the PLC to us).
        name: of the field, as OPC UA, records and JSON call it.
        word: the first, counted from 0.
        words: 1 or 2.
        type: UINT16, UINT32 or FLOAT32.
        modbus: register address, zero-based, with the links' usual bases.
        s7: absolute address in the data block, with the links' usual offsets.
        opcua: identifier of the node; empty where there is none.
        meaning: range, unit and what it says.
    """

    block: str
    name: str
    word: int
    words: int
    type: str
    modbus: int
    s7: str
    opcua: str
    meaning: str


def entries() -> list[Entry]:
    """Every field of both blocks, by block and word."""
    status = [_probed("status", StatusBlock, encode, name) for name in _names(StatusBlock) if name != "offline"]
    status += [
        _entry("status", "offline", (0, 1), "bits 4..6", described(StatusBlock).get("offline", "")),
        _entry("status", "score_x1000", (10, 1), "UINT16", "score x 1000, 0..65535, for PLCs without REAL"),
        _entry("status", "seq_tail", (TAIL, 1), "UINT16", f"equals word {HEAD}, else read again"),
    ]
    control = [_probed("control", ControlBlock, encode_control, name) for name in _names(ControlBlock)]
    return sorted(status, key=lambda one: one.word) + sorted(control, key=lambda one: one.word)


def rendered(form: Format) -> str:
    """The map as Markdown, CSV (a line per field, to import tags from) or JSON."""
    if form == "json":
        return json.dumps({"fields": [asdict(one) for one in entries()], "values": _values()}, indent=1) + "\n"
    return _csv() if form == "csv" else _markdown()


def described(cls: type) -> dict[str, str]:
    """What the Attributes section of a class says of each name; empty where Python dropped docstrings."""
    found: dict[str, str] = {}
    for line in (inspect.getdoc(cls) or "").splitlines():
        if entry := _ENTRY.match(line):
            found[entry[1]] = entry[2].rstrip(".").replace("`", "")
    return found


def _probed(block: str, cls: type, encoder: Callable[[Any], Sequence[int]], name: str) -> Entry:
    """Where a field lies: the words that change with it."""
    values = (2.0, -2.5) if isinstance(getattr(cls(), name), float) else (0, _most(cls, name))
    before, after = (encoder(_with(cls, name, value)) for value in values)
    moved = [at for at, (old, new) in enumerate(zip(before, after, strict=True)) if old != new]
    if name == "score":
        moved.remove(10)
    elif name == "seq":
        moved.remove(TAIL)
    size = 2 if isinstance(values[0], float) else len(moved)
    kind = "FLOAT32" if isinstance(values[0], float) else f"UINT{16 * size}"
    return _entry(block, name, (moved[0], size), kind, described(cls).get(name, ""))


def _most(cls: type, name: str) -> int:
    if isinstance(getattr(cls(), name), IntFlag):
        return 1  # a bit that is known in every word of flags
    try:
        _with(cls, name, 0xFFFFFFFF)
    except ConfigError:
        return 0xFFFF
    return 0xFFFFFFFF


def _with(cls: type, name: str, value: float) -> Any:
    start = cls()
    kind = type(getattr(start, name))
    return replace(start, **{name: kind(int(value)) if issubclass(kind, IntFlag) else value})


def _entry(block: str, name: str, place: tuple[int, int], kind: str, meaning: str) -> Entry:
    word, words = place
    status = block == "status"
    byte = (_S7_STATUS if status else _S7_CONTROL) + 2 * word
    node = "" if name == "score_x1000" else f"CadaEdge.{block.capitalize()}.{name}"
    modbus = (_STATUS_BASE if status else _CONTROL_BASE) + word
    return Entry(block, name, word, words, kind, modbus, f"DB{'W' if words == 1 else 'D'}{byte}", node, meaning)


def _names(cls: Any) -> list[str]:
    return [field.name for field in fields(cls)]


def _values() -> dict[str, list[dict[str, Any]]]:
    """Bits (by place) and numbers of every word that has names for them."""
    bits = {cls.__name__: _members(cls, lambda value: value.bit_length() - 1) for cls in _BITS}
    return {**bits, **{cls.__name__: _members(cls, int) for cls in _NUMBERS}}


def _members(cls: type[IntFlag | IntEnum], place: Callable[[int], int]) -> list[dict[str, Any]]:
    told = described(cls)
    return [{"value": place(int(one)), "name": one.name, "meaning": told.get(str(one.name), "")} for one in cls]


def _csv() -> str:
    out = io.StringIO()
    rows = csv.DictWriter(out, [field.name for field in fields(Entry)], lineterminator="\n")
    rows.writeheader()
    rows.writerows(asdict(one) for one in entries())
    return out.getvalue()


def _markdown() -> str:
    parts = ["# Register map\n", "Generated by `cada-edge registers`; it is of the installed version.\n", _RULES]
    for block, size, way in (("status", WORDS, "we to the PLC"), ("control", CONTROL_WORDS, "the PLC to us")):
        parts.append(f"## {block.capitalize()} block: {size} words, {way}\n")
        parts.append(_fields_table([one for one in entries() if one.block == block]))
    for cls in (*_BITS, *_NUMBERS):
        parts.append(f"## {cls.__name__}\n\n{(inspect.getdoc(cls) or '').partition(chr(10))[0].replace('`', '')}\n")
        parts.append(_values_table(_values()[cls.__name__], "bit" if cls in _BITS else "value"))
    return "\n".join(parts)


def _fields_table(rows: Sequence[Entry]) -> str:
    lines = ["| word | field | type | Modbus | S7 | OPC UA | meaning |", "|---|---|---|---|---|---|---|"]
    for one in rows:
        word = str(one.word) if one.words == 1 else f"{one.word}-{one.word + 1}"
        lines.append(
            f"| {word} | {one.name} | {one.type} | {one.modbus} | {one.s7} | {one.opcua or '-'} | {one.meaning} |"
        )
    return "\n".join(lines) + "\n"


def _values_table(rows: Sequence[dict[str, Any]], head: str) -> str:
    told = any(one["meaning"] for one in rows)  # numbers are named so that the name is enough
    lines = [f"| {head} | name | meaning |", "|---|---|---|"] if told else [f"| {head} | name |", "|---|---|"]
    lines += [f"| {one['value']} | {one['name']} |" + (f" {one['meaning']} |" if told else "") for one in rows]
    return "\n".join(lines) + "\n"
