"""Folders of pictures as a list of items, each known by the sha256 of its bytes.

Three layouts are understood::

    root/<product>/train/good/*.png         MVTec AD, any number of products
                   test/good/*.png
                   test/<defect>/*.png
                   ground_truth/<defect>/<stem>_mask.png
    root/train/good/*.png ...               one such product
    root/**/*.png                           good images only; a first-level folder names the product

Product names serve reports only; no training or scoring code may read them.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cada_edge import imaging
from cada_edge.bundle import data_sha256
from cada_edge.errors import DataError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
LAYOUTS = (
    "expected good images in the folder itself, in <product>/train/good/ or in train/good/ "
    f"({', '.join(sorted(SUFFIXES))})"
)
_GOOD = "good"
_LISTED = 5

Split = Literal["train", "test"]


@dataclass(frozen=True)
class Item:
    """One picture of a data set.

    Attributes:
        path: the file.
        sha256: of the file's bytes, 64 hex digits.
        product: folder name, for reports only; may be empty.
        split: ``train`` (always good) or ``test``.
        defect: kind of defect, ``None`` for a good part.
        mask: ground-truth mask of a defect, or ``None`` where there is none.
    """

    path: Path
    sha256: str
    product: str
    split: Split
    defect: str | None = None
    mask: Path | None = None


@dataclass(frozen=True)
class Dataset:
    """The pictures under `root`.

    Attributes:
        root: the folder that was scanned.
        items: sorted by path.
        ignored: visible files that are no picture by name, or lie outside the layout.
    """

    root: Path
    items: tuple[Item, ...]
    ignored: tuple[Path, ...] = ()

    def __len__(self) -> int:
        return len(self.items)

    def train(self) -> tuple[Item, ...]:
        """The good pictures to learn from, sorted by path."""
        return tuple(item for item in self.items if item.split == "train")

    def test(self) -> tuple[Item, ...]:
        """The good and defective pictures to judge, sorted by path."""
        return tuple(item for item in self.items if item.split == "test")

    def products(self) -> tuple[str, ...]:
        """Product names, sorted, each once."""
        return tuple(sorted({item.product for item in self.items}))

    @property
    def sha256(self) -> str:
        """Digest of the set of images, as `cada_edge.bundle.data_sha256`."""
        return data_sha256(item.sha256 for item in self.items)


def scan(root: Path) -> Dataset:
    """Find and hash every picture under `root`; nothing is decoded yet (see `check`).

    Hidden files are skipped, other files without a picture's suffix go to `ignored`.

    Raises:
        DataError: no folder, no picture, a product without ``train/good``, or a link that
            leads out of `root`.
    """
    root = Path(root)
    if not root.is_dir():
        what = "is a file" if root.exists() else "does not exist"
        raise DataError(f"{root}: {what}, expected a folder; {LAYOUTS}")
    products = _product_folders(root)
    files = list(_files(root))
    pictures = [path for path in files if path.suffix.lower() in SUFFIXES]
    if not pictures:
        raise DataError(f"{root}: found no picture among {len(files)} files; {LAYOUTS}")
    items = _layout_items(products, pictures) if products else _plain_items(root, pictures)
    masks = {folder / "ground_truth" for folder in products}
    used = {item.path for item in items}
    ignored = (path for path in files if path not in used and not masks & set(path.parents))
    return Dataset(root, tuple(sorted(items, key=lambda item: item.path)), tuple(sorted(ignored)))


def check(items: Iterable[Item], progress: Callable[[int, int], None] | None = None) -> None:
    """Decode every picture and mask once.

    Args:
        items: what to check.
        progress: called with (done, total) after each item.

    Raises:
        DataError: once, after all were tried: how many are broken and the first five.
    """
    todo = tuple(items)
    broken: list[str] = []
    for done, item in enumerate(todo, start=1):
        try:
            _check_item(item)
        except DataError as error:
            broken.append(str(error))
        if progress is not None:
            progress(done, len(todo))
    if broken:
        more = f"\n  ... and {len(broken) - _LISTED} more" if len(broken) > _LISTED else ""
        listed = "".join(f"\n  {line}" for line in broken[:_LISTED])
        raise DataError(f"{len(broken)} of {len(todo)} images cannot be used; mend or remove them:{listed}{more}")


def duplicates(items: Iterable[Item]) -> tuple[tuple[Item, ...], ...]:
    """Groups of two or more byte-identical pictures, each group in the given order."""
    return tuple(tuple(group) for group in _by_digest(items).values() if len(group) > 1)


def leaks(items: Iterable[Item]) -> tuple[tuple[Item, Item], ...]:
    """Pairs (train, test) of byte-identical pictures: a test score that proves nothing."""
    pairs: list[tuple[Item, Item]] = []
    for group in _by_digest(items).values():
        train = [item for item in group if item.split == "train"]
        pairs += [(train[0], item) for item in group if train and item.split == "test"]
    return tuple(pairs)


def _by_digest(items: Iterable[Item]) -> dict[str, list[Item]]:
    groups: defaultdict[str, list[Item]] = defaultdict(list)
    for item in items:
        groups[item.sha256].append(item)
    return groups


def _check_item(item: Item) -> None:
    shape = imaging.read_image(item.path).shape[:2]
    if item.mask is None:
        return
    mask_shape = imaging.read_mask(item.mask).shape
    if mask_shape != shape:
        raise DataError(f"{item.mask}: mask is {mask_shape} px (H, W), its image {item.path.name} is {shape}")


def _files(root: Path) -> Iterator[Path]:
    """Every visible file under `root`, links followed only where they stay inside."""
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


def _folders(parent: Path) -> list[Path]:
    try:
        return sorted(path for path in parent.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError as error:
        raise DataError(f"{parent}: cannot list the folder: {error.strerror or error}") from error


def _has_split(folder: Path) -> bool:
    return (folder / "train").is_dir() or (folder / "test").is_dir()


def _product_folders(root: Path) -> list[Path]:
    """Folders in MVTec AD layout: `root` itself, its children, or none (a plain folder)."""
    if _has_split(root):
        candidates = [root]
    else:
        children = _folders(root)
        candidates = children if any(_has_split(child) for child in children) else []
    for folder in candidates:
        if not (folder / "train" / _GOOD).is_dir():
            raise DataError(
                f"{folder}: has no folder train/{_GOOD}, though this is a data set of train and test folders; {LAYOUTS}"
            )
    return candidates


def _plain_items(root: Path, pictures: Sequence[Path]) -> list[Item]:
    inside = {path: path.relative_to(root).parts for path in pictures}
    product = {path: parts[0] if len(parts) > 1 else "" for path, parts in inside.items()}
    others = sorted(set(product.values()) - {_GOOD})
    if _GOOD in product.values() and others:
        raise DataError(
            f"{root}: has {_GOOD}/ beside {others[0] or 'pictures'}; only good images are learned from: "
            f"name {root / _GOOD}, or use the layout <product>/train/{_GOOD} and <product>/test/<defect>"
        )
    return [Item(path, imaging.image_digest(path), product[path], "train") for path in pictures]


def _layout_items(products: Sequence[Path], pictures: Sequence[Path]) -> list[Item]:
    items = []
    for folder in products:
        name = folder.resolve().name
        inside = [path for path in pictures if folder in path.parents]
        found = [item for path in inside if (item := _layout_item(folder, name, path)) is not None]
        if not any(item.split == "train" for item in found):
            raise DataError(f"{folder / 'train' / _GOOD}: holds no picture; {LAYOUTS}")
        items += found
    return items


def _layout_item(folder: Path, product: str, path: Path) -> Item | None:
    """The item at `path`, or None where it is no part of train or test (a mask, say)."""
    parts = path.relative_to(folder).parts
    split, middle = parts[0], parts[1:-1]
    if split == "train":
        if middle[:1] != (_GOOD,):
            raise DataError(f"{path}: lies in train/ but not in train/good/; only good images are learned from")
        return Item(path, imaging.image_digest(path), product, "train")
    if split != "test":
        return None
    if not middle:
        raise DataError(f"{path}: lies in test/ itself; expected test/good/ or test/<defect>/")
    if middle[0] == _GOOD:
        return Item(path, imaging.image_digest(path), product, "test")
    mask = _find_mask(folder / "ground_truth" / Path(*middle), path.stem)
    return Item(path, imaging.image_digest(path), product, "test", middle[0], mask)


def _find_mask(folder: Path, stem: str) -> Path | None:
    names = (f"{stem}_mask.png", f"{stem}.png")
    return next((folder / name for name in names if (folder / name).is_file()), None)
