"""Tests: the examples that the question shows are run, and the model is shown what failed.

After the self-debugging of Chen et al. 2023 (arXiv:2304.05128), with the examples of the question
alone: the hidden tests that score an answer are never run between turns.
"""

from __future__ import annotations

from deltascale.protocols.attempt import attempt
from deltascale.records import Exchange, Protocol, Question, UseTool, user

__all__ = ["FAILED", "RUN_EXAMPLES", "tests"]

RUN_EXAMPLES = "run_examples"
"""The tool that runs `Question.examples` on an answer: a line for each that fails, else empty."""

FAILED = (
    "These examples of the task fail with your answer above:\n{failed}\n"
    "Mend it, then write out your full answer again. {answer_format}"
)
NO_ANSWER = "(no code was found in the reply)"


def tests(question: Question, turns: int) -> Exchange:
    """Show which of the question's own examples fail, until none does.

    A question that shows no examples keeps its first answer: there is nothing to run.
    """
    seen = yield from attempt(question)
    for _ in range(turns - 1):
        if not question.examples:
            return
        if seen.answer is None:
            failed = NO_ANSWER
        else:
            failed = (yield UseTool(RUN_EXAMPLES, seen.answer)).text
        if not failed:
            return
        told = FAILED.replace("{answer_format}", question.answer_format)
        seen = yield from attempt(
            question, (*seen.messages, user(told.replace("{failed}", failed)))
        )


PROTOCOL = Protocol(
    name="tests",
    version=1,
    regime="tests",
    summary="shown which of the question's own examples fail",
    run=tests,
    prompts={"failed": FAILED, "no_answer": NO_ANSWER},
)
