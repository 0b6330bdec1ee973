"""What a person sees of a study with two temperatures and long names: no two rows alike, no number
said in two ways, simulated models always called so."""

from __future__ import annotations

import io
import re
from collections import Counter
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from deltascale import analysis, assess
from deltascale.analysis import Results
from deltascale.archive import lock
from deltascale.cli import cli
from deltascale.report import paper, terminal
from deltascale.report.wording import n_of, per_thousand
from deltascale.stats.claims import Caution

LABEL = "simulated models: these numbers say nothing about any real model"
LONG = "Prüfungsaufgaben-für-die-gymnasiale-Oberstufe_数学"

STUDY = """
name: two
models: [simulated/sim-0.1b, simulated/sim-70b]
datasets: [demo-sums, {{file: '{file}', scorer: numeric}}]
protocols: [review, resample, vote, oracle]
turns: 2
items: 16
temperature: [0.2, 1.0]
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("seen")
    rows = [f"Größe {n}: Compute {n} * 3 + 7.,{3 * n + 7}" for n in range(2, 18)]
    own = folder / f"{LONG}.csv"
    own.write_text("\n".join(["question,answer", *rows]), encoding="utf-8")
    file = folder / "two.yaml"
    file.write_text(STUDY.format(file=own), encoding="utf-8")
    done = CliRunner().invoke(cli, ["run", str(file), "--out", str(folder / "out")])
    assert done.exit_code == 0, done.output
    (folder / "said").write_text(done.stdout, encoding="utf-8")
    return folder / "out"


@pytest.fixture(scope="module")
def results(study: Path) -> Results:
    found, frames = assess.frames(study)
    return analysis.analyse(frames, found, settings=analysis.Settings(replicates=100))


@pytest.mark.parametrize("width", [80, 120])
def test_no_two_rows_of_the_terminal_have_the_same_labels(results: Results, width: int) -> None:
    shown = Console(file=io.StringIO(), width=width)
    terminal.show_results(shown, results)
    text = shown.file.getvalue()  # type: ignore[attr-defined]
    labels = re.findall(
        r"^(sim-\S+ .*?)  +(?:[0-9.]+ [0-9.]+ +)?[-+]?[0-9.]+  +\S+ to ", text, re.M
    )
    assert len(labels) == len(results.cells)
    assert set(Counter(f"{n // 12}{label}" for n, label in enumerate(labels)).values()) == {1}
    assert "fix/break" in text, "a long name costs no column"
    assert "Tango" in text


def test_no_two_rows_of_the_page_have_the_same_labels(study: Path, results: Results) -> None:
    page = assess.page(results, study).read_text(encoding="utf-8")
    for caption in ("Change of accuracy by cell", "Cost-matched controls", "Gain per dollar, and"):
        (table,) = re.findall(rf"<caption>{caption}[^<]*</caption>(.*?)</table>", page, re.S)[:1]
        left = 5 if "Change" in caption else 3
        rows = [
            tuple(re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", line)[:left])
            for line in re.findall(r"<tr data-at.*?</tr>", table, re.S)
        ]
        assert rows
        assert len(set(rows)) == len(rows), caption


@pytest.mark.parametrize(
    "asked", [("status",), ("advise",), ("power",), ("analyze",), ("advise", "--model", "sim-70b")]
)
def test_simulated_models_are_called_so(study: Path, asked: tuple[str, ...]) -> None:
    name, *more = asked
    done = CliRunner().invoke(cli, [name, str(study), *more])
    assert done.exit_code == 0, done.output
    assert LABEL in " ".join(done.stdout.split())


def test_power_tells_its_temperatures_and_speaks_of_points(study: Path) -> None:
    said = CliRunner().invoke(cli, ["power", str(study)]).stdout
    for place in ("demo-sums, review", "demo-sums, vote"):
        for temperature in ("0.2", "1.0"):
            assert f"{place}, temperature {temperature}" in said
    for line in said.splitlines():
        if line.startswith("least detectable delta"):
            assert "points" in line or " - " in line, "a difference of shares is no percentage"


def test_the_paper_names_no_folder_of_its_author(study: Path, results: Results) -> None:
    composed = paper.compose(results, paper.read(study / lock.FILE))
    methods = next(one for one in composed.sections if one.title == "Methodology")
    said = repr(methods)
    assert f"{LONG}.csv" in said
    assert str(study.parent) not in said


def test_a_share_just_above_its_limit_does_not_read_like_the_limit() -> None:
    text = Caution("one_model_decides", 0.6031, 0.6).text
    assert "60.3 %" in text
    assert "limit 60 %" in text


def test_counts_and_small_prices_are_said_plainly() -> None:
    assert [n_of(n, "cell") for n in (0, 1, 2, 1234)] == [
        "0 cells",
        "1 cell",
        "2 cells",
        "1,234 cells",
    ]
    assert per_thousand(0.000000849) == "$0.000849"
    assert per_thousand(None) == "—"
    assert terminal._signed(-0.04) == terminal._signed(0.0) == "0.0"
    assert terminal._signed(-0.06) == "-0.1"
