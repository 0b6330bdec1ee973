"""What is foreseen is what is then asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from deltascale import ledger
from deltascale.forecast import forecast, hours
from deltascale.providers.policies import worst_case_nusd
from deltascale.records import Reply, Request, Usage
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
