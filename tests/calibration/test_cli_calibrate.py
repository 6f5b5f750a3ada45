"""What `cada-edge calibrate` shows and writes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from cada_edge.bundle import Bundle
from cada_edge.cli.app import run
from cada_edge.data.dataset import Dataset

Parts = Callable[[int, int], Dataset]


def calibrate(source: Path, data: Dataset, *words: str) -> None:
    """Run the command on `data` at 5 %; it has to succeed."""
    with pytest.raises(SystemExit) as left:
        run(["calibrate", str(source), str(data.root), "--target-frr", "0.05", *words])
    assert left.value.code == 0


def test_calibrate_writes_the_threshold(source: Path, good: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    """--out gets the calibrated bundle, --json the result; the input stays as it was."""
    target = source.with_name("calibrated.cada")
    with pytest.raises(SystemExit) as left:
        run(["calibrate", str(source), str(good.root), "--target-frr", "0.05", "--out", str(target), "--json"])
    document = json.loads(capsys.readouterr().out)
    assert (left.value.code, document["n_used"], document["n_seen_in_training"]) == (0, 20, 40)
    written = Bundle.read(target).manifest.threshold
    assert written is not None
    assert written.value == document["threshold"]["value"]
    assert Bundle.read(source).manifest.threshold is None


def test_too_few_images_leave_the_bundle_alone(
    source: Path, bundle: Bundle, good: Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    """20 images cannot support 1 %: the message names the options, nothing is written."""
    with pytest.raises(SystemExit) as left:
        run(["calibrate", str(source), str(good.root)])
    assert left.value.code == 1
    assert "at least 99, ask for 4.77 % or more" in capsys.readouterr().err
    assert Bundle.read(source).sha256 == bundle.sha256


def test_it_shows_rates_products_and_what_is_too_few(
    source: Path, good: Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every usual rate has a row, every product an interval, and ten images of a product are called too few."""
    calibrate(source, good)
    said = capsys.readouterr()
    words = " ".join(said.out.split())
    assert "1 % out of reach 99" in words
    assert "bolt 10 0 0.0 to 30.8 %" in words
    assert "warning: too few images to confirm 5 % for each product alone: bolt (10), cap (10)." in said.err


def test_recalibration_shows_before_and_after(
    source: Path, good: Dataset, parts: Parts, capsys: pytest.CaptureFixture[str]
) -> None:
    """The old threshold, the new one, how many of the new images each rejects, and a warning of the drift."""
    calibrate(source, good)
    capsys.readouterr()
    calibrate(source, parts(25, 120))
    said = capsys.readouterr()
    assert "The one before rejects 25 of these 25 good images, the new one 0." in said.out
    assert "warning: the new good images score otherwise" in said.err


def test_a_dry_run_writes_nothing(
    source: Path, good: Dataset, parts: Parts, capsys: pytest.CaptureFixture[str]
) -> None:
    """--dry-run shows the same result and leaves the bundle byte for byte."""
    calibrate(source, good)
    before = source.read_bytes()
    capsys.readouterr()
    calibrate(source, parts(25, 60), "--add", "--dry-run", "--json")
    document = json.loads(capsys.readouterr().out)
    assert (document["bundle"], document["n_used"], document["n_earlier"]) == (None, 25, 20)
    assert source.read_bytes() == before


def test_the_json_says_what_each_product_will_see(
    source: Path, good: Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rate and interval per product, thresholds per rate, and the warnings in words."""
    calibrate(source, good, "--json")
    document = json.loads(capsys.readouterr().out)
    assert {"product", "frr", "low_frr", "high_frr", "above_target", "too_few"} <= set(document["products"][0])
    assert [point["target_frr"] for point in document["rates"]] == [0.001, 0.005, 0.01, 0.02, 0.05, 0.1]
    assert any("too few" in line for line in document["warnings"])
