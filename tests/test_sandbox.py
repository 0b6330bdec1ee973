"""The sandbox for programs that mean no harm: verdicts, values, limits."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deltascale.sandbox import Backend, Limits, guest, judge_program, native, run_script
from tests.sandboxes import DOUBLE, judge, usable


@pytest.fixture(scope="module")
def backend() -> Backend:
    return usable("wasm")


# --- verdicts ------------------------------------------------------------------------------------

VERDICTS = [
    ("right", DOUBLE, "passed", ""),
    ("wrong", "def double(x): return x\n", "failed_assert", "the assert on line 2 of the tests"),
    ("wrong later", "def double(x): return 4\n", "failed_assert", "the assert on line 3"),
    ("raises", "def double(x):\n    return [][1]\n", "exception", "IndexError: list index"),
    (
        "names the line",
        "def double(x):\n    return [][1]\n",
        "exception",
        "(line 2 of the program)",
    ),
    ("own assert", "def double(x):\n    assert 0, 'no'\n", "exception", "AssertionError: no"),
    ("raises at once", "1 / 0\n" + DOUBLE, "exception", "ZeroDivisionError"),
    ("no such name", "def twice(x): return 2 * x\n", "exception", "NameError"),
    ("not a function", "double = 2\n", "exception", "NameError"),
    ("wrong arguments", "def double(): return 2\n", "exception", "TypeError"),
    ("not Python", "def double(x) return", "syntax_error", "(line 1 of the program)"),
    ("indentation", "def double(x):\nreturn 2 * x\n", "syntax_error", "IndentationError"),
    ("null byte", "x = '\0'\n", "syntax_error", ""),
    ("half a surrogate pair", "x = '\ud83d'\n" + DOUBLE, "syntax_error", ""),
    ("surrogate in a message", "raise ValueError('\\ud83d')", "exception", "ValueError"),
    ("nothing", "", "exception", "NameError"),
    ("trial run", DOUBLE + "if __name__ == '__main__':\n    1 / 0\n", "passed", ""),
    ("asks the user", "n = input('n: ')\n" + DOUBLE, "exception", "EOFError"),
    ("reads standard input", "import sys\nn = sys.stdin.buffer.read()\n" + DOUBLE, "passed", ""),
    (
        "prints",
        DOUBLE + "print('x' * 100000)\nimport sys; sys.stdout.buffer.write(b'y')",
        "passed",
        "",
    ),
    ("opens a file", "open('x')\n" + DOUBLE, "blocked", "open is not possible"),
    ("copes without the file", f"try: open('x')\nexcept OSError: pass\n{DOUBLE}", "passed", ""),
    ("reads its library", "import os\nopen(os.__file__)\n" + DOUBLE, "passed", ""),
    ("memory", "def double(x): return bytes(1 << 30)\n", "memory", "MemoryError"),
    (
        "own exception",
        "class Odd(Exception):\n    def __str__(self): 1 / 0\ndef double(x): raise Odd\n",
        "exception",
        "Odd:",
    ),
    (
        "data class",
        "from dataclasses import dataclass\n@dataclass\nclass P:\n    x: int\n"
        "def double(x): return P(x * 2).x\n",
        "passed",
        "",
    ),
    ("address in the message", "raise ValueError(object())\n", "exception", "at 0x…>"),
]


@pytest.mark.parametrize(
    ("program", "status", "detail"), [case[1:] for case in VERDICTS], ids=[c[0] for c in VERDICTS]
)
def test_verdicts(backend: Backend, program: str, status: str, detail: str) -> None:
    verdict = judge(backend, program)
    assert (verdict.status, detail in verdict.detail) == (status, True), verdict
    assert verdict.passed == (status == "passed")
    assert (verdict.backend, verdict.version) == (backend.name, backend.version)
    assert verdict.detail.isprintable()


def test_details_do_not_tell_the_tests(backend: Backend) -> None:
    verdict = judge(backend, DOUBLE, "def check(f):\n    assert f(20) == 41, 'expected 41'\n")
    assert verdict.status == "failed_assert"
    assert "41" not in verdict.detail


TESTS = [
    ("by name", "assert double(2) == 4\n", "passed"),
    ("keywords", "assert double(x=2) == 4\n", "passed"),
    ("setup", "assert double(HALF) == 1.0\n", "passed"),
    ("own function", "def check(f):\n    assert [f(x) for x in range(3)] == [0, 2, 4]\n", "passed"),
    ("expects TypeError", "try: double(None)\nexcept TypeError: pass\nelse: assert 0\n", "passed"),
    ("false", "assert double(2) == 5\n", "failed_assert"),
    ("broken", "assert double(2) ==\n", "exception"),
    ("broken later", "assert double(2) == 4\nassert undefined\n", "exception"),
    ("exit", "import sys\nsys.exit(0)\n", "exception"),
    ("hard exit", "import os\nos._exit(0)\n", "exception"),
    ("sends a function", "double(print)\n", "exception"),
]


@pytest.mark.parametrize(
    ("tests", "status"), [case[1:] for case in TESTS], ids=[case[0] for case in TESTS]
)
def test_tests(backend: Backend, tests: str, status: str) -> None:
    verdict = judge_program(
        DOUBLE, tests, setup="HALF = 0.5\n", entry_point="double", backend=backend
    )
    assert verdict.status == status, verdict


def test_setup_is_not_for_the_program(backend: Backend) -> None:
    verdict = judge_program(
        "def f(): return GIVEN\n", "f()", setup="GIVEN = 1", entry_point="f", backend=backend
    )
    assert "NameError" in verdict.detail


@pytest.mark.parametrize("start", [lambda: usable("wasm"), native.plain_subprocess])
def test_verdicts_repeat(start: Callable[[], Backend]) -> None:
    """Chance and hash order start from the same place in every run."""
    backend = start()
    source = "import random\nans = [random.random(), list({'a', 'b', 'c', 'd'}), hash('x')]\n"
    assert len({run_script(source, backend=backend).ans for _ in range(3)}) == 1


# --- values --------------------------------------------------------------------------------------

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(10**40), 10**40)
    | st.floats(allow_nan=False)
    | st.text(st.characters())
    | st.binary()
    | st.complex_numbers(allow_nan=False)
    | st.fractions()
    | st.decimals(allow_nan=False)
)
hashables = st.recursive(scalars, lambda inner: st.tuples(inner, inner), max_leaves=4)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.sets(hashables)
        | st.frozensets(hashables)
        | st.dictionaries(hashables, inner)
    ),
    max_leaves=12,
)


def typed(value: object) -> object:
    """The value with the type of each of its parts, so that 1, 1.0 and True differ."""
    if isinstance(value, list | tuple):
        return (type(value), [typed(part) for part in value])
    if isinstance(value, dict):
        return (dict, [(typed(key), typed(part)) for key, part in value.items()])
    if isinstance(value, set | frozenset):
        return (type(value), value)
    if isinstance(value, float):
        return (float, value, math.copysign(1, value))
    return (type(value), value)


def crossed(value: object) -> object:
    return guest.unpack(json.loads(json.dumps(guest.pack(value))))


@settings(max_examples=40, deadline=None)
@given(values)
def test_plain_values_cross_unchanged(value: object) -> None:
    assert typed(crossed(value)) == typed(value)


def test_rare_values_cross() -> None:
    assert math.isnan(crossed(math.nan))  # type: ignore[arg-type]  # a float, as the test shows
    assert crossed(range(3, 9, 2)) == range(3, 9, 2)
    assert list(crossed(iter([1, 2]))) == [1, 2]  # type: ignore[call-overload]
    assert crossed(x * x for x in range(3)) != [0, 1, 4]
    assert typed(crossed(bytearray(b"x"))) == typed(b"x")
    assert crossed("\ud800") == "\ud800"
    for value in (object(), print, type, Path("x")):
        with pytest.raises(guest.CannotCrossError):
            guest.pack(value)


packed_names = st.sampled_from(
    ["int", "tuple", "dict", "set", "bytes", "range", "Fraction", "Decimal", "iterator",
     "complex", "foreign", "frozenset", "__class__", "x"]
)  # fmt: skip
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(packed_names, inner, max_size=2),
    max_leaves=10,
)
packed_values = st.dictionaries(
    packed_names, json_values | st.lists(json_values, max_size=3), min_size=1, max_size=1
)
PLAIN: tuple[type, ...] = (
    *(type(None), bool, int, float, str, list, tuple, dict, set, frozenset, bytes, complex, range),
    *(Fraction, Decimal, guest.Foreign, type(iter([]))),
)


@settings(max_examples=50, deadline=None)
@given(json_values | packed_values)
def test_whatever_is_sent_only_plain_values_arrive(data: object) -> None:
    try:
        value = guest.unpack(data)
    except (ValueError, TypeError, KeyError, ArithmeticError, AttributeError):
        return
    assert type(value) in PLAIN


@pytest.mark.parametrize(
    ("returned", "holds"),
    [
        ("{'a': (1, {2, 3}), None: [True, 1.5]}", "== {'a': (1, {2, 3}), None: [True, 1.5]}"),
        ("(x for x in 'ab')", "is not None and list(f(0)) == ['a', 'b']"),
        ("__import__('collections').Counter('aab')", "== {'a': 2, 'b': 1}"),
        ("__import__('enum').IntEnum('E', 'A B').B", "== 2"),
        ("__import__('collections').namedtuple('P', 'x y')(1, 2)", "== (1, 2)"),
        ("10 ** 5000", "== 10 ** 5000"),
        ("object()", "!= 0"),
        ("True", "is True"),
    ],
)
def test_values_cross_the_sandbox(backend: Backend, returned: str, holds: str) -> None:
    program = f"def f(x):\n    return {returned}\n"
    verdict = judge(backend, program, f"assert f(0) {holds}\n", "f")
    assert verdict.passed, verdict


def test_arguments_go_by_value(backend: Backend) -> None:
    program = "def f(x):\n    x.append(1)\n    return x\n"
    assert judge(backend, program, "a = [0]\nassert f(a) == [0, 1]\nassert a == [0]\n", "f").passed


# --- scripts -------------------------------------------------------------------------------------


def test_script_returns_what_it_printed(backend: Backend) -> None:
    ran = run_script("print('a', end='')\nprint('é')\nans = {'x': 1}\n", backend=backend)
    assert (ran.status, ran.output, ran.ans, ran.cut) == ("ran", "aé\n", "{'x': 1}", False)
    assert ran.version == backend.version


def test_script_without_an_answer(backend: Backend) -> None:
    ran = run_script("print(1)", backend=backend)
    assert (ran.ans, ran.output) == (None, "1\n")


def test_script_that_fails_keeps_its_output(backend: Backend) -> None:
    ran = run_script("print('so far')\nans = 1\nans = 1 / 0\n", backend=backend)
    assert (ran.status, ran.output, ran.ans) == ("exception", "so far\n", None)
    assert ran.detail == "ZeroDivisionError: division by zero (line 3 of the program)"


def test_script_output_is_bounded(backend: Backend) -> None:
    source = "for _ in range(1000): print('x' * 99)\nans = 'y' * 10**6\n"
    ran = run_script(source, backend=backend, limits=Limits(output_bytes=1000))
    assert (len(ran.output), ran.ans, ran.cut) == (1000, "y" * 1000, True)


@pytest.mark.parametrize(
    ("source", "status"),
    [
        ("while True: print(1)", "timeout"),
        ("def", "syntax_error"),
        ("import socket; socket.socket()", "blocked"),
        ("import os; os.write(1, b'nonsense\\n')", "exception"),
        ("import os; os._exit(0)", "exception"),
        ("ans = bytes(1 << 30)", "memory"),
        ("class A:\n    def __str__(self): 1 / 0\nans = A()", "exception"),
        ("ans = '\\ud800'", "ran"),
    ],
)
def test_script_ends(backend: Backend, source: str, status: str) -> None:
    assert run_script(source, backend=backend, limits=Limits(wall_s=0.5)).status == status


def test_flood_is_cut_off(backend: Backend) -> None:
    """Long before its time: what a program sends is bounded, whoever waits for it."""
    source = "import os\nwhile True: os.write(1, b'x' * 60000)\n"
    ran = run_script(source, backend=backend, limits=Limits(wall_s=40, cpu_s=40))
    assert (ran.status, ran.detail) == ("blocked", "it sent more than 16 MiB at once")


# --- limits --------------------------------------------------------------------------------------


def test_cpu_time_is_limited_apart_from_wall_time(backend: Backend) -> None:
    limits = Limits(wall_s=50, cpu_s=1)
    ran = run_script("while True: pass", backend=backend, limits=limits)
    assert (ran.status, ran.detail) == ("timeout", "no end within 1 s of CPU time")


def test_clocks_run(backend: Backend) -> None:
    source = (
        "import time\na, b = time.time(), time.perf_counter()\ntime.sleep(0.03)\n"
        "ans = round(time.time() - a, 3) >= 0.03 <= round(time.perf_counter() - b, 3)\n"
        "ans = ans and time.time() > 1.7e9\n"
    )
    assert run_script(source, backend=backend).ans == "True"


@pytest.mark.parametrize(
    "limits",
    [{"wall_s": 0}, {"wall_s": math.nan}, {"cpu_s": 0}, {"memory_bytes": 1}, {"output_bytes": -1}],
)
def test_senseless_limits_are_refused(limits: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"must be|needs"):
        Limits(**limits)  # type: ignore[arg-type]  # that is the point


# --- many at a time ------------------------------------------------------------------------------


def test_threads_share_the_sandbox(backend: Backend) -> None:
    def one(number: int) -> str:
        tests = f"assert f({number}) == {number + 1}\n"
        return judge(backend, f"def f(x): return x + 1 + (x != {number})\n", tests, "f").status

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(one, range(24))) == {"passed"}
