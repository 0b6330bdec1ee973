"""HumanEval as it is published: nothing hidden is shown, and what is shown is right."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from deltascale import scorers
from deltascale.datasets import Cache, humaneval, load, subsets
from deltascale.errors import DatasetMistake
from deltascale.records import DatasetSpec, Item
from deltascale.sandbox import try_backend
from deltascale.scorers.code import run_examples, scorer

SHARED = Path(__file__).resolve().parents[1] / ".." / "shared" / "data"
SPEC = DatasetSpec("humaneval")


@pytest.fixture(scope="module")
def published() -> bytes:
    path = SHARED / "humaneval" / "HumanEval.jsonl.gz"
    if not path.exists():
        pytest.skip("the shared HumanEval file is not beside this checkout")
    return path.read_bytes()


@pytest.fixture(scope="module")
def tasks(published: bytes) -> dict[str, dict[str, str]]:
    lines = gzip.decompress(published).decode().rstrip("\n").split("\n")
    return {record["task_id"]: record for record in map(json.loads, lines)}


@pytest.fixture(scope="module")
def items(published: bytes) -> dict[str, Item]:
    every = humaneval.parse(gzip.decompress(published).decode(), SPEC)
    return {item.id: item for item in every}


def test_all_are_there_and_more_can_not_be_had(published: bytes, tmp_path: Path) -> None:
    cache = Cache(tmp_path, offline=True)
    path = cache.path(humaneval.FILE)
    path.parent.mkdir(parents=True)
    path.write_bytes(published)
    loaded = load(SPEC, items=1000, seed=0, cache=cache)
    assert len({item.id for item in loaded.items}) == len(loaded.items) == 164
    assert loaded.warnings == ("humaneval: 1000 items wanted, 164 there are; all 164 are used",)
    assert loaded.items[:50] == load(SPEC, items=50, seed=0, cache=cache).items


def test_no_hidden_test_and_no_solution_is_shown(
    items: dict[str, Item], tasks: dict[str, dict[str, str]]
) -> None:
    for name, task in tasks.items():
        question = items[name].question
        shown = question.messages[0].content + question.examples + question.answer_format
        assert task["prompt"].strip() in shown
        assert "def check(" not in shown
        assert "METADATA" not in shown
        assert task["canonical_solution"].strip() not in shown
        for line in task["test"].split("\n"):
            if "assert candidate(" in line and len(line) > 60:
                assert line.strip() not in shown


def test_the_target_holds_the_tests_and_the_name(
    items: dict[str, Item], tasks: dict[str, dict[str, str]]
) -> None:
    for name, task in tasks.items():
        target = json.loads(items[name].target)
        assert target == {"entry_point": task["entry_point"], "test": task["test"]}
        assert items[name].meta["prompt"] == task["prompt"]


def test_every_shown_example_holds_for_the_reference_solution(
    items: dict[str, Item], tasks: dict[str, dict[str, str]]
) -> None:
    n_examples = n_tasks = 0
    for name, task in tasks.items():
        names: dict[str, object] = {}
        exec(task["prompt"] + task["canonical_solution"], names)
        for line in items[name].question.examples.split("\n"):
            exec(line, names)
            n_examples += bool(line)
        n_tasks += bool(items[name].question.examples)
    assert (n_tasks, n_examples) == (115, 319)


def test_a_known_wrong_example_is_not_held_against_a_right_answer(items: dict[str, Item]) -> None:
    assert "1000" not in items["HumanEval/47"].question.examples
    assert "15.0" in items["HumanEval/47"].question.messages[0].content


@pytest.mark.parametrize(
    ("doc", "lines"),
    [
        (">>> f(1)\n    2", ["assert f(1) == 2"]),
        (">>> f('#')  # a sign\n    'x'", ["assert f('#') == 'x'"]),
        (">>> f([1,\n    ...    2])\n    [1,\n    2]", ["assert f([1, 2]) == [1, 2]"]),
        ('For example:\n    f("a") ➞ "b"', ["assert f('a') == 'b'"]),
        ("f(1) == 2.\n    * f(2) => 3", ["assert f(1) == 2", "assert f(2) == 3"]),
        ("f(1) -> None  # nothing", ["assert f(1) == None"]),
        (">>> f(1) == 2", ["assert f(1) == 2"]),
        (">>> helper(f(1))\n    2", ["assert helper(f(1)) == 2"]),
        (">>> f(1)\n    2\n    >>> f(1)\n    2", ["assert f(1) == 2"]),
        ("f(a) ➞ 1", []),
        ("f(1) == g(1)", []),
        (">>> g(1)\n    2", []),
        (">>> __import__('os').system('f(1)')\n    0", []),
        ("f(1 ➞ 2", []),
        ("", []),
    ],
)
def test_what_counts_as_an_example(doc: str, lines: list[str]) -> None:
    prompt = f'def helper(x):\n    return x\n\n\ndef f(x):\n    """ Say.\n    {doc}\n    """\n'
    assert humaneval.examples(prompt, "f").split("\n") == (lines or [""])


def test_a_docstring_after_an_import_and_none_at_all() -> None:
    assert humaneval.examples('def f(x):\n    import math\n    """f(1) == 2"""\n', "f")
    assert humaneval.examples("def f(x):\n", "f") == ""


def test_the_golden_order(items: dict[str, Item]) -> None:
    golden = json.loads((SHARED / "subset_golden.json").read_text())["datasets"]["humaneval"]
    units = subsets.order(
        list(items.values()), benchmark="humaneval", seed=0, mode=humaneval.HUMANEVAL.stratified
    )
    order = [unit[0] for unit in units]
    assert [item.id for item in order[:10]] == golden["first10"]
    for size, held in golden["sizes"].items():
        assert subsets.digest(order[: int(size)]) == held["sha256"]


@pytest.mark.parametrize("line", ["not json", "[]", '{"task_id": "HumanEval/0"}', ""])
def test_a_line_that_is_no_task(line: str) -> None:
    with pytest.raises(DatasetMistake, match="humaneval line 1: this line is not"):
        humaneval.parse(line + "\n", SPEC)


# --- for a base model ----------------------------------------------------------------------------


COMPLETION = DatasetSpec("humaneval", options={"mode": "completion"})


@pytest.fixture(scope="module")
def continued(published: bytes) -> dict[str, Item]:
    every = humaneval.parse(gzip.decompress(published).decode(), COMPLETION)
    return {item.id: item for item in every}


def test_a_completion_is_shown_the_prompt_as_it_is(
    continued: dict[str, Item], tasks: dict[str, dict[str, str]]
) -> None:
    extract = scorers.find("code").extract
    for name, task in tasks.items():
        (message,) = continued[name].question.messages
        assert message.content == task["prompt"]
        body = task["canonical_solution"]
        went_on = f"{body.rstrip()}\n\ndef further(x):\n    return x\nprint(further(1))\n"
        found = extract(continued[name].question, went_on)
        assert found is not None
        assert found.rstrip() == body.rstrip(), name
        whole = f"Now:\n```python\n{task['prompt']}{body}\n```"
        assert "def further" not in (extract(continued[name].question, whole) or "def further")
        assert extract(continued[name].question, "\ndef further(x):\n    return x") is None
        assert extract(continued[name].question, "Error code: 500 - try again") is None


def test_a_continued_prompt_is_judged(
    continued: dict[str, Item], tasks: dict[str, dict[str, str]]
) -> None:
    backend = try_backend("wasm")
    if isinstance(backend, str):
        pytest.skip(backend)
    code = scorer(backend)
    for number in (10, 64):
        name = f"HumanEval/{number}"
        item, task = continued[name], tasks[name]
        solution = task["canonical_solution"]
        said = {
            1.0: (f"{solution}\n# more", task["prompt"] + solution),
            0.0: ("    pass\n", "\treturn None )\n"),
        }
        for score, texts in said.items():
            for text in texts:
                answer = code.extract(item.question, text)
                assert answer is not None
                judged = code.judge(item, answer, text)
                assert judged.value == score, (name, text, judged)
                ends = ("syntax_error",) if ")" in text else ("failed_assert", "exception")
                assert score or judged.detail.startswith(ends), judged
    examples = run_examples(continued["HumanEval/64"], "    return 0\n", backend=backend)
    assert examples.count("failed assert") == 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"mode": "base"}, "known are chat, completion"),
        ({"mode": "completion", "prompt": "{question}"}, "leave `prompt` out"),
    ],
)
def test_a_mode_that_can_not_be(published: bytes, options: dict[str, str], said: str) -> None:
    with pytest.raises(DatasetMistake, match=said):
        humaneval.parse(
            gzip.decompress(published).decode(), DatasetSpec("humaneval", options=options)
        )
