"""A bundle is what was written, byte for byte, or it is refused."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pickle
import resource
import shutil
import struct
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cada_edge import Bundle, CadaEdgeError, Component, ImageSpec, Manifest, MapSpec, Stage, Threshold, container
from cada_edge.errors import BundleError, BundleIntegrityError, BundleSchemaError, DataError, UnsafeFileError

HEADER = b'{"__metadata__":{}}'
WEIGHTS = struct.pack("<Q", len(HEADER)) + HEADER + b"\x01\x02"
FILES = {"head.safetensors": WEIGHTS, "images.json": b"{}\n", "model.onnx": b"graph"}
EVERY_FILE = ("bundle.json", "SHA256SUMS", *FILES)
few = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def make(**files: bytes) -> Bundle:
    """A small, complete bundle."""
    threshold = Threshold(1.1, 0.01, 0.03, 0.95, 300, "order-statistic", "0" * 64)
    stage = Stage("train", "0.1.0", {"epochs": 3, "names": ["a"]}, seed=1, results={"loss": 0.5})
    parts = Component("revdist", {"width": 8}), Component("cada", {})
    return Bundle(Manifest(ImageSpec(), MapSpec(), *parts, threshold, (stage,)), {**FILES, **files})


def content(bundle: Bundle) -> dict[str, bytes]:
    """Every file the bundle is written as."""
    return {"bundle.json": bundle.manifest.to_json(), **bundle.files, "SHA256SUMS": bundle.sums()}


def put_zip(path: Path, files: dict[str, bytes], mode: int = 0, method: int = zipfile.ZIP_STORED) -> Path:
    """A zip with exactly these entries, whatever they are."""
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in files.items():
            info = zipfile.ZipInfo(name)
            info.external_attr, info.compress_type = mode << 16, method
            archive.writestr(info, data)
    return path


def put_folder(path: Path, files: dict[str, bytes]) -> Path:
    """A directory with exactly these files."""
    path.mkdir()
    for name, data in files.items():
        (path / name).write_bytes(data)
    return path


def signed(files: dict[str, bytes]) -> dict[str, bytes]:
    """The files with digests that fit them."""
    return {**files, "SHA256SUMS": container.sums(files)}


@pytest.fixture(params=["zip", "folder"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Where a bundle goes: a new file or an empty directory."""
    path = tmp_path / "line.cada"
    if request.param == "folder":
        path.mkdir()
    return path


def test_round_trip(place: Path) -> None:
    """What is read equals what was written, as zip and as directory."""
    make().write(place)
    assert Bundle.read(place) == make()
    assert Bundle.read(place).sha256 == make().sha256


def test_a_second_write_replaces_the_first(place: Path) -> None:
    """Writing again leaves the new bundle and nothing of the old one beside it."""
    make().write(place)
    changed = make().with_file("model.onnx", b"other")
    changed.write(place)
    assert Bundle.read(place) == changed
    assert [p.name for p in place.parent.iterdir()] == ["line.cada"]


def test_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    """Two writes of one bundle, its files given in any order, are identical files."""
    make().write(tmp_path / "a")
    Bundle(make().manifest, dict(reversed(FILES.items()))).write(tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_sha256sum_agrees(place: Path) -> None:
    """An unpacked bundle can be checked with the system's own sha256sum."""
    make().write(place)
    folder = place if place.is_dir() else place.with_suffix(".d")
    if not place.is_dir():
        zipfile.ZipFile(place).extractall(folder)
    done = subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=folder, check=False)
    assert done.returncode == 0


@few
@given(name=st.sampled_from(EVERY_FILE), position=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_one_changed_bit_in_any_file_is_found(tmp_path: Path, name: str, position: float, bit: int) -> None:
    """Flip any bit of any file: the bundle is refused with an error of ours."""
    files = content(make())
    data = bytearray(files[name])
    data[int(position * len(data))] ^= 1 << bit
    place = put_zip(tmp_path / "changed.cada", {**files, name: bytes(data)})
    with pytest.raises(BundleError):
        Bundle.read(place)


@pytest.mark.parametrize("name", EVERY_FILE)
def test_the_message_names_the_changed_file(tmp_path: Path, name: str) -> None:
    """Integrity errors say which file and what to do."""
    files = content(make())
    place = put_zip(tmp_path / "x.cada", {**files, name: files[name][:-1] + b"~"})
    with pytest.raises(BundleIntegrityError, match=rf"{name}.*copy the bundle again"):
        Bundle.read(place)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_or_extra_file_is_found(tmp_path: Path, name: str) -> None:
    """Files and their list must agree in both directions."""
    files = content(make())
    without = {k: v for k, v in files.items() if k != name}
    with pytest.raises(BundleIntegrityError, match=name):
        Bundle.read(put_zip(tmp_path / "a.cada", without))
    with pytest.raises(BundleIntegrityError, match=r"extra\.json"):
        Bundle.read(put_zip(tmp_path / "b.cada", {**files, "extra.json": b"{}"}))


@few
@given(cut=st.floats(0, 1, exclude_max=True))
def test_a_truncated_zip_is_refused(tmp_path: Path, cut: float) -> None:
    """A copy that stopped at any byte is an integrity error."""
    whole = tmp_path / "whole.cada"
    make().write(whole)
    data = whole.read_bytes()
    (tmp_path / "cut.cada").write_bytes(data[: int(cut * len(data))])
    with pytest.raises(BundleIntegrityError, match="not a whole bundle"):
        Bundle.read(tmp_path / "cut.cada")


@settings(few, max_examples=300)
@given(position=st.floats(0, 1, exclude_max=True), value=st.integers(0, 255))
def test_damage_to_the_zip_itself_never_gives_another_bundle(tmp_path: Path, position: float, value: int) -> None:
    """Any byte of the container may change: the same bundle comes back or one of our errors does."""
    whole = tmp_path / "whole.cada"
    make().write(whole)
    data = bytearray(whole.read_bytes())
    data[int(position * len(data))] = value
    whole.write_bytes(data)
    with contextlib.suppress(CadaEdgeError):
        assert Bundle.read(whole) == make()


@settings(few, max_examples=200)
@given(data=st.binary(max_size=200), prefix=st.sampled_from([b"", b"PK\x03\x04", b"PK\x05\x06"]))
def test_arbitrary_bytes_are_no_bundle(tmp_path: Path, data: bytes, prefix: bytes) -> None:
    """No input makes the reader fail in any way but ours."""
    (tmp_path / "x").write_bytes(prefix + data)
    with pytest.raises(CadaEdgeError):
        Bundle.read(tmp_path / "x")


@pytest.mark.parametrize(
    "name", ["../evil.json", "/etc/evil.json", "a/b.json", "..", "a\\b.json", ".hidden", "a..b.json", "nul\n.json", ""]
)
def test_a_name_that_could_leave_the_bundle_is_refused(tmp_path: Path, name: str) -> None:
    """Path traversal, absolute and odd names never reach the disk or the caller."""
    with pytest.raises(CadaEdgeError):
        Bundle.read(put_zip(tmp_path / "x.cada", signed({**content(make()), name: b"{}"})))
    with pytest.raises(UnsafeFileError, match="not allowed"):
        make().with_file(name, b"{}")


@pytest.mark.parametrize("name", ["run.sh", "weights.pt", "model.pkl", "lib.so"])
def test_a_kind_no_bundle_holds_is_refused(name: str) -> None:
    """Only JSON, safetensors and ONNX belong in a bundle."""
    with pytest.raises(UnsafeFileError, match="of a kind no bundle holds"):
        make().with_file(name, b"")


@pytest.mark.parametrize("name", ["bundle.json", "SHA256SUMS"])
def test_the_manifest_cannot_be_smuggled_in_as_a_file(name: str) -> None:
    """The two files the bundle writes itself cannot be given from outside."""
    with pytest.raises(UnsafeFileError, match="written from the manifest"):
        make().with_file(name, b"{}")


@pytest.mark.parametrize("mode", [0o120777, 0o040755, 0o020644])
def test_a_link_folder_or_device_in_the_zip_is_refused(tmp_path: Path, mode: int) -> None:
    """Zip entries are regular files or nothing."""
    with pytest.raises(UnsafeFileError, match="not a regular file"):
        Bundle.read(put_zip(tmp_path / "x.cada", content(make()), mode))


def test_a_link_or_folder_in_the_directory_is_refused(tmp_path: Path) -> None:
    """A bundle directory holds no links, even to the right content."""
    place = put_folder(tmp_path / "x", content(make()))
    (place / "model.onnx").rename(tmp_path / "elsewhere")
    (place / "model.onnx").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UnsafeFileError, match=r"model\.onnx is not a regular file"):
        Bundle.read(place)


def test_a_name_standing_twice_is_refused(tmp_path: Path) -> None:
    """Two entries of one name could show one content to the check and another to the reader."""
    place = put_zip(tmp_path / "x.cada", content(make()))
    with warnings.catch_warnings(), zipfile.ZipFile(place, "a") as archive:
        warnings.simplefilter("ignore")
        archive.writestr("model.onnx", b"other")
    with pytest.raises(UnsafeFileError, match="stands twice"):
        Bundle.read(place)


def test_a_compressed_zip_is_refused(tmp_path: Path) -> None:
    """Bundles are stored as they are, so no entry can be a decompression bomb."""
    bomb = {**content(make()), "images.json": bytes(10_000_000)}
    with pytest.raises(UnsafeFileError, match="is compressed"):
        Bundle.read(put_zip(tmp_path / "x.cada", bomb, method=zipfile.ZIP_DEFLATED))


def test_a_zip_that_claims_more_than_it_has_is_refused(tmp_path: Path) -> None:
    """Sizes in the directory of the zip are not believed beyond the size of the file."""
    place = put_zip(tmp_path / "x.cada", content(make()))
    data = bytearray(place.read_bytes())
    entry = data.index(b"PK\x01\x02")
    data[entry + 24 : entry + 28] = struct.pack("<I", 4_000_000_000)
    place.write_bytes(data)
    with pytest.raises(UnsafeFileError, match="claims"):
        Bundle.read(place)


def test_too_many_files_are_refused(tmp_path: Path) -> None:
    """A bundle is a handful of files; thousands are an attack or a mistake."""
    many = {f"f{i}.json": b"" for i in range(100)}
    with pytest.raises(UnsafeFileError, match="at most 64"):
        Bundle.read(put_zip(tmp_path / "x.cada", signed({**content(make()), **many})))
    with pytest.raises(UnsafeFileError, match="at most 64"):
        make(**many)


class Evil:
    """A pickle that would leave a mark if anybody loaded it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("pwned",)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_offered_as_weights_is_refused(tmp_path: Path, protocol: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights that are a pickle under any name are refused unopened."""
    monkeypatch.chdir(tmp_path)
    files = {**content(make()), "head.safetensors": pickle.dumps(Evil(), protocol)}
    with pytest.raises(UnsafeFileError, match="expected safetensors"):
        Bundle.read(put_zip(tmp_path / "x.cada", signed(files)))
    assert not (tmp_path / "pwned").exists()


def test_a_torch_file_offered_as_weights_or_bundle_is_refused(tmp_path: Path) -> None:
    """torch.save makes a zip around a pickle: recognised in both places."""
    torch_file = put_zip(tmp_path / "model.pt", {"archive/data.pkl": pickle.dumps({})})
    with pytest.raises(UnsafeFileError, match="looks like a pickle"):
        make().with_file("head.safetensors", torch_file.read_bytes())
    with pytest.raises(UnsafeFileError, match=r"archive/data\.pkl"):
        Bundle.read(torch_file)


def test_a_number_beyond_a_float_is_refused_when_read() -> None:
    """It would become infinity, with which the manifest could not be written again."""
    document = json.loads(make().manifest.to_json())
    document["provenance"] = [{"name": "train", "version": "1", "config": {"rate": "HERE"}}]
    with pytest.raises(BundleError, match="1e999 is not a number that a float holds"):
        Manifest.from_json(json.dumps(document).replace('"HERE"', "1e999").encode())


@pytest.mark.parametrize("schema", [0, 2, 99, "1", None, True, 1.0])
def test_another_schema_is_refused_with_both_numbers(tmp_path: Path, schema: object) -> None:
    """A bundle from a newer version says so instead of being half understood."""
    document = json.loads(make().manifest.to_json())
    files = {**FILES, "bundle.json": json.dumps({**document, "schema": schema}).encode()}
    with pytest.raises(BundleSchemaError, match=rf"schema {schema!r}.*reads schema 1; install"):
        Bundle.read(put_zip(tmp_path / "x.cada", signed(files)))


@pytest.mark.parametrize(
    "manifest",
    [b"", b"[]", b"3", b"null", b"{}", b'{"schema": 1}', b"\xff\xfe", b"[" * 100_000, b'{"schema": 1, "spec": NaN}'],
)
def test_a_manifest_that_is_none_is_refused(tmp_path: Path, manifest: bytes) -> None:
    """Digests may fit and the manifest still be nonsense."""
    with pytest.raises(BundleError, match=r"bundle\.json"):
        Bundle.read(put_zip(tmp_path / "x.cada", signed({**FILES, "bundle.json": manifest})))


@pytest.mark.parametrize(
    "changes",
    [
        {"surprise": 1},
        {"threshold": 1.0},
        {"provenance": 5},
        {"provenance": [{"name": 1, "version": "0", "config": {}}]},
        {"detector": {"kind": [], "config": {}}},
        {"head": {"kind": "cada", "config": 3}},
        {"spec": {"mean": [1e400, 0, 0]}},
    ],
)
def test_a_manifest_that_does_not_fit_its_schema_is_refused(changes: dict[str, Any]) -> None:
    """Unknown keys and wrong types are errors, never ignored."""
    document = {**json.loads(make().manifest.to_json()), **changes}
    with pytest.raises(BundleError, match=r"bundle\.json"):
        Manifest.from_json(json.dumps(document).encode())


def test_a_stage_run_again_replaces_its_record() -> None:
    """Provenance has one line per stage: the one that made what is inside."""
    again = make().with_stage(Stage("train", "0.2.0", {}))
    both = again.with_stage(Stage("calibrate", "0.2.0", {}), threshold=None)
    assert [(s.name, s.version) for s in both.manifest.provenance] == [("train", "0.2.0"), ("calibrate", "0.2.0")]
    assert both.manifest.threshold is None


def test_files_cannot_be_changed_in_place() -> None:
    """A bundle in memory stays what was verified."""
    with pytest.raises(TypeError):
        make().files["model.onnx"] = b"other"  # type: ignore[index]  # the point of the test


def test_an_absent_file_comes_with_a_hint() -> None:
    """Asking for a file that is not there says how to get it."""
    with pytest.raises(BundleError, match=r"no encoder\.safetensors; train again"):
        make().file("encoder.safetensors", "train again")
    assert make().file("model.onnx") == b"graph"


def test_a_path_that_is_no_bundle_says_what_is_missing(tmp_path: Path) -> None:
    """Wrong paths get an error that fits: absent, a folder of something else, a text file."""
    with pytest.raises(DataError, match="No such file"):
        Bundle.read(tmp_path / "absent.cada")
    (tmp_path / ".bashrc").write_text("x")
    with pytest.raises(BundleError, match=r"not a cada-edge bundle: it has no bundle\.json"):
        Bundle.read(tmp_path)
    with pytest.raises(BundleIntegrityError, match="not a whole bundle"):
        Bundle.read(tmp_path / ".bashrc")


def test_a_folder_of_something_else_is_never_replaced(tmp_path: Path) -> None:
    """Writing to a directory that holds other things refuses and deletes nothing."""
    home = tmp_path / "home"
    (home / "photos").mkdir(parents=True)
    (home / "letter.txt").write_text("dear")
    with pytest.raises(DataError, match=r"is not a bundle; name a new file or an empty directory"):
        make().write(home)
    assert (home / "letter.txt").read_text() == "dear"
    assert (home / "photos").is_dir()


def test_a_full_disk_leaves_the_old_bundle_alone(place: Path) -> None:
    """A write that runs out of room is one clear error, and what was there is still there."""
    make().write(place)
    code = (
        "import resource, sys; from cada_edge import Bundle, CadaEdgeError\n"
        "bundle = Bundle.read(sys.argv[1]).with_file('model.onnx', bytes(1 << 20))\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "try: bundle.write(sys.argv[1])\n"
        "except CadaEdgeError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, place], capture_output=True, text=True, check=True)
    assert "cannot write the bundle: File too large" in done.stdout
    assert Bundle.read(place) == make()
    assert [p.name for p in place.parent.iterdir()] == ["line.cada"]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """A missing folder is an error that names the path, and nothing is made."""
    with pytest.raises(DataError, match=r"line\.cada: cannot write the bundle"):
        make().write(tmp_path / "missing" / "line.cada")
    assert list(tmp_path.iterdir()) == []


def test_written_files_can_be_read_by_the_service_user(place: Path) -> None:
    """The line often runs as another user than the one who trained: modes allow reading."""
    make().write(place)
    assert place.stat().st_mode & 0o444 == 0o444


def test_the_digest_changes_with_any_file() -> None:
    """Bundle.sha256 names one content: the digest of its SHA256SUMS."""
    assert make().sha256 == hashlib.sha256(make().sums()).hexdigest()
    assert make().with_file("model.onnx", b"x").sha256 != make().sha256


def test_a_copied_directory_is_the_same_bundle(tmp_path: Path) -> None:
    """Directory bundles survive ordinary copying."""
    source = tmp_path / "a"
    source.mkdir()
    make().write(source)
    shutil.copytree(source, tmp_path / "b")
    assert Bundle.read(tmp_path / "b") == make()


def test_the_limit_is_checked_before_content_is_read(tmp_path: Path) -> None:
    """A sparse file of 5 GiB in a bundle directory is refused by its size alone."""
    place = put_folder(tmp_path / "x", content(make()))
    os.truncate(place / "model.onnx", 5 << 30)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UnsafeFileError, match="bytes unpacked"):
        Bundle.read(place)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1 << 20  # KiB: far below the file
