"""The conversations that every client has: grade-school questions of the usual length."""

from __future__ import annotations

__all__ = ["CONNECTIONS", "MAX_TOKENS", "TURNS", "prompts"]

TURNS = 3
CONNECTIONS = 64
MAX_TOKENS = 256

_QUESTION = (
    "Ada packs pencils for the school fair. Her first box, which has the number {number}, holds "
    "24 pencils, and the second box holds half as many. She gives 6 pencils to her teacher and "
    "shares the rest equally between two friends. How many pencils does each friend get? "
    "{answer_format}"
)


def prompts(n: int, *, answer_format: str) -> list[str]:
    """n questions that no cache can mistake for each other."""
    return [_QUESTION.format(number=number, answer_format=answer_format) for number in range(n)]
