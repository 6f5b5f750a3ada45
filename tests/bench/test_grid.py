"""The YAML: complete, strict, and the same cells however they are run."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from cada_edge.bench.grid import Bench, load_bench, packaged_grids
from cada_edge.bench.records import config_sha256
from cada_edge.bench.spread import job_list
from cada_edge.errors import ConfigError

MINIMAL = {"schema": 1, "data": "images", "out": "runs", "detectors": [{"name": "a"}]}


def load(folder: Path, **changes: Any) -> Bench:
    """A bench read from MINIMAL with changes."""
    path = folder / "grid.yaml"
    path.write_text(yaml.safe_dump({**MINIMAL, **changes}))
    return load_bench(str(path))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"seed": 1}, "seed: unknown key"),
        ({"schema": 2}, "schema: got 2"),
        ({"seeds": []}, "seeds: got"),
        ({"seeds": [1, 1]}, "seeds: .*different"),
        ({"detectors": []}, "detectors: got"),
        ({"detectors": [{"name": "a b"}]}, r"detectors\.0\.name: got 'a b'"),
        ({"detectors": [{"name": "a"}, {"name": "a"}]}, "detectors: .*different"),
        ({"detectors": [{"name": "a", "width": 3}]}, r"detectors\.0\.width: unknown key"),
        ({"detectors": [{"name": "a", "kind": "psychic"}]}, "detector a.*'psychic'.*revdist"),
        ({"detectors": [{"name": "a", "settings": {"widht": 3}}]}, r"detector a.*unknown keys \['widht'\]"),
        ({"detectors": [{"name": "a", "fit": {"iterations": 0}}]}, "detector a.*iterations"),
        ({"heads": [{"name": "h", "fit": {"target": "own?"}}]}, "head h.*target"),
        ({"targets_frr": [5]}, "targets_frr: .*numbers in"),
        ({"layout": "cifar"}, "layout: got 'cifar'"),
        ({"data": None}, "data: missing"),
    ],
)
def test_a_mistake_is_named(changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    """Whatever is wrong in the file is told before anything runs, by field or entry."""
    with pytest.raises(ConfigError, match=words):
        load(tmp_path, **changes)


def test_paths_are_relative_to_the_file_and_the_command_line_wins(tmp_path: Path) -> None:
    """A grid finds its images wherever it is called from; --data and --out replace what it says."""
    bench = load(tmp_path)
    assert (bench.data, bench.out) == (tmp_path / "images", tmp_path / "runs")
    assert load_bench(bench.source, data=Path("d"), out=Path("o")).data == Path("d")


def test_cells_are_every_combination_once(tmp_path: Path) -> None:
    """Detectors x heads x seeds, each with its own id and its own training."""
    names = {"detectors": [{"name": "a"}, {"name": "b", "kind": "flow"}], "heads": [{"name": "h"}, {"name": "i"}]}
    cells = load(tmp_path, seeds=[3, 5, 8], **names).cells
    assert len({cell.id for cell in cells}) == len(cells) == 2 * 2 * 3
    assert {cell.config.seed for cell in cells} == {3, 5, 8}


def test_what_is_not_said_suits_the_kind(tmp_path: Path) -> None:
    """An entry's fit changes what suits its detector, and leaves the rest."""
    entry = {"name": "f", "kind": "flow", "fit": {"batch_size": 4}}
    fit = load(tmp_path, detectors=[entry]).cells[0].config.fit
    suited = load(tmp_path, detectors=[{"name": "f", "kind": "flow"}]).cells[0].config.fit
    assert (fit.batch_size, fit.learning_rate, fit.mining) == (4, suited.learning_rate, suited.mining)


@pytest.mark.parametrize("name", sorted(packaged_grids()))
def test_a_grid_that_comes_along_is_valid(name: str, tmp_path: Path) -> None:
    """Grids in the package need only a place for images and output."""
    assert load_bench(name, tmp_path, tmp_path).cells
    with pytest.raises(ConfigError, match="--data"):
        load_bench(name)


def test_the_job_list_covers_exactly_the_grid(tmp_path: Path) -> None:
    """One command per cell, each naming grid, places and cell."""
    folder = tmp_path / "a folder"
    folder.mkdir()
    bench = load(folder, seeds=[0, 1])
    words = [shlex.split(line) for line in job_list(bench)]
    assert [w[-1] for w in words] == [cell.id for cell in bench.cells]
    assert all(w[:3] == ["cada-edge", "bench-accuracy", bench.source] for w in words)
    assert all(w[w.index("--out") + 1] == str(bench.out) for w in words)


def test_an_unknown_cell_is_named(tmp_path: Path) -> None:
    """Asking for a cell that the grid has not shows some it has."""
    with pytest.raises(ConfigError, match=r"no cell 'x'.*a\.cada\.0"):
        load(tmp_path).cell("x")


@pytest.mark.parametrize(
    "change",
    [{"size": 128}, {"targets_frr": [0.1]}, {"encoder": "tf_efficientnet_lite2"}, {"augment": {"copies": 2}}],
)
def test_every_setting_changes_the_key(change: dict[str, Any], tmp_path: Path) -> None:
    """A cell measured under other settings is not taken for this one."""
    before, after = load(tmp_path), load(tmp_path, **change)
    assert config_sha256(after, after.cells[0]) != config_sha256(before, before.cells[0])
