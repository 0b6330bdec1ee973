"""Fits against size: which models enter, what is refused, what is claimed."""

from __future__ import annotations

import numpy as np
import pytest
from msgspec.structs import replace

from deltascale.analysis import Settings, analyse
from tests.frames import (
    QUICK,
    flipped,
    make_frame,
    model,
    null_world,
    pick,
    scaling_world,
    study,
)

# --- against size --------------------------------------------------------------------------------


def test_three_models_are_not_fitted_and_the_reason_is_said() -> None:
    frame, made = scaling_world(6, [1, 8, 64])
    found = analyse((frame,), made, settings=QUICK)
    (row,) = found.scaling
    assert (row.form, row.n_models) == ("none", 3)
    assert "3 models of different size: nothing is fitted below 4" in row.note
    assert not found.predictions
    for threshold in found.thresholds:
        assert threshold.estimate.value is None
        assert "nothing is fitted" in threshold.estimate.note
    (claim,) = found.claims
    assert claim.rung <= 2
    assert "no_fit" in {one.code for one in found.warnings}


def test_sizes_that_are_not_published_never_enter_a_fit_as_points() -> None:
    rng = np.random.default_rng(7)
    models = [*(model(size) for size in (1, 3, 9, 27, 81)), model(None, low=50.0), model(None)]
    models[-1] = replace(models[-1], id="openai/secret", name="secret")
    scores = {
        (one.id, "review"): flipped(rng, 200, 0.5, 0.1 + 0.05 * k, 0.08)
        for k, one in enumerate(models)
    }
    frame, made = make_frame("d", scores), study(models, "review")
    found = analyse((frame,), made, settings=QUICK)
    assert {row.n_models for row in found.scaling} == {5}
    assert not pick(found.sensitivity, "alpha_bounds")
    (said,) = [one for one in found.warnings if one.code == "unpublished_sizes"]
    assert "openai/m50" in said.text
    assert "openai/secret" in said.text
    asked = analyse((frame,), made, settings=Settings(replicates=200, estimated_sizes=True))
    assert asked.scaling == found.scaling, "the fits stay on published sizes"
    (bounds,) = pick(asked.sensitivity, "alpha_bounds")
    assert bounds.estimate.value is None, "a range, never a point"
    assert bounds.estimate.n == 6
    assert bounds.estimate.low is not None
    assert bounds.estimate.high is not None
    assert bounds.estimate.low < bounds.estimate.high
    (alone,) = pick(asked.sensitivity, "alpha_disclosed_only")
    (power,) = [row for row in asked.scaling if row.form == "power"]
    assert alone.estimate.value == pytest.approx(power.parameters["alpha"].value, abs=0.2)


def test_forms_of_one_world_share_their_scatter_and_their_weights_sum_to_one() -> None:
    frame, made = scaling_world(8, [1, 2, 4, 8, 16, 32, 64])
    found = analyse((frame,), made, settings=Settings(replicates=200, error_rate=True))
    forms = {row.form: row for row in found.scaling}
    assert set(forms) == {
        "constant", "loglinear", "power", "saturating", "quadratic", "power_floor",
        "two_rate", "error_rate",
    }  # fmt: skip
    families = [row for row in found.scaling if row.weight is not None]
    assert sum(row.weight or 0 for row in families) == pytest.approx(1)
    assert sum(row.chosen or 0 for row in families) == pytest.approx(1)
    assert len({row.tau for row in families}) == 1
    assert min(row.delta_aicc for row in families if row.delta_aicc is not None) == 0
    alpha = forms["power"].parameters["alpha"]
    assert alpha.method == "RE-profile"
    assert alpha.estimand.startswith("E2")
    assert forms["power"].parameters["alpha_if_exact"].estimand.startswith("E1")
    slope = forms["loglinear"].parameters["b"]
    assert slope.low is not None
    assert slope.low > 0
    for row in found.predictions:
        assert row.mean.value is not None
        if row.form in ("loglinear", "power") and row.new_model.low is not None:
            assert row.mean.low is not None
            assert row.new_model.low <= row.mean.low <= row.mean.value
    far = [row for row in found.predictions if row.extrapolated]
    assert min(row.parameters for row in far) > 3 * 64e9


def test_where_nothing_is_corrected_nothing_is_claimed() -> None:
    for seed in (11, 12):
        frames, made = null_world(seed)
        found = analyse(frames, made, settings=QUICK)
        (claim,) = found.claims
        assert claim.rung == 0, claim
        assert claim.text == "no claim"
        gates = {row.r2_gate for row in found.scaling if row.form == "power"}
        assert "passed" not in gates


def test_a_trend_is_claimed_and_a_law_is_not_on_one_decade_of_few_models() -> None:
    frame, made = scaling_world(14, [1, 2, 4, 6, 8], n=1_500)
    (claim,) = analyse((frame,), made, settings=QUICK).claims
    assert claim.rung == 2
    assert "points per e-fold" in claim.text
    assert "law" in claim.missing
