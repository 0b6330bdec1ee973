"""Packing and verifying: time and peak memory of small and large ledgers.

    python -m benchmarks.bench_archive [--samples 7000 35000]

The demo's simulated models make the ledgers, three turns a sample. Every step runs in a process of
its own. Copying, hashing and replaying stream; the analysis holds arrays of every turn, so it is
measured apart.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import measure

__all__: list[str] = []

_CHILD = "DELTASCALE_BENCH_ARCHIVE"
_CELLS = 70
"""Seven models, two datasets, five protocols."""


def _make(directory: Path, n_samples: int) -> None:
    from deltascale import conduct, demo
    from deltascale.datasets import Cache
    from deltascale.engine import Progress

    conduct.run(
        demo.demo_study(items=max(1, n_samples // _CELLS)),
        directory,
        cache=Cache(directory),
        environ={},
        progress=Progress(),
        tell=lambda _: None,
    )
    _table(directory, settings=None)


def _table(directory: Path, *, settings: object) -> None:
    """Stands for the analysis: one table, streamed from the ledger."""
    from deltascale import ledger

    (directory / "results").mkdir(exist_ok=True)
    with (
        (directory / "results" / "turns.csv").open("w", encoding="utf-8") as sink,
        ledger.read(directory / "ledger.db") as book,
    ):
        for planned in book.cells():
            rows = (turns for _, _, turns in book.samples(planned.cell))
            n_right = sum(turns[-1].score or 0.0 for turns in rows)
            sink.write(f"{planned.cell.id},{n_right}\n")


def _step(job: dict[str, str]) -> None:
    from deltascale import assess
    from deltascale.archive.pack import pack
    from deltascale.archive.verify import verify
    from deltascale.datasets import Cache

    directory, target = Path(job["directory"]), Path(job["target"])
    began = time.perf_counter()
    if job["step"] == "make":
        _make(directory, int(job["samples"]))
    elif job["step"] == "analyse":
        assess.analyze(directory)
    elif job["step"] == "verify":
        report = verify(target, analyze=_table)
        if not report.holds:
            raise SystemExit(f"it does not hold: {report}")
    else:
        pack(
            directory,
            target,
            analyze=_table,
            cache=Cache(directory),
            environ={},
            anonymous=job["step"] == "pack --anonymous",
            check=False,
        )
    peak_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    size = target.stat().st_size if target.exists() else 0
    said = {"seconds": time.perf_counter() - began, "peak_mb": peak_kb / 1024, "mb": size / 1e6}
    print(json.dumps(said))


def main() -> int:
    if os.environ.get(_CHILD):
        _step(json.loads(sys.stdin.read()))
        return 0
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--samples", type=int, nargs="+", default=[7_000, 35_000])
    rows = []
    for n_samples in parser.parse_args().samples:
        with tempfile.TemporaryDirectory() as folder:
            job = {
                "directory": f"{folder}/study",
                "target": f"{folder}/pack.zip",
                "samples": str(n_samples),
            }
            for step in ("make", "analyse", "pack", "verify", "pack --anonymous", "verify"):
                told = measure.child(
                    "benchmarks.bench_archive",
                    {**job, "step": step},
                    environ={_CHILD: "1"},
                    timeout_s=3600,
                )
                if step != "make":
                    rows.append(
                        [
                            step,
                            f"{n_samples:,}",
                            f"{told['seconds']:.1f}",
                            f"{told['peak_mb']:.0f}",
                            f"{told['mb']:.1f}" if "pack" in step else "",
                        ]
                    )
    measure.table(["step", "samples × 3 turns", "s", "peak MB", "file, MB"], rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
