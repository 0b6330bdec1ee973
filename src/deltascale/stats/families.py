"""The shapes delta may take as a function of size, and fitting one of them.

Every family is linear but for at most one shape parameter, so a fit is a least-squares solution on
a grid of shapes, refined: global by construction, without starting values. Delta is never
log-transformed and never dropped for its sign. Between-model variance and choosing among families
are not known here.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "FAMILIES",
    "FIVE_FAMILIES",
    "Family",
    "Fit",
    "Refits",
    "as_covariance",
    "fit_family",
    "least_misfit",
    "profile_misfit",
    "refit_family",
    "refit_family_weighted",
]

FloatArray: TypeAlias = NDArray[np.float64]
Column: TypeAlias = Callable[[FloatArray, FloatArray], FloatArray]
FamilyName: TypeAlias = Literal[
    "constant", "loglinear", "power", "saturating", "quadratic", "power_floor"
]


# Replicates worked on at once: few enough for the cache, and for BLAS to keep to one thread.
_ROWS = 32

# A parameter that moves the curve by less than this has no standard error: its square underflows.
_NOTHING = 1e-140


@dataclass(frozen=True, slots=True)
class Family:
    """f(x) = sum_j theta_j x^j over `powers`, plus theta * column(x, shape) if there is a shape.

    x = ln(N / N_ref). The last parameter is the shape: alpha, or ln(N0 / N_ref).
    """

    name: FamilyName
    parameters: tuple[str, ...]
    powers: tuple[int, ...]
    column: Column | None = None
    column_slope: Column | None = None  # d column / d shape
    fewest_models: int = 4

    @property
    def k(self) -> int:
        return len(self.parameters)


def _power(x: FloatArray, alpha: FloatArray) -> FloatArray:
    # The cap only matters to shapes the data rule out; overflow there would spoil the others.
    return np.exp(np.clip(alpha * x, -300, 300))


def _power_slope(x: FloatArray, alpha: FloatArray) -> FloatArray:
    return x * _power(x, alpha)


def _saturating(x: FloatArray, ln_n0: FloatArray) -> FloatArray:
    return -np.expm1(-np.exp(np.clip(x - ln_n0, -300, 300)))


def _saturating_slope(x: FloatArray, ln_n0: FloatArray) -> FloatArray:
    ratio = np.exp(np.clip(x - ln_n0, -300, 300))
    return -ratio * np.exp(-ratio)


FAMILIES: dict[FamilyName, Family] = {
    family.name: family
    for family in (
        Family("constant", ("c",), (0,)),
        Family("loglinear", ("c", "b"), (0, 1)),
        Family("power", ("A", "alpha"), (), _power, _power_slope),
        Family("saturating", ("c", "ln_n0"), (), _saturating, _saturating_slope),
        Family("quadratic", ("c", "b", "q"), (0, 1, 2), fewest_models=6),
        Family("power_floor", ("c", "A", "alpha"), (0,), _power, _power_slope, fewest_models=6),
    )
}
FIVE_FAMILIES: tuple[FamilyName, ...] = (
    "constant",
    "loglinear",
    "power",
    "saturating",
    "quadratic",
)


@dataclass(frozen=True, slots=True)
class Fit:
    """One family fitted to M deltas with known error covariance.

    `theta` follows `family.parameters`. A and c are delta at N_ref (for `saturating`, the ceiling).
    """

    family: Family
    theta: FloatArray  # (k,)
    covariance: FloatArray  # (k, k) of theta if errors are as stated; NaN where singular
    misfit: float  # generalised residual sum of squares, r' W r
    log_det: float  # ln |V + tau^2 I|
    fitted: FloatArray  # (M,)
    observed: FloatArray  # (M,)
    total: FloatArray  # (M, M) V + tau^2 I
    size: FloatArray  # (M,)
    reference: float  # N_ref
    tau2: float
    shape_at_edge: bool  # the best shape is as extreme as any tried: not a finite estimate

    @property
    def models(self) -> int:
        return self.size.size

    @property
    def df(self) -> int:
        return self.models - self.family.k

    @property
    def dispersion(self) -> float:
        """max(1, misfit / df): how far errors outgrow what was stated (Birge)."""
        return max(1.0, self.misfit / self.df) if self.df > 0 else math.nan

    def parameter(self, name: str) -> float:
        return float(self.theta[self.family.parameters.index(name)])

    def predict(self, size: ArrayLike) -> FloatArray:
        """Fitted delta at sizes N > 0, shaped like them."""
        design = _design(self.family, self._x(size), self._shape)
        values: FloatArray = design @ self._linear
        return values

    def gradient(self, size: ArrayLike) -> FloatArray:
        """d predict / d theta, with a last axis of k."""
        return _gradient(self.family, self._x(size), self.theta)

    def _x(self, size: ArrayLike) -> FloatArray:
        return np.log(np.asarray(size, dtype=np.float64) / self.reference)

    @property
    def _shape(self) -> float:
        return float(self.theta[-1]) if self.family.column else math.nan

    @property
    def _linear(self) -> FloatArray:
        return self.theta[:-1] if self.family.column else self.theta


@dataclass(frozen=True, slots=True)
class Refits:
    """One family fitted to each of B delta vectors."""

    family: Family
    theta: FloatArray  # (B, k)
    misfit: FloatArray  # (B,)
    reference: float

    def predict(self, size: ArrayLike) -> FloatArray:
        """Fitted delta of each replicate at K sizes, shape (B, K)."""
        x_K = np.log(np.atleast_1d(np.asarray(size, dtype=np.float64)) / self.reference)
        curve_BK = np.empty((len(self.theta), x_K.size))
        for rows in _pieces(len(self.theta)):
            curve_BK[rows] = self._curves(x_K, self.theta[rows])
        return curve_BK

    def _curves(self, x_K: FloatArray, theta: FloatArray) -> FloatArray:
        fixed = _fixed_columns(self.family, x_K).T
        if self.family.column is None:
            return np.asarray(theta @ fixed)
        column_BK = self.family.column(x_K[None, :], theta[:, -1:])
        return np.asarray(theta[:, :-2] @ fixed + theta[:, -2:-1] * column_BK)


def as_covariance(variance: ArrayLike, models: int) -> FloatArray:
    """(M, M) from variances (M,) or a covariance (M, M). Raises ValueError for another shape."""
    matrix = np.asarray(variance, dtype=np.float64)
    if matrix.shape == (models,):
        matrix = np.diag(matrix)
    if matrix.shape != (models, models) or not np.all(np.diag(matrix) > 0):
        raise ValueError(f"covariance {matrix.shape} is not {models} positive variances, or (M, M)")
    return matrix


def fit_family(
    name: FamilyName,
    size_M: ArrayLike,
    delta_M: ArrayLike,
    cov_MM: ArrayLike,
    *,
    tau2: float = 0.0,
    reference: float | None = None,
) -> Fit:
    """Generalised least squares of one family, weights (V + tau^2 I)^-1, by variable projection.

    Sizes are positive, in any unit; N_ref is their geometric mean unless given. `cov_MM` holds the
    error covariance or M variances. Deltas of any sign count alike.

    Raises ValueError for shapes that do not match, NaN, sizes <= 0, or more parameters than models.
    Source: Golub & Pereyra 1973, SIAM J. Numerical Analysis 10:413.
    """
    family = FAMILIES[name]
    size, delta, x, reference = _checked(size_M, delta_M, reference)
    total = as_covariance(cov_MM, size.size) + tau2 * np.eye(size.size)
    root = _root(cov_MM, size.size, tau2)
    design, linear, shape, at_edge = _solved(family, x, delta, root)
    theta = np.append(linear, shape) if family.column else linear
    residual = _whitened(root, delta - design @ linear)
    tangent = _whitened(root, _gradient(family, x, theta))
    return Fit(
        family=family,
        theta=theta,
        covariance=_inverse_or_nan(tangent.T @ tangent),
        misfit=float(residual @ residual),
        log_det=2 * float(np.log(np.diag(root)).sum()),
        fitted=design @ linear,
        observed=delta,
        total=total,
        size=size,
        reference=reference,
        tau2=tau2,
        shape_at_edge=at_edge,
    )


def least_misfit(
    name: FamilyName,
    size_M: ArrayLike,
    delta_M: ArrayLike,
    cov_MM: ArrayLike,
    *,
    tau2: float = 0.0,
) -> float:
    """The `misfit` of `fit_family` alone, which is cheaper. Raises as that does."""
    size, delta, x, _ = _checked(size_M, delta_M, None)
    root = _root(cov_MM, size.size, tau2)
    design, linear, _, _ = _solved(FAMILIES[name], x, delta, root)
    residual = _whitened(root, delta - design @ linear)
    return float(residual @ residual)


def profile_misfit(
    name: FamilyName,
    size_M: ArrayLike,
    delta_M: ArrayLike,
    cov_MM: ArrayLike,
    *,
    tau2: float = 0.0,
) -> Callable[[FloatArray], FloatArray]:
    """The least misfit over the linear parameters as a function of fixed shapes, (S,) to (S,).

    Raises as `fit_family`, and for a family without a shape.
    """
    family = FAMILIES[name]
    if family.column is None:
        raise ValueError(f"{name} has no shape parameter")
    size, delta, x, _ = _checked(size_M, delta_M, None)
    root = _root(cov_MM, size.size, tau2)
    return _Profile(family.column, _fixed_columns(family, x), x, delta, root).misfit


# --- many vectors at once ------------------------------------------------------------------------


def refit_family(
    name: FamilyName,
    size_M: ArrayLike,
    delta_BM: ArrayLike,
    cov_MM: ArrayLike,
    *,
    tau2: float = 0.0,
    reference: float | None = None,
) -> Refits:
    """`fit_family` for B delta vectors that share their weights, as array operations.

    The shape is the best of 601 grid points, refined by a parabola. Raises as `fit_family`.
    """
    family = FAMILIES[name]
    deltas = np.asarray(delta_BM, dtype=np.float64)
    size, _, x, reference = _checked(size_M, deltas, reference)
    root = _root(cov_MM, size.size, tau2)
    z_BM = _whitened(root, deltas.T).T
    fixed = _whitened(root, _fixed_columns(family, x))
    if family.column is None:
        theta = _all_least_squares(fixed, z_BM)
        return Refits(family, theta, _squares(z_BM - theta @ fixed.T), reference)
    profile = _Profile(family.column, _fixed_columns(family, x), x, deltas, root)
    shape_B = profile.best_on(_shape_grid(family, x, 601))
    # The column of each replicate at its own shape, then the linear parameters one after another.
    column_BM = _whitened(root, family.column(x[None, :], shape_B[:, None]).T).T
    free_BM = profile.without_fixed(column_BM)
    square_B = np.maximum(_squares(free_BM), 1e-300)
    amplitude_B = (free_BM * profile.z).sum(axis=1) / square_B
    misfit_B = _squares(profile.z - amplitude_B[:, None] * free_BM)
    rest_BM = z_BM - amplitude_B[:, None] * column_BM
    linear = _all_least_squares(fixed, rest_BM)
    theta = np.concatenate([linear, amplitude_B[:, None], shape_B[:, None]], axis=1)
    return Refits(family, theta, misfit_B, reference)


def refit_family_weighted(
    name: FamilyName,
    size_M: ArrayLike,
    delta_BM: ArrayLike,
    weight_BM: ArrayLike,
    *,
    reference: float | None = None,
) -> Refits:
    """As `refit_family` with diagonal weights of each replicate's own; zero leaves a model out.

    For the hierarchical bootstrap, where models are drawn too. Raises as `fit_family`.
    """
    family = FAMILIES[name]
    deltas, weight = np.asarray(delta_BM, np.float64), np.asarray(weight_BM, np.float64)
    _, _, x, reference = _checked(size_M, deltas, reference)
    if weight.shape != deltas.shape or np.any(weight < 0):
        raise ValueError(f"weights {weight.shape} are not like deltas {deltas.shape}, or negative")
    shape_B = np.full(len(deltas), math.nan)
    columns = [np.broadcast_to(column, deltas.shape) for column in _fixed_columns(family, x).T]
    if family.column is not None:
        shape_B = _best_weighted_shape(family, x, deltas, weight)
        columns.append(family.column(x[None, :], shape_B[:, None]))
    design_BMP = np.stack(columns, axis=-1)
    weighted = design_BMP * weight[..., None]
    normal_BPP = np.einsum("bmp,bmq->bpq", weighted, design_BMP)
    right_BP = np.einsum("bmp,bm->bp", weighted, deltas)
    # A replicate that drew too few distinct sizes has no unique solution; take the shortest.
    linear = np.einsum("bpq,bq->bp", np.linalg.pinv(normal_BPP, hermitian=True), right_BP)
    residual = deltas - np.einsum("bmp,bp->bm", design_BMP, linear)
    theta = np.column_stack([linear, shape_B]) if family.column else linear
    return Refits(family, theta, (weight * residual**2).sum(axis=1), reference)


# --- the pieces ----------------------------------------------------------------------------------


class _Profile:
    """Misfit as a function of the shape alone, for one delta vector (M,) or many (B, M)."""

    def __init__(
        self, column: Column, fixed: FloatArray, x: FloatArray, delta: FloatArray, root: FloatArray
    ) -> None:
        self.column, self.x, self.root = column, x, root
        self.basis: FloatArray = np.linalg.qr(_whitened(root, fixed))[0]
        self.z = self.without_fixed(_whitened(root, delta.T).T)

    def without_fixed(self, whitened: FloatArray) -> FloatArray:
        return np.asarray(whitened - (whitened @ self.basis) @ self.basis.T)

    def directions(self, shape_S: FloatArray) -> FloatArray:
        """Unit vectors (S, M) along each shape's column; zero where nothing is left of it."""
        raw = _whitened(self.root, self.column(self.x[None, :], shape_S[:, None]).T).T
        # Divided by its own largest entry first, so that steep shapes do not overflow when squared.
        raw = raw / np.maximum(np.abs(raw).max(axis=1, keepdims=True), 1e-300)
        free = self.without_fixed(raw)
        length = np.sqrt(_squares(free))[:, None]
        usable = length > 1e-7 * np.sqrt(_squares(raw))[:, None]
        return np.asarray(np.divide(free, length, out=np.zeros_like(free), where=usable))

    def misfit(self, shape_S: FloatArray) -> FloatArray:
        """For one delta vector: what no linear parameter can remove, (S,)."""
        direction = self.directions(shape_S)
        along = direction @ self.z
        # Squaring the residual keeps the digits that subtracting two squares would lose.
        return _squares(self.z[None, :] - along[:, None] * direction)

    def best_on(self, grid: FloatArray) -> FloatArray:
        """For many vectors: the best shape of each, (B,), refined twice by a parabola."""
        direction = self.directions(grid)
        best_B = _parabolic_peak(
            ((self.z[rows] @ direction.T) ** 2 for rows in _pieces(len(self.z))), grid
        )
        inside = (best_B > grid[0]) & (best_B < grid[-1])
        step = (grid[1] - grid[0]) / 8
        around = [
            ((self.directions(best_B + move) * self.z).sum(axis=1)) ** 2
            for move in (-step, 0, step)
        ]
        return best_B + np.where(inside, _peak_offset(*around) * step, 0.0)


def _solved(
    family: Family, x: FloatArray, delta: FloatArray, root: FloatArray
) -> tuple[FloatArray, FloatArray, float, bool]:
    """Design at the best shape, its linear parameters, the shape, and whether that is at an end."""
    if x.size < family.k:
        raise ValueError(f"{family.name} has {family.k} parameters and there are {x.size} models")
    shape, at_edge = math.nan, False
    if family.column is not None:
        profile = _Profile(family.column, _fixed_columns(family, x), x, delta, root)
        shape, at_edge = _best_shape(profile, _shape_grid(family, x, 1_201))
    design = _design(family, x, shape)
    linear = _least_squares(_whitened(root, design), _whitened(root, delta))
    return design, linear, shape, at_edge


def _best_shape(profile: _Profile, grid: FloatArray) -> tuple[float, bool]:
    """The shape of least misfit, and whether it is at the end of the range."""
    best = int(np.argmin(profile.misfit(grid)))
    for _ in range(2):
        if 0 < best < grid.size - 1 or profile.column is not _power:
            break
        grid = grid * 2  # steep data over a narrow range of sizes need exponents beyond 3
        best = int(np.argmin(profile.misfit(grid)))
    if not 0 < best < grid.size - 1:
        return float(grid[best]), True
    low, high = float(grid[best - 1]), float(grid[best + 1])
    centre, step = float(grid[best]), (high - low) / 2
    for _ in range(6):
        around = -profile.misfit(np.array([centre - step, centre, centre + step]))
        move = float(_peak_offset(around[:1], around[1:2], around[2:])[0]) * step
        centre = min(max(centre + move, low), high)
        step = max(step * 0.02, 1e-6)
    return centre, False


def _best_weighted_shape(
    family: Family, x: FloatArray, deltas: FloatArray, weight: FloatArray
) -> FloatArray:
    """As `_Profile.best_on`, from moments, because every replicate has weights of its own."""
    if family.column is None:
        raise ValueError(f"{family.name} has no shape parameter")
    grid = _shape_grid(family, x, 601)
    column_SM = family.column(x[None, :], grid[:, None])
    column_MS = (column_SM / np.abs(column_SM).max(axis=1, keepdims=True)).T
    square_MS = column_MS**2

    def gain(rows: slice) -> FloatArray:
        w, d = weight[rows], deltas[rows]
        all_B1 = w.sum(axis=1, keepdims=True)
        product, square = (w * d) @ column_MS, w @ square_MS
        if family.powers == (0,):
            mean_column = (w @ column_MS) / all_B1
            product = product - (w * d).sum(axis=1, keepdims=True) * mean_column
            square = square - all_B1 * mean_column**2
        enough = square > 1e-12 * all_B1
        return np.asarray(np.divide(product**2, square, out=np.zeros_like(product), where=enough))

    return _parabolic_peak((gain(rows) for rows in _pieces(len(deltas))), grid)


def _parabolic_peak(gains: Iterable[FloatArray], grid: FloatArray) -> FloatArray:
    """Where the parabola through the best grid point and its neighbours is highest, (B,).

    `gains` are consecutive rows of the gain (B, S), a few at a time.
    """
    bests, arounds = [], []
    for gain in gains:
        at = np.argmax(gain, axis=1)
        beside = np.clip(at, 1, grid.size - 2)[:, None] + np.array([-1, 0, 1])
        bests.append(at)
        arounds.append(np.take_along_axis(gain, beside, axis=1))
    best = np.concatenate(bests)
    inner = np.clip(best, 1, grid.size - 2)
    offset = _peak_offset(*np.concatenate(arounds).T)
    refined = grid[inner] + offset * (grid[1] - grid[0])
    return np.asarray(np.where(best == inner, refined, grid[best]))


def _peak_offset(left: FloatArray, middle: FloatArray, right: FloatArray) -> FloatArray:
    """Where a parabola through three equally spaced points is highest, in steps from the middle."""
    bend = left - 2 * middle + right
    offset = np.divide(left - right, 2 * bend, out=np.zeros_like(bend), where=bend < 0)
    return np.asarray(np.clip(offset, -1, 1))


def _shape_grid(family: Family, x: FloatArray, points: int) -> FloatArray:
    if family.column is _power:
        # Beside a floor, an exponent of zero leaves nothing of the column: an even number of points
        # steps over it.
        return np.linspace(-3.0, 3.0, points - len(family.powers))
    # A ceiling reached three e-folds below the smallest model, or seven above the largest, cannot
    # be told from a constant or from a straight line in N.
    return np.linspace(float(x.min()) - 3, float(x.max()) + 7, points)


def _fixed_columns(family: Family, x: FloatArray) -> FloatArray:
    return np.stack([x**j for j in family.powers], axis=-1) if family.powers else _none_like(x)


def _none_like(x: FloatArray) -> FloatArray:
    return np.empty((*x.shape, 0))


def _design(family: Family, x: FloatArray, shape: float) -> FloatArray:
    fixed = _fixed_columns(family, x)
    if family.column is None:
        return fixed
    column = family.column(x, np.asarray(shape))
    return np.concatenate([fixed, column[..., None]], axis=-1)


def _gradient(family: Family, x: FloatArray, theta: FloatArray) -> FloatArray:
    if family.column_slope is None:
        return _fixed_columns(family, x)
    slope = theta[-2] * family.column_slope(x, theta[-1])
    return np.concatenate([_design(family, x, float(theta[-1])), slope[..., None]], axis=-1)


def _root(cov_MM: ArrayLike, models: int, tau2: float) -> FloatArray:
    """Lower Cholesky factor of V + tau^2 I; solving with it whitens."""
    return np.asarray(np.linalg.cholesky(as_covariance(cov_MM, models) + tau2 * np.eye(models)))


def _whitened(root: FloatArray, columns: FloatArray) -> FloatArray:
    return np.asarray(np.linalg.solve(root, columns), dtype=np.float64)


def _least_squares(design: FloatArray, target: FloatArray) -> FloatArray:
    # Columns of one length each: a steep shape's column would else hide the others as rounding.
    length = np.maximum(np.sqrt(_squares(design.T)), 1e-300)
    found = np.asarray(np.linalg.lstsq(design / length, target)[0], dtype=np.float64)
    return found / (length if target.ndim == 1 else length[:, None])


def _all_least_squares(design: FloatArray, target_BM: FloatArray) -> FloatArray:
    """`_least_squares` of each row, (B, P)."""
    return np.concatenate(
        [_least_squares(design, target_BM[rows].T).T for rows in _pieces(len(target_BM))]
    )


def _pieces(n: int) -> Iterator[slice]:
    return (slice(start, start + _ROWS) for start in range(0, n, _ROWS))


def _squares(rows: FloatArray) -> FloatArray:
    return np.asarray(np.einsum("...m,...m->...", rows, rows))


def _inverse_or_nan(matrix: FloatArray) -> FloatArray:
    """The covariance to this information; NaN where a parameter moves nothing."""
    scale = np.sqrt(np.diag(matrix))
    if np.min(scale) < _NOTHING:
        return np.full_like(matrix, math.nan)
    correlation = matrix / scale / scale[:, None]
    if np.linalg.cond(correlation) > 1e14:
        return np.full_like(matrix, math.nan)
    return np.asarray(np.linalg.inv(correlation) / scale / scale[:, None])


def _checked(
    size_M: ArrayLike, delta: ArrayLike, reference: float | None
) -> tuple[FloatArray, FloatArray, FloatArray, float]:
    size = np.asarray(size_M, dtype=np.float64)
    deltas = np.asarray(delta, dtype=np.float64)
    if size.ndim != 1 or deltas.shape[-1:] != size.shape:
        raise ValueError(f"sizes {size.shape} and deltas {deltas.shape} do not match")
    if not (np.all(size > 0) and np.all(np.isfinite(size)) and np.all(np.isfinite(deltas))):
        raise ValueError("sizes must be positive, and sizes and deltas finite")
    if reference is None:
        reference = float(np.exp(np.log(size).mean()))
    return size, deltas, np.log(size / reference), reference
