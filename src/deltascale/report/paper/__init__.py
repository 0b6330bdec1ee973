"""A study as a paper: LaTeX source with its figures and tables, and a PDF that needs no TeX.

The words come from sentence functions that say nothing without evidence; the numbers from
estimates. Computes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from deltascale.analysis import Results
from deltascale.analysis.power import PowerRow
from deltascale.analysis.results import ALL_DATASETS
from deltascale.report import figures, latex
from deltascale.report.figures import Picture
from deltascale.report.latex import Sheet
from deltascale.report.paper import closing, findings, methods, tex, typeset
from deltascale.report.paper.document import (
    Block,
    Figure,
    Paper,
    Paragraph,
    Section,
    Sentence,
    Table,
    changed,
    sentences,
)
from deltascale.report.paper.record import Record, read

__all__ = ["Record", "compose", "read", "write"]

_BODY = ("scaling", "frontier", "power")
"""Pictures that stand in the text once, of all datasets where there are several."""
_LEFT_OUT = ("flips",)
"""Pictures whose numbers a table of the paper has."""


def compose(
    results: Results, record: Record, *, anonymous: bool = False, power: Sequence[PowerRow] = ()
) -> Paper:
    """The paper, before it is set. `anonymous`: no authors, paths, addresses or commits."""
    pictures = [one for one in figures.pictures(results, power=power) if one.kind not in _LEFT_OUT]
    sheets = [part for sheet in latex.sheets(results) for part in latex.parts(sheet)]
    advised = closing.recommendations(results)
    front = [one for one in pictures if one.kind in _BODY and _stands_for_all(one, results)]
    shown = _Shown(front, sheets)
    sections = (
        methods.introduction(),
        methods.methodology(results, record, {sheet.name: sheet for sheet in sheets}),
        _results(results, shown),
        _cost(results, shown),
        Section(
            "Patterns by task and recommendations",
            (
                Paragraph(findings.task_patterns(results)),
                *(Table(part) for sheet in (advised,) if sheet for part in latex.parts(sheet)),
            ),
        ),
        closing.practice(results),
        closing.limitations(results),
        closing.reproducibility(results, record, anonymous=anonymous),
    )
    rest = [one for one in pictures if one not in front]
    paper = Paper(
        _title(results),
        "Anonymous authors" if anonymous else "",
        findings.abstract(results),
        sections,
        _appendix(results, rest, sheets),
    )
    return changed(paper, _veiled) if anonymous else paper


def write(
    results: Results,
    record: Record,
    directory: Path,
    *,
    anonymous: bool = False,
    power: Sequence[PowerRow] = (),
) -> tuple[Path, ...]:
    """Write the paper: `paper.pdf`, its LaTeX and typst sources, `figures/` and `tables/`.

    Raises MissingExtra where matplotlib or typst is not installed, before anything is written.
    """
    typeset.require()
    paper = compose(results, record, anonymous=anonymous, power=power)
    used = {
        block.name
        for section in (*paper.sections, *paper.appendix)
        for block in section.blocks
        if isinstance(block, Figure)
    }
    made = figures.draw(
        results,
        directory / "figures",
        power=power,
        widths=("page",),
        formats=("pdf", "svg"),
        wanted=lambda picture: picture.name in used,
    )
    texts = tex.sources(paper)
    for name in ("paper.tex", "paper.typ", "references.bib"):
        texts[name] = (files(__package__) / name).read_text(encoding="utf-8")
    written = [_put(directory / name, text.encode()) for name, text in sorted(texts.items())]
    written.append(_put(directory / "paper.json", typeset.source(paper)))
    written.append(_put(directory / "paper.pdf", typeset.pdf(directory / "paper.typ")))
    return (*made, *latex.write(results, directory / "tables"), *written)


def _put(path: Path, content: bytes) -> Path:
    part = path.with_name(f"{path.name}.part")
    part.write_bytes(content)
    part.replace(path)
    return path


# --- what stands where ---------------------------------------------------------------------------


class _Shown:
    """The pictures of the text and all sheets, by kind."""

    def __init__(self, pictures: Sequence[Picture], sheets: Sequence[Sheet]) -> None:
        self._pictures, self._sheets = pictures, sheets

    def figures(self, kind: str) -> tuple[Figure, ...]:
        return tuple(Figure(one.name, one.caption) for one in self._pictures if one.kind == kind)

    def tables(self, kind: str) -> tuple[Table, ...]:
        return tuple(Table(one) for one in self._sheets if one.kind == kind)


def _title(results: Results) -> str:
    study = results.study
    n, d = len(study.models), len(study.datasets)
    simulated = all(model.provider == "simulated" for model in study.models)
    models = f"{n} {'simulated ' if simulated else ''}language model{'s' if n != 1 else ''}"
    return (
        f"Does asking again help? Self-correction of {models} on {d} dataset{'s' if d != 1 else ''}"
    )


def _stands_for_all(picture: Picture, results: Results) -> bool:
    several = len({one.cell.dataset for one in results.cells}) > 1
    return not several or picture.about == ALL_DATASETS


def _results(results: Results, shown: _Shown) -> Section:
    datasets = dict.fromkeys(one.cell.dataset for one in results.cells)
    first = sentences(*(findings.first_answers(results, name) for name in datasets))
    pooled = ALL_DATASETS if len(datasets) > 1 else next(iter(datasets), "")
    scaling = tuple(t for t in shown.tables("scaling") if t.sheet.about == pooled)
    spoken: tuple[tuple[str, tuple[Sentence, ...], tuple[Block, ...]], ...] = (
        ("First answers.", first, ()),
        ("Deltas.", findings.changes(results), shown.tables("deltas")),
        ("Missing answers.", findings.missing(results), ()),
        ("Flips.", findings.flipping(results), ()),
        ("Controls.", findings.control(results), ()),
        ("Turns.", findings.turning(results), ()),
        (
            "Size.",
            findings.sizes(results),
            (*shown.figures("scaling"), *scaling),
        ),
        ("Beyond these models and datasets.", findings.generalising(results), ()),
        ("Sensitivity.", findings.sensitive(results), ()),
        ("What could have been seen.", (), shown.figures("power")),
        ("Upper bound.", findings.oracle(results), shown.tables("oracle")),
    )
    blocks: list[Block] = []
    for lead, said, beside in spoken:
        if said:
            blocks.append(Paragraph(said, lead))
        blocks += beside
    return Section("Results", tuple(blocks))


def _cost(results: Results, shown: _Shown) -> Section:
    said = findings.cost(results)
    blocks: tuple[Block, ...] = (Paragraph(said),) if said else ()
    datasets = dict.fromkeys(one.cell.dataset for one in results.cells)
    pooled = ALL_DATASETS if len(datasets) > 1 else next(iter(datasets), "")
    tables = tuple(t for t in shown.tables("frontier") if t.sheet.about == pooled)
    return Section("Cost and benefit", (*blocks, *shown.figures("frontier"), *tables))


def _appendix(
    results: Results, pictures: Sequence[Picture], sheets: Sequence[Sheet]
) -> tuple[Section, ...]:
    """Every further table and picture, dataset by dataset."""
    made = []
    several = len({one.cell.dataset for one in results.cells}) > 1
    for dataset in dict.fromkeys(one.cell.dataset for one in results.cells):
        blocks: list[Block] = [
            Figure(one.name, one.caption) for one in pictures if one.about == dataset
        ]
        blocks += [
            Table(sheet)
            for sheet in sheets
            if sheet.about == dataset
            and sheet.kind not in ("deltas", "oracle")
            and (several or sheet.kind not in ("scaling", "frontier"))
        ]
        if blocks:
            made.append(Section(f"More on {dataset}", tuple(blocks)))
    return tuple(made)


# --- a blind review ------------------------------------------------------------------------------

_PATTERNS = (
    (re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s)\]}>,;]+", re.IGNORECASE), "[address withheld]"),
    (re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+"), "[address withheld]"),
    (re.compile(r"(?<![\w$])(?:~|\.{1,2})?(?:/[\w.@+-]+){2,}/?"), "[path withheld]"),
    (re.compile(r"(?i)\b[a-z]:\\[^\s]+|\\\\[\w.-]+\\[^\s]+"), "[path withheld]"),
    (re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?::\d+)?(?![\w.])"), "[address withheld]"),
    (
        re.compile(
            r"(?i)(?<![\w.-])(?:[\w-]+\.)+(?:com|org|net|edu|gov|io|ai|dev|local|lan|internal|corp|"
            r"ac|uk|de|fr|cn|jp|ch|eu|ca|au)(?::\d+)?(?![\w-])"
        ),
        "[address withheld]",
    ),
)


def _veiled(text: str) -> str:
    """The text without addresses, hosts and paths."""
    for pattern, instead in _PATTERNS:
        text = pattern.sub(instead, text)
    return text
