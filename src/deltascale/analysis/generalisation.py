"""Does a finding carry over: where variance comes from, providers and datasets never seen, and
whether kinds of tasks agree."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from deltascale.analysis.arms import Arm, groups
from deltascale.analysis.contrasts import Panel, panels
from deltascale.analysis.results import ALL_DATASETS, E2, Finding, Settings, estimate
from deltascale.analysis.scaling import Scaled
from deltascale.stats.clustered import t_interval
from deltascale.stats.components import (
    HeldOut,
    Heterogeneity,
    held_out_datasets,
    held_out_providers,
    heterogeneity,
    variance_components,
)
from deltascale.stats.contrasts import trend_over_such_models
from deltascale.stats.families import Fit

__all__ = ["generalisation", "task_kind"]

Floats = NDArray[np.float64]

_KINDS = {
    "gsm8k": "math",
    "mathbench": "math",
    "demo-sums": "math",
    "humaneval": "code",
    "superglue": "language",
    "demo-choices": "language",
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
    limits: tuple[float, float] | None = None,
    dataset: str = ALL_DATASETS,
    versus: str = "",
    unit: str = "share",
    method: str = "",
    note: str = "",
    p_value: float | None = None,
) -> Finding:
    made = estimate(f"{E2}: {words}", value, limits, n=n, unit=unit, method=method, note=note)
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
            f"held_out_{what}_{name}", value, about, words=f"{words} a {what} never seen", n=n,
            limits=limits, dataset=dataset, method=f"{form} form, one {what} left out",
            unit="nats" if name == "skill" else "sd" if name == "mean_z" else "share",
            note="; ".join(t for t in (f"left out in turn: {groups_text}", note) if t),
        )  # fmt: skip


def _agreement(
    fitted: Sequence[Scaled], about: tuple[str, float], settings: Settings
) -> Iterator[Finding]:
    """Do datasets, and kinds of tasks, agree on the exponent and on the slope?"""
    alone = [one for one in fitted if len(one.panel.datasets) == 1]
    exponents, slopes = [], []
    for one in alone:
        if one.comparison is None or one.alpha is None:
            continue
        power = next((s.fit for s in one.comparison.scores if s.fit.family.name == "power"), None)
        variance = math.nan if power is None else _alpha_variance(power)
        if power is not None and math.isfinite(variance) and one.alpha.identified:
            exponents.append((one.panel.of, power.parameter("alpha"), variance))
        if len(one.panel.models) >= 3:
            line = trend_over_such_models(one.panel.size_M, one.panel.delta_M)
            if line.se > 0:
                slopes.append((one.panel.of, line.slope, line.se**2))
    for name, words, unit, own in (
        ("alpha", "exponent", "exponent", exponents),
        ("slope", "slope per e-fold", "share per e-fold", slopes),
    ):
        yield from _pooled(name, words, unit, own, about, settings)
        kinds = {task_kind(dataset) for dataset, _, _ in own}
        for kind in sorted(kinds) if len(kinds) > 1 else ():
            part = [row for row in own if task_kind(row[0]) == kind]
            weight = sum(1 / row[2] for row in part)
            mean = sum(row[1] / row[2] for row in part) / weight
            yield _finding(
                f"{name}_of_kind", mean, about, words=f"{words} on {kind} tasks", n=len(part),
                limits=t_interval(mean, math.sqrt(1 / weight), 10**6), versus=kind, unit=unit,
                dataset=", ".join(row[0] for row in part),
                method="inverse-variance mean of the datasets of a kind",
            )  # fmt: skip


def _alpha_variance(power: Fit) -> float:
    """Large-sample variance of alpha, scatter between models in it."""
    return float(power.covariance[-1, -1]) * (power.dispersion if power.df > 0 else math.nan)


def _pooled(
    name: str,
    words: str,
    unit: str,
    own: Sequence[tuple[str, float, float]],
    about: tuple[str, float],
    settings: Settings,
) -> Iterator[Finding]:
    if len(own) < 2:
        yield _finding(
            f"{name}_over_datasets", math.nan, about, words=f"mean {words} over datasets",
            n=len(own), unit=unit, note="identified on fewer than two datasets",
        )  # fmt: skip
        return
    found: Heterogeneity = heterogeneity(
        [row[1] for row in own], [row[2] for row in own], level=settings.level
    )
    said = f"I² = {found.i2:.2f}, Q = {found.q:.2f}"
    yield _finding(
        f"{name}_over_datasets", found.mean, about, words=f"mean {words} over datasets",
        n=len(own), limits=found.interval, unit=unit, method="Paule-Mandel, t", note=said,
    )  # fmt: skip
    yield _finding(
        f"{name}_of_new_dataset", found.mean, about, words=f"{words} of a new dataset", n=len(own),
        limits=found.prediction, unit=unit, method="Paule-Mandel, t, prediction",
    )  # fmt: skip
    yield _finding(
        f"{name}_heterogeneity", found.i2, about, n=len(own), versus="equal on all datasets",
        words=f"share of the variance of the {words} that is not sampling error",
        method="Cochran's Q", p_value=found.p_value,
    )  # fmt: skip
