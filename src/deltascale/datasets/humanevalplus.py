"""HumanEval+: more inputs for HumanEval's tasks, each held against a reference solution.

Makes tests of a file in the layout of its release, which people bring along. Source: Liu et al.
2023, arXiv 2305.01210. Numbers are compared as `numpy.allclose` does, in plain Python, because the
sandbox has no NumPy.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Mapping
from pathlib import Path

from deltascale.errors import DatasetMistake

__all__ = ["parse", "read"]

_TESTS = """
from copy import deepcopy
from math import inf, nan

_reference = {{}}
exec({reference!r}, _reference)
_atol = {atol!r}


def _floats(value):
    if isinstance(value, (list, tuple)):
        return bool(value) and all(isinstance(one, float) for one in value)
    return isinstance(value, float)


def _near(got, wanted, atol):
    if isinstance(wanted, (list, tuple)):
        if not isinstance(got, (list, tuple)) or len(got) != len(wanted):
            return False
        return all(_near(one, other, atol) for one, other in zip(got, wanted))
    if got == wanted:
        return True
    numbers = (int, float, complex)
    if not (isinstance(got, numbers) and isinstance(wanted, numbers)):
        return False
    return abs(wanted) != inf and abs(got - wanted) <= atol + 1e-7 * abs(wanted)


def _same(got, wanted):
    if got == wanted:
        return True
    atol = max(_atol, 1e-6) if _atol or _floats(wanted) else 0
    return bool(atol) and type(got) is type(wanted) and _near(got, wanted, atol)


def check(candidate):
    for arguments in {inputs!r}:
        got = candidate(*deepcopy(arguments))
        {compare}
"""
_COMPARE = "assert _same(got, _reference[{name!r}](*arguments))"
_ROOT = 'assert abs(_reference["poly"](*arguments, got)) <= max(_atol, 1e-6)'
"""A polynomial of even length has more roots than one, so a root is tried and not compared."""


def read(path: Path, *, where: str) -> Mapping[str, str]:
    """The tests by task id, from JSON lines, packed by gzip or not.

    Raises:
        DatasetMistake: the file can't be read, or a line is not such a task.
    """
    try:
        data = path.read_bytes()
        text = (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode("utf-8")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise DatasetMistake(
            f"it can't be read ({error})", where=where, remedy="give HumanEvalPlus.jsonl.gz"
        ) from error
    return parse(text, where=where)


def parse(text: str, *, where: str) -> Mapping[str, str]:
    """The tests by task id, from the text of the JSON lines.

    Raises:
        DatasetMistake: a line is not such a task.
    """
    found = {}
    for number, line in enumerate(text.rstrip("\n").split("\n"), start=1):
        try:
            task = json.loads(line)
            found[str(task["task_id"])] = _tests(
                task["prompt"] + task["canonical_solution"],
                str(task["entry_point"]),
                [*task["base_input"], *task["plus_input"]],
                float(task["atol"]),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise DatasetMistake(
                "this line is not a HumanEval+ task", where=f"{where} line {number}"
            ) from error
    return found


def _tests(reference: str, name: str, inputs: list[list[object]], atol: float) -> str:
    if not inputs or not all(isinstance(arguments, list) for arguments in inputs):
        raise ValueError("no inputs")
    compare = _ROOT if name == "find_zero" else _COMPARE.format(name=name)
    return _TESTS.format(reference=reference, atol=atol, inputs=inputs, compare=compare)
