"""Runs the benchmarks named, or all of them, each in a process of its own."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from benchmarks import measure

__all__: list[str] = []

_ORDER = ("throughput", "replay", "memory", "startup")


def _names() -> list[str]:
    """Every bench_NAME.py beside this file, ours first."""
    found = {path.stem.removeprefix("bench_") for path in Path(__file__).parent.glob("bench_*.py")}
    return [*(name for name in _ORDER if name in found), *sorted(found.difference(_ORDER))]


def main() -> int:
    names = _names()
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of: {', '.join(names)}")
    wanted = parser.parse_args().names or names
    unknown = [name for name in wanted if name not in names]
    if unknown:
        parser.error(f"there is no benchmark {unknown[0]!r}; there are {', '.join(names)}")
    failed = []
    for name in wanted:
        print(f"\n## {name}\n", flush=True)
        command = [sys.executable, "-m", f"benchmarks.bench_{name}"]
        if subprocess.run(command, cwd=measure.ROOT, check=False).returncode:
            failed.append(name)
    print(f"\n{measure.machine()}")
    for name in failed:
        print(f"{name}: did not finish", file=sys.stderr)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
