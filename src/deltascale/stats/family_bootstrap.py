"""Bootstrap of the fitted families: items only (E1), or items and models (E2)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deltascale.stats.draws import keyed_generator
from deltascale.stats.families import (
    FAMILIES,
    FIVE_FAMILIES,
    FamilyName,
    Refits,
    as_covariance,
    refit_family,
    refit_family_weighted,
)
from deltascale.stats.scaling import aicc

__all__ = ["FamilyBootstrap", "bootstrap_families", "hierarchical_bootstrap", "model_draws"]

FloatArray: TypeAlias = NDArray[np.float64]
_MODELS = 0x30DE


@dataclass(frozen=True, slots=True)
class FamilyBootstrap:
    """Every family fitted in every replicate, and which AICc chose there."""

    refits: tuple[Refits, ...]
    chosen: NDArray[np.intp]  # (B,) position in `refits`; -1 where AICc is undefined

    @property
    def names(self) -> tuple[FamilyName, ...]:
        return tuple(refit.family.name for refit in self.refits)

    @property
    def selection(self) -> tuple[float, ...]:
        """How often each family was chosen, in their order."""
        return tuple(float(np.mean(self.chosen == j)) for j in range(len(self.refits)))

    def theta(self, name: FamilyName) -> FloatArray:
        """(B, k) parameters of one family. Raises ValueError if it was not fitted."""
        return self.refits[self.names.index(name)].theta

    def predict_chosen(self, size_K: ArrayLike) -> FloatArray:
        """(B, K) prediction by each replicate's own choice; NaN where none was made."""
        size = np.atleast_1d(np.asarray(size_K, dtype=np.float64))
        curve_BK = np.full((self.chosen.size, size.size), math.nan)
        for j, refit in enumerate(self.refits):
            rows = self.chosen == j
            curve_BK[rows] = replace(
                refit, theta=refit.theta[rows], misfit=refit.misfit[rows]
            ).predict(size)
        return curve_BK


def bootstrap_families(
    size_M: ArrayLike,
    delta_BM: ArrayLike,
    cov_MM: ArrayLike,
    *,
    names: Sequence[FamilyName] = FIVE_FAMILIES,
    tau2: float = 0.0,
) -> FamilyBootstrap:
    """Refit to B joint item replicates of the deltas: the spread if the law is exact (E1).

    Not for statements about a law: when models scatter about it, these intervals are far too short.
    Raises ValueError as `refit_family`.
    """
    models = np.size(size_M)
    fitted = [n for n in names if models >= FAMILIES[n].fewest_models]
    refits = tuple(refit_family(n, size_M, delta_BM, cov_MM, tau2=tau2) for n in fitted)
    return FamilyBootstrap(refits, _chosen(refits, models))


def hierarchical_bootstrap(
    size_M: ArrayLike,
    delta_BM: ArrayLike,
    cov_MM: ArrayLike,
    *,
    tau2: float,
    seed: int,
    names: Sequence[FamilyName] = FIVE_FAMILIES,
) -> FamilyBootstrap:
    """Draw models as well as items: sensitivity of an E2 statement, from six models up.

    Each replicate draws the M models with replacement (again while fewer than three distinct sizes
    come), and weights model m by its multiplicity / (V_mm + tau^2).

    Raises ValueError for fewer than six models (with four it covered .86 instead of .95), or as
    `refit_family`. Source: Davison & Hinkley 1997, section 3.8 (two-stage resampling).
    """
    size, deltas = np.asarray(size_M, np.float64), np.asarray(delta_BM, np.float64)
    if size.size < 6:
        raise ValueError(f"the hierarchical bootstrap needs six models, not {size.size}")
    multiplicity_BM = model_draws(size, len(deltas), seed)
    variance_M = np.diag(as_covariance(cov_MM, size.size)) + tau2
    weight_BM = multiplicity_BM / variance_M
    refits = tuple(refit_family_weighted(n, size, deltas, weight_BM) for n in names)
    return FamilyBootstrap(refits, _chosen(refits, size.size))


def model_draws(size: FloatArray, replicates: int, seed: int) -> FloatArray:
    """Models drawn with replacement: (B, M) multiplicities, each row with three distinct sizes.

    Raises ValueError if there are no three distinct sizes to draw.
    """
    if np.unique(size).size < 3:
        raise ValueError("three distinct sizes are needed")
    rng = keyed_generator(seed, purpose=_MODELS)
    even = np.full(size.size, 1 / size.size)
    drawn = rng.multinomial(size.size, even, size=replicates)
    same_size = np.unique(size, return_inverse=True)[1]
    while True:
        distinct = np.zeros((replicates, int(same_size.max()) + 1))
        np.add.at(distinct.T, same_size, drawn.T)
        poor = np.count_nonzero(distinct, axis=1) < 3
        if not poor.any():
            return drawn.astype(np.float64)
        drawn[poor] = rng.multinomial(size.size, even, size=int(poor.sum()))


def _chosen(refits: tuple[Refits, ...], models: int) -> NDArray[np.intp]:
    """The family of least AICc in each replicate; log-determinants are the same for all."""
    penalty = [aicc(0.0, refit.family.k, models) for refit in refits]
    value = np.stack([refit.misfit + extra for refit, extra in zip(refits, penalty, strict=True)])
    undefined = np.isnan(value).all(axis=0)
    best = np.argmin(np.where(np.isnan(value), np.inf, value), axis=0)
    return np.where(undefined, -1, best)
