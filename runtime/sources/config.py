"""What ``line.yaml`` says of a source."""

from __future__ import annotations

from pydantic import Field

from cada_edge.strict_yaml import Strict

_ID = r"^[A-Za-z0-9_-]{1,40}$"


class SourceConfig(Strict):
    """One camera, video or folder; `uri` as in `cada_edge.runtime.sources.uri`."""

    uri: str = Field(min_length=1)
    id: str = Field(default="cam1", pattern=_ID)
    stall_s: float = Field(default=3.0, gt=0, le=600)
