"""To correct or not: one model on one dataset, by which protocol, at what price, and how sure.

It chooses among estimates and words them, and computes none. What concerns the whole study
(`question`, `answer`, `guidelines`) can be called from here as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from rich.console import Console
from rich.text import Text

from deltascale.analysis import CellResult, Finding, Results
from deltascale.errors import Mistake
from deltascale.records import Estimate
from deltascale.report.guidelines import (
    Guideline,
    answer,
    blocked_cells,
    cells_tested,
    guidelines,
    has_gained,
    has_lost,
    is_sure,
    name_of,
    of_cell,
    question,
)
from deltascale.report.wording import dollars, estimate_text, percent, short, visible

__all__ = [
    "Advice", "Guideline", "Verdict", "advise", "answer", "blocked_cells", "cells_tested",
    "guidelines", "question", "show_advice", "show_guidelines",
]  # fmt: skip

Verdict: TypeAlias = Literal["correct", "do not correct", "not shown"]


@dataclass(frozen=True, slots=True)
class Advice:
    """Whether one model should correct its answers on one dataset, and how.

    `protocol` is the best supported one for `correct`, else the one that came nearest, or empty.
    The estimates are that protocol's: `gain` is delta, `cost` the extra dollars an item, `price`
    dollars for one more right answer, `net` the net benefit an item and `chance` the share of
    replicates in which it pays, both at the worth that was given; None where there is none.
    """

    model: str
    dataset: str
    verdict: Verdict
    protocol: str
    temperature: float | None
    gain: Estimate | None
    cost: Estimate | None
    price: Estimate | None
    net: Estimate | None
    chance: Estimate | None
    because: tuple[str, ...]


def advise(
    results: Results,
    *,
    model: str | None = None,
    dataset: str | None = None,
    usd_per_right_answer: float | None = None,
) -> tuple[Advice, ...]:
    """To correct or not, for each model and dataset (or those named), by what, and how sure.

    `model` may be a whole id or its name alone. `usd_per_right_answer` must be among the worths
    that were analysed (`Settings.usd_per_corrected`). Raises Mistake for what the study lacks.
    """
    models = _chosen(model, [one.id for one in results.study.models], "model")
    datasets = _chosen(dataset, [one.name for one in results.study.datasets], "dataset")
    worths = results.settings.usd_per_corrected
    if usd_per_right_answer is not None and usd_per_right_answer not in worths:
        raise ValueError(f"${usd_per_right_answer:g} a right answer was not analysed")
    blocked = blocked_cells(results)
    made = []
    for one in models:
        for other in datasets:
            own = [c for c in results.cells if (c.cell.model, c.cell.dataset) == (one, other)]
            if own:
                made.append(_advise(results, own, blocked, usd_per_right_answer))
    return tuple(made)


def _chosen(asked: str | None, known: Sequence[str], what: str) -> list[str]:
    if asked is None:
        return list(known)
    found = [name for name in known if name == asked] or [n for n in known if short(n) == asked]
    if not found:
        raise Mistake(
            f"the study has no {what} {asked}",
            remedy=f"it has {', '.join(known)}",
        )
    return found


def _advise(
    results: Results, own: Sequence[CellResult], blocked: frozenset[str] | None, usd: float | None
) -> Advice:
    here = own[0].cell
    candidates = [] if blocked is None else [
        one for one in own
        if one.p_holm is not None and not one.gate and one.cell.id not in blocked
    ]  # fmt: skip
    if not candidates:
        return Advice(
            here.model, here.dataset, "not shown", "", None, None, None, None, None, None,
            ("no protocol was tested here, or nothing may be said of its cells",),
        )  # fmt: skip
    rated = [(_verdict(results, one, usd), one) for one in candidates]
    for wanted in ("correct", "not shown", "do not correct"):
        group = [one for verdict, one in rated if verdict == wanted]
        if group:
            best = max(group, key=lambda one: (_merit(results, one, usd), one.cell.id))
            return _worded(results, best, wanted, usd, len(candidates))
    raise AssertionError("every candidate has a verdict")


def _verdict(results: Results, one: CellResult, usd: float | None) -> Verdict:
    """`correct` only where the gain is shown and, at a worth, the net benefit too."""
    net = _net(results, one, usd)
    if usd is not None and net is not None:
        if has_gained(one) and (net.low or 0.0) > 0:
            return "correct"
        if net.high is not None and net.high < 0:
            return "do not correct"
        return "do not correct" if has_lost(one) else "not shown"
    if has_gained(one):
        return "correct"
    return "do not correct" if has_lost(one) or one.no_effect else "not shown"


def _merit(results: Results, one: CellResult, usd: float | None) -> float:
    net = _net(results, one, usd)
    return (one.delta.value if net is None else net.value) or 0.0


def _net(results: Results, one: CellResult, usd: float | None) -> Estimate | None:
    return None if usd is None else _estimate(results.costs, f"net_benefit_at_{usd:g}", one)


def _worded(
    results: Results, one: CellResult, verdict: Verdict, usd: float | None, n: int
) -> Advice:
    chance = None if usd is None else _estimate(results.costs, f"acceptability_at_{usd:g}", one)
    price = _estimate(results.costs, "usd_per_right_answer", one)
    net = _net(results, one, usd)
    return Advice(
        one.cell.model, one.cell.dataset, verdict, one.cell.protocol, one.cell.temperature,
        one.delta, _estimate(results.costs, "cost_extra", one), price, net, chance,
        tuple(_reasons(results, one, net, usd, n)),
    )  # fmt: skip


def _reasons(
    results: Results, one: CellResult, net: Estimate | None, usd: float | None, n: int
) -> Iterator[str]:
    adjusted = f"p = {one.p_holm:.3g} after Holm over {one.family_size} cells"
    yield f"{one.cell.protocol} changes accuracy by {estimate_text(one.delta)} points ({adjusted})"
    if one.no_effect:
        yield f"a change of more than {100 * results.settings.margin:g} points is ruled out"
    if net is not None and usd is not None:
        yield f"at ${usd:g} a right answer its net benefit is {estimate_text(net)} an item"
    fresh = of_cell(results.contrasts, "delta_less_resample", one)
    if fresh is not None and fresh.p_adjusted is not None:
        yield _comparison("answering afresh", fresh)
    vote = of_cell(results.contrasts, "accuracy_less_vote_of_equal_cost", one)
    if vote is not None and vote.p_adjusted is not None:
        cost = "costs less" if vote.estimate.note else "costs no more"
        yield _comparison(f"a {vote.versus} answers, which {cost}", vote)
    if n > 1:
        yield f"the best of {n} protocols that were tested here: its gain is likely to be smaller"
    for caveat in results.warnings:
        if caveat.about == name_of(one) and caveat.weight <= 1:
            yield f"warning: {caveat.text}"


def _comparison(words: str, found: Finding) -> str:
    value = estimate_text(found.estimate)
    if not is_sure(found.p_adjusted):
        return f"not shown to differ from {words}: {value} points"
    way = "better" if (found.estimate.value or 0) > 0 else "worse"
    return f"{way} than {words}: {value} points"


def _estimate(findings: Sequence[Finding], quantity: str, one: CellResult) -> Estimate | None:
    found = of_cell(findings, quantity, one)
    return None if found is None else found.estimate


# --- on the terminal -----------------------------------------------------------------------------

_FEW = 3
"""So many cases are told in full; more become a table."""


def show_guidelines(shown: Console, made: Sequence[Guideline]) -> None:
    """Each question with its answer and evidence; what the study leaves open is said at the end."""
    from rich.padding import Padding

    for one in made:
        if one.supported:
            shown.print(_text(f"{one.question} {one.sentence}"))
            for line in one.evidence:
                shown.print(Padding(_text(line, style="dim"), (0, 0, 0, 2)))
    left_open = [one for one in made if not one.supported]
    if left_open:
        shown.print("\nnot supported by this study")
    for one in left_open:
        text = _text(f"{one.question} {'; '.join(one.evidence)}", style="dim")
        shown.print(Padding(text, (0, 0, 0, 2)))


def show_advice(shown: Console, made: Sequence[Advice]) -> None:
    """A table of the cases; a few are told with their reasons."""
    from deltascale.report.terminal import show_table, table

    several = len({one.temperature for one in made if one.temperature is not None}) > 1
    if len(made) <= _FEW:
        for one in made:
            how = f", by {one.protocol}" if one.verdict == "correct" else ""
            if how and several:
                how += f" at temperature {one.temperature:g}"
            shown.print(_text(f"{short(one.model)} on {one.dataset}: {one.verdict}{how}"))
            for name, found in (
                ("gain, points", one.gain), ("cost per item", one.cost),
                ("per right answer", one.price), ("net benefit", one.net),
            ):  # fmt: skip
                if found is not None:
                    shown.print(_text(f"  {name:17} {estimate_text(found)}"))
            if one.chance is not None:
                shown.print(_text(f"  {'pays in':17} {percent(one.chance.value)} of replicates"))
            for line in one.because:
                shown.print(_text(f"  - {line}", style="dim"))
        return
    columns = ["model", "dataset", "advice", "protocol", *["T"] * several, "gain, points",
               "$ a right answer"]  # fmt: skip
    worth = any(one.chance is not None for one in made)
    grid = table("", [*columns, *["pays in"] * worth], left=4)
    for one in made:
        price = "" if one.price is None else dollars(one.price.value)
        chance = [] if not worth else [percent(one.chance.value if one.chance else None)]
        gain = "" if one.gain is None else estimate_text(one.gain)
        at = [] if not several else ["" if one.temperature is None else f"{one.temperature:g}"]
        texts = (short(one.model), one.dataset, one.verdict, one.protocol, *at, gain, price)
        grid.add_row(*map(_text, (*texts, *chance)))
    show_table(shown, grid)


def _text(text: str, style: str = "") -> Text:
    return Text(visible(text), style=style)
