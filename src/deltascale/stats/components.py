"""Where variance comes from, and whether a finding carries to a provider or dataset not seen."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import chdtrc, stdtrit

from deltascale.stats.clustered import item_means, t_interval
from deltascale.stats.draws import keyed_generator
from deltascale.stats.families import FAMILIES, FamilyName, Fit, as_covariance, fit_family
from deltascale.stats.paired import Interval
from deltascale.stats.scaling import paule_mandel

__all__ = [
    "ComponentName",
    "HeldOut",
    "Heterogeneity",
    "VarianceComponent",
    "disagreement_rate",
    "held_out_datasets",
    "held_out_providers",
    "heterogeneity",
    "variance_components",
]

FloatArray: TypeAlias = NDArray[np.float64]
ComponentName: TypeAlias = Literal["epoch", "item", "dataset", "model", "provider"]


@dataclass(frozen=True, slots=True)
class VarianceComponent:
    """One source of variance of d, by moments. A negative estimate is put at 0 and flagged."""

    name: ComponentName
    variance: float  # NaN where the design holds nothing to estimate it from
    df: int
    truncated: bool


@dataclass(frozen=True, slots=True)
class HeldOut:
    """How well deltas were foretold for groups that the fit never saw."""

    groups: tuple[str, ...]
    predicted: FloatArray  # (n,) in the order of `actual`
    actual: FloatArray
    rmse: float
    mean_z: float  # mean standardised error; far from 0 is bias
    coverage: float  # share of the 95 % prediction intervals that hold the actual delta
    skill: float  # log score less that of the constant fitted to the same data
    skill_low: float  # 5 % point of the skill over resampled groups; NaN with a single one

    @property
    def transfers(self) -> bool:
        """Whether one may say so: better than the constant, whichever groups were held out."""
        return self.skill_low > 0


@dataclass(frozen=True, slots=True)
class Heterogeneity:
    """One estimate from each of D datasets: do they agree, and what of a new one?"""

    mean: float
    se: float  # of the mean, scaled by its dispersion
    interval: Interval  # of the mean, t_{D-1}
    prediction: Interval  # of a new dataset's value, t_{D-1}
    q: float  # Cochran's, chi-square on D - 1 if they agree
    p_value: float
    i2: float  # share of the variance that is not sampling error, in [0, 1]
    tau2: float  # Paule-Mandel


def variance_components(
    d_MDIE: ArrayLike,
    *,
    size_M: ArrayLike | None = None,
    provider_M: Sequence[str] | None = None,
) -> tuple[VarianceComponent, ...]:
    """Variance of d by epoch, item, dataset, model (about its size's line) and provider.

    `d_MDIE`: models, datasets, items, epochs; NaN where missing (datasets may differ in items).
    Moments from the inside out, each less what lower levels put into it: epochs within an item;
    items within a cell; datasets after models' own means; models about a log-linear trend (about
    their mean without sizes), providers' one-way analysis of what is left.

    Raises ValueError for other than four axes. Source: Searle, Casella & McCulloch 1992, ch. 4.
    """
    d = np.asarray(d_MDIE, dtype=np.float64)
    if d.ndim != 4:
        raise ValueError(f"d_MDIE needs four axes, not {d.ndim}")
    mean_MDI = item_means(d)
    count_MDI = (~np.isnan(d)).sum(axis=-1)
    epoch = _epoch_component(d, mean_MDI, count_MDI)
    item, error_MD, mean_MD = _item_component(mean_MDI, count_MDI, epoch.variance)
    dataset = _dataset_component(mean_MD, error_MD)
    model, provider = _model_components(mean_MD, error_MD, dataset.variance, size_M, provider_M)
    return epoch, item, dataset, model, provider


def held_out_providers(
    name: FamilyName,
    size_M: ArrayLike,
    delta_M: ArrayLike,
    cov_MM: ArrayLike,
    *,
    provider_M: Sequence[str],
    tau2: float,
) -> HeldOut:
    """Fit without each provider in turn and foretell its models.

    Providers without whom too few models remain are skipped. "Transfers" needs skill above zero
    with its bootstrap bound. Raises ValueError as `fit_family`, or if no provider can be held out.
    """
    size, delta = np.asarray(size_M, np.float64), np.asarray(delta_M, np.float64)
    cov = as_covariance(cov_MM, delta.size)
    provider = np.asarray(provider_M)
    if provider.shape != delta.shape:
        raise ValueError("provider_M needs one name a model")
    folds = []
    for group in np.unique(provider):
        out = provider == group
        rest = np.ix_(~out, ~out)
        if np.count_nonzero(~out) < FAMILIES[name].fewest_models:
            continue
        fits = [
            fit_family(family, size[~out], delta[~out], cov[rest], tau2=tau2)
            for family in (name, "constant")
        ]
        error = np.diag(cov)[out] + tau2
        foretold, null = ((f.predict(size[out]), error + _variance(f, size[out])) for f in fits)
        folds.append(_Fold(str(group), delta[out], *foretold, null, fits[0].df))
    if not folds:
        raise ValueError("no provider can be held out: too few models would remain")
    return _score(folds)


def held_out_datasets(
    name: FamilyName,
    size_M: ArrayLike,
    delta_DM: ArrayLike,
    cov_DMM: ArrayLike,
    *,
    dataset_D: Sequence[str],
    tau2: float,
) -> HeldOut:
    """Foretell the larger half of the models on a dataset from the others' common shape.

    The shape is fitted to the mean of the other datasets; the smaller models on the dataset left
    out give its multiplier s, by weighted least squares; its larger models are foretold as s f(N).
    The null is the same with f constant.

    Raises ValueError for fewer than two datasets or four models.
    """
    size, delta = np.asarray(size_M, np.float64), np.asarray(delta_DM, np.float64)
    cov = np.asarray(cov_DMM, dtype=np.float64)
    if delta.shape[0] < 2 or delta.shape[1] < 4 or delta.shape[0] != len(dataset_D):
        raise ValueError("held_out_datasets needs two named datasets and four models")
    order = np.argsort(size, kind="stable")
    small, large = order[: size.size // 2], order[size.size // 2 :]
    folds = []
    for d, dataset in enumerate(dataset_D):
        others = [k for k in range(delta.shape[0]) if k != d]
        common, spread = delta[others].mean(axis=0), cov[others].sum(axis=0) / len(others) ** 2
        error = np.diag(cov[d]) + tau2
        fits = [fit_family(f, size, common, spread, tau2=tau2) for f in (name, "constant")]
        foretold, null = (_scaled(fit, delta[d], error, small, large) for fit in fits)
        folds.append(_Fold(dataset, delta[d, large], *foretold, null, fits[0].df))
    return _score(folds)


def heterogeneity(
    effect_D: ArrayLike, variance_D: ArrayLike, *, level: float = 0.95
) -> Heterogeneity:
    """Pool one estimate (alpha, say) a dataset, with Paule-Mandel tau^2 and t_{D-1} limits.

    The mean's SE is scaled by its dispersion, at least 1 (Hartung-Knapp, never shorter).
    Raises ValueError for fewer than two datasets. Source: Higgins & Thompson 2002, Statistics in
    Medicine 21:1539; IntHout, Ioannidis & Borm 2014, BMC Medical Research Methodology 14:25.
    """
    effect, variance = np.asarray(effect_D, np.float64), np.asarray(variance_D, np.float64)
    df = effect.size - 1
    if df < 1:
        raise ValueError("heterogeneity needs two datasets")
    fixed = 1 / variance
    q = float(fixed @ (effect - fixed @ effect / fixed.sum()) ** 2)
    tau2 = paule_mandel(effect, variance)
    weight = 1 / (variance + tau2)
    mean = float(weight @ effect / weight.sum())
    dispersion = max(1.0, float(weight @ (effect - mean) ** 2) / df)
    se = math.sqrt(dispersion / float(weight.sum()))
    return Heterogeneity(
        mean=mean,
        se=se,
        interval=t_interval(mean, se, df, level=level),
        prediction=t_interval(mean, math.sqrt(tau2 + se**2), df, level=level),
        q=q,
        p_value=float(chdtrc(df, q)),
        i2=max(0.0, 1 - df / q) if q > 0 else 0.0,
        tau2=tau2,
    )


def disagreement_rate(answer_a_I: ArrayLike, answer_b_I: ArrayLike) -> float:
    """Share of items whose answers (any labels) differ between two runs; at temperature 0 too."""
    a, b = np.asarray(answer_a_I), np.asarray(answer_b_I)
    if a.shape != b.shape or a.size == 0:
        raise ValueError("two runs need the same items, and at least one")
    return float(np.mean(a != b))


# --- moments, from the inside out ----------------------------------------------------------------


def _component(name: ComponentName, raw: float, df: int) -> VarianceComponent:
    if df < 1 or math.isnan(raw):
        return VarianceComponent(name, math.nan, max(0, df), False)
    return VarianceComponent(name, max(0.0, raw), df, raw < 0)


def _epoch_component(
    d: FloatArray, mean_MDI: FloatArray, count_MDI: NDArray[np.intp]
) -> VarianceComponent:
    square = np.nansum((d - mean_MDI[..., None]) ** 2)
    df = int(np.maximum(count_MDI - 1, 0).sum())
    return _component("epoch", float(square) / df if df else math.nan, df)


def _item_component(
    mean_MDI: FloatArray, count_MDI: NDArray[np.intp], epoch: float
) -> tuple[VarianceComponent, FloatArray, FloatArray]:
    """Items within cells; also each cell's mean and the variance of that mean."""
    there = count_MDI > 0
    n_MD = there.sum(axis=-1)
    mean_MD = item_means(mean_MDI)
    square_MD = np.nansum((mean_MDI - mean_MD[..., None]) ** 2, axis=-1)
    df = int(np.maximum(n_MD - 1, 0).sum())
    noise = 0.0
    if not math.isnan(epoch):
        noise = epoch * float(np.mean(1 / count_MDI[there]))
    raw = float(square_MD.sum()) / df - noise if df else math.nan
    several = n_MD > 1
    error_MD = np.full(mean_MD.shape, math.nan)
    error_MD[several] = square_MD[several] / ((n_MD[several] - 1) * n_MD[several])
    return _component("item", raw, df), error_MD, mean_MD


def _dataset_component(mean_MD: FloatArray, error_MD: FloatArray) -> VarianceComponent:
    """Datasets' main effect: variance of its mean over models, less sampling and interaction."""
    models, datasets = mean_MD.shape
    if models < 2 or datasets < 2 or np.isnan(mean_MD).any():
        return _component("dataset", math.nan, datasets - 1)
    effect_D = mean_MD.mean(axis=0)
    residual = mean_MD - effect_D - mean_MD.mean(axis=1, keepdims=True) + mean_MD.mean()
    # The two-way residual holds sampling error and interaction alike.
    noise = float((residual**2).sum()) / ((models - 1) * (datasets - 1))
    noise = max(noise, float(np.nanmean(error_MD)))
    return _component("dataset", float(effect_D.var(ddof=1)) - noise / models, datasets - 1)


def _model_components(
    mean_MD: FloatArray,
    error_MD: FloatArray,
    dataset: float,
    size_M: ArrayLike | None,
    provider_M: Sequence[str] | None,
) -> tuple[VarianceComponent, VarianceComponent]:
    """Models about their trend, split into within and between providers if those are named."""
    models, datasets = mean_MD.shape
    delta_M = item_means(mean_MD)
    columns = [np.ones(models)]
    if size_M is not None:
        columns.append(np.log(np.asarray(size_M, dtype=np.float64)))
    design = np.stack(columns, axis=1)
    residual = delta_M - design @ np.linalg.lstsq(design, delta_M)[0]
    noise = float(np.nanmean(error_MD)) / datasets
    trend_df = models - design.shape[1]
    if provider_M is None:
        raw = float(residual @ residual) / trend_df - noise if trend_df > 0 else math.nan
        return _component("model", raw, trend_df), _component("provider", math.nan, 0)
    group = np.unique(np.asarray(provider_M), return_inverse=True)[1]
    count = np.bincount(group).astype(np.float64)
    mean_G = np.bincount(group, weights=residual) / count
    within_df = models - count.size
    within = float(((residual - mean_G[group]) ** 2).sum()) / within_df if within_df else math.nan
    between_df = count.size - 1
    if between_df < 1 or within_df < 1:
        return _component("model", within - noise, within_df), _component(
            "provider", math.nan, between_df
        )
    between = float(count @ (mean_G - residual.mean()) ** 2) / between_df
    size_0 = (models - float(count @ count) / models) / between_df
    return (
        _component("model", within - noise, within_df),
        _component("provider", (between - within) / size_0, between_df),
    )


# --- held out ------------------------------------------------------------------------------------

_Foretold: TypeAlias = tuple[FloatArray, FloatArray]  # means and variances


@dataclass(frozen=True, slots=True)
class _Fold:
    """A group left out: what was found, what was foretold, what a constant would have foretold."""

    group: str
    actual: FloatArray
    predicted: FloatArray
    variance: FloatArray
    null: _Foretold
    df: int


def _variance(fit: Fit, size: FloatArray) -> FloatArray:
    g = fit.gradient(size)
    return np.asarray(np.einsum("kp,pq,kq->k", g, fit.covariance, g))


def _scaled(
    fit: Fit,
    delta_M: FloatArray,
    error_M: FloatArray,
    small: NDArray[np.intp],
    large: NDArray[np.intp],
) -> _Foretold:
    """s f(N) at the large models, s from the small ones, with its variance."""
    shape = fit.predict(fit.size)
    weight = 1 / error_M[small]
    information = float(weight @ shape[small] ** 2)
    if information == 0:
        return np.zeros(large.size), error_M[large]
    s = float(weight @ (shape[small] * delta_M[small])) / information
    of_s = shape[large] ** 2 / information
    return s * shape[large], error_M[large] + s**2 * _variance(fit, fit.size[large]) + of_s


def _score(folds: Sequence[_Fold]) -> HeldOut:
    actual = np.concatenate([fold.actual for fold in folds])
    predicted = np.concatenate([fold.predicted for fold in folds])
    variance = np.concatenate([fold.variance for fold in folds])
    z = (actual - predicted) / np.sqrt(variance)
    t = np.concatenate([np.full(f.actual.size, stdtrit(f.df, 0.975)) for f in folds])
    skill_G = np.array(
        [
            _log_score(f.actual, f.predicted, f.variance) - _log_score(f.actual, *f.null)
            for f in folds
        ]
    )
    skill_low = math.nan
    if skill_G.size > 1:
        drawn = keyed_generator(0, purpose=_GROUPS).integers(0, skill_G.size, (4_000, skill_G.size))
        skill_low = float(np.quantile(skill_G[drawn].sum(axis=1), 0.05))
    return HeldOut(
        groups=tuple(fold.group for fold in folds),
        predicted=predicted,
        actual=actual,
        rmse=math.sqrt(float(np.mean((actual - predicted) ** 2))),
        mean_z=float(z.mean()),
        coverage=float(np.mean(np.abs(z) <= t)),
        skill=float(skill_G.sum()),
        skill_low=skill_low,
    )


_GROUPS = 0x6209


def _log_score(actual: FloatArray, predicted: FloatArray, variance: FloatArray) -> float:
    density = np.log(2 * math.pi * variance) + (actual - predicted) ** 2 / variance
    return float(-0.5 * density.sum())
