"""Answers that match a pattern: the target is a regular expression for the whole answer.

The answer is found as for `exact`, but kept as it was written. A pattern that could take a search
beyond all bounds is refused before it is used, because Python can't stop a search that has begun.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from functools import lru_cache

from deltascale.errors import DatasetMistake
from deltascale.records import Item, Question, Score, Scorer
from deltascale.scorers.exact import final

__all__ = ["MAX_ANSWER", "REGEX", "compiled", "extract", "judge", "worst_case", "wrong_target"]

MAX_ANSWER = 256
"""Characters of an answer; a longer one matches no pattern."""

MAX_STEPS = 20_000_000
"""Ways to try that a pattern may have on the longest answer: well under a second."""

_GROUP = re.compile(r"\(\?(?:P<\w+>|<?[=!]|[aiLmsu-]*:|>|[aiLmsu]+\))")
_REPEAT = re.compile(r"(?:([*+?])|\{(\d*)(,?)(\d*)\})[?+]?")
_CLASS = re.compile(r"\[\^?\]?(?:\\.|[^\]\\])*\]", re.DOTALL)


@dataclass(slots=True)
class _Part:
    """A piece of a pattern: in how many ways it can match, and whether there is more than one."""

    ways: int = 1
    varies: bool = False

    def then(self, other: _Part) -> None:
        self.ways *= other.ways
        self.varies |= other.varies


def worst_case(pattern: str) -> int:
    """An upper bound of the ways in which a backtracking search can try the pattern.

    Raises:
        ValueError: the pattern repeats what can itself match in several ways, or refers back.
    """
    groups, last, at = [_Part()], _Part(), 0

    def close() -> None:
        nonlocal last
        groups[-1].then(last)
        last = _Part()

    while at < len(pattern):
        here = pattern[at]
        if here == "(":
            close()
            head = _GROUP.match(pattern, at)
            if head is None and pattern.startswith("(?", at):
                raise ValueError("it refers back to a group, or holds a comment")
            at = head.end() if head else at + 1
            if head is None or not head[0].endswith(")"):
                groups.append(_Part())
        elif here == ")":
            close()
            last, at = groups.pop(), at + 1
        elif here == "|":
            close()
            groups[-1].then(_Part(2, True))
            at += 1
        elif repeat := _REPEAT.match(pattern, at):
            last, at = _repeated(last, repeat), repeat.end()
        else:
            close()
            at = _after_atom(pattern, at)
    close()
    return groups[0].ways


def _after_atom(pattern: str, at: int) -> int:
    if pattern[at] == "\\":
        if pattern[at + 1] in "123456789":
            raise ValueError("it refers back to a group")
        return at + 2
    bracket = _CLASS.match(pattern, at)
    return bracket.end() if bracket else at + 1


def _repeated(part: _Part, repeat: re.Match[str]) -> _Part:
    sign, low, comma, high = repeat.groups()
    fewest = {"*": 0, "+": 1, "?": 0}.get(sign) if sign else int(low or 0)
    most = 1 if sign == "?" else MAX_ANSWER if sign or (comma and not high) else int(high or low)
    if most > 1 and part.varies:
        raise ValueError("it repeats a part that can itself match in several ways")
    ways = max(1, min(most, MAX_ANSWER) - (fewest or 0) + 1)
    return _Part(part.ways * ways, part.varies or ways > 1)


@lru_cache(maxsize=4096)
def compiled(pattern: str) -> re.Pattern[str]:
    """The pattern, ready to use.

    Raises:
        DatasetMistake: it is no regular expression, or one that could run without end.
    """
    remedy = "write a simpler pattern for the whole answer, or use the scorer `exact`"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # Python warns of what another version reads otherwise
            ready = re.compile(pattern)
        ways = worst_case(pattern)
    except (re.error, OverflowError, RecursionError, ValueError, Warning) as error:
        raise DatasetMistake(
            f"the pattern can't be used: {error}", where=repr(pattern), remedy=remedy
        ) from error
    if ways > MAX_STEPS:
        raise DatasetMistake(
            "the pattern can't be used: too many parts of it vary in length",
            where=repr(pattern),
            remedy=remedy,
        )
    return ready


def extract(question: Question, text: str) -> str | None:
    """The answer as written, without the space around it; None where the reply states none."""
    found = final(text)
    return (found.strip() or None) if found is not None else None


def judge(item: Item, answer: str, text: str) -> Score:
    """1 where the target, or an alias, matches the whole answer."""
    if len(answer) > MAX_ANSWER:
        return Score(0.0)
    patterns = (compiled(pattern) for pattern in (item.target, *item.aliases))
    return Score(float(any(pattern.fullmatch(answer) for pattern in patterns)))


def wrong_target(target: str) -> str:
    """Why this target can't be used as a pattern; empty if it can."""
    try:
        compiled(target)
    except DatasetMistake as mistake:
        return str(mistake)
    return ""


REGEX = Scorer("regex", 2, extract, judge)
