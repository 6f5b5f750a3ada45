from __future__ import annotations

from pathlib import Path

from cada_edge.runtime.benchmark.machine import machine, state, throttled
from cada_edge.runtime.benchmark.mtrace import MARK_BYTES, Blocks, parse

JETSON = {
    "proc/device-tree/model": "NVIDIA Jetson Orin Nano\0",
    "proc/loadavg": "1.50 0.3 0.1 1/2 3\n",
    "var/lib/nvpmodel/status": "pmode:0001 fmode:cool",
    "etc/nvpmodel.conf": "< POWER_MODEL ID=0 NAME=MAXN >\n< POWER_MODEL ID=1 NAME=15W >\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "schedutil\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "1510400\n",
    "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
    "sys/class/thermal/thermal_zone0/temp": "48500\n",
    "sys/class/thermal/cooling_device0/type": "cpufreq-cpu0\n",
    "sys/class/thermal/cooling_device0/cur_state": "2\n",
    "sys/class/thermal/cooling_device1/type": "pwm-fan\n",
    "sys/class/thermal/cooling_device1/cur_state": "3\n",
    "sys/class/hwmon/hwmon1/name": "ina3221\n",
    "sys/class/hwmon/hwmon1/in1_label": "VDD_IN\n",
    "sys/class/hwmon/hwmon1/in1_input": "5000\n",
    "sys/class/hwmon/hwmon1/curr1_input": "1200\n",
    "sys/class/hwmon/hwmon1/oc1_event_cnt": "4\n",
}


def files(root: Path, content: dict[str, str]) -> Path:
    """A made-up machine."""
    for name, text in content.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_a_jetson_tells_its_power_mode_rails_and_clocks(tmp_path: Path) -> None:
    """Volts times amperes of an INA rail, the mode by name, the governor, the zone by name."""
    root = files(tmp_path, JETSON)
    assert machine(root)["model"] == "NVIDIA Jetson Orin Nano"
    assert machine(root)["power_mode"] == "1 15W"
    found = state(root)
    assert found["power_w"] == {"VDD_IN": 6.0}
    assert found["clocks_mhz"] == {"cpu0": 1510.4}
    assert found["temperatures_c"] == {"cpu-thermal": 48.5}
    assert found["governors"] == ["schedutil"]
    assert found["load_1m"] == 1.5


def test_throttling_during_the_run_is_said(tmp_path: Path) -> None:
    """New over-current events and a processor that is slowed down show; a fan does not."""
    before = state(files(tmp_path, JETSON))
    after = state(files(tmp_path, {"sys/class/hwmon/hwmon1/oc1_event_cnt": "6\n"}))
    said = throttled(before, after)
    assert said == ["2 throttling events during the run", "cooling device cooling_device0 cpufreq-cpu0 was active"]


def test_a_machine_that_tells_nothing_is_not_guessed(tmp_path: Path) -> None:
    """Without any file there is nothing, and no error."""
    found = state(tmp_path)
    assert (found["load_1m"], found["power_w"], found["temperatures_c"]) == (None, {}, {})
    assert throttled(found, found) == []


def test_blocks_are_counted_by_stage_from_the_trace() -> None:
    """Marks part the stages; what is freed or comes before the first mark is not counted."""
    sizes = [9999, MARK_BYTES, 100, 5000, MARK_BYTES + 1, 4096, 4097, 70000]
    lines = [f"@ lib.so:(f+1c)[0xa958c] + 0x56475c6103e0 {size:#x}\n" for size in sizes]
    lines += ["= Start\n", "@ lib.so:[0x1] - 0x56475c6103e0\n", "@ lib.so:[0x1] > 0x56475c6103e0 0x2000\n"]
    assert parse(lines) == {0: Blocks(2, 1, 5000), 1: Blocks(4, 3, 4097 + 70000 + 0x2000)}
