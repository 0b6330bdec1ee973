"""Tables to take: LaTeX (booktabs), Markdown and CSV, from one sheet of ready text each.

The paper shows the same sheets, so that its tables and these agree by construction. All text that
a user or a model may have written is escaped here. Computes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from deltascale.analysis import CellResult, Finding, FormFit, Results
from deltascale.analysis.results import ALL_DATASETS
from deltascale.records import Estimate
from deltascale.report import files, tables
from deltascale.report.figures import file_names
from deltascale.report.wording import (
    count,
    dollars,
    estimate_text,
    in_unit,
    p_text,
    per_thousand,
    percent,
    short,
    size_text,
)

__all__ = [
    "Sheet", "arm_name", "booktabs", "captioned", "escape", "markdown", "parts", "rung", "sheets",
    "single", "write",
]  # fmt: skip

_ROWS = 44
"""A table longer than this is continued in another: a page of small type holds no more."""

_SHOWN = 0.05
"""Choices that are undominated less often than this are no choices."""


@dataclass(frozen=True, slots=True)
class Sheet:
    """A table as text. The first `left` columns are words, the others numbers; `rules` are the
    rows that begin a new group. `about` is the dataset, or empty."""

    name: str
    kind: str
    about: str
    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left: int = 1
    rules: tuple[int, ...] = ()


def sheets(results: Results) -> tuple[Sheet, ...]:
    """Every table that the results have rows for."""
    # The same names as the figures'.
    names = file_names(one.cell.dataset for one in results.cells)
    found = [_models(results)]
    for dataset in names:
        found += [_deltas(results, dataset, names[dataset], gated=gated) for gated in (False, True)]
        found.append(_benchmarks(results, dataset, names[dataset]))
        found.append(_flips(results, dataset, names[dataset]))
        found.append(_controls(results, dataset, names[dataset]))
        found.append(_costs(results, dataset, names[dataset]))
    found.append(_means(results))
    found += [
        _frontier(results, dataset, names.get(dataset, "all"))
        for dataset in dict.fromkeys(point.dataset for point in results.frontier)
    ]
    found += [
        _scaling(results, dataset, names.get(dataset, "all"))
        for dataset in dict.fromkeys(fit.dataset for fit in results.scaling)
    ]
    return tuple(sheet for sheet in found if sheet.rows)


def write(results: Results, directory: Path) -> tuple[Path, ...]:
    """Every table as `NAME.tex`, `NAME.md` and `NAME.csv`; returns what was written."""
    directory.mkdir(parents=True, exist_ok=True)
    made: list[Path] = []
    for sheet in sheets(results):
        for suffix, text in ((".tex", booktabs(sheet)), (".md", markdown(sheet))):
            path = directory / f"{sheet.name}{suffix}"
            path.write_text(text, encoding="utf-8", newline="\n")
            made.append(path)
        path = directory / f"{sheet.name}.csv"
        rows = [dict(zip(sheet.columns, row, strict=True)) for row in sheet.rows]
        files.write_csv(path, rows, columns=sheet.columns)
        made.append(path)
    return tuple(made)


def parts(sheet: Sheet) -> Iterator[Sheet]:
    """The sheet, cut where it is too long for a page."""
    n = -(-len(sheet.rows) // _ROWS)
    if n < 2:
        yield sheet
        return
    for k in range(n):
        begin, end = k * _ROWS, (k + 1) * _ROWS
        yield replace(
            sheet,
            name=f"{sheet.name}-part-{k + 1}",
            caption=f"{sheet.caption} Part {k + 1} of {n}.",
            rows=sheet.rows[begin:end],
            rules=tuple(rule - begin for rule in sheet.rules if begin < rule < end),
        )


# --- the three ways to write one -----------------------------------------------------------------


def booktabs(sheet: Sheet) -> str:
    """A `tabular` with booktabs' rules, to be put into a table of one's own."""
    aligned = "l" * sheet.left + "r" * (len(sheet.columns) - sheet.left)
    lines = [
        f"% {single(sheet.name)}: needs \\usepackage{{booktabs}}",
        f"\\begin{{tabular}}{{@{{}}{aligned}@{{}}}}",
        "\\toprule",
        " & ".join(escape(column) for column in sheet.columns) + " \\\\",
        "\\midrule",
    ]
    for number, row in enumerate(sheet.rows):
        if number in sheet.rules:
            lines.append("\\addlinespace")
        # The group at its start keeps a row's text from being read as an option of the last \\.
        lines.append("{}" + " & ".join(escape(cell) for cell in row) + " \\\\")
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}", ""])


def captioned(sheet: Sheet) -> str:
    """The whole float, with caption and label."""
    return (
        f"\\begin{{table*}}[tp]\n\\centering\n\\footnotesize\n\\caption{{{escape(sheet.caption)}}}\n"
        f"\\label{{tab-{sheet.name}}}\n\\par\\smallskip\n"
        # No wider than the page, and never blown up.
        "\\begin{adjustbox}{max width=\\textwidth}\n"
        f"{booktabs(sheet)}\\end{{adjustbox}}\n\\end{{table*}}\n"
    )


def markdown(sheet: Sheet) -> str:
    """A table of GitHub's Markdown, under its caption."""

    def line(cells: Iterable[str]) -> str:
        return f"| {' | '.join(_markdown_text(cell) for cell in cells)} |"

    rule = ["---" if k < sheet.left else "---:" for k in range(len(sheet.columns))]
    head = [_markdown_text(sheet.caption), "", line(sheet.columns), f"| {' | '.join(rule)} |"]
    return "\n".join([*head, *(line(row) for row in sheet.rows), ""])


def _markdown_text(text: str) -> str:
    """Text that Markdown shows as it is: no markup, no HTML, no link."""
    text = single(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = re.sub(r"([\\`*_{}\[\]#!|~$])", r"\\\1", text)
    return re.sub(r"(?i)\b(https?|ftp|mailto|www)([:.])", r"\1&#8203;\2", text)


# --- text for LaTeX ------------------------------------------------------------------------------

_TEX: Mapping[str, str] = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#",
    "%": r"\%", "_": r"\_", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", "`": r"\textasciigrave{}",
    "'": r"\textquotesingle{}", '"': r"\textquotedbl{}", "[": "{[}", "]": "{]}", "*": "{*}",
    "−": r"$-$", "∞": r"$\infty$", "×": r"$\times$", "±": r"$\pm$", "≥": r"$\geq$",
    "≤": r"$\leq$", "≈": r"$\approx$", "→": r"$\to$", "←": r"$\leftarrow$", "·": r"$\cdot$",
    "…": r"\ldots{}", "–": r"\textendash{}", "—": r"\textemdash{}",
    "’": r"\textquoteright{}", "‘": r"\textquoteleft{}",
    "“": r"\textquotedblleft{}", "”": r"\textquotedblright{}",
    "²": r"$^2$", "³": r"$^3$", "α": r"$\alpha$", "β": r"$\beta$", "δ": r"$\delta$",
    "Δ": r"$\Delta$", "τ": r"$\tau$", "λ": r"$\lambda$", "π": r"$\pi$", "σ": r"$\sigma$",
    "µ": r"$\mu$", "°": r"$^\circ$", "§": r"\S{}", "€": r"\texteuro{}", "\u00a0": "~",
}  # fmt: skip
_LATIN = frozenset("ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÑÒÓÔÕÖØÙÚÛÜÝßàáâãäåæçèéêëìíîïñòóôõöøùúûüýÿŒœŠšŽžŸ")


def escape(text: str) -> str:
    """One line of any text as LaTeX that prints it and does nothing else.

    What pdfLaTeX's usual fonts lack is printed as its code point, `[U+4E2D]`; control and
    direction characters are spaces.
    """
    made = "".join(map(_tex_character, single(text)))
    return re.sub(r"([-,])(?=\1)", r"\1{}", made)  # two of them would be one sign


def _tex_character(character: str) -> str:
    found = _TEX.get(character)
    if found is not None:
        return found
    if character.isascii() or character in _LATIN:
        return character
    return f"{{[}}U+{ord(character):04X}{{]}}"


def single(text: str) -> str:
    """One line without control and direction characters."""
    return " ".join(
        "".join(c if c.isprintable() or c == "\u00a0" else " " for c in text).split(" ")
    )


# --- what each holds -----------------------------------------------------------------------------


def rung(results: Results, protocol: str, temperature: float) -> int:
    """How high on the ladder of claims an arm stands; 0 where no claim was made."""
    return next(
        (
            claim.rung
            for claim in results.claims
            if (claim.protocol, claim.temperature) == (protocol, temperature)
        ),
        0,
    )


def arm_name(results: Results, protocol: str, temperature: float | None) -> str:
    """The protocol, with its temperature where the study has several: `review, T=0.2`."""
    name = protocol.rpartition(":")[2]
    if len(results.study.temperatures) < 2 or temperature is None:
        return name
    return f"{name}, T={temperature:g}"


def _models(results: Results) -> Sheet:
    trained = any(model.size.training_tokens for model in results.study.models)
    rows = []
    for model in results.study.models:
        size = model.size
        active = f" ({count(size.active)} active)" if size.active else ""
        price = model.price
        rows.append(
            (
                model.id,
                size_text(size).replace("-", "–") + active,
                size.source,
                *[count(size.training_tokens)] * trained,
                dollars(price.input_nusd_per_ktok / 1e6),
                dollars(price.output_nusd_per_ktok / 1e6),
                price.dated,
            )
        )
    return Sheet(
        "models", "models", "",
        f"Models: parameters with the kind of their source, {'tokens of training, ' * trained}and "
        "the price per million tokens, in dollars, as of its date.",
        ("model", "parameters", "size is", *["trained on"] * trained, "input", "output", "priced"),
        tuple(rows), left=3,
    )  # fmt: skip


def _cells(results: Results, dataset: str, *, gated: bool) -> list[CellResult]:
    return [one for one in results.cells if one.cell.dataset == dataset and bool(one.gate) == gated]


def _grouped(keys: Sequence[object]) -> tuple[int, ...]:
    return tuple(k for k in range(1, len(keys)) if keys[k] != keys[k - 1])


def _deltas(results: Results, dataset: str, name: str, *, gated: bool) -> Sheet:
    cells = _cells(results, dataset, gated=gated)
    rows = [
        (
            arm_name(results, one.cell.protocol, one.cell.temperature),
            short(one.cell.model),
            percent(one.first.value),
            percent(one.last.value),
            "withheld" if one.withheld else estimate_text(one.delta),
            p_text(one.p_holm),
            "—" if one.fixed is None else str(one.fixed),
            "—" if one.broken is None else str(one.broken),
            str(one.delta.n),
            str(one.n_missing),
        )
        for one in cells
    ]
    level = f"{100 * results.settings.level:g} %"
    family = max((one.family_size for one in cells), default=0)
    methods = ", ".join(dict.fromkeys(one.delta.method for one in cells if one.delta.method))
    if gated:
        kind, caption = "oracle", (
            f"{dataset}, upper bound (oracle): told whether an answer is right, so delta can't be "
            f"negative and is not tested. Delta in points with its {level} interval ({methods})."
        )  # fmt: skip
    else:
        kind, caption = "deltas", (
            f"{dataset}: accuracy at turn 0 and at the last turn, delta in percentage points with "
            f"its {level} interval ({methods}), p adjusted by Holm over {family} cells, answers "
            "fixed and broken, complete pairs, and samples missing."
        )  # fmt: skip
    return Sheet(
        f"{kind}-{name}", kind, dataset, caption,
        ("protocol", "model", "first", "last", "delta", "p (Holm)", "fixed", "broken", "n",
         "missing"),
        tuple(rows), left=2, rules=_grouped([row[0] for row in rows]),
    )  # fmt: skip


def _benchmarks(results: Results, dataset: str, name: str) -> Sheet:
    scores = tables.overall_scores(results, dataset)
    rows = [
        (
            one.metric,
            arm_name(results, one.cell.protocol, one.cell.temperature),
            short(one.cell.model),
            in_unit(one.first.value, one.first.unit, signed=False),
            in_unit(one.last.value, one.last.unit, signed=False),
            _brief(one.delta),
        )
        for metric in dict.fromkeys(score.metric for score in scores)
        for one in scores
        if one.metric == metric
    ]
    level = f"{100 * results.settings.level:g} %"
    return Sheet(
        f"benchmarks-{name}", "benchmarks", dataset,
        f"{dataset}, as the benchmark itself scores it: at turn 0, at the last turn, and the "
        f"difference with its {level} interval (bootstrap within the benchmark's parts).",
        ("score", "protocol", "model", "first", "last", "difference"),
        tuple(rows), left=3, rules=_grouped([row[0] for row in rows]),
    )  # fmt: skip


def _means(results: Results) -> Sheet:
    """Each model's delta over all datasets, in the order of the other tables."""
    found = {
        (one.protocol, one.temperature, one.model): one.estimate
        for one in results.contrasts
        if one.quantity == "macro_delta"
    }
    cells = (one.cell for one in results.cells)
    order = dict.fromkeys((one.protocol, one.temperature, one.model) for one in cells)
    rows = [
        (
            arm_name(results, key[0], key[1]),
            short(key[2]),
            _brief(found[key]),
            str(found[key].n),
            str(found[key].n_missing),
        )
        for key in order
        if key in found
    ]
    methods = ", ".join(dict.fromkeys(one.method for one in found.values()))
    return Sheet(
        "deltas-all", "deltas", ALL_DATASETS,
        f"{ALL_DATASETS}: each model's delta in percentage points, the mean over datasets of equal "
        f"weight, with its {100 * results.settings.level:g} % interval ({methods}), complete "
        "pairs, and samples missing. Not tested.",
        ("protocol", "model", "delta", "n", "missing"), tuple(rows), left=2,
        rules=_grouped([row[0] for row in rows]),
    )  # fmt: skip


def _of(findings: Iterable[Finding], one: CellResult) -> dict[str, Finding]:
    cell = one.cell
    return {
        found.quantity: found
        for found in findings
        if (found.model, found.dataset, found.protocol, found.temperature)
        == (cell.model, cell.dataset, cell.protocol, cell.temperature)
    }


def _text(found: Mapping[str, Finding], quantity: str, *, signed: bool = True) -> str:
    one = found.get(quantity)
    return "—" if one is None else _brief(one.estimate, signed=signed)


def _brief(estimate: Estimate, *, signed: bool = True) -> str:
    """An estimate in a table: its note is no number, and stays outside."""
    if estimate.value is None and estimate.low is None and estimate.high is None:
        return "—"
    return estimate_text(estimate, signed=signed)


def _flips(results: Results, dataset: str, name: str) -> Sheet:
    own = [f for f in results.flips if f.dataset == dataset]
    cells, rows = [], []
    for one in [c for gated in (False, True) for c in _cells(results, dataset, gated=gated)]:
        found = _of(own, one)
        name_of = arm_name(results, one.cell.protocol, one.cell.temperature)
        arm = f"{name_of} (upper bound)" if one.gate else name_of
        if "stay_right" in found:
            cells.append(one)
            rows.append(
                (
                    arm,
                    short(one.cell.model),
                    _text(found, "stay_right", signed=False),
                    _text(found, "fix_wrong", signed=False),
                    _text(found, "stay_right_less_null"),
                    _text(found, "fix_wrong_less_null"),
                    _text(found, "answer_changed", signed=False),
                )
            )
    return Sheet(
        f"flips-{name}", "flips", dataset,
        f"{dataset}: how often a right answer stays right and a wrong one is fixed, each also less "
        "what answering afresh does (in points), and how often the answer changed at all; "
        f"with {100 * results.settings.level:g} % intervals, not adjusted.",
        ("protocol", "model", "stays right", "is fixed", "stays, less null", "fixed, less null",
         "changed"),
        tuple(rows), left=2, rules=_grouped([row[0] for row in rows]),
    )  # fmt: skip


def _controls(results: Results, dataset: str, name: str) -> Sheet:
    own = [f for f in results.contrasts if f.dataset == dataset]
    rows = []
    for one in [c for gated in (False, True) for c in _cells(results, dataset, gated=gated)]:
        found = _of(own, one)
        name_of = arm_name(results, one.cell.protocol, one.cell.temperature)
        arm = f"{name_of} (upper bound)" if one.gate else name_of
        for quantity, words in (
            ("delta_less_resample", "delta less that of answering afresh"),
            ("accuracy_less_vote_of_equal_cost", "accuracy less that of a {}"),
            ("accuracy_less_best_of", "accuracy less that of the {} (oracle)"),
        ):
            row = found.get(quantity)
            if row is not None:
                rows.append(
                    (
                        arm,
                        short(one.cell.model),
                        words.format(row.versus),
                        _brief(row.estimate),
                        p_text(row.p_adjusted),
                    )
                )
    return Sheet(
        f"controls-{name}", "controls", dataset,
        f"{dataset}: every protocol against its controls on the same items, in points, with "
        f"{100 * results.settings.level:g} % intervals; p adjusted by Benjamini and Hochberg.",
        ("protocol", "model", "compared", "difference", "p (BH)"), tuple(rows), left=3,
        rules=_grouped([row[0] for row in rows]),
    )  # fmt: skip


def _costs(results: Results, dataset: str, name: str) -> Sheet:
    own = [f for f in results.costs if f.dataset == dataset]
    rows = []
    for one in _cells(results, dataset, gated=False):
        found = _of(own, one)
        price = found.get("usd_per_right_answer")
        if "cost_extra" not in found:
            continue
        note = price.estimate.note if price else ""
        for_one = _text(found, "usd_per_right_answer")
        if note.startswith("dominated"):
            for_one = "dominated"
        elif "set:" in note:
            for_one = "unbounded"
        worths = [
            _text(found, f"acceptability_at_{usd:g}", signed=False)
            for usd in results.settings.usd_per_corrected
        ]
        rows.append(
            (
                arm_name(results, one.cell.protocol, one.cell.temperature),
                short(one.cell.model),
                _value(found, "cost_first"),
                _value(found, "cost_extra"),
                for_one,
                *worths,
            )
        )
    pays = [f"pays at ${usd:g}" for usd in results.settings.usd_per_corrected]
    return Sheet(
        f"costs-{name}", "costs", dataset,
        f"{dataset}: dollars for the first answers of 1,000 items and for their correction, as "
        "deployed; dollars for one more right answer with Fieller's interval (dominated: it costs "
        "and gains nothing; unbounded: delta may be zero); and the share of replicates in which "
        "correction pays, by what a right answer is worth.",
        ("protocol", "model", "first", "correction", "one more right answer", *pays),
        tuple(rows), left=2, rules=_grouped([row[0] for row in rows]),
    )  # fmt: skip


def _value(found: Mapping[str, Finding], quantity: str) -> str:
    one = found.get(quantity)
    return "—" if one is None else per_thousand(one.estimate.value)


def _frontier(results: Results, dataset: str, name: str) -> Sheet:
    own = [
        point
        for point in results.frontier
        if point.dataset == dataset and (point.membership.value or 0.0) >= _SHOWN
    ]
    own.sort(key=lambda point: (point.cost_usd.value or 0.0, point.model, point.protocol))
    rows = tuple(
        (
            short(point.model),
            arm_name(results, point.protocol, point.temperature),
            per_thousand(point.cost_usd.value),
            estimate_text(point.accuracy, signed=False),
            percent(point.membership.value),
        )
        for point in own
    )
    return Sheet(
        f"frontier-{name}", "frontier", dataset,
        f"{dataset}: ways to an answer that are undominated (none other is cheaper and as "
        f"accurate) in at least {100 * _SHOWN:g} % of the replicates, cheapest first, as deployed.",
        ("model", "way", "cost of 1,000 items", "accuracy", "undominated"), rows, left=2,
    )  # fmt: skip


def _scaling(results: Results, dataset: str, name: str) -> Sheet:
    rows = [
        (
            arm_name(results, fit.protocol, fit.temperature),
            "not fitted" if fit.form == "none" else fit.form.replace("_", "-"),
            str(fit.n_models),
            _figure(fit.delta_aicc),
            _figure(fit.weight),
            _figure(fit.left_out_skill),
            "—" if fit.r2 is None else _r2(fit.r2),
            _shape(results, fit),
        )
        for fit in results.scaling
        if fit.dataset == dataset
    ]
    columns = (
        "protocol",
        "form",
        "models",
        "AICc",
        "weight",
        "skill",
        "R²",
        "parameters, or why not",
    )
    shown = len(columns) - all(row[-1] == "—" for row in rows)
    return Sheet(
        f"scaling-{name}", "scaling", dataset,
        f"{dataset}: forms of delta against size: AICc less that of the best, Akaike weight, log "
        "score of left-out models less that of a constant, and unweighted R². Parameters are given "
        "only where the evidence allows a form to be claimed.",
        columns[:shown], tuple(row[:shown] for row in rows), left=2,
        rules=_grouped([row[0] for row in rows]),
    )  # fmt: skip


def _r2(made: Estimate) -> str:
    if made.low is None or made.high is None:
        return _figure(made.value)
    return f"{_figure(made.value)} [{_figure(made.low)}, {_figure(made.high)}]"


def _shape(results: Results, fit: FormFit) -> str:
    """The form's parameters, only where a form may be claimed and it is the best one."""
    if fit.form == "none":
        return fit.note
    if rung(results, fit.protocol, fit.temperature) < 3 or fit.delta_aicc != 0:
        return "—"
    return "; ".join(
        f"{name} {_brief(made)}" for name, made in fit.parameters.items() if "exact" not in name
    )


def _figure(value: float | None) -> str:
    if value is None:
        return "—"
    text = f"{value:.2f}"
    return "0.00" if text == "-0.00" else text.replace("-", "−")
