"""What else a delta depends on: temperature, turns, the scorer, the draw, and what "size" means."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from deltascale.analysis.arms import Arm, groups, is_binary
from deltascale.analysis.axes import league, slopes
from deltascale.analysis.contrasts import adjusted, paired, panels
from deltascale.analysis.deltas import METHODS
from deltascale.analysis.joint import Joint
from deltascale.analysis.results import E1, E2, Finding, Settings, estimate
from deltascale.analysis.scaling import replicates
from deltascale.frame import OUTCOMES
from deltascale.stats.checks import extraction_split
from deltascale.stats.components import disagreement_rate
from deltascale.stats.headline import headline_interval
from deltascale.stats.resampling import percentile_interval
from deltascale.stats.scaling import between_model_variance
from deltascale.stats.uncertain import alpha_bounds, resampled_exponents

__all__ = ["sensitivity"]

Floats = NDArray[np.float64]

_NO_SCORES = frozenset({"unscorable"})
"""Secondary values that say something of the comparison, not whether the answer is right."""


def sensitivity(found: Sequence[Arm], joint: Joint) -> tuple[Finding, ...]:
    """Each factor's own rows; the tests among temperatures, and among turns, adjusted by BH."""
    settings = joint.settings
    rows = [
        *adjusted(list(_temperatures(found, settings)), "temperatures", holm=False),
        *adjusted(list(_turns(found, settings)), "turn after turn", holm=False),
    ]
    for arm in found:
        if arm.known.sum() > 1:
            rows += _scorers(arm, settings)
            rows += _draws(arm)
        rows += _as_wrong(arm, settings)
    for (protocol, temperature), by_dataset in groups(found).items():
        if protocol != "resample":
            rows += league(protocol, temperature, by_dataset, found, settings)
            rows += slopes(protocol, temperature, by_dataset, found, settings)
            if settings.estimated_sizes:
                rows += _sizes(protocol, temperature, by_dataset, joint)
    return tuple(rows)


def _temperatures(found: Sequence[Arm], settings: Settings) -> Iterator[Finding]:
    """Delta at each temperature less that at the next lower one, on the same items."""
    rows: dict[tuple[str, str, str], list[Arm]] = {}
    for arm in found:
        if not arm.gate:
            key = arm.cell.dataset, arm.cell.protocol, arm.cell.model
            rows.setdefault(key, []).append(arm)
    for own in rows.values():
        for low, high in pairwise(sorted(own, key=lambda arm: arm.cell.temperature)):
            yield from paired(
                high, high.d - low.d, f"{E1}: delta less that at the lower temperature",
                "delta_difference", f"temperature {low.cell.temperature:g}", low.n_missing,
                settings,
            )  # fmt: skip


def _turns(found: Sequence[Arm], settings: Settings) -> Iterator[Finding]:
    """What each turn after the second adds to the one before it."""
    for arm in found:
        if arm.gate or arm.cell.protocol == "resample":
            continue
        for turn in range(2, arm.frame.n_turns):
            yield from paired(
                arm, arm.score_ST[:, turn] - arm.score_ST[:, turn - 1],
                f"{E1}: accuracy at turn {turn} less turn {turn - 1}", f"gain_of_turn_{turn}",
                f"turn {turn - 1}", arm.n_missing, settings,
            )  # fmt: skip


def _as_wrong(arm: Arm, settings: Settings) -> Iterator[Finding]:
    """Delta over everything planned where each answer that is not there counts as wrong."""
    if arm.withheld or arm.gate or not arm.n_missing or not arm.binary or not arm.known.any():
        return
    first, last = (np.where(arm.planned_S, np.nan_to_num(s), np.nan) for s in (arm.first, arm.last))
    if not (is_binary(first[arm.planned_S]) and is_binary(last[arm.planned_S])):
        return
    headline = headline_interval(
        first, last, cluster_I=arm.cluster_S, level=settings.level, replicates=0
    )
    of_pairs = float(np.mean(arm.d[arm.known]))
    cell = arm.cell
    found = estimate(
        f"{E1}: delta over all planned, missing answers counted as wrong",
        headline.delta,
        headline.interval,
        n=headline.mean.n,
        method=METHODS[headline.method],
        level=settings.level,
        note=f"{arm.n_missing} samples are missing; differs from the headline by "
        f"{100 * (headline.delta - of_pairs):+.2f} points",
    )
    yield Finding(
        "delta_missing_as_wrong", found, cell.model, cell.dataset, cell.protocol, cell.temperature
    )


def _scorers(arm: Arm, settings: Settings) -> Iterator[Finding]:
    """Delta under each second scorer that judges every answer, and how much of it is format."""
    outcome_ST = arm.frame.outcome_CIET[arm.c].reshape(arm.score_ST.shape)
    for name, score_CIET in arm.frame.others.items():
        if name in _NO_SCORES:
            continue
        other = score_CIET[arm.c].reshape(arm.score_ST.shape)
        # A reply without an answer has no second scores: it is wrong by every scorer.
        other = np.where(np.isnan(other) & (outcome_ST != 0), 0.0, other)
        other = np.where(np.isnan(arm.score_ST), np.nan, other)
        first, last = other[:, 0], other[:, -1]
        used = arm.known & ~np.isnan(first) & ~np.isnan(last)
        if not used.any() or np.isnan(score_CIET[arm.c]).all() or not arm.binary:
            continue
        if not (is_binary(first[used]) and is_binary(last[used])):
            continue
        # A refusal or a cut reply is an outcome of its own, not an answer in another format.
        unparsed = outcome_ST[:, 0] == OUTCOMES.index("no_answer")
        split = extraction_split(
            arm.first, arm.last, first, last, first_unparsed_I=unparsed, cluster_I=arm.cluster_S
        )
        n = int(used.sum())
        said = f"differs from the headline by {100 * (split.flexible - split.strict):+.2f} points"
        for quantity, words, value, note in (
            (f"delta_by_{name}", f"delta as `{name}` scores it", split.flexible,
             said + (", more than its standard error" if split.blocked else "")),
            (f"delta_content_{name}", f"part of delta that `{name}` reads alike", split.content,
             ""),
            (f"delta_format_{name}", f"part of delta from answers that `{name}` reads otherwise, "
             "or after a first reply in which none was found", split.format, ""),
        ):  # fmt: skip
            cell = arm.cell
            found = estimate(
                f"{E1}: {words}", value, n=n, n_missing=arm.n_missing, method="two extractions",
                level=settings.level, note=note,
            )  # fmt: skip
            yield Finding(
                quantity, found, cell.model, cell.dataset, cell.protocol, cell.temperature, name
            )


def _draws(arm: Arm) -> Iterator[Finding]:
    """How often the first answer differs from one run to the next; at temperature 0 too."""
    answer_IE = arm.frame.answer_CIET[arm.c, :, :, 0]
    known_IE = ~np.isnan(arm.score_ST[:, 0].reshape(answer_IE.shape))
    if answer_IE.shape[1] < 2 or not arm.has_answers:
        return
    both = known_IE[:, 0] & known_IE[:, 1]
    if both.any():
        share = disagreement_rate(answer_IE[both, 0], answer_IE[both, 1])
        found = estimate(
            f"{E1}: share of items whose first answer differs between two epochs",
            share, n=int(both.sum()), method="epochs 0 and 1",
        )  # fmt: skip
        cell = arm.cell
        yield Finding(
            "answer_disagreement", found, cell.model, cell.dataset, cell.protocol, cell.temperature
        )


# --- what "size" means ---------------------------------------------------------------------------


def _sizes(
    protocol: str, temperature: float, by_dataset: Mapping[str, Sequence[Arm]], joint: Joint
) -> Iterator[Finding]:
    """The exponent with estimated sizes in it: its bounds first, then everything resampled."""
    for panel in panels(by_dataset, estimated=True):
        n_open = int((panel.low_M < panel.high_M).sum())
        if not n_open or len(panel.models) < 4:
            continue
        tau2 = between_model_variance(panel.size_M, panel.delta_M, panel.cov_MM).value
        args = panel.low_M, panel.high_M
        bounds = alpha_bounds(
            *args, panel.delta_M, panel.cov_MM, tau2=tau2, seed=joint.settings.seed
        )
        delta_BM = replicates(panel, joint)
        alpha_B = resampled_exponents(
            *args, delta_BM, panel.cov_MM, tau2=tau2, seed=joint.settings.seed
        )
        spread = percentile_interval(alpha_B, level=joint.settings.level).interval
        n = len(panel.models)
        note = f"{n_open} of {n} sizes are estimates" + (
            "; an exponent reached ±3" if bounds.at_limit else ""
        )
        for quantity, words, value, limits, method in (
            ("alpha_bounds", "least and greatest exponent over the size intervals", math.nan,
             (bounds.low, bounds.high), "partial identification"),
            ("alpha_resampled", "exponent, sizes, items and models drawn",
             float(np.median(alpha_B)), spread, joint.method),
            ("alpha_disclosed_only", "exponent of the models of published size",
             bounds.disclosed_only, None, "variable projection"),
        ):  # fmt: skip
            made = estimate(
                f"{E2}: {words}", value, limits, n=n, n_missing=panel.n_missing, method=method,
                unit="exponent", level=joint.settings.level, note=note,
            )  # fmt: skip
            yield Finding(quantity, made, "", panel.of, protocol, temperature)
