"""Every sample had again from the record alone: the real protocols and scorers, and no model.

A call is found under the key of the request that the protocol makes, so a replay that finds all its
calls has made every prompt anew; turns that come out the same prove that the scores follow from the
replies. It opens no socket and needs no benchmark, weights or keys.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from dataclasses import replace as changed

from deltascale import providers, scorers
from deltascale import protocols as known_protocols
from deltascale.archive.lock import Lock
from deltascale.conversation import Setting, converse
from deltascale.engine import price_of
from deltascale.errors import BudgetReached, MissingExtra, Mistake
from deltascale.ledger import Ledger, Planned
from deltascale.plan import params
from deltascale.providers import CallFailed
from deltascale.records import (
    Cell,
    Failure,
    Item,
    Message,
    ModelSpec,
    Protocol,
    Reply,
    Request,
    Sample,
    Score,
    Scorer,
    Turn,
    UseTool,
    digest,
)

__all__ = ["TOLERANCE", "Replay", "replay"]

TOLERANCE = 1e-9
"""Scores may differ by so much: the last bits of a float are not the same on every machine."""

_SHOWN = 20


@dataclass(slots=True)
class Replay:
    """What came of it. `wrong` has a line for each sample that came out otherwise, the first 20;
    `n_wrong` counts them. `unproved` says, by reason, how many samples could not be had again."""

    n_samples: int = 0
    n_turns: int = 0
    n_calls: int = 0
    n_failed: int = 0
    n_judged_again: int = 0
    n_judged_from_record: int = 0
    n_wrong: int = 0
    wrong: list[str] = field(default_factory=list)
    unproved: dict[str, int] = field(default_factory=dict)


def replay(
    lock: Lock,
    book: Ledger,
    items: Callable[[str], Mapping[str, Item] | str],
    *,
    on_call: Callable[[str, bytes, Request], None] = lambda dataset, key, request: None,
    on_use: Callable[[bytes, str, tuple[UseTool, ...]], None] = lambda key, dataset, uses: None,
) -> Replay:
    """Have every sample of the ledger again and compare its turns with those on record.

    `items(dataset)` are its items by id, or why they can't be had. `on_call(dataset, key, request)`
    is told of every call that a sample needs, `on_use` of every use of a tool.
    """
    found = Replay()
    failures = dict(book.failed_calls())
    by_dataset: dict[str, list[Planned]] = {}
    for planned in book.cells():
        by_dataset.setdefault(planned.cell.dataset, []).append(planned)
    with asyncio.Runner() as runner:
        for dataset, cells in by_dataset.items():
            there = items(dataset)
            for planned in cells:
                ready = there if isinstance(there, str) else _prepared(lock, planned)
                if isinstance(ready, str) or isinstance(there, str):
                    n_samples = sum(1 for _ in book.samples(planned.cell))
                    if n_samples:
                        reason = str(ready)
                        found.unproved[reason] = found.unproved.get(reason, 0) + n_samples
                    continue
                model, protocol, scorer = ready
                stage = _Stage(lock, book, failures, found, model, planned, on_call, on_use)
                runner.run(stage.cell(protocol, scorer, there))
    return found


def _prepared(lock: Lock, planned: Planned) -> tuple[ModelSpec, Protocol, Scorer] | str:
    """What the samples of a cell were had with, or why it is not here."""
    cell = planned.cell
    model = next((one for one in lock.study.models if one.id == cell.model), None)
    locked, dataset = lock.protocols.get(cell.protocol), lock.datasets.get(cell.dataset)
    if model is None or locked is None or dataset is None:
        return f"the lock does not know {cell.model}, {cell.protocol} or {cell.dataset}"
    for name in (cell.protocol, dataset.scorer):
        if ":" in name:
            # Importing what a stranger's file names would be running what a stranger chose.
            return f"{name} is not part of deltascale or of a plugin that is installed"
    try:
        protocol, scorer = known_protocols.find(cell.protocol), scorers.find(dataset.scorer)
    except Mistake as mistake:
        return f"{mistake.what}: it is not part of deltascale or of a plugin that is installed"
    if (protocol.version, protocol.regime) != (locked.version, locked.regime) or (
        dict(protocol.prompts) != locked.prompts
    ):
        return f"the protocol {cell.protocol} has another version here"
    if scorer.version != dataset.scorer_version:
        return f"the scorer {scorer.name} has another version here"
    return model, protocol, scorer


@dataclass(slots=True)
class _Stage:
    """One cell's replay. `recorded` are the turns of the sample under way."""

    lock: Lock
    book: Ledger
    failures: Mapping[bytes, Failure]
    found: Replay
    model: ModelSpec
    planned: Planned
    on_call: Callable[[str, bytes, Request], None]
    on_use: Callable[[bytes, str, tuple[UseTool, ...]], None]
    recorded: tuple[Turn, ...] = ()
    absent: str = ""

    async def cell(self, protocol: Protocol, scorer: Scorer, items: Mapping[str, Item]) -> None:
        cell = self.planned.cell
        setting = Setting(
            protocol,
            self._judging(scorer),
            self.planned.n_turns,
            self._template(cell),
            price_of(self.model.price),
            self._use_tool,
        )
        for identity, epoch, turns in self.book.samples(cell):
            where = f"{cell.model}, {cell.dataset}, {cell.protocol}, item {identity}, epoch {epoch}"
            item = items.get(identity)
            if item is None:
                self._differs(f"{where}: the item is not among the packed items")
                continue
            self.recorded, self.absent = turns, ""
            again = await converse(Sample(cell, item, epoch), setting, self._reply)
            self.found.n_samples += 1
            self.found.n_turns += len(turns)
            self.found.n_failed += any(turn.score is None for turn in turns)
            for line in _differences(turns, again):
                self._differs(f"{where}: {self.absent or line}")
                break

    def _template(self, cell: Cell) -> Request:
        study = self.lock.study
        endpoint = self.lock.endpoints.get(self.model.id) or providers.endpoint(self.model)
        system = (Message("system", study.system),) if study.system else ()
        sent = params(study, self.model, cell.temperature)
        return Request(self.model.name, endpoint, sent, system)

    async def _reply(self, request: Request) -> Reply:
        key = digest(request)
        self.found.n_calls += 1
        self.on_call(self.planned.cell.dataset, key, request)
        reply = self.book.reply(key)
        if reply is not None:
            return reply
        if key in self.failures:
            raise CallFailed(self.failures[key])
        if any(turn.outcome == "budget" for turn in self.recorded):
            raise BudgetReached("the budget was used up")
        self.absent = "it needs a call that is not on record"
        raise CallFailed(Failure("transient", self.absent))

    async def _use_tool(self, sample: Sample, uses: tuple[UseTool, ...]) -> str:
        dataset = sample.cell.dataset
        key = digest((dataset, [(one.name, one.arguments) for one in uses]))
        self.on_use(key, dataset, uses)
        observed = self.book.observation(key)
        if observed is None:
            self.absent = f"it needs what the tool {uses[-1].name} gave, which is not on record"
            raise CallFailed(Failure("transient", self.absent))
        return observed

    def _judging(self, scorer: Scorer) -> Scorer:
        """The scorer; where it must run a program and can't here, the score on record."""
        if not scorer.blocking:
            return scorer

        def judge(item: Item, answer: str, text: str) -> Score:
            try:
                score = scorer.judge(item, answer, text)
            except MissingExtra:
                self.found.n_judged_from_record += 1
                for turn in self.recorded:
                    if turn.answer == answer and turn.score is not None:
                        return Score(turn.score, turn.others)
                return Score(0.0)
            self.found.n_judged_again += 1
            return score

        return changed(scorer, judge=judge)

    def _differs(self, line: str) -> None:
        self.found.n_wrong += 1
        if len(self.found.wrong) < _SHOWN:
            self.found.wrong.append(line)


def _differences(recorded: tuple[Turn, ...], again: tuple[Turn, ...]) -> Iterator[str]:
    if len(recorded) != len(again):
        yield f"{len(recorded)} turns on record, {len(again)} on replay"
    for before, after in zip(recorded, again, strict=False):
        for name in Turn.__struct_fields__:
            was, is_now = getattr(before, name), getattr(after, name)
            if not _same(was, is_now):
                yield f"turn {before.turn}: {name} is {was!r} on record and {is_now!r} on replay"


def _same(one: object, other: object) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    return one == other
