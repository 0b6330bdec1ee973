"""What differs between two studies, by their locks and by what is on record."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from deltascale import ledger
from deltascale.archive import lock as locks
from deltascale.archive.lock import Lock
from deltascale.errors import Mistake

__all__ = ["Difference", "differences", "short"]

_SHOWN = 60


class Difference(msgspec.Struct, frozen=True):
    """One thing that is not the same: its path, and its value in each; empty: not there."""

    path: str
    first: str
    second: str


def differences(first: Path, second: Path) -> tuple[Difference, ...]:
    """Everything in which two studies differ, in the order of the lock, then what is on record.

    Raises Mistake where one of them is no study.
    """
    before, after = _facts(first), _facts(second)
    return tuple(
        Difference(path, before.get(path, ""), after.get(path, ""))
        for path in dict.fromkeys((*before, *after))
        if before.get(path) != after.get(path)
    )


def _facts(directory: Path) -> dict[str, str]:
    lock = locks.read(directory)
    if lock is None:
        raise Mistake("there is no study here", where=str(directory), remedy="name its directory")
    facts = dict(_flat("", _plain(lock)))
    path = directory / "ledger.db"
    if path.exists():
        with ledger.read(path) as book:
            status = book.status()
        for planned, outcomes in status.by_cell:
            cell = planned.cell
            name = f"ledger.{cell.model}.{cell.dataset}.{cell.protocol}.{cell.temperature:g}"
            facts[f"{name}.planned"] = str(planned.n_samples)
            for outcome, count in sorted(outcomes.items()):
                facts[f"{name}.{outcome}"] = str(count)
        for asked, version in status.served:
            facts[f"ledger.served.{asked}.{version}"] = "yes"
        facts["ledger.calls"] = str(status.spent.n_calls)
        facts["ledger.spent_usd"] = f"{status.spent.spent_nusd / 1e9:g}"
    return facts


def _plain(lock: Lock) -> Mapping[str, object]:
    """The lock as mappings whose keys are names and not places in a list."""
    study = _fields(lock.study)
    study["models"] = {model.id: model for model in lock.study.models}
    study["datasets"] = {spec.name: spec for spec in lock.study.datasets}
    plain = _fields(lock) | {"study": study}
    plain["datasets"] = {
        name: _fields(dataset)
        | {
            "n_items": len(dataset.ids),
            "ids": locks.digest_of(dataset.ids),
            "contents": locks.digest_of(dataset.contents),
        }
        for name, dataset in lock.datasets.items()
    }
    plain["environments"] = {str(n): one for n, one in enumerate(lock.environments)}
    del plain["served"]  # the ledger says it, and more
    return plain


def _fields(value: msgspec.Struct) -> dict[str, object]:
    """Every field, also those that are as they are when nothing is said."""
    return {name: getattr(value, name) for name in value.__struct_fields__}


def _flat(path: str, value: object) -> Iterator[tuple[str, str]]:
    if isinstance(value, msgspec.Struct):
        value = _fields(value)
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(f"{path}.{key}" if path else str(key), inner)
    elif isinstance(value, list | tuple):
        yield path, ", ".join(map(str, value))
    else:
        yield path, "" if value is None else str(value)


def short(text: str) -> str:
    """The value on one line of a table."""
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN else f"{line[: _SHOWN - 1]}…"
