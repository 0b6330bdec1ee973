"""The joint bootstrap: the same resampled items for every model, protocol and control.

Clusters of items are drawn within each dataset. Which quantities are averaged is the caller's
matter; a replicate is a row of means, and any function of means can be taken row by row.
"""

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri

from deltascale.stats.clustered import cluster_index
from deltascale.stats.draws import keyed_generator
from deltascale.stats.paired import UNKNOWN, Interval, checked_level

__all__ = [
    "BootstrapInterval",
    "Stratum",
    "bca_interval",
    "bootstrap_means",
    "jackknife_means",
    "percentile_interval",
    "stratum",
    "stratum_means",
]

FloatArray: TypeAlias = NDArray[np.float64]

BLOCK = 250  # replicates that share one random stream; changing it changes every result
_ITEMS = 0xB007


@dataclass(frozen=True, slots=True)
class Stratum:
    """One dataset's clusters, those with equal contents counted together (P distinct patterns)."""

    total: FloatArray  # (P, Q) sum of a cluster's values, per quantity
    weight: FloatArray  # (P, Q) how many values that sum holds; missing ones are not counted
    frequency: NDArray[np.int64]  # (P,) clusters with this pattern, most frequent first
    key: int  # names the dataset's random streams

    @property
    def clusters(self) -> int:
        return int(self.frequency.sum())


@dataclass(frozen=True, slots=True)
class BootstrapInterval:
    """Limits read off replicates, with the Monte Carlo error of each limit."""

    interval: Interval
    mc_se_low: float
    mc_se_high: float
    replicates: int


def stratum(value_IQ: ArrayLike, *, cluster_I: ArrayLike | None = None, key: int = 0) -> Stratum:
    """Reduce one dataset to what the bootstrap needs.

    `value_IQ` has a row an item and a column a quantity (the deltas of 7 models, say), NaN where
    missing. Clusters with equal sums are exchangeable, so drawing how often each *pattern* occurs,
    multinomially, is the cluster bootstrap exactly, at a cost that depends on patterns only.

    Raises ValueError for other than two axes, or labels that do not match.
    """
    values = np.asarray(value_IQ, dtype=np.float64)
    if values.ndim != 2:
        raise ValueError(f"value_IQ must have two axes, items and quantities, not {values.ndim}")
    there = ~np.isnan(values)
    cluster = cluster_index(cluster_I, values.shape[0])
    clusters = int(cluster.max()) + 1
    # A cluster's total and weight side by side, summed over its items.
    row_IR = np.concatenate([np.where(there, values, 0.0), there.astype(np.float64)], axis=1)
    row_GR = np.zeros((clusters, row_IR.shape[1]))
    np.add.at(row_GR, cluster, row_IR)
    row_PR, frequency = np.unique(row_GR, axis=0, return_counts=True)
    order = np.argsort(-frequency, kind="stable")
    q = values.shape[1]
    return Stratum(row_PR[order, :q], row_PR[order, q:], frequency[order].astype(np.int64), key)


def stratum_means(strata: Sequence[Stratum]) -> FloatArray:
    """The means themselves, shape (D, Q); NaN where a dataset has no value of a quantity."""
    return np.stack(
        [_ratio(one.frequency @ one.total, one.frequency @ one.weight) for one in strata]
    )


def bootstrap_means(
    strata: Sequence[Stratum], *, seed: int, replicates: int = 10_000, threads: int = 1
) -> FloatArray:
    """Means in each bootstrap replicate, shape (B, D, Q); NaN where a replicate drew no value.

    Every replicate resamples each dataset's clusters with replacement, for all quantities at once.
    The streams are keyed by seed, dataset and block of replicates: results are bit for bit the same
    for any number of threads, and the first B replicates do not change when B grows.

    Raises ValueError without strata or replicates, or when two strata share a key.
    Source: Efron & Tibshirani 1993, ch. 8; Davison & Hinkley 1997, section 3.8 (clusters).
    """
    if not strata or replicates < 1 or threads < 1:
        raise ValueError("bootstrap_means needs strata, replicates and threads")
    if len({one.key for one in strata}) < len(strata):
        raise ValueError("two datasets with the same key would be resampled alike")
    mean_BDQ = np.empty((replicates, len(strata), strata[0].total.shape[1]))

    def fill(task: tuple[int, int]) -> None:
        d, block = task
        start = block * BLOCK
        means = _block_means(strata[d], seed, block)
        mean_BDQ[start : start + BLOCK, d] = means[: replicates - start]

    tasks = [(d, b) for d in range(len(strata)) for b in range(math.ceil(replicates / BLOCK))]
    if threads == 1:
        for task in tasks:
            fill(task)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(fill, tasks))
    return mean_BDQ


def jackknife_means(one: Stratum) -> tuple[FloatArray, NDArray[np.int64]]:
    """Means with one cluster left out: a row for each pattern, and how many clusters have it."""
    total, weight = one.frequency @ one.total, one.frequency @ one.weight
    return _ratio(total - one.total, weight - one.weight), one.frequency


def percentile_interval(replicate_B: ArrayLike, *, level: float = 0.95) -> BootstrapInterval:
    """The central `level` of the replicates; NaN replicates are left out.

    The Monte Carlo error of a limit is half the gap between the order statistics one binomial
    standard deviation either side of it. NaN limits without replicates.
    Raises ValueError for a level outside (0, 1).
    Source: Efron & Tibshirani 1993, ch. 13; David & Nagaraja 2003, section 7.1.
    """
    tail = (1 - checked_level(level)) / 2
    return _quantile_interval(replicate_B, tail, 1 - tail)


def bca_interval(
    replicate_B: ArrayLike,
    estimate: float,
    jackknife_P: ArrayLike,
    frequency_P: ArrayLike | None = None,
    *,
    level: float = 0.95,
) -> BootstrapInterval:
    """Bias-corrected and accelerated limits, from the estimate with each cluster left out.

    `frequency_P` says how many clusters each jackknife value stands for. Ties with the estimate
    count half. Where all or none of the replicates lie below the estimate: percentile limits.
    Raises ValueError for a level outside (0, 1). Source: Efron 1987, JASA 82:171.
    """
    replicates = _finite(replicate_B)
    jack = np.asarray(jackknife_P, dtype=np.float64)
    times = np.ones(jack.size) if frequency_P is None else np.asarray(frequency_P, np.float64)
    if replicates.size == 0:
        return BootstrapInterval(UNKNOWN, math.nan, math.nan, 0)
    below = np.mean(replicates < estimate) + np.mean(replicates == estimate) / 2
    if not 0 < below < 1:
        return percentile_interval(replicates, level=level)
    gap = np.average(jack, weights=times) - jack
    spread = float(times @ gap**2)
    acceleration = float(times @ gap**3) / (6 * spread**1.5) if spread > 0 else 0.0
    bias = float(ndtri(below))

    def shifted(tail: float) -> float:
        z = bias + float(ndtri(tail))
        return float(ndtr(bias + z / (1 - acceleration * z)))

    tail = (1 - checked_level(level)) / 2
    return _quantile_interval(replicates, shifted(tail), shifted(1 - tail))


# --- the pieces ----------------------------------------------------------------------------------


def _block_means(one: Stratum, seed: int, block: int) -> FloatArray:
    """Always a whole block, so that a replicate never depends on how many are wanted."""
    rng = keyed_generator(seed, purpose=_ITEMS + (one.key << 16), block=block)
    patterns, clusters = one.frequency.size, one.clusters
    if patterns * _PATTERN_COST < clusters:
        count_BP = rng.multinomial(clusters, one.frequency / clusters, size=BLOCK)
        count = count_BP.astype(np.float64)
    else:
        count = _counts_one_by_one(rng, one.frequency)
    if np.all(one.weight == one.weight[0, 0]):  # nothing missing: every replicate weighs the same
        return np.asarray(_product(count, one.total) / (clusters * one.weight[0, 0]))
    return _ratio(_product(count, one.total), _product(count, one.weight))


def _product(count_BP: FloatArray, value_PQ: FloatArray) -> FloatArray:
    """A matrix product in pieces that BLAS does on one thread.

    So no bit depends on how many threads BLAS has, and none of them spin while others wait.
    """
    rows = max(1, _ONE_THREAD // value_PQ.size)
    pieces = [count_BP[at : at + rows] @ value_PQ for at in range(0, len(count_BP), rows)]
    return np.concatenate(pieces)


def _counts_one_by_one(rng: np.random.Generator, frequency: NDArray[np.int64]) -> FloatArray:
    """How often each pattern comes, (B, P), cluster by cluster.

    Cheaper than a binomial for each pattern when there are many. A few replicates at a time, so
    that the draws stay in the cache.
    """
    patterns, clusters = frequency.size, int(frequency.sum())
    pattern_of_cluster = np.repeat(np.arange(patterns), frequency)
    kind = np.uint16 if clusters <= 2**16 else np.uint32 if clusters <= 2**32 else np.uint64
    count = np.empty((BLOCK, patterns))
    rows = BLOCK // 10
    offset = np.arange(rows)[:, None] * patterns
    for start in range(0, BLOCK, rows):
        drawn = pattern_of_cluster[rng.integers(0, clusters, size=(rows, clusters), dtype=kind)]
        drawn += offset
        counted = np.bincount(drawn.ravel(), minlength=rows * patterns)
        count[start : start + rows] = counted.reshape(rows, patterns)
    return count


_ONE_THREAD = 2**17  # multiplications; OpenBLAS takes a second thread from 2^18 up
_PATTERN_COST = 7  # one binomial draw takes as long as drawing so many clusters


def _ratio(total: FloatArray, weight: FloatArray) -> FloatArray:
    mean: FloatArray = np.divide(total, weight, out=np.full(total.shape, np.nan), where=weight > 0)
    return mean


def _finite(replicate_B: ArrayLike) -> FloatArray:
    replicates = np.asarray(replicate_B, dtype=np.float64).ravel()
    return replicates[~np.isnan(replicates)]


def _quantile_interval(replicate_B: ArrayLike, low: float, high: float) -> BootstrapInterval:
    ordered = np.sort(_finite(replicate_B))
    if ordered.size == 0:
        return BootstrapInterval(UNKNOWN, math.nan, math.nan, 0)
    limits = np.quantile(ordered, [low, high])

    def mc_se(tail: float) -> float:
        step = math.sqrt(ordered.size * tail * (1 - tail))
        ranks = np.clip([ordered.size * tail - step, ordered.size * tail + step], 0, None)
        around = ordered[np.minimum(ranks.astype(int), ordered.size - 1)]
        return float(around[1] - around[0]) / 2

    interval = Interval(float(limits[0]), float(limits[1]))
    return BootstrapInterval(interval, mc_se(low), mc_se(high), ordered.size)
