"""No barrier of the kernels can be removed without the tests of the numbers noticing."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from plugin_kit import Case, make_case

from cada_edge.export.plugin import SOURCES
from cada_edge.export.plugin.host import HostPlugin, compile_host

BARRIER = re.compile(r"__syncthreads\(\);  // \[barrier: ([\w ]+)\]")
NAMES = BARRIER.findall((SOURCES / "kernels.cuh").read_text())
# Eight tiles, so that blocks wait for each other's tickets, in two images.
CASE = make_case([(64, 12, 12)], (20, 70))
PROGRAM = """
import sys
from pathlib import Path
import numpy as np
from cada_edge.export.plugin.host import HostPlugin
from test_races import CASE, wrong
plugin = HostPlugin(Path(sys.argv[1]))
sys.exit(3 if any(wrong(plugin, CASE, schedule) for schedule in range(3)) else 0)
"""


def wrong(plugin: HostPlugin, case: Case, schedule: int) -> bool:
    """Whether the numbers differ from float64's where threads and blocks run in this order."""
    plugin.set_schedule(schedule)
    found = plugin.run(case.inputs, case.u, case.gamma, case.fusion.attributes())
    return not all(np.allclose(a, b, atol=1e-5) for a, b in zip(found, case.expected(), strict=True))


def test_every_barrier_is_named() -> None:
    """Each barrier says what it is for, so that each is among those removed below."""
    assert len(set(NAMES)) == len(NAMES) == (SOURCES / "kernels.cuh").read_text().count("__syncthreads();")
    assert len(NAMES) == 6


def test_the_whole_source_is_right_in_every_order(host: HostPlugin) -> None:
    """With all barriers in place no order of threads and blocks changes the numbers."""
    try:
        assert [wrong(host, CASE, schedule) for schedule in range(3)] == [False] * 3
    finally:
        host.set_schedule(0)


@pytest.mark.parametrize("name", NAMES)
def test_a_removed_barrier_is_caught(compiler: str, tmp_path: Path, name: str) -> None:
    """Without it, some order of threads and blocks gives other numbers, or threads that wait for each other."""
    shutil.copytree(SOURCES, tmp_path / "plugin", ignore=shutil.ignore_patterns("__pycache__"))
    kernels = tmp_path / "plugin" / "kernels.cuh"
    kernels.write_text(BARRIER.sub(lambda m: "" if m[1] == name else m[0], kernels.read_text()))
    library = compile_host(tmp_path / "plugin", tmp_path, ["-O0"])
    # In a process of its own: the mutant may end it.
    path = f"import sys; sys.path[:0] = {[str(Path(__file__).parent), *sys.path]!r}\n"
    done = subprocess.run([sys.executable, "-c", path + PROGRAM, str(library)], capture_output=True, check=False)
    assert done.returncode == 3 or b"wait for each other" in done.stderr, done.stderr.decode()[-2000:]
