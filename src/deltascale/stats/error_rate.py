"""Delta as the fall of an error rate: E_j(N) = eps_j + B_j N^-beta_j before (0) and after (1).

Both curves are fitted together, because the same items give both errors. Asks whether correction
changes the exponent, the floor, or neither.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import fdtrc, fdtri

from deltascale.stats.families import Fit
from deltascale.stats.regions import Region, sublevel_region

__all__ = [
    "BETA_RANGE",
    "ErrorCurves",
    "LikelihoodRatio",
    "fit_error_curves",
    "size_beyond_headroom",
]

FloatArray: TypeAlias = NDArray[np.float64]
Shared: TypeAlias = Literal["beta", "eps"]
BETA_RANGE = (0.02, 3.0)
"""The exponents that are looked at; a set that reaches an end of it has no end that is known."""


@dataclass(frozen=True, slots=True)
class LikelihoodRatio:
    """Dispersion-scaled test of one parameter shared by both curves: F on (1, df)."""

    statistic: float
    p_value: float


@dataclass(frozen=True, slots=True)
class ErrorCurves:
    """Both fitted curves; B is the part above the floor at N_ref. Pairs are (before, after)."""

    eps: tuple[float, float]  # the errors at endless size, in [0, 1]; floors where B > 0
    amplitude: tuple[float, float]  # B; below zero where the error rises with size
    beta: tuple[float, float]
    eps_region: tuple[Region, Region]  # profile sets; a lower end of 0 is the boundary: one-sided
    beta_region: tuple[Region, Region]  # profile sets within [.02, 3]; open at an end of that
    same_beta: LikelihoodRatio
    same_eps: LikelihoodRatio
    misfit: float
    df: int
    dispersion: float  # misfit / df, at least 1
    reference: float

    def errors(self, size: ArrayLike) -> tuple[FloatArray, FloatArray]:
        """(E_0, E_1) at sizes N."""
        ratio = np.asarray(size, dtype=np.float64) / self.reference
        before, after = (
            np.asarray(self.eps[j] + self.amplitude[j] * ratio ** -self.beta[j]) for j in (0, 1)
        )
        return before, after

    def errors_first(self, size: ArrayLike) -> FloatArray:
        """E_0 at sizes N."""
        return self.errors(size)[0]

    def predict(self, size: ArrayLike) -> FloatArray:
        """delta = E_0 - E_1."""
        before, after = self.errors(size)
        return np.asarray(before - after)


def fit_error_curves(size_M: ArrayLike, table_M4: ArrayLike, *, level: float = 0.95) -> ErrorCurves:
    """Fit both error curves to flip tables by quasi-likelihood, eps in [0, 1], beta in [.02, 3].

    `table_M4`: stayed right, fixed, broken, stayed wrong, a row a model. The working covariance is
    the 2 x 2 multinomial one of (E_0, E_1) at shares smoothed by half a count a cell, and all
    variances grow by one dispersion. For fixed exponents the curves are linear; the exponents are
    found on a grid that closes in.

    Raises ValueError for fewer than six models (12 errors, 6 parameters) or shapes that differ.
    Source: Wedderburn 1974, Biometrika 61:439; Zellner 1962, JASA 57:348 (both equations at once).
    """
    problem = _Problem(size_M, table_M4)
    best, theta, beta = problem.least()
    df = 2 * problem.models - 6
    dispersion = max(1.0, best / df)
    allowed = dispersion * float(fdtri(1, df, level))

    def ratio(shared: Shared) -> LikelihoodRatio:
        statistic = max(0.0, problem.least(shared)[0] - best) / dispersion
        return LikelihoodRatio(statistic, float(fdtrc(1, df, statistic)))

    def region(profile: Callable[[FloatArray], FloatArray], grid: FloatArray) -> Region:
        return sublevel_region(profile, grid, threshold=best + allowed, crossing_rounds=2)

    eps_regions, beta_regions = [], []
    for j in (0, 1):
        most = problem.greatest_error
        eps_grid = np.concatenate(
            [np.linspace(0, most, 40), np.linspace(most, 1, 6), theta[[2 * j]]]
        )
        eps_regions.append(region(problem.eps_profile(j), eps_grid))
        beta_grid = np.append(np.geomspace(*BETA_RANGE, 60), beta[j])
        beta_regions.append(region(problem.beta_profile(j), beta_grid))
    return ErrorCurves(
        eps=(float(theta[0]), float(theta[2])),
        amplitude=(float(theta[1]), float(theta[3])),
        beta=(float(beta[0]), float(beta[1])),
        eps_region=(eps_regions[0], eps_regions[1]),
        beta_region=(beta_regions[0], beta_regions[1]),
        same_beta=ratio("beta"),
        same_eps=ratio("eps"),
        misfit=best,
        df=df,
        dispersion=dispersion,
        reference=problem.reference,
    )


def size_beyond_headroom(
    fit: Fit, error: Callable[[FloatArray], FloatArray], *, limit: float = 1e6
) -> float:
    """The least N above the sizes observed at which a fitted delta passes the error left to fix.

    `error` gives E_0 at sizes: `ErrorCurves.errors_first` or `TwoRate.errors_first`. A power law
    with alpha > 0 must pass E_0(N) somewhere: beyond that it is impossible. Infinite if not within
    `limit` times the largest size.
    """
    largest = float(fit.size.max())
    size = np.geomspace(largest, largest * limit, 4_001)
    impossible = fit.predict(size) > error(size)
    return float(size[np.argmax(impossible)]) if impossible.any() else math.inf


class _Problem:
    """Whitened errors of all models, and least squares at many pairs of exponents at once."""

    def __init__(self, size_M: ArrayLike, table_M4: ArrayLike) -> None:
        size, table = np.asarray(size_M, np.float64), np.asarray(table_M4, np.float64)
        if size.ndim != 1 or table.shape != (size.size, 4) or np.any(table < 0):
            raise ValueError(f"sizes {size.shape} and tables {table.shape} do not match")
        if size.size < 6 or not np.all(size > 0):
            raise ValueError("error curves need six models of positive size")
        self.models = size.size
        self.reference = float(np.exp(np.log(size).mean()))
        self.x = np.log(size / self.reference)
        n = table.sum(axis=1)
        error = (
            np.stack([table[:, 1] + table[:, 3], table[:, 2] + table[:, 3]], axis=1) / n[:, None]
        )
        self.greatest_error = float(error.max())
        smooth = (table + 0.5) / (n + 2)[:, None]
        before, after = smooth[:, 1] + smooth[:, 3], smooth[:, 2] + smooth[:, 3]
        cov = np.empty((size.size, 2, 2))
        cov[:, 0, 0], cov[:, 1, 1] = before * (1 - before), after * (1 - after)
        cov[:, 0, 1] = cov[:, 1, 0] = smooth[:, 3] - before * after
        root = np.linalg.cholesky(cov / n[:, None, None])
        self.white = np.asarray(np.linalg.inv(root))  # (M, 2, 2)
        self.y = np.einsum("mij,mj->mi", self.white, error).ravel()

    def designs(self, beta_S2: FloatArray, shared: Shared | None) -> FloatArray:
        """(S, 2 M, P) whitened columns: floor and power, before and after."""
        power = np.exp(
            np.clip(-beta_S2[:, None, :] * self.x[None, :, None], -300, 300)
        )  # (S, M, 2)
        raw = np.zeros((len(beta_S2), self.models, 2, 4))
        raw[:, :, 0, 0] = raw[:, :, 1, 2] = 1.0
        raw[:, :, 0, 1], raw[:, :, 1, 3] = power[..., 0], power[..., 1]
        if shared == "eps":
            raw = np.concatenate([raw[..., [0]] + raw[..., [2]], raw[..., [1, 3]]], axis=-1)
        white = np.einsum("mij,smjp->smip", self.white, raw)
        return np.asarray(white.reshape(len(beta_S2), 2 * self.models, -1))

    def misfits(
        self,
        beta_S2: FloatArray,
        shared: Shared | None = None,
        fixed_eps: tuple[int, float] | None = None,
    ) -> tuple[FloatArray, FloatArray]:
        """Least misfit (S,) and parameters (S, P) with floors in [0, 1]."""
        design = self.designs(beta_S2, shared)
        floors: tuple[int, ...] = (0,) if shared == "eps" else (0, 2)
        target = np.broadcast_to(self.y, design.shape[:2])
        held: tuple[int, ...] = ()
        if fixed_eps is not None:
            column, value = 2 * fixed_eps[0], fixed_eps[1]
            target = target - value * design[..., column]
            held = (column,)
        floors = tuple(f for f in floors if f not in held)
        best = np.full(len(beta_S2), np.inf)
        theta = np.zeros((len(beta_S2), design.shape[2]))
        over_one = False
        # A floor is free or at a boundary: try every choice and keep the feasible best. Boundaries
        # at one are tried only where some choice passes it, which is rare.
        for top in (False, True):
            for choice in product((None, 0.0, 1.0), repeat=len(floors)):
                if (1.0 in choice) != top:
                    continue
                at = {f: v for f, v in zip(floors, choice, strict=True) if v is not None}
                keep = [p for p in range(design.shape[2]) if p not in at and p not in held]
                rest = target - sum((v * design[..., f] for f, v in at.items() if v), 0.0)
                found, value_S = _least_squares(design[..., keep], rest)
                full = np.zeros_like(theta)
                full[:, keep] = found
                for f, v in at.items():
                    full[:, f] = v
                eps = full[:, list(floors)]
                over_one |= bool((eps > 1).any())
                better = np.all((eps >= 0) & (eps <= 1), axis=1) & (value_S < best)
                best = np.where(better, value_S, best)
                theta = np.where(better[:, None], full, theta)
            if not over_one:
                break
        return best, theta

    def least(self, shared: Shared | None = None) -> tuple[float, FloatArray, FloatArray]:
        """The best fit: misfit, parameters, exponents. A grid of exponents that closes in."""
        axes = [np.geomspace(*BETA_RANGE, 32)] * (1 if shared == "beta" else 2)
        for _ in range(9):
            mesh = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(axes))
            beta_S2 = np.broadcast_to(mesh, (len(mesh), 2))
            value, theta = self.misfits(beta_S2, shared)
            at = int(np.argmin(value))
            axes = [_closer(axis, float(b)) for axis, b in zip(axes, mesh[at], strict=True)]
        return float(value[at]), theta[at], beta_S2[at]

    def beta_profile(self, j: int) -> Callable[[FloatArray], FloatArray]:
        other = np.geomspace(*BETA_RANGE, 60)

        def profile(beta_S: FloatArray) -> FloatArray:
            grid = np.broadcast_to(other, (beta_S.size, other.size))
            for _ in range(3):
                pairs = np.empty((*grid.shape, 2))
                pairs[..., j], pairs[..., 1 - j] = beta_S[:, None], grid
                value = self.misfits(pairs.reshape(-1, 2))[0].reshape(grid.shape)
                at = np.argmin(value, axis=1)
                grid = np.stack([_closer(g, float(g[k]), 9) for g, k in zip(grid, at, strict=True)])
            return np.asarray(value.min(axis=1))

        return profile

    def eps_profile(self, j: int) -> Callable[[FloatArray], FloatArray]:
        def one(eps: float) -> float:
            axes = [np.geomspace(*BETA_RANGE, 16)] * 2
            for _ in range(5):
                mesh = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)
                value, _ = self.misfits(mesh, fixed_eps=(j, eps))
                at = int(np.argmin(value))
                axes = [_closer(a, float(b), 9) for a, b in zip(axes, mesh[at], strict=True)]
            return float(value[at])

        return lambda eps_S: np.array([one(float(eps)) for eps in eps_S])


def _closer(axis: FloatArray, centre: float, points: int = 9) -> FloatArray:
    """A finer grid over the neighbours of one point of the last."""
    at = int(np.argmin(np.abs(axis - centre)))
    low, high = axis[max(0, at - 1)], axis[min(axis.size - 1, at + 1)]
    return np.linspace(float(low), float(high), points)


def _least_squares(design: FloatArray, target: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Batched least squares, (S, P) and misfits (S,), by scaled normal equations."""
    scale = np.sqrt(np.einsum("srp,srp->sp", design, design))
    scaled = design / np.maximum(scale, 1e-300)[:, None, :]
    normal = np.einsum("srp,srq->spq", scaled, scaled)
    right = np.einsum("srp,sr->sp", scaled, target)
    normal += 1e-12 * np.eye(normal.shape[1])
    found = np.linalg.solve(normal, right[..., None])[..., 0]
    residual = target - np.einsum("srp,sp->sr", scaled, found)
    return found / np.maximum(scale, 1e-300), np.einsum("sr,sr->s", residual, residual)
