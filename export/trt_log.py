"""What the builder's verbose log says of an engine: one row per kernel, with the types it reads.

Deserialising an engine needs a GPU; the log does not. Two shapes of row are known::

    Name: a, LayerType: correlation, Inputs: [ { Name: x, ..., Datatype: Int8, Format: ... }], ...
    Name: a, LayerType: CaskConvolution, Inputs: [ { Name: x, ..., Format/Datatype: Row major linear FP16 format }], ...
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from cada_edge.engine_store import KernelReport

_ROW = re.compile(r"^\s*Name: .*?, LayerType: (?P<kind>[^,]*), Inputs: \[(?P<inputs>.*?)\], (?:Constants|Outputs): \[")
_TYPED = re.compile(r"Datatype: (?P<type>[A-Za-z0-9]+), Format:|Format/Datatype: (?P<format>[^}]*)")
_IN_FORMAT = {"INT8": "Int8", "Int8": "Int8", "FP16": "Half", "Half": "Half", "FP32": "Float", "Float": "Float"}
_CONVOLUTION = re.compile(r"correlation|conv", re.IGNORECASE)
_PRODUCT = re.compile(r"gemm|matrixmultiply|matmul|dot", re.IGNORECASE)


def kernel_report(messages: Iterable[str], plugins: int) -> KernelReport:
    """Count the rows of a log. `plugins` is the number of plugin layers of the network."""
    layers, convolutions, products = Counter[str](), Counter[str](), Counter[str]()
    lines = (line for message in messages for line in message.splitlines())
    for row in filter(None, map(_ROW.match, lines)):
        kind = row["kind"].strip()
        layers[kind] += 1
        if _CONVOLUTION.search(kind):
            convolutions[_first_type(row["inputs"])] += 1
        elif _PRODUCT.search(kind):
            products[_first_type(row["inputs"])] += 1
    return KernelReport(_sorted(layers), _sorted(convolutions), _sorted(products), plugins)


def _sorted(table: Counter[str]) -> dict[str, int]:
    return dict(sorted(table.items()))


def _first_type(inputs: str) -> str:
    """Data type of the first input, as in the first shape of row; ``unknown`` where the row does not say."""
    found = _TYPED.search(inputs)
    if found is None:
        return "unknown"
    if found["type"]:
        return str(found["type"])
    return next((name for mark, name in _IN_FORMAT.items() if mark in found["format"]), "unknown")
