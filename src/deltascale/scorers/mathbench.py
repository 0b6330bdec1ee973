"""MathBench: a choice where a question has options, a number where it has none; circular scores.

Source: Liu et al. 2024, arXiv 2405.12209; the rules of OpenCompass that are named below.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from deltascale.records import Item, Question, Score, Scorer
from deltascale.scorers import choice, numeric

__all__ = [
    "MATHBENCH",
    "Variant",
    "by_stage",
    "circular",
    "extract",
    "judge",
    "opencompass_cloze",
]

_COMMA = re.compile(r"(\d),(\d)")
_THEIR_NUMBER = re.compile(r"-?\d*\.?/?\d+|\d+")


def extract(question: Question, text: str) -> str | None:
    """A letter, or a reduced fraction; None if the reply has none."""
    find = choice.extract if question.choices else numeric.extract
    return find(question, text)


def judge(item: Item, answer: str, text: str) -> Score:
    """1 where it is right. `others` of a number: `opencompass_cloze`, their rule and comparison."""
    if item.question.choices:
        return choice.judge(item, answer, text)
    theirs = opencompass_cloze(text, chinese="_cn/" in item.id)
    return Score(
        numeric.judge(item, answer, text).value, {"opencompass_cloze": float(theirs == item.target)}
    )


def opencompass_cloze(text: str, *, chinese: bool) -> str:
    """What OpenCompass takes for the answer of a cloze question: compared as text, not as number.

    Source: opencompass/datasets/mathbench.py.
    """
    parts = text.split("答案是" if chinese else "The answer is")
    rest = parts[1].strip() if len(parts) > 1 else text
    numbers = _THEIR_NUMBER.findall(_COMMA.sub(r"\1\2", rest))
    if not numbers:
        return rest
    return str(numbers[0] if len(parts) > 1 else numbers[-1])


MATHBENCH = Scorer("mathbench", 1, extract, judge)


# --- circular evaluation -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Variant:
    """One rotation of a question, answered. `answer` None: no letter was found."""

    pattern: str
    answer: str | None
    right: bool


def circular(groups: Sequence[Sequence[Variant]]) -> Mapping[str, float]:
    """Scores over questions that were each asked in four rotations; all in [0, 1].

    `acc_1`: the unrotated variant alone. `acc_4`: the mean of the four. `more_4_j`: at least j of
    four right, so that `perf_4` (circular evaluation proper) is `more_4_4`. `vote_4`: the letter
    most often chosen, mapped back to the unrotated options, ties to the first letter, is right.
    `prior_A` to `prior_D` and `prior_none`: how often each letter was the answer.

    Raises:
        ValueError: a question lacks a rotation, or there is none.
    """
    for group in groups:
        if sorted(variant.pattern for variant in group) != ["ABCD", "BCDA", "CDAB", "DABC"]:
            raise ValueError("circular scores need every question in its four rotations")
    if not groups:
        raise ValueError("circular scores need at least one question")
    n = len(groups)
    n_right = [sum(variant.right for variant in group) for group in groups]
    scores = {
        "acc_1": sum(v.right for group in groups for v in group if v.pattern == "ABCD") / n,
        "acc_4": sum(n_right) / (4 * n),
        "vote_4": sum(map(_vote, groups)) / n,
        "perf_4": sum(right == 4 for right in n_right) / n,
    }
    for least in (1, 2, 3, 4):
        scores[f"more_4_{least}"] = sum(right >= least for right in n_right) / n
    answers = [variant.answer for group in groups for variant in group]
    for letter in ("A", "B", "C", "D", None):
        scores[f"prior_{letter or 'none'}"] = answers.count(letter) / (4 * n)
    return scores


def _vote(group: Sequence[Variant]) -> bool:
    """Whether the majority's option is the right one; what nobody got right can't be."""
    votes = [
        variant.pattern["ABCD".index(variant.answer)]
        for variant in group
        if variant.answer is not None and variant.answer in "ABCD"
    ]
    gold = {
        variant.pattern["ABCD".index(variant.answer)]
        for variant in group
        if variant.right and variant.answer is not None
    }
    if not votes:
        return False
    return max(sorted(set(votes)), key=votes.count) in gold


_STAGES = {
    "application": ("arithmetic", "primary", "middle", "high", "college"),
    "theory": ("primary_knowledge", "middle_knowledge", "high_knowledge", "college_knowledge"),
}


def by_stage(scores: Mapping[str, float]) -> Mapping[str, float]:
    """Stage, part and overall scores from those of single files (`college/single_choice_en`).

    A stage is the mean of its languages, a part the mean of its stages, `overall` the mean of the
    two parts. What lacks a piece is left out rather than averaged over fewer.
    """
    stages: dict[str, list[float]] = {}
    for name, score in scores.items():
        stages.setdefault(name.partition("/")[0], []).append(score)
    found = {stage: sum(several) / len(several) for stage, several in stages.items()}
    for part, names in _STAGES.items():
        if all(name in found for name in names):
            found[part] = sum(found[name] for name in names) / len(names)
    if "application" in found and "theory" in found:
        found["overall"] = (found["application"] + found["theory"]) / 2
    return found
