"""The mechanism behind delta(N): who is right at first, who is fixed, who is broken.

logit acc_first, logit P(fix | wrong) and logit P(break | right) are each a straight line in ln N,
and delta = (1 - acc) fix - acc break. It stays within [-1, 1], may change sign, and can rise and
fall.
"""

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from deltascale.stats.family_bootstrap import model_draws

__all__ = ["LogitLine", "TwoRate", "TwoRateReplicates", "bootstrap_two_rate", "fit_two_rate"]

FloatArray: TypeAlias = NDArray[np.float64]
# Keeps estimates finite when a rate is 0 or 1 in every model; elsewhere it moves no printed digit.
_RIDGE = 1e-6


@dataclass(frozen=True, slots=True)
class LogitLine:
    """A quasi-binomial regression of one rate on x = ln(N / N_ref)."""

    intercept: float
    slope: float
    covariance: FloatArray  # (2, 2), multiplied by the dispersion
    dispersion: float  # Pearson chi-square / df, at least 1; NaN without degrees of freedom
    df: int
    separated: bool  # the rate is 0 or 1 throughout: the line has no finite estimate


@dataclass(frozen=True, slots=True)
class TwoRate:
    """The three lines, and the delta they make."""

    right_first: LogitLine
    fix_wrong: LogitLine
    break_right: LogitLine
    reference: float

    def rates(self, size: ArrayLike) -> tuple[FloatArray, FloatArray, FloatArray]:
        """(acc_first, fix, break) at sizes N, each in [0, 1]."""
        x = np.log(np.asarray(size, dtype=np.float64) / self.reference)
        lines = (self.right_first, self.fix_wrong, self.break_right)
        first, fix, harm = (np.asarray(expit(li.intercept + li.slope * x)) for li in lines)
        return first, fix, harm

    def errors_first(self, size: ArrayLike) -> FloatArray:
        """The share of first answers that are wrong, at sizes N."""
        return np.asarray(1 - self.rates(size)[0])

    def predict(self, size: ArrayLike) -> FloatArray:
        first, fix, harm = self.rates(size)
        return np.asarray((1 - first) * fix - first * harm)


@dataclass(frozen=True, slots=True)
class TwoRateReplicates:
    """The two-rate model in each bootstrap replicate."""

    theta: FloatArray  # (B, 3, 2): right first, fix, break; intercept, slope
    reference: float

    def predict(self, size_K: ArrayLike) -> FloatArray:
        """(B, K) delta."""
        x = np.log(np.atleast_1d(np.asarray(size_K, dtype=np.float64)) / self.reference)
        first, fix, harm = np.moveaxis(
            expit(self.theta[:, :, :1] + self.theta[:, :, 1:] * x[None, None, :]), 1, 0
        )
        return np.asarray((1 - first) * fix - first * harm)


def fit_two_rate(size_M: ArrayLike, table_M4: ArrayLike) -> TwoRate:
    """Fit the three lines to flip tables by quasi-likelihood, with model-level dispersion.

    `table_M4` has a row a model: stayed right, fixed, broken, stayed wrong (counts, fractions
    allowed). N_ref is the geometric mean of sizes. A model without wrong (right) first answers adds
    nothing to that rate's line.

    Raises ValueError for shapes that do not match, negative counts, or under two distinct sizes.
    Source: McCullagh & Nelder 1989, ch. 4 (quasi-binomial); the composition is ours.
    """
    _, table, x, reference = _checked(size_M, np.asarray(table_M4, np.float64))
    first, fix, harm = (_line(hits, of, x) for hits, of in _rates(table))
    return TwoRate(first, fix, harm, reference)


def bootstrap_two_rate(size_M: ArrayLike, table_BM4: ArrayLike, *, seed: int) -> TwoRateReplicates:
    """Refit to B joint item replicates of the tables, models drawn too (E2).

    Raises ValueError for fewer than six models, or as `fit_two_rate`.
    """
    size, table, x, reference = _checked(size_M, np.asarray(table_BM4, np.float64))
    if size.size < 6:
        raise ValueError(f"drawing models needs six of them, not {size.size}")
    times_BM = model_draws(size, len(table), seed)
    theta = [_logistic(hits * times_BM, of * times_BM, x) for hits, of in _rates(table)]
    return TwoRateReplicates(np.stack(theta, axis=1), reference)


def _rates(table: FloatArray) -> list[tuple[FloatArray, FloatArray]]:
    """Successes and trials of: right first, fix, break."""
    stayed_right, fixed, broken, stayed_wrong = np.moveaxis(table, -1, 0)
    right, wrong = stayed_right + broken, fixed + stayed_wrong
    return [(right, right + wrong), (fixed, wrong), (broken, right)]


def _line(hits_M: FloatArray, of_M: FloatArray, x_M: FloatArray) -> LogitLine:
    theta = _logistic(hits_M[None], of_M[None], x_M)[0]
    design = np.stack([np.ones_like(x_M), x_M], axis=1)
    p = expit(design @ theta)
    weight = of_M * p * (1 - p)
    used = of_M > 0
    df = int(used.sum()) - 2
    pearson = float(np.sum((hits_M - of_M * p)[used] ** 2 / np.maximum(weight[used], 1e-12)))
    dispersion = max(1.0, pearson / df) if df > 0 else math.nan
    information = (design * weight[:, None]).T @ design + _RIDGE * np.eye(2)
    share = hits_M.sum() / of_M.sum() if used.any() else math.nan
    return LogitLine(
        intercept=float(theta[0]),
        slope=float(theta[1]),
        covariance=np.asarray(np.linalg.inv(information) * dispersion),
        dispersion=dispersion,
        df=df,
        separated=not 0 < share < 1,
    )


def _logistic(hits_BM: FloatArray, of_BM: FloatArray, x_M: FloatArray) -> FloatArray:
    """Newton's method for B logistic regressions at once, (B, 2); a step that harms is halved."""
    design = np.stack([np.ones_like(x_M), x_M], axis=1)
    theta = np.zeros((len(hits_BM), 2))

    def objective(at: FloatArray) -> FloatArray:
        eta = at @ design.T
        log_likelihood = (hits_BM * eta - of_BM * np.logaddexp(0, eta)).sum(axis=1)
        return np.asarray(log_likelihood - _RIDGE / 2 * (at**2).sum(axis=1))

    value = objective(theta)
    for _ in range(60):
        p = expit(theta @ design.T)
        gradient = (hits_BM - of_BM * p) @ design - _RIDGE * theta
        weight = of_BM * p * (1 - p)
        information = np.einsum("bm,mp,mq->bpq", weight, design, design) + _RIDGE * np.eye(2)
        step = np.linalg.solve(information, gradient[..., None])[..., 0]
        length = np.ones(len(theta))
        for _ in range(30):
            moved = objective(theta + length[:, None] * step)
            worse = ~(moved >= value - 1e-12 * np.abs(value))
            if not worse.any():
                break
            length[worse] /= 2
        theta, previous, value = theta + length[:, None] * step, value, moved
        if np.all(np.abs(value - previous) <= 1e-13 * (1 + np.abs(value))):
            break
    return theta


def _checked(
    size_M: ArrayLike, table: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray, float]:
    size = np.asarray(size_M, dtype=np.float64)
    if size.ndim != 1 or table.shape[-2:] != (size.size, 4):
        raise ValueError(f"sizes {size.shape} and tables {table.shape} do not match")
    if not (np.all(size > 0) and np.all(table >= 0)):
        raise ValueError("sizes must be positive and counts not negative")
    if np.unique(size).size < 2:
        raise ValueError("a line needs two distinct sizes")
    reference = float(np.exp(np.log(size).mean()))
    return size, table, np.log(size / reference), reference
