"""Frames made by hand, of models and worlds whose truth is known."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from deltascale.analysis import Settings
from deltascale.analysis.results import Finding
from deltascale.frame import Frame
from deltascale.records import Cell, ModelSpec, Price, Size, Study

Floats = NDArray[np.float64]
QUICK = Settings(replicates=200)
PRICE = Price(1_000, 1_000, 4_000, "test", "2026-01-01")


def model(billions: float | None, *, low: float = 0.0, family: str = "f") -> ModelSpec:
    name = f"m{billions or low:g}"
    size = Size("published", billions * 1e9, citation="a test") if billions else Size("unknown")
    if low:
        size = Size("estimate", low=low * 1e9, high=10 * low * 1e9, citation="a test")
    return ModelSpec(f"openai/{name}", "openai", name, size, PRICE, family=family)


def make_frame(
    dataset: str,
    score_by_cell: dict[tuple[str, str], Floats],
    *,
    temperature: float = 0.7,
    answers: dict[tuple[str, str], NDArray[np.int32]] | None = None,
    n_calls: dict[tuple[str, str], NDArray[np.int32]] | None = None,
    cost_nusd: dict[tuple[str, str], int] | None = None,
) -> Frame:
    """A frame of (model, protocol) → scores (I, E, T); answers follow the scores unless given."""
    score = np.stack(list(score_by_cell.values()))
    shape = score.shape
    known = ~np.isnan(score)
    answer = np.where(known, np.where(score == 1, 0, 1), -1).astype(np.int32)
    calls = np.ones(shape, np.int32)
    cost = np.full(shape, 1_000, np.int64)
    for c, key in enumerate(score_by_cell):
        answer[c] = (answers or {}).get(key, answer[c])
        calls[c] = (n_calls or {}).get(key, calls[c])
        cost[c] = (cost_nusd or {}).get(key, 1_000)
    items = tuple(f"i{n:04d}" for n in range(shape[1]))
    return Frame(
        dataset=dataset,
        cells=tuple(Cell(m, dataset, p, temperature) for m, p in score_by_cell),
        items=items,
        clusters=items,
        strata=("",) * len(items),
        units=items,
        chance_I=np.full(len(items), np.nan),
        planned_CIE=np.ones(shape[:3], np.bool_),
        score_CIET=score,
        outcome_CIET=np.where(known, 0, 5).astype(np.int8),
        answer_CIET=answer,
        n_calls_CIET=calls,
        input_tokens_CIET=np.full(shape, 10, np.int64),
        cached_input_tokens_CIET=np.full(shape, 4, np.int64),
        output_tokens_CIET=np.full(shape, 5, np.int64),
        cost_nusd_CIET=cost,
        others={},
        counts={},
        reply_CIET=np.full(shape, -1, np.int32),
        reply_error_CIET=np.zeros(shape, np.bool_),
    )


def study(models: Sequence[ModelSpec], *protocols: str) -> Study:
    return Study("t", tuple(models), (), protocols, turns=2)


def flipped(
    rng: np.random.Generator, n: int, first: float, fix: float, harm: float, *, turns: int = 2
) -> Floats:
    """(n, 1, turns) scores of a chain with these rates."""
    score = np.empty((n, 1, turns))
    score[:, 0, 0] = rng.random(n) < first
    for turn in range(1, turns):
        right = score[:, 0, turn - 1] == 1
        u = rng.random(n)
        score[:, 0, turn] = np.where(right, u >= harm, u < fix)
    return score


def scaling_world(seed: int, sizes: Sequence[float], *, n: int = 300) -> tuple[Frame, Study]:
    """Review is of no use to the smallest model and of much to the largest."""
    rng = np.random.default_rng(seed)
    models = [model(size) for size in sizes]
    scores = {}
    for one, size in zip(models, sizes, strict=True):
        x = math.log(size)
        scores[one.id, "review"] = flipped(rng, n, 0.5, 0.1 + 0.05 * x, 0.1 - 0.015 * x)
    return make_frame("d", scores), study(models, "review")


def null_world(seed: int, *, models: int = 7, n: int = 150) -> tuple[tuple[Frame, ...], Study]:
    """Review answers afresh: items differ in difficulty, and nothing is ever corrected."""
    rng = np.random.default_rng(seed)
    specs = [model(4.0**k) for k in range(models)]
    frames = []
    for dataset in ("one", "two"):
        scores = {}
        for spec in specs:
            rate = rng.beta(0.7, 0.7, size=n)
            for protocol in ("review", "resample"):
                scores[spec.id, protocol] = (rng.random((3, n)) < rate).T[:, None, :].astype(float)
        frames.append(make_frame(dataset, scores))
    return tuple(frames), study(specs, "review", "resample")


def pick(rows: Sequence[Finding], quantity: str, **where: object) -> list[Finding]:
    return [
        row
        for row in rows
        if row.quantity == quantity and all(getattr(row, k) == v for k, v in where.items())
    ]
