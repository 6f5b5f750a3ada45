"""Files and folders as a data set may hold them: visible, regular, inside its root."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from cada_edge.errors import DataError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})


def require_folder(root: Path, expected: str) -> None:
    """Raise `DataError` unless `root` is a folder; `expected` says what it should hold."""
    if not root.is_dir():
        what = "is a file" if root.exists() else "does not exist"
        raise DataError(f"{root}: {what}, expected a folder; {expected}")


def is_picture(path: Path) -> bool:
    """Whether the name has a picture's suffix, in upper or lower case."""
    return path.suffix.lower() in SUFFIXES


def visible_files(root: Path) -> Iterator[Path]:
    """Every visible file under `root`, sorted within its folder; links are followed only where they stay inside.

    Raises `DataError` for a folder that cannot be listed, and for a link that leads out of `root` or to a folder.
    """
    home = root.resolve()
    for folder, subfolders, names in os.walk(root, onerror=_cannot_list):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        for name in sorted(subfolders + names):
            path = Path(folder, name)
            if name.startswith("."):
                continue
            if path.is_symlink():
                _check_link(path, home)
            if name not in subfolders:
                yield path


def _cannot_list(error: OSError) -> None:
    raise DataError(f"{error.filename}: cannot list the folder: {error.strerror}") from error


def _check_link(path: Path, home: Path) -> None:
    target = path.resolve()
    if target.is_dir():
        raise DataError(f"{path}: is a link to a folder, which is not followed; name or copy that folder instead")
    if not target.is_relative_to(home) or not target.is_file():
        raise DataError(f"{path}: links to {target}, expected a file inside {home}; copy the file instead")


def visible_folders(parent: Path) -> list[Path]:
    """The folders in `parent`, sorted, without hidden ones. Raises `DataError`."""
    try:
        return sorted(path for path in parent.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError as error:
        raise DataError(f"{parent}: cannot list the folder: {error.strerror or error}") from error
