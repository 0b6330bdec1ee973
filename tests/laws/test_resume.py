"""Stopping anywhere, in any way, and going on gives what an unbroken run gives, bought once."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deltascale import ledger
from deltascale.plan import Plan
from deltascale.records import Params, Reply, Request, digest
from tests import worlds

SMALL = {"n_items": 5, "turns": 3}


def wanted(connections: int = 4) -> Plan:
    return worlds.plan([worlds.model(connections=connections)], **SMALL)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("unbroken") / "ledger.db"
    progress = worlds.run(wanted(), path, call=worlds.reply)
    assert progress.n_calls > 40
    return path


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(after=st.integers(0, 60), at_once=st.booleans())
def test_stopping_after_any_call_and_resuming(
    tmp_path_factory: pytest.TempPathFactory, unbroken: Path, after: int, at_once: bool
) -> None:
    path = tmp_path_factory.mktemp("cut") / "ledger.db"
    bought: Counter[bytes] = Counter()
    kept: set[bytes] = set()

    async def broken_run() -> None:
        stop = asyncio.Event()

        async def call(request: Request) -> Reply:
            bought[digest(request)] += 1
            if sum(bought.values()) > after:
                stop.set()
                if at_once:
                    task.cancel()
            return await worlds.reply(request)

        task = asyncio.ensure_future(worlds.run_async(wanted(), path, call=call, stop=stop))
        await asyncio.wait({task})

    asyncio.run(broken_run())
    connection = sqlite3.connect(path)
    kept.update(key for (key,) in connection.execute("SELECT key FROM calls"))
    connection.close()
    if not at_once:
        assert kept == set(bought), "the first Ctrl-C keeps every call that was in flight"

    async def second(request: Request) -> Reply:
        assert digest(request) not in kept, "what is on record is not asked again"
        return await worlds.reply(request)

    worlds.run(wanted(), path, call=second)
    assert worlds.turns(path) == worlds.turns(unbroken)


@pytest.mark.parametrize("connections", [1, 3, 32])
def test_concurrency_changes_nothing(tmp_path: Path, unbroken: Path, connections: int) -> None:
    path = tmp_path / "ledger.db"
    worlds.run(wanted(connections), path, call=worlds.reply)
    assert worlds.turns(path) == worlds.turns(unbroken)


def test_a_finished_study_asks_nothing(tmp_path: Path, unbroken: Path) -> None:
    path = tmp_path / "ledger.db"
    shutil.copy(unbroken, path)

    async def never(request: Request) -> Reply:
        raise AssertionError("asked")

    progress = worlds.run(wanted(), path, call=never)
    assert progress.n_calls == 0
    assert progress.n_replayed > 40
    assert worlds.turns(path) == worlds.turns(unbroken)


def test_a_larger_study_buys_only_the_difference(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    small = worlds.plan([worlds.model()], n_items=4, names=("review",))
    large = worlds.plan([worlds.model()], n_items=9, names=("review", "resample"))
    first = worlds.run(small, path, call=worlds.reply)
    second = worlds.run(large, path, call=worlds.reply)
    alone = worlds.run(large, tmp_path / "alone.db", call=worlds.reply)
    assert first.n_calls + second.n_calls == alone.n_calls
    assert worlds.turns(path) == worlds.turns(tmp_path / "alone.db")


def test_a_call_that_two_protocols_share_is_bought_once(tmp_path: Path) -> None:
    bought: Counter[bytes] = Counter()

    async def call(request: Request) -> Reply:
        bought[digest(request)] += 1
        await asyncio.sleep(0)
        return await worlds.reply(request)

    worlds.run(wanted(16), tmp_path / "ledger.db", call=call)
    assert set(bought.values()) == {1}


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(cut=st.floats(0, 1))
def test_a_ledger_cut_at_any_byte_keeps_what_was_committed_before(
    tmp_path_factory: pytest.TempPathFactory, cut: float
) -> None:
    folder = tmp_path_factory.mktemp("torn")
    path = folder / "ledger.db"
    wal = Path(f"{path}-wal")
    sizes = []

    async def fill() -> None:
        with ledger.write(path) as book:
            for number in range(12):
                request = Request("toy", "e", Params(16), (), draw=number)
                await book.keep_reply(digest(request), request, Reply(str(number), "stop"), 1)
                sizes.append(wal.stat().st_size)
            shutil.copy(path, folder / "torn.db")
            whole = wal.read_bytes()
            Path(folder / "torn.db-wal").write_bytes(whole[: int(cut * len(whole))])

    asyncio.run(fill())
    n_bytes = int(cut * sizes[-1])
    committed = sum(size <= n_bytes for size in sizes)
    with ledger.read(folder / "torn.db") as torn:
        assert torn.spent().n_calls >= committed
