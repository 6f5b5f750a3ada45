"""What each picture of an archive was, and which of them may calibrate.

::

    archive/
    |- index.jsonl   one line per picture: its name, verdict, model
    |- passes/       1 of so many parts that passed
    |- rejects/      every other part, with a heatmap panel beside it
    |- good/         for people: rejects that were good after all
    `- bad/          for people: passes that should not have passed

Pictures are known by name, in whichever of the folders they lie.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from cada_edge.data.dataset import Item
from cada_edge.errors import DataError
from cada_edge.imaging import image_digest

INDEX = "index.jsonl"
PASSES, REJECTS, GOOD, BAD = "passes", "rejects", "good", "bad"
FOLDERS = (PASSES, REJECTS, GOOD, BAD)  # the line's own first: a file on its way to a person is met in one of both
PICTURES = frozenset({".png", ".jpg"})
_LOSSY = ".jpg"


@dataclass(frozen=True)
class Entry:
    """One picture.

    Attributes:
        file: its name, without a folder.
        time: of its verdict, UTC, ISO 8601.
        source_id: of its frame.
        frame_id: of its frame.
        name: label of its frame.
        status: ``ok``, ``ng`` or ``undecided``.
        score: aligned score, or ``None``.
        threshold: compared with, or ``None``.
        novelty: or ``None``.
        reason: of the verdict.
        sampled: whether it is one of the 1 of N that passes are kept by; told of rejects too.
        bundle_sha256: of the bundle that judged.
        model_sha256: of its weights alone, which calibration does not change.
    """

    file: str
    time: str
    source_id: str
    frame_id: int
    name: str
    status: str
    score: float | None
    threshold: float | None
    novelty: float | None
    reason: str
    sampled: bool
    bundle_sha256: str
    model_sha256: str

    def to_line(self) -> str:
        """One line of the index."""
        return json.dumps(asdict(self)) + "\n"


@dataclass(frozen=True)
class ArchivedGood:
    """Pictures of an archive that may calibrate a bundle, and those left out.

    Attributes:
        items: good pictures, a fair sample of what the line saw; see `archived_good`.
        n_passes: of these, parts that passed.
        n_good: of these, rejects that a person has moved to ``good``.
        n_unsampled: rejects in ``good`` that do not count: a pass of their frame would not have been kept.
        n_bad: passes that a person has moved to ``bad``.
        n_foreign: pictures of another model.
        n_unknown: pictures that the index does not list.
        n_lossy: of the items, JPEG: their scores differ a little from those on the line.
    """

    items: tuple[Item, ...]
    n_passes: int
    n_good: int
    n_unsampled: int
    n_bad: int
    n_foreign: int
    n_unknown: int
    n_lossy: int

    def to_json(self) -> dict[str, int]:
        """The counts."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "items"}


def read_index(folder: Path) -> dict[str, Entry]:
    """File name to entry; lines that are none are passed over. Raises `DataError` without an index."""
    try:
        text = (folder / INDEX).read_bytes().decode(errors="replace")
    except OSError as error:
        raise DataError(
            f"{folder}: no archive, it has no {INDEX}: {error.strerror}; give the folder that sinks.archive.dir names"
        ) from error
    return {entry.file: entry for line in text.splitlines() if (entry := _entry(line))}


def present(folder: Path) -> set[str]:
    """Names of all pictures in the archive's folders. Raises `OSError`."""
    return {path.name for name in FOLDERS for path in pictures(folder / name)}


def pictures(folder: Path) -> Iterator[Path]:
    """Originals in one folder, by name; panels, hidden and other files are passed over. Raises `OSError`."""
    if folder.is_dir():
        found = (path for path in folder.iterdir() if path.suffix in PICTURES and not path.stem.endswith("-panel"))
        yield from sorted(path for path in found if not path.name.startswith("."))


def archived_good(folder: Path, model_sha256: str) -> ArchivedGood:
    """The good pictures of an archive as a fair sample: passes, and of the rejects in ``good`` as many.

    Passes were kept 1 of N. All rejects were kept, so that counting every good one among
    them would weigh it N times and lift the threshold; only those count whose frame number
    would have kept a pass.

    Raises `DataError`: no archive, or nothing in it was judged by this model.
    """
    index = read_index(folder)
    passes, n_bad = list(pictures(folder / PASSES)), len(list(pictures(folder / BAD)))
    good = list(pictures(folder / GOOD))
    listed = [path for path in (*passes, *good) if path.name in index]
    ours = [path for path in listed if index[path.name].model_sha256 == model_sha256]
    if not ours:
        raise DataError(_nothing(folder, len(passes) + len(good), index, listed, model_sha256))
    chosen = [path for path in ours if index[path.name].sampled]
    return ArchivedGood(
        items=tuple(Item(path, image_digest(path), index[path.name].source_id, "train") for path in chosen),
        n_passes=sum(path.parent.name == PASSES for path in chosen),
        n_good=sum(path.parent.name == GOOD for path in chosen),
        n_unsampled=len(ours) - len(chosen),
        n_bad=n_bad,
        n_foreign=len(listed) - len(ours),
        n_unknown=len(passes) + len(good) - len(listed),
        n_lossy=sum(path.suffix == _LOSSY for path in chosen),
    )


def _nothing(folder: Path, count: int, index: Mapping[str, Entry], listed: list[Path], model_sha256: str) -> str:
    if not listed:
        return (
            f"{folder}: none of its {count} pictures in {PASSES} and {GOOD} is listed in {INDEX}; is keep_passes set?"
        )
    theirs = sorted({index[path.name].model_sha256[:12] for path in listed})
    return (
        f"{folder}: its {len(listed)} good pictures were judged by another model ({', '.join(theirs)}), the bundle "
        f"holds {model_sha256[:12]}; give the bundle that ran the line"
    )


def _entry(line: str) -> Entry | None:
    """A line of the index, or ``None`` for a torn or foreign one."""
    try:
        entry = Entry(**json.loads(line))
    except (ValueError, TypeError, RecursionError):
        return None
    texts: tuple[Any, ...] = (entry.file, entry.source_id, entry.model_sha256)
    plain = all(isinstance(text, str) for text in texts) and isinstance(entry.sampled, bool)
    return entry if plain and "/" not in entry.file else None
