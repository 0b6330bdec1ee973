"""Delta against size, for each dataset (and all) and protocol: every form, and what it foretells.

Published sizes only. Estimated ones enter where the settings ask, as intervals and never as points
of a fit. No delta is dropped for its sign, and none is logged.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtrc

from deltascale.analysis.arms import Arm, groups
from deltascale.analysis.contrasts import Panel, panels
from deltascale.analysis.joint import Joint
from deltascale.analysis.results import (
    E1,
    E2,
    Foretold,
    FormFit,
    Settings,
    estimate,
    from_region,
    region_text,
)
from deltascale.records import Estimate
from deltascale.stats.claims import Caution, cautions, cautions_before_fitting, r2_gate, r_squared
from deltascale.stats.clustered import t_interval
from deltascale.stats.error_rate import (
    BETA_RANGE,
    ErrorCurves,
    fit_error_curves,
    size_beyond_headroom,
)
from deltascale.stats.families import FamilyName, Fit, least_misfit
from deltascale.stats.family_bootstrap import (
    FamilyBootstrap,
    bootstrap_families,
    hierarchical_bootstrap,
)
from deltascale.stats.flips import count_flips
from deltascale.stats.resampling import percentile_interval
from deltascale.stats.scaling import (
    Comparison,
    Exponent,
    FamilyScore,
    compare_families,
    exponent,
    predict,
    vertex,
)
from deltascale.stats.two_rate import TwoRate, bootstrap_two_rate, fit_two_rate

__all__ = ["Scaled", "describe", "foretell", "replicates", "scale"]

Floats = NDArray[np.float64]

_NULL = "resample"
_FAMILIES: tuple[FamilyName, ...] = (
    "constant",
    "loglinear",
    "power",
    "saturating",
    "quadratic",
    "power_floor",
)
_GRID = 33
_STEEPEST = 3.0
"""The exponents that refits to replicates look at."""
_FAR = 10.0
"""Curves are foretold from a third of the least size to this many times the largest."""


@dataclass(frozen=True, slots=True, eq=False)
class Scaled:
    """All fits of one protocol on one dataset, or on all; `comparison` None: nothing was fitted.

    `delta_BM` are joint replicates of the deltas; `drawn` the bootstrap of models and items (six
    models up), `items_only` that of items alone. The two-rate and error-rate models need binary
    scores; `two_rate_BK` are its replicates on `sizes`. What is dear is made for one panel a
    protocol, and None in the others.
    """

    panel: Panel
    protocol: str
    temperature: float
    cautions: tuple[Caution, ...]
    comparison: Comparison | None = None
    alpha: Exponent | None = None
    alpha_items: Exponent | None = None
    delta_BM: Floats | None = None
    drawn: FamilyBootstrap | None = None
    items_only: FamilyBootstrap | None = None
    two_rate: TwoRate | None = None
    two_rate_BK: Floats | None = None
    error_rate: ErrorCurves | None = None

    @property
    def refused(self) -> str:
        """Why nothing is fitted, or nothing."""
        return next((c.text for c in self.cautions if c.code == "no_fit"), "")

    def sizes(self) -> Floats:
        """A grid for curves, on the logarithm of size; the models' own sizes are on it."""
        return _sizes(self.panel)


def scale(found: Sequence[Arm], joint: Joint) -> tuple[Scaled, ...]:
    """Fit every ungated protocol but the resampling null, on every dataset and on all."""
    made = []
    for (protocol, temperature), by_dataset in groups(found).items():
        if protocol == _NULL:
            continue
        own = panels(by_dataset)
        hidden = _undisclosed(by_dataset)
        # The dear fits are made once a protocol: on all datasets, or on the only one.
        made += [
            _scaled(panel, protocol, temperature, joint, hidden, pooled=panel is own[-1])
            for panel in own
        ]
    return tuple(made)


def _undisclosed(by_dataset: Mapping[str, Sequence[Arm]]) -> int:
    """How many models have no published size."""
    sizes = {arm.cell.model: arm.model.size.source for own in by_dataset.values() for arm in own}
    return sum(source not in ("published", "simulated") for source in sizes.values())


def _scaled(
    panel: Panel,
    protocol: str,
    temperature: float,
    joint: Joint,
    n_undisclosed: int,
    *,
    pooled: bool,
) -> Scaled:
    disclosed = np.concatenate([np.ones(len(panel.models)), np.zeros(n_undisclosed)])
    before = cautions_before_fitting(panel.size_M, disclosed_M=disclosed)
    if any(one.code == "no_fit" for one in before):
        return Scaled(panel, protocol, temperature, before)
    size, delta, cov = panel.size_M, panel.delta_M, panel.cov_MM
    comparison = compare_families(size, delta, cov, names=_FAMILIES)
    alpha = exponent(size, delta, cov, level=joint.settings.level)
    delta_BM = replicates(panel, joint)
    tau2 = comparison.tau2.value
    names = tuple(score.fit.family.name for score in comparison.scores)
    drawn = None
    six = len(panel.models) >= 6
    table = _table(panel)
    curves = None
    if joint.settings.error_rate and pooled and six and table is not None:
        curves = fit_error_curves(size, table, level=joint.settings.level)
    if six:
        drawn = hierarchical_bootstrap(
            size, delta_BM, cov, tau2=tau2, seed=joint.settings.seed, names=names
        )
    found = cautions(
        comparison,
        alpha,
        cov,
        provider_M=_makers(panel),
        disclosed_M=disclosed,
    )
    return Scaled(
        panel,
        protocol,
        temperature,
        found,
        comparison=comparison,
        alpha=alpha,
        alpha_items=exponent(size, delta, cov, estimand="E1", level=joint.settings.level),
        delta_BM=delta_BM,
        drawn=drawn,
        items_only=bootstrap_families(size, delta_BM, cov, names=names, tau2=tau2)
        if pooled
        else None,
        two_rate=None if table is None else fit_two_rate(size, table),
        two_rate_BK=None if table is None else _two_rate_curves(panel, joint),
        error_rate=curves,
    )


def _makers(panel: Panel) -> Sequence[str] | None:
    """Who made each model; None where that is not known, or they are simulated.

    One server may have models of any maker, so a provider that all models share tells nothing.
    """
    if all(model.provider == "simulated" for model in panel.models):
        return None
    makers = [model.family or model.provider for model in panel.models]
    named = any(model.family for model in panel.models)
    return makers if named or len(set(makers)) > 1 else None


def replicates(panel: Panel, joint: Joint) -> Floats:
    """(B, M) joint replicates of the panel's deltas; a replicate without a value keeps the mean."""
    per_dataset = [
        np.stack([joint.delta(arm) for arm in own], axis=1) for own in panel.members.values()
    ]
    delta_BM = np.asarray(np.mean(per_dataset, axis=0))
    return np.where(np.isnan(delta_BM), panel.delta_M, delta_BM)


def _table(panel: Panel) -> Floats | None:
    """(M, 4) flips of each model, datasets weighing alike; None for graded scores."""
    if not all(arm.binary for own in panel.members.values() for arm in own):
        return None
    shares = []
    for own in panel.members.values():
        counts = [count_flips(arm.first, arm.last) for arm in own]
        shares.append([[c.stayed_right, c.fixed, c.broken, c.stayed_wrong] for c in counts])
    table_DM4 = np.array(shares, dtype=np.float64)
    n_M = table_DM4.sum(axis=(0, 2))
    return np.asarray(
        (table_DM4 / table_DM4.sum(axis=2, keepdims=True)).mean(axis=0) * n_M[:, None]
    )


def _two_rate_curves(panel: Panel, joint: Joint) -> Floats | None:
    """(B, K) replicates of the two-rate curve on `Scaled.sizes`; None below six models."""
    if len(panel.models) < 6:
        return None
    n_M = np.array(
        [
            sum(int(o[m].known.sum()) for o in panel.members.values())
            for m in range(len(panel.models))
        ]
    )
    table_DBM4 = [
        np.stack([joint.table(arm) for arm in own], axis=1) for own in panel.members.values()
    ]
    table_BM4 = np.clip(np.nan_to_num(np.mean(table_DBM4, axis=0)), 0, 1) * n_M[:, None]
    fits = bootstrap_two_rate(panel.size_M, table_BM4, seed=joint.settings.seed)
    return fits.predict(_sizes(panel))


def _sizes(panel: Panel) -> Floats:
    low, high = panel.size_M.min() / 3, panel.size_M.max() * _FAR
    return np.unique(np.concatenate([np.geomspace(low, high, _GRID), panel.size_M]))


# --- fits as rows --------------------------------------------------------------------------------


def describe(one: Scaled, settings: Settings) -> Iterator[FormFit]:
    """One row a form; a single row `none` with the reason where nothing may be fitted."""
    n = len(one.panel.models)
    if one.comparison is None:
        yield FormFit(
            one.panel.of, one.protocol, one.temperature, "none", n, one.panel.n_missing,
            note=one.refused,
        )  # fmt: skip
        return
    for score in one.comparison.scores:
        yield _family(one, score, settings)
    if one.two_rate is not None:
        yield _two_rate(one, one.two_rate, settings)
    if one.error_rate is not None:
        yield _error_rate(one, one.error_rate, settings)


def _family(one: Scaled, score: FamilyScore, settings: Settings) -> FormFit:
    fit, name = score.fit, score.fit.family.name
    assert one.comparison is not None  # noqa: S101 - the caller has looked
    gate = r2_gate(one.comparison, name)
    chosen = None
    for drawn in (one.drawn, one.items_only):
        if drawn is not None and chosen is None:
            chosen = drawn.selection[drawn.names.index(name)]
    tau = math.sqrt(one.comparison.tau2.value)
    exact = _exact(one, fit)
    return FormFit(
        dataset=one.panel.of,
        protocol=one.protocol,
        temperature=one.temperature,
        form=name,
        n_models=fit.models,
        n_missing=one.panel.n_missing,
        parameters=_parameters(one, fit, settings),
        reference_parameters=fit.reference,
        smallest_parameters=float(fit.size.min()),
        largest_parameters=float(fit.size.max()),
        tau=tau,
        chi2=exact,
        df=fit.df,
        p_misfit=float(chdtrc(fit.df, exact)) if fit.df > 0 else None,
        aicc=_number(score.aicc),
        delta_aicc=_number(score.delta_aicc),
        weight=score.weight,
        chosen=chosen,
        left_out_rmse=_number(score.left_out.rmse),
        left_out_skill=_number(score.skill),
        r2=_r2(one, fit, gate.r2, None, settings),
        r2_weighted=_r2(one, fit, gate.r2_weighted, 1 / np.diag(fit.total), settings),
        r2_gate="passed" if gate.passed else "; ".join(gate.failures),
        note=_family_note(one, fit),
    )


def _r2(
    one: Scaled, fit: Fit, value: float, weight_M: Floats | None, settings: Settings
) -> Estimate:
    """R-squared, its interval from refits to resampled items where these were made."""
    name = f"{E1}: R², {'unweighted' if weight_M is None else 'weighted by 1 / (V + tau²)'}"
    interval, method = None, ""
    if one.items_only is not None and one.delta_BM is not None:
        refit = one.items_only.refits[one.items_only.names.index(fit.family.name)]
        r2_B = r_squared(one.delta_BM, refit.predict(fit.size), weight_M=weight_M)
        interval = percentile_interval(np.asarray(r2_B), level=settings.level).interval
        method = "bootstrap of items"
    return estimate(
        name, value, interval, n=fit.models, n_missing=one.panel.n_missing, method=method,
        unit="R²", level=settings.level,
    )  # fmt: skip


def _exact(one: Scaled, fit: Fit) -> float:
    """Chi-square of the form if it held exactly, without scatter between models."""
    return least_misfit(fit.family.name, fit.size, fit.observed, one.panel.cov_MM)


def _family_note(one: Scaled, fit: Fit) -> str:
    if fit.family.name == "quadratic" and fit.df > 0:
        turn = vertex(fit)
        kind = "peak" if turn.peak else "trough"
        if not turn.inside:
            return f"its {kind} lies outside the sizes observed: not reported"
        return f"{kind} at N = {turn.size:.3g}, set {region_text(turn.region)}"
    if fit.family.name == "power" and not fit.shape_at_edge:
        left = one.error_rate or one.two_rate
        beyond = math.inf if left is None else size_beyond_headroom(fit, left.errors_first)
        if math.isfinite(beyond):
            curve = "error-rate" if one.error_rate is not None else "two-rate"
            return (
                f"beyond N = {beyond:.3g} it exceeds the errors that are left to fix (by the "
                f"{curve} form)"
            )
    return "the best shape is at the end of the range tried" if fit.shape_at_edge else ""


def _parameters(one: Scaled, fit: Fit, settings: Settings) -> dict[str, Estimate]:
    """Linear parameters with t intervals, alpha with its profile set; all E2."""
    found: dict[str, Estimate] = {}
    for j, name in enumerate(fit.family.parameters):
        value = float(fit.theta[j])
        if fit.family.name == "power" and name == "alpha" and one.alpha is not None:
            found |= _alphas(one, settings)
            continue
        se = math.sqrt(max(0.0, float(fit.covariance[j, j]) * fit.dispersion))
        profiled = fit.family.column is not None
        found[name] = estimate(
            f"{E2}: {name} of the {fit.family.name} form",
            value,
            t_interval(value, se, fit.df, level=settings.level) if not profiled else None,
            n=fit.models,
            n_missing=one.panel.n_missing,
            method="GLS, t" if not profiled else "variable projection",
            unit="share" if name != "ln_n0" else "ln(N0 / N_ref)",
            level=settings.level,
            note="no interval for a parameter of a form with a shape" if profiled else "",
        )
    return found


def _alphas(one: Scaled, settings: Settings) -> dict[str, Estimate]:
    """The exponent with its set for such models, for these, and with the models drawn too."""
    found: dict[str, Estimate] = {}
    for name, alpha in (("alpha", one.alpha), ("alpha_if_exact", one.alpha_items)):
        if alpha is not None:
            found[name] = _alpha(alpha, one)
    if one.drawn is not None and one.alpha is not None:
        alpha_B = one.drawn.theta("power")[:, -1]
        at_end = float(np.mean(np.abs(alpha_B) >= _STEEPEST))
        found["alpha_models_drawn"] = estimate(
            f"{E2}: exponent of the power form",
            found["alpha"].value if found["alpha"].value is not None else math.nan,
            percentile_interval(alpha_B, level=settings.level).interval,
            n=len(one.panel.models),
            n_missing=one.panel.n_missing,
            method="bootstrap of items and models, percentile",
            unit="exponent",
            level=settings.level,
            note=f"{at_end:.0%} of the replicates end at ±{_STEEPEST:g}" if at_end else "",
        )
    return found


def _alpha(alpha: Exponent, one: Scaled) -> Estimate:
    method = "RE-profile" if alpha.estimand == "E2" else "profile, tau = 0"
    note = "" if alpha.estimand == "E2" else "true only if the law is exact for these models"
    if not alpha.identified:
        note = "; ".join(text for text in (note, "alpha not identified") if text)
    return from_region(
        f"{alpha.estimand}: exponent of the power form",
        math.nan if alpha.at_edge else alpha.alpha,
        alpha.region,
        n=len(one.panel.models),
        n_missing=one.panel.n_missing,
        method=method,
        unit="exponent",
        level=alpha.level,
        note=note,
    )


def _two_rate(one: Scaled, fit: TwoRate, settings: Settings) -> FormFit:
    found = {}
    for name, line in (
        ("first", fit.right_first),
        ("fix", fit.fix_wrong),
        ("break", fit.break_right),
    ):
        for j, (part, value) in enumerate((("logit", line.intercept), ("slope", line.slope))):
            se = math.sqrt(max(0.0, float(line.covariance[j, j])))
            found[f"{name}_{part}"] = estimate(
                f"{E2}: {part} of logit P({name})",
                value,
                t_interval(value, se, line.df, level=settings.level),
                n=len(one.panel.models),
                n_missing=one.panel.n_missing,
                level=settings.level,
                method="quasi-binomial, t",
                unit="logit" if part == "logit" else "logit per e-fold",
                note="the rate is 0 or 1 throughout" if line.separated else "",
            )
    size = one.panel.size_M
    fitted = fit.predict(size)
    return FormFit(
        dataset=one.panel.of,
        protocol=one.protocol,
        temperature=one.temperature,
        form="two_rate",
        n_models=len(one.panel.models),
        n_missing=one.panel.n_missing,
        parameters=found,
        reference_parameters=fit.reference,
        smallest_parameters=float(size.min()),
        largest_parameters=float(size.max()),
        r2=estimate(
            f"{E1}: R², unweighted",
            float(r_squared(one.panel.delta_M, fitted)),
            n=len(size),
            n_missing=one.panel.n_missing,
            unit="R²",
        ),
        note="logit acc, logit CS and logit (1 - CL) linear in ln N",
    )


def _error_rate(one: Scaled, fit: ErrorCurves, settings: Settings) -> FormFit:
    found = {}
    n = len(one.panel.models)
    for j, when in enumerate(("before", "after")):
        for name, value, region in (
            ("eps", fit.eps[j], fit.eps_region[j]),
            ("beta", fit.beta[j], fit.beta_region[j]),
        ):
            found[f"{name}_{when}"] = from_region(
                f"{E2}: {name} of the error {when} correction",
                value,
                region,
                n=n,
                n_missing=one.panel.n_missing,
                method="profile, quasi-likelihood",
                unit="share" if name == "eps" else "exponent",
                level=settings.level,
                note=_error_note(fit, j, name),
            )
        found[f"B_{when}"] = estimate(
            f"{E2}: error above the floor at N_ref, {when}",
            fit.amplitude[j],
            n=n,
            n_missing=one.panel.n_missing,
            level=settings.level,
        )
    return FormFit(
        dataset=one.panel.of,
        protocol=one.protocol,
        temperature=one.temperature,
        form="error_rate",
        n_models=n,
        n_missing=one.panel.n_missing,
        parameters=found,
        reference_parameters=fit.reference,
        smallest_parameters=float(one.panel.size_M.min()),
        largest_parameters=float(one.panel.size_M.max()),
        chi2=fit.misfit,
        df=fit.df,
        p_misfit=float(chdtrc(fit.df, fit.misfit)),
        note=f"equal exponents: p = {fit.same_beta.p_value:.3g}; "
        f"equal floors: p = {fit.same_eps.p_value:.3g}",
    )


def _error_note(fit: ErrorCurves, j: int, name: str) -> str:
    """Which ends of a set are those of the range looked at, and what an estimate there means."""
    rises = "the error rises with size: eps is where it rises to" if fit.amplitude[j] < 0 else ""
    if name == "eps":
        at_zero = fit.eps[j] == 0 and fit.eps_region[j].covers(0.0)
        return "; ".join(t for t in (rises, "at zero: a one-sided set" if at_zero else "") if t)
    hull = fit.beta_region[j].hull
    ends = [
        f"{end:g}" for end, at in zip(BETA_RANGE, (hull.low, hull.high), strict=True) if at == end
    ]
    if len(ends) == 2:
        return f"not identified within the range looked at, {ends[0]} to {ends[1]}"
    return f"no end within the range looked at, which stops at {ends[0]}" if ends else ""


# --- what is foretold ----------------------------------------------------------------------------


def foretell(one: Scaled, settings: Settings) -> Iterator[Foretold]:
    """Delta on a grid of sizes by every form within 4 of the best AICc, their average and envelope,
    and the two-rate model."""
    if one.comparison is None:
        return
    size = one.sizes()
    beyond = (size > 3 * one.panel.size_M.max()) | (size < one.panel.size_M.min() / 3)
    n = len(one.panel.models)
    for score in one.comparison.within(4.0):
        made = predict(score.fit, size, level=settings.level)
        yield from _rows(
            one, score.fit.family.name, size, beyond, made.mean,
            (made.mean_low, made.mean_high), (made.new_low, made.new_high), "GLS, t", settings,
        )  # fmt: skip
    low, high = one.comparison.envelope(size)
    average = one.comparison.average(size)
    yield from _rows(
        one, "average", size, beyond, average, (low, high), None,
        "Akaike weights; limits: the forms within 4 of the best AICc", settings,
    )  # fmt: skip
    if one.two_rate is not None and one.two_rate_BK is not None:
        tail = (1 - settings.level) / 2
        limits = np.quantile(one.two_rate_BK, [tail, 1 - tail], axis=0)
        yield from _rows(
            one, "two_rate", size, beyond, one.two_rate.predict(size), (limits[0], limits[1]),
            None, f"bootstrap of items and models, {n} models", settings,
        )  # fmt: skip


def _rows(
    one: Scaled,
    form: str,
    size: Floats,
    beyond: NDArray[np.bool_],
    mean: Floats,
    limits: tuple[Floats, Floats],
    new: tuple[Floats, Floats] | None,
    method: str,
    settings: Settings,
) -> Iterator[Foretold]:
    n = len(one.panel.models)
    for k in range(size.size):
        low, high = float(limits[0][k]), float(limits[1][k])
        of_new = None if new is None else (float(new[0][k]), float(new[1][k]))
        yield Foretold(
            one.panel.of,
            one.protocol,
            one.temperature,
            form,
            float(size[k]),
            estimate(
                f"{E2}: mean delta of models of this size",
                float(mean[k]),
                (low, high),
                n=n,
                n_missing=one.panel.n_missing,
                method=method,
                level=settings.level,
            ),
            estimate(
                f"{E2}: delta of one new model of this size",
                float(mean[k]),
                of_new,
                n=n,
                n_missing=one.panel.n_missing,
                method=method,
                level=settings.level,
                note="" if new else "no interval for a new model by this form",
            ),
            bool(beyond[k]),
        )


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
