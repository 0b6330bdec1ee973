"""The graph tools over the DBLP citation network: who wrote with whom, what cites what."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from deltascale.datasets.toolqa.corpora import opened

__all__ = [
    "Table",
    "edge",
    "edge_facts",
    "facts_of",
    "names_beside",
    "neighbours",
    "node",
    "split",
]

Table = Literal["paper", "author"]
_TABLES: dict[str, Table] = {"papernet": "paper", "authornet": "author"}
_MOST_CHARACTERS = 4000


def split(text: str) -> tuple[Table, str]:
    """The graph that a text such as `AuthorNet, Ada Lovelace` begins with, and the rest.

    Raises:
        ValueError: it begins with neither graph.
    """
    name, _, rest = text.partition(",")
    table = _TABLES.get(name.strip().casefold())
    if table is None:
        raise ValueError(f"there is no graph {name.strip()!r}, only PaperNet and AuthorNet")
    return table, rest.strip()


def neighbours(path: Path, table: Table, name: str) -> str:
    """The collaborators of an author, or the papers that a paper cites (`..., in`: that cite it).

    Raises:
        ValueError: there is no such node.
    """
    with opened(path) as file:
        citing = False
        if table == "paper" and name.rpartition(",")[2].strip() in {"in", "out"}:
            name, _, way = name.rpartition(",")
            citing = way.strip() == "in"
        found = _beside(file, table, name, citing=citing)
        names = [other or "(not in the index)" for other in found]
    return _cut(f"{len(names)}: " + "; ".join(names) if names else "none")


def names_beside(path: Path, table: Table, name: str) -> list[str | None]:
    """The names of collaborators, or of the papers that a paper cites; None: not in the index.

    Raises:
        ValueError: there is no node of exactly this name.
    """
    with opened(path) as file:
        return list(_beside(file, table, name, citing=False, exact=True))


def _beside(
    file: sqlite3.Connection, table: Table, name: str, *, citing: bool, exact: bool = False
) -> Iterator[str | None]:
    ends = ("b", "a") if citing else ("a", "b")
    found = file.execute(
        f"SELECT {table}.name FROM {table}_edge JOIN {table} ON {table}.id = {ends[1]} "  # noqa: S608 - our own names
        f"WHERE {ends[0]} = ? ORDER BY {table}_edge.rowid",
        (_known(file, table, name, exact=exact),),
    )
    for (other,) in found:
        yield None if other is None else str(other)


def node(path: Path, table: Table, name: str) -> str:
    """The facts of a paper or author.

    Raises:
        ValueError: there is no such node.
    """
    return _cut(_told(facts_of(path, table, name)))


def facts_of(path: Path, table: Table, name: str, *, exact: bool = False) -> dict[str, Any]:
    """The same as it is kept. `exact`: the name as it stands, and nothing like it.

    Raises:
        ValueError: there is no such node.
    """
    with opened(path) as file:
        known = _known(file, table, name, exact=exact)
        (facts,) = file.execute(f"SELECT facts FROM {table} WHERE id = ?", (known,)).fetchone()  # noqa: S608 - as above
    found: dict[str, Any] = json.loads(facts)
    return found


def edge(path: Path, table: Table, names: str) -> str:
    """The facts of the edge between two nodes, given with a comma between them.

    Raises:
        ValueError: a node is unknown, or there is no edge.
    """
    with opened(path) as file:
        for first, second in islice(_pairs(names), 12):
            known = [_find(file, table, name) for name in (first, second)]
            if all(known):
                break
        else:
            raise ValueError("these are not two nodes of the graph with a comma between them")
        facts = _edge(file, table, str(known[0]), str(known[1]))
    return _cut(_told(facts)) if facts else "the first cites the second"


def edge_facts(path: Path, table: Table, first: str, second: str) -> dict[str, Any]:
    """The facts of the edge between two nodes as they are kept, papers by their titles.

    Raises:
        ValueError: there is no node of exactly such a name, or no edge.
    """
    with opened(path) as file:
        ends = [_known(file, table, name, exact=True) for name in (first, second)]
        return _edge(file, table, *ends)


def _edge(file: sqlite3.Connection, table: Table, first: str, second: str) -> dict[str, Any]:
    held = f"SELECT facts FROM {table}_edge WHERE a = ? AND b = ?"  # noqa: S608 - as above
    found = file.execute(held, (first, second)).fetchone()
    if found is None:
        raise ValueError("there is no edge between the two nodes")
    facts: dict[str, Any] = json.loads(found[0])
    if isinstance(facts.get("papers"), list):
        facts["papers"] = [_title(file, paper) for paper in facts["papers"]]
    return facts


def _pairs(names: str) -> Iterator[tuple[str, str]]:
    """Every way to cut a text at a comma: names and titles may hold commas themselves."""
    at = names.find(",")
    while at >= 0:
        yield names[:at].strip(), names[at + 1 :].strip()
        at = names.find(",", at + 1)


def _find(file: sqlite3.Connection, table: Table, name: str, *, exact: bool = False) -> str | None:
    """The id of a node by its exact name, else by it in any case and without quotes."""
    asked = name if exact else name.strip().strip("\"'")
    for collation in ("",) if exact else ("", " COLLATE NOCASE"):
        found = file.execute(
            f"SELECT id FROM {table} WHERE name = ?{collation} LIMIT 1",  # noqa: S608 - as above
            (asked,),
        ).fetchone()
        if found is not None:
            return str(found[0])
    return None


def _known(file: sqlite3.Connection, table: Table, name: str, *, exact: bool = False) -> str:
    found = _find(file, table, name, exact=exact)
    if found is None:
        raise ValueError(f"there is no {table} {name.strip()!r} in the graph")
    return found


def _title(file: sqlite3.Connection, paper: object) -> str:
    found = file.execute("SELECT name FROM paper WHERE id = ?", (str(paper),)).fetchone()
    return str(found[0] or paper) if found else str(paper)


def _told(facts: dict[str, Any]) -> str:
    """Facts as `year: 2021; authors: Ada Lovelace (London), ...`."""
    return "; ".join(f"{name}: {_value(value)}" for name, value in facts.items()) or "no facts"


def _value(value: Any) -> str:
    if isinstance(value, list):
        return " | ".join(map(_value, value)) or "none"
    if isinstance(value, dict) and "name" in value:
        org = value.get("org")
        return f"{value['name']} ({org})" if org else str(value["name"])
    if isinstance(value, dict):
        return ", ".join(str(inner) for inner in value.values())
    return str(value) if value not in (None, "") else "none"


def _cut(text: str) -> str:
    return text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]} ... (cut)"
