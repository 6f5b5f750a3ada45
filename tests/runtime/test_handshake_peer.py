"""A whole line and a PLC by npm's modbus-serial shaking hands; longer: ``tests/peers/handshake_figures.py``."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import Any

import pytest
from handshake_figures import Part, shake_hands, violations
from runtime_kit import make_bundle, picture
from whole_line import node_modules

from cada_edge.imaging import write_png

CYCLES, NAMES = 60, ["0.png", "1.png", "2.png", "3.png"]
CYCLE = {"id": 1, "shown_id": 1, "seq": 1, "result": 1, "score": 0.25, "ms": 30.0}
GOOD: dict[str, Any] = {
    "cycles": [CYCLE, {**CYCLE, "id": 2, "shown_id": 2, "seq": 2}],
    "parts": {1: Part("0.png", 0.25, 1.0, 2.0), 2: Part("1.png", 0.25, 1.0, 2.0)},
    "torn": 0,
    "unasked": 0,
    "pass_offline": 0,
}


@pytest.mark.peer
@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
@pytest.mark.skipif(node_modules() is None, reason="npm's modbus-serial is in no folder; set CADA_EDGE_NODE_PATH")
def test_an_independent_plc_sees_each_part_once_in_order_and_its_own(tmp_path: Path) -> None:
    """Sixty triggers of another Modbus library: nothing torn, missing, late, shown twice or of another part."""
    images = tmp_path / "images"
    images.mkdir()
    for name, level in zip(NAMES, (0, 255, 10, 200), strict=True):
        write_png(images / name, picture(level))
    make_bundle().write(tmp_path / "line.cada")
    seen = shake_hands(tmp_path, tmp_path / "line.cada", images, CYCLES, idle_polls=10)
    found = violations(seen, NAMES)
    found.pop("deadlines missed (told as reject)")  # a busy machine may be late; it may not pass then
    assert set(found.values()) == {0}, found
    assert len(seen["cycles"]) == CYCLES


@pytest.mark.parametrize(
    ("change", "broken"),
    [
        ({"seq": 4}, "sequence gaps"),
        ({"ms": 1001.0}, "PASS after the deadline"),
        ({"shown_id": 1}, "answer with another trigger's number"),
        ({"score": 0.5}, "answer about another part"),
        ({"id": 9, "shown_id": 9}, "triggers without a record"),
    ],
)
def test_each_broken_promise_is_counted(change: dict[str, Any], broken: str) -> None:
    """One bad cycle among good ones shows under its name; without it every count is 0."""
    assert set(violations(GOOD, NAMES).values()) == {0}
    seen = copy.deepcopy(GOOD)
    seen["cycles"][1].update(change)
    assert violations(seen, NAMES)[broken] == 1
