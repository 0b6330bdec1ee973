"""Judging an answer: scorers by name. A scorer is pure and knows no protocol and no model.

Importing this module loads no scorer.
"""

from __future__ import annotations

from deltascale.errors import DatasetMistake
from deltascale.records import Scorer

__all__ = ["find", "names"]

GROUP = "deltascale.scorers"
"""Entry points of this group are scorers: the name, and the path of a `Scorer`."""

_BUILTIN = {
    "choice": "deltascale.scorers.choice:CHOICE",
    "code": "deltascale.scorers.code:CODE",
    "contains": "deltascale.scorers.exact:CONTAINS",
    "exact": "deltascale.scorers.exact:EXACT",
    "gsm8k": "deltascale.scorers.numeric:GSM8K",
    "numeric": "deltascale.scorers.numeric:NUMERIC",
    "regex": "deltascale.scorers.regex:REGEX",
}


def names() -> tuple[str, ...]:
    """Every scorer that can be named: the built-in ones and those of installed plugins."""
    return tuple(sorted({*_BUILTIN, *_plugins()}))


def find(name: str) -> Scorer:
    """The scorer of this name, or at this dotted path (`package.module:OBJECT`).

    Raises:
        DatasetMistake: there is none, or what is there is not a `Scorer`.
    """
    path = name if ":" in name else _BUILTIN.get(name) or _plugins().get(name)
    if path is None:
        from difflib import get_close_matches

        close = get_close_matches(name.lower(), names(), n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(names())}"
        raise DatasetMistake(f"unknown scorer {name!r}", remedy=hint)
    found = _import(path, name)
    if not isinstance(found, Scorer):
        raise DatasetMistake(
            f"{path} is a {type(found).__name__}, not a deltascale.records.Scorer",
            where=f"scorer {name!r}",
        )
    return found


def _plugins() -> dict[str, str]:
    from importlib.metadata import entry_points

    return {point.name: point.value for point in entry_points(group=GROUP)}


def _import(path: str, name: str) -> object:
    from importlib import import_module

    module, _, attribute = path.partition(":")
    try:
        return getattr(import_module(module), attribute)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        if name in _BUILTIN:
            what, remedy = "this scorer is not part of this version", "name another one"
        else:
            what, remedy = f"there is no module {error.name!r}", "install the package it is in"
        raise DatasetMistake(what, where=f"scorer {name!r}", remedy=remedy) from error
    except AttributeError as error:
        raise DatasetMistake(
            f"{module} has no {attribute!r}",
            where=f"scorer {name!r}",
            remedy="write it like package.module:OBJECT",
        ) from error
