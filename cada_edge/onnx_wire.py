"""Does an ONNX file point to other files? Read from its bytes, without the onnx package.

A tensor of an ONNX model may live in another file, named by a path inside the model. A
bundle never does that, and whoever changed a model could use it to read any file of the
device. So the serialised model is walked before any runtime sees it.
"""

from __future__ import annotations

from collections.abc import Iterator

from cada_edge.errors import UnsafeFileError

# message -> field number -> message inside; from onnx.proto. Only paths that lead to a tensor.
_INSIDE: dict[str, dict[int, str]] = {
    "Model": {7: "Graph", 20: "Training", 25: "Function"},
    "Training": {1: "Graph", 2: "Graph"},
    "Graph": {1: "Node", 5: "Tensor", 15: "Sparse"},
    "Function": {7: "Node", 11: "Attribute"},
    "Node": {5: "Attribute"},
    "Attribute": {5: "Tensor", 6: "Graph", 10: "Tensor", 11: "Graph", 22: "Sparse", 23: "Sparse"},
    "Sparse": {1: "Tensor", 2: "Tensor"},
}
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MAX_DEPTH = 32


class _ExternalDataError(Exception):
    """A tensor lives in another file."""


def refuse_external_data(model: bytes, name: str = "model.onnx") -> None:
    """Raise `UnsafeFileError`, naming it `name`, if any tensor of the model lives in another file.

    Also raised for bytes that are not a well-formed model: nothing can be said of them.
    """
    try:
        _walk(memoryview(model), "Model", 0)
    except _ExternalDataError as error:
        raise UnsafeFileError(
            f"{name} keeps weights in another file; a bundle holds them inside; export it again"
        ) from error
    except (IndexError, ValueError) as error:
        raise UnsafeFileError(f"{name} is damaged or no ONNX model: {error}; export it again") from error


def _walk(message: memoryview, kind: str, depth: int) -> None:
    if depth > _MAX_DEPTH:
        raise ValueError(f"nested more than {_MAX_DEPTH} deep")
    for number, value in _fields(message):
        if kind == "Tensor":
            if number == _EXTERNAL_DATA or (number == _DATA_LOCATION and value != 0):
                raise _ExternalDataError
        elif (inner := _INSIDE[kind].get(number)) and isinstance(value, memoryview):
            _walk(value, inner, depth + 1)


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Field number and value of each field: an integer, or the bytes of a longer one."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        if key >> 32:  # other parsers drop the upper bits and would see another field than we do
            raise ValueError(f"field number {key >> 3} is longer than 29 bit")
        kind = key & 7
        if kind == _VARINT:
            value, at = _varint(message, at)
            yield key >> 3, value
            continue
        size, at = _size(message, at, kind)
        if at + size > len(message):
            raise ValueError(f"a field of {size} bytes ends after the file")
        yield key >> 3, message[at : at + size]
        at += size


def _size(message: memoryview, at: int, kind: int) -> tuple[int, int]:
    if kind == _BYTES:
        return _varint(message, at)
    if kind in (_FIXED32, _FIXED64):
        return (4 if kind == _FIXED32 else 8), at
    raise ValueError(f"unknown wire type {kind}")


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
        if shift > 63:
            raise ValueError("a number is longer than 64 bit")
