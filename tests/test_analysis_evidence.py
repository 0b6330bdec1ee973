"""No number is surer than what it is made of: epochs, clusters, few changes, what is left out."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest

from deltascale import stats
from deltascale.analysis import Results, Settings, analyse
from deltascale.frame import OUTCOMES, Frame
from tests.frames import QUICK, flipped, make_frame, model, null_world, pick, study

SPEC = model(1.0)
KEY = (SPEC.id, "review")


def analysed(
    *frames: Frame, settings: Settings = QUICK, protocols: tuple[str, ...] = ()
) -> Results:
    models = [SPEC, model(2.0), model(4.0)]
    return analyse(frames, study(models, "review", *protocols), settings=settings)


def one_cell(
    score: np.ndarray, *, clusters: np.ndarray | None = None, **settings: object
) -> Results:
    frame = make_frame("d", {KEY: score})
    if clusters is not None:
        frame = replace(frame, clusters=tuple(f"c{c:04d}" for c in clusters))
    return analysed(frame, settings=replace(QUICK, **settings))  # type: ignore[arg-type]


def codes(found: Results) -> set[str]:
    return {one.code for one in found.warnings}


# --- where nothing varies ------------------------------------------------------------------------


def test_differences_that_are_all_alike_are_not_certain() -> None:
    wrong, fixed = np.zeros((4, 1, 2)), np.zeros((4, 1, 2))
    fixed[:, 0, 1] = 1.0
    found = analysed(make_frame("d", {KEY: wrong, (model(2.0).id, "review"): fixed}))
    both = pick(found.contrasts, "delta_difference")
    assert {one.family for one in both} == {"neighbours in size", "all pairs of models"}
    for one in both:
        assert one.p_value == 2 / 2**4, "four signs can all be alike by chance"
        assert one.estimate.value == 1
        assert one.estimate.low is not None
        assert one.estimate.low < 0.9


def test_graded_answers_that_all_score_as_before_need_many_to_show_no_effect() -> None:
    few, many = (one_cell(np.full((n, 1, 2), 0.5)).cells[0] for n in (3, 400))
    assert few.delta.low is not None
    assert few.delta.low < -0.1
    assert not few.no_effect
    assert many.no_effect
    assert many.p_equivalence is not None
    assert many.p_equivalence < 0.05


def test_the_graded_equivalence_test_is_two_t_tests() -> None:
    scipy_stats = pytest.importorskip("scipy.stats")
    d = np.random.default_rng(0).normal(0.01, 0.05, 40)
    se = d.std(ddof=1) / np.sqrt(40)
    found = stats.mean_equivalence(float(d.mean()), float(se), 39, margin=0.03)
    tests = [
        scipy_stats.ttest_1samp(d, edge, alternative=way).pvalue
        for edge, way in ((-0.03, "greater"), (0.03, "less"))
    ]
    assert found.p_value == pytest.approx(max(tests))
    assert found.equivalent == (max(tests) < 0.05)


# --- samples that are not independent ------------------------------------------------------------


def test_labels_that_nothing_shares_are_no_clusters() -> None:
    first, last = flipped(np.random.default_rng(1), 90, 0.5, 0.2, 0.05)[:, 0].T
    own = np.arange(90)
    assert stats.headline_interval(first, last, cluster_I=own).method == "tango"
    assert stats.rate(first, last, "fix_wrong", cluster_I=own) == stats.rate(
        first, last, "fix_wrong"
    )
    last[3::2] = np.nan
    pairs = stats.headline_interval(first, last, cluster_I=own // 2)
    assert pairs.method == "deff-tango", "one cluster still has two pairs"
    last[1] = np.nan
    assert stats.headline_interval(first, last, cluster_I=own // 2).method == "tango"


def test_a_design_effect_is_told_as_it_is_and_used_as_one_at_least() -> None:
    # In every cluster one is fixed and, in most of them, one broken: sums vary less than answers.
    score = np.zeros((120, 1, 2))
    score[::2, 0, 1], score[1::2, 0, 0] = 1.0, 1.0
    score[1:20:2, 0, 1] = 1.0
    clusters = np.repeat(np.arange(60), 2)
    cell = one_cell(score, clusters=clusters).cells[0]
    d = score[:, 0, 1] - score[:, 0, 0]
    sums = np.bincount(clusters, weights=d - d.mean())
    wanted = 60 / 59 * (sums @ sums) / 120**2 / (d.var(ddof=1) / 120)
    assert wanted < 0.9
    assert cell.design_effect == pytest.approx(wanted)
    assert cell.p_equivalence == stats.equivalence(60, 50, 120).p_value, "not of more than 120"


def test_an_items_epochs_are_no_step_in_accuracy() -> None:
    rng = np.random.default_rng(2)
    alarms = naive = 0
    item = np.repeat(np.arange(100), 5)
    for _ in range(100):
        rate = rng.beta(0.1, 0.1, 100)
        score = (rng.random((100, 5)) < rate[:, None]).astype(float).ravel()
        alarms += stats.accuracy_step(score, cluster_I=item).p_value < 0.01
        naive += stats.accuracy_step(score).p_value < 0.01
    assert alarms <= 4
    assert naive > 30
    stepped = np.repeat(np.arange(100) >= 60, 5).astype(float)
    found = stats.accuracy_step(stepped, cluster_I=item)
    assert (found.at, found.before, found.after) == (60, 0, 1)
    right = np.zeros((100, 5, 2))
    right[:50:4] = right[50::2] = 1.0
    apart, together = stats.accuracy_step(right[..., 0].ravel()), "accuracy_step"
    assert apart.p_value < 0.001
    assert together not in codes(one_cell(right))
    right[50:] = 1.0
    assert together in codes(one_cell(right))


def test_epochs_that_repeat_an_answer_narrow_no_share_of_transitions() -> None:
    single = flipped(np.random.default_rng(3), 60, 0.4, 0.3, 0.1)
    once, thrice = one_cell(single), one_cell(np.repeat(single, 3, axis=1))
    for quantity in ("answer_changed", "wrong_to_other_wrong", "wrong_kept"):
        (a,), (b,) = (pick(found.flips, quantity) for found in (once, thrice))
        assert a.estimate.value == b.estimate.value
        narrow, wide = ((e.estimate.high or 0) - (e.estimate.low or 0) for e in (b, a))
        assert narrow > 0.9 * wide, quantity


@pytest.mark.parametrize(("flips", "told"), [(0, True), (5, True), (6, False)])
def test_too_few_changes_for_any_test_are_told(flips: int, told: bool) -> None:
    score = np.zeros((40, 1, 2))
    score[:flips, 0, 1] = 1.0
    assert ("few_flips" in codes(one_cell(score))) == told
    # Three clusters hold all the flips there are, however many they are.
    assert "few_flips" in codes(one_cell(score, clusters=np.arange(40) // 13))


@pytest.mark.parametrize("clusters", [12, 17])
def test_signs_drawn_by_size_are_signs_drawn_one_by_one(clusters: int) -> None:
    rng = np.random.default_rng(clusters)
    value = rng.choice([-2.0, -1.0, 1.0, 1.0, 2.0], size=clusters)
    exact = stats.sign_flip_test(value, exact_up_to=20)
    assert exact.exact
    by_size = stats.sign_flip_test(value, exact_up_to=0)
    unequal = value * (1 + 1e-10 * np.arange(clusters))
    one_by_one = stats.sign_flip_test(unequal, exact_up_to=0)
    error = 5 * np.sqrt(exact.p_value * (1 - exact.p_value) / 10_000) + 1e-4
    assert abs(by_size.p_value - exact.p_value) < error
    assert abs(one_by_one.p_value - exact.p_value) < error


# --- answering afresh, without an arm of its own -------------------------------------------------


def test_epochs_alone_tell_what_answering_afresh_would_flip() -> None:
    frames, made = null_world(5, models=2, n=200)
    scores = {}
    for c, cell in enumerate(frames[0].cells):
        if cell.protocol == "review":
            # Its three turns are independent: two become epochs' first answers, one their last.
            one, two, last = frames[0].score_CIET[c, :, 0].T
            scores[cell.model] = np.stack([[one, last], [two, last]]).transpose(2, 0, 1)
    frame = make_frame("one", {(name, "review"): score for name, score in scores.items()})
    found = analyse((frame,), study(made.models, "review"), settings=QUICK)
    for name, score in scores.items():
        firsts = score[:, :, 0].T
        tables = [stats.count_flips(a, b) for a, b in permutations(firsts, 2)]
        for rate, to, of in (
            ("fix_wrong", "fixed", "stayed_wrong"),
            ("stay_right", "stayed_right", "broken"),
        ):
            null = sum(getattr(t, to) for t in tables) / sum(
                getattr(t, to) + getattr(t, of) for t in tables
            )
            (row,) = pick(found.flips, f"{rate}_less_null", model=name)
            own = getattr(stats.count_flips(score[..., 0], score[..., 1]), rate)
            assert row.estimate.value == pytest.approx(own - null, abs=1e-12)
            assert row.versus == "first answers of other epochs"
            assert row.estimate.low is not None
            assert row.estimate.high is not None
            assert row.estimate.low < own - null < row.estimate.high
    assert any("known from epochs" in one.text for one in found.warnings)
    with_arm = analyse(frames, made, settings=QUICK)
    assert {row.versus for row in pick(with_arm.flips, "fix_wrong_less_null")} == {"resample"}


# --- what is left out, and told ------------------------------------------------------------------


def test_missing_answers_counted_as_wrong_stand_beside_the_pairs() -> None:
    score = np.zeros((50, 1, 2))
    score[:20, 0, 0] = 1.0
    score[:25, 0, 1] = 1.0
    score[[0, 1, 2], 0, 1] = np.nan
    score[[30], 0, :] = np.nan
    (row,) = pick(one_cell(score).sensitivity, "delta_missing_as_wrong")
    # Five fixed, none broken; three right ones lost count as broken, the one without any as wrong.
    assert row.estimate.value == pytest.approx((5 - 3) / 50)
    assert row.estimate.n == 50
    wanted = stats.tango_interval(5, 3, 50)
    assert (row.estimate.low, row.estimate.high) == pytest.approx(tuple(wanted))
    bounds = stats.manski_bounds(5, 0, 46, lost_right=3, lost_both=1)
    assert row.estimate.value == pytest.approx(bounds.as_wrong)
    assert not pick(one_cell(score[3:30]).sensitivity, "delta_missing_as_wrong")


def test_tests_that_could_not_be_made_are_counted() -> None:
    rng = np.random.default_rng(6)
    score = flipped(rng, 30, 0.5, 0.3, 0.1)
    nothing = np.full((30, 1, 2), np.nan)
    found = analysed(make_frame("d", {KEY: score, (model(2.0).id, "review"): nothing}))
    sizes = [(one.family_size, one.family_excluded) for one in found.cells]
    assert sizes == [(1, 1), (0, 0)]


def test_limits_that_were_drawn_tell_their_monte_carlo_error() -> None:
    score = flipped(np.random.default_rng(7), 80, 0.5, 0.3, 0.1)
    coarse, fine = (one_cell(score, replicates=b) for b in (200, 20_000))
    errors = []
    for found in (coarse, fine):
        (ratio,) = pick(found.flips, "break_even_threshold")
        beside = found.cells[0].bootstrap.mc_se
        assert ratio.estimate.mc_se is not None
        assert beside is not None
        errors.append((ratio.estimate.mc_se, beside))
        assert found.cells[0].delta.mc_se is None, "nothing is drawn for the headline"
    assert errors[1][0] < errors[0][0] / 3
    assert 0 < errors[0][1] < 0.05


def test_the_level_asked_for_is_that_of_every_flip_rate() -> None:
    score = flipped(np.random.default_rng(8), 80, 0.5, 0.3, 0.1)
    wide, narrow = (one_cell(score, level=level).flips for level in (0.95, 0.8))
    for a, b in zip(wide, narrow, strict=True):
        if b.estimate.low is not None and b.estimate.high is not None:
            assert b.estimate.level == 0.8, b.quantity
            assert (a.estimate.high or 0) - (a.estimate.low or 0) > (
                b.estimate.high - b.estimate.low
            ), b.quantity


def test_a_cell_without_a_headline_founds_no_claim() -> None:
    score = flipped(np.random.default_rng(9), 200, 0.5, 0.6, 0.02)
    frame = make_frame("d", {KEY: score})
    (claim,) = analysed(frame).claims
    assert claim.rung == 1
    other = score[None].copy()
    other[0, :, 0, 1] = other[0, :, 0, 0]
    (claim,) = analysed(replace(frame, others={"strict": other})).claims
    assert claim.rung == 0
    # A second cell that may be spoken of is, and the blocked one is named.
    two = make_frame("e", {KEY: score})
    (claim,) = analysed(replace(frame, others={"strict": other}), two).claims
    assert "helps in 1 of 1 cells (1 more without a headline)" in claim.text


def test_a_first_reply_that_was_cut_is_no_matter_of_format() -> None:
    score = np.zeros((60, 1, 2))
    score[:30, 0, 1] = 1.0
    outcome = np.zeros((1, 60, 1, 2), np.int8)
    outcome[0, :10, 0, 0] = OUTCOMES.index("truncated")
    outcome[0, 10:15, 0, 0] = OUTCOMES.index("no_answer")
    frame = make_frame("d", {KEY: score})
    frame = replace(frame, outcome_CIET=outcome, others={"strict": score[None].copy()})
    found = analysed(frame)
    (form,) = pick(found.sensitivity, "delta_format_strict")
    assert form.estimate.value == pytest.approx(5 / 60)


def test_neighbours_over_datasets_keep_the_degrees_of_freedom_of_the_noisy_one() -> None:
    rng = np.random.default_rng(10)
    frames, means, variances = [], [], []
    for name, n in (("few", 12), ("many", 300)):
        scores = {(model(size).id, "review"): flipped(rng, n, 0.5, 0.4, 0.3) for size in (1.0, 2.0)}
        small, large = ((s[:, 0, 1] - s[:, 0, 0]) for s in scores.values())
        means.append(float(np.mean(large - small)))
        variances.append(float(np.var(large - small, ddof=1)) / n)
        frames.append(make_frame(name, scores))
    (row,) = [
        one
        for one in pick(analysed(*frames).contrasts, "delta_difference")
        if one.family == "neighbours in size"
    ]
    wanted = stats.macro_mean(means, variances, [12, 300])
    assert wanted.df < 20
    assert row.estimate.value == pytest.approx(wanted.estimate)
    assert (row.estimate.low, row.estimate.high) == pytest.approx(tuple(wanted.interval))
