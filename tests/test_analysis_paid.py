"""What was paid, by model: the parts are the whole, and what can't be told apart is not split."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from deltascale import analysis, frame, ledger
from deltascale.analysis import Finding, Results
from deltascale.ledger import Spent
from deltascale.providers import CallFailed
from deltascale.records import Failure, Reply, Request
from tests import worlds
from tests.frames import QUICK

QUANTITIES = ("paid", "as_deployed", "saved_by_sharing")


def analysed(path: Path, plan: worlds.Plan, spent: Spent | None = None) -> Results:
    with ledger.read(path) as book:
        return analysis.analyse(
            frame.load(book), plan.study, spent=spent or book.spent(), settings=QUICK
        )


def money(found: Results, model: str) -> dict[str, Finding]:
    rows = [
        one for one in found.costs if one.quantity in QUANTITIES and one.model == model
    ]  # fmt: skip
    assert [one.quantity for one in rows] == list(QUANTITIES)
    return {one.quantity: one for one in rows}


def value(found: Results, model: str, quantity: str) -> float:
    made = money(found, model)[quantity].estimate.value
    assert made is not None
    return made


def test_models_paid_what_their_calls_cost_and_together_all_of_it(tmp_path: Path) -> None:
    dear = msgspec.structs.replace(worlds.PRICE, output_nusd_per_ktok=9_000_000)
    plan = worlds.plan([worlds.model("cheap"), worlds.model("dear", price=dear)], n_items=6)
    path = tmp_path / "ledger.db"
    worlds.run(plan, path, call=worlds.reply)
    with ledger.read(path) as book:
        by_name: dict[str, int] = {}
        for call in book.calls():
            by_name[call.request.model] = by_name.get(call.request.model, 0) + call.cost_nusd
        turns = {"cheap": 0, "dear": 0}
        for planned in book.cells():
            name = planned.cell.model.partition("/")[2]
            turns[name] += sum(turn.cost_nusd for _, _, turn in book.turns(planned.cell))
    found = analysed(path, plan)
    assert [one.model for one in found.costs if one.quantity == "paid"] == [
        "", "openai/cheap", "openai/dear",
    ]  # fmt: skip
    for name in ("cheap", "dear"):
        model = f"openai/{name}"
        assert value(found, model, "paid") == pytest.approx(by_name[name] / 1e9)
        assert value(found, model, "as_deployed") == pytest.approx(turns[name] / 1e9)
        saved = 1 - by_name[name] / turns[name]
        assert value(found, model, "saved_by_sharing") == pytest.approx(saved)
        assert saved > 0.1, "five protocols share their first answers"
    for quantity in ("paid", "as_deployed"):
        parts = [value(found, f"openai/{name}", quantity) for name in ("cheap", "dear")]
        assert sum(parts) == pytest.approx(value(found, "", quantity))
    whole = value(found, "", "paid") / value(found, "", "as_deployed")
    assert value(found, "", "saved_by_sharing") == pytest.approx(1 - whole)


def test_calls_of_unknown_fate_are_paid_and_named(tmp_path: Path) -> None:
    plan = worlds.plan([worlds.model("good"), worlds.model("lost")], n_items=3, names=("review",))

    async def loses(request: Request) -> Reply:
        if request.model == "lost":
            raise CallFailed(Failure("timeout", "late", maybe_billed=True))
        return await worlds.reply(request)

    path = tmp_path / "ledger.db"
    worlds.run(plan, path, call=loses)
    with ledger.read(path) as book:
        spent = book.spent()
    lost = spent.by_name["lost"]
    assert lost.uncertain_nusd == lost.spent_nusd > 0
    found = analysed(path, plan)
    made = money(found, "openai/lost")
    assert value(found, "openai/lost", "paid") == pytest.approx(lost.spent_nusd / 1e9)
    assert f"{lost.uncertain_nusd / 1e9:.6f} of it set aside" in made["paid"].estimate.note
    assert made["as_deployed"].estimate.value == 0
    assert made["saved_by_sharing"].estimate.value is None
    assert made["saved_by_sharing"].estimate.note == "as deployed it costs nothing"
    assert "0.000000 of it set aside" in money(found, "openai/good")["paid"].estimate.note


def test_models_that_share_a_name_are_not_told_apart(tmp_path: Path) -> None:
    plan = worlds.plan([worlds.model("toy"), worlds.model("other")], n_items=4)
    path = tmp_path / "ledger.db"
    worlds.run(plan, path, call=worlds.reply)
    twin = msgspec.structs.replace(
        worlds.model("toy", base_url="http://127.0.0.1:8/v1"), id="openai/twin"
    )
    study = msgspec.structs.replace(plan.study, models=(*plan.study.models, twin))
    found = analysed(path, replace(plan, study=study))
    with ledger.read(path) as book:
        joint = book.spent().by_name["toy"].spent_nusd
    for model, other in (("openai/toy", "openai/twin"), ("openai/twin", "openai/toy")):
        made = money(found, model)
        for quantity in ("paid", "saved_by_sharing"):
            assert made[quantity].estimate.value is None
            assert made[quantity].estimate.note.startswith(f"{other} asked for the same name, toy")
            assert f"{joint / 1e9:.6f} dollars" in made[quantity].estimate.note
    assert value(found, "openai/toy", "as_deployed") > 0, "that is known by cell"
    assert value(found, "openai/other", "paid") > 0


def test_without_names_there_is_only_the_whole(tmp_path: Path) -> None:
    plan = worlds.plan([worlds.model()], n_items=3, names=("review",))
    path = tmp_path / "ledger.db"
    worlds.run(plan, path, call=worlds.reply)
    found = analysed(path, plan, Spent(9, 0, 1_000, 0))
    assert [one.model for one in found.costs if one.quantity in QUANTITIES] == [""] * 3
