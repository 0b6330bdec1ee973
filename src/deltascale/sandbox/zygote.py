"""Keeps one WASI CPython started and forks it for every program. Run by path, never imported.

The interpreter boots once, up to the guest's first read of descriptor 0. That read is our own host
function: it stays there, and for every program it forks. The child returns from the read with the
program's socket, a freshly booted interpreter for the price of a fork (about a tenth of a boot).
The guest has no descriptors but that socket as 0 and 1: no directory is opened for it, and WASI has
no calls for network, processes, threads or signals.

Knows nothing of programs or verdicts. Needs only the standard library and wasmtime.
"""

import hashlib
import os
import resource
import signal
import socket
import stat
import struct
import sys
import tempfile
import time
from pathlib import Path
from typing import NoReturn

import wasmtime

__all__: list[str] = []

SPAWN, REAP = 0, 1
ORDER = struct.Struct("<BIdd")  # SPAWN: guests, cpu seconds, wall seconds; REAP: pid, 0, 0
CHUNK = 1 << 16
MOST_GUESTS = 16
ENOTSUP = 58
WASI = "wasi_snapshot_preview1"
CLOCKS = {
    0: time.time_ns,
    1: time.monotonic_ns,
    2: time.process_time_ns,
    3: time.thread_time_ns,
}


class Refusal(Exception):  # noqa: N818 - it is told to the host as a sentence
    """Why no interpreter can be started."""


# --- the compiled module -------------------------------------------------------------------------


def trusted(path: Path) -> bool:
    """Whether only this user could have written the file. It holds native code."""
    for place in (path, path.parent):
        facts = place.lstat()
        if facts.st_uid != os.geteuid() or facts.st_mode & 0o022 or stat.S_ISLNK(facts.st_mode):
            return False
    return True


def compiled(engine: wasmtime.Engine, wasm: Path, cache: Path, sha256: str) -> wasmtime.Module:
    """The module, from the cache if it may be trusted, else compiled (some seconds) and cached."""
    if cache.exists() and trusted(cache):
        try:
            return wasmtime.Module.deserialize_file(engine, str(cache))
        except wasmtime.WasmtimeError:
            pass  # another build of wasmtime wrote it, or it is damaged: compile it again
    code = wasm.read_bytes()
    found = hashlib.sha256(code).hexdigest()
    if found != sha256:
        raise Refusal(f"{wasm}: SHA-256 is {found}, not {sha256}")
    module = wasmtime.Module(engine, code)
    try:
        cache.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=cache.parent, delete=False) as file:
            file.write(module.serialize())
        os.replace(file.name, cache)
    except OSError:
        pass  # a home that can't be written only costs the compilation next time
    return module


# --- what the guest may call ---------------------------------------------------------------------


class Host:
    """The guest's descriptors 0 and 1, and its sleep. `line` is None in the interpreter that is
    kept, and the program's socket in a fork."""

    def __init__(self, control: socket.socket) -> None:
        self.control = control
        self.line: socket.socket | None = None

    def fd_read(
        self, caller: wasmtime.Caller, descriptor: int, vectors: int, count: int, done: int
    ) -> int:
        if descriptor != 0:
            return ENOTSUP
        if self.line is None:
            self.line = serve(self.control)
        memory = memory_of(caller)
        for start, size in spans(caller, memory, vectors, min(count, 1)):
            data = self.line.recv(min(size, CHUNK))
            memory.write(caller, data, start)
            memory.write(caller, struct.pack("<I", len(data)), unsigned(done))
        return 0

    def fd_write(
        self, caller: wasmtime.Caller, descriptor: int, vectors: int, count: int, done: int
    ) -> int:
        memory = memory_of(caller)
        written = 0
        for start, size in spans(caller, memory, vectors, min(count, 64)):
            size = min(size, CHUNK)
            if self.line is not None and descriptor == 1:
                self.line.sendall(bytes(memory.read(caller, start, start + size)))
            written += size
            if size == CHUNK:
                break  # a partial write; the guest comes again with the rest
        memory.write(caller, struct.pack("<I", written), unsigned(done))
        return 0

    def clock_time_get(
        self, caller: wasmtime.Caller, clock: int, _precision: int, place: int
    ) -> int:
        """The same clocks that `poll_oneoff` waits for; wasmtime's own count from another start."""
        now = CLOCKS.get(clock, time.monotonic_ns)()
        memory_of(caller).write(caller, struct.pack("<Q", now), unsigned(place))
        return 0

    def poll_oneoff(
        self, caller: wasmtime.Caller, wishes: int, events: int, count: int, done: int
    ) -> int:
        """Sleep. Only one wait for a clock is known; the host ends the process at its deadline."""
        memory = memory_of(caller)
        start = unsigned(wishes)
        wish = bytes(memory.read(caller, start, start + 48))
        userdata, tag, _, clock, nanoseconds, _, flags = struct.unpack("<QB7sI4xQQH6x", wish)
        if count != 1 or tag != 0:
            return ENOTSUP
        if flags & 1:  # until a time, not for a span
            nanoseconds = max(0, nanoseconds - CLOCKS.get(clock, time.monotonic_ns)())
        time.sleep(min(nanoseconds / 1e9, 1e6))
        memory.write(caller, struct.pack("<QHB21x", userdata, 0, 0), unsigned(events))
        memory.write(caller, struct.pack("<I", 1), unsigned(done))
        return 0


def memory_of(caller: wasmtime.Caller) -> wasmtime.Memory:
    memory = caller["memory"]
    if not isinstance(memory, wasmtime.Memory):
        raise TypeError("the module exports no memory")
    return memory


def unsigned(address: int) -> int:
    """wasmtime hands addresses over as signed numbers."""
    return address & 0xFFFFFFFF


def spans(
    caller: wasmtime.Caller, memory: wasmtime.Memory, vectors: int, count: int
) -> list[tuple[int, int]]:
    """The (start, size) pairs of a guest's I/O vectors."""
    start = unsigned(vectors)
    raw = bytes(memory.read(caller, start, start + 8 * count))
    return list(struct.iter_unpack("<II", raw))


# --- forking -------------------------------------------------------------------------------------


def serve(control: socket.socket) -> socket.socket:
    """Fork a child for every order; returns only in the children, with their socket."""
    control.sendall(b"R")
    running: set[int] = set()
    while True:
        order, lines, _, _ = socket.recv_fds(control, ORDER.size, MOST_GUESTS)
        if len(order) < ORDER.size:
            for pid in running:  # the program that we work for has ended
                os.kill(pid, signal.SIGKILL)
            os._exit(0)
        what, number, cpu_s, wall_s = ORDER.unpack(order)
        if what == REAP:
            _, status = os.waitpid(number, 0)
            running.discard(number)
            control.sendall(struct.pack("<i", os.waitstatus_to_exitcode(status)))
            continue
        pids = []
        for line in lines:
            pid = os.fork()
            if pid == 0:
                control.close()
                for other in lines:
                    if other != line:
                        os.close(other)
                confine(cpu_s, wall_s)
                return socket.socket(fileno=line)
            pids.append(pid)
            running.add(pid)
        for line in lines:
            os.close(line)
        control.sendall(struct.pack(f"<{len(pids)}I", *pids))


def confine(cpu_s: float, wall_s: float) -> None:
    """The system ends this process at its limits, whatever runs in it and whoever is left to look.

    The timers kill by their default action. The host kills at the deadline too, a little earlier.
    """
    signal.setitimer(signal.ITIMER_PROF, cpu_s)
    signal.setitimer(signal.ITIMER_REAL, wall_s + 2.0)
    for which in (resource.RLIMIT_FSIZE, resource.RLIMIT_CORE):
        resource.setrlimit(which, (0, 0))


def boot(host: Host, engine: wasmtime.Engine, module: wasmtime.Module, memory: int) -> NoReturn:
    """Run the interpreter; never returns, neither here nor in a fork."""
    linker = wasmtime.Linker(engine)
    linker.define_wasi()
    linker.allow_shadowing = True
    four = wasmtime.FuncType([wasmtime.ValType.i32()] * 4, [wasmtime.ValType.i32()])
    for name in ("fd_read", "fd_write", "poll_oneoff"):
        linker.define_func(WASI, name, four, getattr(host, name), access_caller=True)
    i32, i64 = wasmtime.ValType.i32(), wasmtime.ValType.i64()
    clock = wasmtime.FuncType([i32, i64, i32], [i32])
    linker.define_func(WASI, "clock_time_get", clock, host.clock_time_get, access_caller=True)
    store = wasmtime.Store(engine)
    store.set_limits(memory_size=memory)
    wasi = wasmtime.WasiConfig()
    guest = Path(__file__).with_name("guest.py").read_text("utf-8")
    wasi.argv = ["python", "-s", "-S", "-B", "-W", "ignore", "-c", guest, "warm"]
    wasi.env = [("PYTHONHASHSEED", "0"), ("PYTHONUTF8", "1")]
    store.set_wasi(wasi)
    said = b""
    try:
        start = linker.instantiate(store, module).exports(store)["_start"]
        if isinstance(start, wasmtime.Func):
            start(store)
    except wasmtime.ExitTrap:
        pass
    except (wasmtime.Trap, wasmtime.WasmtimeError) as trap:
        said = b"!" + str(trap).strip().splitlines()[-1].encode()[:200] + b"\n"
    finally:
        if host.line is None:
            host.control.sendall(b"E" + b"the interpreter did not start " + said)
        elif said:
            host.line.settimeout(1.0)
            host.line.sendall(said)
        os._exit(0)


def main() -> None:
    number, wasm, cache, sha256, memory = sys.argv[1:]
    control = socket.socket(fileno=int(number))
    try:
        config = wasmtime.Config()
        if sys.platform == "darwin":
            config.macos_use_mach_ports = False  # their thread would not be in a fork
        engine = wasmtime.Engine(config)
        module = compiled(engine, Path(wasm), Path(cache), sha256)
    except (OSError, Refusal, wasmtime.WasmtimeError) as error:
        control.sendall(b"E" + str(error).encode())
        return
    boot(Host(control), engine, module, int(memory))


if __name__ == "__main__":
    main()
