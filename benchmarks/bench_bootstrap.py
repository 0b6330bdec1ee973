"""The joint item bootstrap with refits of five families, beside the loops one would write instead.

10,000 replicates x 7 models x 5 datasets x 1,000 items: 350 million resampled outcomes. Each way
runs in a process of its own, so that its peak memory is its own.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

__all__: list[str] = []

SIZE = np.array([1, 3, 7, 14, 32, 70, 180.0])
REPLICATES = 10_000
DATASETS = 5
ITEMS = 1_000
_ALPHA = SIZE.size + 1 + 2 + 1  # after the deltas, the constant, the line, and the amplitude


@dataclass(frozen=True)
class Way:
    label: str
    replicates: int  # run; times are scaled to REPLICATES where these are fewer
    run: Callable[[int], np.ndarray]
    what: str


def outcomes() -> np.ndarray:
    """Last less first score, (datasets, models, items), from items of unequal difficulty."""
    rng = np.random.default_rng(0)
    difficulty = rng.normal(size=(DATASETS, 1, ITEMS))
    ability = 0.4 * np.log(SIZE)[:, None]
    right = 1 / (1 + np.exp(-(ability - difficulty)))
    u = rng.random((2, DATASETS, SIZE.size, ITEMS))
    first = u[0] < right
    fixed = ~first & (u[1] < 0.12 * SIZE[:, None] ** 0.4 / (1 + np.exp(difficulty)))
    broken = first & (u[1] < 0.03)
    found: np.ndarray = fixed.astype(float) - broken
    return found


def _variances(d: np.ndarray) -> np.ndarray:
    return np.asarray(d.var(axis=2, ddof=1).sum(axis=0) / ITEMS / DATASETS**2)


def _bootstrap(d: np.ndarray, threads: int, replicates: int) -> np.ndarray:
    from deltascale import stats

    strata = [stats.stratum(one.T, key=key) for key, one in enumerate(d)]
    means = stats.bootstrap_means(strata, seed=1, replicates=replicates, threads=threads)
    deltas = means.mean(axis=1)
    found = stats.bootstrap_families(SIZE, deltas, _variances(d))
    return np.concatenate([deltas, *(refit.theta for refit in found.refits)], axis=1)


def _graded(d: np.ndarray) -> np.ndarray:
    """Graded scores: no two items alike, so that nothing can be counted together."""
    return d + np.random.default_rng(2).normal(size=d.shape) * 1e-3


def _loop(replicates: int) -> np.ndarray:
    """One replicate after another, and scipy's curve_fit: the power law only."""
    from scipy.optimize import curve_fit

    d, rng = outcomes(), np.random.default_rng(1)
    se = np.sqrt(_variances(d))
    alphas = []
    for _ in range(replicates):
        means = [one[:, rng.integers(0, ITEMS, ITEMS)].mean(axis=1) for one in d]
        delta = np.mean(means, axis=0)
        theta, _ = curve_fit(_power, SIZE, delta, p0=(0.03, 0.1), sigma=se, maxfev=5_000)
        alphas.append(theta[1])
    return np.array(alphas)


def _grouped(replicates: int) -> np.ndarray:
    """A long table, resampled and averaged by group (pandas where there is one), and curve_fit."""
    from scipy.optimize import curve_fit

    d, rng = outcomes(), np.random.default_rng(1)
    se = np.sqrt(_variances(d))
    dataset, model, item = (axis.ravel() for axis in np.indices(d.shape))
    average = _average_by_group(dataset, model, item, d.ravel())
    alphas = []
    for _ in range(replicates):
        drawn = rng.integers(0, ITEMS, (DATASETS, ITEMS))
        theta, _ = curve_fit(_power, SIZE, average(drawn), p0=(0.03, 0.1), sigma=se, maxfev=5_000)
        alphas.append(theta[1])
    return np.array(alphas)


def _average_by_group(
    dataset: np.ndarray, model: np.ndarray, item: np.ndarray, score: np.ndarray
) -> Callable[[np.ndarray], np.ndarray]:
    try:
        import pandas as pd  # type: ignore[import-untyped,unused-ignore]
    except ImportError:
        return lambda drawn: _numpy_groups(dataset, model, item, score, drawn)
    table = pd.DataFrame({"dataset": dataset, "model": model, "item": item, "score": score})

    def average(drawn: np.ndarray) -> np.ndarray:
        rows = pd.DataFrame(
            {"dataset": np.repeat(np.arange(DATASETS), ITEMS), "item": drawn.ravel()}
        )
        sample = rows.merge(table, on=["dataset", "item"])
        means = sample.groupby(["dataset", "model"])["score"].mean()
        return np.asarray(means.groupby("model").mean())

    return average


def _numpy_groups(
    dataset: np.ndarray, model: np.ndarray, item: np.ndarray, score: np.ndarray, drawn: np.ndarray
) -> np.ndarray:
    """The same by hand: weights of the rows drawn, summed by group."""
    times = np.stack([np.bincount(row, minlength=ITEMS) for row in drawn])[dataset, item]
    group = dataset * SIZE.size + model
    total, weight = np.bincount(group, weights=score * times), np.bincount(group, weights=times)
    return np.asarray((total / weight).reshape(DATASETS, -1).mean(axis=0))


def _power(n: np.ndarray, amplitude: float, alpha: float) -> np.ndarray:
    return amplitude * n**alpha


WAYS = {
    "one": Way(
        "deltascale, 1 thread", REPLICATES, lambda b: _bootstrap(outcomes(), 1, b), "five families"
    ),
    "two": Way(
        "deltascale, 2 threads", REPLICATES, lambda b: _bootstrap(outcomes(), 2, b), "five families"
    ),
    "graded-one": Way(
        "deltascale, graded scores, 1 thread",
        REPLICATES,
        lambda b: _bootstrap(_graded(outcomes()), 1, b),
        "five families",
    ),
    "graded-two": Way(
        "deltascale, graded scores, 2 threads",
        REPLICATES,
        lambda b: _bootstrap(_graded(outcomes()), 2, b),
        "five families",
    ),
    "loop": Way("numpy loop + curve_fit", 300, _loop, "power law only"),
    "grouped": Way("table by group + curve_fit", 60, _grouped, "power law only"),
}


def _measure(name: str, times: int) -> None:
    """In the child: run, and say how long the fastest took, the peak memory, and what came out."""
    way = WAYS[name]
    way.run(3)  # imports and first calls are not what is measured
    seconds, processor = [], []
    for _ in range(times):
        start = time.perf_counter(), time.process_time()
        found = way.run(way.replicates)
        seconds.append(time.perf_counter() - start[0])
        processor.append(time.process_time() - start[1])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    megabytes = peak / (1024 if sys.platform != "darwin" else 1024**2)
    digest = hashlib.sha256(np.ascontiguousarray(found).tobytes()).hexdigest()
    sd = float(found[:, _ALPHA].std()) if found.ndim == 2 else float(found.std())
    told = {"s": min(seconds), "cpu_s": min(processor), "mb": megabytes, "sd": sd}
    print(json.dumps({**told, "digest": digest}))


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.bench_bootstrap", description=__doc__
    )
    parser.add_argument("--only", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--times", type=int, default=3, help="runs of each; the fastest counts")
    args = parser.parse_args()
    if args.only:
        _measure(args.only, args.times)
        return 0
    found = {}
    print(f"{'':38} {'run':>6} {'seconds':>8} {'CPU s':>7} {'peak MB':>8}  SD(alpha)  refits")
    for name, way in WAYS.items():
        command = [sys.executable, "-m", "benchmarks.bench_bootstrap", "--only", name]
        times = args.times if way.replicates == REPLICATES else 1
        ran = subprocess.run(
            [*command, "--times", str(times)], check=True, capture_output=True, text=True
        )
        got = found[name] = json.loads(ran.stdout)
        seconds, cpu = (got[key] * REPLICATES / way.replicates for key in ("s", "cpu_s"))
        print(
            f"{way.label:38} {way.replicates:6,} {seconds:8.2f} {cpu:7.2f}"
            f" {got['mb']:8.0f}  {got['sd']:9.5f}  {way.what}",
            flush=True,
        )
    for pair in (("one", "two"), ("graded-one", "graded-two")):
        same = found[pair[0]]["digest"] == found[pair[1]]["digest"]
        print(f"{WAYS[pair[0]].label} and 2: {'the same to the last bit' if same else 'DIFFERENT'}")
        if not same:
            return 1
    print(f"Seconds for {REPLICATES:,} replicates: ways that ran fewer are scaled up to as many.")
    load = os.getloadavg()[0]
    print(f"{os.cpu_count()} processors, load {load:.1f}: above that, only CPU seconds compare.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
