"""How fast programs are judged: programs a second and milliseconds a program, each backend.

    python benchmarks/bench_sandbox.py [--programs 60] [--threads 2]

Beside them a plain subprocess that runs program and tests in one interpreter, unprotected: what the
sandbox is measured against. Starting a backend for the first time is timed apart.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from deltascale.sandbox import BACKENDS, Backend, judge_program, try_backend
from deltascale.sandbox.native import plain_subprocess

__all__: list[str] = []

PROGRAM = '''
from typing import List

def below(numbers: List[float], bound: float) -> List[float]:
    """The numbers below the bound, smallest first."""
    return sorted(number for number in numbers if number < bound)
'''
TESTS = """
def check(candidate):
    assert candidate([3.0, 1.0, 2.0], 3.0) == [1.0, 2.0]
    assert candidate([], 1.0) == []
    assert candidate([5.0], 1.0) == []
    for bound in range(6):
        assert candidate([0.0, 2.0, 4.0], bound) == [x for x in (0.0, 2.0, 4.0) if x < bound]
"""


def judged(backend: Backend) -> bool:
    return judge_program(PROGRAM, TESTS, entry_point="below", backend=backend).passed


def plainly_run() -> bool:
    source = f"{PROGRAM}\n{TESTS}\ncheck(below)\n"
    return subprocess.run([sys.executable, "-I", "-S", "-c", source], check=False).returncode == 0


def measure(name: str, run: Callable[[], bool], *, programs: int, threads: int) -> str:
    """One line of the table; stops if a program does not pass."""
    start = time.perf_counter()
    if not run():
        raise SystemExit(f"{name}: the program did not pass")
    first_s = time.perf_counter() - start
    alone_ms = []
    for _ in range(programs):
        start = time.perf_counter()
        run()
        alone_ms.append(1e3 * (time.perf_counter() - start))
    start = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        passed = sum(pool.map(lambda _: run(), range(programs)))
    rate = programs / (time.perf_counter() - start)
    if passed != programs:
        raise SystemExit(f"{name}: {programs - passed} of {programs} programs did not pass")
    median, worst = statistics.median(alone_ms), max(alone_ms)
    return f"{name:18}{1e3 * first_s:10.0f}{median:10.1f}{worst:10.1f}{rate:14.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--programs", type=int, default=60)
    parser.add_argument("--threads", type=int, default=2)
    wanted = parser.parse_args()
    print(f"{'backend':18}{'first ms':>10}{'median ms':>10}{'worst ms':>10}{'programs/s':>14}")
    sizes = {"programs": wanted.programs, "threads": wanted.threads}
    print(measure("plain subprocess", plainly_run, **sizes))
    for name in BACKENDS:
        start = time.perf_counter()
        backend = try_backend(name)
        tried_ms = 1e3 * (time.perf_counter() - start)
        if isinstance(backend, Backend):
            line = measure(name, functools.partial(judged, backend), **sizes)
            print(f"{line}   ({tried_ms:.0f} ms to start it)")
        else:
            print(f"{name:18}{backend}")
    print(measure("unsafe", functools.partial(judged, plain_subprocess()), **sizes))


if __name__ == "__main__":
    main()
