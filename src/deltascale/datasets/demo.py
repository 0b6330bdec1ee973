"""Two made-up datasets for simulated models: sums with a number and sums with four options.

They exist so that the whole way can be walked offline, and are labelled simulated. An item's
wording decides how hard it is for a simulated model, so a seed fixes the whole study.
"""

from __future__ import annotations

import random

from deltascale.datasets import Cache, Dataset
from deltascale.errors import DatasetMistake
from deltascale.records import DatasetSpec, Item, Question, user

__all__ = ["CHOICES", "SUMS"]

N_ITEMS = 1000

_NUMBER_FORMAT = 'End with a line "#### <number>".'
_LETTER_FORMAT = 'End with a line "Answer: <letter>".'


def _expressions(seed: int) -> list[tuple[str, int]]:
    """Distinct expressions of three numbers with their results."""
    rng = random.Random(seed)
    found: dict[str, int] = {}
    while len(found) < N_ITEMS:
        a, b, c = rng.randint(11, 99), rng.randint(3, 29), rng.randint(100, 999)
        if rng.random() < 0.5:
            found[f"{a} * {b} + {c}"] = a * b + c
        else:
            found[f"{c} - {a} * {b}"] = c - a * b
    return list(found.items())


def _load_sums(spec: DatasetSpec, cache: Cache) -> tuple[Item, ...]:
    items = []
    for number, (expression, result) in enumerate(_expressions(_seed(spec))):
        prompt = f"Compute {expression}. {_NUMBER_FORMAT}"
        question = Question((user(prompt),), _NUMBER_FORMAT)
        stratum = "sum" if "+" in expression else "difference"
        items.append(Item(f"demo-sums/{number:04d}", question, str(result), stratum=stratum))
    return tuple(items)


def _load_choices(spec: DatasetSpec, cache: Cache) -> tuple[Item, ...]:
    items = []
    rng = random.Random(_seed(spec) + 1)
    for number, (expression, result) in enumerate(_expressions(_seed(spec) + 1)):
        options = [result, result + 10, result - 7, result + 101]
        rng.shuffle(options)
        lines = "\n".join(
            f"{letter}) {value}" for letter, value in zip("ABCD", options, strict=True)
        )
        prompt = f"Compute {expression}. Which option is the result?\n{lines}\n{_LETTER_FORMAT}"
        question = Question(
            (user(prompt),), _LETTER_FORMAT, choices=tuple(str(value) for value in options)
        )
        target = "ABCD"[options.index(result)]
        items.append(Item(f"demo-choices/{number:04d}", question, target, chance=1 / 4))
    return tuple(items)


def _seed(spec: DatasetSpec) -> int:
    """From the only setting there is. Raises DatasetMistake for another, or for no whole number."""
    where = f"dataset {spec.name!r} options"
    if other := sorted(set(spec.options) - {"seed"}):
        raise DatasetMistake(f"unknown setting {other[0]!r}", where=where, remedy="known is seed")
    said = spec.options.get("seed", "0")
    if not said.isdecimal():
        raise DatasetMistake(f"seed is {said!r}", where=where, remedy="write a whole number")
    return 2 * int(said)


SUMS = Dataset(
    name="demo-sums",
    summary="simulated: sums with a number as the answer",
    licence="Apache-2.0",
    homepage="",
    scorer="numeric",
    stratified="proportional",
    max_items=N_ITEMS,
    output_tokens=20,
    load=_load_sums,
)

CHOICES = Dataset(
    name="demo-choices",
    summary="simulated: sums with four options",
    licence="Apache-2.0",
    homepage="",
    scorer="choice",
    stratified="proportional",
    max_items=N_ITEMS,
    output_tokens=20,
    load=_load_choices,
)
