"""The sandbox's backends: which is chosen, that all judge alike, and what keeps each shut."""

from __future__ import annotations

import os
import platform
import stat
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from deltascale.errors import MissingExtra, Mistake
from deltascale.sandbox import (
    BACKENDS,
    Backend,
    Limits,
    choose_backend,
    native,
    run_script,
    seccomp,
    try_backend,
    wasm,
)
from tests.sandboxes import DOUBLE, judge, usable


@pytest.fixture(scope="module")
def backend() -> Backend:
    return usable("wasm")


CONTAINERS = [pytest.param(name, marks=pytest.mark.slow) for name in ("docker", "podman")]


@pytest.fixture(scope="module", params=["wasm", "bubblewrap", "unsafe", *CONTAINERS])
def any_backend(request: pytest.FixtureRequest) -> Backend:
    return native.plain_subprocess() if request.param == "unsafe" else usable(request.param)


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
