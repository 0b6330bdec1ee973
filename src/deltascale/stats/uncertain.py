"""Sizes that are not disclosed: an interval each, never a point, and what that leaves of alpha."""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deltascale.stats.draws import keyed_generator
from deltascale.stats.families import FAMILIES, FamilyName, as_covariance, fit_family
from deltascale.stats.paired import Interval
from deltascale.stats.scaling import between_model_variance, leave_one_model_out

__all__ = [
    "AlphaBounds",
    "AxisScore",
    "alpha_bounds",
    "axis_league",
    "exponents_for_sizes",
    "resampled_exponents",
]

FloatArray: TypeAlias = NDArray[np.float64]
_CORNER_LIMIT = 12
_DRAWS = 4_096
_SIZES = 0x512E
_EXPONENT_LIMIT = 3.0


@dataclass(frozen=True, slots=True)
class AlphaBounds:
    """The exponents that sizes within their intervals can give: partial identification."""

    low: float
    high: float
    of_starts: Interval  # over the corners (or draws) alone: alpha may be more extreme inside
    starts: int  # how many corners (or draws)
    corners: bool  # every corner of the intervals, else log-uniform draws within them
    undisclosed: int
    disclosed_only: float  # alpha of the models with known sizes; NaN for fewer than four
    at_limit: bool  # an exponent reached +-3, the end of the range searched


@dataclass(frozen=True, slots=True)
class AxisScore:
    """How well one x-axis foretells the delta of a model left out."""

    name: str
    models: int
    rmse_loglinear: float
    rmse_quadratic: float  # NaN with fewer than six models


def exponents_for_sizes(
    size_CM: ArrayLike, delta_CM: ArrayLike, cov_MM: ArrayLike, *, tau2: float = 0.0
) -> FloatArray:
    """The power law's alpha for C combinations of sizes, (C,), within [-3, 3].

    `delta_CM` may be one vector (M,) for all. Raises ValueError for shapes that do not match.
    """
    size = np.asarray(size_CM, dtype=np.float64)
    deltas = np.broadcast_to(np.asarray(delta_CM, dtype=np.float64), size.shape)
    if size.ndim != 2 or not np.all(size > 0):
        raise ValueError("size_CM needs two axes and positive sizes")
    models = size.shape[1]
    total = as_covariance(cov_MM, models) + tau2 * np.eye(models)
    weight: FloatArray = np.asarray(np.linalg.inv(total), dtype=np.float64)
    x_CM = np.log(size)
    x_CM = x_CM - x_CM.mean(axis=1, keepdims=True)
    alpha_C = np.empty(len(size))
    grid = np.linspace(-_EXPONENT_LIMIT, _EXPONENT_LIMIT, 241)
    step = float(grid[1] - grid[0])
    for start in range(0, len(size), 250):
        rows = slice(start, start + 250)
        x, wd = x_CM[rows], deltas[rows] @ weight
        coarse = grid[np.argmax(_gain(x, wd, weight, np.tile(grid, (len(x), 1))), axis=1)]
        alpha_C[rows] = _refined(x, wd, weight, coarse, step)
    return alpha_C


def alpha_bounds(
    low_M: ArrayLike,
    high_M: ArrayLike,
    delta_M: ArrayLike,
    cov_MM: ArrayLike,
    *,
    tau2: float = 0.0,
    seed: int = 0,
) -> AlphaBounds:
    """Least and greatest alpha while each undisclosed size is anywhere in its interval.

    Up to 12 undisclosed sizes every corner is tried, beyond that 4,096 log-uniform draws; from the
    most extreme of these and from the middle, sizes are then moved one at a time while that goes
    further, because alpha is not monotone in a size: corners alone can miss the truth. With any
    size undisclosed this is the headline; a set for sampling error still has to be put around it.

    Raises ValueError unless 0 < low <= high.
    Source: Manski 2003, Partial Identification of Probability Distributions, ch. 1.
    """
    low, high = np.asarray(low_M, np.float64), np.asarray(high_M, np.float64)
    if not (np.all(low > 0) and np.all(low <= high)):
        raise ValueError("sizes need 0 < low <= high")
    delta = np.asarray(delta_M, dtype=np.float64)
    open_M = np.flatnonzero(low < high)
    corners = open_M.size <= _CORNER_LIMIT
    # Where each undisclosed size lies in its interval, 0 to 1 on the log scale.
    if corners:
        place = np.array(list(itertools.product((0.0, 1.0), repeat=open_M.size)))
    else:
        place = keyed_generator(seed, purpose=_SIZES).random((_DRAWS, open_M.size))

    def alphas(place_CU: FloatArray) -> FloatArray:
        size_CM = np.tile(low, (len(place_CU), 1))
        size_CM[:, open_M] *= (high[open_M] / low[open_M]) ** place_CU
        return exponents_for_sizes(size_CM, delta, cov_MM, tau2=tau2)

    first = alphas(place)
    least = _climb(lambda at: -alphas(at), place, -first)
    greatest = _climb(alphas, place, first)
    known = low == high
    alone = math.nan
    if known.sum() >= FAMILIES["power"].fewest_models:
        cov = as_covariance(cov_MM, delta.size)[np.ix_(known, known)]
        alone = fit_family("power", low[known], delta[known], cov, tau2=tau2).parameter("alpha")
    return AlphaBounds(
        low=-least,
        high=greatest,
        of_starts=Interval(float(first.min()), float(first.max())),
        starts=len(place),
        corners=corners,
        undisclosed=open_M.size,
        disclosed_only=alone,
        at_limit=max(abs(least), abs(greatest)) >= _EXPONENT_LIMIT,
    )


def resampled_exponents(
    low_M: ArrayLike,
    high_M: ArrayLike,
    delta_BM: ArrayLike,
    cov_MM: ArrayLike,
    *,
    tau2: float = 0.0,
    seed: int = 0,
) -> FloatArray:
    """alpha in each replicate, (B,), every undisclosed ln N drawn uniformly from its interval.

    With the joint item replicates in `delta_BM`, and scatter N(0, tau^2) added to each, this
    carries items, models and sizes through together. Draws depend on seed and replicate only, so
    datasets share them. It does not undo the attenuation that wrong sizes cause.
    """
    low, high = np.asarray(low_M, np.float64), np.asarray(high_M, np.float64)
    deltas = np.asarray(delta_BM, dtype=np.float64)
    rng = keyed_generator(seed, purpose=_SIZES, block=1)
    size_BM = low * (high / low) ** rng.random(deltas.shape)
    scattered = deltas + math.sqrt(tau2) * rng.standard_normal(deltas.shape)
    return exponents_for_sizes(size_BM, scattered, cov_MM, tau2=tau2)


def axis_league(
    x_XM: ArrayLike, delta_M: ArrayLike, cov_MM: ArrayLike, *, names: Sequence[str]
) -> tuple[AxisScore, ...]:
    """Rank x-axes (ln N, ln FLOPs, ln price, capability, ...) by left-out error, best first.

    `x_XM` holds one row an axis on the scale it enters the line, NaN where a model has no value.
    Compare axes on equal models only. The accuracy of the very answers delta is made from is no
    axis: take other epochs or items. Axes of fewer than four models come last, with NaN.
    Raises ValueError for shapes that do not match.
    """
    axes, delta = np.atleast_2d(np.asarray(x_XM, np.float64)), np.asarray(delta_M, np.float64)
    cov = as_covariance(cov_MM, delta.size)
    scores = []
    for name, x in zip(names, axes, strict=True):
        has = ~np.isnan(x)
        args = (np.exp(x[has] - x[has].mean()), delta[has], cov[np.ix_(has, has)])
        rmse: dict[FamilyName, float] = {"loglinear": math.nan, "quadratic": math.nan}
        tau2 = math.nan
        if has.sum() >= FAMILIES["loglinear"].fewest_models:
            tau2 = between_model_variance(*args).value
        for family in rmse:
            if has.sum() >= FAMILIES[family].fewest_models:
                fit = fit_family(family, *args, tau2=tau2)
                rmse[family] = leave_one_model_out(fit).rmse
        scores.append(AxisScore(name, int(has.sum()), rmse["loglinear"], rmse["quadratic"]))
    return tuple(sorted(scores, key=_least_rmse))


def _climb(
    function: Callable[[FloatArray], FloatArray], place_CU: FloatArray, value_C: FloatArray
) -> float:
    """The greatest value found from the best starts, moving one coordinate at a time in [0, 1]."""
    best = float(value_C.max())
    if place_CU.shape[1] == 0:
        return best
    starts = [*place_CU[np.argsort(-value_C)[:4]], np.full(place_CU.shape[1], 0.5)]
    for at in starts:
        here, step = -math.inf, 0.5
        while step > 1e-3:
            moves = step * np.vstack([np.zeros(at.size), np.eye(at.size), -np.eye(at.size)])
            tried = np.clip(at + moves, 0, 1)
            value = function(tried)
            at = tried[int(np.argmax(value))]
            if value.max() <= here + 1e-9:
                step /= 2
            here = max(here, float(value.max()))
        best = max(best, here)
    return best


def _least_rmse(score: AxisScore) -> float:
    known = [r for r in (score.rmse_loglinear, score.rmse_quadratic) if not math.isnan(r)]
    return min(known, default=math.inf)


def _gain(
    x_CM: FloatArray, wd_CM: FloatArray, weight: FloatArray, alpha_CS: FloatArray
) -> FloatArray:
    """How much misfit the best amplitude removes at each exponent, (C, S)."""
    column = np.exp(alpha_CS[:, :, None] * x_CM[:, None, :])
    # Each column may be scaled freely; by its largest entry, none overflows when squared.
    column /= column.max(axis=2, keepdims=True)
    square = ((column @ weight) * column).sum(axis=2)
    return np.asarray((column @ wd_CM[:, :, None])[:, :, 0] ** 2 / square)


def _refined(
    x_CM: FloatArray, wd_CM: FloatArray, weight: FloatArray, coarse_C: FloatArray, step: float
) -> FloatArray:
    """Two parabolas about the best grid point, which stays where it is at the end of the range."""
    alpha = coarse_C.copy()
    inside = np.abs(alpha) < _EXPONENT_LIMIT
    for _ in range(3):
        around = alpha[:, None] + np.array([-step, 0.0, step])
        left, middle, right = _gain(x_CM, wd_CM, weight, around).T
        bend = left - 2 * middle + right
        move = np.divide(left - right, 2 * bend, out=np.zeros_like(bend), where=bend < 0)
        alpha = np.where(inside, alpha + np.clip(move, -1, 1) * step, alpha)
        step /= 20
    return np.asarray(np.clip(alpha, -_EXPONENT_LIMIT, _EXPONENT_LIMIT))
