"""A `LineStatus` as Prometheus metrics. `METRICS` is the whole list, and the documentation's table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from cada_edge.errors import MissingDependencyError
from cada_edge.runtime.status import LATENCY_BUCKETS_S, LineStatus, LinkStatus

try:
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4 as CONTENT_TYPE
    from prometheus_client.metrics_core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
        InfoMetricFamily,
        Metric,
    )
except ModuleNotFoundError as error:
    raise MissingDependencyError(
        "metrics need the package 'prometheus-client'; install it with: pip install 'cada-edge[metrics]'"
    ) from error

__all__ = ["CONTENT_TYPE", "METRICS", "Description", "render"]

_Sample = tuple[tuple[str, ...], float]


@dataclass(frozen=True)
class Description:
    """One metric: its name as scraped, its kind, the labels it has, what it says."""

    name: str
    kind: Literal["counter", "gauge", "histogram", "info"]
    labels: tuple[str, ...]
    text: str


METRICS = (
    Description("cada_edge_bundle_info", "info", ("bundle", "sha256", "version"), "Model and program that judge"),
    Description("cada_edge_threshold_score", "gauge", (), "Score above which a part is rejected; absent without one"),
    Description("cada_edge_start_time_seconds", "gauge", (), "When the line started, Unix time"),
    Description("cada_edge_heartbeat_age_seconds", "gauge", (), "Since the pipeline's last sign of life"),
    Description("cada_edge_verdicts_total", "counter", ("source", "status"), "Verdicts: ok, ng or undecided"),
    Description("cada_edge_latency_seconds", "histogram", (), "Capture to verdict"),
    Description("cada_edge_source_up", "gauge", ("source",), "1 while the source gives frames"),
    Description("cada_edge_source_frames_total", "counter", ("source",), "Frames the source gave"),
    Description("cada_edge_source_drops_total", "counter", ("source",), "Frames lost on the way"),
    Description("cada_edge_station_online", "gauge", ("station",), "1 while the station publishes verdicts"),
    Description("cada_edge_station_missed_triggers_total", "counter", ("station",), "Triggers that came too early"),
    Description("cada_edge_station_results_total", "counter", ("station", "result"), "Results: pass, fail or unknown"),
    Description("cada_edge_station_alarm", "gauge", ("station", "alarm"), "1 for each alarm that stands"),
    Description("cada_edge_link_up", "gauge", ("kind", "address"), "1 while the PLC link is up"),
    Description("cada_edge_link_late_results_total", "counter", ("kind", "address"), "Results it had to show as LATE"),
    Description("cada_edge_sink_up", "gauge", ("sink",), "1 while records are kept there"),
    Description("cada_edge_sink_failures_total", "counter", ("sink",), "Verdicts lost there: failed or queue full"),
    Description("cada_edge_outbox_reached", "gauge", ("sink",), "1 while the other side takes the records"),
    Description("cada_edge_outbox_waiting_records", "gauge", ("sink",), "Records it has not taken yet"),
    Description("cada_edge_drift_distance_ratio", "gauge", ("source",), "Recent scores against calibration, 0 to 1"),
    Description("cada_edge_drift_p_value_ratio", "gauge", ("source",), "Chance of such a distance without drift"),
    Description("cada_edge_drift_detected", "gauge", ("source", "kind"), "1 for drifted; kind is score or feature"),
    Description("cada_edge_novelty_median_ratio", "gauge", ("source",), "Of recent parts; 1 is the model's limit"),
    Description("cada_edge_temperature_celsius", "gauge", (), "Warmest zone of the machine"),
    Description("cada_edge_memory_available_bytes", "gauge", (), "Of the machine"),
    Description("cada_edge_disk_free_bytes", "gauge", (), "Where records go"),
    Description("cada_edge_resident_memory_bytes", "gauge", (), "Of the pipeline's process"),
)


def render(status: LineStatus, now_mono_s: float) -> bytes:
    """The text that Prometheus scrapes, of `CONTENT_TYPE`. Values that are not known are left out."""
    registry = CollectorRegistry()
    registry.register(_Collector(status, now_mono_s))
    return generate_latest(registry)


class _Collector:
    """Turns one status into metrics, each of `METRICS` once."""

    def __init__(self, status: LineStatus, now_mono_s: float) -> None:
        self._status, self._now_mono_s = status, now_mono_s

    def collect(self) -> Iterator[Metric]:
        samples = {**_line(self._status, self._now_mono_s), **_parts(self._status), **_plant(self._status)}
        for about in METRICS:
            yield self._metric(about, samples.get(about.name, ()))

    def _metric(self, about: Description, samples: Iterable[_Sample]) -> Metric:
        if about.kind == "histogram":
            return self._latency(about)
        if about.kind == "info":
            status = self._status
            info = InfoMetricFamily(about.name.removesuffix("_info"), about.text)
            info.add_metric((), {"bundle": status.bundle, "sha256": status.bundle_sha256, "version": status.version})
            return info
        family = CounterMetricFamily if about.kind == "counter" else GaugeMetricFamily
        metric = family(about.name, about.text, labels=about.labels)
        for labels, value in samples:
            metric.add_metric(labels, value)
        return metric

    def _latency(self, about: Description) -> Metric:
        latency, total = self._status.latency, 0
        buckets: list[tuple[str, float]] = []
        for bound, count in zip(LATENCY_BUCKETS_S, latency.buckets, strict=False):
            total += count
            buckets.append((f"{bound:g}", total))
        metric = HistogramMetricFamily(about.name, about.text)
        metric.add_metric((), [*buckets, ("+Inf", latency.count)], latency.sum_s)
        return metric


def _known(value: float | None, *labels: str) -> list[_Sample]:
    return [] if value is None else [(labels, float(value))]


def _line(status: LineStatus, now_mono_s: float) -> dict[str, list[_Sample]]:
    host = status.host
    return {
        "cada_edge_threshold_score": _known(status.threshold),
        "cada_edge_start_time_seconds": _known(status.started_unix_s),
        "cada_edge_heartbeat_age_seconds": _known(max(0.0, now_mono_s - status.alive_mono_s)),
        "cada_edge_temperature_celsius": _known(host.temperature_c),
        "cada_edge_memory_available_bytes": _known(host.memory_free_bytes),
        "cada_edge_disk_free_bytes": _known(host.disk_free_bytes),
        "cada_edge_resident_memory_bytes": _known(host.process_bytes),
    }


def _parts(status: LineStatus) -> dict[str, list[_Sample]]:
    found: dict[str, list[_Sample]] = {about.name: [] for about in METRICS if "source" in about.labels}
    for count in status.verdicts:
        for name in ("ok", "ng", "undecided"):
            found["cada_edge_verdicts_total"] += _known(getattr(count, name), count.source, name)
    for source in status.sources:
        found["cada_edge_source_up"] += _known(source.healthy, source.id)
        found["cada_edge_source_frames_total"] += _known(source.frames, source.id)
        found["cada_edge_source_drops_total"] += _known(source.drops, source.id)
    for drift in status.drift:
        found["cada_edge_drift_distance_ratio"] += _known(drift.distance, drift.source)
        found["cada_edge_drift_p_value_ratio"] += _known(drift.p_value, drift.source)
        found["cada_edge_drift_detected"] += _known(drift.drifted, drift.source, "score")
        found["cada_edge_drift_detected"] += _known(drift.feature_drifted, drift.source, "feature")
        found["cada_edge_novelty_median_ratio"] += _known(drift.novelty_median, drift.source)
    return found


def _plant(status: LineStatus) -> dict[str, list[_Sample]]:
    """Stations, links and sinks."""
    results: list[_Sample] = []
    for one in status.stations:
        results += _known(one.judged - one.rejected, one.id, "pass")
        results += _known(one.rejected - one.unknown, one.id, "fail")
        results += _known(one.unknown, one.id, "unknown")
    links: dict[tuple[str, str], list[LinkStatus]] = {}
    for link in status.links:  # several stations may be shown in one PLC; no two samples may have the same labels
        links.setdefault((link.kind, link.address), []).append(link)
    return {
        "cada_edge_station_online": [_sample(one.online, one.id) for one in status.stations],
        "cada_edge_station_missed_triggers_total": [_sample(one.missed, one.id) for one in status.stations],
        "cada_edge_station_results_total": results,
        "cada_edge_station_alarm": [_sample(1, one.id, alarm) for one in status.stations for alarm in one.alarms],
        "cada_edge_link_up": [_sample(all(one.up for one in own), *at) for at, own in links.items()],
        "cada_edge_link_late_results_total": [_sample(sum(one.late for one in own), *at) for at, own in links.items()],
        "cada_edge_sink_up": [_sample(one.healthy, one.name) for one in status.sinks],
        "cada_edge_sink_failures_total": [_sample(one.failures, one.name) for one in status.sinks],
        "cada_edge_outbox_reached": [s for one in status.sinks for s in _known(one.reached, one.name)],
        "cada_edge_outbox_waiting_records": [s for one in status.sinks for s in _known(one.waiting, one.name)],
    }


def _sample(value: float, *labels: str) -> _Sample:
    return labels, float(value)
