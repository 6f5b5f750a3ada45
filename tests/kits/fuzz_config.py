"""Spoilt ``line.yaml`` files: a line is read from them or refused with `ConfigError`, and nothing else happens."""

from __future__ import annotations

import copy
import random
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from fuzz_kit import mutated

from cada_edge.errors import ConfigError
from cada_edge.runtime.config import load_config

SAMPLES: tuple[dict[str, Any], ...] = (
    {"schema": 1, "bundle": "line.cada", "sources": [{"uri": "folder:images"}]},
    {
        "schema": 1,
        "bundle": "a.cada",
        "backend": "ort",
        "threads": 2,
        "deadline_ms": 50.0,
        "batch": 4,
        "recipes": {1: "a.cada", 2: "b.cada"},
        "max_frames": 10,
        "linger_ms": 200,
        "sources": [
            {"uri": "rtsp://cam/x", "id": "left", "stall_s": 2.5, "rotate": 90, "quality": {"min_brightness": 5.0}},
            {
                "uri": "aravis://GV01",
                "id": "right",
                "trigger": "software",
                "roi": {"x": 0, "y": 0, "width": 64, "height": 64},
            },
        ],
        "stations": [{"id": "st1", "mode": "triggered", "deadline_ms": 40.0, "sources": ["left", "right"]}],
        "links": [
            {"kind": "modbus-server", "port": 1502},
            {"kind": "s7", "host": "10.0.0.1", "db": 7, "control": False},
            {"kind": "opcua", "url": "opc.tcp://plc:4840/x", "control": False},
            {"kind": "digital", "pass_line": 3, "trigger_line": 4, "control": False},
        ],
        "sinks": {
            "records": {"sqlite": "r.sqlite", "max_days": 30.0},
            "archive": {"dir": "kept", "keep_passes": 100},
            "mqtt": {"host": "broker", "topic": "line/3"},
            "webhook": {"url": "https://mes.example/in"},
            "log": {},
        },
        "page": {"port": 8080, "names": ["line3"]},
    },
)
_VALUES: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1,
    2**31,
    2**63,
    10**400,
    0.0,
    -0.0,
    1e308,
    float("inf"),
    float("nan"),
    "",
    " ",
    "a" * 5000,
    "\x00",
    "../../../etc/passwd",
    "/dev/zero",
    "folder://",
    "rtsp://[",
    "http://[::1",
    "opc.tcp://",
    "{field}",
    "%n%s",
    "\u202e",
    "\ud7ff",
    [],
    {},
    [[]],
    [None],
    {"a": 1},
    "1",
    "true",
    "0x10",
    "1e3",
    b"bytes",
    "=",
    "<<",
)
_TEXTS = (
    "!!python/object/apply:os.system ['true']",
    "!!binary x",
    "!!timestamp x",
    "0001-01-01 00:00:00 +23:59",
    "9999-12-31 23:59:59 -23:59",
    "2001-99-99",
    "? [a]\n: b",
    "{? {a: b} : c}",
    "<<: 3",
    "<<: [1]",
    "*x",
    "&x [*x]",
    "1_0:99:99.",
    ".inf",
    "0b2",
    "0o9",
    "- - - -",
    "'",
    '"\\x',
    "|2\n x",
    "%YAML 9.9\n---",
    "---\n---",
    "\t",
    "!<x> y",
    "[" * 3000,
    "{a: " * 1500,
    "!!int '9" + "9" * 5000 + "'",
    "!!float x",
    "!!set {a}",
    "!!omap [a]",
    "!!null x",
    "\ufeff",
)


class ConfigTarget:
    """A folder with a spoilt ``line.yaml`` in it."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._file = folder, folder / "line.yaml"

    def one(self, chance: random.Random) -> str:
        """One file. Raises whatever is no `ConfigError`."""
        self._file.write_bytes(spoilt(chance))
        try:
            load_config(self._file)
        except ConfigError:
            return "refused"
        return "still a line"

    def audit(self) -> list[str]:
        """The folder holds that file alone."""
        others = [str(path) for path in self._folder.rglob("*") if path != self._file]
        return [f"files appeared: {others}"] if others else []


@contextmanager
def config_target() -> Iterator[ConfigTarget]:
    """In a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        yield ConfigTarget(Path(folder))


def spoilt(chance: random.Random) -> bytes:
    """A line that was good, changed in its structure, its scalars or its bytes."""
    document = copy.deepcopy(chance.choice(SAMPLES))
    match chance.randrange(4):
        case 0:
            return mutated(chance, _text(document).encode())
        case 1:
            return _with_text(chance, _text(document))
        case _:
            for _ in range(chance.randint(1, 3)):
                _spoil(chance, document)
            return _text(document).encode("utf-8", "surrogatepass")


def _text(document: object) -> str:
    return str(yaml.safe_dump(document, allow_unicode=True, sort_keys=False))


def _with_text(chance: random.Random, text: str) -> bytes:
    """YAML's own traps in the place of a scalar, or on a line of their own."""
    lines, trap = text.splitlines(), chance.choice(_TEXTS)
    at = chance.randrange(len(lines))
    key, colon, _ = lines[at].partition(": ")
    lines[at] = f"{key}: {trap}" if colon and chance.random() < 0.8 else trap
    return "\n".join(lines).encode()


def _spoil(chance: random.Random, node: Any) -> None:
    """Change, remove, rename or double one entry somewhere below `node`."""
    places = list(_places(node))
    if not places:
        return
    parent, key = chance.choice(places)
    match chance.randrange(5):
        case 0:
            del parent[key]
        case 1 if isinstance(parent, dict):
            parent[chance.choice((f"{key}s", "", 5, None, True, str(key).upper()))] = parent.pop(key)
        case 2:
            parent[key] = [copy.deepcopy(parent[key])] * chance.choice((1, 2, 50))
        case 3:
            parent[key] = {chance.choice(("kind", "a", 1)): copy.deepcopy(parent[key])}
        case _:
            parent[key] = chance.choice(_VALUES)


def _places(node: Any) -> Iterator[tuple[Any, Any]]:
    """Every entry of every mapping and list, with what holds it."""
    if isinstance(node, dict | list):
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            yield node, key
            yield from _places(value)
