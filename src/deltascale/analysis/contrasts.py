"""Between models, and between a protocol and its controls: paired on the same items, adjusted."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from deltascale.analysis.arms import NULLS, Arm, by_model, groups, size_range
from deltascale.analysis.results import ALL_DATASETS, E1, E2, Finding, Settings, estimate
from deltascale.analysis.voting import Control, controls
from deltascale.stats.clustered import (
    bonett_price_floor,
    clustered_mean,
    delta_covariance,
    macro_average,
    macro_mean,
    sign_flip_test,
    t_interval,
)
from deltascale.stats.contrasts import (
    permutation_trend,
    trend_over_models,
    trend_over_such_models,
)
from deltascale.stats.multiplicity import benjamini_hochberg, family_size, holm

__all__ = ["Panel", "adjusted", "contrasts", "paired", "panels"]

Floats = NDArray[np.float64]
_PAIRED = "paired, CR1 t; p by cluster sign-flip"


class Panel:
    """The models of known size that one protocol has on every dataset: sizes, deltas, covariance.

    `of` names one dataset, or all of them (macro mean). `size_M` has the geometric middle of a size
    that is a range.
    """

    __slots__ = (
        "cov_MM",
        "datasets",
        "delta_M",
        "high_M",
        "low_M",
        "members",
        "models",
        "of",
        "size_M",
    )

    def __init__(self, of: str, members: Mapping[str, Sequence[Arm]]) -> None:
        """`members`: by dataset, the same models in the same order. Estimated sizes are ranges."""
        self.of = of
        self.members = members
        self.datasets = tuple(members)
        first = next(iter(members.values()))
        self.models = tuple(arm.model for arm in first)
        ranges = [size_range(arm.model, estimated=True) or (math.nan, math.nan) for arm in first]
        self.low_M, self.high_M = np.array(ranges).T
        middle_M = np.sqrt(self.low_M * self.high_M)
        self.size_M: Floats = np.where(self.low_M == self.high_M, self.low_M, middle_M)
        deltas, covariances = [], []
        for arms_of_one in members.values():
            d_MS = np.stack([arm.d for arm in arms_of_one])
            deltas.append(np.nanmean(d_MS, axis=1))
            covariances.append(delta_covariance(d_MS, arms_of_one[0].cluster_S))
        self.delta_M, self.cov_MM = macro_average(np.stack(deltas), np.stack(covariances))

    @property
    def n(self) -> int:
        """Complete pairs, of the model with the fewest."""
        return int(
            min(
                sum(int(arms_of_one[m].known.sum()) for arms_of_one in self.members.values())
                for m in range(len(self.models))
            )
        )

    @property
    def n_missing(self) -> int:
        return sum(arm.n_missing for own in self.members.values() for arm in own)


def panels(
    by_dataset: Mapping[str, Sequence[Arm]], *, estimated: bool = False
) -> tuple[Panel, ...]:
    """One panel a dataset, and one of all where there are several; models in order of size.

    A model of unknown size, or without two independent pairs, is in none, and one of estimated size
    only where asked for; the panel of all has the models that every dataset has.
    """
    usable = {}
    for dataset, members in by_dataset.items():
        placed = [(size_range(arm.model, estimated=estimated), arm) for arm in members]
        sized = [(at, arm) for at, arm in placed if at and arm.n_clusters > 1]
        sized.sort(key=lambda pair: (pair[0][0] * pair[0][1], pair[1].cell.model))
        usable[dataset] = [arm for _, arm in sized]
    usable = {dataset: members for dataset, members in usable.items() if members}
    found = [Panel(dataset, {dataset: members}) for dataset, members in usable.items()]
    if len(usable) > 1:
        shared = set.intersection(*({a.cell.model for a in own} for own in usable.values()))
        common = {
            dataset: [arm for arm in own if arm.cell.model in shared]
            for dataset, own in usable.items()
        }
        if shared:
            found.append(Panel(ALL_DATASETS, common))
    return tuple(found)


def contrasts(found: Sequence[Arm], settings: Settings) -> tuple[Finding, ...]:
    """Mean over datasets of each model; trend over size and neighbours in size (Holm, or BH for
    exploratory protocols); all pairs of models and every protocol against its controls (BH)."""
    means: list[Finding] = []
    trends: dict[bool, list[Finding]] = {True: [], False: []}
    such: list[Finding] = []
    neighbours: dict[bool, list[Finding]] = {True: [], False: []}
    pairs: list[Finding] = []
    for (protocol, temperature), by_dataset in groups(found).items():
        means += _macro_deltas(protocol, temperature, by_dataset, settings)
        if protocol in NULLS:
            continue
        claimed = any(arm.confirmatory for own in by_dataset.values() for arm in own)
        made = panels(by_dataset)
        for panel in made[-1:]:
            about = Finding(
                "", estimate("", math.nan, n=0), "", panel.of, protocol, temperature, "size"
            )
            trends[claimed] += _trend(about, panel, settings)
            such += _trend_of_such(about, panel, settings)
            neighbours[claimed] += _neighbours(about, panel, settings)
        for members in by_dataset.values():
            pairs += _pairs(members, settings)
    return (
        *means,
        *adjusted(trends[True], "trend over sizes, one a protocol", holm=True),
        *adjusted(trends[False], "trend over sizes, exploratory", holm=False),
        *such,
        *adjusted(neighbours[True], "neighbours in size", holm=True),
        *adjusted(neighbours[False], "neighbours in size, exploratory", holm=False),
        *adjusted(pairs, "all pairs of models", holm=False),
        *adjusted(_against_controls(found, settings), "protocol against control", holm=False),
    )


def _macro_deltas(
    protocol: str, temperature: float, by_dataset: Mapping[str, Sequence[Arm]], settings: Settings
) -> Iterator[Finding]:
    """Each model's delta over all datasets, also of a model whose size is not known.

    All are the datasets on which some model has a complete pair; a model that lacks one has no
    mean, since it would not be comparable with the others.
    """
    known = {
        dataset: {model: arm for model, arm in by_model(members).items() if arm.known.any()}
        for dataset, members in by_dataset.items()
    }
    known = {dataset: own for dataset, own in known.items() if own}
    if len(known) < 2:
        return
    for model in next(iter(known.values())):
        own = [members[model] for members in known.values() if model in members]
        if len(own) < len(known):
            continue
        means = [clustered_mean(arm.d, arm.cluster_S) for arm in own]
        mean = macro_mean(
            [one.estimate for one in means],
            # No flip is no certainty; clusters count as single answers where none is known to vary.
            [one.se_cr1**2 or bonett_price_floor(one.clusters) for one in means],
            [one.clusters for one in means],
            level=settings.level,
        )
        made = estimate(
            f"{E1}: delta, mean over {len(own)} datasets of equal weight",
            mean.estimate,
            mean.interval,
            n=sum(one.n for one in means),
            n_missing=sum(arm.n_missing for arm in own),
            method="CR1 of each dataset, Satterthwaite t",
            level=settings.level,
        )
        yield Finding("macro_delta", made, model, ALL_DATASETS, protocol, temperature)


def adjusted(found: Sequence[Finding], family: str, *, holm: bool) -> list[Finding]:
    """The findings with their p-values adjusted as one family; those without a p are left out of
    it, and counted."""
    p = [math.nan if one.p_value is None else one.p_value for one in found]
    if not p:
        return []
    values = _holm(p) if holm else benjamini_hochberg(p)
    return [
        replace(
            one,
            p_adjusted=None if math.isnan(value) else float(value),
            adjusted_by="Holm" if holm else "BH",
            family=family,
            family_size=family_size(p),
            family_excluded=len(p) - family_size(p),
        )
        for one, value in zip(found, values, strict=True)
    ]


_holm = holm


def _trend(about: Finding, panel: Panel, settings: Settings) -> Iterator[Finding]:
    if len(np.unique(panel.size_M)) < 2:
        return
    line = trend_over_models(panel.size_M, panel.delta_M, panel.cov_MM, level=settings.level)
    found = estimate(
        f"{E1}: slope of delta per e-fold of size, over these models",
        line.slope,
        line.interval,
        n=panel.n,
        n_missing=panel.n_missing,
        method="linear contrast, CR1, normal",
        unit="share per e-fold",
        level=settings.level,
        note=f"{len(panel.models)} models",
    )
    yield replace(about, quantity="trend", estimate=found, p_value=line.p_value)


def _trend_of_such(about: Finding, panel: Panel, settings: Settings) -> Iterator[Finding]:
    """The same slope for models of such sizes, and its exact permutation test: in no family."""
    models = len(panel.models)
    if models < 3 or len(np.unique(panel.size_M)) < 2:
        return
    line = trend_over_such_models(panel.size_M, panel.delta_M, level=settings.level)
    found = estimate(
        f"{E2}: slope of delta per e-fold of size, over such models",
        line.slope,
        line.interval,
        n=models,
        method=f"least squares, t with {models - 2} df",
        unit="share per e-fold",
        level=settings.level,
    )
    yield replace(about, quantity="trend_of_such_models", estimate=found, p_value=line.p_value)
    if models <= 8:
        exact = permutation_trend(panel.size_M, panel.delta_M)
        found = estimate(
            f"{E2}: slope of delta per e-fold of size, over such models",
            line.slope,
            n=models,
            method=f"permutation of {exact.orders} orders",
            unit="share per e-fold",
            note=f"the smallest p possible is {exact.smallest:.3g}",
        )
        yield replace(about, quantity="trend_by_permutation", estimate=found, p_value=exact.p_value)


def _neighbours(about: Finding, panel: Panel, settings: Settings) -> Iterator[Finding]:
    """Delta of each model less that of the next smaller one, over all datasets alike."""
    for m in range(1, len(panel.models)):
        value_S, cluster_S, means = [], [], []
        for k, own in enumerate(panel.members.values()):
            difference = own[m].d - own[m - 1].d
            if not (~np.isnan(difference)).sum() > 1:
                break
            mean = clustered_mean(difference, own[m].cluster_S)
            means.append(mean)
            value_S.append(difference / mean.n)
            cluster_S.append(own[m].cluster_S + k * 10**9)
        else:
            both = macro_mean(
                [one.estimate for one in means],
                [one.se_cr1**2 or bonett_price_floor(one.clusters) for one in means],
                [one.clusters for one in means],
                level=settings.level,
            )
            test = sign_flip_test(
                np.concatenate(value_S), np.concatenate(cluster_S), seed=settings.seed
            )
            found = estimate(
                f"{E1}: delta of the model less that of the smaller one",
                both.estimate,
                both.interval,
                n=sum(int((~np.isnan(v)).sum()) for v in value_S),
                n_missing=panel.n_missing,
                method=_PAIRED,
                level=settings.level,
            )
            yield replace(
                about,
                quantity="delta_difference",
                estimate=found,
                model=panel.models[m].id,
                versus=panel.models[m - 1].id,
                p_value=test.p_value,
            )


def _pairs(members: Sequence[Arm], settings: Settings) -> Iterator[Finding]:
    for a, b in combinations(by_model(members).values(), 2):
        yield from paired(b, b.d - a.d, f"{E1}: delta of the model less the other's",
                          "delta_difference", a.cell.model, a.n_missing, settings)  # fmt: skip


def paired(
    arm: Arm,
    difference: Floats,
    estimand: str,
    quantity: str,
    versus: str,
    n_missing: int,
    settings: Settings,
    note: str = "",
) -> Iterator[Finding]:
    """The mean of a difference on shared samples: CR1 t, and whole clusters change sign.

    Where no difference varies its error is not zero but not known: floored as a delta without
    flips. The t test would call two equal differences certain.
    """
    if not (~np.isnan(difference)).sum() > 1:
        return
    mean = clustered_mean(difference, arm.cluster_S, level=settings.level)
    se = mean.se_cr1 or math.sqrt(bonett_price_floor(mean.clusters))
    test = sign_flip_test(difference, arm.cluster_S, seed=settings.seed)
    found = estimate(
        estimand,
        mean.estimate,
        t_interval(mean.estimate, se, mean.clusters - 1, level=settings.level),
        n=mean.n,
        n_missing=max(arm.n_missing, n_missing),
        method=_PAIRED,
        level=settings.level,
        note=note,
    )
    cell = arm.cell
    # One cluster has no test: its sign tells nothing.
    p = test.p_value if test.clusters > 1 else None
    yield Finding(
        quantity, found, cell.model, cell.dataset, cell.protocol, cell.temperature, versus, p
    )


def _against_controls(found: Sequence[Arm], settings: Settings) -> list[Finding]:
    """Every protocol against a fresh answer, and against voting that costs the same."""
    rows: list[Finding] = []
    for arm, own in controls(found):
        rows += _against(arm, own, settings)
    return rows


def _against(arm: Arm, own: Control, settings: Settings) -> Iterator[Finding]:
    if not arm.gate and own.resample is not None:
        yield from paired(
            arm,
            arm.d - own.resample.d,
            f"{E1}: delta less that of answering afresh",
            "delta_less_resample",
            "resample",
            own.resample.n_missing,
            settings,
        )
    if not arm.gate and own.voted_S is not None and arm.cell.protocol != "vote":
        yield from paired(
            arm,
            arm.last - own.voted_S,
            f"{E1}: last accuracy less that of a vote among {own.k} answers",
            "accuracy_less_vote_of_equal_cost",
            f"vote of {own.k}",
            0,
            settings,
            own.note,
        )
    if own.best_S is not None and (arm.gate or arm.cell.protocol not in ("vote", "resample")):
        yield from paired(
            arm,
            arm.last - own.best_S,
            f"{E1}: last accuracy less that of the best of {own.k_best} answers, chosen by an "
            "oracle",
            "accuracy_less_best_of",
            f"best of {own.k_best}",
            0,
            settings,
        )
