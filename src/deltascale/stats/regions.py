"""Sets of values a test does not reject: an interval, a ray, the whole line, or pieces of it."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri, stdtrit

from deltascale.stats.paired import Interval

__all__ = ["FiellerRatio", "Region", "fieller", "sublevel_region"]

FloatArray: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Region:
    """Disjoint intervals in rising order; infinite limits where it has no end; () if empty."""

    pieces: tuple[Interval, ...]

    @property
    def empty(self) -> bool:
        return not self.pieces

    @property
    def bounded(self) -> bool:
        """Whether it may be printed as an interval: neither endless nor (when empty) senseless."""
        return bool(self.pieces) and math.isfinite(self.hull.low) and math.isfinite(self.hull.high)

    @property
    def hull(self) -> Interval:
        """The smallest interval that holds every piece; NaN limits if empty."""
        if not self.pieces:
            return Interval(math.nan, math.nan)
        return Interval(self.pieces[0].low, self.pieces[-1].high)

    def covers(self, value: float) -> bool:
        return any(piece.covers(value) for piece in self.pieces)


@dataclass(frozen=True, slots=True)
class FiellerRatio:
    """A ratio of two estimates, and the ratios not rejected."""

    ratio: float
    region: Region
    g: float  # t^2 var(denominator) / denominator^2; from 1 up the region has no end

    @property
    def bounded(self) -> bool:
        return self.region.bounded


def fieller(
    numerator: float,
    denominator: float,
    *,
    var_numerator: float,
    var_denominator: float,
    covariance: float = 0.0,
    df: float = math.inf,
    level: float = 0.95,
) -> FiellerRatio:
    """All R for which numerator - R denominator is not significantly different from zero.

    When the denominator may be zero (g >= 1) the region is two rays or the whole line: it must be
    printed as unbounded. Raises ValueError for negative variances, or an impossible covariance.
    Source: Fieller 1954, JRSS B 16:175.
    """
    if min(var_numerator, var_denominator) < 0:
        raise ValueError("variances must not be negative")
    if covariance**2 > var_numerator * var_denominator * (1 + 1e-9):
        raise ValueError("the covariance exceeds what the variances allow")
    tail = (1 + level) / 2
    t2 = float(ndtri(tail) if math.isinf(df) else stdtrit(df, tail)) ** 2
    # a R^2 - 2 b R + c <= 0
    a = denominator**2 - t2 * var_denominator
    b = numerator * denominator - t2 * covariance
    c = numerator**2 - t2 * var_numerator
    ratio = numerator / denominator if denominator else math.nan
    g = t2 * var_denominator / denominator**2 if denominator else math.inf
    return FiellerRatio(ratio, _where_quadratic_is_not_positive(a, b, c), g)


def sublevel_region(
    function: Callable[[FloatArray], FloatArray],
    grid: ArrayLike,
    *,
    threshold: float,
    open_low: bool = False,
    open_high: bool = False,
    crossing_rounds: int = 7,
) -> Region:
    """{x : function(x) <= threshold}, its limits found between neighbouring grid points.

    `function` takes and returns an array. `open_low` and `open_high` say that a piece which reaches
    that end of the grid goes on for ever; otherwise it stops there. A piece that falls between two
    grid points is missed, so put the minimum on the grid. Each crossing round narrows a limit by a
    factor of 33 with one call of the function: take fewer where calls are dear.
    """
    points = np.unique(np.asarray(grid, dtype=np.float64))
    inside = function(points) <= threshold
    edges = np.flatnonzero(np.diff(np.concatenate([[False], inside, [False]]).astype(int)))
    pieces = []
    for first, after in zip(edges[::2], edges[1::2], strict=True):
        last = after - 1
        low = -math.inf if open_low else float(points[0])
        high = math.inf if open_high else float(points[-1])
        if first > 0:
            low = _crossing(function, threshold, points[first], points[first - 1], crossing_rounds)
        if last < points.size - 1:
            high = _crossing(function, threshold, points[last], points[after], crossing_rounds)
        pieces.append(Interval(low, high))
    return Region(tuple(pieces))


def _crossing(
    function: Callable[[FloatArray], FloatArray],
    threshold: float,
    inside: float,
    outside: float,
    rounds: int,
) -> float:
    """Where the threshold is passed, by thirty-two points at a time: one array call a round."""
    for _ in range(rounds):
        between = np.linspace(inside, outside, 34)
        left = int(np.argmax(function(between) > threshold))
        if left == 0:  # rounding at the inner end: there is nothing finer to find
            break
        inside, outside = float(between[left - 1]), float(between[left])
    return (inside + outside) / 2


def _where_quadratic_is_not_positive(a: float, b: float, c: float) -> Region:
    """{R : a R^2 - 2 b R + c <= 0} for any signs of a, b, c."""
    everywhere = Region((Interval(-math.inf, math.inf),))
    if a == 0:
        if b == 0:
            return everywhere if c <= 0 else Region(())
        edge = c / (2 * b)
        ray = Interval(edge, math.inf) if b > 0 else Interval(-math.inf, edge)
        return Region((ray,))
    discriminant = b * b - a * c
    if discriminant < 0:
        return everywhere if a < 0 else Region(())
    # The root of larger size first, then its partner by Vieta: neither loses digits.
    far = b + math.copysign(math.sqrt(discriminant), b)
    roots = sorted((far / a, c / far)) if far else [0.0, 0.0]
    if a > 0:
        return Region((Interval(*roots),))
    return Region((Interval(-math.inf, roots[0]), Interval(roots[1], math.inf)))
