"""The classifier behind ``class-predicted``: product names for training, none for the test.

Where a line has labels for its training images only, a classifier can name the product of
each new image, and that product's statistics align it (CADA paper, arXiv 2404.00724,
figure 4: "class-aware, labels in training only"). Here it is logistic regression on the
standardised descriptors that the CADA head reads too, so that both know the same of an image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cada_edge.data.dataset import Item
from cada_edge.errors import EngineError
from cada_edge.evaluation.masks import Progress
from cada_edge.imaging import prepare, read_image
from cada_edge.types import Float32Array, ImageSpec, UInt8Array

Describe = Callable[[UInt8Array], Float32Array]
"""Prepared pictures uint8 (N, H, W, 3) to what the CADA head reads of them, float32 (N, D)."""

MAX_ITERATIONS = 1000  # far more than standardised descriptors need to converge


@dataclass(frozen=True)
class ProductClassifier:
    """Pictures to descriptors.

    Attributes:
        describe: makes the descriptors.
        spec: the preprocessing `describe` expects.
        batch_size: pictures at a time, >= 1.
        report: called with (what, done, total).
    """

    describe: Describe
    spec: ImageSpec
    batch_size: int
    report: Progress

    def name(self, known: Sequence[Item], unknown: Sequence[Item]) -> dict[str, str]:
        """Learn the products of `known`, then name those of `unknown`: sha256 to product.

        Args:
            known: good training images, >= 1; only here are product names read.
            unknown: images to name.

        Raises:
            DataError: a picture cannot be read.
            EngineError: a descriptor is not finite; names the picture.
        """
        products = np.array([item.product for item in known], np.str_)
        if len(set(products)) == 1:  # nothing to tell apart
            return dict.fromkeys((item.sha256 for item in unknown), str(products[0]))
        classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=MAX_ITERATIONS))
        classifier.fit(self._descriptors("describe training images", known), products)
        names = classifier.predict(self._descriptors("name test images", unknown))
        return {item.sha256: str(name) for item, name in zip(unknown, names, strict=True)}

    def _descriptors(self, what: str, items: Sequence[Item]) -> Float32Array:
        """float32 (N, D), every number finite."""
        parts = []
        for start in range(0, len(items), self.batch_size):
            chunk = items[start : start + self.batch_size]
            parts.append(self.describe(np.stack([prepare(read_image(item.path), self.spec) for item in chunk])))
            bad = np.flatnonzero(~np.isfinite(parts[-1]).all(axis=1))
            if len(bad):
                raise EngineError(f"{chunk[bad[0]].path}: its descriptor is not finite; train the bundle again")
            self.report(what, start + len(chunk), len(items))
        return np.concatenate(parts)
