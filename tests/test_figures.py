"""Figures: the same bytes for the same estimates, the oracle apart, no text that does anything."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from deltascale import assess
from deltascale.analysis import Results
from deltascale.analysis.results import ALL_DATASETS
from deltascale.errors import MissingExtra
from deltascale.records import Size
from deltascale.report import figures
from deltascale.report.figures import Picture
from deltascale.report.figures.panels import model_label, plain, size_label
from tests.golden import tiny

HOSTILE = "$\\nosuch{$ <script>\x1b[31m\u202egpj.x\u2066 模型 " + "w" * 200


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return assess.analyze(tiny.run(tmp_path_factory.mktemp("tiny"), items=40))


def only(kind: str, about: str = "demo-sums"):
    def wanted(picture: Picture) -> bool:
        return (picture.kind, picture.about) == (kind, about)

    return wanted


def drawn(results: Results, folder: Path, kind: str, **options) -> dict[str, bytes]:
    pytest.importorskip("matplotlib", reason="the extra `figures` is not installed")
    made = figures.draw(results, folder, wanted=only(kind), **options)
    return {path.name: path.read_bytes() for path in made}


def with_size(results: Results, model: str, size: Size) -> Results:
    """The results with one model's size changed where a figure looks."""
    cells = tuple(
        replace(one, model=_resized(one.model, size)) if one.model.id == model else one
        for one in results.cells
    )
    return replace(results, cells=cells)


def _resized(model, size: Size):
    import msgspec

    return msgspec.structs.replace(model, size=size)


def test_the_same_results_give_the_same_bytes(results: Results, tmp_path: Path) -> None:
    first = drawn(results, tmp_path / "a", "scaling", widths=("column",))
    again = drawn(results, tmp_path / "b", "scaling", widths=("column",))
    assert first == again
    assert {name.rpartition(".")[2] for name in first} == {"pdf", "svg", "png", "md"}


@pytest.mark.slow
def test_processes_draw_the_same_bytes(results: Results, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the extra `figures` is not installed")
    alone, beside = (
        {
            path.name: path.read_bytes()
            for path in figures.draw(
                results, tmp_path / str(n), formats=("svg", "pdf"), processes=n
            )
        }
        for n in (1, 3)
    )
    assert len(alone) > 2 * figures._FEWEST_A_PROCESS
    assert list(alone) == list(beside)
    assert alone == beside


def test_fonts_are_embedded_and_no_date_is_written(results: Results, tmp_path: Path) -> None:
    made = drawn(results, tmp_path, "oracle", widths=("column",), formats=("pdf", "svg"))
    pdf = made["oracle-demo-sums-column.pdf"]
    assert b"/FontFile2" in pdf
    assert b"/Type3" not in pdf
    assert b"CreationDate" not in pdf
    svg = made["oracle-demo-sums-column.svg"].decode()
    assert "<text" not in svg
    assert not re.search(r"\b20\d\d-\d\d-\d\d\b", svg)


def test_widths_are_a_column_and_a_page(results: Results, tmp_path: Path) -> None:
    made = drawn(results, tmp_path, "oracle", formats=("svg",))
    for name, inches in (("column", 3.3), ("page", 6.9)):
        found = re.search(r'width="([\d.]+)pt"', made[f"oracle-demo-sums-{name}.svg"].decode())
        assert found is not None
        assert float(found.group(1)) == pytest.approx(72 * inches, abs=0.01)


def test_every_kind_has_something_to_show(results: Results) -> None:
    kinds = {picture.kind for picture in figures.pictures(results)}
    assert kinds == {
        "deltas", "oracle", "flips", "turns", "scaling", "frontier", "acceptability",
    }  # fmt: skip


def test_power_is_drawn_where_its_rows_are_given(results: Results) -> None:
    from deltascale.analysis.power import PowerRow

    rows = [
        PowerRow("least_detectable_delta", value, "share", items=n, dataset="demo-sums",
                 protocol="review")
        for n, value in ((100, 0.2), (1000, 0.06))
    ]  # fmt: skip
    names = [picture.name for picture in figures.pictures(results, power=rows)]
    assert names[-1] == "power-all"


def test_the_oracle_is_apart(results: Results) -> None:
    by_kind = {picture.kind: picture for picture in figures.pictures(results)}
    assert [title for title, _ in by_kind["deltas"].panels] == ["review", "resample"]
    assert [title for title, _ in by_kind["oracle"].panels] == ["oracle"]
    assert [title for title, _ in by_kind["scaling"].panels] == ["review"]
    assert "oracle (upper bound)" in [title for title, _ in by_kind["flips"].panels]


def test_simulated_studies_say_so(results: Results) -> None:
    for picture in figures.pictures(results):
        assert picture.badge == "simulated models"
        assert "Simulated models." in picture.caption


def test_an_unknown_size_is_listed_and_not_drawn(results: Results, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the extra `figures` is not installed")
    from matplotlib.figure import Figure

    hidden = with_size(results, tiny.FIVE[2], Size("unknown"))
    guessed = with_size(hidden, tiny.FIVE[3], Size("estimate", low=2e10, high=4e10, citation="?"))
    for given, n_points, n_bars in ((results, 5, 0), (hidden, 4, 0), (guessed, 3, 1)):
        picture = next(p for p in figures.pictures(given) if p.kind == "scaling")
        axes = Figure().subplots()
        picture.panels[0][1](axes)
        assert len(axes.containers) == n_points
        wide = [
            segment
            for collection in axes.collections
            for segment in getattr(collection, "get_segments", list)()
            if {float(segment[0][0]), float(segment[-1][0])} == {2e10, 4e10}
        ]
        assert len(wide) == n_bars
    captions = [p.caption for p in figures.pictures(guessed) if p.kind == "scaling"]
    assert "their size is unknown: simulated/sim-8b" in captions[0]
    assert "only estimated, not in the fits (simulated/sim-27b)" in captions[0]


def test_over_all_datasets_the_means_have_the_intervals(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the extra `figures` is not installed")
    from matplotlib.figure import Figure

    two = assess.analyze(
        tiny.run(tmp_path / "two", items=12, datasets=("demo-sums", "demo-choices"))
    )
    means = {
        one.model: one.estimate
        for one in two.contrasts
        if (one.quantity, one.protocol) == ("macro_delta", "review")
    }
    scaling = {p.about: p for p in figures.pictures(two) if p.kind == "scaling"}
    axes = Figure().subplots()
    scaling[ALL_DATASETS].panels[0][1](axes)
    drawn_at = {}
    for container in axes.containers:
        point, _, (bar,) = container.lines
        (segment,) = bar.get_segments()
        drawn_at[float(point.get_xdata()[0])] = (
            float(point.get_ydata()[0]), float(segment[0][1]), float(segment[1][1])
        )  # fmt: skip
    wanted = {
        one.model.size.parameters: means[one.cell.model]
        for one in two.cells if one.cell.protocol == "review"
    }  # fmt: skip
    assert set(drawn_at) == set(wanted), "a mean with an interval for each model, and nothing else"
    for size, made in wanted.items():
        assert drawn_at[size] == pytest.approx((made.value, made.low, made.high))
    faint = [line for line in axes.lines if line.get_markersize() == 2.6]
    assert len(faint) == 2 * 5
    assert [row[0] for row in scaling[ALL_DATASETS].key] == [
        "mean over datasets", "demo-choices", "demo-sums",
    ]  # fmt: skip
    assert "faint points of single datasets" in scaling[ALL_DATASETS].caption
    axes = Figure().subplots()
    scaling["demo-sums"].panels[0][1](axes)
    assert len(axes.containers) == 5
    assert not [line for line in axes.lines if line.get_markersize() == 2.6]


def test_a_refused_fit_says_why_in_the_panel(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the extra `figures` is not installed")
    from matplotlib.figure import Figure

    three = assess.analyze(tiny.run(tmp_path / "three", tiny.THREE, items=8))
    picture = next(p for p in figures.pictures(three) if p.kind == "scaling")
    axes = Figure().subplots()
    picture.panels[0][1](axes)
    said = " ".join(text.get_text().replace("\n", " ") for text in axes.texts)
    assert "3 models of different size: nothing is fitted below 4" in said
    assert not axes.get_legend_handles_labels()[1]


def test_hostile_names_are_only_text(results: Results, tmp_path: Path) -> None:
    import msgspec

    cells = tuple(
        replace(
            one,
            cell=msgspec.structs.replace(one.cell, dataset="../../x\x00", model=HOSTILE),
            model=msgspec.structs.replace(one.model, id=HOSTILE),
        )
        for one in results.cells
        if one.cell.model == tiny.FIVE[0]
    )
    hostile = replace(results, cells=cells, turns=(), scaling=(), frontier=(), costs=())
    pytest.importorskip("matplotlib", reason="the extra `figures` is not installed")
    made = figures.draw(hostile, tmp_path, widths=("column",), formats=("svg",))
    assert {path.name for path in made} == {
        "deltas-x-column.svg", "oracle-x-column.svg", "flips-x-column.svg", "captions.md",
    }  # fmt: skip
    assert all(path.parent == tmp_path for path in made)
    for path in made:
        text = path.read_text(encoding="utf-8")
        assert "<script" not in text
        assert not re.search("[\x00\x1b\u202e\u2066]", text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\nb\tc", "a b c"),
        ("\u202eabc\u2069", "abc"),
        ("x" * 50, "x" * 39 + "…"),
        ("", ""),
    ],
)
def test_plain_text(text: str, shown: str) -> None:
    assert plain(text) == shown


def test_labels(results: Results) -> None:
    assert model_label(results.cells[0].model) == "sim-0.1b (100M)"
    assert [size_label(10.0**k) for k in (6, 8, 9, 10, 12)] == ["1M", "100M", "1B", "10B", "1T"]


def test_file_names_differ_and_are_safe() -> None:
    names = figures.file_names(["a b", "a-b", "A/B", "all", "…", ALL_DATASETS])
    assert names == {
        "a b": "a-b", "a-b": "a-b-2", "A/B": "a-b-3", "all": "all-2", "…": "unnamed",
        "all datasets": "all-datasets",
    }  # fmt: skip


def test_without_matplotlib_the_remedy_is_said(
    results: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtra, match=r"deltascale\[figures\]"):
        figures.draw(results, tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_pictures_need_no_matplotlib(results: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert figures.pictures(results)
