"""From frames to estimates: which question, which estimator. Reads no ledger and prints nothing.

The estimand of every interval here is E1: these models, over items like these. A claim about a law
of size needs more and is not made here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from deltascale import protocols
from deltascale.frame import OUTCOMES, Frame
from deltascale.ledger import Spent
from deltascale.records import Cell, Estimate, ModelSpec, Regime, Study
from deltascale.stats.clustered import clustered_mean, sign_flip_test
from deltascale.stats.multiplicity import holm
from deltascale.stats.paired import (
    Interval,
    manski_bounds,
    mcnemar_midp,
    tango_interval,
    wilson_interval,
)

__all__ = ["CellResult", "Results", "TurnResult", "cells", "turns"]

_ITEMS = "E1: this model, items like these"
_FEW_CLUSTERS = 20
_FEW_FLIPS = 10


@dataclass(frozen=True, slots=True)
class TurnResult:
    """One turn of a cell. `accuracy` is over the samples whose answer at this turn is known;
    `delta` is against turn 0, over the samples known at both. `outcomes` counts samples."""

    cell: Cell
    turn: int
    accuracy: Estimate
    delta: Estimate
    outcomes: dict[str, int]
    cost_usd: float
    n_calls: int
    input_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class CellResult:
    """One cell's delta, from turn 0 to the last turn, over the samples known at both.

    `fixed` and `broken` count flips (samples, all epochs): fixed − broken = delta × n for binary
    scores; None for graded ones. `worst` and `best` bound the delta over everything planned,
    whatever the missing answers are; None without binary scores. `p_value` is None where no test
    is made (an oracle); `p_holm` also for the resampling null, which is in no family.
    Costs are as deployed: what these conversations cost with every call paid for.
    """

    cell: Cell
    model: ModelSpec
    regime: Regime
    n_turns: int
    n_samples: int
    n_missing: int
    first: Estimate
    last: Estimate
    delta: Estimate
    fixed: int | None
    broken: int | None
    worst: Estimate
    best: Estimate
    p_value: float | None
    p_method: str
    n_by_outcome_first: dict[str, int]
    n_by_outcome_last: dict[str, int]
    cost_usd: float
    cost_extra_usd: float
    input_tokens: int
    output_tokens: int
    p_holm: float | None = None
    family_size: int = 0


@dataclass(frozen=True, slots=True)
class Results:
    """A study's estimates, with what they cost to get."""

    study: Study
    cells: tuple[CellResult, ...]
    turns: tuple[TurnResult, ...]
    spent: Spent


def cells(frames: Sequence[Frame], study: Study) -> tuple[CellResult, ...]:
    """Every cell's delta, with its test adjusted by Holm over the family of corrections.

    The family is every cell whose protocol sees no verdict and is not the resampling null: these
    are the claims "this protocol changes accuracy" that a study makes together.
    """
    models = {model.id: model for model in study.models}
    found = [
        _cell(frame, c, models[cell.model])
        for frame in frames
        for c, cell in enumerate(frame.cells)
        if cell.model in models
    ]
    return _with_holm(sorted(found, key=lambda row: _place(row, study)))


def _place(row: CellResult, study: Study) -> tuple[str, int, float, float, str]:
    """By dataset, protocol as listed, temperature, and size with the unknown ones last."""
    size = row.model.size.parameters
    return (
        row.cell.dataset,
        study.protocols.index(row.cell.protocol),
        row.cell.temperature,
        math.inf if size is None else size,
        row.cell.model,
    )


def turns(frames: Sequence[Frame]) -> Iterator[TurnResult]:
    """Every turn of every cell."""
    for frame in frames:
        for c, cell in enumerate(frame.cells):
            for turn in range(frame.n_turns):
                yield _turn(frame, c, cell, turn)


def _cell(frame: Frame, c: int, model: ModelSpec) -> CellResult:
    cell = frame.cells[c]
    planned_IE = frame.planned_CIE[c]
    first_IE, last_IE = frame.score_CIET[c, :, :, 0], frame.score_CIET[c, :, :, -1]
    regime = protocols.find(cell.protocol).regime
    n_samples = int(planned_IE.sum())
    known_IE = planned_IE & ~np.isnan(first_IE) & ~np.isnan(last_IE)
    n_known = int(known_IE.sum())
    n_missing = n_samples - n_known
    flips = _flips(first_IE, last_IE, known_IE)
    delta = _delta(frame, first_IE, last_IE, known_IE, n_missing)
    worst, best = _bounds(flips, first_IE, last_IE, planned_IE)
    p_value, p_method = _test(frame, first_IE, last_IE, known_IE, flips, regime)
    cost_IET = frame.cost_nusd_CIET[c]
    return CellResult(
        cell=cell,
        model=model,
        regime=regime,
        n_turns=frame.n_turns,
        n_samples=n_samples,
        n_missing=n_missing,
        first=_accuracy("accuracy at turn 0", first_IE[known_IE], n_missing),
        last=_accuracy("accuracy at the last turn", last_IE[known_IE], n_missing),
        delta=delta,
        fixed=flips[0] if flips else None,
        broken=flips[1] if flips else None,
        worst=worst,
        best=best,
        p_value=p_value,
        p_method=p_method,
        n_by_outcome_first=_outcomes(frame, c, 0),
        n_by_outcome_last=_outcomes(frame, c, -1),
        cost_usd=float(cost_IET.sum()) / 1e9,
        cost_extra_usd=float(cost_IET[:, :, 1:].sum()) / 1e9,
        input_tokens=int(frame.input_tokens_CIET[c].sum()),
        output_tokens=int(frame.output_tokens_CIET[c].sum()),
    )


def _turn(frame: Frame, c: int, cell: Cell, turn: int) -> TurnResult:
    planned_IE = frame.planned_CIE[c]
    first_IE, now_IE = frame.score_CIET[c, :, :, 0], frame.score_CIET[c, :, :, turn]
    there_IE = planned_IE & ~np.isnan(now_IE)
    known_IE = there_IE & ~np.isnan(first_IE)
    n_missing = int(planned_IE.sum() - there_IE.sum())
    return TurnResult(
        cell=cell,
        turn=turn,
        accuracy=_accuracy(f"accuracy at turn {turn}", now_IE[there_IE], n_missing),
        delta=_delta(frame, first_IE, now_IE, known_IE, n_missing),
        outcomes=_outcomes(frame, c, turn),
        cost_usd=float(frame.cost_nusd_CIET[c, :, :, turn].sum()) / 1e9,
        n_calls=int(frame.n_calls_CIET[c, :, :, turn].sum()),
        input_tokens=int(frame.input_tokens_CIET[c, :, :, turn].sum()),
        output_tokens=int(frame.output_tokens_CIET[c, :, :, turn].sum()),
    )


def _outcomes(frame: Frame, c: int, turn: int) -> dict[str, int]:
    """How many planned samples ended this turn in each outcome; only those that occur."""
    codes = frame.outcome_CIET[c, :, :, turn][frame.planned_CIE[c]]
    counts = np.bincount(codes, minlength=len(OUTCOMES))
    return {name: int(n) for name, n in zip(OUTCOMES, counts, strict=True) if n}


def _accuracy(estimand: str, score: NDArray[np.float64], n_missing: int) -> Estimate:
    """Mean score. Wilson for binary scores of single epochs; the limits ignore clusters, since
    an accuracy stands beside the delta and is not itself the claim."""
    n = score.size
    if n == 0:
        return Estimate(estimand, None, n_missing=n_missing, note="no answer is known")
    mean = float(score.mean())
    if _binary(score):
        interval, method = wilson_interval(float(score.sum()), n), "Wilson"
    else:
        interval, method = clustered_mean(score).interval, "t"
    return _estimate(estimand, mean, interval, n, n_missing, method)


def _delta(
    frame: Frame,
    first_IE: NDArray[np.float64],
    last_IE: NDArray[np.float64],
    known_IE: NDArray[np.bool_],
    n_missing: int,
) -> Estimate:
    """The headline: Tango where items are independent, cluster-robust t where they are not."""
    n = int(known_IE.sum())
    if n == 0:
        return Estimate("delta", None, n_missing=n_missing, note="no complete pair is known")
    flips = _flips(first_IE, last_IE, known_IE)
    if flips is not None and not _dependent(frame, known_IE):
        interval, method = tango_interval(*flips, n), "Tango"
        return _estimate("delta", (flips[0] - flips[1]) / n, interval, n, n_missing, method)
    mean = clustered_mean(*_sample_deltas(frame, first_IE, last_IE, known_IE))
    if flips is None or (mean.clusters >= _FEW_CLUSTERS and sum(flips) >= _FEW_FLIPS):
        return _estimate("delta", mean.estimate, mean.interval, n, n_missing, "CR1 t")
    deff = mean.deff_used
    interval = tango_interval(flips[0] / deff, flips[1] / deff, n / deff)
    return _estimate("delta", mean.estimate, interval, n, n_missing, "deff-Tango")


def _estimate(
    estimand: str, value: float, interval: Interval, n: int, n_missing: int, method: str
) -> Estimate:
    if math.isnan(interval.low) or math.isnan(interval.high):
        note = "too few units for an interval"
        return Estimate(
            estimand, value, unit="share", n=n, n_missing=n_missing, method=method, note=note
        )
    return Estimate(
        estimand,
        value,
        interval.low,
        interval.high,
        unit="share",
        n=n,
        n_missing=n_missing,
        method=method,
        note=_ITEMS,
    )


def _bounds(
    flips: tuple[int, int] | None,
    first_IE: NDArray[np.float64],
    last_IE: NDArray[np.float64],
    planned_IE: NDArray[np.bool_],
) -> tuple[Estimate, Estimate]:
    """Delta over everything planned when each missing answer is as bad, or as good, as can be."""
    n_planned = int(planned_IE.sum())
    no_first, no_last = np.isnan(first_IE) & planned_IE, np.isnan(last_IE) & planned_IE
    only_last = no_last & ~no_first
    if flips is None or n_planned == 0 or not _binary(first_IE[only_last]):
        unknown = Estimate("delta, bound", None, note="only for binary scores")
        return unknown, unknown
    bounds = manski_bounds(
        *flips,
        int((planned_IE & ~no_first & ~no_last).sum()),
        lost_right=int((first_IE[only_last] == 1).sum()),
        lost_wrong=int((first_IE[only_last] == 0).sum()),
        lost_both=int(no_first.sum()),
    )
    n_missing = int((no_first | no_last).sum())
    return (
        Estimate("delta, worst case", bounds.low, unit="share", n=n_planned, n_missing=n_missing),
        Estimate("delta, best case", bounds.high, unit="share", n=n_planned, n_missing=n_missing),
    )


def _test(
    frame: Frame,
    first_IE: NDArray[np.float64],
    last_IE: NDArray[np.float64],
    known_IE: NDArray[np.bool_],
    flips: tuple[int, int] | None,
    regime: Regime,
) -> tuple[float | None, str]:
    if regime == "verdict":
        return None, "none: an oracle's delta can't be negative"
    if not known_IE.any():
        return None, "none: no complete pair"
    if flips is not None and not _dependent(frame, known_IE):
        return mcnemar_midp(*flips), "McNemar mid-p"
    d, cluster = _sample_deltas(frame, first_IE, last_IE, known_IE)
    return sign_flip_test(d, cluster).p_value, "cluster sign-flip"


def _with_holm(found: Sequence[CellResult]) -> tuple[CellResult, ...]:
    family = {
        row.cell.id: row.p_value
        for row in found
        if row.p_value is not None and row.regime != "verdict" and row.cell.protocol != "resample"
    }
    adjusted = dict(zip(family, holm(list(family.values())), strict=True))
    return tuple(
        replace(row, p_holm=float(adjusted[row.cell.id]), family_size=len(family))
        if row.cell.id in adjusted
        else row
        for row in found
    )


def _flips(
    first_IE: NDArray[np.float64], last_IE: NDArray[np.float64], known_IE: NDArray[np.bool_]
) -> tuple[int, int] | None:
    """(fixed, broken) samples; None where a score is neither 0 nor 1."""
    first, last = first_IE[known_IE], last_IE[known_IE]
    if not (_binary(first) and _binary(last)):
        return None
    return int(((first == 0) & (last == 1)).sum()), int(((first == 1) & (last == 0)).sum())


def _sample_deltas(
    frame: Frame,
    first_IE: NDArray[np.float64],
    last_IE: NDArray[np.float64],
    known_IE: NDArray[np.bool_],
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """The known samples' deltas and the cluster of each; epochs of an item share its cluster."""
    _, cluster_I = np.unique(np.array(frame.clusters), return_inverse=True)
    cluster_IE = np.broadcast_to(cluster_I[:, None], known_IE.shape)
    return (last_IE - first_IE)[known_IE], cluster_IE[known_IE].astype(np.intp)


def _dependent(frame: Frame, known_IE: NDArray[np.bool_]) -> bool:
    """Whether samples share an item (epochs) or a cluster."""
    if int(known_IE.sum(axis=1).max(initial=0)) > 1:
        return True
    clusters = np.array(frame.clusters)[known_IE.any(axis=1)]
    return len(np.unique(clusters)) < len(clusters)


def _binary(score: NDArray[np.float64]) -> bool:
    return bool(np.isin(score, (0.0, 1.0)).all())
