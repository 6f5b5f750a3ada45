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

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cada_edge import imaging
from cada_edge.bundle import data_sha256
from cada_edge.data.walk import SUFFIXES, is_picture, require_folder, visible_files, visible_folders
from cada_edge.errors import DataError

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
        masks: ground-truth masks of a defect, to be united; empty where there is none.
    """

    path: Path
    sha256: str
    product: str
    split: Split
    defect: str | None = None
    masks: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Dataset:
    """The pictures under `root`.

    Attributes:
        root: the folder that was scanned.
        items: sorted by path.
        ignored: visible files that are no picture by name, or lie outside the layout.
        notes: what a reader of its figures must know of how it was read; sentences.
    """

    root: Path
    items: tuple[Item, ...]
    ignored: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()

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


@dataclass(frozen=True)
class Picture:
    """What a layout says of one file before its bytes are read; fields as in `Item`."""

    path: Path
    product: str
    split: Split
    defect: str | None = None
    masks: tuple[Path, ...] = ()

    def hashed(self) -> Item:
        """The item, its digest read. Raises `DataError`."""
        digest = imaging.image_digest(self.path)
        return Item(self.path, digest, self.product, self.split, self.defect, self.masks)


@dataclass(frozen=True)
class Listing:
    """What a reader found; fields as in `Dataset`."""

    root: Path
    pictures: tuple[Picture, ...]
    ignored: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()

    def hashed(self, progress: Callable[[int, int], None] | None = None) -> Dataset:
        """The data set, every digest read. `progress` is called with (done, total). Raises `DataError`."""
        items = []
        for done, picture in enumerate(sorted(self.pictures, key=lambda picture: picture.path), start=1):
            items.append(picture.hashed())
            if progress is not None:
                progress(done, len(self.pictures))
        return Dataset(self.root, tuple(items), tuple(sorted(self.ignored)), self.notes)


def scan(root: Path) -> Dataset:
    """Find and hash every picture under `root`; nothing is decoded yet (see `check`).

    Hidden files are skipped, other files without a picture's suffix go to `ignored`.

    Raises:
        DataError: no folder, no picture, a product without ``train/good``, or a link that
            leads out of `root`.
    """
    return find_pictures(root).hashed()


def find_pictures(root: Path) -> Listing:
    """As `scan`, before anything is hashed."""
    root = Path(root)
    require_folder(root, LAYOUTS)
    products = product_folders(root)
    files = list(visible_files(root))
    paths = [path for path in files if is_picture(path)]
    if not paths:
        raise DataError(f"{root}: found no picture among {len(files)} files; {LAYOUTS}")
    pictures = _layout_pictures(products, paths) if products else _plain_pictures(root, paths)
    masks = {folder / "ground_truth" for folder in products}
    used = {picture.path for picture in pictures}
    ignored = (path for path in files if path not in used and not masks & set(path.parents))
    return Listing(root, tuple(pictures), tuple(ignored))


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
    for mask in item.masks:
        mask_shape = imaging.read_mask(mask).shape
        if mask_shape != shape:
            raise DataError(f"{mask}: mask is {mask_shape} px (H, W), its image {item.path.name} is {shape}")


def _has_split(folder: Path) -> bool:
    return (folder / "train").is_dir() or (folder / "test").is_dir()


def product_folders(root: Path) -> list[Path]:
    """Folders in MVTec AD layout: `root` itself, its children, or none (a plain folder)."""
    if _has_split(root):
        candidates = [root]
    else:
        children = visible_folders(root)
        candidates = children if any(_has_split(child) for child in children) else []
    for folder in candidates:
        if not (folder / "train" / _GOOD).is_dir():
            raise DataError(
                f"{folder}: has no folder train/{_GOOD}, though this is a data set of train and test folders; {LAYOUTS}"
            )
    return candidates


def _plain_pictures(root: Path, paths: Sequence[Path]) -> list[Picture]:
    inside = {path: path.relative_to(root).parts for path in paths}
    product = {path: parts[0] if len(parts) > 1 else "" for path, parts in inside.items()}
    others = sorted(set(product.values()) - {_GOOD})
    if _GOOD in product.values() and others:
        raise DataError(
            f"{root}: has {_GOOD}/ beside {others[0] or 'pictures'}; only good images are learned from: "
            f"name {root / _GOOD}, or use the layout <product>/train/{_GOOD} and <product>/test/<defect>"
        )
    return [Picture(path, product[path], "train") for path in paths]


def _layout_pictures(products: Sequence[Path], paths: Sequence[Path]) -> list[Picture]:
    pictures = []
    for folder in products:
        name = folder.resolve().name
        inside = [path for path in paths if folder in path.parents]
        found = [picture for path in inside if (picture := _layout_picture(folder, name, path)) is not None]
        if not any(picture.split == "train" for picture in found):
            raise DataError(f"{folder / 'train' / _GOOD}: holds no picture; {LAYOUTS}")
        pictures += found
    return pictures


def _layout_picture(folder: Path, product: str, path: Path) -> Picture | None:
    """The picture at `path`, or None where it is no part of train or test (a mask, say)."""
    parts = path.relative_to(folder).parts
    split, middle = parts[0], parts[1:-1]
    if split == "train":
        if middle[:1] != (_GOOD,):
            raise DataError(f"{path}: lies in train/ but not in train/good/; only good images are learned from")
        return Picture(path, product, "train")
    if split != "test":
        return None
    if not middle:
        raise DataError(f"{path}: lies in test/ itself; expected test/good/ or test/<defect>/")
    if middle[0] == _GOOD:
        return Picture(path, product, "test")
    masks = _find_masks(folder / "ground_truth" / Path(*middle), path.stem)
    return Picture(path, product, "test", middle[0], masks)


def _find_masks(folder: Path, stem: str) -> tuple[Path, ...]:
    names = (f"{stem}_mask.png", f"{stem}.png")
    return tuple(folder / name for name in names if (folder / name).is_file())[:1]
