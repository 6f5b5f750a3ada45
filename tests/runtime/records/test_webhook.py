from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from outbox_kit import Receiver
from records_kit import judged, result, send
from runtime_kit import wait_until

from cada_edge.errors import SinkError
from cada_edge.runtime.sinks.config import WebhookConfig
from cada_edge.runtime.sinks.courier import Courier
from cada_edge.runtime.sinks.outbox import Outbox
from cada_edge.runtime.sinks.outbox_sink import OutboxSink
from cada_edge.runtime.sinks.webhook import WebhookTransport


class Sender:
    """An outbox that posts to a port of loopback, with what it told."""

    def __init__(self, folder: Path, port: int, **settings: Any) -> None:
        values = {"url": f"http://127.0.0.1:{port}/hook?line=3", "outbox": folder / "w.sqlite", "timeout_s": 0.3}
        config = WebhookConfig(**{**values, **settings})
        self.told: list[str] = []
        self.transport = WebhookTransport(config, lambda error: self.told.append(str(error)))
        self.outbox = Outbox(config.outbox, config.max_rows, print)
        tell = lambda error: self.told.append(str(error))  # noqa: E731  # one line says it
        self.sink = OutboxSink(self.outbox, Courier(self.outbox, self.transport, tell, pause_s=(0.02, 0.1)))

    def frames(self, start: int, stop: int) -> None:
        """Send verdicts on these frames."""
        for frame_id in range(start, stop):
            send(self.sink, judged(0, frame_id))

    def wait_empty(self) -> None:
        """Until everything has been taken."""
        wait_until(lambda: len(self.outbox) == 0)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """An HTTP server that takes everything."""
    one = Receiver()
    yield one
    one.stop()


def test_records_arrive_in_order_as_json(tmp_path: Path, receiver: Receiver) -> None:
    """Verdicts and results, one POST each, with a token that only the receiver sees."""
    (tmp_path / "token").write_text("s3cret\n")
    sender = Sender(tmp_path, receiver.port, token_file=tmp_path / "token")
    sender.frames(0, 20)
    sender.sink.result(result(4))
    sender.wait_empty()
    sender.sink.close()
    assert [body.get("frame_id", "result") for body in receiver.got] == [*range(20), "result"]
    assert receiver.got[0]["time"].endswith("Z")
    assert (receiver.got[20]["kind"], receiver.got[20]["shown"], receiver.got[20]["seq"]) == ("result", "PASS", 4)
    assert [receiver.got[20][name] for name in ("trigger_id", "part", "encoder")] == [704, 14, 5004]
    assert {headers["Authorization"] for headers in receiver.headers} == {"Bearer s3cret"}
    assert b"s3cret" not in (tmp_path / "w.sqlite").read_bytes()


def test_a_record_that_is_refused_holds_up_no_other(tmp_path: Path, receiver: Receiver) -> None:
    """HTTP 422 gives it up and says so; the next ones arrive."""
    sender = Sender(tmp_path, receiver.port)
    receiver.status = 422
    sender.frames(0, 1)
    sender.wait_empty()
    receiver.status = 200
    sender.frames(1, 4)
    sender.wait_empty()
    sender.sink.close()
    assert [body["frame_id"] for body in receiver.got] == [1, 2, 3]
    assert sender.transport.refused == 1
    assert "refused with HTTP 422" in sender.told[0]


@pytest.mark.parametrize("status", [500, 503, 401, 404, 429, 302])
def test_a_receiver_in_trouble_costs_no_record(tmp_path: Path, receiver: Receiver, status: int) -> None:
    """Its own errors, missing rights and wrong addresses keep the records until they are mended."""
    sender = Sender(tmp_path, receiver.port)
    receiver.status = status
    sender.frames(0, 5)
    wait_until(lambda: len(receiver.headers) > 2)
    receiver.status = 200
    sender.wait_empty()
    sender.sink.close()
    assert [body["frame_id"] for body in receiver.got] == list(range(5))
    assert f"HTTP {status}" in sender.told[0]


def test_a_receiver_that_comes_late_gets_all(tmp_path: Path) -> None:
    """Nobody listens, then somebody does; then he goes and comes again."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    sender = Sender(tmp_path, port)
    sender.frames(0, 10)
    wait_until(lambda: bool(sender.told))
    got: list[int] = []
    for start in (10, 20):
        receiver = Receiver(port)
        sender.frames(start, start + 10)
        sender.wait_empty()
        receiver.stop()
        got += [body["frame_id"] for body in receiver.got]
    sender.sink.close()
    assert sorted(set(got)) == list(range(30))
    assert "is the receiver up?" in sender.told[0]


def test_an_answer_that_does_not_come_is_not_waited_for(tmp_path: Path, receiver: Receiver) -> None:
    """After the time-out the record is brought again; it may arrive twice, under the same number."""
    sender = Sender(tmp_path, receiver.port)
    receiver.delay_s = 1.0
    sender.frames(0, 3)
    wait_until(lambda: any("timed out" in line for line in sender.told))
    receiver.delay_s = 0.0
    sender.wait_empty()
    sender.sink.close()
    frames = [body["frame_id"] for body in receiver.got]
    assert sorted(set(frames)) == [0, 1, 2]
    assert len({body["record"] for body in receiver.got}) == 3


@pytest.mark.parametrize(
    "answer", [b"", b"garbage\r\n\r\n", b"HTTP/1.1 999999 x\r\n\r\n", b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 500]
)
def test_what_is_no_http_is_no_receipt(tmp_path: Path, answer: bytes) -> None:
    """Silence, garbage and endless headers are told and retried; the record stays."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=talk, args=(server, answer), daemon=True).start()
        sender = Sender(tmp_path, server.getsockname()[1])
        sender.frames(0, 1)
        wait_until(lambda: bool(sender.told))
        assert len(sender.outbox) == 1
        sender.sink.close()


def talk(server: socket.socket, answer: bytes) -> None:
    """Say the same to whoever calls, until the server is closed."""
    with suppress(OSError):
        while True:
            with server.accept()[0] as caller, suppress(ConnectionError):
                caller.recv(65536)
                caller.sendall(answer)


def test_closing_does_not_wait_for_a_hung_receiver(tmp_path: Path) -> None:
    """A receiver that takes the call and never answers cannot keep the line from ending; the record stays."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        sender = Sender(tmp_path, server.getsockname()[1], timeout_s=60.0)
        sender.frames(0, 1)
        wait_until(lambda: sender.transport._connection is not None)
        sender.sink.close()
    again = Outbox(tmp_path / "w.sqlite", 10, print)
    assert len(again) == 1
    again.close()


def test_authorities_that_cannot_be_read_are_told_at_once(tmp_path: Path) -> None:
    """Before the line starts, naming the file."""
    config = WebhookConfig(url="https://127.0.0.1/", ca_file=tmp_path / "absent.pem")
    with pytest.raises(SinkError, match=r"absent\.pem"):
        WebhookTransport(config, print)
