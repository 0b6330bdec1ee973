"""HumanEval: 164 Python functions to write from their signature and docstring.

The hidden tests stay in the target; what a question may show of tests is what its own docstring
shows. Settings: `plus`, the path of `HumanEvalPlus.jsonl.gz`, adds a second score to the tasks that
it holds: the same code under many more inputs; `mode: completion` shows the prompt as it is, for a
base model to continue, instead of asking for a code block; `from: hub` reads the copy on the
Hugging Face hub instead of the release; `counts: any` accepts another number of tasks. Source: Chen
et al. 2021, arXiv 2107.03374.
"""

from __future__ import annotations

import ast
import gzip
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TypeGuard

from deltascale.datasets import Dataset, bundle, counts, hub, prompts
from deltascale.datasets.fetch import Cache, Remote, fetch
from deltascale.errors import DatasetMistake
from deltascale.records import DatasetSpec, Item, Question, user

__all__ = ["FORMAT", "HUMANEVAL", "coding", "examples", "hidden", "parse"]

FILE = Remote(
    "https://raw.githubusercontent.com/openai/human-eval/"
    "6d43fb980f9fee3c892a914eda09951f772ad10d/data/HumanEval.jsonl.gz",
    size=44_877,
    sha256="b796127e635a67f93fb35c04f4cb03cf06f38c8072ee7cee8833d7bee06979ef",
    instead=hub.INSTEAD,
)
N_ITEMS = 164

TASK = "Complete this Python function."
FORMAT = (
    "Give the whole function, with its signature and the imports and helper functions it needs, "
    "in one Python code block."
)

# Examples in docstrings that the reference solution itself contradicts; showing them as tests
# would push right answers wrong.
WRONG_EXAMPLES = frozenset(
    {
        "assert median([-10, 4, 6, 1000, 10, 20]) == 15.0",
        "assert sort_array([1, 5, 2, 3, 4]) == [1, 2, 3, 4, 5]",
        "assert sort_array([-2, -3, -4, -5, -6]) == [-6, -5, -4, -3, -2]",
    }
)
_ARROWS = ("➞", "=>", "->", "==")


def parse(text: str, spec: DatasetSpec) -> tuple[Item, ...]:
    """Items from the text of the benchmark's JSON lines, in the order of the file.

    Raises:
        DatasetMistake: a line is not a HumanEval task.
    """
    tasks = [_task(number, line) for number, line in enumerate(text.rstrip("\n").split("\n"), 1)]
    strata = _terciles([task["canonical_solution"] for task in tasks])
    asks = prompts.answer_format(spec, FORMAT)
    plus = _plus(spec)
    return tuple(
        _item(task, stratum, asks, spec, plus.get(task["task_id"], ""))
        for task, stratum in zip(tasks, strata, strict=True)
    )


def _plus(spec: DatasetSpec) -> Mapping[str, str]:
    path = spec.options.get("plus", "")
    if not path:
        return {}
    from deltascale.datasets import humanevalplus

    return humanevalplus.read(bundle.own(path), where=path)


def _task(number: int, line: str) -> Mapping[str, str]:
    fields = ("task_id", "prompt", "entry_point", "canonical_solution", "test")
    try:
        record = json.loads(line)
        return {field: str(record[field]) for field in fields}
    except (ValueError, KeyError, TypeError) as error:
        raise DatasetMistake(
            "this line is not a HumanEval task",
            where=f"humaneval line {number}",
            remedy="delete the cached file and prepare the dataset again",
        ) from error


def _terciles(solutions: Sequence[str]) -> list[str]:
    """`len0` to `len2` by the length of the reference solution in lines, ties in file order."""
    n_lines = [sum(bool(line.strip()) for line in one.split("\n")) for one in solutions]
    by_length = sorted(range(len(solutions)), key=lambda index: (n_lines[index], index))
    strata = [""] * len(solutions)
    for rank, index in enumerate(by_length):
        strata[index] = f"len{3 * rank // len(solutions)}"
    return strata


def _item(task: Mapping[str, str], stratum: str, asks: str, spec: DatasetSpec, plus: str) -> Item:
    prompt, entry_point = task["prompt"], task["entry_point"]
    question = coding(prompt, entry_point, asks=asks, spec=spec)
    meta = {"prompt": prompt, "entry_point": entry_point}
    if _mode(spec) == "completion":
        question = replace(question, messages=(user(prompt),))
        meta["mode"] = "completion"
    return Item(
        id=task["task_id"],
        question=question,
        target=hidden(entry_point, task["test"], plus=plus),
        stratum=stratum,
        meta=meta,
    )


def _mode(spec: DatasetSpec) -> str:
    found = spec.options.get("mode", "chat")
    where = f"dataset {spec.name!r} options.mode"
    if found not in ("chat", "completion"):
        raise DatasetMistake(f"mode is {found!r}", where=where, remedy="known are chat, completion")
    if found == "completion" and "prompt" in spec.options:
        raise DatasetMistake(
            "a completion is shown the prompt as it is", where=where, remedy="leave `prompt` out"
        )
    return found


def coding(prompt: str, entry_point: str, *, asks: str, spec: DatasetSpec) -> Question:
    """The question that shows a function to be written, with the examples of its docstring."""
    shown = f"{TASK}\n\n```python\n{prompt.rstrip()}\n```"
    return Question(
        messages=prompts.opening(spec, shown, asks=asks),
        answer_format=asks,
        examples=examples(prompt, entry_point),
    )


def hidden(entry_point: str, test: str, *, plus: str = "") -> str:
    """The target of such a question: a JSON object of the function's name and its hidden tests.

    `plus` are further tests, for a second score; empty: there are none.
    """
    more = {"plus": plus} if plus else {}
    return json.dumps({"entry_point": entry_point, "test": test, **more})


def examples(prompt: str, entry_point: str) -> str:
    """The examples of the function's docstring as assertions, one a line; empty: none.

    Taken are doctests (`>>> f(1)` and the value below) and lines such as `f(1) == 2` or
    `f(1) -> 2`, where the call is of this function and the value is a literal.
    """
    try:
        doc = _docstring(prompt, entry_point)
    except (SyntaxError, ValueError):  # a file of one's own may show what is not Python
        return ""
    given = {node.name for node in ast.parse(f"{prompt}\n    pass\n").body if _is_function(node)}
    found = dict.fromkeys(
        f"assert {call} == {value}"
        for source, wanted in (*_doctests(doc), *_statements(doc))
        if (call := _call(source, entry_point, known=given)) and (value := _literal(wanted))
    )
    return "\n".join(line for line in found if line not in WRONG_EXAMPLES)


def _is_function(node: ast.stmt) -> TypeGuard[ast.FunctionDef]:
    return isinstance(node, ast.FunctionDef)


def _docstring(prompt: str, entry_point: str) -> str:
    """The first text of the function's body (in one task an import stands before it)."""
    for node in ast.parse(f"{prompt}\n    pass\n").body:
        if _is_function(node) and node.name == entry_point:
            for part in node.body:
                if isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant):
                    return str(part.value.value)
    return ""


def _doctests(doc: str) -> Iterator[tuple[str, str]]:
    from doctest import DocTestParser

    for piece in re.split(r"^(?=[ \t]*>>> )", doc, flags=re.MULTILINE):
        try:
            for example in DocTestParser().get_examples(piece):
                yield _one_line(example.source), _one_line(example.want)
        except ValueError:  # one docstring breaks a line inside an example
            continue


def _statements(doc: str) -> Iterator[tuple[str, str]]:
    for line in doc.split("\n"):
        text = line.strip().removeprefix(">>>").strip().lstrip("*- ")
        for arrow in _ARROWS:
            call, found, value = text.partition(arrow)
            if found:
                yield call.strip(), value.partition("#")[0].strip().rstrip(".;, ")
                break


def _one_line(source: str) -> str:
    return " ".join(source.split("\n")).strip()


def _call(source: str, name: str, *, known: set[str]) -> str:
    """The expression, plainly written, if it calls the function and names nothing unknown."""
    try:
        tree = ast.parse(source, mode="eval").body
    except (SyntaxError, ValueError):
        return ""
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    return ast.unparse(tree) if name in names and names <= known | {"round"} else ""


def _literal(source: str) -> str:
    """The value, plainly written, if it is a literal."""
    try:
        ast.literal_eval(source)
    except (SyntaxError, ValueError):
        return ""
    return ast.unparse(ast.parse(source, mode="eval"))


def _load(spec: DatasetSpec, cache: Cache) -> tuple[Item, ...]:
    prompts.only_options(spec, ("plus", "mode", "from", "counts"))
    if hub.chosen(spec):
        items = parse(hub.lines("humaneval", cache), spec)
    else:
        items = parse(gzip.decompress(fetch(FILE, cache).read_bytes()).decode("utf-8"), spec)
    counts.check(spec, len(items), N_ITEMS, what="tasks")
    return items


def _source(spec: DatasetSpec, cache: Cache) -> str:
    return hub.source(["humaneval"], cache) if hub.chosen(spec) else HUMANEVAL.source


HUMANEVAL = Dataset(
    name="humaneval",
    summary="Python functions from their docstrings, judged by hidden tests",
    licence="MIT",
    homepage="https://github.com/openai/human-eval",
    scorer="code",
    stratified="proportional",
    max_items=N_ITEMS,
    output_tokens=300,
    load=_load,
    source=f"openai/human-eval@6d43fb9 HumanEval.jsonl.gz sha256 {FILE.sha256}",
    source_of=_source,
)
"""`output_tokens`: prompt and reference solution together, which a reply repeats, are 160 tokens on
average (four characters a token); as much again for the words around the code."""
