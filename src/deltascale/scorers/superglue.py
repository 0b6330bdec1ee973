"""SuperGLUE: its four kinds of answers, and task scores that are no mean over items.

How a question's options are marked says what an answer is: numbered options (`1. ...`) want the
numbers of all that are right, lettered ones (`A. ...`) a letter, bare words one of these words, and
other bare texts (names) one of these or any text.

Source: Wang et al. 2019, arXiv 1905.00537; the metrics are those of its evaluation server.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from deltascale.records import COUNT, Item, Judged, Means, Metrics, Question, Score, Scorer, Seen
from deltascale.scorers import choice
from deltascale.scorers.benchmark import Floats, f1, whole_units
from deltascale.scorers.exact import canonical
from deltascale.scorers.reply import boxed, cues, flatten, is_error_body, said

__all__ = [
    "METRICS",
    "SUPERGLUE",
    "counts",
    "exact_match",
    "extract",
    "judge",
    "token_f1",
]

_SYNONYMS: Mapping[frozenset[str], Mapping[str, str]] = {
    frozenset({"yes", "no"}): {
        "yes": "yes",
        "true": "yes",
        "no": "no",
        "false": "no",
        "not true": "no",
    },
    frozenset({"true", "false"}): {
        "true": "true",
        "yes": "true",
        "entailment": "true",
        "entailed": "true",
        "false": "false",
        "no": "false",
        "not entailment": "false",
        "not entailed": "false",
        "not true": "false",
    },
    frozenset({"true", "false", "neither"}): {
        "true": "true",
        "yes": "true",
        "entailment": "true",
        "entailed": "true",
        "false": "false",
        "no": "false",
        "contradiction": "false",
        "contradicted": "false",
        "neither": "neither",
        "neither of the two": "neither",
        "neutral": "neither",
    },
}
_LEAD = re.compile(
    r"(?:(?:still|definitely|clearly|certainly|therefore|thus|indeed|probably|likely"
    r"|i(?:'d| would)? (?:say|think|believe)(?: that)?"
    r"|it(?:'s| is)|(?:the|this|that)(?: statement)? is)\s+)+"
)
_LABEL = re.compile(r"(not[-_ ])?([a-z]+)(?!\s*(?:or\b|and\b|/)|\s+(?:one|doubt|matter)\b)")
_ONE = r"[\s*_(\[{\"'`$#]*(\d{1,3})[*_)\]}\"'`$]*"
_LEADING_NUMBERS = re.compile(
    rf"[\s*_(\[{{\"'`$]*(?:(?:only|just|options?|numbers?)\s+)*"
    rf"({_ONE}(?:(?:\s*(?:,\s*and\b|[,;&、]|\band\b|-|\bto\b)\s*|\s+){_ONE})*)"
    r"(?:\s*only)?[\s*_)\]}\"'`$.]*(?=$|[(\n]|\.\s|because\b|since\b|(?:is|are)\s+(?:right|correct)\b)",
    re.IGNORECASE,
)
_ITEM = re.compile(r"[\s*_-]*\(?\d{1,3}\b[^\n]*")
_OTHER_NUMBER = re.compile(r"(?:[,;]|\band)\s*[(*]*\d{1,3}(?:[.)]|\s*\()")
_NONE = re.compile(r"none(?:\s+of\s+.*)?|no option(?:s)?(?: is| are)?(?: right| correct)?")
_ALL = re.compile(r"all(?:\s+(?:of\s+)?(?:them|the\s+options|options|the\s+above)\b.*)?")


def extract(question: Question, text: str) -> str | None:
    """A word, a letter, numbers (`1,4`; `0`: none of them) or a name; None without an answer."""
    text = flatten(said(text)).strip()
    if not text or is_error_body(text):
        return None
    choices = question.choices
    if choices and choices[0].startswith("A. "):
        bare = tuple(option.partition(". ")[2] for option in choices)
        return choice.extract(replace(question, choices=bare), text)
    stated = boxed(text)[::-1] or list(cues(text))
    lines = [line for line in text.split("\n") if line.strip()]
    likely = stated or [lines[-1], lines[0]]
    if choices and choices[0].startswith("1. "):
        places = stated or likely[:1]
        return _first(_numbers(line, text, choices, whole=not stated) for line in places)
    synonyms = _SYNONYMS.get(frozenset(choices))
    if synonyms is not None:
        return _first(_label(line, synonyms, whole=not stated) for line in likely)
    return _name(likely, choices, free=bool(stated))


def _first(found: Iterable[str | None]) -> str | None:
    return next((one for one in found if one is not None), None)


def _label(line: str, synonyms: Mapping[str, str], *, whole: bool) -> str | None:
    """The label that the line is; where a cue came before it, the label that it begins with."""
    text = canonical(line).lstrip("- ")
    if text in synonyms:
        return synonyms[text]
    if whole:
        return None
    leading = _LABEL.match(_LEAD.sub("", text, count=1))
    if leading is None:
        return None
    return synonyms.get(f"{'not ' if leading[1] else ''}{leading[2]}")


def _numbers(line: str, text: str, choices: Sequence[str], *, whole: bool) -> str | None:
    """The numbers that the line is; where a cue came before it, those that it begins with.

    Numbers may stand one a line, or each before the words of its option.
    """
    plain = canonical(line)
    if _NONE.fullmatch(plain):
        return "0"
    if _ALL.fullmatch(plain):
        return ",".join(str(number) for number in range(1, len(choices) + 1))
    if not whole and (below := _below(line, text)):
        line = ", ".join(below)
    if (listed := _spelled_out(canonical(line), choices)) is not None:
        return listed
    leading = _LEADING_NUMBERS.match(line)
    if leading is None or (whole and leading.end() < len(line.rstrip())):
        return None
    if _OTHER_NUMBER.search(line, leading.end()):
        return None  # there is more of the list than could be read
    numbers = _counted(leading[1])
    if numbers == [0]:
        return "0"
    if numbers[0] < 1 or numbers[-1] > len(choices):
        return None
    return ",".join(map(str, numbers))


def _counted(text: str) -> list[int]:
    """The numbers of a list in which `1-3` stands for 1, 2 and 3."""
    found: set[int] = set()
    for first, last in re.findall(r"(\d+)(?:\s*(?:-|to)\s*(\d+))?", text):
        found.update(range(int(first), int(last or first) + 1))
    return sorted(found) or [0]


def _below(line: str, text: str) -> list[str]:
    """The numbers that stand one a line, of which the given line of the text is the first."""
    if not _ITEM.fullmatch(line):
        return []
    _, _, after = text.rpartition(line)
    found = [line.strip(" *_-")]
    for following in after.split("\n")[1:]:
        if not _ITEM.fullmatch(following):
            break
        found.append(following.strip(" *_-"))
    return found if len(found) > 1 else []


def _spelled_out(line: str, choices: Sequence[str]) -> str | None:
    """The options that a line names by number and words, `1. red, 4. blue`; None if it holds
    anything else."""
    if not re.search(r"[a-z]", line):
        return None
    found, rest = [], line
    for number, option in enumerate(choices, start=1):
        words = re.escape(canonical(option.partition(". ")[2]))
        form = re.compile(
            rf"(?:^|(?<=[\s,;])){number}(?:[.):]\s*{words}|\s*\({words}\)?)(?=$|[.,;\s])"
        )
        if form.search(rest):
            found.append(str(number))
            rest = form.sub(" ", rest)
    return (
        ",".join(found)
        if found and not re.search(r"[^\s.,;]", rest.replace(" and ", " "))
        else None
    )


def _name(likely: Sequence[str], choices: Sequence[str], *, free: bool) -> str | None:
    """One of the names as the question spells it; after a cue any other text as it stands."""
    by_form = {normal(option): option for option in reversed(choices)}
    for line in likely:
        if (form := normal(line)) in by_form:
            return by_form[form]
        ends = [mark.start() for mark in _REMARK.finditer(line)] if free else []
        for end in reversed(ends):
            if (form := normal(line[:end])) in by_form:
                return by_form[form]
    return (" ".join(likely[0].split()).strip(" *_`\"'.") or None) if free else None


_REMARK = re.compile(r"\s*[,;(]|\s+-\s|\.\s|\s+(?:because|since)\b")


def judge(item: Item, answer: str, text: str) -> Score:
    """1 where the answer is the target. `others` of a name: `f1`, its token overlap with the best
    of the golds; of numbers: `f1`, the overlap of the two sets of options."""
    if item.stratum == "ReCoRD":
        golds = (item.target, *item.aliases)
        right = max(float(exact_match(answer, gold)) for gold in golds)
        return Score(right, {"f1": max(token_f1(answer, gold) for gold in golds)})
    right = float(answer == item.target)
    if item.stratum == "MultiRC" and not _is_one_option(item):
        return Score(right, {"f1": _set_f1(_options(item.target), _options(answer))})
    return Score(right)


# --- metrics -------------------------------------------------------------------------------------

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")


def normal(text: str) -> str:
    """SQuAD's form of a text: lower case, without punctuation, articles and doubled spaces."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_match(answer: str, gold: str) -> bool:
    """Whether the two are one text to SQuAD."""
    return normal(answer) == normal(gold)


def token_f1(answer: str, gold: str) -> float:
    """SQuAD's overlap of words, in [0, 1]. Source: Rajpurkar et al. 2016, arXiv 1606.05250."""
    said_words, gold_words = normal(answer).split(), normal(gold).split()
    n_shared = sum((Counter(said_words) & Counter(gold_words)).values())
    if not n_shared:
        return 0.0
    precision, recall = n_shared / len(said_words), n_shared / len(gold_words)
    return 2 * precision * recall / (precision + recall)


def _options(answer: str) -> set[str]:
    return set(answer.split(",")) - {"0"}


def _set_f1(gold: set[str], found: set[str]) -> float:
    if not gold and not found:
        return 1.0
    return _f1(len(gold & found), len(found - gold), len(gold - found))


def _f1(hit: int, wrong: int, missed: int) -> float:
    return 2 * hit / (2 * hit + wrong + missed) if hit else 0.0


_LABELS = ("true", "false", "neither")


def counts(item: Item, seen: Seen) -> dict[str, float]:
    """What CB and MultiRC are scored by beside their items' scores.

    CB: which label is right and which was said. MultiRC: how many options were rightly and wrongly
    said to be right, and how many right ones were not; without an answer every option was judged
    wrongly.
    """
    answer = seen.answer
    if item.stratum == "CB":
        said = {} if answer is None else {f"{COUNT}said_{answer}": 1.0}
        return {f"{COUNT}gold_{item.target}": 1.0, **said}
    if item.stratum != "MultiRC":
        return {}
    if _is_one_option(item):
        gold, every = {"yes"} & {item.target}, {"yes"}
        found = every - gold if answer is None else {"yes"} & {answer}
    else:
        gold = _options(item.target)
        every = {str(number) for number in range(1, len(item.question.choices) + 1)}
        found = every - gold if answer is None else _options(answer)
    return {
        f"{COUNT}hit": float(len(gold & found)),
        f"{COUNT}wrong": float(len(found - gold)),
        f"{COUNT}missed": float(len(gold - found)),
    }


def _is_one_option(item: Item) -> bool:
    """Whether an item of MultiRC asks of one option whether it is right, not for all that are."""
    return item.question.choices == ("yes", "no")


def _terms(judged: Judged) -> Mapping[str, Floats]:
    told = {name: np.where(np.isnan(x), 0.0, x) for name, x in judged.counts.items()}
    nothing = np.zeros(len(judged.score_S))
    terms = {"score": judged.score_S, "whole": whole_units(judged)}
    terms |= {part: told.get(f"{COUNT}{part}", nothing) for part in ("hit", "wrong", "missed")}
    for label in _LABELS:
        gold = told.get(f"{COUNT}gold_{label}", nothing)
        terms[f"{label} both"] = gold * judged.score_S
        terms[f"{label} either"] = gold + told.get(f"{COUNT}said_{label}", nothing)
    if "f1" in judged.others:
        f1 = judged.others["f1"]
        # A reply without an answer has no words in common with anything.
        terms["f1"] = np.where(np.isnan(judged.score_S), np.nan, np.where(np.isnan(f1), 0.0, f1))
    unknown = np.isnan(judged.score_S)
    return {name: np.where(unknown, np.nan, x) for name, x in terms.items()}


def _scores(means: Means) -> Mapping[tuple[str, str], Floats]:
    """Each task's own scores, and their mean: `score` of a task is accuracy, or the mean of two for
    CB (accuracy, macro-F1), MultiRC (F1a, EM) and ReCoRD (F1, EM).

    A label of CB that is neither right nor said has an F1 of 0, so on a small subset without it the
    macro mean can't reach 1.
    """
    found: dict[tuple[str, str], Floats] = {}
    of_tasks = []
    for task, mean in sorted(means.items()):
        if task == "MultiRC":
            own = {"F1a": f1(mean["hit"], mean["wrong"] + mean["missed"]), "EM": mean["whole"]}
        elif task == "ReCoRD" and "f1" in mean:
            own = {"F1": mean["f1"], "EM": mean["score"]}
        elif task == "CB":
            each = [
                f1(both := mean[f"{label} both"], mean[f"{label} either"] - 2 * both)
                for label in _LABELS
            ]
            own = {"accuracy": mean["score"], "macro-F1": np.mean(each, axis=0)}
        else:
            own = {"accuracy": mean["score"]}
        of_tasks.append(np.mean(list(own.values()), axis=0))
        found |= {(task, name): x for name, x in own.items()}
        if len(own) > 1:
            found[task, "score"] = of_tasks[-1]
    if len(of_tasks) > 1:
        n = len(of_tasks)
        whole = "SuperGLUE score" if n == 8 else f"mean of {n} tasks"
        found["", whole] = np.mean(of_tasks, axis=0)
    return found


METRICS = Metrics(_terms, _scores)
SUPERGLUE = Scorer("superglue", 3, extract, judge, counts=counts, metrics=METRICS)
