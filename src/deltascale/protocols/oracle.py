"""Oracle: the model is told whether it is right, and stops when it is. An upper bound, no method.

Its delta can't be negative by construction (Huang et al. 2024, arXiv:2310.01798), so its results
never share a table with those of the other protocols.
"""

from __future__ import annotations

from deltascale.protocols.attempt import attempt
from deltascale.records import Exchange, Protocol, Question, user

__all__ = ["WRONG", "oracle"]

WRONG = (
    "Your answer above is wrong. Find the mistake, then write out your full answer again. "
    "{answer_format}"
)


def oracle(question: Question, turns: int) -> Exchange:
    """Say that the answer is wrong and ask again, until it is right."""
    seen = yield from attempt(question)
    prompt = user(WRONG.replace("{answer_format}", question.answer_format))
    for _ in range(turns - 1):
        if seen.verdict:
            return
        seen = yield from attempt(question, (*seen.messages, prompt))


PROTOCOL = Protocol(
    name="oracle",
    version=1,
    regime="verdict",
    summary="told right or wrong, stops when right: an upper bound",
    run=oracle,
    prompts={"wrong": WRONG},
)
