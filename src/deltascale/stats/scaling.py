"""Delta against size: scatter between models, the exponent's set, choosing a family, predicting.

Each delta is f(N) + eta + e: e has the known covariance of the items, eta ~ (0, tau^2) is how far
models lie off any law. Statements about these models alone (E1) set tau to zero; statements about
models of such sizes (E2) estimate it.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import chdtri, fdtri, stdtrit

from deltascale.stats.families import (
    FAMILIES,
    FIVE_FAMILIES,
    FamilyName,
    Fit,
    as_covariance,
    fit_family,
    least_misfit,
    profile_misfit,
)
from deltascale.stats.paired import Interval
from deltascale.stats.regions import Region, fieller, sublevel_region

__all__ = [
    "Comparison",
    "Exponent",
    "FamilyScore",
    "LeaveOneModelOut",
    "Prediction",
    "Tau2",
    "Vertex",
    "aicc",
    "aicc_unknown_variance",
    "between_model_variance",
    "compare_families",
    "dersimonian_laird",
    "exponent",
    "leave_one_model_out",
    "paule_mandel",
    "predict",
    "richest_family",
    "vertex",
]

FloatArray: TypeAlias = NDArray[np.float64]
Estimand: TypeAlias = Literal["E1", "E2"]


@dataclass(frozen=True, slots=True)
class Tau2:
    """Between-model variance, and under which family it was estimated."""

    value: float
    family: FamilyName
    misfit_without: float  # r' V^-1 r at tau = 0: chi-square of the family if it is exact
    df: int


@dataclass(frozen=True, slots=True)
class Exponent:
    """The power law's alpha and the set of values the data do not reject."""

    alpha: float
    region: Region
    estimand: Estimand
    tau2: float
    level: float
    at_edge: bool = False  # alpha is as extreme as any tried, or no delta tells one: no estimate

    @property
    def identified(self) -> bool:
        """False when the set has no end: then say "not identified" and print the end it has."""
        return self.region.bounded


@dataclass(frozen=True, slots=True)
class LeaveOneModelOut:
    """How well each model's delta is foretold by the others."""

    predicted: FloatArray  # (M,)
    variance: FloatArray  # (M,) error + tau^2 + that of the prediction
    theta: FloatArray  # (M, k) fitted without model m
    log_score: float  # sum of log predictive densities; NaN where a fold's fit is singular
    rmse: float


@dataclass(frozen=True, slots=True)
class FamilyScore:
    """One family beside the others."""

    fit: Fit
    aicc: float  # NaN where M - k - 1 <= 0
    delta_aicc: float  # above the best family's
    weight: float  # Akaike's; 0 where AICc is undefined
    left_out: LeaveOneModelOut
    skill: float  # its log score less the constant's


@dataclass(frozen=True, slots=True)
class Comparison:
    """Families under one tau^2, in the order they were asked for."""

    scores: tuple[FamilyScore, ...]
    tau2: Tau2

    @property
    def best(self) -> FamilyScore:
        return min(self.scores, key=lambda score: _nan_last(score.delta_aicc))

    def within(self, delta_aicc: float = 2.0) -> tuple[FamilyScore, ...]:
        """The families that cannot be told from the best: report all of them."""
        return tuple(score for score in self.scores if score.delta_aicc <= delta_aicc)

    def average(self, size: ArrayLike) -> FloatArray:
        """Prediction averaged over families by Akaike weight."""
        total: FloatArray = sum(
            (score.weight * score.fit.predict(size) for score in self.scores),
            np.zeros(np.shape(size)),
        )
        return total

    def envelope(
        self, size: ArrayLike, *, delta_aicc: float = 4.0
    ) -> tuple[FloatArray, FloatArray]:
        """Least and greatest prediction over the families within `delta_aicc` of the best."""
        curves = [score.fit.predict(size) for score in self.within(delta_aicc)]
        return np.min(curves, axis=0), np.max(curves, axis=0)


@dataclass(frozen=True, slots=True)
class Prediction:
    """Delta foretold at K sizes: limits of the mean, and of one new model's delta."""

    size: FloatArray
    mean: FloatArray
    mean_low: FloatArray
    mean_high: FloatArray
    new_low: FloatArray
    new_high: FloatArray
    extrapolated: NDArray[np.bool_]  # beyond three times the largest or a third of the least N


@dataclass(frozen=True, slots=True)
class Vertex:
    """Where a quadratic in ln N turns. Report it only if it is `inside` the sizes observed."""

    size: float
    region: Region  # of sizes
    peak: bool  # q < 0: an inverted U
    inside: bool


# --- scatter between models ----------------------------------------------------------------------


def paule_mandel(
    effect_M: ArrayLike, cov_MM: ArrayLike, *, design_MP: ArrayLike | None = None
) -> float:
    """tau^2 at which the generalised residual sum of squares equals its degrees of freedom.

    0 if it is already below. Without `design_MP` the mean is constant. `cov_MM` may be M variances.
    Raises ValueError for shapes that do not match, or no degrees of freedom.
    Source: Paule & Mandel 1982, J. Research NBS 87:377; DerSimonian & Kacker 2007.
    """
    effect = np.asarray(effect_M, dtype=np.float64)
    cov = as_covariance(cov_MM, effect.size)
    design = np.ones((effect.size, 1)) if design_MP is None else np.asarray(design_MP, np.float64)
    df = effect.size - design.shape[1]
    if df < 1:
        raise ValueError("paule_mandel needs more effects than columns")

    def misfit(tau2: float) -> float:
        root = np.linalg.cholesky(cov + tau2 * np.eye(effect.size))
        columns, target = np.linalg.solve(root, design), np.linalg.solve(root, effect)
        left = target - columns @ np.linalg.lstsq(columns, target)[0]
        return float(left @ left)

    return _where_falls_to(misfit, float(df), scale=float(np.var(effect)))


def dersimonian_laird(effect_M: ArrayLike, variance_M: ArrayLike) -> float:
    """The moment estimate of tau^2 about a constant mean, to compare with other tools; >= 0.

    Source: DerSimonian & Laird 1986, Controlled Clinical Trials 7:177.
    """
    effect = np.asarray(effect_M, dtype=np.float64)
    weight = 1 / np.asarray(variance_M, dtype=np.float64)
    mean = float(weight @ effect / weight.sum())
    excess = float(weight @ (effect - mean) ** 2) - (effect.size - 1)
    return max(0.0, excess / float(weight.sum() - weight @ weight / weight.sum()))


def richest_family(models: int) -> FamilyName:
    """The family of most parameters that so many models identify: quadratic from six up."""
    return "quadratic" if models >= FAMILIES["quadratic"].fewest_models else "loglinear"


def between_model_variance(
    size_M: ArrayLike,
    delta_M: ArrayLike,
    cov_MM: ArrayLike,
    *,
    family: FamilyName | None = None,
) -> Tau2:
    """Paule-Mandel tau^2 about a fitted family, by default the richest that M identifies.

    For comparing families use the default: under a poor family its misfit passes for scatter, and
    hides the shape. Raises ValueError as `fit_family`, or without degrees of freedom.
    """
    models = np.size(size_M)
    name = richest_family(models) if family is None else family
    df = models - FAMILIES[name].k
    if df < 1:
        raise ValueError(f"{name} leaves {models} models no degrees of freedom")

    def misfit(tau2: float) -> float:
        return least_misfit(name, size_M, delta_M, cov_MM, tau2=tau2)

    without = misfit(0.0)
    tau2 = _where_falls_to(
        misfit, float(df), scale=float(np.var(np.asarray(delta_M))), at_zero=without
    )
    return Tau2(tau2, name, without, df)


# --- the exponent --------------------------------------------------------------------------------


def exponent(
    size_M: ArrayLike,
    delta_M: ArrayLike,
    cov_MM: ArrayLike,
    *,
    estimand: Estimand = "E2",
    tau2: float | None = None,
    level: float = 0.95,
) -> Exponent:
    """The power law's alpha with its profile set, which may be several pieces or without end.

    E2 (the headline): {alpha : S(alpha) - S_min <= q F_{1,M-2}}, q = max(1, S_min / (M - 2)), with
    Paule-Mandel tau^2 of the power law in S unless `tau2` is given. E1: tau = 0 and chi-square_1,
    true only "if the law is exact for these models".
    As alpha grows only the largest model (or as it falls the least) keeps a delta: the misfit's
    limits there decide whether the set has an end.

    Raises ValueError as `fit_family`, or for fewer than four models.
    Source: profile likelihood as Venzon & Moolgavkar 1988, Applied Statistics 37:87; Birge 1932,
    Physical Review 40:207 for q; the combination is ours.
    """
    size = np.asarray(size_M, dtype=np.float64)
    if size.size < FAMILIES["power"].fewest_models:
        raise ValueError(f"an exponent is fitted from four models up, not {size.size}")
    if estimand == "E1":
        tau2 = 0.0
    elif tau2 is None:
        tau2 = between_model_variance(size, delta_M, cov_MM, family="power").value
    fit = fit_family("power", size, delta_M, cov_MM, tau2=tau2)
    allowed = float(chdtri(1, 1 - level))
    if estimand == "E2":
        allowed = fit.dispersion * float(fdtri(1, fit.df, level))
    threshold = fit.misfit + allowed

    alpha = fit.parameter("alpha")
    x = np.abs(np.log(size / fit.reference))
    steepest = max(3.0, 290 / float(x.max())) if x.max() > 0 else 3.0
    far = np.geomspace(3.0, steepest, 200)
    grid = np.concatenate([-far, np.linspace(-3, 3, 1_201), far, [alpha]])
    ends = [
        _misfit_of_column((size == end).astype(np.float64), delta_M, cov_MM, tau2)
        for end in (size.min(), size.max())
    ]
    region = sublevel_region(
        profile_misfit("power", size, delta_M, cov_MM, tau2=tau2),
        grid,
        threshold=threshold,
        open_low=ends[0] <= threshold,
        open_high=ends[1] <= threshold,
    )
    return Exponent(alpha, region, estimand, tau2, level, at_edge=fit.shape_at_edge)


# --- choosing a family ---------------------------------------------------------------------------


def aicc(misfit: float, k: int, n: int, *, log_det: float = 0.0) -> float:
    """Small-sample AIC when the error covariance is known; NaN where n - k - 1 <= 0.

    misfit is r' W r and log_det is ln |V + tau^2 I| (the same for all families under one tau^2).
    Source: Hurvich & Tsai 1989, Biometrika 76:297; Burnham & Anderson 2002, section 2.4.
    """
    if n - k - 1 <= 0:
        return math.nan
    return misfit + log_det + 2 * k + 2 * k * (k + 1) / (n - k - 1)


def aicc_unknown_variance(rss: float, k: int, n: int) -> float:
    """AICc of a least-squares fit with k mean parameters, its error variance estimated too.

    The additive constant n (1 + ln 2 pi) is left out. NaN where n - k - 2 <= 0.
    Source: Burnham & Anderson 2002, section 2.4.
    """
    parameters = k + 1
    if n - parameters - 1 <= 0:
        return math.nan
    correction = 2 * parameters * (parameters + 1) / (n - parameters - 1)
    return n * math.log(rss / n) + 2 * parameters + correction


def compare_families(
    size_M: ArrayLike,
    delta_M: ArrayLike,
    cov_MM: ArrayLike,
    *,
    names: Sequence[FamilyName] = FIVE_FAMILIES,
    tau2: Tau2 | None = None,
) -> Comparison:
    """Fit families under one tau^2 (that of the richest) and score them: AICc and left-out models.

    Families that M is too few for are skipped; `constant` is always fitted, for skill.
    Raises ValueError for fewer than four models, or as `fit_family`.
    """
    models = np.size(size_M)
    if models < 4:
        raise ValueError(f"families are compared from four models up, not {models}")
    scatter = between_model_variance(size_M, delta_M, cov_MM) if tau2 is None else tau2
    wanted: list[FamilyName] = [n for n in FAMILIES if n in names or n == "constant"]
    wanted = [name for name in wanted if models >= FAMILIES[name].fewest_models]
    fits = [fit_family(name, size_M, delta_M, cov_MM, tau2=scatter.value) for name in wanted]
    left_out = [leave_one_model_out(fit) for fit in fits]
    value = np.array([aicc(f.misfit, f.family.k, models, log_det=f.log_det) for f in fits])
    above = value - np.nanmin(value)
    weight = np.where(np.isnan(above), 0.0, np.exp(-above / 2))
    weight = weight / weight.sum()
    base = left_out[wanted.index("constant")].log_score
    scores = tuple(
        FamilyScore(
            fit, float(value[j]), float(above[j]), float(weight[j]), out, out.log_score - base
        )
        for j, (fit, out) in enumerate(zip(fits, left_out, strict=True))
    )
    return Comparison(scores, scatter)


def leave_one_model_out(fit: Fit) -> LeaveOneModelOut:
    """Refit without each model in turn and foretell it, tau^2 and N_ref as in the whole fit.

    The log score is Gaussian with variance V_mm + tau^2 + that of the prediction, not scaled by any
    dispersion. NaN where a fold has fewer models than parameters.
    """
    models, k = fit.models, fit.family.k
    predicted, variance = np.full(models, math.nan), np.full(models, math.nan)
    theta = np.full((models, k), math.nan)
    for m in range(models if models > k else 0):
        rest = np.arange(models) != m
        # tau^2 is in `total` already.
        fold = fit_family(
            fit.family.name,
            fit.size[rest],
            fit.observed[rest],
            fit.total[np.ix_(rest, rest)],
            reference=fit.reference,
        )
        g = fold.gradient(fit.size[m])
        theta[m] = fold.theta
        predicted[m] = float(fold.predict(fit.size[m]))
        variance[m] = fit.total[m, m] + float(g @ fold.covariance @ g)
    error = fit.observed - predicted
    log_density = -0.5 * (np.log(2 * math.pi * variance) + error**2 / variance)
    rmse = math.sqrt(float(np.mean(error**2)))
    return LeaveOneModelOut(predicted, variance, theta, float(log_density.sum()), rmse)


# --- predicting ----------------------------------------------------------------------------------


def predict(fit: Fit, size_K: ArrayLike, *, level: float = 0.95) -> Prediction:
    """The fitted mean and a new model's delta at K sizes, with t_{M-k} limits.

    Both widths grow with the fit's dispersion; a new model's also holds tau^2, not the sampling
    error of measuring it. Nothing is clipped to what accuracy allows. NaN limits without degrees of
    freedom. Right only if the family is: beside it, print `Comparison.envelope`.
    """
    size = np.atleast_1d(np.asarray(size_K, dtype=np.float64))
    mean, g_Kk = fit.predict(size), fit.gradient(size)
    variance = np.einsum("kp,pq,kq->k", g_Kk, fit.covariance, g_Kk)
    t = float(stdtrit(fit.df, (1 + level) / 2)) if fit.df > 0 else math.nan
    of_mean = t * np.sqrt(fit.dispersion * variance)
    of_new = t * np.sqrt(fit.dispersion * (variance + fit.tau2))
    extrapolated = (size > 3 * fit.size.max()) | (size < fit.size.min() / 3)
    return Prediction(
        size, mean, mean - of_mean, mean + of_mean, mean - of_new, mean + of_new, extrapolated
    )


def vertex(fit: Fit, *, level: float = 0.95) -> Vertex:
    """Turning point of a quadratic fit, with the Fieller region of -b / 2q put on the size scale.

    Raises ValueError for another family.
    """
    if fit.family.name != "quadratic":
        raise ValueError(f"{fit.family.name} has no vertex")
    b, q = fit.parameter("b"), fit.parameter("q")
    scale = fit.dispersion if fit.df > 0 else math.nan
    ratio = fieller(
        -b,
        2 * q,
        var_numerator=scale * float(fit.covariance[1, 1]),
        var_denominator=4 * scale * float(fit.covariance[2, 2]),
        covariance=-2 * scale * float(fit.covariance[1, 2]),
        df=fit.df,
        level=level,
    )

    def as_size(x: float) -> float:
        return fit.reference * math.exp(min(x, 700.0)) if x < math.inf else math.inf

    pieces = tuple(Interval(as_size(p.low), as_size(p.high)) for p in ratio.region.pieces)
    size = as_size(ratio.ratio)
    inside = bool(fit.size.min() < size < fit.size.max())
    return Vertex(size, Region(pieces), q < 0, inside)


# --- the pieces ----------------------------------------------------------------------------------


def _where_falls_to(
    misfit: Callable[[float], float],
    target: float,
    *,
    scale: float,
    at_zero: float | None = None,
) -> float:
    """The t >= 0 where a falling misfit reaches target; 0 if it starts below.

    The misfit falls like 1 / (v + t), so false position (Illinois) runs on its reciprocal, which is
    nearly a straight line.
    """

    def excess(value: float) -> float:
        return target / value - 1 if value > 0 else math.inf

    low, at_low = 0.0, excess(misfit(0.0) if at_zero is None else at_zero)
    if at_low >= 0:
        return 0.0
    high = scale or 1.0
    while (at_high := excess(misfit(high))) < 0:
        low, at_low, high = high, at_high, high * 4
    middle, moved = high, 0
    for _ in range(100):
        middle = low - at_low * (high - low) / (at_high - at_low)
        at_middle = excess(misfit(middle))
        if abs(at_middle) < 1e-10 or high - low < 1e-12 * high:
            break
        # An end kept twice in a row counts half, or it would be kept for ever.
        if at_middle < 0:
            low, at_low, at_high = middle, at_middle, at_high / (2 if moved < 0 else 1)
            moved = -1
        else:
            high, at_high, at_low = middle, at_middle, at_low / (2 if moved > 0 else 1)
            moved = 1
    return middle


def _misfit_of_column(
    column: FloatArray, delta_M: ArrayLike, cov_MM: ArrayLike, tau2: float
) -> float:
    delta = np.asarray(delta_M, dtype=np.float64)
    root = np.linalg.cholesky(as_covariance(cov_MM, delta.size) + tau2 * np.eye(delta.size))
    c, z = np.linalg.solve(root, column), np.linalg.solve(root, delta)
    return float(z @ z - (c @ z) ** 2 / (c @ c))


def _nan_last(value: float) -> float:
    return math.inf if math.isnan(value) else value
