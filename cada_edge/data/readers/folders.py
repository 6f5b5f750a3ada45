"""Data sets whose folders alone say what a picture is: MVTec AD, MVTec LOCO AD, MPDD, BTAD.

::

    root/<product>/train/good/000.png                        MVTec AD (Bergmann et al., IJCV 2021),
                   test/good/000.png                         MPDD (Jezek et al., ICUMT 2021)
                   test/<defect>/000.png
                   ground_truth/<defect>/000_mask.png

    root/<product>/train/good/000.png                        MVTec LOCO AD (Bergmann et al., IJCV 2022)
                   validation/good/000.png
                   test/{good,logical_anomalies,structural_anomalies}/000.png
                   ground_truth/{logical,structural}_anomalies/000/000.png, 001.png ...
                   defects_config.json

    root/{01,02,03}/train/ok/0000.bmp                        BTAD (Mishra et al., ISIE 2021)
                    test/{ok,ko}/0000.bmp
                    ground_truth/ko/0000.png or .bmp

`root` may also be one product's folder.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cada_edge.data.dataset import Listing, Picture
from cada_edge.data.walk import is_picture, require_folder, visible_files, visible_folders
from cada_edge.errors import DataError

_TEST, _TRUTH = "test", "ground_truth"
_LISTED = 8  # names in a message
_Masks = Mapping[tuple[str, str], list[Path]]


def _by_stem(mask: Path) -> str:
    """``000_mask.png`` or ``000.png`` belongs to picture ``000``."""
    return mask.stem.removesuffix("_mask")


def _by_folder(mask: Path) -> str:
    """``000/001.png`` belongs to picture ``000``."""
    return mask.parent.name


@dataclass(frozen=True)
class FolderLayout:
    """How one data set names its folders, below each product.

    Attributes:
        name: of the data set, for messages.
        train: folders of good pictures to learn from.
        good: the folder in ``test`` that holds good pictures.
        defects: the other folders in ``test``; empty where any name is a kind of defect.
        stem_of: the stem of the picture that a mask file belongs to.
        mask: where a mask lies, for messages.
        note: what a reader of the figures must know, or empty.
    """

    name: str
    train: tuple[str, ...] = ("train/good",)
    good: str = "good"
    defects: tuple[str, ...] = ()
    stem_of: Callable[[Path], str] = _by_stem
    mask: str = f"{_TRUTH}/{{defect}}/{{stem}}_mask.png"
    note: str = ""

    def expected(self) -> str:
        """The layout in words."""
        tests = " and ".join(f"{_TEST}/{kind}/" for kind in (self.good, *(self.defects or ("<defect>",))))
        return f"layout of {self.name}: each product a folder with {', '.join(f'{t}/' for t in self.train)} and {tests}"


FOLDER_LAYOUTS: Mapping[str, FolderLayout] = {
    "mvtec-ad": FolderLayout("MVTec AD"),
    "mvtec-loco": FolderLayout(
        "MVTec LOCO AD",
        train=("train/good", "validation/good"),
        defects=("logical_anomalies", "structural_anomalies"),
        stem_of=_by_folder,
        mask=f"{_TRUTH}/{{defect}}/{{stem}}/000.png",
        note=(
            "MVTec LOCO AD: validation/good is learned from as train/good is. Every annotated pixel counts alike and "
            "whole: the saturation thresholds of defects_config.json are not applied, so AUPRO here is not the sPRO "
            "of the data set's authors."
        ),
    ),
    "mpdd": FolderLayout("MPDD"),
    "btad": FolderLayout(
        "BTAD", train=("train/ok",), good="ok", defects=("ko",), mask=f"{_TRUTH}/{{defect}}/{{stem}}.png or .bmp"
    ),
}


def list_folders(root: Path, layout: FolderLayout) -> Listing:
    """Every picture of every product below `root`.

    Raises:
        DataError: no product, a product without training or test pictures, a picture in an
            unexpected place, or a defective one without a mask.
    """
    require_folder(root, layout.expected())
    alone = (root / "train").is_dir()
    folders = [root] if alone else visible_folders(root)
    if not folders:
        raise DataError(f"{root}: holds no folder; {layout.expected()}")
    files: dict[Path, list[Path]] = {folder: [] for folder in (root, *folders)}
    for path in visible_files(root):
        first, *rest = path.relative_to(root).parts
        files[root if alone or not rest else root / first].append(path)
    products = [_product(folder, files[folder], layout) for folder in folders]
    ignored = [] if alone else files[root]
    ignored += [path for product in products for path in product.ignored]
    pictures = (picture for product in products for picture in product.pictures)
    return Listing(root, tuple(pictures), tuple(ignored), (layout.note,) if layout.note else ())


def _product(folder: Path, files: Sequence[Path], layout: FolderLayout) -> Listing:
    top = {path: path.relative_to(folder).parts[0] for path in files}
    masks: defaultdict[tuple[str, str], list[Path]] = defaultdict(list)
    for path in files:
        if top[path] == _TRUTH and is_picture(path):
            masks[path.relative_to(folder).parts[1], layout.stem_of(path)].append(path)
    found = {path: _picture(folder, layout, path, masks) for path in files if top[path] != _TRUTH}
    pictures = tuple(picture for picture in found.values() if picture is not None)
    for split, places in (("train", layout.train), (_TEST, (_TEST,))):
        if not any(picture.split == split for picture in pictures):
            wanted = " or ".join(f"{place}/" for place in places)
            there = ", ".join(sorted(set(top.values()))[:_LISTED]) or "nothing"
            raise DataError(f"{folder}: no picture in {wanted}, found {there}; {layout.expected()}")
    return Listing(folder, pictures, tuple(path for path, picture in found.items() if picture is None))


def _picture(folder: Path, layout: FolderLayout, path: Path, masks: _Masks) -> Picture | None:
    """The picture at `path`, or None where it is none and lies in no split."""
    parts, product = path.relative_to(folder).parts, folder.resolve().name
    splits = {_TEST, *(place.split("/")[0] for place in layout.train)}
    if not is_picture(path) or parts[0] not in splits:
        return None
    place, kind = "/".join(parts[:-1]), parts[1]
    if place in layout.train:
        return Picture(path, product, "train")
    if place == f"{_TEST}/{layout.good}":
        return Picture(path, product, "test")
    known = not layout.defects or kind in layout.defects
    if parts[0] != _TEST or len(parts) != 3 or not known:
        raise DataError(f"{path}: unexpected place for a picture; {layout.expected()}")
    own = masks.get((kind, path.stem), [])
    if not own:
        expected = folder / layout.mask.format(defect=kind, stem=path.stem)
        raise DataError(
            f"{path}: shows a defect but has no mask; expected {expected} (layout 'auto' does without masks)"
        )
    return Picture(path, product, "test", kind, tuple(sorted(own)))
