"""Passwords and tokens: read from where they are kept, told to nobody."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from cada_edge.errors import SinkError


def secret(path: Path | None, variable: str | None, environment: Mapping[str, str] = os.environ) -> str | None:
    """A password or token from a file's first line or the environment; ``None`` where neither is named.

    Raises `SinkError` naming the place, never the value.
    """
    if path is not None:
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise SinkError(f"{path}: cannot read the secret: {type(error).__name__}; check the path") from error
        return _checked(lines[0].strip() if lines else "", str(path))
    if variable is None:
        return None
    return _checked(environment.get(variable, ""), f"environment variable {variable}")


def _checked(value: str, place: str) -> str:
    if not value or not value.isascii() or not value.isprintable():
        problem = "is empty" if not value else "holds characters that are not printable ASCII"
        raise SinkError(f"{place}: the secret {problem}; put it there, or name another place")
    return value
