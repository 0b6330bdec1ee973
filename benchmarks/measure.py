"""Children that measure themselves, tables, and what has to be known of the machine."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

__all__ = ["ROOT", "ChildError", "child", "machine", "median", "server", "spread", "table"]

ROOT = Path(__file__).resolve().parents[1]


class ChildError(Exception):
    """A child ended with an error; the message is the last line that it wrote."""


def child(
    module: str,
    job: Mapping[str, object],
    *,
    python: str = sys.executable,
    environ: Mapping[str, str] | None = None,
    timeout_s: float = 900.0,
) -> dict[str, list[float]]:
    """Run a module in a process of its own: a job goes in, figures by name come back, as JSON."""
    ran = subprocess.run(
        [python, "-m", module],
        input=json.dumps(job),
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, **(environ or {})},
        timeout=timeout_s,
        check=False,
    )
    lines = (ran.stdout if ran.returncode == 0 else ran.stderr).strip().splitlines()
    if ran.returncode or not lines:
        raise ChildError(lines[-1] if lines else f"{module} wrote nothing")
    told: dict[str, list[float]] = json.loads(lines[-1])
    return told


@contextmanager
def server(latency_s: float) -> Iterator[str]:
    """A loopback model's server in a process of its own; gives its base URL."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.loopback", str(latency_s)],
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    try:
        assert process.stdout is not None
        yield f"{process.stdout.readline().strip()}/v1"
    finally:
        process.terminate()
        process.wait(10)
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            pipe.close()


def median(values: Iterable[float]) -> float:
    return statistics.median(values)


def spread(values: Sequence[float], form: str = "{:,.2f}") -> str:
    """The median, and between which values it lies."""
    shown = form.format(statistics.median(values))
    if len(values) == 1:
        return shown
    return f"{shown} ({form.format(min(values))} to {form.format(max(values))})"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a Markdown table, numbers to the right."""
    lines = [list(header), *(list(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    rule = [
        ("-" * width if not column else "-" * (width - 1) + ":")
        for column, width in enumerate(widths)
    ]
    for line in (lines[0], rule, *lines[1:]):
        cells = [
            cell.ljust(width) if not column else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        print(f"| {' | '.join(cells)} |")
    print(flush=True)


def _flush_ms() -> float:
    """How long this disk takes to make 4 kB durable: the median of 30."""
    took = []
    with tempfile.TemporaryFile() as file:
        for _ in range(30):
            file.write(b"x" * 4096)
            file.flush()
            started = time.perf_counter()
            os.fsync(file.fileno())
            took.append(1e3 * (time.perf_counter() - started))
    return statistics.median(took)


def machine() -> str:
    """The footer of every run: what the numbers depend on and what else was going on."""
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    return (
        f"{os.cpu_count()} cores ({platform.machine()}), {platform.python_implementation()} "
        f"{platform.python_version()}, a flush of the disk {_flush_ms():.1f} ms, load {load}. "
        "On a shared machine wall times swing with the neighbours: trust CPU times, and ratios "
        "measured in turns."
    )
