"""One conversation at a time: outcomes, bills, padding and what is never judged."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from deltascale import protocols, scorers
from deltascale.conversation import NO_REPLY, Setting, converse
from deltascale.engine import template
from deltascale.errors import BudgetReached, Interrupted
from deltascale.plan import Plan
from deltascale.protocols.attempt import draft
from deltascale.providers import CallFailed
from deltascale.records import (
    Cell,
    Exchange,
    Failure,
    FailureKind,
    Item,
    Message,
    Params,
    Protocol,
    Question,
    Reply,
    Request,
    Sample,
    Score,
    Scorer,
    Seen,
    Submit,
    Turn,
    Usage,
    UseTool,
)
from tests import worlds


async def judged(sample: Sample, answer: str, text: str) -> Score:
    return Score(0.5, detail=f"judged {answer}")


async def no_tool(sample: Sample, uses: tuple[UseTool, ...]) -> str:
    return f"{uses[-1].name} {len(uses)}"


def lead(
    script: Sequence[Reply | Exception],
    *,
    protocol: str | Protocol = "review",
    turns: int = 3,
    scorer: Scorer | None = None,
    item: Item | None = None,
) -> tuple[tuple[Turn, ...], list[Request]]:
    """Have a conversation whose calls end as scripted; the item's target is 3."""
    asked: list[Request] = []

    async def caller(request: Request) -> Reply:
        asked.append(request)
        end = script[len(asked) - 1]
        if isinstance(end, Exception):
            raise end
        return end

    found = protocols.find(protocol) if isinstance(protocol, str) else protocol
    setting = Setting(
        found,
        scorer or scorers.find("numeric"),
        turns,
        Request("toy", "test", Params(64, 0.7), ()),
        lambda _request, reply: reply.usage.output_tokens if reply.usage else 7,
        no_tool,
        judged,
    )
    sample = Sample(Cell("toy", "sums", found.name, 0.7), item or worlds.items(1)[0], 2)
    return asyncio.run(converse(sample, setting, caller)), asked


def says(text: str, stop: str = "stop", output_tokens: int = 10) -> Reply:
    return Reply(text, stop, Usage(100, output_tokens, cached_input_tokens=40))  # type: ignore[arg-type]


RIGHT, WRONG = says("#### 3"), says("#### 4")


def test_every_turn_is_scored_and_billed_with_its_asides() -> None:
    turns, asked = lead(
        [WRONG, says("I see it.", output_tokens=5), RIGHT], protocol="critique", turns=2
    )
    assert [(turn.score, turn.answer, turn.outcome) for turn in turns] == [
        (0.0, "4", "ok"),
        (1.0, "3", "ok"),
    ]
    assert [turn.n_calls for turn in turns] == [1, 2]
    assert [turn.cost_nusd for turn in turns] == [10, 15]
    assert [turn.input_tokens for turn in turns] == [100, 200]
    assert [turn.cached_input_tokens for turn in turns] == [40, 80]
    assert {request.epoch for request in asked} == {2}


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        (says("", "stop"), "no_answer"),
        (says("nothing here", "stop"), "no_answer"),
        (says("#### 3", "length"), "truncated"),
        (says("#### 3", "refusal"), "refused"),
        (says("#### 3", "filter"), "filtered"),
        (Reply("#### 3", "stop"), "ok"),
    ],
)
def test_only_a_whole_reply_is_judged(reply: Reply, outcome: str) -> None:
    turns, _ = lead([reply, RIGHT], turns=2)
    assert turns[0].outcome == outcome
    assert turns[0].score == (1.0 if outcome == "ok" else 0.0)
    assert (turns[0].answer is None) == (outcome != "ok")
    assert turns[1].score == 1.0, "the conversation goes on"


def test_an_empty_reply_stands_in_the_history_as_no_reply() -> None:
    _, asked = lead([says(""), RIGHT], turns=2)
    assert asked[1].messages[1].content == NO_REPLY


@pytest.mark.parametrize("kind", ["rate_limited", "timeout", "bad_key", "context_too_long"])
def test_a_failed_call_makes_its_turn_and_the_rest_missing(kind: FailureKind) -> None:
    turns, asked = lead([WRONG, CallFailed(Failure(kind, "no"))])
    assert [turn.outcome for turn in turns] == ["ok", "failed", "failed"]
    assert [turn.score for turn in turns] == [0.0, None, None]
    assert len(asked) == 2


@pytest.mark.parametrize("kind", ["filtered", "refused"])
def test_a_prompt_that_is_filtered_is_wrong_and_not_missing(kind: FailureKind) -> None:
    turns, _ = lead([RIGHT, CallFailed(Failure(kind, "no"))])
    assert [(turn.outcome, turn.score) for turn in turns] == [
        ("ok", 1.0),
        (kind, 0.0),
        (kind, 0.0),
    ]


def test_the_budget_ends_a_conversation_as_missing() -> None:
    turns, _ = lead([RIGHT, BudgetReached("no more")])
    assert [(turn.outcome, turn.score) for turn in turns] == [
        ("ok", 1.0),
        ("budget", None),
        ("budget", None),
    ]


def test_an_interrupted_conversation_has_no_result() -> None:
    with pytest.raises(Interrupted):
        lead([RIGHT, Interrupted("stopped")])


def test_a_protocol_that_stops_early_keeps_its_answer_at_no_cost() -> None:
    turns, _ = lead([WRONG, RIGHT], protocol="oracle", turns=4)
    assert [turn.score for turn in turns] == [0.0, 1.0, 1.0, 1.0]
    assert [turn.n_calls for turn in turns] == [1, 1, 0, 0]
    assert [turn.cost_nusd for turn in turns] == [10, 10, 0, 0]
    assert [turn.turn for turn in turns] == [0, 1, 2, 3]


def test_a_reply_that_was_never_asked_for_can_not_be_submitted() -> None:
    def cheat(question: Question, turns: int) -> Exchange:
        yield Submit(Seen((), "#### 3", "3"))

    with pytest.raises(RuntimeError, match="never asked for"):
        lead([], protocol=Protocol("cheat", 1, "nothing", "", cheat))


def test_a_protocol_that_submits_nothing_is_a_bug() -> None:
    def silent(question: Question, turns: int) -> Exchange:
        yield from draft(question)

    with pytest.raises(RuntimeError, match="without submitting"):
        lead([RIGHT], protocol=Protocol("silent", 1, "nothing", "", silent))


def test_tools_see_the_uses_of_this_attempt_only() -> None:
    observed: list[str] = []

    def handy(question: Question, turns: int) -> Exchange:
        for draw in range(turns):
            for name in ("load", "filter"):
                observed.append((yield UseTool(name, "x")).text)
            yield Submit((yield from draft(question, draw=draw)))

    lead([RIGHT, RIGHT], protocol=Protocol("handy", 1, "nothing", "", handy), turns=2)
    assert observed == ["load 1", "filter 2"] * 2


def test_the_system_prompt_is_in_every_call_and_no_protocol_sees_it() -> None:
    plan = worlds.plan([worlds.model()], names=("critique",), n_items=1)
    study = replace(plan.study, system="Be brief.")
    cell = next(plan.cells())
    started = template(
        Plan(study, plan.loaded, plan.protocols, plan.scorers), cell, study.models[0]
    )
    assert started.messages == (Message("system", "Be brief."),)
    asked: list[Request] = []

    async def caller(request: Request) -> Reply:
        asked.append(request)
        return RIGHT

    setting = Setting(
        plan.protocols["critique"],
        plan.scorers["sums"],
        2,
        started,
        lambda _request, _reply: 0,
        no_tool,
        judged,
    )
    asyncio.run(converse(Sample(cell, plan.loaded[0].items[0], 0), setting, caller))
    assert len(asked) == 3
    for request in asked:
        assert [one.role for one in request.messages].count("system") == 1
        assert request.messages[0] == started.messages[0]


def test_a_blocking_judge_is_asked_outside_the_loop() -> None:
    def never(item: Item, answer: str, text: str) -> Score:
        raise AssertionError("judged in the loop")

    numeric = scorers.find("numeric")
    slow = Scorer("slow", 1, numeric.extract, never, blocking=True)
    turns, _ = lead([RIGHT, says("nothing")], scorer=slow, turns=2)
    assert [(turn.score, turn.detail) for turn in turns] == [(0.5, "judged 3"), (0.0, "")]
