"""Whatever a study looks like, its analysis ends, keeps its identities and writes its tables.

Missing answers, graded scores, epochs, clusters, one model or eight, sizes unknown, costs of
nothing, replies alike: drawn at random, since studies that ended badly are analysed too.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from deltascale.analysis import Settings, analyse
from deltascale.frame import Frame
from deltascale.records import ModelSpec, Study
from deltascale.report import tables
from tests.frames import make_frame, model, study

PROTOCOLS = ("review", "critique", "resample", "vote", "oracle")


def world(seed: int) -> tuple[tuple[Frame, ...], Study]:
    rng = np.random.default_rng(seed)
    n_models, n_datasets = int(rng.integers(1, 9)), int(rng.integers(1, 4))
    n_epochs, n_turns = int(rng.integers(1, 4)), int(rng.integers(1, 5))
    protocols = [str(p) for p in rng.permutation(PROTOCOLS)[: rng.integers(1, 6)]]
    specs = [
        model(2.0**k) if rng.random() < 0.8 else model(None, low=2.0**k) for k in range(n_models)
    ]
    frames = tuple(
        a_frame(rng, f"d{d}", specs, protocols, n_epochs, n_turns) for d in range(n_datasets)
    )
    return frames, study(specs, *protocols)


def a_frame(
    rng: np.random.Generator,
    dataset: str,
    specs: list[ModelSpec],
    protocols: list[str],
    n_epochs: int,
    n_turns: int,
) -> Frame:
    n = int(rng.integers(1, 40))
    graded = rng.random() < 0.25
    scores = {}
    for spec in specs:
        for protocol in protocols:
            score = rng.random((n, n_epochs, n_turns))
            if not graded:
                score = (score < rng.choice([0.0, rng.random(), 1.0], p=[0.1, 0.8, 0.1])) * 1.0
            if rng.random() < 0.4:
                score[rng.random(score.shape) < rng.random()] = np.nan
            scores[spec.id, protocol] = score
    frame = make_frame(dataset, scores)
    shape = frame.score_CIET.shape
    planned = rng.random(shape[:3]) < rng.choice([1.0, 0.8])
    clusters = frame.items
    if rng.random() < 0.4:
        clusters = tuple(f"c{k}" for k in rng.integers(0, max(1, n // 3), n))
    return replace(
        frame,
        clusters=clusters,
        planned_CIE=planned,
        score_CIET=np.where(planned[..., None], frame.score_CIET, np.nan),
        answer_CIET=rng.integers(-1, 3, shape).astype(np.int32),
        n_calls_CIET=rng.integers(0, 2, shape).astype(np.int32),
        cost_nusd_CIET=rng.integers(0, rng.choice([1, 2_000]), shape),
        reply_CIET=rng.integers(-1, rng.choice([1, 3, 1_000]), shape).astype(np.int32),
        others={"strict": (rng.random(shape) < 0.5) * 1.0} if rng.random() < 0.4 else {},
    )


def check(seed: int) -> None:
    frames, made = world(seed)
    settings = Settings(replicates=60, estimated_sizes=bool(seed % 2))
    found = analyse(frames, made, settings=settings)
    for cell in found.cells:
        delta = cell.delta
        if delta.value is None:
            assert delta.note
            continue
        if cell.fixed is not None and cell.broken is not None:
            assert cell.fixed - cell.broken == pytest.approx(delta.value * delta.n, abs=1e-9)
        if delta.low is not None and delta.high is not None:
            assert delta.low - 1e-9 <= delta.value <= delta.high + 1e-9
        if cell.worst.value is not None and cell.best.value is not None:
            assert cell.worst.value <= cell.best.value
        assert delta.n + cell.n_missing == cell.n_samples
    gated = {cell.cell.protocol for cell in found.cells if cell.gate}
    for row in (*found.contrasts, *found.scaling, *found.thresholds):
        assert row.protocol not in gated or row.versus.startswith("best of")  # type: ignore[union-attr]
    for rows in tables.result_tables(found).values():
        for row in rows:
            for value in row.values():
                assert value is None or isinstance(value, str) or np.isfinite(value)


@pytest.mark.parametrize("seed", range(8))
def test_any_frame_is_analysed(seed: int) -> None:
    check(seed)


@pytest.mark.slow
@pytest.mark.timeout(1_200)
def test_many_frames_are_analysed() -> None:
    for seed in range(8, 400):
        check(seed)
