"""An onlooker beside the PLC: what `watch` tells, and what it says when nobody answers."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import count, islice

import pytest
from plc_kit import Driver, Place, living, options, place
from runtime_kit import wait_until
from typer.testing import CliRunner

from cada_edge.cli.app import build
from cada_edge.cli.watch import _facts, _line, acknowledged, passed
from cada_edge.errors import SinkError
from cada_edge.runtime.registers import ErrorCode, OfflineReason, ResultFlag, StatusBlock, StatusFlag, safe
from cada_edge.runtime.watch import Target, watch
from cada_edge.types import Frame, Verdict

LIVE = StatusFlag.ONLINE | StatusFlag.RESULTS_VALID


@pytest.fixture
def sink() -> Iterator[Place]:
    """A server whose pipeline counts as alive for a minute."""
    with place() as server:
        yield server


def judge(sink: Place, number: int, score: float) -> None:
    """Publish one verdict against threshold 0.5."""
    now_ns = time.monotonic_ns()
    status = "ok" if score <= 0.5 else "ng"
    verdict = Verdict(status, score, 0.5, "cam1", number, now_ns, now_ns, "because")  # type: ignore[arg-type]
    sink.send(verdict, Frame(None, "cam1", number, now_ns, now_ns))


@contextmanager
def again_and_again(action: Callable[[int], None]) -> Iterator[None]:
    """Call `action` with 2, 3, 4, ... for as long as the onlooker looks: nobody knows when it began."""
    over = threading.Event()

    def act() -> None:
        for number in count(2):
            if over.is_set():
                return
            action(number)

    thread = threading.Thread(target=act)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def rest(sink: Place, number: int, score: float) -> None:
    """Judge, and leave the onlooker time to see it."""
    judge(sink, number, score)
    time.sleep(0.05)


def test_each_new_result_is_seen(sink: Place) -> None:
    """Results that come while the onlooker looks are told one after the other, each once."""
    with again_and_again(lambda number: rest(sink, number, 0.75)):
        first, second = islice(watch(Target(port=sink.port), patience_s=10), 2)
    assert first.seq < second.seq
    assert (passed(first), second.score) == (False, 0.75)


def test_a_result_that_stood_before_is_not_new(sink: Place) -> None:
    """What was decided before the onlooker came is not told."""
    judge(sink, 1, 0.25)
    plc = Driver(sink.port)
    wait_until(lambda: plc.block().seq == 1)
    with again_and_again(lambda number: rest(sink, number, 0.75)):
        (first,) = islice(watch(Target(port=sink.port), patience_s=10), 1)
    assert first.seq > 1


def test_good_parts_of_a_fast_plc_pass() -> None:
    """On a triggered station a PASS is told as one, also when the PLC has acknowledged it before we look."""
    with place(options(mode="triggered")) as station, living(station):
        plc = Driver(station.port)

        def part(number: int) -> None:
            plc.ready()
            plc.trigger(number)
            wait_until(lambda: bool(station.asked))
            station.answer(station.asked.pop().part)
            plc.result(number)
            plc.acknowledge()

        with again_and_again(part):
            blocks = list(islice(watch(Target(port=station.port), patience_s=10), 3))
    assert [passed(block) for block in blocks] == [True] * 3


def test_nobody_listening_is_one_clear_error() -> None:
    """Without a server the client gives up after its patience and says what to check."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(SinkError, match=f"127.0.0.1:{port} gave no answer"):
        list(islice(watch(Target(port=port), patience_s=0.2), 1))


@pytest.mark.parametrize(
    ("flags", "result"),
    [
        (LIVE, ResultFlag(0)),
        (LIVE, ResultFlag.FAIL | ResultFlag.REJECT),
        (LIVE, ResultFlag.UNKNOWN | ResultFlag.REJECT),
        (StatusFlag.RESULTS_VALID, ResultFlag.PASS),
        (StatusFlag(0), ResultFlag.PASS),
        (StatusFlag(0), ResultFlag(0)),
    ],
)
def test_only_an_online_pass_passes(flags: StatusFlag, result: ResultFlag) -> None:
    """Offline, or with any other word than PASS, a result is told as a reject."""
    assert not passed(StatusBlock(flags=flags, result=result))


def test_a_result_that_was_taken_back_does_not_pass() -> None:
    """A PASS that the station withdrew is told neither as PASS nor as acknowledged, also once it is online again."""
    shown = StatusBlock(flags=LIVE, result=ResultFlag.PASS, seq=7)
    withdrawn = safe(shown, OfflineReason.SOURCE_LOST)
    back = replace(withdrawn, flags=StatusFlag.ONLINE, offline=OfflineReason.NONE)
    assert [passed(one) for one in (shown, withdrawn, back)] == [True, False, False]
    assert not any(acknowledged(one) for one in (shown, withdrawn, back))


@pytest.mark.parametrize(
    ("flags", "result", "told"),
    [
        (LIVE, ResultFlag.PASS, "PASS"),
        (StatusFlag.ONLINE, ResultFlag.PASS, "PASS (acknowledged)"),
        (StatusFlag.ONLINE, ResultFlag.FAIL | ResultFlag.REJECT, "FAIL REJECT (acknowledged)"),
        (StatusFlag.ONLINE, ResultFlag.UNKNOWN | ResultFlag.REJECT, "UNKNOWN REJECT"),
    ],
)
def test_a_result_that_the_plc_took_before_is_told_so(flags: StatusFlag, result: ResultFlag, told: str) -> None:
    """Where RESULTS_VALID has fallen the line ends with that word."""
    assert _line(StatusBlock(flags=flags, result=result, score=0.25, seq=1)).endswith(f"  {told}")


def test_a_part_without_a_score_shows_none() -> None:
    """The number that stands for no score is shown as a dash with the reason."""
    block = StatusBlock(flags=LIVE, result=ResultFlag.UNKNOWN | ResultFlag.REJECT, seq=1, error=ErrorCode.NOVEL)
    assert " - (NOVEL)  threshold" in _line(block)
    assert (_facts(block)["score"], _facts(block)["error"]) == (None, "NOVEL")


def test_the_command_prints_json_lines(sink: Place) -> None:
    """`cada-edge watch --json --count 1` gives one object a script can read."""
    with again_and_again(lambda number: rest(sink, number, 0.25)):
        done = CliRunner().invoke(build("watch"), ["watch", "--port", str(sink.port), "--count", "1", "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["pass"] is True


def test_patience_is_explained() -> None:
    """The help says that patience ends with the line's silence, not with the want of results."""
    done = CliRunner().invoke(build("watch"), ["watch", "--help"], env={"COLUMNS": "200"})
    assert "once the line has not answered for so long" in done.stdout
