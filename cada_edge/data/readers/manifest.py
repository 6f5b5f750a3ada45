"""A CSV manifest: any pictures, listed by you.

::

    path,product,split,label,mask
    cam1/0001.png,nut,train,good,
    cam1/0002.png,nut,test,good,
    cam1/0003.png,nut,test,bent,masks/0003.png
    cam1/0004.png,nut,test,bent,masks/0004_a.png;masks/0004_b.png

Only ``path`` is needed. Paths start at the manifest's folder and must stay inside it. ``product``
serves reports only. ``split`` is train or test; without the column every picture is a good one to
learn from. ``label`` is good (also: normal, ok, 0 or empty, in any case), else it names the defect;
training pictures are good. ``mask`` may name several files, divided by ``;``.
"""

from __future__ import annotations

from pathlib import Path

from cada_edge.data.dataset import Listing, Picture
from cada_edge.data.readers.outside import csv_rows, file_inside
from cada_edge.errors import DataError

_OPTIONAL = {"product", "split", "label", "mask"}
_GOOD = frozenset({"", "good", "normal", "ok", "0"})
_EXPECTED = "a CSV file with the columns path[,product][,split][,label][,mask]"


def list_manifest(manifest: Path) -> Listing:
    """Every picture that the manifest names, below its folder. Raises `DataError`."""
    pictures: dict[Path, Picture] = {}
    for where, row in csv_rows(manifest, {"path"}, _OPTIONAL, _EXPECTED):
        picture = _picture(manifest.parent, where, row)
        if picture.path in pictures:
            raise DataError(f"{where}: names {picture.path} a second time; list each picture once")
        pictures[picture.path] = picture
    if not pictures:
        raise DataError(f"{manifest}: names no picture; expected {_EXPECTED}")
    return Listing(manifest.parent, tuple(pictures.values()))


def _picture(folder: Path, where: str, row: dict[str, str]) -> Picture:
    path, label = file_inside(folder, row["path"], where), row.get("label", "")
    defect = None if label.lower() in _GOOD else label
    split = row.get("split", "train").lower()
    masks = tuple(file_inside(folder, text.strip(), where) for text in row.get("mask", "").split(";") if text.strip())
    if defect is None and masks:
        raise DataError(f"{where}: has a mask though its label {label!r} means good; name the defect or drop the mask")
    if split == "train" and defect is None:
        return Picture(path, row.get("product", ""), "train")
    if split == "test":
        return Picture(path, row.get("product", ""), "test", defect, masks)
    if split == "train":
        raise DataError(
            f"{where}: label {label!r} is a defect, but only good pictures are learned from; set split to test"
        )
    raise DataError(f"{where}: split is {split!r}, expected train or test")
