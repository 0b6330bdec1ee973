"""A study's cells as logs that Inspect AI reads: `inspect view`, `read_eval_log`, its data frames.

Inspect is not needed to write them. The structs hold those fields of its log format (version 2)
that a study knows; their names are Inspect's. Its sample is our item in one epoch, and it counts
epochs from 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

from deltascale.archive.export import Record
from deltascale.conversation import NO_REPLY
from deltascale.ledger import Planned
from deltascale.plan import params
from deltascale.records import (
    Cell,
    Item,
    Message,
    ModelSpec,
    Params,
    Reply,
    StopReason,
    Turn,
    Usage,
    digest,
)
from deltascale.records import ToolCall as OurToolCall

__all__ = ["EvalLog", "EvalSample", "write"]

_STOPS: Mapping[StopReason, str] = {
    "stop": "stop",
    "length": "max_tokens",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
    "filter": "content_filter",
}


class _Part(msgspec.Struct, frozen=True, omit_defaults=True):
    """A part of a log; what has its default is left out, as Inspect lets it be."""


class ToolCall(_Part, frozen=True):
    id: str
    function: str
    arguments: dict[str, object]
    parse_error: str | None = None


class ChatMessage(_Part, frozen=True):
    role: str
    content: str
    tool_calls: tuple[ToolCall, ...] | None = None
    tool_call_id: str | None = None
    function: str | None = None
    metadata: dict[str, str | int | float | None] | None = None


class ModelUsage(_Part, frozen=True):
    """`input_tokens` without the cached ones, unlike ours."""

    input_tokens: int
    output_tokens: int
    total_tokens: int
    input_tokens_cache_read: int | None = None
    total_cost: float | None = None


class Choice(_Part, frozen=True):
    message: ChatMessage
    stop_reason: str


class ModelOutput(_Part, frozen=True):
    model: str
    choices: tuple[Choice, ...]
    usage: ModelUsage | None = None
    time: float | None = None


class Score(_Part, frozen=True):
    value: float
    answer: str | None
    explanation: str | None
    metadata: dict[str, str | int | float]


class EvalError(_Part, frozen=True):
    message: str
    traceback: str
    traceback_ansi: str


class SampleMetadata(_Part, frozen=True):
    """What is on record of a sample beside its scores, in our words."""

    protocol: str
    regime: str
    epoch: int
    stratum: str
    cluster: str
    turns: tuple[Turn, ...]


class EvalSample(_Part, frozen=True):
    id: str
    epoch: int
    input: tuple[ChatMessage, ...]
    target: str | tuple[str, ...]
    messages: tuple[ChatMessage, ...]
    output: ModelOutput
    scores: dict[str, Score]
    metadata: SampleMetadata
    model_usage: dict[str, ModelUsage]
    uuid: str
    choices: tuple[str, ...] | None = None
    error: EvalError | None = None


class GenerateConfig(_Part, frozen=True):
    max_tokens: int
    temperature: float | None


class EvalDataset(_Part, frozen=True):
    name: str
    location: str
    samples: int
    sample_ids: tuple[str, ...]


class EvalConfig(_Part, frozen=True):
    epochs: int


class EvalSpec(_Part, frozen=True):
    eval_id: str
    run_id: str
    created: str
    task: str
    task_id: str
    task_args: dict[str, str | int | float]
    solver: str
    tags: tuple[str, ...]
    dataset: EvalDataset
    model: str
    model_generate_config: GenerateConfig
    model_args: dict[str, object]
    config: EvalConfig
    packages: dict[str, str]
    metadata: dict[str, str | int | float]
    model_base_url: str | None = None


class EvalPlanStep(_Part, frozen=True):
    solver: str
    params: dict[str, int]


class EvalPlan(_Part, frozen=True):
    name: str
    steps: tuple[EvalPlanStep, ...]
    config: GenerateConfig


class EvalMetric(_Part, frozen=True):
    name: str
    value: float


class EvalScore(_Part, frozen=True):
    name: str
    scorer: str
    scored_samples: int
    unscored_samples: int
    metrics: dict[str, EvalMetric]


class EvalResults(_Part, frozen=True):
    total_samples: int
    completed_samples: int
    scores: tuple[EvalScore, ...]


class EvalStats(_Part, frozen=True):
    started_at: str
    completed_at: str
    model_usage: dict[str, ModelUsage]


class EvalLog(_Part, frozen=True):
    """A log without its samples, which are written one by one after it."""

    version: int
    status: Literal["success", "cancelled"]
    eval: EvalSpec
    plan: EvalPlan
    results: EvalResults
    stats: EvalStats


_Items: TypeAlias = Mapping[str, Item]


@dataclass(slots=True)
class _Totals:
    """Sums over a cell's samples. A sample is complete if no score is missing: as in the deltas,
    an accuracy is over these alone."""

    n: int = 0
    n_complete: int = 0
    right: dict[str, float] = field(default_factory=dict)
    used: Usage = field(default_factory=lambda: Usage(0, 0))
    cost_nusd: int = 0

    def add(self, turns: Sequence[Turn]) -> None:
        self.n += 1
        used = _deployed(turns)
        self.used = Usage(
            self.used.input_tokens + used.input_tokens,
            self.used.output_tokens + used.output_tokens,
            self.used.cached_input_tokens + used.cached_input_tokens,
        )
        self.cost_nusd += sum(turn.cost_nusd for turn in turns)
        if any(turn.score is None for turn in turns):
            return
        self.n_complete += 1
        for name, turn in _named(turns).items():
            self.right[name] = self.right.get(name, 0.0) + (turn.score or 0.0)


def write(found: Record, folder: Path) -> Iterator[tuple[Path, int]]:
    """Write one log a cell, each whole or not at all; yields its path and its number of samples.

    The last turn's score is `last`, the first one's `first`, those between `turn_1` and so on. A
    sample whose calls failed has an error, and the scores from before. One sample at a time is in
    memory. A cell without samples has no log.
    """
    dataset = ""
    items: _Items = {}
    for planned in found.book.cells():
        if planned.cell.dataset != dataset:  # the cells of a dataset come one after the other
            dataset = planned.cell.dataset
            items = found.items(dataset)
        totals = _Totals()
        for _, _, turns in found.book.samples(planned.cell):
            totals.add(turns)
        if not totals.n:
            continue
        head = found.scrub.value(_head(found, planned, totals))
        path = folder / _file(head.eval)
        part = path.with_suffix(".part")
        n = 0
        try:
            with part.open("wb") as file:
                file.write(msgspec.json.encode(head)[:-1])
                for n, sample in enumerate(_samples(found, planned.cell, items), 1):
                    file.write(b',\n"samples":[\n' if n == 1 else b",\n")
                    file.write(msgspec.json.encode(found.scrub.value(sample)))
                file.write(b"\n]}\n")
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        yield path, n


def _file(spec: EvalSpec) -> str:
    """Named as Inspect names its logs, so that a listing need not open them: time, task, id."""
    parts = (spec.created, spec.task, spec.task_id)
    plain = ("".join(c if c.isalnum() or c == "." else "-" for c in part) for part in parts)
    return "_".join(plain) + ".json"


# --- the head of a log ---------------------------------------------------------------------------


def _head(found: Record, planned: Planned, totals: _Totals) -> EvalLog:
    cell, model, study = planned.cell, found.model(planned.cell), found.lock.study
    started, completed = _when(found, cell)
    sent = Params(study.max_tokens) if model is None else params(study, model, cell.temperature)
    config = GenerateConfig(sent.max_tokens, sent.temperature)
    spec = _spec(found, planned, model, config, created=started)
    locked = found.lock.datasets.get(cell.dataset)
    scores = tuple(
        EvalScore(
            name,
            "" if locked is None else locked.scorer,
            totals.n_complete,
            totals.n - totals.n_complete,
            {"accuracy": EvalMetric("accuracy", right / totals.n_complete)},
        )
        for name, right in totals.right.items()
    )
    return EvalLog(
        version=2,
        status="success" if totals.n == planned.n_samples else "cancelled",
        eval=spec,
        plan=EvalPlan("plan", (EvalPlanStep(cell.protocol, {"turns": planned.n_turns}),), config),
        results=EvalResults(planned.n_samples, totals.n_complete, scores),
        stats=EvalStats(started, completed, {cell.model: _usage(totals.used, totals.cost_nusd)}),
    )


def _spec(
    found: Record,
    planned: Planned,
    model: ModelSpec | None,
    config: GenerateConfig,
    *,
    created: str,
) -> EvalSpec:
    cell, lock = planned.cell, found.lock
    locked = lock.datasets.get(cell.dataset)
    regime = found.regime(cell)
    return EvalSpec(
        eval_id=cell.id,
        run_id=f"{lock.study.name}-{digest(lock.study).hex()[:8]}",
        created=created,
        task=f"{cell.dataset}-{cell.protocol}",
        task_id=cell.id,
        task_args={
            "dataset": cell.dataset,
            "protocol": cell.protocol,
            "turns": planned.n_turns,
            "temperature": cell.temperature,
        },
        solver=cell.protocol,
        tags=("upper bound (oracle)",) if regime == "verdict" else (),
        dataset=EvalDataset(
            cell.dataset,
            "" if locked is None else locked.source,
            planned.n_items,
            () if locked is None else locked.ids[: planned.n_items],
        ),
        model=cell.model,
        model_generate_config=config,
        model_args={} if model is None else model.params,
        config=EvalConfig(planned.n_epochs),
        packages={"deltascale": lock.environments[-1].deltascale} if lock.environments else {},
        metadata={"study": lock.study.name, "protocol": cell.protocol, "regime": regime},
        model_base_url=(model.base_url or None) if model else None,
    )


def _when(found: Record, cell: Cell) -> tuple[str, str]:
    """The first and the last call of the cell's model; before the lock knows: the ledger's time."""
    served = [one for one in found.lock.served if one.model == cell.model]
    if served:
        times = min(one.first for one in served), max(one.last for one in served)
        return times[0].replace("Z", "+00:00"), times[1].replace("Z", "+00:00")
    kept = datetime.fromtimestamp(found.book.path.stat().st_mtime, UTC)
    return (kept.isoformat(timespec="seconds"),) * 2


def _deployed(turns: Sequence[Turn]) -> Usage:
    """What these turns need as deployed: shared calls count in each sample."""
    return Usage(
        sum(turn.input_tokens for turn in turns),
        sum(turn.output_tokens for turn in turns),
        sum(turn.cached_input_tokens for turn in turns),
    )


def _usage(used: Usage, cost_nusd: int | None = None) -> ModelUsage:
    return ModelUsage(
        used.input_tokens - used.cached_input_tokens,
        used.output_tokens,
        used.input_tokens + used.output_tokens,
        used.cached_input_tokens,
        None if cost_nusd is None else cost_nusd / 1e9,
    )


# --- a sample ------------------------------------------------------------------------------------


def _samples(found: Record, cell: Cell, items: _Items) -> Iterator[EvalSample]:
    listed = {one.id: one for one in found.book.items(cell.dataset)}
    regime = found.regime(cell)
    for name, epoch, turns in found.book.samples(cell):
        item, one = items.get(name), listed.get(name)
        cost_nusd = sum(turn.cost_nusd for turn in turns)
        stratum, cluster = (one.stratum, one.cluster) if one else ("", name)
        yield EvalSample(
            id=name,
            epoch=epoch + 1,
            input=_asked_first(found, item, turns),
            target=_target(item),
            messages=_spoken(found, turns),
            output=_output(cell, found.reply(turns[-1])),
            scores={
                key: _score(turn) for key, turn in _named(turns).items() if turn.score is not None
            },
            metadata=SampleMetadata(cell.protocol, regime, epoch, stratum, cluster, turns),
            model_usage={cell.model: _usage(_deployed(turns), cost_nusd)},
            uuid=f"{cell.id}/{name}/{epoch}",
            choices=(item.question.choices or None) if item else None,
            error=_error(turns),
        )


def _error(turns: Sequence[Turn]) -> EvalError | None:
    """Why a sample is missing; None: it is not."""
    for turn in turns:
        if turn.score is None:
            return EvalError(f"turn {turn.turn} has no score: {turn.outcome}", "", "")
    return None


def _named(turns: Sequence[Turn]) -> dict[str, Turn]:
    between = {f"turn_{turn.turn}": turn for turn in turns[1:-1]}
    return {"last": turns[-1], "first": turns[0], **between}


def _score(turn: Turn) -> Score:
    known: dict[str, str | int | float] = {"turn": turn.turn, "outcome": turn.outcome}
    return Score(turn.score or 0.0, turn.answer, turn.detail or None, {**known, **turn.others})


def _target(item: Item | None) -> str | tuple[str, ...]:
    if item is None:
        return ""
    return (item.target, *item.aliases) if item.aliases else item.target


def _asked_first(
    found: Record, item: Item | None, turns: Sequence[Turn]
) -> tuple[ChatMessage, ...]:
    """The question; where its item can't be had, the first prompt on record."""
    asked = found.book.messages(bytes.fromhex(turns[0].call)) if turns[0].call else ()
    return tuple(_message(one, {}) for one in (asked if item is None else item.question.messages))


def _spoken(found: Record, turns: Sequence[Turn]) -> tuple[ChatMessage, ...]:
    """The conversation of every turn; one that began afresh follows the one before it.

    A turn's reply is marked with its turn, outcome and score, and comes once.
    """
    said: list[ChatMessage] = []
    names: dict[str, str] = {}
    before: tuple[Message, ...] = ()
    shown = {""}
    for turn in turns:
        reply = found.reply(turn)
        if turn.call in shown or reply is None:
            continue
        shown.add(turn.call)
        asked = found.book.messages(bytes.fromhex(turn.call))
        new = asked[len(before) :] if asked[: len(before)] == before else asked
        said += (_message(one, names) for one in new)
        answered = Message("assistant", reply.text or NO_REPLY, reply.tool_calls)
        marks = {"turn": turn.turn, "outcome": turn.outcome, "score": turn.score}
        said.append(msgspec.structs.replace(_message(answered, names), metadata=marks))
        before = (*asked, answered)
    return tuple(said)


def _message(one: Message, names: dict[str, str]) -> ChatMessage:
    """The message; `names` remembers the tools' names by the ids of their calls."""
    names.update({call.id: call.name for call in one.tool_calls})
    return ChatMessage(
        one.role,
        one.content,
        tuple(map(_tool_call, one.tool_calls)) or None,
        one.tool_call_id or None,
        names.get(one.tool_call_id),
    )


def _tool_call(call: OurToolCall) -> ToolCall:
    try:
        arguments = msgspec.json.decode(call.arguments, type=dict[str, object])
    except msgspec.MsgspecError as error:
        return ToolCall(call.id, call.name, {}, f"{call.arguments!r} is no JSON object ({error})")
    return ToolCall(call.id, call.name, arguments)


def _output(cell: Cell, reply: Reply | None) -> ModelOutput:
    """The reply that was scored last."""
    if reply is None:
        return ModelOutput(cell.model, ())
    said = _message(Message("assistant", reply.text, reply.tool_calls), {})
    return ModelOutput(
        reply.model_served or cell.model,
        (Choice(said, _STOPS[reply.stop]),),
        None if reply.usage is None else _usage(reply.usage),
        reply.latency_s or None,
    )
