"""Signs that a number is an artefact: missing for a reason, oracle-gated, misread, drifting."""

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import bdtr, gammaln, kolmogorov

from deltascale.stats.clustered import clustered_mean
from deltascale.stats.paired import Interval, wilson_interval

__all__ = [
    "AuditedDelta",
    "ExtractionSplit",
    "Missingness",
    "Step",
    "accuracy_step",
    "audited_delta",
    "extraction_split",
    "fisher_exact",
    "looks_oracle_gated",
    "missingness",
    "most_common_share",
    "near_ceiling",
    "worse_than_chance",
]

FloatArray: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Missingness:
    """Whether a last answer is more often missing after a right or a wrong first one."""

    missing_after_right: float  # shares; NaN if there is no such first answer
    missing_after_wrong: float
    p_value: float
    flagged: bool  # p <= .05


@dataclass(frozen=True, slots=True)
class Step:
    """The largest departure of a running mean, and whether chance would make one so large."""

    statistic: float  # max |cusum| / (sd sqrt n); Kolmogorov's distribution under no change
    p_value: float
    at: int  # the observation after which the level changes
    before: float
    after: float


@dataclass(frozen=True, slots=True)
class ExtractionSplit:
    """One protocol's delta under two extractors, and how much of it is formatting."""

    strict: float
    flexible: float
    content: float  # part of `strict` from flips both extractors read alike
    format: float  # part from flips whose first answer was not parsed, or is read in two ways
    se: float  # of the strict delta
    blocked: bool  # |strict - flexible| > SE: no headline until the extractor is mended


@dataclass(frozen=True, slots=True)
class AuditedDelta:
    """Delta with only as many flips as a blind audit confirms."""

    delta: float
    adjusted: float
    fixed_error: Interval  # Wilson interval of the share of audited `fixed` flips that are not
    broken_error: Interval
    adjust: bool  # over 1 % of audited flips were wrong: print `adjusted`


def fisher_exact(a: int, b: int, c: int, d: int) -> float:
    """Two-sided exact p-value of the table [[a, b], [c, d]]; 1 where a margin is empty.

    The sum over tables with these margins that are no more likely.
    Raises ValueError for negative counts. Source: Fisher 1935; as R's fisher.test.
    """
    if min(a, b, c, d) < 0:
        raise ValueError("counts must not be negative")
    row, column, n = a + b, a + c, a + b + c + d
    k = np.arange(max(0, row + column - n), min(row, column) + 1)
    log_p = -(
        gammaln(k + 1)
        + gammaln(row - k + 1)
        + gammaln(column - k + 1)
        + gammaln(n - row - column + k + 1)
    )
    p = np.exp(log_p - log_p.max())
    p /= p.sum()
    observed = p[a - k[0]]
    return float(min(1.0, p[p <= observed * (1 + 1e-7)].sum()))


def missingness(first_I: ArrayLike, last_I: ArrayLike) -> Missingness:
    """Fisher's test of whether the last score is missing depends on the first (0 or 1).

    Pairs without a first score are left out: they cannot tell. Raises ValueError if shapes differ.
    Source: as `fisher_exact`.
    """
    first, last = np.asarray(first_I, np.float64), np.asarray(last_I, np.float64)
    if first.shape != last.shape:
        raise ValueError(f"first {first.shape} and last {last.shape} scores must match")
    gone = np.isnan(last)
    right, wrong = first == 1, first == 0
    counts = [
        int(np.count_nonzero(x)) for x in (right & gone, right & ~gone, wrong & gone, wrong & ~gone)
    ]
    p = fisher_exact(*counts)

    def share(lost: int, kept: int) -> float:
        return lost / (lost + kept) if lost + kept else math.nan

    return Missingness(share(*counts[:2]), share(*counts[2:]), p, p <= 0.05)


def looks_oracle_gated(first_I: ArrayLike, asked_again_I: ArrayLike) -> bool:
    """Whether only wrong first answers were asked again: some of them, and no right one.

    Then delta cannot be negative, whatever the model does. Where no first answer was right there is
    nothing against the suspicion, and it stands. Raises ValueError if shapes differ.
    """
    first, again = np.asarray(first_I, np.float64), np.asarray(asked_again_I, bool)
    if first.shape != again.shape:
        raise ValueError(f"first scores {first.shape} and asked_again_I {again.shape} must match")
    return bool(not again[first == 1].any() and again[first == 0].any())


def most_common_share(label_I: ArrayLike) -> float:
    """Share of the most frequent label (of whole responses, say): from .5 up the run is suspect."""
    labels = np.asarray(label_I)
    if labels.size == 0:
        return math.nan
    return float(np.unique(labels, return_counts=True)[1].max() / labels.size)


def worse_than_chance(right: int, n: int, *, chance: float, alpha: float = 0.001) -> bool:
    """Whether accuracy is below chance - 1 point at p < alpha: something is misread.

    One-sided exact binomial test. False where chance is no more than a point.
    """
    bound = chance - 0.01
    return bool(n > 0 and bound > 0 and bdtr(float(right), n, bound) < alpha)


def near_ceiling(acc_first: float, *, limit: float = 0.97) -> bool:
    """Whether so little is left to fix that delta shows the ceiling: fit the two-rate model."""
    return acc_first > limit


def accuracy_step(score_I: ArrayLike, *, cluster_I: ArrayLike | None = None) -> Step:
    """Look for a sudden change of level in scores taken in order of time, by their cumulative sum.

    NaN scores are left out (and `at` counts those left). Answers of one cluster, or one item's
    epochs, go up and down together, which the sum would take for steps: with `cluster_I` each
    cluster is one observation, its mean, at the place of its first score. NaN p-value if fewer than
    10 remain or nothing varies.

    Raises ValueError for other than one axis, or labels that do not match.
    Source: Ploberger & Kraemer 1992, Econometrica 60:271 (OLS-based CUSUM).
    """
    score = np.asarray(score_I, dtype=np.float64)
    if score.ndim != 1:
        raise ValueError(f"scores must have one axis, not {score.ndim}")
    if cluster_I is not None and np.shape(cluster_I) != score.shape:
        raise ValueError(f"{np.shape(cluster_I)} cluster labels for {score.shape} scores")
    there = ~np.isnan(score)
    score = score[there]
    if cluster_I is not None and score.size:
        labels = np.asarray(cluster_I)[there]
        _, at_G, cluster = np.unique(labels, return_index=True, return_inverse=True)
        mean_G = np.bincount(cluster, weights=score) / np.bincount(cluster)
        score = mean_G[np.argsort(at_G)]
    n = score.size
    spread = float(score.std()) if n else 0.0
    if n < 10 or spread == 0:
        level = float(score.mean()) if n else math.nan
        return Step(math.nan, math.nan, n, level, level)
    path = np.cumsum(score - score.mean())
    at = int(np.argmax(np.abs(path))) + 1
    statistic = float(np.abs(path).max()) / (spread * math.sqrt(n))
    after = float(score[at:].mean()) if at < n else math.nan
    return Step(statistic, float(kolmogorov(statistic)), at, float(score[:at].mean()), after)


def extraction_split(
    strict_first_I: ArrayLike,
    strict_last_I: ArrayLike,
    flexible_first_I: ArrayLike,
    flexible_last_I: ArrayLike,
    *,
    first_unparsed_I: ArrayLike,
    cluster_I: ArrayLike | None = None,
) -> ExtractionSplit:
    """Delta of the same answers under two extractors, split into content and format.

    Format are the strict flips whose first answer was not parsed, or where the extractors differ on
    either answer. Items with a NaN in any of the four are left out. strict = content + format.
    Where one cluster leaves no standard error, any difference blocks.
    Raises ValueError if shapes differ, there are other axes than items, or nothing is left.
    """
    given = (strict_first_I, strict_last_I, flexible_first_I, flexible_last_I)
    shapes = {np.shape(one) for one in (*given, first_unparsed_I)}
    if len(shapes) > 1 or len(min(shapes)) != 1:
        raise ValueError(f"extraction_split needs five arrays, one value an item, not {shapes}")
    scores = np.stack([np.asarray(s, np.float64) for s in given])
    there = ~np.isnan(scores).any(axis=0)
    first, last, other_first, other_last = scores[:, there]
    unparsed = np.asarray(first_unparsed_I, dtype=bool)[there]
    labels = None if cluster_I is None else np.asarray(cluster_I)[there]
    strict = clustered_mean(last - first, labels)
    flexible = float(np.mean(other_last - other_first))
    of_format = unparsed | (first != other_first) | (last != other_last)
    by_format = float(np.mean(np.where(of_format, last - first, 0.0)))
    gap = abs(strict.estimate - flexible)
    return ExtractionSplit(
        strict=strict.estimate,
        flexible=flexible,
        content=strict.estimate - by_format,
        format=by_format,
        se=strict.se_cr1,
        blocked=gap > 0 and not gap <= strict.se_cr1,
    )


def audited_delta(
    fixed: int,
    broken: int,
    n: int,
    *,
    fixed_audited: int,
    fixed_confirmed: int,
    broken_audited: int,
    broken_confirmed: int,
    level: float = 0.95,
) -> AuditedDelta:
    """Scale each kind of flip by the share that a blind human audit of some of them confirmed.

    Corrects false flips only; flips the scorer missed are not in the audit. A kind without audited
    flips is left as it is. Raises ValueError for counts that do not fit.
    """
    pairs = ((fixed_confirmed, fixed_audited), (broken_confirmed, broken_audited))
    if n < 1 or any(not 0 <= confirmed <= audited for confirmed, audited in pairs):
        raise ValueError("an audit needs 0 <= confirmed <= audited, and n > 0")
    kept = [confirmed / audited if audited else 1.0 for confirmed, audited in pairs]
    errors = [
        wilson_interval(audited - confirmed, audited, level=level) for confirmed, audited in pairs
    ]
    wrong = sum(audited - confirmed for confirmed, audited in pairs)
    looked_at = fixed_audited + broken_audited
    return AuditedDelta(
        delta=(fixed - broken) / n,
        adjusted=(fixed * kept[0] - broken * kept[1]) / n,
        fixed_error=errors[0],
        broken_error=errors[1],
        adjust=bool(looked_at and wrong / looked_at > 0.01),
    )
