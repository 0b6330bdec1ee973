"""HumanEval+ as a second score, from a hand-made file of three tasks; and pass@k over epochs."""

from __future__ import annotations

import gzip
import itertools
import json
from dataclasses import replace
from pathlib import Path

import pytest

from deltascale.datasets import humaneval, humanevalplus
from deltascale.errors import DatasetMistake
from deltascale.records import DatasetSpec, Item, Question, Score
from deltascale.sandbox import Backend, try_backend
from deltascale.scorers import benchmark, code

SHARED = Path(__file__).resolve().parents[1] / ".." / "shared" / "data" / "humaneval"
INPUTS = {  # task: (base inputs, further inputs, tolerance)
    "HumanEval/2": ([[3.5]], [[1234.25], [0.001], [1e9 + 0.5]], 0.0),
    "HumanEval/32": ([[[1, 2]]], [[[-6, 11, -6, 1]], [[-3, 1]]], 1e-4),
    "HumanEval/35": ([[[1, 2, 3]]], [[[-5, -7]], [[2.5, -1]]], 0.0),
}


@pytest.fixture(scope="module")
def published() -> str:
    path = SHARED / "HumanEval.jsonl.gz"
    if not path.exists():
        pytest.skip("the HumanEval file is not beside this checkout")
    return gzip.decompress(path.read_bytes()).decode()


@pytest.fixture(scope="module")
def plus(published: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    lines = []
    for task in map(json.loads, published.splitlines()):
        if task["task_id"] in INPUTS:
            base, more, atol = INPUTS[task["task_id"]]
            task |= {"base_input": base, "plus_input": more, "atol": atol, "contract": ""}
            lines.append(json.dumps(task))
    path = tmp_path_factory.mktemp("plus") / "HumanEvalPlus.jsonl.gz"
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    return path


@pytest.fixture(scope="module")
def items(published: str, plus: Path) -> dict[str, Item]:
    spec = DatasetSpec("humaneval", options={"plus": str(plus)})
    return {item.id: item for item in humaneval.parse(published, spec)}


@pytest.fixture(scope="module")
def wasm() -> Backend:
    found = try_backend("wasm")
    if not isinstance(found, Backend):
        pytest.skip(f"the WebAssembly sandbox can't be used here: {found}")
    return found


def judged(item: Item, solution: str, wasm: Backend) -> Score:
    return code.scorer(wasm).judge(item, solution, solution)


def test_only_the_tasks_of_the_file_have_further_tests(items: dict[str, Item]) -> None:
    with_plus = {name for name, item in items.items() if "plus" in json.loads(item.target)}
    assert with_plus == set(INPUTS)
    for name in INPUTS:
        further = json.loads(items[name].target)["plus"]
        assert further not in items[name].question.messages[0].content


def test_the_given_solutions_pass_and_tasks_without_have_one_score(
    items: dict[str, Item], published: str, wasm: Backend
) -> None:
    solutions = {
        t["task_id"]: t["canonical_solution"] for t in map(json.loads, published.split("\n")[:40])
    }
    for name in (*INPUTS, "HumanEval/0"):
        score = judged(items[name], solutions[name], wasm)
        assert score.value == 1.0, score
        assert score.others == ({"plus": 1.0} if name in INPUTS else {}), score


@pytest.mark.parametrize(
    ("name", "body", "value", "further"),
    [
        ("2", "return number % 1.0 + (1e-9 if number > 1000 else 0)", 1, 1),
        ("2", "return number % 1.0 if number < 1000 else 0.0", 1, 0),
        ("2", "return number % 1.0 + (0.001 if number > 1000 else 0)", 1, 0),
        ("2", "return 0.0", 0, 0),
        ("35", "return max(0, max(l))", 1, 0),
        ("35", "m = max(l)\n    l.clear()\n    return m", 1, 1),
    ],
)
def test_right_on_the_shown_tests_is_not_right_on_more(
    name: str, body: str, value: int, further: int, items: dict[str, Item], wasm: Backend
) -> None:
    item = items[f"HumanEval/{name}"]
    names = {"2": "truncate_number(number)", "35": "max_element(l)"}
    score = judged(item, f"def {names[name]}:\n    {body}\n", wasm)
    assert (score.value, score.others["plus"]) == (value, further), score


def same(wanted: str, got: str, atol: float) -> bool:
    """What the comparison of a task's tests says, run here: none of it is a model's."""
    task = {
        "task_id": "t",
        "prompt": "def f(x):\n",
        "canonical_solution": f"    return {wanted}\n",
        "entry_point": "f",
        "base_input": [[1]],
        "plus_input": [],
        "atol": atol,
    }
    names: dict[str, object] = {}
    exec(humanevalplus.parse(json.dumps(task), where="x")["t"], names)
    check = names["check"]
    assert callable(check)
    try:
        check(lambda _: eval(got, {"inf": float("inf"), "nan": float("nan")}))
    except AssertionError:
        return False
    return True


@pytest.mark.parametrize(
    ("wanted", "got", "atol", "equal"),
    [
        ("1", "1", 0.0, True),
        ("1", "1.0", 0.0, True),
        ("1", "2", 0.0, False),
        ("1.0", "1.0000005", 0.0, True),
        ("1.0", "1.00001", 0.0, False),
        ("1.0", "1.00001", 0.001, True),
        ("1e9", "1e9 + 50", 0.0, True),
        ("1e9", "1e9 + 200", 0.0, False),
        ("[1.0, 2.0]", "[1.0, 2.0000005]", 0.0, True),
        ("[1.0, 2.0]", "(1.0, 2.0)", 0.0, False),
        ("[1.0, 2.0]", "[1.0]", 0.0, False),
        ("[[1.0], [2]]", "[[1.0], [2.0000005]]", 0.0, False),
        ("[[1.0], [2]]", "[[1.0], [2.0000005]]", 1e-6, True),
        ("'a'", "'b'", 0.0, False),
        ("float('inf')", "inf", 0.0, True),
        ("float('inf')", "-inf", 0.0, False),
        ("float('nan')", "nan", 0.0, False),
        ("1.0", "None", 0.0, False),
    ],
)
def test_what_counts_as_equal(wanted: str, got: str, atol: float, equal: bool) -> None:
    assert same(wanted, got, atol) is equal


@pytest.mark.parametrize(
    "line",
    [
        "x",
        "[]",
        '{"task_id": "t"}',
        '{"task_id": "t", "prompt": "", "canonical_solution": "", "entry_point": "f", '
        '"base_input": [], "plus_input": [], "atol": 0}',
    ],
)
def test_a_line_that_is_no_task(line: str, tmp_path: Path) -> None:
    path = tmp_path / "plus.jsonl"
    path.write_text(line)
    with pytest.raises(DatasetMistake, match="line 1: this line is not a HumanEval"):
        humanevalplus.read(path, where="plus.jsonl")
    with pytest.raises(DatasetMistake, match="it can't be read"):
        humanevalplus.read(tmp_path / "none", where="none")


def test_pass_at_k_over_tasks_is_the_mean_of_its_draws() -> None:
    drawn = {"a": [1, 0, 0, 1], "b": [0, 0, 0], "c": [1, 1]}
    scorer = replace(code.CODE, judge=lambda item, answer, text: Score(float(answer)))
    held: list[tuple[Item, str | None]] = [
        (Item(name, Question((), ""), "1"), str(one) if one else None)
        for name, own in drawn.items()
        for one in own
    ]
    scores = benchmark.scores(scorer, held)
    for k in (1, 2):
        chances = []
        for own in drawn.values():
            sets = list(itertools.combinations(own, k))
            chances.append(sum(any(each) for each in sets) / len(sets))
        assert scores["", f"pass@{k}"] == pytest.approx(sum(chances) / 3)
    assert set(scores) == {("", "pass@1"), ("", "pass@2")}, "no task has five draws"
