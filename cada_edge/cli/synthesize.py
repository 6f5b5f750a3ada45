"""``cada-edge synthesize``: make a small production line's pictures, good and defective."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from cada_edge.data.dataset import Dataset
from cada_edge.data.synthetic import SynthConfig
from cada_edge.data.synthetic import synthesize as make_line


def synthesize(
    out: Annotated[Path, typer.Argument(help="Folder to make; must not exist or be empty.")],
    *,
    products: Annotated[int, typer.Option(help="Number of different products, 1 to 6.")] = 4,
    train: Annotated[int, typer.Option(help="Good training images per product.")] = 60,
    test_good: Annotated[int, typer.Option(help="Good test images per product.")] = 20,
    test_defect: Annotated[int, typer.Option(help="Defective test images per product, kinds in turn.")] = 20,
    size: Annotated[int, typer.Option(help="Side of the images, px, 64 to 1024.")] = 256,
    seed: Annotated[int, typer.Option(help="Same seed, same images.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Make pictures of a multi-product line, with defects and their exact masks."""
    config = SynthConfig(products, train, test_good, test_defect, size_px=size, seed=seed)
    with Progress(console=Console(stderr=True), disable=as_json, transient=True) as bar:
        task = bar.add_task("drawing", total=None)
        dataset = make_line(config, out, lambda done, total: bar.update(task, completed=done, total=total))
    if as_json:
        typer.echo(json.dumps({"root": str(out), "sha256": dataset.sha256, "products": _counts(dataset)}))
    else:
        Console().print(_table(dataset))


def _counts(dataset: Dataset) -> dict[str, dict[str, int]]:
    """Images per product: good ones to train on, good and defective ones to test on."""
    return {
        product: {
            "train": sum(item.product == product for item in dataset.train()),
            "test_good": sum(item.product == product and item.defect is None for item in dataset.test()),
            "test_defect": sum(item.product == product and item.defect is not None for item in dataset.test()),
        }
        for product in dataset.products()
    }


def _table(dataset: Dataset) -> Table:
    table = Table("product", "train", "test good", "test defective", title=str(dataset.root))
    for product, counts in _counts(dataset).items():
        table.add_row(product, *(str(count) for count in counts.values()))
    return table
