"""The toy example says what the paper's figure says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cada_edge.evaluation.toy import AGNOSTIC, BEFORE, BY_CLASS, Toy, main, toy_example
from cada_edge.imaging import read_image


@pytest.fixture(scope="module")
def toy() -> Toy:
    """The default example."""
    return toy_example()


def test_one_threshold_fails_before_and_serves_after(toy: Toy) -> None:
    """Pooled AUROC is far from 1 for raw scores, and close to 1 with labels as without."""
    assert toy.auroc(BEFORE) < 0.75
    assert toy.auroc(BY_CLASS) > 0.99
    assert toy.auroc(AGNOSTIC) > 0.99


def test_each_product_alone_was_separable_all_along(toy: Toy) -> None:
    """What fails before alignment is the common threshold, not the detector."""
    for product in range(3):
        rows = toy.test.product == product
        good, bad = (toy.scores[BEFORE][rows & (toy.test.defective == kind)] for kind in (False, True))
        assert np.quantile(good, 0.95) < np.quantile(bad, 0.05)


def test_the_same_seed_draws_the_same_parts(toy: Toy) -> None:
    """Scores are equal to the last bit; another seed gives others."""
    again, other = toy_example(), toy_example(seed=1)
    assert all(np.array_equal(toy.scores[name], again.scores[name]) for name in toy.scores)
    assert not np.array_equal(toy.scores[BEFORE], other.scores[BEFORE])


def test_the_script_leaves_a_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One call writes a readable, wide PNG and says the figures."""
    main(["--out", str(tmp_path / "toy.png")])
    height, width, _ = read_image(tmp_path / "toy.png").shape
    assert width > 2 * height > 800
    assert "before 66.6, by class 99.8, class-agnostic 99.8" in capsys.readouterr().out


def test_a_folder_that_is_not_there_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The script names the file it cannot write, without a traceback."""
    with pytest.raises(SystemExit):
        main(["--out", str(tmp_path / "nowhere" / "toy.png")])
    assert "toy.png: cannot write the file" in capsys.readouterr().err
