from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from outbox_kit import Broker, Subscriber, broker, free_port
from records_kit import judged, result, send
from runtime_kit import wait_until

from cada_edge.errors import SinkError
from cada_edge.runtime.sinks.config import MqttConfig
from cada_edge.runtime.sinks.courier import Courier
from cada_edge.runtime.sinks.mqtt import MqttTransport
from cada_edge.runtime.sinks.outbox import Outbox
from cada_edge.runtime.sinks.outbox_sink import OutboxSink

pytest.importorskip("paho.mqtt", reason="paho-mqtt is not installed; the extra `mqtt` brings it")


class Sender:
    """An outbox that publishes to a port of loopback, with what it told."""

    def __init__(self, folder: Path, port: int, **settings: Any) -> None:
        values = {"host": "127.0.0.1", "port": port, "outbox": folder / "m.sqlite", "timeout_s": 0.5, "keepalive_s": 2}
        config = MqttConfig(**{**values, **settings})
        self.told: list[str] = []
        self.outbox = Outbox(config.outbox, config.max_rows, print)
        courier = Courier(
            self.outbox, MqttTransport(config), lambda error: self.told.append(str(error)), pause_s=(0.05, 0.3)
        )  # fmt: skip
        self.sink = OutboxSink(self.outbox, courier, {"cam1": "s1"})

    def frames(self, start: int, stop: int) -> None:
        """Send verdicts on these frames."""
        for frame_id in range(start, stop):
            send(self.sink, judged(0, frame_id))

    def close(self) -> None:
        """Close the sink."""
        self.sink.close()


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Broker]:
    """A broker that asks for no password."""
    with broker(tmp_path) as one:
        yield one


def in_order_at_least_once(subscriber: Subscriber, count: int) -> int:
    """Wait for all frames; their first arrivals must be in order. Returns how many came again."""

    def first_seen() -> list[int]:
        return list(dict.fromkeys(body["frame_id"] for _, body in subscriber.got))

    wait_until(lambda: len(first_seen()) == count, 40)
    assert first_seen() == list(range(count))
    numbers = subscriber.records()
    assert len(set(numbers)) == count
    return len(numbers) - count


@pytest.mark.peer
def test_records_reach_the_broker_in_order(tmp_path: Path, mosquitto: Broker) -> None:
    """Each kind below its topic, once while nothing fails."""
    with closing(Subscriber(mosquitto.port)) as subscriber, closing(Sender(tmp_path, mosquitto.port)) as sender:
        sender.frames(0, 100)
        assert in_order_at_least_once(subscriber, 100) == 0
        sender.sink.result(result(9))
        wait_until(lambda: len(subscriber.got) == 101)
        assert [topic for topic, _ in subscriber.got] == ["cada-edge/verdict"] * 100 + ["cada-edge/result"]
        assert subscriber.got[0][1]["station"] == "s1"
        assert [subscriber.got[-1][1][name] for name in ("trigger_id", "part", "encoder")] == [709, 19, 5009]
        assert (len(sender.outbox), sender.told) == (0, [])


@pytest.mark.peer
def test_a_frozen_broker_costs_no_record(tmp_path: Path, mosquitto: Broker) -> None:
    """Stopped in mid-stream and thawed: all arrive in order; only what was under way may come twice."""
    with closing(Subscriber(mosquitto.port)) as subscriber, closing(Sender(tmp_path, mosquitto.port)) as sender:
        sender.frames(0, 30)
        mosquitto.send_signal(signal.SIGSTOP)
        sender.frames(30, 60)
        wait_until(lambda: bool(sender.told))
        mosquitto.send_signal(signal.SIGCONT)
        sender.frames(60, 90)
        again = in_order_at_least_once(subscriber, 90)
    assert again <= 16 * len(sender.told) + 16


@pytest.mark.peer
def test_a_killed_broker_costs_no_record(tmp_path: Path, mosquitto: Broker) -> None:
    """Killed and restarted twice, with records coming all the while: all arrive, in order."""
    with closing(Sender(tmp_path, mosquitto.port)) as sender:
        subscriber = Subscriber(mosquitto.port)
        for start in (0, 40):
            sender.frames(start, start + 20)
            wait_until(lambda: len(sender.outbox) == 0)
            wait_until(lambda start=start: len(set(subscriber.records())) >= start + 20)  # type: ignore[misc]  # this turn's
            mosquitto.kill()
            sender.frames(start + 20, start + 40)
            mosquitto.start()
        in_order_at_least_once(subscriber, 80)
        subscriber.close()


@pytest.mark.peer
def test_a_broker_that_comes_late_gets_all(tmp_path: Path) -> None:
    """Records of a run that never met its broker are delivered by the next run, before the new ones."""
    port = free_port()
    with closing(Sender(tmp_path, port)) as sender:
        sender.frames(0, 25)
        wait_until(lambda: bool(sender.told))
    assert "is the broker up?" in sender.told[0]
    with broker(tmp_path) as mosquitto, closing(Subscriber(mosquitto.port)) as subscriber:
        sender = Sender(tmp_path, mosquitto.port)
        sender.frames(25, 30)
        assert in_order_at_least_once(subscriber, 30) == 0
        sender.close()


@pytest.mark.peer
def test_a_password_is_given_and_kept_secret(tmp_path: Path) -> None:
    """The right one opens; the wrong one is told without being shown, and the records wait."""
    program = shutil.which("mosquitto_passwd")
    if program is None:
        pytest.skip("mosquitto_passwd is not installed; apt-get install mosquitto brings it")
    subprocess.run([program, "-b", "-c", str(tmp_path / "users"), "line3", "hush"], check=True)
    (tmp_path / "good").write_text("hush\n")
    (tmp_path / "bad").write_text("hushhush\n")
    settings = f"allow_anonymous false\npassword_file {tmp_path}/users\n"
    with broker(tmp_path, settings) as mosquitto:
        wrong = Sender(tmp_path, mosquitto.port, username="line3", password_file=tmp_path / "bad")
        wrong.frames(0, 1)
        wait_until(lambda: bool(wrong.told))
        wrong.close()
        assert "refuses us" in wrong.told[0]
        assert "hush" not in "".join(wrong.told)
        right = Sender(tmp_path, mosquitto.port, username="line3", password_file=tmp_path / "good")
        wait_until(lambda: len(right.outbox) == 0)
        right.close()


@pytest.mark.peer
def test_tls_is_checked(tmp_path: Path) -> None:
    """A broker whose authority is known gets the records; with the system's authorities alone it gets none."""
    certificate = _certificate(tmp_path)
    settings = f"allow_anonymous true\ncertfile {certificate}\nkeyfile {tmp_path}/key.pem\n"
    with broker(tmp_path, settings) as mosquitto:
        stranger = Sender(tmp_path, mosquitto.port, tls=True)
        stranger.frames(0, 3)
        wait_until(lambda: bool(stranger.told))
        stranger.close()
        assert "certificate verify failed" in stranger.told[0]
        known = Sender(tmp_path, mosquitto.port, tls=True, ca_file=certificate)
        wait_until(lambda: len(known.outbox) == 0)
        known.close()


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x20\xff\xff\xff\xff\xff", b"\x00" * 300]
)
def test_what_is_no_broker_is_no_receipt(tmp_path: Path, answer: bytes) -> None:
    """Silence and garbage are told; the record stays."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=talk, args=(server, answer), daemon=True).start()
        with closing(Sender(tmp_path, server.getsockname()[1])) as sender:
            sender.frames(0, 1)
            wait_until(lambda: bool(sender.told))
            assert len(sender.outbox) == 1


def talk(server: socket.socket, answer: bytes) -> None:
    """Say the same to whoever calls, until the server is closed."""
    with suppress(OSError):
        while True:
            with server.accept()[0] as caller, suppress(ConnectionError):
                caller.recv(65536)
                caller.sendall(answer)


def test_a_certificate_that_cannot_be_read_is_told_at_once(tmp_path: Path) -> None:
    """Before the line starts."""
    with pytest.raises(SinkError, match="certificate or key"):
        MqttTransport(MqttConfig(host="127.0.0.1", tls=True, ca_file=tmp_path / "absent.pem"))


def test_a_missing_package_is_named(tmp_path: Path) -> None:
    """Without paho-mqtt the error names the extra that brings it."""
    code = (
        "import sys; sys.modules['paho'] = None\n"
        "from cada_edge.runtime.sinks.config import MqttConfig\n"
        "from cada_edge.runtime.sinks.mqtt import MqttTransport\n"
        "MqttTransport(MqttConfig(host='x'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "MissingDependencyError" in done.stderr
    assert "cada-edge[mqtt]" in done.stderr


def _certificate(folder: Path) -> Path:
    """A certificate for 127.0.0.1 that vouches for itself."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1"]
    command += ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    subprocess.run(command, check=True, capture_output=True)
    return folder / "cert.pem"
