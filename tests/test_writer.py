"""What was put is written: in groups, in order, whatever becomes of the loop that waits for it."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from deltascale.errors import LedgerMistake
from deltascale.writer import Packed, Writer

ADD = "INSERT INTO rows VALUES(?)"


class Disk(sqlite3.Connection):
    """Counts its flushes, and holds them up while it is told to."""

    n_flushes = 0
    goes_on = threading.Event()

    def execute(self, statement: str, *row: object) -> sqlite3.Cursor:  # type: ignore[override]
        if statement == "COMMIT":
            type(self).n_flushes += 1
            self.goes_on.wait()
        return super().execute(statement, *row)  # type: ignore[arg-type]


def connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False, factory=Disk)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "rows.db"
    with closing(sqlite3.connect(made)) as connection:
        connection.execute("CREATE TABLE rows(n NOT NULL)")
    Disk.n_flushes = 0
    Disk.goes_on.set()
    return made


def written(path: Path) -> list[object]:
    with closing(sqlite3.connect(path)) as connection:
        return [n for (n,) in connection.execute("SELECT n FROM rows ORDER BY rowid")]


def test_what_gathers_during_a_flush_is_one_group(path: Path) -> None:
    writer = Writer(path, connect)

    async def keep(n: int) -> None:
        for k in range(5):
            await writer.put_durably((ADD, (10 * n + k,)))
            assert 10 * n + k in written(path), "it was said to be on the disk"

    async def everybody() -> None:
        await asyncio.gather(*map(keep, range(40)))

    asyncio.run(everybody())
    n_flushes = Disk.n_flushes
    writer.close()
    assert len(written(path)) == 200
    assert n_flushes <= 20
    for n in range(40):
        mine = [row for row in written(path) if row // 10 == n]  # type: ignore[operator]
        assert mine == sorted(mine)  # type: ignore[type-var]


def test_it_outlives_its_loops(path: Path) -> None:
    """Put before there is a loop, in one that ends while it flushes, in another, and after."""
    writer = Writer(path, connect)
    writer.put((ADD, (0,)))

    async def leave() -> None:
        waits = asyncio.create_task(writer.put_durably((ADD, (1,))))
        Disk.goes_on.clear()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        writer.put((ADD, (2,)))
        waits.cancel()
        threading.Timer(0.02, Disk.goes_on.set).start()

    async def stay() -> None:
        await writer.put_durably((ADD, (3,)))
        assert written(path) == [0, 1, 2, 3]

    asyncio.run(leave())
    asyncio.run(stay())
    writer.put((ADD, (4,)))
    writer.close()
    assert written(path) == [0, 1, 2, 3, 4]


class Interrupting:
    """A value that is interrupted the first time that it is written."""

    def __init__(self) -> None:
        self.times = 0

    def __conform__(self, _: object) -> int:
        self.times += 1
        if self.times == 1:
            raise KeyboardInterrupt
        return 2


def test_an_interrupt_between_its_statements_loses_nothing(path: Path) -> None:
    writer = Writer(path, connect)

    async def interrupted() -> None:
        await writer.put_durably((ADD, (1,)), (ADD, (Interrupting(),)), (ADD, (3,)))

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(interrupted())
    writer.close()
    assert written(path) == [1, 2, 3]


def test_a_group_that_can_not_be_written_is_told_to_all_of_it(path: Path) -> None:
    writer = Writer(path, connect)

    async def keep() -> list[BaseException | None]:
        waiting = [writer.put_durably((ADD, (n,))) for n in (1, None, 3)]
        return await asyncio.gather(*waiting, return_exceptions=True)

    told = asyncio.run(keep())
    assert all(isinstance(one, RuntimeError) for one in told)
    with pytest.raises(RuntimeError, match="can't be written"):
        writer.put((ADD, (4,)))
    with pytest.raises(LedgerMistake, match="can't be written"):
        writer.close()
    assert written(path) == []


def test_a_value_that_no_column_holds_is_a_loud_end_and_no_wait(path: Path) -> None:
    writer = Writer(path, connect)

    async def keep() -> list[BaseException | None]:
        waiting = [writer.put_durably((ADD, (n,))) for n in (1, 2**70)]
        return await asyncio.gather(*waiting, return_exceptions=True)

    assert all(isinstance(one, RuntimeError) for one in asyncio.run(keep()))
    with pytest.raises(OverflowError):
        writer.close()


def test_packed_columns_shrink(path: Path) -> None:
    writer = Writer(path, connect)
    writer.put((ADD, (Packed(b"again " * 100),)))
    writer.close()
    (row,) = written(path)
    assert isinstance(row, bytes)
    assert len(row) < 50
