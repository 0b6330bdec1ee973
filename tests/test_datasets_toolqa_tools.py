"""ToolQA's tools do what they say, and refuse what a model must not do."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from deltascale import datasets
from deltascale.datasets import Cache
from deltascale.datasets.toolqa import agent, corpora, pickled
from deltascale.datasets.toolqa.tools import Toolbox, runner
from deltascale.errors import DatasetMistake
from deltascale.records import Ask, DatasetSpec, Item, Question, Seen, UseTool, user
from deltascale.scorers.toolqa import counts
from tests import corpus
from tests.corpus import START, Tell, observed


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return corpus.folder(tmp_path_factory.mktemp("toolqa"))


@pytest.fixture(scope="module")
def ready(folder: Path) -> corpora.Corpora:
    return corpora.prepare(corpora.DOMAINS, path=str(folder), cache=Cache(folder / "cache"))


@pytest.fixture
def tell(ready: corpora.Corpora) -> Iterator[Tell]:
    with corpus.telling(ready) as told:
        yield told


# --- behaviour -----------------------------------------------------------------------------------


def test_filters_add_up_until_the_database_is_loaded_again(tell: Tell) -> None:
    columns = tell("LoadDB[coffee]")
    assert columns.endswith("Date, Open, High, Low, Close, Volume, Currency")
    assert tell("FilterDB[Date>=2001-01-01, Date < 2001-02-01]") == "21 rows are kept."
    assert tell("FilterDB[High>67]") == "10 rows are kept."
    first = tell("GetValue[Date]").split(", ")[0]
    assert tell(f"FilterDB[Date={first}]") == "1 row is kept."
    assert "no row that was kept meets" in tell("FilterDB[Volume<0]")
    assert tell("GetValue[date]") == first
    tell("LoadDB[Coffee]")
    assert tell("FilterDB[High>100]") == "4308 rows are kept."


def test_numbers_are_compared_as_numbers_and_texts_as_texts(tell: Tell) -> None:
    tell("LoadDB[airbnb]")
    n_all = int(tell("FilterDB[price>0]").split()[0])
    n_dear = int(tell("FilterDB[price >= $1,000]").split()[0])
    assert 0 < n_dear < n_all / 2
    tell("LoadDB[yelp]")
    assert tell("FilterDB[postal_code=08083]").endswith("kept.")
    tell("LoadDB[yelp]")
    assert "no row" in tell("FilterDB[postal_code=8083]")


@pytest.mark.parametrize("sign", ["==", " == "])
def test_two_equal_signs_are_one(tell: Tell, sign: str) -> None:
    once = tell("LoadDB[coffee]", "FilterDB[Date=2001-05-02]")
    assert once == "1 row is kept."
    assert tell("LoadDB[coffee]", f"FilterDB[Date{sign}2001-05-02]") == once
    some = tell("LoadDB[coffee]", "FilterDB[Date!=2001-05-02]")
    assert tell("LoadDB[coffee]", "FilterDB[Date<>2001-05-02]") == some != once


def test_names_may_be_written_in_any_case_and_with_either_space(tell: Tell) -> None:
    tell("LoadDB[airbnb]", "FilterDB[ROOM_TYPE=private room, neighbourhood group!=Queens]")
    told = tell("GetValue[room type]")
    assert set(told.partition(", ...")[0].split(", ")) == {"Private room"}


def test_commas_in_a_value_are_part_of_it(tell: Tell) -> None:
    tell("LoadDB[flights]")
    assert tell("FilterDB[OriginCityName=MIA City, XX, Airline=American Airlines Inc.]").endswith(
        "kept."
    )


@pytest.mark.parametrize(
    ("actions", "told"),
    [
        (["GetValue[Open]"], "GetValue failed: no database is loaded; use LoadDB first."),
        (["FilterDB[Open>1]"], "FilterDB failed: no database is loaded"),
        (["LoadDB[tea]"], "there is no database 'tea', only airbnb, coffee, flights, yelp"),
        (["LoadDB[coffee]", "FilterDB[Open]"], "has none of = != > >= < <="),
        (["LoadDB[coffee]", "FilterDB[Price>1]"], "there is no column 'Price'; there are Date"),
        (["LoadDB[coffee]", "FilterDB[Open>much]"], "Open holds numbers, and 'much' is none"),
        (["LoadDB[coffee]", "GetValue[Price]"], "there is no column 'Price'"),
        (["NodeCheck[AuthorNet, Ada]"], "no graph is loaded; use LoadGraph[dblp] first"),
        (["LoadGraph[imdb]"], "there is no graph 'imdb', only dblp"),
        (["LoadGraph[dblp]", "NodeCheck[Authors, Ada]"], "only PaperNet and AuthorNet"),
        (["LoadGraph[dblp]", "NodeCheck[AuthorNet, Nobody]"], "there is no author 'Nobody'"),
        (["LoadGraph[dblp]", "EdgeCheck[AuthorNet, One]"], "not two nodes of the graph"),
        (["Calculate[import os]"], "Calculate failed: "),
        (["Search[x]"], "There is no tool Search. There are Calculate["),
        (["RetrieveAgenda[?!]"], "there are no words to look for"),
        (["RetrieveAgenda[qqqqq]"], "nothing matches; try other words"),
        (["PythonInterpreter[ans = 1]"], "the Python interpreter is off"),
        (["SQLInterpreter[SELECT 1 FROM nowhere]"], "no such table: nowhere"),
    ],
)
def test_mistakes_are_told_to_the_model(tell: Tell, actions: list[str], told: str) -> None:
    assert told in tell(*actions)


def test_a_mistake_leaves_everything_as_it_was(tell: Tell) -> None:
    tell("LoadDB[coffee]", "FilterDB[Date=2001-01-05]")
    for mistake in ("LoadDB[tea]", "FilterDB[Date=x, Price=1]", "GetValue[y]", "Search[z]"):
        tell(mistake)
    assert tell("GetValue[Date]") == "2001-01-05"


@pytest.mark.parametrize(
    "query",
    [
        "DROP TABLE coffee.coffee_data",
        "DELETE FROM coffee.coffee_data",
        "INSERT INTO coffee.coffee_data VALUES (1)",
        "CREATE TABLE coffee.x (y)",
        "ATTACH DATABASE 'x.sqlite' AS x",
        "PRAGMA writable_schema = 1",
        "SELECT load_extension('x')",
        "SELECT 1; SELECT 2",
        "SELECT hex(zeroblob(100000000))",
        "VACUUM INTO 'x.sqlite'",
        "SELECT printf('%.300000000c', 'x')",
        "SELECT FORMAT('%.300000000c', 'x')",
        "SELECT random()",
    ],
)
def test_sql_can_only_read(tell: Tell, ready: corpora.Corpora, query: str) -> None:
    before = ready.files["coffee"].read_bytes()
    assert "SQLInterpreter failed: " in tell(f"SQLInterpreter[{query}]")
    assert ready.files["coffee"].read_bytes() == before
    assert not Path("x.sqlite").exists()


def test_sql_that_runs_on_is_stopped(tell: Tell, monkeypatch: pytest.MonkeyPatch) -> None:
    from deltascale.datasets.toolqa import tables

    monkeypatch.setattr(tables, "MOST_SECONDS", 0.05)
    endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT MAX(x) FROM n"
    assert "interrupted" in tell(f"SQLInterpreter[{endless}]")


def test_sql_knows_columns_as_they_are_shown(tell: Tell) -> None:
    query = "SQLInterpreter[SELECT `room type`, room_type FROM airbnb.airbnb_data LIMIT 1]"
    assert tell("LoadDB[airbnb]", query) == "room_type: Private room, room_type: Private room"
    # An unknown one is a mistake and not a text of its own.
    assert "no such column" in tell("SQLInterpreter[SELECT `no such` FROM coffee.coffee_data]")
    # Our own views may use what a query may not.
    assert "price: $" in tell("SQLInterpreter[SELECT price FROM airbnb.airbnb_upstream LIMIT 1]")


def test_sql_over_several_databases(tell: Tell) -> None:
    query = (
        "SELECT (SELECT COUNT(*) FROM coffee.coffee_data) AS n, `host_name` FROM "
        "airbnb.airbnb_data WHERE id = 1001254;"
    )
    assert tell(f"SQLInterpreter[{query}]") == "n: 5741, host_name: Madaline"
    assert tell("SQLInterpreter[SELECT Date FROM coffee_data]").endswith("... (more rows)")


def test_long_answers_are_cut_with_their_number(tell: Tell) -> None:
    told = tell("LoadDB[coffee]", "GetValue[Date]")
    assert told.endswith(", ... (5741 values)")
    assert len(told) < 4200


def test_graphs_know_both_ends_of_an_edge(tell: Tell, folder: Path) -> None:
    told = json.loads((folder / "external_corpus" / "dblp" / "dblp_graphs.json").read_text())
    first, second, facts = told["author_net"]["edges"][0]
    names, titles = told["id2author_dict"], told["id2title_dict"]
    tell("LoadGraph[PaperNet]")
    for _ in range(2):  # the same question twice has the same answer
        there = tell(f"EdgeCheck[AuthorNet, {names[first]}, {names[second]}]")
        assert there == tell(f"EdgeCheck[AuthorNet, {names[second]}, {names[first]}]")
        assert titles[facts["papers"][0]] in there
    assert names[second] in tell(f"NeighbourCheck[AuthorNet, {names[first]}]")
    citing, cited = told["paper_net"]["edges"][0][:2]
    assert titles[cited] in tell(f"NeighbourCheck[PaperNet, {titles[citing]}]")
    assert titles[citing] in tell(f"NeighbourCheck[PaperNet, {titles[cited]}, in]")
    assert "cites" in tell(f"EdgeCheck[PaperNet, {titles[citing]}, {titles[cited]}]")
    assert "no edge" in tell(f"EdgeCheck[PaperNet, {titles[cited]}, {titles[citing]}]")


def test_native_arguments_are_the_same_as_those_in_brackets(ready: corpora.Corpora) -> None:
    run = runner(Toolbox(ready, None))
    load = UseTool("LoadDB", '{"name": "coffee"}')
    keep = UseTool("FilterDB", '{"conditions": "Date=2001-01-05"}')
    assert observed(run, (START, load, keep)) == "1 row is kept."
    broken = UseTool("FilterDB", '{"conditions": ')
    assert "not a JSON object" in observed(run, (START, load, broken))


def test_a_new_attempt_finds_nothing_of_the_last_one(ready: corpora.Corpora) -> None:
    run = runner(Toolbox(ready, None))
    uses = (
        START,
        UseTool("LoadDB", '{"text": "coffee"}'),
        START,
        UseTool("GetValue", '{"text": "Date"}'),
    )
    assert "no database is loaded" in observed(run, uses)
    assert observed(run, uses[:3]) == ""


def test_python_runs_in_the_sandbox(ready: corpora.Corpora) -> None:
    from deltascale.sandbox import try_backend

    backend = try_backend("wasm")
    if isinstance(backend, str):
        pytest.skip(backend)
    run = runner(Toolbox(ready, backend))

    def told(code: str) -> str:
        use = UseTool("PythonInterpreter", json.dumps({"code": code}))
        return observed(run, (START, use))

    assert told("ans = sum(range(10))") == "45"
    assert told("```python\ndef solution():\n    return 7\n```") == "7"
    assert told("print('said')") == "said"
    assert "PythonInterpreter failed: " in told("1 / 0")
    assert "failed" in told("open('/etc/passwd').read()")
    assert told("import random\nans = random.random()") == told(
        "import random\nans = random.random()"
    )


# --- corpora -------------------------------------------------------------------------------------


def test_corpora_are_made_once_and_from_a_zip_alike(folder: Path, tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    made = corpora.prepare(["coffee"], path=str(folder), cache=cache)
    stamp = made.files["coffee"].stat().st_mtime_ns
    again = corpora.prepare(["coffee", "gsm8k"], path=str(folder), cache=cache)
    assert again == made
    assert again.files["coffee"].stat().st_mtime_ns == stamp
    packed = tmp_path / "corpora.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        archive.write(
            folder / "external_corpus" / "coffee" / "coffee_price.csv",
            "data/external_corpus/coffee/coffee_price.csv",
        )
    zipped = corpora.prepare(["coffee"], path=str(packed), cache=cache)
    run = runner(Toolbox(zipped, None))
    load, keep = UseTool("LoadDB", '{"a": "coffee"}'), UseTool("FilterDB", '{"a": "High>100"}')
    assert observed(run, (START, load, keep)) == "4308 rows are kept."


def test_corpora_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(DatasetMistake, match=r"there is no coffee/coffee_price\.csv in it"):
        corpora.prepare(["coffee"], path=str(tmp_path), cache=Cache(tmp_path))
    with pytest.raises(DatasetMistake, match="it can't be read"):
        corpora.prepare(["coffee"], path=str(tmp_path / "no.zip"), cache=Cache(tmp_path))
    with pytest.raises(DatasetMistake, match="is not in the cache"):
        corpora.prepare(["coffee"], path="", cache=Cache(tmp_path, offline=True))


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return eval, ("1",)


@pytest.mark.parametrize(
    "data", [pickle.dumps(Evil()), pickle.dumps(pickle.Unpickler), b"no pickle", b""]
)
def test_a_pickle_that_holds_more_than_graphs_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x.pkl"
    path.write_bytes(data)
    with path.open("rb") as file, pytest.raises(DatasetMistake, match="this pickle is refused"):
        pickled.load(file)


def test_the_tools_of_a_dataset(folder: Path, tmp_path: Path) -> None:
    options = {"corpus": str(folder), "domains": "coffee", "python": "off"}
    cache = Cache(tmp_path)
    run = datasets.tools(DatasetSpec("toolqa", options=options), cache=cache)
    assert run is not None
    told = observed(run, (START, UseTool("LoadDB", '{"name": "coffee"}')))
    assert "is loaded" in told
    assert datasets.tools(DatasetSpec("demo-sums"), cache=cache) is None
    assert datasets.tools(DatasetSpec("mine", file="mine.csv"), cache=cache) is None


@pytest.mark.parametrize(
    ("action", "counted"),
    [
        ("LoadDB[coffee]", (0, 0)),
        ("LoadDB[tea]", (0, 1)),
        ("FilterDB[Nothing=1]", (0, 1)),
        ("GetValue[Nothing]", (0, 1)),
        ("Calculate[1 +]", (0, 1)),
        ("SQLInterpreter[DROP TABLE x]", (0, 1)),
        ("NodeCheck[PaperNet, no such title]", (0, 1)),
        ("Search[coffee]", (1, 0)),
    ],
)
def test_what_tools_tell_of_failing_is_counted(
    tell: Tell, action: str, counted: tuple[int, int]
) -> None:
    """The scorer reads how attempts went from the tools' own words."""
    seen = Seen((user("Question"), user(f"Observation: {tell(action)}")), "Action: Finish[1]")
    told = counts(Item("i", Question((), ""), "1"), seen)
    assert (told["n_invalid"], told["n_errors"]) == counted
    assert told["n_uses"] == 1


def test_a_reply_without_an_action_is_counted() -> None:
    attempt = agent.react(2)(Question((), ""), (user("Question"),), 0)
    next(attempt)
    attempt.send(Seen((), ""))
    asked = attempt.send(Seen((), "I wonder."))
    assert isinstance(asked, Ask)
    told = counts(Item("i", Question((), ""), "1"), Seen(asked.messages, "Still wondering."))
    assert told == {"n_uses": 0, "n_invalid": 1, "n_errors": 0, "n_halted": 1}
