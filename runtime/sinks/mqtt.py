"""Records to an MQTT broker, QoS 1."""

from __future__ import annotations

import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from cada_edge.errors import MissingDependencyError, SinkError
from cada_edge.runtime.sinks.config import MqttConfig
from cada_edge.runtime.sinks.outbox import Parcel
from cada_edge.runtime.sinks.secret import secret

if TYPE_CHECKING:
    from paho.mqtt.client import Client

_TURN_S = 0.05
_PLAIN_PORT, _TLS_PORT = 1883, 8883


class MqttTransport:
    """Publishes parcels below a topic and waits for the broker's acknowledgement of each.

    A connection that fails is thrown away with its client: what paho would queue and
    repeat by itself is the outbox's business. Everything runs in the caller's thread.

    Args:
        config: where to, and who we are.

    Raises:
        MissingDependencyError: paho-mqtt is not installed.
        SinkError: a certificate or the password cannot be read.
    """

    def __init__(self, config: MqttConfig) -> None:
        self._config = config
        self._port = config.port or (_TLS_PORT if config.tls else _PLAIN_PORT)
        self._password = secret(config.password_file, config.password_env)
        self._paho = _paho()
        self._client: Client | None = None
        self._new_client()  # a wrong certificate is told before the line starts

    def deliver(self, parcels: list[Parcel]) -> int:
        """Publish in order; returns how many of the first were acknowledged. Raises `SinkError` for none."""
        client = self._client or self._connect()
        sent = [client.publish(f"{self._config.topic}/{p.kind}", p.body.encode(), qos=1) for p in parcels]
        done, until_s = 0, time.monotonic() + self._config.timeout_s
        while done < len(sent) and time.monotonic() < until_s:
            code = client.loop(_TURN_S)
            while done < len(sent) and sent[done].rc == 0 and sent[done].is_published():
                done, until_s = done + 1, time.monotonic() + self._config.timeout_s
            if code:
                break
        if not done:
            raise SinkError(f"{self._place}: the broker has not acknowledged within {self._config.timeout_s:g} s")
        return done

    def dial(self) -> None:
        """Connect as the first `deliver` would, and publish nothing. Raises `SinkError`."""
        if self._client is None:
            self._connect()

    def tend(self) -> None:
        """Answer the broker and send signs of life. Raises `SinkError` when it has gone."""
        if self._client is not None and (code := self._client.loop(0.01)):
            raise SinkError(f"{self._place}: connection lost: {self._paho.error_string(code)}")

    def hang_up(self) -> None:
        """Say goodbye where the broker listens, and close."""
        client, self._client = self._client, None
        if client is None:
            return
        line: Any = client.socket()
        with suppress(OSError, ValueError):  # what is gone need not be closed
            client.disconnect()
            if line is not None:
                line.shutdown(socket.SHUT_RDWR)

    @property
    def _place(self) -> str:
        return f"mqtt {self._config.host}:{self._port}"

    def _connect(self) -> Client:
        client, answers = self._new_client(), list[Any]()
        client.on_connect = lambda *given: answers.append(given[3])
        try:
            client.connect(self._config.host, self._port, self._config.keepalive_s)
        except (OSError, ValueError) as error:
            raise SinkError(f"{self._place}: cannot connect: {error}; is the broker up?") from error
        self._client, until_s = client, time.monotonic() + self._config.timeout_s
        while not answers and time.monotonic() < until_s:
            if client.loop(_TURN_S):
                break
        if not answers:
            raise SinkError(f"{self._place}: no answer within {self._config.timeout_s:g} s; is it a broker, with TLS?")
        if answers[0].is_failure:
            raise SinkError(f"{self._place}: the broker refuses us: {answers[0]}; check username and password")
        return client

    def _new_client(self) -> Client:
        config = self._config
        version = self._paho.CallbackAPIVersion.VERSION2
        client: Client = self._paho.Client(version, client_id=config.client_id, reconnect_on_failure=False)
        client.connect_timeout = config.timeout_s
        if config.username is not None:
            client.username_pw_set(config.username, self._password)
        if config.tls:
            authorities, ours, key = (
                str(p) if p else None for p in (config.ca_file, config.cert_file, config.key_file)
            )
            try:
                client.tls_set(authorities, ours, key)
            except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
                raise SinkError(f"{self._place}: a certificate or key cannot be used: {error}") from error
        return client


def _paho() -> Any:
    try:
        from paho.mqtt import client  # noqa: PLC0415  # optional dependency
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            "paho-mqtt is not installed; for sinks.mqtt run: pip install 'cada-edge[mqtt]'"
        ) from error
    return client
