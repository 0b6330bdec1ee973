"""A study in its directory: prepared, locked, run or resumed.

The directory holds `study.yaml`, `lock.json` and `ledger.db`; what becomes of them is for `assess`.
Nothing here computes an estimate, so that a run starts at once.
"""

from __future__ import annotations

import asyncio
import dataclasses
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from msgspec.structs import replace

from deltascale import datasets, engine, ledger, protocols, providers, scorers
from deltascale import study as study_file
from deltascale.archive import document, lock
from deltascale.conversation import ToolRunner
from deltascale.engine import Progress, Watch
from deltascale.errors import BudgetReached, Interrupted, Mistake, SamplesMissing
from deltascale.forecast import Forecast, forecast
from deltascale.ledger import Ledger, Status
from deltascale.plan import Plan
from deltascale.records import ModelSpec, Sample, Study, UseTool, digest
from deltascale.report.wording import visible
from deltascale.sandbox import Backend, choose_backend

__all__ = ["LEDGER", "STUDY", "estimate", "prepare", "run", "status"]

_MESSAGE = 160
LEDGER = "ledger.db"
STUDY = "study.yaml"


def prepare(study: Study, *, cache: datasets.Cache, environ: Mapping[str, str]) -> Plan:
    """Load the items and find everything the study names.

    Raises DatasetMistake and Mistake, before anything is asked or written.
    """
    models = tuple(providers.located(model, environ=environ) for model in study.models)
    loaded = tuple(
        datasets.load(spec, items=study.items, seed=study.seed, cache=cache)
        for spec in study.datasets
    )
    _refuse_twins(models)
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


def _refuse_twins(models: Sequence[ModelSpec]) -> None:
    """Two models that would make the same calls, now that each has its address: their calls could
    be told apart neither on record nor in money."""
    known: dict[tuple[object, ...], str] = {}
    for model in models:
        calls = providers.endpoint(model), model.name, digest(model.params)
        other = known.setdefault(calls, model.id)
        if other != model.id:
            raise Mistake(
                f"{model.id} is asked for the same at the same address as {other}",
                where="models",
                remedy="leave one of them out",
            )


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
            from deltascale.scorers import code

            backend = choose_backend(unsafe=unsafe_code)
            judges[name] = code.scorer(backend)
            tools[name] = _examples(backend)
    return dataclasses.replace(plan, scorers=judges), tools


def _examples(backend: Backend) -> ToolRunner:
    from deltascale.scorers import code

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
    spent = f"${progress.spent_nusd / 1e9:.4f} spent"
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
        are = "is" if n_missing == 1 else "are"
        raise SamplesMissing(
            f"{n_missing} of {n_total} samples {are} missing because calls failed"
            f"{_commonest_failure(directory)}, {spent}",
            where=str(directory),
            remedy="run the same command again to ask for them, or see `deltascale status`",
        )


def _commonest_failure(directory: Path) -> str:
    with ledger.read(directory / LEDGER) as book:
        failures = book.status().failures
    if not failures:
        return ""
    model, _, failure = max(failures, key=lambda row: row[1])
    kind, message = failure.kind.replace("_", " "), visible(failure.message)
    said = message if len(message) <= _MESSAGE else f"{message[: _MESSAGE - 1]}…"
    return f" (mostly of {model}, {kind}: {said})"


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
        return lock.required(directory).study, book.status()
