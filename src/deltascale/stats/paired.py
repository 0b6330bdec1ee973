"""One paired two-by-two table: intervals, tests and bounds for a difference of proportions.

The table counts the same items before and after correction: `fixed` went from wrong to right
(n01), `broken` from right to wrong (n10), the rest stayed as they were. The estimand is
delta = (fixed - broken) / n. Counts may be fractions, because a design effect divides them.
Clusters, epochs and resampling are not known here.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

from scipy.special import bdtr, betaincinv, chdtrc, gammaln, ndtr, ndtri

__all__ = [
    "ChiSquare",
    "Equivalence",
    "Interval",
    "ManskiBounds",
    "clopper_pearson_interval",
    "delta",
    "equivalence",
    "manski_bounds",
    "mcnemar_chi2",
    "mcnemar_exact",
    "mcnemar_midp",
    "newcombe10_interval",
    "smallest_exact_p",
    "tango_interval",
    "tango_statistic",
    "wilson_interval",
]


class Interval(NamedTuple):
    """Two limits; NaN where there was nothing to compute them from, infinite where unbounded."""

    low: float
    high: float

    @property
    def width(self) -> float:
        return self.high - self.low

    def covers(self, value: float) -> bool:
        return self.low <= value <= self.high


UNKNOWN = Interval(math.nan, math.nan)


@dataclass(frozen=True, slots=True)
class ChiSquare:
    """A chi-square statistic on one degree of freedom and its p-value."""

    statistic: float
    p_value: float


@dataclass(frozen=True, slots=True)
class Equivalence:
    """Two one-sided tests of |delta| >= margin; `interval` has level 1 - 2 alpha."""

    margin: float
    interval: Interval
    p_value: float
    equivalent: bool


@dataclass(frozen=True, slots=True)
class ManskiBounds:
    """What delta can be once every missing answer is filled in, at worst and at best."""

    complete_case: float  # delta of the complete pairs; NaN if there are none
    low: float
    high: float
    widened: Interval  # lower limit of the worst completion, upper limit of the best
    as_wrong: float  # delta when every missing answer counts as wrong
    missing: float  # share of all pairs
    sign_undetermined: bool  # something is missing, and zero lies within the bounds
    flagged: bool  # sign undetermined, or more than 2 % missing


# --- one proportion ------------------------------------------------------------------------------


def wilson_interval(successes: float, n: float, *, level: float = 0.95) -> Interval:
    """Score interval of a proportion, both limits in [0, 1]; NaN limits if n is 0.

    Raises ValueError unless 0 <= successes <= n. Source: Wilson 1927, JASA 22:209.
    """
    _check_share(successes, n)
    if n == 0:
        return UNKNOWN
    z2 = _z(level) ** 2
    share = successes / n
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(z2 * (share * (1 - share) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    # At a share of 0 or 1 one limit is exact; rounding would leave it 1e-17 away.
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == n else min(1.0, centre + half)
    return Interval(low, high)


def clopper_pearson_interval(successes: float, n: float, *, level: float = 0.95) -> Interval:
    """Exact interval of a proportion from beta quantiles; NaN limits if n is 0.

    Raises ValueError unless 0 <= successes <= n. Source: Clopper & Pearson 1934, Biometrika 26:404.
    """
    _check_share(successes, n)
    if n == 0:
        return UNKNOWN
    tail = (1 - checked_level(level)) / 2
    failures = n - successes
    low = 0.0 if successes == 0 else float(betaincinv(successes, failures + 1, tail))
    high = 1.0 if failures == 0 else float(betaincinv(successes + 1, failures, 1 - tail))
    return Interval(low, high)


# --- the difference ------------------------------------------------------------------------------


def delta(fixed: float, broken: float, n: float) -> float:
    """Accuracy after less accuracy before, in [-1, 1]; NaN if n is 0.

    Raises ValueError if the flips are negative or do not fit in n.
    """
    _check_flips(fixed, broken, n)
    return (fixed - broken) / n if n else math.nan


def tango_statistic(fixed: float, broken: float, n: float, *, theta: float = 0.0) -> float:
    """Score statistic of the hypothesis delta = theta; standard normal when that is true.

    Its variance is taken under the hypothesis, with the restricted maximum-likelihood estimate of
    the broken share. At theta = 0 it is McNemar's (fixed - broken) / sqrt(fixed + broken).
    0 where numerator and variance both vanish, infinite where the variance alone does.

    Raises ValueError unless theta is in [-1, 1] and the flips fit in n > 0.
    Source: Tango 1998, Statistics in Medicine 17:891.
    """
    _check_flips(fixed, broken, n)
    if n == 0 or not -1 <= theta <= 1:
        raise ValueError(f"tango_statistic needs n > 0 and theta in [-1, 1], not {n}, {theta}")
    return _score(fixed, broken, n, theta)


def tango_interval(fixed: float, broken: float, n: float, *, level: float = 0.95) -> Interval:
    """Score interval of delta: every theta that `tango_statistic` does not reject.

    Closed and never degenerate: with no flips at all it is +-z^2 / (n + z^2). Divide all three
    counts by a design effect to allow for clusters. NaN limits if n is 0.

    Raises ValueError unless the flips fit in n. Source: Tango 1998, Statistics in Medicine 17:891.
    """
    _check_flips(fixed, broken, n)
    if n == 0:
        return UNKNOWN
    z = _z(level)
    estimate = (fixed - broken) / n
    low = _where_score_is(z, fixed, broken, n, inside=estimate, outside=-1.0)
    high = _where_score_is(-z, fixed, broken, n, inside=estimate, outside=1.0)
    return Interval(low, high)


def newcombe10_interval(
    fixed: float, broken: float, n: float, *, stayed_right: float, level: float = 0.95
) -> Interval:
    """Newcombe's method 10: two Wilson intervals combined, with their correlation.

    Unlike Tango's it needs the concordant pairs apart (`stayed_right` is n11). NaN if n is 0.

    Raises ValueError if the counts do not fit in n.
    Source: Newcombe 1998, Statistics in Medicine 17:2635.
    """
    stayed_wrong = n - stayed_right - fixed - broken
    if stayed_right < 0 or stayed_wrong < -1e-9 * max(n, 1.0):
        raise ValueError(f"counts do not fit: {stayed_right} + {fixed} + {broken} > n = {n}")
    if n == 0:
        return UNKNOWN
    stayed_wrong = max(0.0, stayed_wrong)
    # Counts that a design effect divided may sum to a little more than n.
    right_before, right_after = min(n, stayed_right + broken), min(n, stayed_right + fixed)
    before, after = right_before / n, right_after / n
    low_0, high_0 = wilson_interval(right_before, n, level=level)
    low_1, high_1 = wilson_interval(right_after, n, level=level)
    phi = _continuity_corrected_phi(stayed_right, fixed, broken, stayed_wrong)

    def mover(gap_after: float, gap_before: float) -> float:
        square = gap_after**2 - 2 * phi * gap_after * gap_before + gap_before**2
        return math.sqrt(max(0.0, square))

    estimate = (fixed - broken) / n
    low = estimate - mover(after - low_1, high_0 - before)
    high = estimate + mover(high_1 - after, before - low_0)
    return Interval(max(-1.0, low), min(1.0, high))


# --- tests ---------------------------------------------------------------------------------------


def mcnemar_exact(fixed: int, broken: int) -> float:
    """Two-sided exact conditional p-value of delta = 0; 1 when there are no flips.

    Raises ValueError for negative or fractional counts: with clusters or epochs the test does not
    hold, use `sign_flip_test`. Source: McNemar 1947, Psychometrika 12:153.
    """
    _check_whole(fixed, broken)
    if fixed == broken:
        return 1.0
    few, flips = min(fixed, broken), fixed + broken
    return min(1.0, 2 * float(bdtr(few, flips, 0.5)))


def mcnemar_midp(fixed: int, broken: int) -> float:
    """Two-sided mid-p version of `mcnemar_exact`: half the observed point's weight; 1 at no flips.

    Raises ValueError for negative or fractional counts.
    Source: Fagerland, Lydersen & Laake 2013, BMC Medical Research Methodology 13:91.
    """
    _check_whole(fixed, broken)
    few, flips = min(fixed, broken), fixed + broken
    if flips == 0:
        return 1.0
    log_choose = gammaln(flips + 1) - gammaln(few + 1) - gammaln(flips - few + 1)
    at_point = math.exp(float(log_choose) - flips * math.log(2))
    if fixed == broken:
        return 1 - at_point / 2
    return 2 * float(bdtr(few, flips, 0.5)) - at_point


def mcnemar_chi2(fixed: float, broken: float, *, continuity: bool = False) -> ChiSquare:
    """McNemar's asymptotic test, for comparison with what others print; p = 1 at no flips.

    With `continuity`, Edwards' correction |fixed - broken| - 1, never below zero.
    Raises ValueError for negative counts.
    Source: McNemar 1947, Psychometrika 12:153; Edwards 1948, Psychometrika 13:185.
    """
    if min(fixed, broken) < 0:
        raise ValueError(f"counts must not be negative: {fixed}, {broken}")
    if fixed + broken == 0:
        return ChiSquare(0.0, 1.0)
    gap = max(0.0, abs(fixed - broken) - continuity)
    statistic = gap * gap / (fixed + broken)
    return ChiSquare(statistic, float(chdtrc(1, statistic)))


def smallest_exact_p(flips: int) -> float:
    """The least p-value `mcnemar_exact` can reach with so many flips: with 5, .0625; with 0, 1.

    For `sign_flip_test` the flips are the clusters whose sum is not zero. Raises ValueError unless
    they are a whole number, not negative.
    """
    _check_whole(flips, 0)
    return min(1.0, 2.0 ** (1 - flips))


def equivalence(
    fixed: float, broken: float, n: float, *, margin: float = 0.01, alpha: float = 0.05
) -> Equivalence:
    """Two one-sided score tests: is delta inside +-margin? The only way to claim "no effect".

    Equivalent when the Tango interval of level 1 - 2 alpha lies within the margins. `p_value` is
    the larger of the two one-sided ones. Raises ValueError for n = 0 or a margin outside (0, 1).
    Source: Schuirmann 1987, J. Pharmacokinetics and Biopharmaceutics 15:657; Tango 1998.
    """
    if not 0 < margin < 1:
        raise ValueError(f"margin must be in (0, 1), not {margin}")
    interval = tango_interval(fixed, broken, n, level=1 - 2 * alpha)
    above_low = float(ndtr(-tango_statistic(fixed, broken, n, theta=-margin)))
    below_high = float(ndtr(tango_statistic(fixed, broken, n, theta=margin)))
    inside = interval.low > -margin and interval.high < margin
    return Equivalence(margin, interval, max(above_low, below_high), inside)


# --- missing answers -----------------------------------------------------------------------------


def manski_bounds(
    fixed: int,
    broken: int,
    n_complete: int,
    *,
    lost_right: int = 0,
    lost_wrong: int = 0,
    lost_both: int = 0,
    deff: float = 1.0,
    level: float = 0.95,
) -> ManskiBounds:
    """Bounds of delta over all pairs, complete or not, that assume nothing about why some lack.

    `lost_right` and `lost_wrong` lack the last answer after a right or a wrong first one, and can
    add {-1, 0} or {0, +1}; `lost_both` lack the first answer too (or only that, which can but widen
    the bounds) and can add {-1, 0, +1}. Counting as wrong turns `lost_right` into broken.

    Raises ValueError for negative counts. Source: Manski 1990, American Economic Review 80:319.
    """
    _check_flips(fixed, broken, n_complete)
    lost = lost_right + lost_wrong + lost_both
    n = n_complete + lost
    if min(lost_right, lost_wrong, lost_both) < 0 or n == 0 or deff <= 0:
        raise ValueError("manski_bounds needs at least one pair, no negative count, and deff > 0")
    worst = (fixed, broken + lost_right + lost_both)
    best = (fixed + lost_wrong + lost_both, broken)
    low, high = (worst[0] - worst[1]) / n, (best[0] - best[1]) / n

    def limits(flips: tuple[int, int]) -> Interval:
        return tango_interval(flips[0] / deff, flips[1] / deff, n / deff, level=level)

    undetermined = low != high and low <= 0 <= high
    missing = lost / n
    return ManskiBounds(
        complete_case=delta(fixed, broken, n_complete),
        low=low,
        high=high,
        widened=Interval(limits(worst).low, limits(best).high),
        as_wrong=(fixed - broken - lost_right) / n,
        missing=missing,
        sign_undetermined=undetermined,
        flagged=undetermined or missing > 0.02,
    )


# --- the pieces ----------------------------------------------------------------------------------


def _score(fixed: float, broken: float, n: float, theta: float) -> float:
    """Tango's statistic without checks."""
    a = 2 * n
    b = -fixed - broken + (2 * n - fixed + broken) * theta
    c = -broken * theta * (1 - theta)
    root = math.sqrt(max(0.0, b * b - 4 * a * c))
    # Two forms of one root of a q^2 + b q + c: each is free of cancellation where it is used.
    broken_share = -2 * c / (b + root) if b > 0 else (root - b) / (2 * a)
    variance = n * (2 * broken_share + theta * (1 - theta))
    numerator = fixed - broken - n * theta
    if variance > 0:
        return numerator / math.sqrt(variance)
    return math.copysign(math.inf, numerator) if abs(numerator) > 1e-9 * n else 0.0


def _where_score_is(
    target: float, fixed: float, broken: float, n: float, *, inside: float, outside: float
) -> float:
    """The theta between the estimate and -1 or 1 where the falling score passes `target`.

    Bisection to the last bit, because the score is infinite at the outer end.
    """
    while True:
        middle = (inside + outside) / 2
        if middle in (inside, outside):
            # Nothing is left between them. When even the outer end is not rejected it is the limit.
            return outside if abs(_score(fixed, broken, n, outside)) <= abs(target) else inside
        if abs(_score(fixed, broken, n, middle)) <= abs(target):
            inside = middle
        else:
            outside = middle


def _continuity_corrected_phi(n11: float, n01: float, n10: float, n00: float) -> float:
    """Correlation of before and after; half of n is taken off a positive numerator (Newcombe)."""
    margins = (n11 + n10) * (n01 + n00) * (n11 + n01) * (n10 + n00)
    if margins <= 0:
        return 0.0
    numerator = n11 * n00 - n01 * n10
    if numerator > 0:
        numerator = max(0.0, numerator - (n11 + n01 + n10 + n00) / 2)
    return numerator / math.sqrt(margins)


def checked_level(level: float) -> float:
    if not 0 < level < 1:
        raise ValueError(f"level must be in (0, 1), not {level}")
    return level


def _z(level: float) -> float:
    return float(ndtri((1 + checked_level(level)) / 2))


def _check_share(successes: float, n: float) -> None:
    if not 0 <= successes <= n:
        raise ValueError(f"successes must lie in [0, n]: {successes} of {n}")


def _check_flips(fixed: float, broken: float, n: float) -> None:
    # A design effect divides three counts apart, so their sum may pass n by rounding.
    if not (fixed >= 0 and broken >= 0 and fixed + broken <= n * (1 + 1e-9)):
        raise ValueError(f"flips must not be negative nor pass n: {fixed} + {broken} of {n}")


def _check_whole(*counts: float) -> None:
    if not all(count >= 0 and count % 1 == 0 for count in counts):
        raise ValueError(f"counts must be whole and not negative: {counts}")
