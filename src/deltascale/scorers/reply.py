"""Where in a reply the answer stands, whatever kind of answer it is. Judges nothing."""

from __future__ import annotations

import re
import unicodedata

__all__ = ["boxed", "cued", "flatten", "is_error_body", "said"]

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
    r"(?:\banswers?\b[*_\"']*(?:[^\n.:=]{0,48}?\s(?:is|are)\b\s*[:=]?|\s*[:=])"
    r"|答案(?:是|为)?\s*:?)"
    r"[ \t*_]*\n?[ \t*_]*([^\n]+)",
    re.IGNORECASE,
)
_SPACES = re.compile(r"(?<=\d)[\u00a0\u2009\u202f](?=\d{3}(?!\d))")
_DASHES = str.maketrans({"\u2212": "-", "\u2013": "-", "\u2010": "-", "\u2011": "-"})
_BRACE = re.compile(r"\\boxed\{|[{}]")
_OTHER_DIGITS = re.compile(r"[^\D0-9]")


def is_error_body(text: str) -> bool:
    """Whether the text is a server's error message that was taken for a reply.

    A second fence only: a failed call never reaches a scorer.
    """
    return text[:1] in _ERROR_INITIALS and _ERROR_BODY.match(text) is not None


def said(text: str) -> str:
    """What the model said to its reader: the text without its thinking.

    Thinking that never ended leaves nothing.
    """
    if "<think" not in text and "</think" not in text:
        return text
    head, found, rest = text.rpartition("</think>")
    text = rest if found else head + rest
    return text.partition("<think>")[0]


def flatten(text: str) -> str:
    """The text with one spelling for every dash, digit and width (NFKC); quick for plain ASCII."""
    if text.isascii():
        return text
    text = unicodedata.normalize("NFKC", _SPACES.sub("", text)).translate(_DASHES)
    return _OTHER_DIGITS.sub(lambda digit: str(unicodedata.decimal(digit[0])), text)


def cued(text: str) -> str | None:
    """The rest of the line after the last "Answer:", "the answer (to it) is" or its Chinese, or the
    next line where nothing is left of it; None without one."""
    found = _CUE.findall(text)
    return str(found[-1]) if found else None


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
