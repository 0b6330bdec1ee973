"""From ledger to estimates: the right cells, counts, intervals and bounds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltascale import analysis, frame, ledger
from deltascale.analysis import CellResult
from deltascale.records import Cell, Item, Question, Sample, Study, Turn
from deltascale.stats.paired import manski_bounds, tango_interval
from tests import worlds

Scores = Mapping[tuple[int, int], tuple[float | None, float | None]]
"""(item, epoch) → score at the first and at the last turn; None is missing, absent is not asked."""


def results(
    tmp_path: Path,
    scores: Mapping[str, Scores],
    *,
    n_items: int,
    n_epochs: int = 1,
    clusters: tuple[str, ...] = (),
) -> dict[str, CellResult]:
    """Write a ledger by hand, a protocol each, and analyse it."""
    path = tmp_path / "ledger.db"
    items = tuple(
        Item(f"i{n:03d}", Question((), ""), "1", cluster=clusters[n] if clusters else "")
        for n in range(n_items)
    )
    with ledger.write(path) as book:
        book.keep_items("sums", items)
        for protocol, by_sample in scores.items():
            cell = Cell("openai/toy", "sums", protocol, 0.7)
            book.keep_cell(cell, n_items=n_items, n_epochs=n_epochs, n_turns=2)
            for (item, epoch), pair in by_sample.items():
                turns = tuple(
                    Turn(number, "failed", n_calls=1)
                    if score is None
                    else Turn(number, "ok", str(score), score, n_calls=1, cost_nusd=1_000_000)
                    for number, score in enumerate(pair)
                )
                book.keep_sample(Sample(cell, items[item], epoch), turns)
    study = Study("t", (worlds.model(),), (), tuple(scores), turns=2)
    with ledger.read(path) as book:
        found = analysis.cells(frame.load(book), study)
    return {one.cell.protocol: one for one in found}


def table(n11: int, n01: int, n10: int, n00: int) -> Scores:
    pairs = [(1.0, 1.0)] * n11 + [(0.0, 1.0)] * n01 + [(1.0, 0.0)] * n10 + [(0.0, 0.0)] * n00
    return {(n, 0): pair for n, pair in enumerate(pairs)}


@given(counts=st.tuples(*[st.integers(0, 12)] * 4).filter(lambda c: sum(c) > 0))
def test_fixed_less_broken_is_delta_times_n(
    tmp_path_factory: pytest.TempPathFactory, counts: tuple[int, int, int, int]
) -> None:
    _, n01, n10, _ = counts
    n = sum(counts)
    found = results(tmp_path_factory.mktemp("law"), {"review": table(*counts)}, n_items=n)["review"]
    assert (found.fixed, found.broken) == (n01, n10)
    assert found.delta.value == (n01 - n10) / n
    assert found.last.value is not None
    assert found.first.value is not None
    assert found.last.value - found.first.value == pytest.approx((n01 - n10) / n, abs=1e-12)
    assert (found.delta.low, found.delta.high) == pytest.approx(tango_interval(n01, n10, n))
    assert found.delta.method == "Tango"
    assert found.worst.value == found.best.value == pytest.approx(found.delta.value)
    assert found.n_missing == 0


def test_the_test_is_mcnemars_mid_p_and_holm_is_over_the_corrections(tmp_path: Path) -> None:
    found = results(
        tmp_path,
        {
            "review": table(10, 9, 1, 10),
            "critique": table(10, 3, 2, 15),
            "vote": table(10, 6, 1, 13),
            "resample": table(10, 9, 0, 11),
            "oracle": table(10, 9, 0, 11),
        },
        n_items=30,
    )
    from scipy.stats import binom

    exact = 2 * binom.cdf(1, 10, 0.5)
    mid_p = exact - binom.pmf(1, 10, 0.5)
    assert found["review"].p_value == pytest.approx(mid_p, abs=1e-12)
    assert found["review"].p_holm == pytest.approx(3 * mid_p)
    assert {found[name].family_size for name in ("review", "critique", "vote")} == {3}
    assert found["resample"].p_holm is None
    assert found["resample"].p_value is not None
    assert found["oracle"].p_value is None, "an oracle is not tested"
    assert found["oracle"].regime == "verdict"


def test_missing_answers_leave_both_accuracies_and_are_bounded(tmp_path: Path) -> None:
    scores: dict[tuple[int, int], tuple[float | None, float | None]] = dict(table(5, 3, 1, 4))
    scores[13, 0] = (1.0, None)
    scores[14, 0] = (0.0, None)
    scores[15, 0] = (None, None)
    # 16 and 17 are planned and were never asked.
    found = results(tmp_path, {"review": scores}, n_items=18)["review"]
    assert found.delta.n == 13
    assert found.n_missing == 5
    assert found.first.value == 6 / 13
    bounds = manski_bounds(3, 1, 13, lost_right=1, lost_wrong=1, lost_both=3)
    assert found.worst.value == bounds.low == (3 - 1 - 1 - 3) / 18
    assert found.best.value == bounds.high == (3 - 1 + 1 + 3) / 18
    assert found.n_by_outcome_last == {"ok": 13, "failed": 3, "not_asked": 2}


def test_epochs_and_clusters_widen_the_interval(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    n_items, n_epochs = 60, 4
    scores: dict[tuple[int, int], tuple[float | None, float | None]] = {}
    for item in range(n_items):
        fixes = rng.random() < 0.4
        for epoch in range(n_epochs):
            scores[item, epoch] = (0.0, float(fixes and rng.random() < 0.95))
    found = results(tmp_path, {"review": scores}, n_items=n_items, n_epochs=n_epochs)["review"]
    fixed, n = found.fixed or 0, n_items * n_epochs
    naive = tango_interval(fixed, 0, n)
    assert found.delta.method == "CR1 t"
    assert found.p_method == "cluster sign-flip"
    assert (found.delta.high or 0) - (found.delta.low or 0) > 1.5 * naive.width
    assert found.delta.value == pytest.approx(fixed / n)


def test_few_clusters_take_a_score_interval_with_the_design_effect(tmp_path: Path) -> None:
    clusters = tuple(f"c{n // 6}" for n in range(30))
    scores = table(10, 6, 0, 14)
    found = results(tmp_path, {"review": scores}, n_items=30, clusters=clusters)["review"]
    assert found.delta.method == "deff-Tango"
    assert found.delta.low is not None
    assert found.delta.low < found.delta.value < (found.delta.high or 0)  # type: ignore[operator]


def test_graded_scores_have_no_flips_and_a_t_interval(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    first, last = rng.random(40), rng.random(40)
    scores: Scores = {
        (n, 0): (float(a), float(b)) for n, (a, b) in enumerate(zip(first, last, strict=True))
    }
    found = results(tmp_path, {"review": scores}, n_items=40)["review"]
    assert found.fixed is None
    assert found.worst.value is None
    from scipy.stats import ttest_rel

    expected = ttest_rel(last, first).confidence_interval()
    assert found.delta.low == pytest.approx(expected.low)
    assert found.delta.high == pytest.approx(expected.high)


def test_a_cell_without_any_answer_has_no_number(tmp_path: Path) -> None:
    found = results(tmp_path, {"review": {(0, 0): (None, None)}}, n_items=3)["review"]
    assert found.delta.value is None
    assert found.delta.note
    assert found.p_value is None
    assert found.p_holm is None
    assert found.n_missing == 3


def test_order_changes_no_estimate(tmp_path: Path) -> None:
    scores = table(7, 5, 3, 9)
    backwards = dict(reversed(scores.items()))
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    assert results(one, {"review": scores}, n_items=24) == results(
        two, {"review": backwards}, n_items=24
    )


def test_turns_are_compared_with_turn_0(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    worlds.run(worlds.plan([worlds.model()], n_items=20), path, call=worlds.reply)
    with ledger.read(path) as book:
        frames = frame.load(book)
    study = worlds.plan([worlds.model()]).study
    cells = {one.cell.id: one for one in analysis.cells(frames, study)}
    found = list(analysis.turns(frames))
    assert len(found) == 5 * 3
    for one in found:
        if one.turn == 0:
            assert one.delta.value == 0.0
            assert one.accuracy.value == cells[one.cell.id].first.value
        if one.turn == 2:
            assert one.delta.value == cells[one.cell.id].delta.value
        assert sum(one.outcomes.values()) == 20
    costs = {one.cell.id: 0.0 for one in found}
    for one in found:
        costs[one.cell.id] += one.cost_usd
    for cell, cost in costs.items():
        assert cells[cell].cost_usd == pytest.approx(cost)
    review = next(one for one in cells.values() if one.cell.protocol == "review")
    assert 0 < review.cost_extra_usd < review.cost_usd
