from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cada_edge.engine_key import EngineKey, build_command, difference, parse_capability
from cada_edge.engine_store import (
    PLAN,
    PLUGIN,
    SIDECAR,
    EngineRecord,
    KernelReport,
    engines_folder,
    store,
    survey,
)
from cada_edge.errors import ConfigError, DataError, EngineError

KEY = EngineKey("tensorrt", "10.3.0.30", "8.7", "fp16", "a" * 64, "b" * 64, (1, 2, 4))
PLAN_BYTES = b"a plan"


def record(key: EngineKey = KEY) -> EngineRecord:
    """The sidecar of a plan of six bytes."""
    digest = hashlib.sha256(PLAN_BYTES).hexdigest()
    kernels = KernelReport({"correlation": 3}, {"Half": 2, "Float": 1}, {}, 1)
    return EngineRecord(key, digest, len(PLAN_BYTES), "2", "0.1.0", {"workspace_mib": None}, kernels)


def changed(**changes: Any) -> bytes:
    """The sidecar's JSON with fields of the document replaced."""
    return json.dumps({**json.loads(record().to_json()), **changes}).encode()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"flavour": "tensorrt-rtx"}, "flavour is tensorrt in the engine and tensorrt-rtx here"),
        ({"version": "10.16.0.72"}, "version is 10.3.0.30 in the engine and 10.16.0.72 here"),
        ({"compute_capability": "11.0"}, "compute_capability is 8.7 in the engine and 11.0 here"),
        ({"precision": "int8"}, "precision is fp16 in the engine and int8 here"),
        ({"onnx_sha256": "c" * 64}, "onnx_sha256 is aaaaaaaaaaaa... in the engine and cccccccccccc... here"),
        ({"plugin_sha256": ""}, "plugin_sha256 is bbbbbbbbbbbb... in the engine and none here"),
        ({"batch": (1, 1, 1)}, "batch is 1x2x4 in the engine and 1x1x1 here"),
    ],
)
def test_a_foreign_engine_is_told_by_its_field_and_both_values(changes: dict[str, Any], told: str) -> None:
    """Whatever part of the key differs, the message names it, and the digest differs too."""
    here = replace(KEY, **changes)
    assert difference(KEY, here) == told
    assert KEY.digest != here.digest
    assert difference(KEY, KEY) == ""


@pytest.mark.parametrize(
    "wrong",
    [
        {"flavour": "onnx"},
        {"version": "10.3; rm -rf"},
        {"compute_capability": "sm_87"},
        {"precision": ["fp16"]},
        {"onnx_sha256": "A" * 64},
        {"plugin_sha256": None},
        {"batch": (2, 1, 4)},
        {"batch": (1, 1, True)},
        {"batch": (1, 1, 4096)},
        {"core": "npu"},
    ],
)
def test_a_key_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    """Every field is checked, and named."""
    with pytest.raises(ConfigError, match=f"EngineKey.{next(iter(wrong))}"):
        replace(KEY, **wrong)


def test_the_command_builds_that_kind_of_engine() -> None:
    """What the message offers to type holds all that the key's owner chose."""
    assert build_command("line.cada", KEY) == (
        "cada-edge engine build line.cada --backend tensorrt --precision fp16 --batch 1,2,4"
    )
    assert build_command("x", replace(KEY, batch=(1, 1, 1), core="dla", plugin_sha256="")).endswith(
        "fp16 --plugin none --dla-core 0"
    )


@pytest.mark.parametrize("text", ["8.7", "87", "sm_87", "SM87"])
def test_a_capability_is_read_as_people_write_it(text: str) -> None:
    """One device, four spellings."""
    assert parse_capability(text) == "8.7"


@given(st.text(max_size=8))
def test_any_other_text_is_no_capability(text: str) -> None:
    """Either it is read as digits and a dot, or refused by name."""
    try:
        major, minor = parse_capability(text).split(".")
    except ConfigError as error:
        assert "target" in str(error)  # noqa: PT017  # either outcome is right
    else:
        assert int(major) >= 0
        assert int(minor) in range(10)


def test_an_engine_is_read_back_as_it_was_stored(tmp_path: Path) -> None:
    """Plan, plugin and everything said of them, from a folder beside the bundle."""
    folder = engines_folder(tmp_path / "line.cada")
    store(folder, record(), PLAN_BYTES, b"a library")
    (found,) = survey(folder).engines
    assert folder == tmp_path / "line.cada.engines"
    assert found.record == record()
    assert found.plan() == PLAN_BYTES
    assert found.plugin == folder / KEY.digest / PLUGIN
    assert {p.name for p in found.folder.iterdir()} == {PLAN, SIDECAR, PLUGIN}


def test_a_bundle_without_engines_has_none(tmp_path: Path) -> None:
    """No folder is no error."""
    assert survey(engines_folder(tmp_path / "line.cada")).engines == ()


@pytest.mark.parametrize("content", [PLAN_BYTES[:-1], b"", b"A plan"])
def test_a_truncated_plan_never_reaches_tensorrt(tmp_path: Path, content: bytes) -> None:
    """Both sizes and digests are in the message."""
    stored = store(tmp_path, record(), PLAN_BYTES)
    (stored.folder / PLAN).write_bytes(content)
    with pytest.raises(EngineError, match=f"truncated or changed: {len(content)} bytes .* built were 6"):
        stored.plan()


def test_a_missing_plan_is_named(tmp_path: Path) -> None:
    """A sidecar alone is no engine."""
    stored = store(tmp_path, record(), PLAN_BYTES)
    (stored.folder / PLAN).unlink()
    with pytest.raises(EngineError, match=r"model.engine: cannot read it"):
        stored.plan()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        b'{"schema": NaN}',
        changed(schema=2),
        changed(schema=True),
        changed(extra=1),
        changed(key={}),
        changed(key=[]),
        changed(plan_sha256="short"),
        changed(plan_bytes=-1),
        changed(settings=[]),
        changed(kernels={"layers": {"a": "b"}}),
        b"[" * 100_000,
    ],
)
def test_a_hostile_sidecar_is_refused(data: bytes) -> None:
    """Whatever a sidecar holds, it is a record or one error of ours."""
    with pytest.raises(EngineError, match="build"):
        EngineRecord.from_json(data)


@given(
    st.binary(max_size=64)
    | st.recursive(st.none() | st.text() | st.floats(), st.lists).map(lambda v: json.dumps(v).encode())
)
def test_any_bytes_are_refused_without_a_crash(data: bytes) -> None:
    """Arbitrary bytes are never an engine."""
    with pytest.raises(EngineError):
        EngineRecord.from_json(data)


def test_a_sidecar_of_any_size_is_not_read(tmp_path: Path) -> None:
    """A huge file in its place costs no memory."""
    stored = store(tmp_path, record(), PLAN_BYTES)
    with (stored.folder / SIDECAR).open("wb") as stream:
        stream.truncate(1 << 34)
    assert "at most" in survey(tmp_path).unreadable[stored.folder]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """A file where the folder should be is one clear error."""
    (tmp_path / "engines").write_text("a file")
    with pytest.raises(DataError, match="engines"):
        store(tmp_path / "engines", record(), PLAN_BYTES)
