"""What "size" may mean: axes are compared on the same models, and capability is never y0 itself."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace as put
from functools import cache

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from numpy.typing import NDArray

from deltascale import analysis, catalog
from deltascale.analysis import arms as arms_of
from deltascale.analysis import axes
from deltascale.analysis.arms import Arm, groups
from deltascale.analysis.contrasts import Panel, panels
from deltascale.analysis.results import ALL_DATASETS, Finding, Settings
from deltascale.frame import Frame
from deltascale.records import ModelSpec, Price, Size
from deltascale.stats import axis_league, trend_over_such_models
from tests.frames import QUICK, flipped, make_frame, pick, study

Floats = NDArray[np.float64]


def model(
    number: int, billions: float, *, tokens: float | None = None, **other: object
) -> ModelSpec:
    size = Size(
        "published", billions * 1e9, citation="a test", training_tokens=tokens,
        training_citation="a test" if tokens else "",
    )  # fmt: skip
    free = Price(0, 0, 0, "test", "2026-01-01")
    made = ModelSpec(f"openai/m{number}", "openai", f"m{number}", size, free)
    return replace(made, **other)


def world(
    specs: Sequence[ModelSpec],
    seed: int,
    *,
    n: int = 120,
    first: Sequence[float] | None = None,
    fix: Sequence[float] | None = None,
    datasets: Sequence[str] = ("d",),
    epochs: int = 1,
) -> tuple[Frame, ...]:
    """Models of these rates under `review`; unless said otherwise all are alike."""
    rng = np.random.default_rng(seed)
    frames = []
    for name in datasets:
        scores = {
            (one.id, "review"): np.concatenate(
                [
                    flipped(rng, n, first[m] if first else 0.5, fix[m] if fix else 0.2, 0.1)
                    for _ in range(epochs)
                ],
                axis=1,
            )
            for m, one in enumerate(specs)
        }
        frames.append(make_frame(name, scores))
    return tuple(frames)


def found_in(frames: Sequence[Frame], specs: Sequence[ModelSpec]) -> tuple[Arm, ...]:
    return arms_of.arms(frames, study(specs, "review"))


def rows(
    frames: Sequence[Frame], specs: Sequence[ModelSpec]
) -> tuple[list[Finding], Mapping[str, Sequence[Arm]]]:
    found = found_in(frames, specs)
    ((protocol, temperature), by_dataset) = next(iter(groups(found).items()))
    args = protocol, temperature, by_dataset, found, Settings()
    return [*axes.league(*args), *axes.slopes(*args)], by_dataset


def only_panel(frames: Sequence[Frame], specs: Sequence[ModelSpec]) -> Panel:
    return panels(next(iter(groups(found_in(frames, specs)).values())))[-1]


LADDER = [model(k, 4.0**k, tokens=1e12 * (1 + k % 3)) for k in range(7)]
SOME = [replace(m, size=put_tokens) for m, put_tokens in zip(
    LADDER,
    [m.size if k not in (1, 4) else replace(m.size, training_tokens=None, training_citation="")
     for k, m in enumerate(LADDER)],
    strict=True,
)]  # fmt: skip


# --- which axes there are ------------------------------------------------------------------------


def test_an_axis_that_only_repeats_ln_parameters_is_none() -> None:
    alike = [model(k, 4.0**k, tokens=2e12) for k in range(5)]
    names = [a.name for a in axes.axes_of(only_panel(world(alike, 1), alike), 0.7, (), Settings())]
    assert names == ["ln parameters"]
    mixed = [
        replace(one, size=replace(one.size, active=one.size.parameters / (2 + k % 2)))
        for k, one in enumerate(alike)
    ]
    panel = only_panel(world(mixed, 1), mixed)
    of = {a.name: a.x_M for a in axes.axes_of(panel, 0.7, (), Settings())}
    assert list(of) == ["ln parameters", "ln active parameters", "ln training FLOPs"]
    expected = [math.log(catalog.training_flops(m.size) or math.nan) for m in panel.models]
    np.testing.assert_allclose(of["ln training FLOPs"], expected)
    np.testing.assert_allclose(np.exp(of["ln active parameters"]), [m.size.active for m in mixed])


# --- leagues -------------------------------------------------------------------------------------


def test_all_errors_of_a_league_are_over_the_same_models_and_items() -> None:
    made, by_dataset = rows(world(LADDER, 2), LADDER)
    line = pick(made, "axis_rmse_line")
    assert {row.versus for row in line} == {
        "ln parameters", "ln training FLOPs", "accuracy on the other half",
    }  # fmt: skip
    assert {row.estimate.n for row in line} == {7}
    assert not [row for row in made if row.quantity.endswith("_where_training_is_known")]
    (panel,) = panels(by_dataset)
    sides = axes.halves(panel)
    of = {a.name: a.x_M for a in axes.axes_of(panel, 0.7, (), Settings())}
    for row in line:
        squares = []
        for half in sides:
            x_M = of.get(row.versus, half.capability.x_M)
            (score,) = axis_league(
                x_M[None], half.panel.delta_M, half.panel.cov_MM, names=[row.versus]
            )
            squares.append(score.rmse_loglinear**2)
        assert row.estimate.value == pytest.approx(math.sqrt(np.mean(squares)))
        assert "two halves of the items" in row.estimate.method
    places = sorted(row.estimate.note for row in line)
    assert places == [f"place {k} of 3" for k in (1, 2, 3)]
    best = {
        row.versus: min(
            r.estimate.value or math.inf for r in made
            if r.versus == row.versus and r.quantity.startswith("axis_rmse")
        )
        for row in line
    }  # fmt: skip
    assert [row.versus for row in line] == sorted(best, key=best.__getitem__)


def test_models_without_training_tokens_are_in_no_league_with_flops() -> None:
    made, _ = rows(world(SOME, 3), SOME)
    of_all = pick(made, "axis_rmse_line")
    assert "ln training FLOPs" not in {row.versus for row in of_all}
    assert {row.estimate.n for row in of_all} == {7}
    of_some = pick(made, "axis_rmse_line_where_training_is_known")
    assert {row.versus for row in of_some} == {
        "ln parameters", "ln training FLOPs", "accuracy on the other half",
    }  # fmt: skip
    assert {row.estimate.n for row in of_some} == {5}
    assert all("among 5 of 7 models" in row.estimate.note for row in of_some)
    # The same errors as if the two had never been in the study.
    kept = [m for m in SOME if m.size.training_tokens]
    frames = tuple(
        make_frame(f.dataset, {
            (cell.model, cell.protocol): f.score_CIET[c]
            for c, cell in enumerate(f.cells) if cell.model in {m.id for m in kept}
        })
        for f in world(SOME, 3)
    )  # fmt: skip
    alone = pick(rows(frames, kept)[0], "axis_rmse_line")
    assert {r.versus: r.estimate.value for r in alone} == pytest.approx(
        {r.versus: r.estimate.value for r in of_some}
    )


def test_three_models_with_training_tokens_are_no_league() -> None:
    few = [
        m if k < 3 else replace(m, size=replace(m.size, training_tokens=None, training_citation=""))
        for k, m in enumerate(LADDER)
    ]
    made, _ = rows(world(few, 4), few)
    assert not [row for row in made if row.quantity.endswith("_where_training_is_known")]
    (slope,) = pick(made, "slope_by_axis", versus="ln training FLOPs")
    assert slope.estimate.n == 3


def test_other_datasets_are_preferred_to_the_other_half() -> None:
    made, _ = rows(world(LADDER, 5, datasets=("one", "two")), LADDER)
    for dataset in ("one", "two"):
        names = {row.versus for row in pick(made, "axis_rmse_line", dataset=dataset)}
        assert "accuracy on other datasets" in names
        assert "accuracy on the other half" not in names
    of_all = {row.versus: row for row in pick(made, "slope_by_axis")}
    assert {row.dataset for row in of_all.values()} == {ALL_DATASETS}
    assert "accuracy on the other half" in of_all, "no dataset is left over"


# --- the trend on each axis ----------------------------------------------------------------------


def test_the_slope_on_an_axis_is_least_squares_with_t() -> None:
    frames = world(SOME, 6, fix=[0.1 + 0.05 * k for k in range(7)])
    made, by_dataset = rows(frames, SOME)
    (panel,) = panels(by_dataset)
    of = {row.versus: row for row in pick(made, "slope_by_axis")}
    plain = trend_over_such_models(panel.size_M, panel.delta_M)
    assert of["ln parameters"].estimate.value == pytest.approx(plain.slope)
    assert of["ln parameters"].estimate.low == pytest.approx(plain.interval.low)
    flops = [catalog.training_flops(m.size) for m in panel.models]
    has = np.array([f is not None for f in flops])
    x_M = np.log([f for f in flops if f is not None])
    row = of["ln training FLOPs"]
    assert row.estimate.value == pytest.approx(np.polyfit(x_M, panel.delta_M[has], 1)[0])
    assert row.estimate.n == 5
    assert row.estimate.unit == "share per e-fold"
    again = trend_over_such_models(panel.size_M[has], panel.delta_M[has])
    assert row.estimate.note == (
        "5 of 7 models, those whose training tokens are known; "
        f"their slope per e-fold of parameters is {100 * again.slope:+.2f} points"
    )
    split = of["accuracy on the other half"]
    per_half = [
        trend_over_such_models(np.exp(half.capability.x_M), half.panel.delta_M)
        for half in axes.halves(panel)
    ]
    assert split.estimate.unit == "share per 10 points"
    assert split.estimate.value == pytest.approx(np.mean([one.slope for one in per_half]))
    assert split.estimate.low == pytest.approx(np.mean([one.interval.low for one in per_half]))
    assert split.estimate.high == pytest.approx(np.mean([one.interval.high for one in per_half]))
    assert split.p_value is not None
    sure = (split.estimate.low or 0) > 0 or (split.estimate.high or 0) < 0
    assert sure == (split.p_value < 0.05)


def test_a_study_tells_its_slopes_and_leagues() -> None:
    found = analysis.analyse(world(SOME, 7), study(SOME, "review"), settings=QUICK).sensitivity
    assert {row.versus for row in pick(found, "slope_by_axis")} == {
        "ln parameters", "ln training FLOPs", "accuracy on the other half",
    }  # fmt: skip
    assert pick(found, "axis_rmse_line_where_training_is_known")


# --- two halves of the items ---------------------------------------------------------------------


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 60), min_size=40, max_size=40), st.integers(1, 3))
def test_no_cluster_is_on_both_sides_whatever_its_place(labels: list[int], epochs: int) -> None:
    assume(len(set(labels)) > 1)
    specs = LADDER[:2]
    (frame,) = world(specs, 8, n=40, epochs=epochs)
    frame = put(frame, clusters=tuple(f"c{label}" for label in labels))
    sides = axes.halves(only_panel((frame,), specs))
    if not sides:
        return
    whole = only_panel((frame,), specs)
    for m in range(2):
        (own,) = whole.members.values()
        known = [next(iter(half.panel.members.values()))[m].known for half in sides]
        assert (known[0] ^ known[1] == own[m].known).all(), "every pair is in one half"
        assert not set(own[m].cluster_S[known[0]]) & set(own[m].cluster_S[known[1]])
        for half, other in zip(sides, known[::-1], strict=True):
            right = own[m].first[other].mean()
            assert half.capability.x_M[m] == pytest.approx(10 * right)
            assert half.panel.delta_M[m] == pytest.approx(own[m].d[~other].mean())
    # Another order of the items moves none of them to the other half.
    turned = put(
        frame, clusters=frame.clusters[::-1],
        **{name: getattr(frame, name)[:, ::-1] for name in ("score_CIET", "planned_CIE")},
    )  # fmt: skip
    again = axes.halves(only_panel((turned,), specs))
    for one, two in zip(sides, again, strict=True):
        np.testing.assert_allclose(one.panel.delta_M, two.panel.delta_M)


def test_the_halves_are_the_same_on_every_machine() -> None:
    (arm, *_) = found_in(world(LADDER[:2], 9, n=24), LADDER[:2])
    bits = "".join(str(int(bit)) for bit in axes._upper(arm))
    assert bits == "010101011001001101101110"


def test_too_few_clusters_have_no_halves() -> None:
    (frame,) = world(LADDER, 10, n=40)
    frame = put(frame, clusters=tuple("ab"[k % 2] for k in range(40)))
    assert axes.halves(only_panel((frame,), LADDER)) == ()
    names = {row.versus for row in rows((frame,), LADDER)[0]}
    assert names == {"ln parameters", "ln training FLOPs"}


MODELS = 12
STUDIES = 40


@cache
def noise() -> tuple[list[float], list[float], list[float], list[bool]]:
    """Forty studies in which nothing depends on anything: twelve equal models answer twice afresh.

    Of each: t of delta on the accuracy of the same first answers, and its error over that of ln
    parameters; the same ratio for the accuracy on the other half, and whether the limits of its
    slope hold 0.
    """
    specs = [model(k, 2.0**k) for k in range(MODELS)]
    naive_t, naive, split, covered = [], [], [], []
    for seed in range(STUDIES):
        rng = np.random.default_rng([11, seed])
        scores = {
            (one.id, "review"): (rng.random((100, 1, 2)) < 0.5).astype(float) for one in specs
        }
        made, by_dataset = rows((make_frame("d", scores),), specs)
        (panel,) = panels(by_dataset)
        same_M = np.array([arm.first.mean() for arm in by_dataset["d"]])
        line = trend_over_such_models(np.exp(10 * same_M), panel.delta_M)
        naive_t.append(line.slope / line.se)
        on_same, on_size = sorted(
            axis_league(
                np.stack([10 * same_M, np.log(panel.size_M)]), panel.delta_M, panel.cov_MM,
                names=["same", "size"],
            ),
            key=lambda score: score.name,
        )  # fmt: skip
        naive.append(on_same.rmse_loglinear / on_size.rmse_loglinear)
        rmse = {row.versus: row.estimate.value or 0 for row in pick(made, "axis_rmse_line")}
        split.append(rmse["accuracy on the other half"] / rmse["ln parameters"])
        (slope,) = pick(made, "slope_by_axis", versus="accuracy on the other half")
        assert slope.estimate.low is not None
        assert slope.estimate.high is not None
        covered.append(slope.estimate.low <= 0 <= slope.estimate.high)
    return naive_t, naive, split, covered


def test_accuracy_of_the_same_answers_would_win_every_league() -> None:
    """What is guarded against: where y0 is pure noise, delta falls by a point for each of it."""
    naive_t, naive, _, _ = noise()
    assert np.mean(np.array(naive_t) < -2) > 0.8, "a 'law' in most studies without one"
    assert np.median(naive) < 0.85
    assert np.mean(np.array(naive) < 1) > 0.8


def test_accuracy_on_the_other_half_wins_no_more_than_chance() -> None:
    """Limits that cover 95 % miss more than 5 of 40 times with probability 1.4 %; two equally
    useless axes differ by a factor near one, and each is the better about half of the time (20 of
    40, standard deviation 3.2; 12 to 28 is two and a half)."""
    _, _, split, covered = noise()
    assert sum(covered) >= STUDIES - 5
    assert np.median(split) == pytest.approx(1, abs=0.05)
    assert 12 <= sum(ratio < 1 for ratio in split) <= 28


def test_a_capability_that_decides_wins() -> None:
    rng = np.random.default_rng(12)
    ability = rng.permutation(np.linspace(0.2, 0.8, 8))
    specs = [model(k, 2.0**k, tokens=1e12 * (1 + k % 3)) for k in range(8)]
    frames = world(specs, 13, n=600, first=list(ability), fix=[0.5] * 8)
    made, _ = rows(frames, specs)
    best = pick(made, "axis_rmse_line")[0]
    assert best.versus == "accuracy on the other half"
    assert best.estimate.note.startswith("place 1 of 3")
    of = {row.versus: row.estimate for row in pick(made, "slope_by_axis")}
    slope = of["accuracy on the other half"]
    # delta = .5 (1 - a) - .1 a falls by 6 points for each 10 of accuracy.
    assert slope.low is not None
    assert slope.high is not None
    assert slope.low < -0.06 < slope.high < 0
    assert (of["ln parameters"].low or 0) < 0 < (of["ln parameters"].high or 0)
