"""Frames made of a researcher's own arrays: what was given counts, and nothing is made up."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from deltascale.analysis import Results, analyse, cells, frame_of_scores, study_of_frames
from deltascale.frame import Frame
from tests.frames import QUICK, flipped, make_frame, model, pick, scaling_world, study

REVIEW, RESAMPLE = ("lab/m", "review"), ("lab/m", "resample")


def scores(seed: int = 0, *, n: int = 60) -> dict[tuple[str, str], np.ndarray]:
    rng = np.random.default_rng(seed)
    return {key: flipped(rng, n, 0.5, 0.3, 0.1) for key in (REVIEW, RESAMPLE)}


def analysed(*frames: Frame, **parameters: float) -> Results:
    return analyse(frames, study_of_frames(frames, parameters), settings=QUICK)


def test_by_hand_and_through_a_study_the_estimates_are_the_same() -> None:
    frame, wanted = scaling_world(3, [1, 2, 4, 8, 16, 32, 64], n=80)
    sizes = {one.id: one.size.parameters or math.nan for one in wanted.models}
    given = {(cell.model, cell.protocol): frame.score_CIET[c] for c, cell in enumerate(frame.cells)}
    made = frame_of_scores("d", given)
    found = analyse([made], study_of_frames([made], sizes), settings=QUICK)
    expected = analyse([frame], wanted, settings=QUICK)
    assert [one.delta for one in found.cells] == [one.delta for one in expected.cells]
    assert repr(found.scaling) == repr(expected.scaling), "as text: a NaN differs from itself"
    assert repr(found.predictions) == repr(expected.predictions)


def test_an_array_without_epochs_has_one() -> None:
    whole = scores()
    flat = {key: score[:, 0] for key, score in whole.items()}
    assert np.array_equal(
        frame_of_scores("d", whole).score_CIET, frame_of_scores("d", flat).score_CIET
    )


def test_a_missing_answer_is_missing() -> None:
    given = scores()
    given[REVIEW][:4, 0, 1] = np.nan
    own = next(one for one in analysed(frame_of_scores("d", given)).cells if one.n_missing)
    assert (own.cell.protocol, own.n_missing, own.delta.n) == ("review", 4, 56)
    assert own.n_by_outcome_last == {"ok": 56, "failed": 4}


def test_clusters_widen() -> None:
    rng = np.random.default_rng(1)
    given = {REVIEW: np.repeat(flipped(rng, 30, 0.5, 0.4, 0.1), 4, axis=0)}
    alone, labels = frame_of_scores("d", given), [f"p{k // 4}" for k in range(120)]
    together = frame_of_scores("d", given, clusters=labels)
    narrow, wide = (analysed(frame).cells[0].delta for frame in (alone, together))
    assert narrow.value == wide.value
    assert wide.high - wide.low > 1.5 * (narrow.high - narrow.low)  # type: ignore[operator]


def test_without_answers_nothing_is_said_of_them() -> None:
    found = analysed(frame_of_scores("d", scores()))
    told = {one.quantity for one in (*found.flips, *found.contrasts, *found.sensitivity)}
    assert {"stay_right", "delta_less_resample", "accuracy_less_best_of"} <= told
    assert not told & {"answer_changed", "wrong_kept", "accuracy_less_vote_of_equal_cost"}


def test_answers_that_are_given_change_and_vote() -> None:
    given = scores()
    answers = {key: np.where(score == 1, 0, 1) for key, score in given.items()}
    found = analysed(frame_of_scores("d", given, answers=answers))
    (changed,) = pick(found.flips, "answer_changed", protocol="review")
    assert changed.estimate.value == np.mean(given[REVIEW][..., 0] != given[REVIEW][..., 1])
    assert pick(found.contrasts, "accuracy_less_vote_of_equal_cost")


def test_energy_of_calls_without_tokens_is_not_known() -> None:
    found = analysed(frame_of_scores("d", scores()), **{"lab/m": 7e9})
    assert {one.estimate.value for one in pick(found.costs, "energy")} == {None}


def test_a_cost_is_dollars_a_turn() -> None:
    given = scores()
    frame = frame_of_scores("d", given, cost_usd={REVIEW: [0.002, 0.003]})
    costs = {one.cell.protocol: one for one in cells([frame], study_of_frames([frame]))}
    assert costs["review"].cost_usd == pytest.approx(60 * 0.005)
    assert costs["review"].cost_extra_usd == pytest.approx(60 * 0.003)
    assert costs["resample"].cost_usd == 0


def test_few_calls_show_a_gate() -> None:
    given = {REVIEW: flipped(np.random.default_rng(2), 60, 0.5, 0.3, 0.0)}
    again = {REVIEW: np.stack([np.ones((60, 1)), 1 - given[REVIEW][..., 0]], axis=-1)}
    open_, gated = (frame_of_scores("d", given, n_calls=n) for n in (None, again))
    assert [analysed(one).cells[0].gate for one in (open_, gated)] == ["", "oracle-like"]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: frame_of_scores("d", {}), "no scores"),
        (lambda: frame_of_scores("d", {REVIEW: [1.0, 0.0]}), r"shape \(2,\)"),
        (lambda: frame_of_scores("d", {REVIEW: [[1.0], [0.0]]}), "two turns at least"),
        (lambda: frame_of_scores("d", {REVIEW: [[1.0, 2.0]]}), r"lie in \[0, 1\]"),
        (lambda: frame_of_scores("d", scores() | {RESAMPLE: [[1.0, 0.0]]}), "one shape"),
        (lambda: frame_of_scores("d", scores(), clusters=["a"]), "1 labels for 60 items"),
        (lambda: frame_of_scores("d", scores(), answers={("m", "x"): 0}), "no scores of"),
        (lambda: frame_of_scores("d", scores(), cost_usd={REVIEW: -1}), "below zero"),
        (lambda: frame_of_scores("d", scores(), n_calls={REVIEW: np.ones(7)}), "n_calls"),
        (lambda: analysed(frame_of_scores("d", scores()), other=1e9), "no frame has the model"),
        (lambda: analysed(frame_of_scores("d", scores()), **{"lab/m": 0}), "above zero"),
    ],
)
def test_what_does_not_fit_is_told(make: Callable[[], object], said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        make()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("n", [1, 3, 9, 40])
def test_errors_of_a_server_are_no_accuracy_however_few(n: int) -> None:
    spec = model(1.0)
    frame = make_frame("d", {(spec.id, "review"): np.zeros((n, 1, 2))})
    texts = np.arange(2 * n, dtype=np.int32).reshape(1, n, 1, 2)
    for n_errors in (2 * n, n):
        wrong = (texts < n_errors) if n_errors < 2 * n else np.ones_like(texts, bool)
        broken = replace(frame, reply_CIET=texts, reply_error_CIET=wrong)
        (one,) = cells([broken], study([spec], "review"), QUICK)
        assert one.withheld == f"{n_errors} of {2 * n} replies are error messages"
        assert one.first.value is one.last.value is one.delta.value is None
    fine = replace(frame, reply_CIET=texts, reply_error_CIET=texts < n - 1)
    (one,) = cells([fine], study([spec], "review"), QUICK)
    assert not one.withheld


@pytest.mark.parametrize("again", [1, 5])
def test_answers_that_are_all_alike_make_no_accuracy_surer(again: int) -> None:
    score = flipped(np.random.default_rng(3), 40, 0.5, 0.3, 0.1)
    (one,) = analysed(frame_of_scores("d", {REVIEW: np.repeat(score, again, axis=1)})).cells
    assert one.first.method == ("Wilson" if again == 1 else "linearised, logit, t")
    share = float(score[:, 0, 0].mean())
    width = (one.first.high or 0.0) - (one.first.low or 0.0)
    assert width == pytest.approx(2 * 1.96 * math.sqrt(share * (1 - share) / 40), rel=0.06)


def test_a_benchmarks_score_of_samples_that_are_all_alike_has_no_interval() -> None:
    score = np.ones((40, 2))
    for changed in (0, 3):
        score[:changed, 1] = 0.0
        found = analysed(frame_of_scores("d", {REVIEW: score}, strata=["a", "b"] * 20))
        row = next(one for one in found.benchmarks if one.part == "a")
        assert (row.first.value, row.first.low) == (1.0, None)
        assert row.first.note.startswith("all alike")
        assert (row.delta.low is None) == (changed == 0)
