"""Conversations in which an answer was fixed or broken, read from the ledger, bounded in number and
length. Which ones are shown is drawn by a fixed rule, not chosen."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from deltascale.ledger import Ledger
from deltascale.records import Cell, Message, Turn
from deltascale.report.wording import visible, within

__all__ = ["Example", "Examples", "Kind", "Spoken", "examples"]

Kind: TypeAlias = Literal["fixed", "broken"]

_AT_MOST = 360
_PER_CELL = 4
_TOTAL_BYTES = 1_800_000
_TEXT = 4_000
_ANSWER = 300
_MESSAGES = 20


@dataclass(frozen=True, slots=True)
class Spoken:
    """One message. `text` is an index into `Examples.texts`; `turn` None: it was not scored.

    With a turn come its outcome, its score and the answer that was extracted (None: none).
    """

    role: str
    text: int
    turn: int | None = None
    outcome: str = ""
    score: float | None = None
    answer: str | None = None


@dataclass(frozen=True, slots=True)
class Example:
    cell: Cell
    kind: Kind
    item: str
    epoch: int
    spoken: tuple[Spoken, ...]


@dataclass(slots=True)
class Examples:
    """Texts are kept once, since prompts repeat. `n_flips` counts all that could be shown."""

    texts: list[str] = field(default_factory=list)
    shown: list[Example] = field(default_factory=list)
    n_flips: int = 0


_Found: TypeAlias = tuple[str, Kind, str, int, tuple[Turn, ...]]


def examples(book: Ledger, cells: Sequence[Cell]) -> Examples:
    """A few of each cell's flips, the cells taking turns until number or size is reached."""
    made = Examples()
    by_cell = {}
    for cell in cells:
        found = sorted(_flips(book, cell), key=lambda one: one[0])
        made.n_flips += len(found)
        for kind in ("fixed", "broken"):
            by_cell[cell, kind] = [one for one in found if one[1] == kind][:_PER_CELL]
    index: dict[str, int] = {}
    size = 0
    for place in range(_PER_CELL):
        for (cell, _), found in by_cell.items():
            if place >= len(found):
                continue
            if len(made.shown) >= _AT_MOST or size >= _TOTAL_BYTES:
                return made
            _, kind, item, epoch, turns = found[place]
            before = len(made.texts)
            spoken = tuple(_spoken(book, turns, index, made.texts))
            size += sum(len(text.encode()) for text in made.texts[before:]) + 80 * len(spoken)
            made.shown.append(Example(cell, kind, visible(item), epoch, spoken))
    return made


def _flips(book: Ledger, cell: Cell) -> Iterator[_Found]:
    for item, epoch, turns in book.samples(cell):
        first, last = turns[0].score, turns[-1].score
        if first is None or last is None or first == last:
            continue
        kind: Kind = "fixed" if last > first else "broken"
        order = hashlib.sha256(f"{cell.id}/{item}/{epoch}".encode()).hexdigest()
        yield order, kind, item, epoch, turns


def _spoken(
    book: Ledger, turns: Sequence[Turn], index: dict[str, int], texts: list[str]
) -> Iterator[Spoken]:
    """What is new in each turn's call, then its reply with what was made of it."""

    def kept(text: str) -> int:
        shown = within(text, _TEXT)
        if shown not in index:
            index[shown] = len(texts)
            texts.append(shown)
        return index[shown]

    before: tuple[Message, ...] = ()
    n = 0
    for turn in turns:
        key = bytes.fromhex(turn.call)
        if turn.turn and not turn.n_calls:
            yield _scored("note", kept("no further call: the answer before it stands"), turn)
            continue
        asked = book.messages(key) if key else ()
        afresh = asked[: len(before)] != before
        new = asked if afresh else asked[len(before) :]
        if afresh and turn.turn:
            yield Spoken("note", kept("a conversation of its own, begun afresh"))
        for message in new[-_MESSAGES:]:
            if n < 3 * _MESSAGES:
                yield Spoken(message.role, kept(_text(message)))
            n += 1
        reply = book.reply(key) if key else None
        said = _text(Message("assistant", reply.text, reply.tool_calls)) if reply else "no reply"
        yield _scored("reply", kept(said), turn)
        before = (*asked, Message("assistant", reply.text, reply.tool_calls)) if reply else asked


def _scored(role: str, text: int, turn: Turn) -> Spoken:
    answer = None if turn.answer is None else within(turn.answer, _ANSWER)
    return Spoken(role, text, turn.turn, turn.outcome, turn.score, answer)


def _text(message: Message) -> str:
    uses = [f"[uses {call.name}({call.arguments})]" for call in message.tool_calls]
    return "\n".join([message.content, *uses] if message.content else uses)
