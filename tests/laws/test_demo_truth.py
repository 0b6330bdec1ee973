"""The analysis of the demo holds the simulation's truth as often as its intervals say."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from deltascale import analysis, engine, frame, ledger
from deltascale.analysis import CellResult, Settings
from deltascale.engine import Progress
from deltascale.providers.simulated import truth
from tests.test_simulated import demo_plan

ONE = Settings(replicates=1)
"""The headline intervals need no bootstrap."""


def cells(path: Path, seed: int, items: int) -> tuple[CellResult, ...]:
    plan = demo_plan(seed, items)

    async def scenario() -> None:
        with ledger.write(path) as book:
            await engine.run(
                plan, book, environ={}, stop=asyncio.Event(), progress=Progress(), seed=0
            )

    asyncio.run(scenario())
    with ledger.read(path) as book:
        return analysis.cells(frame.load(book), plan.study, ONE)


def coverage(directory: Path, seeds: range, items: int) -> dict[str, tuple[int, int]]:
    """By protocol: how many intervals hold the true delta, of how many."""
    found: dict[str, tuple[int, int]] = {}
    for seed in seeds:
        path = directory / f"{seed}.db"
        for one in cells(path, seed, items):
            size = one.model.size.parameters or 0.0
            true = truth(size, one.cell.protocol, one.n_turns).delta
            low, high = one.delta.low, one.delta.high
            assert low is not None
            assert high is not None
            held, n = found.get(one.cell.protocol, (0, 0))
            found[one.cell.protocol] = held + (low <= true <= high), n + 1
        path.unlink()
    return found


@pytest.mark.slow
def test_intervals_hold_the_truth_of_a_few_demos(tmp_path: Path) -> None:
    found = coverage(tmp_path, range(100, 102), 25)
    held, n = (sum(column) for column in zip(*found.values(), strict=True))
    assert n == 2 * 70
    # Cells of a model share answers, so the count scatters more than a binomial's.
    assert held >= 0.88 * n


@pytest.mark.slow
@pytest.mark.timeout(3_600)
def test_intervals_hold_the_truth_as_often_as_they_say(tmp_path: Path) -> None:
    found = coverage(tmp_path, range(200), 60)
    held, n = (sum(column) for column in zip(*found.values(), strict=True))
    assert n == 200 * 70
    assert 0.94 <= held / n <= 0.975, found
    for protocol, (own, of) in found.items():
        assert 0.93 <= own / of <= 0.99, (protocol, own / of)
