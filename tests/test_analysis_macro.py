"""Each model's delta over all datasets: which models have one, and what it is made of."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from scipy.special import stdtrit

from deltascale.analysis import Finding, Results, analyse
from deltascale.analysis.results import ALL_DATASETS
from deltascale.frame import Frame
from deltascale.records import ModelSpec
from deltascale.stats.clustered import bonett_price_floor, clustered_mean
from tests.frames import QUICK, flipped, make_frame, model, pick, study

DATASETS = {"one": 30, "two": 200, "three": 80}


def world(
    models: Sequence[ModelSpec], *, protocols: Sequence[str] = ("review", "resample")
) -> list[Frame]:
    rng = np.random.default_rng(3)
    return [
        make_frame(
            dataset,
            {
                (one.id, protocol): flipped(rng, n, 0.5, 0.3, 0.1)
                for one in models
                for protocol in protocols
            },
        )
        for dataset, n in DATASETS.items()
    ]


def means(found: Results, **where: object) -> list[Finding]:
    return pick(found.contrasts, "macro_delta", **where)


def test_datasets_weigh_alike_and_their_variances_add() -> None:
    models = [model(1.0), model(8.0)]
    frames = world(models)
    frames[1].score_CIET[0, :25, :, 1] = np.nan
    found = analyse(frames, study(models, "review", "resample"), settings=QUICK)
    assert len(means(found)) == 4, "two models by two protocols"
    for row in means(found):
        assert row.dataset == ALL_DATASETS
        assert row.p_value is None, "no test, so no family"
        own = [
            one for one in found.cells
            if (one.cell.model, one.cell.protocol) == (row.model, row.protocol)
        ]  # fmt: skip
        made = row.estimate
        assert made.estimand.startswith("E1")
        assert made.value == pytest.approx(np.mean([one.delta.value or 0 for one in own]))
        assert made.n == sum(one.delta.n for one in own)
        assert made.n_missing == sum(one.n_missing for one in own)
        of = {cell: c for c, cell in enumerate(frames[0].cells)}
        place = next(c for cell, c in of.items()
                     if (cell.model, cell.protocol) == (row.model, row.protocol))  # fmt: skip
        errors = [
            clustered_mean(frame.score_CIET[place, :, 0, 1] - frame.score_CIET[place, :, 0, 0])
            for frame in frames
        ]
        variance = np.array([one.se_cr1**2 for one in errors])
        df = variance.sum() ** 2 / np.sum(variance**2 / [one.clusters - 1 for one in errors])
        half = float(stdtrit(df, 0.975)) * np.sqrt(variance.sum()) / 3
        assert made.low == pytest.approx((made.value or 0) - half)
        assert made.high == pytest.approx((made.value or 0) + half)
    (holed,) = means(found, model=models[0].id, protocol="review")
    assert (holed.estimate.n, holed.estimate.n_missing) == (310 - 25, 25)


def test_a_model_of_unknown_size_has_a_mean_and_one_without_a_dataset_has_none() -> None:
    models = [model(1.0), model(None), model(None, low=30.0)]
    frames = world(models, protocols=("review",))
    frames[2].score_CIET[2] = np.nan
    found = analyse(frames, study(models, "review"), settings=QUICK)
    assert {row.model for row in means(found)} == {models[0].id, models[1].id}


def test_a_dataset_without_any_answer_is_none_of_them() -> None:
    models = [model(1.0), model(8.0)]
    frames = world(models, protocols=("review",))
    frames[2].score_CIET[:] = np.nan
    found = analyse(frames, study(models, "review"), settings=QUICK)
    assert {row.estimate.estimand for row in means(found)} == {
        "E1: delta, mean over 2 datasets of equal weight"
    }
    frames[1].score_CIET[:] = np.nan
    assert not means(analyse(frames, study(models, "review"), settings=QUICK)), "one is no mean"


def test_an_oracle_has_no_mean_and_a_withheld_cell_is_not_in_one() -> None:
    models = [model(1.0), model(8.0)]
    frames = world(models, protocols=("review", "oracle"))
    frames[0].reply_CIET[0] = 1
    frames[0].reply_error_CIET[0] = True
    found = analyse(frames, study(models, "review", "oracle"), settings=QUICK)
    assert [(row.model, row.protocol) for row in means(found)] == [(models[1].id, "review")]


def test_a_dataset_in_which_nothing_flips_is_not_certain() -> None:
    models = [model(1.0)]
    frames = world(models, protocols=("review",))
    for frame in frames:
        frame.score_CIET[..., 1] = frame.score_CIET[..., 0]
    (row,) = means(analyse(frames, study(models, "review"), settings=QUICK))
    floors = np.array([bonett_price_floor(n) for n in DATASETS.values()])
    assert row.estimate.value == 0
    assert (row.estimate.high or 0) > 1.96 * np.sqrt(floors.sum()) / 3


def test_it_is_the_point_that_the_forms_are_fitted_to() -> None:
    models = [model(4.0**k) for k in range(7)]
    found = analyse(world(models), study(models, "review", "resample"), settings=QUICK)
    constant = next(
        row for row in found.predictions if (row.dataset, row.form) == (ALL_DATASETS, "constant")
    )
    values = [row.estimate.value or 0 for row in means(found, protocol="review")]
    assert min(values) <= (constant.mean.value or 0) <= max(values)
    (trend,) = pick(found.contrasts, "trend")
    x = np.log([4.0**k for k in range(7)])
    assert trend.estimate.value == pytest.approx(np.polyfit(x, values, 1)[0])
