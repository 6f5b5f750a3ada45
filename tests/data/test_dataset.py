from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest

from cada_edge.data.dataset import Item, check, duplicates, leaks, scan
from cada_edge.errors import DataError
from cada_edge.imaging import write_png


def put(path: Path, tone: int = 0, side: int = 16) -> Path:
    """Write a flat grey picture and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_png(path, np.full((side, side, 3), tone, np.uint8))
    return path


@pytest.fixture
def line(tmp_path: Path) -> Path:
    """Two products in MVTec AD layout, every picture different."""
    for offset, product in ((0, "nut"), (100, "bolt")):
        put(tmp_path / product / "train/good/000.png", offset + 1)
        put(tmp_path / product / "train/good/001.png", offset + 2)
        put(tmp_path / product / "test/good/000.png", offset + 3)
        put(tmp_path / product / "test/bent/000.png", offset + 4)
        put(tmp_path / product / "ground_truth/bent/000_mask.png", 255)
    return tmp_path


def test_products_splits_defects_and_masks_are_found(line: Path) -> None:
    """In MVTec AD layout every item knows its product, split, defect, mask and digest."""
    dataset = scan(line)
    assert dataset.products() == ("bolt", "nut")
    assert (len(dataset), len(dataset.train()), len(dataset.test())) == (8, 4, 4)
    path = line / "bolt/test/bent/000.png"
    mask = line / "bolt/ground_truth/bent/000_mask.png"
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert dataset.items[0] == Item(path, digest, "bolt", "test", "bent", (mask,))
    assert [item.path for item in dataset.items] == sorted(item.path for item in dataset.items)
    assert all(item.defect is None and not item.masks for item in dataset.train())


def test_one_product_folder_is_a_data_set(line: Path) -> None:
    """A single product's folder gives the same items as within its line."""
    assert scan(line / "nut").items == tuple(item for item in scan(line).items if item.product == "nut")


def test_a_relative_folder_names_its_product(line: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``.`` is as good a name as any other."""
    monkeypatch.chdir(line / "nut")
    assert scan(Path()).products() == ("nut",)


def test_a_plain_folder_holds_good_images(tmp_path: Path) -> None:
    """Without train and test folders everything is good; a first-level folder names the product."""
    put(tmp_path / "a.PNG", 1)
    put(tmp_path / "nut/deep/b.png", 2)
    dataset = scan(tmp_path)
    assert dataset.products() == ("", "nut")
    assert dataset.train() == dataset.items


def test_one_image_is_a_data_set(tmp_path: Path) -> None:
    """A single picture can be scanned and checked."""
    put(tmp_path / "only.png")
    dataset = scan(tmp_path)
    check(dataset.items)
    assert len(dataset) == 1


def test_masks_may_be_named_like_their_image(line: Path) -> None:
    """``<stem>.png`` is accepted, and a missing mask is None."""
    truth = line / "nut/ground_truth/bent"
    (truth / "000_mask.png").rename(truth / "000.png")
    shutil.rmtree(line / "bolt/ground_truth")
    masks = {item.product: item.masks for item in scan(line).test() if item.defect}
    assert masks == {"nut": (truth / "000.png",), "bolt": ()}


def test_other_files_are_ignored_and_named(line: Path) -> None:
    """Notes and pictures outside the layout are listed, hidden files and masks are not."""
    (line / "README.md").write_text("notes")
    (line / "nut/train/good/thumbs.db").write_bytes(b"x")
    put(line / "nut/validation/000.png", 9)
    put(line / ".cache/000.png", 9)
    (line / "nut/train/good/.hidden.png").write_bytes(b"x")
    dataset = scan(line)
    names = ("README.md", "nut/train/good/thumbs.db", "nut/validation/000.png")
    assert dataset.ignored == tuple(line / name for name in names)
    assert len(dataset) == 8


@pytest.mark.parametrize("suffix", ["png", "JPG", "jpeg", "bmp", "TIF", "tiff", "webp"])
def test_suffixes_count_in_any_case(tmp_path: Path, suffix: str) -> None:
    """A picture is recognised by its suffix, upper or lower case."""
    (tmp_path / f"a.{suffix}").write_bytes(b"anything")
    assert len(scan(tmp_path)) == 1


def test_an_empty_folder_says_what_was_expected(tmp_path: Path) -> None:
    """The message describes the layouts that would work."""
    with pytest.raises(DataError, match=r"found no picture among 0 files; expected good images.*train/good/"):
        scan(tmp_path)
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(DataError, match="among 1 files"):
        scan(tmp_path)


def test_a_missing_folder_and_a_file_are_told_apart(tmp_path: Path) -> None:
    """Both name the path and what was expected."""
    with pytest.raises(DataError, match="none: does not exist, expected a folder"):
        scan(tmp_path / "none")
    with pytest.raises(DataError, match=r"a\.png: is a file, expected a folder"):
        scan(put(tmp_path / "a.png"))


def test_a_product_without_good_images_is_refused(line: Path) -> None:
    """Neither a missing nor an empty train/good passes."""
    put(line / "washer/test/good/000.png", 9)
    with pytest.raises(DataError, match="washer: has no folder train/good"):
        scan(line)
    (line / "washer/train/good").mkdir(parents=True)
    with pytest.raises(DataError, match="train/good: holds no picture"):
        scan(line)


@pytest.mark.parametrize(("place", "message"), [("train/bent/1.png", "not in train/good"), ("test/1.png", "itself")])
def test_pictures_in_the_wrong_place_are_refused(line: Path, place: str, message: str) -> None:
    """A defect in train or a picture of unknown kind in test is an error, not a guess."""
    put(line / "nut" / place, 9)
    with pytest.raises(DataError, match=message):
        scan(line)


def test_defects_beside_good_are_never_learned_from(line: Path) -> None:
    """A folder with good/ and others is no plain folder of good images."""
    with pytest.raises(DataError, match=r"test: has good/ beside bent; only good images"):
        scan(line / "nut/test")


def test_links_are_followed_only_inside_the_root(line: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A link to a file of the data set is an item; one that leads outside is refused."""
    inside = line / "nut/train/good/002.png"
    inside.symlink_to(line / "nut/train/good/000.png")
    assert len(scan(line)) == 9
    outside = put(tmp_path_factory.mktemp("elsewhere") / "x.png")
    inside.unlink()
    inside.symlink_to(outside)
    with pytest.raises(DataError, match="expected a file inside"):
        scan(line)


@pytest.mark.parametrize("target", ["nut/train/good", "gone"])
def test_linked_folders_and_dangling_links_are_refused(line: Path, target: str) -> None:
    """They would otherwise be left out without a word."""
    (line / "nut/train/good/more.png").symlink_to(line / target)
    with pytest.raises(DataError, match=r"more\.png: (is a link to a folder|links to)"):
        scan(line)


def test_check_lists_the_first_five_broken_files(tmp_path: Path) -> None:
    """All files are tried; one error counts them all and names five."""
    put(tmp_path / "fine.png")
    for number in range(7):
        (tmp_path / f"bad{number}.png").write_bytes(b"\x89PNG" if number else b"")
    seen: list[tuple[int, int]] = []
    with pytest.raises(DataError, match="7 of 8 images cannot be used") as caught:
        check(scan(tmp_path).items, lambda done, total: seen.append((done, total)))
    assert str(caught.value).count("bad") == 5
    assert "bad0.png: the file is empty" in str(caught.value)
    assert "and 2 more" in str(caught.value)
    assert seen == [(done, 8) for done in range(1, 9)]


def test_check_refuses_a_mask_of_another_size(line: Path) -> None:
    """A mask that does not fit its image would silently shift every pixel figure."""
    put(line / "nut/ground_truth/bent/000_mask.png", 255, side=20)
    with pytest.raises(DataError, match=r"mask is \(20, 20\) px \(H, W\), its image 000.png is \(16, 16\)"):
        check(scan(line).items)


def test_duplicates_and_leaks_are_found(line: Path) -> None:
    """Byte-identical pictures are grouped; those in both train and test are named as pairs."""
    assert duplicates(scan(line).items) == ()
    shutil.copy(line / "nut/train/good/000.png", line / "nut/train/good/copy.png")
    shutil.copy(line / "nut/train/good/000.png", line / "bolt/test/good/copy.png")
    items = scan(line).items
    names = [[str(item.path.relative_to(line)) for item in group] for group in duplicates(items)]
    assert names == [["bolt/test/good/copy.png", "nut/train/good/000.png", "nut/train/good/copy.png"]]
    assert [(a.path.name, b.path.name) for a, b in leaks(items)] == [("000.png", "copy.png")]


def test_the_digest_depends_on_content_alone(line: Path) -> None:
    """Renaming, moving and copying pictures does not change it; another picture does."""
    before = scan(line).sha256
    digests = sorted(item.sha256 for item in scan(line).items)
    assert before == hashlib.sha256("\n".join(digests).encode()).hexdigest()
    shutil.copy(line / "nut/train/good/000.png", line / "nut/train/good/copy.png")
    (line / "nut/train/good/001.png").rename(line / "nut/train/good/zzz.png")
    assert scan(line).sha256 == before
    put(line / "nut/train/good/new.png", 50)
    assert scan(line).sha256 != before


@pytest.mark.real
def test_the_real_line_is_read_whole(real_data: Path) -> None:
    """Ten real products scan, and the small ones decode with masks that fit."""
    dataset = scan(real_data)
    assert len(dataset.products()) == 10
    assert leaks(dataset.items) == ()
    assert all(item.defect is None for item in dataset.train())
    check(item for item in dataset.items if item.product in {"cookie", "magnetic_tile"})
