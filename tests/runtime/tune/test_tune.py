from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from runtime_kit import make_bundle, make_frame, picture, tiny_model, write_line

from cada_edge.bundle import Bundle
from cada_edge.cli.app import run as program
from cada_edge.errors import BundleError, ConfigError
from cada_edge.runtime.benchmark.stats import Ratio
from cada_edge.runtime.config import load_config
from cada_edge.runtime.judge import Judge
from cada_edge.runtime.line import run_line
from cada_edge.runtime.runners.how import How, LocalOptions
from cada_edge.runtime.runners.open import open_runner
from cada_edge.runtime.runners.ort import OrtRunner
from cada_edge.runtime.tune import search
from cada_edge.runtime.tune.candidates import Candidate, candidates, thread_counts
from cada_edge.runtime.tune.parity import answer, disagreement
from cada_edge.runtime.tune.search import TuneOptions, Tuning, tune
from cada_edge.types import Prediction

Tune = Callable[..., tuple[int, str, str]]
QUICK = TuneOptions(screen=5, n=20, threads=(1,))


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny bundle and four pictures beside it; the user's cache is a folder of the test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(search, "PAUSE_S", 0.0)
    write_line(tmp_path)
    return tmp_path / "line.cada"


@pytest.fixture
def cada_edge(capsys: pytest.CaptureFixture[str]) -> Tune:
    """The program, run to its end in this process: exit code, standard output, standard error."""

    def call(*arguments: str | Path) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as left:
            program([*map(str, arguments)])
        told, code = capsys.readouterr(), left.value.code
        return (code if isinstance(code, int) else 0), told.out, told.err

    return call


def tuned(path: Path, options: TuneOptions = QUICK) -> Tuning:
    """A short search over the pictures beside the bundle."""
    pictures = sorted((path.parent / "images").iterdir())
    return tune(Bundle.read(path), path, pictures, options, lambda *_: None)


def with_ways(monkeypatch: pytest.MonkeyPatch, *ways: How) -> None:
    """Let the search try these."""
    named = [Candidate(f"way {number}", way) for number, way in enumerate(ways)]
    monkeypatch.setattr(search, "candidates", lambda _precision, _threads: named)


def test_every_way_is_measured_and_the_best_again_in_turns(bundle: Path) -> None:
    """As many calls of each in the first round, as many of the best in the second, with a ratio and its interval."""
    found = tuned(bundle)
    assert [len(one.screen_ns) for one in found.tried] == [5] * len(found.tried)
    finalists = [one for one in found.tried if one.final_ns]
    assert {len(one.final_ns) for one in finalists} == {20}
    assert found.tried[0] in finalists
    for one in finalists[1:]:
        assert one.ratio is not None
        assert one.ratio.low <= one.ratio.value <= one.ratio.high
    assert found.verdicts == {"ok": 2, "ng": 2}


def test_nothing_replaces_the_default_without_confidence(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The default against itself is not faster, whatever its median says."""
    with_ways(monkeypatch, How("ort"), How("ort"))
    monkeypatch.setattr(search, "ratio", lambda *_, **__: Ratio(0.99, 0.97, 1.01))
    found = tuned(bundle)
    assert found.best is found.tried[0]
    assert found.choice().ratio == (1.0, 1.0, 1.0)


def test_what_is_surely_faster_is_chosen(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A way whose interval lies below 1 takes the place of the default, with its options."""
    with_ways(monkeypatch, How("ort"), How("ort", threads=1, graph=LocalOptions("basic")))
    monkeypatch.setattr(search, "ratio", lambda *_, **__: Ratio(0.5, 0.4, 0.6))
    choice = tuned(bundle).choice()
    assert (choice.backend, choice.threads, choice.level) == ("ort", 1, "basic")
    assert choice.ratio == (0.5, 0.4, 0.6)


def test_a_way_that_decides_otherwise_is_out(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However fast it is: another verdict on one picture refuses it."""
    with_ways(monkeypatch, How("ort"), How("ort", threads=1))

    def crooked(read: Bundle, path: Path, how: How) -> OrtRunner:
        other = make_bundle(tiny_model(scale=5000.0))
        return OrtRunner(other if how.threads else read, 1)

    monkeypatch.setattr(search, "open_runner", crooked)
    found = tuned(bundle)
    assert "where ONNX Runtime says" in found.tried[1].refused
    assert not found.tried[1].screen_ns


def prediction(score: float, **changes: float) -> Prediction:
    """Of one picture."""
    values = {"score": score, "u": 0.0, "gamma": 1.0, "novelty": 0.1, **changes}
    numbers = {name: np.array([value], np.float32) for name, value in values.items()}
    return Prediction(map=np.full((1, 2, 2), score, np.float32), **numbers)


@pytest.mark.parametrize(
    ("ours", "said"),
    [
        (prediction(0.4), ""),
        (prediction(0.4001), ""),
        (prediction(0.402), "score differs"),
        (prediction(0.4, u=0.001), "u differs"),
        (prediction(float("nan")), "undecided"),
    ],
)
def test_numbers_may_differ_by_rounding_alone(ours: Prediction, said: str) -> None:
    """Equal verdicts are not enough: a score that has moved says that another picture may be decided otherwise."""
    threshold = make_bundle().manifest.threshold
    told = disagreement([answer(picture(0), ours, threshold)], [answer(picture(0), prediction(0.4), threshold)])
    assert said in told
    assert bool(said) == bool(told)


def test_two_that_give_no_number_agree() -> None:
    """NaN where the reference has NaN is no difference: both reject."""
    lost = answer(picture(0), prediction(float("nan")), make_bundle().manifest.threshold)
    assert disagreement([lost], [lost]) == ""


def test_threads_are_those_of_the_process() -> None:
    """One and all are tried, and never more than there are; the default comes first and once."""
    counts = thread_counts()
    assert counts[0] == 1
    assert len(set(counts)) == len(counts)
    ways = candidates("fp32")
    assert ways[0].how == How("ort")
    assert len({way.how for way in ways}) == len(ways)


def test_tune_keeps_what_run_and_benchmark_take(bundle: Path, cada_edge: Tune) -> None:
    """The program writes tune.json; a line with backend auto is then run so, and its verdicts are the same."""
    before = run_line(load_config(bundle.parent / "line.yaml"))
    images = bundle.parent / "images"
    code, told, error = cada_edge("tune", bundle, "--images", images, "--screen", "5", "--n", "20", "--json")
    assert code == 0, error
    document = json.loads(told)
    assert Path(document["file"]) == bundle.with_name("line.cada.tune.json")
    assert document["verdicts"] == {"ok": 2, "ng": 2}
    after = run_line(load_config(bundle.parent / "line.yaml"))
    assert (before.ok, before.ng) == (after.ok, after.ng) == (2, 2)
    code, told, _ = cada_edge("inspect", bundle, "--json")
    assert json.loads(told)["runs_here"]["backend"] == document["choice"]["backend"]
    code, told, error = cada_edge("benchmark", bundle, "--n", "5", "--warmup", "1", "--no-fresh")
    assert code == 0, error
    assert f"line.cada auto ({document['choice']['backend']})" in told


def test_other_precisions_are_told_and_never_chosen(bundle: Path, cada_edge: Tune) -> None:
    """What a graph of lower precision gains and moves is shown; the choice is of the precision asked for."""
    other = Bundle.read(bundle).with_file("model.int8.onnx", tiny_model(scale=5000.0).SerializeToString())
    other.write(bundle)
    arguments = ["--images", bundle.parent / "images", "--screen", "5", "--n", "20", "--threads", "1"]
    code, told, error = cada_edge("tune", bundle, *arguments, "--json")
    assert code == 0, error
    document = json.loads(told)
    one = document["others"][0]
    assert (one["name"], one["calls"], len(one["ratio"])) == ("int8, ort", 20, 3)
    assert (one["moved"]["verdicts"], one["moved"]["pictures"]) == (2, 4)
    assert one["moved"]["score_rms"] > 0
    assert document["key"]["precision"] == "fp32"
    code, told, error = cada_edge("tune", bundle, *arguments, "--dry-run")
    assert code == 0, error
    assert "int8, ort" in told
    assert "2 of 4" in told


def test_a_precision_without_scores_has_no_distance(bundle: Path, cada_edge: Tune) -> None:
    """A graph that gives NaN moves every verdict; what is printed is still JSON, which has no NaN."""
    Bundle.read(bundle).with_file("model.int8.onnx", tiny_model(scale=math.nan).SerializeToString()).write(bundle)
    arguments = ["--images", bundle.parent / "images", "--screen", "5", "--n", "20", "--threads", "1", "--dry-run"]
    code, told, error = cada_edge("tune", bundle, *arguments, "--json")
    assert code == 0, error
    moved = json.loads(told, parse_constant=pytest.fail)["others"][0]["moved"]
    assert moved == {"verdicts": 4, "pictures": 4, "score_rms": None}


def test_another_precision_that_cannot_run_is_named(bundle: Path) -> None:
    """A broken graph of another precision refuses itself, not the tuning."""
    Bundle.read(bundle).with_file("model.fp16.onnx", b"no graph").write(bundle)
    one = tuned(bundle).others[0]
    assert one.moved is None
    assert "model.fp16.onnx" in one.tried.refused


def test_a_way_that_only_looks_faster_is_not_called_so(
    bundle: Path, cada_edge: Tune, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing wins for sure the default's row says `chosen`, and `inspect` that tune ran and found nothing."""

    def inspected() -> str:
        return re.sub(r"\s+", " ", cada_edge("inspect", bundle)[1])

    with_ways(monkeypatch, How("ort"), How("ort"))
    monkeypatch.setattr(search, "ratio", lambda *_, **__: Ratio(0.99, 0.97, 1.01))
    assert "`cada-edge tune` looks for something faster" in inspected()
    code, told, error = cada_edge("tune", bundle, "--screen", "5", "--n", "20")
    assert code == 0, error
    (row,) = [line for line in told.splitlines() if "chosen" in line]
    assert "way 0" in row
    assert "fastest" not in told
    assert "`cada-edge tune` ran and found nothing faster" in inspected()


def test_a_dry_run_keeps_nothing(bundle: Path, cada_edge: Tune) -> None:
    """Measured and shown, but no file is written."""
    code, told, error = cada_edge("tune", bundle, "--screen", "5", "--n", "20", "--threads", "1", "--dry-run")
    assert code == 0, error
    assert "ort, as it comes" in told
    assert not bundle.with_name("line.cada.tune.json").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--n", "3"], "--n"),
        (["--screen", "0"], "--screen"),
        (["--threads", "x"], "1,2"),
        (["--threads", "0"], "--threads"),
        (["--precision", "int8"], "int8"),
        (["--images", "nowhere"], "nowhere"),
    ],
)
def test_a_wrong_use_is_one_clear_line(bundle: Path, cada_edge: Tune, arguments: list[str], said: str) -> None:
    """What is wrong, never a traceback; exit code 2 for a value that no option takes, 1 for what is not there."""
    code, _, error = cada_edge("tune", bundle, *arguments)
    assert code == (1 if said in {"int8", "nowhere"} else 2)
    assert said in error
    assert "Traceback" not in error


def test_options_are_checked() -> None:
    """Too few calls to state a median are refused."""
    with pytest.raises(ConfigError, match="20 calls"):
        TuneOptions(n=19)


def test_openvino_decides_as_onnx_runtime(tmp_path: Path) -> None:
    """Every output of every picture, one by one and as a batch, and a score that is no number stays none."""
    pytest.importorskip("openvino", reason="needs OpenVINO: pip install 'cada-edge[openvino]'")
    bundle, path = make_bundle(), tmp_path / "line.cada"
    batch = np.stack([picture(level) for level in (0, 60, 127, 128, 255)])
    with OrtRunner(bundle, 1) as reference, open_runner(bundle, path, How("openvino", threads=1)) as runner:
        for pictures in (batch[:1], batch, batch[2:4]):
            ours, theirs = runner.infer(pictures), reference.infer(pictures)
            for name in ("score", "map", "u", "gamma", "novelty"):
                assert np.allclose(getattr(ours, name), getattr(theirs, name), atol=1e-5), name
    broken = make_bundle(tiny_model(nan=True))
    with open_runner(broken, path, How("openvino", threads=1)) as runner:
        assert Judge(runner, broken.manifest.threshold).judge(make_frame()).verdict.status == "undecided"


def test_openvino_compiles_nothing_while_a_line_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever number of pictures comes, each is judged by what was compiled at the start, and in its order."""
    openvino = pytest.importorskip("openvino", reason="needs OpenVINO: pip install 'cada-edge[openvino]'")
    levels = (0, 60, 127, 128, 255, 30, 200)
    batch = np.stack([picture(level) for level in levels])
    with open_runner(make_bundle(), tmp_path / "x", How("openvino", threads=1, batch=3)) as runner:
        monkeypatch.setattr(openvino.Core, "compile_model", lambda *_: pytest.fail("compiled in the line"))
        for count in range(1, len(levels) + 1):
            found = runner.infer(batch[:count])
            assert np.allclose(found.score, np.array(levels[:count]) / 255, atol=1e-5)


def test_openvino_gives_arrays_that_stay(tmp_path: Path) -> None:
    """A prediction belongs to whoever asked: the next call does not change it."""
    pytest.importorskip("openvino", reason="needs OpenVINO: pip install 'cada-edge[openvino]'")
    with open_runner(make_bundle(), tmp_path / "x", How("openvino", threads=1)) as runner:
        first = runner.infer(picture(255)[None])
        before = first.map.copy()
        runner.infer(picture(0)[None])
        assert np.array_equal(first.map, before)


def test_a_bundle_without_the_graph_names_the_command(bundle: Path) -> None:
    """Tuning a precision that was never exported says how to get it."""
    with pytest.raises(BundleError, match="int8"):
        tuned(bundle, TuneOptions(precision="int8"))
