"""A study's directory to its estimates: analysed, shown, taken as a pilot, and audited.

Asks no model. What runs a study is `conduct`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

from deltascale import analysis, audit, datasets, frame, ledger
from deltascale.analysis import Audited, Results, Settings, arms, power
from deltascale.archive import export as exported
from deltascale.archive import inspect_log, lock, pack
from deltascale.conduct import LEDGER
from deltascale.errors import Mistake
from deltascale.frame import Frame
from deltascale.records import Cell, Study
from deltascale.report import files, tables

__all__ = [
    "AUDIT",
    "EXPORT",
    "RESULTS",
    "analyze",
    "audited",
    "export",
    "frames",
    "page",
    "power_rows",
]

AUDIT = "audit.csv"
EXPORT = "export"
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
            files.write_csv(path, rows)
        return audit.judged(path, book, cells)


def _ungated(study: Study, loaded: Sequence[Frame]) -> list[Cell]:
    return [arm.cell for arm in arms.arms(loaded, study) if not arm.gate and not arm.withheld]


def export(
    directory: Path,
    place: Path,
    *,
    to: Literal["csv", "parquet", "inspect"],
    cache: datasets.Cache,
    environ: Mapping[str, str],
    tell: Callable[[str], None],
    text: bool = True,
) -> Iterator[tuple[Path, int]]:
    """Write what is on record into the folder `place`: tables `turns` and `items`, or Inspect AI's
    logs in its folder `inspect`. Yields each file as it is done, with its rows or samples.

    `text` False leaves answers, replies and targets out of tables. `tell` prints one line.

    Raises Mistake where there is no study, nothing is on record, or the place can't be written, and
    MissingExtra for Parquet without the extra `tables`.
    """
    locked = lock.required(directory)
    with ledger.read(directory / LEDGER) as book:
        found = exported.record(directory, book, locked, cache=cache, environ=environ, tell=tell)
        if found.is_empty:
            raise Mistake(
                "nothing is on record yet", where=str(directory), remedy="run the study first"
            )
        try:
            if to == "inspect":
                (place / to).mkdir(parents=True, exist_ok=True)
                yield from inspect_log.write(found, place / to)
                return
            place.mkdir(parents=True, exist_ok=True)
            write = files.write_csv if to == "csv" else files.write_parquet
            columns = exported.turn_columns(book, text=text)
            path = place / f"turns.{to}"
            yield path, write(path, exported.turn_rows(found, columns), columns=columns)
            columns = exported.item_columns(text=text)
            path = place / f"items.{to}"
            yield path, write(path, exported.item_rows(found, columns), columns=columns)
        except OSError as error:
            raise Mistake(
                f"it can't be written ({error.strerror or error})",
                where=str(place),
                remedy="choose another place with --out",
            ) from None


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
