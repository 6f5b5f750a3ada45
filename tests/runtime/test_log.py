"""Faults in the log: all of a kind counted, none of them a flood."""

from __future__ import annotations

import io
import json
from typing import Any

from cada_edge.runtime.health import Problems
from cada_edge.runtime.log import ProblemLog


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    """Each line, parsed."""
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_ever_new_words_of_one_component_are_limited_and_the_rest_counted() -> None:
    """Ten thousand different messages in a minute make twenty lines, and the next tells of the others."""
    stream, now_s = io.StringIO(), [0.0]
    problems = Problems(ProblemLog(20, stream, lambda: now_s[0]))
    for number in range(10_000):
        problems.note("source cam1", ValueError(f"f{number}.png is torn"))
    assert len(lines(stream)) == 20
    now_s[0] = 61.0
    problems.note("source cam1", ValueError("lost"))
    assert lines(stream)[-1]["left_out"] == 9980
    problems.note("source cam1", ValueError("lost again"))
    assert "left_out" not in lines(stream)[-1]


def test_a_year_of_new_messages_does_not_fill_the_memory() -> None:
    """The summary names the first 500 kinds; what came after is told at once and counted in one line a component."""
    told: list[str] = []
    problems = Problems(lambda _component, message, _count: told.append(message))
    for number in range(3_000):
        problems.note("sink csv", ValueError(f"f{number}.png is torn"))
    problems.note("sink csv", ValueError("f3.png is torn"))
    assert len(told) == 3_000
    assert len(problems.lines()) == 501
    assert problems.lines()[3] == "sink csv: f3.png is torn (2 times)"
    assert problems.lines()[-1] == "sink csv: other problems (2500 times)"


def test_messages_that_differ_in_a_number_alone_are_of_one_kind() -> None:
    """A disk that stays full is one line of the summary, however many records wait meanwhile; codes differ."""
    told: list[str] = []
    problems = Problems(lambda _component, message, _count: told.append(message))
    for waiting in range(1, 201):
        problems.note(
            "records", ValueError(f"/data/v.sqlite: full; {waiting} records wait in memory, {waiting} are lost")
        )
    for status in (401, 503, 503):
        problems.note("webhook", ValueError(f"webhook 10.0.0.7:80: answered HTTP {status}; check the url"))
    assert problems.lines() == (
        "records: /data/v.sqlite: full; 200 records wait in memory, 200 are lost (200 times)",
        "webhook: webhook 10.0.0.7:80: answered HTTP 401; check the url",
        "webhook: webhook 10.0.0.7:80: answered HTTP 503; check the url (2 times)",
    )
    assert len(told) == 3 + 2


def test_a_noisy_component_does_not_silence_another() -> None:
    """Each has its own allowance."""
    stream = io.StringIO()
    log = ProblemLog(2, stream)
    for number in range(10):
        log("sink csv", f"full {number}", 1)
    log("runner", "out of memory", 1)
    assert [line["component"] for line in lines(stream)] == ["sink csv", "sink csv", "runner"]


def test_a_line_feed_in_a_message_stays_in_its_line() -> None:
    """Nobody can forge a log line by naming a file so."""
    stream = io.StringIO()
    ProblemLog(stream=stream)("source cam1", 'x\n{"event": "verdict", "status": "ok"}', 1)
    assert len(stream.getvalue().splitlines()) == 1
