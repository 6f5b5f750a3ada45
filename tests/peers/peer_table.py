"""From times taken in turns, and accuracies measured beside them, to one table. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cada_edge.errors import ConfigError
from cada_edge.evaluation import Measure
from cada_edge.runtime.benchmark.stats import Ratio, ratio, summarise

WAYS = ("ONNX Runtime", "OpenVINO", "torch", "its own inferencer")  # the columns of times


@dataclass(frozen=True)
class Subject:
    """One model run one way.

    Attributes:
        model: which, for people.
        way: by what it runs, one of `WAYS`; more may be said behind a colon.
        accuracy: under which key its accuracy is looked up; empty where none was measured.
        ours: whether it is cada-edge's.
        rounded: whether it computes in less than float32; shown, but not set against others.
    """

    model: str
    way: str
    accuracy: str = ""
    ours: bool = False
    rounded: bool = False

    @property
    def name(self) -> str:
        """Both in one line; no two subjects share it."""
        return f"{self.model}, {self.way}"


FLOOR = Subject("bare encoder", "ONNX Runtime")


@dataclass(frozen=True)
class Accuracy:
    """Image AUROC in [0, 1] on one set of test images; None where there is none.

    Attributes:
        products: mean of the products' own, of raw scores.
        pooled: of all images in one pool, raw scores.
        with_labels: of the pool after alignment by product labels.
        cada: of the pool after CADA's, which knows no labels.
    """

    products: float | None
    pooled: float | None
    with_labels: float | None
    cada: float | None = None

    @property
    def as_used(self) -> float | None:
        """Of one pool as the model judges it on a line: without labels, with CADA where it has that."""
        return self.pooled if self.cada is None else self.cada


def read_accuracies(files: Iterable[Path]) -> dict[str, Accuracy]:
    """Key to accuracy: ``peers.json`` of `anomalib_peers.py` by peer, ``evaluate --json`` by the bundle's digest."""
    found: dict[str, Accuracy] = {}
    for file in files:
        content = json.loads(file.read_text())
        found |= _of_bundle(content, file) if "alignments" in content else _of_peers(content)
    return found


def _of_peers(results: Mapping[str, Any]) -> dict[str, Accuracy]:
    def value(figures: Mapping[str, Any], alignment: str, which: str) -> float | None:
        measured: float | None = figures[alignment][which]["image_auroc"]["value"]
        return measured

    wanted = (("raw", "mean_of_products"), ("raw", "pooled"), ("class-aware", "pooled"))
    return {name: Accuracy(*(value(one["figures"], *where) for where in wanted)) for name, one in results.items()}


def _of_bundle(evaluation: Mapping[str, Any], file: Path) -> dict[str, Accuracy]:
    if evaluation["config"]["protocol"] != "absolute":
        raise ConfigError(f"{file}: protocol is {evaluation['config']['protocol']!r}, expected 'absolute'")
    by_name = {one["name"]: one for one in evaluation["alignments"]}
    pooled = [by_name[name]["metrics"]["image_auroc"]["value"] for name in ("raw", "class-aware", "cada")]
    each = [one["image_auroc"]["value"] for one in by_name["raw"]["products"].values()]
    known = [value for value in each if value is not None]
    mean = sum(known) / len(known) if known else None
    return {evaluation["provenance"]["bundle_sha256"]: Accuracy(mean, *pooled)}


@dataclass(frozen=True)
class Row:
    """One subject's figures.

    Attributes:
        subject: which.
        p50_ms: median of its times.
        p99_ms: None where there are too few samples to state it.
        over_floor: p50 over that of `FLOOR`, paired.
        accuracy: None where none was measured.
    """

    subject: Subject
    p50_ms: float
    p99_ms: float | None
    over_floor: Ratio
    accuracy: Accuracy | None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {"name": self.subject.name, **asdict(self)}


def rows(times: Mapping[Subject, Sequence[int]], accuracies: Mapping[str, Accuracy]) -> list[Row]:
    """Figures of every subject; `times` in ns, as many of each, the i-th of all from the same round."""
    found = []
    for subject, samples in times.items():
        stated = summarise(samples).to_json()
        to_floor = ratio(samples, times[FLOOR], 0.5, paired=True)
        accuracy = accuracies.get(subject.accuracy)
        found.append(Row(subject, stated["p50_ms"], stated["p99_ms"], to_floor, accuracy))
    return found


def fastest(found: Iterable[Row]) -> dict[str, Row]:
    """Model to its fastest way in float32, by p50."""
    best: dict[str, Row] = {}
    for row in sorted((row for row in found if not row.subject.rounded), key=lambda row: row.p50_ms):
        best.setdefault(row.subject.model, row)
    return best


@dataclass(frozen=True)
class Duel:
    """One of ours against one peer, each by its fastest way.

    Attributes:
        ours: name of the subject.
        theirs: name of the subject.
        times_faster: their p50 over ours, paired.
        pooled_gain: our AUROC in one pool less theirs, both as used; None where one was not measured.
    """

    ours: str
    theirs: str
    times_faster: Ratio
    pooled_gain: float | None


def duels(times: Mapping[Subject, Sequence[int]], found: Sequence[Row]) -> list[Duel]:
    """Each of ours against each peer; the bare encoder is neither."""
    best = list(fastest(found).values())
    ours = [row for row in best if row.subject.ours]
    theirs = [row for row in best if not row.subject.ours and row.subject.model != FLOOR.model]
    return [
        Duel(
            a.subject.name,
            b.subject.name,
            ratio(times[b.subject], times[a.subject], 0.5, paired=True),
            _gain(a.accuracy, b.accuracy),
        )
        for a in ours
        for b in theirs
    ]


def _gain(ours: Accuracy | None, theirs: Accuracy | None) -> float | None:
    if ours is None or theirs is None or ours.as_used is None or theirs.as_used is None:
        return None
    return ours.as_used - theirs.as_used


def to_markdown(found: Sequence[Row], fights: Sequence[Duel]) -> str:
    """Two tables: a row per model, and who is how much faster than whom."""
    ways = [way for way in WAYS if any(row.subject.way.startswith(way) for row in found)]
    accuracy = ["mean per product", "one pool", "one pool, aligned with labels", "one pool, CADA"]
    head = ["I-AUROC, per cent; p50, ms (over the bare encoder, 95 %)", *accuracy, *ways]
    models = list(dict.fromkeys(row.subject.model for row in found))
    body = [_line(model, [row for row in found if row.subject.model == model], ways) for model in models]
    against = [
        [duel.ours, duel.theirs, _interval(duel.times_faster), "-" if duel.pooled_gain is None else _points(duel)]
        for duel in fights
    ]
    title = ["ours, fastest way", "theirs, fastest way", "their p50 over ours (95 %)", "one pool, points more"]
    return f"{_table(head, body)}\n{_table(title, against)}"


def _line(model: str, own: Sequence[Row], ways: Sequence[str]) -> list[str]:
    accuracy = own[0].accuracy or Accuracy(None, None, None)
    figures = (accuracy.products, accuracy.pooled, accuracy.with_labels, accuracy.cada)
    return [model, *(Measure(value).text() for value in figures), *(_times(own, way) for way in ways)]


def _times(own: Sequence[Row], way: str) -> str:
    cells = []
    for row in own:
        if row.subject.way.startswith(way):
            more = row.subject.way.removeprefix(way).removeprefix(": ")
            cells.append(f"{f'{more}: ' if more else ''}{row.p50_ms:.1f}; {_interval(row.over_floor)}")
    return "<br>".join(cells) or "-"


def _points(duel: Duel) -> str:
    return f"{100 * (duel.pooled_gain or 0.0):+.1f}"


def _interval(value: Ratio) -> str:
    return f"{value.value:.2f} ({value.low:.2f} to {value.high:.2f})"


def _table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *body]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
