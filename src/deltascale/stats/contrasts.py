"""Comparing models on the same items: pairs, a trend over sizes, permutations of the models."""

import itertools
import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deltascale.stats.clustered import (
    ClusteredMean,
    SignFlipTest,
    clustered_mean,
    sign_flip_test,
    t_interval,
    t_p_value,
)
from deltascale.stats.families import as_covariance
from deltascale.stats.paired import Interval

__all__ = [
    "PairedContrast",
    "PermutationTrend",
    "Trend",
    "paired_contrast",
    "permutation_trend",
    "trend_over_models",
    "trend_over_such_models",
]

FloatArray: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class PairedContrast:
    """Delta of b less delta of a, on the items both have."""

    mean: ClusteredMean
    test: SignFlipTest


@dataclass(frozen=True, slots=True)
class Trend:
    """Least-squares slope of delta per e-fold of size."""

    slope: float
    se: float
    interval: Interval
    p_value: float
    df: float  # infinite for the normal distribution


@dataclass(frozen=True, slots=True)
class PermutationTrend:
    """The trend's p-value over every assignment of the sizes to the models."""

    p_value: float
    smallest: float  # the least p-value so few models can give
    orders: int


def paired_contrast(
    d_a_I: ArrayLike,
    d_b_I: ArrayLike,
    *,
    cluster_I: ArrayLike | None = None,
    level: float = 0.95,
    seed: int = 0,
) -> PairedContrast:
    """Mean of d_b - d_a over shared items: CR1 with t_{G-1}, and a sign-flip test.

    Give the items' deltas (means over epochs) in the same order; an item missing in either is left
    out of this pair only. Raises ValueError if shapes differ or no item is shared.
    Source: Miller 2024, arXiv:2411.00640 (paired differences); as `clustered_mean` and
    `sign_flip_test`.
    """
    d_a, d_b = np.asarray(d_a_I, np.float64), np.asarray(d_b_I, np.float64)
    if d_a.shape != d_b.shape:
        raise ValueError(f"deltas {d_a.shape} and {d_b.shape} must be of the same items")
    difference = d_b - d_a
    mean = clustered_mean(difference, cluster_I, level=level)
    return PairedContrast(mean, sign_flip_test(difference, cluster_I, seed=seed))


def trend_over_models(
    size_M: ArrayLike, delta_M: ArrayLike, cov_MM: ArrayLike, *, level: float = 0.95
) -> Trend:
    """E1: the linear contrast sum_m c_m delta_m over these very models, Var = c' V c.

    c_m is ln N_m centred, scaled so that the contrast is the slope per e-fold. Normal quantiles.
    Raises ValueError for fewer than two distinct sizes, or a delta that is not there.
    """
    contrast = _contrast(size_M)
    delta = _deltas(delta_M, contrast)
    slope = float(contrast @ delta)
    se = math.sqrt(float(contrast @ as_covariance(cov_MM, delta.size) @ contrast))
    return _trend(slope, se, math.inf, level)


def trend_over_such_models(size_M: ArrayLike, delta_M: ArrayLike, *, level: float = 0.95) -> Trend:
    """E2: the same slope, its error from how the models scatter about the line, t_{M-2}.

    The scatter holds sampling error and between-model variance together, taken as equal for all.
    Raises ValueError for fewer than three models or two distinct sizes, or a delta that is not
    there.
    """
    contrast = _contrast(size_M)
    delta = _deltas(delta_M, contrast)
    if delta.size < 3:
        raise ValueError(f"a trend over such models needs three of them, not {delta.size}")
    slope = float(contrast @ delta)
    x = contrast / float(contrast @ contrast)
    residual = delta - delta.mean() - slope * x
    df = delta.size - 2
    se = math.sqrt(float(residual @ residual) / df * float(contrast @ contrast))
    return _trend(slope, se, float(df), level)


def permutation_trend(size_M: ArrayLike, delta_M: ArrayLike) -> PermutationTrend:
    """Exact permutation test of no trend: all M! orders, for M <= 8, twice the smaller tail.

    Models are exchangeable under its null, so it speaks of such models (E2). Orders that tie with
    the observed one count. With 7 models and no ties p can be no less than 2 / 5040.

    Raises ValueError for M > 8, fewer than two distinct sizes, or a delta that is not there.
    Source: Pitman 1937, JRSS Supplement 4:225.
    """
    contrast = _contrast(size_M)
    delta = _deltas(delta_M, contrast)
    models = delta.size
    if models > 8:
        raise ValueError(f"{models}! orders are too many to count: 8 models at most")
    orders = np.array(list(itertools.permutations(range(models))))
    slope_O = delta[orders] @ contrast
    slack = 1e-9 * float(np.abs(contrast) @ np.abs(delta - delta.mean()))
    slack += 1e-13 * float(np.abs(contrast) @ np.abs(delta))  # equal deltas differ by rounding

    def tails(slope: float) -> float:
        above = np.count_nonzero(slope_O >= slope - slack)
        below = np.count_nonzero(slope_O <= slope + slack)
        return min(1.0, 2 * int(min(above, below)) / len(orders))

    smallest = min(tails(float(slope_O.min())), tails(float(slope_O.max())))
    return PermutationTrend(tails(float(contrast @ delta)), smallest, len(orders))


def _contrast(size_M: ArrayLike) -> FloatArray:
    size = np.asarray(size_M, dtype=np.float64)
    if size.ndim != 1 or not np.all(size > 0):
        raise ValueError("sizes must be positive, on one axis")
    x = np.log(size) - np.log(size).mean()
    square = float(x @ x)
    if square < 1e-12:
        raise ValueError("a trend needs two distinct sizes")
    return np.asarray(x / square)


def _deltas(delta_M: ArrayLike, contrast: FloatArray) -> FloatArray:
    """One number a model: with a NaN no order would count as extreme, and p would be zero."""
    delta = np.asarray(delta_M, dtype=np.float64)
    if delta.shape != contrast.shape:
        raise ValueError(f"deltas {delta.shape} and sizes {contrast.shape} must be of one length")
    if not np.isfinite(delta).all():
        raise ValueError("a trend needs a delta of every model: leave out those without one")
    return delta


def _trend(slope: float, se: float, df: float, level: float) -> Trend:
    return Trend(slope, se, t_interval(slope, se, df, level=level), t_p_value(slope, se, df), df)
