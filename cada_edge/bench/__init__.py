"""Experiments: a grid of detectors, heads and seeds from one YAML, trained, evaluated and put in one table."""

from cada_edge.bench.grid import Bench, Cell, Grid, load_bench
from cada_edge.bench.records import CellRecord
from cada_edge.bench.table import Row, Table, collect

__all__ = ["Bench", "Cell", "CellRecord", "Grid", "Row", "Table", "collect", "load_bench"]
