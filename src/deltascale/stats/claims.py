"""What a scaling fit may be said to show: R-squared, its gate, leverage, and cautions as data."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betainc, chdtrc

from deltascale.stats.families import FamilyName, Fit, as_covariance, fit_family
from deltascale.stats.scaling import Comparison, Exponent, vertex

__all__ = [
    "Caution",
    "Gate",
    "cautions",
    "cautions_before_fitting",
    "leverage",
    "r2_gate",
    "r2_gate_null_probability",
    "r_squared",
]

FloatArray: TypeAlias = NDArray[np.float64]
CautionCode: TypeAlias = Literal[
    "no_fit",
    "few_models",
    "narrow_range",
    "one_model_decides",
    "one_provider_decides",
    "left_out_sign",
    "alpha_not_identified",
    "sizes_undisclosed",
    "vertex_outside",
    "scatter_dominates",
    "floor_confounded",
]

_TEXT: dict[CautionCode, str] = {
    "no_fit": "{value:g} models of different size: nothing is fitted below {limit:g}",
    "few_models": (
        "{value:g} models: below {limit:g} no three-parameter family, no hierarchical bootstrap, "
        "and no talk of a law"
    ),
    "narrow_range": "sizes span {value:.2f} decades, fewer than {limit:g}",
    "one_model_decides": "one model holds {share} of its own fitted value (limit {most})",
    "one_provider_decides": "one provider holds {share} of the leverage (limit {most})",
    "left_out_sign": "leaving out one model changes the sign of alpha",
    "alpha_not_identified": "the set of exponents not rejected has no end",
    "sizes_undisclosed": "{share} of the sizes are not disclosed (limit {most})",
    "vertex_outside": "the quadratic turns at N = {value:.3g}, outside the sizes observed",
    "scatter_dominates": (
        "models scatter {value:.1f} times their mean standard error (limit {limit:g}): "
        "more models are needed, not more items"
    ),
    "floor_confounded": "power with floor has |alpha| = {value:.3f}: not told from log-linear",
}


@dataclass(frozen=True, slots=True)
class Caution:
    """One reason to claim less: what was found, and the limit it passed (NaN if there is none)."""

    code: CautionCode
    value: float
    limit: float

    @property
    def text(self) -> str:
        # One decimal, or a share just above its limit would read like the limit itself.
        text = _TEXT[self.code].format(
            value=self.value,
            limit=self.limit,
            share=f"{100 * self.value:.1f} %",
            most=f"{100 * self.limit:g} %",
        )
        return text.replace("1 models", "1 model") if text.startswith("1 models") else text


@dataclass(frozen=True, slots=True)
class Gate:
    """Whether "R-squared above a threshold" may be said of a fit, and why not."""

    r2: float  # unweighted
    r2_weighted: float  # weights 1 / (V_mm + tau^2), about the weighted mean
    threshold: float
    failures: tuple[str, ...]

    @property
    def passed(self) -> bool:
        return not self.failures


def r_squared(
    observed: ArrayLike, fitted: ArrayLike, *, weight_M: ArrayLike | None = None
) -> float | FloatArray:
    """1 - SSE / SST over the last axis; leading axes (replicates) are kept.

    May be negative; NaN where nothing varies. With weights, about the weighted mean.
    """
    y, f = np.asarray(observed, dtype=np.float64), np.asarray(fitted, dtype=np.float64)
    w = np.ones(y.shape[-1]) if weight_M is None else np.asarray(weight_M, dtype=np.float64)
    mean = (y @ w / w.sum())[..., None]
    sse, sst = ((y - f) ** 2) @ w, ((y - mean) ** 2) @ w
    # Equal deltas leave rounding, not variation.
    varies = sst > 1e-24 * np.maximum(1e-300, (y**2) @ w)
    value = 1 - np.divide(sse, sst, out=np.full(np.shape(sst), math.nan), where=varies)
    return float(value) if np.ndim(value) == 0 else np.asarray(value)


def r2_gate_null_probability(models: int, *, threshold: float = 0.85) -> float:
    """How often a straight line through `models` points of pure noise has R-squared above it.

    R-squared is then Beta(1/2, (M - 2) / 2). Raises ValueError for fewer than three points.
    """
    if models < 3:
        raise ValueError(f"a line through {models} points always fits")
    return float(1 - betainc(0.5, (models - 2) / 2, threshold))


def leverage(fit: Fit) -> FloatArray:
    """Share of each fitted value that its own observation holds (hat values), (M,); sums to k.

    The family is linearised at the fit. NaN where that is singular.
    """
    tangent = fit.gradient(fit.size)
    weighted = np.linalg.solve(fit.total, tangent)
    return np.asarray(np.einsum("mp,pq,mq->m", tangent, fit.covariance, weighted))


def r2_gate(
    comparison: Comparison,
    name: FamilyName,
    *,
    threshold: float = 0.85,
    points_dropped: int = 0,
    scatter_reported: bool = True,
) -> Gate:
    """Weighted R-squared of one compared family, and everything besides that the claim needs.

    At least six models over 1.5 decades, none dropped, a chi-square that does not reject the family
    at tau = 0 (or tau reported), and an AICc within 2 of the best. R-squared alone measures noise.
    Raises ValueError for a family that was not compared.
    """
    score = next((s for s in comparison.scores if s.fit.family.name == name), None)
    if score is None:
        raise ValueError(f"{name} is not among the families compared")
    fit = score.fit
    r2 = float(r_squared(fit.observed, fit.fitted))
    weighted = float(r_squared(fit.observed, fit.fitted, weight_M=1 / np.diag(fit.total)))
    failures = []
    if math.isnan(weighted):
        failures.append("R-squared is undefined: the deltas do not differ")
    elif not weighted > threshold:
        failures.append(f"weighted R-squared {weighted:.3f} is not above {threshold}")
    if fit.models < 6:
        failures.append(f"{fit.models} models, fewer than 6")
    if _decades(fit.size) < 1.5:
        failures.append(f"sizes span {_decades(fit.size):.2f} decades, fewer than 1.5")
    if points_dropped:
        failures.append(f"{points_dropped} models were dropped")
    if not scatter_reported and _misfit_p_without_scatter(fit) <= 0.05:
        failures.append("the family misfits at p <= .05 and tau is not reported")
    if not score.delta_aicc <= 2:
        failures.append(f"another family is {score.delta_aicc:.1f} better in AICc")
    return Gate(r2, weighted, threshold, tuple(failures))


def cautions(
    comparison: Comparison,
    alpha: Exponent,
    cov_MM: ArrayLike,
    *,
    provider_M: Sequence[str] | None = None,
    disclosed_M: ArrayLike | None = None,
) -> tuple[Caution, ...]:
    """Every reason to claim less that these fits give, in a fixed order; () if there is none.

    `provider_M` names each model's provider or family, `disclosed_M` says whether its size is
    published. Leverage is that of the log-linear fit, whose design does not depend on delta.
    """
    fits = {score.fit.family.name: score for score in comparison.scores}
    line, power = fits.get("loglinear"), fits.get("power")
    size = comparison.scores[0].fit.size
    found = list(_of_sizes(size, disclosed_M))
    if line is not None:
        found += _of_leverage(leverage(line.fit), provider_M)
    if power is not None:
        alphas = np.append(power.left_out.theta[:, -1], power.fit.parameter("alpha"))
        # Equal deltas have an exponent of zero, of either sign by rounding.
        if alphas.min() < -1e-9 and alphas.max() > 1e-9:
            found.append(Caution("left_out_sign", float(alphas.min()), 0.0))
    if not alpha.identified:
        found.append(Caution("alpha_not_identified", math.nan, math.nan))
    if "quadratic" in fits:
        turn = vertex(fits["quadratic"].fit)
        if not turn.inside:
            found.append(Caution("vertex_outside", turn.size, math.nan))
    if "power_floor" in fits:
        shape = abs(fits["power_floor"].fit.parameter("alpha"))
        if shape < 0.05:
            found.append(Caution("floor_confounded", shape, 0.05))
    mean_se = float(np.sqrt(np.diag(as_covariance(cov_MM, size.size))).mean())
    scatter = math.sqrt(comparison.tau2.value) / mean_se
    if scatter > 2:
        found.append(Caution("scatter_dominates", scatter, 2.0))
    return tuple(found)


def cautions_before_fitting(
    size_M: ArrayLike, *, disclosed_M: ArrayLike | None = None
) -> tuple[Caution, ...]:
    """The cautions that sizes alone give; with `no_fit` among them, nothing may be fitted."""
    return _of_sizes(np.asarray(size_M, dtype=np.float64), disclosed_M)


def _of_sizes(size: FloatArray, disclosed_M: ArrayLike | None) -> tuple[Caution, ...]:
    found = []
    distinct = np.unique(size).size
    if distinct < 4:
        found.append(Caution("no_fit", float(distinct), 4.0))
    if size.size < 6:
        found.append(Caution("few_models", float(size.size), 6.0))
    if _decades(size) < 1:
        found.append(Caution("narrow_range", _decades(size), 1.0))
    if disclosed_M is not None:
        hidden = 1 - float(np.mean(np.asarray(disclosed_M, dtype=bool)))
        if hidden > 1 / 3:
            found.append(Caution("sizes_undisclosed", hidden, 1 / 3))
    return tuple(found)


def _of_leverage(hat_M: FloatArray, provider_M: Sequence[str] | None) -> list[Caution]:
    found = []
    if hat_M.max() > 0.6:
        found.append(Caution("one_model_decides", float(hat_M.max()), 0.6))
    if provider_M is not None:
        share: defaultdict[str, float] = defaultdict(float)
        for provider, hat in zip(provider_M, hat_M, strict=True):
            share[provider] += float(hat / hat_M.sum())
        if max(share.values()) > 0.6:
            found.append(Caution("one_provider_decides", max(share.values()), 0.6))
    return found


def _misfit_p_without_scatter(fit: Fit) -> float:
    """Chi-square goodness of fit of the same family when sampling is the only error."""
    errors = fit.total - fit.tau2 * np.eye(fit.models)
    exact = fit_family(fit.family.name, fit.size, fit.observed, errors)
    return float(chdtrc(exact.df, exact.misfit)) if exact.df > 0 else math.nan


def _decades(size: FloatArray) -> float:
    return math.log10(float(size.max() / size.min())) if size.size else 0.0
