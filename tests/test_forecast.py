"""What is foreseen is what is then asked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from deltascale import engine, ledger, protocols, scorers
from deltascale.datasets import Loaded, toolqa
from deltascale.datasets.toolqa import agent
from deltascale.engine import Progress
from deltascale.forecast import forecast, hours
from deltascale.plan import Plan
from deltascale.providers.policies import worst_case_nusd
from deltascale.records import (
    DatasetSpec,
    Reply,
    Request,
    Sample,
    Study,
    ToolCall,
    Usage,
    UseTool,
)
from tests import worlds

NAMES = ("review", "critique", "resample", "vote", "oracle")


async def typical(request: Request) -> Reply:
    """Replies of just the assumed length that never hold an answer, as the forecast pretends."""
    n_input = -(-sum(len(one.content) for one in request.messages) // 4)
    return Reply("word" * 20, "stop", Usage(n_input, 20))


def test_calls_and_output_tokens_are_those_of_the_run(tmp_path: Path) -> None:
    plan = worlds.plan([worlds.model()], n_items=10, names=NAMES)
    found = forecast(plan)
    progress = worlds.run(plan, tmp_path / "ledger.db", call=typical)
    assert sum(one.n_calls for one in found) == progress.n_calls
    assert sum(one.output_tokens[1] for one in found) == 20 * progress.n_calls
    assert {one.n_samples for one in found} == {10}
    foreseen, spent = sum(one.usd[1] for one in found), progress.spent_nusd / 1e9
    assert spent < foreseen < 2 * spent, "expected is near what typical replies cost"


def test_what_is_on_record_is_free(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    small = worlds.plan([worlds.model()], n_items=4, names=("review",))
    large = worlds.plan([worlds.model()], n_items=9, names=("review", "resample"))
    bought = worlds.run(small, path, call=worlds.reply).n_calls
    with ledger.read(path) as book:
        found = forecast(large, book)
        assert all(one.n_calls == 0 for one in forecast(small, book))
        assert all(usd == 0 for one in forecast(small, book) for usd in one.usd)
    rest = worlds.run(large, path, call=worlds.reply).n_calls
    assert sum(one.n_calls for one in found) == rest
    assert found[0].n_on_record == bought


def test_what_is_on_record_is_counted_once(tmp_path: Path) -> None:
    plan = worlds.plan([worlds.model()], names=NAMES)
    bought = worlds.run(plan, tmp_path / "ledger.db", call=worlds.reply).n_calls
    with ledger.read(tmp_path / "ledger.db") as book:
        found = forecast(plan, book)
    assert sum(one.n_on_record for one in found) == bought, "shared calls were bought once"


def test_a_protocol_that_shares_its_calls_costs_nothing_more() -> None:
    plan = worlds.plan([worlds.model()], names=("resample", "vote"))
    by_protocol = {one.cell.protocol: one for one in forecast(plan)}
    assert by_protocol["resample"].n_calls == 3 * 12
    assert by_protocol["vote"].n_calls == 0


def test_worst_is_what_the_budget_reserves(tmp_path: Path) -> None:
    plan = worlds.plan([worlds.model()], names=("resample",), n_items=7)
    reserved = 0

    async def watched(request: Request) -> Reply:
        nonlocal reserved
        reserved += worst_case_nusd(worlds.PRICE, request)
        return await typical(request)

    worlds.run(plan, tmp_path / "ledger.db", call=watched)
    (found,) = forecast(plan)
    assert found.usd[2] == pytest.approx(reserved / 1e9, rel=1e-3)
    low, expected, worst = found.usd
    assert low < expected < worst


def test_large_datasets_are_scaled_up_from_a_part() -> None:
    plan = worlds.plan([worlds.model()], n_items=400, names=("resample",), turns=2)
    (part,), (whole,) = forecast(plan, n_probes=50), forecast(plan, n_probes=400)
    assert part.n_calls == whole.n_calls == 800
    assert part.usd[1] == pytest.approx(whole.usd[1], rel=0.02)


def test_models_alike_need_the_same_tokens_and_differ_in_price() -> None:
    from deltascale.records import Price

    dear = worlds.model("dear", price=Price(1_500_000, 0, 6_000_000, "test", "2026-01-01"))
    one, two = forecast(worlds.plan([worlds.model(), dear], names=("review",)))
    assert one.output_tokens == two.output_tokens
    assert two.usd[1] == pytest.approx(10 * one.usd[1], rel=1e-6)


def test_hours_follow_connections_and_limits() -> None:
    from msgspec.structs import replace

    from deltascale.records import Limits

    models = [worlds.model("wide", connections=64), worlds.model("narrow", connections=1)]
    models.append(replace(worlds.model("slow"), limits=Limits(connections=64, rpm=10)))
    plan = worlds.plan(models, names=("review",), n_items=50)
    found = hours(forecast(plan), plan.study.models)
    assert found["openai/narrow"] == pytest.approx(64 * found["openai/wide"])
    assert found["openai/slow"] == pytest.approx(150 / 10 / 60)


# --- attempts of several calls -------------------------------------------------------------------

STEPS = 9


def tool_plan(dialect: str) -> Plan:
    """Three questions with tools, under the protocols that go on after an answer."""
    spec = DatasetSpec("toolqa", options={"dialect": dialect, "steps": str(STEPS)})
    lines = [{"qid": f"q{n}", "question": f"Question {n}?", "answer": "1"} for n in range(3)]
    items = toolqa.parse("easy/coffee", "\n".join(map(json.dumps, lines)), spec)
    loaded = Loaded(spec, items, "toolqa", 3, "digest", "test", 75, typical=toolqa.TOOLQA.typical)
    study = Study(
        name="test",
        models=(worlds.model(),),
        datasets=(spec,),
        protocols=("review", "critique", "resample"),
        turns=2,
        max_tokens=256,
        items=3,
    )
    return Plan(
        study,
        (loaded,),
        {name: protocols.find(name) for name in study.protocols},
        {"toolqa": scorers.find("toolqa")},
    )


def script(n_uses: int) -> Callable[[Request], Awaitable[Reply]]:
    """A model that uses a tool so many times in each attempt, then answers."""

    async def reply(request: Request) -> Reply:
        used = 0
        for message in reversed(request.messages):
            if message.role == "tool" or message.content.startswith("Observation: "):
                used += 1
            elif message.role == "user":
                break
        aside = "Criticise" in request.messages[-1].content
        if used == n_uses and not aside:
            done = "Answer: 7" if request.tools else "Action: Finish[7]"
            return Reply(done, "stop", Usage(10, 10))
        if request.tools and not aside:
            call = ToolCall(f"c{used}", "Calculate", json.dumps({"formula": f"1 + {used}"}))
            return Reply("", "tool_use", Usage(10, 10), (call,))
        return Reply(f"Thought: more.\nAction: Calculate[1 + {used}]", "stop", Usage(10, 10))

    return reply


async def told(sample: Sample, uses: tuple[UseTool, ...]) -> str:
    return "1"


def n_calls(plan: Plan, path: Path, *, n_uses: int) -> int:
    async def run() -> int:
        progress = Progress()
        with ledger.write(path) as book:
            await engine.run(
                plan,
                book,
                environ={},
                stop=asyncio.Event(),
                progress=progress,
                connect=worlds.connecting(script(n_uses)),  # type: ignore[arg-type]
                tools={"toolqa": told},
                sleep=worlds.no_wait,
                seed=0,
            )
        return progress.n_calls

    return asyncio.run(run())


@pytest.mark.parametrize("dialect", ["react", "native"])
def test_an_attempt_with_tools_is_foreseen_as_a_usual_one(dialect: str, tmp_path: Path) -> None:
    plan = tool_plan(dialect)
    found = forecast(plan)
    foreseen = sum(one.n_calls for one in found)
    assert foreseen == n_calls(plan, tmp_path / "usual.db", n_uses=4)
    # Turn 0 is shared; then come a review, a critique with its revision, and a second draw.
    assert foreseen == 3 * (4 * (len(agent.USUAL) + 1) + 1)
    assert all(low < expected < worst for low, expected, worst in (one.usd for one in found))


@pytest.mark.parametrize("dialect", ["react", "native"])
def test_the_worst_attempt_takes_all_its_steps(dialect: str, tmp_path: Path) -> None:
    plan = tool_plan(dialect)
    asked = n_calls(plan, tmp_path / "worst.db", n_uses=STEPS + 1)
    limit = plan.study.max_tokens
    assert sum(one.output_tokens[2] for one in forecast(plan)) == asked * limit
