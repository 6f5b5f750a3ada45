"""A line while something goes wrong: no PASS that should not be, no record lost, and back to work. Short form."""

from __future__ import annotations

import importlib.util
import shutil
import time
from pathlib import Path

import pytest
from campaign_faults import FAULTS, Fault
from campaign_plc import Notes
from campaign_run import campaign, settle

NEEDED = {"cv2": "sources need opencv", "h11": "the page needs h11", "onnxruntime": "the runner needs onnxruntime"}
KINDS = [fault for fault in FAULTS if shutil.which("mosquitto") or "broker" not in fault.name]
HALVES = {"first": KINDS[::2], "second": KINDS[1::2]}


@pytest.mark.slow
@pytest.mark.parametrize("half", HALVES)
def test_no_fault_yields_a_pass_that_should_not_be_or_costs_a_record(half: str, tmp_path: Path) -> None:
    """Every kind of fault once: no wrong, late or second PASS, every result recorded, and work goes on after it."""
    for module, reason in NEEDED.items():
        if importlib.util.find_spec(module) is None:
            pytest.skip(reason)
    faults: list[Fault] = HALVES[half]
    outcome = campaign(tmp_path, faults, seed=0)
    assert not outcome.violations
    assert not outcome.lost
    assert [one.fault for one in outcome.injections] == [fault.name for fault in faults]
    assert [one.fault for one in outcome.injections if one.recovered_s is None] == []
    assert outcome.parts > 10
    assert any(one.judged for one in outcome.injections)


def test_a_part_judged_before_more_trouble_is_no_recovery() -> None:
    """Back to work is the first of two parts in a row, eight seconds after the cause, not the one before the sign."""
    now_ns = time.monotonic_ns()
    ago = {seconds: now_ns - seconds * 1_000_000_000 for seconds in range(1, 11)}
    notes = Notes(signs=[(ago[3], "UNKNOWN")], normal_ns=[ago[9], ago[2], ago[1]])
    assert settle(notes, ago[10]) == 8.0
