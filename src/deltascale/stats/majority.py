"""What voting over k answers, or the best of k, would score: the cost-matched controls."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["best_of_k_accuracy", "majority_accuracy", "oracle_retry_accuracy"]

FloatArray: TypeAlias = NDArray[np.float64]


def majority_accuracy(answer_IK: ArrayLike, correct_IK: ArrayLike, *, k: int) -> FloatArray:
    """Expected accuracy of the most frequent of k answers, per item, from K >= k samples.

    The mean over all C(K, k) subsets (a U-statistic, so unbiased for k fresh samples), a tie being
    broken evenly among the answers tied. `answer_IK` holds a label an answer: equal labels are one
    answer; "no parse" is an answer like any other; a negative label is a sample that is not there.
    `correct_IK` says whether each is right. NaN where an item has fewer than k samples.

    Raises ValueError for k < 1, shapes that differ, or one answer judged both ways.
    Source: Wang et al. 2023, arXiv:2203.11171 (the vote); Hoeffding 1948 (U-statistic).
    """
    answers, correct = np.asarray(answer_IK), np.asarray(correct_IK, dtype=bool)
    if k < 1 or answers.shape != correct.shape or answers.ndim != 2:
        raise ValueError("majority_accuracy needs k >= 1 and two arrays of items by samples")
    if not np.issubdtype(answers.dtype, np.number):
        raise ValueError(f"answers must be numbered, not {answers.dtype}: see np.unique's inverse")
    cached: dict[tuple[tuple[int, ...], tuple[int, ...]], float] = {}
    accuracy = np.full(len(answers), math.nan)
    for i, (labels, right) in enumerate(zip(answers, correct, strict=True)):
        votes = Counter(int(a) for a in labels if a >= 0)
        judged = {(int(a), bool(r)) for a, r in zip(labels, right, strict=True) if a >= 0}
        if len(judged) > len(votes):
            raise ValueError(f"item {i}: one answer is judged both right and wrong")
        rights = {a for a, r in judged if r}
        if votes.total() < k:
            continue
        key = (
            tuple(sorted(c for a, c in votes.items() if a in rights)),
            tuple(sorted(c for a, c in votes.items() if a not in rights)),
        )
        if key not in cached:
            cached[key] = _win_probability(*key, k)
        accuracy[i] = cached[key]
    return accuracy


def best_of_k_accuracy(successes_I: ArrayLike, samples_I: ArrayLike, *, k: int) -> FloatArray:
    """Chance that one of k answers is right, per item, from K >= k samples: the oracle's ceiling.

    1 - C(K - s, k) / C(K, k); NaN where an item has fewer than k samples.
    Raises ValueError for k < 1 or successes outside [0, K].
    Source: Chen et al. 2021, arXiv:2107.03374 (pass@k).
    """
    s = np.asarray(successes_I, dtype=np.int64)
    n = np.broadcast_to(np.asarray(samples_I, dtype=np.int64), s.shape)
    if k < 1 or np.any((s < 0) | (s > n)):
        raise ValueError("best_of_k_accuracy needs k >= 1 and 0 <= successes <= samples")
    wrong = (n - s)[..., None] - np.arange(k)
    factor = np.maximum(wrong, 0) / np.maximum(n[..., None] - np.arange(k), 1)
    return np.asarray(np.where(n >= k, 1 - factor.prod(axis=-1), math.nan))


def oracle_retry_accuracy(rate: float, turns: int) -> float:
    """1 - (1 - r)^T: accuracy when a wrong answer is asked again until right, at most T answers.

    What oracle-gated correction has to beat. Here r is one item's chance; for many items average
    over items, or use `best_of_k_accuracy`. Raises ValueError for r outside [0, 1] or T < 1.
    """
    if not 0 <= rate <= 1 or turns < 1:
        raise ValueError("rate must be in [0, 1] and turns at least 1")
    return 1 - (1 - rate) ** turns


def _win_probability(right: Sequence[int], wrong: Sequence[int], k: int) -> float:
    """P(a right answer wins the vote of a random k-subset), exactly, in whole numbers.

    For each right answer and each number j of its votes: the subsets in which no other answer has
    more than j, by how many have exactly j. The winner among t + 1 tied is 1 in t + 1.
    """
    everything = [*right, *wrong]
    total = math.comb(sum(everything), k)
    won = 0.0
    for at, count in enumerate(right):
        others = everything[:at] + everything[at + 1 :]
        for j in range(1, min(count, k) + 1):
            for ties, ways in enumerate(_fillings(others, k - j, j)):
                won += math.comb(count, j) * ways / (total * (ties + 1))
    return won


def _fillings(counts: Sequence[int], size: int, most: int) -> list[int]:
    """Ways to draw `size` of these answers, none over `most` times, by how many are at `most`."""
    # ways[s][t]: s drawn so far, t answers at `most`.
    ways = [[0] * (len(counts) + 1) for _ in range(size + 1)]
    ways[0][0] = 1
    for count in counts:
        new = [[0] * (len(counts) + 1) for _ in range(size + 1)]
        for drawn, row in enumerate(ways):
            for ties, so_far in enumerate(row):
                if not so_far:
                    continue
                for j in range(min(count, most, size - drawn) + 1):
                    new[drawn + j][ties + (j == most)] += so_far * math.comb(count, j)
        ways = new
    return ways[size]
