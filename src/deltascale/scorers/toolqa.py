"""ToolQA: the answer of a last action, held against a number, a time of day or a text.

Numbers are equal as fractions, with sign, percent and units optional; times by the minute of the
day; texts without case, marks and articles, but with the marks between digits, so that 14.0 is not
140. `others` has upstream's own comparison and one that reads answers as lists in any order.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from deltascale.records import (
    COUNT,
    Item,
    Judged,
    Means,
    Message,
    Metrics,
    Question,
    Score,
    Scorer,
    Seen,
)
from deltascale.scorers import numeric
from deltascale.scorers.benchmark import Floats
from deltascale.scorers.reply import boxed, cued, flatten, is_error_body, said

__all__ = ["METRICS", "TOOLQA", "canonical", "counts", "extract", "finished", "judge", "upstream"]

_TOOLS = (
    "Calculate|RetrieveAgenda|RetrieveScirex|LoadDB|FilterDB|GetValue|LoadGraph|NeighbourCheck|"
    "NodeCheck|EdgeCheck|SQLInterpreter|PythonInterpreter|Finish"
)
_ACTION = re.compile(
    rf"(?:^[\s>*_`#-]*(?:action(?:\s*\d+)?\s*[*_]*[:：][\s*_`]*(?P<any>\w+)|(?P<known>{_TOOLS}))"
    rf"|\baction(?:\s*\d+)?\s*[*_]*[:：][\s*_`]*(?P<inline>{_TOOLS}))\s*\[",
    re.MULTILINE | re.IGNORECASE,
)
_MOST_CHARACTERS = 4000
_UNITS = re.compile(
    r"\b(?:usd|dollars?|minutes?|mins?|miles per minute|per night|miles?|papers?|people|persons?"
    r"|authors?|collaborators?|citations?|flights?|times|days|reviews?|stars?|listings?|businesses)\b",
    re.IGNORECASE,
)
_CLOCK = re.compile(
    r"(\d{1,2}):(\d{2})\s*(?:([ap])\.?m\.?)?\.?|(\d{1,2})\s*([ap])\.?m\.?", re.IGNORECASE
)
_LABELLED = re.compile(r"\s*answer\s*[:=]", re.IGNORECASE)
_KEPT = {".": "\ue000", ":": "\ue001", "/": "\ue002", "-": "\ue003"}
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def finished(text: str) -> str | None:
    """The answer of a reply as it was written: what `Finish[...]` holds where it is the first
    action, or what follows the last "Answer:" of a reply without any action."""
    text = said(text).strip()
    if not text or is_error_body(text):
        return None
    head = _ACTION.search(text)
    if head is not None:
        held = _bracket(text, head.end()) if _is_last(head) else None
        return held and (_LABELLED.sub("", held).strip() or None)
    if (stated := cued(text)) is not None:
        return stated.strip(" *_`") or None
    framed = boxed(text)
    return framed[-1] if framed else None


def _is_last(head: re.Match[str]) -> bool:
    return bool((head["any"] or head["known"] or head["inline"]).casefold() == "finish")


def _bracket(text: str, start: int) -> str | None:
    """What a bracket holds, up to where it closes; up to its line's end where it never does."""
    depth = 1
    for at, letter in enumerate(text[start : start + _MOST_CHARACTERS], start):
        depth += {"[": 1, "]": -1}.get(letter, 0)
        if depth == 0:
            return text[start:at].strip() or None
    line = text[start:].partition("\n")[0]
    return line.rpartition("]")[0].strip() or line.strip() or None


def canonical(text: str) -> str:
    """One spelling of an answer: a fraction, a time as `20:00`, or a text without marks."""
    flat = flatten(text).strip()
    number = numeric.alone(_UNITS.sub(" ", flat))
    if number is not None:
        return number
    clock = _CLOCK.fullmatch(flat)
    if clock and int(clock[1] or clock[4]) < 24 and int(clock[2] or 0) < 60:
        hour, half = int(clock[1] or clock[4]), clock[3] or clock[5]
        if half:
            hour = hour % 12 + (12 if half.lower() == "p" else 0)
        return f"{hour:02d}:{clock[2] or '00'}"
    lower = re.sub(r"(?<=\d)[.:/-](?=\d)", lambda mark: _KEPT[mark[0]], flat.lower())
    words = re.sub(r"[^\w\ue000-\ue003]+", " ", lower).split()
    if len(words) > 1:
        words = [word for word in words if word not in {"a", "an", "the", "usd"}] or words
    kept = " ".join(words)
    for mark, stand_in in _KEPT.items():
        kept = kept.replace(stand_in, mark)
    return kept


def upstream(text: str) -> str:
    """Upstream's spelling: no punctuation at all, so that 14.0 becomes 140.

    Source: Zhuang et al. 2023, arXiv 2306.13304, and its code.
    """
    bare = text.lower().translate(_PUNCTUATION)
    return " ".join(re.sub(r"\b(?:a|an|the|usd)\b", " ", bare).split())


def extract(question: Question, text: str) -> str | None:
    """The canonical answer of a reply; None where it takes another action or gives no answer."""
    found = finished(text)
    return (canonical(found) or None) if found is not None else None


def judge(item: Item, answer: str, text: str) -> Score:
    """1 where the answers are one number, time or text. `others`: `em_upstream`, `set_match`.

    For an item whose meta has `compat: upstream` its comparison is the score, and ours the other.
    """
    written = finished(text) or ""
    ours = float(answer == canonical(item.target))
    theirs = float(upstream(written) == upstream(item.target))
    others = {"set_match": float(_parts(written) == _parts(item.target))}
    if item.meta.get("compat") == "upstream":
        return Score(theirs, {"em_fixed": ours, **others})
    return Score(ours, {"em_upstream": theirs, **others})


def _parts(text: str) -> Counter[str]:
    """The parts of a list with commas; a single number's commas are none of it."""
    whole = canonical(text)
    if numeric.canonical(whole) is not None:
        return Counter([whole])
    return Counter(part for piece in text.split(",") if (part := canonical(piece)))


# --- how attempts went ----------------------------------------------------------------------------

_OBSERVATION = "Observation: "
_NO_TOOL = ("That holds no action.", "There is no tool ", "The arguments are not a JSON object.")
_NO_ACTION = _NO_TOOL[0]
_FAILED = re.compile(rf"(?:{_TOOLS}) failed: ")


def counts(item: Item, seen: Seen) -> dict[str, float]:
    """How the attempt went that this reply ended. `uses`: tools that were asked; `invalid`: replies
    or uses that named no tool there is, or gave it no arguments; `errors`: uses that a tool could
    not serve; `halted`: the last step allowed was no answer."""
    told = [one.content.removeprefix(_OBSERVATION) for one in _observations(seen.messages)]
    n_uses = sum(not one.startswith(_NO_ACTION) for one in told)
    return {
        f"{COUNT}uses": float(n_uses),
        f"{COUNT}invalid": float(sum(one.startswith(_NO_TOOL) for one in told)),
        f"{COUNT}errors": float(sum(bool(_FAILED.match(one)) for one in told)),
        f"{COUNT}halted": float(_is_halted(item, seen)),
    }


def _observations(messages: Sequence[Message]) -> list[Message]:
    """What was told since a person last spoke, in its order."""
    told = []
    for one in reversed(messages):
        if one.role == "tool" or (one.role == "user" and one.content.startswith(_OBSERVATION)):
            told.append(one)
        elif one.role != "assistant":
            break
    return told[::-1]


def _is_halted(item: Item, seen: Seen) -> bool:
    if item.question.tools:
        return bool(seen.tool_calls)
    head = _ACTION.search(said(seen.text))
    return head is None or not _is_last(head)


def _terms(judged: Judged) -> Mapping[str, Floats]:
    known = ~np.isnan(judged.score_S)
    terms = {"answered": np.where(known, judged.answered_S, np.nan)}
    for name in ("halted", "uses", "invalid", "errors"):
        if f"{COUNT}{name}" in judged.counts:
            terms[name] = judged.counts[f"{COUNT}{name}"]
    return terms


def _scores(means: Means) -> Mapping[tuple[str, str], Floats]:
    """Shares of attempts: answered, halted; means of an attempt: uses, invalid ones, errors."""
    shares = ("answered", "halted")
    return {
        ("", name if name in shares else f"{name} per attempt"): x for name, x in means[""].items()
    }


METRICS = Metrics(_terms, _scores, stratified=False)
TOOLQA = Scorer("toolqa", 3, extract, judge, counts=counts, metrics=METRICS)
