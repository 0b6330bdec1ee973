"""The sandbox for programs that mean no harm: verdicts, values, limits, backends."""

from __future__ import annotations

import json
import math
import os
import platform
import stat
import struct
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deltascale.errors import MissingExtra, Mistake
from deltascale.sandbox import (
    BACKENDS,
    Backend,
    Limits,
    Verdict,
    choose_backend,
    guest,
    judge_program,
    native,
    run_script,
    seccomp,
    try_backend,
    wasm,
)

DOUBLE = "def double(x):\n    return x * 2\n"
DOUBLE_TESTS = "def check(f):\n    assert f(2) == 4\n    assert f('a') == 'aa'\n"


def usable(name: str) -> Backend:
    found = try_backend(name)
    if not isinstance(found, Backend):
        pytest.skip(f"{name} can't be used here: {found}")
    return found


@pytest.fixture(scope="module")
def backend() -> Backend:
    return usable("wasm")


CONTAINERS = [pytest.param(name, marks=pytest.mark.slow) for name in ("docker", "podman")]


@pytest.fixture(scope="module", params=["wasm", "bubblewrap", "unsafe", *CONTAINERS])
def any_backend(request: pytest.FixtureRequest) -> Backend:
    return native.plain_subprocess() if request.param == "unsafe" else usable(request.param)


def judge(
    backend: Backend, program: str, tests: str = DOUBLE_TESTS, name: str = "double"
) -> Verdict:
    return judge_program(program, tests, entry_point=name, backend=backend)


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


def children() -> int:
    tasks = Path("/proc/self/task").glob("*/children")
    return sum(len(task.read_text().split()) for task in tasks)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_nothing_is_left_behind(any_backend: Backend) -> None:
    def state() -> tuple[int, int]:
        return len(os.listdir("/proc/self/fd")), children()

    judge(any_backend, DOUBLE)
    before = state()
    for program in (DOUBLE, "raise ValueError", "import os; os._exit(3)"):
        judge(any_backend, program)
        run_script(program, backend=any_backend)
    assert state() == before


# --- backends ------------------------------------------------------------------------------------


def test_every_backend_judges_alike(any_backend: Backend) -> None:
    assert judge(any_backend, DOUBLE).status == "passed"
    assert judge(any_backend, "def double(x): return x\n").status == "failed_assert"
    assert judge(any_backend, "def double(x): raise KeyError(x)\n").status == "exception"
    assert judge(any_backend, "def double(x): return open('/etc/passwd')\n").status == "blocked"
    assert judge(any_backend, "def").status == "syntax_error"
    assert judge(any_backend, "def double(x): return bytes(1 << 33)").status in {
        "memory",
        "exception",  # 32 bits can't even count so many
    }
    limits = Limits(wall_s=0.2)
    ran = run_script("while True: pass", backend=any_backend, limits=limits)
    assert (ran.status, ran.backend) == ("timeout", any_backend.name)
    assert any_backend.safe == (any_backend.name != "unsafe")


def test_best_backend_is_chosen(backend: Backend) -> None:
    assert choose_backend() == backend
    assert choose_backend(unsafe=True) == backend
    assert choose_backend("wasm") == backend


@pytest.fixture
def bare_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("DELTASCALE_PYTHON_WASM", str(tmp_path / "none.wasm"))


@pytest.mark.usefixtures("bare_machine")
def test_without_a_sandbox_nothing_runs() -> None:
    with pytest.raises(MissingExtra) as stop:
        choose_backend()
    assert "deltascale[sandbox]" in str(stop.value)
    assert "--unsafe-code-execution" in str(stop.value)
    assert all(name in str(stop.value) for name in BACKENDS)


@pytest.mark.usefixtures("bare_machine")
def test_only_an_explicit_wish_runs_code_unprotected() -> None:
    chosen = choose_backend(unsafe=True)
    assert (chosen.name, chosen.safe) == ("unsafe", False)
    assert choose_backend("unsafe", unsafe=True).name == "unsafe"
    with pytest.raises(MissingExtra):
        choose_backend("unsafe")
    with pytest.raises(MissingExtra):
        choose_backend("bubblewrap", unsafe=True)


def test_unknown_backend_is_refused() -> None:
    with pytest.raises(Mistake, match=r"chroot.*wasm, bubblewrap"):
        choose_backend("chroot")


def test_backend_that_does_not_start_says_why(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "bwrap"
    broken.write_text("#!/bin/sh\n[ $1 = --version ] && echo bubblewrap 9 && exit\n"
                      "echo 'setting up uid map: no' >&2\nexit 1\n")  # fmt: skip
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    reason = try_backend("bubblewrap")
    if platform.machine() not in {"x86_64", "aarch64"}:
        pytest.skip("bubblewrap is not used on this machine")
    assert "setting up uid map: no" in str(reason)


# --- the WebAssembly backend ---------------------------------------------------------------------


def test_ended_zygote_is_replaced(backend: Backend) -> None:
    judge(backend, DOUBLE)
    for zygote in list(wasm._zygotes.values()):
        zygote.process.kill()
        zygote.process.wait()
    assert judge(backend, DOUBLE).passed


def test_other_interpreter_is_refused(
    backend: Backend, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "python.wasm").write_bytes(b"\0asm\1\0\0\0")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("DELTASCALE_PYTHON_WASM", str(tmp_path / "python.wasm"))
    assert "SHA-256" in str(try_backend("wasm"))


def test_interpreter_by_path(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    interpreter = wasm.find_interpreter()
    assert isinstance(interpreter, Path)
    monkeypatch.setenv("DELTASCALE_PYTHON_WASM", str(interpreter))
    assert try_backend("wasm") == backend


def test_cache_is_kept_apart_by_version(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    here = wasm.cache_path()
    assert here.is_relative_to(tmp_path)
    monkeypatch.setattr(wasm, "_wasmtime_version", lambda: "0.0.1")
    assert wasm.cache_path() != here


def by_group(folder: Path, file: Path) -> None:
    file.chmod(0o620)


def open_folder(folder: Path, file: Path) -> None:
    folder.chmod(0o777)


def link(folder: Path, file: Path) -> None:
    file.rename(folder / "elsewhere")
    file.symlink_to(folder / "elsewhere")


@pytest.mark.parametrize("spoil", [by_group, open_folder, link])
def test_only_private_native_code_is_loaded(
    spoil: Callable[[Path, Path], None], tmp_path: Path
) -> None:
    pytest.importorskip("wasmtime")
    from deltascale.sandbox import zygote

    folder = tmp_path / "cache"
    folder.mkdir(mode=0o700)
    file = folder / "python.cwasm"
    file.touch(mode=0o600)
    assert zygote.trusted(file)
    spoil(folder, file)
    assert not zygote.trusted(file)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_damaged_cache_is_compiled_again(
    backend: Backend, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Takes two compilations."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for _ in range(2):
        for zygote in list(wasm._zygotes.values()):
            zygote.process.kill()
            zygote.process.wait()
        assert judge(backend, DOUBLE).passed
        cached = wasm.cache_path()
        assert stat.S_IMODE(cached.stat().st_mode) == 0o600
        assert stat.S_IMODE(cached.parent.stat().st_mode) == 0o700
        cached.write_bytes(cached.read_bytes()[:1000])


# --- the system call filter ----------------------------------------------------------------------


def verdict_of(program: bytes, machine: int, number: int) -> int:
    """What the kernel would do: the filter's steps, taken one by one."""
    value, place = 0, 0
    while True:
        code, if_so, if_not, operand = struct.unpack_from("<HBBI", program, 8 * place)
        place += 1
        if code == 0x20:
            value = {0: number, 4: machine}[operand]
        elif code == 0x06:
            return int(operand)
        else:
            holds = value == operand if code == 0x15 else value >= operand
            place += if_so if holds else if_not


@pytest.mark.parametrize(
    ("name", "machine", "denied", "allowed"),
    [
        (
            "x86_64",
            0xC000003E,
            [56, 57, 58, 435, 41, 53, 101, 272, 425, 0x40000000 + 57],
            [0, 1, 59],
        ),
        ("aarch64", 0xC00000B7, [220, 435, 198, 199, 117, 97, 425], [63, 64, 221, 56, 57, 58]),
    ],
)
def test_filter_denies_processes_and_sockets(
    monkeypatch: pytest.MonkeyPatch, name: str, machine: int, denied: list[int], allowed: list[int]
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: name)
    program = seccomp.filter_program()
    assert program is not None
    assert {verdict_of(program, machine, number) for number in denied} == {0x00050001}
    assert {verdict_of(program, machine, number) for number in allowed} == {0x7FFF0000}
    assert verdict_of(program, 0x40000003, 1) == 0x80000000  # 32-bit calls kill


def test_no_filter_for_an_unknown_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "m68k")
    assert seccomp.filter_program() is None


def test_import_is_light() -> None:
    import subprocess

    code = "import sys, deltascale.sandbox; print('wasmtime' in sys.modules)"
    path = os.pathsep.join(entry for entry in sys.path if entry)
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": path}, capture_output=True, check=True
    )
    assert done.stdout == b"False\n"
