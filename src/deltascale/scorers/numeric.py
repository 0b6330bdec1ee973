r"""Answers that are numbers: found in a reply by a cascade, compared as exact fractions.

The cascade, first hit wins: the last `#### number`; the last `\boxed{number}`; the number after
the last cue such as "the answer is"; a number that is the whole first paragraph; the last number
of the text. Its known limit: without any of the others the last number wins, so "18 (see Eq. 2)"
gives 2. Of a sum such as `#### 9 * 2 = 18` the result counts. What is said to be the answer may be
written as `1 234`, `1'234` or `1.234,50`. An earlier answer that the reply takes back ("my previous
answer was 20, which is wrong") is none.
"""

from __future__ import annotations

import re
from collections import deque
from fractions import Fraction
from functools import lru_cache

from deltascale.records import Item, Question, Score, Scorer
from deltascale.scorers.reply import boxed, flatten, is_about_another, is_error_body, said

__all__ = [
    "GSM8K",
    "NUMERIC",
    "alone",
    "canonical",
    "extract",
    "lm_eval_flexible",
    "lm_eval_strict",
    "strict",
]

# --- what a number looks like --------------------------------------------------------------------

_DIGITS = r"(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)"
_PLAIN = rf"(?:{_DIGITS}(?:\.[0-9]+)?|(?<!\.)\.[0-9]+)(?:[eE][-+]?[0-9]{{1,2}}(?![A-Za-z0-9]))?"
_MIXED = r"[0-9]+ [1-9][0-9]?/[1-9][0-9]?(?![0-9/.,])"
_TOKEN = (
    r"(?<![A-Za-z0-9_])(?<![0-9]\.)[-+]?(?:[$€£¥] ?-?)?"
    rf"(?:{_MIXED}|{_PLAIN}(?: ?/ ?{_DIGITS})?)"
)
"""A number in running text. It never crosses a line, so lines can be searched one by one."""

_NUMBER = re.compile(_TOKEN)
_NOISE = re.compile(r"[$€£¥\s%]")
_WITH_PART = re.compile(r"([-+]?)[$€£¥]?([0-9]+) ([0-9]+)/([0-9]+)")
_WHOLE = re.compile(rf"[-+]?{_PLAIN}(?:/{_DIGITS})?")


@lru_cache(maxsize=8192)
def canonical(text: str) -> str | None:
    """The number that the whole text is, as a reduced fraction; None if it is not one number.

    Currency signs, thousands commas, spaces, a percent sign and trailing dots don't count:
    `$1,234.00` is `1234`, `72%` is `72`, `0.75` is `3/4`, `1 1/2` is `3/2`.
    """
    text = _plain_latex(flatten(text)).strip().rstrip(".")
    mixed = _WITH_PART.fullmatch(text)
    if mixed:
        sign, whole, part = mixed[1], int(mixed[2]), (int(mixed[3]), int(mixed[4]))
        # 10 30/2 is not a mixed number: the fraction stands for itself
        number = Fraction(*part) + (whole if part[0] < part[1] else 0)
        return str(-number if sign == "-" else number)
    text = _NOISE.sub("", text)
    if not _WHOLE.fullmatch(text):
        return None
    try:
        top, slash, bottom = text.replace(",", "").partition("/")
        return str(Fraction(top) / int(bottom) if slash else Fraction(top))
    except (ValueError, ZeroDivisionError):  # ValueError: more digits than int() accepts
        return None


_FRACTION = re.compile(r"\\[dt]?frac\s*(?:\{\s*(-?[\d,.]+)\s*\}\s*\{\s*([\d,.]+)\s*\}|(\d)\s*(\d))")
_POWER = re.compile(r" ?(?:×|\\times|\\cdot|\*|x) ?10 ?\^ ?\{?([-+]?[0-9]{1,2})\}?(?![0-9])")
_LATEX = re.compile(r"\\(?:[!,;: ]|left|right|displaystyle)|\{,\}|\\(?=[$%])")
_WRAPPED = re.compile(r"\\(?:text|mathrm|mathbf|textbf|mbox)\s*\{([^{}]*)\}")


def _plain_latex(text: str) -> str:
    """Numbers as LaTeX sets them, written plainly; a text without LaTeX comes back as it is."""
    if "10^" in text or "10 ^" in text:
        text = _POWER.sub(r"e\1", text)
    if "\\" not in text and "{,}" not in text:
        return text
    text = _LATEX.sub(lambda found: "," if found[0] == "{,}" else "", text)
    text = _WRAPPED.sub(r" \1 ", text)
    return _FRACTION.sub(_plain_fraction, text)


def _plain_fraction(found: re.Match[str]) -> str:
    """`3/4`, after a blank where a whole number stands before it."""
    after_digit = found.string[: found.start()].rstrip()[-1:].isdigit()
    return f"{' ' * after_digit}{found[1] or found[3]}/{found[2] or found[4]}"


# --- where it stands -----------------------------------------------------------------------------

_HASHES = re.compile(rf"####[\s*_\\(\[:=]*({_TOKEN})(?!\s?[.):]\s+\S)([^\n#]*)")
_SUM = re.compile(rf"(?:[-+*/×÷x().,0-9$€£¥\s]|\\times|\\cdot|\\div)*=[\s$*]*({_TOKEN})[\s$*.)]*")
"""What follows the first number of a sum that ends with its result, `* 2 = 18`."""
_CUE = re.compile(
    r"answers?\b[*_\"')\]]*"
    r"(?:[^\n.:=0-9]{0,48}?(?:\b(?:is|are|be|was)\b|[:=])|(?=\s+[-$€£¥]?[0-9]))(?!\s+not\b)"
    r"[\s*_:=$\\(\[]*|(?:答案|答)(?:是|为|應为|应为)?\s*[:=]?\s*",
    re.IGNORECASE,
)
_NAMED = re.compile(
    rf"({_TOKEN})[^\n0-9]{{0,24}}\bis (?:the|my) (?:(?:final|correct) )*answer\b", re.IGNORECASE
)
_GROUPS = re.compile(
    r"(?<![0-9.,'])[0-9]{1,3}(?:(?:'[0-9]{3})+|(?: [0-9]{3})+)(?![0-9'/]|,[0-9]{3})"
)
_DECIMAL_COMMA = re.compile(
    r"(?<![0-9.,])([0-9]{1,3}(?:\.[0-9]{3})+|[0-9]+),([0-9]{1,2})(?![0-9]|[,.][0-9])"
)
_NEGATIVE = re.compile(r"\s*(?:minus|negative)\s+(?=[$€£¥]?[0-9.])", re.IGNORECASE)
_CUES, _REACH = 32, 1000
_CLAUSE = re.compile(
    r"\n|[;!?]|\.(?=\s|$)|,\s+(?=[A-Za-z])|\b(?:since|because|where|when)\b"
    r"|(?<=[0-9A-Za-z%$])\s+\("
)


def _tokens(text: str) -> list[str]:
    return [found for token in _NUMBER.findall(text) if (found := canonical(token)) is not None]


def _stated(text: str) -> str | None:
    """The number a short statement gives: after its last `=`, else the first one."""
    text = _as_written_elsewhere(_NEGATIVE.sub("-", text, count=1))
    _, equals, result = text.rpartition("=")
    found = (_tokens(result) if equals else []) or _tokens(text)
    return found[0] if found else None


def _as_written_elsewhere(text: str) -> str:
    """`1 234`, `1'234` and `1.234,50` as `1234` and `1234.50`; only of what is said to be a number,
    since in running text such may be two."""
    text = _GROUPS.sub(lambda found: re.sub(r"[' ]", "", found[0]), text)
    return _DECIMAL_COMMA.sub(lambda found: f"{found[1].replace('.', '')}.{found[2]}", text)


def alone(text: str) -> str | None:
    """The canonical number of a text that holds one and besides it only marks; else None."""
    text = _plain_latex(flatten(text))
    tokens = _NUMBER.findall(text)
    if len(tokens) != 1 or re.search(r"[^\s.,$€£¥%*]", _NUMBER.sub("", text)):
        return None
    return canonical(tokens[0])


def strict(text: str) -> str | None:
    """The canonical number of the last `#### number`, None without one.

    A heading such as `#### 2. Add them` is not an answer; of a sum it is the result.
    """
    if "####" not in text:
        return None
    for token, rest in reversed(_HASHES.findall(text)):
        result = _SUM.fullmatch(rest) if "=" in rest else None
        line = result[1] if result else _as_written_elsewhere(token + rest)
        written = _NUMBER.match(line)
        if written and (found := canonical(written[0])) is not None:
            return found
    return None


def _after_cue(text: str) -> str | None:
    # Bounds keep a reply that repeats itself without end from taking quadratic time.
    for cue in reversed(deque(_CUE.finditer(text), maxlen=_CUES)):
        if is_about_another(text, cue.start(), cue.end()):
            continue
        rest = text[cue.end() : cue.end() + _REACH]
        clause = _CLAUSE.split(rest, maxsplit=1)[0]
        found = _stated(clause) or next(iter(_tokens(rest.partition("\n")[0])), None)
        if found is not None:
            return found
    named = next(iter(deque(_NAMED.finditer(text), maxlen=1)), None)
    return canonical(named[1]) if named else None


def _last(text: str) -> str | None:
    end = len(text)
    while end > 0:
        start = text.rfind("\n", 0, end) + 1
        found = _tokens(text[start:end])
        if found:
            return found[-1]
        end = start - 1
    return None


def _alone_before_the_rest(text: str) -> str | None:
    """The number that a reply begins with, where it has the first paragraph for itself."""
    head, blank, _ = text.lstrip().partition("\n\n")
    return alone(_as_written_elsewhere(head)) if blank and len(head) <= _REACH else None


def extract(question: Question, text: str) -> str | None:
    """The answer as a reduced fraction (`18`, `-3`, `3/4`); None if the reply holds no number."""
    text = _plain_latex(flatten(said(text)))
    if is_error_body(text):
        return None
    if (found := strict(text)) is not None:
        return found
    for content in reversed(boxed(text)):
        if (found := _stated(content)) is not None:
            return found
    if "<<" in text:
        text = re.sub(r"<<[^<>\n]*>>", "", text)
    return _after_cue(text) or _alone_before_the_rest(text) or _last(text)


def judge(item: Item, answer: str, text: str) -> Score:
    """1 where the answer is the target, or one of its aliases, as an exact fraction."""
    right = answer in {canonical(target) for target in (item.target, *item.aliases)}
    return Score(float(right))


# --- GSM8K: the same, and what other harnesses would have said -----------------------------------

_LM_STRICT = re.compile(r"#### (\-?[0-9\.\,]+)")
_LM_FLEXIBLE = re.compile(r"(-?[$0-9.,]{2,})|(-?[0-9]+)")
_TAIL = 256


def lm_eval_strict(text: str) -> str | None:
    """What lm-evaluation-harness' `gsm8k` strict-match filter takes: its first `#### ` hit.

    Source: EleutherAI/lm-evaluation-harness, task gsm8k version 3.
    """
    found = _LM_STRICT.search(text)
    return found[1] if found else None


def lm_eval_flexible(text: str) -> str | None:
    """What its flexible-extract filter takes: the last number-like run, dots and commas included.

    Source: EleutherAI/lm-evaluation-harness, task gsm8k version 3.
    """
    for start in (max(0, len(text) - _TAIL), 0):
        last = next(iter(deque(_LM_FLEXIBLE.finditer(text, start), maxlen=1)), None)
        # A run that touches the window's edge may be part of a longer one.
        if last is not None and (start == 0 or last.start() > start + 1):
            return last[0]
    return None


def _lm_normal(text: str) -> str:
    """Their comparison: without commas, dollar signs and one trailing dot."""
    return text.replace(",", "").replace("$", "").removesuffix(".").lower()


def judge_gsm8k(item: Item, answer: str, text: str) -> Score:
    """`value` as for any number; `others` has `strict`, `lm_eval_strict`, `lm_eval_flexible`."""
    gold = _lm_normal(item.target)
    theirs = {
        "lm_eval_strict": lm_eval_strict(text),
        "lm_eval_flexible": lm_eval_flexible(text),
    }
    right = judge(item, answer, text).value
    others = {name: float(t is not None and _lm_normal(t) == gold) for name, t in theirs.items()}
    others["strict"] = float(
        "####" in text and strict(_plain_latex(flatten(said(text)))) == canonical(item.target)
    )
    return Score(right, others)


NUMERIC = Scorer("numeric", 2, extract, judge)
GSM8K = Scorer("gsm8k", 2, extract, judge_gsm8k)
