"""`cada-edge check` judges a model by the calls the line would make: as many pictures, and their limits."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import onnx
import pytest
from runtime_kit import make_bundle, tiny_model, write_line

from cada_edge.errors import EngineError
from cada_edge.protocols import Runner
from cada_edge.runtime.assembly import load_model
from cada_edge.runtime.check import models
from cada_edge.runtime.check.dial import dial_in_turn
from cada_edge.runtime.check.finding import Finding
from cada_edge.runtime.check.models import model_dials
from cada_edge.runtime.config import load_config
from cada_edge.runtime.line import run_line
from cada_edge.types import Prediction, UInt8Array

CAMERAS = [{"uri": "folder:images", "id": f"cam{index}"} for index in range(4)]


def triggered(folder: Path, cameras: int = 4, bundle: Any = None, station: Any = None, **settings: Any) -> Path:
    """A line whose one station sees each part with several cameras."""
    stations = [{"id": "st1", "mode": "triggered", **(station or {})}]
    links = [{"kind": "modbus-server", "port": 0}]
    return write_line(folder, bundle, sources=CAMERAS[:cameras], stations=stations, links=links, **settings)


def of_one_picture() -> onnx.ModelProto:
    """The tiny model with N fixed at 1, as a foreign program may export it."""
    model = tiny_model()
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    return model


def found(path: Path) -> Finding:
    """What `check` says of the bundle."""
    (finding,) = dial_in_turn(model_dials(load_config(path)))
    return finding


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each picture takes 300 ms."""
    monkeypatch.setattr(models, "_infer_ms", lambda model, _spec: 300.0 * model.batch)


@pytest.mark.usefixtures("slow")
@pytest.mark.parametrize(
    ("station", "settings", "state", "words"),
    [
        # Four views in one call, as asked for: the line says nothing for 1.2 s, whatever the deadline allows.
        ({"deadline_ms": 3000}, {"batch": 4}, "fail", ("1200.0 ms a call of 4 pictures", "set batch: 1")),
        (
            {"deadline_ms": 3000},
            {"batch": 4},
            "fail",
            ("longer than stale_ms (1000): PIPELINE_STALLED", "stale_ms to 2401"),
        ),
        ({"deadline_ms": 3000, "stale_ms": 2000}, {"batch": 4}, "warn", ("near stale_ms (2000)", "set batch: 1")),
        ({"deadline_ms": 3000, "stale_ms": 2401}, {"batch": 4}, "ok", ("1200.0 ms a call of 4 pictures", "")),
        ({"deadline_ms": 3000}, {"batch": 1}, "ok", ("300.0 ms a call", "")),
        ({"deadline_ms": 3000, "stale_ms": 500}, {"batch": 1}, "warn", ("near stale_ms (500)", "set stale_ms to 601")),
        # The views of a part are judged in as many calls as it takes.
        (
            {"deadline_ms": 2000},
            {"batch": 1},
            "warn",
            ("1200 ms for the views of a part are near", "more than 2000 ms"),
        ),
        ({"deadline_ms": 1000}, {"batch": 1}, "fail", ("slower than the deadline", "more than 1000 ms")),
        ({}, {"batch": 1}, "fail", ("slower than the deadline", "more than 1000 ms")),  # a second where none is set
        ({"deadline_ms": 3000}, {"batch": 1, "deadline_ms": 500}, "ok", ("300.0 ms a call", "")),  # its own counts
    ],
)
def test_a_call_of_the_line_is_held_against_its_limits(
    tmp_path: Path, station: dict[str, Any], settings: dict[str, Any], state: str, words: tuple[str, str]
) -> None:
    """As many pictures as the line judges at once, against silence and deadline, with what to set."""
    said = found(triggered(tmp_path, station=station, **settings))
    assert said.state == state, said
    assert words[0] in said.found
    assert words[1] in said.advice


@pytest.mark.usefixtures("slow")
@pytest.mark.parametrize(("deadline_ms", "state"), [(200, "fail"), (500, "warn"), (700, "ok")])
def test_a_line_without_a_plc_has_its_deadline_alone(tmp_path: Path, deadline_ms: int, state: str) -> None:
    """Nobody watches for signs of life."""
    assert found(write_line(tmp_path, sources=CAMERAS, deadline_ms=deadline_ms)).state == state


def test_the_call_that_is_measured_is_the_line_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is timed are calls with the four views of a part, and no other."""
    sizes: list[int] = []

    def counted(runner: Runner) -> Runner:
        infer = runner.infer

        def counting(batch: UInt8Array) -> Prediction:
            sizes.append(len(batch))
            return infer(batch)

        monkeypatch.setattr(runner, "infer", counting)
        return runner

    monkeypatch.setattr(models, "load_model", partial(load_model, around=counted))
    assert found(triggered(tmp_path, batch=4, station={"deadline_ms": 60_000, "stale_ms": 60_000})).state == "ok"
    assert sizes[-3:] == [4, 4, 4]
    assert sizes[:-3] == [4, 4, 1, 1]  # the warm-up


def test_a_graph_of_one_picture_says_what_to_set(tmp_path: Path) -> None:
    """Where two cameras see a part, `check` and `run` both name the number that the graph takes."""
    bundle = make_bundle(of_one_picture())
    path = triggered(tmp_path, cameras=2, bundle=bundle, batch=2)
    said = found(path)
    assert (said.state, said.advice) == ("fail", "set `batch: 1` in line.yaml")
    assert "takes 1 picture at a time" in said.found
    with pytest.raises(EngineError, match=r"set `batch: 1` in line\.yaml"):
        run_line(load_config(path))
    assert found(triggered(tmp_path, cameras=2, bundle=bundle, batch=1)).state == "ok"
