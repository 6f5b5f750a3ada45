"""The pass over pixels: every map against its picture's mask, one picture in memory at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from cada_edge.data.dataset import Item
from cada_edge.errors import DataError
from cada_edge.evaluation.alignments import Aligned
from cada_edge.evaluation.metrics import BoolArray
from cada_edge.evaluation.pixels import AUPRO_LIMIT, Binning, PixelHistogram
from cada_edge.evaluation.protocols import Labelled
from cada_edge.evaluation.results import AlignmentName
from cada_edge.heatmap import upsample
from cada_edge.imaging import read_mask
from cada_edge.types import Float32Array, ImageSpec

# How pixels are counted, whatever the data set: the one place that says it, quoted by reports.
CONVENTIONS = (
    "Per-pixel conventions: a mask pixel above 0 is a defect; the masks of one picture are united. Maps are upsampled "
    "bilinearly (half-pixel centres) to each picture's own size and compared there; masks are never resized. "
    f"Regions are 8-connected; AUPRO integrates up to a false-positive rate of {AUPRO_LIMIT:g}. Only products with "
    "masks take part, with their good pictures and those defective ones that have a mask."
)

Progress = Callable[[str, int, int], None]
Histograms = dict[AlignmentName, dict[str, PixelHistogram]]


def pixel_histograms(
    test: Labelled, aligned: Mapping[AlignmentName, Aligned], spec: ImageSpec, report: Progress
) -> Histograms:
    """Pixel scores in and outside the masks, per alignment and product.

    Only products with masks take part, with their good images and those defective ones that
    have a mask with something in it. Raises `DataError` for a mask of another size than its
    picture.
    """
    maps, rows = test.judged.prediction.map, _rows(test.judged.items)
    binnings = {name: _binning(maps, a, rows) for name, a in aligned.items()}
    found: Histograms = {name: {} for name in aligned}
    for done, row in enumerate(rows, start=1):
        item, size_hw = test.judged.items[row], test.judged.sizes_hw[row]
        mask = _mask(item, size_hw)
        if mask is None or mask.any():
            cells = upsample(maps[row], size_hw, spec)
            for name, a in aligned.items():
                if a.valid[row]:
                    bins = binnings[name].bins(cells * a.gain[row] + a.shift[row])
                    before = found[name].get(item.product, PixelHistogram.empty())
                    found[name][item.product] = before + PixelHistogram.of(bins, mask)
        report("compare pixels", done, len(rows))
    return found


def _rows(items: tuple[Item, ...]) -> list[int]:
    masked = {item.product for item in items if item.masks}
    return [row for row, item in enumerate(items) if item.product in masked and (item.defect is None or item.masks)]


def _binning(maps: Float32Array, aligned: Aligned, rows: list[int]) -> Binning:
    """Bilinear upsampling never leaves the range of the cells, so the cells set the bins."""
    used = [row for row in rows if aligned.valid[row]]
    if not used:
        return Binning.over(np.zeros(1, np.float32))
    return Binning.over(maps[used] * aligned.gain[used, None, None] + aligned.shift[used, None, None])


def _mask(item: Item, size_hw: tuple[int, int]) -> BoolArray | None:
    """The picture's mask, bool `size_hw`; None for a good part."""
    return united_mask(item.masks, size_hw) if item.masks else None


def united_mask(paths: Sequence[Path], size_hw: tuple[int, int]) -> BoolArray:
    """True wherever any of the masks is above 0: bool `size_hw`.

    Raises `DataError` for a mask of another size than its picture, or that cannot be read.
    """
    united = np.zeros(size_hw, np.bool_)
    for path in paths:
        mask = read_mask(path)
        if mask.shape != size_hw:
            raise DataError(
                f"{path}: mask is {mask.shape} px (H, W), its image is {size_hw}; "
                "masks are never resized: draw it on the image itself"
            )
        united |= mask
    return united
