"""The paper's protocol in one command, on tiny trees in two original layouts."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cada_edge.bundle import Bundle
from cada_edge.cli.app import run
from cada_edge.types import UInt8Array

SMALL = ["--size", "64", "--device", "cpu", "--target-frr", "0.2", "--no-class-predicted"]
SIDE_PX = 48


def part(rng: np.random.Generator, product: int, *, defect: bool) -> UInt8Array:
    """A disc or a bar on a grainy ground, uint8 (48, 48, 3); a defect is a dark square on it."""
    rows, columns = np.mgrid[:SIDE_PX, :SIDE_PX] - SIDE_PX // 2 + rng.integers(-2, 3)
    shape = np.hypot(rows, columns) < 14 if product == 0 else np.abs(rows) < 8
    image = np.where(shape, 200, 70)[..., None] + rng.integers(-12, 13, (SIDE_PX, SIDE_PX, 3))
    if defect:
        image[20:28, 20:28] = 10
    return np.clip(image, 0, 255).astype(np.uint8)


def save(path: Path, image: UInt8Array) -> None:
    """Write one picture and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


def mask() -> UInt8Array:
    """Where `part` draws its defect: uint8 (48, 48), 0 or 1."""
    pixels = np.zeros((SIDE_PX, SIDE_PX), np.uint8)
    pixels[20:28, 20:28] = 1
    return pixels


def make_loco(root: Path) -> None:
    """Two products in MVTec LOCO AD layout."""
    for number, product in enumerate(("cap", "rail")):
        rng = np.random.default_rng(number)
        for folder, count in (("train/good", 10), ("validation/good", 2), ("test/good", 3)):
            for index in range(count):
                save(root / product / folder / f"{index:03}.png", part(rng, number, defect=False))
        for kind in ("logical_anomalies", "structural_anomalies"):
            save(root / product / "test" / kind / "000.png", part(rng, number, defect=True))
            save(root / product / "ground_truth" / kind / "000" / "000.png", mask())
            save(root / product / "ground_truth" / kind / "000" / "001.png", np.roll(mask(), 9, axis=0))


def make_visa(root: Path) -> None:
    """Two products in VisA layout, with the split file."""
    lines = ["object,split,label,image,mask"]
    for number, product in enumerate(("cap", "rail")):
        rng = np.random.default_rng(number)
        for index in range(15):
            image = f"{product}/Data/Images/Normal/{index:04}.JPG"
            save(root / image, part(rng, number, defect=False))
            lines.append(f"{product},{'train' if index < 12 else 'test'},normal,{image},")
        for index in range(3):
            image, truth = (f"{product}/Data/{kind}/Anomaly/{index:03}" for kind in ("Images", "Masks"))
            save(root / f"{image}.JPG", part(rng, number, defect=True))
            save(root / f"{truth}.png", mask())
            lines.append(f"{product},test,anomaly,{image}.JPG,{truth}.png")
    (root / "split_csv").mkdir()
    (root / "split_csv/1cls.csv").write_text("\n".join(lines))


def call(*arguments: object) -> int:
    """Exit code of ``cada-edge evaluate`` with these arguments."""
    with pytest.raises(SystemExit) as left:
        run(["evaluate", *map(str, arguments)])
    code = left.value.code
    assert isinstance(code, int)
    return code


@pytest.fixture(scope="module")
def visa(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """VisA in ``data``, evaluated once: ``v.cada``, ``v.html`` and ``v.json`` beside it."""
    folder = tmp_path_factory.mktemp("visa")
    make_visa(folder / "data")
    assert call(*visa_command(folder), "--json", folder / "v.json") == 0
    return folder


def visa_command(folder: Path) -> list[object]:
    """The one command for the whole data set."""
    paper = ["--dataset", "visa", "--root", folder / "data", "--out", folder / "v.cada"]
    return [*paper, "--detector", "patch-memory", *SMALL]


def test_one_command_goes_from_visa_to_the_report(visa: Path) -> None:
    """One model of all products, exported and calibrated; every test image in one pool; figures and page."""
    bundle = Bundle.read(visa / "v.cada")
    assert [stage.name for stage in bundle.manifest.provenance] == ["train", "export", "calibrate"]
    assert bundle.manifest.detector.kind == "patch-memory"
    assert bundle.manifest.threshold is not None
    assert bundle.manifest.provenance[0].results["images"] == 24
    document: dict[str, Any] = json.loads((visa / "v.json").read_text())
    assert document["config"]["protocol"] == "absolute"
    assert (document["provenance"]["n_test_good"], document["provenance"]["n_test_defective"]) == (6, 6)
    assert {image["product"] for image in document["images"]} == {"cap", "rail"}
    assert "Per-pixel conventions: a mask pixel above 0 is a defect" in (visa / "v.html").read_text()
    assert not (visa / "v.cada.work").exists()


def test_the_same_command_again_uses_the_bundle(visa: Path) -> None:
    """Nothing is trained twice: the bundle stays byte for byte what it was."""
    before = (visa / "v.cada").read_bytes()
    assert call(*visa_command(visa), "--no-images") == 0
    assert (visa / "v.cada").read_bytes() == before


@pytest.mark.parametrize("change", ["seed", "data"])
def test_a_bundle_of_other_settings_or_images_is_refused(
    visa: Path, change: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The message has both digests, and the bundle is not touched."""
    before = (visa / "v.cada").read_bytes()
    split = visa / "data/split_csv/1cls.csv"
    text = split.read_text()
    if change == "data":
        split.write_text(text.replace("cap,train,normal,cap/Data/Images/Normal/0000.JPG,\n", ""))
    assert call(*visa_command(visa), *(["--seed", 1] if change == "seed" else [])) == 1
    split.write_text(text)
    said = capsys.readouterr().err
    assert "name another --out, or delete it to train anew" in said
    assert len([word for word in said.replace(",", " ").split() if len(word) == 12 and word.isalnum()]) >= 4
    assert (visa / "v.cada").read_bytes() == before


def test_an_interrupted_command_goes_on_where_it_stopped(visa: Path, tmp_path: Path) -> None:
    """From a bundle that is trained only, the same command exports, calibrates and ends at the same graph."""
    whole = Bundle.read(visa / "v.cada")
    trained = replace(whole.manifest, threshold=None, provenance=whole.manifest.provenance[:1])
    files = {name: content for name, content in whole.files.items() if name.endswith(".safetensors")}
    roles = {role: digests for role, digests in whole.roles().items() if role != "threshold"}
    Bundle(trained, files).with_roles(roles).write(tmp_path / "v.cada")
    command = [*visa_command(visa)]
    command[5] = tmp_path / "v.cada"
    assert call(*command, "--no-images") == 0
    finished = Bundle.read(tmp_path / "v.cada")
    assert finished.manifest.threshold == whole.manifest.threshold
    assert finished.file("model.onnx") == whole.file("model.onnx")


def test_one_command_goes_from_loco_to_the_report(tmp_path: Path) -> None:
    """The gradient-fitted detector, united masks, and the note on what LOCO's figures mean."""
    make_loco(tmp_path / "data")
    paper = ["--dataset", "mvtec-loco", "--root", tmp_path / "data", "--out", tmp_path / "l.cada"]
    json_file = tmp_path / "l.json"
    assert call(*paper, "--iterations", 4, *SMALL, "--report", tmp_path / "r.html", "--json", json_file) == 0
    document: dict[str, Any] = json.loads(json_file.read_text())
    stage = document["provenance"]["stages"][0]
    assert (stage["config"]["fit"]["iterations"], stage["results"]["images"]) == (4, 24)
    assert [len(image["masks"]) for image in document["images"] if image["defect"]] == [2] * 4
    assert any("saturation thresholds" in note for note in document["notes"])
    assert "saturation thresholds" in (tmp_path / "r.html").read_text()


def test_a_data_set_without_defects_is_refused_before_the_training(
    visa: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder of good pictures can be learned from, but proves nothing."""
    good = visa / "data/cap/Data/Images/Normal"
    assert call("--dataset", "folder", "--root", good, "--out", tmp_path / "g.cada", *SMALL) == 1
    assert "0 good and 0 defective test images" in capsys.readouterr().err
    assert not (tmp_path / "g.cada.work").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["b.cada"],
        ["--dataset", "visa"],
        ["b.cada", "data", "--dataset", "visa", "--root", "data"],
        ["b.cada", "data", "--seed", "1"],
        ["--dataset", "visa", "--root", "data", "--layout", "visa"],
    ],
)
def test_options_that_do_not_belong_together_are_wrong_usage(arguments: list[str]) -> None:
    """Exit code 2, and no option is dropped in silence."""
    assert call(*arguments) == 2


def test_a_bundle_is_evaluated_on_any_layout(visa: Path) -> None:
    """BUNDLE DATA --layout reads what --dataset reads."""
    out = visa / "again.json"
    command = ["--layout", "visa", "--target-frr", 0.2, "--no-class-predicted", "--json", out]
    assert call(visa / "v.cada", visa / "data", *command) == 0
    first, again = (json.loads((visa / name).read_text()) for name in ("v.json", "again.json"))
    assert again["alignments"] == first["alignments"]
