"""The study as one HTML page that works from disk: no request leaves it, and it computes nothing.

A strict policy stands in the page itself: no source at all but its own style and script, by hash.
The same results, ledger and lock give the same bytes.
"""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files
from pathlib import Path

import msgspec

from deltascale import ledger
from deltascale.analysis import Results
from deltascale.errors import Mistake
from deltascale.ledger import Ledger
from deltascale.report.page import method, sections
from deltascale.report.page.charts import Index, chart_data
from deltascale.report.page.inert import Html, embedded, join, tag
from deltascale.report.page.transcripts import examples

__all__ = ["FILE", "build", "render"]

FILE = "index.html"

_SECTIONS = (
    ("answer", "Answer"),
    ("health", "Health"),
    ("deltas", "Change"),
    ("flips", "Flips"),
    ("scaling", "Size"),
    ("cost", "Cost"),
    ("tasks", "Tasks"),
    ("sensitivity", "Sensitivity"),
    ("method", "Method"),
    ("examples", "Examples"),
)


def build(results: Results, folder: Path, *, ledger_file: Path, lock_file: Path) -> Path:
    """Write `index.html` into the folder, whole or not at all, and return its path.

    `ledger_file` and `lock_file` are those that the results came from. Raises Mistake and
    LedgerMistake where they can't be read.
    """
    try:
        locked = lock_file.read_bytes()
        with ledger.read(ledger_file) as book:
            text = render(results, book, locked)
    except (OSError, msgspec.MsgspecError) as error:
        raise Mistake(
            f"the lock can't be read ({error})", where=str(lock_file), remedy="restore it"
        ) from None
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / FILE
    part = path.with_suffix(".part")
    part.write_text(text, encoding="utf-8", newline="\n")
    part.replace(path)
    return path


def render(results: Results, book: Ledger, lock: bytes) -> str:
    """The page's text. `lock` is the JSON of the study's lock."""
    locked = msgspec.json.decode(lock, type=method.Locked)
    index = Index(results)
    drawn = examples(book, [one.cell for one in results.cells])
    # The data first: it is what gives every name its place.
    data = embedded(chart_data(results, drawn, index))
    body = join(
        sections.answer(results),
        method.health(results, book.status()),
        sections.deltas(results, index),
        sections.flips(results),
        sections.scaling(results),
        sections.cost(results, index),
        sections.tasks(results, index),
        sections.sensitivity(results),
        method.method(results, locked, book.served()),
        sections.examples(len(drawn.shown), drawn.n_flips),
    )
    return _document(results, body, data)


def _document(results: Results, body: Html, data: Html) -> str:
    style, script = (
        files(__name__).joinpath(name).read_text(encoding="utf-8")
        for name in ("page.css", "page.js")
    )
    policy = (
        "default-src 'none'; base-uri 'none'; form-action 'none'; "
        f"style-src '{_hash(style)}'; script-src '{_hash(script)}'"
    )
    simulated = [one for one in results.study.models if one.provider == "simulated"]
    name = results.study.name
    title = f"{name}: does self-correction help, and is it worth its price?"
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("title", f"{'Simulated: ' if simulated else ''}{title}"),
        tag("style", Html(style)),
    )
    content = tag(
        "body",
        tag("a", "To the answer", href="#answer", class_="skip"),
        _header(name, simulated_all=len(simulated) == len(results.study.models),
                n_simulated=len(simulated)),
        _filters(),
        tag("main", body, id="main"),
        tag(
            "footer",
            "Made by deltascale. Every number is an estimate of this study's record; tables of all "
            "of them are in results/.",
        ),
        _hatch(),
        tag("script", data, type="application/json", id="data"),
        tag("script", Html(script)),
    )  # fmt: skip
    return f"<!doctype html>\n{tag('html', head, content, lang='en')}\n"


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _header(name: str, *, simulated_all: bool, n_simulated: int) -> Html:
    label = None
    if n_simulated:
        which = "All models" if simulated_all else f"{n_simulated} of the models"
        label = tag(
            "p",
            f"{which} are simulated: their numbers say nothing about any real model.",
            class_="simulated",
        )
    links = [tag("li", tag("a", text, href=f"#{place}")) for place, text in _SECTIONS]
    return tag(
        "header",
        tag("h1", name),
        label,
        tag("noscript", tag("p", "Charts, filters and transcripts need JavaScript; the words and "
                                 "tables do not.", class_="simulated")),
        tag("nav", tag("ul", *links), aria_label="Sections"),
    )  # fmt: skip


def _filters() -> Html:
    labels = [
        tag("label", f"{name.capitalize()} ", tag("select", tag("option", "all", value=""),
                                                  id=f"f-{name}"))
        for name in ("model", "dataset", "protocol", "temperature")
    ]  # fmt: skip
    return tag(
        "form",
        *labels,
        tag("button", "Show all", type="button", id="f-reset"),
        tag("button", "Light or dark", type="button", id="theme"),
        class_="filters",
        role="search",
        aria_label="Filters of charts, tables and transcripts",
    )


def _hatch() -> Html:
    """The pattern that marks extrapolation, used by every chart."""
    line = tag("line", x1=0, y1=0, x2=0, y2=8, class_="hatch-line", stroke_width=2)
    pattern = tag("pattern", line, id="hatch", width=8, height=8, patternUnits="userSpaceOnUse",
                  patternTransform="rotate(45)")  # fmt: skip
    return tag("svg", tag("defs", pattern), width=0, height=0, aria_hidden="true")
