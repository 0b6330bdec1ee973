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

from deltascale.records import Item, Question, Score, Scorer
from deltascale.scorers import choice
from deltascale.scorers.exact import canonical
from deltascale.scorers.reply import cued, flatten, is_error_body, said

__all__ = [
    "SUPERGLUE",
    "exact_match",
    "extract",
    "judge",
    "macro_f1",
    "multirc",
    "task_scores",
    "token_f1",
]

_SYNONYMS: Mapping[frozenset[str], Mapping[str, str]] = {
    frozenset({"yes", "no"}): {"yes": "yes", "true": "yes", "no": "no", "false": "no"},
    frozenset({"true", "false"}): {
        "true": "true",
        "yes": "true",
        "entailment": "true",
        "entailed": "true",
        "false": "false",
        "no": "false",
        "not entailment": "false",
        "not_entailment": "false",
        "not entailed": "false",
    },
    frozenset({"true", "false", "neither"}): {
        "true": "true",
        "yes": "true",
        "entailment": "true",
        "false": "false",
        "no": "false",
        "contradiction": "false",
        "neither": "neither",
        "neutral": "neither",
    },
}
_LEADING_NUMBERS = re.compile(
    r"[\s*_(\[\"'`$]*(?:(?:options?|numbers?)\s+)?"
    r"(\d{1,3}(?:(?:\s*(?:,\s*and|,|;|&|\band\b)\s*|\s+)\d{1,3})*)"
    r"[\s*_)\]\"'`$.]*(?=$|[(\n]|\.\s|because\b|since\b)",
)


def extract(question: Question, text: str) -> str | None:
    """A word, a letter, numbers (`1,4`; `0`: none of them) or a name; None without an answer."""
    text = flatten(said(text)).strip()
    if not text or is_error_body(text):
        return None
    choices = question.choices
    if choices and choices[0].startswith("A. "):
        bare = tuple(option.partition(". ")[2] for option in choices)
        return choice.extract(replace(question, choices=bare), text)
    stated = cued(text)
    lines = [line for line in text.split("\n") if line.strip()]
    likely = [lines[-1], lines[0]] if stated is None else [stated]
    if choices and choices[0].startswith("1. "):
        return _first(_numbers(line, len(choices), whole=stated is None) for line in likely[:1])
    synonyms = _SYNONYMS.get(frozenset(choices))
    if synonyms is not None:
        return _first(_label(line, synonyms, whole=stated is None) for line in likely)
    return _name(likely, choices, free=stated is not None)


def _first(found: Iterable[str | None]) -> str | None:
    return next((one for one in found if one is not None), None)


def _label(line: str, synonyms: Mapping[str, str], *, whole: bool) -> str | None:
    """The label that the line is; where a cue came before it, the label that it begins with."""
    text = canonical(line)
    if text in synonyms:
        return synonyms[text]
    if whole:
        return None
    leading = re.match(r"(not[ _])?([a-z]+)", text)
    if leading is None or f"{leading[1] or ''}{leading[2]}" not in synonyms:
        return None
    if re.match(r"\s*(?:or|and|/)\s*[a-z]", text[leading.end() :]):
        return None  # a hedge
    return synonyms[f"{leading[1] or ''}{leading[2]}"]


def _numbers(line: str, n_options: int, *, whole: bool) -> str | None:
    """The numbers that the line is; where a cue came before it, those that it begins with."""
    if canonical(line) in {"none", "none of them", "none of the options"}:
        return "0"
    leading = _LEADING_NUMBERS.match(line)
    if leading is None or (whole and leading.end() < len(line.rstrip())):
        return None
    numbers = sorted({int(number) for number in re.findall(r"\d+", leading[1])})
    if numbers == [0]:
        return "0"
    if numbers[0] < 1 or numbers[-1] > n_options:
        return None
    return ",".join(map(str, numbers))


def _name(likely: Sequence[str], choices: Sequence[str], *, free: bool) -> str | None:
    """One of the names as the question spells it; after a cue any other text as it stands."""
    by_form = {normal(option): option for option in reversed(choices)}
    for line in likely:
        if (form := normal(line)) in by_form:
            return by_form[form]
    return (" ".join(likely[0].split()).strip(" *_`\"'.") or None) if free else None


def judge(item: Item, answer: str, text: str) -> Score:
    """1 where the answer is the target. `others` of a name: `f1`, its token overlap with the best
    of the golds; of numbers: `f1`, the overlap of the two sets of options."""
    if item.stratum == "ReCoRD":
        golds = (item.target, *item.aliases)
        right = max(float(exact_match(answer, gold)) for gold in golds)
        return Score(right, {"f1": max(token_f1(answer, gold) for gold in golds)})
    right = float(answer == item.target)
    if item.stratum == "MultiRC":
        return Score(right, {"f1": _set_f1(_options(item.target), _options(answer))})
    return Score(right)


SUPERGLUE = Scorer("superglue", 1, extract, judge)


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


def macro_f1(pairs: Sequence[tuple[str, str | None]], labels: Sequence[str]) -> float:
    """The unweighted mean over labels of one-against-the-rest F1, in [0, 1].

    Pairs are (gold, answer); no answer is no label's. A label that is neither gold nor answered has
    an F1 of 0, so on a small subset without it the mean can't reach 1.
    """
    return sum(_f1(*_table(pairs, label)) for label in labels) / len(labels)


def _table(pairs: Sequence[tuple[str, str | None]], label: str) -> tuple[int, int, int]:
    """True positives, false positives, false negatives."""
    hit = sum(gold == answer == label for gold, answer in pairs)
    n_said = sum(answer == label for _, answer in pairs)
    n_gold = sum(gold == label for gold, _ in pairs)
    return hit, n_said - hit, n_gold - hit


def _f1(hit: int, wrong: int, missed: int) -> float:
    return 2 * hit / (2 * hit + wrong + missed) if hit else 0.0


def _options(answer: str) -> set[str]:
    return set(answer.split(",")) - {"0"}


def _set_f1(gold: set[str], found: set[str]) -> float:
    if not gold and not found:
        return 1.0
    return _f1(len(gold & found), len(found - gold), len(gold - found))


def multirc(answers: Sequence[tuple[Item, str | None]]) -> Mapping[str, float]:
    """`f1a`: F1 of the right options, all questions' options pooled; `em`: the share of questions
    with every option judged right. Where there is no answer every option is judged wrongly."""
    hit = wrong = missed = n_exact = 0
    for item, answer in answers:
        gold = _options(item.target)
        every = {str(number) for number in range(1, len(item.question.choices) + 1)}
        found = every - gold if answer is None else _options(answer)
        hit, wrong, missed = (
            hit + len(gold & found),
            wrong + len(found - gold),
            missed + len(gold - found),
        )
        n_exact += found == gold
    return {"f1a": _f1(hit, wrong, missed), "em": n_exact / len(answers)}


def task_scores(
    answers: Iterable[tuple[Item, str | None]],
) -> Mapping[str, Mapping[str, float]]:
    """The scores of each task that has items, by its name, all in [0, 1].

    `score` is the task's own: accuracy, or the mean of its two metrics for CB (`accuracy`,
    `macro_f1`), MultiRC (`f1a`, `em`) and ReCoRD (`f1`, `em`). Only with all eight tasks is there a
    `superglue` entry, the unweighted mean of their scores.
    """
    by_task: dict[str, list[tuple[Item, str | None]]] = {}
    for item, answer in answers:
        by_task.setdefault(item.stratum, []).append((item, answer))
    scores = {task: _scores_of(task, pairs) for task, pairs in sorted(by_task.items())}
    if len(scores) == 8:
        mean = sum(found["score"] for found in scores.values()) / 8
        scores["superglue"] = {"score": mean}
    return scores


def _scores_of(task: str, pairs: Sequence[tuple[Item, str | None]]) -> dict[str, float]:
    if task == "MultiRC":
        found = dict(multirc(pairs))
    elif task == "ReCoRD":
        judged = [judge(item, answer, "") for item, answer in pairs if answer is not None]
        found = {
            "f1": sum(score.others["f1"] for score in judged) / len(pairs),
            "em": sum(score.value for score in judged) / len(pairs),
        }
    else:
        found = {"accuracy": sum(answer == item.target for item, answer in pairs) / len(pairs)}
        if task == "CB":
            labelled = [(item.target, answer) for item, answer in pairs]
            found["macro_f1"] = macro_f1(labelled, ("true", "false", "neither"))
    found["score"] = sum(found.values()) / len(found)
    return found
