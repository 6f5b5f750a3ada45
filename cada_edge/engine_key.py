"""What a TensorRT engine was built from and for, and whether it may run here.

An engine is compiled for one device and one TensorRT release, so it carries its key, and a
key that differs from the device's is refused by name: which field, both values, the command.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, fields
from typing import Any, Literal

from cada_edge.bundle import MODEL
from cada_edge.errors import ConfigError
from cada_edge.types import require, to_json

Flavour = Literal["tensorrt", "tensorrt-rtx"]
Precision = Literal["fp32", "fp16", "int8"]
Core = Literal["gpu", "dla"]

FLAVOURS: tuple[Flavour, ...] = ("tensorrt", "tensorrt-rtx")
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")
CORES: tuple[Core, ...] = ("gpu", "dla")
MAX_BATCH = 1024
_GRAPHS: dict[Precision, str] = {"fp32": MODEL, "fp16": "model.fp16.onnx", "int8": "model.int8.onnx"}

_DIGEST = re.compile(r"[0-9a-f]{64}")
_CAPABILITY = re.compile(r"\d{1,2}\.\d")
_VERSION = re.compile(r"\d{1,4}(\.\d{1,5}){1,4}")


@dataclass(frozen=True)
class EngineKey:
    """Where an engine may run.

    Attributes:
        flavour: NVIDIA's builder: ``tensorrt``, or ``tensorrt-rtx`` for RTX cards.
        version: of that builder, such as ``10.3.0.30``; plans are read by the same release only.
        compute_capability: of the GPU, such as ``8.7``.
        precision: whose graph it was built from.
        onnx_sha256: of that graph's bytes, as the bundle holds them.
        plugin_sha256: of the plugin library's bytes; empty where it was built without one.
        batch: smallest, usual and largest batch, pictures.
        core: ``gpu``, or ``dla`` with the GPU for what the DLA cannot do.
    """

    flavour: Flavour
    version: str
    compute_capability: str
    precision: Precision
    onnx_sha256: str
    plugin_sha256: str
    batch: tuple[int, int, int]
    core: Core = "gpu"

    def __post_init__(self) -> None:
        choices = {"flavour": FLAVOURS, "precision": PRECISIONS, "core": CORES}
        for name, known in choices.items():
            value = getattr(self, name)
            require(isinstance(value, str) and value in known, f"EngineKey.{name}", value, f"one of {known}")
        _check_text(self.version, _VERSION, "EngineKey.version", "numbers and dots such as 10.3.0.30")
        _check_text(self.compute_capability, _CAPABILITY, "EngineKey.compute_capability", "such as 8.7")
        check_digest(self.onnx_sha256, "EngineKey.onnx_sha256")
        if self.plugin_sha256 != "":
            check_digest(self.plugin_sha256, "EngineKey.plugin_sha256")
        check_batch_range(self.batch, "EngineKey.batch")

    @property
    def digest(self) -> str:
        """16 hex digits that name this key; the folder of its engine."""
        text = json.dumps(to_json(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def runs(self, batch: int) -> bool:
        """Whether one call takes `batch` pictures."""
        return self.batch[0] <= batch <= self.batch[2]


def graph_name(precision: Precision) -> str:
    """The bundle's file with the graph of that precision."""
    return _GRAPHS[precision]


def how_to_get(precision: Precision) -> str:
    """What brings the graph of that precision into a bundle without it."""
    if precision == "fp32":
        return "run `cada-edge export` on it first"
    return f"run `cada-edge export BUNDLE --images DIR --precision {precision}` first"


def check_digest(value: object, field: str) -> None:
    """Raise `ConfigError` naming `field` unless `value` is a sha256 in 64 hex digits."""
    _check_text(value, _DIGEST, field, "64 hex digits")


def _check_text(value: object, pattern: re.Pattern[str], field: str, expected: str) -> None:
    require(isinstance(value, str) and pattern.fullmatch(value) is not None, field, value, expected)


def check_batch_range(batch: object, field: str) -> None:
    """Raise `ConfigError` naming `field` unless `batch` is (smallest, usual, largest), in order."""
    sizes: tuple[Any, ...] = batch if isinstance(batch, tuple) and len(batch) == 3 else ()
    whole = len(sizes) == 3 and all(type(size) is int for size in sizes)
    in_order = whole and 1 <= sizes[0] <= sizes[1] <= sizes[2] <= MAX_BATCH
    require(in_order, field, batch, f"three integers, 1 <= smallest <= usual <= largest <= {MAX_BATCH}")


def difference(engine: EngineKey, here: EngineKey) -> str:
    """The first field in which two keys differ, in words; empty where they are the same.

    A field that says more about why an engine is foreign comes first: the release before
    the device, the device before the files.
    """
    for field in fields(EngineKey):
        built, wanted = getattr(engine, field.name), getattr(here, field.name)
        if built != wanted:
            return f"{field.name} is {_shown(built)} in the engine and {_shown(wanted)} here"
    return ""


def _shown(value: object) -> str:
    text = "x".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return f"{text[:12]}..." if _DIGEST.fullmatch(text) else text or "none"


def build_command(bundle: object, key: EngineKey) -> str:
    """The command that makes an engine of `key`'s kind for `bundle` on the device it is typed on."""
    parts = ["cada-edge engine build", str(bundle), f"--backend {key.flavour}", f"--precision {key.precision}"]
    if key.batch != (1, 1, 1):
        parts.append(f"--batch {','.join(map(str, key.batch))}")
    if not key.plugin_sha256:
        parts.append("--plugin none")
    if key.core == "dla":
        parts.append("--dla-core 0")
    return " ".join(parts)


def parse_capability(text: str) -> str:
    """``8.6`` from ``8.6``, ``86``, ``sm_86`` or ``SM86``. Raises `ConfigError`."""
    match = re.fullmatch(r"(?:sm_?)?(\d{1,2})\.?(\d)", text.strip().lower())
    if match is None:
        raise ConfigError(f"target: got {text!r}, expected a compute capability such as 8.6 or sm_86")
    return f"{int(match[1])}.{match[2]}"
