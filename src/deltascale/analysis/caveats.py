"""Signs that a number is an artefact, and limits of what may be claimed: a study's warnings."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from deltascale.analysis import audited
from deltascale.analysis.arms import Arm, asked_again, repeated
from deltascale.analysis.results import Caveat, CellResult, Finding, Settings
from deltascale.analysis.scaling import Scaled
from deltascale.frame import OUTCOMES
from deltascale.records import Cell
from deltascale.stats.checks import accuracy_step, missingness, near_ceiling, worse_than_chance
from deltascale.stats.paired import smallest_exact_p

__all__ = ["blocked", "caveats", "name_of"]

_ALPHA = 0.05
_STEP_ALPHA = 0.001
_CHANCE_ALPHA = 0.001
_ENOUGH = 10
_MISSING = 0.02
_UNREAD_SHARE = 0.1
_UNREAD_OUTCOMES = ("no_answer", "truncated", "refused", "filtered")


def caveats(
    found: Sequence[Arm],
    cells: Sequence[CellResult],
    scaled: Sequence[Scaled],
    sensitivity: Sequence[Finding],
    settings: Settings,
) -> tuple[Caveat, ...]:
    """Every reason to trust or claim less, the weightiest first, each kind together."""
    rows = [
        *(row for arm, cell in zip(found, cells, strict=True) for row in _of_cell(arm, cell)),
        *_of_first_answers(found),
        *_of_guesses(found),
        *_of_controls(found),
        *_of_fits(scaled),
        *_of_scorers(sensitivity),
        *audited.caveats(settings),
        *_of_study(found, settings),
    ]
    order = {code: place for place, code in enumerate(dict.fromkeys(row.code for row in rows))}
    return tuple(sorted(rows, key=lambda row: (row.weight, order[row.code])))


def blocked(cells: Sequence[CellResult], warnings: Sequence[Caveat]) -> frozenset[str] | None:
    """Ids of the cells of which nothing may be headlined; None: nothing of the whole study."""
    blocking = {caveat.about for caveat in warnings if caveat.weight == 0}
    if "" in blocking:
        return None
    return frozenset(
        one.cell.id
        for one in cells
        if one.withheld or {name_of(one.cell), _name_of_first(one.cell)} & blocking
    )


def name_of(cell: Cell) -> str:
    """The cell as warnings name it."""
    return f"{cell.model}, {cell.dataset}, {cell.protocol}, temperature {cell.temperature:g}"


def _name_of_first(cell: Cell) -> str:
    """What warnings name that are about first answers, which all protocols share."""
    return f"{cell.model}, {cell.dataset}, temperature {cell.temperature:g}"


def _of_cell(arm: Arm, cell: CellResult) -> Iterator[Caveat]:
    about = name_of(arm.cell)
    if cell.withheld:
        yield Caveat(0, "replies_are_no_answers", about, f"nothing is estimated: {cell.withheld}")
        return
    if cell.gate == "oracle-like":
        yield Caveat(
            1, "oracle_like", about,
            "no answer that was right at first got a further call: delta can't be negative, so the "
            "cell is kept with the oracles",
        )  # fmt: skip
    only_wrong = asked_again(arm.frame, arm.c, 0.0) and not asked_again(arm.frame, arm.c, 1.0)
    if cell.regime == "tests" and only_wrong and (arm.first == 1).any():
        yield Caveat(
            2, "examples_gate", about,
            "no answer that was right at first failed the examples that its question shows, so "
            "none got a further call: delta can't be negative, and shows what the examples find, "
            "not what the model finds by itself",
        )  # fmt: skip
    yield from _of_missing(arm, cell, about)
    yield from _of_unread(cell, about)
    if cell.first.value is not None and near_ceiling(cell.first.value):
        left = 100 * (1 - cell.first.value)
        yield Caveat(2, "ceiling", about, f"only {left:.1f} points are left to win")
    if cell.p_value is not None:
        yield from _of_few_flips(arm, about)
    if cell.disagree and not cell.gate:
        yield Caveat(
            2, "intervals_disagree", about,
            "headline, Newcombe and bootstrap limits differ by over a quarter of the width",
        )  # fmt: skip
    yield from _of_replies(arm, about)


def _of_few_flips(arm: Arm, about: str) -> Iterator[Caveat]:
    """So little changed that no test can call it a change: what counts is what is independent."""
    sum_G = np.bincount(arm.cluster_S[arm.known], weights=arm.d[arm.known])
    changed = int(np.count_nonzero(np.abs(sum_G) > 1e-12))
    least = smallest_exact_p(changed)
    if least <= _ALPHA:
        return
    what = "answers flipped" if arm.clusters() is None else "independent groups of answers changed"
    if not arm.binary and arm.clusters() is None:
        what = "scores changed"
    yield Caveat(
        2, "few_flips", about, f"{changed} {what}: an exact test can't give p below {least:.3g}"
    )


def _of_missing(arm: Arm, cell: CellResult, about: str) -> Iterator[Caveat]:
    if not cell.n_missing:
        return
    share = cell.n_missing / cell.n_samples
    low, high = cell.worst.value, cell.best.value
    if low is not None and high is not None and low <= 0 <= high and low != high:
        yield Caveat(
            1, "sign_depends_on_missing", about,
            f"{cell.n_missing} of {cell.n_samples} samples are missing; with them delta is "
            f"anywhere in {100 * low:+.1f} to {100 * high:+.1f} points",
        )  # fmt: skip
    elif share > _MISSING:
        text = f"{cell.n_missing} of {cell.n_samples} samples are missing"
        yield Caveat(1, "missing", about, text)
    if arm.binary:
        found = missingness(arm.first[arm.planned_S], arm.last[arm.planned_S])
        if found.flagged:
            yield Caveat(
                1, "missing_depends_on_first", about,
                f"last answers are missing after {100 * found.missing_after_right:.1f} % of right "
                f"and {100 * found.missing_after_wrong:.1f} % of wrong first ones "
                f"(p = {found.p_value:.2g})",
            )  # fmt: skip


def _of_unread(cell: CellResult, about: str) -> Iterator[Caveat]:
    """Replies without an answer count as wrong, so a change in their share moves delta."""
    parts, shares = [], []
    for name, outcomes in (("first", cell.n_by_outcome_first), ("last", cell.n_by_outcome_last)):
        unread = {kind: outcomes.get(kind, 0) for kind in _UNREAD_OUTCOMES}
        n = sum(unread.values()) + outcomes.get("ok", 0)
        shares.append(sum(unread.values()) / n if n else 0.0)
        kinds = ", ".join(f"{k} {kind.replace('_', ' ')}" for kind, k in unread.items() if k)
        parts.append(
            f"{sum(unread.values())} of {n} {name} replies" + (f" ({kinds})" * bool(kinds))
        )
    if max(shares) > _UNREAD_SHARE:
        yield Caveat(
            1, "no_answer", about,
            f"{' and '.join(parts)} hold no answer and count as wrong: {_UNREAD}",
        )  # fmt: skip


def _of_replies(arm: Arm, about: str) -> Iterator[Caveat]:
    """One text for half of the items, though not so wrong that it is withheld."""
    for turn in (0, arm.frame.n_turns - 1):
        reply_IE = arm.frame.reply_CIET[arm.c, :, :, turn]
        at_IE = arm.frame.planned_CIE[arm.c] & (reply_IE >= 0)
        if at_IE.any(axis=1).sum() < 10:
            continue
        n_items, n, right, _ = repeated(arm.frame, arm.c, turn, at_IE)
        if 2 * n_items >= n:
            yield Caveat(
                0 if right < 0.1 else 1, "one_reply", about,
                f"{n_items} of {n} items got one and the same reply at turn {turn}, right for "
                f"{100 * right:.0f} % of them",
            )  # fmt: skip


def _of_first_answers(found: Sequence[Arm]) -> Iterator[Caveat]:
    """A sudden change of level along the items; first answers are shared, so once a model."""
    seen = set()
    for arm in found:
        key = arm.cell.model, arm.cell.dataset, arm.cell.temperature
        if key in seen or arm.withheld:
            continue
        seen.add(key)
        step = accuracy_step(arm.first, cluster_I=arm.cluster_S)
        if step.p_value < _STEP_ALPHA:
            what = "samples" if arm.clusters() is None else "groups of samples"
            yield Caveat(
                1, "accuracy_step", name_of(arm.cell),
                f"first accuracy goes from {100 * step.before:.1f} to {100 * step.after:.1f} % "
                f"after {step.at} {what}: did the server change, or are the items sorted?",
            )  # fmt: skip


def _of_guesses(found: Sequence[Arm]) -> Iterator[Caveat]:
    """First answers that are right less often than a blind guess, which no model is for long.

    They are shared, so this is said once for a model's cells on a dataset, of the cell that has the
    most of them; a withheld cell has none.
    """
    by_first: dict[tuple[str, str, float], list[Arm]] = {}
    for arm in found:
        key = arm.cell.model, arm.cell.dataset, arm.cell.temperature
        by_first.setdefault(key, []).append(arm)
    for (model, dataset, temperature), own in by_first.items():
        text = _below_chance(max(own, key=lambda arm: int((~np.isnan(arm.first)).sum())))
        if text:
            about = _name_of_first(Cell(model, dataset, "", temperature))
            yield Caveat(0, "below_chance", about, text)


def _below_chance(arm: Arm) -> str:
    """What is found where first accuracy is below chance less a point, or nothing.

    Items need not have the same chance, and answers of one cluster (or one item's epochs) may all
    be alike: with the mean chance and one trial a cluster the binomial test is never too bold.
    Source: Hoeffding 1956, Annals of Mathematical Statistics 27:713.
    """
    n_epochs = arm.frame.score_CIET.shape[2]
    chance_S = np.repeat(arm.frame.chance_I, n_epochs)
    used = ~np.isnan(chance_S) & ~np.isnan(arm.first)
    if used.reshape(-1, n_epochs).any(axis=1).sum() < _ENOUGH:
        return ""
    right, chance = float(arm.first[used].mean()), float(chance_S[used].mean())
    n, trials = int(used.sum()), len(np.unique(arm.cluster_S[used]))
    # A hair less, so that 3 / 10 * 10 is no more than 3.
    n_right = math.ceil(right * trials - 1e-9)
    if not worse_than_chance(n_right, trials, chance=chance, alpha=_CHANCE_ALPHA):
        return ""
    outcome_S = arm.frame.outcome_CIET[arm.c, :, :, 0].reshape(-1)[used]
    answered = outcome_S == OUTCOMES.index("ok")
    of_answers = float(arm.first[used][answered].mean()) if answered.any() else math.nan
    said = (
        f"{100 * right:.1f} % of {n} first answers are right, of blind guesses {100 * chance:.1f} %"
    )
    look = [_SWAPPED] if of_answers < chance else []
    if not answered.all():
        counts = np.bincount(outcome_S[~answered], minlength=len(OUTCOMES))
        named = [
            f"{k} {name.replace('_', ' ')}" for name, k in zip(OUTCOMES, counts, strict=True) if k
        ]
        rest = f", {100 * of_answers:.1f} % of the others are right" if answered.any() else ""
        said += f"; {n - int(answered.sum())} replies hold no answer ({', '.join(named)}){rest}"
        look.insert(0, _UNREAD)
    return f"{said}: {'; '.join(look)}"


_SWAPPED = (
    "look whether the extraction reads the right words, whether labels are swapped, and whether "
    "one option is always chosen"
)
_UNREAD = "look at what those replies say, and at the token limit"


def _of_controls(found: Sequence[Arm]) -> Iterator[Caveat]:
    protocols = {arm.cell.protocol for arm in found}
    if found and "resample" not in protocols:
        text = "no `resample` arm: what answering afresh would flip is not known, nor what voting "
        if all(arm.frame.score_CIET.shape[2] > 1 for arm in found):
            text = (
                "no `resample` arm: what answering afresh would flip is known from epochs, but "
                "deltas are not compared with it, nor with what voting "
            )
        yield Caveat(1, "no_null", "", f"{text}would buy")
    if any(arm.cell.temperature == 0 for arm in found) and protocols & {"resample", "vote"}:
        yield Caveat(
            1, "temperature_0", "",
            "at temperature 0 the controls `resample` and `vote` repeat one answer",
        )  # fmt: skip


def _of_fits(scaled: Sequence[Scaled]) -> Iterator[Caveat]:
    for one in scaled:
        about = f"{one.protocol}, {one.panel.of}, temperature {one.temperature:g}"
        for caution in one.cautions:
            # A vertex outside only says which number is not printed.
            weight = 2 if caution.code in ("vertex_outside", "floor_confounded") else 1
            yield Caveat(weight, caution.code, about, caution.text)


def _of_scorers(sensitivity: Sequence[Finding]) -> Iterator[Caveat]:
    for row in sensitivity:
        if row.quantity.startswith("delta_by_") and "standard error" in row.estimate.note:
            about = f"{row.model}, {row.dataset}, {row.protocol}, temperature {row.temperature:g}"
            text = f"by scorer `{row.versus}` delta {row.estimate.note}: no headline"
            yield Caveat(0, "scorers_disagree", about, text)


def _of_study(found: Sequence[Arm], settings: Settings) -> Iterator[Caveat]:
    hidden = sorted(
        {arm.cell.model for arm in found if arm.model.size.source not in ("published", "simulated")}
    )
    if hidden:
        how = "as intervals only" if settings.estimated_sizes else "left out of every fit"
        models = "model" if len(hidden) == 1 else "models"
        text = f"{len(hidden)} {models} of unpublished size, {how}: {', '.join(hidden)}"
        yield Caveat(1, "unpublished_sizes", "", text)
    if found and not np.any([arm.known.any() for arm in found]):
        yield Caveat(0, "nothing_known", "", "no cell has a complete pair of answers")
