"""Judging an answer: scorers by name. A scorer is pure and knows no protocol and no model.

Importing this module loads no scorer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from deltascale import extensions
from deltascale.errors import DatasetMistake, Problem
from deltascale.extensions import Kind
from deltascale.records import Item, Scorer

__all__ = ["check", "find", "names"]

_KIND = Kind(
    "scorer",
    Scorer,
    {
        "choice": "deltascale.scorers.choice:CHOICE",
        "code": "deltascale.scorers.code:CODE",
        "contains": "deltascale.scorers.exact:CONTAINS",
        "exact": "deltascale.scorers.exact:EXACT",
        "gsm8k": "deltascale.scorers.numeric:GSM8K",
        "math": "deltascale.scorers.mathematics:MATH",
        "mathbench": "deltascale.scorers.mathbench:MATHBENCH",
        "numeric": "deltascale.scorers.numeric:NUMERIC",
        "regex": "deltascale.scorers.regex:REGEX",
        "superglue": "deltascale.scorers.superglue:SUPERGLUE",
        "toolqa": "deltascale.scorers.toolqa:TOOLQA",
    },
    DatasetMistake,
)


def names() -> tuple[str, ...]:
    """Every scorer that can be named: the built-in ones and those of installed plugins."""
    return extensions.names(_KIND)


def find(name: str) -> Scorer:
    """The scorer of this name, or at this dotted path (`package.module:NAME`).

    Raises:
        DatasetMistake: there is none, or what is there is not a `Scorer`.
    """
    return extensions.find(_KIND, name)


def check(name: str, items: Iterable[Item], *, where: str = "") -> None:
    """Stop before a model is asked if a target is one that no reply could ever match.

    Raises:
        DatasetMistake: at least one target is; up to 20 of them, one a line.
    """
    look = _target_check(name)
    if look is None:
        return
    problems = [
        str(Problem(where or "items", 0, item.id, found))
        for item in items
        for target in (item.target, *item.aliases)
        if (found := look(item, target))
    ]
    if problems:
        more = [f"and {len(problems) - 20} more problems"] if len(problems) > 20 else []
        raise DatasetMistake("\n".join([*problems[:20], *more]))


def _target_check(name: str) -> Callable[[Item, str], str] | None:
    """What is wrong with a target, in words; an empty text if nothing is."""
    if name in {"numeric", "gsm8k"}:
        from deltascale.scorers import numeric

        return lambda _, target: (
            "" if numeric.canonical(target) else f"the target {target!r} is not a number"
        )
    if name == "choice":
        from deltascale.scorers import choice

        return choice.wrong_target
    if name == "regex":
        from deltascale.scorers import regex

        return lambda _, target: regex.wrong_target(target)
    if name in {"exact", "contains"}:
        from deltascale.scorers import exact

        return lambda _, target: (
            "" if exact.canonical(target) else f"nothing is left of the target {target!r}"
        )
    return None
