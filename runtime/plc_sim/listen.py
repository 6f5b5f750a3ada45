"""Whether a simulated PLC can have the address it is to listen on, before anything is started there."""

from __future__ import annotations

import socket

from cada_edge.errors import LinkError

OTHER_PORT = "choose another --port (above 1023 without privileges) and name it in line.yaml"


class NotToBeHadError(LinkError):
    """The address or device of the PLC's own end cannot be had; to wait mends nothing."""


def must_be_free(host: str, port: int, advice: str = OTHER_PORT) -> None:
    """Raise `NotToBeHadError` with what to do for an address that cannot be had."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        raise NotToBeHadError(f"cannot listen on {host}:{port}: {error.strerror or error}; {advice}") from error
