"""The joint bootstrap of a study: the same resampled items for every cell, so that any two may be
compared, and any function of their means has an interval."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from deltascale.analysis.arms import Arm
from deltascale.analysis.results import Settings, estimate
from deltascale.records import Estimate
from deltascale.stats.resampling import bootstrap_means, percentile_interval, stratum

__all__ = ["Joint", "Quantity", "null_counts", "null_sums", "resample"]

Floats = NDArray[np.float64]
Quantity: TypeAlias = Literal[
    "first",
    "last",
    "fixed",
    "broken",
    "cost_first",
    "cost_extra",
    "null_fixed",
    "null_wrong",
    "null_stayed",
    "null_right",
]
_EVERY: tuple[Quantity, ...] = ("first", "last", "fixed", "broken", "cost_first", "cost_extra")
_NULL: tuple[Quantity, ...] = ("null_fixed", "null_wrong", "null_stayed", "null_right")


@dataclass(frozen=True, slots=True, eq=False)
class Joint:
    """B joint replicates of every cell's means."""

    settings: Settings
    replicate_BDQ: Floats
    columns: Mapping[tuple[str, Quantity], tuple[int, int]]

    @property
    def method(self) -> str:
        return (
            f"joint cluster bootstrap, percentile, {self.settings.replicates} replicates, "
            f"seed {self.settings.seed}"
        )

    def draws(self, arm: Arm, quantity: Quantity) -> Floats:
        """(B,) replicates of one mean. `null_*` only where `has_null`."""
        d, q = self.columns[arm.cell.id, quantity]
        return self.replicate_BDQ[:, d, q]

    def has_null(self, arm: Arm) -> bool:
        """Whether this arm tells how often a fresh answer flips: see `null_sums`."""
        return (arm.cell.id, "null_fixed") in self.columns

    def delta(self, arm: Arm) -> Floats:
        return self.draws(arm, "last") - self.draws(arm, "first")

    def table(self, arm: Arm) -> Floats:
        """(B, 4) shares that stayed right, were fixed, were broken, stayed wrong."""
        first, fixed, broken = (self.draws(arm, name) for name in ("first", "fixed", "broken"))
        return np.stack([first - broken, fixed, broken, 1 - first - fixed], axis=-1)

    def macro(self, members: Sequence[Arm], quantity: Quantity) -> Floats:
        """(B,) mean over datasets of one quantity, one arm a dataset."""
        return np.asarray(np.mean([self.draws(arm, quantity) for arm in members], axis=0))

    def estimate(
        self,
        estimand: str,
        value: float,
        replicate_B: Floats,
        *,
        n: int,
        n_missing: int = 0,
        unit: str = "share",
        note: str = "",
    ) -> Estimate:
        """A value with the percentile interval of its replicates."""
        finite = replicate_B[np.isfinite(replicate_B)]
        drawn = percentile_interval(finite, level=self.settings.level)
        return estimate(
            estimand,
            value,
            drawn.interval,
            n=n,
            n_missing=n_missing,
            unit=unit,
            method=self.method,
            level=self.settings.level,
            note=note,
            mc_se=max(drawn.mc_se_low, drawn.mc_se_high),
        )


def resample(found: Sequence[Arm], settings: Settings) -> Joint:
    """Resample every dataset's clusters once, for all cells together. A cell without a complete
    pair has no replicates."""
    by_dataset: dict[str, list[Arm]] = {}
    for arm in found:
        if arm.known.any():
            by_dataset.setdefault(arm.cell.dataset, []).append(arm)
    answered_afresh = {_first_answers(arm) for arm in found if arm.cell.protocol == "resample"}
    columns: dict[tuple[str, Quantity], tuple[int, int]] = {}
    values: list[list[Floats]] = []
    for d, members in enumerate(by_dataset.values()):
        values.append([])
        for arm in members:
            null = arm.cell.protocol == "resample" or _first_answers(arm) not in answered_afresh
            for name, value_S in _values(arm, null=null).items():
                columns[arm.cell.id, name] = d, len(values[d])
                values[d].append(value_S)
    if not values:
        return Joint(settings, np.empty((settings.replicates, 0, 0)), {})
    wide = max(len(own) for own in values)
    strata = []
    for own, (dataset, members) in zip(values, by_dataset.items(), strict=True):
        padding = [np.full(len(own[0]), np.nan)] * (wide - len(own))
        # Keyed by name: a dataset's draws do not depend on which others are in the study.
        key = zlib.crc32(dataset.encode())
        value_SQ = np.stack([*own, *padding], axis=1)
        strata.append(stratum(value_SQ, cluster_I=members[0].cluster_S, key=key))
    replicates = bootstrap_means(strata, seed=settings.seed, replicates=settings.replicates)
    return Joint(settings, replicates, columns)


def _first_answers(arm: Arm) -> tuple[str, str, float]:
    """Arms that share this share their first answers."""
    return arm.cell.dataset, arm.cell.model, arm.cell.temperature


def _values(arm: Arm, *, null: bool) -> dict[Quantity, Floats]:
    known = arm.known
    first, last = (np.where(known, score, np.nan) for score in (arm.first, arm.last))
    found: dict[Quantity, Floats] = {
        "first": first,
        "last": last,
        "fixed": np.where(known, (last > first).astype(np.float64), np.nan),
        "broken": np.where(known, (last < first).astype(np.float64), np.nan),
        "cost_first": arm.cost_usd(0, 0),
        "cost_extra": arm.cost_usd(1, arm.frame.n_turns - 1),
    }
    if null and arm.binary:
        sums = null_sums(arm)
        if not np.isnan(sums[0]).all():
            found |= dict(zip(_NULL, sums, strict=True))
    return found


def null_counts(arm: Arm) -> tuple[Floats, Floats]:
    """Per sample how many answers to the first prompt there are, and how many of them are right."""
    answer_SK = arm.score_ST
    if arm.cell.protocol != "resample":
        n_epochs = arm.frame.score_CIET.shape[2]
        of_epochs = np.full((len(arm.first), n_epochs), np.nan)
        of_epochs[::n_epochs] = arm.first.reshape(-1, n_epochs)
        answer_SK = of_epochs
    k = (~np.isnan(answer_SK)).sum(axis=1).astype(np.float64)
    return k, np.nansum(answer_SK, axis=1)


def null_sums(arm: Arm) -> tuple[Floats, Floats, Floats, Floats]:
    """Per sample the terms of the flip rates that answering afresh shows.

    K answers to the first prompt with s right: s(K-s)/(K-1) of them flip to right out of K-s wrong
    ones, s(s-1)/(K-1) stay right out of s. NaN with fewer than two. Those of `resample` are one
    item's draws in one epoch; of any other protocol the first answers of an item's epochs, counted
    at its first sample.
    """
    k, s = null_counts(arm)
    several = k >= 2
    more = np.maximum(k - 1, 1)
    terms = s * (k - s) / more, k - s, s * (s - 1) / more, s
    first, second, third, fourth = (np.where(several, term, np.nan) for term in terms)
    return first, second, third, fourth
