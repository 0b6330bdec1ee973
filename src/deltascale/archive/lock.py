"""The lock: what a study meant when it started, checked by every later run in its directory.

A ledger may grow (more items, models, datasets, protocols, epochs), but a sample in it must always
have been had in the same way. Prices and sizes are frozen here with the study.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
from msgspec.structs import replace

from deltascale import __version__
from deltascale.datasets import Loaded
from deltascale.errors import Mistake
from deltascale.plan import Plan
from deltascale.records import DatasetSpec, ModelSpec, Protocol, Regime, Scorer, Study

__all__ = ["FILE", "Lock", "frozen", "make", "merge", "read", "write"]

FILE = "lock.json"


class LockedProtocol(msgspec.Struct, frozen=True):
    version: int
    regime: Regime
    prompts: dict[str, str]


class LockedDataset(msgspec.Struct, frozen=True):
    """`ids` are the items in subset order, `digest` their SHA-256."""

    source: str
    digest: str
    scorer: str
    scorer_version: int
    ids: tuple[str, ...]


class Lock(msgspec.Struct, frozen=True):
    """`study` is the study as resolved: prices with their date, sizes with their source."""

    study: Study
    protocols: dict[str, LockedProtocol]
    datasets: dict[str, LockedDataset]
    deltascale: str
    python: str
    platform: str
    format: int = 1


def make(plan: Plan) -> Lock:
    """The lock of a plan."""
    return Lock(
        study=replace(plan.study, phases={}, warnings=()),
        protocols={name: _protocol(found) for name, found in plan.protocols.items()},
        datasets={
            loaded.spec.name: _dataset(loaded, plan.scorers[loaded.spec.name])
            for loaded in plan.loaded
        },
        deltascale=__version__,
        python=".".join(str(part) for part in sys.version_info[:2]),
        platform=platform.system(),
    )


def read(directory: Path) -> Lock | None:
    """The lock of a study's directory, or None where no run has started yet."""
    path = directory / FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=Lock)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        raise Mistake(
            f"the lock can't be read ({error})",
            where=str(path),
            remedy="restore it, or start afresh with another --out",
        ) from None


def write(directory: Path, lock: Lock) -> None:
    """Put the lock into the directory, whole or not at all."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / FILE
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(lock), indent=1))
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


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
        new, study=study, protocols={**old.protocols, **new.protocols}, datasets=datasets
    )


def _differences(old: Lock, new: Lock) -> Iterator[str]:
    for name in ("turns", "max_tokens", "system", "seed"):
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


def _meaning(model: ModelSpec) -> tuple[object, ...]:
    return model.provider, model.name, model.base_url, model.params, model.reasoning


def _protocol(protocol: Protocol) -> LockedProtocol:
    return LockedProtocol(protocol.version, protocol.regime, dict(protocol.prompts))


def _dataset(loaded: Loaded, scorer: Scorer) -> LockedDataset:
    ids = tuple(item.id for item in loaded.items)
    return LockedDataset(loaded.source, loaded.digest, scorer.name, scorer.version, ids)


def _union(old: tuple[ModelSpec, ...], new: tuple[ModelSpec, ...]) -> tuple[ModelSpec, ...]:
    return tuple({model.id: model for model in (*old, *new)}.values())


def _union_of_datasets(
    old: tuple[DatasetSpec, ...], new: tuple[DatasetSpec, ...]
) -> tuple[DatasetSpec, ...]:
    return tuple({spec.name: spec for spec in (*old, *new)}.values())
