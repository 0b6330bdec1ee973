"""From plan to ledger: workers that lead conversations, one group per model.

Each model has its own provider, pace and workers, so that a slow or broken one holds up nobody.
Workers draw from the plan's iterator: memory does not grow with the plan. The engine never asks
whether a call is new; the record in front of the provider answers what is already paid for.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from functools import partial

import msgspec

from deltascale import providers
from deltascale.conversation import Judge, Setting, ToolRunner, converse
from deltascale.errors import BudgetReached, Interrupted
from deltascale.ledger import Ledger
from deltascale.plan import Plan, params
from deltascale.providers import Caller, CallFailed
from deltascale.providers.pace import pace
from deltascale.providers.policies import (
    Budget,
    cost_nusd,
    journalled,
    recorded,
    retry,
    timeout,
    within,
    worst_case_nusd,
)
from deltascale.records import (
    FATAL,
    MISSING,
    Cell,
    Message,
    ModelSpec,
    Price,
    Reply,
    Request,
    Sample,
    Score,
    Scorer,
    Turn,
    UseTool,
    digest,
)

__all__ = ["Progress", "Watch", "price_of", "run", "template", "tool_identity", "verdict_identity"]

RETRIES = 6
"""Attempts at one call before its sample is given up for this run."""

WORKERS_PER_CONNECTION = 2
"""The pace alone decides how many calls are in flight; while one worker waits for its reply to
reach the disk, another uses the connection."""

Sleep = Callable[[float], Awaitable[None]]
Connect = Callable[[ModelSpec], AbstractAsyncContextManager[Caller]]


@dataclass(slots=True)
class Progress:
    """How far a run is: written by the engine, read by whoever shows it.

    `done` and `missing` count samples by (model, dataset); `n_calls` counts replies that were
    bought in this run, `n_replayed` those that were on record. `stopped` says, in one line, why a
    model was given up.
    """

    total: dict[tuple[str, str], int] = field(default_factory=dict)
    done: dict[tuple[str, str], int] = field(default_factory=dict)
    missing: dict[tuple[str, str], int] = field(default_factory=dict)
    n_calls: int = 0
    n_replayed: int = 0
    n_failed_attempts: int = 0
    in_flight: int = 0
    spent_nusd: int = 0
    stopped: dict[str, str] = field(default_factory=dict)
    budget_reached: bool = False
    interrupted: bool = False


Watch = Callable[[Progress], Coroutine[None, None, None]]
"""Shows the progress of a run until it is cancelled."""


async def run(
    plan: Plan,
    ledger: Ledger,
    *,
    environ: Mapping[str, str],
    stop: asyncio.Event,
    progress: Progress,
    connect: Connect | None = None,
    tools: Mapping[str, ToolRunner] | None = None,
    sleep: Sleep | None = None,
    clock: Callable[[], float] | None = None,
    seed: int | None = None,
) -> None:
    """Have every conversation of the plan that is not on record yet.

    Setting `stop` ends it cleanly: calls in flight are finished and kept, no new ones begin.
    Cancelling ends it at once. `sleep` and `clock` are time, in seconds (None: real time, cut
    short by `stop`), and `seed` fixes the jitter of waits. The outcome is in `progress`; what a
    call brought, reply or failure, is in the ledger.
    """
    for loaded in plan.loaded:
        ledger.keep_items(loaded.spec.name, loaded.items)
    n_items = {loaded.spec.name: len(loaded.items) for loaded in plan.loaded}
    for cell in plan.cells():
        ledger.keep_cell(
            cell,
            n_items=n_items[cell.dataset],
            n_epochs=plan.study.epochs,
            n_turns=plan.study.turns,
        )
    _count(plan, progress)
    progress.spent_nusd = ledger.spent().spent_nusd
    budget = Budget(plan.study.budget_nusd, progress.spent_nusd)
    joined = connect or partial(providers.connect, environ=environ)
    async with asyncio.TaskGroup() as group:
        for model in plan.study.models:
            lane = _Lane(
                plan, ledger, model, budget, stop, progress, tools or {}, sleep, clock, seed
            )
            group.create_task(lane.run(joined), name=model.id)


def template(plan: Plan, cell: Cell, model: ModelSpec) -> Request:
    """The request of a cell's calls, without the conversation."""
    system = plan.study.system
    return Request(
        model.name,
        providers.endpoint(model),
        params(plan.study, model, cell.temperature),
        (Message("system", system),) if system else (),
    )


def price_of(price: Price) -> Callable[[Request, Reply], int]:
    """What a reply cost; its worst case where the server counted no tokens."""

    def nusd(request: Request, reply: Reply) -> int:
        if reply.usage is None:
            return worst_case_nusd(price, request)
        return cost_nusd(price, reply.usage)

    return nusd


def tool_identity(sample: Sample, uses: tuple[UseTool, ...]) -> tuple[object, ...]:
    """What an observation is kept under: the item and the uses that led to it."""
    steps = [(one.name, one.arguments) for one in uses]
    return sample.cell.dataset, sample.item.id, steps


def verdict_identity(scorer: Scorer, sample: Sample, answer: str, text: str) -> tuple[object, ...]:
    """What the verdict of a program's run is kept under: two datasets may use one id."""
    return scorer.name, scorer.version, sample.cell.dataset, sample.item.id, answer, text


def _count(plan: Plan, progress: Progress) -> None:
    arms = len(plan.study.protocols) * len(plan.study.temperatures)
    for model in plan.study.models:
        for dataset, n_samples in plan.n_samples_per_cell().items():
            lane = (model.id, dataset)
            progress.total[lane] = n_samples * arms
            progress.done[lane] = progress.missing[lane] = 0


@dataclass(slots=True)
class _Lane:
    """One model's part of a run."""

    plan: Plan
    ledger: Ledger
    model: ModelSpec
    budget: Budget
    stop: asyncio.Event
    progress: Progress
    tools: Mapping[str, ToolRunner]
    sleep: Sleep | None
    clock: Callable[[], float] | None
    seed: int | None
    closed: bool = False
    settings: dict[str, Setting] = field(default_factory=dict)

    async def run(self, connect: Connect) -> None:
        async with connect(self.model) as provider:
            caller = self._with_policies(provider)
            samples = self.plan.samples(self.model)
            limits = self.model.limits
            n_workers = min(WORKERS_PER_CONNECTION * limits.connections, self.plan.n_samples)
            async with asyncio.TaskGroup() as group:
                for _ in range(n_workers):
                    group.create_task(self._work(samples, caller))

    async def _work(self, samples: Iterator[Sample], caller: Caller) -> None:
        for sample in samples:
            if self.closed or self.stop.is_set():
                return
            try:
                turns = await converse(sample, self._setting(sample.cell), caller)
            except Interrupted:
                return
            self._keep(sample, turns)

    def _keep(self, sample: Sample, turns: tuple[Turn, ...]) -> None:
        self.ledger.keep_sample(sample, turns)
        lane = (self.model.id, sample.cell.dataset)
        self.progress.done[lane] += 1
        if turns[-1].outcome in MISSING:
            self.progress.missing[lane] += 1

    def _setting(self, cell: Cell) -> Setting:
        if cell.id not in self.settings:
            self.settings[cell.id] = Setting(
                self.plan.protocols[cell.protocol],
                self.plan.scorers[cell.dataset],
                self.plan.study.turns,
                template(self.plan, cell, self.model),
                price_of(self.model.price),
                self._recorded_tool(self.tools.get(cell.dataset, _no_tool)),
                self._recorded_judge(self.plan.scorers[cell.dataset]),
            )
        return self.settings[cell.id]

    def _recorded_tool(self, runner: ToolRunner) -> ToolRunner:
        """A tool's observation is kept like a reply: a replay needs neither tool nor corpus."""

        async def use(sample: Sample, uses: tuple[UseTool, ...]) -> str:
            key = digest(tool_identity(sample, uses))
            observed = self.ledger.observation(key)
            if observed is None:
                observed = await runner(sample, uses)
                last = uses[-1]
                await self.ledger.keep_observation(key, last.name, last.arguments, observed)
            return observed

        return use

    def _recorded_judge(self, scorer: Scorer) -> Judge:
        """A verdict that a program's run gave is kept: running it again might give another."""

        async def judge(sample: Sample, answer: str, text: str) -> Score:
            key = digest(verdict_identity(scorer, sample, answer, text))
            kept = self.ledger.observation(key)
            if kept is not None:
                return msgspec.json.decode(kept, type=Score)
            score = await asyncio.to_thread(scorer.judge, sample.item, answer, text)
            await self.ledger.keep_observation(
                key, scorer.name, sample.item.id, msgspec.json.encode(score).decode()
            )
            return score

        return judge

    def _with_policies(self, provider: Caller) -> Caller:
        clock = self.clock or asyncio.get_running_loop().time
        rng = random.Random(self.seed)
        limits = self.model.limits
        asked = timeout(self._counted(provider), seconds=limits.timeout_s)
        sleep = self.sleep or self._sleep
        paced = pace(asked, limits=limits, clock=clock, sleep=sleep)
        # Outside the pace: while one call waits for its note to reach the disk, another is asked.
        noted = journalled(paced, price=self.model.price, journal=self.ledger)
        paid = within(noted, budget=self.budget, price=self.model.price)
        tried = retry(
            self._gated(paid),
            attempts=RETRIES,
            sleep=sleep,
            rng=rng,
            on_failure=self._on_failure,
        )
        return recorded(self._guarded(tried), lookup=self._lookup, store=self._store)

    def _counted(self, provider: Caller) -> Caller:
        async def counted(request: Request) -> Reply:
            if self.stop.is_set():
                raise Interrupted("stopped")
            self.progress.in_flight += 1
            try:
                return await provider(request)
            finally:
                self.progress.in_flight -= 1

        return counted

    def _gated(self, caller: Caller) -> Caller:
        """No call begins once the run is stopped or the model is given up."""

        async def gated(request: Request) -> Reply:
            if self.closed or self.stop.is_set():
                raise Interrupted("stopped")
            return await caller(request)

        return gated

    def _guarded(self, caller: Caller) -> Caller:
        """A budget that is reached, or a failure that no call survives, closes the lane."""

        async def guarded(request: Request) -> Reply:
            try:
                return await caller(request)
            except BudgetReached as reached:
                self.closed = True
                self.progress.budget_reached = True
                self.progress.stopped.setdefault(self.model.id, str(reached))
                raise
            except CallFailed as failed:
                if failed.failure.kind in FATAL:
                    self.closed = True
                    self.progress.stopped.setdefault(self.model.id, _advice(self.model, failed))
                raise

        return guarded

    async def _sleep(self, seconds: float) -> None:
        """Sleep, but not past a stop: whoever waits to ask again has nothing to finish."""
        try:
            await asyncio.wait_for(self.stop.wait(), seconds)
        except TimeoutError:
            return
        raise Interrupted("stopped")

    def _lookup(self, key: bytes) -> Reply | None:
        reply = self.ledger.reply(key)
        if reply is not None:
            self.progress.n_replayed += 1
        return reply

    async def _store(self, key: bytes, request: Request, reply: Reply) -> None:
        cost = price_of(self.model.price)(request, reply)
        await self.ledger.keep_reply(key, request, reply, cost)
        self.progress.n_calls += 1
        self.progress.spent_nusd = self.budget.spent_nusd

    async def _on_failure(self, request: Request, failed: CallFailed) -> None:
        self.progress.n_failed_attempts += 1
        await self.ledger.keep_failure(request.key, request, failed.failure, failed.cost_nusd)
        self.progress.spent_nusd = self.budget.spent_nusd


_ADVICE = {
    "bad_key": "check the key's value and rights, then run again",
    "unknown_model": "check the model's id and that the key may use it, then run again",
    "no_credit": "add credit with the provider, then run again",
}


def _advice(model: ModelSpec, failed: CallFailed) -> str:
    kind = failed.failure.kind
    return (
        f"{model.id}: {kind.replace('_', ' ')}: {failed.failure.message}; "
        f"its cells are stopped: {_ADVICE[kind]}"
    )


async def _no_tool(sample: Sample, uses: tuple[UseTool, ...]) -> str:
    raise RuntimeError(f"{sample.cell.dataset} offers no tools, but {uses[-1].name} was used")
