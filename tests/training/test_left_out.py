"""Promises of leaving products out: strangers are told, the known are spared, bad input is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cada_edge.bench.left_out import Described, describe_all, left_out, main, price
from cada_edge.bundle import Bundle
from cada_edge.data.dataset import Dataset, Item, Split
from cada_edge.errors import DataError

EACH = 30


def _products(*centres: float) -> Described:
    """Products around centres, thirty images each: ten fit, ten align, ten are tested, five defective."""
    rng = np.random.default_rng(0)
    items, rows = [], []
    for name, centre in zip("abc", centres, strict=False):
        for number in range(EACH):
            defect = "scratch" if number >= 25 else None
            split: Split = "train" if number < 20 else "test"
            items.append(Item(Path(f"{name}{number}.png"), f"{name}{number:063d}", name, split, defect))
            rows.append(centre + rng.standard_normal(8))
    role = np.array([("fit" if i % EACH < 10 else "align") if i % EACH < 20 else "" for i in range(len(items))])
    return Described(items, np.array(rows, np.float32), role, prototypes=8)


def test_a_left_out_product_is_told() -> None:
    """All images of products far from the others are novel once they were left out, and a look-alike's are not."""
    shares = left_out(_products(0.0, 0.1, 50.0))
    assert [(share.name, share.images) for share in shares] == [("a", EACH), ("b", EACH), ("c", EACH)]
    assert shares[0].beyond < EACH / 2
    assert shares[2].beyond == EACH


def test_known_images_are_spared() -> None:
    """With every product known, none of the good test images is beyond the limit."""
    good, bad = price(_products(0.0, 20.0, 50.0))
    assert (good.images, good.beyond) == (15, 0)
    assert bad.images == 15


def test_a_single_product_cannot_be_left_out() -> None:
    """Images of one product get an error that names it."""
    with pytest.raises(DataError, match="'a'"):
        left_out(_products(0.0))


def test_every_image_is_described_and_keeps_its_role(trained: Bundle, tiny_line: Dataset) -> None:
    """A bundle's images come with the roles it recorded, test images with none."""
    found = describe_all(trained, tiny_line.items)
    assert found.descriptors.shape[0] == len(tiny_line.items)
    for item, role in zip(found.items, found.role, strict=True):
        assert (role in {"fit", "align", "calibrate"}) == (item.split == "train")


def test_other_images_than_the_bundle_s_are_refused(
    trained: Bundle, tiny_line: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder without the images the bundle was trained on is refused with what to give instead."""
    for item in tiny_line.test():
        copy = tmp_path / "images" / item.product / "train" / "good" / f"{item.sha256}{item.path.suffix}"
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(item.path.read_bytes())
    trained.write(tmp_path / "line.cada")
    with pytest.raises(SystemExit):
        main([str(tmp_path / "line.cada"), str(tmp_path / "images")])
    assert "give the folder it was trained on" in capsys.readouterr().err
