"""The database tools: load one, filter its rows step by step, read columns, or ask in SQL."""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deltascale.datasets.toolqa.corpora import opened

__all__ = [
    "Condition",
    "State",
    "column",
    "columns",
    "condition",
    "conditions",
    "count",
    "query",
    "values",
]

MOST_ROWS = 100
MOST_CHARACTERS = 4000
MOST_SECONDS = 20.0

_OPERATOR = re.compile(r"\s*(>=|<=|!=|<>|==|=|>|<)\s*")
_NUMBER = re.compile(r"[-+]?\$?-?(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)?(?:\.[0-9]+)?")


@dataclass(frozen=True, slots=True)
class Condition:
    """A column by its SQL name, an operator, and what the column is held against."""

    column: str
    sign: str
    value: str
    numeric: bool
    any_case: bool = False

    def sql(self) -> tuple[str, str | float]:
        """The condition in SQL with one place for its value, and the value."""
        collation = " COLLATE NOCASE" if self.any_case and not self.numeric else ""
        value = _number(self.value) if self.numeric else self.value
        return f'"{self.column}" {self.sign} ?{collation}', value


@dataclass(frozen=True, slots=True)
class State:
    """What is loaded and filtered at one point of an attempt.

    `checked` are the edges that were looked at since the graphs were loaded, for the one setting
    in which a second look fails.
    """

    database: str = ""
    held: tuple[Condition, ...] = ()
    graph: bool = False
    checked: frozenset[str] = frozenset()


def columns(path: Path) -> list[tuple[str, str, bool]]:
    """(name as shown, name in SQL, holds numbers) of every column."""
    with opened(path) as file:
        rows = file.execute("SELECT shown, sql, numeric FROM columns ORDER BY rowid")
        return [(str(shown), str(sql), bool(numeric)) for shown, sql, numeric in rows]


def column(name: str, known: Sequence[tuple[str, str, bool]]) -> tuple[str, str, bool]:
    """The column of this name, in any case, with spaces or underscores.

    Raises:
        ValueError: there is none.
    """
    for one in known:
        if _same(name.strip(), one[0]):
            return one
    raise ValueError(f"there is no column {name!r}; there are {', '.join(k[0] for k in known)}")


def condition(text: str, known: Sequence[tuple[str, str, bool]]) -> Condition:
    """What a text such as `High >= 100` asks for.

    Numbers are compared as numbers where the column holds numbers, all else as text.

    Raises:
        ValueError: it has no operator, no known column, or no number where one is needed.
    """
    sign = _OPERATOR.search(text)
    if sign is None:
        raise ValueError(f"{text!r} has none of = != > >= < <=")
    name, value = text[: sign.start()].strip(), text[sign.end() :].strip().strip("\"'").strip()
    shown, sql, numeric = column(name, known)
    if numeric:
        try:
            _number(value)
        except ValueError:
            raise ValueError(f"{shown} holds numbers, and {value!r} is none") from None
    return Condition(sql, sign[1], value, numeric)


def conditions(text: str, known: Sequence[tuple[str, str, bool]]) -> tuple[Condition, ...]:
    """Several conditions with commas between them; a comma inside a value is part of it.

    Raises:
        ValueError: as for one.
    """
    parts: list[str] = []
    for piece in text.split(","):
        sign = _OPERATOR.search(piece)
        name = piece[: sign.start()].strip() if sign else ""
        starts = any(_same(name, shown) for shown, _, _ in known)
        if starts or not parts:
            parts.append(piece)
        else:
            parts[-1] += f",{piece}"
    return tuple(condition(part.strip(), known) for part in parts)


def _same(said: str, name: str) -> bool:
    return said.replace("_", " ").casefold() == name.replace("_", " ").casefold()


def _number(text: str) -> float:
    plain = text.replace("$", "").replace(",", "").strip()
    if not plain or not _NUMBER.fullmatch(text.strip()):
        raise ValueError(f"{text!r} is not a number")
    return float(plain)


def _where(held: Sequence[Condition]) -> tuple[str, list[str | float]]:
    clauses = [one.sql() for one in held]
    return " AND ".join(clause for clause, _ in clauses) or "1", [value for _, value in clauses]


def count(path: Path, table: str, held: Sequence[Condition], *, kind: str = "data") -> int:
    """How many rows meet every condition. `kind` names the form of the table: `data`, or `text`
    with every value as upstream writes it."""
    where, bound = _where(held)
    with opened(path) as file:
        found = file.execute(f"SELECT COUNT(*) FROM {table}_{kind} WHERE {where}", bound)  # noqa: S608 - known names, values bound
        return int(found.fetchone()[0])


def values(
    path: Path, table: str, column: str, held: Sequence[Condition], *, kind: str = "data"
) -> str:
    """The values of a column in the rows that meet every condition, up to 4000 characters."""
    where, bound = _where(held)
    shown: list[str] = []
    n_characters = 0
    with opened(path) as file:
        found = file.execute(f'SELECT "{column}" FROM {table}_{kind} WHERE {where}', bound)  # noqa: S608 - as above
        for (value,) in found:
            shown.append(_shown(value))
            n_characters += len(shown[-1]) + 2
            if n_characters > MOST_CHARACTERS:
                return f"{', '.join(shown)}, ... ({count(path, table, held, kind=kind)} values)"
    return ", ".join(shown)


def _shown(value: object) -> str:
    return "(empty)" if value is None else str(value)


# --- SQL -----------------------------------------------------------------------------------------

_ALLOWED = frozenset({sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION})
_REFUSED = frozenset({"printf", "format", "load_extension", "random", "randomblob"})
"""Functions that run long without a chance to stop them, load code, or give each time another
value. Our own views may use them."""
_QUOTED = re.compile(r"`([^`\n]*)`")
_RECURSIVE = 33
"""SQLite's code for a recursive query, which Python does not name."""


def query(text: str, files: Mapping[str, Path]) -> str:
    """The rows that a SELECT gives, one a line as `column: value, column: value`.

    `files` are the databases by the name that the query calls them, `coffee.coffee_data`. Nothing
    but reading is allowed; a query is stopped after 20 seconds, its result after 100 rows.

    Raises:
        ValueError: it is no such query, or took too long.
    """
    connection = sqlite3.connect(":memory:", uri=True)
    try:
        for name, path in files.items():
            place = f"{path.resolve().as_uri()}?mode=ro"
            connection.execute(f"ATTACH DATABASE ? AS {name}", (place,))
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 1 << 20)
        ends = time.monotonic() + MOST_SECONDS
        connection.set_authorizer(_authorize)
        connection.set_progress_handler(lambda: time.monotonic() > ends, 100_000)
        return "\n".join(_rows(connection, text))
    except (sqlite3.Error, sqlite3.Warning, OverflowError) as error:
        raise ValueError(str(error)) from error
    finally:
        connection.close()


def _authorize(action: int, _: object, function: str | None, __: object, view: object) -> int:
    allowed = action in _ALLOWED or action == _RECURSIVE
    if action == sqlite3.SQLITE_FUNCTION and view is None:
        allowed = str(function).casefold() not in _REFUSED
    return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY


def _rows(connection: sqlite3.Connection, text: str) -> Iterator[str]:
    # A column's name as it is shown; in double quotes an unknown one would be taken for a text.
    plain = _QUOTED.sub(lambda name: name[0].replace(" ", "_"), text)
    cursor = connection.execute(plain.strip().rstrip(";"))
    names = [column[0] for column in cursor.description or ()]
    n_characters = 0
    for number, row in enumerate(cursor):
        if number == MOST_ROWS or n_characters > MOST_CHARACTERS:
            yield "... (more rows)"
            return
        line = ", ".join(f"{name}: {_shown(value)}" for name, value in zip(names, row, strict=True))
        n_characters += len(line)
        yield line
