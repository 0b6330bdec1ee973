"""Leading one sample's conversation: a protocol's steps in, scored turns out.

The same lines lead a live conversation, a replayed one, a simulated one and one that is only being
priced: what answers is an argument. This is also the one place where targets and prompts meet, so
it is here that a verdict is given to protocols of the regime `verdict` and to no others.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from msgspec.structs import replace

from deltascale.errors import BudgetReached
from deltascale.providers import Caller, CallFailed
from deltascale.records import (
    Ask,
    Message,
    Outcome,
    Protocol,
    Reply,
    Request,
    Sample,
    Score,
    Scorer,
    Seen,
    Submit,
    Turn,
    UseTool,
)

__all__ = ["NO_REPLY", "Judge", "Setting", "ToolRunner", "converse"]

NO_REPLY = "(no reply)"
"""Stands for an empty reply in the conversation, since servers refuse empty messages."""

ToolRunner = Callable[[Sample, tuple[UseTool, ...]], Awaitable[str]]
"""Runs the last of these uses, given those before it in the same attempt; returns what it gave."""

Judge = Callable[[Sample, str, str], Awaitable[Score]]
"""Judges an answer (sample, answer, whole text) outside the event loop, or from the record."""

_OUTCOME_BY_STOP: dict[str, Outcome] = {
    "length": "truncated",
    "refusal": "refused",
    "filter": "filtered",
}


@dataclass(frozen=True, slots=True)
class Setting:
    """What stays the same over a cell's conversations.

    `template` is a request without the conversation: model, endpoint, parameters, and the study's
    system prompt if it has one. `cost_nusd` prices a reply to a request. `judge` is asked in the
    scorer's place where that is `blocking`.
    """

    protocol: Protocol
    scorer: Scorer
    turns: int
    template: Request
    cost_nusd: Callable[[Request, Reply], int]
    use_tool: ToolRunner
    judge: Judge


@dataclass(slots=True)
class _Bill:
    """What the calls of the turn under way need."""

    n_calls: int = 0
    input_tokens: int = 0
    cached_input_tokens: int = 0
    output_tokens: int = 0
    cost_nusd: int = 0

    def add(self, reply: Reply, cost_nusd: int) -> None:
        self.n_calls += 1
        self.cost_nusd += cost_nusd
        if reply.usage is not None:
            self.input_tokens += reply.usage.input_tokens
            self.cached_input_tokens += reply.usage.cached_input_tokens
            self.output_tokens += reply.usage.output_tokens

    def turn(self, number: int, outcome: Outcome, **fields: object) -> Turn:
        return Turn(
            turn=number,
            outcome=outcome,
            n_calls=self.n_calls,
            input_tokens=self.input_tokens,
            cached_input_tokens=self.cached_input_tokens,
            output_tokens=self.output_tokens,
            cost_nusd=self.cost_nusd,
            **fields,  # type: ignore[arg-type]  # Turn's own fields, checked by their two callers
        )


async def converse(sample: Sample, setting: Setting, caller: Caller) -> tuple[Turn, ...]:
    """Have one conversation to its end: exactly `setting.turns` turns.

    A protocol that stops early (an oracle that was told "right") keeps its last answer for the
    turns that are left, at no cost. A failed call ends the conversation: its turn and the ones
    after it are missing. Raises Interrupted where the caller does.
    """
    turns: list[Turn] = []
    uses: list[UseTool] = []
    asked: list[tuple[Seen, Request, Reply]] = []
    bill = _Bill()
    exchange = setting.protocol.run(sample.item.question, setting.turns)
    try:
        step = next(exchange)
        while True:
            if isinstance(step, Submit):
                turn, verdict = await _score(len(turns), step.seen, asked, bill, sample, setting)
                turns.append(turn)
                if len(turns) == setting.turns:
                    break
                uses, bill = [], _Bill()
                told = verdict if setting.protocol.regime == "verdict" else None
                seen = _with_verdict(step.seen, told)
            elif isinstance(step, UseTool):
                uses.append(step)
                seen = Seen((), await setting.use_tool(sample, tuple(uses)))
            else:
                seen = await _ask(step, sample, setting, caller, asked, bill)
            step = exchange.send(seen)
    except StopIteration:
        pass
    except CallFailed as failed:
        turns.append(_failed(len(turns), failed, bill, sample, setting))
    except BudgetReached:
        turns.append(bill.turn(len(turns), "budget"))
    finally:
        exchange.close()
    return _padded(turns, setting.turns)


async def _ask(
    step: Ask,
    sample: Sample,
    setting: Setting,
    caller: Caller,
    asked: list[tuple[Seen, Request, Reply]],
    bill: _Bill,
) -> Seen:
    question = sample.item.question
    request = replace(
        setting.template,
        messages=(*setting.template.messages, *step.messages),
        tools=question.tools,
        draw=step.draw,
        epoch=sample.epoch,
    )
    reply = await caller(request)
    bill.add(reply, setting.cost_nusd(request, reply))
    spoken = Message("assistant", reply.text or NO_REPLY, reply.tool_calls)
    readable = reply.stop not in _OUTCOME_BY_STOP and bool(reply.text)
    answer = setting.scorer.extract(question, reply.text) if readable else None
    seen = Seen((*step.messages, spoken), reply.text, answer, reply.tool_calls)
    asked.append((seen, request, reply))
    return seen


async def _score(
    number: int,
    seen: Seen,
    asked: list[tuple[Seen, Request, Reply]],
    bill: _Bill,
    sample: Sample,
    setting: Setting,
) -> tuple[Turn, bool]:
    """Judge a submitted reply. Only an answer is judged: never a cut, refused or empty reply."""
    heard = [call for call in asked if call[0] is seen]
    if not heard:
        raise RuntimeError(f"protocol {setting.protocol.name} submitted a reply it never asked for")
    _, request, reply = heard[0]
    call = request.key.hex()
    outcome = _OUTCOME_BY_STOP.get(reply.stop)
    if outcome is None and seen.answer is None:
        outcome = "no_answer"
    counts = _counts(sample, seen, setting)
    if outcome is not None or seen.answer is None:
        kept = outcome or "no_answer"
        return bill.turn(number, kept, score=0.0, others=counts, call=call), False
    answer = seen.answer
    if setting.scorer.blocking:
        score = await setting.judge(sample, answer, seen.text)
    else:
        score = setting.scorer.judge(sample.item, answer, seen.text)
    turn = bill.turn(
        number,
        "ok",
        answer=answer,
        score=score.value,
        others={**score.others, **counts},
        call=call,
        detail=score.detail,
    )
    return turn, score.value == 1.0


def _with_verdict(seen: Seen, verdict: bool | None) -> Seen:
    return Seen(seen.messages, seen.text, seen.answer, seen.tool_calls, verdict)


def _counts(sample: Sample, seen: Seen, setting: Setting) -> dict[str, float]:
    count = setting.scorer.counts
    return {} if count is None else dict(count(sample.item, seen))


def _failed(number: int, failed: CallFailed, bill: _Bill, sample: Sample, setting: Setting) -> Turn:
    """A prompt that a provider filters or refuses is the model's doing: wrong, not missing."""
    kind = failed.failure.kind
    if kind == "filtered" or kind == "refused":
        return bill.turn(number, kind, score=0.0, others=_counts(sample, Seen((), ""), setting))
    return bill.turn(number, "failed")


def _padded(turns: list[Turn], n_turns: int) -> tuple[Turn, ...]:
    if not turns:
        raise RuntimeError("a protocol ended without submitting an answer")
    last = turns[-1]
    kept = Turn(0, last.outcome, last.answer, last.score, last.others, last.call)
    return (*turns, *(replace(kept, turn=number) for number in range(len(turns), n_turns)))
