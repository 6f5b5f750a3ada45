"""Options and the runner that commands about lower precisions share."""

from __future__ import annotations

from typing import Annotated

import typer

from cada_edge.bundle import Bundle
from cada_edge.engine_key import Precision
from cada_edge.export.precision_config import RangeChoice, Rest
from cada_edge.protocols import Runner
from cada_edge.runtime.runners.ort import OrtRunner

CalibrationImages = Annotated[
    int, typer.Option(help="Good images that set INT8 ranges, chosen to cover all there are.")
]
RangeMethodOption = Annotated[
    RangeChoice, typer.Option(help="Rule of the INT8 ranges; auto: the one that moves scores least.")
]
ScoreBudget = Annotated[
    float, typer.Option(help="Layers are left out of INT8 until scores move by at most this, root mean square.")
]
Int8Rest = Annotated[Rest, typer.Option(help="Type of what is not INT8: fp16 for TensorRT, fp32 for processors.")]
Int8Depthwise = Annotated[bool, typer.Option("--int8-depthwise", help="Depthwise convolutions in INT8 as well.")]


def open_ort(bundle: Bundle, precision: Precision) -> Runner:
    """The runner that judges graphs of any precision here."""
    return OrtRunner(bundle, precision=precision)
