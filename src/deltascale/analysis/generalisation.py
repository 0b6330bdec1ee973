"""Does a finding carry over: where variance comes from, providers and datasets never seen, and
whether kinds of tasks agree."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deltascale.analysis.arms import Arm, groups
from deltascale.analysis.contrasts import Panel, panels
from deltascale.analysis.results import ALL_DATASETS, E2, Finding, Settings, estimate
from deltascale.analysis.scaling import Scaled
from deltascale.stats.components import (
    HeldOut,
    Heterogeneity,
    held_out_datasets,
    held_out_providers,
    heterogeneity,
    variance_components,
)
from deltascale.stats.contrasts import trend_over_such_models
from deltascale.stats.families import fit_family
from deltascale.stats.paired import Interval

__all__ = ["generalisation", "task_kind"]

Floats = NDArray[np.float64]

_KINDS = {
    "gsm8k": "math",
    "mathbench": "math",
    "demo-sums": "math",
    "humaneval": "code",
    "superglue": "language",
    "demo-choices": "math",
    "toolqa": "tools",
}


def task_kind(dataset: str) -> str:
    """math, code, language or tools; `other` for people's own files."""
    return next((kind for name, kind in _KINDS.items() if dataset.startswith(name)), "other")


def generalisation(
    found: Sequence[Arm], scaled: Sequence[Scaled], settings: Settings
) -> Iterator[Finding]:
    """Rows for every protocol and temperature; what the design can't tell is said, not left out."""
    for (protocol, temperature), by_dataset in groups(found).items():
        if protocol == "resample":
            continue
        made = panels(by_dataset)
        if not made:
            continue
        about = protocol, temperature
        yield from _components(made[-1], about)
        fitted = [
            one
            for one in scaled
            if (one.protocol, one.temperature) == about and one.comparison is not None
        ]
        yield from _providers(fitted[-1:], about)
        yield from _datasets(fitted, about)
        yield from _agreement(fitted, about, settings)


def _finding(
    quantity: str,
    value: float,
    about: tuple[str, float],
    *,
    words: str,
    n: int,
    limits: Interval | tuple[float, float] | None = None,
    dataset: str = ALL_DATASETS,
    versus: str = "",
    unit: str = "share",
    method: str = "",
    level: float = 0.95,
    note: str = "",
    p_value: float | None = None,
) -> Finding:
    made = estimate(
        f"{E2}: {words}", value, limits, n=n, unit=unit, method=method, level=level, note=note
    )
    return Finding(quantity, made, "", dataset, *about, versus, p_value)


def _components(panel: Panel, about: tuple[str, float]) -> Iterator[Finding]:
    """Variance of d by source, over the models that all datasets have."""
    shapes = [own[0].frame.score_CIET.shape[1:3] for own in panel.members.values()]
    n_items, n_epochs = max(s[0] for s in shapes), max(s[1] for s in shapes)
    d = np.full((len(panel.models), len(shapes), n_items, n_epochs), np.nan)
    for k, (own, (items, epochs)) in enumerate(zip(panel.members.values(), shapes, strict=True)):
        for m, arm in enumerate(own):
            d[m, k, :items, :epochs] = arm.d.reshape(items, epochs)
    makers = [model.family or model.provider for model in panel.models]
    several = len(set(makers)) > 1
    size = panel.size_M if len(np.unique(panel.size_M)) > 2 else None
    for one in variance_components(d, size_M=size, provider_M=makers if several else None):
        yield _finding(
            f"variance_{one.name}", one.variance, about, words=f"variance of d between {one.name}s",
            n=one.df, dataset=panel.of, unit="share²", method="moments",
            note="negative, put at 0" if one.truncated else
            "the design holds nothing to estimate it from" if math.isnan(one.variance) else "",
        )  # fmt: skip


def _providers(fitted: Sequence[Scaled], about: tuple[str, float]) -> Iterator[Finding]:
    for one in fitted:
        makers = [model.family or model.provider for model in one.panel.models]
        if len(set(makers)) < 2 or one.comparison is None:
            yield _finding(
                "held_out_provider_skill", math.nan, about,
                words="skill for a provider never seen", n=0, dataset=one.panel.of,
                note="all models are of one family or provider",
            )  # fmt: skip
            continue
        best = one.comparison.best.fit.family.name
        try:
            out = held_out_providers(
                best, one.panel.size_M, one.panel.delta_M, one.panel.cov_MM,
                provider_M=makers, tau2=one.comparison.tau2.value,
            )  # fmt: skip
        except (ValueError, np.linalg.LinAlgError) as error:
            yield _finding(
                "held_out_provider_skill", math.nan, about,
                words="skill for a provider never seen", n=0, dataset=one.panel.of,
                note=str(error),
            )  # fmt: skip
            continue
        yield from _held_out(out, "provider", about, one.panel.of, best)


def _datasets(fitted: Sequence[Scaled], about: tuple[str, float]) -> Iterator[Finding]:
    """Foretell the larger models on a dataset from the others and its own smaller models."""
    pooled = next((one for one in fitted if one.panel.of == ALL_DATASETS), None)
    alone = [one for one in fitted if len(one.panel.datasets) == 1]
    if pooled is None or pooled.comparison is None or len(pooled.panel.models) < 4:
        yield _finding(
            "held_out_dataset_skill", math.nan, about, words="skill for a dataset never seen", n=0,
            note="needs two datasets that share four models",
        )  # fmt: skip
        return
    ids = [model.id for model in pooled.panel.models]
    at = [[[m.id for m in one.panel.models].index(i) for i in ids] for one in alone]
    best = pooled.comparison.best.fit.family.name
    out = held_out_datasets(
        best,
        pooled.panel.size_M,
        np.stack([one.panel.delta_M[rows] for one, rows in zip(alone, at, strict=True)]),
        np.stack([one.panel.cov_MM[np.ix_(r, r)] for one, r in zip(alone, at, strict=True)]),
        dataset_D=[one.panel.of for one in alone],
        tau2=pooled.comparison.tau2.value,
    )
    yield from _held_out(out, "dataset", about, ALL_DATASETS, best)


def _held_out(
    out: HeldOut, what: str, about: tuple[str, float], dataset: str, form: str
) -> Iterator[Finding]:
    n = out.actual.size
    groups_text = ", ".join(out.groups)
    rows = (
        ("rmse", "error of foretelling", out.rmse, None, ""),
        ("mean_z", "mean standardised error of foretelling", out.mean_z, None, ""),
        ("coverage", "share of 95 % prediction intervals that hold", out.coverage, None, ""),
        ("skill", "log score less that of a constant", out.skill, (out.skill_low, math.inf),
         "transfers" if out.transfers else "not shown to transfer"),
    )  # fmt: skip
    for name, words, value, limits, note in rows:
        yield _finding(
            f"held_out_{what}_{name}", value, about, words=f"{words}, for a {what} never seen", n=n,
            limits=limits, dataset=dataset, method=f"{form} form, one {what} left out",
            unit="nats" if name == "skill" else "sd" if name == "mean_z" else "share",
            note="; ".join(t for t in (f"left out in turn: {groups_text}", note) if t),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Own:
    """One dataset's exponent or slope: its variance for weighing, its own set for printing."""

    dataset: str
    value: float
    variance: float
    limits: Interval
    method: str


def _agreement(
    fitted: Sequence[Scaled], about: tuple[str, float], settings: Settings
) -> Iterator[Finding]:
    """Do datasets, and kinds of tasks, agree on the exponent and on the slope?"""
    alone = [one for one in fitted if len(one.panel.datasets) == 1]
    exponents = [own for own in map(_exponent, alone) if own is not None]
    slopes = [own for own in (_slope(one, settings.level) for one in alone) if own is not None]
    for name, words, unit, rows in (
        ("alpha", "exponent", "exponent", exponents),
        ("slope", "slope per e-fold", "share per e-fold", slopes),
    ):
        used = {own.dataset for own in rows}
        without = [one.panel.of for one in alone if one.panel.of not in used]
        said = f"not identified on {', '.join(without)}" if without else ""
        yield from _pooled(name, words, unit, rows, about, settings, said)
        yield from _by_kind(name, words, unit, rows, about, settings)


def _exponent(one: Scaled) -> _Own | None:
    """The exponent with its RE-profile set; None where that has no end."""
    if one.comparison is None or one.alpha is None or not one.alpha.identified:
        return None
    panel = one.panel
    # With the scatter that the exponent itself was found under.
    power = fit_family("power", panel.size_M, panel.delta_M, panel.cov_MM, tau2=one.alpha.tau2)
    variance = float(power.covariance[-1, -1]) * power.dispersion
    if not math.isfinite(variance):
        return None
    return _Own(one.panel.of, one.alpha.alpha, variance, one.alpha.region.hull, "RE-profile")


def _slope(one: Scaled, level: float) -> _Own | None:
    line = trend_over_such_models(one.panel.size_M, one.panel.delta_M, level=level)
    if not line.se > 0:
        return None
    method = f"least squares, t with {line.df:.0f} df"
    return _Own(one.panel.of, line.slope, line.se**2, line.interval, method)


def _by_kind(
    name: str,
    words: str,
    unit: str,
    rows: Sequence[_Own],
    about: tuple[str, float],
    settings: Settings,
) -> Iterator[Finding]:
    """Each kind's own value, and whether the kinds agree. A kind of one dataset has that dataset's
    set, which a normal interval would make too narrow; one of several pools them."""
    kinds = sorted({task_kind(own.dataset) for own in rows})
    if len(kinds) < 2:
        return
    means, variances = [], []
    for kind in kinds:
        part = [own for own in rows if task_kind(own.dataset) == kind]
        value, variance, limits, method = (
            part[0].value, part[0].variance, part[0].limits, part[0].method
        )  # fmt: skip
        if len(part) > 1:
            pooled = heterogeneity(
                [own.value for own in part], [own.variance for own in part], level=settings.level
            )
            value, variance, limits = pooled.mean, pooled.se**2, pooled.interval
            method = "Paule-Mandel, t"
        means.append(value)
        variances.append(variance)
        yield _finding(
            f"{name}_of_kind", value, about, words=f"{words} on {kind} tasks", n=len(part),
            limits=limits, versus=kind, unit=unit, dataset=", ".join(own.dataset for own in part),
            method=method, level=settings.level,
        )  # fmt: skip
    between = heterogeneity(means, variances)
    yield _finding(
        f"{name}_between_kinds", between.i2, about, n=len(rows), versus="equal on all kinds",
        words=f"share of the variance of the {words} between kinds that is not error",
        method="Cochran's Q over kinds", p_value=between.p_value,
    )  # fmt: skip


def _pooled(
    name: str,
    words: str,
    unit: str,
    rows: Sequence[_Own],
    about: tuple[str, float],
    settings: Settings,
    without: str,
) -> Iterator[Finding]:
    if len(rows) < 2:
        few = "identified on fewer than two datasets"
        yield _finding(
            f"{name}_over_datasets", math.nan, about, words=f"mean {words} over datasets",
            n=len(rows), unit=unit, note=few,
        )  # fmt: skip
        return
    found: Heterogeneity = heterogeneity(
        [own.value for own in rows], [own.variance for own in rows], level=settings.level
    )
    said = f"I² = {found.i2:.2f}, Q = {found.q:.2f}"
    yield _finding(
        f"{name}_over_datasets", found.mean, about, words=f"mean {words} over datasets",
        n=len(rows), limits=found.interval, unit=unit, method="Paule-Mandel, t",
        level=settings.level, note="; ".join(text for text in (said, without) if text),
    )  # fmt: skip
    yield _finding(
        f"{name}_of_new_dataset", found.mean, about, words=f"{words} of a new dataset",
        n=len(rows), limits=found.prediction, unit=unit, level=settings.level,
        method="Paule-Mandel, t, prediction", note=without,
    )  # fmt: skip
    yield _finding(
        f"{name}_heterogeneity", found.i2, about, n=len(rows), versus="equal on all datasets",
        words=f"share of the variance of the {words} that is not sampling error",
        method="Cochran's Q", p_value=found.p_value,
    )  # fmt: skip
