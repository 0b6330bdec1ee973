"""ToolQA's reference corpora, made once into SQLite files that tools read. Knows no question.

Each domain is a file of its own, so a run over some domains needs only their corpora.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
import sqlite3
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import IO, Any, TypeAlias, cast

from deltascale.datasets import bundle
from deltascale.datasets.fetch import Cache, Remote, fetch
from deltascale.datasets.toolqa.pickled import Graph, load
from deltascale.errors import DatasetMistake

__all__ = ["DOMAINS", "TABLES", "Corpora", "opened", "prepare", "sql_name"]

ARCHIVE = Remote(
    "https://drive.usercontent.google.com/download"
    "?id=1zRbHzPW2x4dDcfmphBWlan8cxUCRNmqk&export=download&confirm=t",
    instead="fetch it by hand, unpack it, and name the folder in the dataset's option corpus",
)
"""No checksum is published for it, so the first download's is kept and held against later ones."""

FILES: Mapping[str, tuple[str, ...]] = {
    "agenda": ("agenda/agenda_descriptions_merged.jsonl",),
    "airbnb": ("airbnb/Airbnb_Open_Data.csv",),
    "coffee": ("coffee/coffee_price.csv",),
    "dblp": (
        "dblp/paper_net.pkl",
        "dblp/author_net.pkl",
        "dblp/id2title_dict.pkl",
        "dblp/id2author_dict.pkl",
    ),
    "flight": ("flights/Combined_Flights_2022.csv",),
    "scirex": ("scirex/Preprocessed_Scirex.jsonl",),
    "yelp": ("yelp/yelp_academic_dataset_business.json",),
}
DOMAINS = tuple(FILES)
TABLES: Mapping[str, str] = {
    "airbnb": "airbnb",
    "coffee": "coffee",
    "flights": "flight",
    "yelp": "yelp",
}
"""The databases as models name them, and the domain of each."""

_FORMAT = 2
"""Rises whenever what is written below changes, so that older files are made anew."""

Value: TypeAlias = "str | int | float | None"
Open: TypeAlias = Callable[[str], IO[bytes]]


@dataclass(frozen=True, slots=True)
class Corpora:
    """The domains that are there, and the SQLite file of each."""

    files: Mapping[str, Path]


def prepare(domains: Iterable[str], *, path: str, cache: Cache) -> Corpora:
    """Make the SQLite files of these domains, or find them made.

    `path` is the folder (or zip) that holds `external_corpus`; empty: it is downloaded.

    Raises:
        DatasetMistake: a file is missing or can't be read, or the cache can't be written.
    """
    place = bundle.own(path) if path else fetch(ARCHIVE, cache)
    where = path or "toolqa corpora"
    wanted = [domain for domain in domains if domain in FILES]
    try:
        names = bundle.listing(place)
        found = {domain: bundle.locate(names, FILES[domain], where=where) for domain in wanted}
        made = {}
        with _opener(place) as opens:
            for domain in wanted:
                members = found[domain]
                target = cache.directory / "toolqa" / f"{domain}-{_stamp(place, members)}.sqlite"
                if not target.exists():
                    target.parent.mkdir(parents=True, exist_ok=True)
                    _make(domain, target, members, opens)
                made[domain] = target
    except (OSError, zipfile.BadZipFile, UnicodeDecodeError, ValueError, KeyError) as error:
        raise DatasetMistake(f"it can't be read ({error})", where=where) from error
    except sqlite3.Error as error:
        raise DatasetMistake(
            f"the corpora can't be written ({error})",
            where=str(cache.directory),
            remedy="make room there, or set DELTASCALE_CACHE to another directory",
        ) from error
    return Corpora(made)


@contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    """The file, for reading only."""
    with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as connection:
        yield connection


def _stamp(place: Path, members: Mapping[str, str]) -> str:
    """Tells one version of the source from another without reading all of it."""
    files = [place] if place.is_file() else [place / member for member in members.values()]
    facts = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    told = json.dumps([_FORMAT, sorted(members.values()), facts])
    return hashlib.sha256(told.encode()).hexdigest()[:16]


@contextmanager
def _opener(place: Path) -> Iterator[Open]:
    with ExitStack() as stack:
        if place.is_dir():
            yield lambda member: stack.enter_context((place / member).open("rb"))
            return
        archive = stack.enter_context(zipfile.ZipFile(place))
        yield lambda member: stack.enter_context(archive.open(member))


def _make(domain: str, target: Path, members: Mapping[str, str], opens: Open) -> None:
    """Write the file beside its place and rename it, so that it is whole or not there."""
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    part.unlink(missing_ok=True)
    files = {name: opens(member) for name, member in members.items()}
    with closing(sqlite3.connect(part)) as connection:
        connection.execute("PRAGMA journal_mode = OFF")
        connection.execute("PRAGMA synchronous = OFF")
        _MAKERS[domain](connection, [files[name] for name in FILES[domain]])
        connection.commit()
    part.replace(target)


# --- tables --------------------------------------------------------------------------------------

_NUMBER = re.compile(r"-?\$?-?(?:0|[1-9][0-9]{0,2}(?:,[0-9]{3})+|[1-9][0-9]{0,17})(?:\.[0-9]+)?")
_MONEY = str.maketrans("", "", "$,")


def sql_name(column: str) -> str:
    """A column's name in SQL: `host id` is `host_id`."""
    return re.sub(r"\W+", "_", column.strip()).lower() if " " in column.strip() else column.strip()


def _table(name: str, *, index: Sequence[str] = ()) -> Callable[..., None]:
    def make(connection: sqlite3.Connection, files: Sequence[IO[bytes]]) -> None:
        file = cast("io.BufferedReader", files[0])  # of a zip, it is one in all but its type
        with io.TextIOWrapper(file, encoding="utf-8-sig", newline="") as text:
            reader = csv.reader(text)
            header = [column.strip() for column in next(reader)]
            rows = (cells for cells in reader if len(cells) == len(header))
            _write_table(connection, name, header, rows, index=index)

    return make


def _write_table(
    connection: sqlite3.Connection,
    name: str,
    header: Sequence[str],
    rows: Iterable[Sequence[Value]],
    *,
    index: Sequence[str] = (),
) -> None:
    """Write the rows, with numbers as numbers where all of a column are, and nothing for blanks."""
    columns = [sql_name(column) for column in header]
    quoted = ", ".join(f'"{column}"' for column in columns)
    connection.execute("CREATE TABLE columns (shown TEXT, sql TEXT, numeric INTEGER)")
    connection.execute(f"CREATE TABLE raw ({quoted})")
    marks = ", ".join("?" * len(columns))
    kinds = [_Kind() for _ in columns]

    def seen() -> Iterator[list[Value]]:
        for row in rows:
            cells = [cell.strip() if isinstance(cell, str) else cell for cell in row]
            for kind, cell in zip(kinds, cells, strict=True):
                kind.see(cell)
            for kind, cell in zip(kinds, row, strict=True):
                kind.padded = kind.padded or (isinstance(cell, str) and cell.endswith(" "))
            yield [None if cell in ("", "NaN", "nan") else cell for cell in cells]

    connection.executemany(f"INSERT INTO raw VALUES ({marks})", seen())  # noqa: S608 - our own names
    types = ", ".join(f'"{c}" {k.type}' for c, k in zip(columns, kinds, strict=True))
    casts = ", ".join(
        f"CAST(REPLACE(REPLACE(\"{c}\", '$', ''), ',', '') AS {k.type})" if k.numeric else f'"{c}"'
        for c, k in zip(columns, kinds, strict=True)
    )
    connection.execute(f"CREATE TABLE {name}_data ({types})")
    connection.execute(f"INSERT INTO {name}_data SELECT {casts} FROM raw")  # noqa: S608 - as above
    connection.execute("DROP TABLE raw")
    for column in index:
        connection.execute(f'CREATE INDEX "by_{column}" ON {name}_data ("{column}")')
    facts = [(h, c, int(k.numeric)) for h, c, k in zip(header, columns, kinds, strict=True)]
    connection.executemany("INSERT INTO columns VALUES (?, ?, ?)", facts)
    _write_views(connection, name, header, [k.text(c) for c, k in zip(columns, kinds, strict=True)])


def _write_views(
    connection: sqlite3.Connection, name: str, header: Sequence[str], texts: Sequence[str]
) -> None:
    """The table as upstream's tools hold it: every value a text, for filters and for SQL."""
    shown = ", ".join(
        f"CAST(COALESCE({text}, 'nan') AS TEXT) AS \"{column}\""
        for column, text in zip(header, texts, strict=True)
    )
    mangled = ", ".join(
        f"CAST(SUBSTR(COALESCE({text}, '---'), 1, 250) AS TEXT) AS \"{_mangled(name, column)}\""
        for column, text in zip(header, texts, strict=True)
    )
    connection.execute(f"CREATE VIEW {name}_text AS SELECT {shown} FROM {name}_data")  # noqa: S608 - our own names
    connection.execute(f"CREATE VIEW {name}_upstream AS SELECT {mangled} FROM {name}_data")  # noqa: S608 - as above


def _mangled(table: str, column: str) -> str:
    """Upstream's name of a column in SQL; for one table it renames parts of words too."""
    plain = column.replace(" ", "_")
    if table != "airbnb":
        return plain
    return plain.replace("lat", "latitude").replace("long", "longitude")


@dataclass(slots=True)
class _Kind:
    """What a column holds, learnt from its cells."""

    any: bool = False
    numeric: bool = True
    whole: bool = True
    blank: bool = False
    money: bool = False
    padded: bool = False

    def see(self, cell: Value) -> None:
        if cell is None or cell in ("", "NaN", "nan"):
            self.blank = True
            return
        self.any = True
        text = str(cell)
        self.money = self.money or text.startswith("$")
        if self.numeric and not _NUMBER.fullmatch(text):
            self.numeric = False
        if self.numeric and "." in text:
            self.whole = False

    @property
    def type(self) -> str:
        if not (self.numeric and self.any):
            self.numeric = False
            return "TEXT"
        return "INTEGER" if self.whole else "REAL"

    def text(self, column: str) -> str:
        """SQL for a value of this column as pandas would write it: whole numbers become decimal
        ones where any is missing, and money stays as it came."""
        if self.type == "INTEGER" and self.money:
            form = "$%,d " if self.padded else "$%,d"
            return f'CASE WHEN "{column}" IS NOT NULL THEN PRINTF(\'{form}\', "{column}") END'
        if self.type == "INTEGER" and self.blank:
            return f'CAST("{column}" AS REAL)'
        return f'"{column}"'


def _yelp(connection: sqlite3.Connection, files: Sequence[IO[bytes]]) -> None:
    records = (json.loads(line) for line in files[0] if line.strip())
    first = next(records)
    header = list(first)

    rows = ([_flat(one.get(column)) for column in header] for one in chain([first], records))
    _write_table(connection, "yelp", header, rows, index=("name",))


def _flat(value: Any) -> Value:
    """An object as `Monday: 9:0-17:0, Friday: 9:0-17:0`."""
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_flat(inner)}" for key, inner in value.items())
    return value if value is None or isinstance(value, str | int | float) else str(value)


# --- texts ---------------------------------------------------------------------------------------


def _texts(key: str) -> Callable[..., None]:
    """A full-text index over one text a line."""

    def make(connection: sqlite3.Connection, files: Sequence[IO[bytes]]) -> None:
        connection.execute("CREATE VIRTUAL TABLE texts USING fts5(text, tokenize = 'porter')")
        lines = ((json.loads(line)[key],) for line in files[0] if line.strip())
        connection.executemany("INSERT INTO texts VALUES (?)", lines)

    return make


# --- graphs --------------------------------------------------------------------------------------


def _dblp(connection: sqlite3.Connection, files: Sequence[IO[bytes]]) -> None:
    papers, authors, titles, names = (load(file) for file in files)
    if not (isinstance(papers, Graph) and isinstance(authors, Graph)):
        raise ValueError("paper_net.pkl and author_net.pkl must hold graphs")
    connection.execute("CREATE TABLE paper (id TEXT PRIMARY KEY, name TEXT, facts TEXT)")
    connection.execute("CREATE TABLE author (id TEXT PRIMARY KEY, name TEXT, facts TEXT)")
    connection.execute("CREATE TABLE paper_edge (a TEXT, b TEXT, facts TEXT)")
    connection.execute("CREATE TABLE author_edge (a TEXT, b TEXT, facts TEXT)")
    for table, graph, named in (("paper", papers, titles), ("author", authors, names)):
        nodes = ((str(i), named.get(i), json.dumps(facts)) for i, facts in graph.nodes.items())
        edges = (
            (str(a), str(b), json.dumps(facts))
            for a, others in graph.edges.items()
            for b, facts in others.items()
        )
        connection.executemany(f"INSERT INTO {table} VALUES (?, ?, ?)", nodes)  # noqa: S608 - ours
        connection.executemany(f"INSERT INTO {table}_edge VALUES (?, ?, ?)", edges)  # noqa: S608
        connection.execute(f"CREATE INDEX {table}_name ON {table} (name)")
        connection.execute(f"CREATE INDEX {table}_a ON {table}_edge (a, b)")
        connection.execute(f"CREATE INDEX {table}_b ON {table}_edge (b)")


_MAKERS: Mapping[str, Callable[[sqlite3.Connection, Sequence[IO[bytes]]], None]] = {
    "agenda": _texts("event"),
    "airbnb": _table("airbnb"),
    "coffee": _table("coffee"),
    "dblp": _dblp,
    "flight": _table("flights", index=("FlightDate",)),
    "scirex": _texts("content"),
    "yelp": _yelp,
}
