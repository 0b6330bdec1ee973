"""Laws of the policies: what a call costs, a budget that holds, and all of them together."""

from __future__ import annotations

import asyncio
import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from deltascale.errors import BudgetReached, Interrupted
from deltascale.providers import CallFailed, connect
from deltascale.providers.pace import pace
from deltascale.providers.policies import (
    Budget,
    cost_nusd,
    input_tokens_upper_bound,
    journalled,
    recorded,
    retry,
    timeout,
    within,
    worst_case_nusd,
)
from deltascale.records import (
    Limits,
    Message,
    ModelSpec,
    Price,
    Reply,
    Request,
    Size,
    Tool,
    ToolCall,
    Usage,
    digest,
)
from deltascale.testing import FaultServer, ManualClock
from tests.calls import PRICE, REPLY, Scripted, Shelf, fails, nothing, request, turns

# --- price ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("usage", "nusd"),
    [
        (Usage(0, 0), 0),
        (Usage(1000, 0), 150_000),
        (Usage(1000, 1000), 750_000),
        (Usage(1000, 0, 1000), 75_000),
        (Usage(1000, 500, 400, 500), 90_000 + 30_000 + 300_000),
        (Usage(10, 0, 99), 750),  # more cached than there are: a server's slip
    ],
)
def test_a_call_costs_its_tokens_at_their_prices(usage: Usage, nusd: int) -> None:
    assert cost_nusd(PRICE, usage) == nusd


def test_fractions_of_a_nano_dollar_are_rounded_up() -> None:
    assert cost_nusd(Price(1, 1, 1, "", ""), Usage(1, 0)) == 1
    assert cost_nusd(Price(1, 1, 1, "", ""), Usage(999, 2)) == 2


@given(st.text(), st.integers(1, 4096), st.integers(0, 4096), st.data())
def test_no_usage_within_the_bounds_costs_more_than_the_worst_case(
    text: str, max_tokens: int, n_output: int, data: st.DataObject
) -> None:
    asked = request(text, max_tokens=max_tokens)
    n_input = data.draw(st.integers(0, input_tokens_upper_bound(asked)))
    cached = data.draw(st.integers(0, n_input))
    usage = Usage(n_input, min(n_output, max_tokens), cached)
    dear_cache = Price(150_000, 190_000, 600_000, "test", "2026-01-01")
    for price in (PRICE, dear_cache):
        assert cost_nusd(price, usage) <= worst_case_nusd(price, asked)


def test_everything_that_is_sent_counts_to_the_upper_bound() -> None:
    bare = request("")
    call = ToolCall("call_1", "Calculate", '{"x": "6*7"}')
    tool = Tool("Calculate", "Adds up.", '{"type": "object"}')
    bound = input_tokens_upper_bound(bare)
    grown = [
        request("é" * 50),
        msgspec.structs.replace(bare, messages=(*bare.messages, Message("assistant", "", (call,)))),
        msgspec.structs.replace(bare, tools=(tool,)),
    ]
    assert input_tokens_upper_bound(grown[0]) == bound + 100
    assert input_tokens_upper_bound(grown[1]) >= bound + len("call_1Calculate" + call.arguments)
    assert input_tokens_upper_bound(grown[2]) >= bound + len(tool.schema + tool.description)


# --- budget --------------------------------------------------------------------------------------


ENDS: st.SearchStrategy[Reply | CallFailed] = st.one_of(
    st.builds(
        lambda n_input, n_output: Reply("x", "stop", Usage(n_input, n_output)),
        st.integers(0, 80),
        st.integers(0, 100),
    ),
    st.just(Reply("x", "stop")),
    st.just(fails("timeout", maybe_billed=True)),
    st.just(fails("rate_limited")),
    st.just(fails("transient", usage=Usage(20, 7))),
)


def due_nusd(end: Reply | CallFailed, worst: int) -> int:
    if isinstance(end, Reply):
        return worst if end.usage is None else cost_nusd(PRICE, end.usage)
    if end.failure.maybe_billed:
        return worst
    return 0 if end.failure.usage is None else cost_nusd(PRICE, end.failure.usage)


@given(
    st.lists(st.tuples(st.floats(0, 5), ENDS), min_size=1, max_size=30),
    st.one_of(st.none(), st.integers(0, 30)),
    st.integers(0, 3),
)
@hypothesis_settings(max_examples=60, deadline=None)
def test_a_budget_is_never_passed_and_every_call_is_settled(
    ends: list[tuple[float, Reply | CallFailed]], n_worst_cases: int | None, n_cancelled: int
) -> None:
    worst = worst_case_nusd(PRICE, request())
    limit = None if n_worst_cases is None else n_worst_cases * worst + worst // 3
    clock = ManualClock()
    budget = Budget(limit)
    provider = Scripted(clock, ends)
    seen: list[int] = []

    async def watched(asked: Request) -> Reply:
        seen.append(budget.spent_nusd + budget.reserved_nusd)
        return await provider(asked)

    ask = within(watched, budget=budget, price=PRICE)

    async def study() -> list[Reply | BaseException]:
        tasks = [asyncio.create_task(ask(request(draw=i))) for i in range(len(ends))]
        for task in tasks[len(tasks) - n_cancelled :]:
            await asyncio.sleep(0)
            task.cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    results = asyncio.run(clock.run(study()))
    assert budget.reserved_nusd == 0
    spent = 0
    for (_, end), result in zip(ends, results, strict=True):
        if isinstance(result, CallFailed):
            assert result.cost_nusd == due_nusd(end, worst)
        if isinstance(result, Reply | CallFailed):
            spent += due_nusd(end, worst)
        elif not isinstance(result, BudgetReached):
            assert isinstance(result, asyncio.CancelledError)
    if n_cancelled == 0:
        assert budget.spent_nusd == spent
    if limit is None:
        assert not any(isinstance(result, BudgetReached) for result in results)
    else:
        assert budget.spent_nusd <= limit
        assert all(together <= limit for together in seen)
        if any(isinstance(result, BudgetReached) for result in results):
            assert budget.spent_nusd + worst > limit


async def test_who_waits_for_money_is_served_in_turn() -> None:
    budget = Budget(100)
    await budget.reserve(60)
    order: list[str] = []

    async def wait(name: str, nusd: int) -> None:
        await budget.reserve(nusd)
        order.append(name)

    large = asyncio.create_task(wait("large", 80))
    await asyncio.sleep(0)
    small = asyncio.create_task(wait("small", 10))
    await asyncio.sleep(0)
    assert order == []  # the small one would fit, but not before its turn
    budget.settle(60, 0)
    await asyncio.gather(large, small)
    assert order == ["large", "small"]
    assert budget.reserved_nusd == 90


async def test_a_cancelled_wait_lets_the_next_one_go() -> None:
    budget = Budget(100)
    await budget.reserve(60)
    large = asyncio.create_task(budget.reserve(80))
    await asyncio.sleep(0)
    small = asyncio.create_task(budget.reserve(10))
    await asyncio.sleep(0)
    large.cancel()
    await small
    assert budget.reserved_nusd == 70


async def test_money_granted_to_a_cancelled_wait_comes_back() -> None:
    budget = Budget(100)
    await budget.reserve(60)
    waiting = asyncio.create_task(budget.reserve(80))
    await asyncio.sleep(0)
    budget.settle(60, 0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert budget.reserved_nusd == 0


async def test_a_call_that_can_never_fit_is_told_at_once_and_the_rest_waits() -> None:
    budget = Budget(100, 50)
    with pytest.raises(BudgetReached) as caught:
        await budget.reserve(51)
    assert caught.value.exit_code == 3
    await budget.reserve(50)
    waiting = asyncio.create_task(budget.reserve(10))
    await asyncio.sleep(0)
    assert not waiting.done()
    budget.settle(50, 45)
    with pytest.raises(BudgetReached):
        await waiting


@pytest.mark.parametrize(("end", "n_worst"), [(Interrupted("stopped"), 0), (KeyError("bug"), 1)])
async def test_a_stopped_run_costs_nothing_and_a_bug_its_worst(
    end: Exception, n_worst: int
) -> None:
    async def ends(_: Request) -> Reply:
        raise end

    budget = Budget(None)
    with pytest.raises(type(end)):
        await within(ends, budget=budget, price=PRICE)(request())
    assert budget.spent_nusd == n_worst * worst_case_nusd(PRICE, request())
    assert budget.reserved_nusd == 0


@pytest.mark.parametrize("limit_calls", [3, 25, 1000])
async def test_what_a_server_bills_stays_within_the_budget(limit_calls: int) -> None:
    """Over real connections that drop, with replies as dear as they can be, and retries."""
    worst = worst_case_nusd(PRICE, request("question 00", max_tokens=50))
    budget = Budget(limit_calls * worst)
    async with FaultServer(rate=0.3, max_output=True, slow_s=0.0, wait_s=0.0) as server:
        model = ModelSpec(
            "openai/m", "openai", "m", Size("unknown"), PRICE, base_url=server.base_url
        )
        async with connect(model, environ={}) as bare:
            ask = retry(
                within(bare, budget=budget, price=PRICE),
                attempts=8,
                sleep=lambda _: asyncio.sleep(0),
                rng=random.Random(0),
                on_failure=nothing,
            )
            calls = [ask(request(f"question {i:02}", max_tokens=50)) for i in range(60)]
            results = await asyncio.gather(*calls, return_exceptions=True)
    billed = cost_nusd(PRICE, Usage(server.input_tokens, server.output_tokens))
    assert billed <= budget.spent_nusd <= limit_calls * worst
    assert budget.reserved_nusd == 0
    assert server.met["dropped"] or limit_calls == 3
    reached = any(isinstance(result, BudgetReached) for result in results)
    assert reached == (limit_calls < 60)


# --- journal -------------------------------------------------------------------------------------


class Notebook:
    """A journal in memory: what is noted now, and everything that was done."""

    def __init__(self) -> None:
        self.open: dict[bytes, int] = {}
        self.lost: list[bytes] = []
        self.hold = asyncio.Event()
        self.hold.set()

    async def reserve(self, key: bytes, asked: Request, cost_nusd: int) -> None:
        self.open[key] = cost_nusd
        await self.hold.wait()

    def withdraw(self, key: bytes) -> None:
        del self.open[key]

    def lose(self, key: bytes) -> None:
        self.lost.append(key)
        del self.open[key]


WORST = worst_case_nusd(PRICE, request())
KEY = digest(request())


@pytest.mark.parametrize(
    ("end", "still_open", "lost"),
    [
        (REPLY, {KEY: WORST}, []),  # who keeps the reply removes the note
        (fails("transient"), {KEY: WORST}, []),
        (fails("timeout", maybe_billed=True), {KEY: WORST}, []),
        (Interrupted("stopped"), {}, []),
        (KeyError("a bug"), {}, [KEY]),
        (asyncio.CancelledError(), {}, [KEY]),
    ],
)
async def test_a_call_is_noted_before_it_is_sent_and_no_end_forgets_it(
    end: Reply | BaseException, still_open: dict[bytes, int], lost: list[bytes]
) -> None:
    book = Notebook()

    async def provider(_: Request) -> Reply:
        assert book.open == {KEY: WORST}, "noted before it is sent"
        if isinstance(end, BaseException):
            raise end
        return end

    (result,) = await asyncio.gather(
        journalled(provider, price=PRICE, journal=book)(request()), return_exceptions=True
    )
    assert result is end or isinstance(end, asyncio.CancelledError)
    assert (book.open, book.lost) == (still_open, lost)


async def test_nothing_is_sent_before_its_note_is_safe() -> None:
    book, shelf = Notebook(), Shelf()
    shelf.hold.set()
    book.hold.clear()
    tasks = [
        asyncio.create_task(journalled(shelf.ask, price=PRICE, journal=book)(request(draw=i)))  # type: ignore[arg-type]
        for i in range(2)
    ]
    await turns()
    assert (shelf.asked.total(), len(book.open)) == (0, 2)
    tasks[0].cancel()
    await turns()
    assert (len(book.open), book.lost) == (1, []), "what was never sent is taken back"
    book.hold.set()
    assert await tasks[1] == REPLY


async def test_a_free_call_is_not_noted() -> None:
    book, shelf = Notebook(), Shelf()
    shelf.hold.set()
    free = Price(0, 0, 0, "test", "2026-01-01")
    assert await journalled(shelf.ask, price=free, journal=book)(request()) == REPLY
    assert book.open == {}


# --- all of them, as the engine has them ---------------------------------------------------------


async def test_together_they_deliver_every_reply_once_through_a_bad_server() -> None:
    clock = ManualClock()
    kept: dict[bytes, Reply] = {}
    failures: list[CallFailed] = []
    budget = Budget(None)
    book = Notebook()

    async def store(key: bytes, _: Request, reply: Reply) -> None:
        assert key not in kept
        kept[key] = reply
        del book.open[key]

    async def on_failure(asked: Request, failed: CallFailed) -> None:
        failures.append(failed)
        del book.open[digest(asked)]

    async with FaultServer(rate=0.5, seed=3, slow_s=0.0, wait_s=5.0) as server:
        limits = Limits(connections=16, rpm=6000)
        model = ModelSpec(
            "openai/m", "openai", "m", Size("unknown"), PRICE, server.base_url, limits=limits
        )
        async with connect(model, environ={}) as bare:
            ask = recorded(
                retry(
                    within(
                        journalled(
                            pace(
                                timeout(bare, seconds=30),
                                limits=limits,
                                clock=clock,
                                sleep=clock.sleep,
                            ),
                            price=PRICE,
                            journal=book,
                        ),
                        budget=budget,
                        price=PRICE,
                    ),
                    attempts=20,
                    sleep=clock.sleep,
                    rng=random.Random(0),
                    on_failure=on_failure,
                ),
                lookup=kept.get,
                store=store,
            )

            async def study() -> None:
                await asyncio.gather(*(ask(request(f"question {i % 50}")) for i in range(100)))

            await clock.run(study())
    assert len(kept) == 50
    assert (book.open, book.lost) == ({}, []), "every attempt was noted anew, and settled"
    assert set(server.delivered.values()) == {1}
    assert len(server.delivered) == 50
    assert len(failures) == server.n_requests - 50
    assert set(server.met) >= {"dropped", "truncated", "rate_limited_with_wait"}
    counted = sum(cost_nusd(PRICE, reply.usage) for reply in kept.values() if reply.usage)
    assert budget.spent_nusd == counted + sum(failed.cost_nusd for failed in failures)
