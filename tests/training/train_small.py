"""Run by torchrun in a test: train the small config on a folder, write the bundle on rank 0."""

from __future__ import annotations

import sys
from pathlib import Path

from train_kit import SMALL, quiet

from cada_edge.data.dataset import scan
from cada_edge.training import train


def main() -> None:
    """``train_small.py DATA OUT``."""
    data, out = Path(sys.argv[1]), Path(sys.argv[2])
    bundle = train(SMALL, scan(data).train(), out.with_suffix(".work"), quiet)
    if bundle is not None:
        bundle.write(out)


if __name__ == "__main__":
    main()
