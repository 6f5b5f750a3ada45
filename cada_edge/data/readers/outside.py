"""Split files come from outside: what they name is hostile until checked."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from cada_edge.errors import DataError

MAX_BYTES = 256 << 20  # of one split file; Real-IAD's largest is far below
_SHOWN = 200  # characters of a hostile text in a message


def file_inside(folder: Path, text: object, where: str) -> Path:
    """The file that a split file names.

    Args:
        folder: where relative paths start and where they must end, links followed.
        text: as found in the split file.
        where: split file and line or entry, for messages.

    Raises:
        DataError: no text, an absolute path, one that leads out of `folder`, or no regular file there.
    """
    if not isinstance(text, str) or not text.strip():
        raise DataError(f"{where}: names {_short(text)}, expected a file's path relative to {folder}")
    relative = PurePosixPath(text)
    if relative.is_absolute() or ".." in relative.parts:
        raise DataError(f"{where}: names {_short(text)}, expected a path that stays inside {folder}")
    path = folder / relative
    try:
        inside = path.resolve().is_relative_to(folder.resolve())
        regular = path.is_file()
    except (OSError, ValueError, RuntimeError) as error:  # too long, a NUL, a loop of links
        why = getattr(error, "strerror", None) or type(error).__name__
        raise DataError(f"{where}: names {_short(text)}, which is no usable path: {why}") from error
    if not inside:
        raise DataError(f"{where}: names {_short(text)}, which links out of {folder}; copy the file instead")
    if not regular:
        what = "is no regular file" if path.exists() else "does not exist"
        raise DataError(f"{where}: names {_short(text)}, which {what} in {folder}")
    return path


def csv_rows(path: Path, needed: set[str], optional: set[str], expected: str) -> Iterator[tuple[str, dict[str, str]]]:
    """The rows of a CSV file with a header, as (file and line, column to text without outer blanks).

    Args:
        path: the file.
        needed: columns it must have.
        optional: columns it may have; any other is an error, as it may be a slip of the pen.
        expected: the file in words, for messages.

    Raises:
        DataError: no such file, too large, not UTF-8, not CSV, other columns, or a row of
            another length than the header.
    """
    reader = csv.DictReader(io.StringIO(_text(path, expected), newline=""), strict=True)
    try:
        header = reader.fieldnames = [name.strip() for name in reader.fieldnames or []]
        if not needed <= set(header) <= needed | optional or len(set(header)) < len(header):
            raise DataError(f"{path}: has columns {_short(header)}; expected {expected}")
        for row in reader:
            where = f"{path}, line {reader.line_num}"
            if None in row or None in row.values():
                raise DataError(f"{where}: expected the {len(header)} fields of the header, {','.join(header)}")
            yield where, {name: text.strip() for name, text in row.items()}
    except csv.Error as error:
        raise DataError(f"{path}, after line {reader.line_num}: not CSV: {error}") from error


def json_object(path: Path, expected: str) -> dict[str, Any]:
    """The JSON object in a file. Raises `DataError` when there is none."""
    try:
        document = json.loads(_text(path, expected))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not JSON: {error}; expected {expected}") from error
    if not isinstance(document, dict):
        raise DataError(f"{path}: holds {type(document).__name__}, expected {expected}")
    return document


def _text(path: Path, expected: str) -> str:
    if not path.is_file():
        what = "is no regular file" if path.exists() else "does not exist"
        raise DataError(f"{path}: {what}; expected {expected}")
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise DataError(f"{path}: {size} bytes, at most {MAX_BYTES} are read; expected {expected}")
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"{path}: cannot read the file: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text: {error.reason} at byte {error.start}; save it as UTF-8") from error


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
