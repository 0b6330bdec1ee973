"""What holds for any data: identities, containment, symmetry, and indifference to order."""

import math
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from deltascale import stats

counts = st.integers(0, 400)
tables = st.tuples(counts, counts, counts, counts).filter(lambda t: sum(t) > 0)
scores = st.integers(1, 60).flatmap(
    lambda n: st.tuples(
        *(
            arrays(float, n, elements=st.sampled_from([0.0, 1.0, math.nan]), fill=st.nothing())
            for _ in range(2)
        )
    )
)
levels = st.sampled_from([0.8, 0.9, 0.95, 0.99])


@given(scores)
def test_fixed_less_broken_is_delta_times_n(pair: tuple[np.ndarray, np.ndarray]) -> None:
    first, last = pair
    flips = stats.count_flips(first, last)
    assert flips.n + flips.missing == first.size
    if flips.n:
        assert flips.fixed - flips.broken == pytest.approx(flips.delta * flips.n, abs=1e-12)
        assert flips.acc_last - flips.acc_first == pytest.approx(flips.delta, abs=1e-12)


@given(tables)
def test_accuracy_is_made_of_its_rates(table: tuple[int, int, int, int]) -> None:
    flips = stats.Flips(*table)
    assume(0 < flips.acc_first < 1)
    first = flips.acc_first
    rebuilt = first * flips.stay_right + (1 - first) * flips.fix_wrong
    assert abs(rebuilt - flips.acc_last) <= 1e-12
    even = stats.break_even(flips)
    if flips.fixed != flips.broken:
        assert (even.ratio > even.threshold) == (flips.delta > 0)
    if flips.fixed + flips.broken:
        limit = stats.stationary_accuracy(flips.fix_wrong, flips.break_right)
        rates = {"fix_wrong": flips.fix_wrong, "break_right": flips.break_right}
        once = stats.accuracy_after(1, acc_first=first, **rates)
        assert once == pytest.approx(flips.acc_last, abs=1e-12)
        assert stats.accuracy_after(1, acc_first=limit, **rates) == pytest.approx(limit)


@given(tables, tables)
def test_kitagawa_sums_exactly(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    one, two = stats.Flips(*a), stats.Flips(*b)
    assume(0 < one.acc_first < 1)
    assume(0 < two.acc_first < 1)
    found = stats.kitagawa(one, two)
    assert found.rate_effect + found.mix_effect == pytest.approx(found.difference, abs=1e-12)
    back = stats.kitagawa(two, one)
    assert back.rate_effect == pytest.approx(-found.rate_effect)


@given(tables, levels)
def test_intervals_hold_their_estimate(table: tuple[int, int, int, int], level: float) -> None:
    stayed, fixed, broken, _ = table
    n = sum(table)
    delta = (fixed - broken) / n
    tango = stats.tango_interval(fixed, broken, n, level=level)
    newcombe = stats.newcombe10_interval(fixed, broken, n, stayed_right=stayed, level=level)
    for interval in (tango, newcombe):
        assert -1 <= interval.low <= delta + 1e-12
        assert delta - 1e-12 <= interval.high <= 1
    for method in (stats.wilson_interval, stats.clopper_pearson_interval):
        low, high = method(fixed, n, level=level)
        assert 0 <= low <= fixed / n <= high <= 1
    wider = stats.tango_interval(fixed, broken, n, level=0.999)
    assert wider.low <= tango.low
    assert tango.high <= wider.high


@given(tables)
def test_swapping_the_sides_mirrors_everything(table: tuple[int, int, int, int]) -> None:
    _, fixed, broken, _ = table
    n = sum(table)
    low, high = stats.tango_interval(fixed, broken, n)
    assert stats.tango_interval(broken, fixed, n) == pytest.approx((-high, -low), abs=1e-12)
    assert stats.mcnemar_midp(fixed, broken) == stats.mcnemar_midp(broken, fixed)
    z = stats.tango_statistic(fixed, broken, n)
    assert stats.tango_statistic(broken, fixed, n) == pytest.approx(-z)


@given(tables)
def test_tango_at_zero_is_mcnemar(table: tuple[int, int, int, int]) -> None:
    _, fixed, broken, _ = table
    n = sum(table)
    z = stats.tango_statistic(fixed, broken, n)
    assert z**2 == pytest.approx(stats.mcnemar_chi2(fixed, broken).statistic, rel=1e-9)
    # So interval and asymptotic test never contradict each other.
    p = stats.mcnemar_chi2(fixed, broken).p_value
    assume(abs(p - 0.05) > 1e-9)
    assert stats.tango_interval(fixed, broken, n).covers(0) == (p > 0.05)


@given(tables, levels, st.floats(-0.999, 0.999))
def test_tango_holds_just_what_its_score_accepts(
    table: tuple[int, int, int, int], level: float, theta: float
) -> None:
    _, fixed, broken, _ = table
    n = sum(table)
    low, high = stats.tango_interval(fixed, broken, n, level=level)
    assume(min(abs(theta - low), abs(theta - high)) > 1e-9)
    z = float(stats.bonferroni_z(1, level=level))
    accepted = abs(stats.tango_statistic(fixed, broken, n, theta=theta)) <= z
    assert accepted == (low < theta < high)


@given(counts, counts)
def test_p_values_are_probabilities_in_order(fixed: int, broken: int) -> None:
    midp, exact = stats.mcnemar_midp(fixed, broken), stats.mcnemar_exact(fixed, broken)
    assert 0 <= midp <= exact <= 1
    assert exact >= stats.smallest_exact_p(fixed + broken) - 1e-15
    if fixed > broken:
        assert stats.mcnemar_exact(fixed + 1, broken) <= exact


p_values = st.lists(st.one_of(st.floats(0, 1), st.just(math.nan)), max_size=30)


@given(p_values, st.randoms())
def test_adjusting_keeps_order_and_forgets_positions(p: list[float], random: object) -> None:
    for adjust in (stats.holm, stats.benjamini_hochberg):
        found = adjust(p)
        assert np.array_equal(np.isnan(found), np.isnan(p))
        kept = ~np.isnan(found)
        assert np.all((found[kept] >= np.array(p)[kept]) & (found[kept] <= 1))
        order = np.argsort(np.array(p)[kept], kind="stable")
        assert np.all(np.diff(found[kept][order]) >= 0)
        shuffled = list(range(len(p)))
        random.shuffle(shuffled)  # type: ignore[attr-defined]
        np.testing.assert_array_equal(adjust([p[i] for i in shuffled]), found[shuffled])
    both = np.array([stats.benjamini_hochberg(p), stats.holm(p)])
    assert np.all((both[0] <= both[1] + 1e-15) | np.isnan(both[0]))


@given(
    st.integers(0, 30), st.integers(0, 30), st.integers(0, 60), st.tuples(*[st.integers(0, 9)] * 3)
)
def test_what_is_missing_only_widens(
    fixed: int, broken: int, stayed: int, lost: tuple[int, int, int]
) -> None:
    n = fixed + broken + stayed
    assume(n + sum(lost) > 0)
    right, wrong, both = lost
    found = stats.manski_bounds(
        fixed, broken, n, lost_right=right, lost_wrong=wrong, lost_both=both
    )
    assert found.low <= found.as_wrong <= found.high
    assert found.widened.low <= found.low <= found.high <= found.widened.high
    assert found.high - found.low == pytest.approx((right + wrong + 2 * both) / (n + sum(lost)))


@given(st.integers(2, 12), st.integers(1, 4), st.integers(0, 2**32))
def test_order_of_items_changes_nothing(clusters: int, each: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = clusters * each
    first, last = rng.integers(0, 2, (2, n)).astype(float)
    cluster = np.repeat(np.arange(clusters), each)
    order = rng.permutation(n)
    renamed = rng.permutation(clusters)[cluster]
    one = stats.headline_interval(first, last, cluster_I=cluster, replicates=250)
    two = stats.headline_interval(
        first[order], last[order], cluster_I=renamed[order], replicates=250
    )
    assert one.interval == pytest.approx(two.interval, nan_ok=True)
    assert one.bootstrap == pytest.approx(two.bootstrap)
    assert one.mean.se_cr1 == pytest.approx(two.mean.se_cr1)
    tests = [
        stats.sign_flip_test(d, c).p_value
        for d, c in ((last - first, cluster), ((last - first)[order], renamed[order]))
    ]
    assert tests[0] == pytest.approx(tests[1])


@given(st.integers(1, 40), st.integers(0, 2**32))
def test_exact_sign_flips_match_mcnemar(flips: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    d = rng.choice([-1.0, 1.0], size=min(flips, 14))
    found = stats.sign_flip_test(np.concatenate([d, np.zeros(5)]))
    wanted = stats.mcnemar_exact(int((d > 0).sum()), int((d < 0).sum()))
    assert found.p_value == pytest.approx(wanted)


@given(
    st.sampled_from(["constant", "loglinear", "power", "saturating", "quadratic", "power_floor"]),
    st.floats(-0.1, 0.1),
    st.floats(-0.05, 0.05),
    st.floats(-0.9, 0.9),
)
@example("saturating", 1.0762107163121153e-157, 0.0, 0.0)
def test_a_fit_recovers_planted_parameters(name: str, a: float, b: float, shape: float) -> None:
    size = np.geomspace(1, 200, 8)
    x = np.log(size) - np.log(size).mean()
    delta = {
        "constant": a + 0 * x,
        "loglinear": a + b * x,
        "quadratic": a + b * x + shape * 0.01 * x**2,
        "power": a * np.exp(shape * x),
        "saturating": a * -np.expm1(-np.exp(x - shape)),
        "power_floor": b + a * np.exp(shape * x),
    }[name]
    fit = stats.fit_family(name, size, delta, np.full(8, 1e-6))
    # Where the amplitude or the exponent vanishes parameters are not unique; the curve is.
    np.testing.assert_allclose(fit.fitted, delta, atol=3e-6)
    if abs(a) > 0.01 and abs(shape) > 0.1 and name in ("power", "saturating", "power_floor"):
        assert fit.theta[-1] == pytest.approx(shape, abs=1e-3)


@given(st.floats(0.01, 100), st.floats(-5, 5), st.integers(0, 2**32))
@settings(max_examples=20)
def test_units_and_labels_do_not_move_the_exponent(unit: float, shift: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    size = np.exp(rng.uniform(0, 5, 7))
    delta = 0.03 * size**0.2 + rng.normal(size=7) * 0.01
    variance = rng.uniform(1e-5, 4e-5, 7)
    order = rng.permutation(7)
    one = stats.exponent(size, delta, variance)
    two = stats.exponent(size[order] * unit, delta[order], variance[order])
    assert one.alpha == pytest.approx(two.alpha, abs=1e-5)
    assert one.identified == two.identified
    if one.identified:
        assert one.region.hull == pytest.approx(two.region.hull, abs=1e-4)


@given(
    st.floats(-2, 2),
    st.floats(0.1, 2),
    st.floats(0.01, 1),
    st.floats(0.01, 1),
    st.floats(-0.9, 0.9),
)
def test_fieller_holds_what_it_does_not_reject(
    top: float, bottom: float, var_top: float, var_bottom: float, correlation: float
) -> None:
    cov = correlation * math.sqrt(var_top * var_bottom)
    found = stats.fieller(
        top, bottom, var_numerator=var_top, var_denominator=var_bottom, covariance=cov
    )
    for ratio in np.linspace(-6, 6, 25):
        gap = top - ratio * bottom
        variance = var_top - 2 * ratio * cov + ratio**2 * var_bottom
        distance = gap**2 - 3.841458820694124 * variance
        assume(abs(distance) > 1e-9)
        assert found.region.covers(ratio) == (distance < 0)
    assert found.region.covers(found.ratio)


# --- the joint bootstrap -------------------------------------------------------------------------


def _strata(seed: int, *, whole: bool) -> list[stats.Stratum]:
    rng = np.random.default_rng(seed)
    values = [
        rng.integers(-1, 2, (n, 4)).astype(float) if whole else rng.normal(size=(n, 4))
        for n in (57, 200)
    ]
    values[0][::9, 1] = math.nan
    return [
        stats.stratum(v, cluster_I=np.arange(len(v)) // 2, key=key) for key, v in enumerate(values)
    ]


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("replicates", [1, 250, 777])
def test_threads_change_no_bit(whole: bool, replicates: int) -> None:
    strata = _strata(3, whole=whole)
    one = stats.bootstrap_means(strata, seed=5, replicates=replicates)
    for threads in (2, 5):
        many = stats.bootstrap_means(strata, seed=5, replicates=replicates, threads=threads)
        np.testing.assert_array_equal(one, many)
    more = stats.bootstrap_means(strata, seed=5, replicates=1_000)
    np.testing.assert_array_equal(one, more[:replicates])
    assert not np.array_equal(one, stats.bootstrap_means(strata, seed=6, replicates=replicates))


def test_threads_of_the_linear_algebra_change_no_bit() -> None:
    program = (
        "import hashlib, numpy as np; from deltascale import stats; "
        "x = np.random.default_rng(0).normal(size=(1000, 7)); "
        "m = stats.bootstrap_means([stats.stratum(x)], seed=1, replicates=2000)[:, 0]; "
        "n = [1, 3, 7, 14, 32, 70, 180]; "
        "t = stats.refit_family('power', n, m + 0.2, np.full(7, 1e-4)).theta; "
        "print(hashlib.sha256(m.tobytes() + t.tobytes()).hexdigest())"
    )
    digests = set()
    for threads in ("1", "2"):
        names = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
        ran = subprocess.run(
            [sys.executable, "-c", program],
            env={
                **os.environ,
                **dict.fromkeys(names, threads),
                "PYTHONPATH": os.pathsep.join(sys.path),
            },
            capture_output=True,
            text=True,
            check=True,
        )
        digests.add(ran.stdout)
    assert len(digests) == 1


def test_a_dataset_has_its_own_stream() -> None:
    a, b = _strata(1, whole=True)
    both = stats.bootstrap_means([a, b], seed=2, replicates=300)
    np.testing.assert_array_equal(
        stats.bootstrap_means([b], seed=2, replicates=300)[:, 0], both[:, 1]
    )
    with pytest.raises(ValueError, match="same key"):
        stats.bootstrap_means([a, a], seed=2)
    twin = stats.Stratum(b.total, b.weight, b.frequency, key=9)
    alike = stats.bootstrap_means([b, twin], seed=2, replicates=300)
    assert not np.array_equal(alike[:, 0], alike[:, 1])


def test_patterns_and_single_draws_are_one_bootstrap() -> None:
    """Counting equal items together changes the cost of the bootstrap, not its distribution."""
    rng = np.random.default_rng(4)
    d = rng.choice([-1.0, 0.0, 0.0, 0.0, 1.0], size=(400, 1))
    nudged = d + rng.normal(size=(400, 1)) * 1e-9  # every item its own pattern
    few, many = stats.stratum(d), stats.stratum(nudged)
    assert (few.frequency.size, many.frequency.size) == (3, 400)
    one = stats.bootstrap_means([few], seed=1, replicates=20_000).ravel()
    two = stats.bootstrap_means([many], seed=1, replicates=20_000).ravel()
    assert one.std() == pytest.approx(two.std(), rel=0.02)
    assert one.std() == pytest.approx(d.std() / 20, rel=0.02)
    quantiles = np.linspace(0.02, 0.98, 9)
    np.testing.assert_allclose(np.quantile(one, quantiles), np.quantile(two, quantiles), atol=0.003)


def test_every_model_meets_the_same_items() -> None:
    rng = np.random.default_rng(5)
    d = rng.normal(size=(150, 1)) * [1.0, 1.0, -2.0] + [0.0, 3.0, 0.0]
    means = stats.bootstrap_means([stats.stratum(d)], seed=0, replicates=500)[:, 0]
    np.testing.assert_allclose(means[:, 1], means[:, 0] + 3)
    np.testing.assert_allclose(means[:, 2], -2 * means[:, 0])


def test_bootstrap_covariance_is_the_analytic_one() -> None:
    rng = np.random.default_rng(6)
    cluster = np.arange(300) // 3
    d = rng.normal(size=(300, 3)) + rng.normal(size=(100, 1))[cluster]
    d[::7, 0] = math.nan
    means = stats.bootstrap_means([stats.stratum(d, cluster_I=cluster)], seed=0, replicates=20_000)
    ours = np.cov(means[:, 0].T)
    np.testing.assert_allclose(ours, stats.mean_covariance(d.T, cluster), rtol=0.06)
    np.testing.assert_allclose(
        stats.stratum_means([stats.stratum(d, cluster_I=cluster)])[0], np.nanmean(d, axis=0)
    )


def test_limits_know_their_monte_carlo_error() -> None:
    rng = np.random.default_rng(7)
    runs = [stats.percentile_interval(rng.normal(size=4_000)) for _ in range(200)]
    spread = np.std([run.interval.low for run in runs])
    assert np.mean([run.mc_se_low for run in runs]) == pytest.approx(spread, rel=0.15)
    assert math.isnan(stats.percentile_interval([math.nan]).interval.low)
