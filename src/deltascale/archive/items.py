"""Items as lines of JSON: what a pack needs so that a study replays without its benchmarks.

A question's way to an answer (`Question.attempt`) is a function; it is kept as the name of the
function that makes it and that function's arguments, and only names inside `deltascale.datasets`
are followed when it is read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path
from types import FunctionType

import msgspec

from deltascale.errors import Mistake
from deltascale.records import Attempt, Item, Message, Question, Tool, digest

__all__ = ["PackedItem", "fingerprint", "packed", "read", "unpacked", "write"]

_TRUSTED = "deltascale.datasets."


class PackedAttempt(msgspec.Struct, frozen=True):
    """`function` of `module`, called with `arguments`, gives the attempt; empty: not nameable."""

    module: str
    function: str
    arguments: dict[str, int | float | str | bool | None] = {}


class PackedItem(msgspec.Struct, frozen=True, omit_defaults=True):
    """An item and its question, flat; the fields are those of `records.Item` and `Question`."""

    id: str
    messages: tuple[Message, ...]
    answer_format: str
    target: str
    choices: tuple[str, ...] = ()
    examples: str = ""
    tools: tuple[Tool, ...] = ()
    attempt: PackedAttempt | None = None
    aliases: tuple[str, ...] = ()
    stratum: str = ""
    cluster: str = ""
    meta: dict[str, str] = {}


_encode = msgspec.json.Encoder(order="deterministic").encode
_decode = msgspec.json.Decoder(PackedItem).decode


def packed(item: Item) -> PackedItem:
    """The item as it is kept."""
    question = item.question
    return PackedItem(
        item.id,
        question.messages,
        question.answer_format,
        item.target,
        question.choices,
        question.examples,
        question.tools,
        None if question.attempt is None else _named(question.attempt),
        item.aliases,
        item.stratum,
        item.cluster,
        dict(item.meta),
    )


def unpacked(kept: PackedItem) -> Item:
    """The item again. Raises Mistake where its way to an answer is no part of this deltascale."""
    question = Question(
        kept.messages,
        kept.answer_format,
        kept.choices,
        kept.examples,
        kept.tools,
        None if kept.attempt is None else _found(kept.attempt),
    )
    return Item(kept.id, question, kept.target, kept.aliases, kept.stratum, kept.cluster, kept.meta)


def fingerprint(item: Item) -> str:
    """16 hex digits of an item's content: they differ where a prompt or a target does."""
    return digest(packed(item)).hex()[:16]


def write(path: Path, kept: Iterable[PackedItem]) -> None:
    """One item a line."""
    with path.open("wb") as file:
        file.writelines(_encode(item) + b"\n" for item in kept)


def read(path: Path) -> Iterator[PackedItem]:
    """The items of a file. Raises Mistake for a line that is none."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                yield _decode(line)
            except msgspec.MsgspecError as error:
                raise Mistake(
                    f"line {number} is no item ({error})", where=f"items/{path.name}"
                ) from None


def _named(attempt: Attempt) -> PackedAttempt:
    """The function that makes this attempt, checked by making it again."""
    unknown = PackedAttempt("", "")
    if not isinstance(attempt, FunctionType):
        return unknown
    code = attempt.__code__
    cells = attempt.__closure__ or ()
    held = {name: cell.cell_contents for name, cell in zip(code.co_freevars, cells, strict=True)}
    if not all(isinstance(value, int | float | str | None) for value in held.values()):
        return unknown
    name = attempt.__qualname__.partition(".<locals>")[0]
    found = PackedAttempt(attempt.__module__, name, held)
    try:
        same = _made(found)
    except (ImportError, AttributeError, TypeError, Mistake):
        return unknown
    return found if isinstance(same, FunctionType) and same.__code__ is code else unknown


def _found(kept: PackedAttempt) -> Attempt:
    try:
        return _made(kept)
    except (ImportError, AttributeError, TypeError) as error:
        raise Mistake(f"its way to an answer is not part of this deltascale ({error})") from None


def _made(kept: PackedAttempt) -> Attempt:
    if not f"{kept.module}.".startswith(_TRUSTED):
        raise Mistake(f"its way to an answer, {kept.module or 'a plugin'}, is not deltascale's own")
    function = getattr(import_module(kept.module), kept.function)
    if not isinstance(function, FunctionType) or function.__module__ != kept.module:
        raise Mistake(f"{kept.module}:{kept.function} is not a function of its own")
    if not kept.arguments and "<locals>" not in function.__qualname__:
        names = function.__code__.co_varnames[: function.__code__.co_argcount]
        if names[:1] == ("question",):
            return function
    made: Attempt = function(**kept.arguments)
    return made
