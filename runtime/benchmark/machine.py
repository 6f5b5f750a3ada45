"""The machine a figure belongs to, and its state before and after: small files of /proc and /sys."""

from __future__ import annotations

import os
import platform
import re
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path("/")
_CPU = "sys/devices/system/cpu"
_PACKAGES = ("numpy", "onnxruntime", "opencv-python", "pillow", "tensorrt", "openvino")


def machine(root: Path = ROOT) -> dict[str, Any]:
    """What does not change during a run; what cannot be read is ``None``."""
    return {
        "model": _text(root / "proc/device-tree/model").strip("\0 \n") or _text(root / f"{_DMI}/product_name") or None,
        "cpu": _cpu_name(_text(root / "proc/cpuinfo")),
        "cores": os.cpu_count(),
        "usable_cores": sorted(os.sched_getaffinity(0)),
        "memory_bytes": _memory(root).get("MemTotal"),
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "python": platform.python_version(),
        "packages": _packages(),
        "power_mode": _power_mode(root),
    }


def state(root: Path = ROOT) -> dict[str, Any]:
    """What changes: clocks, governor, temperatures, power, load, throttling so far."""
    return {
        "load_1m": _number(_text(root / "proc/loadavg").partition(" ")[0]),
        "governors": sorted(set(_each(root, f"{_CPU}/cpu[0-9]*/cpufreq/scaling_governor"))),
        "clocks_mhz": _clocks(root),
        "temperatures_c": _temperatures(root),
        "power_w": _power(root),
        "energy_j": _scaled(_text(root / "sys/class/powercap/intel-rapl:0/energy_uj"), 1e-6),
        "throttle_events": _throttle_events(root),
        "cooling": _cooling(root),
    }


def throttled(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Why the figures are not those of a cool machine; empty when nothing was seen."""
    found = []
    if after["throttle_events"] > before["throttle_events"]:
        found.append(f"{after['throttle_events'] - before['throttle_events']} throttling events during the run")
    found += [f"cooling device {name} was active" for name, level in after["cooling"].items() if level > 0]
    return found


def memory() -> dict[str, int | None]:
    """Bytes of this process: now, and its peak."""
    found = dict(re.findall(r"^(VmRSS|VmHWM):\s+(\d+) kB$", _text(ROOT / "proc/self/status"), re.MULTILINE))
    kilobytes = {name: int(value) * 1024 for name, value in found.items()}
    return {"rss_bytes": kilobytes.get("VmRSS"), "peak_bytes": kilobytes.get("VmHWM")}


_DMI = "sys/class/dmi/id"


def _cpu_name(text: str) -> str | None:
    match = re.search(r"^(?:model name|Model|Hardware)\s*:\s*(.+)$", text, re.MULTILINE)
    return match[1].strip() if match else platform.processor() or None


def _packages() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _power_mode(root: Path) -> str | None:
    """Of a Jetson: the number that ``nvpmodel`` set, with its name from the configuration."""
    match = re.search(r"pmode:(\d+)", _text(root / "var/lib/nvpmodel/status"))
    if match is None:
        return None
    named = re.search(rf"POWER_MODEL\s+ID=0*{int(match[1])}\s+NAME=(\S+)", _text(root / "etc/nvpmodel.conf"))
    return f"{int(match[1])} {named[1].rstrip('>').strip()}" if named else str(int(match[1]))


def _clocks(root: Path) -> dict[str, float]:
    """By core what the governor set or, where there is none to read, what /proc/cpuinfo says."""
    files = sorted(root.glob(f"{_CPU}/cpu[0-9]*/cpufreq/scaling_cur_freq"))
    found = {path.parts[-3]: _scaled(_text(path), 1e-3) for path in files}
    if not found:
        shown = re.findall(r"^cpu MHz\s*:\s*([\d.]+)$", _text(root / "proc/cpuinfo"), re.MULTILINE)
        found = {f"cpu{i}": float(value) for i, value in enumerate(shown)}
    return {name: value for name, value in found.items() if value is not None}


def _temperatures(root: Path) -> dict[str, float]:
    zones = sorted(root.glob("sys/class/thermal/thermal_zone*"))
    found = {_text(zone / "type").strip() or zone.name: _scaled(_text(zone / "temp"), 1e-3) for zone in zones}
    return {name: value for name, value in found.items() if value is not None}


def _power(root: Path) -> dict[str, float]:
    """Watts by rail: an INA's own figure, or its voltage times its current (Jetson)."""
    found: dict[str, float] = {}
    for chip in sorted(root.glob("sys/class/hwmon/hwmon*")):
        for path in sorted(chip.glob("power*_input")):
            _put(found, chip, path.stem.removesuffix("_input"), _scaled(_text(path), 1e-6))
        for path in sorted(chip.glob("curr*_input")):
            number = path.stem.removeprefix("curr").removesuffix("_input")
            amperes, volts = _scaled(_text(path), 1e-3), _scaled(_text(chip / f"in{number}_input"), 1e-3)
            if amperes is not None and volts is not None:
                _put(found, chip, f"in{number}", amperes * volts)
    return found


def _put(found: dict[str, float], chip: Path, channel: str, watts: float | None) -> None:
    label = _text(chip / f"{channel}_label").strip() or f"{_text(chip / 'name').strip() or chip.name} {channel}"
    if watts is not None:
        found[label] = round(watts, 4)


def _throttle_events(root: Path) -> int:
    """Of Intel cores, and over-current events of a Jetson."""
    names = (f"{_CPU}/cpu[0-9]*/thermal_throttle/core_throttle_count", "sys/class/hwmon/hwmon*/oc*_event_cnt")
    return sum(int(text) for name in names for text in _each(root, name) if text.isdigit())


def _cooling(root: Path) -> dict[str, int]:
    """Level of what slows processors down to cool them; fans are left out."""
    found = {}
    for device in sorted(root.glob("sys/class/thermal/cooling_device*")):
        kind, level = _text(device / "type").strip(), _text(device / "cur_state").strip()
        if level.isdigit() and "fan" not in kind.lower() and "idle" not in kind.lower():
            found[f"{device.name} {kind}"] = int(level)
    return found


def _memory(root: Path) -> dict[str, int]:
    found = re.findall(r"^(\w+):\s+(\d+) kB$", _text(root / "proc/meminfo"), re.MULTILINE)
    return {name: int(value) * 1024 for name, value in found}


def _each(root: Path, pattern: str) -> list[str]:
    return [text for path in sorted(root.glob(pattern)) if (text := _text(path).strip())]


def _number(text: str) -> float | None:
    return float(text) if re.fullmatch(r"-?\d+(\.\d+)?", text.strip()) else None


def _scaled(text: str, factor: float) -> float | None:
    value = _number(text)
    return None if value is None else round(value * factor, 4)


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:  # no such sensor, or one that is switched off: not known
        return ""
