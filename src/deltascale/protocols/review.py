"""Review: one prompt asks the model to check its answer and to answer again."""

from __future__ import annotations

from deltascale.protocols.attempt import attempt
from deltascale.records import Exchange, Protocol, Question, user

__all__ = ["REVIEW", "review"]

REVIEW = (
    "Check your answer above step by step. If you find a mistake, correct it; "
    "if you find none, keep your answer. Then write out your full answer again. {answer_format}"
)


def review(question: Question, turns: int) -> Exchange:
    """Ask the model to review its own answer, telling it nothing about whether it is right."""
    seen = yield from attempt(question)
    prompt = user(REVIEW.replace("{answer_format}", question.answer_format))
    for _ in range(turns - 1):
        seen = yield from attempt(question, (*seen.messages, prompt))


PROTOCOL = Protocol(
    name="review",
    version=1,
    regime="nothing",
    summary="check your answer and answer again, in one prompt",
    run=review,
    prompts={"review": REVIEW},
)
