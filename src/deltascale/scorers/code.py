"""Judging generated code: find it in a reply, make a program of it, run its tests in the sandbox.

Everything but `judge_code` is pure. Nothing here knows a dataset: a problem is its prompt, the name
of its function and its tests.
"""

from __future__ import annotations

import ast
import functools
import json
import math
import re
import textwrap
import threading
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from deltascale.records import Item, Judged, Means, Metrics, Question, Score, Scorer
from deltascale.sandbox import Backend, Limits, Verdict, choose_backend, judge_program
from deltascale.scorers.benchmark import Floats
from deltascale.scorers.reply import is_error_body, said

__all__ = [
    "CODE",
    "METRICS",
    "STOPS",
    "CodeProblem",
    "assemble",
    "cut_completion",
    "extract_code",
    "given",
    "judge_code",
    "pass_at_k",
    "run_examples",
    "scorer",
    "shown_prompt",
]

STOPS = ("\nclass", "\ndef", "\n#", "\nif", "\nprint")
"""Where a completion leaves its function. Source: Chen et al. 2021, arXiv 2107.03374."""

_LANGUAGES = frozenset({"", "python", "python3", "py", "py3", "ipython"})
_TAG = re.compile(r"\{?\.?([\w+#]*)")
"""The language of a fence, also where it is written `{.python}` or `python:solution.py`."""
_MOST_CHARACTERS = 200_000
_MOST_REPORTED = 300
_PLUS_LIMITS = Limits(wall_s=60.0, cpu_s=60)
"""A task has up to a thousand further inputs. Source: the limits of the benchmark's own harness."""
_FENCE = re.compile(
    r"^(?P<indent>[ \t]*)(?P<before>[^`\n]*?)(?P<fence>`{3,}|~{3,})(?P<tag>[^`\n]*)$"
)
_FUTURE = re.compile(r"^from __future__ import .*\n?", re.MULTILINE)
_parsing = threading.Lock()


@dataclass(frozen=True, slots=True)
class CodeProblem:
    """A function to be written. `prompt` is Python up to the end of the function's docstring,
    `tests` defines `check(candidate)` or calls `entry_point`."""

    prompt: str
    entry_point: str
    tests: str


# --- from a reply to code ------------------------------------------------------------------------


def extract_code(text: str, problem: CodeProblem) -> str | None:
    """The code of a chat reply, as the model wrote it; None: there is none.

    What a model thinks aloud is dropped. The last Python block that defines the function wins, else
    the last that is a body for it; a reply without any fence is taken as one block. A block that
    means to define the function and does not parse comes back too: it is a syntax error, not a
    missing answer.
    """
    text = said(text)
    fenced = list(_blocks(text))
    blocks = [code for tag, code in fenced if tag in _LANGUAGES] if fenced else [text]
    for code in reversed(blocks):
        if _defines(code, problem.entry_point):
            return code
    for code in reversed(blocks):
        if _body(code, problem) is not None:
            return code
    meant = re.compile(rf"^def\s+{re.escape(problem.entry_point)}\s*\(", re.MULTILINE)
    return next((code for code in reversed(blocks) if fenced and meant.search(code)), None)


def cut_completion(text: str, stops: tuple[str, ...] = STOPS) -> str:
    """A base model's completion up to where it leaves the function it was to complete."""
    ends = [place for stop in stops if (place := text.find(stop)) >= 0]
    return text[: min(ends, default=len(text))]


def shown_prompt(text: str) -> str | None:
    """The last Python block of a text: the prompt, in a message that shows it in a block."""
    return next((code for tag, code in reversed(list(_blocks(text))) if tag in _LANGUAGES), None)


def _blocks(text: str) -> Iterator[tuple[str, str]]:
    """(language in lower case, code) of every fenced block; the last may be left open."""
    tag, fence, indent = "", "", ""
    lines: list[str] = []
    for line in text.splitlines(keepends=True):
        bare = line.rstrip()
        if not fence:
            opening = _FENCE.match(bare)
            if opening and (opening["fence"][0] == "`" or not opening["before"]):
                word = _TAG.match(opening["tag"].strip())
                tag = word[1].lower() if word else ""
                fence, indent = opening["fence"], opening["indent"]
                lines = []
        elif _closes(bare, fence, indent):
            lines.append(bare.rstrip(fence[0]))
            yield tag, textwrap.dedent("".join(lines)) if indent else "".join(lines)
            fence = ""
        else:
            lines.append(line)
    if fence:
        yield tag, textwrap.dedent("".join(lines)) if indent else "".join(lines)


def _closes(bare: str, fence: str, indent: str) -> bool:
    """Whether the line ends the block: a fence of its own, or one right after the last code.

    A fence that is indented by four more stands inside the code, in a docstring.
    """
    if not bare.endswith(fence):
        return False
    code = bare.rstrip(fence[0])
    return bool(code.strip()) or len(bare) - len(bare.lstrip()) < len(indent) + 4


# --- from code to a program ----------------------------------------------------------------------


def given(problem: CodeProblem) -> str:
    """What the prompt gives beside the function itself: imports, constants, helper functions.

    The tests may use it, so it is also their setup.
    """
    head = re.compile(rf"^(?:async\s+)?def\s+{re.escape(problem.entry_point)}\s*\(", re.MULTILINE)
    places = [match.start() for match in head.finditer(problem.prompt)]
    return problem.prompt[: places[-1]] if places else problem.prompt


def assemble(
    code: str, problem: CodeProblem, *, mode: Literal["chat", "completion"] = "chat"
) -> str:
    """The program: code that defines the function after what the prompt gives, or the prompt
    continued by a body. In `completion` mode the code always continues the prompt, as it is."""
    if mode == "completion":
        return problem.prompt + code
    body = None if _defines(code, problem.entry_point) else _body(code, problem)
    program = f"{given(problem)}\n{code}" if body is None else problem.prompt + body
    futures = "".join(line.rstrip("\n") + "\n" for line in _FUTURE.findall(program))
    return futures + _FUTURE.sub("", program)


def _parse(source: str) -> ast.Module | None:
    if len(source) > _MOST_CHARACTERS:
        return None
    try:
        # An odd escape in a model's string warns, and the filters belong to the whole process.
        with _parsing, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _defines(code: str, name: str) -> bool:
    """Whether the code parses and binds the name at its top level."""
    tree = _parse(code)
    for node in tree.body if tree else ():
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name:
            return True
        targets = node.targets if isinstance(node, ast.Assign) else ()
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            return True
    return False


def _body(code: str, problem: CodeProblem) -> str | None:
    """The code as a body of the prompt's function, indented as it must be; None: it is none.

    A model may write it without any indentation, or lose the first line's with the blanks before.
    """
    lines = code.strip("\n")
    for body in (lines, textwrap.indent(lines, "    "), "    " + lines.lstrip()):
        tree = _parse(problem.prompt + body + "\n")
        for node in tree.body if tree else ():
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            if node.name == problem.entry_point and _returns(node):
                return body + "\n"
    return None


def _returns(function: ast.AST) -> bool:
    """Whether it has any way to answer of its own; text that only parses after a docstring has
    none, and neither has a class with the function as a method."""
    for node in ast.iter_child_nodes(function):
        if isinstance(node, ast.Return | ast.Yield | ast.YieldFrom | ast.Raise):
            return True
        inner = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda)
        if not inner and _returns(node):
            return True
    return False


# --- judging -------------------------------------------------------------------------------------


def judge_code(
    code: str | None,
    problem: CodeProblem,
    *,
    backend: Backend,
    mode: Literal["chat", "completion"] = "chat",
    limits: Limits = Limits(),  # noqa: B008 - a frozen value
) -> Verdict:
    """Run the problem's tests on the code of a reply. `None` is `no_code` and runs nothing.

    Blocks the calling thread, for the program's time.
    """
    if code is None:
        return Verdict("no_code", "the reply holds no code for the function")
    return judge_program(
        assemble(code, problem, mode=mode),
        problem.tests,
        entry_point=problem.entry_point,
        setup=given(problem),
        backend=backend,
        limits=limits,
    )


def pass_at_k(n: int, c: int, *, k: int = 1) -> float:
    """The chance that k of n samples, drawn without putting back, hold one of the c right ones.

    In [0, 1]; unbiased for the chance that one of k fresh samples is right. Raises ValueError
    unless 0 ≤ c ≤ n and 1 ≤ k ≤ n. Source: Chen et al. 2021, arXiv 2107.03374.
    """
    if not (0 <= c <= n and 1 <= k <= n):
        raise ValueError(f"pass@{k} of {n} samples with {c} right is not defined")
    return 1.0 - math.comb(n - c, k) / math.comb(n, k)


_DRAWS = (1, 2, 5, 10, 25, 50, 100)


def _terms(judged: Judged) -> Mapping[str, Floats]:
    """pass@k of each task by its epochs, for every k that all tasks have; of both sets of tests."""
    known = ~np.isnan(judged.score_S)
    n_S = np.bincount(judged.item_S, weights=known)[judged.item_S]
    first = np.zeros(len(n_S), dtype=np.bool_)
    first[np.unique(judged.item_S, return_index=True)[1]] = True
    least = int(n_S[n_S > 0].min()) if n_S.any() else 0
    by_tests = {"": judged.score_S}
    if "plus" in judged.others:
        by_tests[", HumanEval+"] = judged.others["plus"]
    terms = {}
    for which, score_S in by_tests.items():
        # A reply without an answer passes no tests.
        passed = np.where(known & ~np.isnan(score_S), score_S, 0.0)
        c_S = np.bincount(judged.item_S, weights=passed)[judged.item_S]
        for k in (k for k in _DRAWS if k <= least):
            terms[f"pass@{k}{which}"] = np.array(
                [
                    pass_at_k(round(n), round(c), k=k) if one and n else math.nan
                    for one, n, c in zip(first, n_S, c_S, strict=True)
                ]
            )
    return terms


def _scores(means: Means) -> Mapping[tuple[str, str], Floats]:
    return {("", name): x for name, x in means[""].items()}


METRICS = Metrics(_terms, _scores, stratified=False)
"""pass@k of the benchmark: the samples of a task are its epochs at one turn."""


# --- as a scorer ---------------------------------------------------------------------------------


def scorer(backend: Backend | None = None) -> Scorer:
    """Judges code by an item's hidden tests; `backend` None: the best sandbox there is.

    An item's target is JSON with `entry_point` and `test`, its meta holds the `prompt`. The score's
    detail names the verdict, and the backend and version it was found with. Where the target also
    has `plus`, `others["plus"]` says whether code that is right passes those tests too.
    """

    def judge(item: Item, answer: str, text: str) -> Score:
        wanted = json.loads(item.target)
        problem = CodeProblem(item.meta["prompt"], wanted["entry_point"], wanted["test"])
        shut_in = backend or _best_backend()
        mode = _mode(item, answer)
        verdict = judge_code(answer, problem, backend=shut_in, mode=mode)
        if "plus" not in wanted:
            return Score(float(verdict.passed), detail=_told(verdict))
        if not verdict.passed:
            return Score(0.0, {"plus": 0.0}, _told(verdict))
        more = replace(problem, tests=wanted["plus"])
        further = judge_code(answer, more, backend=shut_in, mode=mode, limits=_PLUS_LIMITS)
        told = f"{_told(verdict)}; plus: {_told(further)}"
        return Score(1.0, {"plus": float(further.passed)}, told)

    return Scorer("code", 2, _extract, judge, blocking=True, metrics=METRICS)


def run_examples(item: Item, code: str, *, backend: Backend | None = None) -> str:
    """Run the assertions that the question itself shows; a line for each that fails, else empty."""
    entry_point = item.meta["entry_point"]
    failed = []
    for assertion in item.question.examples.splitlines():
        tests = f"def check(candidate):\n    {assertion}\n"
        problem = CodeProblem(item.meta["prompt"], entry_point, tests)
        shut_in = backend or _best_backend()
        verdict = judge_code(code, problem, backend=shut_in, mode=_mode(item, code))
        if not verdict.passed:
            why = verdict.status.replace("_", " ")
            detail = f": {verdict.detail}" if verdict.detail else ""
            failed.append(f"{assertion}  # {why}{detail}"[:_MOST_REPORTED])
    return "\n".join(failed)


def _mode(item: Item, code: str) -> Literal["chat", "completion"]:
    """How the code is made a program: what does not define the function continues the prompt, as
    it is, where that was asked for."""
    asked = item.meta.get("mode") == "completion"
    return "completion" if asked and not _defines(code, item.meta["entry_point"]) else "chat"


def _extract(question: Question, text: str) -> str | None:
    shown = question.messages[-1].content
    problem = _asked(shown)
    if problem is None:
        return None
    if shown_prompt(shown) is not None:
        return extract_code(text, problem)
    # The prompt as it is, to be continued. A later turn, or a model made for chat, may still give
    # the whole function.
    text = said(text)
    if any(_blocks(text)) or _defines(text, problem.entry_point):
        return extract_code(text, problem)
    cut = cut_completion(text)
    return cut if cut.strip() and not is_error_body(text) else None


@functools.lru_cache(maxsize=1024)
def _asked(text: str) -> CodeProblem | None:
    """The problem that a question shows, in a block or by itself: its last function is the one to
    be written."""
    prompt = shown_prompt(text) or text
    tree = _parse(f"{prompt.rstrip()}\n    pass\n")
    functions = [] if tree is None else [n for n in tree.body if isinstance(n, ast.FunctionDef)]
    if not functions:
        return None
    return CodeProblem(f"{prompt.rstrip()}\n", functions[-1].name, "")


@functools.cache
def _best_backend() -> Backend:
    return choose_backend()


def _told(verdict: Verdict) -> str:
    detail = f": {verdict.detail}" if verdict.detail else ""
    return f"{verdict.status} ({verdict.backend} {verdict.version}){detail}"[:_MOST_REPORTED]


CODE = scorer()
