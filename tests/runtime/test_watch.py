"""The PLC's side: what `watch` reads, and what it says when nobody answers."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from itertools import islice

import pytest
from plc_kit import Place, place
from typer.testing import CliRunner

from cada_edge.cli.app import build
from cada_edge.cli.watch import passes
from cada_edge.errors import SinkError
from cada_edge.runtime.registers import ResultFlag, StatusBlock, StatusFlag
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


def test_each_new_result_is_seen(sink: Place) -> None:
    """A result that stands when the client connects is yielded, and so is the next one."""
    judge(sink, 1, 0.25)
    blocks = (block for block in watch(Target(port=sink.port), patience_s=10) if block.seq)
    first = next(blocks)
    judge(sink, 2, 0.75)
    second = next(blocks)
    assert [passes(first), passes(second)] == [True, False]
    assert (first.seq, second.seq, second.score) == (1, 2, 0.75)


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
        (StatusFlag.ONLINE, ResultFlag.PASS),
        (StatusFlag(0), ResultFlag(0)),
    ],
)
def test_only_an_online_valid_pass_passes(flags: StatusFlag, result: ResultFlag) -> None:
    """Everything but ONLINE and RESULTS_VALID with PASS alone is a reject."""
    assert not passes(StatusBlock(flags=flags, result=result))


def test_the_command_prints_json_lines(sink: Place) -> None:
    """`cada-edge watch --json --count 1` gives one object a script can read."""
    judge(sink, 1, 0.25)
    done = CliRunner().invoke(build("watch"), ["watch", "--port", str(sink.port), "--count", "1", "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["pass"] is True
