"""How a conversation goes on after the first answer. Generators without I/O, found by name.

A protocol of one's own is a `records.Protocol` value, named in the study file by its dotted path
(`mylab.protocols:HINTS`) or by an entry point of the group `deltascale.protocols`.
"""

from __future__ import annotations

import difflib
from importlib import import_module
from importlib.metadata import entry_points

from deltascale.errors import Mistake
from deltascale.records import Protocol

__all__ = ["find", "names"]

_BUILT_IN = ("review", "critique", "resample", "vote", "tests", "oracle")


def names() -> tuple[str, ...]:
    """The protocols that can be named in a study file without a dotted path."""
    return _BUILT_IN + tuple(point.name for point in entry_points(group="deltascale.protocols"))


def find(name: str) -> Protocol:
    """The protocol of this name or dotted path.

    Raises Mistake where there is none, with the nearest name.
    """
    if name in _BUILT_IN:
        found: object = import_module(f"deltascale.protocols.{name}").PROTOCOL
    elif ":" in name:
        found = _dotted(name)
    else:
        points = entry_points(group="deltascale.protocols", name=name)
        if not points:
            near = difflib.get_close_matches(name, names(), n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(names())}"
            raise Mistake(f"unknown protocol '{name}'", remedy=hint)
        found = next(iter(points)).load()
    if not isinstance(found, Protocol):
        raise Mistake(
            f"'{name}' is a {type(found).__name__}", remedy="it must be a deltascale Protocol"
        )
    return found


def _dotted(name: str) -> object:
    module, _, attribute = name.partition(":")
    try:
        return getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise Mistake(
            f"protocol '{name}' can't be imported: {error}",
            remedy="write it as package.module:NAME",
        ) from None
