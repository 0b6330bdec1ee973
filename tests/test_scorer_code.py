"""Code in replies: what is found, what is made of it, and that right code is judged right."""

from __future__ import annotations

import ast
import gzip
import itertools
import json
import statistics
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st

from deltascale.sandbox import Backend, Limits, try_backend
from deltascale.scorers.code import (
    CodeProblem,
    assemble,
    cut_completion,
    extract_code,
    given,
    judge_code,
    pass_at_k,
    shown_prompt,
)

HUMANEVAL = Path(__file__).resolve().parents[1] / ".." / "shared" / "data" / "humaneval"
SAMPLE = (0, 10, 32, 33, 38, 50, 53, 64, 115, 130, 151, 163)

DOUBLE = CodeProblem(
    prompt='import math\n\nHALF = 0.5\n\ndef double(x):\n    """Twice x."""\n',
    entry_point="double",
    tests="def check(f):\n    assert f(3) == 6\n    assert f(HALF) == 1\n",
)
WHOLE = "def double(x):\n    return 2 * x\n"
WITH_FENCES = '''def double(x):
    """So:

    ```
    double(1)
    ```
    """
    return 2 * x
'''
BODY = "    y = x + x\n    return y\n"


@pytest.fixture(scope="module")
def wasm() -> Backend:
    found = try_backend("wasm")
    if not isinstance(found, Backend):
        pytest.skip(f"the WebAssembly sandbox can't be used here: {found}")
    return found


@pytest.fixture(scope="module")
def problems() -> dict[int, tuple[CodeProblem, str]]:
    """(problem, its given solution) by number."""
    path = HUMANEVAL / "HumanEval.jsonl.gz"
    if not path.exists():
        pytest.skip("the HumanEval file is not beside this checkout")
    rows = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
    return {
        int(row["task_id"].split("/")[1]): (
            CodeProblem(row["prompt"], row["entry_point"], row["test"]),
            row["canonical_solution"],
        )
        for row in rows
    }


# --- finding the code ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        pytest.param(f"Here:\n```python\n{WHOLE}```\nDone.", WHOLE, id="fenced"),
        pytest.param(f"```\n{WHOLE}```", WHOLE, id="no language"),
        pytest.param(f"```Python3\n{WHOLE}```", WHOLE, id="language in capitals"),
        pytest.param(f"Here: ```py\n{WHOLE}```", WHOLE, id="fence after text"),
        pytest.param(f"~~~python\n{WHOLE}~~~", WHOLE, id="tildes"),
        pytest.param(f"````python\n{WHOLE}````", WHOLE, id="four ticks"),
        pytest.param(f"```python\n{WHOLE}", WHOLE, id="left open"),
        pytest.param(
            f"```python\n{WHOLE.rstrip()}```", WHOLE.rstrip(), id="closed on the last line"
        ),
        pytest.param(f"```python\r\n{WHOLE}```\r\n", WHOLE, id="carriage returns"),
        pytest.param(
            "1. So:\n   ```python\n   def double(x):\n       return 2 * x\n   ```",
            WHOLE,
            id="in a list",
        ),
        pytest.param(
            f"```python\nold = 1\ndef double(x): return 1\n```\nBetter:\n```python\n{WHOLE}```",
            WHOLE,
            id="the last of two",
        ),
        pytest.param(
            f"```python\n{WHOLE}```\nUse it:\n```python\nprint(double(2))\n```",
            WHOLE,
            id="usage after",
        ),
        pytest.param(
            f"```python\n{WHOLE}```\n```bash\npython double.py\n```", WHOLE, id="a shell after"
        ),
        pytest.param(
            f"```python\n{WHOLE}```\nBroken:\n```python\ndef double(x:\n```",
            WHOLE,
            id="broken after",
        ),
        pytest.param(
            f"<think>```python\ndef double(x): 1\n```</think>\n```python\n{WHOLE}```",
            WHOLE,
            id="thought",
        ),
        pytest.param(
            f"hm ```x```</think>```python\n{WHOLE}```", WHOLE, id="thought opened elsewhere"
        ),
        pytest.param(WHOLE, WHOLE, id="bare"),
        pytest.param(f"```python\n{BODY}```", BODY, id="body"),
        pytest.param(BODY, BODY, id="bare body"),
        pytest.param(
            f"```python\n{BODY}```\nCheck:\n```python\nprint(double(2))\n```",
            BODY,
            id="body, usage after",
        ),
        pytest.param(
            "```python\ndouble = lambda x: 2 * x\n```", "double = lambda x: 2 * x\n", id="lambda"
        ),
        pytest.param(f"```python\n{WITH_FENCES}```", WITH_FENCES, id="fences in a docstring"),
        pytest.param(
            "```python\ndef double(x):\n    return 2 *\n```",
            "def double(x):\n    return 2 *\n",
            id="does not parse",
        ),
        pytest.param("", None, id="empty"),
        pytest.param("I can't help with that.", None, id="prose"),
        pytest.param("The answer is `2 * x`.", None, id="inline code"),
        pytest.param(
            "```java\nint twice(int x) { return 2 * x; }\n```", None, id="another language"
        ),
        pytest.param("```python\nprint(double(2))\n```", None, id="usage only"),
        pytest.param(
            "```python\nclass A:\n    def double(self, x): return 2\n```", None, id="method"
        ),
        pytest.param("<think>```python\n" + WHOLE + "```", None, id="thought without end"),
    ],
)
def test_extract_code(reply: str, code: str | None) -> None:
    assert extract_code(reply, DOUBLE) == code


@pytest.mark.parametrize(
    "nasty",
    ["(" * 100_000, "-" * 100_000 + "1", "x" * 300_000, "\x00", "\ud800", "'\\d'", "```" * 9999],
    ids=["parentheses", "signs", "long", "null", "surrogate", "odd escape", "ticks"],
)
def test_extraction_survives_any_text(nasty: str) -> None:
    extract_code(nasty, DOUBLE)
    extract_code(f"```python\n{nasty}\n```", DOUBLE)
    if "`" not in nasty:
        assert extract_code(f"{nasty}\n```python\n{WHOLE}```", DOUBLE) == WHOLE


@for_all(st.text(alphabet="`~\n python<think/>x=():def ", max_size=200))
def test_what_is_found_stands_in_the_reply(text: str) -> None:
    code = extract_code(text, DOUBLE)
    assert code is None or all(line.strip() in text for line in code.splitlines())


@pytest.mark.parametrize(
    ("completion", "kept"),
    [
        ("    return 1\n", "    return 1\n"),
        ("    return 1\n\ndef other():\n    pass", "    return 1\n"),
        ("    return 1\nprint(2)\nclass A: pass", "    return 1"),
        ("    return 1\n# next\n", "    return 1"),
        ("    if x:\n        return 1\nif __name__:", "    if x:\n        return 1"),
        ("", ""),
    ],
)
def test_cut_completion(completion: str, kept: str) -> None:
    assert cut_completion(completion) == kept


def test_shown_prompt_reads_the_message_back() -> None:
    message = f"Write it.\n```python\n{DOUBLE.prompt}```\n"
    assert shown_prompt(message) == DOUBLE.prompt
    assert shown_prompt("nothing") is None


# --- making the program --------------------------------------------------------------------------


def test_given_is_what_stands_before_the_function() -> None:
    assert given(DOUBLE) == "import math\n\nHALF = 0.5\n\n"
    assert given(CodeProblem("x = 1\n", "double", "")) == "x = 1\n"


@pytest.mark.parametrize(
    "code",
    [
        WHOLE,
        BODY,
        "y = x + x\nreturn y\n",
        "y = x + x\n    return y\n",
        "\n\n    return 2 * x",
        "from __future__ import annotations\nimport os\n" + WHOLE,
        "def double(x):\n    return 2 * x * int(HALF + HALF)\n",
        "async_free = True\ndouble = lambda x: 2 * x\n",
    ],
)
def test_assembled_programs_define_the_function(code: str) -> None:
    names: dict[str, object] = {}
    exec(compile(assemble(code, DOUBLE), "assembled", "exec"), names)
    double = names["double"]
    assert callable(double)
    assert double(21) == 42


def test_completion_mode_continues_the_prompt_as_it_is() -> None:
    assert assemble("  return 1", DOUBLE, mode="completion") == DOUBLE.prompt + "  return 1"


def test_helpers_of_the_prompt_reach_program_and_tests(
    problems: dict[int, tuple[CodeProblem, str]],
) -> None:
    helpers = {10: "is_palindrome", 32: "poly", 38: "encode_cyclic", 50: "encode_shift"}
    for number, helper in helpers.items():
        problem, solution = problems[number]
        assert f"def {helper}(" in given(problem)
        block = problem.prompt[len(given(problem)) :] + solution
        assert f"def {helper}(" in assemble(block, problem)


def replies(problem: CodeProblem, solution: str) -> dict[str, str]:
    """A right reply in each of the shapes that models give."""
    whole = problem.prompt[len(given(problem)) :] + solution
    return {
        "whole": f"Of course.\n\n```python\n{whole}\n```\n\nIt runs in linear time.",
        "everything": f"```python\n{problem.prompt}{solution}\n```",
        "body": f"```python\n{solution}\n```",
        "unindented body": f"```\n{textwrap.dedent(solution)}\n```",
    }


def test_all_humaneval_programs_are_assembled(
    problems: dict[int, tuple[CodeProblem, str]],
) -> None:
    assert len(problems) == 164
    for problem, solution in problems.values():
        for shape, reply in replies(problem, solution).items():
            code = extract_code(reply, problem)
            assert code is not None, (problem.entry_point, shape)
            tree = ast.parse(assemble(code, problem))
            names = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
            assert names[-1] == problem.entry_point, (problem.entry_point, shape)


# --- judging it ----------------------------------------------------------------------------------


def right_answers(
    problems: dict[int, tuple[CodeProblem, str]],
    numbers: list[int],
    shapes: set[str],
    backend: Backend,
) -> dict[str, str]:
    """The verdicts that are not `passed`, by problem and shape."""

    def judged(number: int, shape: str, reply: str) -> tuple[str, str]:
        problem, _ = problems[number]
        code = extract_code(reply, problem)
        verdict = judge_code(code, problem, backend=backend, limits=Limits(wall_s=30, cpu_s=30))
        return f"{number} {shape}", f"{verdict.status} {verdict.detail}".strip()

    def completed(number: int) -> tuple[str, str]:
        problem, solution = problems[number]
        verdict = judge_code(solution, problem, backend=backend, mode="completion")
        return f"{number} completion", f"{verdict.status} {verdict.detail}".strip()

    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(completed, number) for number in numbers]
        futures += [
            pool.submit(judged, number, shape, reply)
            for number in numbers
            for shape, reply in replies(*problems[number]).items()
            if shape in shapes
        ]
        verdicts = dict(future.result() for future in futures)
    assert len(verdicts) == (1 + len(shapes)) * len(numbers)
    return {name: verdict for name, verdict in verdicts.items() if verdict != "passed"}


def test_given_solutions_pass(problems: dict[int, tuple[CodeProblem, str]], wasm: Backend) -> None:
    assert right_answers(problems, list(SAMPLE), {"whole"}, wasm) == {}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_all_given_solutions_pass(
    problems: dict[int, tuple[CodeProblem, str]], wasm: Backend
) -> None:
    shapes = {"whole", "everything", "body", "unindented body"}
    assert right_answers(problems, sorted(problems), shapes, wasm) == {}


def test_wrong_solutions_fail(problems: dict[int, tuple[CodeProblem, str]], wasm: Backend) -> None:
    """Every problem of the sample with the solution of its neighbour."""
    for number, other in itertools.pairwise(SAMPLE):
        problem, _ = problems[number]
        verdict = judge_code(problems[other][1], problem, backend=wasm, mode="completion")
        assert verdict.status in {"failed_assert", "exception"}, (number, verdict)


def test_published_self_check_is_one_half(wasm: Backend) -> None:
    if not (HUMANEVAL / "example_samples.jsonl").exists():
        pytest.skip("the HumanEval example is not beside this checkout")
    row = json.loads((HUMANEVAL / "example_problem.jsonl").read_text())
    problem = CodeProblem(row["prompt"], row["entry_point"], row["test"])
    samples = (HUMANEVAL / "example_samples.jsonl").read_text().splitlines()
    statuses = [
        judge_code(
            json.loads(sample)["completion"],
            problem,
            backend=wasm,
            mode="completion",
            limits=Limits(wall_s=0.5),
        ).status
        for sample in samples
    ]
    assert pass_at_k(len(statuses), statuses.count("passed")) == 0.5
    assert statuses[1] == "timeout"


def test_no_code_runs_nothing(wasm: Backend) -> None:
    verdict = judge_code(None, DOUBLE, backend=wasm)
    assert (verdict.status, verdict.backend, verdict.passed) == ("no_code", "", False)


def test_code_that_does_not_parse_is_a_syntax_error(wasm: Backend) -> None:
    code = extract_code("```python\ndef double(x):\n    return 2 *\n```", DOUBLE)
    assert judge_code(code, DOUBLE, backend=wasm).status == "syntax_error"


# --- pass@k --------------------------------------------------------------------------------------


@for_all(st.integers(1, 12), st.data())
def test_pass_at_k_counts_draws(n: int, data: st.DataObject) -> None:
    """By its definition: the share of the draws of k that hold a right sample."""
    c = data.draw(st.integers(0, n))
    k = data.draw(st.integers(1, min(n, 4)))
    draws = list(itertools.combinations(range(n), k))
    hits = statistics.fmean(any(sample < c for sample in draw) for draw in draws)
    assert pass_at_k(n, c, k=k) == pytest.approx(hits)


def test_pass_at_one_is_accuracy() -> None:
    assert pass_at_k(200, 50) == 0.25


@pytest.mark.parametrize(("n", "c", "k"), [(3, 4, 1), (3, -1, 1), (3, 1, 0), (3, 1, 4), (0, 0, 1)])
def test_pass_at_k_of_nothing_is_refused(n: int, c: int, k: int) -> None:
    with pytest.raises(ValueError, match="not defined"):
        pass_at_k(n, c, k=k)
