"""What lies under each delta: who stayed right, who was fixed, what answering afresh would do."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from deltascale.analysis.arms import Arm, groups, known_size
from deltascale.analysis.joint import Joint, null_counts
from deltascale.analysis.results import E1, Finding, estimate
from deltascale.records import Estimate
from deltascale.stats.clustered import clustered_ratio
from deltascale.stats.flips import (
    RateName,
    break_even,
    count_flips,
    kitagawa,
    normalised_gain,
    rate,
    resample_null,
    round_homogeneity,
    stationary_accuracy,
)
from deltascale.stats.paired import wilson_interval

__all__ = ["flips"]

Floats = NDArray[np.float64]

_RATES: dict[RateName, str] = {
    "stay_right": "P(right at the last turn | right at first), CL",
    "fix_wrong": "P(right at the last turn | wrong at first), CS",
}


def flips(found: Sequence[Arm], joint: Joint) -> Iterator[Finding]:
    """Rates, gains and answer changes of every cell; rates less their null; why models differ."""
    null = {
        (arm.cell.dataset, arm.cell.model, arm.cell.temperature): arm
        for arm in found
        if arm.cell.protocol == "resample"
    }
    for arm in found:
        if not arm.binary or not arm.known.any():
            continue
        yield from _rates(arm, joint.settings.level)
        if not arm.gate:
            yield from _gains(arm, joint)
            yield from _rounds(arm)
        yield from _answers(arm, joint.settings.level)
        own = null.get((arm.cell.dataset, arm.cell.model, arm.cell.temperature), arm)
        if arm.cell.protocol != "resample" and not arm.gate:
            yield from _against_null(arm, own, joint)
    for by_dataset in groups(found).values():
        for members in by_dataset.values():
            yield from _why_models_differ(members, joint)


def _finding(arm: Arm, quantity: str, found: Estimate, versus: str = "") -> Finding:
    cell = arm.cell
    return Finding(
        quantity, found, cell.model, cell.dataset, cell.protocol, cell.temperature, versus
    )


def _rates(arm: Arm, level: float) -> Iterator[Finding]:
    clusters = arm.clusters()
    for name, words in _RATES.items():
        one = rate(arm.first, arm.last, name, cluster_I=clusters, level=level)
        found = estimate(
            f"{E1}: {words}",
            one.value,
            one.interval,
            n=int(one.denominator),
            n_missing=arm.n_missing,
            method="Wilson" if clusters is None else "linearised, logit, t",
            level=level,
            note=one.reason or "",
        )
        yield _finding(arm, name, found)


def _gains(arm: Arm, joint: Joint) -> Iterator[Finding]:
    n, missing = int(arm.known.sum()), arm.n_missing
    level = joint.settings.level
    gain = normalised_gain(arm.first, arm.last, cluster_I=arm.cluster_S, level=level)
    found = estimate(
        f"{E1}: delta as a share of the {gain.of}",
        gain.value,
        gain.interval,
        n=n,
        n_missing=missing,
        method="linearised, CR1 t",
        level=level,
        note="" if gain.of != "undefined" else "nothing was there to win or to lose",
    )
    yield _finding(arm, "normalised_gain", found)
    table = count_flips(arm.first, arm.last)
    first_B = joint.draws(arm, "first")
    spread_B = 2 * first_B * (1 - first_B)
    last_B = joint.draws(arm, "last")
    rss = joint.estimate(
        f"{E1}: relative self-correction score",
        table.relative_self_correction,
        _over(last_B - first_B**2, spread_B),
        n=n,
        n_missing=missing,
        unit="score",
    )
    yield _finding(arm, "relative_self_correction", rss)
    yield from _break_even(arm, joint)


def _break_even(arm: Arm, joint: Joint) -> Iterator[Finding]:
    """Whether wrong answers are fixed so much more readily than right ones are broken that
    correction helps."""
    n, missing = int(arm.known.sum()), arm.n_missing
    table, table_B4 = count_flips(arm.first, arm.last), joint.table(arm)
    first_B = joint.draws(arm, "first")
    rule = break_even(table, delta_B=joint.delta(arm))
    fix_B, harm_B = _fix_and_break(table_B4)
    ratio = joint.estimate(
        f"{E1}: fix rate over break rate; delta > 0 where it passes the threshold",
        rule.ratio,
        _over(fix_B, harm_B),
        n=n,
        n_missing=missing,
        unit="ratio",
        note=f"threshold acc/(1-acc) = {rule.threshold:.4g}; P(ratio > threshold) = "
        f"{rule.probability:.3f}" + _nothing(table.fixed, table.broken),
    )
    yield _finding(arm, "break_even_ratio", ratio)
    threshold = joint.estimate(
        f"{E1}: odds of being right at first",
        rule.threshold,
        _over(first_B, 1 - first_B),
        n=n,
        n_missing=missing,
        unit="ratio",
    )
    yield _finding(arm, "break_even_threshold", threshold)
    yield _finding(
        arm,
        "probability_of_gain",
        estimate(
            f"{E1}: share of replicates with delta > 0",
            rule.probability,
            n=n,
            n_missing=missing,
            method=joint.method,
        ),
    )


def _nothing(fixed: float, broken: float) -> str:
    if broken:
        return ""
    return "; nothing was broken" if fixed else "; nothing flipped"


def _rounds(arm: Arm) -> Iterator[Finding]:
    """Where accuracy would settle, only beside the test that the rates stay as they are."""
    if arm.frame.n_turns < 3 or arm.cell.protocol in ("resample", "vote"):
        return
    test = round_homogeneity(arm.score_ST, cluster_I=arm.cluster_S)
    table = count_flips(arm.score_ST[:, 0], arm.score_ST[:, 1])
    limit = stationary_accuracy(table.fix_wrong, table.break_right)
    steady = test.p_value > 0.05
    said = f"equal rates in rounds 1 and 2: p = {test.p_value:.3g}"
    found = estimate(
        f"{E1}: accuracy at which round-1 rates settle",
        limit if steady else math.nan,
        n=int(arm.known.sum()),
        n_missing=arm.n_missing,
        method="CS / (CS + 1 - CL)",
        note=said if steady else f"not extrapolated; {said}",
    )
    yield _finding(arm, "stationary_accuracy", found)


def _answers(arm: Arm, level: float) -> Iterator[Finding]:
    """Changes by what the answer says: also from one wrong answer to another."""
    if not arm.has_answers:
        return
    answer = arm.frame.answer_CIET[arm.c]
    code_ST = answer.reshape(-1, answer.shape[-1])
    same = code_ST[:, 0] == code_ST[:, -1]
    twice_wrong = (arm.first == 0) & (arm.last == 0)
    known, n = arm.known, int(arm.known.sum())
    clusters = arm.clusters()
    for name, words, such in (
        ("answer_changed", "the answer changed", known & ~same),
        ("wrong_to_other_wrong", "wrong, then wrong in another way", twice_wrong & ~same),
        ("wrong_kept", "the same wrong answer", twice_wrong & same),
    ):
        share = clustered_ratio(such, known, clusters, level=level)
        single = wilson_interval(int(such.sum()), n, level=level)
        found = estimate(
            f"{E1}: share of samples: {words}",
            share.ratio,
            single if clusters is None else share.interval,
            n=n,
            n_missing=arm.n_missing,
            method="Wilson" if clusters is None else "linearised, logit, t",
            level=level,
        )
        yield _finding(arm, name, found)


def _against_null(arm: Arm, own: Arm, joint: Joint) -> Iterator[Finding]:
    """Flip rates less those of a fresh answer: what is left of them is correction. Fresh answers
    are those of `resample`, or of the arm's own epochs."""
    if not own.binary or not joint.has_null(own) or arm.frame.n_turns < 2:
        return
    k, right = null_counts(own)
    null = resample_null(right, k)
    table = count_flips(arm.first, arm.last)
    stayed, fixed, broken, wrong = joint.table(arm).T
    null_fix_B = _over(joint.draws(own, "null_fixed"), joint.draws(own, "null_wrong"))
    null_stay_B = _over(joint.draws(own, "null_stayed"), joint.draws(own, "null_right"))
    n = int(arm.known.sum())
    for name, value, of_null, replicate_B, null_B in (
        ("fix_wrong", table.fix_wrong, null.fix_wrong, _over(fixed, fixed + wrong), null_fix_B),
        ("stay_right", table.stay_right, null.stay_right, _over(stayed, stayed + broken),
         null_stay_B),
    ):  # fmt: skip
        found = joint.estimate(
            f"{E1}: {_RATES['fix_wrong' if name == 'fix_wrong' else 'stay_right']}, less that of a "
            "fresh answer",
            value - of_null,
            replicate_B - null_B,
            n=n,
            n_missing=arm.n_missing,
            note=f"a fresh answer: {of_null:.4f}",
        )
        versus = "first answers of other epochs" if own is arm else "resample"
        yield _finding(arm, f"{name}_less_null", found, versus)


def _why_models_differ(members: Sequence[Arm], joint: Joint) -> Iterator[Finding]:
    """Between neighbours in size: different rates, or a different share right at first."""
    sized = sorted(
        (arm for arm in members if known_size(arm.model) and arm.binary and arm.known.any()),
        key=lambda arm: known_size(arm.model) or 0.0,
    )
    for a, b in pairwise(sized):
        parts = kitagawa(count_flips(a.first, a.last), count_flips(b.first, b.last))
        rate_B, mix_B = _kitagawa(joint.table(a), joint.table(b))
        for name, words, value, replicate_B in (
            ("rate_effect", "because its flip rates differ", parts.rate_effect, rate_B),
            ("mix_effect", "because it is right at first more or less often",
             parts.mix_effect, mix_B),
        ):  # fmt: skip
            found = joint.estimate(
                f"{E1}: part of the difference of deltas {words}",
                value,
                replicate_B,
                n=int(min(a.known.sum(), b.known.sum())),
                n_missing=max(a.n_missing, b.n_missing),
            )
            yield _finding(b, name, found, a.cell.model)


def _kitagawa(a_B4: Floats, b_B4: Floats) -> tuple[Floats, Floats]:
    """`stats.flips.kitagawa` for replicates."""
    (a_first, b_first) = (t[:, 0] + t[:, 2] for t in (a_B4, b_B4))
    (a_fix, a_harm), (b_fix, b_harm) = (_fix_and_break(t) for t in (a_B4, b_B4))
    mean_first = (a_first + b_first) / 2
    rates = (1 - mean_first) * (b_fix - a_fix) - mean_first * (b_harm - a_harm)
    mix = -(b_first - a_first) * ((a_harm + b_harm) / 2 + (a_fix + b_fix) / 2)
    return rates, mix


def _fix_and_break(table_B4: Floats) -> tuple[Floats, Floats]:
    stayed, fixed, broken, wrong = table_B4.T
    return _over(fixed, fixed + wrong), _over(broken, stayed + broken)


def _over(a: Floats, b: Floats) -> Floats:
    return np.asarray(np.divide(a, b, out=np.full(np.shape(a), np.nan), where=np.abs(b) > 1e-12))
