"""The ladder of claims: the highest rung whose evidence is there, and what the next one lacks."""

from __future__ import annotations

import math
from collections.abc import Sequence

from deltascale.analysis.results import CellResult, Claim, Finding
from deltascale.analysis.scaling import Scaled

__all__ = ["ALPHA", "claims"]

ALPHA = 0.05

_STEADY = 0.8
"""A form is claimed when the bootstrap of models and items chooses it this often."""

_NAMES = {"loglinear": "log-linear", "power_floor": "power with floor"}
"""Forms whose names are no words."""

_NO_LAW = frozenset(
    {
        "few_models",
        "narrow_range",
        "one_model_decides",
        "one_provider_decides",
        "left_out_sign",
        "sizes_undisclosed",
    }
)


def claims(
    cells: Sequence[CellResult],
    contrasts: Sequence[Finding],
    scaled: Sequence[Scaled],
    generalisation: Sequence[Finding],
    *,
    blocked: frozenset[str] | None = frozenset(),
) -> tuple[Claim, ...]:
    """One claim a protocol and temperature; 0 where nothing may be said.

    `blocked` are the ids of cells without a headline, None all of them: no sign is claimed of them.
    """
    families = dict.fromkeys(
        (one.cell.protocol, one.cell.temperature)
        for one in cells
        if not one.gate and one.cell.protocol != "resample"
    )
    return tuple(
        _claim(
            *family,
            blocked,
            [one for one in cells if (one.cell.protocol, one.cell.temperature) == family],
            [one for one in contrasts if (one.protocol, one.temperature) == family],
            [one for one in scaled if (one.protocol, one.temperature) == family],
            [one for one in generalisation if (one.protocol, one.temperature) == family],
        )
        for family in families
    )


def _claim(
    protocol: str,
    temperature: float,
    blocked: frozenset[str] | None,
    cells: Sequence[CellResult],
    contrasts: Sequence[Finding],
    scaled: Sequence[Scaled],
    generalisation: Sequence[Finding],
) -> Claim:
    if blocked is None:
        return Claim(
            protocol, temperature, 0, "no claim", "a study whose headline is not blocked", ""
        )
    if not any(one.confirmatory for one in cells):
        lacks = "a study that declares it: it is not among the confirmatory protocols"
        return Claim(protocol, temperature, 0, "no claim", lacks, _cost(contrasts))
    spoken = [one for one in cells if one.cell.id not in blocked]
    silent = len(cells) - len(spoken)
    signs, trend = _signs(spoken), _trend(contrasts)
    if silent and signs:
        signs += f" ({silent} more without a headline)"
    if silent and trend:
        trend += f", {silent} cells without a headline among them"
    form, lacks_form = _form(contrasts, scaled[-1] if scaled else None)
    beyond, lacks_beyond = _extrapolation(scaled[-1] if scaled else None, generalisation)
    cost = _cost(contrasts)
    said = [text for text in (signs, trend) if text]
    if not said:
        missing = "no cell's delta is different from zero (Holm), nor is the trend over sizes"
        if not any(one.p_holm is not None for one in cells):
            missing = "no cell's delta is tested, and no trend over sizes is shown"
        return Claim(protocol, temperature, 0, "no claim", missing, cost)
    if not trend:
        return Claim(protocol, temperature, 1, said[0], "a trend over sizes (Holm)", cost)
    if not form:
        return Claim(protocol, temperature, 2, "; ".join(said), lacks_form, cost)
    said.append(form)
    if not beyond:
        return Claim(protocol, temperature, 3, "; ".join(said), lacks_beyond, cost)
    return Claim(protocol, temperature, 4, "; ".join([*said, beyond]), "", cost)


def _signs(cells: Sequence[CellResult]) -> str:
    sure = [one for one in cells if one.p_holm is not None and one.p_holm < ALPHA]
    if not sure:
        return ""
    gains = sum((one.delta.value or 0.0) > 0 for one in sure)
    parts = [
        f"{word} in {n} of {len(cells)} cells"
        for word, n in (("helps", gains), ("harms", len(sure) - gains))
        if n
    ]
    return " and ".join(parts)


def _cost(contrasts: Sequence[Finding]) -> str:
    """Against voting among as many fresh answers as the same money buys (BH)."""
    rows = [one for one in contrasts if one.quantity == "accuracy_less_vote_of_equal_cost"]
    if not rows:
        return ""
    sure = [one for one in rows if one.p_adjusted is not None and one.p_adjusted < ALPHA]
    more = sum((one.estimate.value or 0.0) > 0 for one in sure)
    weaker = sum(bool(one.estimate.note) for one in rows)
    note = f"; in {weaker} the vote is cheaper, as too few draws are on record" if weaker else ""
    return (
        f"beats a vote that costs no more in {more} and loses to it in {len(sure) - more} of "
        f"{len(rows)} cell{'s' * (len(rows) != 1)}{note}"
    )


def _trend(contrasts: Sequence[Finding]) -> str:
    for one in contrasts:
        made = one.estimate
        sure = one.p_adjusted is not None and one.p_adjusted < ALPHA
        if one.quantity == "trend" and sure and made.value is not None:
            return (
                f"delta changes by {100 * made.value:+.2f} points per e-fold of size "
                f"({100 * (made.low or 0):+.2f} to {100 * (made.high or 0):+.2f}) in these models"
            )
    return ""


def _form(contrasts: Sequence[Finding], one: Scaled | None) -> tuple[str, str]:
    """A functional form for such models, or what it lacks."""
    if one is None or one.comparison is None:
        return "", (one.refused if one is not None and one.refused else "a fit")
    stops = [caution.text for caution in one.cautions if caution.code in _NO_LAW]
    if stops:
        return "", f"the ground for a law: {stops[0]}"
    such = [c.p_value for c in contrasts if c.quantity == "trend_of_such_models"]
    if not such or such[0] is None or such[0] >= ALPHA:
        return "", "a trend over such models, not only over these"
    close = one.comparison.within(2.0)
    names = [score.fit.family.name for score in close]
    if len(close) > 1:
        said = ", ".join(_NAMES.get(name, name) for name in names)
        return "", f"one form: {said} are not told apart"
    if names[0] == "power" and not (one.alpha and one.alpha.identified):
        return "", "an exponent whose set has ends"
    if names[0] == "constant" or not close[0].skill > 0:
        return "", "a form that foretells left-out models better than a constant"
    said, drawn = _NAMES.get(names[0], names[0]), one.drawn
    share = 0.0 if drawn is None else drawn.selection[drawn.names.index(names[0])]
    if share < _STEADY:
        return "", f"a choice that holds when models are redrawn ({said} in {100 * share:.0f} %)"
    return f"{said} form", ""


def _extrapolation(one: Scaled | None, generalisation: Sequence[Finding]) -> tuple[str, str]:
    if one is None or one.comparison is None:
        return "", "a fit"
    if math.log10(one.panel.size_M.max() / one.panel.size_M.min()) < 1.5:
        return "", "sizes over 1.5 decades"
    skills = [g for g in generalisation if g.quantity.endswith("_skill")]
    if not any((g.estimate.low or 0.0) > 0 for g in skills):
        return "", "skill on a provider or dataset never seen"
    return "foretells what it has not seen, within its intervals", ""
