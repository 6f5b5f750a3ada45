"""Install the built wheel with what a line with Modbus needs into a fresh environment; measure its size and its start.

``python tests/peers/install_figures.py BUNDLE IMAGES --out install.json`` prints Markdown tables. It builds the wheel
of this checkout, for which ``pip install build`` and a package index are needed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "kits"))

from pymodbus.client import ModbusTcpClient
from whole_line import RunningLine, line_running, until_listening, usage, write_line_file

from cada_edge.runtime.registers import StatusFlag, decode

ROOT, BASE, MIB = Path(__file__).resolve().parents[2], 100, float(1 << 20)
ABSENT = ("torch", "torchvision", "onnx", "sklearn", "scipy", "matplotlib", "timm")
RUNS, LARGEST, SETTLE_S, POLL_S = 5, 8, 5.0, 0.01


def install(folder: Path, extra: str) -> Path:
    """The Python of a fresh environment with the wheel of what is committed, and one extra."""
    tree = folder / "tree"
    tree.mkdir()
    archive = subprocess.run(["git", "-C", str(ROOT), "archive", "HEAD"], capture_output=True, check=True).stdout
    subprocess.run(["tar", "-x", "-C", str(tree)], input=archive, check=True)
    build = [sys.executable, "-m", "build", "--wheel", "--outdir", str(folder), str(tree)]
    subprocess.run(build, check=True, capture_output=True)
    wheel = next(folder.glob("*.whl"))
    venv.create(folder / "venv", with_pip=True)
    python = folder / "venv" / "bin" / "python"
    # Isolated: a checkout on PYTHONPATH would count as installed.
    subprocess.run([str(python), "-I", "-m", "pip", "install", "--quiet", f"{wheel}[{extra}]"], check=True)
    return python


def sizes(python: Path) -> dict[str, float]:
    """MiB of each top-level name of site-packages, without pip, largest first."""
    site = next(python.parents[1].glob("lib/python*/site-packages"))
    found = {one.name: _size(one) / MIB for one in site.iterdir() if not one.name.startswith("pip")}
    return dict(sorted(found.items(), key=lambda pair: -pair[1]))


def _size(path: Path) -> int:
    files = [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file() and not one.is_symlink()]
    return sum(one.stat().st_size for one in files if "__pycache__" not in one.parts)


def absent(python: Path) -> dict[str, bool]:
    """Which of `ABSENT` cannot be found in that environment."""
    code = f"import importlib.util as u, json; print(json.dumps({{n: u.find_spec(n) is None for n in {ABSENT}}}))"
    done = subprocess.run([str(python), "-I", "-c", code], capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


def start(python: Path, folder: Path, bundle: Path, images: Path) -> dict[str, float]:
    """Seconds from the program's start to TRIGGER_READY at the PLC, then MiB of its processes idle and at full rate."""
    folder.mkdir()
    station = {"id": "st1", "mode": "triggered"}
    path, port = write_line_file(folder, bundle, images, stations=[station])
    with line_running(path, str(python), PYTHONPATH="") as line:
        until_listening(line, port)
        listening_s = time.monotonic() - line.started_s
        client = ModbusTcpClient("127.0.0.1", port=port, timeout=5)
        assert client.connect()  # type: ignore[no-untyped-call]  # pymodbus leaves it unannotated
        client.write_registers(0, [1] + [0] * 15)
        _until(
            lambda: StatusFlag.TRIGGER_READY in decode(client.read_holding_registers(BASE, count=32).registers).flags
        )
        ready_s = time.monotonic() - line.started_s
        client.close()  # type: ignore[no-untyped-call]  # pymodbus leaves it unannotated
        time.sleep(SETTLE_S / 5)
        idle = _resident(line, "idle")
    path, port = write_line_file(folder, bundle, images)
    with line_running(path, str(python), PYTHONPATH="") as line:
        until_listening(line, port)
        time.sleep(SETTLE_S)
        busy = _resident(line, "at full rate")
    return {"listening, s": listening_s, "TRIGGER_READY, s": ready_s, **idle, **busy}


def _until(condition: Callable[[], bool]) -> None:
    until_s = time.monotonic() + 60
    while not condition():
        if time.monotonic() > until_s:
            raise TimeoutError("the station was not ready within 60 s")
        time.sleep(POLL_S)


def _resident(line: RunningLine, state: str) -> dict[str, float]:
    return {f"RSS of {role} {state}, MiB": usage(pid).rss_bytes / MIB for role, pid in line.pids().items()}


def markdown(found: dict[str, Any]) -> str:
    """Sizes, then start and memory."""
    lines = [f"| `cada-edge[{found['extra']}]` in site-packages | MiB |", "|---|---|"]
    largest = list(found["sizes_mib"].items())[:LARGEST]
    lines += [f"| {name} | {size:.1f} |" for name, size in largest]
    lines += [f"| all | {sum(found['sizes_mib'].values()):.1f} |", ""]
    lines += [f"| median of {RUNS} starts (least to most) | |", "|---|---|"]
    for name in found["starts"][0]:
        values = [one[name] for one in found["starts"]]
        lines.append(f"| {name} | {np.median(values):.2f} ({min(values):.2f} to {max(values):.2f}) |")
    gone = [name for name, missing in found["absent"].items() if missing]
    present = [name for name, missing in found["absent"].items() if not missing]
    lines += ["", f"Not installed: {', '.join(gone)}. Installed of these: {', '.join(present) or 'none'}."]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Install, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("--extra", default="runtime")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        python = install(folder, asked.extra)
        found = {
            "extra": asked.extra,
            "sizes_mib": sizes(python),
            "absent": absent(python),
            "starts": [start(python, folder / f"run{run}", asked.bundle, asked.images) for run in range(RUNS)],
            "load_1m": os.getloadavg()[0],
        }
    if asked.out:
        asked.out.write_text(json.dumps(found))
    sys.stdout.write(markdown(found))


if __name__ == "__main__":
    main()
