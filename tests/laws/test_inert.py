"""What a model, a server or a file says is shown and does nothing: page, terminal, tables."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.console import Console

from deltascale import ledger
from deltascale.engine import Progress
from deltascale.records import Failure, Reply, Request, Usage
from deltascale.report import advice, latex, tables, terminal
from deltascale.report.page.inert import embedded, tag
from deltascale.report.wording import visible, within
from tests import pages

HOSTILE = (
    "<script>window.pwned = 1</script>",
    "</script><script>window.pwned = 1</script>",
    "<!--<script>", "]]>", "--></style><style>*{display:none}</style>",
    '<img src=x onerror="window.pwned=1">',
    '"><svg onload=window.pwned=1>',
    "<a href='javascript:window.pwned=1'>here</a> javascript:window.pwned=1",
    "<iframe src=https://example.org></iframe><link rel=stylesheet href=//example.org/x.css>",
    "<style>body{display:none}</style><div style='position:fixed;inset:0'>",
    "<base href=https://example.org/><meta http-equiv=refresh content=0;url=//example.org>",
    "&lt;script&gt; &#x3c;script&#x3e; \\u003cscript\\u003e ${window.pwned=1} {{7*7}}",
    "\x1b[31mred\x1b[2J\x1b]0;title\x07 \x9b31m bell\x07 back\x08 null\x00 \x7f",
    "\u202eright to left\u202c \u2066isolated\u2069 \u200f \u061c",
    "zero\u200bwidth \ufeff soft\u00adhyphen \U000e0041tag \u2028line\u2029paragraph",
    "=HYPERLINK(\"http://example.org\";\"x\") +1+1 -2+3 @SUM(1) [bold]markup[/] [link=x]y[/link]",
    "$\\write18{id}$ \\input{/etc/passwd} #eval(1) %",
    "Z\u0335\u0321a\u0336\u0322l\u0337" * 50,
)  # fmt: skip
UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff"
    "\U000e0000-\U000e007f\ud800-\udfff]"
)
MEGABYTE = "<b>x</b> " * 120_000


async def hostile(request: Request) -> Reply:
    """Replies that try everything, one of them a megabyte; a part of the later ones is right."""
    made = await pages.gaining(0.3)(request)
    number = int(re.findall(r"What is (\d+)", request.messages[0].content)[0])
    evil = MEGABYTE if number == 3 else HOSTILE[number % len(HOSTILE)]
    text = f"{evil}\n{made.text.splitlines()[-1]}"
    return Reply(text, "stop", Usage(10, 10), model_served=HOSTILE[1] + HOSTILE[12])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> pages.Made:
    """A study whose models, besides what they reply, have hostile names."""
    folder = tmp_path_factory.mktemp("hostile")
    named = [
        msgspec.structs.replace(one, id=f"openai/{name}", name=f"m{n + 3}")
        for n, (one, name) in enumerate(
            zip(pages.models()[3:], (HOSTILE[5], "=1+1", HOSTILE[12], HOSTILE[13]), strict=True)
        )
    ]
    return pages.make(
        folder, hostile, of=named, n_items=40, names=("review", "resample", "oracle"),
        change=lambda study: msgspec.structs.replace(study, name=HOSTILE[1]),
    )  # fmt: skip


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with pages.chromium() as found:
        yield found


def test_the_page_in_a_browser(made: pages.Made, browser: Any) -> None:
    with pages.opened(browser, made.page) as found:
        tab = found.page
        while tab.is_visible("#more"):
            tab.click("#more")
        tab.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
        tab.wait_for_selector(".example:not(:has(.turn))", state="detached")
        text = tab.inner_text("#transcripts")
        assert "<script>window.pwned = 1</script>" in text, "it is shown as it was said"
        assert "characters are left out here" in text
        assert tab.evaluate("window.pwned") is None
        counts = tab.evaluate(
            "['script', 'style', 'img', 'iframe', 'link', 'base', 'object', 'embed', 'form']"
            ".map((name) => document.querySelectorAll(name).length)"
        )
        assert counts == [2, 1, 0, 0, 0, 0, 0, 0, 1]
        links = tab.eval_on_selector_all("a", "all => all.map((a) => a.getAttribute('href'))")
        assert all(link.startswith("#") for link in links)
        handlers = tab.evaluate(
            "[...document.querySelectorAll('*')].flatMap((e) => [...e.attributes])"
            ".filter((a) => a.name.startsWith('on')).length"
        )
        assert handlers == 0
        whole = tab.evaluate("document.body.textContent + document.title")
        assert not UNSEEN.search(whole), "a control or invisible character is left"
        wide = tab.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert wide[0] <= wide[1]
        assert found.asked == [made.page.as_uri()]
        assert found.said == []


@pytest.mark.slow
def test_a_script_that_gets_in_is_still_not_run(made: pages.Made, browser: Any) -> None:
    """The policy in the page: were a text ever put in as markup, nothing of it would run."""
    with pages.opened(browser, made.page) as found:
        found.page.evaluate(
            """() => {
                const holder = document.createElement("div");
                document.body.append(holder);
                holder.innerHTML = '<img src="https://example.org/x.png" onerror="window.pwned=1">';
                const script = document.createElement("script");
                script.textContent = "window.pwned = 1";
                holder.append(script);
            }"""
        )
        found.page.wait_for_timeout(50)
        assert found.page.evaluate("window.pwned") is None
        assert sum("Content Security Policy" in line for line in found.said) >= 2


def test_the_page_as_markup(made: pages.Made) -> None:
    text = made.page.read_text(encoding="utf-8")
    seen: list[tuple[str, list[tuple[str, str | None]]]] = []

    class Reader(HTMLParser):
        def handle_starttag(self, name: str, attrs: list[tuple[str, str | None]]) -> None:
            seen.append((name, attrs))

    Reader().feed(text)
    names = {name for name, _ in seen}
    assert not names & {"img", "iframe", "link", "base", "object", "embed", "b"}
    assert [name for name, _ in seen].count("script") == 2
    for _, attrs in seen:
        for key, value in attrs:
            assert not key.startswith("on")
            assert key not in ("src", "style", "srcset", "action")
            assert key != "href" or str(value).startswith("#")
    policy = [dict(attrs) for name, attrs in seen if name == "meta"][1]["content"] or ""
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy


def test_the_terminal(made: pages.Made) -> None:
    out = io.StringIO()
    shown = Console(file=out, width=100, force_terminal=False, highlight=False)
    terminal.show_results(shown, made.results)
    with ledger.read(made.folder / "ledger.db") as book:
        status = book.status()
    lost = Failure("bad_request", "".join(HOSTILE))
    status = msgspec.structs.replace(status, failures=((HOSTILE[12], 3, lost),))
    terminal.show_status(shown, made.results.study, status)
    progress = Progress()
    for one in made.results.cells:
        lane = one.cell.model, HOSTILE[12]
        progress.total[lane], progress.done[lane], progress.missing[lane] = 4, 1, 0
    shown.print(terminal._grid(progress, 3.0, None))
    terminal.show_run(shown, made.results.study, progress)
    advice.show_guidelines(shown, advice.guidelines(made.results))
    given = advice.advise(made.results)
    for few in (given, given[:2]):
        advice.show_advice(shown, few)
    assert not UNSEEN.search(out.getvalue())
    assert "\u241b[31mred" in out.getvalue(), "an escape is a sign"


def test_tables_for_spreadsheets(made: pages.Made, tmp_path: Path) -> None:
    tables.write_results(tmp_path / "results", made.results)
    latex.write(made.results, tmp_path / "tables")
    files = sorted(tmp_path.rglob("*.csv"))
    assert files
    for path in files:
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.reader(file):
                for field in row:
                    if field[:1] in ("=", "+", "-", "@", "\t", "\r"):
                        assert _is_number(field), f"{path.name}: {field!r} would be run"


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


@given(st.text())
@example("\"><script>alert('x')</script>&amp;\u2028\u202e\x1b")
def test_text_is_text_whatever_it_is(text: str) -> None:
    assert not UNSEEN.search(visible(text))
    assert visible(visible(text)) == visible(text)
    element = tag("p", text, title=text)
    assert element.count("<") == 2
    assert element.count(">") == 2
    assert element.count('"') == 2
    block = embedded({"text": visible(text)})
    assert not set("<>&\u2028\u2029") & set(block)
    assert msgspec.json.decode(str(block)) == {"text": visible(text)}


@given(st.text(min_size=1, max_size=40), st.integers(0, 10**6), st.integers(10, 200))
def test_long_texts_are_cut_with_a_note(piece: str, times: int, limit: int) -> None:
    text = piece * min(times, 1_000_000 // len(piece))
    shown = within(text, limit)
    if len(text) <= limit:
        assert shown == visible(text)
    else:
        assert f"{len(text) - limit:,} characters are left out" in shown
        assert len(shown) <= 9 * limit + 90
    assert not UNSEEN.search(shown)
