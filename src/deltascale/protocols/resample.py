"""Resample: answer afresh each turn, with no history. The null: what asking again does by chance.

Flips between independent draws are what any protocol must be compared with before its flips are
called corrections.
"""

from __future__ import annotations

from deltascale.protocols.attempt import attempt
from deltascale.records import Exchange, Protocol, Question

__all__ = ["resample"]


def resample(question: Question, turns: int) -> Exchange:
    """Draw an independent first answer in every turn."""
    for draw in range(turns):
        yield from attempt(question, draw=draw)


PROTOCOL = Protocol(
    name="resample",
    version=1,
    regime="nothing",
    summary="an independent draw each turn: the null for flips",
    run=resample,
)
