"""How a conversation goes on after the first answer. Generators without I/O, found by name.

A protocol of one's own is a `records.Protocol` value, named in the study file by its dotted path
(`mylab.protocols:HINTS`) or by an entry point of the group `deltascale.protocols`.
"""

from __future__ import annotations

from deltascale import extensions
from deltascale.extensions import Kind
from deltascale.records import Protocol

__all__ = ["find", "names"]

_KIND = Kind(
    "protocol",
    Protocol,
    {
        name: f"deltascale.protocols.{name}:PROTOCOL"
        for name in ("review", "critique", "resample", "vote", "tests", "oracle")
    },
)


def names() -> tuple[str, ...]:
    """The protocols that can be named in a study file without a dotted path."""
    return extensions.names(_KIND)


def find(name: str) -> Protocol:
    """The protocol of this name or dotted path.

    Raises Mistake where there is none, with the nearest name.
    """
    return extensions.find(_KIND, name)
