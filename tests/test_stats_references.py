"""The same numbers from other people's code: statsmodels, scipy.stats, scikit-learn."""

from typing import Any

import numpy as np
import pytest

from deltascale import stats


@pytest.fixture(scope="module")
def sm() -> Any:
    """Both take long to import, so only where they are compared with."""
    return pytest.importorskip("statsmodels.api")


@pytest.fixture(scope="module")
def scipy_stats() -> Any:
    return pytest.importorskip("scipy.stats")


@pytest.fixture
def rng() -> np.random.Generator:
    """Of each test's own, so that their order changes nothing."""
    return np.random.default_rng(20)


TABLES = [(0, 0, 20), (1, 0, 12), (7, 1, 21), (5, 5, 40), (30, 12, 164), (250, 90, 1000)]


@pytest.mark.parametrize(("fixed", "broken", "n"), TABLES)
def test_mcnemar(fixed: int, broken: int, n: int, sm: Any, scipy_stats: Any) -> None:
    from statsmodels.stats.contingency_tables import mcnemar

    table = [[0, broken], [fixed, 0]]
    assert stats.mcnemar_exact(fixed, broken) == pytest.approx(
        mcnemar(table, exact=True).pvalue if fixed + broken else 1.0, abs=1e-12
    )
    if fixed + broken:
        exact = scipy_stats.binom
        few, flips = min(fixed, broken), fixed + broken
        one = exact.cdf(few, flips, 0.5)
        point = exact.pmf(few, flips, 0.5)
        midp = 1 - point / 2 if fixed == broken else 2 * one - point
        assert stats.mcnemar_midp(fixed, broken) == pytest.approx(midp, rel=1e-9)
        asymptotic = mcnemar(table, exact=False, correction=False)
        found = stats.mcnemar_chi2(fixed, broken)
        assert (found.statistic, found.p_value) == pytest.approx(
            (asymptotic.statistic, asymptotic.pvalue), rel=1e-10
        )


@pytest.mark.parametrize(("k", "n"), [(0, 5), (3, 9), (50, 60), (999, 1000), (7, 7)])
@pytest.mark.parametrize("level", [0.9, 0.95, 0.99])
@pytest.mark.usefixtures("sm")
def test_one_proportion(k: int, n: int, level: float) -> None:
    from statsmodels.stats.proportion import proportion_confint

    for method, found in (
        ("wilson", stats.wilson_interval(k, n, level=level)),
        ("beta", stats.clopper_pearson_interval(k, n, level=level)),
    ):
        low, high = proportion_confint(k, n, alpha=1 - level, method=method)
        assert found == pytest.approx((low, high), abs=1e-9)


@pytest.mark.parametrize("method", ["holm", "fdr_bh"])
@pytest.mark.usefixtures("sm")
def test_adjusted_p(method: str, rng: np.random.Generator) -> None:
    from statsmodels.stats.multitest import multipletests

    p = np.round(rng.random(30) ** 3, 2)  # rounding makes ties
    ours = stats.holm(p) if method == "holm" else stats.benjamini_hochberg(p)
    np.testing.assert_allclose(ours, multipletests(p, method=method)[1], atol=1e-12)


def test_clustered_error_and_covariance(rng: np.random.Generator, sm: Any) -> None:
    cluster = rng.integers(0, 12, 90)
    y = rng.normal(size=(2, 90)) + rng.normal(size=12)[cluster]
    for row in y:
        ols = sm.OLS(row, np.ones(90)).fit(cov_type="cluster", cov_kwds={"groups": cluster})
        assert stats.clustered_mean(row, cluster).se_cr1 == pytest.approx(ols.bse[0], rel=1e-10)
    # Two means at once are a regression on two indicators with the items as common clusters.
    stacked = np.kron(np.eye(2), np.ones((90, 1)))
    both = sm.OLS(y.ravel(), stacked).fit(
        cov_type="cluster",
        cov_kwds={"groups": np.tile(cluster, 2), "use_correction": False},
    )
    np.testing.assert_allclose(
        stats.mean_covariance(y, cluster), both.cov_params() * 12 / 11, rtol=1e-9
    )


def test_bca_and_percentile_limits(rng: np.random.Generator, scipy_stats: Any) -> None:
    x = rng.exponential(size=60)
    ours = stats.bootstrap_means([stats.stratum(x[:, None])], seed=3, replicates=40_000)[:, 0, 0]
    jack, times = stats.jackknife_means(stats.stratum(x[:, None]))
    found = {
        "percentile": stats.percentile_interval(ours).interval,
        "BCa": stats.bca_interval(ours, float(x.mean()), jack[:, 0], times).interval,
    }
    for method, interval in found.items():
        theirs = scipy_stats.bootstrap(
            (x,), np.mean, n_resamples=40_000, method=method, rng=np.random.default_rng(4)
        ).confidence_interval
        assert interval == pytest.approx((theirs.low, theirs.high), abs=0.02)


@pytest.mark.parametrize("table", [(3, 9, 8, 2), (0, 5, 4, 1), (10, 10, 10, 10), (0, 0, 3, 4)])
def test_fisher(table: tuple[int, int, int, int], scipy_stats: Any) -> None:
    a, b, c, d = table
    wanted = scipy_stats.fisher_exact([[a, b], [c, d]]).pvalue if a + b else 1.0
    assert stats.fisher_exact(*table) == pytest.approx(wanted, rel=1e-9)


def test_two_rate_lines(rng: np.random.Generator, sm: Any) -> None:
    size = np.array([1, 3, 7, 14, 32, 70, 180.0])
    x = np.log(size) - np.log(size).mean()
    table = rng.integers(20, 200, size=(7, 4)).astype(float)
    fit = stats.fit_two_rate(size, table)
    stayed_right, fixed, broken, stayed_wrong = table.T
    cases = (
        (fit.right_first, stayed_right + broken, fixed + stayed_wrong),
        (fit.fix_wrong, fixed, stayed_wrong),
        (fit.break_right, broken, stayed_right),
    )
    for line, hits, misses in cases:
        model = sm.GLM(
            np.stack([hits, misses], axis=1), sm.add_constant(x), family=sm.families.Binomial()
        ).fit(tol=1e-12)
        assert (line.intercept, line.slope) == pytest.approx(tuple(model.params), abs=1e-6)
        scale = max(1.0, model.pearson_chi2 / 5)
        assert line.dispersion == pytest.approx(scale, rel=1e-6)
        np.testing.assert_allclose(line.covariance, model.cov_params() * scale, rtol=1e-5)


def test_generalised_least_squares(rng: np.random.Generator, sm: Any) -> None:
    size = np.array([1, 3, 7, 14, 32, 70, 180.0])
    root = rng.normal(size=(7, 7)) * 0.003
    cov = root @ root.T + np.eye(7) * 1e-5
    delta = rng.normal(size=7) * 0.02
    x = np.log(size) - np.log(size).mean()
    for name, columns in (("loglinear", [x**0, x]), ("quadratic", [x**0, x, x**2])):
        theirs = sm.GLS(delta, np.stack(columns, axis=1), sigma=cov).fit()
        ours = stats.fit_family(name, size, delta, cov)
        np.testing.assert_allclose(ours.theta, theirs.params, rtol=1e-8)
        np.testing.assert_allclose(ours.covariance, theirs.normalized_cov_params, rtol=1e-7)


def test_power_law_against_curve_fit(rng: np.random.Generator) -> None:
    from scipy.optimize import curve_fit

    size = np.geomspace(1, 300, 8)
    for alpha in (-0.7, 0.2, 0.9):
        delta = 0.03 * size**alpha * (1 + rng.normal(size=8) * 0.1) - 0.005
        se = rng.uniform(0.003, 0.006, 8)
        theirs, cov = curve_fit(
            lambda n, a, b: a * n**b,
            size,
            delta,
            p0=(0.03, alpha),
            sigma=se,
            absolute_sigma=True,
            ftol=1e-14,
            xtol=1e-14,
            gtol=1e-14,
        )
        ours = stats.fit_family("power", size, delta, se**2, reference=1.0)
        np.testing.assert_allclose(ours.theta, theirs, rtol=1e-4)
        np.testing.assert_allclose(ours.covariance, cov, rtol=1e-3)


def test_r_squared(rng: np.random.Generator) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    y, f, w = rng.normal(size=9), rng.normal(size=9), rng.random(9)
    assert stats.r_squared(y, f) == pytest.approx(metrics.r2_score(y, f))
    assert stats.r_squared(y, f, weight_M=w) == pytest.approx(
        metrics.r2_score(y, f, sample_weight=w)
    )


@pytest.mark.usefixtures("sm")
def test_meta_analysis(rng: np.random.Generator) -> None:
    from statsmodels.stats.meta_analysis import combine_effects

    effect, variance = rng.normal(size=6) * 0.3, rng.uniform(0.01, 0.05, 6)
    theirs = combine_effects(effect, variance, method_re="iterated")
    ours = stats.heterogeneity(effect, variance)
    assert ours.tau2 == pytest.approx(theirs.tau2, abs=1e-6)
    assert ours.q == pytest.approx(theirs.q, rel=1e-9)
    assert ours.mean == pytest.approx(theirs.mean_effect_re, abs=1e-6)


def test_permutation_of_signs(rng: np.random.Generator, scipy_stats: Any) -> None:
    d = rng.normal(size=12) + 0.3
    theirs = scipy_stats.permutation_test(
        (d,), np.mean, permutation_type="samples", n_resamples=np.inf
    )
    ours = stats.sign_flip_test(d)
    assert ours.exact
    assert ours.p_value == pytest.approx(theirs.pvalue, abs=1e-9)


def test_pass_at_k(scipy_stats: Any) -> None:
    for n, c, k in ((10, 3, 4), (20, 0, 5), (7, 7, 2), (9, 8, 9)):
        wanted = 1 - scipy_stats.hypergeom.pmf(0, n, c, k)
        assert stats.best_of_k_accuracy([c], n, k=k)[0] == pytest.approx(wanted, abs=1e-12)
