"""How well unknown parts are told: each product left out in turn, and what the limit then says of it.

    python -m cada_edge.bench.left_out line.cada images

The bundle gives the encoder and every image's role. For each product its images are taken from
those the novelty measure is fitted on; the share of all its images beyond the limit is what a
line that never saw it would call undecided. The last rows say what the measure costs: the share
of known good test images, and of defective ones, beyond the limit when nothing is left out.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from cada_edge.bundle import Bundle
from cada_edge.data.dataset import Item, scan
from cada_edge.errors import CadaEdgeError, DataError
from cada_edge.imaging import prepare, read_image
from cada_edge.models import load_model
from cada_edge.models.novelty import Novelty
from cada_edge.training.encode import open_describer
from cada_edge.training.fit_novelty import fit_novelty
from cada_edge.types import Float32Array

_CHUNK = 8


@dataclass(frozen=True)
class Share:
    """Images beyond the limit.

    Attributes:
        name: product, or which images.
        images: how many there are.
        beyond: how many of them are novel.
    """

    name: str
    images: int
    beyond: int


@dataclass(frozen=True)
class Described:
    """Images and what the head reads of them.

    Attributes:
        items: N images.
        descriptors: float32 (N, D).
        role: role of each in the bundle, "" for none, (N,).
        prototypes: how many the novelty measure keeps.
    """

    items: Sequence[Item]
    descriptors: Float32Array
    role: npt.NDArray[np.str_]
    prototypes: int


def describe_all(bundle: Bundle, items: Sequence[Item]) -> Described:
    """Describe every image once. Raises `DataError` for an image that cannot be read, or without roles."""
    model = load_model(bundle)
    role_of = {digest: role for role, digests in bundle.roles().items() for digest in digests}
    describe, rows = open_describer(model, torch.device("cpu")), []
    for start in track(range(0, len(items), _CHUNK), "describe images", console=Console(stderr=True)):
        chunk = items[start : start + _CHUNK]
        rows.append(describe(np.stack([prepare(read_image(item.path), model.spec) for item in chunk])))
    role = np.array([role_of.get(item.sha256, "") for item in items])
    return Described(items, np.concatenate(rows), role, len(model.head.novelty.prototypes))


def left_out(found: Described) -> list[Share]:
    """The share of each product beyond the limit when it was left out. Raises `DataError` for a single product."""
    products = np.array([item.product for item in found.items])
    names = sorted(set(products))
    if len(names) < 2:
        raise DataError(f"one product, {names[0]!r}: leaving it out leaves nothing; give a folder of several products")
    shares = []
    for name in track(names, "leave products out", console=Console(stderr=True)):
        novel = _novel(found, known=products != name)
        shares.append(Share(name, int((products == name).sum()), int(novel[products == name].sum())))
    return shares


def price(found: Described) -> list[Share]:
    """What the limit costs and brings when every product is known: shares of good and of defective test images."""
    everything = np.ones(len(found.items), bool)
    novel = _novel(found, known=everything)
    tested = np.array([item.split == "test" for item in found.items])
    defective = np.array([item.defect is not None for item in found.items])
    rows = {"known, good": tested & ~defective, "known, defective": tested & defective}
    return [Share(name, int(chosen.sum()), int(novel[chosen].sum())) for name, chosen in rows.items()]


def _novel(found: Described, known: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Which images are beyond the limit of a measure fitted on those `known`, bool (N,)."""
    descriptors = torch.from_numpy(found.descriptors)
    seen, held = (descriptors[torch.from_numpy(known & (found.role == role))] for role in ("fit", "align"))
    if not len(seen) or not len(held):
        raise DataError(
            f"of the bundle's images {len(seen)} fitted and {len(held)} aligned ones are in the folder once a product "
            "is left out; give the folder it was trained on"
        )
    novelty = Novelty(descriptors.shape[1], found.prototypes)
    fit_novelty(novelty, seen, held, len(held))
    with torch.inference_mode():
        return np.asarray((novelty(descriptors) > 1).numpy())


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="The share of a product's images that are novel when it was left out.")
    parser.add_argument("bundle", type=Path, help="trained on the images")
    parser.add_argument("data", type=Path, help="folder of products, in MVTec AD layout")
    asked = parser.parse_args(arguments)
    try:
        bundle, dataset = Bundle.read(asked.bundle), scan(asked.data)
        found = describe_all(bundle, dataset.items)
        shares = [*left_out(found), *price(found)]
    except CadaEdgeError as error:
        parser.error(str(error))
    Console().print(table(shares))


def table(shares: Sequence[Share]) -> Table:
    """One row a share."""
    out = Table("images", "count", "beyond the limit")
    for share in shares:
        out.add_row(share.name, str(share.images), f"{100 * share.beyond / max(1, share.images):.1f} %")
    return out


if __name__ == "__main__":
    main(sys.argv[1:])
