"""Critique: the model first criticises its answer as an aside, then revises it.

After the refine loop of Madaan et al. 2023 (arXiv:2303.17651), without their stop rule: every item
gets every turn, so that turns can be compared.
"""

from __future__ import annotations

from deltascale.protocols.attempt import aside, attempt
from deltascale.records import Exchange, Protocol, Question, user

__all__ = ["CRITIQUE", "REVISE", "critique"]

CRITIQUE = (
    "Criticise your answer above. Go through it step by step and name every mistake you find, "
    "or say that you find none. Do not answer the question again yet."
)
REVISE = (
    "With this critique in mind, write out your full answer to the question again, "
    "mending what was wrong and keeping what was right. {answer_format}"
)


def critique(question: Question, turns: int) -> Exchange:
    """Ask for a critique, then for a revision; the critique is not scored."""
    seen = yield from attempt(question)
    revise = user(REVISE.replace("{answer_format}", question.answer_format))
    for _ in range(turns - 1):
        criticised = yield from aside((*seen.messages, user(CRITIQUE)))
        seen = yield from attempt(question, (*criticised, revise))


PROTOCOL = Protocol(
    name="critique",
    version=1,
    regime="nothing",
    summary="criticise your answer, then revise it",
    run=critique,
    prompts={"critique": CRITIQUE, "revise": REVISE},
)
