"""How a bundle's graph is run: backend, precision, threads, what is done to the graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cada_edge.engine_key import Flavour, Precision

LocalBackend = Literal["ort", "openvino"]
LineBackend = Literal["auto"] | LocalBackend | Flavour
Level = Literal["basic", "extended", "all"]

LEVELS: tuple[Level, ...] = ("basic", "extended", "all")
LOCAL: tuple[LocalBackend, ...] = ("ort", "openvino")


@dataclass(frozen=True)
class LocalOptions:
    """How a processor runs the graph; never what it computes, but for rounding.

    Attributes:
        level: of ONNX Runtime's optimisations: ``basic`` folds constants, ``extended`` also fuses operators,
            ``all`` also lays memory out in blocks of channels. OpenVINO is given the graph after ``basic``, or
            with ``all`` as it is.
        inline: put function bodies into the graph before it is optimised, not after. OpenVINO knows no functions.
        spin: threads of ONNX Runtime that have nothing to do ask for more for a while before they sleep: quicker
            where nobody else wants their core, slower where somebody does.
    """

    level: Level = "all"
    inline: bool = True
    spin: bool = True


@dataclass(frozen=True)
class How:
    """How a bundle is run.

    Attributes:
        backend: what runs the graph; ``auto`` takes what `cada-edge tune` found here, else ONNX Runtime.
        precision: which of the bundle's graphs.
        threads: inside an operator, where the backend has them; ``None`` for every core.
        batch: most pictures in one call of an engine; elsewhere the number to be ready for.
        graph: for the processor.
    """

    backend: LineBackend = "ort"
    precision: Precision = "fp32"
    threads: int | None = None
    batch: int = 1
    graph: LocalOptions = LocalOptions()
