"""Laws of the policies: money, pace, patience, and one call for equal requests."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from deltascale.errors import BudgetReached, Interrupted
from deltascale.providers import CallFailed, connect
from deltascale.providers.policies import (
    MAX_WAIT_S,
    Budget,
    cost_nusd,
    input_tokens_upper_bound,
    journalled,
    pace,
    recorded,
    retry,
    timeout,
    within,
    worst_case_nusd,
)
from deltascale.records import (
    RETRYABLE,
    Failure,
    FailureKind,
    Limits,
    Message,
    ModelSpec,
    Params,
    Price,
    Reply,
    Request,
    Size,
    Tool,
    ToolCall,
    Usage,
    digest,
    user,
)
from deltascale.testing import FaultServer, ManualClock

PRICE = Price(150_000, 75_000, 600_000, "test", "2026-01-01")
REPLY = Reply("42", "stop", Usage(10, 5))


def request(text: str = "6*7?", *, max_tokens: int = 100, draw: int = 0) -> Request:
    return Request("openai/m", "openai:x", Params(max_tokens, 0.7), (user(text),), draw=draw)


def fails(kind: FailureKind, **more: object) -> CallFailed:
    return CallFailed(Failure(kind, "said so", **more))  # type: ignore[arg-type]


async def nothing(_request: Request, _failed: CallFailed) -> None:
    return None


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


class Scripted:
    """A provider whose calls end as told, after a while, on a clock that is not real."""

    def __init__(self, clock: ManualClock, ends: list[tuple[float, Reply | CallFailed]]) -> None:
        self.clock = clock
        self.ends = ends
        self.n_in_flight = 0
        self.most_in_flight = 0
        self.started_s: list[float] = []

    async def __call__(self, asked: Request) -> Reply:
        self.started_s.append(self.clock())
        self.n_in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.n_in_flight)
        try:
            lasts_s, end = self.ends[asked.draw % len(self.ends)]
            await self.clock.sleep(lasts_s)
        finally:
            self.n_in_flight -= 1
        if isinstance(end, CallFailed):
            raise CallFailed(end.failure)
        return end


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


# --- timeout -------------------------------------------------------------------------------------


async def test_a_reply_that_does_not_come_is_a_timeout_that_may_be_billed() -> None:
    async def never(_: Request) -> Reply:
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    with pytest.raises(CallFailed) as caught:
        await timeout(never, seconds=0)(request())
    assert (caught.value.failure.kind, caught.value.failure.maybe_billed) == ("timeout", True)


async def test_a_timeout_of_somebody_else_is_not_ours() -> None:
    async def breaks(_: Request) -> Reply:
        raise TimeoutError("a bug")

    with pytest.raises(TimeoutError, match="a bug"):
        await timeout(breaks, seconds=60)(request())


# --- retry ---------------------------------------------------------------------------------------


def persistent(
    ends: list[Reply | CallFailed], *, attempts: int, seed: int = 0
) -> tuple[Callable[[], Reply | CallFailed], list[float], list[FailureKind]]:
    waits_s: list[float] = []
    told: list[FailureKind] = []
    left = list(ends)

    async def provider(_: Request) -> Reply:
        end = left.pop(0)
        if isinstance(end, CallFailed):
            raise end
        return end

    async def on_failure(_: Request, failed: CallFailed) -> None:
        told.append(failed.failure.kind)

    async def sleep(seconds: float) -> None:
        waits_s.append(seconds)

    ask = retry(
        provider, attempts=attempts, sleep=sleep, rng=random.Random(seed), on_failure=on_failure
    )

    def run() -> Reply | CallFailed:
        try:
            return asyncio.run(ask(request()))  # type: ignore[arg-type]
        except CallFailed as failed:
            return failed

    return run, waits_s, told


@given(
    st.lists(st.sampled_from(sorted(FailureKind.__args__)), max_size=8),  # type: ignore[attr-defined]
    st.integers(1, 6),
)
@hypothesis_settings(max_examples=80, deadline=None)
def test_only_what_may_pass_is_asked_again_and_not_for_ever(
    kinds: list[FailureKind], attempts: int
) -> None:
    run, waits_s, told = persistent([*(fails(kind) for kind in kinds), REPLY], attempts=attempts)
    tried = kinds[:attempts]
    lasting = [i for i, kind in enumerate(tried) if kind not in RETRYABLE]
    n_failed = lasting[0] + 1 if lasting else len(tried)
    result = run()
    assert told == kinds[:n_failed]
    if lasting or len(kinds) >= attempts:
        assert isinstance(result, CallFailed)
        assert result.failure.kind == kinds[n_failed - 1]
        assert len(waits_s) == n_failed - 1
    else:
        assert result == REPLY
        assert len(waits_s) == n_failed


def test_the_waits_grow_within_their_bounds_and_differ_by_chance() -> None:
    ends: list[Reply | CallFailed] = [fails("transient") for _ in range(9)]
    waits = []
    for seed in (1, 2):
        run, waits_s, _ = persistent(ends, attempts=9, seed=seed)
        run()
        waits.append(waits_s)
        for n, wait_s in enumerate(waits_s):
            whole_s = min(60.0, 2.0**n)
            assert whole_s / 2 <= wait_s <= whole_s
    assert waits[0] != waits[1]


def test_retry_after_is_waited_for_and_an_absurd_one_ends_it() -> None:
    run, waits_s, _ = persistent([fails("rate_limited", retry_after_s=30.0), REPLY], attempts=3)
    assert run() == REPLY
    assert 30.0 <= waits_s[0] <= 31.0
    run, waits_s, told = persistent(
        [fails("rate_limited", retry_after_s=MAX_WAIT_S + 1), REPLY], attempts=3
    )
    assert isinstance(run(), CallFailed)
    assert (waits_s, told) == ([], ["rate_limited"])


# --- pace ----------------------------------------------------------------------------------------


def most_in_a_minute(started_s: list[float], sizes: list[int] | None = None) -> int:
    started_s = sorted(started_s)
    sizes = sizes or [1] * len(started_s)
    most = total = first = 0
    for last, at in enumerate(started_s):
        total += sizes[last]
        while at - started_s[first] >= 60:
            total -= sizes[first]
            first += 1
        most = max(most, total)
    return most


@given(
    st.integers(1, 300),
    st.integers(1, 400),
    st.integers(1, 50),
    st.lists(st.floats(0, 90), min_size=1, max_size=8),
    st.floats(0, 1e6),
)
@hypothesis_settings(max_examples=40, deadline=None)
def test_no_minute_holds_more_calls_than_the_limit(
    rpm: int, n_calls: int, connections: int, lasts_s: list[float], now_s: float
) -> None:
    clock = ManualClock(now_s)
    n_calls = min(n_calls, 4 * rpm)
    provider = Scripted(clock, [(s, REPLY) for s in lasts_s])
    ask = pace(
        provider,
        limits=Limits(connections=connections, rpm=rpm),
        clock=clock,
        sleep=clock.sleep,
    )

    async def study() -> None:
        await asyncio.gather(*(ask(request(draw=i)) for i in range(n_calls)))

    asyncio.run(clock.run(study()))
    assert len(provider.started_s) == n_calls
    assert most_in_a_minute(provider.started_s) <= rpm
    assert provider.most_in_flight <= connections
    assert provider.started_s == sorted(provider.started_s)


def test_the_limit_is_used_nearly_whole() -> None:
    clock = ManualClock()
    provider = Scripted(clock, [(1.0, REPLY)])
    ask = pace(provider, limits=Limits(connections=64, rpm=120), clock=clock, sleep=clock.sleep)

    async def study() -> None:
        await asyncio.gather(*(ask(request(draw=i)) for i in range(1200)))

    asyncio.run(clock.run(study()))
    assert clock() / 60 <= 10 / 0.9


@given(st.integers(2_000, 50_000), st.integers(0, 120), st.integers(0, 100), st.floats(0, 70))
@hypothesis_settings(max_examples=25, deadline=None)
def test_no_minute_holds_more_tokens_than_the_limit(
    tpm: int, n_input: int, n_output: int, lasts_s: float
) -> None:
    clock = ManualClock()
    reply = Reply("x", "stop", Usage(n_input, n_output))
    provider = Scripted(clock, [(lasts_s, reply)])
    ask = pace(provider, limits=Limits(connections=50, tpm=tpm), clock=clock, sleep=clock.sleep)
    n_calls = min(400, max(20, 3 * tpm // max(1, n_input + n_output)))
    question = "q" * 360  # some 120 tokens

    async def study() -> None:
        await asyncio.gather(*(ask(request(question, draw=i)) for i in range(n_calls)))

    asyncio.run(clock.run(study()))
    sizes = [n_input + n_output] * len(provider.started_s)
    assert most_in_a_minute(provider.started_s, sizes) <= tpm


async def test_tokens_not_used_are_given_back() -> None:
    """With the output limit never used up, the pace is that of the tokens really used."""
    clock = ManualClock()
    provider = Scripted(clock, [(1.0, Reply("x", "stop", Usage(10, 10)))])
    ask = pace(provider, limits=Limits(connections=50, tpm=20_000), clock=clock, sleep=clock.sleep)

    async def study() -> None:
        calls = (ask(request(draw=i, max_tokens=1000)) for i in range(1000))
        await asyncio.gather(*calls)

    await clock.run(study())
    assert clock() < 5 * 60  # one million tokens reserved would be fifty minutes


async def test_a_call_longer_than_a_minute_gives_nothing_back_twice() -> None:
    clock = ManualClock()
    provider = Scripted(clock, [(61.0, Reply("x", "stop", Usage(10, 10)))])
    ask = pace(provider, limits=Limits(connections=50, tpm=2_100), clock=clock, sleep=clock.sleep)

    async def study() -> None:
        await asyncio.gather(*(ask(request(draw=i, max_tokens=1000)) for i in range(12)))

    await clock.run(study())
    assert most_in_a_minute(provider.started_s) == 2  # two reservations fit a minute


class Congested:
    """A server that bears so many calls at once and pushes every other one back."""

    def __init__(self, clock: ManualClock, bears: int, wait_s: float | None = None) -> None:
        self.clock = clock
        self.bears = bears
        self.wait_s = wait_s
        self.n_in_flight = 0
        self.history: list[tuple[float, int]] = []
        self.n_pushed_back = 0

    async def __call__(self, _: Request) -> Reply:
        self.n_in_flight += 1
        self.history.append((self.clock(), self.n_in_flight))
        pushed_back = self.n_in_flight > self.bears
        try:
            await self.clock.sleep(1.0)
        finally:
            self.n_in_flight -= 1
        if pushed_back:
            self.n_pushed_back += 1
            raise fails("rate_limited", retry_after_s=self.wait_s, http_status=429)
        return REPLY


async def flood(ask: Callable[[Request], object], clock: ManualClock, n_calls: int) -> None:
    async def study() -> None:
        await asyncio.gather(
            *(ask(request(draw=i)) for i in range(n_calls)),  # type: ignore[arg-type]
            return_exceptions=True,
        )

    await clock.run(study())


async def test_calls_in_flight_fall_to_what_the_server_bears_and_come_back() -> None:
    clock = ManualClock()
    server = Congested(clock, bears=10)
    ask = pace(server, limits=Limits(connections=64), clock=clock, sleep=clock.sleep)
    await flood(ask, clock, 1500)
    later = [n for at, n in server.history if at > 20]
    assert max(later) <= 2 * server.bears
    assert server.n_pushed_back < 200  # nearly all of them from the first volley
    server.bears = 1000
    mark = clock()
    await flood(ask, clock, 6000)
    assert max(n for at, n in server.history if at > mark) == 64


async def test_a_volley_of_push_backs_halves_once() -> None:
    clock = ManualClock()
    server = Congested(clock, bears=0)
    ask = pace(server, limits=Limits(connections=64), clock=clock, sleep=clock.sleep)
    await flood(ask, clock, 64)
    server.bears = 1000
    before = len(server.history)
    await flood(ask, clock, 200)
    assert max(n for _, n in server.history[before : before + 33]) == 32


async def test_retry_after_holds_every_call_of_the_model() -> None:
    clock = ManualClock()
    server = Congested(clock, bears=1, wait_s=40.0)
    ask = pace(server, limits=Limits(connections=4), clock=clock, sleep=clock.sleep)
    await flood(ask, clock, 8)
    times = sorted(at for at, _ in server.history)
    assert times[:4] == [0.0] * 4
    assert times[4] >= 41.0  # told after one second to wait forty


async def test_a_failure_that_is_no_push_back_slows_nothing() -> None:
    clock = ManualClock()
    provider = Scripted(clock, [(1.0, fails("bad_request", http_status=400))])
    ask = pace(provider, limits=Limits(connections=32), clock=clock, sleep=clock.sleep)
    await flood(ask, clock, 64)
    assert clock() == 2.0


async def test_a_cancelled_wait_in_the_line_holds_nobody_up() -> None:
    clock = ManualClock()
    provider = Scripted(clock, [(5.0, REPLY)])
    ask = pace(provider, limits=Limits(connections=1, rpm=60), clock=clock, sleep=clock.sleep)

    async def study() -> None:
        tasks = [asyncio.create_task(ask(request(draw=i))) for i in range(6)]  # type: ignore[arg-type]
        await clock.sleep(1.5)
        for task in tasks[:3]:  # one in flight, the head of the line, and one behind it
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    await clock.run(study())
    assert len(provider.started_s) == 4
    assert provider.most_in_flight == 1


# --- record --------------------------------------------------------------------------------------


class Shelf:
    """A record in memory, and a provider behind it that can be held."""

    def __init__(self) -> None:
        self.kept: dict[bytes, Reply] = {}
        self.asked: Counter[bytes] = Counter()
        self.cancelled = 0
        self.hold: asyncio.Event = asyncio.Event()
        self.hold_store: asyncio.Event = asyncio.Event()
        self.hold_store.set()
        self.end: Reply | CallFailed = REPLY

    async def ask(self, asked: Request) -> Reply:
        self.asked[digest(asked)] += 1
        try:
            await self.hold.wait()
        except asyncio.CancelledError:
            await turns()  # as a provider that takes back what it has asked for
            self.cancelled += 1
            raise
        if isinstance(self.end, CallFailed):
            raise self.end
        return self.end

    async def store(self, key: bytes, asked: Request, reply: Reply) -> None:
        assert key == digest(asked)
        await self.hold_store.wait()
        self.kept[key] = reply


def shelved() -> tuple[Shelf, Callable[[Request], asyncio.Task[Reply]]]:
    shelf = Shelf()
    ask = recorded(shelf.ask, lookup=shelf.kept.get, store=shelf.store)
    return shelf, lambda asked: asyncio.create_task(ask(asked))  # type: ignore[arg-type]


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


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
