"""Answers that are words: equal to the target, or holding it.

The answer is what follows the last "Answer:" (or "the answer is"), else the last boxed text, else
the last line. Case, markup, quotes, width and closing dots don't count.
"""

from __future__ import annotations

import re

from deltascale.records import Item, Question, Score, Scorer
from deltascale.scorers.reply import boxed, cued, flatten, is_error_body, said

__all__ = ["CONTAINS", "EXACT", "canonical", "extract", "final"]

_MARKUP = re.compile(r"[*`]+|(?<!\w)_+|_+(?!\w)|\\(?:text|textbf|mathrm)\b")
_FENCED = re.compile(r"\n[ \t]*(?:`{3,}|~{3,})[ \t]*\Z")
_IN_NUMBER = re.compile(r"[0-9]\0[.,][0-9]|[0-9][.,]\0[0-9]|(?<![A-Za-z0-9])-\0\.?[0-9]")
_EDGES = " \t\r\n.,;:!?\"'()[]{}<>$“”‘’«»。、「」"


def canonical(text: str) -> str:
    """One spelling of a short text; applying it twice changes nothing more."""
    text = _MARKUP.sub("", flatten(text).casefold())
    return " ".join(flatten(text).split()).strip(_EDGES)


def final(text: str) -> str | None:
    """The part of a reply that states its answer, as written; None if there is none."""
    text = flatten(said(text)).strip()
    if not text or is_error_body(text):
        return None
    if (stated := cued(text)) is not None:
        return stated
    if framed := boxed(text):
        return framed[-1]
    return _FENCED.sub("", text).rpartition("\n")[2]


def extract(question: Question, text: str) -> str | None:
    """The canonical text of the answer, None where the reply states none."""
    found = final(text)
    return (canonical(found) or None) if found is not None else None


def _targets(item: Item) -> set[str]:
    return {canonical(target) for target in (item.target, *item.aliases)} - {""}


def judge_exact(item: Item, answer: str, text: str) -> Score:
    """1 where the answer is the target or an alias."""
    return Score(float(answer in _targets(item)))


def judge_contains(item: Item, answer: str, text: str) -> Score:
    """1 where the reply, thinking left out, holds the target or an alias as whole words."""
    reply = canonical(said(text))
    return Score(float(any(_holds(reply, target) for target in _targets(item))))


def _holds(reply: str, target: str) -> bool:
    start = reply.find(target)
    while start >= 0:
        end = start + len(target)
        if not (_joined(reply[:start], target) or _joined(target, reply[end:])):
            return True
        start = reply.find(target, start + 1)
    return False


def _joined(left: str, right: str) -> bool:
    """Whether two neighbours belong to one word or number; scripts without spaces have no such
    words."""
    if all(side[:1].isalnum() and side[:1] < "\u2e80" for side in (left[-1:], right)):
        return True
    # 3 is no part of 3.5, 1,300 or -3
    return bool(_IN_NUMBER.search(f"{left[-3:]}\0{right[:3]}"))


EXACT = Scorer("exact", 2, extract, judge_exact)
CONTAINS = Scorer("contains", 2, extract, judge_contains)
