"""Pace: no more calls of a model than its limits allow and its server shows it can bear.

Clock and sleep come in as arguments, in seconds.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import NamedTuple

from deltascale.errors import Stop
from deltascale.providers import Caller, CallFailed
from deltascale.providers.policies import MAX_WAIT_S, Clock, Sleep, n_bytes
from deltascale.records import Failure, Limits, Reply, Request

__all__ = ["pace"]

# Share of a minute's calls that may start at once; the rest flows evenly, so that no minute,
# wherever it starts, holds more than the limit.
_BURST = 0.05
_RECHECK_S = 1.0
_LEAST_WAIT_S = 1e-3
_MINUTE_S = 60.001  # so that rounding can't make it less than a minute
_PUSHED_BACK = frozenset({503, 529})


class _Bucket:
    """Calls per minute, as a token bucket."""

    def __init__(self, rpm: int, clock: Clock) -> None:
        burst = int(rpm * _BURST)
        self._capacity = 1.0 + burst
        # One part in a million slower, so that rounding can't squeeze one more into a minute.
        self._per_s = (rpm - burst) / 60 * (1 - 1e-6)
        self._clock = clock
        self._level = self._capacity
        self._at = clock()

    def wait_s(self) -> float:
        now = self._clock()
        self._level = min(self._capacity, self._level + (now - self._at) * self._per_s)
        self._at = now
        return (1 - self._level) / self._per_s

    def take(self) -> None:
        self._level -= 1


class _Charge:
    """Tokens that one call takes of a minute, as far as is known."""

    __slots__ = ("n_tokens", "started_s")

    def __init__(self, started_s: float, n_tokens: int) -> None:
        self.started_s = started_s
        self.n_tokens = n_tokens


class _Minute:
    """Tokens of the calls that started in the last sixty seconds.

    Not a bucket: what calls in flight reserve and do not use must not slow the calls after them.
    """

    def __init__(self, tpm: int, clock: Clock) -> None:
        self._limit = tpm
        self._clock = clock
        self._charges: deque[_Charge] = deque()
        self._n_tokens = 0

    def wait_s(self, n_tokens: int) -> float:
        now = self._clock()
        while self._charges and self._charges[0].started_s + _MINUTE_S <= now:
            self._n_tokens -= self._charges.popleft().n_tokens
        left = self._n_tokens
        wait_s = 0.0
        for charge in self._charges:
            if left + n_tokens <= self._limit:
                break
            left -= charge.n_tokens
            wait_s = charge.started_s + _MINUTE_S - now
        return wait_s

    def take(self, n_tokens: int) -> _Charge:
        charge = _Charge(self._clock(), n_tokens)
        self._charges.append(charge)
        self._n_tokens += n_tokens
        return charge

    def correct(self, charge: _Charge, n_tokens: int) -> None:
        if self._charges and charge.started_s >= self._charges[0].started_s:
            self._n_tokens += n_tokens - charge.n_tokens
        charge.n_tokens = n_tokens


class _Entry(NamedTuple):
    """A call that was let through: its number, and the tokens it takes of a minute."""

    number: int
    charge: _Charge | None


class _Gate:
    """Lets calls of one model through, first come first served, at the pace its limits allow.

    The window (calls in flight) is additive increase, multiplicative decrease: a push-back halves
    it, once for all the calls that were in flight together, and every reply adds 1/window.
    """

    def __init__(self, limits: Limits, *, clock: Clock, sleep: Sleep) -> None:
        self._connections = max(1, limits.connections)
        self._clock = clock
        self._sleep = sleep
        self._window = float(self._connections)
        self._n_in_flight = 0
        self._n_entered = 0
        self._cut_at = 0
        self._held_until = float("-inf")
        self._line: deque[tuple[int, asyncio.Future[_Entry]]] = deque()
        self._timer: asyncio.Task[None] | None = None
        self._is_called = False
        self._requests = None if limits.rpm is None else _Bucket(limits.rpm, clock)
        self._tokens = None if limits.tpm is None else _Minute(limits.tpm, clock)

    async def enter(self, n_tokens: int) -> _Entry:
        """Wait for a place. It is given back with `leave`."""
        place: asyncio.Future[_Entry] = asyncio.get_running_loop().create_future()
        self._line.append((n_tokens, place))
        self._serve()
        try:
            return await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled() and place.exception() is None:
                self._n_in_flight -= 1
            self._serve()
            raise

    def _serve(self) -> None:
        """Let in everybody who may enter now: a turn of the loop for each would be the limit."""
        self._is_called = False
        while self._line and self._n_in_flight < int(self._window):
            n_tokens, place = self._line[0]
            if not place.done():
                wait_s = self._wait_s(n_tokens)
                if wait_s > 0:
                    if self._timer is None:
                        self._timer = asyncio.create_task(self._serve_after(wait_s))
                    return
                place.set_result(self._entry(n_tokens))
            self._line.popleft()
        if self._timer is not None and not self._line:
            self._timer.cancel()
            self._timer = None

    async def _serve_after(self, wait_s: float) -> None:
        # Not the whole wait at once, because corrections may make it shorter, and not so little
        # that a clock's rounding could swallow it.
        try:
            await self._sleep(min(max(wait_s, _LEAST_WAIT_S), _RECHECK_S))
        except Stop as stop:
            self._timer = None
            while self._line:
                _, place = self._line.popleft()
                if not place.done():
                    place.set_exception(stop)
            return
        self._timer = None
        self._serve()

    def _entry(self, n_tokens: int) -> _Entry:
        if self._requests is not None:
            self._requests.take()
        self._n_in_flight += 1
        self._n_entered += 1
        charge = None if self._tokens is None else self._tokens.take(n_tokens)
        return _Entry(self._n_entered, charge)

    def _wait_s(self, n_tokens: int) -> float:
        wait_s = self._held_until - self._clock()
        if self._requests is not None:
            wait_s = max(wait_s, self._requests.wait_s())
        if self._tokens is not None:
            wait_s = max(wait_s, self._tokens.wait_s(n_tokens))
        return wait_s

    def replied(self, reply: Reply, charge: _Charge | None) -> None:
        if self._window < self._connections:
            self._window = min(self._connections, self._window + 1 / self._window)
        if self._tokens is not None and charge is not None and reply.usage is not None:
            self._tokens.correct(charge, reply.usage.input_tokens + reply.usage.output_tokens)

    def failed(self, failure: Failure, number: int) -> None:
        pushed_back = failure.kind == "rate_limited" or failure.http_status in _PUSHED_BACK
        if not pushed_back:
            return
        if failure.retry_after_s is not None:
            held = self._clock() + min(failure.retry_after_s, MAX_WAIT_S)
            self._held_until = max(self._held_until, held)
        if number > self._cut_at:
            self._window = max(1.0, min(self._window, self._n_in_flight) / 2)
            self._cut_at = self._n_entered

    def leave(self) -> None:
        self._n_in_flight -= 1
        if self._line and not self._is_called:
            # After all that came in together: one of them may say that the others must wait.
            self._is_called = True
            asyncio.get_running_loop().call_soon(self._serve)


def _expected_tokens(request: Request) -> int:
    # About three bytes a token: providers reserve by a guess of this sort too.
    return n_bytes(request) // 3 + 8 * len(request.messages) + request.params.max_tokens


def pace(ask: Caller, *, limits: Limits, clock: Clock, sleep: Sleep) -> Caller:
    """Keep to a model's limits, and to what its server shows it can bear.

    Never more than `limits.rpm` calls start in any 60 s, nor calls of more than `limits.tpm`
    tokens: expected input plus the whole output limit, corrected when the reply tells. At most
    `limits.connections` calls are in flight; a push-back (429, 503, 529) halves that, success
    brings it back one by one. `Retry-After` holds all of the model's calls.
    `clock` and `sleep` are in seconds.
    """
    gate = _Gate(limits, clock=clock, sleep=sleep)

    async def paced(request: Request) -> Reply:
        n_tokens = 0 if limits.tpm is None else _expected_tokens(request)
        number, charge = await gate.enter(n_tokens)
        try:
            reply = await ask(request)
            gate.replied(reply, charge)
            return reply
        except CallFailed as failed:
            gate.failed(failed.failure, number)
            raise
        finally:
            gate.leave()

    return paced
