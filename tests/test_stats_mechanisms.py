"""Sizes that are not known, models of the mechanism, trends: what lies beside the families."""

import math

import numpy as np
import pytest

from deltascale import stats

SIZE = np.array([1, 3, 7, 14, 32, 70, 180.0]) * 1e9
X = np.log(SIZE) - np.log(SIZE).mean()
ROOMY = np.full(7, 0.004**2)


# --- sizes not known -----------------------------------------------------------------------------


def test_exponents_for_many_size_tables() -> None:
    rng = np.random.default_rng(17)
    delta = 0.03 * np.exp(0.3 * X) + rng.normal(size=7) * 0.004
    size = SIZE * np.exp(rng.normal(size=(30, 7)) * 0.5)
    cov = np.diag(ROOMY) + 0.2 * ROOMY[0]
    found = stats.exponents_for_sizes(size, delta, cov)
    wanted = [stats.fit_family("power", row, delta, cov).parameter("alpha") for row in size]
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_bounds_of_alpha_over_undisclosed_sizes() -> None:
    delta = 0.03 * np.exp(0.3 * X)
    low, high = SIZE.copy(), SIZE.copy()
    low[4:6], high[4:6] = low[4:6] / 4, high[4:6] * 4
    found = stats.alpha_bounds(low, high, delta, ROOMY)
    assert (found.starts, found.corners, found.undisclosed) == (4, True, 2)
    assert found.low < 0.3 < found.high
    # The true sizes lie inside their intervals, and give an exponent that no corner reaches.
    assert not found.of_starts.covers(0.3)
    rng = np.random.default_rng(0)
    inside = low * (high / low) ** rng.random((1_000, 7))
    anywhere = stats.exponents_for_sizes(inside, delta, ROOMY)
    assert found.low <= anywhere.min() + 1e-4
    assert anywhere.max() - 1e-4 <= found.high
    assert found.disclosed_only == pytest.approx(0.3, abs=1e-6)
    known = stats.alpha_bounds(SIZE, SIZE, delta, ROOMY)
    assert known.low == known.high == pytest.approx(0.3, abs=1e-6)
    many = np.geomspace(1, 1000, 14)
    drawn = stats.alpha_bounds(many / 2, many * 2, many**0.2, np.ones(14))
    assert not drawn.corners
    assert drawn.starts == 4_096
    assert math.isnan(drawn.disclosed_only)
    with pytest.raises(ValueError):
        stats.alpha_bounds(high, low, delta, ROOMY)


def test_resampled_sizes_widen_alpha() -> None:
    rng = np.random.default_rng(18)
    deltas = 0.03 * np.exp(0.3 * X) + rng.normal(size=(2_000, 7)) * 0.004
    sure = stats.resampled_exponents(SIZE, SIZE, deltas, ROOMY)
    wide = stats.resampled_exponents(SIZE / 3, SIZE * 3, deltas, ROOMY)
    scattered = stats.resampled_exponents(SIZE, SIZE, deltas, ROOMY, tau2=1e-4)
    assert sure.std() < wide.std()
    assert sure.std() < scattered.std()
    np.testing.assert_array_equal(
        wide, stats.resampled_exponents(SIZE / 3, SIZE * 3, deltas, ROOMY)
    )


def test_axes_are_ranked_by_what_they_foretell() -> None:
    rng = np.random.default_rng(19)
    delta = 0.01 * X + rng.normal(size=7) * 0.002
    noise, short = rng.normal(size=7), np.where(np.arange(7) < 3, X, math.nan)
    found = stats.axis_league([noise, X, short], delta, ROOMY, names=["noise", "size", "short"])
    assert [score.name for score in found] == ["size", "noise", "short"]
    assert found[-1].models == 3
    assert math.isnan(found[-1].rmse_loglinear)


def test_both_forms_of_an_axis_have_its_scatter_in_their_weights() -> None:
    rng = np.random.default_rng(20)
    variance = ROOMY * np.geomspace(0.1, 10, 7)
    delta = 0.01 * X + rng.normal(size=7) * 0.01
    (found,) = stats.axis_league([X], delta, variance, names=["size"])
    tau2 = stats.between_model_variance(SIZE, delta, variance).value
    assert tau2 > 0
    for form, rmse in (("loglinear", found.rmse_loglinear), ("quadratic", found.rmse_quadratic)):
        fit = stats.fit_family(form, SIZE, delta, variance, tau2=tau2)
        assert rmse == pytest.approx(stats.leave_one_model_out(fit).rmse, rel=1e-9)


# --- rates and errors ----------------------------------------------------------------------------


def _tables(n: int, seed: int = 0, size: np.ndarray = SIZE) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = np.log(size) - np.log(size).mean()
    first, fix, harm = (
        1 / (1 + np.exp(-(a + b * x))) for a, b in ((0.4, 0.6), (-1.5, 0.3), (-2.2, -0.2))
    )
    right = rng.binomial(n, first)
    fixed, broken = rng.binomial(n - right, fix), rng.binomial(right, harm)
    table = np.stack([right - broken, fixed, broken, n - right - fixed], axis=1)
    return table, (1 - first) * fix - first * harm


def test_two_rates_recover_and_bend() -> None:
    table, truth = _tables(200_000)
    found = stats.fit_two_rate(SIZE, table)
    assert (found.right_first.slope, found.fix_wrong.slope) == pytest.approx((0.6, 0.3), abs=0.02)
    np.testing.assert_allclose(found.predict(SIZE), truth, atol=0.002)
    extreme = found.predict(np.geomspace(1, 1e20, 50))
    assert np.all(np.abs(extreme) <= 1)
    np.testing.assert_allclose(
        found.predict(SIZE), (table[:, 1] - table[:, 2]) / 200_000, atol=0.005
    )


def test_a_rate_of_zero_throughout_is_said() -> None:
    table, _ = _tables(500)
    table[:, 0] += table[:, 2]
    table[:, 2] = 0
    found = stats.fit_two_rate(SIZE, table)
    assert found.break_right.separated
    assert not found.fix_wrong.separated
    assert np.all(np.isfinite(found.predict(SIZE)))
    assert found.rates(SIZE)[2].max() < 1e-3


def test_two_rate_replicates_draw_models() -> None:
    table, truth = _tables(2_000, seed=2)
    rng = np.random.default_rng(0)
    replicates = np.stack([rng.multinomial(2_000, row / 2_000, size=400) for row in table], axis=1)
    found = stats.bootstrap_two_rate(SIZE, replicates, seed=1).predict(SIZE)
    low, high = np.quantile(found, [0.025, 0.975], axis=0)
    assert np.mean((low <= truth) & (truth <= high)) > 0.7
    assert found.shape == (400, 7)
    items = [stats.fit_two_rate(SIZE, replicates[b]).predict(SIZE) for b in range(60)]
    assert np.all(found.std(axis=0) > 1.1 * np.std(items, axis=0))


def test_error_curves_recover_and_test() -> None:
    size = np.geomspace(0.5, 400, 10) * 1e9
    ratio = size / np.exp(np.log(size).mean())
    before, after = 0.08 + 0.12 * ratio**-0.5, 0.02 + 0.1 * ratio**-0.5
    n = 200_000
    both = after * 0.9
    table = n * np.stack([1 - before - after + both, before - both, after - both, both], axis=1)
    found = stats.fit_error_curves(size, table)
    assert found.eps == pytest.approx((0.08, 0.02), abs=1e-3)
    assert found.beta == pytest.approx((0.5, 0.5), abs=1e-3)
    assert found.same_beta.p_value > 0.5
    assert found.same_eps.p_value < 1e-6
    assert found.eps_region[0].covers(0.08)
    assert not found.eps_region[1].covers(0.08)
    assert found.beta_region[0].covers(0.5)
    np.testing.assert_allclose(found.predict(size), before - after, atol=1e-4)
    power = stats.fit_family("power", size, 0.03 * ratio**0.3, np.full(10, 1e-4))
    crossing = stats.size_beyond_headroom(power, found.errors_first)
    assert power.predict(crossing) == pytest.approx(found.errors(crossing)[0], rel=0.02)
    flat = stats.fit_family("constant", size, np.full(10, 0.01), np.full(10, 1e-4))
    assert stats.size_beyond_headroom(flat, found.errors_first) == math.inf


def test_a_floor_lies_between_nothing_and_everything() -> None:
    """Where errors rise with size, eps is where they rise to: no more than all answers."""
    size = np.geomspace(1, 64, 7)
    before, after = np.full(7, 0.4), 0.3 + 0.07 * np.log(size)
    both = 0.28
    table = 500 * np.stack(
        [1 - before - after + both, before - both, after - both, np.full(7, both)], axis=1
    )
    found = stats.fit_error_curves(size, table)
    assert found.amplitude[1] < 0
    assert found.eps[1] == 1.0
    assert found.eps_region[1].hull.high == 1.0
    flat = found.eps_region[0].hull
    # Without a trend in the first errors nothing bounds where they end: not the largest observed.
    assert flat.low == 0.0
    assert flat.high > 0.7
    assert found.misfit == pytest.approx(_misfit(size, table, np.array([found.beta])), rel=1e-6)


def _misfit(size: np.ndarray, table: np.ndarray, beta: np.ndarray) -> float:
    """Least misfit over eps in [0, 1] and any B at these exponents, by another route."""
    from scipy.optimize import lsq_linear

    x = np.log(size / np.exp(np.log(size).mean()))
    n = table.sum(axis=1)
    smooth = (table + 0.5) / (n + 2)[:, None]
    rows, target = [], []
    for m in range(size.size):
        e0, e1 = smooth[m, 1] + smooth[m, 3], smooth[m, 2] + smooth[m, 3]
        c = smooth[m, 3] - e0 * e1
        white = np.linalg.inv(
            np.linalg.cholesky(np.array([[e0 * (1 - e0), c], [c, e1 * (1 - e1)]]) / n[m])
        )
        p0, p1 = np.exp(-beta[0] * x[m])
        rows.append(white @ np.array([[1, p0, 0, 0], [0, 0, 1, p1]]))
        target.append(
            white @ np.array([table[m, 1] + table[m, 3], table[m, 2] + table[m, 3]]) / n[m]
        )
    inf = math.inf
    bounds = ([0, -inf, 0, -inf], [1, inf, 1, inf])
    return float(2 * lsq_linear(np.vstack(rows), np.concatenate(target), bounds).cost)


def test_a_floor_is_never_below_zero_and_both_errors_are_weighed_together() -> None:
    size = np.geomspace(0.5, 400, 8)
    ratio = size / np.exp(np.log(size).mean())
    before, after = 0.2 * ratio**-0.4 - 0.015, 0.15 * ratio**-0.4 - 0.01
    both, n = after * 0.9, 3_000
    table = n * np.stack([1 - before - after + both, before - both, after - both, both], axis=1)
    found = stats.fit_error_curves(size, table)
    assert found.eps[0] == 0 <= found.eps[1]
    assert found.eps_region[0].hull.low == 0
    residual = np.stack([before, after], axis=1) - np.stack(found.errors(size), axis=1)
    total = 0.0
    for counts, r in zip(table, residual, strict=True):
        _, fixed, broken, wrong = (counts + 0.5) / (n + 2)
        error = fixed + wrong, broken + wrong
        cov = np.array([[error[0], wrong], [wrong, error[1]]]) - np.outer(error, error)
        total += r @ np.linalg.solve(cov / n, r)
    assert found.misfit == pytest.approx(total, rel=1e-8)
    assert total > 1


# --- trends --------------------------------------------------------------------------------------


def test_trends_of_both_estimands() -> None:
    delta = 0.02 + 0.01 * X
    these = stats.trend_over_models(SIZE, delta, ROOMY)
    assert these.slope == pytest.approx(0.01)
    assert these.se == pytest.approx(0.004 / np.sqrt((X**2).sum()))
    rng = np.random.default_rng(20)
    noisy = delta + rng.normal(size=7) * 0.02
    such = stats.trend_over_such_models(SIZE, noisy)
    scipy_stats = pytest.importorskip("scipy.stats")
    line = scipy_stats.linregress(X, noisy)
    assert (such.slope, such.se, such.p_value) == pytest.approx(
        (line.slope, line.stderr, line.pvalue)
    )


def test_permutations_of_seven_models() -> None:
    rising = stats.permutation_trend(SIZE, X)
    assert rising.orders == 5_040
    assert rising.p_value == rising.smallest == pytest.approx(2 / 5_040)
    assert stats.permutation_trend(SIZE, -X).p_value == rising.p_value
    assert stats.permutation_trend(SIZE, np.ones(7)).p_value == 1


def test_paired_models_share_items() -> None:
    rng = np.random.default_rng(21)
    a = rng.integers(-1, 2, 200).astype(float)
    b = a.copy()
    b[:30] = np.minimum(1, b[:30] + 1)
    b[150:] = math.nan
    found = stats.paired_contrast(a, b)
    assert found.mean.n == 150
    assert found.mean.estimate == pytest.approx(np.mean((b - a)[:150]))
    assert found.test.p_value < 0.001
    assert found.mean.se_cr1 < stats.clustered_mean(a).se_cr1
