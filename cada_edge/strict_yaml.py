"""Settings files: YAML read without surprises, checked by pydantic, each mistake named in one line."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from cada_edge.errors import ConfigError

if TYPE_CHECKING:
    from typing_extensions import Self

MAX_FILE_BYTES = 1 << 20
# What yaml's own readers of numbers, dates and bytes raise for `!!timestamp x` and the like.
_OF_TAGS = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


class Strict(BaseModel):
    """A section of a settings file: unknown keys and silent conversions are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    def joined(self, base: Path) -> Self:
        """A copy whose own paths are joined to `base`; those of sections in it are left."""
        values = {name: getattr(self, name) for name in type(self).model_fields}
        paths = {name: base / value for name, value in values.items() if isinstance(value, Path)}
        return self.model_copy(update=paths)


_Model = TypeVar("_Model", bound=BaseModel)


def read_mapping(path: Path, schema: int, keys: str) -> dict[str, Any]:
    """The mapping in a YAML file under `schema`; `keys` tells the user which keys are expected.

    Raises `ConfigError` naming the file, what was found and what was expected.
    """
    document = _parse(path, _read(path))
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: got {_kind(document)}, expected keys such as {keys}")
    if document.get("schema") not in (None, schema):
        raise ConfigError(f"{path}: schema: got {document['schema']!r}, expected {schema}; install a newer cada-edge")
    return document


def validated(model: type[_Model], document: dict[str, Any], label: str) -> _Model:
    """`document` as a `model`. Raises `ConfigError`, a line per mistake; `label` says where it is from."""
    try:
        return model.model_validate(document)
    except ValidationError as error:
        lines = [_explain(problem) for problem in error.errors(include_url=False)]
        raise ConfigError("\n".join(f"{label}: {line}" for line in lines)) from error


class _UniqueKeys(yaml.SafeLoader):
    """The safe loader, which otherwise keeps the last of two equal keys in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[object] = set()
        for key, _ in node.value:
            name = str(key.value)
            if name in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {name!r} stands twice", key.start_mark)
            seen.add(name)
        return super().construct_mapping(node, deep)


def _read(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: cannot read: {error.strerror}; check the path") from error
    if len(data) > MAX_FILE_BYTES:
        raise ConfigError(f"{path}: larger than {MAX_FILE_BYTES} bytes; this is no settings file")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text: {error.reason} at byte {error.start}") from error


def _parse(path: Path, text: str) -> object:
    if "&" in text and "*" in text and any(isinstance(e, yaml.AliasEvent) for e in _events(path, text)):
        raise ConfigError(f"{path}: YAML anchors and aliases are not accepted; write the value out")
    try:
        return yaml.load(text, _UniqueKeys)  # noqa: S506  # a subclass of SafeLoader
    except (yaml.YAMLError, RecursionError, *_OF_TAGS) as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error


def _events(path: Path, text: str) -> list[yaml.Event]:
    try:
        return list(yaml.parse(text, yaml.SafeLoader))
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error


def _explain(problem: Any) -> str:
    """Path of the field, what was found, what was expected."""
    field = ".".join(str(part) for part in problem["loc"]) or "the file"
    got, kind = problem["input"], problem["type"]
    if kind == "extra_forbidden":
        return f"{field}: unknown key; check the spelling"
    if kind == "missing":
        return f"{field}: missing; it must be given"
    if kind.startswith("union_tag_"):
        return _explain_tag(problem, field)
    expected = problem["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    if kind in {"model_type", "model_attributes_type"}:
        expected = "a mapping"
    if kind == "value_error" and isinstance(got, dict):  # of fields that do not go together: it says which
        return f"{field}: {expected}" if problem["loc"] else expected
    return f"{field}: got {_shown(got)}, expected {expected}"


def _explain_tag(problem: Any, field: str) -> str:
    """For a section that is one of several by a key such as ``kind``: which value is wrong, or missing."""
    got, context = problem["input"], problem["ctx"]
    key = context["discriminator"].strip("'")
    if key not in got:
        return f"{field}.{key}: missing; it must be given"
    return f"{field}.{key}: got {_shown(got[key])}, expected one of {context['expected_tags']}"


def _shown(value: object) -> str:
    return repr(value) if isinstance(value, (str, int, float, type(None))) else _kind(value)


def _kind(value: object) -> str:
    return {dict: "a mapping", list: "a list", str: "a text", type(None): "nothing"}.get(
        type(value), type(value).__name__
    )
