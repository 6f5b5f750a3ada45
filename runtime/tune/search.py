"""Measure the ways to run a bundle in turns, and say which is fastest and how sure that is."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import partial
from pathlib import Path

import numpy as np

from cada_edge.bundle import Bundle
from cada_edge.engine_key import Precision
from cada_edge.errors import CadaEdgeError
from cada_edge.imaging import prepare, read_image
from cada_edge.protocols import Runner
from cada_edge.runtime.benchmark.stats import Ratio, ratio
from cada_edge.runtime.runners.open import open_runner
from cada_edge.runtime.tune.candidates import Candidate, beside, candidates
from cada_edge.runtime.tune.parity import Answer, Movement, answer, disagreement, movement
from cada_edge.runtime.tune.store import Choice
from cada_edge.types import UInt8Array, require

PAUSE_S = 0.005  # until the threads of the way before have stopped spinning for more work
_FINALISTS, _WARM = 3, 3
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class TuneOptions:
    """How much is measured.

    Attributes:
        precision: which of the bundle's graphs.
        screen: calls of every way in the first round, >= 5.
        n: calls of each of the best in the second, >= 20; its figures alone count.
        threads: numbers of threads to try; what suits the machine where empty.
        seed: of the bootstrap.
    """

    precision: Precision = "fp32"
    screen: int = 20
    n: int = 150
    threads: tuple[int, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        require(self.screen >= 5, "--screen", self.screen, "5 calls or more")
        require(self.n >= 20, "--n", self.n, "20 calls or more")
        require(all(1 <= count <= 256 for count in self.threads), "--threads", self.threads, "numbers in 1..256")


@dataclass
class Tried:
    """One way and what came of it.

    Attributes:
        candidate: the way.
        screen_ns: calls of the first round.
        final_ns: calls of the second; empty where it did not come so far.
        refused: why it is out, or empty.
        ratio: p50 of the second round to the default's; ``None`` for the default and for who is out.
    """

    candidate: Candidate
    screen_ns: list[int] = field(default_factory=list)
    final_ns: list[int] = field(default_factory=list)
    refused: str = ""
    ratio: Ratio | None = None

    @property
    def p50_ns(self) -> float | None:
        """Of the last round it was in."""
        times = self.final_ns or self.screen_ns
        return float(np.median(times)) if times else None


@dataclass
class Other:
    """Another precision of the bundle: measured against the best way and told of, never chosen.

    Attributes:
        tried: the way; its ratio is to the best one.
        moved: its answers against those of the precision that was tuned; ``None`` where it is refused.
    """

    tried: Tried
    moved: Movement | None = None


@dataclass(frozen=True)
class Tuning:
    """What was found.

    Attributes:
        tried: every way, the default first.
        best: among `tried`: another than the default only if its ratio is below 1 with 95 % confidence.
        verdicts: of the pictures that every way had to decide alike, by status.
        others: the bundle's other precisions.
    """

    tried: Sequence[Tried]
    best: Tried
    verdicts: dict[str, int]
    others: Sequence[Other] = ()

    def choice(self) -> Choice:
        """What is to be kept."""
        how, found = self.best.candidate.how, self.best.ratio
        return Choice(
            backend="openvino" if how.backend == "openvino" else "ort",
            threads=how.threads,
            level=how.graph.level,
            inline=how.graph.inline,
            spin=how.graph.spin,
            p50_ms=round((self.best.p50_ns or 0.0) / 1e6, 4),
            ratio=(1.0, 1.0, 1.0) if found is None else (found.value, found.low, found.high),
            made_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        )


@dataclass
class _Way:
    """An open runner and its record."""

    tried: Tried
    runner: Runner


def tune(bundle: Bundle, path: Path, pictures: Sequence[Path], options: TuneOptions, progress: Progress) -> Tuning:
    """Measure every way to run `bundle`, read from `path`, on `pictures`, one after the other in turns.

    A way that cannot be opened, fails, or decides one of the pictures in another way than ONNX
    Runtime as it comes is out.

    Raises:
        CadaEdgeError: ONNX Runtime as it comes cannot run the bundle, or a picture cannot be read.
    """
    batches = [prepare(read_image(path), bundle.manifest.spec)[None] for path in pictures]
    with ExitStack() as opened:
        tried = [Tried(one) for one in candidates(options.precision, options.threads)]
        reference, ways = list[Answer](), list[_Way]()
        for done, one in enumerate(tried, 1):
            way = _opened(bundle, path, one, opened, must=not ways)
            if way is not None and _agrees(way, bundle, batches, reference):
                ways.append(way)
            progress("open and compare", done, len(tried))
        _measure(ways, batches, options.screen, lambda way: way.tried.screen_ns, partial(progress, "screen"))
        others = sorted(ways[1:], key=lambda way: way.tried.p50_ns or 0.0)
        finalists = [ways[0], *others[:_FINALISTS]]
        _measure(finalists, batches, options.n, lambda way: way.tried.final_ns, partial(progress, "compare"))
        best = _best([way.tried for way in finalists], options.seed)
        fastest = next(way for way in finalists if way.tried is best)
        other = _others(bundle, path, fastest, batches, reference, options=options, progress=progress)
    return Tuning(tried, best, dict(Counter(each.status for each in reference)), other)


def _others(
    bundle: Bundle,
    path: Path,
    best: _Way,
    batches: Sequence[UInt8Array],
    reference: Sequence[Answer],
    *,
    options: TuneOptions,
    progress: Progress,
) -> list[Other]:
    """The other precisions in turns with the best way. Which one a line runs is its user's decision."""
    how = best.tried.candidate.how
    found = [Other(Tried(one)) for one in beside(how.precision, bundle.files, how.threads)]
    with ExitStack() as opened:
        ways = [_Way(Tried(best.tried.candidate), best.runner)]
        for one in found:
            way = _opened(bundle, path, one.tried, opened, must=False)
            answers = None if way is None else _answers(way, bundle, batches)
            if way is not None and answers is not None:
                one.moved = movement(answers, reference)
                ways.append(way)
        if len(ways) > 1:
            _measure(ways, batches, options.n, lambda way: way.tried.final_ns, partial(progress, "other precisions"))
        _best([way.tried for way in ways], options.seed)
    return found


def _opened(bundle: Bundle, path: Path, tried: Tried, opened: ExitStack, *, must: bool) -> _Way | None:
    try:
        runner = open_runner(bundle, path, tried.candidate.how)
    except CadaEdgeError as error:
        if must:
            raise
        tried.refused = str(error)
        return None
    opened.callback(runner.close)
    return _Way(tried, runner)


def _agrees(way: _Way, bundle: Bundle, batches: Sequence[UInt8Array], reference: list[Answer]) -> bool:
    """Whether it decides as the reference; the first one is it."""
    found = _answers(way, bundle, batches, must=not reference)
    if found is None:
        return False
    if not reference:
        reference.extend(found)
    way.tried.refused = disagreement(found, reference)
    return not way.tried.refused


def _answers(way: _Way, bundle: Bundle, batches: Sequence[UInt8Array], *, must: bool = False) -> list[Answer] | None:
    """What it says of every picture; ``None`` where it fails, and then it is out."""
    try:
        return [answer(batch[0], way.runner.infer(batch), bundle.manifest.threshold) for batch in batches]
    except CadaEdgeError as error:
        if must:
            raise
        way.tried.refused = str(error)
        return None


def _measure(
    ways: Sequence[_Way],
    batches: Sequence[UInt8Array],
    calls: int,
    times: Callable[[_Way], list[int]],
    progress: Callable[[int, int], None],
) -> None:
    """So many calls of each, A B C A B C; every other round backwards, so that no one always follows the same."""
    for turn in range(_WARM + calls):
        batch = batches[turn % len(batches)]
        for way in ways if turn % 2 else reversed(ways):
            time.sleep(PAUSE_S)
            start_ns = time.perf_counter_ns()
            way.runner.infer(batch)
            if turn >= _WARM:
                times(way).append(time.perf_counter_ns() - start_ns)
        progress(turn + 1, _WARM + calls)


def _best(finalists: Sequence[Tried], seed: int) -> Tried:
    first, *others = finalists
    for one in others:
        one.ratio = ratio(one.final_ns, first.final_ns, 0.5, paired=True, seed=seed)
    sure = [one for one in others if one.ratio is not None and one.ratio.high < 1]
    return min(sure, key=lambda one: one.p50_ns or 0.0, default=first)
