"""The paper: its numbers are the tables', it says no more than the evidence, and text stays text.

`DELTASCALE_GOLDEN=write pytest tests/test_paper.py` writes the golden files anew.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from deltascale import assess
from deltascale.analysis import Results
from deltascale.cli import cli
from deltascale.errors import MissingExtra, Mistake
from deltascale.report import latex, paper
from deltascale.report.paper import tex, typeset
from deltascale.report.paper.document import (
    Entries,
    Figure,
    Paper,
    Paragraph,
    Section,
    Table,
    text_of,
)
from deltascale.report.paper.record import DatasetRecord, EnvironmentRecord, Record, ServedRecord
from deltascale.report.wording import estimate_text
from tests.golden import tiny

GOLDEN = Path(__file__).parent / "golden"
HOSTILE = (
    "\\input{/etc/hostname}\\write18{id} $x$ %c &a #set page(fill: red) @huang [x] *b* _i_ "
    '{~^} <fig> `r` "q" \'s\' --- ,, ?` #read("paper.typ") \\end{document} \x1b[31m\u202eabc 模型'
)
INTERVAL = re.compile(r"[+−]?\d+\.\d \[[+−]?\d+\.\d, [+−]?\d+\.\d\]")
CLAIMS = re.compile(r"\b(laws?|exponents?|scales? (?:as|with)|(?:power|linear|saturating) form)\b")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.run(tmp_path_factory.mktemp("tiny"), items=200)


@pytest.fixture(scope="module")
def results(study: Path) -> Results:
    return assess.analyze(study)


@pytest.fixture(scope="module")
def record(study: Path) -> Record:
    kept = paper.read(study / "lock.json")
    here = EnvironmentRecord("0.1.0", "c0ffee" * 6, "CPython 3.11.7", "Linux x86_64")
    version = ServedRecord("simulated/sim-8b", "sim-8b", "", "2026-01-02T03:04:05Z", "2026-01-03")
    return msgspec.structs.replace(kept, environments=(here,), served=(version,))


@pytest.fixture(scope="module")
def null(tmp_path_factory: pytest.TempPathFactory) -> tuple[Results, Record]:
    directory = tiny.run(tmp_path_factory.mktemp("null"), tiny.THREE, items=8)
    return assess.analyze(directory), paper.read(directory / "lock.json")


def spoken(section: Section) -> str:
    """A section's sentences as text."""
    said = []
    for block in section.blocks:
        if isinstance(block, Paragraph):
            said.append(f"{block.lead} {text_of(block.sentences)}".strip())
        elif isinstance(block, Entries):
            said += [f"{head} {text_of(sentences)}".strip() for head, sentences in block.entries]
    return "\n".join(said)


def by_title(composed: Paper) -> dict[str, str]:
    return {one.title: spoken(one) for one in composed.sections}


def without_figures(composed: Paper) -> Paper:
    def bare(section: Section) -> Section:
        kept = tuple(block for block in section.blocks if not isinstance(block, Figure))
        return Section(section.title, kept)

    return dataclasses.replace(
        composed,
        sections=tuple(map(bare, composed.sections)),
        appendix=tuple(map(bare, composed.appendix)),
    )


def put(composed: Paper, folder: Path) -> Path:
    """The sources of a paper without figures, ready to be set by either engine."""
    bare = without_figures(composed)
    here = Path(paper.__file__).parent
    for name in ("paper.tex", "paper.typ", "references.bib"):
        shutil.copy(here / name, folder / name)
    for name, text in tex.sources(bare).items():
        (folder / name).write_text(text, encoding="utf-8")
    (folder / "paper.json").write_bytes(typeset.source(bare))
    return folder


def needs_typst() -> None:
    pytest.importorskip("typst", reason="the extra `paper` is not installed")


# --- what it says --------------------------------------------------------------------------------


def test_every_interval_of_the_text_is_in_a_table(results: Results, record: Record) -> None:
    composed = paper.compose(results, record)
    cells = {
        cell for sheet in latex.sheets(results) for row in sheet.rows for cell in row
    }  # fmt: skip
    in_tables = {found for cell in cells for found in INTERVAL.findall(cell)}
    said = by_title(composed)
    found = INTERVAL.findall(f"{text_of(composed.abstract)} {said['Results']}")
    assert len(found) >= 4
    trend = {
        estimate_text(one.estimate) for one in results.contrasts if one.quantity == "trend"
    }  # fmt: skip
    assert {text for text in found if text not in trend} <= in_tables


def test_tables_hold_the_numbers_of_the_results(study: Path, results: Results) -> None:
    sheets = {sheet.name: sheet for sheet in latex.sheets(results)}
    with (study / "results" / "deltas.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    shown = [*sheets["deltas-demo-sums"].rows, *sheets["oracle-demo-sums"].rows]
    assert len(shown) == len(rows) == 15
    for row in rows:
        model = row["model"].partition("/")[2]
        line = next(r for r in shown if r[:2] == (row["protocol"], model))
        want = [f"{100 * float(row[k]):+.1f}" for k in ("delta", "ci_low", "ci_high")]
        got = re.findall(r"[+−]?\d+\.\d", line[4])
        assert [float(x.replace("−", "-")) for x in got] == [float(x) for x in want]
        assert line[6:10] == (row["fixed"], row["broken"], row["n_items"], row["n_missing"])


def test_what_is_shown_is_said_with_its_cells(results: Results, record: Record) -> None:
    said = by_title(paper.compose(results, record))
    sure = [one for one in results.cells if (one.p_holm or 1) < 0.05]
    assert sure
    assert f"delta differs from zero in {len(sure)} of 5 cells" in said["Results"]
    for one in sure:
        assert estimate_text(one.delta) in said["Results"]
    assert "they are no evidence that a model corrects itself" in said["Results"]


def test_a_null_study_claims_nothing(null: tuple[Results, Record]) -> None:
    composed = paper.compose(*null)
    said = by_title(composed)
    abstract = text_of(composed.abstract)
    assert "no change of accuracy is shown" in abstract
    assert not CLAIMS.search(abstract)
    assert "gain pays" not in abstract
    for title in ("Results", "Cost and benefit", "Patterns by task and recommendations",
                  "Practical guidelines"):  # fmt: skip
        assert not CLAIMS.search(said[title]), title
    assert "correction pays" not in said["Cost and benefit"]
    assert said["Practical guidelines"].count("Not supported by this study.") >= 4
    assert "delta differs from zero in" not in said["Results"]
    tables = [one for one in latex.sheets(null[0]) if one.kind == "scaling"]
    assert [row[1] for row in tables[0].rows] == ["not fitted"]


def test_three_models_refuse_the_fit_with_the_reason(null: tuple[Results, Record]) -> None:
    said = by_title(paper.compose(*null))
    refused = "was not fitted against size: 3 models of different size: nothing is fitted below 4"
    assert refused in said["Results"]
    assert "nothing was fitted" in said["Methodology"]


@pytest.mark.parametrize(
    ("rung", "words"),
    [
        (0, "nothing is claimed about size: WHY"),
        (1, "nothing is claimed about size: it lacks WHY"),
        (2, "the protocol CLAIM. Nothing further is claimed for review: it lacks WHY"),
        (3, "the protocol CLAIM. Nothing further is claimed for review: it lacks WHY"),
    ],
)
def test_the_ladder_of_claims_is_climbed_no_higher(
    results: Results, record: Record, rung: int, words: str
) -> None:
    claims = tuple(
        dataclasses.replace(one, rung=rung, text="CLAIM", missing="WHY") for one in results.claims
    )
    changed = dataclasses.replace(results, claims=claims)
    said = by_title(paper.compose(changed, record))["Results"]
    assert words in said
    assert ("CLAIM" in said) == (rung >= 2)
    scaling = next(one for one in latex.sheets(changed) if one.kind == "scaling")
    assert ("parameters, or why not" in scaling.columns) == (rung >= 3)


def test_limitations_follow_from_the_warnings(results: Results, record: Record) -> None:
    from deltascale.analysis import Caveat

    worse = (Caveat(0, "made_up", "somewhere", "it is so"),) * 5
    changed = dataclasses.replace(results, warnings=(*results.warnings, *worse))
    said = by_title(paper.compose(changed, record))["Limitations"]
    assert "Made up It is so (somewhere)." in said
    assert "The same holds in 2 more." in said
    for one in results.warnings:
        assert one.text[1:] in said or "The same holds" in said


def test_only_methods_that_were_used_are_described(results: Results, record: Record) -> None:
    said = by_title(paper.compose(results, record))["Methodology"]
    assert "Tango" in said
    assert "cluster-robust" not in said
    assert "Manski" not in said
    assert "bounds over every value" not in said
    clustered = tuple(
        dataclasses.replace(one, delta=msgspec.structs.replace(one.delta, method="CR1 t"))
        for one in results.cells
    )
    other = by_title(paper.compose(dataclasses.replace(results, cells=clustered), record))
    assert "cluster-robust" in other["Methodology"]
    assert "Tango" not in other["Methodology"]


def test_means_over_datasets_have_a_table_and_a_method(
    results: Results, record: Record, tmp_path: Path
) -> None:
    assert "deltas-all" not in {sheet.name for sheet in latex.sheets(results)}
    assert "Satterthwaite" not in by_title(paper.compose(results, record))["Methodology"]
    two = assess.analyze(
        tiny.run(tmp_path / "two", items=10, datasets=("demo-sums", "demo-choices"))
    )
    (sheet,) = [one for one in latex.sheets(two) if one.name == "deltas-all"]
    rows = {
        (one.protocol, one.model.partition("/")[2]): one.estimate
        for one in two.contrasts
        if one.quantity == "macro_delta"
    }
    assert [row[:2] for row in sheet.rows] == list(rows), "review, then its null"
    for row in sheet.rows:
        made = rows[row[0], row[1]]
        assert row[2:] == (estimate_text(made), str(made.n), str(made.n_missing))
    composed = paper.compose(two, paper.read(tmp_path / "two" / "lock.json"))
    assert "Satterthwaite" in by_title(composed)["Methodology"]
    shown = [
        block.sheet.name
        for section in composed.sections
        for block in section.blocks
        if isinstance(block, Table)
    ]
    assert shown.count("deltas-all") == 1


def test_every_source_that_is_cited_is_in_the_bibliography() -> None:
    here = Path(paper.__file__).parent
    known = set(re.findall(r"^@\w+\{(\w+),", (here / "references.bib").read_text(), re.MULTILINE))
    code = "".join(path.read_text(encoding="utf-8") for path in here.glob("*.py"))
    cited = set(re.findall(r'"([a-z]+\d{4}\w*)"', code))
    assert len(cited) > 20
    assert cited <= known


def test_the_years_of_preprints_fit_their_numbers() -> None:
    """A preprint of arXiv:yymm is never older than its number says, nor published much later."""
    text = (Path(paper.__file__).parent / "references.bib").read_text()
    entries = re.split(r"\n@", text)
    found = 0
    for entry in entries:
        number = re.search(r"arXiv:(\d\d)\d\d\.\d{5}", entry)
        year = re.search(r"year = \{(\d{4})\}", entry)
        assert year is not None
        if number is not None:
            found += 1
            assert 0 <= int(year.group(1)) - (2000 + int(number.group(1))) <= 1
    assert found >= 12


# --- the same bytes ------------------------------------------------------------------------------


def golden(name: str, text: str) -> None:
    path = GOLDEN / name
    if os.environ.get("DELTASCALE_GOLDEN") == "write":
        path.write_text(text, encoding="utf-8", newline="\n")
    assert path.read_text(encoding="utf-8") == text, (
        f"{path.name} differs; if the change is meant: DELTASCALE_GOLDEN=write pytest {__file__}"
    )


@pytest.mark.parametrize("name", ["deltas-demo-sums", "costs-demo-sums"])
def test_golden_tables(results: Results, name: str) -> None:
    sheet = next(one for one in latex.sheets(results) if one.name == name)
    golden(f"{name}.tex", latex.booktabs(sheet))
    golden(f"{name}.md", latex.markdown(sheet))


def test_golden_text(results: Results, record: Record) -> None:
    composed = paper.compose(results, record)
    parts = [composed.title, text_of(composed.abstract)]
    parts += [
        f"# {one.title}\n{spoken(one)}"
        for one in composed.sections
        if one.title != "Practical guidelines"  # worded elsewhere, and tested there
    ]
    golden("paper.txt", "\n\n".join(parts) + "\n")


def test_setting_twice_gives_the_same_bytes(
    results: Results, record: Record, tmp_path: Path
) -> None:
    needs_typst()
    made = []
    for name in ("a", "b"):
        folder = tmp_path / name
        folder.mkdir()
        put(paper.compose(results, record), folder)
        (folder / "paper.pdf").write_bytes(typeset.pdf(folder / "paper.typ"))
        made.append({path.name: path.read_bytes() for path in sorted(folder.iterdir())})
    assert made[0] == made[1]
    assert made[0]["paper.pdf"].startswith(b"%PDF")


@pytest.mark.slow
def test_another_process_writes_the_same_paper(study: Path, tmp_path: Path) -> None:
    """Sets and dictionaries in another order, the same ledger: every file alike."""
    needs_typst()
    made = []
    for seed in ("1", "2"):
        copy = tmp_path / seed
        shutil.copytree(study, copy)
        subprocess.run(
            [sys.executable, "-m", "deltascale", "paper", str(copy)],
            check=True,
            capture_output=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        )
        folder = copy / "paper"
        made.append({str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*.*")})
    assert made[0] == made[1]


@pytest.mark.slow
def test_the_command_writes_everything(study: Path) -> None:
    needs_typst()
    pytest.importorskip("matplotlib", reason="the extra `figures` is not installed")
    done = CliRunner().invoke(cli, ["paper", str(study)], catch_exceptions=False)
    assert done.exit_code == 0
    folder = study / "paper"
    assert (folder / "paper.pdf").read_bytes().startswith(b"%PDF")
    content = (folder / "content.tex").read_text(encoding="utf-8")
    for name in re.findall(r"\\includegraphics\[.*?\]\{(.*?)\}", content):
        assert (folder / name).exists()
    for label in re.findall(r"\\ref\{(.*?)\}", content):
        assert f"\\label{{{label}}}" in content
    assert {path.suffix for path in (folder / "tables").iterdir()} == {".tex", ".md", ".csv"}
    assert not list(folder.rglob("*.part"))


def test_a_directory_without_a_study_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(Mistake, match="there is no study here"):
        paper.read(tmp_path / "lock.json")


def test_without_typst_the_remedy_is_said(
    results: Results, record: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "typst", None)
    with pytest.raises(MissingExtra, match=r"deltascale\[paper\]"):
        paper.write(results, record, tmp_path / "none")
    assert not (tmp_path / "none").exists()


# --- text that would like to be more -------------------------------------------------------------


def renamed(value: object, names: dict[str, str]) -> object:
    """The value with some strings replaced wherever they stand."""
    again = partial(renamed, names=names)
    if isinstance(value, str):
        return names.get(value, value)
    if isinstance(value, tuple):
        return tuple(again(one) for one in value)
    if isinstance(value, dict):
        return {again(key): again(one) for key, one in value.items()}
    if isinstance(value, msgspec.Struct):
        fields = {name: again(getattr(value, name)) for name in value.__struct_fields__}
        return msgspec.structs.replace(value, **fields)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: again(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return dataclasses.replace(value, **fields)
    return value


def hostile(results: Results, record: Record) -> Paper:
    names = {tiny.FIVE[0]: f"x/{HOSTILE}", tiny.FIVE[1]: "[b]", "demo-sums": f"*{HOSTILE}"}
    changed = renamed(results, names)
    assert isinstance(changed, Results)
    kept = renamed(record, names)
    assert isinstance(kept, Record)
    worded = msgspec.structs.replace(
        kept.protocols["review"], prompts={HOSTILE: f"{HOSTILE}\n\n[a] first\n*b\n{HOSTILE}"}
    )
    kept = msgspec.structs.replace(kept, protocols={**kept.protocols, "review": worded})
    return paper.compose(changed, kept)


def test_hostile_text_is_inert_in_typst(results: Results, record: Record, tmp_path: Path) -> None:
    needs_typst()
    folder = put(hostile(results, record), tmp_path)
    assert typeset.pdf(folder / "paper.typ").startswith(b"%PDF")
    text = (folder / "paper.json").read_text(encoding="utf-8")
    assert "\\\\input{/etc/hostname}" in text  # there, as text
    assert not re.search("[\x1b\u202e]|\\\\u001b|\\\\u202e", text)
    # The template evaluates nothing and reads only its own data.
    template = (folder / "paper.typ").read_text(encoding="utf-8")
    assert not re.search(r"\beval\b|\bread\(|#import|#include", template)


def test_hostile_text_is_inert_in_latex(results: Results, record: Record) -> None:
    sources = tex.sources(without_figures(hostile(results, record)))
    for text in sources.values():
        commands = set(re.findall(r"\\([A-Za-z]+)", text))
        assert not commands & {"input", "write", "def", "catcode", "openin", "immediate"}
        assert "\\end{document}" not in text
        assert "\x1b" not in text
        assert "\u202e" not in text
    begun = re.findall(r"\\begin\{(\w+\*?)\}", sources["content.tex"])
    ended = re.findall(r"\\end\{(\w+\*?)\}", sources["content.tex"])
    assert sorted(begun) == sorted(ended)


@given(st.text())
def test_escaped_text_has_nothing_that_tex_would_read(text: str) -> None:
    escaped = latex.escape(text)
    left = re.sub(
        r"\\text[a-z]+\{\}|\\ldots\{\}|\\S\{\}|\\[{}$&#%_]|\$[^$]*\$|\{[\[\]*]\}", "", escaped
    )
    left = re.sub(r"([-,])\{\}(?=\1)", "", left)
    assert not set(left) & set("\\{}$&#_^%[]`'\"<>|*")
    assert "--" not in escaped
    assert ",," not in escaped
    assert left.replace("~", "").isprintable()


@pytest.mark.parametrize(
    ("text", "tex_text"),
    [
        ("a_b & 5 %", r"a\_b \& 5 \%"),
        ("\\x{y}", r"\textbackslash{}x\{y\}"),
        ("a--b---c", "a-{}-b-{}-{}-c"),
        ("[x] *y", "{[}x{]} {*}y"),
        ("+3.2 [−1.0, ∞]", r"+3.2 {[}$-$1.0, $\infty${]}"),
        ("naïve 模", "naïve {[}U+6A21{]}"),
        ("a\nb\x00\u202ec", "a b  c"),
    ],
)
def test_escape(text: str, tex_text: str) -> None:
    assert latex.escape(text) == tex_text


def test_markdown_shows_markup_as_text() -> None:
    sheet = latex.Sheet("t", "t", "", "<b>", ("a|b",), (("[x](javascript:1) https://e.org",),))
    made = latex.markdown(sheet)
    assert "<b>" not in made
    assert "| a\\|b |" in made
    assert "](" not in made.replace("\\](", "")
    assert "https://" not in made


def test_csv_tables_hold_no_formula(results: Results, tmp_path: Path) -> None:
    changed = renamed(results, {tiny.FIVE[0]: "=cmd|' /C calc'!A0"})
    assert isinstance(changed, Results)
    for path in latex.write(changed, tmp_path):
        if path.suffix == ".csv":
            for row in csv.reader(path.read_text(encoding="utf-8").splitlines()):
                assert not any(cell.startswith(("=", "@")) for cell in row)


# --- a blind review ------------------------------------------------------------------------------


def test_an_anonymous_paper_names_nobody(results: Results, record: Record) -> None:
    told = {
        "host": "https://gpu7.lab.example.edu:8000/v1",
        "bare": "gpu7.lab.example.edu",
        "path": "/home/ada/study/data.csv",
        "mail": "ada@example.org",
        "address": "10.1.2.3:8000",
    }
    said = " and ".join(told.values())
    models = tuple(
        msgspec.structs.replace(
            model, size=msgspec.structs.replace(model.size, source="published", citation=said)
        )
        for model in results.study.models
    )
    own = msgspec.structs.replace(results.study.datasets[0], file=told["path"])
    study = msgspec.structs.replace(results.study, models=models, datasets=(own,), system=said)
    changed = dataclasses.replace(results, study=study)
    for anonymous in (False, True):
        composed = paper.compose(changed, record, anonymous=anonymous)
        text = typeset.source(composed).decode() + "".join(tex.sources(composed).values())
        for word in ("lab.example.edu", "/home/ada", "ada@", "10.1.2.3", "c0ffee"):
            assert (word in text) != anonymous, word
    assert "Anonymous authors" in text


# --- other engines -------------------------------------------------------------------------------


def needs_tex() -> None:
    if shutil.which("pdflatex") is None or shutil.which("bibtex") is None:
        pytest.skip("no TeX here: pdflatex and bibtex are not installed")


def by_latex(folder: Path) -> str:
    """Set the paper by pdfLaTeX with its bibliography; returns the last log."""
    run = partial(subprocess.run, cwd=folder, capture_output=True, check=False, timeout=300)
    log = b""
    for command in ("pdflatex", "bibtex", "pdflatex", "pdflatex"):
        options = ["-interaction=nonstopmode", "-no-shell-escape"] if command != "bibtex" else []
        log = run([command, *options, "paper"]).stdout
    return log.decode(errors="replace")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_latex_sets_the_paper(study: Path) -> None:
    needs_tex()
    needs_typst()
    done = CliRunner().invoke(cli, ["paper", str(study)], catch_exceptions=False)
    assert done.exit_code == 0
    log = by_latex(study / "paper")
    assert "Output written on paper.pdf" in log
    assert not re.search(r"^!|undefined|multiply defined", log, re.MULTILINE)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_hostile_text_does_nothing_in_latex(
    results: Results, record: Record, tmp_path: Path
) -> None:
    needs_tex()
    log = by_latex(put(hostile(results, record), tmp_path))
    assert "Output written on paper.pdf" in log
    assert not re.search(r"^!|undefined|\(/etc/hostname", log, re.MULTILINE)


def test_a_record_is_read_from_what_a_lock_holds(study: Path) -> None:
    found = paper.read(study / "lock.json")
    assert set(found.protocols) == {"review", "resample", "oracle"}
    assert isinstance(found.datasets["demo-sums"], DatasetRecord)
    assert len(found.datasets["demo-sums"].ids) == 200
    (study / "broken.json").write_text(json.dumps({"protocols": 3}))
    with pytest.raises(Mistake, match="can't be read"):
        paper.read(study / "broken.json")
