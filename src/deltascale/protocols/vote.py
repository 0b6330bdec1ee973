"""Vote: the majority of the first t+1 independent draws. What the same money buys without review.

Self-consistency of Wang et al. 2022 (arXiv:2203.11171). Draws are shared with `resample`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from deltascale.protocols.attempt import draft
from deltascale.records import Exchange, Protocol, Question, Seen, Submit

__all__ = ["majority", "vote"]


def majority(seens: Sequence[Seen]) -> Seen:
    """The first draw that holds the most frequent answer.

    Draws without an answer do not vote; when no draw has one, the first is returned. A tie goes to
    the tied answer that was drawn first, so two draws that differ keep the first.
    """
    votes = Counter(seen.answer for seen in seens if seen.answer is not None)
    if not votes:
        return seens[0]
    most = max(votes.values())
    return next(seen for seen in seens if seen.answer is not None and votes[seen.answer] == most)


def vote(question: Question, turns: int) -> Exchange:
    """Submit the majority answer of one draw, then of two, of three, …"""
    seens: list[Seen] = []
    for draw in range(turns):
        seens.append((yield from draft(question, draw=draw)))
        yield Submit(majority(seens))


PROTOCOL = Protocol(
    name="vote",
    version=1,
    regime="nothing",
    summary="majority of the first t+1 draws: the same calls, no review",
    run=vote,
)
