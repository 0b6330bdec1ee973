"""Flips judged by a person who does not know which answer came first: the sheet, and what it says.

A scorer errs. Some flips that it reports are none: an answer was misread, or right in another form.
The sheet shows a flip's two replies in either order, without model, protocol or score; what is
filled in says how many of the flips are real.
"""

from __future__ import annotations

import csv
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deltascale.analysis import Audited
from deltascale.errors import Mistake
from deltascale.ledger import Ledger
from deltascale.records import Cell, Item, Turn

__all__ = ["COLUMNS", "Row", "judged", "sheet"]

COLUMNS = ("id", "question", "target", "reply_a", "reply_b", "a_is_right", "b_is_right")
"""The last two are filled in by the person: yes or no."""

_YES = frozenset({"yes", "y", "1", "true", "right"})
_NO = frozenset({"no", "n", "0", "false", "wrong"})
_TEXT = 16_000
"""Characters of a text in the sheet; a spreadsheet's cell holds twice as many."""

Row = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Flip:
    """`order` is drawn by a hash: it is the row's id, its place, and says which reply is shown as
    `a`."""

    order: str
    cell: Cell
    item: str
    fixed: bool
    turns: tuple[Turn, ...]

    @property
    def last_is_a(self) -> bool:
        return int(self.order[-1], 16) % 2 == 1


def sheet(
    book: Ledger, cells: Iterable[Cell], item_of: Callable[[Cell, str], Item], *, n_flips: int
) -> list[Row]:
    """Rows of up to `n_flips` flips of each protocol of these cells, drawn by a fixed rule, in an
    order that tells nothing. Replies are cut at 16,000 characters."""
    rows: list[Row] = []
    for flip in _drawn(book, cells, n_flips):
        item = item_of(flip.cell, flip.item)
        shown = [_said(book, turn) for turn in (flip.turns[0], flip.turns[-1])]
        if flip.last_is_a:
            shown.reverse()
        values = (flip.order, _asked(item), item.target, *shown, "", "")
        texts = (value[:_TEXT] for value in values)
        rows.append(dict(zip(COLUMNS, texts, strict=True)))
    return rows


def judged(path: Path, book: Ledger, cells: Iterable[Cell]) -> tuple[tuple[Audited, ...], int, int]:
    """What a sheet says of each protocol, its number of rows, and how many of them are filled in.

    Raises Mistake for a row that is neither filled in nor empty, or that is of another study.
    """
    verdicts = dict(_verdicts(path))
    counts: dict[str, Counter[str]] = {}
    known = 0
    for flip in _drawn(book, cells, None):
        if flip.order not in verdicts:
            continue
        known += 1
        verdict = verdicts[flip.order]
        if verdict is None:
            continue
        first, last = verdict[::-1] if flip.last_is_a else verdict
        kind = "fixed" if flip.fixed else "broken"
        own = counts.setdefault(flip.cell.protocol, Counter())
        own[f"{kind}_audited"] += 1
        own[f"{kind}_confirmed"] += (first, last) == (
            (False, True) if flip.fixed else (True, False)
        )
    if known < len(verdicts):
        raise Mistake(
            f"{len(verdicts) - known} of its {len(verdicts)} rows are no flips of this study",
            where=str(path),
            remedy="write a new sheet: remove this one and run `deltascale audit` again",
        )
    made = tuple(Audited(protocol, **own) for protocol, own in sorted(counts.items()))
    return made, len(verdicts), sum(one is not None for one in verdicts.values())


def _drawn(book: Ledger, cells: Iterable[Cell], n_flips: int | None) -> list[_Flip]:
    """The flips of each protocol, the first by their hashes, all protocols mixed."""
    by_protocol: dict[str, list[_Flip]] = {}
    for cell in cells:
        by_protocol.setdefault(cell.protocol, []).extend(_flips(book, cell))
    drawn = [
        flip
        for own in by_protocol.values()
        for flip in sorted(own, key=lambda one: one.order)[:n_flips]
    ]
    return sorted(drawn, key=lambda one: one.order)


def _flips(book: Ledger, cell: Cell) -> Iterator[_Flip]:
    for item, epoch, turns in book.samples(cell):
        ends = {turns[0].score, turns[-1].score}
        if ends == {0.0, 1.0}:
            order = hashlib.sha256(f"audit/{cell.id}/{item}/{epoch}".encode()).hexdigest()[:16]
            # A spreadsheet would take hex digits such as 12e45 for a number, and keep its value.
            yield _Flip(f"flip-{order}", cell, item, turns[-1].score == 1.0, turns)


def _asked(item: Item) -> str:
    return "\n\n".join(message.content for message in item.question.messages)


def _said(book: Ledger, turn: Turn) -> str:
    reply = book.reply(bytes.fromhex(turn.call)) if turn.call else None
    return "(no reply)" if reply is None or not reply.text else reply.text


def _verdicts(path: Path) -> Iterator[tuple[str, tuple[bool, bool] | None]]:
    """Each row's id, and whether its two replies are right; None where nobody said."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows: Sequence[dict[str, str]] = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise Mistake(f"the sheet can't be read ({error})", where=str(path)) from None
    for number, row in enumerate(rows, start=1):
        cells = [(row.get(name) or "").strip().lower() for name in COLUMNS[-2:]]
        if not any(cells):
            yield row.get("id") or "", None
            continue
        if not all(cell in _YES | _NO for cell in cells):
            raise Mistake(
                f"row {number}: {cells[0]!r} and {cells[1]!r} are not two of yes and no",
                where=str(path),
                remedy="write yes or no in both of its last columns, or leave both empty",
            )
        yield row.get("id") or "", (cells[0] in _YES, cells[1] in _YES)
