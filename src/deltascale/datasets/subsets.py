"""One order of a benchmark's items, so that a larger subset always contains the smaller one.

A subset of n is the first n of the order. No random number generator is involved: the order comes
from SHA-256, so it is the same on every machine and in every version of Python.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Literal, TypeAlias

from deltascale.records import Item

__all__ = ["Mode", "digest", "order", "unit"]

Mode: TypeAlias = Literal["proportional", "equal"]
"""`proportional`: every prefix holds each stratum's share of the whole, to within about one unit.
`equal`: every prefix holds as many of each stratum, as long as the stratum lasts."""


def unit(item: Item) -> str:
    """What is drawn as one: the item, or the question that several items are variants of.

    Variants name their question in `meta["unit"]`.
    """
    return item.meta.get("unit", item.id)


def order(
    items: Sequence[Item], *, benchmark: str, seed: int, mode: Mode
) -> tuple[tuple[Item, ...], ...]:
    """All units in subset order, each as the tuple of its items in the order they were given.

    Within a stratum units are sorted by a hash of (seed, benchmark, unit); unit j of n stands at
    (2j-1)/2n of the way (proportional) or at j (equal), and the strata are merged by that place.
    """
    members: defaultdict[str, list[Item]] = defaultdict(list)
    for item in items:
        members[unit(item)].append(item)
    strata: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
    for name, group in members.items():
        key = hashlib.sha256(f"{seed}|{benchmark}|{name}".encode()).hexdigest()
        strata[group[0].stratum].append((key, name))
    placed: list[tuple[Fraction, str, str]] = []
    for keyed in strata.values():
        keyed.sort()
        for j, (key, name) in enumerate(keyed, start=1):
            place = Fraction(2 * j - 1, 2 * len(keyed)) if mode == "proportional" else Fraction(j)
            placed.append((place, key, name))
    placed.sort()
    return tuple(tuple(members[name]) for _, _, name in placed)


def digest(items: Iterable[Item]) -> str:
    """SHA-256 (hex) of the items' ids joined by line ends: which items, in which order."""
    return hashlib.sha256("\n".join(item.id for item in items).encode()).hexdigest()
