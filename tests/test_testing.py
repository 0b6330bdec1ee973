"""The doubles keep their promises: faults by a schedule, and time that is told."""

from __future__ import annotations

import asyncio
from collections import Counter

import aiohttp
import msgspec
import pytest

from deltascale.testing import FAULTS, Asked, FaultServer, LoopbackServer, ManualClock, Told


def chat(number: int, max_tokens: int = 20) -> bytes:
    body = {
        "model": "m",
        "max_tokens": max_tokens,
        "messages": [{"role": "user", "content": str(number)}],
    }
    return msgspec.json.encode(body)


async def outcomes(
    server: FaultServer, numbers: list[int], concurrency: int
) -> dict[int, list[str]]:
    """What each body met, try by try, asked again until it is answered."""
    met: dict[int, list[str]] = {number: [] for number in numbers}
    free = asyncio.Semaphore(concurrency)

    async def one(session: aiohttp.ClientSession, number: int) -> None:
        async with free:
            while True:
                try:
                    async with session.post(
                        f"{server.base_url}/chat/completions", data=chat(number)
                    ) as response:
                        text = await response.text()
                        met[number].append(
                            f"{response.status} {response.headers.get('Retry-After')}"
                        )
                        if response.status == 200 and text.endswith("}"):
                            msgspec.json.decode(text)
                            return
                except aiohttp.ClientError:
                    met[number].append("dropped")

    async with aiohttp.ClientSession() as session:
        await asyncio.gather(*(one(session, number) for number in numbers))
    return met


async def test_the_faults_are_a_function_of_seed_and_body() -> None:
    numbers = list(range(60))
    found = []
    for order, concurrency in ((1, 1), (-1, 16)):
        async with FaultServer(rate=0.4, seed=7, slow_s=0.0, wait_s=2.0) as server:
            found.append(await outcomes(server, numbers[::order], concurrency))
            met = Counter(server.met)
            assert server.n_requests == sum(map(len, found[-1].values()))
            assert set(server.delivered.values()) == {1}
            assert server.delivered.total() == 60
            assert server.billed.total() == 60 + met["dropped"] + met["truncated"]
    assert found[0] == found[1]
    assert set(met) == set(FAULTS)
    async with FaultServer(rate=0.4, seed=8, slow_s=0.0, wait_s=2.0) as server:
        assert await outcomes(server, numbers, 8) != found[0]


@pytest.mark.parametrize("rate", [0.0, 1.0])
async def test_the_rate_of_faults_is_kept_at_its_ends(rate: float) -> None:
    server = FaultServer(rate=rate, faults=["server_error"])
    drawn = {server.fault(str(number), 0) for number in range(200)}
    assert drawn == ({"server_error"} if rate else {None})


async def test_max_output_bills_all_that_can_be_billed() -> None:
    async with FaultServer(max_output=True) as server, aiohttp.ClientSession() as session:
        async with session.post(f"{server.base_url}/chat/completions", data=chat(123, 77)) as told:
            reply = msgspec.json.decode(await told.read())
        assert reply["usage"]["prompt_tokens"] == len("123")
        assert reply["usage"]["completion_tokens"] == server.output_tokens == 77
        assert reply["choices"][0]["finish_reason"] == "length"


async def test_a_request_in_pieces_and_two_in_one_piece_are_both_understood() -> None:
    asked: list[Asked] = []

    def respond(request: Asked) -> Told:
        asked.append(request)
        return Told(body=request.body, headers={"X-Path": request.path})

    async with LoopbackServer(respond) as server:
        host, port = server.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        whole = b"POST /a HTTP/1.1\r\nHost: x\r\nCONTENT-LENGTH: 5\r\n\r\nhello"
        for start in range(0, len(whole), 7):
            writer.write(whole[start : start + 7])
            await writer.drain()
            await asyncio.sleep(0)
        writer.write(whole.replace(b"/a", b"/b") + b"GET /c HTTP/1.1\r\n\r\n")
        for _ in range(3):
            await reader.readuntil(b"\r\n\r\n")
            if len(asked) < 3 or asked[-1].path != "/c":
                await reader.readexactly(5)
        writer.close()
        await writer.wait_closed()
    assert [(one.method, one.path, one.body) for one in asked] == [
        ("POST", "/a", b"hello"),
        ("POST", "/b", b"hello"),
        ("GET", "/c", b""),
    ]
    assert asked[0].headers["host"] == "x"


async def test_time_moves_to_the_next_sleeper_when_nothing_else_can_run() -> None:
    clock = ManualClock(100.0)
    woken: list[tuple[str, float]] = []

    async def sleeper(name: str, *waits_s: float) -> None:
        for wait_s in waits_s:
            await clock.sleep(wait_s)
            woken.append((name, clock()))

    async def all_of_them() -> str:
        cancelled = asyncio.create_task(sleeper("never", 1e9))
        await asyncio.sleep(0)
        cancelled.cancel()
        await asyncio.gather(sleeper("a", 3, 3), sleeper("b", 5), sleeper("c", 0))
        return "done"

    assert await clock.run(all_of_them()) == "done"
    assert woken == [("c", 100.0), ("a", 103.0), ("b", 105.0), ("a", 106.0)]
    assert clock() == 106.0


async def test_time_can_be_moved_by_hand() -> None:
    clock = ManualClock()
    sleeper = asyncio.create_task(clock.sleep(10))
    await asyncio.sleep(0)
    clock.advance(9)
    await asyncio.sleep(0)
    assert not sleeper.done()
    clock.advance(1)
    await sleeper
    assert clock() == 10


async def test_an_error_inside_a_run_comes_out_of_it() -> None:
    clock = ManualClock()

    async def breaks() -> None:
        await clock.sleep(1)
        raise ValueError("inside")

    with pytest.raises(ValueError, match="inside"):
        await clock.run(breaks())


async def test_a_run_may_wait_for_real_input() -> None:
    clock = ManualClock()

    async def asks(server: LoopbackServer) -> int:
        async with aiohttp.ClientSession() as session, session.get(server.url) as told:
            await told.read()
        await clock.sleep(3600)
        return told.status

    async with LoopbackServer(lambda _: Told(204, b"")) as server:
        assert await clock.run(asks(server)) == 204
    assert clock() == 3600
