"""What a running line says of itself: one snapshot for the page, the metrics and whoever asks.

A tree of small frozen dataclasses, JSON on the wire. Times are Unix seconds for people
(``_unix_s``) or monotonic seconds of this machine (``_mono_s``) where an age is computed
from them: every process of one machine reads the same monotonic clock, which never steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Annotated, Literal, NamedTuple

from pydantic import ConfigDict, PlainSerializer, TypeAdapter, ValidationError

from cada_edge.errors import LineError
from cada_edge.types import Status

SCHEMA: Literal[1] = 1
REJECTS_KEPT, POINTS_KEPT = 20, 500
# Upper bounds, s, of the latency histogram; what is above the last is in the count alone.
LATENCY_BUCKETS_S = (0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.5)

_TEXT_CHARS = 300


def _clean(text: str) -> str:
    """Text that any JSON reader takes: file names need not be Unicode, and messages not be short."""
    return text[:_TEXT_CHARS].encode("utf-8", "replace").decode()


Text = Annotated[str, PlainSerializer(_clean)]


@dataclass(frozen=True)
class SourceStatus:
    """A camera, video or folder.

    Attributes:
        id: as in ``line.yaml``.
        healthy: it gives frames.
        frames: seen since start.
        drops: lost since start.
        fps: frames a second over the last seconds, or ``None``.
        age_ms: of its newest frame, or ``None`` before the first.
        error: what it last failed with; empty for nothing.
    """

    id: Text
    healthy: bool
    frames: int = 0
    drops: int = 0
    fps: float | None = None
    age_ms: float | None = None
    error: Text = ""


@dataclass(frozen=True)
class StationStatus:
    """One place where parts are judged, as its PLC sees it.

    Attributes:
        id: as in ``line.yaml``.
        mode: ``free_run`` or ``triggered``.
        state: of the state machine, ``READY`` say.
        online: verdicts are being published.
        offline_reason: why not; empty while online.
        seq: number of the last result, 1..65535; 0 before the first.
        judged: results since start.
        rejected: of these not passed.
        unknown: of these undecided.
        missed: triggers that came too early.
        last_result: ``PASS``, ``FAIL``, ``UNKNOWN`` or ``REJECT``; empty before the first.
        last_result_mono_s: when, or ``None``.
        alarms: names of the alarms that stand.
        sources: whose frames make its result; the page shows them under it.
    """

    id: Text
    mode: str
    state: str
    online: bool
    offline_reason: Text = ""
    seq: int = 0
    judged: int = 0
    rejected: int = 0
    unknown: int = 0
    missed: int = 0
    last_result: Literal["", "PASS", "FAIL", "UNKNOWN", "REJECT"] = ""
    last_result_mono_s: float | None = None
    alarms: tuple[Text, ...] = ()
    sources: tuple[Text, ...] = ()


@dataclass(frozen=True)
class LinkStatus:
    """A connection to a PLC.

    Attributes:
        kind: such as ``modbus-server``.
        address: of the PLC, or where a server of ours listens.
        up: the PLC can be shown results.
        error: what it last failed with; empty while it is up.
        since_unix_s: when `up` last changed.
        late: results since the PLC process started that were decided in time and shown as LATE and
            REJECT, because the link could not write them in time; 0 where the PLC comes to read.
    """

    kind: str
    address: Text
    up: bool
    error: Text = ""
    since_unix_s: float | None = None
    late: int = 0


@dataclass(frozen=True)
class SinkStatus:
    """Where records go.

    Attributes:
        name: of the sink.
        healthy: records are kept there.
        failures: verdicts lost there.
        reached: whether the other machine took the last attempt to bring it some; ``None`` before the first,
            and where there is no other machine.
        waiting: records that it has not taken yet; ``None`` where there is no other machine.
        error: why it is not reached; empty while it is.
    """

    name: Text
    healthy: bool
    failures: int = 0
    reached: bool | None = None
    waiting: int | None = None
    error: Text = ""


@dataclass(frozen=True)
class DriftStatus:
    """Whether what a source shows still resembles calibration.

    Attributes:
        source: its id.
        n: recent scores compared.
        distance, p_value: of the scores' distributions, in [0, 1]; ``None`` until there are enough.
        drifted: the scores have drifted.
        novelty_median, novelty_limit: of recent parts, and what it is compared with; ``None`` as above.
        feature_drifted: the novelty is above its limit.
    """

    source: Text
    n: int
    distance: float | None
    p_value: float | None
    drifted: bool
    novelty_median: float | None = None
    novelty_limit: float | None = None
    feature_drifted: bool = False


@dataclass(frozen=True)
class LatencyStatus:
    """Capture to verdict: percentiles of the recent ones, and all since start as a histogram.

    `buckets` counts, for each of `LATENCY_BUCKETS_S`, the latencies not above it and above
    the bound before.
    """

    p50_ms: float | None = None
    p99_ms: float | None = None
    count: int = 0
    sum_s: float = 0.0
    buckets: tuple[int, ...] = (0,) * len(LATENCY_BUCKETS_S)


@dataclass(frozen=True)
class PartStatus:
    """One judged frame; `number` counts verdicts since start and names its picture."""

    number: int
    source: Text
    frame_id: int
    name: Text
    status: Status
    score: float | None
    threshold: float | None
    reason: Text
    t_unix_s: float
    t_mono_s: float


class ScorePoint(NamedTuple):
    """One dot of the score history; an array of five on the wire."""

    t_unix_s: float
    source: Text
    score: float | None
    threshold: float | None
    status: Status


@dataclass(frozen=True)
class VerdictCount:
    """Verdicts of one source since start."""

    source: Text
    ok: int = 0
    ng: int = 0
    undecided: int = 0


@dataclass(frozen=True)
class HostStatus:
    """The machine; ``None`` for what it does not tell.

    Attributes:
        temperature_c: of its warmest zone.
        load_1m: runnable tasks, mean of a minute.
        cpus: to compare the load with.
        memory_free_bytes, memory_bytes: available and installed.
        disk_free_bytes, disk_bytes: of the file system that records go to.
        process_bytes: resident memory of the pipeline.
    """

    temperature_c: float | None = None
    load_1m: float | None = None
    cpus: int = 1
    memory_free_bytes: int | None = None
    memory_bytes: int | None = None
    disk_free_bytes: int | None = None
    disk_bytes: int | None = None
    process_bytes: int | None = None


@dataclass(frozen=True)
class LineStatus:
    """The whole line at one moment.

    Attributes:
        version: of cada-edge.
        bundle: file name of the model.
        bundle_sha256: of its digests, as the PLC's checksum word is made from.
        threshold: the operating point, or ``None`` where there is none: nothing passes then.
        started_unix_s: when the line started.
        t_unix_s: when this was taken.
        alive_mono_s: the pipeline loop's last sign of life. What is older than two seconds is no news.
        verdicts: counts by source.
        newest: the last part of each source.
        rejects: the last `REJECTS_KEPT`, newest first.
        history: the last `POINTS_KEPT`, oldest first.
    """

    __pydantic_config__ = ConfigDict(extra="forbid", ser_json_inf_nan="null")

    version: str
    bundle: Text
    bundle_sha256: str
    threshold: float | None
    started_unix_s: float
    t_unix_s: float
    alive_mono_s: float
    sources: tuple[SourceStatus, ...] = ()
    stations: tuple[StationStatus, ...] = ()
    links: tuple[LinkStatus, ...] = ()
    sinks: tuple[SinkStatus, ...] = ()
    drift: tuple[DriftStatus, ...] = ()
    verdicts: tuple[VerdictCount, ...] = ()
    newest: tuple[PartStatus, ...] = ()
    rejects: tuple[PartStatus, ...] = ()
    history: tuple[ScorePoint, ...] = ()
    latency: LatencyStatus = LatencyStatus()
    host: HostStatus = HostStatus()
    schema: Literal[1] = SCHEMA

    def to_json(self) -> bytes:
        """UTF-8 JSON; a number that is none becomes ``null``."""
        return _codec().dump_json(self)

    @staticmethod
    def from_json(data: bytes) -> LineStatus:
        """Read what `to_json` wrote. Raises `LineError` for anything else."""
        try:
            return _codec().validate_json(data)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            field = ".".join(str(part) for part in first["loc"])
            raise LineError(f"line status: {field}: {first['msg']}; is the sender of another version?") from error


@cache
def _codec() -> TypeAdapter[LineStatus]:
    return TypeAdapter(LineStatus)
