from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from runtime_kit import picture

from cada_edge.errors import ConfigError, DataError, MissingDependencyError
from cada_edge.imaging import write_png
from cada_edge.protocols import Source
from cada_edge.runtime.feed import Triggered
from cada_edge.runtime.sources import introspection
from cada_edge.runtime.sources.config import SourceConfig
from cada_edge.runtime.sources.open import PreparedSource, PreparedTriggeredSource, open_configured
from cada_edge.runtime.sources.uri import open_source
from cada_edge.strict_yaml import validated


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"rotate": 45}, "rotate: got 45"),
        ({"rotate": True}, "rotate: got True"),
        ({"roi": {"x": 0, "y": 0, "width": 4, "height": 9}}, "roi.width: got 4"),
        ({"roi": {"x": -1, "y": 0, "width": 9, "height": 9}}, "roi.x: got -1"),
        ({"roi": {"x": 0, "y": 0, "width": 9}}, "roi.height: missing"),
        ({"trigger": "maybe"}, "trigger: got 'maybe'"),
        ({"trigger_line": "Line 1; rm"}, "trigger_line"),
        ({"exposure_us": 0}, "exposure_us: got 0"),
        ({"exposure_us": float("nan")}, "exposure_us"),
        ({"gain_db": 900}, "gain_db: got 900"),
        ({"quality": {"min_brightness": 200, "max_brightness": 100}}, "must be below max_brightness"),
        ({"quality": {"max_clipped": 2}}, "max_clipped: got 2"),
        ({"quality": {"sharp": 2}}, "quality.sharp: unknown key"),
        ({"roy": 2}, "roy: unknown key"),
        ({"uri": ""}, "uri"),
    ],
)
def test_a_wrong_setting_is_named(section: dict[str, Any], words: str) -> None:
    """Each mistake in a source's section says its field, and what was expected."""
    with pytest.raises(ConfigError, match=words):
        validated(SourceConfig, {"uri": "folder:images", **section}, "line.yaml: sources.0")


def test_everything_a_section_says_is_applied_in_order(tmp_path: Path) -> None:
    """Region, then flat field, then rotation, then quality; the flat field is found beside line.yaml."""
    (tmp_path / "images").mkdir()
    write_png(tmp_path / "images" / "a.png", picture(100, 40))
    write_png(tmp_path / "flat.png", picture(50, 40))
    section = {
        "uri": "folder:images", "id": "cam7", "roi": {"x": 2, "y": 4, "width": 20, "height": 10}, "rotate": 270,
        "flat_field": "flat.png", "quality": {"min_brightness": 101},
    }  # fmt: skip
    source = open_configured(SourceConfig.model_validate(section), tmp_path)
    assert isinstance(source, Source)
    (frame,) = source.frames()
    assert frame.image is not None
    assert (frame.image.shape, frame.source_id, frame.status) == ((20, 10, 3), "cam7", "poor")
    assert "too dark: brightness 100" in frame.note


def test_an_absent_flat_field_is_refused_before_the_camera_is_opened(tmp_path: Path) -> None:
    """The error names the file."""
    section = {"uri": "aravis://GV01", "flat_field": "flat.png"}
    with pytest.raises(DataError, match=r"flat\.png"):
        open_configured(SourceConfig.model_validate(section), tmp_path)


def test_only_a_triggered_source_can_be_triggered() -> None:
    """A line tells by the method; a source that runs by itself does not have it."""
    assert not issubclass(PreparedSource, Triggered)
    assert issubclass(PreparedTriggeredSource, Triggered)


@pytest.mark.parametrize(
    ("uri", "absent", "words"),
    [
        ("pylon://1", "pypylon.pylon", r"pip install 'cada-edge\[pylon\]'"),
        ("gentl:///maker.cti", "harvesters.core", r"pip install 'cada-edge\[gentl\]'"),
        ("aravis://GV01", "gi", r"apt install python3-gi gir1.2-aravis-0.8"),
        ("csi://0", "gi", r"apt install python3-gi gir1.2-gst-plugins-base-1.0"),
    ],
)
def test_an_absent_package_is_named_with_its_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, uri: str, absent: str, words: str
) -> None:
    """Whoever asks for a camera whose driver is not installed reads how to install it, at once."""
    monkeypatch.setitem(sys.modules, absent, None)
    monkeypatch.setattr(introspection, "_SYSTEM", tmp_path)
    with pytest.raises(MissingDependencyError, match=words):
        open_source(uri)
