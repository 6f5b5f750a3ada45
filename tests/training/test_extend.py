"""Adding products to a trained bundle."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from typer.testing import CliRunner

from cada_edge.bundle import Bundle
from cada_edge.cli.app import build
from cada_edge.data.split import RoleFractions
from cada_edge.errors import BundleError, ConfigError, DataError
from cada_edge.models import PatchMemoryConfig
from cada_edge.training import train
from cada_edge.training.extend import Base
from cada_edge.training.roles import share_roles

if TYPE_CHECKING:
    from cada_edge.data.dataset import Dataset, Item
    from cada_edge.training import TrainConfig


def quiet(stage: str, done: int, total: int) -> None:
    """Take progress and say nothing."""


def _products(line: Dataset, count: int) -> tuple[Item, ...]:
    return tuple(item for item in line.train() if item.product in line.products()[:count])


@pytest.fixture(scope="module")
def two(small: TrainConfig, tiny_line: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle trained on two of the three products."""
    bundle = train(small, _products(tiny_line, 2), tmp_path_factory.mktemp("two"), quiet)
    assert bundle is not None
    return bundle


def test_an_extended_bundle_keeps_every_old_role(two: Bundle, tiny_line: Dataset, tmp_path: Path) -> None:
    """What calibrated stays unseen by the detector, however often products are added."""
    base = Base.of(two)
    bundle = train(base.settings(iterations=5), tiny_line.train(), tmp_path, quiet, base=base)
    assert bundle is not None
    before, after = two.roles(), bundle.roles()
    assert all(before[role] <= after[role] for role in before)
    assert sum(map(len, after.values())) > sum(map(len, before.values()))
    assert bundle.manifest.provenance[0].results["extends"] == two.sha256
    assert bundle.files["encoder.safetensors"] == two.files["encoder.safetensors"]


def test_extension_goes_on_from_the_old_weights(two: Bundle, tiny_line: Dataset, tmp_path: Path) -> None:
    """One gentle step from the old weights stays near them; a fresh start would not."""
    base = Base.of(two)
    config = base.settings(iterations=1)
    bundle = train(config, tiny_line.train(), tmp_path / "on", quiet, base=base)
    fresh = train(config, tiny_line.train(), tmp_path / "fresh", quiet)
    assert bundle is not None
    assert fresh is not None
    old = base.model.detector.state_dict()
    moved, other = (
        max(float((value - old[name]).abs().max()) for name, value in state.items() if name.startswith("neck"))
        for state in (Base.of(bundle).model.detector.state_dict(), Base.of(fresh).model.detector.state_dict())
    )
    assert moved < 0.1 * other


def test_products_added_one_by_one_get_no_fewer_steps_each_time(two: Bundle) -> None:
    """An extension of an extension takes as many steps as that did; what is given goes before it."""
    first = Base.of(two)
    config = first.settings(batch_size=2, seed=3)
    again = replace(first, config=config, extended=True)
    assert config.fit.iterations == first.config.fit.iterations // 3
    assert again.settings() == config
    assert again.settings(iterations=7).fit == replace(config.fit, iterations=7)
    with pytest.raises(ConfigError, match="iterations"):
        first.settings(iterations=0)


def test_a_memory_is_extended_too(small: TrainConfig, tiny_line: Dataset, tmp_path: Path) -> None:
    """A patch memory remembers old and new products, within the same bound."""
    config = replace(small, detector=PatchMemoryConfig(groups=((8, 16),), bank_size=40))
    two = train(config, _products(tiny_line, 2), tmp_path / "two", quiet)
    assert two is not None
    base = Base.of(two)
    bundle = train(base.settings(), tiny_line.train(), tmp_path / "three", quiet, base=base)
    assert bundle is not None
    assert bundle.manifest.detector.config["detector"]["bank_size"] == 40
    assert bundle.files["detector.safetensors"] != two.files["detector.safetensors"]


def test_the_command_shows_every_product_before_and_after(two: Bundle, tiny_line: Dataset, tmp_path: Path) -> None:
    """The new product is marked, also where the extension replaces its own bundle."""
    line = tmp_path / "line.cada"
    two.write(line)
    options = ["--extend", str(line), "--out", str(line), "--force", "--iterations", "2", "--device", "cpu"]
    told = CliRunner().invoke(build("train"), ["train", str(tiny_line.root), *options])
    assert told.exit_code == 0, told.output
    old, new = tiny_line.products()[:2], tiny_line.products()[2]
    assert f"{new} (new)" in told.output
    assert not any(f"{name} (new)" in told.output for name in old)
    made = Bundle.read(line).manifest.provenance[0]
    assert made.results["extends"] == two.sha256
    assert made.config["fit"]["batch_size"] == Base.of(two).config.fit.batch_size


def test_missing_old_images_are_refused(two: Bundle, tiny_line: Dataset, tmp_path: Path) -> None:
    """Without the old images the old products would be forgotten: an error that counts them."""
    base = Base.of(two)
    new = tuple(item for item in tiny_line.train() if item.product == tiny_line.products()[2])
    with pytest.raises(DataError, match=r"\d+ of the \d+ images the bundle learned from"):
        train(base.settings(), new, tmp_path, quiet, base=base)


def test_nothing_new_is_refused(two: Bundle, tiny_line: Dataset, tmp_path: Path) -> None:
    """Extending by nothing is a mistake, and said so."""
    base = Base.of(two)
    with pytest.raises(DataError, match="nothing to add"):
        train(base.settings(), _products(tiny_line, 2), tmp_path, quiet, base=base)


def test_a_bundle_without_a_training_cannot_be_extended(two: Bundle) -> None:
    """The record of the training is needed, and its absence named."""
    bare = Bundle(replace(two.manifest, provenance=()), two.files)
    with pytest.raises(BundleError, match="cada-edge train"):
        Base.of(bare)


def test_a_look_alike_of_a_known_picture_shares_its_role() -> None:
    """A new exposure of a calibration part never reaches the detector."""
    digests = [f"{i:064x}" for i in range(8)]
    groups = np.array([0, 1, 2, 0, 3, 4, 5, 6])
    known = {digests[0]: "calibrate", digests[1]: "fit", digests[2]: "align"}
    roles, _ = share_roles(digests, groups, RoleFractions(), 0, known)  # type: ignore[arg-type]  # literals
    assert roles[digests[3]] == "calibrate"
    assert {roles[d] for d in digests[4:]} == {"fit", "align", "calibrate"}
