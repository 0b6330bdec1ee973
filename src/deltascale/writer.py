"""One thread that writes to a database, for many that wait: it commits whatever has gathered while
the last commit was under way, so that a run of many connections pays for one flush per group and
not per call.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import zlib
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TypeAlias

from deltascale.errors import LedgerMistake

__all__ = ["Packed", "Row", "Statement", "Writer"]

Row: TypeAlias = tuple[object, ...]
Statement: TypeAlias = tuple[str, Row]
_Write: TypeAlias = tuple[tuple[Statement, ...], "asyncio.Future[None] | None"]


class Packed(bytes):
    """A column that the writer's thread compresses: prompts and wire bodies shrink to a third."""


class Writer:
    """The thread. `connect` opens the database at `path`, once, in that thread."""

    def __init__(self, path: Path, connect: Callable[[Path], sqlite3.Connection]) -> None:
        self._path = path
        self._connect = connect
        self._queue: SimpleQueue[_Write | None] = SimpleQueue()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="ledger-writer", daemon=True)
        self._thread.start()

    def put(self, *statements: Statement) -> None:
        """Have the statements written, in one transaction and in the order of coming. Does not
        wait. Raises RuntimeError where something could not be written before."""
        self._put((statements, None))

    async def put_durably(self, *statements: Statement) -> None:
        """`put`, and wait until it is on the disk. Who is cancelled meanwhile takes nothing back:
        it is written all the same."""
        done = asyncio.get_running_loop().create_future()
        self._put((statements, done))
        await done

    def _put(self, row: _Write) -> None:
        if self._error is not None:
            raise RuntimeError(f"the ledger can't be written: {self._error}") from self._error
        self._queue.put(row)

    def close(self) -> None:
        """Wait for all that was put. Raises LedgerMistake where it could not be written."""
        self._queue.put(None)
        self._thread.join()
        if self._error is not None:
            raise LedgerMistake(
                f"the ledger can't be written: {self._error}",
                where=str(self._path),
                remedy="make room on the disk and run again: what was kept before is safe",
            )

    def _run(self) -> None:
        with closing(self._connect(self._path)) as connection:
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


def _compress(row: Row) -> Row:
    return tuple(zlib.compress(c, 1) if type(c) is Packed else c for c in row)


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
