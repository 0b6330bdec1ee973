"""Do the intervals of benchmarks' own scores cover as often as they say? They are no means."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from deltascale.records import Judged
from deltascale.scorers.superglue import METRICS
from deltascale.stats.resampling import bootstrap_means, percentile_interval, stratum

LABELS = ("true", "false", "neither")
SHARES = np.array([0.5, 0.4, 0.1])
"""Of the labels, as they are in CB."""

Floats = NDArray[np.float64]
World = tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]


def drawn(rng: np.random.Generator, items: int) -> World:
    """Gold, first and last answers of items of unequal difficulty; some are changed in between."""
    gold = rng.choice(3, items, p=SHARES)
    ability = rng.normal(0.8, 1.0, items) - 0.7 * (gold == 2)
    right = rng.random(items) < 1 / (1 + np.exp(-ability))
    first = np.where(right, gold, (gold + rng.integers(1, 3, items)) % 3)
    changed = rng.random(items) < 0.25
    better = rng.random(items) < 1 / (1 + np.exp(-ability - 0.3))
    last = np.where(changed, np.where(better, gold, (gold + 1) % 3), first)
    return gold, first, last


def macro_f1(gold: NDArray[np.intp], said: NDArray[np.intp]) -> float:
    """By its definition, label by label."""
    scores = []
    for label in range(3):
        hit = np.sum((gold == label) & (said == label))
        scores.append(2 * hit / max(1, np.sum(gold == label) + np.sum(said == label)))
    return float(np.mean(scores))


def judged(gold: NDArray[np.intp], said: NDArray[np.intp]) -> Judged:
    n = len(gold)
    counts = {f"n_gold_{name}": (gold == k).astype(float) for k, name in enumerate(LABELS)}
    counts |= {f"n_said_{name}": (said == k).astype(float) for k, name in enumerate(LABELS)}
    return Judged(
        stratum_S=np.full(n, "CB"),
        item_S=np.arange(n),
        unit_S=np.arange(n),
        score_S=(gold == said).astype(float),
        answered_S=np.ones(n, dtype=np.bool_),
        others={},
        counts=counts,
    )


def coverage(items: int, *, simulations: int, seed: int) -> float:
    """How often the interval of macro-F1 at last less at first holds the value of endless items."""
    rng = np.random.default_rng(seed)
    gold, first, last = drawn(np.random.default_rng(0), 1_000_000)
    truth = macro_f1(gold, last) - macro_f1(gold, first)
    held = 0
    for number in range(simulations):
        gold, first, last = drawn(rng, items)
        terms = [METRICS.terms(judged(gold, said)) for said in (first, last)]
        names = list(terms[0])
        columns = np.stack([one[name] for one in terms for name in names], axis=1)
        mean_BQ = bootstrap_means([stratum(columns, key=number)], seed=1, replicates=500)[:, 0]
        ends = []
        for k in range(2):
            own = {name: mean_BQ[:, k * len(names) + j] for j, name in enumerate(names)}
            ends.append(METRICS.scores({"CB": own})["CB", "macro-F1"])
        limits = percentile_interval(np.asarray(ends[1] - ends[0])).interval
        held += limits.low <= truth <= limits.high
    return held / simulations


def test_macro_f1_is_covered() -> None:
    assert 0.88 <= coverage(250, simulations=150, seed=1) <= 0.99


@pytest.mark.slow
@pytest.mark.parametrize(("items", "least"), [(56, 0.88), (125, 0.92), (250, 0.93), (1000, 0.935)])
def test_macro_f1_is_covered_long(items: int, least: float) -> None:
    assert least <= coverage(items, simulations=2_000, seed=2) <= 0.97
