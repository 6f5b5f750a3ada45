from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer import Typer
from typer.testing import CliRunner

from cada_edge import imaging
from cada_edge.cli.synthesize import synthesize as command
from cada_edge.data.dataset import Dataset, check, duplicates, scan
from cada_edge.data.synthetic import PRODUCTS, Product, SynthConfig, shoot, synthesize
from cada_edge.errors import ConfigError, DataError
from cada_edge.types import UInt8Array

SMALL = SynthConfig(products=2, train=3, test_good=1, test_defect=5, size_px=64, seed=3)
CASES = [(product, flaw) for product in PRODUCTS for flaw in product.flaws]


def tree(root: Path) -> dict[str, bytes]:
    """Every file below `root`: relative name to content."""
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_the_tiny_line_is_a_whole_data_set(tiny_line: Dataset) -> None:
    """Products, splits and masks are where MVTec AD has them, and every file decodes."""
    assert len(tiny_line.products()) == 3
    assert (len(tiny_line.train()), len(tiny_line.test())) == (24, 18)
    assert all(bool(item.masks) == (item.defect is not None) for item in tiny_line.items)
    assert tiny_line.ignored == ()
    assert duplicates(tiny_line.items) == ()
    check(tiny_line.items)


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    """Two runs agree byte for byte; another seed shares no image with them."""
    first, second = (synthesize(SMALL, tmp_path / name) for name in ("a", "b"))
    assert tree(first.root) == tree(second.root)
    other = synthesize(SynthConfig(2, 3, 1, 5, 64, seed=4), tmp_path / "c")
    assert not {item.sha256 for item in first.items} & {item.sha256 for item in other.items}


def test_more_images_keep_the_earlier_ones(tmp_path: Path) -> None:
    """A larger line under the same seed contains the smaller one."""
    small = synthesize(SMALL, tmp_path / "small")
    large = synthesize(SynthConfig(3, 5, 2, 7, 64, seed=3), tmp_path / "large")
    assert tree(small.root).items() <= tree(large.root).items()


@pytest.mark.parametrize(("product", "flaw"), CASES, ids=lambda value: getattr(value, "name", value))
def test_every_defect_is_visible_and_its_mask_is_exact(product: Product, flaw: str) -> None:
    """Outside the mask a defective part is its flawless twin; inside it is not; sizes vary."""
    areas = []
    for number in range(4):
        good, _ = shoot(product, "", 128, (11, number))
        bad, mask = shoot(product, flaw, 128, (11, number))
        apart = np.abs(good.astype(int) - bad.astype(int)).max(axis=2)
        assert apart[~mask].max() <= 14  # the mask's tolerance of 9 grey levels and shot noise
        assert apart[mask].mean() > 10
        areas.append(float(mask.mean()))
    assert min(areas) >= 0.0004
    assert max(areas) < 0.15
    assert len(set(areas)) > 1


@pytest.mark.parametrize("size_px", [64, 100, 300])
def test_a_product_looks_alike_at_every_size(size_px: int) -> None:
    """Shapes are fractions of the side: averaged over parts, another size shows the same picture."""
    for product in PRODUCTS:
        usual, other = (np.mean([_thumbnail(product, size, n) for n in range(6)], axis=0) for size in (256, size_px))
        assert np.abs(usual - other).mean() < 12


def _thumbnail(product: Product, size_px: int, number: int) -> UInt8Array:
    image, _ = shoot(product, "", size_px, (5, number))
    return np.asarray(cv2.resize(image, (24, 24), interpolation=cv2.INTER_AREA), np.uint8)


def test_products_differ_in_how_much_their_good_parts_differ() -> None:
    """The reason for the line: normal variability spans a factor of two or more."""
    spread = {}
    for product in PRODUCTS:
        shots = np.stack([shoot(product, "", 96, (2, number))[0] for number in range(8)])
        spread[product.name] = float(shots.std(axis=0).mean())
    assert max(spread.values()) > 2 * min(spread.values())


def test_a_folder_with_something_in_it_is_refused(tmp_path: Path) -> None:
    """Nothing of the user's is ever overwritten; an empty folder is fine."""
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(DataError, match="exists and is not an empty folder"):
        synthesize(SMALL, tmp_path)
    assert tree(tmp_path) == {"mine.txt": b"keep"}
    (tmp_path / "empty").mkdir()
    assert len(synthesize(SMALL, tmp_path / "empty")) == 18


def test_an_interrupted_run_leaves_nothing(tmp_path: Path) -> None:
    """Ctrl-C half-way leaves no folder that looks like a data set."""

    def interrupt(done: int, total: int) -> None:
        if done > total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        synthesize(SMALL, tmp_path / "line", interrupt)
    assert list(tmp_path.iterdir()) == []


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from cada_edge.data.synthetic import SynthConfig, synthesize
from cada_edge.errors import DataError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
try:
    synthesize(SynthConfig(size_px=64), Path(sys.argv[1]))
except DataError as error:
    sys.exit(str(error))
"""


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    """When an image cannot be written, no part of the data set stays behind."""
    call = [sys.executable, "-c", FULL_DISK, str(tmp_path / "line")]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "cannot write the file: File too large" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("field", "value"),
    [("products", 0), ("products", 7), ("train", 0), ("test_good", -1), ("size_px", 63), ("seed", -1), ("train", 2.5)],
)
def test_settings_out_of_range_are_refused(field: str, value: float) -> None:
    """The error names the field, the value and the range."""
    with pytest.raises(ConfigError, match=rf"SynthConfig\.{field}: got {value}, expected an integer"):
        SynthConfig(**{field: value})  # type: ignore[arg-type] # wrong types are the subject


def test_the_command_makes_a_line_and_counts_it(tmp_path: Path) -> None:
    """``cada-edge synthesize OUT --json`` prints what it made."""
    app = Typer()
    app.command()(command)
    counts = ["--products", "2", "--train", "3", "--test-good", "1", "--test-defect", "5"]
    done = CliRunner().invoke(app, [str(tmp_path / "line"), *counts, "--size", "64", "--seed", "3", "--json"])
    assert done.exit_code == 0, done.output
    summary = json.loads(done.stdout)
    assert summary["products"]["gear"] == {"train": 3, "test_good": 1, "test_defect": 5}
    assert summary["sha256"] == scan(tmp_path / "line").sha256


def test_the_command_shows_a_table(tmp_path: Path) -> None:
    """Without --json, people get a table."""
    app = Typer()
    app.command()(command)
    done = CliRunner().invoke(app, [str(tmp_path / "line"), "--products", "1", "--train", "2", "--size", "64"])
    assert done.exit_code == 0, done.output
    assert "test defective" in done.stdout
    assert imaging.read_image(tmp_path / "line/gear/train/good/000.png").shape == (64, 64, 3)
