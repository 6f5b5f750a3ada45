"""Run by torchrun in a test: train the small config on a folder, write the bundle on rank 0."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from cada_edge.data.dataset import scan
from cada_edge.training import train


def main() -> None:
    """``train_small.py DATA OUT``."""
    spec = importlib.util.spec_from_file_location("small", Path(__file__).with_name("conftest.py"))
    assert spec is not None
    assert spec.loader is not None
    small = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(small)
    data, out = Path(sys.argv[1]), Path(sys.argv[2])
    bundle = train(small.SMALL, scan(data).train(), out.with_suffix(".work"), small.quiet)
    if bundle is not None:
        bundle.write(out)


if __name__ == "__main__":
    main()
