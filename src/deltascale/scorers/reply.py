"""Where in a reply the answer stands, whatever kind of answer it is. Judges nothing."""

from __future__ import annotations

import re
import unicodedata
from collections import deque
from collections.abc import Iterator

__all__ = ["boxed", "cued", "cues", "flatten", "is_about_another", "is_error_body", "said"]

_ERROR_BODY = re.compile(
    r"\s*(?:"
    r"\{\s*['\"](?:error|detail)['\"]\s*:"
    r"|\{\s*['\"]type['\"]\s*:\s*['\"]error['\"]"
    r"|\[?(?:API\s+)?error\]?\s*(?:code|status)?\s*[:=]?\s*(?:HTTP\s*)?[45]\d\d\b"
    r"|(?:HTTP|HTTP/\d\S*|status(?:\s+code)?)\s*:?\s*[45]\d\d\b"
    r"|\[ERROR\b"
    r"|<!doctype\s+html|<html\b"
    r"|Traceback \(most recent call last\)"
    r")",
    re.IGNORECASE,
)
_ERROR_INITIALS = frozenset("{[<eEaAhHsStT \n\t\r")

_CUE = re.compile(
    r"(?:\banswers?\b[*_\"']*(?:[^\n.:=]{0,48}?\s(?:is|are|remains?|stays)\b\s*[:=]?|\s*[:=])"
    r"|答案(?:是|为)?\s*:?)"
    r"[ \t*_]*\n?[ \t*_]*([^\n]+)",
    re.IGNORECASE,
)
_REMARK = re.compile(
    r"(?:in)?correct\b|right\b|wrong\b|based\b|consistent\b|supported\b|unchanged\b|because\b|not\b",
    re.IGNORECASE,
)
"""What is said about an answer and is none itself, unless nothing better is said."""
_MOST_CUES, _REACH = 32, 1000
"""Bounds keep a reply that repeats itself without end from taking quadratic time."""
_TAGGED = re.compile(r"<answer>\s*(.*?)\s*</answer>", re.IGNORECASE | re.DOTALL)
_OTHERS = re.compile(r"\b(?:other|wrong|incorrect)\s+$", re.IGNORECASE)
_EARLIER = re.compile(r"\b(?:previous|earlier|original|initial|first|prior)\s+(?:final\s+)?$", re.I)
_TAKEN_BACK = re.compile(
    r"\b(?:wrong|incorrect|mistaken?|errors?|should|actually|instead|not (?:right|correct))\b", re.I
)
_SPACES = re.compile(r"(?<=\d)[\u00a0\u2009\u202f](?=\d{3}(?!\d))")
_MARKS = str.maketrans(
    {"\u2212": "-", "\u2013": "-", "\u2010": "-", "\u2011": "-", "\u2044": "/", "\u2019": "'"}
)
_BRACE = re.compile(r"\\boxed\{|[{}]")
_VULGAR = re.compile(r"(?<=\d)(?=[¼-¾⅐-⅞])")
_OTHER_DIGITS = re.compile(r"[^\D0-9]")


def is_error_body(text: str) -> bool:
    """Whether the text is a server's error message that was taken for a reply.

    A second fence only: a failed call never reaches a scorer.
    """
    return text[:1] in _ERROR_INITIALS and _ERROR_BODY.match(text) is not None


def said(text: str) -> str:
    """What the model said to its reader: the text without its thinking, and what stands between
    tags of an answer after the word "Answer:".

    Thinking that never ended leaves nothing.
    """
    if "<think" in text or "</think" in text:
        head, found, rest = text.rpartition("</think>")
        text = rest if found else head + rest
        text = text.partition("<think>")[0]
    if "</" not in text:
        return text
    return _TAGGED.sub(r"\nAnswer: \1\n", text)


def flatten(text: str) -> str:
    """The text with one spelling for every dash, apostrophe, digit and width (NFKC).

    A fraction that is one letter becomes two numbers, `4½` becomes `4 1/2`.
    """
    if text.isascii():  # quick, and most are
        return text
    text = _VULGAR.sub(" ", text)
    text = unicodedata.normalize("NFKC", _SPACES.sub("", text)).translate(_MARKS)
    return _OTHER_DIGITS.sub(lambda digit: str(unicodedata.decimal(digit[0])), text)


def is_about_another(text: str, start: int, end: int) -> bool:
    """Whether the word "answer" at this place speaks of another than the one that is given: of
    the others, or of an earlier one that is taken back afterwards."""
    before = text[max(0, start - 24) : start]
    if _OTHERS.search(before):
        return True
    return bool(_EARLIER.search(before) and _TAKEN_BACK.search(text, end, end + _REACH))


def cues(text: str) -> Iterator[str]:
    """The rest of the line after every "Answer:", "the answer (to it) is" or its Chinese, or the
    next line where nothing is left of it; the last first, none before the last with a colon, and
    remarks such as "the answer is correct" after all others. Of what is boxed the contents."""
    remarks = []
    for cue in reversed(deque(_CUE.finditer(text), maxlen=_MOST_CUES)):
        if is_about_another(text, cue.start(), cue.start(1)):
            continue
        has_colon = bool(set(":=") & set(text[cue.start() : cue.start(1)]))
        if _REMARK.match(cue[1]) and not has_colon:
            remarks.append(cue[1])
            continue
        framed = boxed(cue[1])
        yield framed[-1] if framed else cue[1]
        if has_colon:
            break
    yield from remarks


def cued(text: str) -> str | None:
    """What the last cue leads to, see `cues`; None without one."""
    return next(cues(text), None)


def boxed(text: str) -> list[str]:
    r"""The contents of every closed `\boxed{...}` in the order they begin, braces balanced."""
    if "\\boxed{" not in text:
        return []
    opened: list[tuple[bool, int]] = []
    found: list[tuple[int, int]] = []
    for brace in _BRACE.finditer(text):
        if brace[0] != "}":
            opened.append((brace[0] != "{", brace.end()))
        elif opened:
            framed, start = opened.pop()
            if framed:
                found.append((start, brace.start()))
    return [text[start:end] for start, end in sorted(found)]
