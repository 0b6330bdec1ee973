"""Public doubles for tests and plugin authors: loopback servers that fail on purpose, and time.

Nothing here reaches past this machine, and nothing is random: every fault is a function of a seed
and the request.
"""

from __future__ import annotations

import asyncio
import hashlib
import heapq
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Literal, Self, TypeAlias, TypeVar

import msgspec

__all__ = ["FAULTS", "Asked", "Fault", "FaultServer", "LoopbackServer", "ManualClock", "Told"]

_T = TypeVar("_T")

# --- a server that says what it is told to -------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as it came in. `head` is the raw head, from which `headers` are read."""

    method: str
    path: str
    head: bytes
    body: bytes

    @property
    def headers(self) -> dict[str, str]:
        """Names in lower case."""
        lines = self.head.decode("latin-1").split("\r\n")[1:]
        pairs = (line.partition(":") for line in lines if line)
        return {name.strip().lower(): value.strip() for name, _, value in pairs}


@dataclass(frozen=True, slots=True)
class Told:
    """One response. It starts after `delay_s`; `pause_s` is a wait in the middle of the body.

    `sent` is how much of the response leaves before the connection drops, as a share of the body;
    None: all of it, and the connection stays. At 0 not even the head leaves.
    """

    status: int = 200
    body: bytes = b"{}"
    headers: Mapping[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    pause_s: float = 0.0
    sent: float | None = None


class _Connection(asyncio.Protocol):
    def __init__(self, server: LoopbackServer) -> None:
        self._server = server
        self._transport: asyncio.Transport | None = None
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - it is TCP
        self._transport = transport
        self._server.connections.add(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is not None:
            self._server.connections.discard(self._transport)
            self._transport = None

    def data_received(self, data: bytes) -> None:
        self._received = self._received + data if self._received else data
        while True:
            end = self._received.find(b"\r\n\r\n")
            if end < 0:
                return
            head = self._received[:end]
            at = head.lower().find(b"\r\ncontent-length:")
            size = int(head[at + 17 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(self._received) < end + 4 + size:
                return
            body = self._received[end + 4 : end + 4 + size]
            self._received = self._received[end + 4 + size :]
            method, path, _ = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ", 2)
            told = self._server.respond(Asked(method, path, head, body))
            if told.delay_s > 0:
                asyncio.get_running_loop().call_later(told.delay_s, self._send, told)
            else:
                self._send(told)

    def _send(self, told: Told) -> None:
        transport = self._transport
        if transport is None:
            return
        if told.sent is not None and told.sent <= 0:
            transport.abort()
            return
        lines = [
            f"HTTP/1.1 {told.status} {HTTPStatus(told.status).phrase}"
            if told.status in _STATUSES
            else f"HTTP/1.1 {told.status} Unassigned",
            *(f"{name}: {value}" for name, value in told.headers.items()),
            f"content-type: application/json\r\ncontent-length: {len(told.body)}\r\n\r\n",
        ]
        head = "\r\n".join(lines).encode("latin-1")
        if told.sent is not None:
            transport.write(head + told.body[: int(len(told.body) * told.sent)])
            transport.close()
        elif told.pause_s > 0:
            half = len(told.body) // 2
            transport.write(head + told.body[:half])
            asyncio.get_running_loop().call_later(told.pause_s, self._rest, told.body[half:])
        else:
            transport.write(head + told.body)

    def _rest(self, rest: bytes) -> None:
        if self._transport is not None:
            self._transport.write(rest)


_STATUSES = frozenset(int(status) for status in HTTPStatus)


class LoopbackServer:
    """An HTTP/1.1 server on 127.0.0.1 that answers every request with `respond(asked)`.

    Use as `async with LoopbackServer(respond) as server:` and ask `server.url`. Serves some ten
    thousand requests a second on one core, and is deaf to anything but requests with a
    Content-Length.
    """

    def __init__(self, respond: Callable[[Asked], Told]) -> None:
        self.respond = respond
        self.connections: set[asyncio.Transport] = set()
        self.url = ""
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: _Connection(self), "127.0.0.1", 0, backlog=4096
        )
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None  # noqa: S101 - set on entering
        self._server.close()
        for transport in list(self.connections):
            transport.abort()
        await self._server.wait_closed()


# --- a model's server that fails on purpose ------------------------------------------------------

Fault: TypeAlias = Literal[
    "rate_limited", "rate_limited_with_wait", "server_error", "dropped", "truncated", "slow"
]
FAULTS: tuple[Fault, ...] = (
    "rate_limited",
    "rate_limited_with_wait",
    "server_error",
    "dropped",
    "truncated",
    "slow",
)
_LOST = frozenset({"dropped", "truncated"})


def _constant(_body: Mapping[str, object]) -> str:
    return "The answer is 42."


class FaultServer(LoopbackServer):
    """A model's server that fails by a schedule: OpenAI's, Anthropic's and Replicate's dialect.

    `answer(body)` makes the text of a reply from the decoded request. A share `rate` of the
    requests meets one of `faults`; which ones is a function of `seed`, the body and how often that
    body was asked before, so order and concurrency change nothing and a retry may succeed.
    `latency_s` is added to every reply, `slow_s` is the pause inside a slow one, `wait_s` what
    `Retry-After` asks for. `max_output`: every reply uses all its tokens, and every byte of the
    messages counts as one: the dearest reply that is possible. `key`: what must come as key.

    `base_url` is the address for an OpenAI-compatible model, `url` for the others. `delivered` and
    `billed` count replies by the SHA-256 (hex) of the request body: those that arrived, and those
    the model worked for, which a dropped or truncated one is too. `input_tokens` and
    `output_tokens` are the totals billed.
    """

    def __init__(
        self,
        answer: Callable[[Mapping[str, object]], str] = _constant,
        *,
        rate: float = 0.0,
        faults: Sequence[Fault] = FAULTS,
        seed: int = 0,
        latency_s: float = 0.0,
        slow_s: float = 0.05,
        wait_s: float = 1.0,
        max_output: bool = False,
        key: str | None = None,
    ) -> None:
        super().__init__(self._respond)
        self.answer = answer
        self.rate = rate
        self.faults = tuple(faults)
        self.seed = seed
        self.latency_s = latency_s
        self.slow_s = slow_s
        self.wait_s = wait_s
        self.max_output = max_output
        self.key = key
        self.n_requests = 0
        self.delivered: Counter[str] = Counter()
        self.billed: Counter[str] = Counter()
        self.met: Counter[Fault] = Counter()
        self.input_tokens = 0
        self.output_tokens = 0
        self._asked: Counter[str] = Counter()

    @property
    def base_url(self) -> str:
        return f"{self.url}/v1"

    def fault(self, digest: str, n_asked: int) -> Fault | None:
        """What a body of this digest meets when it was asked `n_asked` times before."""
        if self.rate <= 0:
            return None
        drawn = hashlib.sha256(f"{self.seed}:{digest}:{n_asked}".encode()).digest()
        if int.from_bytes(drawn[:8], "big") >= self.rate * 2.0**64:
            return None
        return self.faults[int.from_bytes(drawn[8:12], "big") % len(self.faults)]

    def _respond(self, asked: Asked) -> Told:
        if asked.method == "GET":
            return Told(body=b'{"object":"list","data":[]}')
        self.n_requests += 1
        if self.key is not None and self.key.encode() not in asked.head:
            return _error(401, "invalid_api_key", "that is not the key")
        digest = hashlib.sha256(asked.body).hexdigest()
        fault = self.fault(digest, self._asked[digest])
        self._asked[digest] += 1
        if fault is not None:
            self.met[fault] += 1
            if fault == "rate_limited":
                return _error(429, "rate_limit_exceeded", "slow down")
            if fault == "rate_limited_with_wait":
                wait = {"Retry-After": f"{self.wait_s:g}"}
                return _error(429, "rate_limit_exceeded", "slow down", wait)
            if fault == "server_error":
                return _error(500, "server_error", "something broke")
        body = self._reply(asked)
        self.billed[digest] += 1
        if fault not in _LOST:
            self.delivered[digest] += 1
        if fault == "truncated":
            body = body[: len(body) // 2]
        return Told(
            body=body,
            status=201 if asked.path.endswith("/predictions") else 200,
            delay_s=self.latency_s,
            pause_s=self.slow_s if fault == "slow" else 0.0,
            sent=0.0 if fault == "dropped" else None,
        )

    def _reply(self, asked: Asked) -> bytes:
        body: dict[str, object] = msgspec.json.decode(asked.body)
        settings = body["input"] if isinstance(body.get("input"), dict) else body
        assert isinstance(settings, dict)  # noqa: S101 - JSON objects both
        text = self.answer(body)
        limit = int(settings.get("max_tokens") or settings.get("max_completion_tokens") or 16)
        if self.max_output:
            n_input, n_output = _n_content_bytes(settings), limit
        else:
            n_input, n_output = len(asked.body) // 4, min(limit, len(text) // 4 + 1)
        self.input_tokens += n_input
        self.output_tokens += n_output
        whole = n_output < limit
        if asked.path.endswith("/messages"):
            return _anthropic(body, text, n_input, n_output, whole=whole)
        if asked.path.endswith("/predictions"):
            return _replicate(settings, text, n_input, n_output)
        return _openai(body, text, n_input, n_output, whole=whole)


def _n_content_bytes(settings: Mapping[str, object]) -> int:
    messages = settings.get("messages")
    texts = [settings.get("prompt"), settings.get("system_prompt"), settings.get("system")]
    if isinstance(messages, list):
        texts += [message.get("content") for message in messages if isinstance(message, dict)]
    return sum(
        len(text.encode() if isinstance(text, str) else msgspec.json.encode(text))
        for text in texts
        if text
    )


def _error(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> Told:
    error = {"message": message, "type": code, "param": None, "code": code}
    return Told(status, msgspec.json.encode({"error": error}), headers or {})


def _openai(
    body: Mapping[str, object], text: str, n_input: int, n_output: int, *, whole: bool
) -> bytes:
    return msgspec.json.encode(
        {
            "id": "chatcmpl-0",
            "object": "chat.completion",
            "created": 0,
            "model": body.get("model"),
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": text, "refusal": None},
                    "finish_reason": "stop" if whole else "length",
                }
            ],
            "usage": {
                "prompt_tokens": n_input,
                "completion_tokens": n_output,
                "total_tokens": n_input + n_output,
            },
            "system_fingerprint": "fp_loopback",
        }
    )


def _anthropic(
    body: Mapping[str, object], text: str, n_input: int, n_output: int, *, whole: bool
) -> bytes:
    return msgspec.json.encode(
        {
            "id": "msg_0",
            "type": "message",
            "role": "assistant",
            "model": body.get("model"),
            "content": [{"type": "text", "text": text}],
            "stop_reason": "end_turn" if whole else "max_tokens",
            "stop_sequence": None,
            "usage": {"input_tokens": n_input, "output_tokens": n_output},
        }
    )


def _replicate(settings: Mapping[str, object], text: str, n_input: int, n_output: int) -> bytes:
    return msgspec.json.encode(
        {
            "id": "loopback0",
            "model": "loopback/model",
            "version": "loopback",
            "status": "succeeded",
            "input": settings,
            "output": [text],
            "error": None,
            "metrics": {"input_token_count": n_input, "output_token_count": n_output},
        }
    )


# --- time that passes only when told to ----------------------------------------------------------


class ManualClock:
    """A clock in seconds and a sleep that take no real time.

    `clock()` is the time, `await clock.sleep(s)` waits for it. `await clock.run(coroutine)` runs to
    the end, moving time on to the next sleeper whenever nothing else is ready to run. Input and
    output under way thus take no time.
    """

    def __init__(self, now_s: float = 0.0) -> None:
        self.now_s = now_s
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._n_slept = 0
        self._slept = asyncio.Event()

    def __call__(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        """Wait until the clock has moved on by `seconds`."""
        woken = asyncio.get_running_loop().create_future()
        self._n_slept += 1
        heapq.heappush(self._sleepers, (self.now_s + max(0.0, seconds), self._n_slept, woken))
        self._slept.set()
        await woken

    def advance(self, seconds: float) -> None:
        """Move time on and wake who is due; sleepers run when the caller next awaits."""
        self._move(self.now_s + seconds)

    def _move(self, until_s: float) -> None:
        while self._sleepers and self._sleepers[0][0] <= until_s:
            due_s, _, woken = heapq.heappop(self._sleepers)
            self.now_s = max(self.now_s, due_s)
            if not woken.done():
                woken.set_result(None)
        self.now_s = max(self.now_s, until_s)

    async def run(self, coroutine: Coroutine[object, object, _T]) -> _T:
        """The coroutine's result, with time moved on as needed."""
        task = asyncio.create_task(coroutine)
        try:
            while not task.done():
                await _quiet()
                if task.done():
                    break
                self._sleepers = [place for place in self._sleepers if not place[2].done()]
                heapq.heapify(self._sleepers)
                if self._sleepers:
                    self._move(self._sleepers[0][0])
                else:
                    self._slept.clear()
                    slept = asyncio.create_task(self._slept.wait())
                    await asyncio.wait({task, slept}, return_when=asyncio.FIRST_COMPLETED)
                    slept.cancel()
        finally:
            task.cancel()
        return await task


async def _quiet() -> None:
    """Let everything run that is ready to run."""
    # The loop's own queue says when that is; a loop that hides it is given many turns instead.
    ready = getattr(asyncio.get_running_loop(), "_ready", None)
    for _ in range(100_000 if ready is not None else 200):
        await asyncio.sleep(0)
        if ready is not None and not ready:
            return
