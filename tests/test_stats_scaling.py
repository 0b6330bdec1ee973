"""Fits of delta against size: planted parameters come back, and what is not known is said."""

import math

import numpy as np
import pytest

from deltascale import stats
from deltascale.stats.families import FamilyName, least_misfit

SIZE = np.array([1, 3, 7, 14, 32, 70, 180.0]) * 1e9
X = np.log(SIZE) - np.log(SIZE).mean()
SMALL = np.full(7, 1e-10)  # variances that leave no doubt
ROOMY = np.full(7, 0.004**2)

PLANTED = {
    "constant": (np.array([0.03]), lambda t: t[0] + 0 * X),
    "loglinear": (np.array([0.02, 0.01]), lambda t: t[0] + t[1] * X),
    "power": (np.array([0.03, 0.25]), lambda t: t[0] * np.exp(t[1] * X)),
    "saturating": (np.array([0.05, -0.5]), lambda t: t[0] * (1 - np.exp(-np.exp(X - t[1])))),
    "quadratic": (np.array([0.05, 0.004, -0.006]), lambda t: t[0] + t[1] * X + t[2] * X**2),
    "power_floor": (
        np.array([-0.02, 0.04, 0.3]),
        lambda t: t[0] + t[1] * np.exp(t[2] * X),
    ),
}


@pytest.mark.parametrize("name", list(PLANTED))
def test_a_fit_recovers_what_was_planted(name: str) -> None:
    theta, curve = PLANTED[name]
    fit = stats.fit_family(name, SIZE, curve(theta), SMALL)
    np.testing.assert_allclose(fit.theta, theta, rtol=1e-5, atol=1e-9)
    assert fit.misfit < 1e-6
    np.testing.assert_allclose(fit.predict(SIZE), curve(theta), atol=1e-9)
    assert not fit.shape_at_edge


@pytest.mark.parametrize("name", list(PLANTED))
@pytest.mark.parametrize("tau2", [0.0, 1e-4])
def test_a_misfit_alone_is_that_of_the_fit(name: FamilyName, tau2: float) -> None:
    theta, curve = PLANTED[name]
    noisy = curve(theta) + np.random.default_rng(2).normal(size=7) * 0.004
    fit = stats.fit_family(name, SIZE, noisy, ROOMY, tau2=tau2)
    assert least_misfit(name, SIZE, noisy, ROOMY, tau2=tau2) == fit.misfit > 0


def test_a_floor_with_hardly_an_exponent() -> None:
    # Nearly a straight line, where the shape's grid must not step onto an exponent of zero.
    fit = stats.fit_family("power_floor", SIZE, -9.98 + 10 * np.exp(0.001 * X), SMALL)
    assert fit.misfit < 1e-3
    assert fit.parameter("alpha") == pytest.approx(0.001, abs=1e-4)


@pytest.mark.parametrize("alpha", [-2.2, -0.6, -0.05, 0.04, 0.9, 2.5])
@pytest.mark.parametrize("amplitude", [0.03, -0.02])
def test_exponents_and_amplitudes_of_either_sign(alpha: float, amplitude: float) -> None:
    fit = stats.fit_family("power", SIZE, amplitude * np.exp(alpha * X), SMALL)
    assert fit.parameter("A") == pytest.approx(amplitude, rel=1e-6)
    assert fit.parameter("alpha") == pytest.approx(alpha, abs=1e-7)


@pytest.mark.parametrize("name", list(PLANTED))
def test_gradients_are_derivatives(name: str) -> None:
    rng = np.random.default_rng(1)
    theta, curve = PLANTED[name]
    fit = stats.fit_family(name, SIZE, curve(theta) + rng.normal(size=7) * 0.002, ROOMY)
    at = np.array([0.5e9, 20e9, 500e9])
    for j in range(fit.family.k):
        step = 1e-6 * max(1.0, abs(fit.theta[j]))
        moved = []
        for sign in (-1, 1):
            other = fit.theta.copy()
            other[j] += sign * step
            refits = stats.Refits(fit.family, other[None], np.zeros(1), fit.reference)
            moved.append(refits.predict(at)[0])
        slope = (moved[1] - moved[0]) / (2 * step)
        np.testing.assert_allclose(fit.gradient(at)[:, j], slope, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("name", ["power", "saturating", "power_floor"])
def test_no_start_finds_a_better_shape(name: str) -> None:
    """Variable projection is global: no shape tried finely has a lower misfit."""
    rng = np.random.default_rng(2)
    for _ in range(10):
        delta = rng.normal(size=7) * 0.02
        fit = stats.fit_family(name, SIZE, delta, ROOMY)
        profile = stats.profile_misfit(name, SIZE, delta, ROOMY)
        span = (-3, 3) if name != "saturating" else (X.min() - 3, X.max() + 7)
        # An even number of points: at alpha = 0 exactly, nothing is left beside a floor.
        tried = profile(np.linspace(*span, 20_000))
        assert fit.misfit <= tried.min() * (1 + 1e-7)


def test_units_of_size_change_nothing_but_the_reference() -> None:
    rng = np.random.default_rng(3)
    delta = rng.normal(size=7) * 0.02 + 0.03
    for name in PLANTED:
        big = stats.fit_family(name, SIZE, delta, ROOMY)
        small = stats.fit_family(name, SIZE / 1e9, delta, ROOMY)
        assert big.misfit == pytest.approx(small.misfit, rel=1e-9)
        np.testing.assert_allclose(big.predict(SIZE), small.predict(SIZE / 1e9), atol=1e-9)


@pytest.mark.parametrize("name", list(PLANTED))
@pytest.mark.parametrize("full", [False, True])
def test_refits_agree_with_single_fits(name: str, full: bool) -> None:
    rng = np.random.default_rng(4)
    cov = np.diag(ROOMY) + (0.3 * ROOMY[0] if full else 0)
    theta, curve = PLANTED[name]
    deltas = curve(theta) + rng.multivariate_normal(np.zeros(7), cov, size=40)
    many = stats.refit_family(name, SIZE, deltas, cov, tau2=1e-6)
    for b in range(40):
        one = stats.fit_family(name, SIZE, deltas[b], cov, tau2=1e-6)
        assert many.misfit[b] == pytest.approx(one.misfit, rel=1e-5, abs=1e-9)
        np.testing.assert_allclose(many.predict(SIZE)[b], one.fitted, atol=2e-6)
    if not full:
        weight = np.broadcast_to(1 / (ROOMY + 1e-6), deltas.shape)
        weighted = stats.refit_family_weighted(name, SIZE, deltas, weight)
        np.testing.assert_allclose(weighted.misfit, many.misfit, rtol=1e-3, atol=1e-4)


def test_zero_weight_leaves_a_model_out() -> None:
    rng = np.random.default_rng(5)
    deltas = rng.normal(size=(20, 7)) * 0.02
    weight = np.ones((20, 7)) / ROOMY
    weight[:, 2] = 0
    kept = np.arange(7) != 2
    for name in ("loglinear", "quadratic", "constant"):
        part = stats.refit_family_weighted(name, SIZE, deltas, weight)
        ours = stats.refit_family(name, SIZE[kept], deltas[:, kept], ROOMY[kept])
        np.testing.assert_allclose(part.misfit, ours.misfit, rtol=1e-8)


@pytest.mark.parametrize(
    "call",
    [
        lambda: stats.fit_family("power", [1, -2, 3], [0, 0, 1], np.ones(3)),
        lambda: stats.fit_family("power", [1, 2, 3], [0, math.nan, 1], np.ones(3)),
        lambda: stats.fit_family("power", [1, 2, 3], [0, 1], np.ones(3)),
        lambda: stats.fit_family("power", [1, 2, 3], [0, 0, 1], np.zeros(3)),
        lambda: stats.fit_family("quadratic", [1, 2], [0, 1], np.ones(2)),
        lambda: stats.profile_misfit("loglinear", SIZE, X, ROOMY),
        lambda: stats.compare_families(SIZE[:3], X[:3], ROOMY[:3]),
        lambda: stats.exponent(SIZE[:3], X[:3], ROOMY[:3]),
        lambda: stats.vertex(stats.fit_family("power", SIZE, X, ROOMY)),
        lambda: stats.hierarchical_bootstrap(SIZE[:5], np.ones((9, 5)), ROOMY[:5], tau2=0, seed=0),
        lambda: stats.between_model_variance([1, 2], [1, 2], [1, 1]),
        lambda: stats.fit_error_curves(SIZE[:5], np.ones((5, 4))),
        lambda: stats.bootstrap_two_rate(SIZE[:5], np.ones((9, 5, 4)), seed=0),
        lambda: stats.r2_gate_null_probability(2),
        lambda: stats.permutation_trend(np.arange(1.0, 10), np.arange(9.0)),
        lambda: stats.trend_over_models([2, 2], [0, 1], [1, 1]),
    ],
)
def test_refused(call: object) -> None:
    with pytest.raises(ValueError):
        call()  # type: ignore[operator]


# --- scatter and the exponent --------------------------------------------------------------------


def test_scatter_is_what_the_misfit_leaves() -> None:
    rng = np.random.default_rng(6)
    delta = 0.01 * X + rng.normal(size=7) * 0.02
    for name in ("constant", "loglinear", "quadratic", "power"):
        tau2 = stats.between_model_variance(SIZE, delta, SMALL, family=name)
        fit = stats.fit_family(name, SIZE, delta, SMALL, tau2=tau2.value)
        assert fit.misfit == pytest.approx(fit.df, rel=1e-6)
    assert stats.between_model_variance(SIZE, 0.01 * X, ROOMY).value == 0
    assert stats.between_model_variance(SIZE, 0.01 * X, ROOMY).family == "quadratic"
    assert stats.between_model_variance(SIZE[:5], X[:5], ROOMY[:5]).family == "loglinear"


def test_a_poor_family_mistakes_shape_for_scatter() -> None:
    hill = 0.05 - 0.012 * X**2
    rich = stats.between_model_variance(SIZE, hill, ROOMY)
    poor = stats.between_model_variance(SIZE, hill, ROOMY, family="power")
    assert rich.value == 0 < poor.value
    assert stats.compare_families(SIZE, hill, ROOMY).best.fit.family.name == "quadratic"
    misled = stats.compare_families(SIZE, hill, ROOMY, tau2=poor)
    assert misled.best.fit.family.name != "quadratic"


def test_exponent_set_holds_exactly_what_is_not_rejected() -> None:
    rng = np.random.default_rng(8)
    delta = 0.03 * np.exp(0.3 * X) + rng.normal(size=7) * 0.006
    found = stats.exponent(SIZE, delta, ROOMY)
    profile = stats.profile_misfit("power", SIZE, delta, ROOMY, tau2=found.tau2)
    least = float(profile(np.array([found.alpha]))[0])
    low, high = found.region.hull
    at_ends = profile(np.array([low, high])) - least
    assert at_ends[0] == pytest.approx(at_ends[1], rel=1e-6)
    assert found.region.covers(found.alpha)
    assert not found.region.covers(low - 1e-6)
    item_only = stats.exponent(SIZE, delta, ROOMY, estimand="E1")
    assert item_only.tau2 == 0
    assert item_only.region.hull.width < found.region.hull.width


def test_no_delta_identifies_no_exponent() -> None:
    rng = np.random.default_rng(9)
    found = stats.exponent(SIZE, rng.normal(size=7) * 0.004, ROOMY)
    assert not found.identified
    assert math.isinf(found.region.hull.low) or math.isinf(found.region.hull.high)


def test_a_set_without_upper_end_keeps_its_lower_one() -> None:
    # Only the largest model gains: any steep exponent will do, a flat one will not.
    delta = np.array([0.0, 0, 0, 0, 0, 0, 0.05])
    found = stats.exponent(SIZE, delta, ROOMY, estimand="E1")
    low, high = found.region.hull
    assert not found.identified
    assert math.isinf(high)
    assert 0.5 < low < 3
    mirrored = stats.exponent(1 / SIZE, delta, ROOMY, estimand="E1")
    assert mirrored.region.hull == pytest.approx((-high, -low))


def test_fieller_regions_of_every_kind() -> None:
    two_rays = stats.fieller(1, 0.5, var_numerator=0.01, var_denominator=0.2)
    assert len(two_rays.region.pieces) == 2
    assert not two_rays.bounded
    everywhere = stats.fieller(0.1, 0.1, var_numerator=1, var_denominator=1)
    assert everywhere.region.pieces == (stats.Interval(-math.inf, math.inf),)
    exact = stats.fieller(1, 2, var_numerator=0, var_denominator=0)
    assert exact.region.hull == (0.5, 0.5)
    wider = stats.fieller(1, 2, var_numerator=0.1, var_denominator=0.01, df=3)
    assert (
        wider.region.hull.width
        > stats.fieller(1, 2, var_numerator=0.1, var_denominator=0.01).region.hull.width
    )
    with pytest.raises(ValueError, match="covariance"):
        stats.fieller(1, 2, var_numerator=1, var_denominator=1, covariance=3)


def test_a_region_may_come_in_pieces() -> None:
    found = stats.sublevel_region(np.cos, np.linspace(0, 12, 100), threshold=0)
    wanted = [(math.pi / 2, 3 * math.pi / 2), (5 * math.pi / 2, 7 * math.pi / 2)]
    assert [tuple(p) for p in found.pieces] == [pytest.approx(w) for w in wanted]
    assert found.bounded
    assert not found.covers(6)
    assert stats.sublevel_region(np.cos, [0, 1], threshold=-2).empty
    open_ended = stats.sublevel_region(
        lambda x: x, np.linspace(-1, 1, 5), threshold=0.25, open_low=True
    )
    assert open_ended.hull == pytest.approx((-math.inf, 0.25))


# --- comparing, predicting -----------------------------------------------------------------------


def test_comparison_weighs_and_skips() -> None:
    rng = np.random.default_rng(10)
    delta = 0.02 + 0.01 * X + rng.normal(size=7) * 0.004
    found = stats.compare_families(SIZE, delta, ROOMY)
    names = [s.fit.family.name for s in found.scores]
    assert names == ["constant", "loglinear", "power", "saturating", "quadratic"]
    assert sum(s.weight for s in found.scores) == pytest.approx(1)
    assert found.best.delta_aicc == 0
    assert found.best in found.within()
    low, high = found.envelope([1e12], delta_aicc=math.inf)
    assert low <= found.average([1e12]) <= high
    narrow = found.envelope([1e12])
    assert low < narrow[0] <= narrow[1] < high
    assert next(s for s in found.scores if s.fit.family.name == "constant").skill == 0
    five = stats.compare_families(SIZE[:5], delta[:5], ROOMY[:5], names=list(stats.FAMILIES))
    assert "quadratic" not in [s.fit.family.name for s in five.scores]
    # With four models a second parameter leaves AICc one degree too few to exist for k = 3 only.
    assert math.isnan(stats.aicc(1.0, 3, 4))
    assert math.isfinite(stats.aicc(1.0, 2, 4))


def test_left_out_models_are_foretold_by_the_rest() -> None:
    rng = np.random.default_rng(11)
    delta = 0.02 + 0.01 * X + rng.normal(size=7) * 0.004
    fit = stats.fit_family("loglinear", SIZE, delta, ROOMY)
    found = stats.leave_one_model_out(fit)
    hat = stats.leverage(fit)
    assert hat.sum() == pytest.approx(2)
    # For a line, the left-out error is the residual over one minus the hat value.
    np.testing.assert_allclose(delta - found.predicted, (delta - fit.fitted) / (1 - hat), rtol=1e-8)
    np.testing.assert_allclose(found.variance, ROOMY / (1 - hat), rtol=1e-8)
    z = (delta - found.predicted) / np.sqrt(found.variance)
    wanted = -0.5 * (np.log(2 * np.pi * found.variance) + z**2)
    assert found.log_score == pytest.approx(wanted.sum())
    assert found.rmse == pytest.approx(np.sqrt(np.mean((delta - found.predicted) ** 2)))


def test_prediction_of_a_line_is_the_textbook_one() -> None:
    rng = np.random.default_rng(12)
    delta = 0.01 * X + rng.normal(size=7) * 0.02
    tau2 = stats.between_model_variance(SIZE, delta, SMALL, family="loglinear").value
    fit = stats.fit_family("loglinear", SIZE, delta, SMALL, tau2=tau2)
    at = np.array([30e9, 2000e9])
    found = stats.predict(fit, at)
    x = np.log(at) - np.log(SIZE).mean()
    s2 = ((delta - fit.fitted) ** 2).sum() / 5
    half = 2.5705818 * np.sqrt(s2 * (1 / 7 + x**2 / (X**2).sum()))
    np.testing.assert_allclose(found.mean_high - found.mean, half, rtol=1e-5)
    half = 2.5705818 * np.sqrt(s2 * (1 + 1 / 7 + x**2 / (X**2).sum()))
    np.testing.assert_allclose(found.new_high - found.mean, half, rtol=1e-5)
    assert found.extrapolated.tolist() == [False, True]


def test_vertex_only_where_it_is_seen() -> None:
    inside = stats.vertex(stats.fit_family("quadratic", SIZE, 0.05 - 0.006 * (X - 0.5) ** 2, ROOMY))
    assert inside.peak
    assert inside.inside
    assert inside.size == pytest.approx(np.exp(np.log(SIZE).mean() + 0.5))
    assert inside.region.covers(inside.size)
    uneven = np.array([1, 1.5, 2, 3, 40, 90, 200.0])
    x = np.log(uneven) - np.log(uneven).mean()
    fit = stats.fit_family("quadratic", uneven, 0.05 - 0.006 * (x - 0.4) ** 2, ROOMY)
    for end in stats.vertex(fit).region.hull:
        # At either end the slope there is just significant: t_4 at 95 %.
        g = np.array([0, 1, 2 * np.log(end / fit.reference)])
        t = g @ fit.theta / np.sqrt(g @ fit.covariance @ g)
        assert abs(t) == pytest.approx(2.7764451, rel=1e-6)
    outside = stats.vertex(stats.fit_family("quadratic", SIZE, 0.05 + 0.01 * X, ROOMY))
    assert not outside.inside


def test_gate_asks_for_more_than_r_squared() -> None:
    line = 0.02 + 0.01 * X
    steep = stats.compare_families(SIZE, line, ROOMY)
    assert stats.r2_gate(steep, "loglinear").passed
    # The power law fits straight deltas with a high R-squared too, and may not claim them.
    other = stats.r2_gate(stats.compare_families(SIZE, line, SMALL), "power")
    assert other.r2_weighted > 0.85
    assert not other.passed
    few = stats.r2_gate(stats.compare_families(SIZE[:5], line[:5], ROOMY[:5]), "loglinear")
    assert any("5 models" in failure for failure in few.failures)
    assert not stats.r2_gate(steep, "loglinear", points_dropped=1).passed
    # Sampling error cannot explain these deltas; the scatter between models must be told.
    rng = np.random.default_rng(0)
    rough = stats.compare_families(SIZE, line + rng.normal(size=7) * 0.004, np.full(7, 1e-6))
    assert stats.r2_gate(rough, "loglinear").passed
    silent = stats.r2_gate(rough, "loglinear", scatter_reported=False)
    assert any("tau is not reported" in failure for failure in silent.failures)
    with pytest.raises(ValueError, match="not among"):
        stats.r2_gate(steep, "power_floor")


def test_deltas_that_do_not_differ_have_no_r_squared_and_no_exponent() -> None:
    comparison = stats.compare_families(SIZE, np.zeros(7), np.full(7, 1e-4))
    gate = stats.r2_gate(comparison, "loglinear")
    assert gate.failures[0] == "R-squared is undefined: the deltas do not differ"
    alpha = stats.exponent(SIZE, np.zeros(7), np.full(7, 1e-4))
    assert alpha.at_edge
    assert not alpha.identified
    assert not stats.exponent(SIZE, 0.05 * np.exp(0.3 * X), np.full(7, 1e-4)).at_edge


def test_r_squared_of_replicates_and_of_nothing() -> None:
    y = np.array([[1.0, 2, 3], [2, 2, 2]])
    found = stats.r_squared(y, y[:, ::-1])
    assert found[0] == pytest.approx(-3)
    assert math.isnan(found[1])


def test_gate_null_by_simulation() -> None:
    rng = np.random.default_rng(13)
    y = rng.normal(size=(20_000, 5))
    fitted = stats.refit_family("loglinear", SIZE[:5], y, np.ones(5)).predict(SIZE[:5])
    passed = np.mean(np.asarray(stats.r_squared(y, fitted)) > 0.85)
    assert passed == pytest.approx(stats.r2_gate_null_probability(5), abs=0.005)


def test_every_caution_is_raised_by_its_cause() -> None:
    def codes(delta: np.ndarray, size: np.ndarray = SIZE, **facts: object) -> set[str]:
        var = np.full(size.size, 0.004**2)
        comparison = stats.compare_families(size, delta, var, names=list(stats.FAMILIES))
        alpha = stats.exponent(size, delta, var)
        found = stats.cautions(comparison, alpha, var, **facts)  # type: ignore[arg-type]
        assert all(caution.text for caution in found)
        return {caution.code for caution in found}

    rng = np.random.default_rng(14)
    law = 0.05 * np.exp(0.3 * X)
    assert codes(law) <= {"vertex_outside"}
    assert "few_models" in codes(law[:5], SIZE[:5])
    assert "narrow_range" in codes(law, np.geomspace(1, 8, 7))
    assert "alpha_not_identified" in codes(rng.normal(size=7) * 0.003)
    assert "left_out_sign" in codes(rng.normal(size=7) * 0.003 + 0.02)
    assert "left_out_sign" not in codes(np.full(7, 0.03))
    assert "scatter_dominates" in codes(0.05 + rng.normal(size=7) * 0.03)
    assert "floor_confounded" in codes(0.03 + 0.01 * X)
    assert "sizes_undisclosed" in codes(law, disclosed_M=[1, 1, 0, 0, 0, 1, 1])
    assert "sizes_undisclosed" not in codes(law, disclosed_M=[1] * 6 + [0])
    lever = np.array([1, 1.1, 1.2, 1.1, 1, 1.2, 300.0])
    assert "one_model_decides" in codes(law, lever)
    assert "one_provider_decides" in codes(law, SIZE, provider_M=list("aabbbaa"))
    assert "one_provider_decides" not in codes(law, SIZE, provider_M=list("abcabca"))
    assert {c.code for c in stats.cautions_before_fitting(SIZE[:3])} >= {"no_fit", "few_models"}
    (refused,) = stats.cautions_before_fitting(np.repeat(SIZE[[0, 3, 6]], 3))
    assert refused.text == "3 models of different size: nothing is fitted below 4"


# --- replicates ----------------------------------------------------------------------------------


def test_choice_and_prediction_of_replicates() -> None:
    rng = np.random.default_rng(15)
    deltas = 0.02 + 0.01 * X + rng.normal(size=(300, 7)) * 0.004
    found = stats.bootstrap_families(SIZE, deltas, ROOMY)
    assert sum(found.selection) == pytest.approx(1)
    assert found.names[int(np.argmax(found.selection))] == "loglinear"
    curve = found.predict_chosen([10e9, 1e12])
    for j, refit in enumerate(found.refits):
        rows = found.chosen == j
        np.testing.assert_array_equal(curve[rows], refit.predict([10e9, 1e12])[rows])
    assert found.theta("power").shape == (300, 2)


def test_drawing_models_widens() -> None:
    rng = np.random.default_rng(16)
    scattered = 0.03 * np.exp(0.2 * X) + rng.normal(size=7) * 0.01
    deltas = scattered + rng.normal(size=(2_000, 7)) * 0.004
    items = stats.bootstrap_families(SIZE, deltas, ROOMY).theta("power")[:, 1]
    both = stats.hierarchical_bootstrap(SIZE, deltas, ROOMY, tau2=1e-4, seed=1).theta("power")[:, 1]
    widths = [np.ptp(np.quantile(alpha, [0.025, 0.975])) for alpha in (both, items)]
    assert widths[0] > 1.5 * widths[1]
    again = stats.hierarchical_bootstrap(SIZE, deltas, ROOMY, tau2=1e-4, seed=1).theta("power")
    np.testing.assert_array_equal(both, again[:, 1])


def test_model_draws_always_hold_three_sizes() -> None:
    size = np.array([1, 1, 1, 1, 2, 3.0])
    drawn = stats.model_draws(size, 3_000, 0)
    assert np.all(drawn.sum(axis=1) == 6)
    assert np.all((drawn[:, :4].sum(axis=1) > 0) & (drawn[:, 4] > 0) & (drawn[:, 5] > 0))
    with pytest.raises(ValueError, match="three distinct"):
        stats.model_draws(np.array([1, 1, 2, 2, 2, 2.0]), 5, 0)
