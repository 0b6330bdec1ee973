"""The page in a real browser, from disk, with the network cut; and its words, without one."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from deltascale import ledger
from deltascale.analysis import Results
from deltascale.cli import cli
from deltascale.errors import Mistake
from deltascale.records import Cell, Study
from deltascale.report import figures, latex, page
from deltascale.report.page import transcripts
from deltascale.report.wording import estimate_text, points
from tests import pages

CHARTS = ("forest", "oracles", "flips", "turns", "scaling", "frontier", "worth")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> pages.Made:
    """Seven sizes, a guessed one and an unknown one; review gains with size."""
    folder = tmp_path_factory.mktemp("gains")
    return pages.make(folder, pages.gaining(0.5), of=pages.models(more=pages.guessed()))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with pages.chromium() as found:
        yield found


def text_of(path: Path) -> str:
    """What a reader without JavaScript sees."""
    parts: list[str] = []

    class Reader(HTMLParser):
        skipped = 0

        def handle_starttag(self, tag: str, attrs: object) -> None:
            self.skipped += tag in ("script", "style")

        def handle_endtag(self, tag: str) -> None:
            self.skipped -= tag in ("script", "style")

        def handle_data(self, data: str) -> None:
            if not self.skipped:
                parts.append(data)

    Reader().feed(path.read_text(encoding="utf-8"))
    return " ".join(" ".join(parts).split())


def n_marks(tab: Any, chart: str) -> int:
    counts = tab.eval_on_selector_all(
        f'[data-chart="{chart}"] .panel > svg', "all => all.map(one => Number(one.dataset.marks))"
    )
    return int(sum(counts))


@pytest.mark.parametrize("width", [1280, pytest.param(390, marks=pytest.mark.slow)])
def test_it_opens_from_disk_without_a_request(made: pages.Made, browser: Any, width: int) -> None:
    with pages.opened(browser, made.page, width=width) as found:
        assert found.asked == [made.page.as_uri()]
        for chart in CHARTS:
            assert n_marks(found.page, chart) > 0, chart
        wide = found.page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert wide[0] <= wide[1], "it scrolls sideways"
        found.page.evaluate("document.querySelectorAll('details.data').forEach(d => d.open = true)")
        found.page.wait_for_selector('[data-table="scaling"] tbody tr')
        wide = found.page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert wide[0] <= wide[1], "an open table makes it scroll sideways"
        assert found.said == []
        assert found.asked == [made.page.as_uri()]


def test_oracles_are_apart(made: pages.Made, browser: Any) -> None:
    gated = [one for one in made.results.cells if one.gate]
    assert gated
    with pages.opened(browser, made.page) as found:
        assert n_marks(found.page, "oracles") == len(gated)
        assert n_marks(found.page, "forest") == len(made.results.cells) - len(gated)
        assert "oracle" not in found.page.inner_text('[data-chart="forest"]')
        assert "oracle" not in found.page.inner_text('[data-chart="scaling"]')


def test_filters_reach_charts_tables_and_transcripts(made: pages.Made, browser: Any) -> None:
    with pages.opened(browser, made.page) as found:
        tab = found.page
        tab.select_option("#f-protocol", label="review")
        tab.select_option("#f-model", label="m6 (70B)")
        assert n_marks(tab, "forest") == 1
        assert tab.locator("#deltas tbody tr[data-at]:not([hidden])").count() == 1
        said = tab.locator("#transcripts summary").all_text_contents()
        assert said
        assert all("m6" in one and "review" in one for one in said)
        tab.select_option('[data-control="kind"]', "broken")
        assert all(
            one.startswith("broken")
            for one in tab.locator("#transcripts summary").all_text_contents()
        )
        tab.click("#f-reset")
        assert n_marks(tab, "forest") > 1
        assert found.said == []


def test_a_transcript_opens(made: pages.Made, browser: Any) -> None:
    with pages.opened(browser, made.page) as found:
        tab = found.page
        tab.select_option("#f-protocol", label="review")
        one = tab.locator("#transcripts details").first
        one.locator("summary").click()
        one.locator(".turn").first.wait_for()
        text = one.inner_text()
        assert "What is" in text
        assert "#### " in text
        assert re.search(r"turn 0: (right|wrong)", text)
        assert re.search(r"turn 1: (right|wrong)", text)
        assert "answer:" in text


@pytest.mark.slow
def test_a_chart_can_be_read_with_keys_and_as_a_table(made: pages.Made, browser: Any) -> None:
    with pages.opened(browser, made.page) as found:
        tab = found.page
        tab.locator('[data-chart="forest"] .panel > svg').first.focus()
        tab.keyboard.press("ArrowDown")
        tip = tab.inner_text("#tip")
        assert "change" in tip
        tab.keyboard.press("ArrowDown")
        assert tab.inner_text("#tip") != tip
        tab.keyboard.press("Escape")
        assert not tab.is_visible("#tip")
        of_forest = "figure:has([data-chart='forest']) details.data > summary"
        tab.locator(of_forest).click()
        tab.wait_for_selector('[data-table="forest"] tbody tr')
        tab.evaluate("document.querySelectorAll('details.data').forEach(d => d.open = true)")
        for chart in CHARTS:
            tab.wait_for_selector(f'[data-table="{chart}"] tbody tr')
        rows = tab.evaluate(
            "all => all.map(one => document.querySelectorAll("
            "`[data-table='${one}'] tbody tr`).length)",
            list(CHARTS),
        )
        for chart, n_rows in zip(CHARTS, rows, strict=True):
            assert n_rows >= n_marks(tab, chart) > 0, chart


@pytest.mark.slow
def test_axes_can_be_chosen(made: pages.Made, browser: Any) -> None:
    with pages.opened(browser, made.page) as found:
        tab = found.page
        before = tab.inner_html('[data-chart="scaling"]')
        for control, value in (
            ("forms", "all"),
            ("x", "price"),
            ("y", "last"),
            ("x", "n"),
        ):
            tab.select_option(f'[data-control="{control}"]', value)
            after = tab.inner_html('[data-chart="scaling"]')
            assert after != before, control
            before = after
        assert found.said == []


@pytest.mark.slow
def test_sizes_that_are_estimates_are_intervals(made: pages.Made, browser: Any) -> None:
    with pages.opened(browser, made.page) as found:
        tab = found.page
        tab.locator('figure:has([data-chart="scaling"]) details.data > summary').click()
        tab.wait_for_selector('[data-table="scaling"] tbody tr')
        rows = tab.locator('[data-table="scaling"] tbody tr').all_text_contents()
        assert any("guess" in row and "estimate" in row for row in rows)
        assert not any("secret" in row for row in rows), "an unknown size has no place on the axis"
        # A mark without a point: its path is left out, its interval is drawn.
        panel = tab.locator('[data-chart="scaling"] .panel > svg').first
        marks = int(panel.get_attribute("data-marks"))
        assert panel.locator("path").count() == marks - 1


@pytest.mark.slow
def test_over_all_datasets_the_means_have_the_intervals(
    made: pages.Made, browser: Any, tmp_path: Path
) -> None:
    results = pages.doubled(made)
    means = {
        (one.model, one.protocol): one.estimate
        for one in results.contrasts
        if one.quantity == "macro_delta"
    }
    assert ("openai/secret", "review") in means, "also of a model of unknown size"
    path = page.build(
        results, tmp_path, ledger_file=made.folder / "ledger.db",
        lock_file=made.folder / "lock.json",
    )  # fmt: skip
    with pages.opened(browser, path) as found:
        tab = found.page
        tab.locator('figure:has([data-chart="scaling"]) details.data > summary').click()
        tab.wait_for_selector('[data-table="scaling"] tbody tr')
        rows = tab.eval_on_selector_all(
            '[data-table="scaling"] tbody tr',
            "all => all.map(row => [...row.children].map(cell => cell.textContent.trim()))",
        )
        pooled = {
            (row[0], row[3]): row[4:] for row in rows
            if row[2] == "all datasets" and row[1] == "published"
        }  # fmt: skip
        assert len(pooled) == 7 * 3, "seven sizes, three protocols that are told nothing"
        for n, size in enumerate(("100M", "500M", "1B", "3B", "8B", "30B", "70B")):
            made_of = means[f"openai/m{n}", "review"]
            shown = [points(v) for v in (made_of.value, made_of.low, made_of.high)]
            assert pooled[f"m{n} ({size})", "review"] == shown
        panel = tab.locator('[data-chart="scaling"] .panel:has(h4:text-is("review")) > svg')
        marks = panel.evaluate(
            "one => [...one.querySelectorAll('g:has(> path)')].map(mark => ["
            "mark.querySelector('path').getAttribute('fill') === 'var(--paper)',"
            "mark.querySelectorAll('line.range').length === 1])"
        )
        hollow, ranged = ([mark[k] for mark in marks] for k in (0, 1))
        assert hollow.count(False) == 7
        assert ranged == [not one for one in hollow], "single datasets have no interval here"
        legend = tab.locator('[data-legend="scaling"]').inner_text()
        assert "mean over datasets" in legend
        tab.select_option('[data-control="y"]', "last")
        assert panel.locator("g:has(line.range)").count() == 2 * 8, "accuracies have no mean"
        tab.select_option('[data-control="y"]', "delta")
        tab.select_option('[data-control="scaling"]', label="more")
        assert panel.locator("g:has(path) line.range").count() == 7
        assert found.said == []


@pytest.mark.slow
def test_what_is_extrapolation_is_marked(made: pages.Made, browser: Any) -> None:
    """Also where a model of estimated size, which is in no fit, lies further out."""
    claims = {one.protocol: one.rung for one in made.results.claims}
    assert claims["review"] == 2
    with pages.opened(browser, made.page) as found:
        panel = found.page.locator('[data-chart="scaling"] .panel:has(h4:text-is("review"))')
        # Below, within and beyond the sizes studied.
        dashes = [one.get_attribute("stroke-dasharray") for one in panel.locator("polyline").all()]
        assert dashes == ["4 4", "none", "4 4"]
        assert panel.locator("rect.hatched").count() == 1
        solid = panel.locator("polyline").nth(1).get_attribute("points") or ""
        hatched = float(panel.locator("rect.hatched").get_attribute("x") or 0)
        assert hatched > float(solid.split()[-1].split(",")[0]), "beyond three times the largest"


@pytest.mark.slow
def test_light_dark_and_paper(made: pages.Made, browser: Any) -> None:
    def back(tab: Any) -> str:
        return str(tab.evaluate("getComputedStyle(document.body).backgroundColor"))

    with pages.opened(browser, made.page, color_scheme="dark") as found:
        tab = found.page
        dark = back(tab)
        tab.click("#theme")
        light = back(tab)
        assert (dark, light) == ("rgb(20, 22, 26)", "rgb(255, 255, 255)")
        tab.click("#theme")
        assert back(tab) == dark
        tab.emulate_media(media="print", color_scheme="dark")
        tab.wait_for_selector('html[data-theme="light"]')
        assert back(tab) == light
        assert not tab.is_visible(".filters")
        assert tab.is_visible("#answer")
        assert len(tab.pdf(format="A4")) > 10_000


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_fault(
    made: pages.Made, browser: Any, scheme: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    script = axe(tmp_path_factory)
    with pages.opened(browser, made.page, color_scheme=scheme, bypass_csp=True) as found:
        tab = found.page
        # One model and one of each kind of table: every sort of element, and few of each.
        tab.select_option("#f-model", label="m6 (70B)")
        for place in ("#deltas figure", "#deltas", "#cost", "#method"):
            tab.locator(f"{place} > details > summary").first.click()
        tab.locator("#transcripts summary").first.click()
        tab.add_script_tag(content=script)
        faults = tab.evaluate(
            "async () => (await axe.run({resultTypes: ['violations']})).violations"
        )
    bad = [one for one in faults if one["impact"] in ("serious", "critical")]
    assert not bad, [(one["id"], [n["html"] for n in one["nodes"]][:3]) for one in bad]


def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """axe-core's script, got anew; skips where it can't be had."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("no npm here to get axe-core with")
    folder = tmp_path_factory.getbasetemp() / "axe"
    if not (folder / "package").exists():
        folder.mkdir(exist_ok=True)
        try:
            got = subprocess.run(
                [npm, "pack", "axe-core@4", "--silent"], cwd=folder, capture_output=True,
                text=True, timeout=50,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            pytest.skip("axe-core can't be had in time")
        if got.returncode:
            pytest.skip("axe-core can't be had from the registry")
        shutil.unpack_archive(folder / got.stdout.split()[-1], folder, filter="data")
    return (folder / "package" / "axe.min.js").read_text(encoding="utf-8")


def test_the_command_writes_the_page_also_without_what_draws_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = pages.make(tmp_path, pages.gaining(0.5), of=pages.models()[:2], names=("review",))
    made.page.unlink()
    monkeypatch.setattr(figures, "find_spec", lambda _: None)
    done = CliRunner().invoke(cli, ["report", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert f"page: {made.page}" in done.output
    assert "no figures: " in done.output
    assert made.page.is_file()
    said = msgspec.json.decode((tmp_path / "results" / "settings.json").read_bytes())
    assert said["settings"]["replicates"] == 10_000, "fewer are a preview"
    before = made.page.read_bytes()
    assert CliRunner().invoke(cli, ["report", str(tmp_path)]).exit_code == 0
    assert made.page.read_bytes() == before


def test_a_lock_that_is_gone_is_one_line(made: pages.Made, tmp_path: Path) -> None:
    with pytest.raises(Mistake, match="the lock can't be read"):
        page.build(
            made.results, tmp_path, ledger_file=made.folder / "ledger.db",
            lock_file=tmp_path / "lock.json",
        )  # fmt: skip
    assert not list(tmp_path.iterdir())


# --- without a browser ---------------------------------------------------------------------------


def test_the_same_study_gives_the_same_bytes(made: pages.Made) -> None:
    before = made.page.read_bytes()
    made.build()
    assert made.page.read_bytes() == before


def test_the_page_prints_the_estimates_and_nothing_of_its_own(made: pages.Made) -> None:
    text = text_of(made.page)
    for one in made.results.cells:
        assert estimate_text(one.delta) in text
    sections = re.findall(r'<section id="(\w+)"', made.page.read_text())
    assert sections == [
        "answer", "health", "deltas", "flips", "scaling", "cost", "tasks", "sensitivity",
        "method", "examples",
    ]  # fmt: skip


def test_what_was_paid_is_told_whole_and_by_model(made: pages.Made) -> None:
    text = text_of(made.page)
    assert text.count("Paid for this study: ") == 1
    assert text.count("no call shared: ") == 1
    shown = re.search(r"What was paid, by model.*?saved by sharing (.*?) Gain per dollar", text)
    assert shown is not None
    for model in made.results.study.models:
        own = {one.quantity: one.estimate for one in made.results.costs if one.model == model.id}
        parts = [estimate_text(own[name], signed=False)
                 for name in ("paid", "as_deployed", "saved_by_sharing")]  # fmt: skip
        assert " ".join((model.id.partition("/")[2], *parts)) in shown[1]
        assert parts[2].endswith(" %")


def test_training_is_an_axis_and_a_column_only_where_it_is_known(made: pages.Made) -> None:
    plain = made.build().read_text(encoding="utf-8")
    assert "training FLOPs</option>" not in plain
    assert "trained on" not in (latex.sheets(made.results)[0].columns)
    study = made.results.study
    size = msgspec.structs.replace(study.models[0].size, training_tokens=2e12)
    first = msgspec.structs.replace(study.models[0], size=size)
    known = msgspec.structs.replace(study, models=(first, *study.models[1:]))
    results = replace(made.results, study=known)
    assert '<option value="flops">training FLOPs</option>' in made.build(results).read_text()
    (row, other) = latex.sheets(results)[0].rows[:2]
    assert row[3] == "2T"
    assert other[3] == "—"
    made.build()


def test_simulated_models_are_called_simulated(made: pages.Made) -> None:
    def simulated(study: Study) -> Study:
        import msgspec

        of = [msgspec.structs.replace(one, provider="simulated") for one in study.models]
        return msgspec.structs.replace(study, models=tuple(of))

    assert "simulated" not in text_of(made.page)
    results = replace(made.results, study=simulated(made.results.study))
    try:
        text = text_of(made.build(results))
    finally:
        made.build()
    assert text.startswith("Simulated: ")
    assert "All models are simulated: their numbers say nothing about any real model." in text


def test_a_study_in_which_nothing_is_shown_says_so(tmp_path: Path, browser: Any) -> None:
    null = pages.make(tmp_path, pages.gaining(0.0), of=pages.models())
    assert {one.rung for one in null.results.claims} == {0}
    text = text_of(null.page)
    assert "no change of accuracy is shown" in text
    assert "No trend of the change over the models' sizes is shown." in text
    assert "What to do" not in text
    assert "Not supported by this study" in text
    for word in ("exponent", "law", "guideline", "form "):
        assert not re.search(rf"\b{word}", text, re.I), word
    with pages.opened(browser, null.page) as found:
        assert found.page.locator('[data-chart="scaling"] polyline').count() == 0
        assert n_marks(found.page, "scaling") > 0


def test_three_models_are_refused_a_fit_with_the_reason(tmp_path: Path, browser: Any) -> None:
    few = pages.make(tmp_path, pages.gaining(0.6), of=pages.models(pages.SIZES[-3:]), n_items=60)
    text = text_of(few.page)
    assert "No curve is fitted: 3 models of different size: nothing is fitted below 4" in text
    with pages.opened(browser, few.page) as found:
        assert found.page.locator('[data-chart="scaling"] polyline').count() == 0
        assert "nothing is fitted below 4" in found.page.inner_text('[data-chart="scaling"]')


def enlarged(results: Results, times: int) -> Results:
    """The same results on so many more datasets."""

    def renamed(rows: Any, k: int) -> Any:
        return [
            replace(one, dataset=f"d{k}") if one.dataset == "sums" else one for one in rows
        ] if hasattr(rows[0], "dataset") else [
            replace(one, cell=Cell(one.cell.model, f"d{k}", one.cell.protocol,
                                   one.cell.temperature))
            for one in rows
        ]  # fmt: skip

    names = ("cells", "turns", "flips", "contrasts", "scaling", "predictions", "costs", "frontier",
             "thresholds", "sensitivity", "generalisation")  # fmt: skip
    grown = {
        name: tuple(one for k in range(times) for one in renamed(getattr(results, name), k))
        for name in names
        if getattr(results, name)
    }
    return replace(results, **grown)


@pytest.mark.slow
def test_a_study_of_35_000_samples_stays_below_5_mb(made: pages.Made) -> None:
    many = enlarged(made.results, 12)
    assert len(many.cells) > 400
    with ledger.read(made.folder / "ledger.db") as book:
        text = page.render(many, book, (made.folder / "lock.json").read_bytes())
    # What transcripts may add has a bound of its own, 1.8 MB and the last one's length.
    assert len(text.encode()) < 3_000_000


def test_transcripts_are_bounded(tmp_path: Path) -> None:
    async def long(request: Any) -> Any:
        reply = await pages.gaining(0.5)(request)
        import msgspec

        filler = f"{request.model} {request.draw} {len(request.messages)} " * 4_000
        return msgspec.structs.replace(
            reply, text=filler + request.messages[0].content + reply.text
        )

    made = pages.make(tmp_path, long, of=pages.models()[:4], n_items=40, names=("review", "vote"))
    with ledger.read(tmp_path / "ledger.db") as book:
        drawn = transcripts.examples(book, [one.cell for one in made.results.cells])
    assert drawn.shown
    assert len(drawn.shown) < drawn.n_flips
    assert max(map(len, drawn.texts)) < 4_200
    assert any("characters are left out here" in text for text in drawn.texts)
    assert sum(len(text.encode()) for text in drawn.texts) < 2_000_000
    assert made.page.stat().st_size < 3_000_000
    by_cell = {(one.cell.id, one.kind) for one in drawn.shown}
    assert len(by_cell) > 4, "every cell has its turn"


def test_the_charts_say_numbers_as_the_tables_do(tmp_path: Path, browser: Any) -> None:
    """16 items: deltas of 6.25 and 18.75 points, which end on a half."""
    made = pages.make(tmp_path, pages.gaining(0.6), of=pages.models()[:3], n_items=16)
    cells = [one for one in made.results.cells if not one.gate]
    halves = [c for c in cells if 100 * abs(c.delta.value or 0) % 1 == 0.25]
    assert halves, "or nothing is tried"
    with pages.opened(browser, made.page) as opened:
        details = opened.page.locator("details:has([data-table='forest'])").first
        details.locator("summary").click()
        rows = details.locator("tbody tr").all_inner_texts()
    said = Counter(tuple(row.split("\t")[3:6]) for row in rows)
    expected = Counter(
        tuple(map(points, (c.delta.value, c.delta.low, c.delta.high))) for c in cells
    )
    assert said == expected
