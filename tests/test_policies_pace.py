"""Laws of the policies: patience and pace, with a server that pushes back."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from deltascale.providers import CallFailed
from deltascale.providers.pace import pace
from deltascale.providers.policies import MAX_WAIT_S, retry, timeout
from deltascale.records import RETRYABLE, FailureKind, Limits, Reply, Request, Usage
from deltascale.testing import ManualClock
from tests.calls import REPLY, Scripted, fails, request

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
