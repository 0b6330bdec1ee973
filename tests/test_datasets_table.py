"""People's own files: what is read from them, and how their mistakes are told."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltascale import scorers
from deltascale.datasets import Cache, Loaded, load, rows, table
from deltascale.errors import DatasetMistake
from deltascale.records import DatasetSpec, Item, Question
from deltascale.scorers import numeric

GOOD = "question,answer\nWhat is 2+2?,4\nWhat is 3+3?,6\n"


def read(tmp_path: Path, name: str, content: str | bytes, **more: object) -> table.Table:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return table.read(DatasetSpec("mine", file=str(path), **more))  # type: ignore[arg-type]


def told(tmp_path: Path, name: str, content: str | bytes, **more: object) -> str:
    with pytest.raises(DatasetMistake) as caught:
        read(tmp_path, name, content, **more)
    return str(caught.value)


def only(found: table.Table) -> Item:
    assert len(found.items) == 1
    return found.items[0]


# --- what is read --------------------------------------------------------------------------------


@pytest.mark.parametrize("question", ["question", "Prompt", " input ", "PROBLEM"])
@pytest.mark.parametrize("answer", ["answer", "gold", "ground_truth", "Target", "reference"])
def test_columns_by_their_usual_names(tmp_path: Path, question: str, answer: str) -> None:
    item = only(read(tmp_path, "a.csv", f"{answer},{question}\n4,What is 2+2?\n"))
    assert item.question.messages[0].content.startswith("What is 2+2?\n")
    assert item.target == "4"


def test_the_three_kinds_of_file_hold_the_same(tmp_path: Path) -> None:
    records = [
        {"id": "a", "question": "Zwei\nund zwei?", "answer": "4", "topic": "x", "cluster": "p1"},
        {"id": "b", "question": 'Say "vier", 2', "answer": "4", "topic": "y", "cluster": "p1"},
    ]
    written = io.StringIO(newline="")
    writer = csv.DictWriter(written, list(records[0]))
    writer.writeheader()
    writer.writerows(records)
    as_csv = read(tmp_path, "a.csv", written.getvalue()).items
    as_json = read(tmp_path, "a.json", json.dumps(records, indent=2)).items
    as_lines = read(tmp_path, "a.jsonl", "\n\n".join(map(json.dumps, records))).items
    as_tsv = read(tmp_path, "a.tsv", written.getvalue().replace(",", "\t")).items
    assert as_csv == as_json == as_lines
    assert [item.id for item in as_tsv] == ["a", "b"]
    assert [(item.stratum, item.cluster) for item in as_csv] == [("x", "p1"), ("y", "p1")]


def test_ids_are_numbered_where_there_are_none(tmp_path: Path) -> None:
    items = read(tmp_path, "mine.csv", GOOD).items
    assert [item.id for item in items] == ["mine/000000", "mine/000001"]


def test_ids_may_hold_spaces_and_headers_other_marks(tmp_path: Path) -> None:
    item = only(read(tmp_path, "a.csv", "a;b,id,question,answer\nx,one two,q,4\n"))
    assert item.id == "one two"


def test_a_bom_and_windows_line_ends_are_no_part_of_the_text(tmp_path: Path) -> None:
    found = read(tmp_path, "a.csv", "\ufeff" + GOOD.replace("\n", "\r\n"))
    assert [item.target for item in found.items] == ["4", "6"]


def test_cells_may_be_as_long_as_a_book(tmp_path: Path) -> None:
    before = csv.field_size_limit()
    text = "word " * 60_000
    item = only(read(tmp_path, "a.csv", f'question,answer\n"{text}",4\n'))
    assert text.strip() in item.question.messages[0].content
    assert csv.field_size_limit() == before


def test_numbers_in_json_stay_as_they_were_written(tmp_path: Path) -> None:
    content = '{"question": "q", "answer": 0.10, "id": 12345678901234567890}'
    item = only(read(tmp_path, "a.jsonl", content))
    assert (item.target, item.id) == ("0.10", "12345678901234567890")


def test_a_list_of_answers_is_a_target_and_its_aliases(tmp_path: Path) -> None:
    content = '{"question": "q", "answer": ["New York", "NYC"]}'
    item = only(read(tmp_path, "a.jsonl", content))
    assert (item.target, item.aliases) == ("New York", ("NYC",))


def test_truth_values_are_words(tmp_path: Path) -> None:
    found = read(tmp_path, "a.jsonl", '{"question": "q", "answer": true}')
    assert (only(found).target, found.scorer) == ("true", "exact")


@pytest.mark.parametrize(
    "content",
    [
        'question,answer,choices\nq,B,"[""red"", ""blue""]"\n',
        'question,answer,choices\nq,blue,"[""red"", ""blue""]"\n',
        "question,answer,A,B\nq,b,red,blue\n",
        "question,answer,a,b,c\nq,B,red,blue,\n",
    ],
)
def test_options_in_a_list_or_in_columns(tmp_path: Path, content: str) -> None:
    found = read(tmp_path, "a.csv", content)
    item = only(found)
    assert found.scorer == "choice"
    assert (item.question.choices, item.target) == (("red", "blue"), "B")
    assert "A. red\nB. blue" in item.question.messages[0].content
    assert item.question.answer_format in item.question.messages[0].content


@pytest.mark.parametrize(
    ("answers", "scorer"), [(["4", "$1,200"], "numeric"), (["4", "four"], "exact")]
)
def test_the_scorer_follows_from_the_answers(
    tmp_path: Path, answers: list[str], scorer: str
) -> None:
    lines = "\n".join(json.dumps({"question": f"q {a}", "answer": a}) for a in answers)
    assert read(tmp_path, "a.jsonl", lines).scorer == scorer


def test_the_study_names_the_scorer_before_the_file_does(tmp_path: Path) -> None:
    content = "question,answer,scorer\nq,4,contains\nr,5,contains\n"
    assert read(tmp_path, "a.csv", content).scorer == "contains"
    assert read(tmp_path, "a.csv", content, scorer="exact").scorer == "exact"


def test_a_question_that_is_there_twice_is_said(tmp_path: Path) -> None:
    found = read(tmp_path, "a.csv", "question,answer\nq,4\nq,4\nr,5\n")
    assert len(found.items) == 3
    assert "1 question is there more than once" in found.warnings[0]


def test_functions_to_be_written_and_their_hidden_tests(tmp_path: Path) -> None:
    record = {
        "question": 'def f(x):\n    """ Double.\n    >>> f(1)\n    2\n    """\n',
        "entry_point": "f",
        "test": "def check(candidate):\n    assert candidate(21) == 42",
    }
    found = read(tmp_path, "a.jsonl", json.dumps(record))
    item = only(found)
    assert found.scorer == "code"
    assert json.loads(item.target) == {"entry_point": "f", "test": record["test"]}
    assert item.question.examples == "assert f(1) == 2"
    assert "21" not in item.question.messages[0].content
    assert "```python\ndef f(x):" in item.question.messages[0].content
    record["entry_point"] = "not a name"
    text = told(tmp_path, "a.jsonl", json.dumps(record), scorer="code")
    assert "a.jsonl:1: entry_point: 'not a name' is no name of a function" in text


def test_a_prompt_of_ones_own(tmp_path: Path) -> None:
    options = {"prompt": "Q: {question}\n{other} {format}\nA:", "format": "Say it as #### N."}
    item = only(read(tmp_path, "a.csv", "question,answer\n2+2 {format}?,4\n", options=options))
    assert item.question.answer_format == "Say it as #### N."
    text = item.question.messages[0].content
    assert text == "Q: 2+2 {format}?\n{other} Say it as #### N.\nA:"


# --- what is told --------------------------------------------------------------------------------

MALFORMED: dict[str, tuple[str, str | bytes, str]] = {
    "nothing": ("a.csv", "", "a.csv: it is empty"),
    "blank": ("a.csv", "\n\n\n", "a.csv: it is empty"),
    "header only": ("a.csv", "question,answer\n", "a.csv: it holds no questions"),
    "no answer column": ("a.csv", "question,reply\nq,4\n", "no column for the answer"),
    "one column": ("a.csv", "question\nq\n", "no column for the answer; there are 'question'"),
    "no question column": ("a.jsonl", '{"ask": "q", "answer": 4}', "no column for the question"),
    "two questions": (
        "a.csv",
        "question,prompt,answer\nq,r,4\n",
        "2 columns could be the question",
    ),
    "semicolons": ("a.csv", "question;answer\nq;4\n", "not separated by commas"),
    "tabs in csv": ("a.csv", "question\tanswer\nq\t4\n", "not separated by commas"),
    "commas in tsv": ("a.tsv", "question,answer\nq,4\n", "not separated by tabs"),
    "nameless column": ("a.csv", "question,,answer\nq,x,4\n", "column 2 has no name"),
    "column twice": ("a.csv", "question,answer,answer\nq,4,5\n", "two columns are named 'answer'"),
    "a cell too many": ("a.csv", "question,answer\nq,1,234\n", "a.csv:2: 3 cells"),
    "a cell too few": ("a.csv", "question,answer\nq,4\nr\n", "a.csv:3: 1 cells"),
    "open quote": ("a.csv", 'question,answer\n"q,4\n', "not a CSV file"),
    "text after a quote": ("a.csv", 'question,answer\n"q"x,4\n', "a.csv:2: not a CSV file"),
    "latin-1": ("a.csv", "question,answer\nq,4\nGrün,5\n".encode("latin-1"), "a.csv:3: it is not"),
    "utf-16": ("a.csv", GOOD.encode("utf-16"), "it is UTF-16, not UTF-8"),
    "no kind": ("mine", GOOD, "files of the kind 'without an ending'"),
    "wrong kind": ("a.xlsx", GOOD, "files of the kind '.xlsx' can't be read"),
    "empty question": ("a.csv", "question,answer\n ,4\n", "a.csv:2: question: empty"),
    "empty answer": ("a.csv", "question,answer\nq,4\nr,\n", "a.csv:3: answer: empty"),
    "null answer": ("a.jsonl", '{"question": "q", "answer": null}', "a.jsonl:1: answer: empty"),
    "empty id": ("a.csv", "id,question,answer\n,q,4\n", "a.csv:2: id: empty"),
    "id with a line end": ("a.csv", 'id,question,answer\n"a\nb",q,4\n', "in the id 'a\\nb'"),
    "id twice": ("a.csv", "id,question,answer\na,q,4\na,r,5\n", "a.csv:3: id: 'a' is also on"),
    "NaN": ("a.jsonl", '{"question": "q", "answer": NaN}', "a.jsonl:1: not JSON: NaN is not"),
    "Infinity": ("a.json", '[{"question": "q",\n"answer": -Infinity}]', "-Infinity is not a value"),
    "nan in csv": ("a.csv", "question,answer\nq,4\nr,nan\n", "'nan' is not a number"),
    "nan among numbers": (
        "a.csv",
        "question,answer\nq,4\nr,NaN\n",
        "a.csv:3: answer: 'NaN' among numbers",
    ),
    "half a character": (
        "a.jsonl",
        '{"question": "\\ud83d", "answer": 4}',
        "a.jsonl:1: not JSON: \\ud83d is half of a character",
    ),
    "half a character in a list": (
        "a.json",
        '[{"question": "q", "answer": ["x", "\\ude00"]}]',
        "\\ude00 is half of a character",
    ),
    "key twice": ("a.jsonl", '{"answer": 1, "answer": 2}', "the key 'answer' is there twice"),
    "broken line": ("a.jsonl", '{"question": "q", "answer": 4}\n{"quest', "a.jsonl:2: not JSON"),
    "line is a text": ("a.jsonl", '"q"', "a.jsonl:1: a text, not an object"),
    "json in jsonl": ("a.jsonl", '[\n{"question": "q", "answer": 4}\n]', "it holds one list"),
    "jsonl in json": ("a.json", '{"question": "q"}\n{"question": "r"}', "a.json:1: no list"),
    "empty json": ("a.json", "  \n", "a.json:1: empty"),
    "empty list": ("a.json", "[]", "a.json: it holds no questions"),
    "list not closed": ("a.json", '[{"question": "q", "answer": 4}\n', "the list's end is missing"),
    "comma missing": ("a.json", '[{"question": "q"}\n{"question": "r"}]', "a.json:2: not JSON"),
    "more after the list": ("a.json", '[{"question": "q", "answer": 4}]\n[]', "more after"),
    "list of texts": ("a.json", '["q"]', "a.json:1: a text, not an object"),
    "too deep": ("a.jsonl", '{"a":' * 100_000, "nested too deeply"),
    "answer is an object": ("a.jsonl", '{"question": "q", "answer": {"a": 1}}', "an object where"),
    "answer is no list": ("a.jsonl", '{"question": "q", "answer": []}', "answer: empty"),
    "question is a list": ("a.jsonl", '{"question": ["q"], "answer": 4}', "a list where a text"),
    "choices no list": ("a.csv", "question,answer,choices\nq,A,red|blue\n", "not a list of texts"),
    "one choice": ("a.jsonl", '{"question": "q", "answer": "A", "choices": ["x"]}', "only one"),
    "choices alike": (
        "a.jsonl",
        '{"question": "q", "answer": "A", "choices": ["x", "X "]}',
        "two options are the same",
    ),
    "choice with a gap": ("a.csv", "question,answer,A,B,C\nq,A,x,,z\n", "an option is empty"),
    "answer not among them": ("a.csv", "question,answer,A,B\nq,C,x,y\n", "neither a letter A to B"),
    "index for a letter": ("a.csv", "question,answer,A,B\nq,0,x,y\n", "'0' is neither a letter"),
    "two scorers": (
        "a.csv",
        "question,answer,scorer\nq,4,numeric\nr,x,exact\n",
        "a.csv: scorer: more than one scorer: 'numeric' (line 2), 'exact' (line 3)",
    ),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_mistake_is_told_in_one_line(tmp_path: Path, case: str) -> None:
    name, content, expected = MALFORMED[case]
    scorer = "numeric" if case == "nan in csv" else ""
    text = told(tmp_path, name, content, scorer=scorer)
    assert expected in text.replace(str(tmp_path) + "/", "")
    assert "\n" not in text
    assert str(tmp_path) in text


@pytest.mark.parametrize("name", ["a.csv", "dir.csv"])
def test_a_file_that_is_not_there(tmp_path: Path, name: str) -> None:
    (tmp_path / "dir.csv").mkdir()
    with pytest.raises(DatasetMistake, match=f"{name}: (there is no|it can't be read)"):
        table.read(DatasetSpec("mine", file=str(tmp_path / name)))


@pytest.mark.parametrize(
    ("scorer", "answer", "expected"),
    [
        ("numeric", "four", "'four' is not a number"),
        ("numeric", "1/0", "'1/0' is not a number"),
        ("regex", "(", "not a pattern"),
        ("choice", "A", "options: none"),
    ],
)
def test_an_answer_that_its_scorer_can_not_match(
    tmp_path: Path, scorer: str, answer: str, expected: str
) -> None:
    content = json.dumps({"question": "q", "answer": answer})
    assert expected in told(tmp_path, "a.jsonl", content, scorer=scorer)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"promt": "{question}"}, "unknown setting 'promt'; did you mean 'prompt'?"),
        ({"shots": "5"}, "unknown setting 'shots'; known are format, prompt"),
        ({"prompt": "Q:"}, "the template has no {question}"),
    ],
)
def test_a_setting_that_there_is_not(
    tmp_path: Path, options: dict[str, str], expected: str
) -> None:
    assert expected in told(tmp_path, "a.csv", GOOD, options=options)


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    lines = ["id,question,answer"]
    lines += [f"i{n % 20},{'' if n % 5 == 0 else 'q'},{'' if n % 7 == 0 else n}" for n in range(40)]
    lines.insert(9, "too,many,cells,here")
    text = told(tmp_path, "a.csv", "\n".join(lines)).split("\n")
    assert len(text) == table.MAX_PROBLEMS + 1
    n_problems = 8 + 6 + 20 + 1
    assert text[-1].endswith(f"a.csv: and {n_problems - 20} more problems")
    numbers = [int(line.split(".csv:")[1].split(":")[0]) for line in text[:-1]]
    assert numbers == sorted(numbers)
    assert any("4 cells, but the header has 3" in line for line in text)


# --- laws ----------------------------------------------------------------------------------------


@given(st.from_regex(table._NUMBER, fullmatch=True))
def test_every_number_that_is_taken_as_a_target_is_one_to_the_scorer(text: str) -> None:
    canonical = numeric.canonical(text.strip())
    assert canonical is not None
    scorer, question = scorers.find("numeric"), Question((), "")
    answer = scorer.extract(question, f"#### {canonical}")
    assert scorer.judge(Item("i", question, text.strip()), answer or "", "").value == 1.0


@given(st.binary(max_size=300), st.sampled_from([".csv", ".tsv", ".json", ".jsonl"]))
def test_any_bytes_are_rows_or_a_mistake(data: bytes, suffix: str) -> None:
    try:
        found, problems = rows.parse(data, suffix, "a")
    except DatasetMistake:
        return
    assert found or problems


CELLS = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1).map(str.strip)


@given(st.lists(st.tuples(CELLS.filter(bool), CELLS.filter(bool)), min_size=1, max_size=8))
def test_what_was_written_is_read(pairs: list[tuple[str, str]]) -> None:
    written = io.StringIO(newline="")
    writer = csv.writer(written)
    writer.writerows([("question", "answer"), *pairs])
    found, problems = rows.parse(written.getvalue().encode(), ".csv", "a")
    assert not problems
    assert [(row.cells["question"], row.cells["answer"]) for row in found] == pairs
    lines = "\n".join(
        json.dumps({"question": q, "answer": a}, ensure_ascii=False) for q, a in pairs
    )
    found, problems = rows.parse(lines.encode(), ".jsonl", "a")
    assert [(row.cells["question"], row.cells["answer"]) for row in found] == pairs


def test_a_subset_of_ones_own_file_is_nested_and_clamped(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("question,answer\n" + "".join(f"q{n},{n}\n" for n in range(30)))
    cache = Cache(tmp_path)

    def take(items: int | None) -> Loaded:
        return load(DatasetSpec("mine", file=str(path)), items=items, seed=0, cache=cache)

    every = take(None)
    assert every.items[:10] == take(10).items
    assert (every.n_available, every.scorer, every.warnings) == (30, "numeric", ())
    assert take(31).items == every.items
    assert take(31).warnings == ("mine: 31 items wanted, 30 there are; all 30 are used",)
    assert take(30).digest == every.digest != take(10).digest
    assert "mine.csv sha256 " in every.source
    with pytest.raises(DatasetMistake, match="ask for at least 1"):
        take(0)
