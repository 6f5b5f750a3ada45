"""The table for people: Markdown, one HTML file that needs nothing else, a picture, and JSON."""

from __future__ import annotations

import json
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from cada_edge.bench.plots import overview_png, overview_svg
from cada_edge.bench.records import make_folder
from cada_edge.bench.table import COLUMNS, Table
from cada_edge.imaging import write_atomic

WORST = "worst product under CADA"


def write_table(table: Table, out: Path) -> list[Path]:
    """Write ``table.md``, ``table.json`` and, once there is a row, ``table.html`` and ``table.png``.

    Raises `DataError` when the folder cannot be written.
    """
    text = json.dumps(table.to_json(), indent=1, allow_nan=False)
    files = {"table.md": markdown(table).encode(), "table.json": f"{text}\n".encode()}
    if table.rows:
        files |= {"table.html": html(table).encode(), "table.png": overview_png(table, names(table))}
    make_folder(out)
    for name, content in files.items():
        write_atomic(out / name, content)
    return [out / name for name in files]


def facts(table: Table) -> list[tuple[str, list[str]]]:
    """Figures downwards, detectors across: a heading and one text per row of the table."""
    lines = [
        (f"{COLUMNS[key].group}: {COLUMNS[key].title}", [row.text(key) for row in table.rows])
        for key in table.columns()
    ]
    return [*lines, (f"{WORST}, seed by seed", [", ".join(row.worst) for row in table.rows])]


def names(table: Table) -> list[str]:
    """What stands above each row's texts: the detector, and the head where there are several."""
    many = len({row.head for row in table.rows}) > 1
    return [f"{row.detector}, {row.head}" if many else row.detector for row in table.rows]


def caption(table: Table) -> str:
    """What the figures are, in a few sentences."""
    seeds = max((len(row.seeds) for row in table.rows), default=0)
    return (
        f"Per cent, mean \u00b1 standard deviation over {seeds} seeds. The one threshold of all products is set from "
        f"good calibration images for {100 * table.target_frr:g} % false rejects; rates are counted on test images, "
        "and under CADA an image beyond the novelty limit counts as rejected. "
        "Gap closed: (CADA - raw) / (class-aware - raw) of the pool\u2019s I-AUROC, if labels gain two points or more."
    )


def markdown(table: Table) -> str:
    """The table as Markdown, with its caption and what is missing."""
    lines = [caption(table), ""]
    if table.rows:
        lines += [_line(["%", *names(table)]), _line(["---", *["---:"] * len(table.rows)])]
        lines += [_line([heading, *texts]) for heading, texts in facts(table)]
    lines += ["", *(f"- {line}" for line in shortfalls(table))]
    return "\n".join(lines).rstrip() + "\n"


def _line(texts: list[str]) -> str:
    return f"| {' | '.join(text.replace('|', chr(92) + '|') for text in texts)} |"


def shortfalls(table: Table) -> list[str]:
    """A line for each failed cell, and one for those that have not run."""
    lines = [f"{name} failed: {' '.join(error.split())}" for name, error in table.failed.items()]
    return [*lines, *([f"not run yet: {', '.join(table.missing)}"] if table.missing else [])]


def html(table: Table) -> str:
    """The table, its plots and every cell as one HTML text."""
    environment = Environment(
        loader=PackageLoader("cada_edge.bench", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template("table.html.j2").render(
        table=table,
        caption=caption(table),
        groups=_groups(table),
        titles=[COLUMNS[key].title for key in table.columns()],
        worst=WORST,
        rows=[
            (name, [*map(row.text, table.columns()), ", ".join(row.worst)])
            for name, row in zip(names(table), table.rows, strict=True)
        ],
        overview=overview_svg(table, names(table)),
        shortfalls=shortfalls(table),
        records=[
            (r.cell, sum(r.provenance["seconds"].values()), json.dumps(r.figures, indent=1)) for r in table.records
        ],
    )


def _groups(table: Table) -> list[tuple[str, int]]:
    """Headings that span columns, with their width."""
    groups: list[tuple[str, int]] = []
    for key in table.columns():
        name = COLUMNS[key].group
        if groups and groups[-1][0] == name:
            groups[-1] = (name, groups[-1][1] + 1)
        else:
            groups.append((name, 1))
    return groups
