"""Answers that are one of several lettered options.

Looked for, first hit wins: a boxed letter; a letter after "the answer is" and the like (English or
Chinese), unless it speaks of another answer or of one that is taken back; a letter called the
correct option, or chosen, or kept; a last or first line that is a letter; a boxed, cued or last
line that is the text of exactly one option. A bare letter in running text is never an answer, so
the article in "A train leaves" is none, and neither is a hedge such as "A or B".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

from deltascale.records import Item, Question, Score, Scorer
from deltascale.scorers.reply import boxed, flatten, is_about_another, is_error_body, said

__all__ = ["CHOICE", "extract", "judge", "wrong_target"]

_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_UNLISTED = 8
"""Letters looked for where a question does not list its options: A to H."""

_ADVERB = r"(?:(?:still|definitely|clearly|certainly|therefore|thus|indeed|probably|likely)\s+)?"
_SAID = (
    r"\banswers?\b[*_\"']*"
    r"(?:[^\n.:=]{0,48}?(?:\b(?:is|be|was|remains?|stays)\b|[:=])|(?=\s+\())"
)
_CUE_TEXT = re.compile(rf"(?:{_SAID}|(?:答案)(?:是|为)?\s*:?)[\s*_:]*([^\n]+)", re.IGNORECASE)
_BOXED = re.compile(r"\s*\(?\s*([A-Z])\s*(?:[).:].*)?", re.DOTALL)
_BARE = re.compile(r"[\s*_(\[$`<\"']*([A-Za-z])[\s*_)\].:、$`>\"']*")
_WRAPPER = re.compile(r"\\(?:text|textbf|textrm|mathrm|mathbf|bf)\b|[{}]|\\(?=\s)")
_AFTER_A = (
    "because|since|as|is|was|for|but|given|due|based|by|from|which|where|with|when|here|not|rather"
    "|instead|if|it|in|on|after|and|or|the|this|that"
)
"""Words that go on after the letter A; any other makes an article of it."""


@lru_cache(maxsize=32)
def _patterns(n: int) -> tuple[re.Pattern[str], ...]:
    """From the strongest cue to the weakest; each captures the letter."""
    upper, lower = _ALPHABET[:n], _ALPHABET[:n].lower()
    letter = (
        r"[\s*_(\[<\"'`$\\{]{0,16}(?:(?:text|mathrm|mathbf|textbf)\{)?\(?"
        rf"([{upper}](?![A-Za-z0-9]|'[A-Za-z])|[{lower}](?=[)\]*_.}}`\"' ]*(?:\n|$)))"
        rf"(?![)*_]*\s*(?:,|/|&|\bor\b|\band\b)\s*[(*]*[{upper}](?![A-Za-z']))"
        rf"(?<!A(?=\s(?!(?:{_AFTER_A})\b)[a-z]))"
        r"(?![)*_\"']*\s+(?:is|was)\s+(?:wrong|incorrect|false|not)\b)"
    )
    bare = rf"(?<![A-Za-z0-9])([{upper}])(?![A-Za-z0-9])[)*_]{{0,4}}"
    ends = r"(?=[)*_\"'\s]*(?:[.,;!\n]|$|is\b))"
    noun = r"(?:the\s+)?(?:option|choice|letter)?"
    right = r"(?:correct|right|best)"
    so = r"(?:[Ss]o|[Tt]hus|[Hh]ence|[Tt]herefore)"
    me = r"\bI(?:'d|'ll|\s+would|\s+will|\s+must)?\s+(?:now\s+)?"
    think = rf"(?:(?:{me}(?:think|believe|say)(?:\s+that)?|it's|it\s+is)\s+)*"
    chosen = (
        rf"{me}(?:choose|pick|select|(?:go|stick|stay)\s+with)|\bmy\s+choice\s+is|\bit(?:'s|\s+is)"
        r"|\b(?:should|must|would)\s+be|\banswer\s+(?:from\s+\W?[A-Z]\W?\s+)?to|\b(?:my\s+)?answer\s+of"
        r"|\bstand\s+by\s+(?:my\s+)?answer"
    )
    return tuple(
        re.compile(pattern)
        for pattern in (
            rf"(?i:{_SAID}[\s*_:]*{_ADVERB}{think}{noun}){letter}",
            rf"(?:答案|故选|应选|选择)(?:是|为|选)?(?:选项)?\s*:?{letter}",
            rf"(?i:\b{right}\s+(?:option|choice|one)\b[*_]*(?:\s+is)?\s*:?){letter}",
            rf"(?i:\b(?:option|choice)\b){letter}[)*_]{{0,4}}(?=\s+(?i:is\s+(?:the\s+)?{right}))",
            rf"{bare}(?=\s+(?i:is\s+(?:the|my)\s+(?:{right}|final)\s+(?:answer|option|choice)))",
            rf"(?m:^[\s*_(]{{0,4}}|{so},? ){bare}(?=\s+is\s+{right}\W*$)",
            rf"{bare}(?=\s*(?:选项)?(?:是|为)?正确(?:答案|选项|\W*$))",
            r"(?im:^[ *#_>]{0,8}(?:final\s+|correct\s+)?ans(?:wer)?\b\.?[*_]*\s*(?:[-:→]|(?=\s)))"
            rf"{letter}(?m:[)*_.]{{0,8}}\s*$)",
            rf"(?i:{chosen})\s+(?i:{noun}){letter}{ends}",
            rf"(?:选项|选)(?:是|为)?\s*:?{letter}",
        )
    )


def _squeezed(text: str) -> str:
    plain = re.sub(r"\\(?:text|textbf|mathrm|mathbf)\s*\{([^{}]*)\}", r"\1", flatten(text))
    return re.sub(r"[\s*_`$\\]+|\\text|[.。]+$", "", plain).casefold()


def _lines(text: str) -> Iterator[str]:
    """The texts that may be an option written out, the likeliest first."""
    yield from reversed(boxed(text))
    cues = _CUE_TEXT.findall(text)
    yield from reversed(cues)
    yield text.rstrip().rpartition("\n")[2]


def extract(question: Question, text: str) -> str | None:
    """The capital letter of the option that the reply settles on, or None."""
    text = flatten(said(text)).strip()
    if not text or is_error_body(text):
        return None
    n = len(question.choices) or _UNLISTED
    letters = _ALPHABET[:n]
    for content in reversed(boxed(text)):
        found = _BOXED.fullmatch(_WRAPPER.sub(" ", content).strip())
        if found and found[1] in letters:
            return found[1]
    english, chinese, *weaker = _patterns(n)
    strong = [
        hit
        for hit in (*english.finditer(text), *chinese.finditer(text))
        if not is_about_another(text, hit.start(), hit.end())
    ]
    if strong:
        return max(strong, key=lambda hit: hit.start())[1].upper()
    for pattern in weaker:
        if hits := pattern.findall(text):
            return str(hits[-1]).upper()
    for line in (text.rpartition("\n")[2], text.partition("\n")[0]):
        bare = _BARE.fullmatch(line)
        if bare and bare[1].upper() in letters:
            return bare[1].upper()
    return _by_text(question.choices, text)


def _by_text(choices: tuple[str, ...], text: str) -> str | None:
    """The option whose text, with or without its letter, is one of the likely lines."""
    spelled: dict[str, set[str]] = {}
    for letter, choice in zip(_ALPHABET, choices, strict=False):
        for form in (
            choice,
            f"{letter}.{choice}",
            f"({letter}){choice}",
            f"{letter}){choice}",
            f"{letter}:{choice}",
        ):
            spelled.setdefault(_squeezed(form), set()).add(letter)
    if not spelled:
        return None
    for line in _lines(text):
        letters = spelled.get(_squeezed(line), set())
        if len(letters) == 1:
            return min(letters)
    return None


def judge(item: Item, answer: str, text: str) -> Score:
    """1 where the letter is the target's, or one of the aliases'."""
    return Score(
        float(answer in {target.strip().upper() for target in (item.target, *item.aliases)})
    )


def wrong_target(item: Item, target: str) -> str:
    """Why no reply could match this target; empty if one could."""
    letters = _ALPHABET[: len(item.question.choices) or _UNLISTED]
    if target.strip().upper() in set(letters):
        return ""
    return f"the target {target!r} is not a letter from A to {letters[-1]}"


CHOICE = Scorer("choice", 2, extract, judge)
