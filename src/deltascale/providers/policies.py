"""Policies wrap a caller in a caller: timeout, pace, journal, budget, retry, record.

None of them knows a provider. Clock, sleep and chance come in as arguments. The engine composes
`recorded(retry(within(journalled(pace(timeout(provider))))))`.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeAlias

from deltascale.errors import BudgetReached, Stop
from deltascale.providers import Caller, CallFailed
from deltascale.records import (
    RETRYABLE,
    Failure,
    Price,
    Reply,
    Request,
    Usage,
)

__all__ = [
    "MAX_WAIT_S",
    "Budget",
    "Clock",
    "Journal",
    "Sleep",
    "cost_nusd",
    "input_tokens_upper_bound",
    "journalled",
    "n_bytes",
    "recorded",
    "retry",
    "timeout",
    "within",
    "worst_case_nusd",
]

Clock: TypeAlias = Callable[[], float]
Sleep: TypeAlias = Callable[[float], Awaitable[None]]

MAX_WAIT_S = 600.0
"""The longest a server may make us wait (`Retry-After`) before the call counts as failed."""

# --- price ---------------------------------------------------------------------------------------

# What chat templates add, rounded up from the largest seen: the frame of a message, a template's
# own system prompt and date, and the preamble with which providers explain tools to the model.
_TOKENS_PER_MESSAGE = 16
_TOKENS_PER_REQUEST = 64
_TOKENS_FOR_TOOLS = 1024
_TOKENS_PER_TOOL = 64


def cost_nusd(price: Price, usage: Usage) -> int:
    """What the usage costs, in nano-dollars, rounded up; cached tokens at the cached price."""
    cached = min(usage.cached_input_tokens, usage.input_tokens)
    total = (
        (usage.input_tokens - cached) * price.input_nusd_per_ktok
        + cached * price.cached_input_nusd_per_ktok
        + usage.output_tokens * price.output_nusd_per_ktok
    )
    return -(-total // 1000)


def n_bytes(request: Request) -> int:
    """UTF-8 bytes of all that the model is to read."""
    n = 0
    for message in request.messages:
        n += len(message.content.encode())
        for call in message.tool_calls:
            n += len(call.name.encode()) + len(call.arguments.encode()) + len(call.id.encode())
    for tool in request.tools:
        n += len(tool.name.encode()) + len(tool.description.encode()) + len(tool.schema.encode())
    return n


def input_tokens_upper_bound(request: Request) -> int:
    """No tokenizer in use makes more tokens of this request: a token covers at least one byte."""
    n_tokens = n_bytes(request) + _TOKENS_PER_REQUEST
    n_tokens += _TOKENS_PER_MESSAGE * len(request.messages)
    if request.tools:
        n_tokens += _TOKENS_FOR_TOOLS + _TOKENS_PER_TOOL * len(request.tools)
    return n_tokens


def worst_case_nusd(price: Price, request: Request) -> int:
    """The most the request can cost, in nano-dollars: nothing cached, every output token used."""
    dearest = max(price.input_nusd_per_ktok, price.cached_input_nusd_per_ktok)
    total = (
        input_tokens_upper_bound(request) * dearest
        + request.params.max_tokens * price.output_nusd_per_ktok
    )
    return -(-total // 1000)


# --- timeout -------------------------------------------------------------------------------------


def timeout(ask: Caller, *, seconds: float) -> Caller:
    """Give up on a reply after `seconds`; the call may still be billed."""

    async def timed(request: Request) -> Reply:
        try:
            async with asyncio.timeout(seconds) as scope:
                return await ask(request)
        except TimeoutError:
            if not scope.expired():
                raise
        raise CallFailed(
            Failure("timeout", f"no reply within {seconds:g} s", maybe_billed=True)
        ) from None

    return timed


# --- budget --------------------------------------------------------------------------------------


class Budget:
    """Money reserved before it is spent, in nano-dollars. `limit_nusd` None: no limit.

    `spent_nusd` + `reserved_nusd` never passes the limit, so neither does what is spent.
    """

    def __init__(self, limit_nusd: int | None, spent_nusd: int = 0) -> None:
        self.limit_nusd = limit_nusd
        self.spent_nusd = spent_nusd
        self.reserved_nusd = 0
        self._line: deque[tuple[int, asyncio.Future[None]]] = deque()

    def _fits(self, nusd: int) -> bool:
        """Raises BudgetReached where it would not fit even with nothing else in flight."""
        if self.limit_nusd is None:
            return True
        if self.spent_nusd + nusd > self.limit_nusd:
            raise BudgetReached(
                f"the next call could cost ${nusd / 1e9:.4f} and "
                f"${max(0, self.limit_nusd - self.spent_nusd) / 1e9:.4f} of the budget is left",
                where="budget",
                remedy="raise the budget to go on; everything paid for is on record",
            )
        return self.spent_nusd + self.reserved_nusd + nusd <= self.limit_nusd

    async def reserve(self, nusd: int) -> None:
        """Set the money aside, waiting first come first served until calls in flight settle.

        Raises BudgetReached where waiting can't help.
        """
        if self._fits(nusd) and not self._line:
            self.reserved_nusd += nusd
            return
        place = (nusd, asyncio.get_running_loop().create_future())
        self._line.append(place)
        try:
            await place[1]
        except asyncio.CancelledError:
            if place in self._line:
                self._line.remove(place)
            elif not place[1].cancelled() and place[1].exception() is None:
                self.reserved_nusd -= nusd
            self._serve()
            raise

    def settle(self, reserved_nusd: int, spent_nusd: int) -> None:
        """Give a reservation back and count what was spent of it."""
        self.reserved_nusd -= reserved_nusd
        self.spent_nusd += spent_nusd
        self._serve()

    def _serve(self) -> None:
        while self._line:
            nusd, place = self._line[0]
            if not place.done():
                try:
                    if not self._fits(nusd):
                        return
                    self.reserved_nusd += nusd
                    place.set_result(None)
                except BudgetReached as reached:
                    place.set_exception(reached)
            self._line.popleft()


def within(ask: Caller, *, budget: Budget, price: Price) -> Caller:
    """Reserve a call's worst case before it is made and settle what it cost after.

    A reply without usage, and a call whose fate is unknown, count at their worst case. The cost of
    a failed call is put into its `CallFailed.cost_nusd`. Raises BudgetReached.
    """

    async def paid(request: Request) -> Reply:
        worst = worst_case_nusd(price, request)
        await budget.reserve(worst)
        spent = worst  # stands if the call is cancelled: it was perhaps sent
        try:
            reply = await ask(request)
            if reply.usage is not None:
                spent = cost_nusd(price, reply.usage)
            return reply
        except Stop:
            spent = 0  # the run ended before the call was sent
            raise
        except CallFailed as failed:
            failure = failed.failure
            if failure.maybe_billed:
                spent = worst
            else:
                spent = 0 if failure.usage is None else cost_nusd(price, failure.usage)
            failed.cost_nusd = spent
            raise
        finally:
            budget.settle(worst, spent)

    return paid


# --- journal -------------------------------------------------------------------------------------


class Journal(Protocol):
    """Where calls are noted before they are sent, each under its key, with what it may cost.

    `reserve` returns when the note can't be lost any more. `withdraw` takes it back; `lose` makes
    it a call of unknown fate. Both are done at once, also where nobody may wait.
    """

    async def reserve(self, key: bytes, request: Request, cost_nusd: int) -> None: ...

    def withdraw(self, key: bytes) -> None: ...

    def lose(self, key: bytes) -> None: ...


def journalled(ask: Caller, *, price: Price, journal: Journal) -> Caller:
    """Note what a call may cost before it is sent, so that no end of the run forgets the money.

    Who keeps the reply or the failure removes the note, in the same step. A call that costs
    nothing is not noted.
    """

    async def noted(request: Request) -> Reply:
        worst = worst_case_nusd(price, request)
        if not worst:
            return await ask(request)
        key = request.key
        is_noted = False
        try:
            await journal.reserve(key, request, worst)
            is_noted = True
            return await ask(request)
        except CallFailed:
            raise
        except Stop:
            journal.withdraw(key)  # the run ended before the call was sent
            raise
        except BaseException:
            # Cancelled, or a fault of ours: perhaps it was sent, and nobody will hear of it.
            if is_noted:
                journal.lose(key)
            else:
                journal.withdraw(key)
            raise

    return noted


# --- retry ---------------------------------------------------------------------------------------

_FIRST_WAIT_S = 1.0
_LONGEST_BACKOFF_S = 60.0


def retry(
    ask: Caller,
    *,
    attempts: int,
    sleep: Sleep,
    rng: random.Random,
    on_failure: Callable[[Request, CallFailed], Awaitable[None]],
) -> Caller:
    """Ask again after a failure that may pass, at most `attempts` times in all.

    Waits 1, 2, 4, … 60 s, each times a random share in [0.5, 1], and at least as long as the
    server asked; a wish longer than MAX_WAIT_S ends it. Every failed attempt, the last too, is
    told to `on_failure` before anything else happens.
    """
    if attempts < 1:
        raise ValueError(f"attempts must be at least 1, not {attempts}")

    async def persistent(request: Request) -> Reply:
        backoff_s = _FIRST_WAIT_S
        for left in range(attempts - 1, -1, -1):
            try:
                return await ask(request)
            except CallFailed as failed:
                await on_failure(request, failed)
                asked_s = failed.failure.retry_after_s or 0.0
                if not left or failed.failure.kind not in RETRYABLE or asked_s > MAX_WAIT_S:
                    raise
            jittered_s = backoff_s * rng.uniform(0.5, 1.0)
            # The jitter is kept on top of the server's wish: else all would come back at once.
            await sleep(asked_s + jittered_s if asked_s > 0 else jittered_s)
            backoff_s = min(_LONGEST_BACKOFF_S, backoff_s * 2)
        raise AssertionError("the last attempt returns or raises")

    return persistent


# --- record --------------------------------------------------------------------------------------


class _Flight:
    """A call under way and how many wait for it. `landed`: its reply is there and being stored."""

    __slots__ = ("landed", "n_waiting", "task")

    def __init__(self) -> None:
        self.task: asyncio.Task[Reply] | None = None
        self.n_waiting = 0
        self.landed = False


def recorded(
    ask: Caller,
    *,
    lookup: Callable[[bytes], Reply | None],
    store: Callable[[bytes, Request, Reply], Awaitable[None]],
) -> Caller:
    """Ask only for what is not on record, and put every reply on record before it is given.

    Equal requests at the same time make one call: all get its
    reply or its failure. Cancelling one of them leaves the call to the others; cancelling the last
    cancels the call, unless its reply is already there: a paid reply is stored first.
    """
    flights: dict[bytes, _Flight] = {}

    def leave(key: bytes, flight: _Flight) -> None:
        if flights.get(key) is flight:
            del flights[key]

    async def fly(key: bytes, request: Request, flight: _Flight) -> Reply:
        try:
            reply = await ask(request)
            flight.landed = True
            await store(key, request, reply)
            return reply
        finally:
            leave(key, flight)

    async def known(request: Request) -> Reply:
        key = request.key
        flight = flights.get(key)
        if flight is None:
            reply = lookup(key)
            if reply is not None:
                return reply
            flight = flights[key] = _Flight()
            flight.task = asyncio.create_task(fly(key, request, flight))
        task = flight.task
        assert task is not None  # noqa: S101 - set in the same step that made the flight
        flight.n_waiting += 1
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if not task.done() and flight.n_waiting == 1:
                if not flight.landed:
                    leave(key, flight)  # who asks from now on must not be cancelled with it
                    task.cancel()
                await asyncio.wait({task})
            raise
        finally:
            flight.n_waiting -= 1

    return known
