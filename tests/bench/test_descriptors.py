"""Shared descriptors: a picture is encoded once, whoever asks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cada_edge.bench.descriptors import SharedDescriptors
from cada_edge.errors import DataError
from cada_edge.types import Float32Array, UInt8Array

PICTURES = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 3), np.uint8)


def channel_means(pictures: UInt8Array) -> Float32Array:
    """A descriptor that needs no encoder: float32 (N, 3)."""
    return np.asarray(pictures.mean(axis=(1, 2)), np.float32)


def test_known_pictures_are_not_encoded_again(tmp_path: Path) -> None:
    """Saved and opened anew it answers without its encoder, in the order asked."""
    first = SharedDescriptors(tmp_path / "d.npz", lambda: channel_means)
    first(PICTURES)
    first.save()
    order = [3, 0, 3]
    again = SharedDescriptors(tmp_path / "d.npz", lambda: pytest.fail("the encoder was opened"))
    np.testing.assert_array_equal(again(PICTURES[order]), channel_means(PICTURES[order]))


def test_two_writers_keep_each_others_rows(tmp_path: Path) -> None:
    """What another process saved in between is not lost."""
    a, b = (SharedDescriptors(tmp_path / "d.npz", lambda: channel_means) for _ in range(2))
    a(PICTURES[:3])
    b(PICTURES[2:])
    a.save()
    b.save()
    both = SharedDescriptors(tmp_path / "d.npz", lambda: pytest.fail("the encoder was opened"))
    np.testing.assert_array_equal(both(PICTURES), channel_means(PICTURES))


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    """It is refused with its path and the way out, not read as something else."""
    (tmp_path / "d.npz").write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(DataError, match=r"d\.npz.*delete it"):
        SharedDescriptors(tmp_path / "d.npz", lambda: channel_means)
