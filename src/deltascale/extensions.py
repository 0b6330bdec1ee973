"""Finding a dataset, scorer or protocol by name: built-in, from a plugin, or at a dotted path.

Knows none of them. Importing it, or asking for names, imports nothing that is named.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Generic, TypeVar

from deltascale.errors import Mistake

if TYPE_CHECKING:
    from importlib.metadata import EntryPoints

__all__ = ["Kind", "find", "names", "points"]

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Kind(Generic[_T]):
    """What can be named: a `word` for it, the type of its values (`value`), and the built-in
    ones' paths.

    Plugins add to it with entry points of the group `deltascale.{word}s`. `mistake` is what a
    wrong name raises.
    """

    word: str
    value: type[_T]
    builtin: Mapping[str, str]
    mistake: type[Mistake] = Mistake


def names(kind: Kind[_T]) -> tuple[str, ...]:
    """Every name there is: the built-in ones in their order, then those of installed plugins."""
    return tuple(dict.fromkeys((*kind.builtin, *sorted(_plugins(kind)))))


def find(kind: Kind[_T], name: str) -> _T:
    """The value of this name, or at this dotted path (`package.module:NAME`).

    Raises:
        Mistake: of the kind's own type; there is none, or what is there is of another type.
    """
    path = name if ":" in name else kind.builtin.get(name) or _plugins(kind).get(name)
    if path is None:
        from difflib import get_close_matches

        close = get_close_matches(name.lower(), names(kind), n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(names(kind))}"
        raise kind.mistake(f"unknown {kind.word} {name!r}", remedy=hint)
    found = _imported(kind, path, name)
    if not isinstance(found, kind.value):
        wanted = f"{kind.value.__module__}.{kind.value.__qualname__}"
        raise kind.mistake(f"{path} is a {type(found).__name__}, not a {wanted}")
    return found


def _imported(kind: Kind[_T], path: str, name: str) -> object:
    from importlib import import_module

    module, _, attribute = path.partition(":")
    try:
        return getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise kind.mistake(
            f"{kind.word} {name!r} can't be imported: {error}",
            remedy="write it as package.module:NAME",
        ) from error


def points(group: str) -> EntryPoints:
    """The entry points that installed packages have in this group."""
    return _chooser(tuple(sys.path))(group=group)


@lru_cache(maxsize=1)
def _chooser(path: tuple[str, ...]) -> Callable[..., EntryPoints]:
    """Of the points of all packages on this path: looked up once, for it opens a file of each."""
    from importlib.metadata import entry_points

    return entry_points().select


def _plugins(kind: Kind[_T]) -> dict[str, str]:
    return {point.name: point.value for point in points(f"deltascale.{kind.word}s")}
