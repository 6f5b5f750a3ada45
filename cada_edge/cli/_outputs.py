"""Where a command writes at its end, tested at its beginning."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cada_edge.container import MANIFEST
from cada_edge.errors import DataError
from cada_edge.files import is_special


@contextmanager
def _told(option: str, path: Path) -> Iterator[None]:
    """What the system says of a path, as `DataError`."""
    try:
        yield
    except OSError as error:
        raise DataError(f"{option} {path}: {error.strerror or error}; name another") from error


def check_output(option: str, path: Path | None) -> None:
    """Fail before the long work, not after it; ``None`` is nothing to write. Raises `DataError`."""
    if path is None:
        return
    with _told(option, path):
        if path.is_dir():
            raise DataError(f"{option} {path}: is a folder; name a file in it")
        _check_folder(option, path)


def check_bundle_output(option: str, path: Path) -> None:
    """As `check_output` for a bundle, which may also be a folder: one that holds a bundle, or nothing."""
    with _told(option, path):
        if path.is_dir() and not (path / MANIFEST).exists() and any(path.iterdir()):
            raise DataError(f"{option} {path}: is a folder of something else; name a new file or an empty folder")
        _check_folder(option, path)


def check_folder_output(option: str, path: Path | None) -> None:
    """As `check_output` for a folder to make or to fill."""
    if path is None:
        return
    with _told(option, path):
        nearest = next(one for one in (path, *path.absolute().parents) if one.exists())
        if not nearest.is_dir():
            raise DataError(f"{option} {path}: {nearest} is no folder; name another")
        if not os.access(nearest, os.W_OK | os.X_OK):
            raise DataError(f"{option} {path}: folder {nearest} cannot be written; name another")


def _check_folder(option: str, path: Path) -> None:
    if is_special(path):
        raise DataError(f"{option} {path}: is a device or a pipe; name a file")
    if not path.parent.is_dir():
        raise DataError(f"{option} {path}: folder {path.parent} does not exist; make it, or name another file")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise DataError(f"{option} {path}: folder {path.parent} cannot be written; name a file in another")
