"""The durable record: every call, failure, sample and turn, in one SQLite file.

One connection writes, in groups (see `writer`). Readers use their own and may look while a run
writes (WAL). It knows nothing of providers or protocols.
"""

from __future__ import annotations

import os
import sqlite3
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import groupby
from pathlib import Path
from shutil import copyfile
from tempfile import TemporaryDirectory
from typing import Any

import msgspec

from deltascale.errors import LedgerMistake
from deltascale.records import Cell, Failure, Item, Message, Reply, Request, Sample, Turn
from deltascale.writer import Packed, Writer

__all__ = [
    "LOST", "MIGRATIONS", "SCHEMA_VERSION", "Call", "Ledger", "Listed", "Planned", "Spent",
    "Status", "connect_to_read", "migrate", "read", "write",
]  # fmt: skip

SCHEMA_VERSION = 2
MIGRATIONS: dict[int, str] = {
    1: "ALTER TABLE items ADD COLUMN unit TEXT NOT NULL DEFAULT '';"
    " ALTER TABLE items ADD COLUMN chance REAL NOT NULL DEFAULT 0;"
    " CREATE TABLE reservations(key BLOB PRIMARY KEY, model TEXT NOT NULL,"
    " cost_nusd INTEGER NOT NULL, at REAL NOT NULL) STRICT"
}
"""Schema version → the SQL that makes the next version of it. They run one after the other, on a
copy, and must end at the tables and columns of `_SCHEMA`."""

_APPLICATION_ID = 0x44656C74  # "Delt": tells our files from other SQLite files
_SCHEMA = """
CREATE TABLE calls(
  id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, model TEXT NOT NULL,
  request BLOB NOT NULL, reply BLOB NOT NULL, raw BLOB NOT NULL,
  cost_nusd INTEGER NOT NULL, at REAL NOT NULL) STRICT;
CREATE TABLE failures(
  id INTEGER PRIMARY KEY, key BLOB NOT NULL, model TEXT NOT NULL, kind TEXT NOT NULL,
  failure BLOB NOT NULL, cost_nusd INTEGER NOT NULL, at REAL NOT NULL) STRICT;
CREATE TABLE cells(
  id TEXT PRIMARY KEY, model TEXT NOT NULL, dataset TEXT NOT NULL, protocol TEXT NOT NULL,
  temperature REAL NOT NULL, n_items INTEGER NOT NULL, n_epochs INTEGER NOT NULL,
  n_turns INTEGER NOT NULL) STRICT;
CREATE TABLE items(
  dataset TEXT NOT NULL, position INTEGER NOT NULL, id TEXT NOT NULL, cluster TEXT NOT NULL,
  stratum TEXT NOT NULL, unit TEXT NOT NULL DEFAULT '', chance REAL NOT NULL DEFAULT 0,
  PRIMARY KEY(dataset, position), UNIQUE(dataset, id))
  STRICT, WITHOUT ROWID;
CREATE TABLE samples(
  id INTEGER PRIMARY KEY, cell TEXT NOT NULL, item TEXT NOT NULL, epoch INTEGER NOT NULL,
  outcome TEXT NOT NULL, UNIQUE(cell, item, epoch)) STRICT;
CREATE TABLE turns(
  sample INTEGER NOT NULL, turn INTEGER NOT NULL, outcome TEXT NOT NULL, answer TEXT, score REAL,
  others TEXT NOT NULL, call TEXT NOT NULL, n_calls INTEGER NOT NULL,
  input_tokens INTEGER NOT NULL, cached_input_tokens INTEGER NOT NULL,
  output_tokens INTEGER NOT NULL, cost_nusd INTEGER NOT NULL, detail TEXT NOT NULL,
  PRIMARY KEY(sample, turn)) STRICT, WITHOUT ROWID;
CREATE TABLE observations(
  key BLOB PRIMARY KEY, tool TEXT NOT NULL, arguments TEXT NOT NULL, result TEXT NOT NULL,
  at REAL NOT NULL) STRICT;
CREATE TABLE reservations(
  key BLOB PRIMARY KEY, model TEXT NOT NULL, cost_nusd INTEGER NOT NULL, at REAL NOT NULL) STRICT;
"""

LOST = Failure("transient", "the run ended before an answer came", maybe_billed=True)
"""What becomes of a call that was sent and whose run ended before its reply or failure was kept."""

_LOSE = (
    "INSERT INTO failures(key,model,kind,failure,cost_nusd,at)"
    " SELECT key,model,?,?,cost_nusd,at FROM reservations"
)
_WITHDRAW = "DELETE FROM reservations WHERE key=?"

_encode = msgspec.json.Encoder().encode
_reply = msgspec.json.Decoder(Reply)
_failure = msgspec.json.Decoder(Failure)
_others = msgspec.json.Decoder(dict[str, float])
_request = msgspec.json.Decoder(Request)

_TURN_COLUMNS = (
    "turn,outcome,answer,score,others,call,n_calls,"
    "input_tokens,cached_input_tokens,output_tokens,cost_nusd,detail"
)


class Spent(msgspec.Struct, frozen=True):
    """What a ledger holds of calls and money. `uncertain_nusd` is the part of `spent_nusd` that
    was set aside for calls whose fate is unknown: sent, but not answered. While a run goes on,
    calls in flight are among them. `by_name` has the same for each name that a server was asked
    for; two models of a study may share one."""

    n_calls: int
    n_failures: int
    spent_nusd: int
    uncertain_nusd: int
    by_name: dict[str, Spent] = {}


class Planned(msgspec.Struct, frozen=True):
    """A cell and how much of it is planned: the first `n_items` of its dataset × `n_epochs`."""

    cell: Cell
    n_items: int
    n_epochs: int
    n_turns: int

    @property
    def n_samples(self) -> int:
        return self.n_items * self.n_epochs


class Listed(msgspec.Struct, frozen=True):
    """What is on record of an item. `unit` groups items that are scored as one; empty: alone.
    `chance` is how often a blind guess among its options is right; 0: not known."""

    id: str
    cluster: str
    stratum: str
    unit: str
    chance: float


class Status(msgspec.Struct, frozen=True):
    """How far a study is. `by_cell` counts each cell's samples by outcome; `failures` has, by model
    and kind, how many attempts failed and one of them; `served` pairs models asked and served."""

    spent: Spent
    by_cell: tuple[tuple[Planned, dict[str, int]], ...]
    failures: tuple[tuple[str, int, Failure], ...]
    served: tuple[tuple[str, str], ...]


class Call(msgspec.Struct, frozen=True):
    """A call on record. `at` is when its reply was kept, in seconds since 1970."""

    key: bytes
    request: Request
    reply: Reply
    cost_nusd: int
    at: float


class Ledger:
    """An open ledger. Made by `read` and `write`; closed by their `with` block."""

    def __init__(self, path: Path, connection: sqlite3.Connection, writer: Writer | None) -> None:
        self.path = path
        self._connection = connection
        self._writer = writer

    def reply(self, key: bytes) -> Reply | None:
        """The reply on record for this call, or None. Without `raw`."""
        row = self._connection.execute("SELECT reply FROM calls WHERE key=?", (key,)).fetchone()
        return None if row is None else _reply.decode(row[0])

    def messages(self, key: bytes) -> tuple[Message, ...]:
        """The prompt of a call on record; empty where there is none."""
        row = self._connection.execute("SELECT request FROM calls WHERE key=?", (key,)).fetchone()
        return () if row is None else _request.decode(zlib.decompress(row[0])).messages

    def observation(self, key: bytes) -> str | None:
        """What a tool gave for this use of it, or None where it was not used yet."""
        row = self._connection.execute(
            "SELECT result FROM observations WHERE key=?", (key,)
        ).fetchone()
        return None if row is None else str(row[0])

    async def reserve(self, key: bytes, request: Request, cost_nusd: int) -> None:
        """Note what a call may cost at most; returns when it is on the disk, so before it is sent.

        The note goes with the call's reply or failure. One that a run leaves behind counts as a
        failure of unknown fate (`LOST`) from the moment that another run opens the ledger.
        """
        await self._writing().put_durably(
            (
                # Two models of one server under two addresses may need the same call at once.
                "INSERT INTO reservations VALUES(?,?,?,?) ON CONFLICT(key) DO UPDATE SET"
                " cost_nusd=cost_nusd+excluded.cost_nusd",
                (key, request.model, cost_nusd, time.time()),
            )
        )

    def withdraw(self, key: bytes) -> None:
        """Take a reservation back: the call was certainly not sent. Does not wait."""
        self._writing().put((_WITHDRAW, (key,)))

    def lose(self, key: bytes) -> None:
        """Make a reservation a failure of unknown fate, at its whole cost. Does not wait."""
        lost = (f"{_LOSE} WHERE key=?", (LOST.kind, _encode(LOST), key))
        self._writing().put(lost, (_WITHDRAW, (key,)))

    async def keep_reply(self, key: bytes, request: Request, reply: Reply, cost_nusd: int) -> None:
        """Keep a paid reply in the place of its reservation; returns when it is on the disk."""
        await self._writing().put_durably(
            (
                "INSERT OR IGNORE INTO calls(key,model,request,reply,raw,cost_nusd,at)"
                " VALUES(?,?,?,?,?,?,?)",
                (
                    key,
                    request.model,
                    Packed(_encode(request)),
                    _encode(msgspec.structs.replace(reply, raw=b"")),
                    Packed(reply.raw),
                    cost_nusd,
                    time.time(),
                ),
            ),
            (_WITHDRAW, (key,)),
        )

    async def keep_failure(
        self, key: bytes, request: Request, failure: Failure, cost_nusd: int
    ) -> None:
        """Keep a failed attempt with what it may have cost, in the place of its reservation;
        returns when it is on the disk."""
        await self._writing().put_durably(
            (
                "INSERT INTO failures(key,model,kind,failure,cost_nusd,at) VALUES(?,?,?,?,?,?)",
                (key, request.model, failure.kind, _encode(failure), cost_nusd, time.time()),
            ),
            (_WITHDRAW, (key,)),
        )

    async def keep_observation(self, key: bytes, tool: str, arguments: str, result: str) -> None:
        """Keep what a tool gave; returns when it is on the disk."""
        await self._writing().put_durably(
            (
                "INSERT OR REPLACE INTO observations VALUES(?,?,?,?,?)",
                (key, tool, arguments, result, time.time()),
            )
        )

    def keep_items(self, dataset: str, items: Sequence[Item]) -> None:
        """Keep the items of a dataset in subset order. Does not wait.

        Subsets are nested, so a later, larger subset only adds to an earlier one.
        """
        self._writing().put(
            *(
                (
                    "INSERT OR IGNORE INTO items VALUES(?,?,?,?,?,?,?)",
                    (
                        dataset,
                        position,
                        item.id,
                        item.cluster or item.id,
                        item.stratum,
                        item.meta.get("unit", ""),
                        item.chance,
                    ),
                )
                for position, item in enumerate(items)
            )
        )

    def keep_cell(self, cell: Cell, *, n_items: int, n_epochs: int, n_turns: int) -> None:
        """Keep a cell's factors under its id, and how much of it is planned. Does not wait."""
        factors = (cell.id, cell.model, cell.dataset, cell.protocol, cell.temperature)
        self._writing().put(
            (
                "INSERT INTO cells VALUES(?,?,?,?,?,?,?,?) ON CONFLICT(id) DO UPDATE SET"
                " n_items=MAX(n_items,excluded.n_items),"
                " n_epochs=MAX(n_epochs,excluded.n_epochs)",
                (*factors, n_items, n_epochs, n_turns),
            )
        )

    def keep_sample(self, sample: Sample, turns: tuple[Turn, ...]) -> None:
        """Keep a sample's turns. Does not wait: replay makes them anew from the calls."""
        name = (sample.cell.id, sample.item.id, sample.epoch)
        self._writing().put(
            (
                "INSERT INTO samples(cell,item,epoch,outcome) VALUES(?,?,?,?)"
                " ON CONFLICT(cell,item,epoch) DO UPDATE SET outcome=excluded.outcome",
                (*name, turns[-1].outcome),
            ),
            *(
                (
                    f"INSERT OR REPLACE INTO turns(sample,{_TURN_COLUMNS})"  # noqa: S608
                    " SELECT id,?,?,?,?,?,?,?,?,?,?,?,? FROM samples"
                    " WHERE cell=? AND item=? AND epoch=?",
                    (
                        turn.turn,
                        turn.outcome,
                        turn.answer,
                        turn.score,
                        _encode(turn.others).decode(),
                        turn.call,
                        turn.n_calls,
                        turn.input_tokens,
                        turn.cached_input_tokens,
                        turn.output_tokens,
                        turn.cost_nusd,
                        turn.detail,
                        *name,
                    ),
                )
                for turn in turns
            ),
        )

    def cells(self) -> tuple[Planned, ...]:
        """Every cell on record, in the order of its factors."""
        rows = self._connection.execute(
            "SELECT model,dataset,protocol,temperature,n_items,n_epochs,n_turns FROM cells"
            " ORDER BY 2,3,4,1"
        )
        return tuple(Planned(Cell(*row[:4]), *row[4:]) for row in rows)

    def items(self, dataset: str) -> tuple[Listed, ...]:
        """A dataset's items in subset order."""
        rows = self._connection.execute(
            "SELECT id,cluster,stratum,unit,chance FROM items WHERE dataset=? ORDER BY position",
            (dataset,),
        )
        return tuple(Listed(*row) for row in rows)

    def turns(self, cell: Cell) -> Iterator[tuple[int, int, Turn]]:
        """A cell's turns on record: the item's position in its dataset, the epoch and the turn."""
        rows = self._connection.execute(
            f"SELECT position,epoch,{_TURN_COLUMNS.replace('outcome', 'turns.outcome')}"  # noqa: S608
            " FROM samples JOIN items ON items.id=samples.item AND items.dataset=?"
            " JOIN turns ON turns.sample=samples.id WHERE cell=?",
            (cell.dataset, cell.id),
        )
        for position, epoch, *columns in rows:
            yield position, epoch, _turn(columns)

    def samples(self, cell: Cell) -> Iterator[tuple[str, int, tuple[Turn, ...]]]:
        """A cell's samples on record, by item id and epoch: both, and the turns. Streams."""
        rows = self._connection.execute(
            f"SELECT item,epoch,{_TURN_COLUMNS.replace('outcome', 'turns.outcome')}"  # noqa: S608
            " FROM samples JOIN turns ON turns.sample=samples.id WHERE cell=?"
            " ORDER BY item,epoch,turn",
            (cell.id,),
        )
        for (item, epoch), group in groupby(rows, key=lambda row: (row[0], row[1])):
            yield item, epoch, tuple(_turn(row[2:]) for row in group)

    def calls(self) -> Iterator[Call]:
        """Every call on record, by key; replies without `raw`. Streams."""
        rows = self._connection.execute(
            "SELECT key,request,reply,cost_nusd,at FROM calls ORDER BY key"
        )
        for key, request, reply, cost_nusd, at in rows:
            asked = _request.decode(zlib.decompress(request))
            yield Call(key, asked, _reply.decode(reply), cost_nusd, at)

    def failed_calls(self) -> Iterator[tuple[bytes, Failure]]:
        """Every attempt that failed, in the order in which they did: its call's key, and why."""
        rows = self._connection.execute("SELECT key,failure FROM failures ORDER BY id")
        return ((key, _failure.decode(failure)) for key, failure in rows)

    def mean_output_tokens(self, model: str, dataset: str) -> float | None:
        """The mean length of the replies on record in these cells, in tokens; None: no replies."""
        row = self._connection.execute(
            "SELECT SUM(output_tokens)*1.0/NULLIF(SUM(n_calls),0) FROM turns"
            " JOIN samples ON samples.id=turns.sample JOIN cells ON cells.id=samples.cell"
            " WHERE model=? AND dataset=?",
            (model, dataset),
        ).fetchone()
        return None if row[0] is None else float(row[0])

    def served(self) -> tuple[tuple[str, str], ...]:
        """The pairs (model asked, version served) on record."""
        rows = self._connection.execute(
            "SELECT DISTINCT model, reply ->> '$.model_served' FROM calls ORDER BY 1, 2"
        )
        return tuple((asked, version or "") for asked, version in rows)

    def status(self) -> Status:
        """How far the study is."""
        outcomes: dict[str, dict[str, int]] = {}
        for cell, outcome, count in self._connection.execute(
            "SELECT cell,outcome,COUNT(*) FROM samples GROUP BY cell,outcome"
        ):
            outcomes.setdefault(cell, {})[outcome] = count
        failures = self._connection.execute(
            "SELECT model,kind,COUNT(*),MAX(failure) FROM failures GROUP BY model,kind ORDER BY 1,2"
        )
        return Status(
            spent=self.spent(),
            by_cell=tuple((one, outcomes.get(one.cell.id, {})) for one in self.cells()),
            failures=tuple(
                (model, count, _failure.decode(failure)) for model, _, count, failure in failures
            ),
            served=self.served(),
        )

    def spent(self) -> Spent:
        """Calls and money on record, failures and what is set aside for open calls included."""
        # One statement, so that no call is between two of its sums while a run writes.
        rows = self._connection.execute(
            "SELECT model,SUM(is_call),SUM(is_failure),SUM(cost_nusd),SUM(cost_nusd*unknown) FROM"
            " (SELECT model,1 AS is_call,0 AS is_failure,cost_nusd,0 AS unknown FROM calls"
            " UNION ALL SELECT model,0,1,cost_nusd,failure ->> '$.maybe_billed' IS 1 FROM failures"
            " UNION ALL SELECT model,0,0,cost_nusd,1 FROM reservations)"
            " GROUP BY model ORDER BY model"
        ).fetchall()
        calls, failures, spent, uncertain = (sum(row[k] for row in rows) for k in range(1, 5))
        by_name = {name: Spent(*numbers) for name, *numbers in rows}
        return Spent(calls, failures, spent, uncertain, by_name)

    def _writing(self) -> Writer:
        if self._writer is None:
            raise RuntimeError("this ledger was opened for reading")
        return self._writer


@contextmanager
def read(path: Path) -> Iterator[Ledger]:
    """Open an existing ledger for reading, also while a run writes to it.

    Raises LedgerMistake where it is absent, not a ledger, or of another schema version.
    """
    if not path.is_file():
        raise LedgerMistake("there is no ledger", where=str(path), remedy="run the study first")
    with TemporaryDirectory(prefix="deltascale-") as folder, _current(path, folder) as connection:
        connection.execute("PRAGMA query_only=1")
        yield Ledger(path, connection, None)


@contextmanager
def _current(path: Path, folder: str) -> Iterator[sqlite3.Connection]:
    """The ledger, or a copy of it in the folder that is brought to the current schema."""
    with closing(connect_to_read(path)) as connection:
        if _version(path, connection) == SCHEMA_VERSION:
            yield connection
            return
    copy = Path(folder) / path.name
    migrate(path, copy)
    with closing(_connect(copy)) as connection:
        yield connection


def migrate(path: Path, copy: Path) -> None:
    """Copy a ledger of an older schema and bring the copy to the current one.

    Raises LedgerMistake where it is no ledger, newer, or does not end at the current schema.
    """
    with closing(connect_to_read(path)) as source, closing(_connect(copy)) as target:
        version = _version(path, source)
        source.backup(target)
        for older in range(version, SCHEMA_VERSION):
            target.executescript(
                f"BEGIN IMMEDIATE; {MIGRATIONS[older]}; PRAGMA user_version={older + 1}; COMMIT;"
            )
        with closing(sqlite3.connect(":memory:")) as wanted:
            wanted.executescript(_SCHEMA)
            if _shape(target) != _shape(wanted):
                what = f"the ledger of schema {version} holds other tables than that schema has"
                raise LedgerMistake(what, where=str(path), remedy="restore it from a backup")


def _shape(connection: sqlite3.Connection) -> frozenset[tuple[object, ...]]:
    """Every table's columns, and whatever else is in the schema: triggers and views."""
    return frozenset(
        connection.execute(
            "SELECT thing.type, thing.name, col.name, col.type, col.pk FROM sqlite_master AS thing"
            " LEFT JOIN pragma_table_info(thing.name) AS col WHERE thing.type<>'index'"
        )
    )


def _replace_older(path: Path) -> None:
    """Put the migrated copy in the place of an older ledger, which is kept under its version."""
    with closing(_connect(path)) as connection:
        if _is_empty(connection) or (version := _version(path, connection)) == SCHEMA_VERSION:
            return
        copy = path.with_suffix(".migrating")
        copy.unlink(missing_ok=True)
        migrate(path, copy)
        connection.execute("PRAGMA journal_mode=DELETE")  # what is in the log goes into the file
    copyfile(path, path.with_suffix(f".v{version}.db"))
    copy.replace(path)


@contextmanager
def write(path: Path) -> Iterator[Ledger]:
    """Open or make a ledger for one run. Leaving the block waits for all that was kept. Calls that
    an earlier run left open become failures of unknown fate.

    Raises LedgerMistake where another run holds it, it is not a ledger, or of another version.
    """
    from filelock import FileLock, Timeout

    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(f"{path}.lock", blocking=False)
    try:
        lock.acquire()
    except Timeout:
        raise LedgerMistake(
            "another run is writing to this ledger",
            where=str(path),
            remedy="wait for it or stop it, or give this run a directory of its own with --out",
        ) from None
    try:
        _replace_older(path)
        with closing(_connect(path)) as connection:
            try:
                _create_or_check(path, connection)
                _lose_open_calls(connection)
            except sqlite3.OperationalError as error:
                raise _unusable(path, error) from None
            writer = Writer(path, _connect)
            try:
                yield Ledger(path, connection, writer)
            finally:
                writer.close()
    finally:
        lock.release()


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=30, check_same_thread=False, isolation_level=None)


def connect_to_read(path: Path) -> sqlite3.Connection:
    """Where the folder can't be written nobody adds to the file, so it needs no log beside it."""
    if os.access(path.parent, os.W_OK) or path.with_name(f"{path.name}-wal").exists():
        return _connect(path)
    uri = f"{path.absolute().as_uri()}?immutable=1"
    return sqlite3.connect(uri, uri=True, check_same_thread=False, isolation_level=None)


def _create_or_check(path: Path, connection: sqlite3.Connection) -> None:
    # A run that was killed while it made the ledger leaves an empty database: make it again.
    if _is_empty(connection):
        connection.executescript(
            f"BEGIN IMMEDIATE; PRAGMA application_id={_APPLICATION_ID};"
            f" PRAGMA user_version={SCHEMA_VERSION}; {_SCHEMA} COMMIT;"
        )
    _version(path, connection)
    # Only now: so the schema is in the file itself, whatever happens to the write-ahead log.
    connection.execute("PRAGMA journal_mode=WAL")


def _lose_open_calls(connection: sqlite3.Connection) -> None:
    if connection.execute("SELECT 1 FROM reservations").fetchone() is None:
        return
    connection.execute("BEGIN IMMEDIATE")
    connection.execute(f"{_LOSE} ORDER BY at,key", (LOST.kind, _encode(LOST)))
    connection.execute("DELETE FROM reservations")
    connection.execute("COMMIT")


def _is_empty(connection: sqlite3.Connection) -> bool:
    try:
        return connection.execute("SELECT 1 FROM sqlite_master").fetchone() is None
    except sqlite3.DatabaseError:
        return False


def _turn(columns: Sequence[Any]) -> Turn:
    number, outcome, answer, score, others, *rest = columns
    return Turn(number, outcome, answer, score, _others.decode(others), *rest)


def _unusable(path: Path, error: sqlite3.OperationalError) -> LedgerMistake:
    remedy = "see that its disk has room and who may write in its folder: what was kept is safe"
    return LedgerMistake(f"the ledger can't be used ({error})", where=str(path), remedy=remedy)


def _version(path: Path, connection: sqlite3.Connection) -> int:
    """The ledger's schema: the current one, or an older one that can be migrated.

    Raises LedgerMistake for everything else.
    """
    try:
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        version = connection.execute("PRAGMA user_version").fetchone()[0]
    except sqlite3.OperationalError as error:
        raise _unusable(path, error) from None
    except sqlite3.DatabaseError as error:
        what = f"this is not a ledger ({error})"
        raise LedgerMistake(what, where=str(path), remedy="choose another --out") from None
    if application != _APPLICATION_ID:
        raise LedgerMistake(
            "this is a database, but not a ledger", where=str(path), remedy="choose another --out"
        )
    steps = range(version, SCHEMA_VERSION)
    if version != SCHEMA_VERSION and (not steps or not MIGRATIONS.keys() >= set(steps)):
        raise LedgerMistake(
            f"the ledger has schema {version}, this deltascale reads {SCHEMA_VERSION}",
            where=str(path),
            remedy="use the deltascale that wrote it, or a newer one",
        )
    return int(version)
