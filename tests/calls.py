"""Calls for tests of the policies: one request, its price, and a provider that ends as told."""

from __future__ import annotations

import asyncio
from collections import Counter

from deltascale.providers import CallFailed
from deltascale.records import (
    Failure,
    FailureKind,
    Params,
    Price,
    Reply,
    Request,
    Usage,
    digest,
    user,
)
from deltascale.testing import ManualClock

PRICE = Price(150_000, 75_000, 600_000, "test", "2026-01-01")
REPLY = Reply("42", "stop", Usage(10, 5))


def request(text: str = "6*7?", *, max_tokens: int = 100, draw: int = 0) -> Request:
    return Request("openai/m", "openai:x", Params(max_tokens, 0.7), (user(text),), draw=draw)


def fails(kind: FailureKind, **more: object) -> CallFailed:
    return CallFailed(Failure(kind, "said so", **more))  # type: ignore[arg-type]


async def nothing(_request: Request, _failed: CallFailed) -> None:
    return None


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


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)
