"""One table, many tables: limits at the edges, refusals, and what counts as nothing."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltascale import stats

NAN = math.nan


@pytest.mark.parametrize("n", [20, 164, 1000])
def test_no_flips_leave_an_interval(n: int) -> None:
    z2 = 1.959963984540054**2
    assert stats.tango_interval(0, 0, n) == pytest.approx((-z2 / (n + z2), z2 / (n + z2)))


@pytest.mark.parametrize(
    ("fixed", "broken", "n", "edge"), [(9, 0, 9, 1.0), (0, 9, 9, -1.0), (1, 0, 1, 1.0)]
)
def test_all_flips_one_way(fixed: int, broken: int, n: int, edge: float) -> None:
    interval = stats.tango_interval(fixed, broken, n)
    assert edge in interval
    assert -1 <= interval.low < interval.high <= 1


def test_score_where_it_has_no_variance() -> None:
    assert stats.tango_statistic(0, 0, 10) == 0
    assert stats.tango_statistic(10, 0, 10, theta=1.0) == 0
    assert stats.tango_statistic(3, 0, 10, theta=1.0) == -math.inf


def test_newcombe_as_he_printed_it() -> None:
    # Newcombe 1998, table III: 36 stayed, 12 and 2 changed, nobody else.
    found = stats.newcombe10_interval(12, 2, 50, stayed_right=36)
    assert found == pytest.approx((0.0569, 0.3404), abs=5e-5)
    # 20, 12, 2, 16: here the correlation is positive, and half of n comes off its numerator.
    found = stats.newcombe10_interval(12, 2, 50, stayed_right=20)
    assert found == pytest.approx((0.0562, 0.3292), abs=5e-5)


def test_fractional_counts_are_a_design_effect() -> None:
    wide = stats.tango_interval(30 / 2.5, 12 / 2.5, 200 / 2.5)
    narrow = stats.tango_interval(30, 12, 200)
    assert wide.low < narrow.low < narrow.high < wide.high
    assert stats.deff_tango_interval(30, 12, 200, deff=2.5) == pytest.approx(wide)
    assert stats.deff_tango_interval(30, 12, 200, deff=0.4) == narrow


def test_nothing_observed_is_not_a_number() -> None:
    for interval in (
        stats.tango_interval(0, 0, 0),
        stats.wilson_interval(0, 0),
        stats.clopper_pearson_interval(0, 0),
        stats.newcombe10_interval(0, 0, 0, stayed_right=0),
    ):
        assert math.isnan(interval.low)
        assert math.isnan(interval.high)
    assert math.isnan(stats.delta(0, 0, 0))


@pytest.mark.parametrize(
    "call",
    [
        lambda: stats.tango_interval(8, 5, 12),
        lambda: stats.tango_interval(-1, 5, 12),
        lambda: stats.tango_interval(NAN, 5, 12),
        lambda: stats.tango_interval(1, 5, 12, level=1.0),
        lambda: stats.tango_statistic(1, 1, 5, theta=1.5),
        lambda: stats.newcombe10_interval(4, 4, 12, stayed_right=5),
        lambda: stats.wilson_interval(4, 3),
        lambda: stats.mcnemar_exact(1.5, 2),  # type: ignore[arg-type]
        lambda: stats.mcnemar_midp(-1, 2),
        lambda: stats.equivalence(1, 1, 9, margin=0),
        lambda: stats.manski_bounds(1, 1, 9, lost_right=-1),
        lambda: stats.holm([0.1, 1.2]),
        lambda: stats.bonferroni_z(0),
    ],
)
def test_refused(call: object) -> None:
    with pytest.raises(ValueError):
        call()  # type: ignore[operator]


def test_few_flips_cannot_reach_significance() -> None:
    assert stats.smallest_exact_p(5) == 0.0625
    assert stats.smallest_exact_p(6) == stats.mcnemar_exact(6, 0) == 0.03125
    assert stats.smallest_exact_p(0) == 1


def test_as_many_fixed_as_broken() -> None:
    assert stats.mcnemar_exact(5, 5) == 1
    assert stats.mcnemar_midp(5, 5) == pytest.approx(1 - math.comb(10, 5) / 2**11)


def test_many_flips_do_not_overflow() -> None:
    assert stats.mcnemar_midp(40_000, 40_000) == pytest.approx(1, abs=0.01)
    assert 0 < stats.mcnemar_midp(900, 600) < stats.mcnemar_exact(900, 600) < 1e-10


def test_equivalence_needs_more_than_no_significance() -> None:
    few = stats.equivalence(2, 2, 60)
    many = stats.equivalence(40, 40, 20_000)
    assert not few.equivalent
    assert many.equivalent
    assert many.p_value < 0.05 < few.p_value
    assert stats.mcnemar_midp(2, 2) > 0.5  # not significant, and yet not equivalent


def test_equivalence_p_and_interval_agree() -> None:
    for fixed in range(0, 60, 4):
        found = stats.equivalence(fixed, 10, 4_000, margin=0.01)
        assert found.equivalent == (found.p_value < 0.05)


def test_missing_answers_bound_delta() -> None:
    none = stats.manski_bounds(8, 3, 90)
    assert (none.low, none.high) == (none.complete_case, none.complete_case)
    assert none.widened == pytest.approx(stats.tango_interval(8, 3, 90))
    assert not none.flagged
    some = stats.manski_bounds(8, 3, 90, lost_right=4, lost_wrong=3, lost_both=3)
    assert some.low < none.low < some.high
    assert some.widened.low < some.low
    assert some.widened.high > some.high
    assert some.sign_undetermined
    assert some.flagged
    assert some.as_wrong == pytest.approx((8 - 3 - 4) / 100)
    wide = stats.manski_bounds(8, 3, 90, lost_right=4, deff=2)
    assert wide.widened.low < stats.manski_bounds(8, 3, 90, lost_right=4).widened.low


def test_much_missing_is_flagged_even_where_the_sign_is_sure() -> None:
    sure = stats.manski_bounds(200, 10, 1_000, lost_right=30)
    assert sure.low > 0
    assert not sure.sign_undetermined
    assert sure.flagged
    assert not stats.manski_bounds(200, 10, 1_000, lost_right=19).flagged


def test_bounds_hold_for_every_completion() -> None:
    found = stats.manski_bounds(4, 2, 20, lost_right=2, lost_wrong=1, lost_both=1)
    possible = [
        (4 - 2 + a + b + c + d) / 24
        for a in (-1, 0)
        for b in (-1, 0)
        for c in (0, 1)
        for d in (-1, 0, 1)
    ]
    assert (found.low, found.high) == pytest.approx((min(possible), max(possible)))


def test_adjusting_leaves_out_what_is_not_there() -> None:
    p = [[0.02, NAN], [0.01, 0.5]]
    for adjust in (stats.holm, stats.benjamini_hochberg):
        found = adjust(p)
        assert found.shape == (2, 2)
        assert math.isnan(found[0, 1])
        alone = adjust([0.02, 0.01, 0.5])
        np.testing.assert_allclose(found[[0, 1, 1], [0, 0, 1]], alone)
        assert adjust([]).size == 0
    assert stats.family_size(p) == 3


def test_simultaneous_critical_values() -> None:
    rng = np.random.default_rng(1)
    alike = rng.normal(size=(20_000, 1)) @ np.ones((1, 5))
    apart = rng.normal(size=(20_000, 5))
    # One effect seen five times needs no more than one; five independent ones nearly Bonferroni's.
    assert stats.max_t_critical(alike, np.zeros(5)) == pytest.approx(1.96, abs=0.05)
    bonferroni = stats.bonferroni_z(5)
    assert bonferroni == pytest.approx(2.5758, abs=1e-3)
    assert stats.max_t_critical(apart, np.zeros(5)) == pytest.approx(bonferroni, abs=0.05)
    assert stats.max_t_critical(np.zeros((3, 2)), np.zeros(2)) == 0


def test_the_level_at_which_intervals_hold_together() -> None:
    rng = np.random.default_rng(1)
    alike = rng.normal(size=(20_000, 1)) @ np.ones((1, 5))
    apart = rng.normal(size=(20_000, 5))
    assert stats.max_t_level(alike, np.zeros(5)) == pytest.approx(0.95, abs=0.004)
    assert stats.max_t_level(apart, np.zeros(5)) == pytest.approx(0.95 ** (1 / 5), abs=0.002)
    # Estimates that never vary count as departures of their own; without others it is Sidak's.
    still = np.concatenate([apart[:, :2], np.zeros((20_000, 3))], axis=1)
    assert stats.max_t_level(still, np.zeros(5)) == pytest.approx(0.95 ** (1 / 5), abs=0.002)
    assert stats.max_t_level(np.full((9, 4), 0.3), np.full(4, 0.3)) == 0.95**0.25
    assert stats.max_t_level(np.zeros((9, 0)), [], level=0.9) == 0.9
    # Rounding is no variation, and what was not drawn is no departure.
    rounded = apart[:, :2].copy()
    rounded[:, 1] = 0.1
    rounded[::100, 1] += 2e-17
    assert stats.max_t_level(rounded, [0.0, 0.1]) == pytest.approx(0.95**0.5, abs=0.003)
    holed = alike.copy()
    holed[::50, 1] = NAN
    assert stats.max_t_level(holed, np.zeros(5)) == pytest.approx(0.95, abs=0.004)
    for wrong in ((np.zeros((1, 2)), [0, 0]), (np.zeros((5, 2)), [0]), (np.zeros(5), [0])):
        with pytest.raises(ValueError, match="shapes"):
            stats.max_t_level(*wrong)


@given(
    seed=st.integers(0, 2**16), models=st.integers(1, 6), replicates=st.integers(2, 300),
    level=st.sampled_from([0.8, 0.9, 0.95]),
)  # fmt: skip
def test_together_is_never_narrower_than_each_alone(
    seed: int, models: int, replicates: int, level: float
) -> None:
    rng = np.random.default_rng(seed)
    drawn = rng.normal(size=(replicates, models)) @ rng.normal(size=(models, models)).round(0)
    found = stats.max_t_level(drawn, np.zeros(models), level=level)
    assert level <= found <= 1 - (1 - level) / models + 1e-12, "no more than Bonferroni's"
    together = stats.max_t_critical(drawn, np.zeros(models), level=level)
    for m in range(models):
        assert together >= stats.max_t_critical(drawn[:, [m]], [0.0], level=level) - 1e-12
    if (drawn.std(axis=0) > 0).all():
        # One that never varies counts as a departure that few replicates may fall short of.
        more = np.concatenate([drawn, rng.normal(size=(replicates, 1))], axis=1)
        assert stats.max_t_level(more, np.zeros(models + 1), level=level) >= found - 1e-12
    assert stats.max_t_level(3 * drawn, np.zeros(models), level=level) == pytest.approx(found)


def test_newcombe_bears_counts_that_a_design_effect_divided() -> None:
    n, deff = 40.0, 1.0000000000000009
    low, high = stats.newcombe10_interval(
        20.000000000000004, 0.0, n / deff, stayed_right=n / deff - 20.0
    )
    assert low < 0.5 < high
