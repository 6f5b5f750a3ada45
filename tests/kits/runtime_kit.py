"""A tiny real line: an ONNX model of a few operators in a real bundle, pictures, a Modbus client."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from pymodbus.client import ModbusTcpClient

from cada_edge.alignment import MIN_SPREAD
from cada_edge.bundle import MODEL, Bundle, Component, Manifest
from cada_edge.imaging import write_png
from cada_edge.runtime.registers import StatusBlock, decode
from cada_edge.types import Frame, ImageSpec, MapSpec, Threshold, UInt8Array

SIDE, CELLS, BASE = 32, 8, 100
SPEC, MAP_SPEC = ImageSpec((SIDE, SIDE)), MapSpec((CELLS, CELLS), smooth_taps=1)
THRESHOLD = Threshold(0.5, 0.01, 0.05, 0.95, 100, "order-statistic", "0" * 64)


def tiny_model(side: int = SIDE, nan: bool = False, strangeness: float = 0.0, scale: float = 255.0) -> onnx.ModelProto:
    """Score = brightness of the brightest cell over `scale`; with `nan`, 0 / 0. Novelty = score times `strangeness`."""
    scale = 0.0 if nan else scale
    constants = {"axes1": [1], "axes3": [3], "axes12": [1, 2]}
    initializers = [helper.make_tensor(n, TensorProto.INT64, [len(v)], v) for n, v in constants.items()]
    initializers += [
        helper.make_tensor("scale", TensorProto.FLOAT, [], [scale]),
        helper.make_tensor("zero", TensorProto.FLOAT, [], [0.0]),
        helper.make_tensor("one", TensorProto.FLOAT, [], [1.0]),
        helper.make_tensor("strangeness", TensorProto.FLOAT, [], [strangeness]),
    ]
    pool = side // CELLS
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["pixels", "zero"] if nan else ["pixels", "one"], ["shown"]),
        helper.make_node("ReduceMean", ["shown", "axes3"], ["grey"], keepdims=0),
        helper.make_node("Unsqueeze", ["grey", "axes1"], ["planes"]),
        helper.make_node("AveragePool", ["planes"], ["cells"], kernel_shape=[pool, pool], strides=[pool, pool]),
        helper.make_node("Squeeze", ["cells", "axes1"], ["sums"]),
        helper.make_node("Div", ["sums", "scale"], ["raw"]),
        helper.make_node("ReduceMax", ["raw", "axes12"], ["highest"], keepdims=0),
        helper.make_node("Mul", ["highest", "zero"], ["u"]),
        helper.make_node("Add", ["u", "one"], ["gamma"]),
        helper.make_node(
            "CadaNormalize", ["raw", "u", "gamma"], ["map"],
            domain="cada_edge", plugin_version="1", plugin_namespace="",
        ),
        helper.make_node("ReduceMax", ["map", "axes12"], ["score"], keepdims=0),
        helper.make_node("Mul", ["highest", "strangeness"], ["novelty"]),
    ]  # fmt: skip
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", side, side, 3])],
        [
            helper.make_tensor_value_info("score", TensorProto.FLOAT, ["N"]),
            helper.make_tensor_value_info("map", TensorProto.FLOAT, ["N", CELLS, CELLS]),
            helper.make_tensor_value_info("u", TensorProto.FLOAT, ["N"]),
            helper.make_tensor_value_info("gamma", TensorProto.FLOAT, ["N"]),
            helper.make_tensor_value_info("novelty", TensorProto.FLOAT, ["N"]),
        ],
        initializers,
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("cada_edge", 1)]
    return helper.make_model(graph, functions=[_normalize()], opset_imports=opsets, ir_version=9)


def _normalize() -> onnx.FunctionProto:
    floor = helper.make_tensor("value", TensorProto.FLOAT, [], [MIN_SPREAD])
    axes = helper.make_tensor("value", TensorProto.INT64, [2], [1, 2])
    nodes = [
        helper.make_node("Constant", [], ["floor"], value=floor),
        helper.make_node("Constant", [], ["axes"], value=axes),
        helper.make_node("Sub", ["gamma", "u"], ["gap"]),
        helper.make_node("Max", ["gap", "floor"], ["spread"]),
        helper.make_node("Unsqueeze", ["u", "axes"], ["u3"]),
        helper.make_node("Unsqueeze", ["spread", "axes"], ["spread3"]),
        helper.make_node("Sub", ["map", "u3"], ["above"]),
        helper.make_node("Div", ["above", "spread3"], ["output"]),
    ]
    return helper.make_function(
        "cada_edge", "CadaNormalize", ["map", "u", "gamma"], ["output"], nodes,
        [helper.make_opsetid("", 18)], attributes=["plugin_version", "plugin_namespace"],
    )  # fmt: skip


def make_bundle(model: onnx.ModelProto | None = None, threshold: Threshold | None = THRESHOLD) -> Bundle:
    """A real bundle around a tiny model."""
    manifest = Manifest(SPEC, MAP_SPEC, Component("none", {}), Component("none", {}), threshold)
    return Bundle(manifest, {MODEL: (model or tiny_model()).SerializeToString()})


def picture(level: int, side: int = SIDE) -> UInt8Array:
    """uint8 (side, side, 3) of one grey level; its score is level / 255."""
    return np.full((side, side, 3), level, np.uint8)


def make_frame(level: int = 0, frame_id: int = 0, **changes: Any) -> Frame:
    """A frame captured now."""
    now_ns = time.monotonic_ns()
    values = {"image": picture(level), "source_id": "cam1", "frame_id": frame_id, "name": f"{frame_id}.png"}
    return Frame(**{**values, "t_capture_ns": now_ns, "t_arrival_ns": now_ns, **changes})


def write_line(folder: Path, bundle: Bundle | None = None, **settings: Any) -> Path:
    """A bundle, pictures of levels 0, 255, 10, 200 and a line.yaml that runs them."""
    import yaml

    images = folder / "images"
    images.mkdir(parents=True, exist_ok=True)
    for index, level in enumerate((0, 255, 10, 200)):
        write_png(images / f"{index}.png", picture(level))
    (bundle or make_bundle()).write(folder / "line.cada")
    document = {"schema": 1, "bundle": "line.cada", "threads": 1, "sources": [{"uri": "folder:images"}], **settings}
    (folder / "line.yaml").write_text(yaml.safe_dump(document))
    return folder / "line.yaml"


def wait_until(condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
    """Return once `condition` holds; fail after `timeout_s`, which only a broken line needs."""
    until_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > until_s:
            pytest.fail(f"not within {timeout_s} s: {condition}")
        time.sleep(0.01)


class Plc:
    """A PLC's view: reads the block in one request through a pymodbus client."""

    def __init__(self, port: int) -> None:
        self._client = ModbusTcpClient("127.0.0.1", port=port, timeout=5, retries=0)
        assert self._client.connect()  # type: ignore[no-untyped-call]  # pymodbus leaves it unannotated

    def words(self, base: int = BASE) -> list[int]:
        """The 32 holding registers."""
        reply = self._client.read_holding_registers(base, count=32)
        assert not reply.isError(), reply
        return list(reply.registers)

    def block(self) -> StatusBlock:
        """The 32 holding registers, decoded; raises for a torn block."""
        return decode(self.words())

    @property
    def client(self) -> ModbusTcpClient:
        """For requests no PLC should make."""
        return self._client

    def close(self) -> None:
        """Hang up."""
        self._client.close()  # type: ignore[no-untyped-call]  # pymodbus leaves it unannotated


def python_env() -> dict[str, str]:
    """Environment for a child that imports this checkout."""
    root = str(Path(__file__).resolve().parents[2])
    return {**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1"}
