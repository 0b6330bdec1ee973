"""Sandboxes for tests: what of them can be used here, and a program to judge."""

from __future__ import annotations

import pytest

from deltascale.sandbox import Backend, Verdict, judge_program, try_backend

DOUBLE = "def double(x):\n    return x * 2\n"
DOUBLE_TESTS = "def check(f):\n    assert f(2) == 4\n    assert f('a') == 'aa'\n"


def usable(name: str) -> Backend:
    found = try_backend(name)
    if not isinstance(found, Backend):
        pytest.skip(f"{name} can't be used here: {found}")
    return found


def judge(
    backend: Backend, program: str, tests: str = DOUBLE_TESTS, name: str = "double"
) -> Verdict:
    return judge_program(program, tests, entry_point=name, backend=backend)
