"""Structured text as a tree of JSON, by blark: ``python st_tree.py FILE``; what cannot be parsed ends with 1.

A program of its own, as blark's licence is another: each node is an object with its class as ``kind``.
"""

from __future__ import annotations

import json
import sys
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from blark.parse import parse_source_code


def plain(one: Any) -> Any:
    """A node and all below it without blark's classes; where it stood in the file is left out."""
    if is_dataclass(one):
        parts = {field.name: plain(getattr(one, field.name)) for field in fields(one) if field.name != "meta"}
        return {"kind": type(one).__name__, **parts}
    if isinstance(one, list | tuple):
        return [plain(part) for part in one]
    return one if one is None or isinstance(one, bool) else str(one)


if __name__ == "__main__":
    _parsed = parse_source_code(Path(sys.argv[1]).read_text(encoding="utf-8"), fn=sys.argv[1])
    if _parsed.exception is not None:
        sys.exit(f"{sys.argv[1]}: {_parsed.exception}")
    sys.stdout.write(json.dumps(plain(_parsed.transform())))
