"""The simulated models do what their stated truth says, and the demo's estimates find it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from deltascale import analysis, datasets, engine, frame, ledger, protocols, scorers
from deltascale.datasets import Cache
from deltascale.demo import PROTOCOLS, agreement, demo_study
from deltascale.engine import Progress
from deltascale.plan import Plan
from deltascale.providers.simulated import truth
from deltascale.records import Limits, ModelSpec, Price, Size, Study


def demo_plan(seed: int, items: int) -> Plan:
    study = demo_study(seed=seed, items=items)
    loaded = tuple(
        datasets.load(spec, items=study.items, seed=study.seed, cache=Cache(Path("unused")))
        for spec in study.datasets
    )
    return Plan(
        study,
        loaded,
        {name: protocols.find(name) for name in study.protocols},
        {one.spec.name: scorers.find(one.scorer) for one in loaded},
    )


def estimates(path: Path, seed: int, items: int) -> tuple[analysis.CellResult, ...]:
    plan = demo_plan(seed, items)

    async def scenario() -> None:
        with ledger.write(path) as book:
            await engine.run(
                plan, book, environ={}, stop=asyncio.Event(), progress=Progress(), seed=0
            )

    asyncio.run(scenario())
    with ledger.read(path) as book:
        return analysis.cells(frame.load(book), plan.study)


def test_the_demo_finds_the_truth(tmp_path: Path) -> None:
    cells = estimates(tmp_path / "ledger.db", seed=3, items=24)
    found = agreement(cells)
    assert found.n_cells == 7 * 2 * 5
    # Cells of a model share draws, so the count scatters more than a binomial's; .80 is far out.
    assert found.n_inside >= 0.8 * found.n_cells
    assert "intervals hold the simulation's true delta" in str(found)


def test_the_demo_is_the_same_every_time(tmp_path: Path) -> None:
    first = estimates(tmp_path / "a.db", seed=5, items=3)
    assert first == estimates(tmp_path / "b.db", seed=5, items=3)
    assert first != estimates(tmp_path / "c.db", seed=6, items=3)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_truth_is_a_probability_and_the_null_is_zero(protocol: str) -> None:
    for parameters in (1e8, 1e9, 7e10):
        for turns in (2, 3, 4):
            found = truth(parameters, protocol, turns)
            assert 0 < found.first < 1
            assert 0 < found.first + found.delta < 1
            if protocol == "resample" or (protocol == "vote" and turns == 2):
                assert found.delta == pytest.approx(0, abs=1e-12)
            if protocol == "oracle":
                assert found.delta > 0


def test_small_models_are_harmed_and_large_ones_helped() -> None:
    assert truth(1e8, "review", 3).delta < 0 < truth(7e10, "review", 3).delta


def test_the_truth_of_an_unknown_protocol_is_not_made_up() -> None:
    with pytest.raises(ValueError, match="not known"):
        truth(1e9, "debate", 3)


@pytest.mark.slow
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_many_items_come_close_to_the_truth(tmp_path: Path, protocol: str) -> None:
    deltas, first = [], []
    for seed in range(8):
        cells = estimates(tmp_path / f"{protocol}{seed}.db", seed=seed, items=500)
        for one in cells:
            if one.cell.protocol == protocol and one.cell.model == "simulated/sim-3b":
                deltas.append(one.delta.value or 0.0)
                first.append(one.first.value or 0.0)
    true = truth(3e9, protocol, 3)
    # 8 seeds × 2 datasets × 500 items: a standard error of about 0.5 points.
    assert sum(first) / len(first) == pytest.approx(true.first, abs=0.02)
    assert sum(deltas) / len(deltas) == pytest.approx(true.delta, abs=0.02)


def test_simulated_models_answer_nothing_but_the_demo(tmp_path: Path) -> None:
    from tests import worlds

    size = Size("simulated", 1e9, citation="a simulation")
    model = ModelSpec(
        "simulated/x", "simulated", "x", size, Price(0, 0, 0, "t", "2026-01-01"), limits=Limits(2)
    )
    plan = worlds.plan([model], names=("review",), n_items=2)
    assert isinstance(plan.study, Study)
    progress = Progress()

    async def scenario() -> None:
        with ledger.write(tmp_path / "ledger.db") as book:
            await engine.run(
                plan, book, environ={}, stop=asyncio.Event(), progress=progress, seed=0
            )

    asyncio.run(scenario())
    assert progress.missing["simulated/x", "sums"] == 2
