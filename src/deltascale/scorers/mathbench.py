"""MathBench: a choice where a question has options, a number where it has none; scores by level.

Source: Liu et al. 2024, arXiv 2405.12209; the rules of OpenCompass that are named below.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

from deltascale.records import COUNT, Item, Judged, Means, Metrics, Question, Score, Scorer, Seen
from deltascale.scorers import choice, numeric
from deltascale.scorers.benchmark import Floats, first_of_unit, unit_sums

__all__ = [
    "MATHBENCH",
    "METRICS",
    "counts",
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


# --- scores of levels, and of questions asked in four rotations -----------------------------------

_LETTERS = "ABCD"
_LEAST = (1, 2, 3)


def counts(item: Item, seen: Seen) -> dict[str, float]:
    """Of a question that is asked in its rotations: by how many places its options were moved, and
    which letter was the answer. Nothing of any other."""
    pattern = item.meta.get("pattern", "")
    if not pattern:
        return {}
    letter = {} if seen.answer is None else {f"{COUNT}letter_{seen.answer}": 1.0}
    return {f"{COUNT}rotated": float(_LETTERS.index(pattern[0])), **letter}


def _terms(judged: Judged) -> Mapping[str, Floats]:
    rotated = judged.counts.get(f"{COUNT}rotated")
    if rotated is None:
        return {"score": judged.score_S}
    # A question counts only where all four of its rotations are known.
    turned = ~np.isnan(rotated)
    whole = turned & (
        unit_sums(judged, (turned & ~np.isnan(judged.score_S)).astype(np.float64)) == 4
    )
    score = np.where(whole, judged.score_S, 0.0)
    right = unit_sums(judged, score)
    of_unit = {
        "acc_1": unit_sums(judged, np.where(rotated == 0, score, 0.0)),
        "acc_4": right / 4,
        "perf_4": right == 4,
        **{f"more_4_{least}": right >= least for least in _LEAST},
        "vote_4": _vote(judged, np.where(whole, rotated, 0.0), score),
    }
    terms = {
        name: np.where(whole, first_of_unit(judged, np.asarray(x, np.float64)), np.nan)
        for name, x in of_unit.items()
    }
    said = [_said(judged, letter) for letter in _LETTERS]
    for letter, x in zip((*_LETTERS, "none"), (*said, 1 - np.sum(said, axis=0)), strict=True):
        terms[f"prior_{letter}"] = np.where(whole, x, np.nan)
    return {"score": judged.score_S, **terms}


def _said(judged: Judged, letter: str) -> Floats:
    said = judged.counts.get(f"{COUNT}letter_{letter}", np.zeros(len(judged.score_S)))
    return np.where(np.isnan(said), 0.0, said)


def _vote(judged: Judged, rotated: Floats, score: Floats) -> Floats:
    """Whether the option that most rotations chose is right; ties go to the first letter."""
    said_SL = np.stack([_said(judged, letter) for letter in _LETTERS], axis=1)
    # The letter at place p of a question moved by r places shows the option p + r.
    place = (np.arange(4)[None, :] - rotated[:, None].astype(int)) % 4
    option_SO = np.take_along_axis(said_SL, place, axis=1)
    votes = np.stack([unit_sums(judged, option_SO[:, o]) for o in range(4)], axis=1)
    right = np.stack([unit_sums(judged, option_SO[:, o] * score) for o in range(4)], axis=1)
    chosen = votes.argmax(axis=1)
    found: Floats = right[np.arange(len(chosen)), chosen]
    return np.asarray(found > 0, dtype=np.float64)


_PARTS = {
    "application": ("arithmetic", "primary", "middle", "high", "college"),
    "theory": ("primary_knowledge", "middle_knowledge", "high_knowledge", "college_knowledge"),
}


def _scores(means: Means) -> Mapping[tuple[str, str], Floats]:
    """Scores of files, stages, parts and the whole, all in [0, 1].

    Of a question in four rotations: `acc_1` is the unrotated one alone, `acc_4` the mean of the
    four, `more_4_j` at least j of them right, `perf_4` all of them (circular evaluation proper),
    `vote_4` the option most often chosen; `prior_X` is how often X was the answer, the mean over
    files. A stage is the mean of its languages (`perf_4` where questions were rotated, accuracy
    elsewhere), a part the mean of its stages, the whole the mean of the two parts. What lacks a
    piece is left out rather than averaged over fewer.
    """
    found: dict[tuple[str, str], Floats] = {}
    stages: dict[str, list[Floats]] = {}
    rotated = [mean for mean in means.values() if "perf_4" in mean]
    for file, mean in means.items():
        names = ("acc_1", "acc_4", *(f"more_4_{j}" for j in _LEAST), "perf_4", "vote_4")
        if "perf_4" in mean:
            found |= {(file, name): mean[name] for name in names}
        else:
            found[file, "accuracy"] = mean["score"]
        stages.setdefault(file.partition("/")[0], []).append(mean.get("perf_4", mean["score"]))
    called = "circular evaluation" if rotated else "accuracy"
    of_stage = {stage: np.mean(several, axis=0) for stage, several in stages.items()}
    found |= {(stage, called): x for stage, x in of_stage.items()}
    of_part = {
        part: np.mean([of_stage[stage] for stage in names], axis=0)
        for part, names in _PARTS.items()
        if all(stage in of_stage for stage in names)
    }
    found |= {(part, called): x for part, x in of_part.items()}
    if len(of_part) == len(_PARTS):
        found["", f"{called}, mean of both parts"] = np.mean(list(of_part.values()), axis=0)
    if rotated:
        for letter in (*_LETTERS, "none"):
            prior = np.mean([mean[f"prior_{letter}"] for mean in rotated], axis=0)
            found["", f"prior {letter}"] = prior
    return found


METRICS = Metrics(_terms, _scores)
MATHBENCH = Scorer("mathbench", 3, extract, judge, counts=counts, metrics=METRICS)
