"""Laws of the policies: equal requests make one call, and what was paid is kept."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from deltascale.providers import CallFailed
from deltascale.providers.policies import recorded
from deltascale.records import Reply, Request, digest
from tests.calls import REPLY, Shelf, fails, request, turns


def shelved() -> tuple[Shelf, Callable[[Request], asyncio.Task[Reply]]]:
    shelf = Shelf()
    ask = recorded(shelf.ask, lookup=shelf.kept.get, store=shelf.store)
    return shelf, lambda asked: asyncio.create_task(ask(asked))  # type: ignore[arg-type]


async def test_equal_requests_at_once_make_one_call_and_other_ones_their_own() -> None:
    shelf, start = shelved()
    tasks = [start(request(draw=i % 3)) for i in range(12)]
    await turns()
    shelf.hold.set()
    assert set(map(id, await asyncio.gather(*tasks))) == {id(REPLY)}
    assert sorted(shelf.asked.values()) == [1, 1, 1]
    await asyncio.gather(*(start(request(draw=i)) for i in range(3)))
    assert sorted(shelf.asked.values()) == [1, 1, 1]  # now from the record


async def test_a_reply_is_given_only_when_it_is_on_record() -> None:
    shelf, start = shelved()
    shelf.hold.set()
    shelf.hold_store.clear()
    task = start(request())
    await turns()
    assert not task.done()
    shelf.hold_store.set()
    await task
    assert shelf.kept == {digest(request()): REPLY}


async def test_a_failure_is_shared_and_the_next_request_asks_again() -> None:
    shelf, start = shelved()
    shelf.end = fails("transient")
    tasks = [start(request()) for _ in range(3)]
    await turns()
    shelf.hold.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [CallFailed] * 3
    assert shelf.asked.total() == 1
    shelf.end = REPLY
    assert await start(request()) == REPLY
    assert shelf.asked.total() == 2


async def test_one_cancelled_waiter_leaves_the_call_to_the_others() -> None:
    shelf, start = shelved()
    first, second = start(request()), start(request())
    await turns()
    first.cancel()
    await turns()
    shelf.hold.set()
    assert await second == REPLY
    assert shelf.cancelled == 0
    assert shelf.asked.total() == 1


async def test_the_last_cancelled_waiter_takes_the_call_along() -> None:
    shelf, start = shelved()
    tasks = [start(request()) for _ in range(3)]
    await turns()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert shelf.cancelled == 1


async def test_who_comes_while_a_cancelled_call_dies_gets_a_new_one() -> None:
    shelf, start = shelved()
    first = start(request())
    await turns()
    first.cancel()
    await asyncio.sleep(0)  # the waiter knows, its call does not yet
    second = start(request())
    await turns()
    shelf.hold.set()
    assert await second == REPLY
    assert shelf.asked.total() == 2


async def test_a_paid_reply_is_stored_even_if_nobody_waits_any_more() -> None:
    shelf, start = shelved()
    shelf.hold.set()
    shelf.hold_store.clear()
    task = start(request())
    await turns()
    task.cancel()
    await turns()
    shelf.hold_store.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert shelf.kept == {digest(request()): REPLY}
