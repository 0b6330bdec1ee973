"""What is on record of a study as rows of tidy tables, for other tools: one row a sample and turn.

The rows come one by one from the ledger, so that memory does not grow with the study. Keys never
enter them, and nothing is downloaded for them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import msgspec

from deltascale import datasets
from deltascale.archive import container, identity, items
from deltascale.archive.lock import Lock
from deltascale.archive.pack import locked_items
from deltascale.archive.scrub import Scrub
from deltascale.errors import Stop
from deltascale.ledger import Ledger, Listed, Planned
from deltascale.records import COUNT, Cell, Item, ModelSpec, Reply, Turn

__all__ = [
    "Columns", "Record", "Row", "Value", "item_columns", "item_rows", "record", "turn_columns",
    "turn_rows",
]  # fmt: skip

Value: TypeAlias = str | int | float | None
Row: TypeAlias = Mapping[str, Value]
Columns: TypeAlias = Mapping[str, type[str] | type[int] | type[float]]
"""Column → what it holds; any value may be None."""

_BEFORE: Columns = {
    "model": str,
    "parameters": float,
    "parameters_source": str,
    "provider": str,
    "dataset": str,
    "protocol": str,
    "regime": str,
    "temperature": float,
    "item": str,
    "stratum": str,
    "cluster": str,
    "epoch": int,
    "turn": int,
    "outcome": str,
    "answer": str,
    "score": float,
}
_AFTER: Columns = {
    "n_calls": int,
    "tokens_in": int,
    "tokens_cached": int,
    "tokens_out": int,
    "cost_usd": float,
    "reply": str,
    "call": str,
}
_ITEM: Columns = dict.fromkeys(("dataset", "item", "stratum", "cluster", "unit", "target"), str)
_TEXTS = frozenset({"answer", "reply", "target"})
"""What models and datasets wrote."""


@dataclass(frozen=True, slots=True)
class Record:
    """A study on record, to be written in the forms of other tools; `record` makes it.

    `scrub` takes keys out of every text; `tell` prints one line.
    """

    book: Ledger
    lock: Lock
    scrub: Scrub
    cache: datasets.Cache
    tell: Callable[[str], None]

    @property
    def is_empty(self) -> bool:
        """Whether no sample is on record."""
        return not any(True for one in self.book.cells() for _ in self.book.samples(one.cell))

    def model(self, cell: Cell) -> ModelSpec | None:
        """The cell's model as the lock has it."""
        return next((one for one in self.lock.study.models if one.id == cell.model), None)

    def regime(self, cell: Cell) -> str:
        """What the cell's protocol may see between turns; empty where the lock does not say."""
        locked = self.lock.protocols.get(cell.protocol)
        return "" if locked is None else locked.regime

    def reply(self, turn: Turn) -> Reply | None:
        """The reply that was submitted at this turn, or stood; None where there is none."""
        return self.book.reply(bytes.fromhex(turn.call)) if turn.call else None

    def items(self, dataset: str) -> Mapping[str, Item]:
        """The dataset's items by id; none, and a line says so, where they can't be had here."""
        try:
            packed = _packed(self.book.path.parent, dataset)
            had = packed or locked_items(dataset, self.lock, self.cache)
            return {item.id: item for item in had}
        except Stop as stop:
            spec = next(one for one in self.lock.study.datasets if one.name == dataset)
            mend = f"run `deltascale datasets prepare {dataset}`, then export again"
            if spec.file or "path" in spec.options:
                mend = "bring its files back, then export again"
            self.tell(f"{dataset}: targets are left empty, for its items can't be had here "
                      f"({stop.what}); {mend}")  # fmt: skip
            return {}


def record(
    directory: Path,
    book: Ledger,
    lock: Lock,
    *,
    cache: datasets.Cache,
    environ: Mapping[str, str],
    tell: Callable[[str], None],
) -> Record:
    """The study in a directory, its ledger open. Of its datasets, what the cache holds is used."""
    scrub = Scrub(secrets=identity.secrets(directory, environ), names={}, anonymous=False)
    return Record(book, lock, scrub, dataclasses.replace(cache, offline=True), tell)


def turn_columns(book: Ledger, *, text: bool = True) -> Columns:
    """The columns of `turn_rows`; `other_NAME` and `count_NAME` are those that are on record.

    `text` False leaves out answers and replies.
    """
    names = {
        name for one in book.cells() for _, _, turn in book.turns(one.cell) for name in turn.others
    }
    ordered = sorted(names, key=lambda name: (name.startswith(COUNT), name))
    return _shown({**_BEFORE, **{_column(name): float for name in ordered}, **_AFTER}, text)


def item_columns(*, text: bool = True) -> Columns:
    """The columns of `item_rows`; `text` False leaves out targets."""
    return _shown(_ITEM, text)


def turn_rows(found: Record, columns: Columns) -> Iterator[Row]:
    """One row a sample and turn, cell by cell, by item id and epoch; of `columns`, what there is.

    A sample that was not asked yet has no row. Tokens and dollars are those of the turn alone, as
    deployed: every call since the turn before, shared or not. A turn that asked nothing repeats the
    answer that stands, at no cost.
    """
    dataset = ""
    listed: Mapping[str, Listed] = {}
    for planned in found.book.cells():
        if planned.cell.dataset != dataset:  # the cells of a dataset come one after the other
            dataset = planned.cell.dataset
            listed = {item.id: item for item in found.book.items(dataset)}
        for row in _cell_rows(found, planned, listed, with_reply="reply" in columns):
            yield {name: _clean(found, row.get(name)) for name in columns}


def _cell_rows(
    found: Record, planned: Planned, listed: Mapping[str, Listed], *, with_reply: bool
) -> Iterator[Row]:
    cell, model = planned.cell, found.model(planned.cell)
    factors: dict[str, Value] = {
        "model": cell.model,
        "parameters": None if model is None else model.size.parameters,
        "parameters_source": "unknown" if model is None else model.size.source,
        "provider": None if model is None else model.provider,
        "dataset": cell.dataset,
        "protocol": cell.protocol,
        "regime": found.regime(cell),
        "temperature": cell.temperature,
    }
    for name, epoch, turns in found.book.samples(cell):
        # A run that goes on may have listed it since.
        item = listed.get(name, Listed(name, name, "", "", 0.0))
        factors |= {"item": name, "stratum": item.stratum, "cluster": item.cluster, "epoch": epoch}
        for turn in turns:
            reply = found.reply(turn) if with_reply else None
            yield {**factors, **_of_turn(turn), "reply": None if reply is None else reply.text}


def _of_turn(turn: Turn) -> dict[str, Value]:
    return {
        "turn": turn.turn,
        "outcome": turn.outcome,
        "answer": turn.answer,
        "score": turn.score,
        **{_column(name): value for name, value in turn.others.items()},
        "n_calls": turn.n_calls,
        "tokens_in": turn.input_tokens,
        "tokens_cached": turn.cached_input_tokens,
        "tokens_out": turn.output_tokens,
        "cost_usd": turn.cost_nusd / 1e9,
        "call": turn.call,
    }


def item_rows(found: Record, columns: Columns) -> Iterator[Row]:
    """One row an item, dataset by dataset, in subset order. Items that are scored as one share
    their `unit`. A target that can't be had here is empty."""
    for dataset in sorted({one.cell.dataset for one in found.book.cells()}):
        had = found.items(dataset) if "target" in columns else {}
        for listed in found.book.items(dataset):
            row = {
                "dataset": dataset,
                "item": listed.id,
                "stratum": listed.stratum,
                "cluster": listed.cluster,
                "unit": listed.unit,
                "target": had[listed.id].target if listed.id in had else None,
            }
            yield {name: _clean(found, row[name]) for name in columns}


def _packed(directory: Path, dataset: str) -> tuple[Item, ...]:
    """The items that lie in the directory, where it is an unpacked pack; none where it is not."""
    try:
        written = (directory / container.MANIFEST).read_bytes()
        manifest = msgspec.json.decode(written, type=container.Manifest)
        path = directory / "items" / Path(manifest.items[dataset]).name
        return tuple(items.unpacked(one) for one in items.read(path))
    except (OSError, msgspec.MsgspecError, KeyError):
        return ()


def _column(name: str) -> str:
    if name.startswith(COUNT):
        return f"count_{name.removeprefix(COUNT)}"
    return f"other_{name}"


def _shown(columns: Columns, text: bool) -> Columns:
    return {name: kind for name, kind in columns.items() if text or name not in _TEXTS}


def _clean(found: Record, value: Value) -> Value:
    return found.scrub.text(value) if isinstance(value, str) else value
