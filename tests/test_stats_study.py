"""Price, design, transfer, artefacts, and the published law that checks our tools."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest

from deltascale import stats

NAN = math.nan
SIZE = np.array([1, 3, 7, 14, 32, 70, 180.0])
X = np.log(SIZE) - np.log(SIZE).mean()


# --- price ---------------------------------------------------------------------------------------


def test_net_benefit_is_linear() -> None:
    rng = np.random.default_rng(0)
    d, cost = rng.integers(-1, 2, 300).astype(float), rng.gamma(2, 0.001, 300)
    free = stats.net_benefit(d, cost, usd_per_corrected=0)
    assert free.estimate == pytest.approx(-cost.mean())
    one, two = (stats.net_benefit(d, cost, usd_per_corrected=w) for w in (1.0, 2.0))
    assert two.estimate - one.estimate == pytest.approx(d.mean())
    assert one.se_cr1 == pytest.approx(stats.clustered_mean(d - cost).se_cr1)
    with pytest.raises(ValueError, match="negative"):
        stats.net_benefit(d, cost, usd_per_corrected=-1)


def test_acceptability_rises_with_what_a_correction_is_worth() -> None:
    rng = np.random.default_rng(1)
    delta, cost = 0.05 + rng.normal(size=4_000) * 0.01, 0.002 + rng.normal(size=4_000) * 1e-4
    found = stats.acceptability(delta, cost, usd_per_corrected_L=[0, 0.04, 1])
    assert found[0] == 0
    assert found[1] == pytest.approx(0.5, abs=0.05)
    assert found[2] == pytest.approx(np.mean(delta > cost))


def test_gain_per_dollar_agrees_with_the_bootstrap() -> None:
    rng = np.random.default_rng(2)
    d = (rng.random(600) < 0.2).astype(float) - (rng.random(600) < 0.08)
    cost = rng.gamma(4, 0.001, 600) + 0.01 * (d > 0)  # what is fixed costs more
    found = stats.gain_per_dollar(d, cost)
    delta, mean = stats.bootstrap_means([stats.stratum(np.stack([d, cost], axis=1))], seed=1)[
        :, 0
    ].T
    low, high = np.quantile(delta / mean, [0.025, 0.975])
    width = high - low
    assert found.fieller.region.hull == pytest.approx((low, high), abs=0.06 * width)
    assert not found.dominated
    assert stats.gain_per_dollar(-d, cost).dominated
    assert found.fieller.ratio == pytest.approx(d.mean() / cost.mean())  # not a mean of ratios


def test_costs_that_may_be_nothing_have_no_bounded_ratio() -> None:
    d, cost = np.array([1.0, 0, 1, 0, 1, -1]), np.array([0.1, -0.1, 0.12, -0.1, 0.1, -0.05])
    assert not stats.gain_per_dollar(d, cost).fieller.bounded


def test_no_flips_are_no_certainty_about_a_price() -> None:
    d, cost = np.zeros(164), np.full(164, 0.001)
    net = stats.net_benefit(d, cost, usd_per_corrected=2.0)
    half = float(stats.t_interval(0, math.sqrt(2) / 166, 163).high)
    assert net.interval.high - net.estimate == pytest.approx(2 * half)
    assert net.estimate == pytest.approx(-0.001)
    region = stats.gain_per_dollar(d, cost).fieller.region.hull
    assert (region.low, region.high) == pytest.approx((-half / 0.001, half / 0.001))
    # Twenty clusters are twenty answers' worth.
    few = stats.net_benefit(d, cost, usd_per_corrected=2.0, cluster_I=np.arange(164) % 20)
    assert few.interval.high - few.interval.low > 6 * (net.interval.high - net.interval.low)


def test_undominated_choices() -> None:
    cost, accuracy = np.array([[1, 2, 3, 2, NAN]]), np.array([[0.5, 0.6, 0.55, 0.6, 0.9]])
    np.testing.assert_array_equal(stats.pareto_membership(cost, accuracy), [1, 1, 0, 1, 0])
    both = stats.pareto_membership(
        np.repeat(cost[:, :3], 2, axis=0), np.array([[0.5, 0.6, 0.55], [0.5, 0.6, 0.7]])
    )
    np.testing.assert_array_equal(both, [1, 1, 0.5])


def test_break_even_sizes_of_an_inverted_u() -> None:
    size = np.geomspace(1, 1_000, 300)
    rng = np.random.default_rng(3)
    net = 0.03 - 0.004 * (np.log(size) - 3.4) ** 2
    replicates = net + rng.normal(size=(2_000, 1)) * 0.004
    found = stats.break_even_sizes(size, net, replicates)
    assert found.verdict == "depends_on_size"
    assert len(found.region.pieces) == len(found.crossing) == 2
    for piece, zero in zip(found.region.pieces, found.crossing, strict=True):
        assert piece.covers(zero)
        assert np.log(zero) == pytest.approx(
            3.4 + math.copysign(math.sqrt(7.5), zero - 30), abs=0.01
        )
    always = stats.break_even_sizes(size, net + 1, replicates + 1)
    assert (always.verdict, always.region.empty) == ("always_pays", True)
    assert stats.break_even_sizes(size, net - 1, replicates - 1).verdict == "never_pays"
    unclear = stats.break_even_sizes(size, net * 0, rng.normal(size=(50, 1)) + net * 0)
    assert unclear.region.hull == (0, math.inf)


def test_cost_curves_are_straight_in_logs() -> None:
    cost = 0.001 * SIZE**0.7
    found = stats.cost_curve(SIZE, [cost, 2 * cost], size_K=[5.0, 400.0])
    np.testing.assert_allclose(found[0], 0.001 * np.array([5.0, 400.0]) ** 0.7)
    np.testing.assert_allclose(found[1], 2 * found[0])
    with pytest.raises(ValueError, match="positive"):
        stats.cost_curve(SIZE, [cost * 0], size_K=[5.0])


# --- voting --------------------------------------------------------------------------------------


def _enumerated(answers: np.ndarray, correct: np.ndarray, k: int) -> float:
    total = 0.0
    subsets = list(itertools.combinations(range(answers.size), k))
    for subset in subsets:
        votes = Counter(int(answers[j]) for j in subset)
        tied = [a for a, c in votes.items() if c == max(votes.values())]
        right = [a for a in tied if correct[answers == a].all()]
        total += len(right) / len(tied)
    return total / len(subsets)


def test_votes_over_every_subset() -> None:
    rng = np.random.default_rng(4)
    for _ in range(40):
        n = int(rng.integers(2, 9))
        answers, k = rng.integers(0, 4, n), int(rng.integers(1, n + 1))
        rights = rng.integers(0, 4, int(rng.integers(0, 3)))
        correct = np.isin(answers, rights)
        found = stats.majority_accuracy(answers[None], correct[None], k=k)[0]
        assert found == pytest.approx(_enumerated(answers, correct, k), abs=1e-12)


def test_votes_of_one_and_of_missing_samples() -> None:
    answers = np.array([[1, 1, 2, 3, -1], [5, 5, 5, 5, 5], [1, -1, -1, -1, -1]])
    correct = answers == 1
    np.testing.assert_allclose(stats.majority_accuracy(answers, correct, k=1), [0.5, 0, 1])
    found = stats.majority_accuracy(answers, correct, k=4)
    assert found[0] == 1
    assert math.isnan(found[2])
    with pytest.raises(ValueError, match="both right and wrong"):
        stats.majority_accuracy([[1, 1]], [[True, False]], k=1)
    with pytest.raises(ValueError):
        stats.majority_accuracy(answers, correct, k=0)


def test_oracles_ceiling_and_what_money_buys() -> None:
    np.testing.assert_allclose(stats.best_of_k_accuracy([0, 2, 5], 5, k=2), [0, 0.7, 1])
    assert math.isnan(stats.best_of_k_accuracy([1], 3, k=4)[0])
    assert stats.oracle_retry_accuracy(0.5, 3) == pytest.approx(0.875)
    assert stats.affordable_samples(0.0031, 0.001) == 3
    assert stats.affordable_samples(0.3, 0.1) == 3  # 2.9999999999999996 by division
    assert stats.affordable_samples(0.0005, 0.001) == 1


# --- design --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("p_fixed", "p_broken"), [(0.15, 0.05), (0.08, 0.03), (0.05, 0.02)])
def test_the_items_needed_give_the_power_wanted(p_fixed: float, p_broken: float) -> None:
    n = math.ceil(stats.items_needed(p_fixed, p_broken))
    midp = stats.mcnemar_power(n, p_fixed, p_broken)
    exact = stats.mcnemar_power(n, p_fixed, p_broken, test="exact")
    assert midp == pytest.approx(0.81, abs=0.01)
    assert exact == pytest.approx(0.765, abs=0.01)
    assert stats.items_needed(p_fixed, p_broken, deff=2) == pytest.approx(
        2 * stats.items_needed(p_fixed, p_broken)
    )
    back = stats.least_detectable_delta(n, p_fixed + p_broken)
    assert back == pytest.approx(p_fixed - p_broken, rel=0.01)


def test_exact_power_by_simulation() -> None:
    rng = np.random.default_rng(5)
    counts = rng.multinomial(80, [0.15, 0.05, 0.8], size=4_000)
    found = np.mean([stats.mcnemar_midp(int(f), int(b)) <= 0.05 for f, b, _ in counts])
    assert found == pytest.approx(stats.mcnemar_power(80, 0.15, 0.05), abs=0.03)
    assert stats.mcnemar_power(200, 0.05, 0.05) < 0.05


@pytest.mark.parametrize(
    "rates", [(0.5, 0.2, 0.1), (0.6, 0.01, 0.005), (0.9, 0.0, 0.05)], ids=["usual", "rare", "one"]
)
def test_scattered_logits_make_delta_scatter_by_tau(rates: tuple[float, ...]) -> None:
    tau = 0.01
    scatter = stats.logit_scatter([rates, rates], tau)
    rng = np.random.default_rng(17)
    odds = np.array(rates) / (1 - np.array(rates))
    moved = odds * np.exp(scatter * rng.standard_normal((200_000, 3)))
    first, fix, harm = (moved / (1 + moved)).T
    assert np.std((1 - first) * fix - first * harm) == pytest.approx(tau, rel=0.03)


def test_rates_that_are_never_met_can_not_scatter_without_bound() -> None:
    never = [(0.5, 1e-9, 1e-9)] * 5
    assert stats.logit_scatter(never, 0.01) == 2.0
    assert stats.logit_scatter(never, 0.0) == 0.0
    found = stats.simulate_power(
        np.geomspace(1, 100, 5), never, items=300, scatter_logit=2.0, simulations=50
    )
    assert found.cell.max() == found.trend_models == found.trend_such_models == 0


def test_designs_without_an_answer() -> None:
    assert stats.items_needed(0.1, 0.1) == math.inf
    assert math.isnan(stats.least_detectable_delta(20, 0.1))
    assert stats.items_for_epochs(0, item_variance=1) == math.inf
    assert stats.items_beyond_which_models_count(d_sd=0.3, tau=0.01) == pytest.approx(900)
    with pytest.raises(ValueError):
        stats.items_needed(0.9, 0.2)


def test_epochs_are_bought_while_they_are_cheap() -> None:
    cost = {"item_cost": 4.0, "epoch_cost": 1.0}
    best = stats.optimal_epochs(item_variance=0.1, epoch_variance=0.4, **cost)
    assert best == pytest.approx(4)

    def variance_for_a_dollar(k: float) -> float:
        return (0.1 + 0.4 / k) * (4 + k)

    assert variance_for_a_dollar(best) < min(variance_for_a_dollar(k) for k in (2, 3, 5, 6))
    assert stats.optimal_epochs(item_variance=0.0, epoch_variance=0.4, **cost) == math.inf
    assert stats.optimal_epochs(item_variance=9.0, epoch_variance=0.1, **cost) == 1


def test_exponents_error_by_simulation() -> None:
    rng = np.random.default_rng(6)
    truth = 0.05 * SIZE**0.3
    deltas = truth + rng.normal(size=(4_000, 7)) * 0.0035
    alpha = stats.refit_family("power", SIZE, deltas, np.full(7, 0.0035**2)).theta[:, 1]
    wanted = stats.exponent_se(SIZE, amplitude=0.05, alpha=0.3, sigma=0.0035)
    assert alpha.std() == pytest.approx(wanted, rel=0.05)


def test_simulated_power_agrees_with_the_exact_one() -> None:
    rates = np.tile([0.6, 0.2, 0.05], (7, 1))
    found = stats.simulate_power(SIZE, rates, items=300, simulations=1_500, seed=1)
    wanted = stats.mcnemar_power(300, 0.4 * 0.2, 0.6 * 0.05)
    np.testing.assert_allclose(found.cell, wanted, atol=4 * found.cell_mc_se.max())
    # No model differs from another: what the trends find is their false alarms.
    assert found.trend_models == pytest.approx(0.05, abs=0.025)
    assert found.trend_such_models == pytest.approx(0.05, abs=0.025)
    scattered = stats.simulate_power(
        SIZE, rates, items=3_000, scatter_logit=0.5, simulations=600, seed=1
    )
    assert scattered.trend_models > 0.3  # models that scatter pass for a trend of these models
    assert scattered.trend_such_models < 0.1
    with pytest.raises(ValueError):
        stats.simulate_power(SIZE, rates[:, :2], items=10)


# --- variance, transfer --------------------------------------------------------------------------


def test_variance_components_find_what_was_planted() -> None:
    rng = np.random.default_rng(7)
    models, datasets, items, epochs = 40, 12, 60, 3
    provider = np.arange(models) % 8
    d = (
        rng.normal(size=8)[provider][:, None, None, None] * 0.3
        + rng.normal(size=(models, 1, 1, 1)) * 0.2
        + rng.normal(size=(1, datasets, 1, 1)) * 0.25
        + rng.normal(size=(models, datasets, items, 1)) * 0.5
        + rng.normal(size=(models, datasets, items, epochs)) * 0.7
    )
    d[3, 2, 5:] = NAN
    found = {
        c.name: c
        for c in stats.variance_components(
            d, size_M=np.geomspace(1, 100, models), provider_M=[str(p) for p in provider]
        )
    }
    assert found["epoch"].variance == pytest.approx(0.49, rel=0.02)
    assert found["item"].variance == pytest.approx(0.25, rel=0.03)
    assert found["dataset"].variance == pytest.approx(0.0625, rel=0.6)
    assert found["model"].variance == pytest.approx(0.04, rel=0.5)
    assert found["provider"].variance == pytest.approx(0.09, rel=0.9)
    assert not found["provider"].truncated


def test_components_that_cannot_be_known() -> None:
    rng = np.random.default_rng(8)
    one = {c.name: c for c in stats.variance_components(rng.normal(size=(3, 1, 20, 1)))}
    assert math.isnan(one["epoch"].variance)
    assert math.isnan(one["dataset"].variance)
    assert math.isnan(one["provider"].variance)
    noise = {c.name: c for c in stats.variance_components(rng.normal(size=(4, 3, 30, 4)))}
    assert min(c.variance for c in noise.values() if not math.isnan(c.variance)) >= 0
    with pytest.raises(ValueError, match="four axes"):
        stats.variance_components(np.zeros((2, 3)))


def test_a_law_carries_over_providers_and_a_fluke_does_not() -> None:
    rng = np.random.default_rng(9)
    size = np.geomspace(1, 200, 9)
    x = np.log(size) - np.log(size).mean()
    provider = list("abcabcabc")
    law = 0.03 + 0.012 * x + rng.normal(size=9) * 0.003
    kwargs = {"provider_M": provider, "tau2": 1e-5}
    found = stats.held_out_providers("loglinear", size, law, np.full(9, 1e-5), **kwargs)
    assert found.groups == ("a", "b", "c")
    assert found.transfers
    assert found.rmse < 0.01
    assert found.coverage >= 7 / 9
    fluke = stats.held_out_providers(
        "quadratic",
        size,
        rng.normal(size=9) * 0.02,
        np.full(9, 1e-5),
        provider_M=provider,
        tau2=4e-4,
    )
    assert not fluke.transfers
    with pytest.raises(ValueError, match="held out"):
        stats.held_out_providers(
            "loglinear", size, law, np.full(9, 1e-5), provider_M=["a"] * 9, tau2=0.0
        )


def test_a_shape_carries_over_datasets() -> None:
    rng = np.random.default_rng(10)
    shape = 0.03 + 0.012 * X
    delta = np.outer([0.5, 1.0, 2.0, 1.5], shape) + rng.normal(size=(4, 7)) * 0.001
    cov = np.stack([np.eye(7) * 1e-6] * 4)
    found = stats.held_out_datasets(
        "loglinear", SIZE, delta, cov, dataset_D=list("wxyz"), tau2=1e-6
    )
    assert found.actual.shape == found.predicted.shape == (16,)
    assert found.transfers
    assert found.rmse < 0.01
    flat = stats.held_out_datasets("constant", SIZE, delta, cov, dataset_D=list("wxyz"), tau2=1e-6)
    assert flat.skill == pytest.approx(0)
    assert not flat.transfers


def test_datasets_that_disagree() -> None:
    alike = stats.heterogeneity([0.2, 0.21, 0.19, 0.2, 0.2], [1e-3] * 5)
    apart = stats.heterogeneity([0.0, 0.4, 0.1, 0.5, -0.2], [1e-3] * 5)
    assert (alike.tau2, alike.i2) == (0, 0)
    assert apart.i2 > 0.9
    assert apart.p_value < 1e-6 < alike.p_value
    assert apart.prediction.width > apart.interval.width > alike.interval.width
    assert alike.prediction == pytest.approx(alike.interval)


# --- artefacts -----------------------------------------------------------------------------------


def test_oracle_gates_are_seen() -> None:
    assert stats.looks_oracle_gated([1, 0, 1, 0], [0, 1, 0, 1])
    assert stats.looks_oracle_gated([0, 0], [1, 0])  # nothing was right: nothing clears it
    assert not stats.looks_oracle_gated([1, 0, 1, 0], [1, 1, 0, 1])
    assert not stats.looks_oracle_gated([1, 0], [0, 0])


def test_missing_for_a_reason() -> None:
    first = np.repeat([1.0, 0.0], 100)
    last = first.copy()
    last[100:120] = NAN
    found = stats.missingness(first, last)
    assert (found.missing_after_right, found.missing_after_wrong) == (0, 0.2)
    assert found.flagged
    last[:20] = NAN
    assert not stats.missingness(first, last).flagged


def test_canaries() -> None:
    assert stats.most_common_share(["404", "404", "a", "404"]) == 0.75
    assert stats.worse_than_chance(100, 1_000, chance=0.25)
    assert not stats.worse_than_chance(240, 1_000, chance=0.25)
    assert not stats.worse_than_chance(0, 1_000, chance=0.0)
    assert stats.near_ceiling(0.98)
    assert not stats.near_ceiling(0.9)
    assert stats.disagreement_rate(["a", "b"], ["a", "c"]) == 0.5


def test_a_step_is_found_where_it_is() -> None:
    rng = np.random.default_rng(11)
    score = (rng.random(600) < np.where(np.arange(600) < 400, 0.8, 0.5)).astype(float)
    found = stats.accuracy_step(score)
    assert found.p_value < 0.001
    assert found.at == pytest.approx(400, abs=40)
    assert found.before - found.after == pytest.approx(0.3, abs=0.1)
    steady = [stats.accuracy_step(rng.random(200) < 0.7).p_value for _ in range(300)]
    assert 0.005 <= np.mean(np.array(steady) < 0.05) <= 0.08
    assert np.mean(steady) == pytest.approx(0.55, abs=0.1)
    assert math.isnan(stats.accuracy_step([1] * 20).p_value)
    assert math.isnan(stats.accuracy_step([]).before)


def test_format_is_told_from_content() -> None:
    strict_first = np.tile([0, 0, 0, 1, 1, 0.0], 20)
    strict_last = np.tile([1, 1, 1, 1, 0, 0.0], 20)
    flexible_first = np.tile([1, 1, 0, 1, 1, 0.0], 20)
    found = stats.extraction_split(
        strict_first,
        strict_last,
        flexible_first,
        strict_last,
        first_unparsed_I=[1, 1, 0, 0, 0, 0] * 20,
    )
    assert found.strict == pytest.approx(2 / 6)
    assert found.flexible == 0
    assert found.format == pytest.approx(2 / 6)
    assert found.content == pytest.approx(0)
    assert found.blocked


def test_audited_flips() -> None:
    found = stats.audited_delta(
        40, 20, 500, fixed_audited=20, fixed_confirmed=18, broken_audited=20, broken_confirmed=20
    )
    assert found.delta == pytest.approx(0.04)
    assert found.adjusted == pytest.approx((36 - 20) / 500)
    assert found.adjust
    assert found.fixed_error == stats.wilson_interval(2, 20)
    with pytest.raises(ValueError):
        stats.audited_delta(
            1, 1, 9, fixed_audited=1, fixed_confirmed=2, broken_audited=0, broken_confirmed=0
        )


# --- L(N, D) -------------------------------------------------------------------------------------


def _runs(n: int, noise: float, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    size = np.exp(rng.uniform(np.log(5e7), np.log(1.5e10), n))
    tokens = np.exp(rng.uniform(np.log(6e18), np.log(3e21), n)) / (6 * size)
    law = stats.chinchilla_loss(size, tokens, A=480, B=2100, E=1.8, alpha=0.35, beta=0.37)
    return size, tokens, law * np.exp(noise * rng.standard_t(3, n))


@pytest.fixture(scope="module")
def fitted() -> stats.ChinchillaFit:
    return stats.fit_chinchilla(*_runs(30, 2e-4, 12))


def test_a_planted_law_of_two_sizes_comes_back_from_nearby() -> None:
    size, tokens, loss = _runs(30, 2e-4, 12)
    near = stats.ChinchillaFit(
        A=900, B=900, E=1.5, alpha=0.4, beta=0.3, objective=NAN, starts=1, reached=NAN
    )
    found = stats.bootstrap_chinchilla(
        size, tokens, loss, start=near, counts_Rn=np.ones((2, 30), dtype=int)
    )
    for one in (found.A / 480, found.B / 2100, found.E / 1.8):
        np.testing.assert_allclose(one, 1, rtol=0.05)
    np.testing.assert_allclose(found.alpha, 0.35, rtol=0.01)
    np.testing.assert_allclose(found.beta, 0.37, rtol=0.01)


@pytest.mark.slow
def test_a_planted_law_of_two_sizes_comes_back(fitted: stats.ChinchillaFit) -> None:
    found = (fitted.A, fitted.B, fitted.E, fitted.alpha, fitted.beta)
    assert found == pytest.approx((480, 2100, 1.8, 0.35, 0.37), rel=0.05)
    assert found[2:] == pytest.approx((1.8, 0.35, 0.37), rel=0.01)
    assert fitted.starts == 4_500
    assert 0 < fitted.reached < 1  # some starts do not arrive: many are needed


@pytest.mark.slow
def test_resampled_fits_are_as_good_as_scipys(fitted: stats.ChinchillaFit) -> None:
    from scipy.optimize import minimize

    size, tokens, loss = _runs(40, 0.004, 13)
    rng = np.random.default_rng(14)
    counts = rng.multinomial(40, np.full(40, 1 / 40), size=3)
    ours = stats.bootstrap_chinchilla(size, tokens, loss, start=fitted, counts_Rn=counts)
    middle = np.log(size).mean(), np.log(tokens).mean()
    for r in range(3):

        def objective(t: np.ndarray, times: np.ndarray = counts[r]) -> float:
            fit = np.log(
                np.exp(t[0] - t[3] * (np.log(size) - middle[0]))
                + np.exp(t[1] - t[4] * (np.log(tokens) - middle[1]))
                + np.exp(t[2])
            )
            gap = np.abs(np.log(loss) - fit)
            huber = np.where(gap <= 1e-3, gap**2 / 2, 1e-3 * (gap - 5e-4))
            return float(times @ huber)

        start = np.array(
            [
                np.log(ours.A[r]) - ours.alpha[r] * middle[0],
                np.log(ours.B[r]) - ours.beta[r] * middle[1],
                np.log(ours.E[r]),
                ours.alpha[r],
                ours.beta[r],
            ]
        )
        assert objective(start) == pytest.approx(ours.objective[r], rel=1e-9)
        polished = minimize(objective, start, method="Nelder-Mead", options={"maxiter": 1_500})
        assert ours.objective[r] <= polished.fun * (1 + 1e-4)


def test_chinchilla_refuses() -> None:
    for bad in (([1, 2], [1, 2], [1, 2]), ([1.0] * 6, [1.0] * 6, [1.0] * 5 + [-1.0])):
        with pytest.raises(ValueError):
            stats.fit_chinchilla(*bad)
