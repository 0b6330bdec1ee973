"""`compat: upstream`: what differs from our tools, tool by tool, beside what ours do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from deltascale import scorers
from deltascale.datasets import Cache, Tools
from deltascale.datasets.toolqa import corpora, parse
from deltascale.datasets.toolqa.tools import Toolbox, runner
from deltascale.errors import DatasetMistake
from deltascale.records import DatasetSpec, Item, Question, UseTool
from tests import corpus
from tests.corpus import told

COFFEE, AIRBNB, DBLP = "LoadDB[coffee]", "LoadDB[airbnb]", "LoadGraph[dblp]"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return corpus.folder(tmp_path_factory.mktemp("toolqa"))


@pytest.fixture(scope="module")
def ready(folder: Path) -> corpora.Corpora:
    domains = ["coffee", "airbnb", "dblp"]
    return corpora.prepare(domains, path=str(folder), cache=Cache(folder / "cache"))


@pytest.fixture
def ours(ready: corpora.Corpora) -> Tools:
    return runner(Toolbox(ready, None))


@pytest.fixture
def theirs(ready: corpora.Corpora) -> Tools:
    return runner(Toolbox(ready, None, upstream=True))


@pytest.fixture(scope="module")
def graph(folder: Path) -> dict[str, Any]:
    path = folder / "external_corpus" / "dblp" / "dblp_graphs.json"
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def test_an_unknown_database_after_a_good_one_is_a_success(ours: Tools, theirs: Tools) -> None:
    day = "FilterDB[Date=2001-01-05]"
    assert "failed" in told(theirs, "LoadDB[tea]")
    assert "The database tea is loaded. Its columns are: Date" in told(
        theirs, COFFEE, "LoadDB[tea]"
    )
    assert told(theirs, COFFEE, day, "LoadDB[tea]", "GetValue[Date]") == "2001-01-05"
    assert "failed" in told(theirs, "LoadDB[Coffee]")
    assert "failed" in told(ours, COFFEE, "LoadDB[tea]")


@pytest.mark.parametrize(
    ("condition", "theirs_told", "ours_told"),
    [
        ("High>100", "5741 rows are kept.", "4308 rows are kept."),
        ("High>=306.25", "2", "1 row is kept."),
        ("Date = 2001-01-05", "failed", "1 row is kept."),
        ("Date!=2001-01-05", "failed", "5740 rows are kept."),
        ("Date", "5741 rows are kept.", "failed"),
        ("date=2001-01-05", "failed", "1 row is kept."),
        ("Volume<0", "failed", "failed"),
        ("Date=2001-01-05=x", "1 rows are kept.", "failed"),
        ("High>>100", "5741 rows are kept.", "failed"),
    ],
)
def test_filters(
    condition: str, theirs_told: str, ours_told: str, ours: Tools, theirs: Tools
) -> None:
    assert ours_told in told(ours, COFFEE, f"FilterDB[{condition}]")
    if condition != "High>=306.25":
        assert theirs_told in told(theirs, COFFEE, f"FilterDB[{condition}]")
        return
    highs = told(theirs, COFFEE, f"FilterDB[{condition}]", "GetValue[High]").split(", ")
    assert "99.3" in highs, "as texts, 99.3 is above 306.25"


def test_a_broken_condition_keeps_those_before_it_and_no_rows_keep_none(
    ours: Tools, theirs: Tools
) -> None:
    broken = "FilterDB[Date=2001-01-05, Price=1]"
    assert told(theirs, COFFEE, broken, "GetValue[Date]") == "2001-01-05"
    assert told(ours, COFFEE, broken, "GetValue[Date]").endswith("(5741 values)")
    nothing = "FilterDB[Date=2001-01-05, Volume=x]"
    assert told(theirs, COFFEE, nothing, "GetValue[Date]").endswith("(5741 values)")


def test_a_value_with_a_comma_can_not_be_given(ours: Tools, theirs: Tools) -> None:
    row = (AIRBNB, "FilterDB[id=1001254]", "GetValue[house_rules]")
    rules = told(ours, *row)
    assert "loaded" in told(theirs, AIRBNB)
    dear = "FilterDB[price=$1,060, NAME!=x]"
    assert "kept" in told(ours, AIRBNB, dear)
    assert "failed" in told(theirs, AIRBNB, "FilterDB[neighbourhood=Kensington, Brooklyn>x]")
    assert told(theirs, *row) == rules


def test_values_are_as_they_were_written(ours: Tools, theirs: Tools) -> None:
    row = (AIRBNB, "FilterDB[id=1001254]")
    assert told(ours, *row, "GetValue[price]") == "966"
    assert told(theirs, *row, "GetValue[price]") == "$966 "
    assert told(ours, *row, "GetValue[license]") == "(empty)"
    assert told(theirs, *row, "GetValue[license]") == "nan"
    assert told(theirs, *row, "GetValue[lat]") == "40.64749"
    assert "failed" in told(theirs, *row, "GetValue[host_name]")
    assert told(ours, *row, "GetValue[host_name]") == "Madaline"


def test_graphs_load_by_one_name(ours: Tools, theirs: Tools) -> None:
    for name in ("PaperNet", "DBLP"):
        assert "failed" in told(theirs, f"LoadGraph[{name}]")
        assert "loaded" in told(ours, f"LoadGraph[{name}]")
    assert "loaded" in told(theirs, DBLP)


def test_a_paper_shows_what_it_cites_alone(
    ours: Tools, theirs: Tools, graph: dict[str, Any]
) -> None:
    titles, edges = graph["id2title_dict"], graph["paper_net"]["edges"]
    plain = {i: t for i, t in titles.items() if ", " not in str(t)}
    pairs = [(a, b) for a, b, *_ in edges if a in plain and b in titles]
    citing, cited = pairs[0]
    there = told(theirs, DBLP, f"NeighbourCheck[PaperNet, {titles[citing]}]")
    assert there.startswith("[")
    assert str(titles[cited]) in there
    assert "failed" in told(theirs, DBLP, f"NeighbourCheck[PaperNet, {titles[citing]}, in]")
    assert "failed" not in told(ours, DBLP, f"NeighbourCheck[PaperNet, {titles[citing]}, in]")
    assert told(theirs, DBLP, f"NodeCheck[PaperNet, {titles[citing]}]").startswith("{'")


def test_names_with_commas_can_not_be_given(ours: Tools, theirs: Tools) -> None:
    for tool in ("NodeCheck", "NeighbourCheck"):
        use = f"{tool}[PaperNet, Of apples, and pears]"
        assert "these are not the arguments it takes" in told(theirs, DBLP, use)
        assert "there is no paper 'Of apples, and pears'" in told(ours, DBLP, use)


def test_names_are_looked_up_as_they_stand(
    ours: Tools, theirs: Tools, graph: dict[str, Any]
) -> None:
    names = graph["id2author_dict"]
    first, second = (str(names[end]) for end in graph["author_net"]["edges"][0][:2])
    assert first.upper() != first
    for tool, rest in (("NodeCheck", ""), ("NeighbourCheck", ""), ("EdgeCheck", f", {second}")):
        assert "failed" not in told(theirs, DBLP, f"{tool}[AuthorNet, {first}{rest}]")
        for other in (first.upper(), f'"{first}"', f" {first}"):
            use = f"{tool}[AuthorNet, {other}{rest}]"
            assert "failed" in told(theirs, DBLP, use), use
            assert "failed" not in told(ours, DBLP, use), use
    swapped = f"EdgeCheck[AuthorNet, {first}, {second.upper()}]"
    assert "failed" in told(theirs, DBLP, swapped)


def test_an_edge_of_authors_can_be_looked_at_once(
    ours: Tools, theirs: Tools, graph: dict[str, Any]
) -> None:
    names = graph["id2author_dict"]
    first, second, _ = graph["author_net"]["edges"][0]
    look = f"EdgeCheck[AuthorNet, {names[first]}, {names[second]}]"
    back = f"EdgeCheck[AuthorNet, {names[second]}, {names[first]}]"
    assert told(theirs, DBLP, look).startswith("{'")
    assert "failed" in told(theirs, DBLP, look, look)
    assert "failed" in told(theirs, DBLP, look, back)
    assert told(theirs, DBLP, look, DBLP, look).startswith("{'"), "a graph loads as it was"
    assert "failed" not in told(ours, DBLP, look, look)
    citing, cited = graph["paper_net"]["edges"][0][:2]
    titles = graph["id2title_dict"]
    if ", " not in f"{titles[citing]}{titles[cited]}":
        papers = f"EdgeCheck[PaperNet, {titles[citing]}, {titles[cited]}]"
        assert told(theirs, DBLP, papers, papers) == "{}"


def test_sql_sees_texts(ours: Tools, theirs: Tools) -> None:
    highest = "SQLInterpreter[SELECT MAX(High) AS h FROM coffee.coffee_data]"
    assert told(ours, highest) == "h: 306.25"
    assert told(theirs, highest).startswith("h: 99")
    odd = (
        "SQLInterpreter[SELECT cancellatitudeion_policy, latitude, license, "
        "LENGTH(house_rules) AS n, calculatitudeed_host_listings_count AS c "
        "FROM airbnb.airbnb_data WHERE id = '1002102']"
    )
    assert told(theirs, odd).startswith("cancellatitudeion_policy: moderate, latitude: 40.75362")
    assert "license: ---, n: 250" in told(theirs, odd)
    assert "failed" in told(ours, odd)


def test_python_loses_its_lines_and_gives_ans_or_nothing(ready: corpora.Corpora) -> None:
    from deltascale.sandbox import try_backend

    backend = try_backend("wasm")
    if isinstance(backend, str):
        pytest.skip(backend)
    run = runner(Toolbox(ready, backend, upstream=True))

    def python(code: str) -> str:
        use = UseTool("PythonInterpreter", json.dumps({"code": code}))
        return corpus.observed(run, (corpus.START, use))

    assert python("ans = sum(range(10))") == "45"
    assert python("print('said')") == "0"
    assert python("def solution(): return 7") == "0"
    assert "failed" in python("ans = 1\nans += 1")


def test_the_score_is_upstreams() -> None:
    scorer = scorers.find("toolqa")
    text = "Action: Finish[147]"
    item = Item("i", Question((), ""), "147.0", meta={"compat": "upstream"})
    judged = scorer.judge(item, "147", text)
    assert (judged.value, judged.others["em_fixed"]) == (0.0, 1.0)
    assert "em_upstream" not in judged.others


def test_items_say_that_they_are_upstreams() -> None:
    line = json.dumps({"qid": "q", "question": "What?", "answer": "1"})

    def parsed(**options: str) -> Item:
        return parse("easy/coffee", line, DatasetSpec("toolqa", options=options))[0]

    assert parsed(compat="upstream").meta == {"compat": "upstream"}
    assert parsed().meta == parsed(compat="fixed").meta == {}
    with pytest.raises(DatasetMistake, match="known are fixed, upstream"):
        parsed(compat="both")
