"""The lock: what a study meant when it started, checked by every later run in its directory.

A ledger may grow (more items, models, datasets, protocols, epochs), but a sample in it must always
have been had in the same way. Prices and sizes are frozen here with the study. The environments of
its runs and the versions that servers answered with are noted beside it; they are not its meaning.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
from msgspec.structs import replace

from deltascale import datasets as known
from deltascale import providers
from deltascale.archive import items
from deltascale.archive.environment import Environment, here
from deltascale.datasets import Loaded
from deltascale.errors import DatasetMistake, Mistake
from deltascale.plan import Plan
from deltascale.records import DatasetSpec, ModelSpec, Protocol, Regime, Scorer, Study

__all__ = [
    "FILE",
    "FORMAT",
    "SCRIPTS",
    "Lock",
    "LockedDataset",
    "LockedProtocol",
    "Served",
    "digest_of",
    "frozen",
    "make",
    "merge",
    "read",
    "required",
    "write",
]

FILE = "lock.json"
FORMAT = 1

SCRIPTS = {
    "repeat-study.sh": """\
#!/bin/sh
# Repeats the study from scratch, in the new directory ./again or the one that is named: every model
# is asked anew, at today's cost, never past the study's budget.
set -eu
cd "$(dirname "$0")"
exec deltascale run study.yaml --out "${1:-again}"
""",
    "repeat-analysis.sh": """\
#!/bin/sh
# Repeats the analysis from the ledger that lies here: asks nobody, costs nothing.
set -eu
cd "$(dirname "$0")"
exec deltascale analyze .
""",
}
"""One command that repeats the study, one that repeats the analysis; they lie beside the lock."""


class LockedProtocol(msgspec.Struct, frozen=True):
    version: int
    regime: Regime
    prompts: dict[str, str]


class LockedDataset(msgspec.Struct, frozen=True):
    """`ids` are the items in subset order, `digest` their SHA-256. `contents` has 16 hex digits of
    each item's content, prompt and target, in the same order. `checksums` are the SHA-256 of the
    files that the items come from, as the source names them."""

    source: str
    digest: str
    scorer: str
    scorer_version: int
    ids: tuple[str, ...]
    contents: tuple[str, ...] = ()
    checksums: tuple[str, ...] = ()
    licence: str = ""
    homepage: str = ""


class Served(msgspec.Struct, frozen=True):
    """A version that a server said it answered with: `version` and `fingerprint` in its own words.

    `first` and `last` are when, as UTC to the second, and `n_calls` how often.
    """

    model: str
    endpoint: str
    version: str
    fingerprint: str
    n_calls: int
    first: str
    last: str


class Lock(msgspec.Struct, frozen=True):
    """`study` is the study as resolved: prices with their date, sizes with their source.

    `endpoints` is, by model id, what stands for its server in every call's key. `environments` are
    those of the runs, oldest first, without repetition.
    """

    study: Study
    protocols: dict[str, LockedProtocol]
    datasets: dict[str, LockedDataset]
    endpoints: dict[str, str] = {}
    environments: tuple[Environment, ...] = ()
    served: tuple[Served, ...] = ()
    format: int = FORMAT


def digest_of(ids: tuple[str, ...]) -> str:
    """SHA-256 (hex) of item ids in their order, as `Loaded.digest` has it."""
    return hashlib.sha256("\n".join(ids).encode()).hexdigest()


def make(plan: Plan) -> Lock:
    """The lock of a plan."""
    return Lock(
        study=replace(plan.study, phases={}, warnings=()),
        protocols={name: _protocol(found) for name, found in plan.protocols.items()},
        datasets={
            loaded.spec.name: _dataset(loaded, plan.scorers[loaded.spec.name])
            for loaded in plan.loaded
        },
        endpoints={model.id: providers.endpoint(model) for model in plan.study.models},
        environments=(here(),),
    )


def read(directory: Path) -> Lock | None:
    """The lock of a study's directory, or None where no run has started yet."""
    path = directory / FILE
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Lock)
    except FileNotFoundError:
        return None
    except NotADirectoryError:
        raise Mistake(
            "a study lies in a directory, and this is a file or in one",
            where=str(directory),
            remedy="name a directory",
        ) from None
    except (OSError, msgspec.MsgspecError) as error:
        raise Mistake(
            f"the lock can't be read ({error})",
            where=str(path),
            remedy="restore it, or start afresh with another --out",
        ) from None
    if found.format > FORMAT:
        raise Mistake(
            f"the lock has format {found.format}, this deltascale reads {FORMAT}",
            where=str(path),
            remedy="use the deltascale that wrote it, or a newer one",
        )
    return found


def required(directory: Path) -> Lock:
    """The directory's lock. Raises Mistake where there is none."""
    found = read(directory)
    if found is None:
        raise Mistake(
            "there is no study here", where=str(directory), remedy="run one with --out here first"
        )
    return found


def write(directory: Path, lock: Lock) -> None:
    """Put the lock into the directory, whole or not at all, and the scripts beside it."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / FILE
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(lock), indent=1))
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    for name, text in SCRIPTS.items():
        script = directory / name
        script.write_text(text, encoding="utf-8")
        script.chmod(0o755)


def frozen(study: Study, lock: Lock | None) -> Study:
    """The study with the prices and sizes that were frozen when each of its models was new."""
    if lock is None:
        return study
    known = {model.id: model for model in lock.study.models}
    models = tuple(
        replace(model, price=known[model.id].price, size=known[model.id].size)
        if model.id in known
        else model
        for model in study.models
    )
    return replace(study, models=models)


def merge(old: Lock | None, new: Lock, *, where: str) -> Lock:
    """The union of an earlier lock and a new one.

    Raises Mistake where they differ in what a sample means, naming every difference.
    """
    if old is None:
        return new
    differences = list(_differences(old, new))
    if differences:
        raise Mistake(
            "this directory holds a study of another meaning: " + "; ".join(differences),
            where=where,
            remedy="give this study a directory of its own with --out",
        )
    study = replace(
        new.study,
        models=_union(old.study.models, new.study.models),
        datasets=_union_of_datasets(old.study.datasets, new.study.datasets),
        protocols=tuple(dict.fromkeys((*old.study.protocols, *new.study.protocols))),
        temperatures=tuple(dict.fromkeys((*old.study.temperatures, *new.study.temperatures))),
        epochs=max(old.study.epochs, new.study.epochs),
    )
    datasets = dict(old.datasets)
    for name, dataset in new.datasets.items():
        if name not in datasets or len(dataset.ids) > len(datasets[name].ids):
            datasets[name] = dataset
    return replace(
        new,
        study=study,
        protocols={**old.protocols, **new.protocols},
        datasets=datasets,
        endpoints={**old.endpoints, **new.endpoints},
        environments=tuple(dict.fromkeys((*old.environments, *new.environments))),
        served=old.served,
    )


def _differences(old: Lock, new: Lock) -> Iterator[str]:
    for name in ("turns", "max_tokens", "system", "seed", "confirmatory"):
        before, after = getattr(old.study, name), getattr(new.study, name)
        if before != after:
            yield f"{name} was {before!r} and is {after!r}"
    models = {model.id: _meaning(model) for model in old.study.models}
    for model in new.study.models:
        if model.id in models and models[model.id] != _meaning(model):
            yield f"model {model.id} has other settings or another address"
    for name, protocol in new.protocols.items():
        if name in old.protocols and old.protocols[name] != protocol:
            yield f"protocol {name} has other prompts or another version"
    for name, dataset in new.datasets.items():
        before = old.datasets.get(name)
        if before is None:
            continue
        if (before.scorer, before.scorer_version) != (dataset.scorer, dataset.scorer_version):
            yield f"dataset {name} has another scorer"
        shared = min(len(before.ids), len(dataset.ids))
        if before.source != dataset.source or before.ids[:shared] != dataset.ids[:shared]:
            yield f"dataset {name} has other items"
        elif before.contents and before.contents[:shared] != dataset.contents[:shared]:
            yield f"dataset {name} has items of another text or target"


def _meaning(model: ModelSpec) -> tuple[object, ...]:
    return model.provider, model.name, model.base_url, model.params, model.reasoning


def _protocol(protocol: Protocol) -> LockedProtocol:
    return LockedProtocol(protocol.version, protocol.regime, dict(protocol.prompts))


def _dataset(loaded: Loaded, scorer: Scorer) -> LockedDataset:
    licence = homepage = ""
    if not loaded.spec.file:
        try:
            benchmark = known.find(loaded.spec.name)
            licence, homepage = benchmark.licence, benchmark.homepage
        except DatasetMistake:
            pass  # a dataset that was handed over and not named: its licence is not known
    return LockedDataset(
        loaded.source,
        loaded.digest,
        scorer.name,
        scorer.version,
        tuple(item.id for item in loaded.items),
        tuple(items.fingerprint(item) for item in loaded.items),
        tuple(re.findall(r"\b[0-9a-f]{64}\b", loaded.source)),
        licence,
        homepage,
    )


def _union(old: tuple[ModelSpec, ...], new: tuple[ModelSpec, ...]) -> tuple[ModelSpec, ...]:
    return tuple({model.id: model for model in (*old, *new)}.values())


def _union_of_datasets(
    old: tuple[DatasetSpec, ...], new: tuple[DatasetSpec, ...]
) -> tuple[DatasetSpec, ...]:
    return tuple({spec.name: spec for spec in (*old, *new)}.values())
