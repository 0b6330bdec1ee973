"""The durable record: what is kept is there, whole, and only for those who may write."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest
from msgspec.structs import replace

from deltascale import ledger
from deltascale.errors import LedgerMistake
from deltascale.ledger import Spent
from deltascale.records import (
    Cell,
    Failure,
    Item,
    Message,
    Params,
    Question,
    Reply,
    Request,
    Sample,
    ToolCall,
    Turn,
    Usage,
    digest,
)

REQUEST = Request("toy", "openai:http://x/v1", Params(64, 0.7), (Message("user", "Höw? \ud83d"),))
REQUEST = replace(REQUEST, messages=(Message("user", "Höw? 🤖 \x00 end"),))
REPLY = Reply(
    "därüm \u202e\x00",
    "tool_use",
    Usage(10, 5, 3, 2),
    (ToolCall("1", "look", '{"a": 1}'),),
    "toy-2026",
    "fp",
    0.5,
    b"{raw}" * 100,
)
CELL = Cell("openai/toy", "sums", "review", 0.7)
ITEMS = tuple(
    Item(f"i{n}", Question((), ""), "1", cluster=f"c{n // 2}", chance=0.25) for n in range(4)
)


def test_a_reply_comes_back_whole_but_for_its_raw_body(tmp_path: Path) -> None:
    async def scenario() -> None:
        with ledger.write(tmp_path / "ledger.db") as book:
            key = digest(REQUEST)
            assert book.reply(key) is None
            await book.keep_reply(key, REQUEST, REPLY, 123)
            assert book.reply(key) == replace(REPLY, raw=b"")
            assert book.messages(key) == REQUEST.messages
            await book.keep_reply(key, REQUEST, replace(REPLY, text="other"), 999)
            assert book.reply(key) == replace(REPLY, raw=b""), "the first reply stands"
            await book.keep_failure(key, REQUEST, Failure("timeout", "late", maybe_billed=True), 77)
            spent = book.spent()
            assert (spent.n_calls, spent.n_failures) == (1, 1)
            assert (spent.spent_nusd, spent.uncertain_nusd) == (200, 77)
            assert spent.by_name == {"toy": ledger.Spent(1, 1, 200, 77)}
            await book.keep_observation(b"k", "look", "{}", "seen")
            assert book.observation(b"k") == "seen"
            assert book.served() == (("toy", "toy-2026"),)

    asyncio.run(scenario())


def test_money_is_told_apart_by_name_and_what_is_uncertain_is_only_what_may_be_billed(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        with ledger.write(tmp_path / "ledger.db") as book:
            assert book.spent() == ledger.Spent(0, 0, 0, 0)
            other = replace(REQUEST, model="other")
            for draw, (request, cost) in enumerate(((REQUEST, 10), (REQUEST, 20), (other, 4))):
                asked = replace(request, draw=draw)
                await book.keep_reply(digest(asked), asked, REPLY, cost)
            lost = Failure("timeout", "late", maybe_billed=True)
            counted = Failure("filtered", "no", usage=Usage(3, 0))
            await book.keep_failure(b"1", REQUEST, lost, 500)
            await book.keep_failure(b"2", REQUEST, counted, 7)
            gone = replace(REQUEST, model="never answers")
            await book.keep_failure(b"3", gone, lost, 60)
            by_name = {
                "never answers": ledger.Spent(0, 1, 60, 60),
                "other": ledger.Spent(1, 0, 4, 0),
                "toy": ledger.Spent(2, 2, 537, 500),
            }
            assert book.spent() == ledger.Spent(3, 3, 601, 560, by_name)

    asyncio.run(scenario())


def totals(book: ledger.Ledger) -> Spent:
    return replace(book.spent(), by_name={})


def test_a_call_is_open_until_its_reply_or_failure_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    other = replace(REQUEST, draw=1)
    lost = Failure("timeout", "late", maybe_billed=True)

    async def scenario() -> None:
        with ledger.write(path) as book:
            for request in (REQUEST, other):
                await book.reserve(digest(request), request, 100)
            assert totals(book) == Spent(0, 0, 200, 200)
            with ledger.read(path) as reader:
                assert totals(reader) == Spent(0, 0, 200, 200), "also for who looks on"
            await book.keep_reply(digest(REQUEST), REQUEST, REPLY, 30)
            assert totals(book) == Spent(1, 0, 130, 100)
            await book.keep_failure(digest(other), other, lost, 60)
            assert totals(book) == Spent(1, 1, 90, 60)
            await book.reserve(digest(other), other, 100)
            book.withdraw(digest(other))
            await book.reserve(digest(other), other, 7)
            assert totals(book) == Spent(1, 1, 97, 67)
            book.lose(digest(other))
        with ledger.read(path) as book:
            assert totals(book) == Spent(1, 2, 97, 67)
            assert list(book.failed_calls())[1] == (digest(other), ledger.LOST)

    asyncio.run(scenario())


def test_calls_that_a_run_left_open_are_lost_for_the_next(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    key = digest(REQUEST)

    async def scenario() -> None:
        with ledger.write(path) as book:
            await book.reserve(key, REQUEST, 100)
            await book.reserve(key, REQUEST, 11)  # of another lane
        with ledger.read(path) as book:
            assert (totals(book), list(book.failed_calls())) == (Spent(0, 0, 111, 111), [])
        for _ in range(2):
            with ledger.write(path) as book:
                assert totals(book) == Spent(0, 1, 111, 111)
                assert list(book.failed_calls()) == [(key, ledger.LOST)]
        with ledger.write(path) as book:
            await book.keep_reply(key, REQUEST, REPLY, 30)
            assert totals(book) == Spent(1, 1, 141, 111), "a later reply is other money"

    asyncio.run(scenario())
    assert ledger.LOST.maybe_billed


def test_it_can_be_read_while_a_run_writes(tmp_path: Path) -> None:
    async def scenario() -> None:
        with ledger.write(tmp_path / "ledger.db") as book:
            await book.keep_reply(digest(REQUEST), REQUEST, REPLY, 1)
            with ledger.read(tmp_path / "ledger.db") as other:
                assert other.spent().n_calls == 1
                with pytest.raises(RuntimeError, match="for reading"):
                    other.keep_cell(CELL, n_items=1, n_epochs=1, n_turns=2)

    asyncio.run(scenario())


def test_samples_turns_and_plans_come_back_in_order(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    first = Turn(0, "ok", "3", 1.0, {"strict": 0.0}, "ab", 1, 10, 2, 5, 7)
    last = Turn(1, "no_answer", None, 0.0, n_calls=2)
    with ledger.write(path) as book:
        book.keep_items("sums", ITEMS[:2])
        book.keep_cell(CELL, n_items=2, n_epochs=1, n_turns=2)
        book.keep_items("sums", ITEMS)
        book.keep_cell(CELL, n_items=4, n_epochs=1, n_turns=2)
        book.keep_cell(CELL, n_items=3, n_epochs=1, n_turns=2)
        for item in reversed(ITEMS[:3]):
            book.keep_sample(Sample(CELL, item, 0), (first, Turn(1, "failed")))
            book.keep_sample(Sample(CELL, item, 0), (first, last))
    with ledger.read(path) as book:
        (planned,) = book.cells()
        assert planned == ledger.Planned(CELL, 4, 1, 2), "a plan only grows"
        assert book.items("sums") == tuple(
            ledger.Listed(item.id, item.cluster, "", "", 0.25) for item in ITEMS
        )
        found = sorted(book.turns(CELL), key=lambda row: (row[0], row[2].turn))
        assert found == [(n, 0, turn) for n in range(3) for turn in (first, last)]
        status = book.status()
        assert status.by_cell == ((planned, {"no_answer": 3}),)
        assert book.mean_output_tokens("openai/toy", "sums") == pytest.approx(5 / 3)
        assert book.mean_output_tokens("openai/other", "sums") is None


def _not_a_ledger(path: Path) -> None:
    path.write_text("this is a text, and long enough to be looked at as a database file\n" * 20)


def _another_database(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE t(x)")
    connection.commit()
    connection.close()


def _newer(path: Path) -> None:
    with ledger.write(path):
        pass
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version=99")
    connection.close()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_not_a_ledger, "not a ledger"),
        (_another_database, "a database, but not a ledger"),
        (_newer, "has schema 99, this deltascale reads 2"),
    ],
)
def test_what_is_not_ours_is_refused_and_left_alone(
    tmp_path: Path, make: object, message: str
) -> None:
    path = tmp_path / "ledger.db"
    make(path)  # type: ignore[operator]
    before = path.read_bytes()
    for open_it in (ledger.read, ledger.write):
        with pytest.raises(LedgerMistake, match=message) as refused, open_it(path):
            pass
        assert str(path) in str(refused.value)
        assert "\n" not in str(refused.value)
    assert path.read_bytes() == before


def test_a_ledger_that_is_not_there_can_not_be_read(tmp_path: Path) -> None:
    with pytest.raises(LedgerMistake, match="run the study first"), ledger.read(tmp_path / "x.db"):
        pass
    assert not (tmp_path / "x.db").exists()


def test_a_run_killed_while_the_ledger_was_made_leaves_no_ruin(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    path.touch()
    with ledger.write(path) as book:
        assert book.spent().n_calls == 0


def test_a_full_disk_is_a_loud_end_and_not_a_silent_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cramped(path: Path) -> sqlite3.Connection:
        connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count={max(pages, 30)}")
        return connection

    monkeypatch.setattr(ledger, "_connect", cramped)

    async def scenario() -> None:
        with ledger.write(tmp_path / "ledger.db") as book:
            for number in range(100):
                request = replace(REQUEST, draw=number)
                big = replace(REPLY, text=f"{number}" * 5000)
                await book.keep_reply(digest(request), request, big, 1)

    with pytest.raises((RuntimeError, LedgerMistake), match="can't be written"):
        asyncio.run(scenario())
    with ledger.read(tmp_path / "ledger.db") as book:
        assert book.spent().n_calls > 0, "what was kept before is safe"
