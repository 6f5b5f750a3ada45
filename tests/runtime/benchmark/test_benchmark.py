from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from runtime_kit import make_bundle, picture, tiny_model, write_line

from cada_edge.cli.app import run as program
from cada_edge.imaging import write_png
from cada_edge.runtime.benchmark.line import line_facts, line_target, measure_line
from cada_edge.runtime.benchmark.result import STAGES, TOTAL, read_samples
from cada_edge.runtime.benchmark.setting import Setting
from cada_edge.runtime.config import load_config

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def benchmark(capsys: pytest.CaptureFixture[str]) -> Run:
    """`cada-edge benchmark`, run to its end in this process: exit code and all it said."""

    def call(*arguments: str | Path) -> tuple[int, str]:
        with pytest.raises(SystemExit) as left:
            program(["benchmark", *map(str, arguments)])
        told = capsys.readouterr()
        code = left.value.code
        return (code if isinstance(code, int) else 0), told.out + told.err

    return call


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A tiny bundle with a threshold."""
    make_bundle().write(tmp_path / "line.cada")
    return tmp_path / "line.cada"


def small(**more: str) -> list[str]:
    """Options of a short run."""
    options = {"n": "30", "warmup": "3", "threads": "1", **more}
    return [word for name, value in options.items() for word in (f"--{name}", value)] + ["--no-fresh"]


def wired(folder: Path, **settings: Any) -> Path:
    """A line of a folder with a Modbus server."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    sinks = {"modbus": {"port": port, "base": 100}, **settings.pop("sinks", {})}
    return write_line(folder, sinks=sinks, **settings)


def test_every_stage_of_every_frame_is_in_the_file(benchmark: Run, bundle: Path, tmp_path: Path) -> None:
    """The stages of a frame sum up to no more than its total, and the file says what was measured."""
    code, told = benchmark(bundle, *small(json=str(tmp_path / "a.json"), seed="7"))
    assert code == 0, told
    document = json.loads((tmp_path / "a.json").read_text())
    samples = document["subjects"][0]["samples_ns"]
    assert set(samples) == {*STAGES, TOTAL}
    for parts in zip(*(samples[stage] for stage in STAGES), samples[TOTAL], strict=True):
        assert 0 < sum(parts[:-1]) <= parts[-1]
    assert document["setting"]["seed"] == 7
    assert len(document["subjects"][0]["facts"]["sha256"]) == 64
    assert document["subjects"][0]["summary"][TOTAL]["p99_ms"] is None
    assert {"before", "after", "throttled"} <= set(document["state"])


def test_only_a_pair_can_differ(benchmark: Run, bundle: Path) -> None:
    """The whole is always more than the model alone: that is no difference to point out. Two bundles may differ."""
    assert "differs" not in benchmark(bundle, *small())[1]
    assert "differs" in benchmark(bundle, "--against", bundle, *small())[1]


def test_what_falls_behind_its_rate_says_so(
    benchmark: Run, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The note of a run whose frames wait ever longer is in the terminal and in the file."""
    monkeypatch.setattr("cada_edge.runtime.benchmark.run.falling_behind", lambda *_: "cannot be kept up")
    told = benchmark(bundle, *small(rate="200", json=str(tmp_path / "a.json")))[1]
    assert "cannot be kept up" in told
    assert read_samples(tmp_path / "a.json")[0].notes == ["cannot be kept up"]


def test_cameras_come_together_and_share_calls(benchmark: Run, bundle: Path, tmp_path: Path) -> None:
    """Four cameras in calls of two: half as many calls as frames, all of a round due at one time."""
    benchmark(bundle, *small(cameras="4", batch="2", n="20", json=str(tmp_path / "a.json")))
    (found,) = read_samples(tmp_path / "a.json")
    assert (len(found.stages[TOTAL]), len(found.stages["infer"])) == (20, 10)
    assert len(set(found.starts_ns)) == 5


def test_a_fixed_rate_counts_from_the_schedule(benchmark: Run, bundle: Path, tmp_path: Path) -> None:
    """Frames are due at equal distances, and each total holds its wait."""
    benchmark(bundle, *small(rate="200", json=str(tmp_path / "a.json")))
    (found,) = read_samples(tmp_path / "a.json")
    steps = {b - a for a, b in zip(found.starts_ns, found.starts_ns[1:], strict=False)}
    assert steps == {5_000_000}
    assert all(wait < total for wait, total in zip(found.stages["wait"], found.stages[TOTAL], strict=True))


@pytest.mark.parametrize("rate", [None, "100"])
def test_the_real_line_is_timed_from_source_to_register(benchmark: Run, tmp_path: Path, rate: str | None) -> None:
    """Sources, PLC process and registers of a line.yaml; the stages, wait too, are the whole way."""
    more = {"rate": rate} if rate else {}
    code, told = benchmark("--line", wired(tmp_path), *small(json=str(tmp_path / "a.json"), **more))
    assert code == 0, told
    (found,) = read_samples(tmp_path / "a.json")
    assert sum(found.verdicts.values()) == 30
    assert {"ok", "ng"} <= set(found.verdicts)
    names = ("wait", *STAGES) if rate else STAGES
    assert set(found.stages) == {*names, TOTAL}
    for parts in zip(*(found.stages[stage] for stage in names), found.stages[TOTAL], strict=True):
        assert min(parts) >= 0
        assert sum(parts[:-1]) == parts[-1]
    if rate:
        assert {b - a for a, b in zip(found.starts_ns, found.starts_ns[1:], strict=False)} == {10_000_000}


def test_two_bundles_are_measured_in_turns(benchmark: Run, bundle: Path, tmp_path: Path) -> None:
    """As many frames of each, one after the other, and the ratio with its interval."""
    make_bundle(tiny_model(scale=300.0)).write(tmp_path / "other.cada")
    code, told = benchmark(bundle, "--against", tmp_path / "other.cada", *small(json=str(tmp_path / "a.json")))
    assert code == 0, told
    first, second = read_samples(tmp_path / "a.json")
    order = sorted([*((t, 0) for t in first.starts_ns), *((t, 1) for t in second.starts_ns)])
    assert [subject for _, subject in order] == [0, 1] * 30
    ratio = json.loads((tmp_path / "a.json").read_text())["ratios"]["total p50"]
    assert ratio["low"] <= ratio["value"] <= ratio["high"]


def test_earlier_runs_are_compared(benchmark: Run, bundle: Path, tmp_path: Path) -> None:
    """A run against itself has a ratio of one and does not differ."""
    benchmark(bundle, *small(json=str(tmp_path / "a.json")))
    code, told = benchmark("--compare", tmp_path / "a.json", tmp_path / "a.json")
    assert code == 0, told
    assert re.search(r"total p50\W+1\.000", told)
    assert "measured alike" in told


def test_a_comparison_names_what_was_not_alike(benchmark: Run, bundle: Path, tmp_path: Path) -> None:
    """Whoever compares a closed loop with a rate, or one call with two, reads so in one line; the rest is left out."""
    benchmark(bundle, *small(json=str(tmp_path / "a.json")))
    benchmark(bundle, *small(json=str(tmp_path / "b.json"), rate="200", batch="2"))
    code, told = benchmark("--compare", tmp_path / "a.json", tmp_path / "b.json")
    assert code == 0, told
    (said,) = [line for line in told.splitlines() if line.startswith("not alike")]
    assert said == "not alike: loop: closed and 200 frames a second; batch: 1 and 2; cameras: 1 and 2"


def test_a_comparison_takes_files_of_earlier_versions(benchmark: Run, bundle: Path, tmp_path: Path) -> None:
    """What a file does not state is not known; it is compared all the same."""
    benchmark(bundle, *small(json=str(tmp_path / "a.json")))
    document = json.loads((tmp_path / "a.json").read_text())
    del document["pictures"], document["subjects"][0]["facts"]["how"]
    (tmp_path / "b.json").write_text(json.dumps(document))
    code, told = benchmark("--compare", tmp_path / "a.json", tmp_path / "b.json")
    assert code == 0, told
    assert "pictures: made up and not known" in told


@pytest.mark.parametrize(
    ("more", "named"),
    [(["--json", "c.json"], "--json"), (["--html", "c.html"], "--html"), (["--budget", "1us@p50"], "--budget"),
     (["line.cada"], "BUNDLE"), (["--threads", "1", "--rate", "5"], "--threads, --rate")],
)  # fmt: skip
def test_a_comparison_refuses_what_it_would_ignore(benchmark: Run, more: list[str], named: str) -> None:
    """A budget beside two files would be kept by nobody: it is refused by its name."""
    code, told = benchmark("--compare", "a.json", "b.json", *more)
    assert code == 2
    assert f"{named}: --compare only reads" in told


@pytest.mark.parametrize("with_sinks", [False, True])
def test_a_line_keeps_its_records_to_itself_unless_asked(benchmark: Run, tmp_path: Path, with_sinks: bool) -> None:
    """No row and no reject of a measurement lies among the real ones; file, page and terminal say which it was."""
    sinks = {"records": {"sqlite": "records.sqlite"}, "rejects": {"dir": "rejects"}}
    more = ["--with-sinks"] if with_sinks else []
    places = small(json=str(tmp_path / "a.json"), html=str(tmp_path / "a.html"))
    code, told = benchmark("--line", wired(tmp_path, sinks=sinks), *places, *more)
    assert code == 0, told
    assert (tmp_path / "records.sqlite").exists() == (tmp_path / "rejects").exists() == with_sinks
    document, key = json.loads((tmp_path / "a.json").read_text()), "sinks_measured" if with_sinks else "sinks_left_out"
    assert document["line"][key] == ["records", "rejects"]
    assert document["pictures"] == "of the line's sources"
    assert f"line.{key}</dt><dd>[&#x27;records&#x27;, &#x27;rejects&#x27;]" in (tmp_path / "a.html").read_text()
    assert ("--with-sinks" in told) != with_sinks


def test_a_line_opens_no_page_unless_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An operator who looks at the line's page sees real parts; a measurement says that it left the page out."""
    monkeypatch.setattr("cada_edge.runtime.assembly.PagePublisher", lambda *_: pytest.fail("opened"))
    config = load_config(wired(tmp_path, page={"port": 8080}))
    target = line_target(config, Setting(n=10, warmup=1, threads=1))
    measure_line(config, target, lambda _done, _total: None)
    assert line_facts(config, with_sinks=False)["sinks_left_out"] == ["page"]


def test_a_line_states_its_sources_without_passwords(tmp_path: Path) -> None:
    """Every source by its id and address; who reads the file learns no password."""
    sources = [{"id": "cam0", "uri": "folder:images"}, {"id": "far", "uri": "rtsp://user:secret@192.0.2.1/x"}]
    facts = line_facts(load_config(write_line(tmp_path, sources=sources)), with_sinks=False)
    assert list(facts["sources"]) == ["cam0", "far"]
    assert "192.0.2.1/x" in facts["sources"]["far"]
    assert "secret" not in str(facts)


@pytest.mark.parametrize(("budget", "code"), [("1s@max", 0), ("1us@p50", 1)])
def test_a_budget_decides_the_exit_code(benchmark: Run, bundle: Path, budget: str, code: int) -> None:
    """A script sees from the exit code whether the limit was kept."""
    assert benchmark(bundle, *small(budget=budget))[0] == code


class _Addresses(HTMLParser):
    """Everything a page would fetch or run."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [tag] if tag in {"script", "link", "img", "iframe"} else []
        self.found += [name for name, _ in attrs if name in {"src", "href"}]


def test_the_page_needs_nothing_else(benchmark: Run, bundle: Path, tmp_path: Path) -> None:
    """Three plots, no script, no address; a name cannot become markup."""
    hostile = tmp_path / "<b>x.cada"
    bundle.rename(hostile)
    benchmark(hostile, *small(html=str(tmp_path / "a.html")))
    text = (tmp_path / "a.html").read_text()
    parser = _Addresses()
    parser.feed(text)
    assert parser.found == []
    assert text.count("<svg") == 3
    assert "<b>x" not in text
    assert not re.search(r"\bnan\b|\binf\b", text)


def test_a_fresh_process_tells_cold_start_and_blocks(benchmark: Run, bundle: Path, tmp_path: Path) -> None:
    """Steps of the cold start come one after the other; no stage of a warm frame asks for a block over 4 KiB."""
    arguments = [one for one in small(json=str(tmp_path / "a.json")) if one != "--no-fresh"]
    code, told = benchmark(bundle, *arguments)
    assert code == 0, told
    document = json.loads((tmp_path / "a.json").read_text())
    for run in document["cold_start"]:
        steps = [run[name] for name in ("imported_ms", "bundle_read_ms", "model_open_ms", "first_verdict_ms")]
        assert steps == sorted(steps)
        assert run["rss_bytes"] <= run["peak_bytes"]
    blocks = document["allocations"]["per_frame"]
    if blocks is None:
        pytest.skip(document["allocations"]["how"])
    assert set(blocks) == {"copy", "infer", "decide"}
    assert {stage: counted["large"] for stage, counted in blocks.items()} == {"copy": 0, "infer": 0, "decide": 0}


def _refusals(folder: Path) -> dict[str, tuple[list[str | Path], str]]:
    """Wrong uses, and what must be said of each."""
    good, bare = folder / "line.cada", folder / "bare.cada"
    make_bundle().write(good)
    make_bundle(threshold=None).write(bare)
    write_png(folder / "one.png", picture(1))
    (folder / "empty").mkdir()
    slow = wired(folder / "slow", sources=[{"uri": "folder:images?fps=10"}])
    lost = wired(folder / "lost", sources=[{"uri": "v4l2:///dev/video77"}])
    mute = write_line(folder / "mute")
    (folder / "other.json").write_text("{}")
    return {
        "nothing": ([], "BUNDLE"),
        "no bundle": ([folder / "none.cada"], "none.cada"),
        "no threshold": ([bare], "calibrate"),
        "no threshold against": ([good, "--against", bare], "calibrate"),
        "n = 0": ([good, "--n", "0"], "--n: got 0"),
        "batch 0": ([good, "--batch", "0"], "--batch: got 0"),
        "sinks of no line": ([good, "--with-sinks"], "--line"),
        "json in no folder": ([good, "--json", folder / "none" / "a.json"], "does not exist; make it"),
        "json is a folder": ([good, "--json", folder / "empty"], "is a folder; name a file in it"),
        "html in no folder": ([good, "--html", folder / "none" / "a.html"], "--html"),
        "rate 0": ([good, "--rate", "0"], "--rate: got 0"),
        "budget": ([good, "--budget", "20"], "20ms@p99"),
        "budget without frames": ([good, "--n", "10", "--budget", "1s@p99"], "299"),
        "backend": ([good, "--backend", "tensorrt"], "tensorrt"),
        "precision": ([good, "--precision", "int8"], "int8"),
        "batch": ([good, "--batch", "4", "--cameras", "2"], "--cameras"),
        "affinity": ([good, "--affinity", "x"], "0,2-3"),
        "foreign core": ([good, "--affinity", "999"], "expected some of"),
        "against nothing": ([good, "--against", "openvnio"], "openvnio"),
        "empty folder": ([good, "--images", folder / "empty"], "no picture"),
        "no json": (["--compare", folder / "one.png", folder / "one.png"], "not JSON"),
        "other json": (["--compare", folder / "other.json", folder / "other.json"], "expected"),
        "rate above the source": (["--line", slow, "--rate", "50"], "10 frames a second"),
        "no signal": (["--line", mute], "sinks.modbus"),
        "pictures beside a line": (["--line", slow, "--images", folder], "--images: a line judges pictures of its own"),
        "no camera": (["--line", lost], "video77"),
    }


_NOT_THE_COMMAND_LINE = {
    "no bundle", "no threshold", "no threshold against", "json in no folder", "json is a folder", "html in no folder",
    "backend", "precision", "empty folder", "no json", "other json", "no signal", "no camera",
}  # fmt: skip


@pytest.mark.parametrize("case", [
    "nothing", "no bundle", "no threshold", "no threshold against", "n = 0", "rate 0", "budget",
    "batch 0", "sinks of no line", "json in no folder", "json is a folder", "html in no folder",
    "budget without frames", "backend", "precision", "batch", "affinity", "foreign core", "against nothing",
    "empty folder", "no json", "other json", "rate above the source", "no signal", "no camera",
    "pictures beside a line",
])  # fmt: skip
def test_a_wrong_use_is_one_clear_line(benchmark: Run, tmp_path: Path, case: str) -> None:
    """A message that names what is wrong, never a traceback; exit code 1 where a file or the machine is to blame."""
    arguments, said = _refusals(tmp_path)[case]
    code, told = benchmark(*arguments, "--no-fresh")
    assert code == (1 if case in _NOT_THE_COMMAND_LINE else 2), told
    assert "error:" in told
    assert said in told
    assert "Traceback" not in told


def test_a_place_that_cannot_be_written_is_found_before_anything_is_measured(
    benchmark: Run, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits for three thousand frames to learn that a folder is missing."""
    monkeypatch.setattr("cada_edge.cli.benchmark.run_benchmark", lambda *_, **__: pytest.fail("measured"))
    monkeypatch.setattr("os.access", lambda _path, mode: not mode & os.W_OK)
    code, told = benchmark(bundle, *small(html=str(tmp_path / "a.html")))
    assert code == 1
    assert "cannot be written; name a file in another" in told
