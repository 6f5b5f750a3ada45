"""What the pipeline and the PLC process say to each other: one message per packet.

Both ends are this program, of one installation; a message that cannot be read is a fault of ours.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple

from pydantic import TypeAdapter, ValidationError

from cada_edge.errors import LineError
from cada_edge.runtime.handshake import Acquire, Execute, Life, Published, Quiet, StationOptions, Tally
from cada_edge.runtime.links.config import LinkConfig
from cada_edge.runtime.outcome import Outcome
from cada_edge.runtime.status import LinkStatus, StationStatus

MESSAGE_BYTES = 1 << 16


_NOTHING_YET = Tally()


@dataclass(frozen=True)
class StationSetup:
    """A station to host: its id, how it behaves, what it has counted before, its sources."""

    id: str
    options: StationOptions
    tally: Tally = _NOTHING_YET
    sources: tuple[str, ...] = ()


@dataclass(frozen=True)
class Setup:
    """The first message: what to host, how long the safe state is shown at the end, how urgent all of it is, and the
    file in which the newest results are kept; none where empty.
    """

    stations: tuple[StationSetup, ...]
    links: tuple[LinkConfig, ...]
    linger_ms: int = 300
    priority: int = 0
    journal: str = ""


@dataclass(frozen=True)
class Listening:
    """The answer to `Setup`: the port of each link, in their order; ``None`` for one that does not listen."""

    ports: tuple[int | None, ...]


@dataclass(frozen=True)
class Refused:
    """The other answer: link number `link` cannot be had."""

    link: int
    error: str
    errno: int = 0


@dataclass(frozen=True)
class Acquired:
    """Every picture of a part is taken."""

    part: int


@dataclass(frozen=True)
class CommandEnded:
    """What `Execute` asked for, by its recipe, was done, or failed."""

    recipe: int
    done: bool


@dataclass(frozen=True)
class Health:
    """How stations and links do, and what each station, by its id, has counted; several times a second."""

    stations: tuple[StationStatus, ...]
    links: tuple[LinkStatus, ...]
    tallies: dict[str, Tally] = field(default_factory=dict)


Message = (
    Setup
    | Listening
    | Refused
    | Life
    | Acquired
    | Outcome
    | CommandEnded
    | Acquire
    | Execute
    | Quiet
    | Published
    | Health
)
_KINDS = {kind.__name__: kind for kind in Message.__args__}


class Packet(NamedTuple):
    """A message and the id of the station it is about; empty for none."""

    message: Message
    station: str = ""


def pack(message: Message, station: str = "") -> bytes:
    """One packet: kind and station on a line, then the message in JSON."""
    kind = type(message).__name__
    return f"{kind} {station}\n".encode() + _codec(kind).dump_json(message)


def unpack(data: bytes) -> Packet:
    """Read what `pack` wrote. Raises `LineError` for anything else."""
    head, _, body = data.partition(b"\n")
    kind, _, station = head.decode("utf-8", "replace").partition(" ")
    try:
        return Packet(_codec(kind).validate_json(body), station)
    except (KeyError, ValidationError) as error:
        raise LineError(f"message between pipeline and PLC process: {error}; is another version installed?") from error


@cache
def _codec(kind: str) -> TypeAdapter[Any]:
    return TypeAdapter(_KINDS[kind])
