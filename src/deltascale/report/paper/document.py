"""A paper before it is set: sections of paragraphs, tables, figures, lists and quotations.

Text is only text here; the two writers escape it. Formulas are named and written out by each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from deltascale.report.latex import Sheet

__all__ = [
    "Block", "Cite", "Code", "Entries", "Figure", "Formula", "Inline", "Paper", "Paragraph",
    "Quote", "Ref", "Section", "Sentence", "Table", "changed", "sentences", "text_of",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Cite:
    """Sources by their keys in `references.bib`."""

    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ref:
    """A table or figure of this paper: `kind` is `tab` or `fig`."""

    kind: str
    name: str


@dataclass(frozen=True, slots=True)
class Code:
    """Text in a fixed-width face."""

    text: str


@dataclass(frozen=True, slots=True)
class Formula:
    """One of the formulas that both writers know, by name."""

    name: str


Inline: TypeAlias = str | Cite | Ref | Code | Formula
Sentence: TypeAlias = tuple[Inline, ...]


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Sentences under an optional lead-in."""

    sentences: tuple[Sentence, ...]
    lead: str = ""


@dataclass(frozen=True, slots=True)
class Entries:
    """A list: each entry has a head, which may be empty, and sentences."""

    entries: tuple[tuple[str, tuple[Sentence, ...]], ...]


@dataclass(frozen=True, slots=True)
class Quote:
    """Words as they were sent, line by line, under a label."""

    label: str
    text: str


@dataclass(frozen=True, slots=True)
class Table:
    sheet: Sheet


@dataclass(frozen=True, slots=True)
class Figure:
    """`name` is the picture's; its file lies in `figures/`."""

    name: str
    caption: str


Block: TypeAlias = Paragraph | Entries | Quote | Table | Figure


@dataclass(frozen=True, slots=True)
class Section:
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class Paper:
    """`authors` is empty where the authors are to be filled in."""

    title: str
    authors: str
    abstract: tuple[Sentence, ...]
    sections: tuple[Section, ...]
    appendix: tuple[Section, ...]


def sentences(*made: Sentence | str | None) -> tuple[Sentence, ...]:
    """Those that have evidence: None is left out."""
    return tuple((one,) if isinstance(one, str) else one for one in made if one)


def text_of(found: Sequence[Sentence]) -> str:
    """The words alone, without sources, references and formulas."""
    return " ".join(
        "".join(
            part if isinstance(part, str) else part.text if isinstance(part, Code) else ""
            for part in sentence
        )
        for sentence in found
    )


def changed(paper: Paper, change: Callable[[str], str]) -> Paper:
    """The paper with every text changed, those of tables too."""

    def spoken(found: tuple[Sentence, ...]) -> tuple[Sentence, ...]:
        return tuple(tuple(inline(part) for part in sentence) for sentence in found)

    def inline(part: Inline) -> Inline:
        if isinstance(part, str):
            return change(part)
        return Code(change(part.text)) if isinstance(part, Code) else part

    def block(one: Block) -> Block:
        match one:
            case Paragraph():
                return Paragraph(spoken(one.sentences), change(one.lead))
            case Entries():
                return Entries(tuple((change(head), spoken(said)) for head, said in one.entries))
            case Quote():
                return Quote(change(one.label), change(one.text))
            case Figure():
                return Figure(one.name, change(one.caption))
            case Table():
                rows = tuple(tuple(change(cell) for cell in row) for row in one.sheet.rows)
                return Table(replace(one.sheet, caption=change(one.sheet.caption), rows=rows))

    def section(one: Section) -> Section:
        return Section(change(one.title), tuple(block(inner) for inner in one.blocks))

    return Paper(
        change(paper.title),
        paper.authors,
        spoken(paper.abstract),
        tuple(section(one) for one in paper.sections),
        tuple(section(one) for one in paper.appendix),
    )
