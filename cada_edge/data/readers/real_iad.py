"""Real-IAD (Wang et al., CVPR 2024), split by its official files, one per product.

::

    root/realiad_jsons/<product>.json                or realiad_jsons/realiad_jsons/<product>.json
         realiad_1024/<product>/OK/S0001/....jpg
                                NG/<defect>/S0001/....jpg, ....png

    {"meta": {"normal_class": "OK", "prefix": "<product>/"},
     "train": [{"category": ..., "anomaly_class": "OK", "image_path": "OK/S0001/....jpg", "mask_path": null}],
     "test": [...]}

Paths start at the images' folder and the prefix. The images come in several sizes
(``realiad_256``, ``_512``, ``_1024``, ``_raw``): where more than one lies in `root`, name one of
them as `root`; the split files are then looked for beside it. A view on which a defect cannot be
seen is labelled OK and has no mask.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cada_edge.data.dataset import Listing, Picture, Split
from cada_edge.data.readers.outside import file_inside, json_object
from cada_edge.data.walk import require_folder, visible_folders
from cada_edge.errors import DataError

_JSONS = "realiad_jsons"
_EXPECTED = (
    "Real-IAD: realiad_jsons/<product>.json, each with meta.normal_class, meta.prefix, train and test, "
    "beside one folder of images such as realiad_1024/"
)


def list_real_iad(root: Path) -> Listing:
    """Every picture that the split files name. Raises `DataError`."""
    require_folder(root, _EXPECTED)
    images, splits = _places(root)
    pictures = tuple(picture for path in splits for picture in _product(images, path))
    note = f"Real-IAD: split by {splits[0].parent.name}/*.json, pictures from {images.resolve().name}/."
    return Listing(root, pictures, (), (note,))


def _places(root: Path) -> tuple[Path, list[Path]]:
    """The folder of images and the split files."""
    sizes = [folder for folder in visible_folders(root) if folder.name.startswith("realiad_") and folder.name != _JSONS]
    if len(sizes) > 1:
        names = ", ".join(folder.name for folder in sizes)
        raise DataError(f"{root}: holds the images in {len(sizes)} sizes ({names}); name one of these folders instead")
    beside = root.resolve().parent
    home = beside if (beside / _JSONS).is_dir() and not (root / _JSONS).is_dir() else root
    for folder in (home / _JSONS / _JSONS, home / _JSONS):
        splits = sorted(folder.glob("*.json"))
        if splits:
            return (sizes[0] if sizes else root), splits
    raise DataError(f"{home / _JSONS}: found no split file; expected {_EXPECTED}")


def _product(images: Path, split_file: Path) -> Iterator[Picture]:
    document = json_object(split_file, _EXPECTED)
    try:
        normal, prefix = document["meta"]["normal_class"], document["meta"]["prefix"]
        entries: dict[Split, Any] = {"train": document["train"], "test": document["test"]}
    except (KeyError, TypeError) as error:
        raise DataError(f"{split_file}: does not hold {error}; expected {_EXPECTED}") from error
    for split, listed in entries.items():
        if not isinstance(listed, list):
            raise DataError(f"{split_file}: {split} is {type(listed).__name__}, expected a list of pictures")
        for number, entry in enumerate(listed):
            where = f"{split_file}, {split}[{number}]"
            if not isinstance(entry, dict) or not isinstance(entry.get("anomaly_class"), str):
                raise DataError(f"{where}: expected an object with category, anomaly_class, image_path and mask_path")
            defect = None if entry["anomaly_class"] == normal else entry["anomaly_class"]
            if split == "train" and defect is not None:
                raise DataError(f"{where}: shows a defect ({defect!r}); only {normal!r} is learned from")
            path = file_inside(images, f"{prefix}/{entry.get('image_path')}", where)
            masked = defect is not None and entry.get("mask_path") is not None
            masks = (file_inside(images, f"{prefix}/{entry['mask_path']}", where),) if masked else ()
            yield Picture(path, split_file.stem, split, defect, masks)
