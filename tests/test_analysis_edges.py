"""Worlds at the edge of what can be fitted, and that every estimate says what it holds."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

import numpy as np
import pytest
from click.testing import CliRunner
from msgspec.structs import replace
from scipy.special import chdtrc, stdtrit

from deltascale.analysis import Results, Settings, analyse
from deltascale.analysis.arms import arms
from deltascale.analysis.joint import resample
from deltascale.analysis.power import Design, pilot
from deltascale.analysis.scaling import scale
from deltascale.cli import cli
from deltascale.records import ModelSpec
from deltascale.stats.contrasts import trend_over_such_models
from tests.frames import (
    QUICK,
    Floats,
    flipped,
    make_frame,
    model,
    pick,
    scaling_world,
    study,
)

SIZES = (1, 4, 16, 64, 256, 1024, 4096)


def world(
    models: Sequence[ModelSpec], score_by_dataset: dict[str, list[Floats]], **settings: object
) -> Results:
    frames = tuple(
        make_frame(
            name, {(one.id, "review"): score for one, score in zip(models, own, strict=True)}
        )
        for name, own in score_by_dataset.items()
    )
    chosen = Settings(**{"replicates": 60, **settings})  # type: ignore[arg-type]
    return analyse(frames, study(models, "review"), settings=chosen)


def growing(rng: np.random.Generator, models: int = 7, *, n: int = 300) -> list[Floats]:
    return [flipped(rng, n, 0.5, 0.1 + 0.05 * k, 0.08) for k in range(models)]


# --- against size --------------------------------------------------------------------------------


def test_seven_models_of_three_sizes_are_not_fitted() -> None:
    models = [
        replace(model(size), id=f"openai/{k}", name=str(k))
        for k, size in enumerate((1, 1, 8, 8, 64, 64, 64))
    ]
    found = world(models, {"d": growing(np.random.default_rng(1))})
    (row,) = found.scaling
    assert (row.form, row.n_models) == ("none", 7)
    assert row.note.startswith("3 models of different size: nothing is fitted")


def test_models_of_one_maker_are_no_law_of_all_models() -> None:
    score = growing(np.random.default_rng(2), n=100)

    def codes(family: str, **changed: str) -> set[str]:
        models = [replace(model(size, family=family), **changed) for size in SIZES]
        own = {(one.id, "review"): each for one, each in zip(models, score, strict=True)}
        found = arms((make_frame("d", own),), study(models, "review"))
        (fits,) = scale(found, resample(found, Settings(replicates=20)))
        return {one.code for one in fits.cautions}

    assert "one_provider_decides" in codes("qwen")
    assert "one_provider_decides" not in codes(""), "a server tells nothing of the maker"
    assert "one_provider_decides" not in codes("sim", provider="simulated")


def test_the_size_at_which_a_power_law_must_end_is_always_said() -> None:
    frame, made = scaling_world(8, [1, 2, 4, 8, 16, 32, 64])
    found = analyse((frame,), made, settings=QUICK)
    (power,) = [row for row in found.scaling if row.form == "power"]
    (rates,) = [row for row in found.scaling if row.form == "two_rate"]
    assert power.note.endswith("(by the two-rate form)")
    beyond = float(power.note.split("N = ")[1].split(" ")[0])
    amplitude, alpha, logit, slope = (
        row.parameters[name].value or math.nan
        for row, name in (
            (power, "A"), (power, "alpha"), (rates, "first_logit"), (rates, "first_slope"),
        )
    )  # fmt: skip
    x = math.log(beyond / (power.reference_parameters or math.nan))
    left = 1 / (1 + math.exp(logit + slope * x))
    assert left == pytest.approx(amplitude * math.exp(alpha * x), abs=0.02)


def test_without_any_flip_there_is_no_exponent_and_the_page_says_so() -> None:
    rng = np.random.default_rng(3)
    found = world([model(size) for size in SIZES], {"d": [flipped(rng, 100, 0.5, 0, 0)] * 7})
    (power,) = [row for row in found.scaling if row.form == "power"]
    alpha = power.parameters["alpha"]
    assert (alpha.value, alpha.low, alpha.high) == (None, None, None)
    assert "not identified" in alpha.note
    assert "undefined" in power.r2_gate
    for row in pick(found.costs, "net_benefit_at_1"):
        assert row.estimate.low is not None
        assert row.estimate.high is not None
        assert row.estimate.low < 0 < row.estimate.high, "no flip is no certainty"
    for row in pick(found.costs, "usd_per_right_answer"):
        assert "empty" not in row.estimate.note
        assert "unbounded" in row.estimate.note


def test_drawing_models_gives_the_exponent_a_third_interval_from_six_up() -> None:
    found = world([model(size) for size in SIZES[:6]], {"d": growing(np.random.default_rng(4), 6)})
    (power,) = [row for row in found.scaling if row.form == "power"]
    drawn = power.parameters["alpha_models_drawn"]
    exact = power.parameters["alpha_if_exact"]
    assert drawn.estimand.startswith("E2")
    assert drawn.low is not None
    assert drawn.high is not None
    assert exact.low is not None
    assert exact.high is not None
    assert drawn.low < (drawn.value or math.nan) < drawn.high
    assert drawn.high - drawn.low > 0.8 * (exact.high - exact.low)


# --- what an estimate says -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def holed() -> Results:
    """Flat first answers, more missing the larger the model, the error-rate form, level .8."""
    score = growing(np.random.default_rng(5))
    for k, own in enumerate(score):
        own[: 2 * k, 0, 1] = math.nan
    models = [model(size, family=f"f{k % 3}") for k, size in enumerate(SIZES)]
    return world(models, {"d": score}, level=0.8, error_rate=True)


def test_every_number_of_a_fit_has_its_n_what_is_missing_and_its_level(holed: Results) -> None:
    missing = sum(2 * k for k in range(7))
    for row in holed.scaling:
        assert (row.n_models, row.n_missing) == (7, missing)
        every = [*row.parameters.values(), *(r for r in (row.r2, row.r2_weighted) if r)]
        for one in every:
            assert (one.n, one.n_missing) == (7, missing), (row.form, one.estimand)
            assert one.level == 0.8 or one.low is None, (row.form, one.estimand)
            assert one.method or one.low is None
    for made in holed.predictions:
        assert (made.mean.n_missing, made.new_model.n_missing) == (missing, missing)
    for quantity in ("gain_per_dollar", "usd_per_right_answer"):
        rows = pick(holed.costs, quantity)
        assert [one.estimate.n_missing for one in rows] == [2 * k for k in range(7)]
    line = next(row for row in holed.scaling if row.form == "loglinear")
    assert line.r2 is not None
    assert line.r2_weighted is not None
    assert line.r2.value != line.r2_weighted.value
    assert line.r2.low != line.r2_weighted.low
    low, value, high = (getattr(line.r2_weighted, x) for x in ("low", "value", "high"))
    assert low < value < high


def test_an_exponent_of_errors_without_an_end_says_so(holed: Results) -> None:
    (row,) = [one for one in holed.scaling if one.form == "error_rate"]
    beta = row.parameters["beta_before"]
    assert (beta.low, beta.high) == (0.02, 3.0)
    assert beta.note.startswith("not identified within the range looked at, 0.02 to 3")
    assert {row.parameters[name].value == 0.0 for name in ("eps_before", "eps_after")} == {
        "one-sided" in row.parameters[name].note for name in ("eps_before", "eps_after")
    }
    assert row.p_misfit == pytest.approx(chdtrc(row.df, row.chi2))


def test_sizes_that_are_estimates_survive_a_replicate_without_an_answer() -> None:
    rng = np.random.default_rng(6)
    score = growing(rng, 6, n=60)
    score[0][2:, 0, 1] = math.nan  # two complete pairs: many replicates draw none
    models = [*(model(size) for size in SIZES[:5]), model(None, low=900.0)]
    found = world(models, {"d": score}, estimated_sizes=True, level=0.9)
    (alpha,) = pick(found.sensitivity, "alpha_resampled")
    assert alpha.estimate.low is not None
    assert alpha.estimate.low > -2.9, "a replicate without a value is not an exponent of -3"
    assert alpha.estimate.level == 0.9


def test_a_replicate_without_an_answer_does_not_make_correction_free() -> None:
    score = growing(np.random.default_rng(9), 6, n=60)
    score[0][2:, 0, 1] = math.nan
    found = world([model(size) for size in SIZES[:6]], {"d": score})
    for row in found.thresholds:
        assert "pays" in row.estimate.note or "size" in row.estimate.note
        assert "costs nothing" not in row.estimate.note


# --- does it carry over --------------------------------------------------------------------------


def test_kinds_of_tasks_have_their_own_intervals_and_are_compared() -> None:
    rng = np.random.default_rng(7)
    models = [model(size) for size in SIZES[:5]]
    names = ("gsm8k", "mathbench-arithmetic", "humaneval")
    found = world(models, {name: growing(rng, 5) for name in names}, level=0.9)
    (power,) = [r for r in found.scaling if (r.form, r.dataset) == ("power", "humaneval")]
    (code,) = pick(found.generalisation, "alpha_of_kind", versus="code")
    assert "alpha_models_drawn" not in power.parameters, "five models"
    alpha = power.parameters["alpha"]
    assert (code.estimate.value, code.estimate.low, code.estimate.high) == (
        alpha.value, alpha.low, alpha.high,
    )  # fmt: skip
    (slope,) = pick(found.generalisation, "slope_of_kind", versus="code")
    deltas = [one.delta.value for one in found.cells if one.cell.dataset == "humaneval"]
    line = trend_over_such_models(np.array(SIZES[:5]) * 1e9, deltas)
    assert slope.estimate.value == pytest.approx(line.slope)
    wide = (slope.estimate.high or math.nan) - line.slope
    assert wide == pytest.approx(stdtrit(3, 0.95) * line.se)
    (math_tasks,) = pick(found.generalisation, "slope_of_kind", versus="math")
    assert math_tasks.estimate.n == 2
    half = (math_tasks.estimate.high or math.nan) - (math_tasks.estimate.value or math.nan)
    apart = slope.estimate.value - math_tasks.estimate.value  # type: ignore[operator]
    q = apart**2 / (line.se**2 + (half / stdtrit(1, 0.95)) ** 2)
    (between,) = pick(found.generalisation, "slope_between_kinds")
    assert between.p_value == pytest.approx(chdtrc(1, q))
    assert {slope.estimate.level, math_tasks.estimate.level, code.estimate.level} == {0.9}
    (mean,) = pick(found.generalisation, "slope_over_datasets")
    assert mean.estimate.level == 0.9


# --- before a study ------------------------------------------------------------------------------


def test_a_pilot_without_flips_is_not_simulated_from() -> None:
    rng = np.random.default_rng(8)
    models = [model(size) for size in SIZES[:5]]
    frame = make_frame("d", {(one.id, "review"): flipped(rng, 60, 0.5, 0, 0) for one in models})
    rows = pilot((frame,), study(models, "review"), design=Design(simulations=20))
    by = {row.quantity: row for row in rows}
    for quantity in ("least_detectable_delta", "power_of_trend"):
        assert by[quantity].value is None
        assert by[quantity].note.startswith("no answer flips")
    assert "power_of_trend_of_such_models" not in by
    rare = make_frame("d", {(one.id, "review"): flipped(rng, 400, 0.5, 0.02, 0) for one in models})
    rows = pilot((rare,), study(models, "review"), design=Design(simulations=200, tau=0.001))
    found = [row.value for row in rows if row.quantity == "power_of_trend_of_such_models"]
    assert max(value or 0 for value in found) < 0.4, "equal models: hardly more than alpha"


def test_an_estimate_tells_energy_a_cell_of_a_zone_and_counts_items_not_epochs() -> None:
    pytest.importorskip("ecologits")
    words = "estimate --model openai/gpt-4o-mini --dataset demo-sums --protocol review"
    asked = [*words.split(), "--protocol", "vote", "--items", "6", "--epochs", "3"]
    shown = CliRunner().invoke(cli, asked)
    assert "6 items see" in shown.stdout, "epochs of an item are not new items"
    assert "kg CO2e per kWh" in shown.stdout, "what is assumed is said"
    by_zone = {}
    for zone in ("WOR", "FRA"):
        done = CliRunner().invoke(cli, [*asked, "--zone", zone, "--json"])
        assert done.exit_code == 0, done.output
        by_zone[zone] = json.loads(done.stdout)
    assert [row["protocol"] for row in by_zone["WOR"]] == ["review", "vote"]
    for world_row, row in zip(by_zone["WOR"], by_zone["FRA"], strict=True):
        assert row["kwh_low"] == world_row["kwh_low"] < row["kwh_high"]
        assert row["kg_co2e_high"] < world_row["kg_co2e_low"]
        assert "electricity of FRA" in row["carbon_note"]
    wrong = CliRunner().invoke(cli, [*asked, "--zone", "Atlantis"])
    assert "no electricity mix" in str(wrong.exception)
