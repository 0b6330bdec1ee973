"""A study in its directory: prepared, locked, run or resumed, and analysed.

The directory holds `study.yaml`, `lock.json`, `ledger.db` and `results/`. This is the one module
that knows them all; the command line calls it and prints.
"""

from __future__ import annotations

import asyncio
import dataclasses
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from msgspec.structs import replace

from deltascale import (
    analysis,
    audit,
    datasets,
    engine,
    frame,
    ledger,
    protocols,
    providers,
    scorers,
)
from deltascale import study as study_file
from deltascale.analysis import Audited, Results, Settings, arms, power
from deltascale.archive import document, inspect_log, lock, pack
from deltascale.archive import export as exported
from deltascale.conversation import ToolRunner
from deltascale.engine import Progress, Watch
from deltascale.errors import BudgetReached, Interrupted, Mistake, SamplesMissing
from deltascale.forecast import Forecast, forecast
from deltascale.frame import Frame
from deltascale.ledger import Ledger, Status
from deltascale.plan import Plan
from deltascale.records import Cell, ModelSpec, Sample, Study, UseTool
from deltascale.report import files, tables
from deltascale.sandbox import Backend, choose_backend
from deltascale.scorers import code

__all__ = [
    "AUDIT",
    "EXPORT",
    "LEDGER",
    "RESULTS",
    "analyze",
    "audited",
    "estimate",
    "export",
    "frames",
    "page",
    "power_rows",
    "prepare",
    "run",
    "status",
]

AUDIT = "audit.csv"
EXPORT = "export"
LEDGER = "ledger.db"
STUDY = "study.yaml"
RESULTS = "results"


def prepare(study: Study, *, cache: datasets.Cache, environ: Mapping[str, str]) -> Plan:
    """Load the items and find everything the study names.

    Raises DatasetMistake and Mistake, before anything is asked or written.
    """
    models = tuple(providers.located(model, environ=environ) for model in study.models)
    loaded = tuple(
        datasets.load(spec, items=study.items, seed=study.seed, cache=cache)
        for spec in study.datasets
    )
    for one in loaded:
        scorers.check(one.scorer, one.items, where=one.spec.file or one.spec.name)
        _refuse_mismatch(one, models, study.protocols)
    return Plan(
        study=replace(study, models=models),
        loaded=loaded,
        protocols={name: protocols.find(name) for name in study.protocols},
        scorers={one.spec.name: scorers.find(one.scorer) for one in loaded},
    )


def run(
    study: Study,
    directory: Path,
    *,
    cache: datasets.Cache,
    environ: Mapping[str, str],
    progress: Progress,
    tell: Callable[[str], None],
    watch: Watch | None = None,
    unsafe_code: bool = False,
) -> None:
    """Run a study in its directory, or resume it; returns when every sample has a result.

    `watch` is an async function of the progress that shows it until it is cancelled; `tell` prints
    one line. `unsafe_code` lets generated code run without a sandbox where there is none.

    Raises Mistake before anything is asked; BudgetReached, SamplesMissing and Interrupted after,
    with all that was paid for on record.
    """
    _refuse_missing_keys(study, environ)
    before = lock.read(directory)
    plan = prepare(lock.frozen(study, before), cache=cache, environ=environ)
    plan, tools = _with_tools(plan, cache=cache, unsafe_code=unsafe_code)
    for loaded in plan.loaded:
        for warning in loaded.warnings:
            tell(warning)
    with ledger.write(directory / LEDGER) as book:
        merged = lock.merge(before, lock.make(plan), where=str(directory))
        lock.write(directory, merged)
        written = study_file.dump(merged.study, folder=directory)
        (directory / STUDY).write_text(written, encoding="utf-8")
        asyncio.run(_with_signals(plan, book, environ, tools, progress, tell, watch))
    if progress.n_calls:
        with ledger.read(directory / LEDGER) as book:
            lock.write(directory, replace(merged, served=document.served(merged, book)))
    _raise_for(progress, directory)


async def _with_signals(
    plan: Plan,
    book: Ledger,
    environ: Mapping[str, str],
    tools: Mapping[str, ToolRunner],
    progress: Progress,
    tell: Callable[[str], None],
    watch: Watch | None,
) -> None:
    stop = asyncio.Event()
    with _interrupts(stop, progress, tell):
        watcher = asyncio.create_task(watch(progress)) if watch else None
        try:
            await engine.run(plan, book, environ=environ, stop=stop, progress=progress, tools=tools)
        except asyncio.CancelledError:
            if not progress.interrupted:
                raise
        finally:
            if watcher is not None:
                watcher.cancel()
                await asyncio.wait({watcher})


def _refuse_mismatch(
    loaded: datasets.Loaded, models: Sequence[ModelSpec], names: Sequence[str]
) -> None:
    """What a dataset offers must be what a model and a protocol can use."""
    name = loaded.spec.name
    if any(item.question.tools for item in loaded.items):
        for model in models:
            if not model.native_tools:
                raise Mistake(
                    f"{model.id} is not known to call tools",
                    where=f"dataset {name}",
                    remedy="give the dataset `dialect: react`, or the model `native_tools: true`",
                )
    if "tests" in names and not any(item.question.examples for item in loaded.items):
        raise Mistake(
            f"the questions of {name} show no examples to run",
            where="protocol tests",
            remedy="use it with humaneval, or leave it out",
        )


def _with_tools(
    plan: Plan, *, cache: datasets.Cache, unsafe_code: bool
) -> tuple[Plan, Mapping[str, ToolRunner]]:
    """The plan with a sandbox under its code scorers, and what runs the tools, by dataset.

    Raises MissingExtra where code would have to run and there is no sandbox.
    """
    judges = dict(plan.scorers)
    tools: dict[str, ToolRunner] = {}
    for loaded in plan.loaded:
        name = loaded.spec.name
        made = datasets.tools(loaded.spec, cache=cache)
        if made is not None:
            tools[name] = made
        if judges[name].name == "code":
            backend = choose_backend(unsafe=unsafe_code)
            judges[name] = code.scorer(backend)
            tools[name] = _examples(backend)
    return dataclasses.replace(plan, scorers=judges), tools


def _examples(backend: Backend) -> ToolRunner:
    async def run_examples(sample: Sample, uses: tuple[UseTool, ...]) -> str:
        return await asyncio.to_thread(
            code.run_examples, sample.item, uses[-1].arguments, backend=backend
        )

    return run_examples


@contextmanager
def _interrupts(
    stop: asyncio.Event, progress: Progress, tell: Callable[[str], None]
) -> Iterator[None]:
    """First Ctrl-C: finish what is in flight. Second: now."""
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - we are inside a coroutine

    def interrupted() -> None:
        if stop.is_set():
            task.cancel()
            return
        progress.interrupted = True
        stop.set()
        tell(f"finishing {progress.in_flight} calls in flight; Ctrl-C again to stop now")

    try:
        loop.add_signal_handler(signal.SIGINT, interrupted)
    except (NotImplementedError, ValueError, RuntimeError):
        yield  # not the main thread, or a platform without signals in the loop
        return
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGINT)


def _refuse_missing_keys(study: Study, environ: Mapping[str, str]) -> None:
    for model in study.models:
        variable = providers.missing_key(model, environ)
        if variable is not None:
            raise Mistake(
                f"{variable} is not set",
                where=model.id,
                remedy="set it in the environment or in a .env file, or leave the model out",
            )


def _raise_for(progress: Progress, directory: Path) -> None:
    n_total, n_done = sum(progress.total.values()), sum(progress.done.values())
    n_missing = n_total - n_done + sum(progress.missing.values())
    spent = f"${progress.spent_nusd / 1e9:.2f} spent"
    if progress.interrupted:
        raise Interrupted(
            f"stopped with {n_done} of {n_total} samples done, {spent}; nothing paid for is lost",
            where=str(directory),
            remedy="run the same command again to resume",
        )
    if progress.budget_reached:
        raise BudgetReached(
            f"the budget is used up: {n_total - n_missing} of {n_total} samples done, {spent}",
            where=str(directory),
            remedy="raise it with --budget to go on from here",
        )
    if n_missing:
        raise SamplesMissing(
            f"{n_missing} of {n_total} samples are missing because their calls failed, {spent}",
            where=str(directory),
            remedy="run the same command again to ask for them, or see `deltascale status`",
        )


def estimate(
    study: Study, directory: Path, *, cache: datasets.Cache, environ: Mapping[str, str]
) -> tuple[Plan, Sequence[Forecast]]:
    """What the study still needs in this directory; the directory need not exist."""
    plan = prepare(lock.frozen(study, lock.read(directory)), cache=cache, environ=environ)
    path = directory / LEDGER
    if not path.exists():
        return plan, forecast(plan)
    with ledger.read(path) as book:
        return plan, forecast(plan, book)


def status(directory: Path) -> tuple[Study, Status]:
    """The study as locked and how far it is; also while it runs.

    Raises Mistake or LedgerMistake where there is none.
    """
    with ledger.read(directory / LEDGER) as book:
        return _locked(directory).study, book.status()


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
    study = _locked(directory).study
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
            locked = _locked(directory)
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
    locked = _locked(directory)
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


def _locked(directory: Path) -> lock.Lock:
    found = lock.read(directory)
    if found is None:
        raise Mistake(
            "there is no study here", where=str(directory), remedy="run one with --out here first"
        )
    return found
