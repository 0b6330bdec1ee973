"""A paper as LaTeX: title, abstract and content apart, so that any conference's style can hold
them. Every text is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from deltascale.report.latex import captioned, escape, single
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

__all__ = ["sources"]

_FORMULAS = {
    "delta": r"$\Delta = \mathrm{acc}_{\mathrm{last}} - \mathrm{acc}_{0}$",
    "identity": r"$\Delta = (1 - \mathrm{acc}_0)\,\mathrm{CS} - \mathrm{acc}_0\,(1 - "
    r"\mathrm{CL})$",
}


def sources(paper: Paper) -> dict[str, str]:
    """File name → text, of what `paper.tex` puts together."""
    content = [_section(one) for one in paper.sections]
    content.append("\\bibliographystyle{plainnat}\n\\bibliography{references}\n")
    if paper.appendix:
        content += ["\\clearpage\n\\appendix\n", *(_section(one) for one in paper.appendix)]
    return {
        "title.tex": f"\\newcommand{{\\papertitle}}{{{escape(paper.title)}}}\n"
        f"\\newcommand{{\\paperauthors}}{{{escape(paper.authors)}}}\n",
        "abstract.tex": f"{_said(paper.abstract)}\n",
        "content.tex": "\n".join(content),
    }


def _section(one: Section) -> str:
    blocks = "\n".join(_block(block) for block in one.blocks)
    return f"\\section{{{escape(one.title)}}}\n{blocks}"


def _block(one: Block) -> str:
    match one:
        case Paragraph():
            lead = f"\\textbf{{{escape(one.lead)}}} " if one.lead else ""
            return f"{lead}{_said(one.sentences)}\n\n" if one.sentences else ""
        case Entries():
            return _entries(one.entries)
        case Quote():
            # Each line is a paragraph: none can then be an option of the one before it.
            lines = [
                f"{{\\ttfamily {escape(line)}}}\\par" if line.strip() else ""
                for line in one.text.splitlines()
            ]
            inside = "\\begin{quote}\\small\n" + "\n".join(lines) + "\n\\end{quote}\n"
            return f"\\emph{{{escape(one.label)}}}\n{inside}"
        case Table():
            return captioned(one.sheet)
        case Figure():
            return (
                "\\begin{figure*}[tp]\n\\centering\n"
                f"\\includegraphics[width=\\textwidth]{{figures/{single(one.name)}-page.pdf}}\n"
                f"\\caption{{{escape(one.caption)}}}\n\\label{{fig-{one.name}}}\n\\end{{figure*}}\n"
            )


def _entries(entries: Iterable[tuple[str, Sequence[Sentence]]]) -> str:
    made = []
    for head, said in entries:
        bold = f"{{\\bfseries {escape(head)}}} " if head else ""
        made.append(f"\\item {bold}{_said(said)}")
    return "\\begin{itemize}\n" + "\n".join(made) + "\n\\end{itemize}\n" if made else ""


def _said(found: Sequence[Sentence]) -> str:
    return "\n".join("".join(_inline(part) for part in sentence) for sentence in found)


def _inline(part: Inline) -> str:
    match part:
        case str():
            return escape(part)
        case Cite():
            return f"~\\citep{{{','.join(part.keys)}}}"
        case Ref():
            return f"\\ref{{{part.kind}-{part.name}}}"
        case Code():
            return f"\\texttt{{{escape(part.text)}}}"
        case Formula():
            return _FORMULAS[part.name]
