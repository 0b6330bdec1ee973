"""A paper as JSON for the typst template, and as PDF: no TeX, no system fonts, no network."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TypeAlias

import msgspec

from deltascale.errors import MissingExtra
from deltascale.report.latex import Sheet, single
from deltascale.report.paper.document import (
    Block,
    Cite,
    Code,
    Entries,
    Figure,
    Formula,
    Inline,
    Paper,
    Paragraph,
    Quote,
    Ref,
    Section,
    Sentence,
    Table,
)

__all__ = ["pdf", "require", "source"]

Json: TypeAlias = "str | int | float | bool | list[Json] | dict[str, Json] | None"

_CHARACTERS = 138
"""Of the type of tables at 8 pt, on one line of the page."""


def source(paper: Paper) -> bytes:
    """`paper.json`."""
    made: Json = {
        "title": single(paper.title),
        "authors": single(paper.authors),
        "abstract": _said(paper.abstract),
        "sections": [_section(one) for one in paper.sections],
        "appendix": [_section(one) for one in paper.appendix],
    }
    return msgspec.json.format(msgspec.json.encode(made), indent=1) + b"\n"


def require() -> None:
    """Raises MissingExtra where typst is not installed."""
    if find_spec("typst") is None:
        raise MissingExtra(
            "a paper's PDF needs typst", remedy="install it with: pip install 'deltascale[paper]'"
        )


def pdf(template: Path) -> bytes:
    """The PDF of `paper.typ` beside its JSON, bibliography and figures.

    Raises MissingExtra where typst is not installed.
    """
    require()
    import typst

    made = typst.compile(str(template), root=str(template.parent), ignore_system_fonts=True)
    if not isinstance(made, bytes):
        raise TypeError("typst gives one document as bytes")
    return made


def _section(one: Section) -> Json:
    return {"title": single(one.title), "blocks": [_block(block) for block in one.blocks]}


def _block(one: Block) -> Json:
    match one:
        case Paragraph():
            said = _said(one.sentences)
            return {"kind": "paragraph", "lead": single(one.lead), "sentences": said}
        case Entries():
            entries: list[Json] = [
                {"head": single(head), "said": _said(said)} for head, said in one.entries
            ]
            return {"kind": "entries", "entries": entries}
        case Quote():
            lines: list[Json] = [single(line) for line in one.text.splitlines()]
            return {"kind": "quote", "label": single(one.label), "lines": lines}
        case Table():
            return _table(one.sheet)
        case Figure():
            return {
                "kind": "figure",
                "file": f"figures/{one.name}-page.svg",
                "label": f"fig-{one.name}",
                "caption": single(one.caption),
            }


def _table(sheet: Sheet) -> Json:
    """The table, in smaller type where its columns need it."""
    wide = sum(
        max(len(row[k]) for row in (sheet.columns, *sheet.rows)) + 2
        for k in range(len(sheet.columns))
    )
    size = max(5.0, min(8.0, 8.0 * _CHARACTERS / wide))
    return {
        "kind": "table",
        "label": f"tab-{sheet.name}",
        "caption": single(sheet.caption),
        "columns": [single(column) for column in sheet.columns],
        "rows": [[single(cell) for cell in row] for row in sheet.rows],
        "left": sheet.left,
        "rules": list(sheet.rules),
        "size": round(size, 2),
    }


def _said(found: Sequence[Sentence]) -> Json:
    return [[_inline(part) for part in sentence] for sentence in found]


def _inline(part: Inline) -> Json:
    match part:
        case str():
            return {"kind": "text", "text": single(part)}
        case Cite():
            return {"kind": "cite", "keys": list(part.keys)}
        case Ref():
            return {"kind": "ref", "to": f"{part.kind}-{part.name}"}
        case Code():
            return {"kind": "code", "text": single(part.text)}
        case Formula():
            return {"kind": "formula", "name": part.name}
