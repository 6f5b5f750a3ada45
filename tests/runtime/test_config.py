from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cada_edge.errors import ConfigError
from cada_edge.runtime.config import LineConfig, load_config, parse_config
from cada_edge.strict_yaml import MAX_FILE_BYTES

WHOLE = """
schema: 1
bundle: line.cada
threads: 2
deadline_ms: 500
max_frames: 10
sources:
  - {uri: "rtsp://host/s", id: top, stall_s: 1.5}
sinks:
  modbus: {host: 127.0.0.1, port: 5020, base: 100}
  log: {}
  records: {csv: v.csv, jsonl: sub/v.jsonl}
  rejects: {dir: rejects, max_files: 10, max_bytes: 1000000}
"""
SMALL: dict[str, Any] = {"schema": 1, "bundle": "b", "sources": [{"uri": "images"}]}


def load(folder: Path, text: str) -> LineConfig:
    """Write `text` as a line.yaml and read it."""
    path = folder / "line.yaml"
    path.write_text(text)
    return load_config(path)


def test_a_whole_file_is_read(tmp_path: Path) -> None:
    """Every documented key is understood, and paths become absolute beside the file."""
    config = load(tmp_path, WHOLE)
    assert [(source.id, source.stall_s) for source in config.sources] == [("top", 1.5)]
    assert config.bundle == tmp_path / "line.cada"
    assert config.sinks.records is not None
    assert config.sinks.records.jsonl == tmp_path / "sub" / "v.jsonl"
    assert config.sinks.rejects is not None
    assert config.sinks.rejects.dir == tmp_path / "rejects"
    assert config.base_dir == tmp_path


def test_the_smallest_file_is_enough() -> None:
    """Bundle and one source suffice; every sink is off and the PLC host would be this machine."""
    config = parse_config(SMALL)
    assert (config.sinks.modbus, config.sinks.log, config.threads) == (None, None, None)
    modbus = parse_config({**SMALL, "sinks": {"modbus": {}}}).sinks.modbus
    assert modbus is not None
    assert modbus.host == "127.0.0.1"


@pytest.mark.parametrize(
    ("link", "words"),
    [
        ({"kind": "profinet"}, "links.0.kind: got 'profinet', expected one of 'modbus-server', 'opcua-server', "),
        ({"kind": [1]}, "links.0.kind: got a list, expected one of 'modbus-server', "),
        ({"host": "plc"}, "links.0.kind: missing; it must be given"),
        ("profinet", "links.0: got 'profinet', expected a mapping"),
    ],
)
def test_a_link_of_no_kind_is_told_by_its_key(link: object, words: str) -> None:
    """The key, what stands there and what may: no words of the library that reads it."""
    with pytest.raises(ConfigError) as refused:
        parse_config({**SMALL, "links": [link]})
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"treads": 2}, "treads: unknown key"),
        ({"sinks": {"modbus": {"prot": 5}}}, r"sinks\.modbus\.prot: unknown key"),
        ({"sinks": {"modbus": {"port": "5020"}}}, r"sinks\.modbus\.port: got '5020', expected a valid integer"),
        ({"sinks": {"modbus": {"port": 70000}}}, r"sinks\.modbus\.port: got 70000, expected less than or equal to"),
        ({"sinks": {"modbus": {"base": 65520}}}, r"sinks\.modbus\.base: got 65520"),
        ({"threads": True}, "threads: got True, expected a valid integer"),
        ({"threads": 0}, "threads: got 0"),
        ({"deadline_ms": -1}, "deadline_ms: got -1"),
        ({"deadline_ms": float("inf")}, "deadline_ms: got inf"),
        ({"deadline_ms": float("nan")}, "deadline_ms: got nan"),
        ({"deadline_ms": 5000, "sinks": {"modbus": {}}}, "stale_ms 1000"),
        ({"sources": []}, "sources: got a list"),
        ({"sources": "images"}, "sources: got 'images'"),
        ({"sources": [{"uri": 5}]}, r"sources\.0\.uri: got 5, expected a valid string"),
        ({"sources": [{"uri": "a", "id": "../x"}]}, r"sources\.0\.id: got '\.\./x'"),
        ({"sources": [{"uri": "a"}, {"uri": "b"}]}, "must differ"),
        ({"bundle": None}, "bundle: got None"),
        ({"schema": 2}, "schema: got 2"),
    ],
)
def test_a_mistake_is_named(change: dict[str, Any], words: str) -> None:
    """Field, what was found and what was expected stand in the message."""
    with pytest.raises(ConfigError, match=words):
        parse_config({**SMALL, **change})


@pytest.mark.parametrize("key", ["schema", "bundle", "sources"])
def test_a_missing_key_is_named(key: str) -> None:
    """What must be given is said by name."""
    with pytest.raises(ConfigError, match=f"{key}: missing"):
        parse_config({k: v for k, v in SMALL.items() if k != key})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "got nothing"),
        ("- a\n- b", "got a list"),
        ("a: [", "not valid YAML"),
        ("schema: 1\nschema: 1\n", "stands twice"),
        ("schema: 9\n", "schema: got 9.*newer"),
        ("a: !!python/object/apply:os.system ['true']", "not valid YAML"),
        ("a: &x [1]\nb: [*x, *x]", "anchors"),
        ("a: \x00", "not valid YAML"),
        ("a: !!timestamp x", "not valid YAML"),
        ("a: !!float x", "not valid YAML"),
        ("? [a, b]\n: 1", "line.yaml"),
    ],
)
def test_a_file_that_is_no_line_is_refused(tmp_path: Path, text: str, words: str) -> None:
    """Empty, foreign, broken, ambiguous or hostile YAML each has one clear error."""
    with pytest.raises(ConfigError, match=words):
        load(tmp_path, text)


def test_a_huge_file_is_refused(tmp_path: Path) -> None:
    """More than a megabyte is not read."""
    with pytest.raises(ConfigError, match="larger than"):
        load(tmp_path, "#" * (MAX_FILE_BYTES + 1))


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    """The path stands in the error, for a folder too."""
    for path in (tmp_path / "absent.yaml", tmp_path):
        with pytest.raises(ConfigError, match=str(path)):
            load_config(path)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    """A binary file is not taken for YAML."""
    (tmp_path / "line.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="UTF-8"):
        load_config(tmp_path / "line.yaml")


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda c: st.lists(c) | st.dictionaries(st.text(), c)
)


@settings(deadline=None, max_examples=50)
@given(st.sampled_from(["sources", "sinks", "bundle", "threads"]), ANYTHING)
def test_any_document_is_read_or_refused(key: str, value: Any) -> None:
    """Whatever stands under a known key, the answer is a config or a `ConfigError`."""
    with suppress(ConfigError):
        parse_config({**SMALL, key: value})


@pytest.mark.parametrize(("field", "value"), [("backend", "torch"), ("backend", "trt"), ("precision", "fp8")])
def test_a_backend_or_precision_that_no_line_has_is_refused(field: str, value: str) -> None:
    """The message names the field; nothing else runs in its place."""
    document = {"schema": 1, "bundle": "b.cada", "sources": [{"uri": "folder:x"}], field: value}
    with pytest.raises(ConfigError, match=field):
        parse_config(document)
