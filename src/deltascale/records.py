"""The vocabulary: every value that crosses a stage or touches a disk. No behaviour but identity.

What touches a disk is a frozen `msgspec.Struct`; what lives only in memory is a frozen dataclass.
Money is an integer in nano-dollars (`_nusd`, 1e-9 USD); prices are nano-dollars per 1000 tokens,
so that every published price per million tokens is an exact integer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Literal, TypeAlias

import msgspec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "ANSWERED",
    "COUNT",
    "FATAL",
    "MISSING",
    "RETRYABLE",
    "Ask",
    "Attempt",
    "Cell",
    "DatasetSpec",
    "Estimate",
    "Exchange",
    "Failure",
    "FailureKind",
    "Item",
    "Judged",
    "Limits",
    "Message",
    "Metrics",
    "ModelSpec",
    "Outcome",
    "Params",
    "Price",
    "Protocol",
    "Question",
    "Regime",
    "Reply",
    "Request",
    "Sample",
    "Score",
    "Scorer",
    "Seen",
    "Size",
    "Step",
    "StopReason",
    "Study",
    "Submit",
    "Tool",
    "ToolCall",
    "Turn",
    "Usage",
    "UseTool",
    "digest",
    "user",
]

# --- words with a closed meaning -----------------------------------------------------------------

Role: TypeAlias = Literal["system", "user", "assistant", "tool"]
Regime: TypeAlias = Literal["nothing", "verdict", "tests", "model"]
"""What a protocol may see between turns. `verdict` is the oracle's: whether the answer is right."""

StopReason: TypeAlias = Literal["stop", "length", "tool_use", "refusal", "filter"]
"""Why a reply ended: by itself, at the token limit, to use a tool, refused, cut by a filter."""

Outcome: TypeAlias = Literal[
    "ok", "no_answer", "truncated", "refused", "filtered", "failed", "budget"
]
ANSWERED: frozenset[Outcome] = frozenset({"ok", "no_answer", "truncated", "refused", "filtered"})
"""Outcomes that enter an accuracy: the model was asked and this is what it did. All but `ok` are
wrong by definition and are reported beside the accuracy."""
MISSING: frozenset[Outcome] = frozenset({"failed", "budget"})
"""Outcomes that enter no accuracy: nothing is known of what the model would have answered."""

FailureKind: TypeAlias = Literal[
    "rate_limited",
    "transient",
    "timeout",
    "context_too_long",
    "filtered",
    "refused",
    "bad_request",
    "unknown_model",
    "bad_key",
    "no_credit",
]
RETRYABLE: frozenset[FailureKind] = frozenset({"rate_limited", "transient", "timeout"})
FATAL: frozenset[FailureKind] = frozenset({"unknown_model", "bad_key", "no_credit"})
"""Failures that no call of this model can survive: its cells stop at once, others go on."""

# --- one call to a model -------------------------------------------------------------------------


class ToolCall(msgspec.Struct, frozen=True):
    """A model's wish to use a tool. `arguments` is the JSON text as the model wrote it."""

    id: str
    name: str
    arguments: str


class Message(msgspec.Struct, frozen=True, omit_defaults=True):
    role: Role
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""


def user(content: str) -> Message:
    return Message("user", content)


class Tool(msgspec.Struct, frozen=True):
    """A tool offered to a model. `schema` is the JSON Schema of its arguments, as JSON text."""

    name: str
    description: str
    schema: str


class Params(msgspec.Struct, frozen=True, omit_defaults=True):
    """Sampling parameters, the same in every turn and arm.

    `temperature` None: not sent (a reasoning model). `extra` is sent as it is.
    """

    max_tokens: int
    temperature: float | None = None
    extra: dict[str, object] = {}


class Request(msgspec.Struct, frozen=True, omit_defaults=True, dict=True):
    """One model request. `endpoint` names the server and its dialect, never a secret.

    `draw` tells independent draws of the same prompt apart, `epoch` independent repetitions.
    """

    model: str
    endpoint: str
    params: Params
    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    draw: int = 0
    epoch: int = 0

    @cached_property
    def key(self) -> bytes:
        """What the call is kept under: its digest, 32 bytes."""
        return digest(self)


_canonical = msgspec.json.Encoder(order="deterministic")


def digest(value: object) -> bytes:
    """SHA-256 (32 bytes) of the value's canonical JSON: the identity of a call, cell or study."""
    return hashlib.sha256(_canonical.encode(value)).digest()


class Usage(msgspec.Struct, frozen=True, omit_defaults=True):
    """Tokens as the provider counted them. `input_tokens` includes the cached ones,
    `output_tokens` includes the reasoning ones."""

    input_tokens: int
    output_tokens: int
    cached_input_tokens: int = 0
    reasoning_tokens: int = 0


class Reply(msgspec.Struct, frozen=True, omit_defaults=True):
    """What came back from a model. `text` may be empty: that is never an answer.

    `usage` None: the server did not count. `model_served` and `fingerprint` are the provider's own
    version strings. `raw` is the wire body, kept beside the reply and not part of its JSON.
    """

    text: str
    stop: StopReason
    usage: Usage | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    model_served: str = ""
    fingerprint: str = ""
    latency_s: float = 0.0
    raw: bytes = b""


class Failure(msgspec.Struct, frozen=True, omit_defaults=True):
    """A call that brought no reply. `maybe_billed`: the request was sent and its fate is unknown,
    so its worst case counts against the budget."""

    kind: FailureKind
    message: str
    http_status: int | None = None
    retry_after_s: float | None = None
    usage: Usage | None = None
    maybe_billed: bool = False


# --- models --------------------------------------------------------------------------------------


class Size(msgspec.Struct, frozen=True, omit_defaults=True):
    """A parameter count with its source. Nothing is known of an `unknown` size: all None.

    `published` has `parameters` and a `citation`; `estimate` has `low`, `high` and a `citation`.
    `active` is the count used per token where the model is a mixture of experts.
    `training_tokens` are those seen in pre-training, as `training_citation` has them; None: not
    published.
    """

    source: Literal["published", "estimate", "unknown", "simulated"]
    parameters: float | None = None
    active: float | None = None
    low: float | None = None
    high: float | None = None
    citation: str = ""
    training_tokens: float | None = None
    training_citation: str = ""


class Price(msgspec.Struct, frozen=True):
    """Nano-dollars per 1000 tokens, as of `dated` (ISO date), from `source`."""

    input_nusd_per_ktok: int
    cached_input_nusd_per_ktok: int
    output_nusd_per_ktok: int
    source: str
    dated: str


class Limits(msgspec.Struct, frozen=True, omit_defaults=True):
    """How hard a model may be asked. None: no limit of our own."""

    connections: int = 16
    rpm: int | None = None
    tpm: int | None = None
    timeout_s: float = 120.0


class ModelSpec(msgspec.Struct, frozen=True, omit_defaults=True):
    """A model of a study, resolved. `id` is its name in the study (`openai/gpt-4o-mini`),
    `provider` the module that asks it, `name` what the server is asked for."""

    id: str
    provider: str
    name: str
    size: Size
    price: Price
    base_url: str = ""
    family: str = ""
    params: dict[str, object] = {}
    limits: Limits = Limits()
    context_tokens: int | None = None
    reasoning: bool = False
    native_tools: bool = False


# --- items and questions -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ask:
    """A protocol's wish for one reply. `draw` n is the n-th independent draw of the same prompt."""

    messages: tuple[Message, ...]
    draw: int = 0
    role: Literal["solver", "critic"] = "solver"


@dataclass(frozen=True, slots=True)
class UseTool:
    """A wish to run one of the question's tools; the observation comes back as `Seen.text`."""

    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Seen:
    """What a protocol may know of a reply. Never a score.

    `messages` is the conversation with the reply at its end; `answer` what the extractor found in
    it (None: no answer). `verdict` is None except for a protocol of the regime `verdict`, and there
    only on the `Seen` that comes back from a `Submit`.
    """

    messages: tuple[Message, ...]
    text: str
    answer: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    verdict: bool | None = None


@dataclass(frozen=True, slots=True)
class Submit:
    """This reply is the answer of the turn: it ends the turn and is scored."""

    seen: Seen


Step: TypeAlias = Ask | UseTool | Submit
Exchange: TypeAlias = Generator[Step, Seen, None]
"""A conversation without I/O: yields steps and is sent what may be seen of their results."""

Attempt: TypeAlias = Callable[
    ["Question", tuple[Message, ...], int], Generator[Ask | UseTool, Seen, Seen]
]
"""A dataset's way to one answer: (question, messages, draw) → the reply that holds it."""


@dataclass(frozen=True, slots=True)
class Question:
    """What a protocol may see of an item. It holds no target and no hidden test.

    `messages` open the conversation. `answer_format` is the sentence that says how to end a reply;
    corrections repeat it. `choices` are the options of a multiple-choice question, `examples` the
    tests that the question itself shows (empty: none). `attempt` None: one call is one attempt.
    """

    messages: tuple[Message, ...]
    answer_format: str
    choices: tuple[str, ...] = ()
    examples: str = ""
    tools: tuple[Tool, ...] = ()
    attempt: Attempt | None = None


@dataclass(frozen=True, slots=True)
class Item:
    """One problem of a dataset. `id` is unique in the benchmark and the same on every machine.

    `cluster` groups items that share a passage or template; empty: the item is its own cluster.
    `stratum` is the share of the benchmark that a subset must keep. `chance` is how often a blind
    guess among the item's options is right; 0: not known. Items that are scored as one name their
    unit in `meta["unit"]`.
    """

    id: str
    question: Question
    target: str
    aliases: tuple[str, ...] = ()
    stratum: str = ""
    cluster: str = ""
    meta: Mapping[str, str] = field(default_factory=dict)
    chance: float = 0.0


COUNT = "n_"
"""Begins the name of what is no secondary score of a turn but a count: of options rightly chosen,
of uses of tools. Benchmarks whose own scores are no mean over items are made of them."""


@dataclass(frozen=True, slots=True)
class Score:
    """A judged answer. `value` in [0, 1]; `others` are secondary scores in [0, 1] by name.

    `detail` says what a judge that is not a pure function found, and with what it looked.
    """

    value: float
    others: Mapping[str, float] = field(default_factory=dict)
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Judged:
    """The answers of one cell at one turn, a sample (an item in one epoch) a row S.

    `score_S` is NaN where nothing is known; `answered_S` says which replies held an answer.
    `unit_S` has one number for samples that are scored as one: a unit's items in one epoch.
    `item_S` numbers the items. `others` and `counts` are NaN where a turn has none.
    """

    stratum_S: NDArray[np.str_]
    item_S: NDArray[np.intp]
    unit_S: NDArray[np.intp]
    score_S: NDArray[np.float64]
    answered_S: NDArray[np.bool_]
    others: Mapping[str, NDArray[np.float64]]
    counts: Mapping[str, NDArray[np.float64]]


Means: TypeAlias = "Mapping[str, Mapping[str, NDArray[np.float64]]]"
"""By stratum (or `""`: everything) and term: means over samples, arrays of one shape."""


@dataclass(frozen=True, slots=True)
class Metrics:
    """A benchmark's own scores, where they are no mean over items, made of means of terms: so they
    can be resampled like a mean.

    `terms(judged)` are, by name, what each sample adds to a mean, (S,); NaN: nothing.
    `scores(means)` are the scores by (part of the benchmark, name), the part `""` for the whole; a
    score that needs what is not there is left out. All are shares, but for names that end with
    `per attempt`. `stratified`: the means are taken by stratum.
    """

    terms: Callable[[Judged], Mapping[str, NDArray[np.float64]]]
    scores: Callable[[Means], Mapping[tuple[str, str], NDArray[np.float64]]]
    stratified: bool = True


@dataclass(frozen=True, slots=True)
class Scorer:
    """A pure judge in two halves, so that an answer can be shown to a protocol without a target.

    `extract(question, text)` finds the answer, in its canonical form, or None.
    `judge(item, answer, text)` compares it; it is called only when there is an answer.
    `counts(item, seen)` is what `metrics` needs to know of a reply beside its score, whether or not
    it holds an answer; the names begin with `COUNT`.
    `version` rises whenever any of them changes what it returns for any text.
    `blocking`: judging runs a program, so the engine calls it in a thread.
    """

    name: str
    version: int
    extract: Callable[[Question, str], str | None]
    judge: Callable[[Item, str, str], Score]
    blocking: bool = False
    counts: Callable[[Item, Seen], Mapping[str, float]] | None = None
    metrics: Metrics | None = None


@dataclass(frozen=True, slots=True)
class Protocol:
    """How a conversation goes on after turn 0.

    `run(question, turns)` is the generator. `prompts` are its own words by name, and `version`
    rises whenever they or the generator change; both enter the lock.
    """

    name: str
    version: int
    regime: Regime
    summary: str
    run: Callable[[Question, int], Exchange]
    prompts: Mapping[str, str] = field(default_factory=dict)


# --- the study and its cells ---------------------------------------------------------------------


class DatasetSpec(msgspec.Struct, frozen=True, omit_defaults=True):
    """A dataset of a study. `name` labels it; `file` is a path for people's own files.

    `items` None: the study's number. `scorer` empty: the dataset's own. `options` are the
    dataset's settings, as text.
    """

    name: str
    items: int | None = None
    file: str = ""
    scorer: str = ""
    options: dict[str, str] = {}


class Study(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the user wants, checked whole. `items` None: all of each dataset.

    `budget_nusd` None: no cap. `phases` are the same study restricted, by name, in their order.
    `confirmatory` names the protocols whose tests are adjusted together as the study's claims;
    empty: all but the controls that claim nothing.
    """

    name: str
    models: tuple[ModelSpec, ...]
    datasets: tuple[DatasetSpec, ...]
    protocols: tuple[str, ...]
    turns: int = 2
    epochs: int = 1
    temperatures: tuple[float, ...] = (0.7,)
    max_tokens: int = 2048
    items: int | None = None
    budget_nusd: int | None = None
    seed: int = 0
    system: str = ""
    confirmatory: tuple[str, ...] = ()
    phases: dict[str, Study] = {}
    warnings: tuple[str, ...] = ()


class Cell(msgspec.Struct, frozen=True, dict=True):
    """One combination of factors."""

    model: str
    dataset: str
    protocol: str
    temperature: float

    @cached_property
    def id(self) -> str:
        """16 hex digits, stable across runs and machines."""
        return digest(self).hex()[:16]


@dataclass(frozen=True, slots=True)
class Sample:
    """One conversation to be had: item × cell × epoch."""

    cell: Cell
    item: Item
    epoch: int


class Turn(msgspec.Struct, frozen=True, omit_defaults=True):
    """One scored answer, as the ledger keeps it.

    `score` in [0, 1], None where the outcome is missing. Tokens and `cost_nusd` are what this turn
    needs as deployed: every call since the turn before, whether or not it was shared or replayed.
    """

    turn: int
    outcome: Outcome
    answer: str | None = None
    score: float | None = None
    others: dict[str, float] = {}
    call: str = ""
    n_calls: int = 0
    input_tokens: int = 0
    cached_input_tokens: int = 0
    output_tokens: int = 0
    cost_nusd: int = 0
    detail: str = ""


# --- numbers with their uncertainty --------------------------------------------------------------


class Estimate(msgspec.Struct, frozen=True, omit_defaults=True):
    """A number with its uncertainty: the only thing a report may print.

    `value`, `low` and `high` are in `unit`; None means not estimable, and `note` says why.
    `n` counts the units that entered, `n_missing` those that could not. `mc_se` is the Monte Carlo
    error of the limits where they were drawn, the larger of the two; None where nothing was.
    """

    estimand: str
    value: float | None
    low: float | None = None
    high: float | None = None
    level: float = 0.95
    unit: str = ""
    n: int = 0
    n_missing: int = 0
    method: str = ""
    note: str = ""
    mc_se: float | None = None
