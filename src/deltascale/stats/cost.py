"""Is the gain worth its price: net benefit, gain per dollar, undominated choices, break-even sizes.

Costs are dollars per item. Ratios of single items are never averaged.
"""

import math
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deltascale.stats.clustered import (
    ClusteredMean,
    bonett_price_floor,
    clustered_mean,
    mean_covariance,
    t_interval,
    t_p_value,
)
from deltascale.stats.paired import Interval
from deltascale.stats.regions import FiellerRatio, Region, fieller

__all__ = [
    "BreakEvenSizes",
    "GainPerDollar",
    "acceptability",
    "affordable_samples",
    "break_even_sizes",
    "cost_curve",
    "gain_per_dollar",
    "net_benefit",
    "pareto_membership",
]

FloatArray: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class GainPerDollar:
    """delta / mean extra cost, with Fieller's region. A ratio of a loss ranks nothing."""

    delta: float
    cost_usd: float
    fieller: FiellerRatio
    dominated: bool  # delta <= 0 at a cost: print that, not the ratio


@dataclass(frozen=True, slots=True)
class BreakEvenSizes:
    """Sizes at which correction may as well pay as not: all N whose net-benefit band holds zero."""

    region: Region  # of N; empty if the band never holds zero on the sizes looked at
    verdict: Literal["always_pays", "never_pays", "depends_on_size"]
    crossing: tuple[float, ...]  # where the point curve itself passes zero, none to several


def net_benefit(
    d_I: ArrayLike,
    cost_usd_I: ArrayLike,
    *,
    usd_per_corrected: float,
    cluster_I: ArrayLike | None = None,
    level: float = 0.95,
) -> ClusteredMean:
    """Mean of lambda d - c per item in dollars, lambda = `usd_per_corrected`; CR1 with t_{G-1}.

    Linear in what was measured, so it needs no ratio and orders losses rightly. Items with a NaN in
    either are left out. Where d does not vary, its variance is 2 / (G + 2)^2: no flips are no
    certainty. Raises ValueError for a negative lambda or shapes that differ.
    Source: Stinnett & Mullahy 1998, Medical Decision Making 18:S68.
    """
    if not usd_per_corrected >= 0:
        raise ValueError(f"usd_per_corrected must not be negative: {usd_per_corrected}")
    gain = np.asarray(d_I, dtype=np.float64)
    net = usd_per_corrected * gain - np.asarray(cost_usd_I, np.float64)
    mean = clustered_mean(net, cluster_I, level=level)
    if mean.clusters < 2 or np.ptp(gain[~np.isnan(net)]) > 0:
        return mean
    se = math.hypot(mean.se_cr1, usd_per_corrected * math.sqrt(bonett_price_floor(mean.clusters)))
    df = mean.clusters - 1
    return replace(
        mean,
        se_cr1=se,
        interval=t_interval(mean.estimate, se, df, level=level),
        p_value=t_p_value(mean.estimate, se, df),
    )


def acceptability(
    delta_B: ArrayLike, cost_usd_B: ArrayLike, *, usd_per_corrected_L: ArrayLike
) -> FloatArray:
    """Share of joint bootstrap replicates in which net benefit is positive, for each lambda, (L,).

    Source: van Hout et al. 1994, Health Economics 3:309.
    """
    delta, cost = np.asarray(delta_B, np.float64), np.asarray(cost_usd_B, np.float64)
    worth = np.asarray(usd_per_corrected_L, dtype=np.float64)
    return np.asarray(np.mean(worth[:, None] * delta[None, :] > cost[None, :], axis=1))


def gain_per_dollar(
    d_I: ArrayLike,
    cost_usd_I: ArrayLike,
    *,
    cluster_I: ArrayLike | None = None,
    level: float = 0.95,
) -> GainPerDollar:
    """Accuracy points won per dollar per item, delta over mean cost, by Fieller with t_{G-1}.

    Where d does not vary, its variance is 2 / (G + 2)^2, as in `net_benefit`. Items with a NaN in
    either are left out. Raises ValueError for fewer than two clusters.
    """
    both = np.stack([np.asarray(d_I, np.float64), np.asarray(cost_usd_I, np.float64)])
    there = ~np.isnan(both).any(axis=0)
    labels = None if cluster_I is None else np.asarray(cluster_I)[there]
    mean = clustered_mean(both[0, there], labels)
    if mean.clusters < 2:
        raise ValueError("gain_per_dollar needs two clusters")
    cov = mean_covariance(both[:, there], labels)
    cost = float(both[1, there].mean())
    ratio = fieller(
        mean.estimate,
        cost,
        var_numerator=float(cov[0, 0]) or bonett_price_floor(mean.clusters),
        var_denominator=float(cov[1, 1]),
        covariance=float(cov[0, 1]),
        df=mean.clusters - 1,
        level=level,
    )
    return GainPerDollar(mean.estimate, cost, ratio, mean.estimate <= 0 < cost)


def pareto_membership(cost_BP: ArrayLike, accuracy_BP: ArrayLike) -> FloatArray:
    """Share of replicates in which each choice is undominated, (P,).

    Dominated: another costs no more and is at least as accurate, and better in one. Give joint
    replicates; one row gives the plain frontier as 0 and 1. A NaN choice is never a member.
    """
    cost, accuracy = np.asarray(cost_BP, np.float64), np.asarray(accuracy_BP, np.float64)
    if cost.shape != accuracy.shape or cost.ndim != 2:
        raise ValueError("cost_BP and accuracy_BP need one shape of two axes")
    known = ~(np.isnan(cost) | np.isnan(accuracy))
    cost, accuracy = np.where(known, cost, np.inf), np.where(known, accuracy, -np.inf)
    undominated = known.copy()
    for p in range(cost.shape[1]):
        as_good = (cost <= cost[:, [p]]) & (accuracy >= accuracy[:, [p]])
        better = (cost < cost[:, [p]]) | (accuracy > accuracy[:, [p]])
        undominated[:, p] &= ~(as_good & better).any(axis=1)
    return np.asarray(undominated.mean(axis=0))


def cost_curve(size_M: ArrayLike, cost_BM: ArrayLike, *, size_K: ArrayLike) -> FloatArray:
    """Mean cost at K sizes, (B, K), from ln cost linear in ln N, fitted in each replicate.

    Raises ValueError for costs that are not positive, or fewer than two distinct sizes.
    """
    x, costs = np.log(np.asarray(size_M, np.float64)), np.asarray(cost_BM, np.float64)
    if np.any(costs <= 0):
        raise ValueError("a cost curve needs positive costs")
    centred = x - x.mean()
    if float(centred @ centred) < 1e-12:
        raise ValueError("a cost curve needs two distinct sizes")
    y = np.log(costs)
    slope_B = y @ centred / float(centred @ centred)
    at = np.log(np.asarray(size_K, np.float64)) - x.mean()
    return np.asarray(np.exp(y.mean(axis=1)[:, None] + slope_B[:, None] * at[None, :]))


def break_even_sizes(
    size_K: ArrayLike, net_K: ArrayLike, net_BK: ArrayLike, *, level: float = 0.95
) -> BreakEvenSizes:
    """Invert the net-benefit band: every N in the range looked at whose band holds zero.

    `size_K` is a rising grid of sizes, `net_K` the point curve delta(N) - cost(N) / lambda on it,
    `net_BK` its replicates (each with its own choice of family). The set may be empty, reach either
    end of the grid (then that limit is 0 or infinite: nothing says it ends there), or fall in two
    pieces, as with an inverted U.

    Raises ValueError unless sizes rise and shapes match.
    """
    size, net = np.asarray(size_K, np.float64), np.asarray(net_K, np.float64)
    replicates = np.asarray(net_BK, dtype=np.float64)
    if np.any(np.diff(size) <= 0) or net.shape != size.shape or replicates.shape[1:] != size.shape:
        raise ValueError("size_K must rise, and net_K and net_BK have its length")
    tail = (1 - level) / 2
    # By far slower, so only where a replicate has no value.
    quantile = np.nanquantile if np.isnan(replicates).any() else np.quantile
    low, high = quantile(replicates, [tail, 1 - tail], axis=0)
    holds = (low <= 0) & (high >= 0)
    pieces = []
    edges = np.flatnonzero(np.diff(np.concatenate([[False], holds, [False]]).astype(int)))
    for first, after in zip(edges[::2], edges[1::2], strict=True):
        left = 0.0 if first == 0 else _edge(size, low, high, first - 1)
        right = math.inf if after == size.size else _edge(size, low, high, after - 1)
        pieces.append(Interval(left, right))
    crossing = [_zero(size, net, int(k)) for k in np.flatnonzero(net[:-1] * net[1:] < 0)]
    verdict: Literal["always_pays", "never_pays", "depends_on_size"] = "depends_on_size"
    if not pieces and bool(np.all(low > 0)):
        verdict = "always_pays"
    elif not pieces and bool(np.all(high < 0)):
        verdict = "never_pays"
    return BreakEvenSizes(Region(tuple(pieces)), verdict, tuple(crossing))


def affordable_samples(protocol_cost_usd: float, single_cost_usd: float) -> int:
    """How many single answers the protocol's mean cost would buy: floor, and at least one.

    Raises ValueError for costs that are not positive.
    """
    if not (protocol_cost_usd > 0 and single_cost_usd > 0):
        raise ValueError("both costs must be positive")
    # A ratio that is whole but for rounding must not lose a sample.
    return max(1, math.floor(protocol_cost_usd / single_cost_usd * (1 + 1e-12)))


def _edge(size: FloatArray, low: FloatArray, high: FloatArray, k: int) -> float:
    """Where the band's nearer limit passes zero between grid points k and k + 1."""
    limit = low if low[k] * low[k + 1] < 0 else high
    return _zero(size, limit, k)


def _zero(size: FloatArray, value: FloatArray, k: int) -> float:
    """Zero of the line through grid points k and k + 1, straight in ln N."""
    span = value[k + 1] - value[k]
    share = float(np.clip(-value[k] / span, 0, 1)) if span else 0.5
    return float(size[k] * (size[k + 1] / size[k]) ** share)
