"""Bytes, operations and the time they take at best: ``python tests/kits/roofline.py``.

Every input is read once and every output written once; the distances between the two kernels,
a few kilobytes an image, stay in the second-level cache but are counted too. The time is that of
the bytes at the memory's nominal bandwidth: the work is one to three operations a byte, and these
GPUs can do twenty and more.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

MAP_CELLS, TAPS, BISECTIONS = 64 * 64, 5, 32
SHAPES = {
    "EfficientNet-Lite0 (8, 16, 32)": [(40, 32, 32), (112, 16, 16), (320, 8, 8)],
    "WideResNet50 (4, 8, 16)": [(256, 64, 64), (512, 32, 32), (1024, 16, 16)],
}
BANDWIDTH_GB_S = {"Orin": 204, "Thor": 273, "H100": 3350}


@dataclass(frozen=True)
class Work:
    """Of one call.

    Attributes:
        bytes: read and written.
        operations: float32 additions, multiplications, divisions and comparisons; fma counts two.
    """

    bytes: int
    operations: int


def work(shapes: list[tuple[int, int, int]], batch: int, element_bytes: int) -> Work:
    """Of the fused node with features of these (C, h, w) at 256 pixels and a map of 64 x 64."""
    values = sum(map(prod, shapes))
    pixels = sum(height * width for _, height, width in shapes)
    distances = 2 * 4 * pixels  # written once, read at least once
    outputs = 4 * (MAP_CELLS + 1 + 2)  # map, score, u and gamma
    sums = 6 * values + 8 * pixels
    smoothing = MAP_CELLS * (len(shapes) * 14 + 4 * TAPS + 2)
    score = MAP_CELLS * (BISECTIONS + 3)
    return Work(batch * (2 * element_bytes * values + distances + outputs), batch * (sums + smoothing + score))


def time_us(total: Work, bandwidth_gb_s: float) -> float:
    """At best, in microseconds."""
    return total.bytes / bandwidth_gb_s / 1e3


def rows() -> list[str]:
    """The table of docs/plugin.md."""
    head = ["features", "type", "batch", "MB", "Mop", "op/byte", *(f"{name}, us" for name in BANDWIDTH_GB_S)]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for name, shapes in SHAPES.items():
        for kind, size in {"fp32": 4, "fp16": 2}.items():
            for batch in (1, 8):
                total = work(shapes, batch, size)
                times = [f"{time_us(total, speed):.1f}" for speed in BANDWIDTH_GB_S.values()]
                numbers = [
                    f"{total.bytes / 1e6:.2f}",
                    f"{total.operations / 1e6:.2f}",
                    f"{total.operations / total.bytes:.2f}",
                ]
                lines.append("| " + " | ".join([name, kind, str(batch), *numbers, *times]) + " |")
    return lines


if __name__ == "__main__":
    print("\n".join(rows()))  # noqa: T201  # a program
