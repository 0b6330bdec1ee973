"""What a study will cost: the real conversations, led against a model that is only pretended.

The same protocols and prompts run as in the study, so shared calls are counted once and what the
ledger already holds is free. Only the length of the replies is assumed, and where an attempt takes
several calls, how many: see `SCENARIOS`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from deltascale.conversation import Setting, converse
from deltascale.datasets import Loaded, Typical
from deltascale.engine import template
from deltascale.ledger import Ledger
from deltascale.plan import Plan
from deltascale.providers.policies import cost_nusd, input_tokens_upper_bound
from deltascale.records import (
    Cell,
    ModelSpec,
    Reply,
    Request,
    Sample,
    Score,
    Usage,
    UseTool,
)

__all__ = ["SCENARIOS", "Forecast", "forecast", "hours"]

SCENARIOS = ("low", "expected", "worst")
"""low: replies of half the typical length. expected: replies of the typical length, which is the
mean on record where there is one, else the dataset's own figure. In both an attempt with tools goes
as the dataset says that a usual one goes. worst: every reply is as long as allowed, an attempt
takes all its steps with one long observation each, and every byte of a prompt is a token; only
calls lost on the wire, or many tools asked for in one reply, could pass it."""

N_PROBES = 100
"""Items per dataset that are led through; larger datasets are scaled up from these."""

_REASONING_FACTOR = 4
"""A reasoning model is taken to write this many times the tokens of the visible answer."""

_BYTES_PER_TOKEN = 4
_OBSERVATION_BYTES = (130, 12_000)
"""What a tool tells: usually, and at most."""

_FIRST_TOKEN_S = 0.6
_TOKENS_PER_S = 60.0


@dataclass(frozen=True, slots=True)
class Forecast:
    """What one cell still needs, in each scenario of `SCENARIOS`.

    A call that an earlier cell of the same model also makes is counted there, whether it is still
    to be made or need not be (`n_on_record`) because the ledger has it.
    """

    cell: Cell
    n_samples: int
    n_calls: int
    n_on_record: int
    input_tokens: tuple[int, int, int]
    output_tokens: tuple[int, int, int]
    usd: tuple[float, float, float]


@dataclass(slots=True)
class _Count:
    n_calls: int = 0
    n_on_record: int = 0
    input_tokens: int = 0
    output_tokens: int = 0


_Counts = Mapping[Cell, tuple[_Count, _Count, _Count]]


def forecast(
    plan: Plan, ledger: Ledger | None = None, *, n_probes: int = N_PROBES
) -> tuple[Forecast, ...]:
    """Every cell's calls, tokens and dollars; nothing is asked and nothing is written."""
    return tuple(asyncio.run(_forecast(plan, ledger, n_probes)))


def hours(forecasts: Sequence[Forecast], models: Sequence[ModelSpec]) -> Mapping[str, float]:
    """Expected hours of each model, by its id; models run side by side.

    Assumes 0.6 s to the first token and 60 tokens a second on each connection, and the model's own
    limits on requests and tokens a minute. A simulated model takes none.
    """
    found: dict[str, float] = {}
    for model in models:
        own = [one for one in forecasts if one.cell.model == model.id]
        n_calls = sum(one.n_calls for one in own)
        tokens_in = sum(one.input_tokens[1] for one in own)
        tokens_out = sum(one.output_tokens[1] for one in own)
        seconds = (n_calls * _FIRST_TOKEN_S + tokens_out / _TOKENS_PER_S) / model.limits.connections
        if model.limits.rpm:
            seconds = max(seconds, 60 * n_calls / model.limits.rpm)
        if model.limits.tpm:
            seconds = max(seconds, 60 * (tokens_in + tokens_out) / model.limits.tpm)
        found[model.id] = 0.0 if model.provider == "simulated" else seconds / 3600
    return found


async def _forecast(plan: Plan, ledger: Ledger | None, n_probes: int) -> list[Forecast]:
    found: list[Forecast] = []
    fresh: dict[bool, _Counts] = {}
    asked = {name for name, _ in ledger.served()} if ledger else set()
    for model in plan.study.models:
        if ledger is not None and model.name in asked:
            counts = await _counts(plan, model, ledger, n_probes)
        else:
            # Models that are not on record need the same tokens, so one of a kind is led through.
            if model.reasoning not in fresh:
                fresh[model.reasoning] = await _counts(plan, model, None, n_probes)
            counts = {
                Cell(model.id, cell.dataset, cell.protocol, cell.temperature): count
                for cell, count in fresh[model.reasoning].items()
            }
        found += [_scaled(plan, model, cell, count, n_probes) for cell, count in counts.items()]
    return found


async def _counts(plan: Plan, model: ModelSpec, ledger: Ledger | None, n_probes: int) -> _Counts:
    found: dict[Cell, list[_Count]] = {}
    for loaded in plan.loaded:
        typical = _typical_tokens(loaded, model, ledger)
        for scenario in SCENARIOS:
            pretended = _Pretended(scenario, typical, ledger, loaded.typical)
            for temperature in plan.study.temperatures:
                for protocol in plan.study.protocols:
                    cell = Cell(model.id, loaded.spec.name, protocol, temperature)
                    pretended.count = _Count()
                    await _lead(plan, model, cell, loaded, pretended, n_probes)
                    found.setdefault(cell, []).append(pretended.count)
    return {cell: (low, expected, worst) for cell, (low, expected, worst) in found.items()}


async def _lead(
    plan: Plan, model: ModelSpec, cell: Cell, loaded: Loaded, pretended: _Pretended, n_probes: int
) -> None:
    setting = Setting(
        plan.protocols[cell.protocol],
        plan.scorers[cell.dataset],
        plan.study.turns,
        template(plan, cell, model),
        lambda request, reply: 0,
        pretended.use_tool,
        _pretended_judge,
    )
    step = max(1, len(loaded.items) // n_probes)
    for item in loaded.items[::step][:n_probes]:
        for epoch in range(plan.study.epochs):
            await converse(Sample(cell, item, epoch), setting, pretended.call)


def _typical_tokens(loaded: Loaded, model: ModelSpec, ledger: Ledger | None) -> int:
    on_record = ledger and ledger.mean_output_tokens(model.id, loaded.spec.name)
    if on_record:
        return max(1, round(on_record))
    return loaded.output_tokens * (_REASONING_FACTOR if model.reasoning else 1)


def _scaled(
    plan: Plan,
    model: ModelSpec,
    cell: Cell,
    counts: tuple[_Count, _Count, _Count],
    n_probes: int,
) -> Forecast:
    n_items = next(len(one.items) for one in plan.loaded if one.spec.name == cell.dataset)
    factor = n_items / min(n_items, n_probes)
    tokens_in = [round(count.input_tokens * factor) for count in counts]
    tokens_out = [round(count.output_tokens * factor) for count in counts]
    usd = [
        cost_nusd(model.price, Usage(inputs, outputs)) / 1e9
        for inputs, outputs in zip(tokens_in, tokens_out, strict=True)
    ]
    return Forecast(
        cell=cell,
        n_samples=n_items * plan.study.epochs,
        n_calls=round(counts[1].n_calls * factor),
        n_on_record=round(counts[1].n_on_record * factor),
        input_tokens=(tokens_in[0], tokens_in[1], tokens_in[2]),
        output_tokens=(tokens_out[0], tokens_out[1], tokens_out[2]),
        usd=(usd[0], usd[1], usd[2]),
    )


class _Pretended:
    """Answers with a text of the assumed length and counts what that would need."""

    def __init__(
        self,
        scenario: str,
        typical_tokens: int,
        ledger: Ledger | None,
        usual: Typical | None = None,
    ) -> None:
        self.count = _Count()
        self._scenario = scenario
        self._typical_tokens = typical_tokens
        self._ledger = ledger
        self._usual = usual
        self._seen: set[bytes] = set()

    async def call(self, request: Request) -> Reply:
        key = request.key
        on_record = self._ledger.reply(key) if self._ledger else None
        if on_record is not None:
            self.count.n_on_record += key not in self._seen
            self._seen.add(key)
            return on_record
        limit = request.params.max_tokens
        output_tokens = {
            "low": min(limit, max(1, self._typical_tokens // 2)),
            "expected": min(limit, self._typical_tokens),
            "worst": limit,
        }[self._scenario]
        if key not in self._seen:
            self._seen.add(key)
            self.count.n_calls += 1
            self.count.input_tokens += self._input_tokens(request)
            self.count.output_tokens += output_tokens
        return self._reply(request, output_tokens)

    def _reply(self, request: Request, n_tokens: int) -> Reply:
        """Words, and after them what a usual reply does at this point of its attempt."""
        if self._usual is None:
            return Reply("word" * n_tokens, "stop")
        usual = self._usual(request, self._scenario == "worst")
        n_words = max(0, n_tokens - len(usual.text) // _BYTES_PER_TOKEN - 1)
        return replace(usual, text=f"{'word' * n_words}\n{usual.text}")

    async def use_tool(self, sample: Sample, uses: tuple[UseTool, ...]) -> str:
        length = _OBSERVATION_BYTES[self._scenario == "worst"]
        return "seen" * (length // 4)

    def _input_tokens(self, request: Request) -> int:
        bound = input_tokens_upper_bound(request)
        return bound if self._scenario == "worst" else -(-bound // _BYTES_PER_TOKEN)


async def _pretended_judge(sample: Sample, answer: str, text: str) -> Score:
    return Score(0.0)
