"""Two tiny simulated studies, ledger and all: one in which something is shown, one without."""

from __future__ import annotations

from datetime import date
from pathlib import Path

from msgspec.structs import replace

from deltascale import conduct, study
from deltascale.datasets import Cache
from deltascale.engine import Progress
from deltascale.records import DatasetSpec

FIVE = tuple(f"simulated/sim-{size}" for size in ("0.1b", "1b", "8b", "27b", "70b"))
THREE = tuple(f"simulated/sim-{size}" for size in ("1b", "3b", "8b"))


def run(
    directory: Path,
    models: tuple[str, ...] = FIVE,
    *,
    items: int,
    datasets: tuple[str, ...] = ("demo-sums",),
) -> Path:
    """Run review, its null and the oracle on simulated sums; returns the directory."""
    made = study.adhoc(
        models=models,
        datasets=datasets,
        protocols=("review", "resample", "oracle"),
        turns=2,
        items=items,
        name="tiny",
        on=date(2026, 1, 1),
    )
    seeded = tuple(DatasetSpec(name, options={"seed": "0"}) for name in datasets)
    made = replace(made, datasets=seeded)
    conduct.run(
        made,
        directory,
        cache=Cache.from_environ({}),
        environ={},
        progress=Progress(),
        tell=lambda _: None,
    )
    return directory
