"""Every cell's delta with its interval, test and bounds; every turn's accuracy.

The estimand of every interval here is E1: these models, over items like these.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from deltascale.analysis.arms import Arm, arms, is_binary, outcomes, withheld
from deltascale.analysis.joint import Joint, resample
from deltascale.analysis.results import E1, CellResult, Settings, TurnResult, estimate, finite
from deltascale.frame import Frame
from deltascale.records import Estimate, Study
from deltascale.stats.clustered import (
    bonett_price_floor,
    clustered_mean,
    clustered_ratio,
    mean_equivalence,
    sign_flip_test,
)
from deltascale.stats.headline import Headline, headline_interval
from deltascale.stats.multiplicity import benjamini_hochberg, holm, max_t_level
from deltascale.stats.paired import (
    equivalence,
    manski_bounds,
    mcnemar_exact,
    mcnemar_midp,
    wilson_interval,
)

__all__ = ["METHODS", "cells", "of_arms", "turns"]

Floats = NDArray[np.float64]
Method = Literal["tango", "cr1", "deff-tango", "t"]

# An ordinary t interval is CR1's where every sample is a cluster of its own.
METHODS: dict[Method, str] = {
    "tango": "Tango",
    "cr1": "CR1 t",
    "deff-tango": "deff-Tango",
    "t": "CR1 t",
}


def cells(
    frames: Sequence[Frame], study: Study, settings: Settings | None = None
) -> tuple[CellResult, ...]:
    """Every cell's delta, with its test adjusted by Holm over the family of corrections.

    The family is every ungated cell of the study's confirmatory protocols, or where it names none,
    of all but the resampling null: these are the claims "this protocol changes accuracy" that a
    study makes together. The simultaneous intervals are over the same family. BH is over all cells
    with a test.
    """
    found = arms(frames, study)
    return of_arms(found, resample(found, settings or Settings()))


def of_arms(found: Sequence[Arm], joint: Joint) -> tuple[CellResult, ...]:
    """`cells`, from arms and their replicates that are there already."""
    return _together(found, _adjusted([_cell(arm, joint.settings) for arm in found]), joint)


def turns(frames: Sequence[Frame], settings: Settings | None = None) -> Iterator[TurnResult]:
    """Every turn of every cell."""
    chosen = settings or Settings()
    for frame in frames:
        _, cluster_I = np.unique(np.array(frame.clusters), return_inverse=True)
        cluster_S = np.repeat(cluster_I.astype(np.intp), frame.score_CIET.shape[2])
        for c in range(len(frame.cells)):
            planned_S = frame.planned_CIE[c].reshape(-1)
            score_ST = frame.score_CIET[c].reshape(-1, frame.n_turns)
            hidden = ~planned_S[:, None] | bool(withheld(frame, c))
            score_ST = np.where(hidden, np.nan, score_ST)
            for turn in range(frame.n_turns):
                yield _turn(frame, c, turn, score_ST, cluster_S, chosen)


def _turn(
    frame: Frame,
    c: int,
    turn: int,
    score_ST: Floats,
    cluster_S: NDArray[np.intp],
    settings: Settings,
) -> TurnResult:
    now_S = score_ST[:, turn]
    there_S = ~np.isnan(now_S)
    n_missing = int(frame.planned_CIE[c].sum() - there_S.sum())
    headline = _headline(score_ST[:, 0], now_S, cluster_S, settings, replicates=0)
    return TurnResult(
        cell=frame.cells[c],
        turn=turn,
        accuracy=_accuracy(
            f"accuracy at turn {turn}", now_S[there_S], cluster_S[there_S], n_missing, settings
        ),
        delta=_delta(f"accuracy at turn {turn} less turn 0", headline, n_missing, settings),
        outcomes=outcomes(frame, c, turn),
        cost_usd=float(frame.cost_nusd_CIET[c, :, :, turn].sum()) / 1e9,
        n_calls=int(frame.n_calls_CIET[c, :, :, turn].sum()),
        input_tokens=int(frame.input_tokens_CIET[c, :, :, turn].sum()),
        cached_input_tokens=int(frame.cached_input_tokens_CIET[c, :, :, turn].sum()),
        output_tokens=int(frame.output_tokens_CIET[c, :, :, turn].sum()),
    )


def _cell(arm: Arm, settings: Settings) -> CellResult:
    frame, c, known_S = arm.frame, arm.c, arm.known
    flips = _flips(arm)
    headline = _headline(arm.first, arm.last, arm.cluster_S, settings)
    delta = _delta("accuracy at the last turn less turn 0", headline, arm.n_missing, settings)
    worst, best, widened = _bounds(arm, flips, headline, settings)
    p_value, p_method, p_exact = _test(arm, flips, settings)
    cost_SIT = frame.cost_nusd_CIET[c]
    blank = Estimate(delta.estimand, None, note=delta.note or "only for binary scores")
    newcombe = headline.newcombe10 if headline else None
    none = _no_effect(arm, flips, headline, settings)
    about = arm.cluster_S[known_S], arm.n_missing
    return CellResult(
        cell=arm.cell,
        model=arm.model,
        regime=arm.regime,
        gate=arm.gate,
        withheld=arm.withheld,
        confirmatory=arm.confirmatory,
        n_turns=frame.n_turns,
        n_samples=int(arm.planned_S.sum()),
        n_missing=arm.n_missing,
        first=_accuracy("accuracy at turn 0", arm.first[known_S], *about, settings),
        last=_accuracy("accuracy at the last turn", arm.last[known_S], *about, settings),
        delta=delta,
        newcombe=_beside(delta, newcombe, "Newcombe 10") if newcombe else blank,
        bootstrap=_bootstrapped(delta, headline, settings) if headline else blank,
        disagree=bool(headline and headline.disagree),
        design_effect=None if headline is None else finite(headline.deff_raw),
        fixed=flips[0] if flips else None,
        broken=flips[1] if flips else None,
        worst=worst,
        best=best,
        widened=widened,
        p_value=p_value,
        p_method=p_method,
        p_exact=p_exact,
        n_by_outcome_first=outcomes(frame, c, 0),
        n_by_outcome_last=outcomes(frame, c, -1),
        cost_usd=float(cost_SIT.sum()) / 1e9,
        cost_extra_usd=float(cost_SIT[:, :, 1:].sum()) / 1e9,
        input_tokens=int(frame.input_tokens_CIET[c].sum()),
        output_tokens=int(frame.output_tokens_CIET[c].sum()),
        equivalence=none.interval,
        p_equivalence=none.p_value,
        no_effect=none.claimed,
    )


@dataclass(frozen=True, slots=True)
class _NoEffect:
    interval: Estimate
    p_value: float | None
    claimed: bool


def _no_effect(
    arm: Arm, flips: tuple[int, int] | None, headline: Headline | None, settings: Settings
) -> _NoEffect:
    """Two one-sided tests against the margin: the only way to say that there is no effect."""
    what = f"{E1}: delta within ±{100 * settings.margin:g} points"
    if headline is None or arm.gate:
        why = "a gated cell" if arm.gate else "no complete pair is known"
        return _NoEffect(Estimate(what, None, note=why), None, False)
    n = int(arm.known.sum())
    if flips is None:
        mean = headline.mean
        # Answers that all score as they did leave a width, or three of them would show no effect.
        se = mean.se_cr1 or math.sqrt(bonett_price_floor(mean.clusters))
        tost = mean_equivalence(mean.estimate, se, mean.clusters - 1, margin=settings.margin)
        found = estimate(
            what, mean.estimate, tost.interval, n=n, method="TOST by CR1 t", level=0.90
        )
        return _NoEffect(found, finite(tost.p_value), tost.equivalent)
    deff = 1.0 if headline.method == "tango" else headline.deff
    tost = equivalence(flips[0] / deff, flips[1] / deff, n / deff, margin=settings.margin)
    method = "TOST by Tango" if deff == 1 else "TOST by deff-Tango"
    found = estimate(what, headline.delta, tost.interval, n=n, method=method, level=0.90)
    return _NoEffect(found, tost.p_value, tost.equivalent)


def _headline(
    first_S: Floats,
    last_S: Floats,
    cluster_S: NDArray[np.intp],
    settings: Settings,
    *,
    replicates: int | None = None,
) -> Headline | None:
    """The chosen interval; None where no pair is complete. Samples enter one by one, so that
    fixed − broken = delta × n also where some epochs are missing."""
    if np.isnan(first_S + last_S).all():
        return None
    return headline_interval(
        first_S,
        last_S,
        cluster_I=cluster_S,
        level=settings.level,
        replicates=settings.replicates if replicates is None else replicates,
        seed=settings.seed,
    )


def _accuracy(
    estimand: str, score: Floats, cluster: NDArray[np.intp], n_missing: int, settings: Settings
) -> Estimate:
    """Mean score: Wilson for binary scores of single items, else over the clusters."""
    n, level = score.size, settings.level
    estimand = f"{E1}: {estimand}"
    if n == 0:
        return Estimate(estimand, None, n_missing=n_missing, note="no answer is known")
    labels = cluster if len(np.unique(cluster)) < n else None
    if not is_binary(score):
        interval = clustered_mean(score, labels, level=level).interval
        method = "t" if labels is None else "CR1 t"
    elif labels is None:
        interval, method = wilson_interval(float(score.sum()), n, level=level), "Wilson"
    else:
        interval = clustered_ratio(score, np.ones(n), labels, level=level).interval
        method = "linearised, logit, t"
    mean = float(score.mean())
    return estimate(
        estimand, mean, interval, n=n, n_missing=n_missing, method=method, level=settings.level
    )


def _delta(
    estimand: str, headline: Headline | None, n_missing: int, settings: Settings
) -> Estimate:
    estimand = f"{E1}: {estimand}"
    if headline is None:
        return Estimate(estimand, None, n_missing=n_missing, note="no complete pair is known")
    return estimate(
        estimand,
        headline.delta,
        headline.interval,
        n=headline.mean.n,
        n_missing=n_missing,
        method=METHODS[headline.method],
        level=settings.level,
    )


def _beside(
    delta: Estimate, interval: tuple[float, float], method: str, mc_se: float = math.nan
) -> Estimate:
    return estimate(
        delta.estimand,
        delta.value if delta.value is not None else math.nan,
        interval,
        n=delta.n,
        n_missing=delta.n_missing,
        method=method,
        level=delta.level,
        mc_se=mc_se,
    )


def _bootstrapped(delta: Estimate, headline: Headline, settings: Settings) -> Estimate:
    method = f"cluster bootstrap, {settings.replicates} replicates, seed {settings.seed}"
    return _beside(delta, headline.bootstrap, method, headline.bootstrap_mc_se)


def _bounds(
    arm: Arm, flips: tuple[int, int] | None, headline: Headline | None, settings: Settings
) -> tuple[Estimate, Estimate, Estimate]:
    """Delta over everything planned when each missing answer is as bad, or as good, as can be;
    and both with sampling error."""
    n = int(arm.planned_S.sum())
    no_first, no_last = np.isnan(arm.first) & arm.planned_S, np.isnan(arm.last) & arm.planned_S
    only_last = no_last & ~no_first
    if arm.withheld or flips is None or n == 0 or not is_binary(arm.first[only_last]):
        why = arm.withheld or "only for binary scores"
        unknown = Estimate(f"{E1}: delta, bound", None, note=why)
        return unknown, unknown, unknown
    deff = 1.0 if headline is None or headline.method == "tango" else headline.deff
    bounds = manski_bounds(
        *flips,
        int((arm.planned_S & ~no_first & ~no_last).sum()),
        lost_right=int((arm.first[only_last] == 1).sum()),
        lost_wrong=int((arm.first[only_last] == 0).sum()),
        lost_both=int(no_first.sum()),
        deff=deff,
        level=settings.level,
    )
    n_missing = int((no_first | no_last).sum())

    def bound(name: str, value: float, limits: tuple[float, float] | None = None) -> Estimate:
        return estimate(
            f"{E1}: delta over all planned, {name}",
            value,
            limits,
            n=n,
            n_missing=n_missing,
            method="Manski",
            level=settings.level,
        )

    return (
        bound("worst case", bounds.low),
        bound("best case", bounds.high),
        bound("bounds with sampling error", bounds.complete_case, bounds.widened),
    )


def _test(
    arm: Arm, flips: tuple[int, int] | None, settings: Settings
) -> tuple[float | None, str, float | None]:
    if arm.gate:
        return None, "none: a gated delta can't be negative", None
    if not arm.known.any():
        return None, "none: no complete pair", None
    if flips is not None and arm.clusters() is None:
        return mcnemar_midp(*flips), "McNemar mid-p", mcnemar_exact(*flips)
    used = arm.known
    test = sign_flip_test(arm.d[used], arm.cluster_S[used], seed=settings.seed)
    return test.p_value, "cluster sign-flip", test.p_value if test.exact else None


def _adjusted(found: Sequence[CellResult]) -> tuple[CellResult, ...]:
    tested = {row.cell.id: row.p_value for row in found if row.p_value is not None}
    family = [row.cell.id for row in found if row.confirmatory]
    claims = [one for one in family if one in tested]
    by_holm = dict(zip(claims, holm([tested[one] for one in claims]), strict=True))
    by_bh = dict(zip(tested, benjamini_hochberg(list(tested.values())), strict=True))
    return tuple(
        replace(
            row,
            p_holm=float(by_holm[row.cell.id]) if row.cell.id in by_holm else None,
            family_size=len(claims) if row.cell.id in by_holm else 0,
            family_excluded=len(family) - len(claims) if row.cell.id in by_holm else 0,
            p_bh=float(by_bh[row.cell.id]) if row.cell.id in by_bh else None,
            exploratory_size=len(tested) if row.cell.id in by_bh else 0,
        )
        for row in found
    )


def _together(
    found: Sequence[Arm], rows: Sequence[CellResult], joint: Joint
) -> tuple[CellResult, ...]:
    """The intervals of Holm's family so widened that they hold together.

    Each is of the same kind as the cell's headline, at the one level that the max-t of the joint
    replicates asks for: so it holds the headline's, and a cell in which nothing flips keeps a
    width, which a multiple of its standard error, zero, would not give it.
    """
    settings = joint.settings
    family = [arm for arm, row in zip(found, rows, strict=True) if row.p_holm is not None]
    if not family or settings.replicates < 2:
        return tuple(rows)
    level = max_t_level(
        np.stack([joint.delta(arm) for arm in family], axis=1),
        [float(arm.d[arm.known].mean()) for arm in family],
        level=settings.level,
    )
    widened = replace(settings, level=level)
    made = {}
    for arm in family:
        headline = _headline(arm.first, arm.last, arm.cluster_S, widened, replicates=0)
        assert headline is not None  # noqa: S101 - it was tested, so a pair is complete
        made[arm.cell.id] = estimate(
            f"{E1}: accuracy at the last turn less turn 0, together with {len(family) - 1} others",
            headline.delta,
            headline.interval,
            n=headline.mean.n,
            n_missing=arm.n_missing,
            method=f"{METHODS[headline.method]} at {100 * level:.3f} %, by the max-t of a "
            f"{joint.method.replace(', percentile', '')}",
            level=settings.level,
        )
    blank = Estimate("", None, note="not in the family that is adjusted by Holm")
    return tuple(replace(row, simultaneous=made.get(row.cell.id, blank)) for row in rows)


def _flips(arm: Arm) -> tuple[int, int] | None:
    """(fixed, broken) samples; None where a score is neither 0 nor 1."""
    if not arm.binary:
        return None
    d = arm.d[arm.known]
    return int((d == 1).sum()), int((d == -1).sum())
