"""A line while something goes wrong: no PASS that should not be, no record lost, and back to work. Short form."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import pytest
from campaign_faults import FAULTS, Fault
from campaign_run import campaign

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
    assert [one for one in outcome.lost if not one.excused] == []
    assert [one.fault for one in outcome.injections] == [fault.name for fault in faults]
    assert [one.fault for one in outcome.injections if one.recovered_s is None] == []
    assert outcome.parts > 10
    assert any(one.judged for one in outcome.injections)
