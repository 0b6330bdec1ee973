"""How a question is put to a model: the opening message and the sentence that asks for a format.

Every dataset takes two settings here: `prompt`, a template of one's own with the places
`{question}`, `{choices}` and `{format}`, and `format`, a sentence in place of the dataset's own.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from deltascale.errors import DatasetMistake
from deltascale.records import DatasetSpec, Message, user

__all__ = [
    "BOXED",
    "LETTER",
    "NUMBER",
    "TEXT",
    "answer_format",
    "lettered",
    "only_options",
    "opening",
]

NUMBER = "Finish with the answer alone on the last line, written as: #### <number>"
BOXED = "Finish with the answer alone on the last line, inside \\boxed{}"
LETTER = "Finish with the letter of your choice on the last line, written as: Answer: <letter>"
TEXT = "Finish with the answer alone on the last line, written as: Answer: <answer>"

_OPTIONS = ("prompt", "format")
_PLACE = re.compile(r"\{(\w*)\}")
_PLACES = frozenset({"question", "choices", "format"})
_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def only_options(spec: DatasetSpec, own: Collection[str] = ()) -> None:
    """Refuse a setting that the dataset does not have.

    Raises:
        DatasetMistake: `options` has a key besides the dataset's own, `prompt` and `format`.
    """
    known = sorted({*own, *_OPTIONS})
    for key in spec.options:
        if key not in known:
            from difflib import get_close_matches

            close = get_close_matches(key, known, n=1)
            raise DatasetMistake(
                f"unknown setting {key!r}",
                where=f"dataset {spec.name!r} options",
                remedy=f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}",
            )


def answer_format(spec: DatasetSpec, own: str) -> str:
    """The sentence that says how a reply must end."""
    return spec.options.get("format", "").strip() or own


def lettered(choices: Sequence[str]) -> str:
    """The options of a question, one a line, with their letters."""
    return "\n".join(f"{letter}. {choice}" for letter, choice in zip(_ALPHABET, choices))  # noqa: B905 - letters outnumber options


def opening(
    spec: DatasetSpec, question: str, *, asks: str, lead: str = "", choices: str = ""
) -> tuple[Message, ...]:
    """The opening message: the question, its options, what to do (`lead`) and the format (`asks`).

    Raises:
        DatasetMistake: the user's template has an unknown place, or none for the question.
    """
    template = spec.options.get("prompt")
    if template is None:
        instruction = f"{lead} {asks}".strip()
        return (user("\n\n".join(part for part in (question, choices, instruction) if part)),)
    places = {"question": question, "choices": choices, "format": asks}
    found = set(_PLACE.findall(template)) & _PLACES
    if "question" not in found:
        raise DatasetMistake(
            "the template has no {question}",
            where=f"dataset {spec.name!r} options.prompt",
            remedy="put {question} where the question goes, {choices} and {format} if wanted",
        )
    return (user(_PLACE.sub(lambda place: places.get(place[1], place[0]), template)),)
