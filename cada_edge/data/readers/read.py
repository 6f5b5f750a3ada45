"""One function for every layout."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from cada_edge.data.dataset import Dataset, Listing, find_pictures, product_folders
from cada_edge.data.readers.folders import FOLDER_LAYOUTS, list_folders
from cada_edge.data.readers.manifest import list_manifest
from cada_edge.data.readers.real_iad import list_real_iad
from cada_edge.data.readers.visa import list_visa
from cada_edge.errors import ConfigError, DataError


def read_dataset(root: Path, layout: str = "auto", progress: Callable[[int, int], None] | None = None) -> Dataset:
    """Find, by `layout`, and hash every picture of a data set; nothing is decoded yet (see `check`).

    Args:
        root: the data set's folder; for ``csv`` the manifest file.
        layout: one of `LAYOUTS`.
        progress: called with (images hashed, images in all).

    Raises:
        ConfigError: unknown layout.
        DataError: `root` does not follow it: what was expected where, and
            what was found. A file that a split names and that is not there, by name.
    """
    reader = _READERS.get(layout)
    if reader is None:
        raise ConfigError(f"layout: got {layout!r}, expected one of {', '.join(LAYOUTS)}")
    return reader(Path(root)).hashed(progress)


def list_plain(root: Path) -> Listing:
    """Every picture below `root`, all good. Raises `DataError` where there are train or test folders."""
    listing = find_pictures(root)
    if product_folders(root):
        raise DataError(
            f"{root}: has train/ and test/ folders, but layout 'folder' takes every picture for a good one; "
            "use layout 'auto' or 'mvtec-ad'"
        )
    return listing


_READERS: Mapping[str, Callable[[Path], Listing]] = {
    "auto": find_pictures,
    "folder": list_plain,
    "csv": list_manifest,
    **{name: partial(list_folders, layout=layout) for name, layout in FOLDER_LAYOUTS.items()},
    "visa": list_visa,
    "real-iad": list_real_iad,
}
LAYOUTS = tuple(_READERS)
