"""MVTec AD, MPDD, BTAD, MVTec LOCO AD and plain folders, each on a tiny tree in its original layout."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest

from cada_edge.data.dataset import Dataset, check, scan
from cada_edge.data.readers import LAYOUTS, read_dataset
from cada_edge.errors import ConfigError, DataError
from cada_edge.evaluation.masks import united_mask

Draw = Callable[[Iterable[str]], None]
Row = tuple[str, str, str, str | None, tuple[str, ...]]


def rows(dataset: Dataset) -> list[Row]:
    """(path, product, split, defect, masks) of every item, paths below the root."""
    root = dataset.root
    return [
        (
            str(item.path.relative_to(root)),
            item.product,
            item.split,
            item.defect,
            tuple(str(mask.relative_to(root)) for mask in item.masks),
        )
        for item in dataset.items
    ]


@pytest.fixture
def mvtec(tmp_path: Path, draw: Draw, mask: Callable[..., None]) -> Path:
    """MVTec AD: two products, with the licence text that lies beside them."""
    for product in ("bottle", "cable"):
        draw(f"{product}/{name}" for name in ("train/good/000.png", "test/good/000.png", "test/bent/000.png"))
        mask(f"{product}/ground_truth/bent/000_mask.png", slice(0, 4))
    (tmp_path / "license.txt").write_text("CC BY-NC-SA 4.0")
    (tmp_path / "cable/readme.txt").write_text("a cable")
    return tmp_path


@pytest.mark.parametrize("layout", ["mvtec-ad", "mpdd"])
def test_mvtec_ad_and_mpdd_are_read_whole(mvtec: Path, layout: str) -> None:
    """Every picture knows product, split, defect and mask; texts are ignored, and named."""
    dataset = read_dataset(mvtec, layout)
    assert rows(dataset)[:3] == [
        ("bottle/test/bent/000.png", "bottle", "test", "bent", ("bottle/ground_truth/bent/000_mask.png",)),
        ("bottle/test/good/000.png", "bottle", "test", None, ()),
        ("bottle/train/good/000.png", "bottle", "train", None, ()),
    ]
    assert dataset.products() == ("bottle", "cable")
    assert dataset.ignored == (mvtec / "cable/readme.txt", mvtec / "license.txt")
    check(dataset.items)


def test_the_strict_layout_gives_what_the_automatic_one_gives(mvtec: Path) -> None:
    """On a complete MVTec AD tree both name the same items, digests included."""
    assert read_dataset(mvtec, "mvtec-ad").items == read_dataset(mvtec).items == scan(mvtec).items


def test_one_product_alone_is_a_data_set(mvtec: Path) -> None:
    """The folder of one product gives that product's items."""
    whole = read_dataset(mvtec, "mvtec-ad").items
    assert read_dataset(mvtec / "cable", "mvtec-ad").items == tuple(i for i in whole if i.product == "cable")


def test_a_defect_without_its_mask_is_an_error_that_says_where_it_should_be(mvtec: Path) -> None:
    """A benchmark's pixel figures never rest on part of the masks."""
    (mvtec / "bottle/ground_truth/bent/000_mask.png").unlink()
    with pytest.raises(DataError, match=r"test/bent/000\.png: .* no mask; expected .*ground_truth/bent/000_mask\.png"):
        read_dataset(mvtec, "mvtec-ad")


@pytest.mark.parametrize("place", ["train/bent/1.png", "test/1.png", "test/bent/deep/1.png", "train/1.png"])
def test_a_picture_in_an_unexpected_place_is_refused(mvtec: Path, draw: Draw, place: str) -> None:
    """The message names the picture and the layout."""
    draw([f"bottle/{place}"])
    with pytest.raises(DataError, match=rf"{place}: unexpected place for a picture; layout of MVTec AD"):
        read_dataset(mvtec, "mvtec-ad")


def test_a_folder_of_something_else_says_what_was_expected_and_found(mvtec: Path, draw: Draw) -> None:
    """A product without training pictures, and products one level too deep."""
    draw(["tile/validation/good/000.png"])
    with pytest.raises(DataError, match=r"tile: no picture in train/good/, found validation; layout of MVTec AD"):
        read_dataset(mvtec, "mvtec-ad")
    (mvtec / "sets").mkdir()
    (mvtec / "bottle").rename(mvtec / "sets/bottle")
    with pytest.raises(DataError, match=r"sets: no picture in train/good/, found bottle; layout of MVTec AD"):
        read_dataset(mvtec, "mvtec-ad")


def test_an_unknown_layout_lists_the_known_ones(mvtec: Path) -> None:
    """A slip of the pen is answered with every layout there is."""
    with pytest.raises(ConfigError, match=rf"layout: got 'mvtec', expected one of {', '.join(LAYOUTS)}"):
        read_dataset(mvtec, "mvtec")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_answers_a_missing_and_an_empty_root(tmp_path: Path, layout: str) -> None:
    """One clear error that names the place."""
    for root in (tmp_path / "none", tmp_path):
        with pytest.raises(DataError, match=root.name):
            read_dataset(root, layout)


def test_a_link_out_of_the_root_is_refused(mvtec: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Neither a file nor a folder may lead elsewhere."""
    outside = tmp_path_factory.mktemp("elsewhere") / "x.png"
    outside.write_bytes((mvtec / "bottle/test/good/000.png").read_bytes())
    link = mvtec / "bottle/train/good/001.png"
    link.symlink_to(outside)
    with pytest.raises(DataError, match="expected a file inside"):
        read_dataset(mvtec, "mvtec-ad")
    link.unlink()
    (mvtec / "linked").symlink_to(outside.parent)
    with pytest.raises(DataError, match="is a link to a folder"):
        read_dataset(mvtec, "mvtec-ad")


def test_btad_is_read_whole(tmp_path: Path, draw: Draw, mask: Callable[..., None]) -> None:
    """Good is ok, defective is ko, and masks are PNG or BMP whatever their picture is."""
    for product, image, truth in (("01", "bmp", "png"), ("02", "png", "png"), ("03", "bmp", "bmp")):
        draw(f"{product}/{place}.{image}" for place in ("train/ok/0000", "test/ok/0000", "test/ko/0001"))
        mask(f"{product}/ground_truth/ko/0001.{truth}", slice(2, 5))
    dataset = read_dataset(tmp_path, "btad")
    assert rows(dataset)[:3] == [
        ("01/test/ko/0001.bmp", "01", "test", "ko", ("01/ground_truth/ko/0001.png",)),
        ("01/test/ok/0000.bmp", "01", "test", None, ()),
        ("01/train/ok/0000.bmp", "01", "train", None, ()),
    ]
    assert dataset.products() == ("01", "02", "03")
    assert [item.masks[0].suffix for item in dataset.test() if item.defect] == [".png", ".png", ".bmp"]
    check(dataset.items)
    draw(["02/test/bent/0002.png"])
    with pytest.raises(DataError, match=r"bent/0002\.png: unexpected place .*test/ok/ and test/ko/"):
        read_dataset(tmp_path, "btad")


@pytest.fixture
def loco(tmp_path: Path, draw: Draw, mask: Callable[..., None]) -> Path:
    """MVTec LOCO AD: one product; the logical defect has two masks of different value."""
    draw(f"screw_bag/{split}/good/000.png" for split in ("train", "validation", "test"))
    draw(["screw_bag/test/logical_anomalies/000.png", "screw_bag/test/structural_anomalies/000.png"])
    mask("screw_bag/ground_truth/logical_anomalies/000/000.png", slice(0, 4), value=255)
    mask("screw_bag/ground_truth/logical_anomalies/000/001.png", slice(10, 12), value=254)
    mask("screw_bag/ground_truth/structural_anomalies/000/000.png", slice(6, 8), value=1)
    config = [{"defect_name": "screw_missing", "pixel_value": 255, "saturation_threshold": 10}]
    (tmp_path / "screw_bag/defects_config.json").write_text(json.dumps(config))
    return tmp_path


def test_mvtec_loco_is_read_whole(loco: Path) -> None:
    """Validation pictures are learned from, and a picture has all of its masks."""
    dataset = read_dataset(loco, "mvtec-loco")
    truth = "screw_bag/ground_truth"
    logical = (f"{truth}/logical_anomalies/000/000.png", f"{truth}/logical_anomalies/000/001.png")
    structural = (f"{truth}/structural_anomalies/000/000.png",)
    assert rows(dataset) == [
        ("screw_bag/test/good/000.png", "screw_bag", "test", None, ()),
        ("screw_bag/test/logical_anomalies/000.png", "screw_bag", "test", "logical_anomalies", logical),
        ("screw_bag/test/structural_anomalies/000.png", "screw_bag", "test", "structural_anomalies", structural),
        ("screw_bag/train/good/000.png", "screw_bag", "train", None, ()),
        ("screw_bag/validation/good/000.png", "screw_bag", "train", None, ()),
    ]
    assert dataset.ignored == (loco / "screw_bag/defects_config.json",)
    check(dataset.items)


def test_the_masks_of_one_picture_are_united_whatever_their_values(loco: Path) -> None:
    """A defect pixel is one that any mask marks; the data set says what that means for its figures."""
    dataset = read_dataset(loco, "mvtec-loco")
    item = next(item for item in dataset.items if item.defect == "logical_anomalies")
    marked = np.flatnonzero(united_mask(item.masks, (24, 24)).all(axis=1))
    assert marked.tolist() == [0, 1, 2, 3, 10, 11]
    assert "saturation thresholds of defects_config.json are not applied" in dataset.notes[0]


def test_every_mask_of_a_picture_is_checked(loco: Path, draw: Draw) -> None:
    """Also the second one must be readable and fit."""
    (loco / "screw_bag/ground_truth/logical_anomalies/000/001.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"000/001\.png: the file is empty"):
        check(read_dataset(loco, "mvtec-loco").items)


def test_a_plain_folder_holds_good_pictures(tmp_path: Path, draw: Draw) -> None:
    """Everything is learned from, and hashing shows its progress."""
    draw(["nut/a.png", "bolt/b.jpg"])
    seen: list[tuple[int, int]] = []
    dataset = read_dataset(tmp_path, "folder", lambda done, total: seen.append((done, total)))
    assert rows(dataset) == [("bolt/b.jpg", "bolt", "train", None, ()), ("nut/a.png", "nut", "train", None, ())]
    assert seen == [(1, 2), (2, 2)]


def test_a_plain_folder_with_tests_is_refused(mvtec: Path) -> None:
    """Defects are never taken for good pictures because of a layout's name."""
    with pytest.raises(DataError, match="use layout 'auto' or 'mvtec-ad'"):
        read_dataset(mvtec, "folder")
