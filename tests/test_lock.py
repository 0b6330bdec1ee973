"""The lock lets a study grow and refuses one that would mean something else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from deltascale import scorers
from deltascale.archive import lock
from deltascale.errors import Mistake
from deltascale.plan import Plan
from deltascale.records import Price, Size
from tests import worlds

BASE = worlds.plan([worlds.model()], names=("review",), n_items=6)


def with_study(**changes: object) -> Plan:
    return Plan(replace(BASE.study, **changes), BASE.loaded, BASE.protocols, BASE.scorers)


@pytest.mark.parametrize(
    ("later", "names"),
    [
        (with_study(turns=4), "turns was 3 and is 4"),
        (with_study(max_tokens=99), "max_tokens was 64 and is 99"),
        (with_study(system="Be brief."), "system"),
        (with_study(seed=1), "seed"),
        (with_study(confirmatory=("review",)), "confirmatory was"),
        (
            with_study(models=(worlds.model(base_url="http://127.0.0.1:8/v1"),)),
            "model openai/toy has other settings",
        ),
        (worlds.plan([worlds.model()], names=("review",), n_items=6), ""),
        (worlds.plan([worlds.model()], names=("review", "vote"), n_items=3), ""),
        (worlds.plan([worlds.model(), worlds.model("b")], names=("vote",), n_items=9), ""),
        (with_study(budget_nusd=5, epochs=3), ""),
    ],
)
def test_what_may_change_and_what_may_not(later: Plan, names: str) -> None:
    before = lock.make(BASE)
    if not names:
        lock.merge(before, lock.make(later), where="runs/x")
        return
    with pytest.raises(Mistake, match=names) as refused:
        lock.merge(before, lock.make(later), where="runs/x")
    assert "\n" not in str(refused.value)
    assert "--out" in str(refused.value)


def _other_prompts(plan: Plan) -> Plan:
    from dataclasses import replace as changed

    review = changed(plan.protocols["review"], prompts={"review": "Think again."})
    return Plan(plan.study, plan.loaded, {"review": review}, plan.scorers)


def _other_scorer(plan: Plan) -> Plan:
    return Plan(plan.study, plan.loaded, plan.protocols, {"sums": scorers.find("exact")})


def _other_items(plan: Plan) -> Plan:
    from dataclasses import replace as changed

    backwards = changed(plan.loaded[0], items=plan.loaded[0].items[::-1])
    return Plan(plan.study, (backwards,), plan.protocols, plan.scorers)


@pytest.mark.parametrize("change", [_other_prompts, _other_scorer, _other_items])
def test_prompts_scorers_and_items_are_part_of_the_meaning(change: Callable[[Plan], Plan]) -> None:
    with pytest.raises(Mistake, match="another meaning"):
        lock.merge(lock.make(BASE), lock.make(change(BASE)), where="runs/x")


def test_a_merged_lock_holds_both(tmp_path: Path) -> None:
    later = worlds.plan([worlds.model("b")], names=("vote",), n_items=9)
    merged = lock.merge(lock.make(BASE), lock.make(later), where="runs/x")
    lock.write(tmp_path, merged)
    assert lock.read(tmp_path) == merged
    assert [model.id for model in merged.study.models] == ["openai/toy", "openai/b"]
    assert set(merged.protocols) == {"review", "vote"}
    assert len(merged.datasets["sums"].ids) == 9


def test_prices_and_sizes_are_frozen_when_a_model_is_new() -> None:
    dearer = replace(
        worlds.model(),
        price=Price(9, 9, 9, "later", "2027-01-01"),
        size=Size("estimate", low=1.0, high=2.0, citation="later"),
    )
    study = lock.frozen(replace(BASE.study, models=(dearer, worlds.model("b"))), lock.make(BASE))
    assert study.models[0].price == worlds.PRICE
    assert study.models[0].size == worlds.model().size
    assert lock.frozen(study, None) == study


def test_a_damaged_lock_is_one_line(tmp_path: Path) -> None:
    assert lock.read(tmp_path) is None
    (tmp_path / lock.FILE).write_text('{"study": 3}')
    with pytest.raises(Mistake, match="can't be read") as damaged:
        lock.read(tmp_path)
    assert "\n" not in str(damaged.value)
