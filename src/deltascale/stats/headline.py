"""The one interval of a cell's delta that is printed first, and the two beside it."""

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deltascale.stats.clustered import (
    ClusteredMean,
    bonett_price_floor,
    clustered_mean,
    item_means,
    t_interval,
)
from deltascale.stats.paired import UNKNOWN, Interval, newcombe10_interval, tango_interval
from deltascale.stats.resampling import (
    BootstrapInterval,
    bootstrap_means,
    percentile_interval,
    stratum,
)

__all__ = ["Headline", "deff_tango_interval", "headline_interval"]

FloatArray: TypeAlias = NDArray[np.float64]
Method: TypeAlias = Literal["tango", "cr1", "deff-tango", "t"]
_NOT_DRAWN = BootstrapInterval(UNKNOWN, math.nan, math.nan, 0)


@dataclass(frozen=True, slots=True)
class Headline:
    """Delta with the interval its data call for. Estimand E1: such items, these models."""

    delta: float
    interval: Interval
    method: Method
    mean: ClusteredMean  # with every standard error, deff and G
    deff: float  # the design effect used: that of single answers, at least 1
    deff_raw: float  # the same as it was found, below 1 too; NaN where it is not known
    newcombe10: Interval | None  # None for scores other than 0 and 1
    bootstrap: Interval  # percentile, over clusters; NaN limits where none was drawn
    bootstrap_mc_se: float  # Monte Carlo error of its limits, the larger of the two
    disagree: bool  # a limit of one of the three is off by over a quarter of the first's width


def deff_tango_interval(
    fixed: float, broken: float, n: float, *, deff: float, level: float = 0.95
) -> Interval:
    """Tango's interval with all three counts divided by a design effect (taken as at least 1).

    Raises ValueError as `tango_interval`.
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

    Scores per item, or per item and epoch; NaN where missing, and such pairs are left out. Labels
    of which no two pairs share one are no clusters.
    - 0/1 scores, one epoch, no clusters: Tango.
    - epochs or clusters: CR1 with t_{G-1} given 20 clusters and 10 flips, else deff-Tango.
    - other scores: CR1 with t (with single items that is the ordinary t interval). Where nothing
      varies its error is `bonett_price_floor`'s, so that no interval is a point.
    Without `replicates` nothing is drawn, and `disagree` is about the other two.

    Raises ValueError if shapes differ, there are other axes than items and epochs, or no pair is
    complete. Source: as `tango_interval`, `deff_tango_interval` and `clustered_mean`.
    """
    first, last = _by_epoch(first_IE, last_IE)
    d_IE = last - first
    there_IE = ~np.isnan(d_IE)
    if not there_IE.any():
        raise ValueError("headline_interval needs a complete pair of scores, and has none")
    mean = clustered_mean(item_means(d_IE), cluster_I, level=level)
    counts = _pooled_counts(first, last)
    binary = bool(np.isin([first[there_IE], last[there_IE]], (0.0, 1.0)).all())
    raw = counts.deff(mean) if binary else mean.deff
    # Where it is not known (one cluster, or nothing flips) clusters count as single answers.
    deff = max(1.0, raw) if raw == raw else counts.n / mean.clusters
    clustered = mean.clusters < int(there_IE.sum())
    method = _method(mean, counts, binary=binary, clustered=clustered)
    interval = _t_interval(mean, level)
    if method in ("tango", "deff-tango"):
        shrink, flips = deff if clustered else 1.0, (counts.fixed, counts.broken, counts.n)
        interval = deff_tango_interval(*flips, deff=shrink, level=level)
    drawn, beside = _NOT_DRAWN, []
    if replicates:
        one = stratum(item_means(d_IE)[:, None], cluster_I=cluster_I)
        replicate = bootstrap_means([one], seed=seed, replicates=replicates)[:, 0, 0]
        drawn = percentile_interval(replicate, level=level)
        beside.append(drawn.interval)
    newcombe = counts.newcombe10(deff, level) if binary else None
    if newcombe is not None:
        beside.append(newcombe)
    return Headline(
        delta=mean.estimate,
        interval=interval,
        method=method,
        mean=mean,
        deff=deff,
        deff_raw=raw,
        newcombe10=newcombe,
        bootstrap=drawn.interval,
        bootstrap_mc_se=max(drawn.mc_se_low, drawn.mc_se_high),
        disagree=_disagree(interval, beside),
    )


def _by_epoch(first: ArrayLike, last: ArrayLike) -> tuple[FloatArray, FloatArray]:
    one, two = np.asarray(first, np.float64), np.asarray(last, np.float64)
    if one.shape != two.shape or one.ndim not in (1, 2):
        shapes = f"first {one.shape} and last {two.shape} scores"
        raise ValueError(f"{shapes} must match, by item or by item and epoch")
    return (one, two) if one.ndim == 2 else (one[:, None], two[:, None])


def _t_interval(mean: ClusteredMean, level: float) -> Interval:
    """Scores that all change alike, or not at all, leave an error that is not known, not none."""
    if mean.se_cr1 != 0:
        return mean.interval
    floor = math.sqrt(bonett_price_floor(mean.clusters))
    return t_interval(mean.estimate, floor, mean.clusters - 1, level=level)


@dataclass(frozen=True, slots=True)
class _Counts:
    """The table over single answers, every item weighing the same however many epochs it has."""

    stayed_right: float
    fixed: float
    broken: float
    n: float
    flips: int  # as counted, for the rule of ten

    def deff(self, mean: ClusteredMean) -> float:
        """Variance of delta over what as many independent answers would give; NaN if unknown."""
        iid = (self.fixed + self.broken) / self.n - mean.estimate**2
        if self.n > 1 and iid > 0 and mean.clusters > 1:
            return mean.se_cr1**2 * (self.n - 1) / iid
        return math.nan

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


def _method(mean: ClusteredMean, counts: _Counts, *, binary: bool, clustered: bool) -> Method:
    if not clustered:
        return "tango" if binary else "t"
    if not binary or (mean.clusters >= 20 and counts.flips >= 10):
        return "cr1"
    return "deff-tango"


def _disagree(first: Interval, others: list[Interval]) -> bool:
    """Whether any two of the three differ at a limit by over a quarter of the first's width."""
    lows = [first.low, *(o.low for o in others)]
    highs = [first.high, *(o.high for o in others)]
    spread = max(max(lows) - min(lows), max(highs) - min(highs))
    return bool(spread > 0.25 * first.width)
