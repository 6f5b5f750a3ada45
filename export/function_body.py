"""Nodes of an ONNX function body, one after another."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import NodeProto, helper, numpy_helper


class FunctionBody:
    """Nodes in the order in which they are added; each result has a name of its own."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []

    def add(self, op: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """One node with one output; returns the output's name."""
        self.nodes.append(helper.make_node(op, list(inputs), [output], **attributes))
        return output

    def constant(self, name: str, value: npt.NDArray[Any] | Sequence[int] | float) -> str:
        """A tensor: an array as it is, a float as float32, whole numbers as int64."""
        if not isinstance(value, np.ndarray):
            value = np.array(value, np.float32 if isinstance(value, float) else np.int64)
        return self.add("Constant", [], name, value=numpy_helper.from_array(value))

    def attribute(self, name: str, field: str) -> str:
        """A constant that takes its value from the node's attribute `name`; `field` says its type."""
        self.add("Constant", [], name)
        kinds = {"value_float": "FLOAT", "value_floats": "FLOATS", "value_int": "INT", "value_ints": "INTS"}
        reference = self.nodes[-1].attribute.add(name=field, ref_attr_name=name)
        reference.type = type(reference).AttributeType.Value(kinds[field])
        return name

    def chain(self, value: str, steps: Iterable[tuple[str, list[str]]], output: str) -> str:
        """`value` through operators of further inputs, one after another."""
        for number, (op, others) in enumerate(steps):
            value = self.add(op, [value, *others], f"{output}_{number}")
        self.nodes[-1].output[0] = output
        return output

    def total(self, values: Sequence[str], output: str) -> str:
        """Their sum, added in order, one `Add` for each after the first."""
        value = values[0]
        for number, other in enumerate(values[1:]):
            value = self.add("Add", [value, other], f"{output}_{number}")
        return value
