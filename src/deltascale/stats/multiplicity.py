"""Many tests at once: adjusted p-values and simultaneous critical values.

What forms a family is the study's decision, not known here. A NaN p-value is a test that could not
be made: it is left out of the family, and stays NaN.
"""

from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri

__all__ = [
    "benjamini_hochberg", "bonferroni_z", "family_size", "holm", "max_t_critical", "max_t_level",
]  # fmt: skip

FloatArray: TypeAlias = NDArray[np.float64]


def holm(p: ArrayLike) -> FloatArray:
    """Step-down adjusted p-values, for confirmatory families: controls any false claim at all.

    Shaped like `p`; compare with alpha as they are. Raises ValueError for p outside [0, 1].
    Source: Holm 1979, Scandinavian Journal of Statistics 6:65.
    """
    p_values, made, order = _sorted_family(p)
    m = made.size
    stepped = p_values[made[order]] * (m - np.arange(m))
    adjusted = np.full(p_values.shape, np.nan)
    adjusted[made[order]] = np.minimum(1.0, np.maximum.accumulate(stepped))
    return adjusted.reshape(np.shape(p))


def benjamini_hochberg(p: ArrayLike) -> FloatArray:
    """Step-up adjusted p-values, for exploratory families: controls the share of false claims.

    Shaped like `p`; compare with alpha as they are. Raises ValueError for p outside [0, 1].
    Source: Benjamini & Hochberg 1995, JRSS B 57:289.
    """
    p_values, made, order = _sorted_family(p)
    m = made.size
    stepped = p_values[made[order]] * (m / np.arange(1, m + 1))
    adjusted = np.full(p_values.shape, np.nan)
    from_the_largest = np.minimum.accumulate(stepped[::-1])[::-1]
    adjusted[made[order]] = np.minimum(1.0, from_the_largest)
    return adjusted.reshape(np.shape(p))


def family_size(p: ArrayLike) -> int:
    """How many tests could be made: the p-values that are not NaN."""
    return int(np.count_nonzero(~np.isnan(np.asarray(p, dtype=np.float64))))


def bonferroni_z(size: int, *, level: float = 0.95) -> float:
    """The normal quantile that makes `size` two-sided intervals hold jointly at `level`.

    Raises ValueError for size < 1 or a level outside (0, 1). Source: Dunn 1961, JASA 56:52.
    """
    if size < 1 or not 0 < level < 1:
        raise ValueError(f"need size >= 1 and level in (0, 1), not {size}, {level}")
    return float(-ndtri((1 - level) / (2 * size)))


def max_t_critical(
    replicates_BM: ArrayLike, estimates_M: ArrayLike, *, level: float = 0.95
) -> float:
    """Critical value c such that estimate +- c * SE holds jointly for all M, from a bootstrap.

    `replicates_BM` holds B joint replicates of the M estimates; the SEs are their standard
    deviations (so c also serves any other proportional SE). Estimates that never vary are left out.

    Raises ValueError for fewer than 2 replicates or shapes that do not match.
    Source: Romano & Wolf 2005, Econometrica 73:1237 (single-step form).
    """
    replicates = np.asarray(replicates_BM, dtype=np.float64)
    estimates = np.asarray(estimates_M, dtype=np.float64)
    if replicates.ndim != 2 or replicates.shape[0] < 2 or estimates.shape != replicates.shape[1:]:
        raise ValueError(f"shapes {replicates.shape} and {estimates.shape} are not (B>=2, M), (M,)")
    spread_M = replicates.std(axis=0, ddof=1)
    varies = spread_M > 0
    if not varies.any():
        return 0.0
    t_BM = (replicates[:, varies] - estimates[varies]) / spread_M[varies]
    return float(np.quantile(np.abs(t_BM).max(axis=1), level))


def max_t_level(replicates_BM: ArrayLike, estimates_M: ArrayLike, *, level: float = 0.95) -> float:
    """The pointwise level, from `level` to Bonferroni's, at which M intervals hold jointly.

    `replicates_BM` as for `max_t_critical`, whose critical value c is turned into the level
    2 Phi(c) - 1: so an interval of any kind can be widened alike, also one that is no multiple of
    a standard error. A NaN replicate of an estimate (nothing of it was drawn) is no departure.

    An estimate that never varies (no answer flipped, say) is no certain one: it is taken as one
    more independent departure. If none varies, the level is Sidak's, level^(1/M). Bonferroni's,
    1 - (1 - level)/M, is enough whatever depends on what, so the long tails that few flips give a
    bootstrap widen no further. M = 0: `level`.

    Raises ValueError for fewer than 2 replicates or shapes that do not match.
    Source: Romano & Wolf 2005, Econometrica 73:1237 (max-t); Beran 1988, JASA 83:679 (one level
    for all); Sidak 1967, JASA 62:626.
    """
    replicates = np.asarray(replicates_BM, dtype=np.float64)
    estimates = np.asarray(estimates_M, dtype=np.float64)
    if replicates.ndim != 2 or replicates.shape[0] < 2 or estimates.shape != replicates.shape[1:]:
        raise ValueError(f"shapes {replicates.shape} and {estimates.shape} are not (B>=2, M), (M,)")
    gap_BM = np.where(np.isnan(replicates), 0.0, replicates - estimates)
    drawn_M = (~np.isnan(replicates)).sum(axis=0)
    mean_M = gap_BM.sum(axis=0) / np.maximum(drawn_M, 1)
    square_BM = np.where(np.isnan(replicates), 0.0, (gap_BM - mean_M) ** 2)
    spread_M = np.sqrt(square_BM.sum(axis=0) / np.maximum(drawn_M - 1, 1))
    varies = spread_M > 1e-12
    still = int(np.count_nonzero(~varies))
    if not varies.any():
        return float(level ** (1 / max(1, still))) if still else level
    most_B = np.sort((np.abs(gap_BM[:, varies]) / spread_M[varies]).max(axis=1))
    pointwise_B = 2 * ndtr(most_B) - 1
    joint_B = np.arange(1, most_B.size + 1) / most_B.size * pointwise_B**still
    enough = np.flatnonzero(joint_B >= level - 1e-12)
    bonferroni = 1 - (1 - level) / estimates.size
    found = float(pointwise_B[enough[0]]) if enough.size else bonferroni
    return min(max(level, found), bonferroni)


def _sorted_family(p: ArrayLike) -> tuple[FloatArray, NDArray[np.intp], NDArray[np.intp]]:
    """The p-values flat, where those that were made are, and the order that sorts these."""
    p_values = np.asarray(p, dtype=np.float64).ravel()
    made = np.flatnonzero(~np.isnan(p_values))
    if np.any((p_values[made] < 0) | (p_values[made] > 1)):
        raise ValueError("p-values must lie in [0, 1] or be NaN")
    return p_values, made, np.argsort(p_values[made], kind="stable")
