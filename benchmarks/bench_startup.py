"""How long it takes to start: wall and CPU time of the command's help and of the import.

    python -m benchmarks startup

Beside them an interpreter that does nothing, and Inspect AI where it is installed.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from pathlib import Path

from benchmarks import measure
from benchmarks.environment import rivals_python

__all__: list[str] = []


def _once(command: list[str]) -> tuple[float, float]:
    """Wall and CPU milliseconds of one process."""
    before, started = _children_s(), time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True, cwd=measure.ROOT)
    return 1e3 * (time.perf_counter() - started), 1e3 * (_children_s() - before)


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _commands() -> list[tuple[str, list[str], str]]:
    """What is started, how, and the aim."""
    script = Path(sys.executable).with_name("deltascale")
    ours = [str(script)] if script.exists() else [sys.executable, "-m", "deltascale"]
    found = [
        ("python, nothing", [sys.executable, "-c", "pass"], ""),
        ("import deltascale", [sys.executable, "-c", "import deltascale"], ""),
        ("deltascale --help", [*ours, "--help"], "< 150"),
    ]
    rivals = rivals_python()
    if rivals is not None:
        found.append(("import inspect_ai", [rivals, "-c", "import inspect_ai"], ""))
        inspect = Path(rivals).with_name("inspect")
        if inspect.exists():
            found.append(("inspect --help", [str(inspect), "--help"], ""))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    wanted = parser.parse_args()
    commands = _commands()
    took: dict[str, list[tuple[float, float]]] = {shown: [] for shown, _, _ in commands}
    for number in range(wanted.rounds + 1):
        for shown, command, _ in commands:
            once = _once(command)
            if number:  # the first round fills the disk's cache
                took[shown].append(once)
    rows = []
    for shown, _, aim in commands:
        walls, cpus = zip(*took[shown], strict=True)
        rows.append([shown, measure.spread(walls, "{:.0f}"), aim, measure.spread(cpus, "{:.0f}")])
    measure.table(["process", "wall ms", "aim", "CPU ms"], rows)


if __name__ == "__main__":
    main()
