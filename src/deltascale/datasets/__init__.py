"""Where items come from: benchmarks by name, people's own files, and subsets of both.

Knows nothing of scorers but their names. Importing this module loads no benchmark.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias

from deltascale import extensions
from deltascale.datasets.fetch import Cache
from deltascale.datasets.subsets import Mode
from deltascale.errors import DatasetMistake
from deltascale.extensions import Kind
from deltascale.records import DatasetSpec, Item, Reply, Request, Sample, UseTool

__all__ = ["Cache", "Dataset", "Loaded", "Tools", "Typical", "find", "load", "names", "tools"]

_BUILTIN = {
    "demo-choices": "deltascale.datasets.demo:CHOICES",
    "demo-sums": "deltascale.datasets.demo:SUMS",
    "gsm8k": "deltascale.datasets.gsm8k:GSM8K",
    "gsm8k-platinum": "deltascale.datasets.gsm8k:PLATINUM",
    "humaneval": "deltascale.datasets.humaneval:HUMANEVAL",
    "mathbench": "deltascale.datasets.mathbench:MATHBENCH",
    "superglue": "deltascale.datasets.superglue:SUPERGLUE",
    **{
        f"superglue-{task}": f"deltascale.datasets.superglue:{task.upper()}"
        for task in ("boolq", "cb", "copa", "multirc", "record", "rte", "wic", "wsc")
    },
    "toolqa": "deltascale.datasets.toolqa:TOOLQA",
}

Tools: TypeAlias = Callable[[Sample, tuple[UseTool, ...]], Awaitable[str]]
"""Runs the last of a turn's uses, given those before it, and returns what the model is told."""

Typical: TypeAlias = Callable[[Request, bool], Reply]
"""What a usual reply to a request does, its words left out: the action or tool call it ends with.
True: it goes on for ever. For pricing attempts of several calls without asking anybody."""

_BY_SHARE: Mode = "proportional"


@dataclass(frozen=True, slots=True)
class Dataset:
    """A benchmark that can be had by name.

    `load(spec, cache)` returns every item in the benchmark's own order; it may download through
    `fetch` only. `scorer` names the scorer that judges it. `stratified` is how subsets are drawn,
    `max_items` the number of units there are (None: not known before loading).
    `output_tokens` is the typical length of one reply, for estimates before the first call;
    `source` says which version of which file the items come from; `source_of(spec, cache)` says it
    where that depends on the settings, of files that were loaded. `part_of` names the benchmark
    whose subset order a part of it keeps. `tools(spec, cache)` makes the tools of its questions
    ready, where they have any. `typical` tells how a usual attempt goes on, where it takes more
    than one call (None: one reply is an attempt).
    """

    name: str
    summary: str
    licence: str
    homepage: str
    scorer: str
    stratified: Mode
    max_items: int | None
    output_tokens: int
    load: Callable[[DatasetSpec, Cache], tuple[Item, ...]]
    source: str = ""
    source_of: Callable[[DatasetSpec, Cache], str] | None = None
    part_of: str = ""
    tools: Callable[[DatasetSpec, Cache], Tools] | None = None
    typical: Typical | None = None


_KIND = Kind("dataset", Dataset, _BUILTIN, DatasetMistake)


@dataclass(frozen=True, slots=True)
class Loaded:
    """The items of one dataset of a study, in subset order: the first n of it.

    `n_available` counts the units that could be had. `digest` is the SHA-256 of the ids, in order.
    A unit is one item, except where a question is asked in several variants (MathBench circular).
    """

    spec: DatasetSpec
    items: tuple[Item, ...]
    scorer: str
    n_available: int
    digest: str
    source: str
    output_tokens: int
    warnings: tuple[str, ...] = ()
    typical: Typical | None = None


def names() -> tuple[str, ...]:
    """Every benchmark that can be named: the built-in ones and those of installed plugins."""
    return extensions.names(_KIND)


def find(name: str) -> Dataset:
    """The dataset of this name, or at this dotted path (`package.module:NAME`).

    Raises:
        DatasetMistake: there is none, or what is there is not a `Dataset`.
    """
    return extensions.find(_KIND, name)


def load(spec: DatasetSpec, *, items: int | None, seed: int, cache: Cache) -> Loaded:
    """Load a dataset and take the first n of its subset order.

    n is `spec.items`, else `items`, else everything. More than there are is not a mistake: all are
    taken and a warning says so. Nothing is ever drawn twice.

    Raises:
        DatasetMistake: the dataset is unknown, can't be had or can't be read.
    """
    from deltascale.datasets import subsets
    from deltascale.datasets.table import Table, read

    wanted = spec.items if spec.items is not None else items
    if wanted is not None and wanted < 1:
        raise DatasetMistake(
            f"{wanted} items", where=f"dataset {spec.name!r}", remedy="ask for at least 1"
        )
    typical = None
    if spec.file:
        found, benchmark, mode = read(spec), spec.name, _BY_SHARE
    else:
        dataset = find(spec.name)
        every = dataset.load(spec, cache)
        source = _source(dataset, spec, every, cache)
        found = Table(every, dataset.scorer, source, dataset.output_tokens)
        benchmark, mode = dataset.part_of or dataset.name, dataset.stratified
        typical = dataset.typical
    units = subsets.order(found.items, benchmark=benchmark, seed=seed, mode=mode)
    taken = tuple(item for unit in units[:wanted] for item in unit)
    return Loaded(
        spec=spec,
        items=taken,
        scorer=spec.scorer or found.scorer,
        n_available=len(units),
        digest=subsets.digest(taken),
        source=found.source,
        output_tokens=found.output_tokens,
        warnings=(*found.warnings, *_too_few(spec.name, wanted, len(units))),
        typical=typical,
    )


def _source(dataset: Dataset, spec: DatasetSpec, items: Iterable[Item], cache: Cache) -> str:
    """The published file; files of one's own in its place are known by what was read from them."""
    if not spec.options.get("path"):
        return dataset.source_of(spec, cache) if dataset.source_of else dataset.source
    from hashlib import sha256

    read = sha256()
    for item in items:
        parts = (item.id, item.target, *(said.content for said in item.question.messages))
        read.update("\0".join(parts).encode())
    return f"files of the study's own, items sha256 {read.hexdigest()}"


def tools(spec: DatasetSpec, *, cache: Cache) -> Tools | None:
    """The tools of the dataset's questions, ready for `engine.run(tools=...)`; None without any.

    Raises:
        DatasetMistake: what they read can't be had.
        MissingExtra: what they run in is not installed.
    """
    make = None if spec.file else find(spec.name).tools
    return make(spec, cache) if make is not None else None


def _too_few(name: str, wanted: int | None, n_available: int) -> tuple[str, ...]:
    if wanted is None or wanted <= n_available:
        return ()
    return (f"{name}: {wanted} items wanted, {n_available} there are; all {n_available} are used",)
