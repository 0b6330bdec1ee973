"""Means of dependent observations: cluster-robust errors, epochs, sign flips, covariances.

A cluster is any set of items that stand or fall together: a passage, a template, or one item's
epochs. Observations are NaN where missing, and dropped.
"""

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit, stdtr, stdtrit

from deltascale.stats.draws import keyed_generator
from deltascale.stats.paired import (
    UNKNOWN,
    Equivalence,
    Interval,
    checked_level,
    wilson_interval,
)

__all__ = [
    "ClusteredMean",
    "ClusteredRatio",
    "EpochComponents",
    "MacroMean",
    "SignFlipTest",
    "bonett_price_floor",
    "cluster_index",
    "clustered_mean",
    "clustered_ratio",
    "delta_covariance",
    "epoch_components",
    "item_means",
    "macro_average",
    "macro_mean",
    "mean_covariance",
    "mean_equivalence",
    "sign_flip_test",
    "t_interval",
    "t_p_value",
]

FloatArray: TypeAlias = NDArray[np.float64]
RIDGE = 1e-9


@dataclass(frozen=True, slots=True)
class ClusteredMean:
    """A mean with the standard errors that clusters call for. NaN where G or n is too small."""

    estimate: float
    n: int
    clusters: int
    se_iid: float  # as if every observation were independent
    se_cr0: float
    se_cr1: float  # the one to use: CR0 sqrt(G / (G - 1))
    se_miller: float  # Miller's formula, to compare with other tools
    deff: float  # (CR1 / iid)^2, NaN when nothing varies
    interval: Interval  # estimate +- t_{G-1} CR1
    p_value: float  # two-sided t test of a zero mean

    @property
    def deff_used(self) -> float:
        """The design effect where it divides counts: never below 1, 1 when unknown."""
        return max(1.0, self.deff) if math.isfinite(self.deff) else 1.0


@dataclass(frozen=True, slots=True)
class ClusteredRatio:
    """A share a / b, both summed over clusters."""

    ratio: float  # NaN if the denominator is empty
    se: float  # linearised; 0 at a ratio of 0 or 1
    interval: Interval
    clusters: int  # those that add to the denominator


@dataclass(frozen=True, slots=True)
class EpochComponents:
    """How much of delta's variance over items epochs could average away."""

    delta: float
    se: float  # from item means, so both components are in it
    item_variance: float  # omega^2, never below zero
    item_variance_raw: float  # its moment estimate, which may be negative
    epoch_variance: float  # sigma_d^2, mean variance of d within an item; NaN with one epoch
    epochs: float  # harmonic mean number of epochs an item has


@dataclass(frozen=True, slots=True)
class SignFlipTest:
    """A permutation test of a zero mean that flips whole clusters."""

    p_value: float
    exact: bool  # every sign pattern was counted, none drawn
    clusters: int
    draws: int  # sign patterns counted or drawn


@dataclass(frozen=True, slots=True)
class MacroMean:
    """A mean over datasets that weigh alike."""

    estimate: float
    se: float
    df: float  # Satterthwaite's; between the least G - 1 and their sum
    interval: Interval  # estimate +- t_df SE


def item_means(value_IE: ArrayLike) -> FloatArray:
    """Mean over an item's epochs that are there; NaN for an item that has none."""
    values = np.asarray(value_IE, dtype=np.float64)
    if values.ndim == 1:
        return values.copy()
    there = ~np.isnan(values)
    count = there.sum(axis=-1)
    total = np.where(there, values, 0.0).sum(axis=-1)
    mean: FloatArray = np.divide(total, count, out=np.full(count.shape, np.nan), where=count > 0)
    return mean


def clustered_mean(
    value_I: ArrayLike, cluster_I: ArrayLike | None = None, *, level: float = 0.95
) -> ClusteredMean:
    """Mean of paired differences (or of anything), with iid, CR0, CR1 and Miller's errors.

    `cluster_I` holds any labels; without it every observation is its own cluster, and CR1 is the
    usual standard error. Raises ValueError if the lengths differ or nothing is observed.
    Source: Liang & Zeger 1986, Biometrika 73:13; Miller 2024, arXiv:2411.00640.
    """
    values, cluster = _observed(value_I, cluster_I)
    n, clusters = values.size, int(cluster.max()) + 1
    estimate = float(values.mean())
    residual = values - estimate
    sum_G = np.bincount(cluster, weights=residual)
    squares, cluster_squares = float(residual @ residual), float(sum_G @ sum_G)
    variance_iid = squares / (n * (n - 1)) if n > 1 else math.nan
    cr0 = math.sqrt(cluster_squares) / n
    cr1 = cr0 * math.sqrt(clusters / (clusters - 1)) if clusters > 1 else math.nan
    miller_square = variance_iid + (cluster_squares - squares) / n**2
    return ClusteredMean(
        estimate=estimate,
        n=n,
        clusters=clusters,
        se_iid=math.sqrt(variance_iid),
        se_cr0=cr0,
        se_cr1=cr1,
        se_miller=math.sqrt(miller_square) if miller_square >= 0 else math.nan,
        deff=cr1 * cr1 / variance_iid if variance_iid > 0 else math.nan,
        interval=t_interval(estimate, cr1, clusters - 1, level=level),
        p_value=t_p_value(estimate, cr1, clusters - 1),
    )


def t_interval(estimate: float, se: float, df: float, *, level: float = 0.95) -> Interval:
    """estimate +- t_df SE; NaN limits when the SE or the degrees of freedom are missing.

    Raises ValueError for a level outside (0, 1).
    """
    checked_level(level)
    if not (df > 0 and se >= 0):
        return UNKNOWN
    half = float(stdtrit(df, (1 + level) / 2)) * se
    return Interval(estimate - half, estimate + half)


def t_p_value(estimate: float, se: float, df: float) -> float:
    """Two-sided p-value of a zero estimate; NaN when the SE or the degrees of freedom are missing.

    1 when estimate and SE are both zero, 0 when only the SE is: equal values, however few, are no
    error at all to a t test, so prefer `sign_flip_test` where they may be equal.
    """
    if not (df > 0 and se >= 0):
        return math.nan
    if se == 0:
        return 1.0 if estimate == 0 else 0.0
    return float(2 * stdtr(df, -abs(estimate / se)))


def mean_equivalence(
    estimate: float, se: float, df: float, *, margin: float = 0.01, alpha: float = 0.05
) -> Equivalence:
    """Two one-sided t tests: is a mean inside +-margin? As `equivalence`, for graded scores.

    NaN limits and p where SE or degrees of freedom are missing; then nothing is equivalent.
    Raises ValueError for a margin outside (0, 1). Source: Schuirmann 1987, J. Pharmacokinetics and
    Biopharmaceutics 15:657.
    """
    if not 0 < margin < 1:
        raise ValueError(f"margin must be in (0, 1), not {margin}")
    interval = t_interval(estimate, se, df, level=1 - 2 * alpha)
    p = float(stdtr(df, (abs(estimate) - margin) / se)) if df > 0 and se > 0 else math.nan
    inside = interval.low > -margin and interval.high < margin
    return Equivalence(margin, interval, p, inside)


def clustered_ratio(
    numerator_I: ArrayLike,
    denominator_I: ArrayLike,
    cluster_I: ArrayLike | None = None,
    *,
    level: float = 0.95,
) -> ClusteredRatio:
    """A share sum(a) / sum(b) in [0, 1], with 0 <= a <= b: pooled, never a mean of ratios.

    Linearised over the clusters that add to the denominator, on the logit scale with t_{G-1}. At a
    share of 0 or 1 the logit has no error: then Wilson's interval of G trials. Rows with a NaN are
    left out. NaN if nothing is in the denominator.

    Raises ValueError for shapes that do not match or a > b.
    Source: Woodruff 1971, JASA 66:411; Korn & Graubard 1999, section 2.4 (logit).
    """
    a, b = np.asarray(numerator_I, np.float64), np.asarray(denominator_I, np.float64)
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(f"numerator {a.shape} and denominator {b.shape} must be alike, one axis")
    used = ~(np.isnan(a) | np.isnan(b)) & (b != 0)
    if np.any((a[used] < 0) | (a[used] > b[used] * (1 + 1e-12))):
        raise ValueError("a share needs 0 <= numerator <= denominator")
    if not used.any():
        return ClusteredRatio(math.nan, math.nan, UNKNOWN, 0)
    labels = None if cluster_I is None else np.asarray(cluster_I)[used]
    cluster = cluster_index(labels, int(used.sum()))
    a_G, b_G = np.bincount(cluster, weights=a[used]), np.bincount(cluster, weights=b[used])
    clusters, total = a_G.size, float(b_G.sum())
    ratio = float(a_G.sum()) / total
    residual = a_G - ratio * b_G
    if min(ratio, 1 - ratio) < 1e-12:
        interval = wilson_interval(round(ratio) * clusters, clusters, level=level)
        return ClusteredRatio(float(round(ratio)), 0.0, interval, clusters)
    if clusters < 2:
        return ClusteredRatio(ratio, math.nan, UNKNOWN, clusters)
    se = math.sqrt(clusters / (clusters - 1) * float(residual @ residual)) / total
    on_logit = t_interval(
        float(logit(ratio)), se / (ratio * (1 - ratio)), clusters - 1, level=level
    )
    limits = Interval(float(expit(on_logit.low)), float(expit(on_logit.high)))
    return ClusteredRatio(ratio, se, limits, clusters)


def epoch_components(d_IE: ArrayLike) -> EpochComponents:
    """Split Var_i(d_i) = omega^2 + sigma_d^2 / K from K epochs of each item.

    `d_IE` is last less first score per item and epoch. Both arms' noise is measured on the
    difference itself, because the second answer is made from the first and so depends on it.
    Items with one epoch count in delta but not in sigma_d^2.

    Raises ValueError unless there are two items. Source: Miller 2024, arXiv:2411.00640, section 3;
    ours in not adding the arms' variances.
    """
    values = np.asarray(d_IE, dtype=np.float64)
    if values.ndim != 2:
        raise ValueError(f"d_IE must have two axes, items and epochs, not {values.ndim}")
    count_I = (~np.isnan(values)).sum(axis=1)
    values, count_I = values[count_I > 0], count_I[count_I > 0]
    if count_I.size < 2:
        raise ValueError("epoch_components needs at least two items")
    mean_I = item_means(values)
    variance = float(mean_I.var(ddof=1))
    repeated = count_I > 1
    within = math.nan
    if repeated.any():
        square_I = np.nansum((values[repeated] - mean_I[repeated, None]) ** 2, axis=1)
        within = float(np.mean(square_I / (count_I[repeated] - 1)))
    epochs = float(count_I.size / np.sum(1 / count_I))
    raw = variance - within / epochs
    return EpochComponents(
        delta=float(mean_I.mean()),
        se=math.sqrt(variance / mean_I.size),
        item_variance=max(0.0, raw) if raw == raw else math.nan,
        item_variance_raw=raw,
        epoch_variance=within,
        epochs=epochs,
    )


def sign_flip_test(
    value_I: ArrayLike,
    cluster_I: ArrayLike | None = None,
    *,
    draws: int = 10_000,
    seed: int = 0,
    exact_up_to: int = 15,
) -> SignFlipTest:
    """Test a zero mean by flipping the sign of whole clusters; holds with clusters and epochs.

    With at most `exact_up_to` clusters whose sum is not zero (the others change nothing) every
    pattern is counted, and for single flips the p-value is McNemar's exact one. Otherwise
    p = (1 + patterns at least as extreme) / (draws + 1). Clusters with sums of one size are
    exchangeable: where sizes are few, how many of each are flipped is drawn instead, binomially.

    Raises ValueError if the lengths differ, nothing is observed or there are no draws.
    Source: Fisher 1935, The Design of Experiments, section 21; Winkler et al. 2014, NeuroImage
    92:381 (whole blocks).
    """
    values, cluster = _observed(value_I, cluster_I)
    if draws < 1:
        raise ValueError(f"sign_flip_test needs draws, not {draws}")
    sum_G = np.bincount(cluster, weights=values)
    clusters = sum_G.size
    sum_G = sum_G[sum_G != 0]
    observed = abs(float(sum_G.sum()))
    # Patterns that tie with the observed one must count, whatever the order of summation.
    threshold = observed - 1e-9 * float(np.abs(sum_G).sum())
    if sum_G.size <= exact_up_to:
        total = np.zeros(1)
        for cluster_sum in sum_G:
            total = np.concatenate([total - cluster_sum, total + cluster_sum])
        extreme = int(np.count_nonzero(np.abs(total) >= threshold))
        return SignFlipTest(extreme / total.size, True, clusters, total.size)
    total_B = _flipped_totals(np.abs(sum_G), draws, seed)
    extreme = int(np.count_nonzero(np.abs(total_B) >= threshold))
    return SignFlipTest((1 + extreme) / (draws + 1), False, clusters, draws)


# --- several means of the same items -------------------------------------------------------------


def mean_covariance(value_MI: ArrayLike, cluster_I: ArrayLike | None = None) -> FloatArray:
    """CR1 covariance of M means over shared items, shape (M, M), from cluster cross-products.

    An item missing for one mean counts in the others; each mean divides by its own n. The matrix is
    positive semi-definite. Rows and columns of a mean with nothing observed are NaN.

    Raises ValueError if shapes differ. Source: Liang & Zeger 1986, Biometrika 73:13.
    """
    values = np.atleast_2d(np.asarray(value_MI, dtype=np.float64))
    if values.ndim > 2:
        raise ValueError(f"value_MI must have two axes, means and items, not {values.ndim}")
    cluster = cluster_index(cluster_I, values.shape[1])
    there = ~np.isnan(values)
    n_M = there.sum(axis=1)
    total_M = np.where(there, values, 0.0).sum(axis=1)
    mean_M = np.divide(total_M, n_M, out=np.full(n_M.shape, np.nan), where=n_M > 0)
    score_MI = np.where(there, values - mean_M[:, None], 0.0)
    clusters = int(cluster.max()) + 1
    sum_MG = np.stack([np.bincount(cluster, weights=row, minlength=clusters) for row in score_MI])
    groups_M = np.stack([np.bincount(cluster, weights=row, minlength=clusters) for row in there])
    g_M = np.count_nonzero(groups_M, axis=1)
    usable = g_M > 1
    scale_M = np.full(n_M.shape, np.nan)
    scale_M[usable] = np.sqrt(g_M[usable] / (g_M[usable] - 1)) / n_M[usable]
    scaled = sum_MG * scale_M[:, None]
    return np.asarray(scaled @ scaled.T)


def bonett_price_floor(n: float) -> float:
    """Variance 2 / (n + 2)^2 given to a delta without flips, so that it never has infinite weight.

    Source: Bonett & Price 2012, J. Educational and Behavioral Statistics 37:479 (adjusted Wald).
    """
    return 2 / (n + 2) ** 2


def delta_covariance(d_MI: ArrayLike, cluster_I: ArrayLike | None = None) -> FloatArray:
    """`mean_covariance` of deltas, safe to invert: floored where nothing flips, ridged by 1e-9.

    The floor counts clusters: epochs of one item are no more evidence of no flips than one answer.
    """
    d = np.atleast_2d(np.asarray(d_MI, dtype=np.float64))
    cov_MM = mean_covariance(d, cluster_I)
    cluster = cluster_index(cluster_I, d.shape[1])
    g_M = [np.unique(cluster[~np.isnan(row)]).size for row in d]
    still = np.diag(cov_MM) == 0
    floor_M = np.where(still, [bonett_price_floor(g) for g in g_M], 0.0)
    return np.asarray(cov_MM + np.diag(floor_M + RIDGE))


def macro_average(
    delta_DM: ArrayLike, cov_DMM: ArrayLike, *, weight_D: ArrayLike | None = None
) -> tuple[FloatArray, FloatArray]:
    """Mean over datasets and its covariance: delta_M (M,) and cov_MM (M, M).

    Datasets are independent strata, so the variance is sum_d w_d^2 V_d. Equal weights by default;
    given ones are scaled to sum to 1. A NaN in any dataset makes that model NaN.

    Raises ValueError for shapes other than (D, M) and (D, M, M), or weights that are none.
    """
    delta_dm = np.asarray(delta_DM, dtype=np.float64)
    cov_dmm = np.asarray(cov_DMM, dtype=np.float64)
    if delta_dm.ndim != 2 or cov_dmm.shape != (*delta_dm.shape, delta_dm.shape[1]):
        shapes = f"{delta_dm.shape} and {cov_dmm.shape}"
        raise ValueError(f"macro_average needs shapes (D, M) and (D, M, M), not {shapes}")
    weight = np.ones(delta_dm.shape[0]) if weight_D is None else np.asarray(weight_D, np.float64)
    if weight.shape != delta_dm.shape[:1] or np.any(weight < 0) or weight.sum() == 0:
        raise ValueError("weight_D needs one weight a dataset, not negative, not all zero")
    weight = weight / weight.sum()
    return weight @ delta_dm, np.einsum("d,dmn->mn", weight**2, cov_dmm)


def macro_mean(
    delta_D: ArrayLike, variance_D: ArrayLike, clusters_D: ArrayLike, *, level: float = 0.95
) -> MacroMean:
    """One model's mean over D datasets, with equal weights, from each one's CR1 variance.

    `clusters_D` are the G that each variance is estimated from, on G - 1 degrees of freedom; those
    of the sum are Satterthwaite's, so that a small dataset with a large variance keeps its few.
    NaN limits where a variance is NaN or a dataset has a single cluster.

    Raises ValueError for shapes other than (D,) three times, D > 0.
    Source: Satterthwaite 1946, Biometrics Bulletin 2:110; Welch 1947, Biometrika 34:28.
    """
    delta, variance, clusters = (
        np.asarray(one, dtype=np.float64) for one in (delta_D, variance_D, clusters_D)
    )
    if delta.ndim != 1 or not delta.size or {variance.shape, clusters.shape} != {delta.shape}:
        shapes = delta.shape, variance.shape, clusters.shape
        raise ValueError(f"macro_mean needs one value a dataset three times, not {shapes}")
    mean_M, cov_MM = macro_average(delta[:, None], variance[:, None, None])
    estimate, total = float(mean_M[0]), float(cov_MM[0, 0])
    se = math.sqrt(total) if total >= 0 else math.nan
    if total == 0:
        df = float((clusters - 1).sum())
    else:
        share = variance / (total * delta.size**2)
        df = 1 / float(np.sum(share**2 / (clusters - 1))) if np.all(clusters > 1) else math.nan
    return MacroMean(estimate, se, df, t_interval(estimate, se, df, level=level))


# --- the pieces ----------------------------------------------------------------------------------

_SIGN_FLIPS = 0x5166
_BINOMIAL_COST = 4  # one binomial draw takes as long as so many signs


def _flipped_totals(size_G: FloatArray, draws: int, seed: int) -> FloatArray:
    """(B,) sums over clusters of these sizes, all positive, each with a sign drawn at random."""
    rng = keyed_generator(seed, purpose=_SIGN_FLIPS)
    # Sums that are equal but for the order of summation are one size.
    unit = float(size_G.max()) * 1e-12
    _, at, count_S = np.unique(np.round(size_G / unit), return_index=True, return_counts=True)
    if at.size * _BINOMIAL_COST < size_G.size:
        up_BS = rng.binomial(count_S, 0.5, size=(draws, at.size))
        return np.asarray((2 * up_BS - count_S) @ size_G[at])
    total_B = np.empty(draws)
    for start in range(0, draws, 1_000):
        size = (min(1_000, draws - start), size_G.size)
        up = rng.integers(0, 2, size=size, dtype=np.int8).astype(np.float64)
        total_B[start : start + 1_000] = (2 * up - 1) @ size_G
    return total_B


def cluster_index(cluster_I: ArrayLike | None, n: int) -> NDArray[np.intp]:
    """Labels of any kind as 0 .. G-1; every item its own cluster when there are none."""
    if n == 0:
        raise ValueError("nothing is observed")
    if cluster_I is None:
        return np.arange(n)
    labels = np.asarray(cluster_I)
    if labels.shape != (n,):
        raise ValueError(f"{labels.shape} cluster labels for {n} items")
    return np.unique(labels, return_inverse=True)[1].reshape(n)


def _observed(
    value_I: ArrayLike, cluster_I: ArrayLike | None
) -> tuple[FloatArray, NDArray[np.intp]]:
    """The values that are not NaN, and their clusters renumbered."""
    values = np.asarray(value_I, dtype=np.float64)
    if values.ndim != 1:
        raise ValueError(f"values must have one axis, not {values.ndim}; see item_means")
    there = ~np.isnan(values)
    labels = None if cluster_I is None else np.asarray(cluster_I)
    if labels is not None and labels.shape != values.shape:
        raise ValueError(f"{labels.shape} cluster labels for {values.shape} values")
    kept = values[there]
    return kept, cluster_index(None if labels is None else labels[there], kept.size)
