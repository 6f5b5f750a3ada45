"""Runs IEC 61131-3 structured text: what `st_tree` parses, one cycle per call, in the time that a test sets.

As strict as a test can use it: a value that its type does not hold, a conversion that loses something, a name
that was not declared, or a construct that is not here is an error, never a guess. Names are in lower case.
"""

from __future__ import annotations

import json
import operator
import re
import subprocess
import sys
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

_PARSER = Path(__file__).with_name("st_tree.py")
_RANGES = {
    "word": (0, 0xFFFF),
    "uint": (0, 0xFFFF),
    "int": (-0x8000, 0x7FFF),
    "udint": (0, 0xFFFFFFFF),
    "time": (-(1 << 63), (1 << 63) - 1),  # ns
}
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "<>": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_WHOLE: dict[str, Callable[[int, int], int]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.floordiv,  # of numbers that are not negative, which `_binary` asks for
    "mod": operator.mod,
}
_BITWISE: dict[str, Callable[[Any, Any], Any]] = {"and": operator.and_, "or": operator.or_, "xor": operator.xor}
_CONVERSION = re.compile(r"(\w+)_to_(\w+)")


class Cpu:
    """A controller with the program units of these files.

    Args:
        paths: of files of structured text.
    """

    def __init__(self, *paths: Path) -> None:
        self.now_ns = 0
        self._units: dict[str, Any] = {}
        self._types: dict[str, Any] = {}
        for path in paths:
            for item in _parsed(path):
                self._load(item)

    def make(self, name: str) -> Any:
        """An instance of a program, function block or type; what an elementary type starts with."""
        name = name.lower()
        if name in self._units:
            return Unit(self, self._units[name])
        if name in self._types:
            spec = self._types[name]
            low, high = (int(bound.value) for bound in (spec.subranges[0].start, spec.subranges[0].stop))
            assert low == 0, "arrays start at 0 here"
            return [self.make(spec.type.type_name) for _ in range(high + 1)]
        if name in ("ton", "r_trig"):
            return Timer(self) if name == "ton" else Rise()
        return False if name == "bool" else check(name, 0)

    def _load(self, item: Any) -> None:
        if item.kind == "DataTypeDeclaration":
            self._types[item.declaration.name.lower()] = item.declaration.init.spec
        else:
            self._units[item.name.lower()] = item


@cache  # blark takes seconds
def _parsed(path: Path) -> tuple[Any, ...]:
    done = subprocess.run([sys.executable, str(_PARSER), str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return tuple(json.loads(done.stdout, object_hook=lambda node: SimpleNamespace(**node)).items)


class Timer:
    """TON."""

    def __init__(self, cpu: Cpu) -> None:
        self._cpu, self._since_ns = cpu, 0
        self.values: dict[str, Any] = {"in": False, "pt": 0, "q": False, "et": 0}

    def call(self, inputs: dict[str, Any]) -> None:
        """Q once IN has been true for PT."""
        rose = inputs["in"] and not self.values["in"]
        self.values.update(inputs)
        if rose:
            self._since_ns = self._cpu.now_ns
        spent_ns = self._cpu.now_ns - self._since_ns if self.values["in"] else 0
        self.values.update(q=self.values["in"] and spent_ns >= self.values["pt"], et=spent_ns)


class Rise:
    """R_TRIG."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {"clk": False, "q": False}

    def call(self, inputs: dict[str, Any]) -> None:
        """Q in the cycle in which CLK is true for the first time."""
        self.values.update(q=inputs["clk"] and not self.values["clk"], clk=inputs["clk"])


class Unit:
    """An instance of a program or function block; its variables by name, in lower case."""

    def __init__(self, cpu: Cpu, source: Any) -> None:
        self._body = source.body.statements
        self.values: dict[str, Any] = {}
        self._kinds: dict[str, str] = {}
        self.constants: dict[str, Any] = {}
        for block in source.declarations:
            for item in block.items:
                self._declare(cpu, item, getattr(block, "attrs", None))

    def __getitem__(self, name: str) -> Any:
        return self.values[name.lower()]

    def call(self, inputs: dict[str, Any]) -> None:
        """One cycle with these inputs; those not named keep their value."""
        for name, value in inputs.items():
            self._assign(name, value)
        self._run(self._body)

    def _declare(self, cpu: Cpu, item: Any, attributes: Any) -> None:
        kind = item.init.spec.type.lower()
        for variable in item.variables:
            name = _name(variable.variable)
            assert name not in self.values, f"{name} is declared twice"
            self._kinds[name], self.values[name] = kind, cpu.make(kind)
            if item.init.value is not None:
                self._assign(name, self._value(item.init.value))
            if attributes is not None and "constant" in str(attributes).lower():
                self.constants[name] = self.values[name]

    def _assign(self, name: str, value: Any) -> None:
        assert name not in self.constants, f"{name} is a constant"
        self.values[name] = check(self._kinds[name], value)

    # Statements

    def _run(self, statements: Iterable[Any]) -> None:
        for one in statements:
            self._statement(one)

    def _statement(self, one: Any) -> None:
        match one.kind:
            case "AssignmentStatement":
                self._set(one)
            case "IfStatement":
                self._if(one)
            case "FunctionCallStatement":
                self._call(one)
            case "ForStatement":
                self._for(one)
            case "CaseStatement":
                self._case(one)
            case _:
                raise TypeError(f"no such statement here: {one}")

    def _for(self, one: Any) -> None:
        for number in range(self._value(one.from_), self._value(one.to) + 1):
            self._assign(_name(one.control), number)
            self._run(one.statements.statements)

    def _set(self, one: Any) -> None:
        (target,) = one.variables
        value = self._value(one.expression)
        if target.kind == "MultiElementVariable":
            array, index = self._element(target)
            array[index] = check("word", value)
        else:
            self._assign(_name(target), list(value) if isinstance(value, list) else value)

    def _call(self, one: Any) -> None:
        inputs = {_name(given.name): self._value(given.value) for given in one.parameters}
        self.values[_name(one.name)].call(inputs)

    def _if(self, one: Any) -> None:
        for branch in (one, *one.else_ifs):
            if truth(self._value(branch.if_expression)):
                self._run(branch.statements.statements)
                return
        if one.else_clause is not None:
            self._run(one.else_clause.statements.statements)

    def _case(self, one: Any) -> None:
        value = self._value(one.expression)
        for case in one.cases:
            if value in [self._value(match) for match in case.matches]:
                self._run(case.statements.statements)
                return
        if one.else_clause is not None:
            self._run(one.else_clause.statements.statements)

    # Expressions

    def _value(self, one: Any) -> Any:
        value: Any
        match one.kind:
            case "SimpleVariable":
                value = self.values[_name(one)]
            case "MultiElementVariable":
                holder, key = self._element(one)
                value = holder[key]
            case "BinaryOperation":
                value = _binary(one.op.lower(), self._value(one.left), self._value(one.right))
            case "ParenthesizedExpression":
                value = self._value(one.expr)
            case "UnaryOperation":
                value = self._not(one)
            case "FunctionCall":
                value = self._function(one)
            case _:
                value = _literal(one)
        return value

    def _not(self, one: Any) -> bool:
        assert one.op.lower() == "not", f"no such operator here: {one.op}"
        return not truth(self._value(one.expr))

    def _function(self, one: Any) -> Any:
        (given,) = one.parameters
        return _convert(_name(one.name), self._value(given.value))

    def _element(self, one: Any) -> tuple[Any, Any]:
        """Where one element of an array, or one variable of a function block, is kept."""
        (element,) = one.elements
        holder = self.values[_name(one.name)]
        if element.kind == "FieldSelector":
            return holder.values, _name(element.field)
        (subscript,) = element.subscripts
        index = self._value(subscript)
        assert 0 <= index < len(holder), f"{one}: index {index}"
        return holder, index


def check(kind: str, value: Any) -> Any:
    """The value, if its type holds it."""
    if kind == "bool":
        return truth(value)
    if kind in _RANGES:
        low, high = _RANGES[kind]
        assert type(value) is int, f"{value!r} is no {kind}"
        assert low <= value <= high, f"{value!r} is no {kind}"
    return value


def truth(value: Any) -> bool:
    """A BOOL as such."""
    assert isinstance(value, bool), f"{value!r} is no BOOL"
    return value


def _name(one: Any) -> str:
    name: str = one.name
    return name.lower()


def _binary(sign: str, left: Any, right: Any) -> Any:
    assert isinstance(left, bool) == isinstance(right, bool), f"{left!r} {sign} {right!r}: unlike types"
    if sign in _COMPARE:
        return _COMPARE[sign](left, right)
    if sign in _BITWISE:
        return _BITWISE[sign](left, right)
    assert not isinstance(left, bool), f"{left!r} {sign} {right!r}: no numbers"
    assert min(left, right) >= 0, f"{left!r} {sign} {right!r}: below 0"
    return _WHOLE[sign](left, right)


def _convert(name: str, value: Any) -> Any:
    """``A_TO_B`` of a value that both types hold."""
    kinds = _CONVERSION.fullmatch(name)
    assert kinds, f"no such function here: {name}"
    for kind in kinds.groups():
        check(kind, value)
    return value


def _literal(one: Any) -> Any:
    if one.kind == "Boolean":
        return one.value.lower() == "true"
    if one.kind == "Duration":
        odd = (one.days, one.hours, one.minutes)
        assert not any(odd), f"no such time here: {one}"
        return int(one.seconds or 0) * 10**9 + int(one.milliseconds or 0) * 10**6
    assert one.kind in ("Integer", "HexInteger"), f"no such expression here: {one}"
    return int(one.value, 16 if one.kind == "HexInteger" else 10)
