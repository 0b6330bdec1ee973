"""Everything beyond a cell's delta: flips, controls, contrasts, fits, costs, warnings, claims."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from msgspec.structs import replace
from numpy.typing import NDArray

from deltascale.analysis import Results, Settings, analyse
from deltascale.analysis import arms as arms_of
from deltascale.analysis.flips import _kitagawa, flips
from deltascale.analysis.joint import resample
from deltascale.analysis.results import ALL_DATASETS, Finding, estimate
from deltascale.analysis.voting import controls
from deltascale.frame import Frame
from deltascale.records import Cell, Estimate, ModelSpec, Price, Size, Study
from deltascale.stats.flips import Flips, kitagawa
from deltascale.stats.majority import majority_accuracy

Floats = NDArray[np.float64]
QUICK = Settings(replicates=200)
PRICE = Price(1_000, 1_000, 4_000, "test", "2026-01-01")


def model(billions: float | None, *, low: float = 0.0, family: str = "f") -> ModelSpec:
    name = f"m{billions or low:g}"
    size = Size("published", billions * 1e9, citation="a test") if billions else Size("unknown")
    if low:
        size = Size("estimate", low=low * 1e9, high=10 * low * 1e9, citation="a test")
    return ModelSpec(f"openai/{name}", "openai", name, size, PRICE, family=family)


def make_frame(
    dataset: str,
    score_by_cell: dict[tuple[str, str], Floats],
    *,
    temperature: float = 0.7,
    answers: dict[tuple[str, str], NDArray[np.int32]] | None = None,
    n_calls: dict[tuple[str, str], NDArray[np.int32]] | None = None,
    cost_nusd: dict[tuple[str, str], int] | None = None,
) -> Frame:
    """A frame of (model, protocol) → scores (I, E, T); answers follow the scores unless given."""
    score = np.stack(list(score_by_cell.values()))
    shape = score.shape
    known = ~np.isnan(score)
    answer = np.where(known, np.where(score == 1, 0, 1), -1).astype(np.int32)
    calls = np.ones(shape, np.int32)
    cost = np.full(shape, 1_000, np.int64)
    for c, key in enumerate(score_by_cell):
        answer[c] = (answers or {}).get(key, answer[c])
        calls[c] = (n_calls or {}).get(key, calls[c])
        cost[c] = (cost_nusd or {}).get(key, 1_000)
    items = tuple(f"i{n:04d}" for n in range(shape[1]))
    return Frame(
        dataset=dataset,
        cells=tuple(Cell(m, dataset, p, temperature) for m, p in score_by_cell),
        items=items,
        clusters=items,
        strata=("",) * len(items),
        units=items,
        chance_I=np.full(len(items), np.nan),
        planned_CIE=np.ones(shape[:3], np.bool_),
        score_CIET=score,
        outcome_CIET=np.where(known, 0, 5).astype(np.int8),
        answer_CIET=answer,
        n_calls_CIET=calls,
        input_tokens_CIET=np.full(shape, 10, np.int64),
        cached_input_tokens_CIET=np.full(shape, 4, np.int64),
        output_tokens_CIET=np.full(shape, 5, np.int64),
        cost_nusd_CIET=cost,
        others={},
        counts={},
        reply_CIET=np.full(shape, -1, np.int32),
        reply_error_CIET=np.zeros(shape, np.bool_),
    )


def study(models: Sequence[ModelSpec], *protocols: str) -> Study:
    return Study("t", tuple(models), (), protocols, turns=2)


def flipped(
    rng: np.random.Generator, n: int, first: float, fix: float, harm: float, *, turns: int = 2
) -> Floats:
    """(n, 1, turns) scores of a chain with these rates."""
    score = np.empty((n, 1, turns))
    score[:, 0, 0] = rng.random(n) < first
    for turn in range(1, turns):
        right = score[:, 0, turn - 1] == 1
        u = rng.random(n)
        score[:, 0, turn] = np.where(right, u >= harm, u < fix)
    return score


def scaling_world(seed: int, sizes: Sequence[float], *, n: int = 300) -> tuple[Frame, Study]:
    """Review is of no use to the smallest model and of much to the largest."""
    rng = np.random.default_rng(seed)
    models = [model(size) for size in sizes]
    scores = {}
    for one, size in zip(models, sizes, strict=True):
        x = math.log(size)
        scores[one.id, "review"] = flipped(rng, n, 0.5, 0.1 + 0.05 * x, 0.1 - 0.015 * x)
    return make_frame("d", scores), study(models, "review")


def null_world(seed: int, *, models: int = 7, n: int = 150) -> tuple[tuple[Frame, ...], Study]:
    """Review answers afresh: items differ in difficulty, and nothing is ever corrected."""
    rng = np.random.default_rng(seed)
    specs = [model(4.0**k) for k in range(models)]
    frames = []
    for dataset in ("one", "two"):
        scores = {}
        for spec in specs:
            rate = rng.beta(0.7, 0.7, size=n)
            for protocol in ("review", "resample"):
                scores[spec.id, protocol] = (rng.random((3, n)) < rate).T[:, None, :].astype(float)
        frames.append(make_frame(dataset, scores))
    return tuple(frames), study(specs, "review", "resample")


def pick(rows: Sequence[Finding], quantity: str, **where: object) -> list[Finding]:
    return [
        row
        for row in rows
        if row.quantity == quantity and all(getattr(row, k) == v for k, v in where.items())
    ]


# --- what is kept apart --------------------------------------------------------------------------


def gated(*, asks_right: bool, declared: str = "review") -> Results:
    rng = np.random.default_rng(0)
    first = (rng.random(60) < 0.6).astype(float)
    last = np.where(first == 1, 1.0, rng.random(60) < 0.3)
    score = np.stack([first, last], axis=-1)[:, None, :]
    calls = np.ones(score.shape, np.int32)
    calls[first == 1, 0, 1] = int(asks_right)
    spec = model(1.0)
    key = (spec.id, declared)
    return analyse(
        (make_frame("d", {key: score}, n_calls={key: calls}),),
        study([spec], declared),
        settings=QUICK,
    )


def test_a_cell_that_asks_only_wrong_answers_again_is_kept_with_the_oracles() -> None:
    (cell,) = gated(asks_right=False).cells
    assert cell.gate == "oracle-like"
    assert cell.p_value is None
    assert cell.p_holm is None
    assert not cell.no_effect
    assert cell.delta.value is not None
    assert cell.delta.value > 0, "its delta is still shown, as an upper bound"
    found = gated(asks_right=False)
    assert [one.code for one in found.warnings].count("oracle_like") == 1
    assert not found.scaling
    assert not found.contrasts
    assert not found.claims
    assert {point.protocol for point in found.frontier} <= {"first answer"}


def test_one_right_answer_asked_again_clears_the_gate() -> None:
    (cell,) = gated(asks_right=True).cells
    assert cell.gate == ""
    assert cell.p_value is not None
    assert gated(asks_right=True, declared="oracle").cells[0].gate == "oracle"


def test_a_model_that_is_never_right_is_no_evidence_of_a_gate() -> None:
    spec, other = model(1.0), model(2.0)
    never = np.zeros((40, 1, 2))
    always = np.stack([np.ones((40, 1)), np.zeros((40, 1))], axis=-1)
    alone = analyse((make_frame("d", {(spec.id, "review"): never}),), study([spec], "review"))
    assert alone.cells[0].gate == ""
    both = make_frame("d", {(spec.id, "review"): never, (other.id, "review"): always})
    found = analyse((both,), study([spec, other], "review"), settings=QUICK)
    assert [one.gate for one in found.cells] == ["", ""]


# --- flips and their null ------------------------------------------------------------------------


def test_accuracy_after_is_made_of_the_flip_rates() -> None:
    frame, made = scaling_world(1, [1, 8, 64])
    found = analyse((frame,), made, settings=QUICK)
    for cell in found.cells:
        (stay,) = pick(found.flips, "stay_right", model=cell.cell.model)
        (fix,) = pick(found.flips, "fix_wrong", model=cell.cell.model)
        first, last = cell.first.value, cell.last.value
        assert stay.estimate.value is not None
        assert fix.estimate.value is not None
        assert first is not None
        assert last == pytest.approx(
            first * stay.estimate.value + (1 - first) * fix.estimate.value, abs=1e-12
        )
        assert stay.estimate.low is not None
        assert stay.estimate.low <= stay.estimate.value <= (stay.estimate.high or 0)
        (ratio,) = pick(found.flips, "break_even_ratio", model=cell.cell.model)
        (odds,) = pick(found.flips, "break_even_threshold", model=cell.cell.model)
        assert ratio.estimate.value is not None
        assert odds.estimate.value is not None
        assert (ratio.estimate.value > odds.estimate.value) == ((cell.delta.value or 0) > 0)


def test_fresh_answers_flip_as_often_as_their_null_says() -> None:
    inside = total = 0
    for seed in range(3):
        frames, made = null_world(seed)
        arms = arms_of.arms(frames, made)
        found = list(flips(arms, resample(arms, QUICK)))
        raw = pick(found, "fix_wrong", protocol="review")
        assert min(row.estimate.value or 0 for row in raw) > 0.1, "chance alone fixes many"
        for name in ("fix_wrong_less_null", "stay_right_less_null"):
            for row in pick(found, name, protocol="review"):
                assert row.versus == "resample"
                low, high = row.estimate.low, row.estimate.high
                assert low is not None
                assert high is not None
                rate = name.removesuffix("_less_null")
                (own,) = pick(found, rate, protocol="review", model=row.model, dataset=row.dataset)
                of_null = float(row.estimate.note.removeprefix("a fresh answer: "))
                assert row.estimate.value == pytest.approx(
                    (own.estimate.value or 0) - of_null, abs=1e-4
                )
                assert low <= row.estimate.value <= high  # type: ignore[operator]
                inside += low <= 0 <= high
                total += 1
    assert total == 3 * 2 * 2 * 7
    assert inside >= 0.88 * total


def test_kitagawa_for_replicates_is_that_for_tables() -> None:
    rng = np.random.default_rng(2)
    a, b = (rng.dirichlet(np.ones(4), size=5) for _ in range(2))
    rates, mix = _kitagawa(a, b)
    for k in range(5):
        one = kitagawa(Flips(*a[k]), Flips(*b[k]))
        assert (rates[k], mix[k]) == pytest.approx((one.rate_effect, one.mix_effect))


# --- controls ------------------------------------------------------------------------------------


def test_a_vote_of_equal_cost_has_as_many_answers_as_the_money_buys() -> None:
    rng = np.random.default_rng(3)
    spec = model(1.0)
    draws = (rng.random((50, 2, 3)) < 0.6).astype(float)
    labels = np.where(draws == 1, 0, rng.integers(1, 4, draws.shape)).astype(np.int32)
    review = np.repeat(flipped(rng, 50, 0.6, 0.2, 0.1, turns=3), 2, axis=1)
    keys = (spec.id, "resample"), (spec.id, "review")
    frame = make_frame(
        "d", {keys[0]: draws, keys[1]: review}, answers={keys[0]: labels},
    )  # fmt: skip
    found = arms_of.arms((frame,), study([spec], "resample", "review"))
    ((arm, own),) = list(controls(found))
    assert arm.cell.protocol == "review"
    assert own.k == 3, "three turns of equal price buy three answers"
    expected = majority_accuracy(labels.reshape(50, 6), draws.reshape(50, 6) == 1, k=3)
    assert own.voted_S is not None
    assert own.voted_S[::2] == pytest.approx(expected)
    assert own.voted_S[1::2] == pytest.approx(expected)
    assert own.note == ""
    dear = make_frame(
        "d", {keys[0]: draws, keys[1]: review}, answers={keys[0]: labels},
        cost_nusd={keys[0]: 100, keys[1]: 1_000},
    )  # fmt: skip
    ((_, own),) = list(controls(arms_of.arms((dear,), study([spec], "resample", "review"))))
    assert own.k == 3
    own_cost = dear.cost_nusd_CIET[1].reshape(100, 3)
    assert own_cost[0, 0] == 1_000
    frame_cost = replace_costs(frame, first=100, later=1_000)
    ((_, own),) = list(controls(arms_of.arms((frame_cost,), study([spec], "resample", "review"))))
    assert own.k == 6, "21 answers could be bought, six are on record"
    assert "21 answers" in own.note


def replace_costs(frame: Frame, *, first: int, later: int) -> Frame:
    from dataclasses import replace as put

    cost = np.full(frame.cost_nusd_CIET.shape, later, np.int64)
    cost[..., 0] = first
    return put(frame, cost_nusd_CIET=cost)


# --- between models ------------------------------------------------------------------------------


def test_families_are_adjusted_apart_and_say_their_size() -> None:
    # Late: it takes seconds to import, and every worker of a test run would pay.
    from statsmodels.stats.multitest import multipletests

    frames, made = null_world(4, models=4)
    found = analyse(frames, made, settings=QUICK)
    by_family: dict[str, list[Finding]] = {}
    for row in found.contrasts:
        by_family.setdefault(row.family, []).append(row)
    assert len(by_family["neighbours in size"]) == 3
    assert len(by_family["all pairs of models"]) == 2 * 6
    assert len(by_family["trend over sizes, one a protocol"]) == 1
    for family, rows in by_family.items():
        for row in rows:
            if not family:
                assert row.p_adjusted is None
                continue
            assert row.family_size == len(rows)
            assert row.adjusted_by in ("Holm", "BH")
            assert row.p_value is not None
            assert row.p_adjusted is not None
            assert row.p_value <= row.p_adjusted <= 1
        if family:
            p = [row.p_value for row in rows]
            method = {"Holm": "holm", "BH": "fdr_bh"}[rows[0].adjusted_by]
            expected = multipletests(p, method=method)[1]
            assert [row.p_adjusted for row in rows] == pytest.approx(expected)
    (permuted,) = pick(found.contrasts, "trend_by_permutation")
    assert permuted.estimate.estimand.startswith("E2")
    assert permuted.estimate.note == "the smallest p possible is 0.0833"


def test_pairs_use_the_items_that_both_have() -> None:
    frame, made = scaling_world(5, [1, 8])
    frame.score_CIET[0, :40, :, 1] = np.nan
    found = analyse((frame,), made, settings=QUICK)
    (pair,) = pick(found.contrasts, "delta_difference", family="all pairs of models")
    d = np.diff(frame.score_CIET[:, :, 0, :], axis=-1)[..., 0]
    both = d[1, 40:] - d[0, 40:]
    assert pair.estimate.value == pytest.approx(both.mean())
    assert pair.estimate.n == 260
    assert pair.estimate.n_missing == 40


# --- against size --------------------------------------------------------------------------------


def test_three_models_are_not_fitted_and_the_reason_is_said() -> None:
    frame, made = scaling_world(6, [1, 8, 64])
    found = analyse((frame,), made, settings=QUICK)
    (row,) = found.scaling
    assert (row.form, row.n_models) == ("none", 3)
    assert "3 models: nothing is fitted below 4" in row.note
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


# --- money ---------------------------------------------------------------------------------------


def test_cost_of_the_correction_is_apart_and_a_loss_has_no_ratio() -> None:
    rng = np.random.default_rng(15)
    good, bad = model(1.0), model(2.0)
    scores = {
        (good.id, "review"): flipped(rng, 400, 0.5, 0.5, 0.02),
        (bad.id, "review"): flipped(rng, 400, 0.5, 0.02, 0.5),
    }
    frame = replace_costs(make_frame("d", scores), first=2_000, later=6_000)
    found = analyse((frame,), study([good, bad], "review"), settings=QUICK)
    for one in (good, bad):
        (first,) = pick(found.costs, "cost_first", model=one.id)
        (extra,) = pick(found.costs, "cost_extra", model=one.id)
        assert first.estimate.value == pytest.approx(2e-6)
        assert extra.estimate.value == pytest.approx(6e-6)
    (gain,) = pick(found.costs, "gain_per_dollar", model=good.id)
    (price,) = pick(found.costs, "usd_per_right_answer", model=good.id)
    delta = found.cells[0].delta.value or math.nan
    assert gain.estimate.value == pytest.approx(delta / 6e-6)
    assert price.estimate.value == pytest.approx(6e-6 / delta)
    (loss,) = pick(found.costs, "gain_per_dollar", model=bad.id)
    assert loss.estimate.value is None
    assert loss.estimate.note.startswith("dominated")
    (pays,) = pick(found.costs, "acceptability_at_1", model=good.id)
    (never,) = pick(found.costs, "acceptability_at_1", model=bad.id)
    assert (pays.estimate.value, never.estimate.value) == (1.0, 0.0)


def test_the_frontier_leaves_out_what_is_dominated() -> None:
    rng = np.random.default_rng(16)
    good, bad = model(1.0), model(2.0)
    scores = {
        (good.id, "review"): flipped(rng, 300, 0.5, 0.5, 0.02),
        (bad.id, "review"): flipped(rng, 300, 0.5, 0.02, 0.5),
    }
    points = analyse(
        (make_frame("d", scores),), study([good, bad], "review"), settings=QUICK
    ).frontier
    share = {(p.model, p.protocol): p.membership.value for p in points}
    assert share[good.id, "review"] == 1.0
    assert share[bad.id, "review"] == 0.0
    assert share[good.id, "first answer"] + share[bad.id, "first answer"] >= 1.0  # type: ignore[operator]


# --- the joint bootstrap -------------------------------------------------------------------------


def test_replicates_do_not_depend_on_the_other_datasets() -> None:
    frames, made = null_world(17, models=2)
    both = resample(arms_of.arms(frames, made), QUICK)
    alone = resample(arms_of.arms(frames[1:], made), QUICK)
    for arm in arms_of.arms(frames[1:], made):
        np.testing.assert_array_equal(both.delta(arm), alone.delta(arm))


def test_all_datasets_weigh_alike() -> None:
    frames, made = null_world(18, models=4)
    small = (
        frames[0],
        make_frame(
            "two",
            {
                (cell.model, cell.protocol): frames[1].score_CIET[c, :60]
                for c, cell in enumerate(frames[1].cells)
            },
        ),
    )
    found = analyse(small, made, settings=QUICK)
    curve = [
        row for row in found.predictions
        if row.dataset == ALL_DATASETS and row.form == "constant"
    ]  # fmt: skip
    points = [p for p in found.frontier if p.dataset == ALL_DATASETS and p.protocol == "review"]
    for point in points:
        own = [c.last.value or 0 for c in found.cells
               if c.cell.model == point.model and c.cell.protocol == "review"]  # fmt: skip
        assert point.accuracy.value == pytest.approx(np.mean(own))
    assert curve


# --- warnings ------------------------------------------------------------------------------------


def test_missing_that_depends_on_the_first_answer_is_flagged() -> None:
    frame, made = scaling_world(19, [1.0])
    right = frame.score_CIET[0, :, 0, 0] == 1
    frame.score_CIET[0, np.flatnonzero(right)[:60], 0, 1] = np.nan
    found = analyse((frame,), made, settings=QUICK)
    codes = [one.code for one in found.warnings]
    assert "missing_depends_on_first" in codes
    assert {"missing", "sign_depends_on_missing"} & set(codes)
    weights = [one.weight for one in found.warnings]
    assert weights == sorted(weights)


def test_a_step_in_accuracy_and_a_ceiling_are_seen() -> None:
    score = np.zeros((200, 1, 2))
    score[100:] = 1.0
    spec = model(1.0)
    found = analyse(
        (make_frame("d", {(spec.id, "review"): score}),), study([spec], "review"), settings=QUICK
    )
    (step,) = [one for one in found.warnings if one.code == "accuracy_step"]
    assert "0.0 to 100.0 % after 100" in step.text
    full = np.ones((200, 1, 2))
    found = analyse(
        (make_frame("d", {(spec.id, "review"): full}),), study([spec], "review"), settings=QUICK
    )
    assert "ceiling" in {one.code for one in found.warnings}


def test_a_second_scorer_that_tells_another_story_blocks_the_headline() -> None:
    rng = np.random.default_rng(20)
    spec = model(1.0)
    score = flipped(rng, 200, 0.5, 0.5, 0.02)
    frame = make_frame("d", {(spec.id, "review"): score})
    strict = score[None].copy()
    strict[0, :, 0, 1] = strict[0, :, 0, 0]
    from dataclasses import replace as put

    frame = put(frame, others={"strict": strict, "unscorable": np.zeros_like(strict)})
    found = analyse((frame,), study([spec], "review"), settings=QUICK)
    (by_strict,) = pick(found.sensitivity, "delta_by_strict")
    assert by_strict.estimate.value == 0.0
    assert not pick(found.sensitivity, "delta_by_unscorable")
    (content,) = pick(found.sensitivity, "delta_content_strict")
    (form,) = pick(found.sensitivity, "delta_format_strict")
    assert (content.estimate.value or 0) + (form.estimate.value or 0) == pytest.approx(
        found.cells[0].delta.value
    )
    assert found.warnings[0].code == "scorers_disagree"
    assert found.warnings[0].weight == 0


def test_temperatures_are_compared_on_the_same_items() -> None:
    rng = np.random.default_rng(21)
    spec = model(1.0)
    cold, hot = flipped(rng, 200, 0.5, 0.1, 0.1), flipped(rng, 200, 0.5, 0.6, 0.02)
    frames = [make_frame("d", {(spec.id, "review"): s}, temperature=t)
              for s, t in ((cold, 0.2), (hot, 1.0))]  # fmt: skip
    joined = Frame(
        **{
            name: np.concatenate([getattr(f, name) for f in frames])
            for name in Frame.__dataclass_fields__
            if name.endswith(("CIET", "CIE"))
        },
        dataset="d",
        cells=frames[0].cells + frames[1].cells,
        items=frames[0].items,
        clusters=frames[0].clusters,
        strata=frames[0].strata,
        units=frames[0].units,
        chance_I=frames[0].chance_I,
        others={},
        counts={},
    )
    found = analyse((joined,), study([spec], "review"), settings=QUICK)
    (row,) = pick(found.sensitivity, "delta_difference", family="temperatures")
    assert row.temperature == 1.0
    assert row.versus == "temperature 0.2"
    expected = np.mean((hot[..., 1] - hot[..., 0]) - (cold[..., 1] - cold[..., 0]))
    assert row.estimate.value == pytest.approx(expected)
    assert row.p_adjusted is not None
    assert row.p_adjusted < 0.001


def test_an_empty_study_has_no_numbers_and_no_crash() -> None:
    spec = model(1.0)
    nothing = make_frame("d", {(spec.id, "review"): np.full((5, 1, 2), np.nan)})
    found = analyse((nothing,), study([spec], "review"), settings=QUICK)
    assert found.cells[0].delta.value is None
    assert "nothing_known" in {one.code for one in found.warnings}
    assert analyse((), study([spec], "review")).cells == ()


def test_an_estimate_never_holds_a_number_that_is_none() -> None:
    made = estimate("x", math.nan, (math.nan, math.inf), n=3)
    assert made == Estimate("x", None, None, None, unit="share", n=3, note="not estimable")
