"""The page's sections, in reading order: words and tables, and places for charts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from deltascale.analysis import CellResult, Finding, FormFit, Results
from deltascale.analysis.claims import ALPHA
from deltascale.analysis.generalisation import task_kind
from deltascale.records import Cell
from deltascale.report import guidelines
from deltascale.report.page.charts import Index, rungs, speakable
from deltascale.report.page.inert import Html, Node, join, tag
from deltascale.report.wording import dollars, estimate_text, p_text, percent, short, size_text

__all__ = [
    "answer", "chart", "cost", "deltas", "examples", "flips", "lazy_table", "listed", "scaling",
    "section", "sensitivity", "table", "tasks",
]  # fmt: skip

FORMS = {
    "constant": "constant",
    "loglinear": "log-linear",
    "power": "power",
    "saturating": "saturating",
    "quadratic": "quadratic",
    "power_floor": "power with floor",
    "two_rate": "two-rate",
    "error_rate": "error-rate",
}


# --- what sections are made of -------------------------------------------------------------------


def section(name: str, title: str, *content: Node) -> Html:
    heading = tag("h2", title, id=f"{name}-title")
    return tag("section", heading, *content, id=name, aria_labelledby=f"{name}-title")


def chart(name: str, *, caption: Node, controls: Sequence[Html] = ()) -> Html:
    """A place that the script fills: the drawing, its legend, and the table of what is drawn."""
    return tag(
        "figure",
        tag("div", *controls, class_="controls") if controls else None,
        tag("div", class_="panels", data_chart=name),
        tag("div", class_="legend", data_legend=name),
        tag("figcaption", caption),
        tag(
            "details",
            tag("summary", "Data of this chart"),
            tag(
                "div",
                class_="scroll",
                data_table=name,
                tabindex=0,
                role="region",
                aria_label=f"Data of the chart {name}",
            ),
            class_="data",
        ),
    )


def _control(name: str, label: str, options: Iterable[tuple[str, str]]) -> Html:
    choices = [tag("option", text, value=value) for value, text in options]
    return tag("label", f"{label} ", tag("select", *choices, data_control=name))


def table(
    caption: str,
    columns: Sequence[str],
    rows: Iterable[Html],
    *,
    left: int = 1,
) -> Html:
    """A table that scrolls by itself; the first `left` columns are text."""
    heads = [
        tag("th", name, scope="col", class_=None if number < left else "number")
        for number, name in enumerate(columns)
    ]
    return tag(
        "div",
        tag(
            "table",
            tag("caption", caption),
            tag("thead", tag("tr", *heads)),
            tag("tbody", *rows),
        ),
        class_="scroll",
        tabindex=0,
        role="region",
        aria_label=caption,
    )


def row(values: Sequence[Node], *, left: int = 1, at: tuple[int, int, int] | None = None) -> Html:
    """`at` are the places of model, dataset and protocol, by which rows are filtered."""
    cells = [
        tag("th", value, scope="row") if number == 0
        else tag("td", value, class_=None if number < left else "number")
        for number, value in enumerate(values)
    ]  # fmt: skip
    where = None if at is None else " ".join(map(str, at))
    return tag("tr", *cells, data_at=where)


def listed(texts: Iterable[Node], *, class_: str | None = None) -> Html:
    return tag("ul", *(tag("li", text) for text in texts), class_=class_)


def lazy_table(name: str, words: str) -> Html:
    """A long table that the script makes when it is opened."""
    inside = tag("div", class_="scroll", data_findings=name, tabindex=0, role="region",
                 aria_label=words)  # fmt: skip
    return tag("details", tag("summary", words), inside, class_="data")


def _folded(words: str, *content: Node) -> Html:
    return tag("details", tag("summary", words), *content, class_="data")


def _some(rows: Sequence[Html], few: int, words: str, caption: str, columns: Sequence[str],
          left: int) -> Html:  # fmt: skip
    """A table as it is if it has few rows, folded if many."""
    made = table(caption, columns, rows, left=left)
    return made if len(rows) <= few else _folded(f"{words} ({len(rows)} rows)", made)


def _arm(results: Results, protocol: str, temperature: float | None) -> str:
    """A protocol as the charts name it: with its temperature where the study has several."""
    if len(results.study.temperatures) < 2 or temperature is None:
        return protocol
    return f"{protocol} T{temperature:g}"


# --- the sections --------------------------------------------------------------------------------


def answer(results: Results) -> Html:
    said = [tag("p", sentence) for sentence in guidelines.answer(results)]
    made = guidelines.guidelines(results)
    supported = [one for one in made if one.supported]
    open_ones = [one for one in made if not one.supported]
    lines: list[Node] = []
    for one in supported:
        evidence = listed(one.evidence, class_="evidence")
        lines.append(join(tag("strong", one.question), " ", one.sentence, evidence))
    guidance: list[Node] = []
    if lines:
        guidance = [tag("h3", "What to do, and the evidence"), listed(lines, class_="guidelines")]
    if open_ones:
        guidance.append(tag("h3", "Not supported by this study"))
        guidance.append(
            listed(
                [
                    join(tag("strong", one.question), " ", "; ".join(one.evidence), ".")
                    for one in open_ones
                ]
            )
        )
    return section(
        "answer",
        "The question and the answer",
        tag("p", guidelines.question(results), class_="question"),
        tag("div", *said, class_="answer"),
        *guidance,
    )


def deltas(results: Results, index: Index) -> Html:
    level = f"{100 * results.settings.level:g} %"
    oracles = [one for one in results.cells if one.gate]
    parts: list[Node] = [
        chart(
            "forest",
            caption=f"Change of accuracy from the first to the last turn, in percentage points, "
            f"with {level} intervals of these models over items like these. A filled mark differs "
            "from zero after Holm's adjustment.",
        )
    ]
    ordinary = [one for one in results.cells if not one.gate]
    parts.append(_delta_table("Change of accuracy by cell", ordinary, index))
    if oracles:
        parts += [
            tag("h3", "Upper bound (oracle)"),
            tag(
                "p",
                "Told whether they are right, models can only gain. These cells are no "
                "self-correction: they are tested against nothing and enter no fit.",
            ),
            chart(
                "oracles",
                caption=f"The same change where the verdict is given away, with {level} intervals.",
            ),
            _delta_table("Change of accuracy by cell, oracles", oracles, index),
        ]
    return section("deltas", "Change of accuracy", *parts)


def _delta_table(caption: str, cells: Sequence[CellResult], index: Index) -> Html:
    several = len({one.cell.temperature for one in cells}) > 1
    columns = ["model", "size", "dataset", "protocol", *["T"] * several, "first", "last",
               "delta, points", "fixed", "broken", "p (Holm)", "n", "missing",
               "missing at worst, best"]  # fmt: skip
    left = 4 + several
    rows = [row(_delta_row(one, several), left=left, at=index.of_cell(one.cell)) for one in cells]
    return _some(rows, 0, caption, caption, columns, left)


def _delta_row(one: CellResult, several: bool) -> list[Node]:
    bounds = f"{estimate_text(one.worst)} to {estimate_text(one.best)}" if one.n_missing else ""
    delta = one.withheld if one.withheld else estimate_text(one.delta)
    return [
        short(one.cell.model), size_text(one.model.size), one.cell.dataset, one.cell.protocol,
        *[f"{one.cell.temperature:g}"] * several, percent(one.first.value),
        percent(one.last.value), delta, one.fixed, one.broken,
        "" if one.p_holm is None else p_text(one.p_holm), one.delta.n, one.n_missing or "", bounds,
    ]  # fmt: skip


def flips(results: Results) -> Html:
    return section(
        "flips",
        "Flips",
        chart(
            "flips",
            caption="Of all samples, the share that was broken (right, then wrong; to the left) "
            "and fixed (wrong, then right; to the right), in percent. Fixed less broken is the "
            "change of accuracy.",
        ),
        tag("h3", "Turn by turn"),
        chart(
            "turns",
            controls=[_control("turns", "Dataset", ())],
            caption="Accuracy at each turn; turn 0 is the first answer. Of each protocol by "
            "itself; a mark's interval is in its tip and in the data below.",
        ),
        lazy_table("flips", "Flip rates, changes of answers, break-even and limits, by cell"),
    )


def scaling(results: Results) -> Html:
    ladder = rungs(results)
    trained = any(one.size.training_tokens for one in results.study.models)
    said = [_claim(one.protocol, one.temperature, results) for one in results.claims]
    parts: list[Node] = [listed(said, class_="claims")] if said else []
    controls = [
        _control("scaling", "Dataset", ()),
        _control("x", "Horizontal", (("n", "parameters"), ("active", "active parameters"),
                                     *[("flops", "training FLOPs")] * trained,
                                     ("price", "price of output"))),
        _control("y", "Vertical", (("delta", "change of accuracy"), ("first", "first accuracy"),
                                   ("last", "last accuracy"))),
        _control("forms", "Forms", (("average", "average"), ("all", "each by itself"))),
    ]  # fmt: skip
    curves = any(rung >= 2 for rung in ladder.values())
    caption = (
        "Each mark is a model, in percentage points, or in percent for an accuracy; upright lines "
        f"are {100 * results.settings.level:g} % intervals. A size that is an estimate is drawn as "
        "an interval, one that is not known has no place here."
    )
    if any(one.quantity == "macro_delta" for one in results.contrasts):
        caption += (
            " Over all datasets, a filled mark is a model's mean over them, each of equal weight; "
            "hollow ones are single datasets."
        )
    if curves:
        caption += (
            " The line is the average of the competing forms, weighted by AICc; the band runs "
            "from the lowest form to the highest: how far they disagree, no interval. Lines are "
            "broken outside the sizes studied; what is hatched is extrapolation, and no claim of "
            "this study unless it says so above."
        )
    parts.append(chart("scaling", controls=controls, caption=caption))
    compared = [f for f in results.scaling if ladder.get((f.protocol, f.temperature), 0) >= 2]
    if compared:
        parts.append(_forms(results, compared))
    named = [f for f in compared if ladder.get((f.protocol, f.temperature), 0) >= 3]
    if named:
        parts.append(_parameters(results, named))
    return section("scaling", "Change of accuracy and size", *parts)


def _claim(protocol: str, temperature: float, results: Results) -> Html:
    one = next(c for c in results.claims if (c.protocol, c.temperature) == (protocol, temperature))
    name = protocol
    if len(results.study.temperatures) > 1:
        name += f" at temperature {temperature:g}"
    refused = next(
        (f.note for f in results.scaling if f.form == "none" and f.protocol == protocol), ""
    )
    lacks = f" Beyond that it lacks {one.missing}." if one.missing else ""
    if one.rung == 0:
        lacks = f" Reason: {one.missing}."
    fit = f" No curve is fitted: {refused}." if refused else ""
    return join(tag("strong", name), f": {one.text}.", lacks, fit)


def _forms(results: Results, fits: Sequence[FormFit]) -> Html:
    """How the forms compare; that there is a best one is no claim that it is the law."""
    rows = [
        row(
            [FORMS.get(one.form, one.form), one.dataset,
             _arm(results, one.protocol, one.temperature), one.n_models,
             _figure(one.delta_aicc), _share(one.weight), _share(one.chosen),
             _figure(one.left_out_skill), "" if one.r2 is None else estimate_text(one.r2),
             _figure(one.tau and 100 * one.tau),
             "" if one.p_misfit is None else p_text(one.p_misfit), one.note],
            left=3,
        )
        for one in fits
    ]  # fmt: skip
    columns = ["form", "dataset", "protocol", "models", "ΔAICc", "weight", "chosen in redraws",
               "left-out skill, nats", "R²", "scatter, points", "p of misfit", "note"]  # fmt: skip
    caption = "How the forms compare. None is claimed unless the list above says so."
    return _folded(f"Competing forms ({len(rows)} rows)", table(caption, columns, rows, left=3))


def _parameters(results: Results, fits: Sequence[FormFit]) -> Html:
    rows = [
        row([FORMS.get(one.form, one.form), one.dataset,
             _arm(results, one.protocol, one.temperature), name, estimate_text(made), made.method,
             made.note], left=4)
        for one in fits
        for name, made in one.parameters.items()
    ]  # fmt: skip
    columns = ["form", "dataset", "protocol", "parameter", "estimate", "method", "note"]
    caption = "Parameters of the forms, for models like these"
    return _folded(f"{caption} ({len(rows)} rows)", table(caption, columns, rows, left=4))


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}".replace("-", "−")


def _share(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.0f} %"


def cost(results: Results, index: Index) -> Html:
    ladder = rungs(results)
    parts: list[Node] = []
    for one in (found for found in results.costs if not found.model):
        if one.quantity == "paid":
            parts.append(tag("p", f"Paid for this study: {dollars(one.estimate.value)}."))
        elif one.quantity == "as_deployed":
            parts.append(tag("p", f"The same conversations as deployed, no call shared: "
                                  f"{dollars(one.estimate.value)}."))  # fmt: skip
    parts += [
        chart(
            "frontier",
            controls=[_control("frontier", "Dataset", ())],
            caption="Cost of an answer and accuracy, for every model with and without each "
            f"protocol; upright lines are {100 * results.settings.level:g} % intervals. Ringed: "
            "undominated in at least half of the replicates.",
        ),
        tag("h3", "How sure it is that correction pays"),
        chart(
            "worth",
            controls=[_control("worth", "Dataset", ())],
            caption="Share of replicates in which the gain is worth more than its price, by what "
            "one more right answer is worth, in dollars.",
        ),
        _paid(results, index),
        _prices(results, index),
        _controls(results, index),
    ]
    sizes = [one for one in results.thresholds if speakable(one, ladder)]
    if sizes:
        parts.append(_break_even(results, sizes))
    parts.append(lazy_table("costs", "Every cost, net benefit and price"))
    return section("cost", "Cost", *parts)


def _paid(results: Results, index: Index) -> Html | None:
    """By model, and not by cell: a call that cells share was paid for once."""
    quantities = ("paid", "as_deployed", "saved_by_sharing")
    found: dict[str, dict[str, Finding]] = {}
    for one in results.costs:
        if one.model and one.quantity in quantities:
            found.setdefault(one.model, {})[one.quantity] = one
    if not found:
        return None
    rows = [
        row(
            [short(model), *(estimate_text(own[q].estimate, signed=False) for q in quantities)],
            at=index.of(model, "", ""),
        )
        for model, own in found.items()
    ]
    caption = "What was paid, by model; protocols share calls, and a shared call is paid for once"
    columns = ["model", "paid", "as deployed", "saved by sharing"]
    return _some(rows, 0, caption, caption, columns, 1)


def _prices(results: Results, index: Index) -> Html:
    found = _by_cell(results.costs, ("cost_extra", "gain_per_dollar", "usd_per_right_answer"))
    rows = [
        row(
            [short(cell.model), cell.dataset, _arm(results, cell.protocol, cell.temperature),
             *(_shown(own.get(q)) for q in
               ("cost_extra", "gain_per_dollar", "usd_per_right_answer"))],
            left=3, at=index.of_cell(cell),
        )
        for cell, own in found.items() if "gain_per_dollar" in own
    ]  # fmt: skip
    columns = ["model", "dataset", "protocol", "extra cost per item", "share gained per dollar",
               "price of one more right answer"]  # fmt: skip
    caption = "Gain per dollar, and its inverse. A set without an end holds zero gain."
    return _some(rows, 0, "Gain per dollar by cell", caption, columns, 3)


def _controls(results: Results, index: Index) -> Html:
    names = ("accuracy_less_vote_of_equal_cost", "delta_less_resample", "accuracy_less_best_of")
    found = _by_cell(results.contrasts, names)
    rows = [
        row(
            [short(cell.model), cell.dataset, _arm(results, cell.protocol, cell.temperature),
             *(_shown(own.get(name), p=True) for name in names)],
            left=3, at=index.of_cell(cell),
        )
        for cell, own in found.items()
    ]  # fmt: skip
    columns = ["model", "dataset", "protocol", "less a vote that costs no more",
               "less answering afresh", "less the best of as many answers"]  # fmt: skip
    caption = "Cost-matched controls: difference in points, p by Benjamini-Hochberg"
    return _some(rows, 0, "Against controls by cell", caption, columns, 3)


def _break_even(results: Results, findings: Sequence[Finding]) -> Html:
    rows = [
        row([one.estimate.estimand.partition(": ")[2], one.dataset,
             _arm(results, one.protocol, one.temperature), _shown(one), one.estimate.note], left=3)
        for one in findings
    ]  # fmt: skip
    caption = "Sizes at which correction begins or ceases to help, and to pay"
    columns = ["question", "dataset", "protocol", "size", "note"]
    return _some(rows, 0, caption, caption, columns, 3)


def _by_cell(
    findings: Iterable[Finding], quantities: Sequence[str]
) -> Mapping[Cell, Mapping[str, Finding]]:
    found: dict[Cell, dict[str, Finding]] = {}
    for one in findings:
        if one.quantity in quantities and one.temperature is not None:
            cell = Cell(one.model, one.dataset, one.protocol, one.temperature)
            found.setdefault(cell, {})[one.quantity] = one
    return found


def _shown(one: Finding | None, *, p: bool = False) -> str:
    if one is None:
        return ""
    text = estimate_text(one.estimate)
    if p and one.p_adjusted is not None:
        text += f", p {p_text(one.p_adjusted)}"
    return text


def tasks(results: Results, index: Index) -> Html:
    """Model by dataset, a table a protocol; what is shown to gain or lose stands out."""
    return section(
        "tasks",
        "By kind of task",
        tag(
            "p",
            "Change of accuracy in points. ",
            tag("span", "▲ a gain is shown", class_="gain"),
            ", ",
            tag("span", "▼ a loss is shown", class_="loss"),
            " (Holm); of the others neither is shown.",
        ),
        *_task_tables(results, index),
        lazy_table(
            "benchmarks",
            "As the benchmarks score themselves, whole and by part: difference of last and first",
        ),
    )


def _task_tables(results: Results, index: Index) -> Iterator[Html]:
    several = len(results.study.temperatures) > 1
    cells = [c for c in results.cells if not c.gate and c.cell.protocol != "resample"]
    for protocol, temperature in dict.fromkeys(
        (c.cell.protocol, c.cell.temperature) for c in cells
    ):
        own = [c for c in cells if (c.cell.protocol, c.cell.temperature) == (protocol, temperature)]
        by_place = {(c.cell.dataset, c.cell.model): c for c in own}
        models = list(dict.fromkeys(c.cell.model for c in own))
        datasets = sorted(dict.fromkeys(c.cell.dataset for c in own), key=task_kind)
        rows = [
            tag(
                "tr",
                tag("th", task_kind(dataset), scope="row"),
                tag("td", dataset),
                *(_task_cell(by_place.get((dataset, model))) for model in models),
                data_at=" ".join(map(str, index.of("", dataset, protocol))),
            )
            for dataset in datasets
        ]
        name = f"{protocol} at temperature {temperature:g}" if several else protocol
        yield table(name, ["kind", "dataset", *map(short, models)], rows, left=2)


def _task_cell(one: CellResult | None) -> Html:
    if one is None or one.delta.value is None:
        return tag("td", "—", class_="number")
    sure = one.p_holm is not None and one.p_holm < ALPHA
    text = estimate_text(one.delta).split(" [")[0]
    way = ("gain", "▲ ") if one.delta.value > 0 else ("loss", "▼ ")
    if not sure:
        return tag("td", text, class_="number")
    return tag("td", way[1] + text, class_=f"number {way[0]}")


def sensitivity(results: Results) -> Html:
    ladder = rungs(results)
    carry = [one for one in results.generalisation if speakable(one, ladder)]
    rows = [
        row([one.estimate.estimand.partition(": ")[2], one.dataset,
             _arm(results, one.protocol, one.temperature),
             estimate_text(one.estimate, signed=not one.quantity.startswith("held_out")),
             one.estimate.n, "" if one.p_value is None else p_text(one.p_value),
             one.estimate.note if one.estimate.value is not None else ""], left=3)
        for one in carry
    ]  # fmt: skip
    columns = ["quantity", "dataset", "protocol", "estimate", "n", "p", "note"]
    caption = "Where variance comes from, and what was foretold of providers and datasets left out"
    parts: list[Node] = [lazy_table("sensitivity", "Temperature, turns, scorers, draws, and axes")]
    parts.append(lazy_table("contrasts", "Every comparison: trends, neighbours, pairs, controls"))
    if rows:
        parts.append(_some(rows, 0, "Generalisation", caption, columns, 3))
    held = [one for one in carry if one.quantity.endswith("_skill")]
    said = [
        join(tag("strong", f"{_arm(results, one.protocol, one.temperature)}, "
                       f"{one.estimate.estimand.partition(': ')[2]}"),
             f": {'; '.join(dict.fromkeys((estimate_text(one.estimate), one.estimate.note)))}")
        for one in held
    ]  # fmt: skip
    if said:
        parts.insert(0, listed(said))
    else:
        parts.insert(0, tag("p", "Nothing is said of models, providers or datasets not studied."))
    return section("sensitivity", "Sensitivity and generalisation", *parts)


def examples(n_shown: int, n_flips: int) -> Html:
    if not n_shown:
        return section("examples", "Examples", tag("p", "No answer was fixed or broken."))
    return section(
        "examples",
        "Examples",
        tag(
            "p",
            f"{n_shown:,} of {n_flips:,} conversations in which an answer was fixed or broken, "
            "drawn by a fixed rule from every cell. Long texts are cut; control and invisible "
            "characters are shown as signs.",
        ),
        tag(
            "div",
            _control("kind", "Show", (("", "fixed and broken"), ("fixed", "fixed"),
                                      ("broken", "broken"))),
            tag("span", data_count="examples", role="status"),
            class_="controls",
        ),
        tag("div", id="transcripts"),
        tag("button", "Show more", type="button", id="more"),
    )  # fmt: skip
