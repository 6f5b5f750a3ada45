"""VisA and Real-IAD by their official split files, and CSV manifests: names from outside, checked."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from cada_edge.data.dataset import check
from cada_edge.data.readers import read_dataset
from cada_edge.errors import DataError

Draw = Callable[[Iterable[str]], None]
Entry = dict[str, Any]


@pytest.fixture
def visa(tmp_path: Path, draw: Draw, mask: Callable[..., None]) -> Path:
    """VisA: one product; one picture lies there that the split does not name."""
    normal = "candle/Data/Images/Normal"
    draw([f"{normal}/0000.JPG", f"{normal}/0001.JPG", f"{normal}/0002.JPG", "candle/Data/Images/Anomaly/000.JPG"])
    mask("candle/Data/Masks/Anomaly/000.png", slice(0, 3), value=2)
    lines = [
        "object,split,label,image,mask",
        f"candle,train,normal,{normal}/0001.JPG,",
        f"candle,test,normal,{normal}/0000.JPG,",
        "candle,test,anomaly,candle/Data/Images/Anomaly/000.JPG,candle/Data/Masks/Anomaly/000.png",
    ]
    (tmp_path / "split_csv").mkdir()
    (tmp_path / "split_csv/1cls.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_visa_follows_its_official_split(visa: Path) -> None:
    """Exactly the pictures named, each with product, split, defect and mask."""
    dataset = read_dataset(visa, "visa")
    data = visa / "candle/Data"
    assert [(i.path, i.product, i.split, i.defect, i.masks) for i in dataset.items] == [
        (data / "Images/Anomaly/000.JPG", "candle", "test", "anomaly", (data / "Masks/Anomaly/000.png",)),
        (data / "Images/Normal/0000.JPG", "candle", "test", None, ()),
        (data / "Images/Normal/0001.JPG", "candle", "train", None, ()),
    ]
    check(dataset.items)


def test_a_file_that_the_split_names_and_that_is_missing_is_named(visa: Path) -> None:
    """The message holds the split file's line and the path."""
    (visa / "candle/Data/Images/Normal/0000.JPG").unlink()
    with pytest.raises(DataError, match=r"1cls\.csv, line 3: names .*Normal/0000\.JPG', which does not exist"):
        read_dataset(visa, "visa")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("candle,train,anomaly,{a},{m}", "split 'train' with label 'anomaly'"),
        ("candle,test,broken,{a},{m}", "label 'broken'"),
        ("candle,test,anomaly,{a},", "names ''"),
        (",test,normal,{a},", "object is empty"),
        ("candle,test,normal", "expected the 5 fields of the header"),
        ("candle,test,normal,{a},,more", "expected the 5 fields of the header"),
        ('candle,test,normal,"{a}', "not CSV"),
    ],
)
def test_a_broken_line_of_the_split_is_named(visa: Path, line: str, message: str) -> None:
    """A label, a field or a quote out of place is never guessed at."""
    names = {"a": "candle/Data/Images/Anomaly/000.JPG", "m": "candle/Data/Masks/Anomaly/000.png"}
    (visa / "split_csv/1cls.csv").write_text(f"object,split,label,image,mask\n{line.format(**names)}")
    with pytest.raises(DataError, match=rf"1cls\.csv, (line 2|after line 1): .*{message}"):
        read_dataset(visa, "visa")


def test_visa_without_its_split_file_says_so(visa: Path) -> None:
    """The split is part of the benchmark: none is invented."""
    (visa / "split_csv/1cls.csv").unlink()
    with pytest.raises(DataError, match=r"split_csv/1cls\.csv: does not exist; expected the official split of VisA"):
        read_dataset(visa, "visa")


def entry(defect: str, image: str, mask: str | None = None) -> Entry:
    """One picture as Real-IAD lists it."""
    return {"category": "tape", "anomaly_class": defect, "image_path": image, "mask_path": mask}


@pytest.fixture
def real_iad(tmp_path: Path, draw: Draw, mask: Callable[..., None]) -> Path:
    """Real-IAD: one product; one view of a defective part does not show the defect."""
    good = [f"OK/S000{n}/tape_000{n}_OK_C1_1.jpg" for n in (1, 2)]
    bad, hidden, truth = (f"NG/QS/S0003/tape_0003_NG_{end}" for end in ("C1_1.jpg", "C2_1.jpg", "C1_1.png"))
    draw(f"realiad_256/tape/{path}" for path in (*good, bad, hidden))
    mask(f"realiad_256/tape/{truth}", slice(0, 2))
    split = {
        "meta": {"pre_transform": "", "normal_class": "OK", "prefix": "tape/"},
        "train": [entry("OK", good[0])],
        "test": [entry("OK", good[1]), entry("QS", bad, truth), entry("OK", hidden)],
    }
    write_split(tmp_path, split)
    return tmp_path


def write_split(root: Path, split: Entry) -> Path:
    """The split file of the one product."""
    path = root / "realiad_jsons/tape.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(split))
    return path


def test_real_iad_follows_its_official_split(real_iad: Path) -> None:
    """Product, split, defect and mask come from the split file; an OK view has no mask."""
    dataset = read_dataset(real_iad, "real-iad")
    home = real_iad / "realiad_256/tape"
    defect = home / "NG/QS/S0003/tape_0003_NG_C1_1.jpg"
    assert [(i.path, i.product, i.split, i.defect, i.masks) for i in dataset.items] == [
        (defect, "tape", "test", "QS", (defect.with_suffix(".png"),)),
        (home / "NG/QS/S0003/tape_0003_NG_C2_1.jpg", "tape", "test", None, ()),
        (home / "OK/S0001/tape_0001_OK_C1_1.jpg", "tape", "train", None, ()),
        (home / "OK/S0002/tape_0002_OK_C1_1.jpg", "tape", "test", None, ()),
    ]
    assert "realiad_256" in dataset.notes[0]
    check(dataset.items)


def test_real_iad_in_several_sizes_asks_for_one(real_iad: Path, draw: Draw) -> None:
    """No size is picked in silence; the folder of one size is a root, its split files beside it."""
    whole = read_dataset(real_iad, "real-iad")
    draw(["realiad_512/tape/OK/S0001/tape_0001_OK_C1_1.jpg"])
    with pytest.raises(DataError, match=r"in 2 sizes \(realiad_256, realiad_512\); name one of these folders"):
        read_dataset(real_iad, "real-iad")
    assert read_dataset(real_iad / "realiad_256", "real-iad").items == whole.items


def test_real_iad_split_files_may_lie_one_level_deeper(real_iad: Path) -> None:
    """As the archive unpacks, beside the single-view and the fully unsupervised splits."""
    whole = read_dataset(real_iad, "real-iad")
    deeper = real_iad / "realiad_jsons/realiad_jsons"
    deeper.mkdir()
    (real_iad / "realiad_jsons/tape.json").rename(deeper / "tape.json")
    assert read_dataset(real_iad, "real-iad").items == whole.items


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"meta": {}}, "does not hold 'normal_class'"),
        ({"train": None}, "train is NoneType, expected a list"),
        ({"train": ["tape"]}, r"train\[0\]: expected an object with"),
        ({"train": [entry("QS", "a.jpg")]}, r"train\[0\]: shows a defect \('QS'\)"),
        ({"test": [entry("OK", "OK/none.jpg")]}, r"test\[0\]: names .*OK/none\.jpg', which does not exist"),
        ({"test": [entry("OK", "../../../etc/passwd")]}, "stays inside"),
        ({"meta": {"normal_class": "OK", "prefix": "/etc"}}, "stays inside"),
    ],
)
def test_a_broken_real_iad_split_is_named(real_iad: Path, change: Entry, message: str) -> None:
    """A missing key, a wrong type, a missing file or a path that leaves the images is an error with its place."""
    path = real_iad / "realiad_jsons/tape.json"
    write_split(real_iad, {**json.loads(path.read_text()), **change})
    with pytest.raises(DataError, match=rf"tape\.json.*{message}"):
        read_dataset(real_iad, "real-iad")


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000])
def test_real_iad_splits_that_are_no_json_object_are_refused(real_iad: Path, text: str) -> None:
    """Also one that is nested without end."""
    (real_iad / "realiad_jsons/tape.json").write_text(text)
    with pytest.raises(DataError, match=r"tape\.json: (not JSON|holds list)"):
        read_dataset(real_iad, "real-iad")


@pytest.fixture
def parts(tmp_path: Path, draw: Draw, mask: Callable[..., None]) -> Path:
    """A folder of four pictures and two masks, and where its manifest would lie."""
    draw(["a.png", "cam/b.png", "cam/c.png", "cam/d.png"])
    mask("m1.png", slice(0, 2))
    mask("m2.png", slice(4, 6))
    return tmp_path / "parts.csv"


def test_a_manifest_names_everything(parts: Path) -> None:
    """Product, split, label and one or several masks; any case, any order of columns, a byte order mark."""
    lines = ["product,path,split,label,mask", "nut, a.png ,train,,", "nut,cam/b.png,Test,Good,"]
    lines += ["bolt,cam/c.png,test,bent,m1.png", "bolt,cam/d.png,test,torn,m1.png; m2.png"]
    parts.write_text("\ufeff" + "\r\n".join(lines))
    dataset = read_dataset(parts, "csv")
    root = parts.parent
    assert dataset.root == root
    assert [(i.path, i.product, i.split, i.defect, i.masks) for i in dataset.items] == [
        (root / "a.png", "nut", "train", None, ()),
        (root / "cam/b.png", "nut", "test", None, ()),
        (root / "cam/c.png", "bolt", "test", "bent", (root / "m1.png",)),
        (root / "cam/d.png", "bolt", "test", "torn", (root / "m1.png", root / "m2.png")),
    ]


def test_a_manifest_needs_paths_alone(parts: Path) -> None:
    """Then every picture is a good one to learn from."""
    parts.write_text("path\na.png\ncam/b.png\n")
    assert [(i.split, i.product, i.defect) for i in read_dataset(parts, "csv").items] == [("train", "", None)] * 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file\na.png\n", r"has columns \['file'\]; expected a CSV file with the columns path"),
        ("path,lable\na.png,good\n", "has columns"),
        ("path,path\na.png,a.png\n", "has columns"),
        ("", "has columns"),
        ("path\n", "names no picture"),
        ("path\na.png\na.png\n", "line 3: names .*a\\.png a second time"),
        ("path,split\na.png,val\n", "line 2: split is 'val', expected train or test"),
        ("path,label\na.png,bent\n", "line 2: label 'bent' is a defect"),
        ("path,split,mask\na.png,test,m1.png\n", "line 2: has a mask though"),
        ("path\n/etc/passwd\n", "line 2: names '/etc/passwd', expected a path that stays inside"),
        ("path\ncam/../../x.png\n", "stays inside"),
        ("path\ncam\n", "is no regular file"),
        ("path\na\0.png\n", "line (1|2)"),
        (f"path\n{'a/' * 4000}b.png\n", "no usable path"),
        (f"path\n{'x' * 200_000}\n", "not CSV: field larger"),
    ],
)
def test_a_hostile_or_careless_manifest_is_refused(parts: Path, text: str, message: str) -> None:
    """Unknown columns, paths that leave the folder, folders, NULs and endless names: one error with the line."""
    parts.write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        read_dataset(parts, "csv")
    assert len(str(caught.value)) < 1000


def test_a_manifest_cannot_lead_out_by_a_link_or_into_a_pipe(
    parts: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """What a name resolves to counts, and only regular files are opened."""
    outside = tmp_path_factory.mktemp("elsewhere") / "x.png"
    outside.write_bytes(b"x")
    (parts.parent / "link.png").symlink_to(outside)
    os.mkfifo(parts.parent / "pipe.png")
    for name, message in (("link.png", "links out of"), ("pipe.png", "is no regular file")):
        parts.write_text(f"path\n{name}\n")
        with pytest.raises(DataError, match=message):
            read_dataset(parts, "csv")


def test_a_manifest_that_is_no_text_is_refused(parts: Path) -> None:
    """Neither a spreadsheet's binary file nor a folder is read as CSV."""
    parts.write_bytes(b"PK\x03\x04\xff\xfe")
    with pytest.raises(DataError, match=r"parts\.csv: not UTF-8"):
        read_dataset(parts, "csv")
    with pytest.raises(DataError, match="is no regular file; expected a CSV file"):
        read_dataset(parts.parent, "csv")
