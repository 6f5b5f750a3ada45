"""`inspect` tells what a verified bundle is; `doctor` tells what is missing and what mends it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cada_edge import Bundle, Component, ImageSpec, Manifest, MapSpec, Stage, Threshold
from cada_edge.cli._summary import describe, role_counts
from cada_edge.cli.app import build
from cada_edge.doctor import examine, machine, requirements
from cada_edge.doctor.report import Check, Report
from cada_edge.errors import BundleError

THRESHOLD = Threshold(1.25, 0.01, 0.031, 0.95, 300, "conformal", "ab" * 32)
IMAGES = json.dumps({"schema": 1, "roles": {"fit": ["a", "b"], "align": ["c"], "calibrate": []}}).encode()


def make(threshold: Threshold | None = THRESHOLD, **files: bytes) -> Bundle:
    """A bundle as the stages leave it, without weights."""
    stage = Stage("train", "0.1.0", {"size": 256}, "cd" * 32, 7, {"loss": 0.5})
    parts = Component("revdist", {"width": 64}), Component("cada-mlp", {"hidden": 64})
    named = {name.replace("_", "."): data for name, data in files.items()}
    return Bundle(Manifest(ImageSpec(), MapSpec(), *parts, threshold, (stage,)), named)


def invoke(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Run the program here; its exit code and what it printed."""
    with pytest.raises(SystemExit) as left:
        build(arguments[0])(list(arguments), prog_name="cada-edge")
    return int(left.value.code or 0), capsys.readouterr().out


def test_inspect_says_what_the_bundle_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Detector, head, guarantee, image counts, files and history are all there."""
    make(images_json=IMAGES, model_onnx=b"graph").write(tmp_path / "line.cada")
    code, text = invoke(capsys, "inspect", str(tmp_path / "line.cada"))
    assert code == 0
    words = " ".join(text.split())
    for part in ("verified", "revdist", "cada-mlp", "1.25", "95 % confidence", "2 to fit, 1 to align, 0 to calibrate"):
        assert part in words
    for part in ("model.onnx", "yes, model.onnx is inside", "train: by cada-edge 0.1.0, seed 7", "loss: 0.5"):
        assert part in words


def test_inspect_json_holds_full_digests(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Scripts get everything untruncated, and the bundle's own digest."""
    make(images_json=IMAGES).write(tmp_path / "line.cada")
    code, text = invoke(capsys, "inspect", str(tmp_path / "line.cada"), "--json")
    document = json.loads(text)
    assert code == 0
    assert document["sha256"] == make(images_json=IMAGES).sha256
    assert [(f["name"], len(f["sha256"])) for f in document["files"]] == [("images.json", 64)]
    assert document["roles"] == {"fit": 2, "align": 1, "calibrate": 0}
    assert document["threshold"]["bound_frr"] == 0.031


def test_a_bundle_without_threshold_says_that_nothing_passes() -> None:
    """Before calibration the consequence is spelt out."""
    words = describe(make(threshold=None))["words"]
    assert "every part is undecided, a reject" in words["threshold"]
    assert "cada-edge export" in words["exported"]
    assert words["images"] == "not recorded"


@pytest.mark.parametrize("images", [b"", b"[]", b'{"roles": 3}', b'{"roles": {"fit": 3}}'])
def test_a_damaged_image_list_is_an_error(images: bytes) -> None:
    """A list that cannot be read is never shown as no images."""
    with pytest.raises(BundleError, match="does not list images by role"):
        role_counts(make(images_json=images))


def test_doctor_json_is_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    """Scripts get every check and one answer, which the exit code repeats."""
    code, text = invoke(capsys, "doctor", "--json")
    document = json.loads(text)
    assert document["schema"] == 1
    assert code == (0 if document["runtime_ready"] else 1)
    assert {"Python", "cores", "disk", "ONNX Runtime", "TensorRT"} <= {c["name"] for c in document["checks"]}


def test_doctor_shows_the_command_that_mends(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Brackets of an extra survive the table."""
    missing = Check("runtime", "thing", "missing", "not installed", "pip install 'cada-edge[runtime]'", required=True)
    monkeypatch.setattr("cada_edge.cli.doctor.examine", lambda folder: Report((missing,)))
    code, text = invoke(capsys, "doctor")
    assert code == 1
    assert "[runtime]" in text
    assert "cannot work here yet" in text


def test_every_missing_thing_says_what_to_do(tmp_path: Path) -> None:
    """Whatever is found missing on this machine comes with its command."""
    assert [c for c in examine(tmp_path).checks if c.state == "missing" and not c.mend] == []


def test_only_required_things_stop_the_runtime() -> None:
    """A missing training package does not make a line unfit to run."""
    optional = Check("train", "torch", "missing", "not installed", "pip install 'cada-edge[train]'")
    assert Report((optional,)).runtime_ready


METADATA = [
    "numpy>=1.24",
    'onnxruntime>=1.17; extra == "runtime"',
    'cada-edge[runtime]; extra == "export"',
    "onnx>=1.16; extra == 'export'",
    'pymodbus<4,>=3.11; extra == "runtime"',
    'torchvision; extra == "train"',
]


def test_requirements_are_read_by_extra() -> None:
    """Lines of installed metadata become a table by extra; our own extras add nothing."""
    assert requirements.by_extra(METADATA) == {
        "core": [("numpy", ">=1.24")],
        "runtime": [("onnxruntime", ">=1.17"), ("pymodbus", "<4,>=3.11")],
        "export": [("onnx", ">=1.16")],
        "train": [("torchvision", "")],
    }


@pytest.mark.parametrize(
    ("version", "spec", "expected"),
    [
        ("1.24", ">=1.24", True),
        ("1.24.0", ">=1.24", True),
        ("1.9", ">=1.24", False),
        ("2.15.0+cu132", ">=2.4", True),
        ("3.16.1", "<4,>=3.11", True),
        ("4.0.0", "<4,>=3.11", False),
        ("0.1.0", "==0.1.0", True),
        ("0.1.1", "==0.1.0", False),
        ("anything", "", True),
    ],
)
def test_versions_are_compared_as_numbers(version: str, spec: str, expected: bool) -> None:
    """1.9 is older than 1.24, and local suffixes do not matter."""
    assert requirements.fits(version, spec) is expected


def test_an_absent_package_is_found_absent() -> None:
    """A package nobody has is missing, required only by the runtime."""
    absent = requirements.check("train", "no-such-package-anywhere", ">=1")
    assert (absent.state, absent.mend, absent.required) == ("missing", "pip install 'cada-edge[train]'", False)
    assert requirements.check("runtime", "no-such-package-anywhere", "").required


@pytest.mark.parametrize(("line", "expected"), [("    GStreamer:   YES (1.20)", True), ("    GStreamer:   NO", False)])
def test_opencv_features_are_read_from_its_own_words(line: str, expected: bool) -> None:
    """What OpenCV was built with is what it says of itself."""
    assert machine.build_features(f"  Video I/O:\n    FFMPEG: YES\n{line}\n")["GStreamer"] is expected


def test_low_disk_and_a_forbidden_folder_are_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Little space is a note with advice, and a place that takes no file is noticed by trying."""
    monkeypatch.setattr(machine, "LOW_DISK_BYTES", 1 << 80)
    assert machine.disk(tmp_path).mend
    refused: Any = machine.writable(Path("/proc"))
    assert refused.state == "note"
    assert "cannot write" in refused.found
