"""The two moves every protocol is made of: an attempt, which ends a turn, and an aside.

Knows nothing of targets, scores, providers or ledgers: it only yields steps.
"""

from __future__ import annotations

from collections.abc import Generator

from deltascale.records import Ask, Message, Question, Seen, Step, Submit

__all__ = ["aside", "attempt", "draft"]


def draft(
    question: Question, messages: tuple[Message, ...] = (), *, draw: int = 0
) -> Generator[Step, Seen, Seen]:
    """Get one answer without ending the turn, in the dataset's way (one call, or a tool loop).

    `messages` empty: the question's own, a first answer.
    """
    messages = messages or question.messages
    if question.attempt is None:
        return (yield Ask(messages, draw))
    return (yield from question.attempt(question, messages, draw))


def attempt(
    question: Question, messages: tuple[Message, ...] = (), *, draw: int = 0
) -> Generator[Step, Seen, Seen]:
    """Get one answer and submit it: the turn is over and will be scored.

    The returned `Seen` carries a verdict only for a protocol of the regime `verdict`.
    """
    seen = yield from draft(question, messages, draw=draw)
    return (yield Submit(seen))


def aside(messages: tuple[Message, ...]) -> Generator[Step, Seen, tuple[Message, ...]]:
    """Ask for something that is not an answer (a critique); returns the longer conversation.

    A tool that the model asks for in an aside is not run, so its wish is left out.
    """
    seen = yield Ask(messages)
    return (*messages, Message("assistant", seen.messages[-1].content))
