"""Records by HTTP POST."""

from __future__ import annotations

import http.client
import socket
import ssl
from contextlib import suppress
from urllib.parse import urlsplit

from cada_edge.errors import SinkError
from cada_edge.runtime.records.ledger import Tell
from cada_edge.runtime.sinks.config import WebhookConfig
from cada_edge.runtime.sinks.outbox import Parcel
from cada_edge.runtime.sinks.secret import secret
from cada_edge.version import __version__

_MAX_ANSWER_BYTES = 1 << 16
# These speak of the receiver or of our rights, not of the record: it is kept until they are mended.
_NOT_THE_RECORD = frozenset({401, 403, 404, 405, 407, 408, 421, 423, 425, 426, 429})


class WebhookTransport:
    """Posts parcels one by one over one connection, kept open between them.

    2xx: taken. 4xx that speak of the record: given up and told, or one record would hold up
    all others. Anything else, 3xx included: brought again later.

    Args:
        config: where to.
        tell: called with each record that is given up.

    Raises:
        SinkError: the token or the authorities cannot be read.
    """

    def __init__(self, config: WebhookConfig, tell: Tell) -> None:
        self._config, self._tell, self.refused = config, tell, 0
        parts = urlsplit(config.url)
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._place = f"webhook {parts.hostname}:{parts.port or (443 if parts.scheme == 'https' else 80)}"
        self._headers = {"Content-Type": "application/json", "User-Agent": f"cada-edge/{__version__}"}
        if token := secret(config.token_file, config.token_env):
            self._headers["Authorization"] = f"Bearer {token}"
        self._tls = self._context() if parts.scheme == "https" else None
        self._host, self._port = parts.hostname or "", parts.port
        self._connection: http.client.HTTPConnection | None = None

    def deliver(self, parcels: list[Parcel]) -> int:
        """Post in order; returns how many of the first are done with. Raises `SinkError` for none."""
        for done, parcel in enumerate(parcels):
            try:
                status = self._post(parcel)
            except (OSError, http.client.HTTPException) as error:
                return self._stopped(done, f"{error or type(error).__name__}; is the receiver up?")
            if 400 <= status < 500 and status not in _NOT_THE_RECORD:
                self.refused += 1
                self._tell(SinkError(f"{self._place}: a {parcel.kind} was refused with HTTP {status} and is given up"))
            elif not 200 <= status < 300:
                return self._stopped(done, f"answered HTTP {status}; check the url, our rights and the receiver's log")
        return len(parcels)

    def dial(self) -> None:
        """Connect, with TLS where the url says so, and post nothing. Raises `SinkError`."""
        self._connection = self._open()
        try:
            self._connection.connect()
        except OSError as error:
            raise SinkError(f"{self._place}: {error}; is the receiver up?") from error

    def tend(self) -> None:
        """Nothing: HTTP needs no signs of life."""

    def hang_up(self) -> None:
        """Close the connection, also under a `deliver` that waits."""
        connection, self._connection = self._connection, None
        line = connection.sock if connection else None
        with suppress(OSError):
            if line is not None:
                line.shutdown(socket.SHUT_RDWR)
        if connection is not None:
            connection.close()

    def _post(self, parcel: Parcel) -> int:
        """The answer's status. A kept connection may have been closed meanwhile: that is tried once more."""
        if self._connection is not None:
            try:
                return self._ask(self._connection, parcel)
            except (ConnectionError, http.client.BadStatusLine):  # RemoteDisconnected is both
                self.hang_up()
        self._connection = self._open()
        return self._ask(self._connection, parcel)

    def _ask(self, connection: http.client.HTTPConnection, parcel: Parcel) -> int:
        connection.request("POST", self._target, parcel.body.encode(), self._headers)
        with connection.getresponse() as answer:
            if len(answer.read(_MAX_ANSWER_BYTES)) == _MAX_ANSWER_BYTES:
                self.hang_up()  # whoever talks without end is not listened to
            return answer.status

    def _open(self) -> http.client.HTTPConnection:
        if self._tls is not None:
            return http.client.HTTPSConnection(
                self._host, self._port, timeout=self._config.timeout_s, context=self._tls
            )  # fmt: skip
        return http.client.HTTPConnection(self._host, self._port, timeout=self._config.timeout_s)

    def _stopped(self, done: int, why: str) -> int:
        if not done:
            raise SinkError(f"{self._place}: {why}")
        return done

    def _context(self) -> ssl.SSLContext:
        try:
            return ssl.create_default_context(cafile=str(self._config.ca_file) if self._config.ca_file else None)
        except OSError as error:
            raise SinkError(f"{self._config.ca_file}: cannot be used as authorities: {error}") from error
