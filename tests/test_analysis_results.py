"""Everything beyond a cell's delta: flips, controls, contrasts, fits, costs, warnings, claims."""

from __future__ import annotations

import math

import numpy as np
import pytest
from msgspec.structs import replace

from deltascale.analysis import Results, analyse
from deltascale.analysis import arms as arms_of
from deltascale.analysis.flips import _kitagawa, flips
from deltascale.analysis.joint import resample
from deltascale.analysis.results import ALL_DATASETS, Finding, estimate
from deltascale.analysis.voting import controls
from deltascale.frame import Frame
from deltascale.records import Estimate
from deltascale.stats.flips import Flips, kitagawa
from deltascale.stats.majority import majority_accuracy
from tests.frames import (
    QUICK,
    flipped,
    make_frame,
    model,
    null_world,
    pick,
    scaling_world,
    study,
)

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


def test_only_what_was_declared_is_claimed() -> None:
    """The declared protocols are the whole family; of the others every p stays, and no claim."""
    rng = np.random.default_rng(5)
    models = [model(size) for size in (1, 4, 16, 64)]
    scores = {
        (one.id, protocol): flipped(rng, 150, 0.5, 0.4, 0.05)
        for one in models
        for protocol in ("review", "critique", "resample")
    }
    frames, made = [make_frame("d", scores)], study(models, "review", "critique", "resample")
    every = analyse(frames, made, settings=QUICK)
    declared = analyse(frames, replace(made, confirmatory=("review",)), settings=QUICK)
    assert {one.family_size for one in every.cells if one.p_holm is not None} == {8}
    for before, cell in zip(every.cells, declared.cells, strict=True):
        assert (cell.delta, cell.p_value, cell.p_bh) == (before.delta, before.p_value, before.p_bh)
        if cell.cell.protocol == "review":
            assert before.p_holm is not None
            assert cell.p_holm is not None
            assert cell.p_holm <= before.p_holm
            assert cell.family_size == 4
            assert cell.simultaneous.method
        else:
            assert cell.p_holm is None
            assert not cell.simultaneous.method
    assert [(one.protocol, one.rung > 0) for one in every.claims] == [
        ("review", True), ("critique", True),
    ]  # fmt: skip
    assert [(one.protocol, one.rung > 0) for one in declared.claims] == [
        ("review", True), ("critique", False),
    ]  # fmt: skip
    for family in ("trend over sizes", "neighbours in size"):
        by = {o.protocol: o.adjusted_by for o in declared.contrasts if o.family.startswith(family)}
        assert by == {"review": "Holm", "critique": "BH"}


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
