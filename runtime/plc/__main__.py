"""Entry of the PLC process: ``python -m cada_edge.runtime.plc --fd N``."""

from __future__ import annotations

from cada_edge.runtime.plc.process import main

if __name__ == "__main__":
    raise SystemExit(main())
