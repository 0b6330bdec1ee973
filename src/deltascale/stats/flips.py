"""What lies under a delta: who stayed right, who was fixed, who was broken, and why models differ.

Scores are 0, 1 or NaN (missing), per item or per item and epoch. Rates pool numerators and
denominators over items and epochs; ratios of single items are never averaged.
"""

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import chdtrc

from deltascale.stats.clustered import (
    cluster_index,
    clustered_mean,
    clustered_ratio,
    t_interval,
)
from deltascale.stats.paired import UNKNOWN, Interval, wilson_interval

__all__ = [
    "AnswerTransitions",
    "BreakEven",
    "Flips",
    "Kitagawa",
    "NormalisedGain",
    "Rate",
    "ResampleNull",
    "RoundHomogeneity",
    "accuracy_after",
    "answer_transitions",
    "break_even",
    "count_flips",
    "kitagawa",
    "normalised_gain",
    "rate",
    "resample_null",
    "round_homogeneity",
    "stationary_accuracy",
]

FloatArray: TypeAlias = NDArray[np.float64]
RateName: TypeAlias = Literal["stay_right", "fix_wrong", "break_right", "stay_wrong"]


@dataclass(frozen=True, slots=True)
class Flips:
    """The two-by-two table of first and last answers; counts, or shares of one."""

    stayed_right: float  # n11
    fixed: float  # n01, wrong to right
    broken: float  # n10, right to wrong
    stayed_wrong: float  # n00
    missing: int = 0  # pairs without a first or a last score, in none of the four

    @property
    def n(self) -> float:
        return self.stayed_right + self.fixed + self.broken + self.stayed_wrong

    @property
    def acc_first(self) -> float:
        return _over(self.stayed_right + self.broken, self.n)

    @property
    def acc_last(self) -> float:
        return _over(self.stayed_right + self.fixed, self.n)

    @property
    def delta(self) -> float:
        return _over(self.fixed - self.broken, self.n)

    @property
    def stay_right(self) -> float:
        """CL, the confidence level: P(stays right | right first). NaN if none was right."""
        return _over(self.stayed_right, self.stayed_right + self.broken)

    @property
    def fix_wrong(self) -> float:
        """CS, the critique score, or ECR: P(gets right | wrong first). NaN if none was wrong."""
        return _over(self.fixed, self.fixed + self.stayed_wrong)

    @property
    def break_right(self) -> float:
        """EIR = 1 - CL: P(gets wrong | right first)."""
        return _over(self.broken, self.stayed_right + self.broken)

    @property
    def normalised_gain(self) -> float:
        """delta over the headroom if it is a gain, over the accuracy if a loss."""
        return _over(self.delta, 1 - self.acc_first if self.delta >= 0 else self.acc_first)

    @property
    def gain_over_headroom(self) -> float:
        """delta / (1 - acc_first) whatever its sign, as others print it."""
        return _over(self.delta, 1 - self.acc_first)

    @property
    def relative_self_correction(self) -> float:
        """RSS = (acc_last - acc_first^2) / (2 acc_first (1 - acc_first)); NaN at 0 and 1.

        Source: Yang et al. 2024, arXiv:2412.19513.
        """
        first = self.acc_first
        return _over(self.acc_last - first**2, 2 * first * (1 - first))


@dataclass(frozen=True, slots=True)
class Rate:
    """A flip rate with its interval, or the reason why there is none."""

    name: RateName
    value: float
    interval: Interval
    numerator: float
    denominator: float
    reason: str | None  # None, or why `value` is NaN


@dataclass(frozen=True, slots=True)
class NormalisedGain:
    """Delta as a share of what was there to win, or of what was there to lose."""

    value: float
    interval: Interval
    of: Literal["headroom", "accuracy", "undefined"]  # which it was divided by


@dataclass(frozen=True, slots=True)
class BreakEven:
    """delta > 0 exactly when fix rate / break rate exceeds the odds of being right at first."""

    ratio: float  # ECR / EIR; infinite if only nothing is broken, NaN if undefined or 0 / 0
    threshold: float  # acc_first / (1 - acc_first)
    probability: float  # share of bootstrap replicates beyond it; NaN without replicates


@dataclass(frozen=True, slots=True)
class Kitagawa:
    """Why two deltas differ: B's rates, or B's starting accuracy. The two parts sum exactly."""

    difference: float  # delta of B less delta of A
    rate_effect: float
    mix_effect: float


@dataclass(frozen=True, slots=True)
class ResampleNull:
    """The flip rates that answering afresh would show, with no correction at all."""

    fix_wrong: float  # CS0
    stay_right: float  # CL0


@dataclass(frozen=True, slots=True)
class RoundHomogeneity:
    """Do the rates of round one hold in round two? Without that, no limit may be extrapolated."""

    fix_wrong_change: float  # round two less round one
    stay_right_change: float
    statistic: float  # Wald, chi-square on `df`
    df: int
    p_value: float


@dataclass(frozen=True, slots=True)
class AnswerTransitions:
    """Transitions by what the answer says, not only whether it is right."""

    kept_right: int
    fixed: int
    broken: int
    kept_wrong: int
    other_wrong: int  # wrong before and after, but with another answer
    reworded_right: int  # right before and after with another answer (two right answers exist)


def count_flips(first_I: ArrayLike, last_I: ArrayLike) -> Flips:
    """The table of two score arrays of one shape, with any axes.

    A pair with a NaN on either side is missing. Scores must be 0 or 1: raises ValueError otherwise.
    """
    first, last = _scores(first_I, last_I)
    there = ~(np.isnan(first) | np.isnan(last))
    was, now = first[there] == 1, last[there] == 1
    return Flips(
        stayed_right=int(np.count_nonzero(was & now)),
        fixed=int(np.count_nonzero(~was & now)),
        broken=int(np.count_nonzero(was & ~now)),
        stayed_wrong=int(np.count_nonzero(~was & ~now)),
        missing=int(np.count_nonzero(~there)),
    )


def rate(
    first_IE: ArrayLike,
    last_IE: ArrayLike,
    name: RateName,
    *,
    cluster_I: ArrayLike | None = None,
    level: float = 0.95,
) -> Rate:
    """One flip rate: Wilson's interval for single independent items, else linearised by cluster.

    With more than one epoch an item is a cluster unless `cluster_I` joins more; labels of which
    no two of the answers share one are no clusters. An empty denominator gives NaN and the reason.

    Raises ValueError as `count_flips`, for other axes than items and epochs, or another name.
    Source: Yang et al. 2024, arXiv:2412.19513 (CL and CS, pooled); Wilson 1927, JASA 22:209.
    """
    if name not in get_args(RateName):
        raise ValueError(f"a rate is one of {', '.join(get_args(RateName))}, not {name!r}")
    first, last = _scores(first_IE, last_IE)
    if first.ndim not in (1, 2):
        raise ValueError(f"scores must be by item or by item and epoch, not {first.shape}")
    first, last = (np.atleast_2d(s.T).T for s in (first, last))
    conditioned = first == (1.0 if name in ("stay_right", "break_right") else 0.0)
    conditioned &= ~np.isnan(last)
    ends = last == (1.0 if name in ("stay_right", "fix_wrong") else 0.0)
    hit_I, of_I = (conditioned & ends).sum(axis=1), conditioned.sum(axis=1)
    hit, of = float(hit_I.sum()), float(of_I.sum())
    if of == 0:
        side = "right" if name in ("stay_right", "break_right") else "wrong"
        return Rate(name, math.nan, UNKNOWN, hit, of, f"no first answer was {side}")
    ratio = clustered_ratio(hit_I, of_I, cluster_I, level=level)
    if ratio.clusters == of:
        return Rate(name, hit / of, wilson_interval(hit, of, level=level), hit, of, None)
    return Rate(name, ratio.ratio, ratio.interval, hit, of, None)


def normalised_gain(
    first_I: ArrayLike,
    last_I: ArrayLike,
    *,
    cluster_I: ArrayLike | None = None,
    level: float = 0.95,
) -> NormalisedGain:
    """delta / (1 - acc_first) if delta >= 0, else delta / acc_first, with a linearised interval.

    Takes item scores in [0, 1] (means over epochs are allowed); pairs with a NaN are left out.
    Undefined where it would divide by zero, or without a pair.

    Raises ValueError unless both have one axis, of one length.
    Source: Marx & Cummings 2007, American J. Physics 75:87.
    """
    first, last = np.asarray(first_I, np.float64), np.asarray(last_I, np.float64)
    if first.shape != last.shape or first.ndim != 1:
        raise ValueError(f"first {first.shape} and last {last.shape} need one value an item")
    there = ~(np.isnan(first) | np.isnan(last))
    if not there.any():
        return NormalisedGain(math.nan, UNKNOWN, "undefined")
    first, last = first[there], last[there]
    before, after = float(first.mean()), float(last.mean())
    base = 1 - before if after >= before else before
    if base == 0:
        return NormalisedGain(math.nan, UNKNOWN, "undefined")
    if after >= before:
        value, gradient = (after - before) / base, (-(1 - after) / base**2, 1 / base)
    else:
        value, gradient = after / before - 1, (-after / before**2, 1 / before)
    influence = gradient[0] * (first - before) + gradient[1] * (last - after)
    labels = None if cluster_I is None else np.asarray(cluster_I)[there]
    mean = clustered_mean(influence, labels)
    interval = t_interval(value, mean.se_cr1, mean.clusters - 1, level=level)
    return NormalisedGain(value, interval, "headroom" if after >= before else "accuracy")


def break_even(flips: Flips, *, delta_B: ArrayLike | None = None) -> BreakEven:
    """Ratio of fix to break rate beside the odds it must beat for correction to help.

    `delta_B` are bootstrap replicates of delta: the ratio passes its threshold in exactly those
    where delta > 0. Source: arXiv:2604.22273.
    """
    ratio = math.nan
    if not (math.isnan(flips.fix_wrong) or math.isnan(flips.break_right)):
        if flips.break_right:
            ratio = flips.fix_wrong / flips.break_right
        elif flips.fix_wrong:
            ratio = math.inf
    first = flips.acc_first
    threshold = first / (1 - first) if first < 1 else math.inf
    share = math.nan
    if delta_B is not None:
        replicates = np.asarray(delta_B, dtype=np.float64)
        drawn = replicates[~np.isnan(replicates)]
        share = float(np.mean(drawn > 0)) if drawn.size else math.nan
    return BreakEven(ratio, threshold, share)


def stationary_accuracy(fix_wrong: float, break_right: float) -> float:
    """pi* = ECR / (ECR + EIR), where accuracy settles if both rates stay as they are; NaN if 0 / 0.

    Print it only beside `round_homogeneity`. Source: arXiv:2604.22273.
    """
    return _over(fix_wrong, fix_wrong + break_right)


def accuracy_after(rounds: int, *, acc_first: float, fix_wrong: float, break_right: float) -> float:
    """Accuracy after so many rounds of constant rates.

    pi* + (1 - ECR - EIR)^rounds (acc_first - pi*), pi* as in `stationary_accuracy`.
    """
    if fix_wrong + break_right == 0:
        return acc_first
    limit = stationary_accuracy(fix_wrong, break_right)
    return limit + (1 - fix_wrong - break_right) ** rounds * (acc_first - limit)


def round_homogeneity(
    score_IT: ArrayLike, *, cluster_I: ArrayLike | None = None
) -> RoundHomogeneity:
    """Compare the flip rates from turn 0 to 1 with those from turn 1 to 2 on the same items.

    A Wald test of both rates at once, with cluster-robust covariance (rounds share items). A rate
    that is undefined in either round, or never varies, is left out of it.

    Raises ValueError for fewer than three turns. Source: Wald 1943, Transactions AMS 54:426.
    """
    score = np.asarray(score_IT, dtype=np.float64)
    if score.ndim != 2 or score.shape[1] < 3:
        raise ValueError("round_homogeneity needs items by at least three turns")
    first, middle, last = score[:, 0], score[:, 1], score[:, 2]
    changes, influences = [], []
    for side in (0.0, 1.0):
        one, of_one = _share_influence(first, middle, side)
        two, of_two = _share_influence(middle, last, side)
        changes.append(two - one)
        influences.append(of_two - of_one)
    change, influence_RI = np.array(changes), np.stack(influences)
    usable = ~np.isnan(change) & (np.abs(np.nan_to_num(influence_RI)).sum(axis=1) > 0)
    df = int(usable.sum())
    if df == 0:
        return RoundHomogeneity(changes[0], changes[1], math.nan, 0, math.nan)
    covariance = _influence_covariance(influence_RI[usable], cluster_I)
    wald = float(change[usable] @ np.linalg.pinv(covariance, hermitian=True) @ change[usable])
    return RoundHomogeneity(changes[0], changes[1], wald, df, float(chdtrc(df, wald)))


def kitagawa(a: Flips, b: Flips) -> Kitagawa:
    """Split delta_B - delta_A into different rates and a different share right at first.

    Exact, because delta is bilinear in the two. NaN where a rate is undefined.
    Source: Kitagawa 1955, JASA 50:1168.
    """
    mean_first = (a.acc_first + b.acc_first) / 2
    rate_effect = (1 - mean_first) * (b.fix_wrong - a.fix_wrong) + mean_first * (
        b.stay_right - a.stay_right
    )
    mean_stay, mean_fix = (a.stay_right + b.stay_right) / 2, (a.fix_wrong + b.fix_wrong) / 2
    mix_effect = (b.acc_first - a.acc_first) * (mean_stay - 1 - mean_fix)
    return Kitagawa(b.delta - a.delta, rate_effect, mix_effect)


def resample_null(successes_I: ArrayLike, epochs_I: ArrayLike | int) -> ResampleNull:
    """Flip rates of a fresh second answer, from K >= 2 epochs of the first prompt per item.

    Regression to the mean makes both rates look like correction: report CS - CS0 and CL - CL0.
    The U-statistic over ordered pairs of an item's epochs; items with one epoch are left out.

    Raises ValueError unless 0 <= successes <= epochs, of one shape.
    Source: derived here; the pairing is Hoeffding 1948, Annals of Mathematical Statistics 19:293.
    """
    s = np.asarray(successes_I, dtype=np.float64)
    k = np.asarray(epochs_I, dtype=np.float64)
    if k.shape not in ((), s.shape):
        raise ValueError(f"epochs {k.shape} must be one number, or one an item {s.shape}")
    k = np.broadcast_to(k, s.shape)
    if not np.all((s >= 0) & (s <= k)):
        raise ValueError("successes must lie between 0 and the number of epochs")
    s, k = s[k >= 2], k[k >= 2]
    wrong_to_right = float(np.sum(s * (k - s) / (k - 1)))
    right_to_right = float(np.sum(s * (s - 1) / (k - 1)))
    return ResampleNull(
        _over(wrong_to_right, float(np.sum(k - s))), _over(right_to_right, float(s.sum()))
    )


def answer_transitions(
    first_I: ArrayLike, last_I: ArrayLike, *, same_I: ArrayLike
) -> AnswerTransitions:
    """Count transitions, telling wrong answers that changed from those kept.

    `same_I` says whether first and last answer are the same. Pairs with a NaN are left out.
    Raises ValueError as `count_flips`, or if `same_I` is of another shape.
    Source: Huang et al. 2024, arXiv:2310.01798 (changes of the answer itself).
    """
    first, last = _scores(first_I, last_I)
    same = np.asarray(same_I, dtype=bool)
    if same.shape != first.shape:
        raise ValueError(f"same_I {same.shape} must be of the scores' shape {first.shape}")
    right, wrong = first == 1, first == 0

    def count(mask: NDArray[np.bool_]) -> int:
        return int(np.count_nonzero(mask))

    return AnswerTransitions(
        kept_right=count(right & (last == 1) & same),
        fixed=count(wrong & (last == 1)),
        broken=count(right & (last == 0)),
        kept_wrong=count(wrong & (last == 0) & same),
        other_wrong=count(wrong & (last == 0) & ~same),
        reworded_right=count(right & (last == 1) & ~same),
    )


# --- the pieces ----------------------------------------------------------------------------------


def _over(a: float, b: float) -> float:
    return a / b if b else math.nan


def _scores(first: ArrayLike, last: ArrayLike) -> tuple[FloatArray, FloatArray]:
    one, two = np.asarray(first, dtype=np.float64), np.asarray(last, dtype=np.float64)
    if one.shape != two.shape:
        raise ValueError(f"first {one.shape} and last {two.shape} scores must match")
    for scores in (one, two):
        if not np.all(np.isnan(scores) | (scores == 0) | (scores == 1)):
            raise ValueError("flips are counted from scores of 0, 1 or NaN")
    return one, two


def _share_influence(
    before: FloatArray, after: FloatArray, side: float
) -> tuple[float, FloatArray]:
    """P(right after | `side` before) and each item's part in its error."""
    conditioned = (before == side) & ~np.isnan(after)
    of = np.count_nonzero(conditioned)
    if of == 0:
        return math.nan, np.zeros(before.shape)
    share = float(np.mean(after[conditioned] == 1))
    return share, np.where(conditioned, (after == 1) - share, 0.0) / of


def _influence_covariance(influence_RI: FloatArray, cluster_I: ArrayLike | None) -> FloatArray:
    cluster = cluster_index(cluster_I, influence_RI.shape[1])
    sum_RG = np.stack([np.bincount(cluster, weights=row) for row in influence_RI])
    clusters = sum_RG.shape[1]
    return np.asarray(sum_RG @ sum_RG.T * (clusters / max(1, clusters - 1)))
