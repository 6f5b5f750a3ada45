"""What ``line.yaml`` says of the operator's page."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from cada_edge.strict_yaml import Strict

_NAME = r"^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$"


class PageConfig(Strict):
    """The operator's page: read only, in a process of its own.

    Attributes:
        host: address to listen on; 0.0.0.0 lets the whole network look.
        port: TCP port; 0 lets the system choose.
        names: host names people may type to reach it. Addresses, ``localhost`` and this
            machine's own name always work; any other name is refused (DNS rebinding).
        pictures_hz: pictures a second, all sources together; 0 shows none.
        status_hz: status messages a second.
        side_px: longer side of the pictures shown.
        max_connections: connections at a time; more are closed at once.
    """

    host: str = Field(default="127.0.0.1", min_length=1, max_length=253)
    port: int = Field(default=8080, ge=0, le=65535)
    names: tuple[Annotated[str, Field(pattern=_NAME)], ...] = Field(default=(), max_length=32, strict=False)
    pictures_hz: float = Field(default=4.0, ge=0, le=30)
    status_hz: float = Field(default=2.0, ge=1, le=10)
    side_px: int = Field(default=640, ge=128, le=1280)
    max_connections: int = Field(default=32, ge=2, le=1024)
