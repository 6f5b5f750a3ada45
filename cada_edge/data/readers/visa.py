"""VisA (Zou et al., ECCV 2022), split by its official one-class file.

::

    root/split_csv/1cls.csv                     object,split,label,image,mask
         <product>/Data/Images/Normal/0000.JPG
                        Images/Anomaly/000.JPG
                        Masks/Anomaly/000.png

The split file's paths start at `root`. Masks hold small numbers, one per kind of defect.
"""

from __future__ import annotations

from pathlib import Path

from cada_edge.data.dataset import Listing, Picture
from cada_edge.data.readers.outside import csv_rows, file_inside
from cada_edge.data.walk import require_folder
from cada_edge.errors import DataError

SPLIT_FILE = "split_csv/1cls.csv"
_COLUMNS = {"object", "split", "label", "image", "mask"}
_NORMAL, _ANOMALY = "normal", "anomaly"
_EXPECTED = f"the official split of VisA, {SPLIT_FILE} with columns object,split,label,image,mask"


def list_visa(root: Path) -> Listing:
    """Every picture that the split file names. Raises `DataError`."""
    require_folder(root, _EXPECTED)
    split_file = root / SPLIT_FILE
    rows = csv_rows(split_file, _COLUMNS, set(), _EXPECTED)
    pictures = tuple(_picture(root, where, row) for where, row in rows)
    if not pictures:
        raise DataError(f"{split_file}: names no picture; expected {_EXPECTED}")
    return Listing(root, pictures)


def _picture(root: Path, where: str, row: dict[str, str]) -> Picture:
    split, label, product = row["split"], row["label"], row["object"]
    if not product:
        raise DataError(f"{where}: object is empty, expected the product's name")
    path = file_inside(root, row["image"], where)
    if (split, label) == ("train", _NORMAL):
        return Picture(path, product, "train")
    if (split, label) == ("test", _NORMAL):
        return Picture(path, product, "test")
    if (split, label) == ("test", _ANOMALY):
        return Picture(path, product, "test", _ANOMALY, (file_inside(root, row["mask"], where),))
    raise DataError(
        f"{where}: split {split!r} with label {label!r}, expected train normal, test normal or test anomaly"
    )
