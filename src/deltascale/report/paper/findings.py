"""Sentences about what was found. Each is None, or nothing, where its evidence is missing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from deltascale.analysis import CellResult, Finding, FrontierPoint, Results
from deltascale.analysis.claims import ALPHA
from deltascale.analysis.cost import FIRST_ANSWER
from deltascale.analysis.results import ALL_DATASETS
from deltascale.report import guidelines
from deltascale.report.paper.document import Sentence, sentences
from deltascale.report.wording import (
    dollars,
    estimate_text,
    n_of,
    p_text,
    per_thousand,
    percent,
    points,
    short,
)

__all__ = [
    "abstract", "changes", "control", "cost", "first_answers", "flipping", "generalising",
    "missing", "oracle", "sensitive", "sizes", "task_patterns", "turning",
]  # fmt: skip

_NAMED = 6
"""At most so many cells are named in a sentence; the tables have them all."""


# --- the abstract --------------------------------------------------------------------------------


def abstract(results: Results) -> tuple[Sentence, ...]:
    first, *rest = guidelines.answer(results)
    return sentences(
        guidelines.question(results),
        _volume(results),
        first,
        _span(results),
        *rest,
        _pays(results),
        _simulated(results),
    )


def _volume(results: Results) -> Sentence | None:
    planned = sum(one.n_samples for one in results.cells)
    gone = sum(one.n_missing for one in results.cells)
    if not planned:
        return None
    lost = f"; {gone:,} have no result and are bounded, not guessed" if gone else ""
    return (f"The study is {planned:,} conversations, with every call on record{lost}.",)


def _span(results: Results) -> Sentence | None:
    """The least and the greatest delta that differ from zero."""
    sure = _sure(_tested(results))
    if not sure:
        return None
    low = min(sure, key=_delta)
    high = max(sure, key=_delta)
    if low is high:
        return (f"Where a change is shown, it is {_cell(low)} points.",)
    return (f"Where a change is shown, it lies between {_cell(low)} and {_cell(high)} points.",)


def _pays(results: Results) -> Sentence | None:
    """At which worth of a right answer correction pays, only where some cell gained."""
    if not any(_delta(one) > 0 for one in _sure(_tested(results))):
        return None
    said = []
    for usd in results.settings.usd_per_corrected:
        own = _quantity(results.costs, f"acceptability_at_{usd:g}")
        sure = sum((one.estimate.value or 0.0) >= 1 - ALPHA for one in own)
        if own:
            said.append(f"{sure} of {len(own)} cells where a right answer is worth ${usd:g}")
    if not said:
        return None
    return (f"The gain pays with a probability of at least {100 * (1 - ALPHA):g} % in "
            f"{_listed(said)}.",)  # fmt: skip


def _simulated(results: Results) -> Sentence | None:
    simulated = [model.provider == "simulated" for model in results.study.models]
    if all(simulated):
        return ("All models are simulated: these numbers say nothing about any real model.",)
    return ("Some of the models are simulated.",) if any(simulated) else None


# --- results -------------------------------------------------------------------------------------


def first_answers(results: Results, dataset: str) -> Sentence | None:
    """The range of accuracies at turn 0."""
    shared: dict[tuple[str, float], CellResult] = {}  # protocols share their first answers
    for one in results.cells:
        if one.cell.dataset == dataset and one.first.value is not None and not one.gate:
            shared.setdefault((one.cell.model, one.cell.temperature), one)
    if not shared:
        return None
    low = min(shared.values(), key=lambda one: one.first.value or 0.0)
    high = max(shared.values(), key=lambda one: one.first.value or 0.0)
    names = [_arm(results, short(one.cell.model), one.cell.temperature) for one in (low, high)]
    if low is high:
        return (f"On {dataset}, {names[0]} was right at first in "
                f"{estimate_text(low.first, signed=False)}.",)  # fmt: skip
    return (
        f"On {dataset}, first answers were right in {estimate_text(low.first, signed=False)} "
        f"({names[0]}) to {estimate_text(high.first, signed=False)} ({names[1]}).",
    )


def changes(results: Results) -> tuple[Sentence, ...]:
    """What each protocol did, with the cells in which a change is shown."""
    cells = _tested(results)
    if not cells:
        return sentences(*guidelines.answer(results)[:1])
    made: list[Sentence | str | None] = []
    for key, own in _by_arm(cells).items():
        sure = _sure(own)
        name = _arm(results, *key)
        if not sure:
            made.append(
                f"With {name}, no cell's delta is told from zero after Holm's adjustment "
                f"(of {len(own)})."
            )
            continue
        ordered = sorted(sure, key=lambda one: (-abs(_delta(one)), one.cell.id))
        named = "; ".join(
            f"{_cell(one, protocol=False)}, p = {p_text(one.p_holm)}" for one in ordered[:_NAMED]
        )
        more = f"; and {len(ordered) - _NAMED} more" if len(ordered) > _NAMED else ""
        made.append(
            f"With {name}, delta differs from zero in {len(sure)} of {len(own)} cells after "
            f"Holm's adjustment, in points: {named.replace('= <', '<')}{more}."
        )
    made.append(_no_effect(results, cells))
    return sentences(*made)


def _no_effect(results: Results, cells: Sequence[CellResult]) -> str | None:
    none = [one for one in cells if one.no_effect]
    margin = 100 * results.settings.margin
    if not none:
        return None
    return (
        f"In {len(none)} of {len(cells)} cells a change of more than {margin:g} points either way "
        "is ruled out by two one-sided tests."
    )


def missing(results: Results) -> tuple[Sentence, ...]:
    """The bounds of cells with missing answers."""
    own = [one for one in results.cells if one.n_missing and one.worst.value is not None]
    if not own:
        return ()
    most = max(own, key=lambda one: (one.n_missing / one.n_samples, one.cell.id))
    return sentences(
        f"Answers are missing in {len(own)} of {len(results.cells)} cells; most of them in "
        f"{short(most.cell.model)} on {most.cell.dataset} with {most.cell.protocol}, "
        f"{most.n_missing} of {most.n_samples}: over everything planned its delta lies between "
        f"{points(most.worst.value)} and {points(most.best.value)} points, whatever those answers "
        "are."
    )


def oracle(results: Results) -> tuple[Sentence, ...]:
    """The upper bound, and what it is worth beside the best of as many independent answers."""
    own = [one for one in results.cells if one.gate and one.delta.value is not None]
    if not own:
        return ()
    low, high = min(own, key=_delta), max(own, key=_delta)
    between = (
        f"its delta is {estimate_text(low.delta)} points"
        if low is high
        else f"deltas lie between {estimate_text(low.delta)} and {estimate_text(high.delta)} points"
    )
    best = [
        one
        for one in _quantity(results.contrasts, "accuracy_less_best_of")
        if any(one.protocol == cell.cell.protocol for cell in own)
    ]
    return sentences(
        f"A protocol that learns the verdict can't lose by construction; {between}, and they are "
        "no evidence that a model corrects itself.",
        _better_worse("Against the best of as many independent answers, chosen by the same oracle",
                      best),
    )  # fmt: skip


def flipping(results: Results) -> tuple[Sentence, ...]:
    """The range of both rates for each protocol, and how they compare with a fresh answer."""
    made: list[str | None] = []
    gated = {one.cell.protocol for one in results.cells if one.gate}
    arms = dict.fromkeys(
        (one.protocol, one.temperature)
        for one in results.flips
        if one.protocol not in gated and one.protocol != "resample"
    )
    for protocol, temperature in arms:
        own = [
            one
            for one in results.flips
            if (one.protocol, one.temperature) == (protocol, temperature)
        ]
        stay = _range(_quantity(own, "stay_right"))
        fix = _range(_quantity(own, "fix_wrong"))
        if not stay or not fix:
            continue
        name = _arm(results, protocol, temperature)
        made.append(f"With {name}, {stay} of right answers stay right and {fix} of wrong ones are "
                    "fixed.")  # fmt: skip
        beyond = _quantity(own, "fix_wrong_less_null")
        if beyond:
            above = sum((one.estimate.low or 0.0) > 0 for one in beyond)
            below = sum((one.estimate.high or 0.0) < 0 for one in beyond)
            made.append(
                f"It fixes more than answering afresh would in {above} and less in {below} of "
                f"{len(beyond)} cells (intervals that exclude zero, not adjusted)."
            )
    return sentences(*made)


def _range(own: Sequence[Finding]) -> str:
    known = sorted(one.estimate.value for one in own if one.estimate.value is not None)
    if not known:
        return ""
    low, high = percent(known[0]), percent(known[-1])
    return low if low == high else f"{low} to {high}"


def control(results: Results) -> tuple[Sentence, ...]:
    """Every protocol against its controls, by Benjamini and Hochberg."""
    made: list[str | None] = []
    for quantity, words in (
        ("delta_less_resample", "Against answering afresh"),
        ("accuracy_less_vote_of_equal_cost", "Against a majority vote that costs no more"),
    ):
        for protocol, own in _by_protocol(_quantity(results.contrasts, quantity)).items():
            made.append(_better_worse(f"{words}, {_short(protocol)}", own))
    return sentences(*made)


def _better_worse(words: str, own: Sequence[Finding]) -> str | None:
    own = [one for one in own if one.p_adjusted is not None]
    if not own:
        return None
    sure = [one for one in own if (one.p_adjusted or 0.0) < ALPHA]
    better = sum((one.estimate.value or 0.0) > 0 for one in sure)
    worse = len(sure) - better
    if not sure:
        return f"{words}: no difference is shown in {n_of(len(own), 'cell')}."
    return f"{words}: better in {better}, worse in {worse} of {n_of(len(own), 'cell')}."


def turning(results: Results) -> tuple[Sentence, ...]:
    """What turns after the second add."""
    made: list[str | None] = []
    own = [one for one in results.sensitivity if one.quantity.startswith("gain_of_turn_")]
    for quantity in dict.fromkeys(one.quantity for one in own):
        turn = int(quantity.rpartition("_")[2])
        rows = _quantity(own, quantity)
        made.append(_better_worse(f"Turn {turn} against turn {turn - 1}", rows))
    return sentences(*made)


def sizes(results: Results) -> tuple[Sentence, ...]:
    """As high on the ladder of claims as the evidence goes, and what the next rung lacks."""
    made: list[str | None] = []
    for claim in results.claims:
        name = _arm(results, claim.protocol, claim.temperature)
        if claim.rung >= 2:
            who = "" if claim.text.startswith("delta ") else "the protocol "
            made.append(f"With {name}, {who}{claim.text}.")
        if claim.missing and claim.rung >= 2:
            made.append(f"Nothing further is claimed for {name}: it lacks {claim.missing}.")
        elif claim.missing:
            why = f"it lacks {claim.missing}" if claim.rung else claim.missing
            made.append(f"For {name}, nothing is claimed about size: {why}.")
    refused = {
        (fit.protocol, fit.temperature, fit.note): fit
        for fit in results.scaling
        if fit.form == "none" and fit.note
    }
    made += [
        f"Delta with {_arm(results, protocol, temperature)} was not fitted against size: {note}."
        for protocol, temperature, note in refused
    ]
    made += [_threshold(results, one) for one in results.thresholds]
    return sentences(*made)


def _threshold(results: Results, one: Finding) -> str | None:
    """The size from which correction helps: only where a form is claimed and the set has ends."""
    claim = _claim(results, one.protocol, one.temperature)
    made = one.estimate
    if claim < 3 or one.quantity != "break_even_size" or made.value is None or made.low is None:
        return None
    return (
        f"With {_arm(results, one.protocol, one.temperature)} on {one.dataset}, delta is above "
        "zero from "
        f"{estimate_text(made, signed=False)} parameters."
    )


def _claim(results: Results, protocol: str, temperature: float | None) -> int:
    return next(
        (
            claim.rung
            for claim in results.claims
            if (claim.protocol, claim.temperature) == (protocol, temperature)
        ),
        0,
    )


def generalising(results: Results) -> tuple[Sentence, ...]:
    """Whether a fit foretells a provider or dataset never seen, where a trend is shown."""
    made: list[str | None] = []
    for one in results.generalisation:
        rung = _claim(results, one.protocol, one.temperature)
        if rung < 2:
            continue
        what = one.quantity.removeprefix("held_out_").removesuffix("_skill")
        if rung >= 3 and one.quantity.endswith("_skill") and one.estimate.value is not None:
            shown = (one.estimate.low or 0.0) > 0
            how = "foretells" if shown else "is not shown to foretell"
            made.append(
                f"With {_arm(results, one.protocol, one.temperature)}, the fit {how} a {what} "
                "never seen: log score less "
                f"that of a constant {estimate_text(one.estimate)}."
            )
        elif one.quantity == "slope_heterogeneity" and one.p_value is not None:
            differ = "differ" if one.p_value < ALPHA else "are not shown to differ"
            made.append(
                f"With {_arm(results, one.protocol, one.temperature)}, slopes over size {differ} "
                "between datasets "
                f"(Cochran's Q, p = {p_text(one.p_value)})".replace("= <", "<")
                + "."
            )
    return sentences(*made)


def sensitive(results: Results) -> tuple[Sentence, ...]:
    """What else delta depends on."""
    own = [one for one in results.sensitivity if one.versus.startswith("temperature ")]
    apart = _quantity(results.sensitivity, "answer_disagreement")
    scorers = [one for one in results.sensitivity if one.quantity.startswith("delta_by_")]
    blocked = [one for one in scorers if "standard error" in one.estimate.note]
    return sentences(
        _better_worse("At the higher of two temperatures", own),
        f"Between two epochs, the first answer differs for {_range(apart)} of items."
        if _range(apart)
        else None,
        f"A second scorer moves delta by more than its standard error in {len(blocked)} of "
        f"{len(scorers)} comparisons."
        if scorers
        else None,
    )


# --- cost and tasks ------------------------------------------------------------------------------


def cost(results: Results) -> tuple[Sentence, ...]:
    """What was paid, what correction costs, where it pays, and which choices are undominated."""
    return sentences(
        _paid(results),
        *_extra(results),
        *_acceptable(results),
        _dominated(results),
        *_undominated(results),
    )


def _paid(results: Results) -> str | None:
    whole = [one for one in results.costs if not one.model]
    paid = next(iter(_quantity(whole, "paid")), None)
    deployed = next(iter(_quantity(whole, "as_deployed")), None)
    if paid is None or deployed is None:
        return None
    return (
        f"The study's calls cost {dollars(paid.estimate.value)}; without calls shared between "
        f"protocols they would have cost {dollars(deployed.estimate.value)}. What follows is as "
        "deployed, with every call paid for."
    )


def _extra(results: Results) -> Iterator[str]:
    left_out = {one.cell.protocol for one in results.cells if one.gate} | {"resample"}
    for protocol, own in _by_protocol(_quantity(results.costs, "cost_extra")).items():
        known = sorted(one.estimate.value for one in own if one.estimate.value is not None)
        if protocol in left_out or not known:
            continue
        low, high = per_thousand(known[0]), per_thousand(known[-1])
        span = low if low == high else f"{low} to {high}"
        yield f"Beyond the first answer, {_short(protocol)} costs {span} for 1,000 items."


def _acceptable(results: Results) -> Iterator[str]:
    """Only for arms in which some gain is shown: a chance of paying is no gain."""
    gained = {one.cell.protocol for one in _sure(_tested(results)) if _delta(one) > 0}
    for usd in results.settings.usd_per_corrected:
        rows = _quantity(results.costs, f"acceptability_at_{usd:g}")
        said = []
        for protocol, own in _by_protocol(rows).items():
            if protocol in gained:
                n = sum((one.estimate.value or 0.0) >= 1 - ALPHA for one in own)
                said.append(f"{_short(protocol)} in {n} of {len(own)}")
        if said:
            yield (
                f"Where one more right answer is worth ${usd:g}, the gain pays with a "
                f"probability of at least {100 * (1 - ALPHA):g} % with {_listed(said)} cells."
            )


def _dominated(results: Results) -> str | None:
    rows = _quantity(results.costs, "usd_per_right_answer")
    lost = sum(one.estimate.note.startswith("dominated") for one in rows)
    if not lost:
        return None
    return f"In {lost} of {len(rows)} cells going on costs and, by its estimate, gains nothing."


def _undominated(results: Results) -> Iterator[str]:
    """How many choices are on the frontier in most replicates, and its two ends."""
    datasets = list(dict.fromkeys(point.dataset for point in results.frontier))
    for dataset in [ALL_DATASETS] if ALL_DATASETS in datasets else datasets:
        every = [point for point in results.frontier if point.dataset == dataset]
        own = [point for point in every if (point.membership.value or 0.0) >= 0.5]
        if not own:
            continue
        own.sort(key=lambda point: (point.cost_usd.value or 0.0, point.model, point.protocol))
        best = max(own, key=lambda point: point.accuracy.value or 0.0)
        where = "Over all datasets" if dataset == ALL_DATASETS else f"On {dataset}"
        ends = f"the cheapest is {_choice(own[0])}, the most accurate {_choice(best)}"
        if best is own[0]:
            ends = f"the cheapest and most accurate of them is {_choice(best)}"
        yield (
            f"{where}, {len(own)} of {len(every)} ways to an answer {_are(len(own))} undominated "
            f"in at least half of the replicates; {ends}."
        )


def _are(n: int) -> str:
    return "is" if n == 1 else "are"


def _choice(point: FrontierPoint) -> str:
    its = "its " if point.protocol == FIRST_ANSWER else ""
    return (
        f"{short(point.model)} with {its}{_short(point.protocol)} "
        f"({per_thousand(point.cost_usd.value)} for 1,000 items, "
        f"{estimate_text(point.accuracy, signed=False)} right)"
    )


def task_patterns(results: Results) -> tuple[Sentence, ...]:
    """What each dataset shows by itself."""
    made: list[str | None] = []
    cells = _tested(results)
    for dataset in dict.fromkeys(one.cell.dataset for one in cells):
        own = [one for one in cells if one.cell.dataset == dataset]
        sure = _sure(own)
        up = sum(_delta(one) > 0 for one in sure)
        made.append(
            f"On {dataset}, accuracy rises in {up} and falls in {len(sure) - up} of "
            f"{n_of(len(own), 'cell')}."
            if sure
            else f"On {dataset}, no change is shown in {n_of(len(own), 'cell')}."
        )
    for one in results.generalisation:
        known = one.estimate.value is not None
        if one.quantity == "slope_of_kind" and known and _claim(
            results, one.protocol, one.temperature
        ) >= 2:  # fmt: skip
            made.append(
                f"On {one.versus} tasks, the slope over size of "
                f"{_arm(results, one.protocol, one.temperature)} is "
                f"{estimate_text(one.estimate)} points per e-fold."
            )
    return sentences(*made)


# --- choosing and wording ------------------------------------------------------------------------


def _tested(results: Results) -> tuple[CellResult, ...]:
    blocked = guidelines.blocked_cells(results)
    return () if blocked is None else guidelines.cells_tested(results, blocked)


def _sure(cells: Iterable[CellResult]) -> list[CellResult]:
    return [one for one in cells if one.p_holm is not None and one.p_holm < ALPHA]


def _delta(one: CellResult) -> float:
    return one.delta.value or 0.0


def _cell(one: CellResult, *, protocol: bool = True) -> str:
    cell = one.cell
    how = f" with {_short(cell.protocol)}" if protocol else ""
    return f"{estimate_text(one.delta)} ({short(cell.model)} on {cell.dataset}{how})"


def _by_arm(cells: Iterable[CellResult]) -> dict[tuple[str, float], list[CellResult]]:
    found: dict[tuple[str, float], list[CellResult]] = {}
    for one in cells:
        found.setdefault((one.cell.protocol, one.cell.temperature), []).append(one)
    return found


def _by_protocol(own: Iterable[Finding]) -> dict[str, list[Finding]]:
    found: dict[str, list[Finding]] = {}
    for one in own:
        found.setdefault(one.protocol, []).append(one)
    return found


def _quantity(own: Iterable[Finding], name: str) -> list[Finding]:
    return [one for one in own if one.quantity == name]


def _short(protocol: str) -> str:
    return protocol.rpartition(":")[2]


def _arm(results: Results, protocol: str, temperature: float | None) -> str:
    if len(results.study.temperatures) < 2 or temperature is None:
        return _short(protocol)
    return f"{_short(protocol)} at temperature {temperature:g}"


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) < 2 else f"{', '.join(parts[:-1])} and {parts[-1]}"
