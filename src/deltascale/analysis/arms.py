"""One cell's samples side by side, and what keeps a cell apart: a gate, or replies that are none.

A sample is an item in one epoch. Samples of an item share its cluster.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deltascale import protocols
from deltascale.analysis.results import Gate
from deltascale.errors import Stop
from deltascale.frame import OUTCOMES, Frame
from deltascale.records import Cell, ModelSpec, Regime, Study

__all__ = [
    "NULLS",
    "Arm",
    "arms",
    "asked_again",
    "by_model",
    "groups",
    "is_binary",
    "known_size",
    "outcomes",
    "repeated",
    "size_range",
    "withheld",
]

Floats = NDArray[np.float64]

NULLS = frozenset({"resample"})
"""Protocols that correct nothing and claim nothing: what others are compared with."""

_VOID_SHARE = 0.5
_SAME_SHARE = 0.9
_ENOUGH = 10
_GUESSED = 0.1
_OK = OUTCOMES.index("ok")


@dataclass(frozen=True, slots=True, eq=False)
class Arm:
    """One cell, its samples on one axis S = items × epochs.

    `score_ST` is NaN where nothing is known, and throughout where the cell is `withheld`.
    `cluster_S` has the same label for samples that are not independent. `gate` keeps a cell out of
    everything but its own table. `confirmatory`: its tests are among the study's claims, not only
    exploratory.
    """

    frame: Frame
    c: int
    cell: Cell
    model: ModelSpec
    regime: Regime
    gate: Gate
    withheld: str
    planned_S: NDArray[np.bool_]
    score_ST: Floats
    cluster_S: NDArray[np.intp]
    confirmatory: bool

    @property
    def first(self) -> Floats:
        return self.score_ST[:, 0]

    @property
    def last(self) -> Floats:
        return self.score_ST[:, -1]

    @property
    def known(self) -> NDArray[np.bool_]:
        return ~np.isnan(self.first) & ~np.isnan(self.last)

    @property
    def d(self) -> Floats:
        return self.last - self.first

    @property
    def binary(self) -> bool:
        """Whether every known first and last score is 0 or 1."""
        return is_binary(self.first[self.known]) and is_binary(self.last[self.known])

    @property
    def has_answers(self) -> bool:
        """Whether what was answered is on record, and not its score alone."""
        answered = self.frame.outcome_CIET[self.c] == _OK
        return not answered.any() or bool((self.frame.answer_CIET[self.c][answered] >= 0).any())

    @property
    def n_clusters(self) -> int:
        """How many independent groups the complete pairs come from."""
        return len(np.unique(self.cluster_S[self.known]))

    @property
    def n_missing(self) -> int:
        return int((self.planned_S & ~self.known).sum())

    @property
    def family(self) -> tuple[str, float]:
        """What is compared between models: protocol and temperature."""
        return self.cell.protocol, self.cell.temperature

    def cost_usd(self, first: int, last: int) -> Floats:
        """Dollars as deployed of turns `first` to `last`; NaN where the pair is not known."""
        nusd = self.frame.cost_nusd_CIET[self.c].reshape(len(self.planned_S), -1)
        spent = nusd[:, first : last + 1].sum(axis=1) / 1e9
        return np.where(self.known, spent, np.nan)

    def clusters(self, used_S: NDArray[np.bool_] | None = None) -> NDArray[np.intp] | None:
        """The samples' clusters, or None where those used are independent of one another."""
        used = self.cluster_S[self.known if used_S is None else used_S]
        return self.cluster_S if len(np.unique(used)) < len(used) else None


def arms(frames: Sequence[Frame], study: Study) -> tuple[Arm, ...]:
    """Every cell of the study's models, by dataset, protocol as listed, temperature and size."""
    models = {model.id: model for model in study.models}
    # A gate is a protocol's: one right first answer that is asked again clears all its cells, and
    # without any right first answer, or any wrong one asked again, there is no evidence. What the
    # question's own examples say is no verdict: whoever deploys the model has them too.
    cells = [(frame, c, cell.protocol) for frame in frames for c, cell in enumerate(frame.cells)]
    ungated = {protocol for frame, c, protocol in cells if asked_again(frame, c, 1.0)}
    tried = {protocol for frame, c, protocol in cells if asked_again(frame, c, 0.0)}
    right = {p for frame, c, p in cells if (frame.score_CIET[c, :, :, 0] == 1).any()}
    gated = frozenset((tried & right) - ungated)
    protocols = study.confirmatory or {protocol for _, _, protocol in cells}
    claimed = frozenset(protocols) - NULLS
    found = [arm for frame in frames for arm in _of_frame(frame, models, gated, claimed)]
    return tuple(sorted(found, key=lambda arm: _place(arm, study)))


def _of_frame(
    frame: Frame,
    models: Mapping[str, ModelSpec],
    gated: frozenset[str],
    claimed: frozenset[str],
) -> Iterator[Arm]:
    _, cluster_I = np.unique(np.array(frame.clusters), return_inverse=True)
    n_epochs, n_turns = frame.score_CIET.shape[2:]
    cluster_S = np.repeat(cluster_I.astype(np.intp), n_epochs)
    for c, cell in enumerate(frame.cells):
        model = models.get(cell.model)
        if model is None:
            continue
        regime = _regime(cell.protocol)
        reason = withheld(frame, c)
        planned_S = frame.planned_CIE[c].reshape(-1)
        score_ST = frame.score_CIET[c].reshape(-1, n_turns)
        hidden = np.isnan(score_ST) | ~planned_S[:, None] | bool(reason)
        gate: Gate = ""
        if regime == "verdict":
            gate = "oracle"
        elif cell.protocol in gated and regime != "tests":
            gate = "oracle-like"
        score_ST = np.where(hidden, np.nan, score_ST)
        yield Arm(
            frame, c, cell, model, regime, gate, reason, planned_S, score_ST, cluster_S,
            confirmatory=not gate and cell.protocol in claimed,
        )  # fmt: skip


def groups(found: Sequence[Arm]) -> dict[tuple[str, float], dict[str, tuple[Arm, ...]]]:
    """Ungated arms by (protocol, temperature), then by dataset, in their order."""
    grouped: dict[tuple[str, float], dict[str, list[Arm]]] = {}
    for arm in found:
        if not arm.gate:
            grouped.setdefault(arm.family, {}).setdefault(arm.cell.dataset, []).append(arm)
    return {
        family: {dataset: tuple(members) for dataset, members in by_dataset.items()}
        for family, by_dataset in grouped.items()
    }


def by_model(members: Sequence[Arm]) -> dict[str, Arm]:
    return {arm.cell.model: arm for arm in members}


def is_binary(score: Floats) -> bool:
    return bool(((score == 0) | (score == 1)).all())


def known_size(model: ModelSpec) -> float | None:
    """A size that may stand as a point: published, or a simulation's own."""
    size = model.size
    return size.parameters if size.source in ("published", "simulated") else None


def size_range(model: ModelSpec, *, estimated: bool) -> tuple[float, float] | None:
    """Where a size may lie: one point where it is known, an interval where it is estimated."""
    known = known_size(model)
    if known is not None:
        return known, known
    size = model.size
    if not estimated or size.low is None or size.high is None:
        return None
    return size.low, size.high


def _place(arm: Arm, study: Study) -> tuple[str, int, float, float, str]:
    """By dataset, protocol as listed, temperature, and size with the unknown ones last."""
    size = arm.model.size.parameters
    return (
        arm.cell.dataset,
        study.protocols.index(arm.cell.protocol),
        arm.cell.temperature,
        float("inf") if size is None else size,
        arm.cell.model,
    )


def _regime(protocol: str) -> Regime:
    try:
        return protocols.find(protocol).regime
    except Stop:
        return "nothing"  # a plugin that is no longer installed; its records are still readable


def asked_again(frame: Frame, c: int, score: float) -> bool:
    """Whether some first answer of this score in cell `c` got a further call."""
    again_IE = frame.n_calls_CIET[c, :, :, 1:].any(axis=-1) & frame.planned_CIE[c]
    return bool(again_IE[frame.score_CIET[c, :, :, 0] == score].any())


def withheld(frame: Frame, c: int) -> str:
    """Why this cell's replies are no answers, or nothing.

    Half of them error messages, however few there are; or, from ten items up, at some turn one text
    for half of the items, if it holds no answer, or for nine tenths of them, if it is right for
    fewer than one in ten. (A small model may well prefer one letter, and a constant guess among few
    options is right more often.)
    """
    there = frame.planned_CIE[c][..., None] & (frame.reply_CIET[c] >= 0)
    there &= frame.n_calls_CIET[c] > 0
    n = int(there.sum())
    n_errors = int(frame.reply_error_CIET[c][there].sum())
    if n_errors and n_errors >= _VOID_SHARE * n:
        return f"{n_errors} of {n} replies are error messages"
    for turn in range(frame.n_turns):
        at_IE = there[:, :, turn]
        if at_IE.any(axis=1).sum() < _ENOUGH:
            continue
        n_items, n_answered, right, parsed = repeated(frame, c, turn, at_IE)
        share = _SAME_SHARE if parsed else _VOID_SHARE
        if n_items >= share * n_answered and right < _GUESSED:
            return f"{n_items} of {n_answered} items got one and the same reply"
    return ""


def repeated(
    frame: Frame, c: int, turn: int, at_IE: NDArray[np.bool_]
) -> tuple[int, int, float, bool]:
    """The text given to most items at a turn: to how many items, of how many, its accuracy, and
    whether an answer was found in it."""
    reply_IE = frame.reply_CIET[c, :, :, turn]
    # A text counts once an item, however many epochs it came in: pairs of both, as one number.
    n_items = len(at_IE)
    pair_IE = reply_IE.astype(np.int64) * n_items + np.arange(n_items)[:, None]
    number, count = np.unique(np.unique(pair_IE[at_IE]) // n_items, return_counts=True)
    most = int(np.argmax(count))
    where = at_IE & (reply_IE == number[most])
    score = frame.score_CIET[c, :, :, turn][where]
    right = float(np.nan_to_num(score).mean())
    parsed = bool((frame.outcome_CIET[c, :, :, turn][where] == _OK).any())
    return int(count[most]), int(at_IE.any(axis=1).sum()), right, parsed


def outcomes(frame: Frame, c: int, turn: int) -> dict[str, int]:
    """How many planned samples ended this turn in each outcome; only those that occur."""
    codes = frame.outcome_CIET[c, :, :, turn][frame.planned_CIE[c]]
    counts = np.bincount(codes, minlength=len(OUTCOMES))
    return {name: int(n) for name, n in zip(OUTCOMES, counts, strict=True) if n}
