"""An extension shown: each product before and after."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from cada_edge.evaluation.extension import Extension, ProductChange, Side


def show(extension: Extension, console: Console) -> None:
    """Print one row per product, the new ones marked."""
    what = "the calibration images" if extension.held_out_only else "test images"
    table = Table(
        title=f"Before and after, on {what}, each model at its own {100 * extension.target_frr:g} % threshold",
        title_justify="left",
    )
    for column in ("product", "good rejected", "defects rejected", "I-AUROC %"):
        table.add_column(column, justify="left" if column == "product" else "right")
    for product in extension.products:
        table.add_row(*_row(product))
    console.print(table)


def _row(change: ProductChange) -> tuple[str, str, str, str]:
    name = change.product or "(unnamed)"
    return (
        f"{name} (new)" if change.is_new else name,
        _counts(change.before.false_rejects, change.after.false_rejects, change.n_good),
        _counts(change.before.caught, change.after.caught, change.n_defect),
        f"{_percent(change.before)} -> {_percent(change.after)}",
    )


def _counts(before: int, after: int, total: int) -> str:
    return f"{before} -> {after} of {total}" if total else "-"


def _percent(side: Side) -> str:
    return "-" if side.image_auroc is None else f"{100 * side.image_auroc:.1f}"
