"""The ways to run a bundle's graph that are worth a try on this machine."""

from __future__ import annotations

import os
from collections.abc import Container
from dataclasses import dataclass
from importlib.util import find_spec

from cada_edge.engine_key import PRECISIONS, Precision, graph_name
from cada_edge.runtime.runners.how import LOCAL, How, LocalBackend, LocalOptions


@dataclass(frozen=True)
class Candidate:
    """One way.

    Attributes:
        name: for people.
        how: to run the bundle.
    """

    name: str
    how: How


_ORT = {
    "all": LocalOptions("all"),
    "extended": LocalOptions("extended"),
    "basic": LocalOptions("basic"),
    "all, functions inlined late": LocalOptions("all", inline=False),
    "all, threads sleep at once": LocalOptions("all", spin=False),
}
_OPENVINO = {"graph as it is": LocalOptions("all"), "constants folded": LocalOptions("basic")}
_GRAPHS: dict[LocalBackend, dict[str, LocalOptions]] = {"ort": _ORT, "openvino": _OPENVINO}


def default(precision: Precision) -> Candidate:
    """ONNX Runtime as it comes, on every core: what all others are compared with."""
    return Candidate("ort, as it comes", How("ort", precision, None))


def candidates(precision: Precision, threads: tuple[int, ...] = ()) -> list[Candidate]:
    """The default first, then each backend that is installed, with each graph and number of threads.

    Args:
        precision: of the bundle's graphs.
        threads: numbers to try; `thread_counts` where empty.
    """
    counts = threads or thread_counts()
    found = [default(precision)]
    for backend, graphs in _GRAPHS.items():
        if backend == "openvino" and not find_spec("openvino"):
            continue
        for label, graph in graphs.items():
            for count in counts:
                if count == 1 and not graph.spin:
                    continue  # one thread waits for nobody
                name = f"{backend}, {label}, {count} thread{'s' if count > 1 else ''}"
                found.append(Candidate(name, How(backend, precision, count, graph=graph)))
    return found


def beside(precision: Precision, held: Container[str], threads: int | None) -> list[Candidate]:
    """The bundle's other precisions in each backend that is installed, as a line runs them that names both.

    Args:
        precision: that is tuned.
        held: names of the bundle's files.
        threads: of the way that was chosen.
    """
    backends = [backend for backend in LOCAL if backend == "ort" or find_spec("openvino")]
    return [
        Candidate(f"{other}, {backend}", How(backend, other, threads))
        for other in PRECISIONS
        if other != precision and graph_name(other) in held
        for backend in backends
    ]


def usable_cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0))


def thread_counts() -> tuple[int, ...]:
    """One, powers of two, half of the cores (threads of one core share its units), and all."""
    most = usable_cores()
    powers = {1 << exponent for exponent in range(most.bit_length())}
    return tuple(sorted(count for count in {*powers, max(1, most // 2), most} if count <= most))
