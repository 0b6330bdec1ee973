"""What a study answers and what it says to do, each sentence with the evidence it stands on.

It chooses among estimates and words them, and computes none. A question that the estimates leave
open is answered with why it is open. Page and paper speak through here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from deltascale.analysis import CellResult, Finding, Results, caveats
from deltascale.analysis.claims import ALPHA
from deltascale.analysis.generalisation import task_kind
from deltascale.report.wording import dollars, estimate_text, n_of, short

__all__ = [
    "Guideline", "answer", "blocked_cells", "cells_tested", "guidelines", "has_gained", "has_lost",
    "is_sure", "name_of", "of_cell", "question",
]  # fmt: skip

_NAMED = 4
"""At most so many protocols are named in a sentence."""


@dataclass(frozen=True, slots=True)
class Guideline:
    """`sentence` is empty where the study does not support one; then `evidence` says why."""

    question: str
    sentence: str
    evidence: tuple[str, ...]

    @property
    def supported(self) -> bool:
        return bool(self.sentence)


# --- what was asked, and the answer --------------------------------------------------------------


def question(results: Results) -> str:
    """What the study asked, in one sentence."""
    study = results.study
    told = {one.cell.protocol for one in results.cells if one.gate}
    names = [
        f"{name} (an upper bound)" if name in told else name
        for name in study.protocols
        if name != "resample"
    ]
    return (
        f"How much does the accuracy of {n_of(len(study.models), 'model')} on "
        f"{n_of(len(study.datasets), 'dataset')} change over {study.turns} turns with "
        f"{_listed(names)}, and is the change worth its price?"
    )


def answer(results: Results) -> tuple[str, ...]:
    """At most three sentences, none above the rung of the ladder that its evidence reaches."""
    blocked = blocked_cells(results)
    if blocked is None:
        why = next(c.text for c in results.warnings if c.weight == 0 and not c.about)
        return (f"This study has no headline: {why}.",)
    cells = cells_tested(results, blocked)
    if not cells:
        return ("This study has no cell in which a change of accuracy could be tested.",)
    parts = [_signs(results, cells, blocked), _sizes(results), _control(results)]
    return tuple(part for part in parts if part)[:3]


def blocked_cells(results: Results) -> frozenset[str] | None:
    """Ids of the cells of which nothing may be headlined; None: nothing of the whole study."""
    return caveats.blocked(results.cells, results.warnings)


def name_of(one: CellResult) -> str:
    """The cell as warnings name it."""
    return caveats.name_of(one.cell)


def cells_tested(results: Results, blocked: frozenset[str]) -> tuple[CellResult, ...]:
    """The cells whose delta was tested in the confirmatory family and may be spoken of."""
    return tuple(
        one
        for one in results.cells
        if one.p_holm is not None and not one.gate and one.cell.id not in blocked
    )


def has_gained(one: CellResult) -> bool:
    """Whether a gain is shown: delta above zero after Holm."""
    return is_sure(one.p_holm) and (one.delta.value or 0.0) > 0


def has_lost(one: CellResult) -> bool:
    """Whether a loss is shown: delta below zero after Holm."""
    return is_sure(one.p_holm) and (one.delta.value or 0.0) < 0


def is_sure(p: float | None) -> bool:
    """Whether a p-value, adjusted by its caller, is below the level."""
    return p is not None and p < ALPHA


def _signs(results: Results, cells: Sequence[CellResult], blocked: frozenset[str]) -> str:
    gained, lost = sum(map(has_gained, cells)), sum(map(has_lost, cells))
    none = sum(one.no_effect and not is_sure(one.p_holm) for one in cells)
    n = len(cells)
    whole = f"{n} cells (model × dataset × protocol)" if n != 1 else "the one cell"
    if gained or lost:
        by = _by_protocol(cells)
        ways = [f"{word} in {n_such}{_shares(by, has) if len(by) > 1 else ''}"
                for word, n_such, has in (("rose", gained, has_gained), ("fell", lost, has_lost))
                if n_such]  # fmt: skip
        said = f"Of {whole}, accuracy {' and '.join(ways)}"
        rest = "; in the others no change is shown" if gained + lost < n else ""
    else:
        said, rest = f"In {whole}, no change of accuracy is shown", ""
    if none:
        margin = 100 * results.settings.margin
        rest += f", and in {none} a change of more than {margin:g} points is ruled out"
    more = (
        f" ({n_of(len(blocked), 'cell')} left out: see the health of the study)" if blocked else ""
    )
    return f"{said}{rest} (Holm, {100 * ALPHA:g} %){more}."


def _by_protocol(cells: Iterable[CellResult]) -> dict[str, list[CellResult]]:
    found: dict[str, list[CellResult]] = {}
    for one in cells:
        found.setdefault(one.cell.protocol, []).append(one)
    return found


def _shares(by: Mapping[str, Sequence[CellResult]], has: Callable[[CellResult], bool]) -> str:
    """` (review 5, vote 6)`: a vote's gain is no self-correction, so each is named."""
    counts = {name: sum(map(has, own)) for name, own in by.items()}
    return f" ({', '.join(f'{name} {n}' for name, n in counts.items() if n)})"


def _sizes(results: Results) -> str:
    """The trend over these models, and a form where one is claimed; or why nothing is said."""
    if not results.claims:
        return ""
    several = _several_temperatures(results)
    trends = []
    for claim in results.claims:
        found = _trend(results, claim.protocol, claim.temperature)
        if claim.rung < 2 or found is None or found.estimate.value is None:
            continue
        way = "rises" if found.estimate.value > 0 else "falls"
        name = _arm(claim.protocol, claim.temperature, several)
        form = next((p for p in claim.text.split("; ") if p.endswith(" form")), "")
        more = f", by the {form}" * bool(claim.rung >= 3 and form)
        trends.append(
            f"it {way} by {estimate_text(found.estimate)} points per e-fold for {name}{more}"
        )
    if trends:
        shown = "; ".join(trends[:_NAMED])
        rest = f"; and {len(trends) - _NAMED} more" if len(trends) > _NAMED else ""
        only = "" if any(c.rung >= 3 for c in results.claims) else ", claimed of these models only"
        return f"The change has a trend over size{only}: {shown}{rest}."
    refusals = [fit.note for fit in results.scaling if fit.form == "none" and fit.note]
    if refusals:
        return f"Nothing is said of how the change depends on size: {refusals[0]}."
    return "No trend of the change over the models' sizes is shown."


def _trend(results: Results, protocol: str, temperature: float) -> Finding | None:
    return next(
        (
            one
            for one in results.contrasts
            if one.quantity == "trend"
            and (one.protocol, one.temperature) == (protocol, temperature)
            and is_sure(one.p_adjusted)
        ),
        None,
    )


def _control(results: Results) -> str:
    """Against voting that costs the same; else against a fresh answer."""
    for quantity, words in (
        ("accuracy_less_vote_of_equal_cost", "a majority vote that costs no more"),
        ("delta_less_resample", "answering afresh"),
    ):
        own = [one for one in _compared(results, quantity) if one.protocol != "vote"]
        if not own:
            continue
        better = sum(is_sure(o.p_adjusted) and (o.estimate.value or 0) > 0 for o in own)
        worse = sum(is_sure(o.p_adjusted) and (o.estimate.value or 0) < 0 for o in own)
        cheaper = sum(bool(o.estimate.note) for o in own)
        note = f"; in {cheaper} of them the vote is the cheaper one" if cheaper else ""
        if not better and not worse:
            n = n_of(len(own), "comparison")
            return f"Against {words}, no difference is shown in {n}{note}."
        return (
            f"Against {words}, correction is better in {better} and worse in {worse} of "
            f"{n_of(len(own), 'comparison')} (Benjamini-Hochberg){note}."
        )
    return ""


def _compared(results: Results, quantity: str) -> list[Finding]:
    return [
        one for one in results.contrasts if one.quantity == quantity and one.p_adjusted is not None
    ]


# --- guidelines ----------------------------------------------------------------------------------


def guidelines(results: Results) -> tuple[Guideline, ...]:
    """The practitioner's questions, each answered with its evidence or with why it is open."""
    blocked = blocked_cells(results)
    cells = () if blocked is None else cells_tested(results, blocked)
    made = [_which_protocol(results, cells), _which_size(results), _which_task(cells)]
    made += [_or_vote(results), _really_correction(results), _which_turns(results)]
    made.append(_worth(results, cells))
    if _several_temperatures(results):
        made.append(_which_temperature(results))
    return tuple(made)


def _which_protocol(results: Results, cells: Sequence[CellResult]) -> Guideline:
    asked = "Which protocol, if any?"
    by_protocol = _by_protocol(cells)
    evidence = tuple(
        f"{name}: gained in {sum(map(has_gained, own))}, lost in {sum(map(has_lost, own))} of "
        f"{n_of(len(own), 'cell')} (Holm)"
        for name, own in by_protocol.items()
    )
    helps = [name for name, own in by_protocol.items() if any(map(has_gained, own))]
    safe = [name for name in helps if not any(map(has_lost, by_protocol[name]))]
    harms = [name for name, own in by_protocol.items() if any(map(has_lost, own))]
    if safe:
        sentence = f"Consider {_listed(safe)}: where a change is shown, it is a gain."
    elif helps:
        sentence = f"{_listed(helps).capitalize()} gains in some cells and loses in others: choose "
        sentence += "by model and dataset."
    elif harms:
        sentence = f"Leave out {_listed(harms)}: where a change is shown, it is a loss."
    else:
        why = "no cell's change differs from zero after Holm's adjustment"
        return Guideline(asked, "", (why, *evidence))
    return Guideline(asked, sentence, evidence)


def _which_size(results: Results) -> Guideline:
    asked = "For which sizes of model?"
    several = _several_temperatures(results)
    parts, evidence = [], []
    for claim in results.claims:
        name = _arm(claim.protocol, claim.temperature, several)
        found = _trend(results, claim.protocol, claim.temperature)
        if claim.rung >= 2 and found is not None and found.estimate.value is not None:
            parts.append((found.estimate.value > 0, name))
            evidence.append(f"{name}: {estimate_text(found.estimate)} points per e-fold of size")
        elif claim.missing:
            evidence.append(f"{name}: {'lacks ' if claim.rung else ''}{claim.missing}")
    if not parts:
        return Guideline(asked, "", tuple(evidence) or ("no trend over sizes was tested",))
    up = [name for rises, name in parts if rises]
    down = [name for rises, name in parts if not rises]
    said = [f"with {_listed(up)}, the larger of these models gain more"] if up else []
    said += [f"with {_listed(down)}, the larger of these models gain less"] if down else []
    sentence = "; ".join(said)
    return Guideline(asked, f"{sentence[0].upper()}{sentence[1:]}.", tuple(evidence))


def _which_task(cells: Sequence[CellResult]) -> Guideline:
    asked = "For which kinds of tasks?"
    kinds: dict[str, list[CellResult]] = {}
    for one in cells:
        kind = task_kind(one.cell.dataset)
        name = one.cell.dataset if kind == "other" else f"{kind} tasks"
        kinds.setdefault(name, []).append(one)
    evidence = tuple(
        f"{kind}: gained in {sum(map(has_gained, own))}, lost in {sum(map(has_lost, own))} of "
        f"{n_of(len(own), 'cell')} (Holm)"
        for kind, own in kinds.items()
    )
    helps = [kind for kind, own in kinds.items() if any(map(has_gained, own))]
    harms = [kind for kind, own in kinds.items() if any(map(has_lost, own))]
    if not helps and not harms:
        return Guideline(asked, "", ("no gain and no loss is shown on any kind of task", *evidence))
    said = [f"gains are shown on {_listed(helps)}"] if helps else []
    are_shown = "" if helps else "are shown "
    said += [f"losses {are_shown}on {_listed(harms)}"] if harms else []
    sentence = " and ".join(said)
    return Guideline(asked, f"{sentence[0].upper()}{sentence[1:]}.", evidence)


def _or_vote(results: Results) -> Guideline:
    return _versus(
        results,
        "accuracy_less_vote_of_equal_cost",
        "Correct, or spend the same on a majority vote?",
        ("Correct: where a difference is shown, it beats a vote that costs no more.",
         "Vote: where a difference is shown, a vote that costs no more is more accurate."),
        "no vote of equal cost could be formed: it needs the protocol `resample`",
    )  # fmt: skip


def _really_correction(results: Results) -> Guideline:
    return _versus(
        results,
        "delta_less_resample",
        "Is it correction, or only another draw?",
        ("Where a difference is shown, it is more than another draw: answering afresh gains less.",
         "Where a difference is shown, it is less than another draw: answering afresh gains more."),
        "answering afresh was not measured: it needs the protocol `resample`",
    )  # fmt: skip


def _versus(
    results: Results, quantity: str, asked: str, said: tuple[str, str], absent: str
) -> Guideline:
    own = [one for one in _compared(results, quantity) if one.protocol != "vote"]
    if not own:
        return Guideline(asked, "", (absent,))
    by_protocol: dict[str, tuple[int, int, int]] = {}
    for one in own:
        better, worse, n = by_protocol.get(one.protocol, (0, 0, 0))
        sure, value = is_sure(one.p_adjusted), one.estimate.value or 0.0
        by_protocol[one.protocol] = (better + (sure and value > 0), worse + (sure and value < 0),
                                     n + 1)  # fmt: skip
    evidence = tuple(
        f"{name}: better in {better}, worse in {worse} of {n_of(n, 'comparison')} "
        "(Benjamini-Hochberg)"
        for name, (better, worse, n) in by_protocol.items()
    )
    better, worse = (sum(row[k] for row in by_protocol.values()) for k in (0, 1))
    cheaper = sum(bool(one.estimate.note) for one in own)
    if cheaper:
        evidence += (
            f"in {cheaper} of {n_of(len(own), 'comparison')} the vote is the cheaper one: the "
            "money buys more answers than are on record",
        )
    if better and not worse and not any(_beaten_fairly(one) for one in own):
        return Guideline(asked, "", ("beaten were only votes that cost less", *evidence))
    if better and worse:
        sentence = "It depends on protocol, model and dataset."
        return Guideline(asked, sentence, evidence)
    if better or worse:
        return Guideline(asked, said[0] if better else said[1], evidence)
    return Guideline(asked, "", ("no comparison shows a difference", *evidence))


def _beaten_fairly(one: Finding) -> bool:
    """Shown to be better than a control that was given the same money."""
    return is_sure(one.p_adjusted) and (one.estimate.value or 0.0) > 0 and not one.estimate.note


def _which_turns(results: Results) -> Guideline:
    asked = "How many turns?"
    by_turn: dict[str, list[Finding]] = {}
    for one in results.sensitivity:
        if one.quantity.startswith("gain_of_turn_") and one.p_adjusted is not None:
            by_turn.setdefault(one.quantity.removeprefix("gain_of_turn_"), []).append(one)
    if not by_turn:
        return Guideline(asked, "", ("the study has two turns, or none could be compared",))
    evidence, helps = [], []
    for turn, own in by_turn.items():
        more = sum(is_sure(o.p_adjusted) and (o.estimate.value or 0) > 0 for o in own)
        less = sum(is_sure(o.p_adjusted) and (o.estimate.value or 0) < 0 for o in own)
        evidence.append(
            f"turn {turn} gains in {more} and loses in {less} of {n_of(len(own), 'cell')} "
            "(Benjamini-Hochberg)"
        )
        if more > less:
            helps.append(turn)
    if not helps:
        return Guideline(asked, "", ("no turn after turn 1 is shown to add anything", *evidence))
    return Guideline(asked, f"Turn {_listed(helps)} still adds in some cells.", tuple(evidence))


def _worth(results: Results, cells: Sequence[CellResult]) -> Guideline:
    asked = "From what worth of a right answer does it pay?"
    gained = {one.cell.id: one for one in cells if has_gained(one)}
    priced = [
        (one, found.estimate)
        for one in gained.values()
        for found in [of_cell(results.costs, "usd_per_right_answer", one)]
        if found is not None and None not in (found.estimate.value, found.estimate.high)
    ]
    if not priced:
        why = "no cell has both a gain that is shown and a bounded price of a right answer"
        return Guideline(asked, "", (why,))
    priced.sort(key=lambda pair: (pair[1].value or 0.0, pair[0].cell.id))
    evidence = tuple(
        f"{short(one.cell.model)}, {one.cell.dataset}, "
        f"{_arm(one.cell.protocol, one.cell.temperature, _several_temperatures(results))}: "
        f"{estimate_text(price)} for one more right answer"
        for one, price in priced[:5]
    )
    low, high = dollars(priced[0][1].value), dollars(priced[-1][1].value)
    between = f"{low}" if low == high else f"{low} to {high}, by model, dataset and protocol"
    sentence = f"Where a gain is shown, one more right answer costs {between}."
    return Guideline(asked, sentence, evidence)


def _which_temperature(results: Results) -> Guideline:
    asked = "At which temperature?"
    own = [
        one
        for one in results.sensitivity
        if one.versus.startswith("temperature ") and one.p_adjusted is not None
    ]
    sure = [one for one in own if is_sure(one.p_adjusted)]
    if not sure:
        return Guideline(asked, "", ("no difference between temperatures is shown",))
    evidence = tuple(
        f"{short(one.model)}, {one.dataset}, {one.protocol}: {one.temperature:g} less "
        f"{one.versus}: {estimate_text(one.estimate)} points"
        for one in sure[:5]
    )
    up = sum((one.estimate.value or 0) > 0 for one in sure)
    sentence = f"The higher temperature gains more in {up} and less in {len(sure) - up} of "
    return Guideline(asked, f"{sentence}{n_of(len(own), 'comparison')}.", evidence)


def of_cell(findings: Sequence[Finding], quantity: str, one: CellResult) -> Finding | None:
    """The finding of this quantity that is about this cell; None: there is none."""
    cell = one.cell
    key = (quantity, cell.model, cell.dataset, cell.protocol, cell.temperature)
    return next(
        (f for f in findings if (f.quantity, f.model, f.dataset, f.protocol, f.temperature) == key),
        None,
    )


# --- words ---------------------------------------------------------------------------------------


def _several_temperatures(results: Results) -> bool:
    return len(results.study.temperatures) > 1


def _arm(protocol: str, temperature: float, several: bool) -> str:
    return f"{protocol} at temperature {temperature:g}" if several else protocol


def _listed(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"
