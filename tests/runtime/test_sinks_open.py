from __future__ import annotations

import json
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from outbox_kit import Receiver
from records_kit import fetch, judged, result
from runtime_kit import make_bundle, wait_until, write_line

from cada_edge.errors import ConfigError, SinkError
from cada_edge.runtime.config import load_config, parse_config
from cada_edge.runtime.drift import DriftReport
from cada_edge.runtime.line import run_line
from cada_edge.runtime.records.rows import ResultRecord
from cada_edge.runtime.sinks.config import SinksConfig
from cada_edge.runtime.sinks.isolated import IsolatedSink
from cada_edge.runtime.sinks.open import isolated_sinks
from cada_edge.types import Frame, Prediction, Verdict

SMALL: dict[str, Any] = {"schema": 1, "bundle": "b", "sources": [{"uri": "images"}]}
DRIFT = DriftReport("cam1", 200, 90, 0.4, 1e-9, True, 0.3, 0.2, 0.1, 1.0, False)


class Everything:
    """A sink that takes whatever there is to take, and can be told to fail when tended."""

    def __init__(self, error: Exception | None = None) -> None:
        self.got: list[str] = []
        self.pictures: list[bool] = []
        self.tended, self._error = threading.Event(), error

    def send(self, verdict: Verdict, frame: Frame, prediction: Prediction | None) -> None:
        """Remember it, and whether there was a picture."""
        self.got.append(verdict.status)
        self.pictures.append(frame.image is not None)

    def result(self, record: ResultRecord) -> None:
        """Remember it."""
        self.got.append(f"result {record.seq}")

    def drift(self, report: DriftReport) -> None:
        """Remember it."""
        self.got.append(f"drift {report.source_id}")

    def use_bundle(self, bundle: object) -> None:
        """Remember it."""
        self.got.append("bundle")

    def tend(self) -> None:
        """Remember it."""
        self.tended.set()
        if self._error:
            raise self._error

    def healthy(self) -> bool:
        """Always."""
        return True

    def close(self) -> None:
        """Nothing."""


def test_everything_reaches_a_sink_in_the_order_it_came() -> None:
    """Verdicts, results, drift and a new bundle are not mixed up, and a sink is tended when idle."""
    sink = Everything()
    isolated = IsolatedSink(sink, "x", lambda *_: None)
    judgement = judged(0)
    isolated.send(judgement.verdict, judgement.frame, judgement.prediction)
    isolated.result(result(5))
    isolated.use_bundle(make_bundle())
    isolated.drift(DRIFT)
    isolated.send(judgement.verdict, judgement.frame, judgement.prediction)
    assert sink.tended.wait(20)
    isolated.close()
    assert sink.got == ["ok", "result 5", "bundle", "drift cam1", "ok"]
    assert sink.pictures == [True, True]


def test_a_sink_without_need_of_pictures_gets_none() -> None:
    """So that thousands of frames may wait for it without filling the memory."""
    sink = Everything()
    isolated = IsolatedSink(sink, "x", lambda *_: None, pictures=False)
    judgement = judged(0)
    isolated.send(judgement.verdict, judgement.frame, judgement.prediction)
    isolated.close()
    assert sink.pictures == [False]


def test_a_failing_tend_is_told_and_no_lost_verdict() -> None:
    """The error goes to `on_error`; the thread goes on."""
    told: list[str] = []
    sink = Everything(SinkError("no space"))
    isolated = IsolatedSink(sink, "x", lambda name, error: told.append(f"{name}: {error}"))
    wait_until(lambda: bool(told))
    isolated.result(result(1))
    isolated.close()
    assert (told[0], sink.got, isolated.failures) == ("x: no space", ["result 1"], 0)


def test_a_line_leaves_records_pictures_and_deliveries(tmp_path: Path) -> None:
    """From line.yaml alone: database, archive, tables and a webhook, at paths beside the file."""
    receiver = Receiver()
    sinks = {
        "records": {"sqlite": "r.sqlite", "csv": "v.csv", "max_rows": 1000, "max_days": 30},
        "archive": {"dir": "archive", "keep_passes": 1, "min_free_bytes": 0},
        "webhook": {"url": f"http://127.0.0.1:{receiver.port}/"},
    }
    config = load_config(write_line(tmp_path, sinks=sinks))
    summary = run_line(config, on_problem=lambda *_: None)
    receiver.stop()
    assert (summary.frames, summary.problems) == (4, ())
    statuses = ["ok", "ng", "ok", "ng"]
    assert [row[0] for row in fetch(tmp_path / "r.sqlite", "SELECT status FROM verdicts ORDER BY id")] == statuses
    assert [body["status"] for body in receiver.got] == statuses
    assert len(list((tmp_path / "archive" / "passes").iterdir())) == 2
    assert len((tmp_path / "v.csv").read_text().splitlines()) == 5
    assert (tmp_path / "webhook-outbox.sqlite").exists()


def test_what_was_opened_is_closed_where_a_later_sink_cannot_be(tmp_path: Path) -> None:
    """A wrong archive folder after a good database: the error is told, and no thread is left."""
    (tmp_path / "x").write_text("")
    config = SinksConfig.model_validate(
        {"records": {"sqlite": tmp_path / "r.sqlite"}, "archive": {"dir": tmp_path / "x"}}
    )
    before = threading.active_count()
    with ExitStack() as stack, pytest.raises(SinkError, match=r"sinks\.archive\.dir"):
        isolated_sinks(config, make_bundle(), lambda *_: None, stack)
    assert threading.active_count() == before
    assert not (tmp_path / "r.sqlite-wal").exists()


@pytest.mark.parametrize(
    ("sinks", "named"),
    [
        ({"records": {"max_rows": 5}}, "give sqlite"),
        ({"records": {"sqlite": "a", "max_days": 0}}, "max_days"),
        ({"archive": {}}, "dir"),
        ({"archive": {"dir": "a", "keep_passes": 0}}, "keep_passes"),
        ({"archive": {"dir": "a", "quality": 96}}, "quality"),
        ({"mqtt": {}}, "host"),
        ({"mqtt": {"host": "h", "topic": "a/#"}}, "topic"),
        ({"mqtt": {"host": "h", "topic": "$SYS"}}, "topic"),
        ({"mqtt": {"host": "h", "ca_file": "ca.pem"}}, "tls: true"),
        ({"mqtt": {"host": "h", "tls": True, "cert_file": "c"}}, "belong together"),
        ({"mqtt": {"host": "h", "password_env": "P"}}, "needs a username"),
        ({"mqtt": {"host": "h", "username": "u", "password_env": "P", "password_file": "p"}}, "not both"),
        ({"mqtt": {"host": "h", "password": "hush"}}, "unknown key"),
        ({"webhook": {"url": "ftp://host/"}}, "http:// or https://"),
        ({"webhook": {"url": "http://"}}, "http:// or https://"),
        ({"webhook": {"url": "http://host:hush/"}}, "port"),
        ({"webhook": {"url": "http://user:hush@host/"}}, "token_file"),
        ({"webhook": {"url": "http://host/a b"}}, "percent-encoded"),
        ({"webhook": {"url": "http://host/\r\nX: y"}}, "percent-encoded"),
        ({"webhook": {"url": "http://h/", "token_file": "a", "token_env": "B"}}, "not both"),
        ({"records": {"sqlite": "a"}, "mqtt": {"host": "h", "outbox": "a"}}, "same file"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(sinks: dict[str, Any], named: str) -> None:
    """Before anything starts, naming what is wrong and showing no password."""
    with pytest.raises(ConfigError) as caught:
        parse_config({**SMALL, "sinks": sinks})
    assert named in str(caught.value)
    assert "hush" not in str(caught.value)


def test_every_path_becomes_absolute(tmp_path: Path) -> None:
    """Relative to line.yaml, defaults included; what is absolute stays."""
    sections = {
        "records": {"sqlite": "r.sqlite", "jsonl": "/var/v.jsonl"},
        "archive": {"dir": "pictures"},
        "mqtt": {"host": "h", "username": "u", "password_file": "secret"},
        "webhook": {"url": "http://h/", "outbox": "sub/w.sqlite"},
    }
    document = json.loads(json.dumps({**SMALL, "sinks": sections}))
    (tmp_path / "line.yaml").write_text(json.dumps(document))
    sinks = load_config(tmp_path / "line.yaml").sinks
    assert sinks.records is not None
    assert sinks.archive is not None
    assert sinks.mqtt is not None
    assert sinks.webhook is not None
    assert (sinks.records.sqlite, sinks.records.jsonl) == (tmp_path / "r.sqlite", Path("/var/v.jsonl"))
    assert sinks.archive.dir == tmp_path / "pictures"
    assert (sinks.mqtt.outbox, sinks.mqtt.password_file) == (tmp_path / "mqtt-outbox.sqlite", tmp_path / "secret")
    assert sinks.webhook.outbox == tmp_path / "sub" / "w.sqlite"
