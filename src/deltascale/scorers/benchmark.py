"""What benchmarks' own scores are made of, and these scores without a study. Knows no benchmark."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from deltascale.records import Item, Judged, Score, Scorer, Seen

__all__ = ["Floats", "f1", "first_of_unit", "scores", "unit_sums", "whole_units"]

Floats: TypeAlias = NDArray[np.float64]


def f1(hit: Floats, other: Floats) -> Floats:
    """2 hit / (2 hit + other): `other` is false positives and false negatives together. 0 where
    there is no hit."""
    total = 2 * hit + other
    return np.divide(2 * hit, total, out=np.zeros(np.shape(total)), where=total > 0)


def unit_sums(judged: Judged, value_S: Floats) -> Floats:
    """(S,) for each sample, the sum over its unit; NaN where any of it is."""
    sums = np.bincount(judged.unit_S, weights=value_S)
    return np.asarray(sums[judged.unit_S], dtype=np.float64)


def first_of_unit(judged: Judged, value_S: Floats) -> Floats:
    """(S,) the values on the first sample of each unit, NaN on the others: a mean over units."""
    first = np.zeros(len(judged.unit_S), dtype=np.bool_)
    first[np.unique(judged.unit_S, return_index=True)[1]] = True
    return np.where(first, value_S, np.nan)


def whole_units(judged: Judged) -> Floats:
    """(S,) on each unit's first sample, whether all of it is right; NaN on the others, and where
    something of it is not known."""
    wrong = unit_sums(judged, 1 - judged.score_S)
    return first_of_unit(judged, np.where(np.isnan(wrong), np.nan, wrong == 0))


def scores(
    scorer: Scorer, answers: Iterable[tuple[Item, str | None]]
) -> Mapping[tuple[str, str], float]:
    """The benchmark's own scores of these answers by (part, name), without a study or a model.

    An answer is what `scorer.extract` found in a reply, None where it found nothing; an item that
    comes again is another draw of it. Empty where the scorer has no metrics of its own.
    """
    held = list(answers)
    if scorer.metrics is None or not held:
        return {}
    judged = _judged(scorer, held)
    terms = scorer.metrics.terms(judged)
    part_S = judged.stratum_S if scorer.metrics.stratified else np.full(len(held), "")
    means: dict[str, dict[str, Floats]] = {}
    for part in sorted(set(part_S.tolist())):
        rows = {name: x[part_S == part] for name, x in terms.items()}
        means[part] = {
            name: np.asarray(np.nanmean(x)) for name, x in rows.items() if not np.isnan(x).all()
        }
    return {name: float(x) for name, x in scorer.metrics.scores(means).items()}


def _judged(scorer: Scorer, answers: Sequence[tuple[Item, str | None]]) -> Judged:
    codes: dict[str, int] = {}
    units: dict[tuple[str, int], int] = {}
    draws: Counter[str] = Counter()
    item_S, unit_S, made, counted = [], [], [], []
    for item, answer in answers:
        item_S.append(codes.setdefault(item.id, len(codes)))
        unit = item.meta.get("unit", item.id), draws[item.id]
        draws[item.id] += 1
        unit_S.append(units.setdefault(unit, len(units)))
        text = answer or ""
        made.append(Score(0.0) if answer is None else scorer.judge(item, answer, text))
        seen = Seen((), text, answer)
        counted.append({} if scorer.counts is None else scorer.counts(item, seen))
    return Judged(
        stratum_S=np.array([item.stratum for item, _ in answers]),
        item_S=np.array(item_S, dtype=np.intp),
        unit_S=np.array(unit_S, dtype=np.intp),
        score_S=np.array([score.value for score in made], dtype=np.float64),
        answered_S=np.array([answer is not None for _, answer in answers], dtype=np.bool_),
        others=_columns([score.others for score in made]),
        counts=_columns(counted),
    )


def _columns(rows: Sequence[Mapping[str, float]]) -> dict[str, Floats]:
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: np.array([row.get(name, np.nan) for row in rows]) for name in names}
