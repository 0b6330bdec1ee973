"""Clusters, epochs, the choice of the headline interval, flips and their rates."""

import math

import numpy as np
import pytest

from deltascale import stats

NAN = math.nan


def _scores(n: int, epochs: int = 1, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    ability = rng.normal(size=(n, 1))
    first = (rng.normal(size=(n, epochs)) < ability).astype(float)
    last = np.where(rng.random((n, epochs)) < 0.2, 1 - first, first)
    return first, last


def test_single_items_are_their_own_clusters() -> None:
    rng = np.random.default_rng(7)
    d = rng.integers(-1, 2, 50).astype(float)
    alone = stats.clustered_mean(d)
    assert alone.se_cr1 == pytest.approx(alone.se_iid)
    assert alone.deff == pytest.approx(1)
    fixed, broken, n = (d > 0).sum(), (d < 0).sum(), d.size
    v = ((fixed + broken) / n - d.mean() ** 2) / (n - 1)
    assert alone.se_iid**2 == pytest.approx(v)


def test_repeating_items_does_not_help() -> None:
    rng = np.random.default_rng(7)
    d = rng.integers(-1, 2, 40).astype(float)
    thrice = stats.clustered_mean(np.repeat(d, 3), np.repeat(np.arange(40), 3))
    assert thrice.se_cr1 == pytest.approx(stats.clustered_mean(d).se_cr1)
    assert thrice.deff == pytest.approx(3, rel=0.05)


def test_missing_observations_and_labels_of_any_kind() -> None:
    labels = np.array(["a", "b", "a", "c", "b", "c"])
    whole = stats.clustered_mean([1, 0, 0, 1, -1, 0], labels)
    holed = stats.clustered_mean([1, 0, 0, 1, -1, 0, NAN], np.append(labels, "d"))
    assert whole == holed
    assert whole.clusters == 3


def test_one_cluster_tells_nothing_of_its_error() -> None:
    found = stats.clustered_mean([1.0, 0.0, 1.0], ["x"] * 3)
    assert math.isnan(found.se_cr1)
    assert math.isnan(found.interval.low)
    assert found.deff_used == 1
    with pytest.raises(ValueError, match="nothing is observed"):
        stats.clustered_mean([NAN])
    with pytest.raises(ValueError, match="labels"):
        stats.clustered_mean([1.0, 2.0], [1])


def test_item_means_skip_missing_epochs() -> None:
    found = stats.item_means([[1, 0, NAN], [NAN, NAN, NAN], [1, 1, 1]])
    np.testing.assert_array_equal(found, [0.5, NAN, 1.0])


def test_epoch_components_find_what_was_planted() -> None:
    rng = np.random.default_rng(3)
    d = rng.normal(size=(4_000, 1)) * 0.3 + rng.normal(size=(4_000, 4)) * 0.5 + 0.1
    found = stats.epoch_components(d)
    assert found.item_variance == pytest.approx(0.09, abs=0.01)
    assert found.epoch_variance == pytest.approx(0.25, abs=0.01)
    d[::2, 3] = NAN
    assert stats.epoch_components(d).epochs == pytest.approx(2 / (1 / 3 + 1 / 4))
    pure_noise = stats.epoch_components(rng.normal(size=(30, 5)) + 0 * d[:30, :1])
    assert pure_noise.item_variance >= 0
    assert math.isnan(stats.epoch_components(d[:, :1]).epoch_variance)


def test_sign_flips_of_single_flips_are_mcnemar() -> None:
    d = [1.0] * 9 + [-1.0] * 3 + [0.0] * 50
    found = stats.sign_flip_test(d)
    assert found.exact
    assert found.p_value == pytest.approx(stats.mcnemar_exact(9, 3))
    drawn = stats.sign_flip_test(d, exact_up_to=0, seed=1)
    assert not drawn.exact
    assert drawn.p_value == pytest.approx(found.p_value, abs=0.02)
    assert drawn == stats.sign_flip_test(d, exact_up_to=0, seed=1)
    assert stats.sign_flip_test([0.0, 0.0]).p_value == 1


def test_sign_flips_move_clusters_whole() -> None:
    d, cluster = np.ones(30), np.arange(30) // 10
    assert stats.sign_flip_test(d, cluster).p_value == pytest.approx(2 / 8)


def test_a_drawn_p_value_is_never_zero() -> None:
    found = stats.sign_flip_test(np.ones(60), draws=500)
    assert found.p_value == 1 / 501


def test_covariance_of_models_on_shared_items() -> None:
    rng = np.random.default_rng(2)
    shared = rng.normal(size=400)
    y = np.stack([shared + rng.normal(size=400), shared + rng.normal(size=400)])
    cov = stats.mean_covariance(y)
    assert cov[0, 1] / cov[0, 0] == pytest.approx(0.5, abs=0.1)
    difference = stats.clustered_mean(y[1] - y[0]).se_cr1 ** 2
    assert np.array([-1, 1]) @ cov @ np.array([-1, 1]) == pytest.approx(difference)
    y[0, 100:] = NAN
    holed = stats.mean_covariance(y)
    assert holed[0, 0] == pytest.approx(stats.clustered_mean(y[0]).se_cr1 ** 2)
    assert np.all(np.linalg.eigvalsh(holed) > 0)


def test_a_model_without_flips_never_has_infinite_weight() -> None:
    d = np.zeros((2, 100))
    d[1, :5] = 1
    cov = stats.delta_covariance(d)
    assert cov[0, 0] == pytest.approx(2 / 102**2 + 1e-9)
    assert cov[1, 1] == pytest.approx(stats.clustered_mean(d[1]).se_cr1 ** 2 + 1e-9)
    # Five epochs of twenty items are twenty answers' worth of no flips, less what is missing.
    d[0, :5] = NAN
    of_items = stats.delta_covariance(d, np.repeat(np.arange(20), 5))
    assert of_items[0, 0] == pytest.approx(2 / (19 + 2) ** 2 + 1e-9)


def test_the_mean_of_two_datasets_is_welchs() -> None:
    from scipy import stats as scipy_stats

    rng = np.random.default_rng(7)
    a, b = rng.normal(0.1, 0.2, size=9), rng.normal(0.3, 1.5, size=40)
    found = stats.macro_mean(
        [a.mean(), b.mean()], [a.var(ddof=1) / 9, b.var(ddof=1) / 40], [9, 40], level=0.9
    )
    welch = scipy_stats.ttest_ind(a, -b, equal_var=False)  # a - (-b) is twice the mean
    limits = welch.confidence_interval(0.9)
    assert found.estimate == pytest.approx((a.mean() + b.mean()) / 2)
    assert found.df == pytest.approx(welch.df)
    assert found.interval == pytest.approx((limits.low / 2, limits.high / 2))


def test_macro_mean_of_many_datasets() -> None:
    alike = stats.macro_mean([0.1] * 4, [0.01] * 4, [11] * 4)
    assert alike.df == pytest.approx(40), "equal variances: the degrees of freedom add up"
    assert alike.se == pytest.approx(0.05)
    one = stats.macro_mean([0.1, 0.3], [0.04, 1e-12], [6, 500])
    assert one.df == pytest.approx(5), "where one variance is all, its degrees of freedom count"
    still = stats.macro_mean([0.1, 0.3], [0.0, 0.0], [6, 5])
    assert still.interval == pytest.approx((0.2, 0.2))
    for unknown in (stats.macro_mean([0.1, 0.3], [NAN, 0.1], [1, 9]),
                    stats.macro_mean([0.1, 0.3], [0.1, 0.1], [1, 9])):  # fmt: skip
        assert unknown.estimate == pytest.approx(0.2)
        assert math.isnan(unknown.interval.low)
    for wrong in (([], [], []), ([0.1], [0.1, 0.2], [3]), ([[0.1]], [[0.1]], [[3]])):
        with pytest.raises(ValueError, match="one value a dataset"):
            stats.macro_mean(*wrong)


def macro_coverage(simulations: int, seed: int) -> tuple[float, float]:
    """Coverage of the mean over a small, noisy dataset and two large ones; and with normal limits.

    Items are of unequal difficulty, which moves what is fixed and what is broken.
    """
    rng = np.random.default_rng(seed)
    sizes, rates = (12, 200, 400), ((0.5, 0.35), (0.10, 0.04), (0.06, 0.02))
    truth = float(np.mean([(fix - harm) / 2 for fix, harm in rates]))
    hits = []
    for _ in range(simulations):
        deltas = []
        for n, (fix, harm) in zip(sizes, rates, strict=True):
            ease = rng.random(n)  # the share of easy items that is right at first
            right = rng.random(n) < ease
            flips = rng.random(n) < np.where(right, harm, fix)
            deltas.append(np.where(flips, np.where(right, -1.0, 1.0), 0.0))
        means = [stats.clustered_mean(d) for d in deltas]
        found = stats.macro_mean(
            [one.estimate for one in means],
            [one.se_cr1**2 or stats.bonett_price_floor(one.n) for one in means],
            [one.clusters for one in means],
        )
        hits.append((found.interval.covers(truth), abs(found.estimate - truth) < 1.96 * found.se))
    covered, normal = np.mean(hits, axis=0)
    return float(covered), float(normal)


def test_the_mean_over_datasets_covers() -> None:
    covered, normal = macro_coverage(400, seed=1)
    assert covered >= 0.92
    assert normal < covered


@pytest.mark.slow
def test_the_mean_over_datasets_covers_long() -> None:
    covered, normal = macro_coverage(4_000, seed=2)
    assert 0.93 <= covered <= 0.965
    assert normal < 0.93


def test_macro_average_weighs_datasets() -> None:
    delta, cov = np.array([[0.1, 0.2], [0.3, 0.0]]), np.stack([np.eye(2), 4 * np.eye(2)])
    mean, var = stats.macro_average(delta, cov)
    np.testing.assert_allclose(mean, [0.2, 0.1])
    np.testing.assert_allclose(var, np.eye(2) * 5 / 4)
    mean, var = stats.macro_average(delta, cov, weight_D=[3, 1])
    np.testing.assert_allclose(mean, [0.15, 0.15])
    with pytest.raises(ValueError):
        stats.macro_average(delta, cov, weight_D=[1])


# --- the headline --------------------------------------------------------------------------------


def test_headline_for_single_items_is_tango() -> None:
    first, last = _scores(120)
    found = stats.headline_interval(first[:, 0], last[:, 0])
    flips = stats.count_flips(first, last)
    assert found.method == "tango"
    assert found.interval == stats.tango_interval(flips.fixed, flips.broken, flips.n)
    assert found.delta == pytest.approx(flips.delta)
    wanted = stats.newcombe10_interval(
        flips.fixed, flips.broken, flips.n, stayed_right=flips.stayed_right
    )
    assert found.newcombe10 == pytest.approx(wanted)
    assert not found.disagree


@pytest.mark.parametrize(
    ("n", "epochs", "per_cluster", "method"),
    [(120, 3, 1, "cr1"), (120, 1, 4, "cr1"), (40, 1, 4, "deff-tango"), (12, 3, 1, "deff-tango")],
)
def test_headline_for_epochs_and_clusters(
    n: int, epochs: int, per_cluster: int, method: str
) -> None:
    first, last = _scores(n, epochs)
    cluster = np.arange(n) // per_cluster if per_cluster > 1 else None
    found = stats.headline_interval(first, last, cluster_I=cluster)
    mean = stats.clustered_mean(stats.item_means(last - first), cluster)
    assert found.method == method
    assert found.delta == pytest.approx(mean.estimate)
    if method == "cr1":
        assert found.interval == mean.interval
    else:
        # Equivalent to single answers whose number gives the clustered standard error.
        z = 3.84
        width = (found.interval.high - found.interval.low) / 2
        assert width > 0.8 * math.sqrt(z) * mean.se_cr1


def test_copies_of_an_item_count_as_one() -> None:
    first = np.repeat([0.0, 0, 0, 0, 1, 1, 1, 1], 5)
    last = np.repeat([1.0, 1, 0, 0, 1, 1, 1, 0], 5)
    found = stats.headline_interval(first, last, cluster_I=np.repeat(np.arange(8), 5))
    assert found.deff == pytest.approx(39 / 7)  # variances of 8 and of 40, each less one
    wanted = stats.tango_interval(10 / found.deff, 5 / found.deff, 40 / found.deff)
    assert found.interval == pytest.approx(wanted)


def test_few_flips_need_tango_even_in_many_clusters() -> None:
    first = np.zeros(200)
    last = np.where(np.arange(200) < 5, 1.0, 0.0)
    found = stats.headline_interval(first, last, cluster_I=np.arange(200) // 4)
    assert found.method == "deff-tango"
    assert found.interval.low > -0.05
    none = stats.headline_interval(first, first, cluster_I=np.arange(200) // 4)
    assert none.deff == 4  # nothing flips: clusters count as single answers
    assert none.interval == pytest.approx(stats.tango_interval(0, 0, 50))


def test_headline_for_graded_scores() -> None:
    rng = np.random.default_rng(7)
    first, last = rng.random(50), rng.random(50)
    found = stats.headline_interval(first, last)
    assert found.method == "t"
    assert found.newcombe10 is None
    assert found.interval == stats.clustered_mean(last - first).interval
    assert stats.headline_interval(first, last, cluster_I=np.arange(50) // 2).method == "cr1"


def test_intervals_that_disagree_are_flagged() -> None:
    first, last = np.zeros(30), np.zeros(30)
    last[0] = 1  # one flip: the bootstrap cannot see below zero
    assert stats.headline_interval(first, last).disagree


def test_without_replicates_only_the_bootstrap_is_missing() -> None:
    rng = np.random.default_rng(4)
    first, last = rng.integers(0, 2, (2, 60)).astype(float)
    drawn, none = (stats.headline_interval(first, last, replicates=n) for n in (200, 0))
    assert (none.delta, none.interval, none.newcombe10) == (
        drawn.delta, drawn.interval, drawn.newcombe10
    )  # fmt: skip
    assert math.isfinite(drawn.bootstrap.low)
    assert math.isnan(none.bootstrap.low)
    assert math.isnan(none.bootstrap.high)
    assert not none.disagree


def test_missing_pairs_are_left_out_of_the_headline() -> None:
    first, last = _scores(100)
    holed = last.copy()
    holed[::3] = NAN
    found = stats.headline_interval(first, holed)
    kept = ~np.isnan(holed[:, 0])
    assert found.interval == stats.headline_interval(first[kept], last[kept]).interval


# --- flips and rates -----------------------------------------------------------------------------


def test_flips_are_counted_with_what_is_missing() -> None:
    flips = stats.count_flips([1, 1, 0, 0, 1, NAN], [1, 0, 1, 0, NAN, 1])
    assert (flips.stayed_right, flips.broken, flips.fixed, flips.stayed_wrong) == (1, 1, 1, 1)
    assert flips.missing == 2
    assert flips.n == 4
    with pytest.raises(ValueError, match="0, 1 or NaN"):
        stats.count_flips([0.5], [1])
    with pytest.raises(ValueError, match="match"):
        stats.count_flips([1, 0], [1])


def test_rates_without_a_denominator_say_why() -> None:
    found = stats.rate([1, 1, 1], [1, 0, 1], "fix_wrong")
    assert math.isnan(found.value)
    assert found.reason == "no first answer was wrong"
    assert stats.rate([1, 1, 1], [1, 0, 1], "break_right").value == pytest.approx(1 / 3)


def test_rates_pool_and_widen_with_clusters() -> None:
    first, last = _scores(200, 4)
    pooled = stats.count_flips(first, last)
    single = stats.rate(first[:, 0], last[:, 0], "stay_right")
    assert single.interval == stats.wilson_interval(single.numerator, single.denominator)
    found = stats.rate(first, last, "stay_right")
    assert found.value == pytest.approx(pooled.stay_right)
    copied = stats.rate(np.repeat(first[:, :1], 4, 1), np.repeat(last[:, :1], 4, 1), "stay_right")
    assert copied.value == pytest.approx(single.value)
    assert copied.interval == pytest.approx(single.interval, abs=0.02)
    for name, other in (("stay_right", "break_right"), ("fix_wrong", "stay_wrong")):
        one, two = stats.rate(first, last, name), stats.rate(first, last, other)
        assert one.value + two.value == pytest.approx(1)
        assert one.interval.low == pytest.approx(1 - two.interval.high)


def test_a_share_of_all_or_nothing_keeps_an_interval() -> None:
    found = stats.clustered_ratio([2, 3, 1], [2, 3, 1], [0, 1, 1])
    assert found.ratio == 1
    assert found.interval == stats.wilson_interval(2, 2)
    with pytest.raises(ValueError, match="numerator"):
        stats.clustered_ratio([2], [1])


def test_normalised_gain_says_what_it_divides_by() -> None:
    first, last = _scores(300, seed=4)
    first, last = first[:, 0], last[:, 0]
    up = stats.normalised_gain(np.minimum(first, last), np.maximum(first, last))
    down = stats.normalised_gain(np.maximum(first, last), np.minimum(first, last))
    assert (up.of, down.of) == ("headroom", "accuracy")
    assert up.value > 0 > down.value
    assert up.interval.covers(up.value)
    assert stats.normalised_gain([1, 1], [1, 1]).of == "undefined"


def test_linearised_gain_has_the_bootstrap_spread() -> None:
    rng = np.random.default_rng(5)
    first = (rng.random(400) < 0.3).astype(float)
    last = np.maximum(first, rng.random(400) < 0.75)  # a large gain: both derivatives matter
    found = stats.normalised_gain(first, last)
    one = stats.stratum(np.stack([first, last], axis=1))
    before, after = stats.bootstrap_means([one], seed=0, replicates=4_000)[:, 0].T
    spread = np.std((after - before) / (1 - before))
    width = (found.interval.high - found.interval.low) / 2 / 1.966
    assert width == pytest.approx(spread, rel=0.06)


def test_break_even_is_the_sign_of_delta() -> None:
    for fixed, broken in ((30, 10), (10, 30)):
        flips = stats.Flips(60, fixed, broken, 40)
        found = stats.break_even(flips, delta_B=[0.1, -0.1, 0.2, math.nan])
        assert (found.ratio > found.threshold) == (flips.delta > 0)
        assert found.probability == pytest.approx(2 / 3)
    assert stats.break_even(stats.Flips(50, 5, 0, 45)).ratio == math.inf
    assert math.isnan(stats.break_even(stats.Flips(50, 0, 5, 0)).ratio)


def test_constant_rates_settle() -> None:
    rates = {"fix_wrong": 0.3, "break_right": 0.1}
    limit = stats.stationary_accuracy(**rates)
    assert limit == pytest.approx(0.75)
    assert stats.accuracy_after(0, acc_first=0.5, **rates) == pytest.approx(0.5)
    one = stats.accuracy_after(1, acc_first=0.5, **rates)
    assert one == pytest.approx(0.5 * 0.9 + 0.5 * 0.3)
    assert stats.accuracy_after(60, acc_first=0.5, **rates) == pytest.approx(limit)
    assert stats.accuracy_after(9, acc_first=0.5, fix_wrong=0, break_right=0) == 0.5


def test_rounds_that_differ_are_found() -> None:
    rng = np.random.default_rng(0)
    first = rng.random(800) < 0.5

    def again(score: np.ndarray, fix: float, harm: float) -> np.ndarray:
        u = rng.random(score.size)
        return np.where(score, u >= harm, u < fix)

    second = again(first, 0.3, 0.1)
    same = stats.round_homogeneity(np.stack([first, second, again(second, 0.3, 0.1)], axis=1))
    less = stats.round_homogeneity(np.stack([first, second, again(second, 0.05, 0.1)], axis=1))
    assert less.p_value < 1e-6 < 0.01 < same.p_value
    assert less.df == 2
    assert less.fix_wrong_change < -0.15
    always_right = stats.round_homogeneity(np.ones((5, 3)))
    assert always_right.df == 0
    with pytest.raises(ValueError, match="three turns"):
        stats.round_homogeneity(np.ones((5, 2)))


def test_answering_afresh_moves_answers_too() -> None:
    rng = np.random.default_rng(1)
    chance = rng.beta(2, 1.2, size=4_000)
    k = 6
    found = stats.resample_null(rng.binomial(k, chance), k)
    first, again = rng.random(4_000) < chance, rng.random(4_000) < chance
    seen = stats.count_flips(first, again)
    assert found.fix_wrong == pytest.approx(seen.fix_wrong, abs=0.035)
    assert found.stay_right == pytest.approx(seen.stay_right, abs=0.035)
    assert math.isnan(stats.resample_null([1, 0], 1).fix_wrong)
    with pytest.raises(ValueError):
        stats.resample_null([3], 2)


def test_kitagawa_tells_rates_from_mix() -> None:
    base = stats.Flips(45, 10, 5, 40)
    better_rates = stats.Flips(48, 20, 2, 30)
    more_right = stats.Flips(72, 4, 8, 16)  # the rates of `base`, starting from .8
    assert stats.kitagawa(base, better_rates).mix_effect == pytest.approx(0)
    assert stats.kitagawa(base, more_right).rate_effect == pytest.approx(0)


def test_transitions_by_answer() -> None:
    found = stats.answer_transitions(
        [1, 1, 0, 0, 0, 1, NAN], [1, 0, 1, 0, 0, 1, 1], same_I=[1, 0, 0, 1, 0, 0, 0]
    )
    assert (found.kept_right, found.reworded_right) == (1, 1)
    assert (found.fixed, found.broken) == (1, 1)
    assert (found.kept_wrong, found.other_wrong) == (1, 1)
