"""A study's directory to its estimates: analysed, shown, taken as a pilot, and audited.

Asks no model. What runs a study is `conduct`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from deltascale import analysis, audit, datasets, frame, ledger
from deltascale.analysis import Audited, Results, Settings, arms, power
from deltascale.archive import lock, pack
from deltascale.conduct import LEDGER
from deltascale.errors import Mistake
from deltascale.frame import Frame
from deltascale.records import Cell, Study
from deltascale.report import tables

__all__ = ["AUDIT", "RESULTS", "analyze", "audited", "frames", "page", "power_rows"]

AUDIT = "audit.csv"
RESULTS = "results"


def analyze(
    directory: Path,
    *,
    settings: Settings | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> Results:
    """Estimate everything from the ledger and write `results/`: the same ledger and settings give
    the same bytes. `tell` prints one line. Raises Mistake where there is no study."""
    study, loaded = frames(directory)
    chosen = settings or Settings()
    with ledger.read(directory / LEDGER) as book:
        spent = book.spent()
        if (directory / AUDIT).is_file():
            found, _, _ = audit.judged(directory / AUDIT, book, _ungated(study, loaded))
            chosen = dataclasses.replace(chosen, audit=found)
    results = analysis.analyse(loaded, study, spent=spent, settings=chosen)
    said = tables.write_results(directory / RESULTS, results)
    if said:
        tell(said)
    return results


def frames(directory: Path) -> tuple[Study, tuple[Frame, ...]]:
    """The study as locked and all that is on record of it. Raises Mistake where there is none."""
    study = lock.required(directory).study
    with ledger.read(directory / LEDGER) as book:
        return study, frame.load(book)


def audited(
    directory: Path, *, n_flips: int, cache: datasets.Cache
) -> tuple[tuple[Audited, ...], int, int]:
    """Write the sheet of flips to be judged, `audit.csv`, unless it is there; what it says, its
    rows, and how many are filled in.

    Raises Mistake where there is no study or nothing flipped, and for a sheet that can't be read.
    """
    path = directory / AUDIT
    study, loaded = frames(directory)
    cells = _ungated(study, loaded)
    with ledger.read(directory / LEDGER) as book:
        if not path.exists():
            locked = lock.required(directory)
            items = {
                (name, item.id): item
                for name in locked.datasets
                for item in pack.locked_items(name, locked, cache)
            }
            rows = audit.sheet(book, cells, lambda cell, name: items[cell.dataset, name],
                               n_flips=n_flips)  # fmt: skip
            if not rows:
                raise Mistake("no answer flipped: there is nothing to audit", where=str(directory))
            tables.write_csv(path, rows)
        return audit.judged(path, book, cells)


def _ungated(study: Study, loaded: Sequence[Frame]) -> list[Cell]:
    return [arm.cell for arm in arms.arms(loaded, study) if not arm.gate and not arm.withheld]


def page(results: Results, directory: Path) -> Path:
    """Write the page to explore, `report/index.html`; its path."""
    from deltascale.report.page import build

    ledger_file, lock_file = directory / LEDGER, directory / lock.FILE
    return build(results, directory / "report", ledger_file=ledger_file, lock_file=lock_file)


def power_rows(directory: Path, results: Results) -> tuple[power.PowerRow, ...]:
    """What a study like this one could see, taking it as a pilot; nothing is simulated."""
    n_tests = max((one.family_size for one in results.cells), default=0)
    design = power.Design(n_tests=max(1, n_tests), simulations=1)  # no simulated row is shown
    study, loaded = frames(directory)
    return power.pilot(loaded, study, design=design)
