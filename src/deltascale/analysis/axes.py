"""What "size" may mean: how well each x-axis foretells a delta, and the trend of delta on each.

Axes are compared on the same models and the same items only. Capability never comes from the first
answers that the delta is made of: it is the accuracy on other datasets, or where there are none, on
the other half of the items.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from deltascale.analysis.arms import Arm
from deltascale.analysis.contrasts import Panel, panels
from deltascale.analysis.results import E2, Finding, Settings, estimate
from deltascale.catalog import training_flops
from deltascale.records import ModelSpec
from deltascale.stats.clustered import t_p_value
from deltascale.stats.contrasts import trend_over_such_models
from deltascale.stats.paired import Interval
from deltascale.stats.uncertain import AxisScore, axis_league

__all__ = ["Axis", "Half", "axes_of", "halves", "league", "slopes"]

Floats = NDArray[np.float64]

_FLOPS = "ln training FLOPs"
_FEWEST_OF_LEAGUE = 4
_FEWEST_OF_TREND = 3
_SAME = 1e-9
_TRAINED = "those whose training tokens are known"


@dataclass(frozen=True, slots=True, eq=False)
class Axis:
    """One meaning of size. `x_M` is on the scale a line has it, NaN where a model has none; a slope
    is `per` one unit of `x_M`."""

    name: str
    x_M: Floats
    per: str


@dataclass(frozen=True, slots=True, eq=False)
class Half:
    """A panel's deltas on half of its items; `capability` is the accuracy on the other half."""

    panel: Panel
    capability: Axis


def league(
    protocol: str,
    temperature: float,
    by_dataset: Mapping[str, Sequence[Arm]],
    found: Sequence[Arm],
    settings: Settings,
) -> Iterator[Finding]:
    """How well each axis foretells the delta of a model left out, for each dataset, best first.

    One league a dataset, of the axes that every model has. Where only some models have training
    FLOPs, and four of different size at least, there is a second league among these, its quantities
    ending in `_where_training_is_known`: errors over different models are never in one league.
    """
    for panel in panels(by_dataset):
        if len(panel.datasets) > 1 or not _enough(panel):
            continue
        about = Finding("", estimate("", math.nan, n=0), "", panel.of, protocol, temperature)
        of_all = axes_of(panel, temperature, found, settings)
        yield from _league(about, panel, of_all, "", "")
        trained = _trained(panel, of_all)
        if trained is None or not _enough(trained):
            continue
        of_some = axes_of(trained, temperature, found, settings)
        if any(axis.name == _FLOPS for axis in of_some):
            note = f"among {len(trained.models)} of {len(panel.models)} models, {_TRAINED}"
            yield from _league(about, trained, of_some, "_where_training_is_known", note)


def slopes(
    protocol: str,
    temperature: float,
    by_dataset: Mapping[str, Sequence[Arm]],
    found: Sequence[Arm],
    settings: Settings,
) -> Iterator[Finding]:
    """The trend of delta on each axis, over such models (E2), on all datasets or the only one.

    Nothing where parameters are the only axis, and below three models. In no family of tests: it
    shows whether a trend depends on what size means.
    """
    for panel in panels(by_dataset)[-1:]:
        every = axes_of(panel, temperature, found, settings)
        parts = () if _has_capability(every) else halves(panel)
        if len(panel.models) < _FEWEST_OF_TREND or len(every) + len(parts) < 2:
            continue
        about = Finding(
            "slope_by_axis", estimate("", math.nan, n=0), "", panel.of, protocol, temperature
        )
        for axis in every:
            has = ~np.isnan(axis.x_M)
            if has.sum() < _FEWEST_OF_TREND or np.ptp(axis.x_M[has]) < _SAME:
                continue
            part = panel if has.all() else _restricted(panel, has)
            note = "" if has.all() else _beside(part, len(panel.models))
            lines = [(part.delta_M, replace(axis, x_M=axis.x_M[has]))]
            yield _slope(about, lines, settings, note)
        if parts:
            lines = [(half.panel.delta_M, half.capability) for half in parts]
            yield _slope(about, lines, settings, _OF_HALVES)


_OF_HALVES = (
    "mean of two halves of the items, each against the accuracy on the other half; the limits are "
    "means too, which is cautious; the error of that accuracy flattens the slope"
)


# --- axes ----------------------------------------------------------------------------------------


def axes_of(
    panel: Panel, temperature: float, found: Sequence[Arm], settings: Settings
) -> tuple[Axis, ...]:
    """The axes of a panel's models, parameters first; only training FLOPs may have NaN.

    Left out are what some model lacks, what is the same for all, and what differs from ln
    parameters by a constant: active parameters without mixtures, FLOPs after as many tokens each.
    `found` are all arms of the study; capability comes from those of other datasets.
    """
    size = np.log(panel.size_M)
    active = [model.size.active or model.size.parameters or math.nan for model in panel.models]
    flops = [training_flops(model.size) or math.nan for model in panel.models]
    price = np.array([_blended(model, settings) for model in panel.models])
    ln_price = np.log(price, out=np.full(price.shape, np.nan), where=price > 0)
    made = [
        Axis("ln active parameters", np.log(active), "e-fold of active parameters"),
        Axis(_FLOPS, np.log(flops), "e-fold of training FLOPs"),
        Axis("ln price", ln_price, "e-fold of price"),
    ]
    elsewhere = _capability(panel, temperature, found)
    if elsewhere is not None:
        made.append(
            Axis("accuracy on other datasets", elsewhere, "10 points of accuracy on other datasets")
        )
    kept = [Axis("ln parameters", size, "e-fold of parameters")]
    for axis in made:
        has = ~np.isnan(axis.x_M)
        if not has.any() or not (has.all() or axis.name == _FLOPS):
            continue
        if np.ptp(axis.x_M[has]) > _SAME and np.ptp((axis.x_M - size)[has]) > _SAME:
            kept.append(axis)
    return tuple(kept)


def halves(panel: Panel) -> tuple[Half, ...]:
    """The panel on each half of its items, with the accuracy at turn 0 on the other half.

    Which half a cluster is in follows from a hash of its dataset and name, so that it is the same
    on every machine and for every subset; no cluster, and so no item and none of its epochs, is in
    both. Empty where a model has fewer than two complete clusters in a half, or where all models
    are equally accurate in one.
    """
    upper = {dataset: _upper(own[0]) for dataset, own in panel.members.items()}
    parts = []
    for side in (False, True):
        members = {
            dataset: [_only(arm, upper[dataset] == side) for arm in own]
            for dataset, own in panel.members.items()
        }
        if any(arm.n_clusters < 2 for own in members.values() for arm in own):
            return ()
        parts.append(Panel(panel.of, members))
    accuracy = [_accuracy(part) for part in parts]
    if min(np.ptp(right_M) for right_M in accuracy) < _SAME:
        return ()
    return tuple(
        Half(
            part,
            Axis("accuracy on the other half", other, "10 points of accuracy on the other half"),
        )
        for part, other in zip(parts, accuracy[::-1], strict=True)
    )


def _upper(arm: Arm) -> NDArray[np.bool_]:
    """Which samples are of the one half, (S,)."""
    name, frame = arm.cell.dataset, arm.frame
    bit = {
        cluster: hashlib.sha256(f"{name}\n{cluster}".encode()).digest()[0] & 1
        for cluster in set(frame.clusters)
    }
    upper_I = np.array([bit[cluster] for cluster in frame.clusters], dtype=np.bool_)
    return np.repeat(upper_I, len(arm.planned_S) // len(frame.clusters))


def _only(arm: Arm, used_S: NDArray[np.bool_]) -> Arm:
    """The arm as if nothing were known of, or planned for, the other samples."""
    score_ST = np.where(used_S[:, None], arm.score_ST, np.nan)
    return replace(arm, score_ST=score_ST, planned_S=arm.planned_S & used_S)


def _accuracy(panel: Panel) -> Floats:
    """(M,) accuracy at turn 0 in tenths, datasets weighing alike."""
    first = [[np.nanmean(arm.first) for arm in own] for own in panel.members.values()]
    return np.asarray(10 * np.mean(first, axis=0))


def _capability(panel: Panel, temperature: float, found: Sequence[Arm]) -> Floats | None:
    """Accuracy at turn 0 over the other datasets, in tenths, a dataset once; None where a model has
    none."""
    first: dict[str, dict[str, float]] = {}
    for arm in found:
        if arm.cell.dataset not in panel.datasets and arm.cell.temperature == temperature:
            there = arm.first[~np.isnan(arm.first)]
            if there.size:
                own = first.setdefault(arm.cell.model, {})
                own.setdefault(arm.cell.dataset, float(there.mean()))
    common = set.intersection(*(set(first.get(model.id, {})) for model in panel.models))
    if not common:
        return None
    return 10 * np.array([np.mean([first[m.id][d] for d in sorted(common)]) for m in panel.models])


def _has_capability(axes: Sequence[Axis]) -> bool:
    return any(axis.name.startswith("accuracy") for axis in axes)


def _blended(model: ModelSpec, settings: Settings) -> float:
    """Dollars per million tokens at the fixed mix of input and output."""
    inputs, outputs = settings.price_mix
    price = model.price
    total = inputs * price.input_nusd_per_ktok + outputs * price.output_nusd_per_ktok
    return total / (inputs + outputs) / 1e6


# --- the same models for all ---------------------------------------------------------------------


def _enough(panel: Panel) -> bool:
    return len(np.unique(panel.size_M)) >= _FEWEST_OF_LEAGUE


def _trained(panel: Panel, axes: Sequence[Axis]) -> Panel | None:
    """The models whose training FLOPs are known, where that is not all of them."""
    for axis in axes:
        has = ~np.isnan(axis.x_M)
        if axis.name == _FLOPS and not has.all():
            return _restricted(panel, has)
    return None


def _restricted(panel: Panel, kept_M: NDArray[np.bool_]) -> Panel:
    members = {
        dataset: [arm for arm, kept in zip(own, kept_M, strict=True) if kept]
        for dataset, own in panel.members.items()
    }
    return Panel(panel.of, members)


# --- rows ----------------------------------------------------------------------------------------


def _league(
    about: Finding, panel: Panel, axes: Sequence[Axis], ending: str, among: str
) -> Iterator[Finding]:
    """The rows of one league: every axis in it on the same deltas of the same models."""
    fixed = [axis for axis in axes if not np.isnan(axis.x_M).any()]
    parts = () if _has_capability(fixed) else halves(panel)
    scores = [_scores(half.panel, [*fixed, half.capability]) for half in parts]
    split = "; root mean square over two halves of the items" if parts else ""
    if not parts:
        scores = [_scores(panel, fixed)]
    made = [_averaged(own) for own in zip(*scores, strict=True)]
    made.sort(key=_least)
    for place, score in enumerate(made, start=1):
        note = "; ".join(text for text in (f"place {place} of {len(made)}", among) if text)
        for form, rmse in (("line", score.rmse_loglinear), ("parabola", score.rmse_quadratic)):
            row = estimate(
                f"{E2}: error of foretelling a model left out, a {form} in {score.name}",
                rmse, n=score.models, method=f"leave one model out{split}", unit="share", note=note,
            )  # fmt: skip
            yield replace(
                about, quantity=f"axis_rmse_{form}{ending}", estimate=row, versus=score.name
            )


def _scores(panel: Panel, axes: Sequence[Axis]) -> list[AxisScore]:
    """The scores in the order of the axes."""
    names = [axis.name for axis in axes]
    x_XM = np.stack([axis.x_M for axis in axes])
    found = {one.name: one for one in axis_league(x_XM, panel.delta_M, panel.cov_MM, names=names)}
    return [found[name] for name in names]


def _averaged(scores: Sequence[AxisScore]) -> AxisScore:
    """One axis over parts of the items: root mean squares."""
    line, parabola = (
        math.sqrt(sum(rmse**2 for rmse in own) / len(own))
        for own in (
            [one.rmse_loglinear for one in scores],
            [one.rmse_quadratic for one in scores],
        )
    )
    return AxisScore(scores[0].name, scores[0].models, line, parabola)


def _least(score: AxisScore) -> float:
    return min(x for x in (score.rmse_loglinear, score.rmse_quadratic, math.inf) if x == x)


def _slope(
    about: Finding, lines: Sequence[tuple[Floats, Axis]], settings: Settings, note: str
) -> Finding:
    """The slope on one axis; several deltas of the same models: the mean of their slopes.

    The slopes of two halves may depend on each other in any way: the standard error of their mean
    is at most the mean of their standard errors, which is what is taken.
    """
    axis = lines[0][1]
    # The trend takes the logarithm; from the mean, no power overflows.
    found = [
        trend_over_such_models(np.exp(on.x_M - on.x_M.mean()), delta_M, level=settings.level)
        for delta_M, on in lines
    ]
    slope, se = (float(np.mean([getattr(one, of) for one in found])) for of in ("slope", "se"))
    low, high = (
        float(np.mean([getattr(one.interval, of) for one in found])) for of in ("low", "high")
    )
    models = len(axis.x_M)
    made = estimate(
        f"{E2}: slope of delta per {axis.per}, over such models",
        slope,
        Interval(low, high),
        n=models,
        method=f"least squares, t with {models - 2} df",
        unit="share per 10 points" if axis.per.startswith("10 points") else "share per e-fold",
        level=settings.level,
        note=note,
    )
    p = t_p_value(slope, se, models - 2)
    return replace(
        about, estimate=made, versus=axis.name, p_value=None if math.isnan(p) else float(p)
    )


def _beside(trained: Panel, models: int) -> str:
    """How many models a slope on FLOPs is over, and what these give on parameters."""
    said = f"{len(trained.models)} of {models} models, {_TRAINED}"
    if len(np.unique(trained.size_M)) < 2:
        return said
    line = trend_over_such_models(trained.size_M, trained.delta_M)
    return f"{said}; their slope per e-fold of parameters is {100 * line.slope:+.2f} points"
