"""Scores as each benchmark defines them, at first and at last, and accuracy by stratum.

A benchmark's score is often no mean over items: a macro-F1, a share of questions right in all their
rotations, a mean over tasks of different sizes. It is a function of means, and so is bootstrapped.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deltascale import datasets, scorers
from deltascale.analysis.arms import Arm
from deltascale.analysis.results import E1, BenchmarkScore, Settings, estimate
from deltascale.errors import Stop
from deltascale.records import Estimate, Judged, Means, Metrics, Study
from deltascale.stats.resampling import (
    Stratum,
    bootstrap_means,
    percentile_interval,
    stratum,
    stratum_means,
)

__all__ = ["benchmarks", "judged"]

Floats = NDArray[np.float64]
Scores = Mapping[tuple[str, str], Floats]

_MOST_STRATA = 40
_ENOUGH = 10


def benchmarks(found: Sequence[Arm], study: Study, settings: Settings) -> Iterator[BenchmarkScore]:
    """Every cell's scores by its benchmark's own metrics; accuracy by stratum where it has none of
    its own by stratum. Over the samples known at both turns; withheld cells have none."""
    for arm in found:
        if not arm.known.any():
            continue
        own = _own(arm.cell.dataset, study)
        by_stratum = own is None or not own.stratified
        if own is not None:
            yield from _of_arm(arm, own, settings)
        if by_stratum and 1 < len(set(arm.frame.strata)) <= _MOST_STRATA:
            yield from _of_arm(arm, _BY_STRATUM, settings)


def judged(arm: Arm, turn: int) -> Judged:
    """The arm's samples at one turn, those that are not known at both ends as unknown."""
    frame, c = arm.frame, arm.c
    n_items, n_epochs = frame.score_CIET.shape[1:3]
    item_S = np.repeat(np.arange(n_items), n_epochs)
    epoch_S = np.tile(np.arange(n_epochs), n_items)
    _, unit_I = np.unique(np.array(frame.units), return_inverse=True)

    def of_samples(x_CIET: NDArray[np.float64]) -> Floats:
        return np.where(arm.known, x_CIET[c, :, :, turn].reshape(-1), np.nan)

    return Judged(
        stratum_S=np.repeat(np.array(frame.strata), n_epochs),
        item_S=item_S,
        unit_S=unit_I[item_S] * n_epochs + epoch_S,
        score_S=np.where(arm.known, arm.score_ST[:, turn], np.nan),
        answered_S=frame.outcome_CIET[c, :, :, turn].reshape(-1) == 0,
        others={name: of_samples(x) for name, x in frame.others.items()},
        counts={name: of_samples(x) for name, x in frame.counts.items()},
    )


def _own(dataset: str, study: Study) -> Metrics | None:
    """The metrics of the dataset's scorer; None without any, or where it is not installed here."""
    spec = next((one for one in study.datasets if one.name == dataset), None)
    if spec is None:
        return None
    try:
        name = spec.scorer or ("" if spec.file else datasets.find(spec.name).scorer)
        return scorers.find(name).metrics if name else None
    except Stop:
        return None


def _accuracy_by_stratum(means: Means) -> Scores:
    return {(part, "accuracy"): mean["score"] for part, mean in means.items()}


_BY_STRATUM = Metrics(lambda judged: {"score": judged.score_S}, _accuracy_by_stratum)


@dataclass(frozen=True, slots=True, eq=False)
class _Both:
    """The terms of an arm at its first turn and at its last: 2 × K columns, NaN: nothing."""

    names: tuple[str, ...]
    part_S: NDArray[np.str_]
    value_SQ: Floats

    def means(self, parts: Sequence[str], mean_DQ: Floats, last: bool) -> Means:
        """By part and term; `mean_DQ` may have leading axes. A term without values is left out."""
        start = len(self.names) if last else 0
        made: dict[str, dict[str, Floats]] = {}
        for d, part in enumerate(parts):
            there = ~np.isnan(self.value_SQ[self.part_S == part]).all(axis=0)
            made[part] = {
                name: mean_DQ[..., d, start + k]
                for k, name in enumerate(self.names)
                if there[start + k]
            }
        return made


def _of_arm(arm: Arm, metrics: Metrics, settings: Settings) -> Iterator[BenchmarkScore]:
    both = _both(arm, metrics)
    known = ~np.isnan(both.value_SQ).all(axis=1)
    parts = sorted(set(both.part_S[known].tolist()))
    strata = [_part(arm, both, part) for part in parts]
    mean_DQ = stratum_means(strata)
    mean_BDQ = bootstrap_means(strata, seed=settings.seed, replicates=settings.replicates)
    ends = (False, True)
    value = [metrics.scores(both.means(parts, mean_DQ, last)) for last in ends]
    drawn = [metrics.scores(both.means(parts, mean_BDQ, last)) for last in ends]
    for part, name in value[1]:
        if (part, name) not in value[0]:
            continue
        first, last = (float(one[part, name]) for one in value)
        first_B, last_B = (np.asarray(one[part, name]) for one in drawn)
        n = _n(arm, both, part)
        made = [
            _estimate(f"{E1}: {_words(part, name)}{when}", x, x_B, n, arm, settings)
            for when, x, x_B in (
                (" at turn 0", first, first_B),
                (" at the last turn", last, last_B),
                (", last less first", last - first, last_B - first_B),
            )
        ]
        yield BenchmarkScore(arm.cell, part, name, *made)


def _both(arm: Arm, metrics: Metrics) -> _Both:
    seen = [judged(arm, turn) for turn in (0, arm.frame.n_turns - 1)]
    terms = [metrics.terms(one) for one in seen]
    names = tuple(dict.fromkeys(name for one in terms for name in one))
    nothing = np.full(len(arm.known), np.nan)
    value_SQ = np.stack([one.get(name, nothing) for one in terms for name in names], axis=1)
    whole = np.full(len(arm.known), "")
    return _Both(names, seen[0].stratum_S if metrics.stratified else whole, value_SQ)


def _part(arm: Arm, both: _Both, part: str) -> Stratum:
    rows = both.part_S == part
    # By name: a part's draws do not depend on which others there are.
    key = zlib.crc32(f"{arm.cell.dataset}/{part}".encode())
    return stratum(both.value_SQ[rows], cluster_I=arm.cluster_S[rows], key=key)


def _n(arm: Arm, both: _Both, part: str) -> int:
    """Samples known: those of the part where it is a stratum or begins the names of some, else of
    the cell."""
    names = [name == part or name.startswith(f"{part}/") for name in both.part_S.tolist()]
    rows = np.array(names, dtype=np.bool_)
    return int((arm.known & rows).sum() if rows.any() else arm.known.sum())


def _words(part: str, name: str) -> str:
    return f"{part}: {name}" if part else name


def _estimate(
    words: str, value: float, value_B: Floats, n: int, arm: Arm, settings: Settings
) -> Estimate:
    limits = percentile_interval(value_B, level=settings.level).interval
    # Where all samples are alike, so is every replicate: that is no sign of certainty.
    alike = n >= _ENOUGH and limits.width == 0
    return estimate(
        words,
        value,
        (np.nan, np.nan) if alike or n < _ENOUGH else limits,
        n=n,
        n_missing=arm.n_missing,
        method=f"bootstrap within strata, percentile, {settings.replicates} replicates",
        unit="per attempt" if "per attempt" in words else "share",
        level=settings.level,
        note="all alike: resampling knows no error" if alike else "",
    )
