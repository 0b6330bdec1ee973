"""The one interval of a cell's delta that is printed first, and the two beside it."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deltascale.stats.clustered import ClusteredMean, clustered_mean, item_means
from deltascale.stats.paired import UNKNOWN, Interval, newcombe10_interval, tango_interval
from deltascale.stats.resampling import bootstrap_means, percentile_interval, stratum

__all__ = ["Headline", "deff_tango_interval", "headline_interval"]

FloatArray: TypeAlias = NDArray[np.float64]
Method: TypeAlias = Literal["tango", "cr1", "deff-tango", "t"]


@dataclass(frozen=True, slots=True)
class Headline:
    """Delta with the interval its data call for. Estimand E1: such items, these models."""

    delta: float
    interval: Interval
    method: Method
    mean: ClusteredMean  # with every standard error, deff and G
    deff: float  # the design effect used: that of single answers, at least 1
    newcombe10: Interval | None  # None for scores other than 0 and 1
    bootstrap: Interval  # percentile, over clusters; NaN limits where none was drawn
    disagree: bool  # a limit of one of the three is off by over a quarter of the first's width


def deff_tango_interval(
    fixed: float, broken: float, n: float, *, deff: float, level: float = 0.95
) -> Interval:
    """Tango's interval with all three counts divided by a design effect (taken as at least 1).

    Source: Rao & Scott 1992, Biometrics 48:577 (effective counts), with Tango 1998.
    """
    shrink = max(1.0, deff)
    return tango_interval(fixed / shrink, broken / shrink, n / shrink, level=level)


def headline_interval(
    first_IE: ArrayLike,
    last_IE: ArrayLike,
    *,
    cluster_I: ArrayLike | None = None,
    level: float = 0.95,
    replicates: int = 2_000,
    seed: int = 0,
) -> Headline:
    """Choose and compute the interval of delta for one model, dataset and protocol.

    Scores per item, or per item and epoch; NaN where missing, and such pairs are left out.
    - 0/1 scores, one epoch, no clusters: Tango.
    - epochs or clusters: CR1 with t_{G-1} given 20 clusters and 10 flips, else deff-Tango.
    - other scores: CR1 with t (with single items that is the ordinary t interval).
    Without `replicates` nothing is drawn, and `disagree` is about the other two.

    Raises ValueError if shapes differ or no pair is complete.
    """
    first, last = np.asarray(first_IE, np.float64), np.asarray(last_IE, np.float64)
    if first.shape != last.shape:
        raise ValueError(f"first {first.shape} and last {last.shape} scores must match")
    first, last = (scores.reshape(len(scores), -1) for scores in (first, last))
    d_IE = last - first
    mean = clustered_mean(item_means(d_IE), cluster_I, level=level)
    counts = _pooled_counts(first, last)
    repeated = bool(np.any((~np.isnan(d_IE)).sum(axis=1) > 1))
    binary = bool(np.all(np.isnan(d_IE) | np.isin(d_IE, (-1.0, 0.0, 1.0)))) and bool(
        np.all(np.isnan(first) | np.isin(first, (0.0, 1.0)))
    )
    deff = counts.deff(mean)
    clustered = repeated or cluster_I is not None
    method: Method
    if not clustered:
        method = "tango" if binary else "t"
    elif not binary or (mean.clusters >= 20 and counts.flips >= 10):
        method = "cr1"
    else:
        method = "deff-tango"
    interval = mean.interval
    if method in ("tango", "deff-tango"):
        shrink = deff if method == "deff-tango" else 1.0
        flips = (counts.fixed, counts.broken, counts.n)
        interval = deff_tango_interval(*flips, deff=shrink, level=level)
    boot, beside = UNKNOWN, []
    if replicates:
        one = stratum(item_means(d_IE)[:, None], cluster_I=cluster_I)
        replicate = bootstrap_means([one], seed=seed, replicates=replicates)[:, 0, 0]
        boot = percentile_interval(replicate, level=level).interval
        beside.append(boot)
    newcombe = counts.newcombe10(deff, level) if binary else None
    if newcombe is not None:
        beside.append(newcombe)
    return Headline(
        mean.estimate, interval, method, mean, deff, newcombe, boot, _disagree(interval, beside)
    )


@dataclass(frozen=True, slots=True)
class _Counts:
    """The table over single answers, every item weighing the same however many epochs it has."""

    stayed_right: float
    fixed: float
    broken: float
    n: float
    flips: int  # as counted, for the rule of ten

    def deff(self, mean: ClusteredMean) -> float:
        """Variance of delta over what as many independent answers would give.

        Where that cannot be known (one cluster, or nothing flips) clusters count as single answers.
        """
        iid = (self.fixed + self.broken) / self.n - mean.estimate**2
        if self.n > 1 and iid > 0 and mean.clusters > 1:
            return max(1.0, mean.se_cr1**2 * (self.n - 1) / iid)
        return self.n / mean.clusters

    def newcombe10(self, deff: float, level: float) -> Interval:
        fixed, broken, n, stayed = (
            count / deff for count in (self.fixed, self.broken, self.n, self.stayed_right)
        )
        return newcombe10_interval(fixed, broken, n, stayed_right=stayed, level=level)


def _pooled_counts(first_IE: FloatArray, last_IE: FloatArray) -> _Counts:
    there = ~(np.isnan(first_IE) | np.isnan(last_IE))
    rows = float(there.sum())
    used = there.any(axis=1)
    answers_I = there.sum(axis=1)[used]

    def pooled(mask_IE: NDArray[np.bool_]) -> float:
        return rows * float(np.mean((mask_IE & there).sum(axis=1)[used] / answers_I))

    fixed, broken = last_IE > first_IE, last_IE < first_IE
    return _Counts(
        stayed_right=pooled((first_IE == 1) & (last_IE == 1)),
        fixed=pooled(fixed),
        broken=pooled(broken),
        n=rows,
        flips=int(np.count_nonzero((fixed | broken) & there)),
    )


def _disagree(first: Interval, others: list[Interval]) -> bool:
    """Whether any two of the three differ at a limit by over a quarter of the first's width."""
    lows = [first.low, *(o.low for o in others)]
    highs = [first.high, *(o.high for o in others)]
    spread = max(max(lows) - min(lows), max(highs) - min(highs))
    return bool(spread > 0.25 * first.width)
