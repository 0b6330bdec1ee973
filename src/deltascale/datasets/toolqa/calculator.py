"""Arithmetic from a model's text, evaluated without running any of it."""

from __future__ import annotations

import ast
import math
import operator
import re
import statistics
from collections.abc import Callable, Mapping
from typing import TypeAlias

__all__ = ["calculate"]

Number: TypeAlias = "int | float"

_MOST_DIGITS = 300
_MOST_CHARACTERS = 10_000
_OPERATORS: Mapping[type[ast.operator], Callable[[Number, Number], Number]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_FUNCTIONS: Mapping[str, Callable[[list[Number]], Number]] = {
    "abs": lambda values: abs(_one(values)),
    "len": len,
    "max": max,
    "mean": statistics.fmean,
    "median": statistics.median,
    "min": min,
    "round": lambda values: _rounded(*values),
    "sqrt": lambda values: math.sqrt(_one(values)),
    "std": statistics.stdev,
    "sum": sum,
}
_NAMES: Mapping[str, Number] = {"pi": math.pi, "e": math.e, "nan": math.nan, "NaN": math.nan}
_COMMA = re.compile(r"(?<![0-9.,])([0-9]{1,3}(?:,[0-9]{3})+)(?![0-9,])")


def calculate(formula: str) -> str:
    """The value of a formula, at most 12 digits of it; `3 * (4 + 1)`, `mean(1, 2, nan)`.

    Known are + - * / // % ** ^, brackets, pi, e and the functions abs, len, max, mean, median, min,
    round, sqrt, std, sum, whose arguments may be one list. `nan` among them is left out. A trailing
    `=` and thousands commas outside of function calls don't matter.

    Raises:
        ValueError: it is no such formula, or has no finite value.
    """
    text = formula.strip().rstrip("=?").replace("^", "**").replace("×", "*").replace("÷", "/")
    text = text.replace("−", "-").replace("$", "").replace("%)", "/100)")
    if not re.search(r"[A-Za-z]\s*\(|\[", text):
        text = _COMMA.sub(lambda number: number[1].replace(",", ""), text)
    if len(text) > _MOST_CHARACTERS:
        raise ValueError("the formula is too long")
    try:
        value = _value(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, TypeError, ZeroDivisionError, OverflowError, RecursionError) as error:
        raise ValueError(str(error)) from error
    if isinstance(value, list):
        raise ValueError("a list is not a number")
    if not math.isfinite(value):
        raise ValueError("the value is not finite")
    return str(value) if isinstance(value, int) else f"{value:.12g}"


def _value(node: ast.expr) -> Number | list[Number]:
    match node:
        case ast.Constant(value=bool() | complex()):
            raise ValueError("only numbers can be calculated with")
        case ast.Constant(value=int() | float() as number):
            return _bounded(number)
        case ast.Name(id=name) if name in _NAMES:
            return _NAMES[name]
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_number(operand)
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return _number(operand)
        case ast.BinOp(left=left, op=ast.Pow(), right=right):
            return _power(_number(left), _number(right))
        case ast.BinOp(left=left, op=sign, right=right) if type(sign) in _OPERATORS:
            return _bounded(_OPERATORS[type(sign)](_number(left), _number(right)))
        case ast.List(elts=parts) | ast.Tuple(elts=parts):
            return [_number(part) for part in parts]
        case ast.Call(func=ast.Name(id=name), args=parts, keywords=[]) if name in _FUNCTIONS:
            return _called(name, parts)
    raise ValueError("only numbers, + - * / ** and a few functions can be calculated")


def _called(name: str, parts: list[ast.expr]) -> Number:
    found = [_value(part) for part in parts]
    values: list[Number] = []
    for one in found:
        values += one if isinstance(one, list) else [one]
    known = [value for value in values if not math.isnan(value)]
    if not known:
        raise ValueError(f"{name} of nothing")
    return _bounded(_FUNCTIONS[name](known))


def _rounded(value: Number, places: Number = 0, *_: Number) -> Number:
    if abs(places) > _MOST_DIGITS:  # a power of ten with so many zeros would have to be made
        raise ValueError("too many places")
    return round(value, int(places)) if places else round(value)


def _one(values: list[Number]) -> Number:
    if len(values) != 1:
        raise ValueError("one number is needed")
    return values[0]


def _number(node: ast.expr) -> Number:
    value = _value(node)
    if isinstance(value, list):
        raise ValueError("a list can't be calculated with")
    return value


def _power(left: Number, right: Number) -> Number:
    if abs(right) > 1 and abs(left) > 1 and abs(right) * math.log10(abs(left)) > _MOST_DIGITS:
        raise ValueError("the number is too large")
    value = left**right
    if isinstance(value, complex):
        raise ValueError("the root of a negative number")
    return _bounded(value)


def _bounded(value: Number) -> Number:
    if isinstance(value, int) and value.bit_length() > 4 * _MOST_DIGITS:
        raise ValueError("the number is too large")
    return value
