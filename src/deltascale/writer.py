"""Writing to a database for many that wait: what gathers while one group is being flushed to the
disk is the next group, so that a run of many connections pays for one flush a group and not a call.

Statements run in the event loop's own thread, where nobody contends for the interpreter with them;
only the flush, which is all waiting, has a thread.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import zlib
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import TypeAlias

from deltascale.errors import LedgerMistake

__all__ = ["Packed", "Row", "Statement", "Writer"]

Row: TypeAlias = tuple[object, ...]
Statement: TypeAlias = tuple[str, Row]
_Write: TypeAlias = tuple[tuple[Statement, ...], "asyncio.Future[None] | None"]
_Group: TypeAlias = list[_Write]


class Packed(bytes):
    """A column that is compressed as it is written: prompts and wire bodies shrink to a third."""


class Writer:
    """A connection that only writes, opened by `connect`. To be used from one thread."""

    def __init__(self, path: Path, connect: Callable[[Path], sqlite3.Connection]) -> None:
        self._path = path
        self._connection = connect(path)
        self._connection.execute("PRAGMA synchronous=FULL")
        self._gathered: _Group = []
        self._written: _Group = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_due = False
        self._idle = threading.Event()
        self._idle.set()
        self._error: Exception | None = None
        self._begun: SimpleQueue[tuple[asyncio.AbstractEventLoop, _Group] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._flushes, name="ledger-flush", daemon=True)
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

    def close(self) -> None:
        """Write all that was put. Raises LedgerMistake where it could not be written."""
        self._begun.put(None)
        self._thread.join()
        if self._connection.in_transaction:  # an interrupt came between its statements
            self._connection.execute("ROLLBACK")
            self._gathered = self._written + self._gathered
        self._execute()
        self._commit()
        self._connection.close()
        if self._error is not None and not isinstance(self._error, sqlite3.Error):
            raise self._error
        if self._error is not None:
            raise LedgerMistake(
                f"the ledger can't be written: {self._error}",
                where=str(self._path),
                remedy="make room on the disk and run again: what was kept before is safe",
            )

    def _put(self, write: _Write) -> None:
        if self._error is not None:
            raise RuntimeError(f"the ledger can't be written: {self._error}") from self._error
        self._gathered.append(write)
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return  # written with the first group of a loop, or at the end
        if loop is not self._loop:
            self._idle.wait()  # nobody would go on after a flush that an earlier loop began
            self._loop, self._is_due = loop, False
        if not self._is_due and self._idle.is_set():
            self._is_due = True
            loop.call_soon(self._begin, loop)

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        """Write what has gathered, all but the flush."""
        self._is_due = False
        if not self._gathered or not self._idle.is_set():
            return
        self._execute()
        if self._error is not None:
            self._settle(self._written)
            return
        self._idle.clear()
        self._begun.put((loop, self._written))

    def _execute(self) -> None:
        self._written, self._gathered = self._gathered, []
        if self._error is not None:
            return
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            for statements, _ in self._written:
                for statement, row in statements:
                    self._connection.execute(statement, _compress(row))
        except (
            Exception
        ) as failed:  # a value that no column holds, too: else all would wait for ever
            self._error = failed

    def _commit(self) -> None:
        if self._error is None:
            try:
                self._connection.execute("COMMIT")
            except sqlite3.Error as failed:
                self._error = failed

    def _flushes(self) -> None:
        """The thread: one flush at a time, until there is no more."""
        while (begun := self._begun.get()) is not None:
            loop, group = begun
            self._commit()
            self._idle.set()
            try:
                loop.call_soon_threadsafe(self._go_on, loop, group)
            except RuntimeError:
                continue  # the loop is closed: nobody waits any more

    def _go_on(self, loop: asyncio.AbstractEventLoop, group: _Group) -> None:
        self._settle(group)
        self._begin(loop)

    def _settle(self, group: _Group) -> None:
        """Wake those who wait for a group that was flushed, or could not be."""
        for _, done in group:
            if done is None or done.done():
                continue
            if self._error is None:
                done.set_result(None)
            else:
                done.set_exception(RuntimeError(f"the ledger can't be written: {self._error}"))


def _compress(row: Row) -> Row:
    return tuple(zlib.compress(c, 1) if type(c) is Packed else c for c in row)
