"""The durable record: every call, failure, sample and turn, in one SQLite file.

One thread writes. It commits whatever has gathered while the last commit was under way, so that a
run of many connections pays for one flush per group and not per call. Readers use their own
connection and may look while a run writes (WAL). It knows nothing of providers or protocols.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import groupby
from pathlib import Path
from queue import Empty, SimpleQueue
from shutil import copyfile
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

import msgspec

from deltascale.errors import LedgerMistake
from deltascale.records import Cell, Failure, Item, Message, Reply, Request, Sample, Turn

__all__ = [
    "MIGRATIONS", "SCHEMA_VERSION", "Call", "Ledger", "Listed", "Planned", "Spent", "Status",
    "migrate", "read", "write",
]  # fmt: skip

SCHEMA_VERSION = 2
MIGRATIONS: dict[int, str] = {
    1: "ALTER TABLE items ADD COLUMN unit TEXT NOT NULL DEFAULT '';"
    " ALTER TABLE items ADD COLUMN chance REAL NOT NULL DEFAULT 0"
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
"""

_encode = msgspec.json.Encoder().encode
_reply = msgspec.json.Decoder(Reply)
_failure = msgspec.json.Decoder(Failure)
_others = msgspec.json.Decoder(dict[str, float])
_request = msgspec.json.Decoder(Request)

_TURN_COLUMNS = (
    "turn,outcome,answer,score,others,call,n_calls,"
    "input_tokens,cached_input_tokens,output_tokens,cost_nusd,detail"
)

_Row: TypeAlias = tuple[object, ...]
_Statement: TypeAlias = tuple[str, _Row]
_Write: TypeAlias = tuple[tuple[_Statement, ...], "asyncio.Future[None] | None"]


class _Packed(bytes):
    """A column that the writer's thread compresses: prompts and wire bodies shrink to a third."""


class Spent(msgspec.Struct, frozen=True):
    """What a ledger holds of calls and money. `uncertain_nusd` is the part of `spent_nusd` that
    was set aside for calls whose fate is unknown: sent, but never answered. `by_name` has the same
    for each name that a server was asked for; two models of a study may share one."""

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

    def __init__(self, path: Path, connection: sqlite3.Connection, writer: _Writer | None) -> None:
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

    async def keep_reply(self, key: bytes, request: Request, reply: Reply, cost_nusd: int) -> None:
        """Keep a paid reply; returns when it is on the disk."""
        await self._write_durably(
            "INSERT OR IGNORE INTO calls(key,model,request,reply,raw,cost_nusd,at)"
            " VALUES(?,?,?,?,?,?,?)",
            (
                key,
                request.model,
                _Packed(_encode(request)),
                _encode(msgspec.structs.replace(reply, raw=b"")),
                _Packed(reply.raw),
                cost_nusd,
                time.time(),
            ),
        )

    async def keep_failure(
        self, key: bytes, request: Request, failure: Failure, cost_nusd: int
    ) -> None:
        """Keep a failed attempt with what it may have cost; returns when it is on the disk."""
        await self._write_durably(
            "INSERT INTO failures(key,model,kind,failure,cost_nusd,at) VALUES(?,?,?,?,?,?)",
            (key, request.model, failure.kind, _encode(failure), cost_nusd, time.time()),
        )

    async def keep_observation(self, key: bytes, tool: str, arguments: str, result: str) -> None:
        """Keep what a tool gave; returns when it is on the disk."""
        await self._write_durably(
            "INSERT OR REPLACE INTO observations VALUES(?,?,?,?,?)",
            (key, tool, arguments, result, time.time()),
        )

    def keep_items(self, dataset: str, items: Sequence[Item]) -> None:
        """Keep the items of a dataset in subset order. Does not wait.

        Subsets are nested, so a later, larger subset only adds to an earlier one.
        """
        self._write(
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
        self._write(
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
        self._write(
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
        """Calls and money on record, failures included."""
        rows = self._connection.execute(
            "SELECT model,SUM(is_call),SUM(1-is_call),SUM(cost_nusd),SUM(cost_nusd*unknown) FROM"
            " (SELECT model,1 AS is_call,cost_nusd,0 AS unknown FROM calls UNION ALL"
            " SELECT model,0,cost_nusd,failure ->> '$.maybe_billed' IS 1 FROM failures)"
            " GROUP BY model ORDER BY model"
        ).fetchall()
        calls, failures, spent, uncertain = (sum(row[k] for row in rows) for k in range(1, 5))
        by_name = {name: Spent(*numbers) for name, *numbers in rows}
        return Spent(calls, failures, spent, uncertain, by_name)

    def _write(self, *statements: _Statement, done: asyncio.Future[None] | None = None) -> None:
        if self._writer is None:
            raise RuntimeError("this ledger was opened for reading")
        self._writer.put((statements, done))

    async def _write_durably(self, statement: str, row: _Row) -> None:
        done = asyncio.get_running_loop().create_future()
        self._write((statement, row), done=done)
        await done


@contextmanager
def read(path: Path) -> Iterator[Ledger]:
    """Open an existing ledger for reading, also while a run writes to it.

    Raises LedgerMistake where it is absent, not a ledger, or of another schema version.
    """
    if not path.is_file():
        raise LedgerMistake(
            "there is no ledger here", where=str(path), remedy="run the study first"
        )
    with TemporaryDirectory(prefix="deltascale-") as folder, _current(path, folder) as connection:
        connection.execute("PRAGMA query_only=1")
        yield Ledger(path, connection, None)


@contextmanager
def _current(path: Path, folder: str) -> Iterator[sqlite3.Connection]:
    """The ledger, or a copy of it in the folder that is brought to the current schema."""
    with closing(_connect(path)) as connection:
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
    with closing(_connect(path)) as source, closing(_connect(copy)) as target:
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
    """Open or make a ledger for one run. Leaving the block waits for all that was kept.

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
            _create_or_check(path, connection)
            writer = _Writer(path)
            try:
                yield Ledger(path, connection, writer)
            finally:
                writer.close()
    finally:
        lock.release()


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=30, check_same_thread=False, isolation_level=None)


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


def _is_empty(connection: sqlite3.Connection) -> bool:
    try:
        return connection.execute("SELECT 1 FROM sqlite_master").fetchone() is None
    except sqlite3.DatabaseError:
        return False


def _turn(columns: Sequence[Any]) -> Turn:
    number, outcome, answer, score, others, *rest = columns
    return Turn(number, outcome, answer, score, _others.decode(others), *rest)


def _version(path: Path, connection: sqlite3.Connection) -> int:
    """The ledger's schema: the current one, or an older one that can be migrated.

    Raises LedgerMistake for everything else.
    """
    try:
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        version = connection.execute("PRAGMA user_version").fetchone()[0]
    except sqlite3.DatabaseError as error:
        raise LedgerMistake(
            f"this is not a ledger ({error})", where=str(path), remedy="choose another --out"
        ) from None
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


class _Writer:
    """The one thread that writes. Whatever gathers during a commit goes into the next."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._queue: SimpleQueue[_Write | None] = SimpleQueue()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="ledger-writer", daemon=True)
        self._thread.start()

    def put(self, row: _Write) -> None:
        if self._error is not None:
            raise RuntimeError(f"the ledger can't be written: {self._error}") from self._error
        self._queue.put(row)

    def close(self) -> None:
        self._queue.put(None)
        self._thread.join()
        if self._error is not None:
            raise LedgerMistake(
                f"the ledger can't be written: {self._error}",
                where=str(self._path),
                remedy="make room on the disk and run again: what was kept before is safe",
            )

    def _run(self) -> None:
        with closing(_connect(self._path)) as connection:
            connection.execute("PRAGMA synchronous=FULL")
            closing_down = False
            while not closing_down:
                group, closing_down = self._gather()
                if group:
                    self._commit(connection, group)

    def _gather(self) -> tuple[list[_Write], bool]:
        group: list[_Write] = []
        row = self._queue.get()
        while row is not None:
            group.append(row)
            try:
                row = self._queue.get_nowait()
            except Empty:
                return group, False
        return group, True

    def _commit(self, connection: sqlite3.Connection, group: list[_Write]) -> None:
        error: BaseException | None = None
        try:
            connection.execute("BEGIN IMMEDIATE")
            for statements, _ in group:
                for statement, row in statements:
                    connection.execute(statement, _compress(row))
            connection.execute("COMMIT")
        except sqlite3.Error as failed:
            self._error = error = failed
        _settle([done for _, done in group if done is not None], error)


def _compress(row: _Row) -> _Row:
    return tuple(zlib.compress(c, 1) if type(c) is _Packed else c for c in row)


def _settle(waiting: list[asyncio.Future[None]], error: BaseException | None) -> None:
    """Wake the waiters in their own loops; one call per loop and group."""
    loops: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}
    for done in waiting:
        loops.setdefault(done.get_loop(), []).append(done)
    for loop, futures in loops.items():
        try:
            loop.call_soon_threadsafe(_wake, futures, error)
        except RuntimeError:
            continue  # the loop is closed: nobody waits any more


def _wake(futures: list[asyncio.Future[None]], error: BaseException | None) -> None:
    for done in futures:
        if done.done():
            continue
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(RuntimeError(f"the ledger can't be written: {error}"))
