"""Controls made of independent draws: a fresh answer, a vote that costs the same, the best of k."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deltascale.analysis.arms import Arm
from deltascale.stats.cost import affordable_samples
from deltascale.stats.majority import best_of_k_accuracy, majority_accuracy

__all__ = ["Control", "controls"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Control:
    """What the same model does on the same items without correction.

    `voted_S` is the expected accuracy of a vote among `k` fresh answers, `best_S` that of the best
    of `k_best`; None without draws on record. `note` says where `k` is less than the money buys.
    """

    resample: Arm | None
    k: int
    voted_S: Floats | None
    k_best: int
    best_S: Floats | None
    note: str


def controls(found: Sequence[Arm]) -> Iterator[tuple[Arm, Control]]:
    """Every arm but the null with the control of its model, dataset and temperature."""
    drawn = {
        (arm.cell.dataset, arm.cell.model, arm.cell.temperature): arm
        for arm in found
        if arm.cell.protocol == "resample"
    }
    votes: dict[tuple[str, int], Floats] = {}
    for arm in found:
        own = drawn.get((arm.cell.dataset, arm.cell.model, arm.cell.temperature))
        if own is not None and own is not arm:
            yield arm, _control(arm, own, votes)


def _control(arm: Arm, own: Arm, votes: dict[tuple[str, int], Floats]) -> Control:
    if not own.binary or not own.known.any() or not arm.known.any():
        return Control(own, 0, None, 0, None, "no draws to vote among")
    label_SK, right_SK = _draws(own)
    n_draws = label_SK.shape[1]
    single, whole = np.nanmean(arm.cost_usd(0, 0)), np.nanmean(_whole_cost(arm))
    note, wanted = "", n_draws
    if single > 0:
        wanted = affordable_samples(float(whole), float(single))
    else:
        note = "nothing is paid a call: all draws on record vote"
    k = min(wanted, n_draws)
    if k < wanted:
        note = f"the same money buys {wanted} answers, {n_draws} are on record: a cheaper control"
    if not own.has_answers:
        k, note = 0, "what the draws answered is not known: they can't vote"
    elif (own.cell.id, k) not in votes:
        votes[own.cell.id, k] = majority_accuracy(label_SK, right_SK, k=k)
    turns = arm.frame.n_turns
    there = label_SK >= 0
    best = best_of_k_accuracy((right_SK & there).sum(axis=1), there.sum(axis=1), k=turns)
    return Control(own, k, votes.get((own.cell.id, k)), turns, best, note)


def _whole_cost(arm: Arm) -> Floats:
    return arm.cost_usd(0, arm.frame.n_turns - 1)


def _draws(own: Arm) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Labels and verdicts of an item's draws, in every epoch together, for each of its samples.

    No answer is an answer like any other. Where one answer was judged in two ways (a scorer may
    look at the whole text), its two verdicts count as two answers.
    """
    n_items, n_epochs, n_turns = own.frame.answer_CIET[own.c].shape
    shape = (n_items, n_epochs * n_turns)
    label = own.frame.answer_CIET[own.c].reshape(shape).astype(np.int64) + 1
    score = own.score_ST.reshape(shape)
    right = score == 1
    label = np.where(np.isnan(score), -1, 2 * label + right)
    return np.repeat(label, n_epochs, axis=0), np.repeat(right, n_epochs, axis=0)
