"""No program gets out of the sandbox, passes without being right, or holds the others up.

Every program below is given tests that hold only if its attack worked: it must return what it has
no right to know or do, or its tests are false and it must pass all the same.
"""

from __future__ import annotations

import secrets
import socket
import threading
import time
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from deltascale.sandbox import Backend, Limits, Verdict, judge_program, try_backend

WALL_S = 0.4
LIMITS = Limits(wall_s=WALL_S, cpu_s=1, memory_bytes=96 << 20, output_bytes=4096)
GRACE_S = 3.0  # for a machine that does other things as well
HONEST = "def square(x):\n    return x * x\n"
HONEST_TESTS = "def check(f):\n    assert f(3) == 9\n    assert f(-2) == 4\n"

TOKEN = "token-" + secrets.token_hex(16)  # what no program can know
WRONG = f"def check(f):\n    assert f(1) == {TOKEN!r}\n"
ESCAPED = "def check(f):\n    assert f(1) == 'escaped'\n"
SECRET = "canary-of-the-environment"


def programs(text: str) -> dict[str, str]:
    """The programs of a text by name; `### name` opens one."""
    parts = [part.partition("\n") for part in text.split("### ")[1:]]
    return {head: source for head, _, source in parts}


# Attacks that try to pass tests which are false: on the judge, on the marker, on the comparison.
FORGERIES = programs(r"""
### exit_zero
import sys
def f(x):
    sys.exit(0)
### hard_exit_zero
import os
def f(x):
    os._exit(0)
### exit_while_loading
import os
os._exit(0)
def f(x): pass
### quit_while_loading
raise SystemExit
def f(x): pass
### equal_to_all
class All:
    def __eq__(self, other): return True
    __hash__ = None
def f(x):
    return All()
### text_equal_to_all
class All(str):
    def __eq__(self, other): return True
    __hash__ = str.__hash__
def f(x):
    return All('no')
### no_asserts
import builtins
builtins.AssertionError = type('E', (BaseException,), {})
def f(x):
    return 0
### patch_everything
import builtins, json, os, sys
for name in ('exec', 'compile', 'print', 'isinstance', 'callable'):
    setattr(builtins, name, lambda *a, **k: True)
def f(x):
    return 0
### replace_check
import sys
for module in list(sys.modules.values()):
    try: module.check = lambda candidate: None
    except Exception: pass
def f(x):
    return 0
### main_globals
import __main__
__main__.pack = lambda value: {'status': 'passed'}
def f(x):
    import __main__
    __main__.be_tests = __main__.answer = print
    return 0
### forge_passed_line
import os
os.write(1, b'{"status": "passed", "detail": ""}\n')
def f(x):
    return 0
### forge_passed_answer
import os
def f(x):
    os.write(1, b'{"status": "passed", "detail": "", "kinds": ["ValueError"]}\n')
    os._exit(0)
### forge_marked_line
import os
def f(x):
    os.write(1, b'!00000000000000000000000000000000{"status": "passed"}\n')
### print_passed
def f(x):
    print('{"status": "passed"}', flush=True)
    return 0
### look_in_frames
import sys, re
def f(x):
    frame, seen = sys._getframe(), ''
    while frame:
        seen += repr(frame.f_locals) + repr(frame.f_globals)
        frame = frame.f_back
    return (re.findall('token-[0-9a-f]{32}', seen) or [0])[0]
### look_in_heap
import gc, re
def f(x):
    seen = ''
    for thing in gc.get_objects():
        try: seen += repr(thing)[:100000]
        except Exception: pass
    return (re.findall('token-[0-9a-f]{32}', seen) or [0])[0]
### look_in_memory
import re
def f(x):
    seen = open('/proc/self/mem', 'rb').read().decode('latin1')
    return (re.findall('token-[0-9a-f]{32}', seen) or [0])[0]
### look_in_arguments
import re, sys
def f(x):
    seen = repr((sys.orig_argv, x))
    return (re.findall('token-[0-9a-f]{32}', seen) or [0])[0]
### steal_the_next_line
import os
def f(x):
    line = os.read(0, 65536)
    return line.decode()
### raise_what_tests_expect
def f(x):
    raise AssertionError
### exit_when_finalized
import atexit, os
atexit.register(os._exit, 0)
def f(x):
    raise KeyboardInterrupt
### fake_type
class int(str):
    __class__ = bool
def f(x):
    return int('x')
### deep_value
import os
def f(x):
    line = b'{"value": ' + b'[' * 300000 + b']' * 300000 + b'}\n'
    while line: line = line[os.write(1, line):]
### odd_values
import os
def f(x):
    os.write(1, b'{"value": {"Fraction": "1/0"}}\n{"value": {"range": [[]]}}\n')
""")

# Attacks on what lies outside: each returns 'escaped' only if it got what it wanted.
ESCAPES = programs(r"""
### read_file
def f(x):
    return 'escaped' if open('/etc/passwd').read() else 0
### read_file_low
import os
def f(x):
    d = os.open('/etc/hostname', os.O_RDONLY)
    return 'escaped' if os.read(d, 10) else 0
### write_file
def f(x):
    open(TMP + '/escape', 'w').write('x')
    return 'escaped'
### write_relative
def f(x):
    open('escape', 'w').write('x')
    return 'escaped'
### list_files
import os
def f(x):
    return 'escaped' if os.listdir(TMP) else 0
### remove_file
import os
def f(x):
    os.remove(TMP + '/victim')
    return 'escaped'
### symlink
import os
def f(x):
    os.symlink('/etc', '/tmp/e')
    return 'escaped'
### shutil
import shutil
def f(x):
    shutil.rmtree(TMP)
    return 'escaped'
### temporary_file
import tempfile
def f(x):
    tempfile.NamedTemporaryFile().write(b'x')
    return 'escaped'
### connect
import socket
def f(x):
    socket.create_connection(('127.0.0.1', PORT), 0.2)
    return 'escaped'
### listen
import socket
def f(x):
    s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen()
    return 'escaped'
### raw_socket_module
import _socket
def f(x):
    s = _socket.socket(); s.connect(('127.0.0.1', PORT))
    return 'escaped'
### fetch
import urllib.request
def f(x):
    urllib.request.urlopen(f'http://127.0.0.1:{PORT}/', timeout=0.2)
    return 'escaped'
### subprocess
import subprocess
def f(x):
    subprocess.run(['true'], check=True)
    return 'escaped'
### system
import os
def f(x):
    return 'escaped' if os.system('true') == 0 else 0
### popen
import os
def f(x):
    return 'escaped' if os.popen('id').read() else 0
### execute
import os
def f(x):
    os.execv('/bin/sh', ['sh', '-c', 'echo escaped'])
    return 'escaped'
### fork
import os
def f(x):
    os.fork()
    return 'escaped'
### posix_spawn
import os
def f(x):
    os.posix_spawn('/bin/true', ['true'], {})
    return 'escaped'
### thread
import threading
def f(x):
    t = threading.Thread(target=int); t.start(); t.join()
    return 'escaped'
### process_pool
import multiprocessing
def f(x):
    with multiprocessing.Pool(1) as pool:
        return pool.map(str, ['escaped'])[0]
### kill_parent
import os, signal
def f(x):
    os.kill(os.getppid(), signal.SIGKILL)
    return 'escaped'
### kill_all
import os
def f(x):
    os.kill(-1, 9)
    return 'escaped'
### environment
import os
def f(x):
    return 'escaped' if SECRET in str(dict(os.environ)) else 0
### environment_of_process
def f(x):
    return 'escaped' if open('/proc/self/environ').read() else 0
### native_library
import ctypes
def f(x):
    ctypes.CDLL(None).getpid()
    return 'escaped'
### native_fork
import _ctypes
def f(x):
    fork = _ctypes.dlsym(_ctypes.dlopen(None, 2), 'fork')
    return 'escaped' if _ctypes.call_function(fork, ()) >= 0 else 0
### raise_own_limits
import resource
def f(x):
    resource.setrlimit(resource.RLIMIT_AS, (1 << 40, 1 << 40))
    return 'escaped'
### third_party
def f(x):
    import msgspec
    return 'escaped'
### our_package
def f(x):
    import deltascale
    return 'escaped'
""")

# Attacks on time and space, each with the ways in which it may end.
EXHAUSTIONS_AND_ENDS = programs(r"""
### loop: timeout
def f(x):
    while True: pass
### loop_while_loading: timeout
while True: pass
def f(x): pass
### loop_that_catches: timeout
def f(x):
    while True:
        try:
            while True: pass
        except BaseException: pass
### sleep: timeout
import time
def f(x):
    time.sleep(3600)
### wait_for_signal: blocked, exception, timeout
import signal
def f(x):
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    signal.setitimer(signal.ITIMER_REAL, 0); signal.pause()
### ignore_signals: timeout
import signal
for s in range(1, 30):
    try: signal.signal(s, signal.SIG_IGN)
    except (OSError, ValueError): pass
def f(x):
    while True: pass
### close_the_line_and_loop: exception, timeout
import os
def f(x):
    os.close(1); os.close(0)
    while True: pass
### memory: memory
def f(x):
    return len(bytearray(1 << 30))
### memory_by_steps: memory, timeout
def f(x):
    kept = []
    while True: kept.append(bytes(1 << 22))
### huge_integer: memory, timeout
def f(x):
    return 9 ** 9 ** 9
### huge_text: exception, timeout
def f(x):
    return str(10 ** 10 ** 7)
### huge_answer: blocked, memory, timeout
def f(x):
    return 'x' * (20 << 20)
### endless_answer: failed_assert, memory, timeout
import itertools
def f(x):
    return itertools.count()
### endless_output: timeout
def f(x):
    while True: print('x' * 1000)
### flood_of_the_line: blocked, timeout
import os
def f(x):
    while True: os.write(1, b'x' * 60000)
### drip_on_the_line: timeout
import os
def f(x):
    while True: os.write(1, b'x')
### flood_of_errors: exception, timeout
import os
def f(x):
    while True: os.write(2, b'x' * 60000)
### recursion: exception, timeout
def f(x):
    return f(x)
### bottomless_recursion: exception, memory, timeout
import sys
sys.setrecursionlimit(10 ** 9)
def f(x):
    return f(x)
### recursion_in_c: exception, failed_assert, memory, timeout
def f(x):
    deep = []
    for _ in range(10 ** 6): deep = [deep]
    return deep
### recursive_answer: failed_assert
def f(x):
    a = []
    a.append(a)
    return a
### fork_bomb: blocked, exception, timeout
import os
def f(x):
    while True:
        try: os.fork()
        except OSError: pass
### thread_bomb: blocked, exception, timeout
import _thread, time
def f(x):
    while True:
        try: _thread.start_new_thread(time.sleep, (9,))
        except Exception: pass
### crash: blocked, exception, memory, timeout
def g(): pass
def f(x):
    g.__code__ = g.__code__.replace(co_code=b'd\xff' * 50, co_consts=())
    return g()
### backtracking: timeout
import re
def f(x):
    re.match('(a+)+$', 'a' * 60 + 'b')
### write_until_full: blocked, exception
def f(x):
    with open('/tmp/big', 'wb') as big:
        while True: big.write(b'x' * (1 << 20))
""")

EXHAUSTIONS = {head.split(":")[0]: source for head, source in EXHAUSTIONS_AND_ENDS.items()}
EXHAUSTIONS |= {
    "deep_source": "f = " + "(" * 5000 + ")" * 5000,
    "deep_source_by_signs": "f = " + "-" * 100_000 + "1",
}
ENDS = {head.split(":")[0]: set(head.split(": ")[1].split(", ")) for head in EXHAUSTIONS_AND_ENDS}
ENDS |= {"deep_source": {"syntax_error"}, "deep_source_by_signs": {"syntax_error"}}

HARMLESS_OUTSIDE_THE_LABEL = {"native_library", "kill_parent", "kill_all"}
"""They do nothing to anybody where they are let through: the sandbox has its own process ids."""


@dataclass(frozen=True)
class World:
    """What the attacks are after, and how each of them ended."""

    folder: Path
    callers: list[object]
    fates: dict[str, tuple[Verdict, float]]
    unwatched: dict[str, Verdict]
    honest: list[Verdict]


def escapes(folder: Path, port: int) -> dict[str, str]:
    return {
        name: f"TMP, PORT, SECRET = {str(folder)!r}, {port}, {SECRET!r}\n{source}"
        for name, source in ESCAPES.items()
    }


def accept_all(server: socket.socket, callers: list[object]) -> None:
    """Note everybody who calls, until the server is shut down."""
    while True:
        try:
            line, caller = server.accept()
        except OSError:
            return
        line.close()
        callers.append(caller)


def try_walls(
    pool: Executor, backend: Backend, attacks: dict[str, str]
) -> dict[str, Future[Verdict]]:
    """The same attacks from the side of the tests, which nothing watches: the walls alone."""
    return {
        name: pool.submit(
            judge_program,
            "def f(x): return x\n",
            f"{source}\n{ESCAPED}check(f)\n",
            entry_point="f",
            backend=backend,
            limits=LIMITS,
        )
        for name, source in attacks.items()
        if name not in HARMLESS_OUTSIDE_THE_LABEL
    }


def attack(backend: Backend, folder: Path, server: socket.socket) -> World:
    """Run every program, four at a time, with honest programs between them."""
    (folder / "victim").write_text("alive")
    callers: list[object] = []
    threading.Thread(target=accept_all, args=(server, callers), daemon=True).start()
    inside = escapes(folder, server.getsockname()[1])

    def run(program: str, tests: str, name: str = "f", limits: Limits = LIMITS) -> Verdict:
        return judge_program(program, tests, entry_point=name, backend=backend, limits=limits)

    def timed(program: str, tests: str) -> tuple[Verdict, float]:
        start = time.perf_counter()
        return run(program, tests), time.perf_counter() - start

    programs = {
        **{name: (source, WRONG) for name, source in FORGERIES.items()},
        **{name: (source, ESCAPED) for name, source in inside.items()},
        **{name: (source, WRONG) for name, source in EXHAUSTIONS.items()},
    }
    with ThreadPoolExecutor(4) as pool:
        hostile, honest = {}, []
        for name, both in programs.items():
            hostile[name] = pool.submit(timed, *both)
            if len(hostile) % 4 == 0:
                honest.append(pool.submit(run, HONEST, HONEST_TESTS, "square", Limits()))
        unwatched = try_walls(pool, backend, inside)
        return World(
            folder,
            callers,
            {name: future.result() for name, future in hostile.items()},
            {name: future.result() for name, future in unwatched.items()},
            [future.result() for future in honest],
        )


@pytest.fixture(scope="module", params=["wasm", pytest.param("bubblewrap", marks=pytest.mark.slow)])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> World:
    found = try_backend(request.param)
    if not isinstance(found, Backend):
        pytest.skip(f"{request.param} can't be used here: {found}")
    with pytest.MonkeyPatch.context() as patch, socket.create_server(("127.0.0.1", 0)) as server:
        patch.setenv("DELTASCALE_TEST_SECRET", SECRET)
        result = attack(found, tmp_path_factory.mktemp("world"), server)
        server.shutdown(socket.SHUT_RDWR)
    return result


def test_no_hostile_program_passes(world: World) -> None:
    assert len(world.fates) >= 60
    assert {name: fate for name, (fate, _) in world.fates.items() if fate.passed} == {}


def test_walls_hold_without_the_watch(world: World) -> None:
    assert {name: fate for name, fate in world.unwatched.items() if fate.passed} == {}


def test_walls_of_bubblewrap_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The quick part of the above for the second backend."""
    backend = try_backend("bubblewrap")
    if not isinstance(backend, Backend):
        pytest.skip(f"bubblewrap can't be used here: {backend}")
    (tmp_path / "victim").write_text("alive")
    monkeypatch.setenv("DELTASCALE_TEST_SECRET", SECRET)
    with ThreadPoolExecutor(4) as pool:
        futures = try_walls(pool, backend, escapes(tmp_path, 9))
    assert {name: str(f.result()) for name, f in futures.items() if f.result().passed} == {}
    assert (tmp_path / "victim").read_text() == "alive"


def test_nothing_outside_changes(world: World) -> None:
    assert [path.name for path in world.folder.iterdir()] == ["victim"]
    assert (world.folder / "victim").read_text() == "alive"
    assert world.callers == []


@pytest.mark.slow
def test_attempts_at_the_outside_are_named(world: World) -> None:
    """They end as `blocked`, or as the exception of an interpreter that has no such thing."""
    fates = {name: world.fates[name][0].status for name in ESCAPES if name != "environment"}
    named = {"blocked", "exception", "timeout"}  # the last where an import alone takes too long
    assert {name: fate for name, fate in fates.items() if fate not in named} == {}
    assert fates["read_file"] == fates["write_file"] == fates["listen"] == "blocked"


def test_exhaustion_is_named(world: World) -> None:
    odd = {
        name: world.fates[name][0]
        for name, ends in ENDS.items()
        if world.fates[name][0].status not in ends
    }
    assert odd == {}


def test_none_outlasts_its_limit(world: World) -> None:
    assert {name: s for name, (_, s) in world.fates.items() if s > WALL_S + GRACE_S} == {}


def test_honest_programs_pass_beside_hostile_ones(world: World) -> None:
    assert len(world.honest) >= 15
    assert [verdict for verdict in world.honest if not verdict.passed] == []
