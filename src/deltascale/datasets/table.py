"""People's own questions from a CSV, TSV, JSON or JSONL file, with every problem told at once.

Columns by any of their usual names: a question and an answer are needed; an id, options, a topic
(the stratum), a cluster and a scorer (one for the whole file) may be there; others are ignored.
For the scorer `code` the question is Python up to a docstring's end, and in place of the answer
stand the function's name (`entry_point`) and its tests.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from deltascale.datasets import bundle, humaneval, prompts, rows
from deltascale.datasets.rows import Row
from deltascale.errors import DatasetMistake, Problem
from deltascale.records import DatasetSpec, Item, Question

__all__ = ["MAX_PROBLEMS", "Table", "read"]

MAX_PROBLEMS = 20
"""Problems that are told one by one; the rest are counted."""

_NAMES: Mapping[str, tuple[str, ...]] = {
    "id": ("id", "qid", "uid", "item_id", "task_id"),
    "question": ("question", "prompt", "input", "problem", "query"),
    "answer": ("answer", "gold", "ground_truth", "target", "reference", "label"),
    "choices": ("choices", "options"),
    "topic": ("topic", "stratum", "category", "subject"),
    "cluster": ("cluster", "group", "passage_id"),
    "scorer": ("scorer",),
    "tests": ("tests", "test"),
    "entry_point": ("entry_point", "function"),
}
_LETTERS = "ABCDEFGH"
_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_NUMBER = re.compile(
    r"[-+−–]?\s?[$€£¥]?\s?(?:"
    r"(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]{1,4000})(?:\.[0-9]{1,300})?"
    r"|\.[0-9]{1,300}"
    r"|[0-9]{1,9} [0-9]{1,9}(?=/))"
    r"(?:[eE][-+]?[0-9]{1,2}|\s?/\s?[1-9][0-9]{0,300})?\s?%?\.?"
)
"""The numbers that may be a target: every one of these is read alike by the numeric scorer."""


@dataclass(frozen=True, slots=True)
class Table:
    """What a file held: its items in the order of its lines, and the scorer that judges them.

    `source` names the file and its checksum. `output_tokens` is a guess by the scorer.
    """

    items: tuple[Item, ...]
    scorer: str
    source: str
    output_tokens: int
    warnings: tuple[str, ...] = ()


@dataclass(slots=True)
class _Draft:
    """A row on its way to an item."""

    line: int
    id: str
    question: str
    answers: tuple[str, ...]
    choices: tuple[str, ...]
    topic: str
    cluster: str
    entry_point: str


@dataclass(slots=True)
class _Problems:
    """What is wrong in the file, by line."""

    file: str
    found: list[Problem] = field(default_factory=list)

    def add(self, line: int, path: str, found: str, remedy: str = "") -> None:
        self.found.append(Problem(self.file, line, path, found, remedy))

    def stop(self) -> None:
        """Raise them all, if there are any."""
        if not self.found:
            return
        self.found.sort(key=lambda problem: problem.line)
        told = [str(problem) for problem in self.found[:MAX_PROBLEMS]]
        if len(self.found) > MAX_PROBLEMS:
            told.append(f"{self.file}: and {len(self.found) - MAX_PROBLEMS} more problems")
        raise DatasetMistake("\n".join(told))


def read(spec: DatasetSpec) -> Table:
    """Read the file of a dataset.

    The scorer is the study's, else the file's own (a `scorer` column), else `choice` where there
    are options, `numeric` where every answer is a number, and `exact` otherwise.

    Raises:
        DatasetMistake: the file can't be read, or has problems: up to 20 of them, one a line.
    """
    prompts.only_options(spec)
    path = bundle.own(spec.file)
    content = rows.content(path, spec.file)
    every, broken = rows.parse(content, path.suffix.lower(), spec.file)
    problems = _Problems(spec.file, broken)
    if not every:
        problems.stop()
    columns = _columns(every, spec.file)
    drafts = [_draft(row, columns, number, path.stem, problems) for number, row in enumerate(every)]
    _repeated_ids(drafts, problems)
    scorer = spec.scorer or _own_scorer(every, columns, problems)
    if not scorer:
        scorer = _fitting_scorer(drafts)
        _missing_numbers(drafts, scorer, problems)
    problems.stop()
    targets = [_targets(draft, scorer, problems) for draft in drafts]
    problems.stop()
    return Table(
        items=tuple(
            _item(draft, found, scorer, spec) for draft, found in zip(drafts, targets, strict=True)
        ),
        scorer=scorer,
        source=f"{path.name} sha256 {rows.checksum(content)}",
        output_tokens=_OUTPUT_TOKENS.get(scorer, 300),
        warnings=_repeated_questions(drafts, spec.name),
    )


_OUTPUT_TOKENS = {"numeric": 200, "code": 300, "choice": 250}
"""Guesses: as for GSM8K, HumanEval and MathBench; a run replaces them by what it sees."""


# --- columns -------------------------------------------------------------------------------------


def _columns(every: Sequence[Row], file: str) -> dict[str, str]:
    """Which of the file's columns is the id, the question, ...; by our name for it."""
    present = {name: None for row in every for name in row.cells}
    by_lower: dict[str, list[str]] = {}
    for name in present:
        by_lower.setdefault(name.strip().lower(), []).append(name)
    columns: dict[str, str] = {}
    for ours, theirs in _NAMES.items():
        found = [name for alias in theirs for name in by_lower.get(alias, ())]
        if len(found) > 1:
            raise DatasetMistake(
                f"{len(found)} columns could be the {ours}: {', '.join(found)}",
                where=file,
                remedy="keep one of them, or rename the others",
            )
        if found:
            columns[ours] = found[0]
    if "tests" in columns and "entry_point" in columns:
        columns["answer"] = columns["tests"]
    for needed in ("question", "answer"):
        if needed not in columns:
            raise DatasetMistake(
                f"no column for the {needed}; there are {_listed(present)}",
                where=file,
                remedy=f"name it {' or '.join(_NAMES[needed][:3])}",
            )
    return columns


def _listed(names: Iterable[str]) -> str:
    shown = [repr(name if len(name) < 40 else f"{name[:36]}...") for name in names]
    return ", ".join(shown[:12]) + (f" and {len(shown) - 12} more" if len(shown) > 12 else "")


def _draft(
    row: Row, columns: Mapping[str, str], number: int, stem: str, problems: _Problems
) -> _Draft:
    def text(ours: str) -> str:
        found = row.cells.get(columns.get(ours, ""))
        if found is None or isinstance(found, str):
            return (found or "").strip()
        problems.add(row.line, columns[ours], f"{rows.kind(found)} where a text is needed")
        return "?"

    question = text("question")
    if not question:
        problems.add(row.line, columns["question"], "empty", "write a question or delete the line")
    name = text("id") if "id" in columns else f"{stem}/{number:06d}"
    if not name:
        problems.add(row.line, columns["id"], "empty", "give every line an id, or none")
    elif any(ord(character) < 32 for character in name):
        problems.add(row.line, columns["id"], f"a line break or tab in the id {name!r}")
    return _Draft(
        line=row.line,
        id=name,
        question=question,
        answers=_answers(row, columns["answer"], problems),
        choices=_choices(row, columns.get("choices"), problems),
        topic=text("topic"),
        cluster=text("cluster"),
        entry_point=text("entry_point"),
    )


def _answers(row: Row, column: str, problems: _Problems) -> tuple[str, ...]:
    """The target and after it its aliases, which JSON files may give as a list."""
    found = row.cells.get(column)
    several = found if isinstance(found, list) else [found]
    answers: list[str] = []
    for one in several:
        if isinstance(one, bool):
            answers.append(str(one).lower())
        elif isinstance(one, str):
            answers.append(one.strip())
        elif one is not None:
            problems.add(row.line, column, f"{rows.kind(one)} where a text or number is needed")
            return ("?",)
    if not answers or not all(answers):
        problems.add(row.line, column, "empty", "write the answer or delete the line")
        return ("?",)
    return tuple(answers)


def _choices(row: Row, column: str | None, problems: _Problems) -> tuple[str, ...]:
    if column is not None and row.cells.get(column) not in (None, ""):
        found = row.cells[column]
        parsed = rows.listed(found) if isinstance(found, str) else found
        if not isinstance(parsed, list) or not all(isinstance(one, str) for one in parsed):
            problems.add(row.line, column, "not a list of texts", 'write it like ["red", "blue"]')
            return ()
        choices = [str(one).strip() for one in parsed]
    else:
        column = "options"
        cells = [row.cells.get(letter) or row.cells.get(letter.lower()) for letter in _LETTERS]
        choices = [cell.strip() if isinstance(cell, str) else "" for cell in cells]
        while choices and not choices[-1]:
            choices.pop()
        if not choices:
            return ()
    if not all(choices):
        problems.add(row.line, column, "an option is empty")
    elif len(choices) < 2:
        problems.add(row.line, column, "only one option")
    elif len(choices) > len(_ALPHABET):
        problems.add(row.line, column, f"{len(choices)} options; 26 is the most")
    elif len({" ".join(choice.split()).casefold() for choice in choices}) < len(choices):
        problems.add(row.line, column, "two options are the same")
    return tuple(choices)


# --- the file as a whole -------------------------------------------------------------------------


def _repeated_ids(drafts: Sequence[_Draft], problems: _Problems) -> None:
    first: dict[str, int] = {}
    for draft in drafts:
        if draft.id and first.setdefault(draft.id, draft.line) != draft.line:
            problems.add(
                draft.line,
                "id",
                f"{draft.id!r} is also on line {first[draft.id]}",
                "make it unique",
            )


def _repeated_questions(drafts: Sequence[_Draft], name: str) -> tuple[str, ...]:
    seen = Counter((draft.question, draft.choices) for draft in drafts)
    n_extra = sum(seen.values()) - len(seen)
    if not n_extra:
        return ()
    lines = " is" if n_extra == 1 else "s are"
    return (
        f"{name}: {n_extra} question{lines} there more than once; intervals will be too narrow",
    )


def _own_scorer(every: Sequence[Row], columns: Mapping[str, str], problems: _Problems) -> str:
    if "scorer" not in columns:
        return ""
    named: dict[str, int] = {}
    for row in every:
        named.setdefault(str(row.cells.get(columns["scorer"]) or "").strip(), row.line)
    if len(named) > 1:
        found = ", ".join(f"{name or 'none'!r} (line {line})" for name, line in named.items())
        problems.add(
            0, columns["scorer"], f"more than one scorer: {found}", "split the file by scorer"
        )
    return min(named, key=lambda name: named[name], default="")


def _fitting_scorer(drafts: Sequence[_Draft]) -> str:
    if drafts and all(draft.entry_point for draft in drafts):
        return "code"
    if any(draft.choices for draft in drafts):
        return "choice"
    if all(_NUMBER.fullmatch(answer) for draft in drafts for answer in draft.answers):
        return "numeric"
    return "exact"


def _missing_numbers(drafts: Sequence[_Draft], scorer: str, problems: _Problems) -> None:
    """Among numbers, `nan` is how programs write that there is no answer."""
    missing = [draft for draft in drafts if "nan" in map(str.lower, draft.answers)]
    rest = [draft for draft in drafts if draft not in missing]
    if scorer == "exact" and rest and missing and _fitting_scorer(rest) == "numeric":
        for draft in missing:
            found = f"{draft.answers[0]!r} among numbers"
            problems.add(draft.line, "answer", found, "write the answer or delete the line")


def _targets(draft: _Draft, scorer: str, problems: _Problems) -> tuple[str, ...]:
    """The answers as the scorer wants them; what it could never match is a problem."""
    if scorer == "choice":
        return _letters(draft, problems)
    if scorer == "code":
        return (_hidden(draft, problems),)
    for answer in draft.answers:
        if scorer in {"numeric", "gsm8k"} and not _NUMBER.fullmatch(answer):
            problems.add(
                draft.line, "answer", f"{answer!r} is not a number", "mend it, or use `exact`"
            )
        if scorer == "regex":
            try:
                re.compile(answer)
            except (re.error, OverflowError, RecursionError, Warning) as error:
                problems.add(draft.line, "answer", f"not a pattern: {error}", "mend the pattern")
    return draft.answers


def _letters(draft: _Draft, problems: _Problems) -> tuple[str, ...]:
    if not draft.choices:
        problems.add(draft.line, "options", "none", "add a column of lists, or columns A, B, ...")
        return draft.answers
    letters = _ALPHABET[: len(draft.choices)]
    found = []
    for answer in draft.answers:
        if answer in draft.choices:
            found.append(letters[draft.choices.index(answer)])
        elif len(answer) == 1 and answer.upper() in letters:
            found.append(answer.upper())
        else:
            problems.add(
                draft.line,
                "answer",
                f"{answer!r} is neither a letter A to {letters[-1]} nor one of the options",
                "write the letter",
            )
    return tuple(found) or draft.answers


def _hidden(draft: _Draft, problems: _Problems) -> str:
    if not draft.entry_point.isidentifier():
        problems.add(
            draft.line,
            "entry_point",
            f"{draft.entry_point!r} is no name of a function",
            "name the function that the tests call",
        )
    return humaneval.hidden(draft.entry_point, draft.answers[0])


def _item(draft: _Draft, targets: tuple[str, ...], scorer: str, spec: DatasetSpec) -> Item:
    own = {
        "choice": prompts.LETTER,
        "code": humaneval.FORMAT,
        "gsm8k": prompts.NUMBER,
        "math": prompts.BOXED,
        "numeric": prompts.NUMBER,
    }
    asks = prompts.answer_format(spec, own.get(scorer, prompts.TEXT))
    if scorer == "code":
        prompt = f"{draft.question}\n"
        question = humaneval.coding(prompt, draft.entry_point, asks=asks, spec=spec)
        meta = {"prompt": prompt, "entry_point": draft.entry_point}
    else:
        listed = prompts.lettered(draft.choices)
        messages = prompts.opening(spec, draft.question, asks=asks, choices=listed)
        question, meta = Question(messages, asks, draft.choices), {}
    return Item(
        id=draft.id,
        question=question,
        target=targets[0],
        aliases=targets[1:],
        stratum=draft.topic,
        cluster=draft.cluster,
        meta=meta,
        chance=1 / len(draft.choices) if draft.choices else 0.0,
    )
