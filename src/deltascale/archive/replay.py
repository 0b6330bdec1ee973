"""Every sample had again from the record alone: the real protocols and scorers, and no model.

A call is found under the key of the request that the protocol makes, so a replay that finds all its
calls has made every prompt anew; turns that come out the same prove that the scores follow from the
replies. It opens no socket and needs no benchmark, weights or keys.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import msgspec

from deltascale import protocols as known_protocols
from deltascale import providers, scorers
from deltascale.archive.lock import Lock
from deltascale.conversation import Setting, converse
from deltascale.engine import price_of, tool_identity, verdict_identity
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

__all__ = ["OTHER_VERSION", "TOLERANCE", "Replay", "replay"]

TOLERANCE = 1e-9
"""Scores may differ by so much: the last bits of a float are not the same on every machine."""

OTHER_VERSION = " has another version or other prompts here"
"""Ends the reasons that another deltascale would not have."""

OnKey = Callable[[str, bytes, object], None]

_SHOWN = 20


@dataclass(slots=True)
class Replay:
    """What came of it. `wrong` has a line for each sample that came out otherwise, the first 20;
    `n_wrong` counts them. `unproved` says, by reason, how many samples could not be had again.

    Programs' verdicts are taken from the record, `n_verdicts` in all; `n_ran` programs were run
    again beside it, and `other_verdicts` names the first 20 of the `n_other` that came out
    otherwise. `no_programs` says why none could be run.
    """

    n_samples: int = 0
    n_turns: int = 0
    n_calls: int = 0
    n_failed: int = 0
    n_verdicts: int = 0
    n_ran: int = 0
    n_other: int = 0
    other_verdicts: list[str] = field(default_factory=list)
    no_programs: str = ""
    n_wrong: int = 0
    wrong: list[str] = field(default_factory=list)
    unproved: dict[str, int] = field(default_factory=dict)


def replay(
    lock: Lock,
    book: Ledger,
    items: Callable[[str], Mapping[str, Item] | str],
    *,
    on_key: OnKey = lambda dataset, key, what: None,
    programs: bool = True,
) -> Replay:
    """Have every sample of the ledger again and compare its turns with those on record.

    `items(dataset)` are its items by id, or why they can't be had. `on_key(dataset, key, what)` is
    told of everything that is looked up in the record: a call, a use of a tool, a verdict. `what`
    is that of which the key is the digest. `programs`: run again what gave verdicts.
    """
    found = Replay()
    failures: dict[bytes, list[Failure]] = {}
    for key, failure in book.failed_calls():
        failures.setdefault(key, []).append(failure)
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
                stage = _Stage(lock, book, failures, found, model, planned, on_key, programs)
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
        return f"the protocol {cell.protocol}{OTHER_VERSION}"
    if scorer.version != dataset.scorer_version:
        return f"the scorer {scorer.name}{OTHER_VERSION}"
    return model, protocol, scorer


@dataclass(slots=True)
class _Stage:
    """One cell's replay. `recorded` are the turns of the sample under way."""

    lock: Lock
    book: Ledger
    failures: Mapping[bytes, Sequence[Failure]]
    found: Replay
    model: ModelSpec
    planned: Planned
    on_key: OnKey
    programs: bool
    recorded: tuple[Turn, ...] = ()
    absent: str = ""

    async def cell(self, protocol: Protocol, scorer: Scorer, items: Mapping[str, Item]) -> None:
        cell = self.planned.cell
        setting = Setting(
            protocol,
            scorer,
            self.planned.n_turns,
            self._template(cell),
            price_of(self.model.price),
            self._use_tool,
            partial(self._judge, scorer),
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
            # A call that is not on record is a lie too where the sample is said to have failed.
            line = self.absent or next(_differences(turns, again), "")
            if line:
                self._differs(f"{where}: {line}")

    def _template(self, cell: Cell) -> Request:
        study = self.lock.study
        endpoint = self.lock.endpoints.get(self.model.id) or providers.endpoint(self.model)
        system = (Message("system", study.system),) if study.system else ()
        sent = params(study, self.model, cell.temperature)
        return Request(self.model.name, endpoint, sent, system)

    async def _reply(self, request: Request) -> Reply:
        key = request.key
        self.found.n_calls += 1
        self.on_key(self.planned.cell.dataset, key, request)
        reply = self.book.reply(key)
        if reply is not None:
            return reply
        ended = {turn.outcome for turn in self.recorded}
        # Before its failures: it may have failed, or been lost with its run, when there was money.
        if "budget" in ended:
            raise BudgetReached("the budget was used up")
        if key in self.failures:
            # Of several attempts, in several runs, the last that ends the sample as it ended.
            told = self.failures[key]
            raise CallFailed(next((one for one in reversed(told) if _ends(one) in ended), told[-1]))
        self.absent = "it needs a call that is not on record"
        raise CallFailed(Failure("transient", self.absent))

    async def _use_tool(self, sample: Sample, uses: tuple[UseTool, ...]) -> str:
        observed = self._observed(
            tool_identity(sample, uses), f"what the tool {uses[-1].name} gave"
        )
        if observed is None:
            raise CallFailed(Failure("transient", self.absent))
        return observed

    async def _judge(self, scorer: Scorer, sample: Sample, answer: str, text: str) -> Score:
        """The verdict on record; where programs can be run here, it is also had again."""
        kept = self._observed(verdict_identity(scorer, sample, answer, text), "a verdict")
        if kept is None:
            raise CallFailed(Failure("transient", self.absent))
        score = msgspec.json.decode(kept, type=Score)
        self.found.n_verdicts += 1
        if not self.programs or self.found.no_programs:
            return score
        try:
            again = await asyncio.to_thread(scorer.judge, sample.item, answer, text)
        except MissingExtra as missing:
            self.found.no_programs = missing.what
            return score
        self.found.n_ran += 1
        if not _same(again.value, score.value):
            self.found.n_other += 1
            if len(self.found.other_verdicts) < _SHOWN:
                self.found.other_verdicts.append(
                    f"{sample.cell.dataset}, item {sample.item.id}: {score.value:g} on record, "
                    f"{again.value:g} when run again"
                )
        return score

    def _observed(self, what: tuple[object, ...], called: str) -> str | None:
        key = digest(what)
        self.on_key(self.planned.cell.dataset, key, what)
        kept = self.book.observation(key)
        if kept is None:
            self.absent = f"it needs {called}, which is not on record"
        return kept

    def _differs(self, line: str) -> None:
        self.found.n_wrong += 1
        if len(self.found.wrong) < _SHOWN:
            self.found.wrong.append(line)


def _ends(failure: Failure) -> str:
    """The outcome of a turn whose call failed so."""
    return failure.kind if failure.kind in ("filtered", "refused") else "failed"


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
