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

from deltascale.records import (
    Ask,
    Item,
    Message,
    Protocol,
    Question,
    Scorer,
    Seen,
    Step,
    Submit,
    UseTool,
    user,
)

__all__ = [
    "FAULTS",
    "Asked",
    "Fault",
    "FaultServer",
    "LoopbackServer",
    "ManualClock",
    "Told",
    "check_items",
    "check_protocol",
    "check_scorer",
]

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
        assert isinstance(transport, asyncio.Transport)
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
        assert self._server is not None
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
        assert isinstance(settings, dict)
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


# --- what any protocol, scorer or dataset must be ------------------------------------------------

_ODD_TEXTS = (
    "",
    " ",
    "\x00",
    "\u202e<script>",
    "####",
    "Answer:",
    "9" * 5000,
    "\ud83e\udd16\n" * 50,
)


def check_protocol(protocol: Protocol, *, turns: int = 4) -> None:
    """What our own protocols are held to; for a plugin's tests.

    Raises AssertionError, saying which law is broken: the first call is the question as it stands;
    every turn is submitted, unless a verdict or a passing test ends it; the same replies lead to
    the same steps; no placeholder of a prompt is left; only replies that were asked for are used.
    """
    told = "End with a line #### <number>."
    question = Question((user("What is 1 + 1?"),), told, examples="assert f(1) == 2")
    for answers in (("1",), ("1", "2", None), (None,), ("2", "1", "1", "3")):
        first, second = (_steps(protocol, question, turns, answers) for _ in range(2))
        assert first == second, f"{protocol.name}: the same replies led to other steps"
        asks = [step for step in first if isinstance(step, Ask)]
        assert asks, f"{protocol.name}: nothing was asked"
        assert asks[0] == Ask(question.messages), f"{protocol.name}: turn 0 is not the question"
        n_submitted = sum(isinstance(step, Submit) for step in first)
        assert n_submitted == turns, f"{protocol.name}: {n_submitted} of {turns} turns submitted"
        for ask in asks:
            for message in ask.messages:
                assert "{answer_format}" not in message.content, f"{protocol.name}: a placeholder"
                assert message.content, f"{protocol.name}: an empty message"


def _steps(
    protocol: Protocol, question: Question, turns: int, answers: Sequence[str | None]
) -> list[Step]:
    """Every step, with replies that are never right and examples that always fail."""
    steps: list[Step] = []
    n_asked = n_submitted = 0
    exchange = protocol.run(question, turns)
    step = next(exchange, None)
    while step is not None:
        steps.append(step)
        if isinstance(step, Submit):
            n_submitted += 1
            if n_submitted == turns:
                break
            verdict = False if protocol.regime == "verdict" else None
            seen = Seen(step.seen.messages, step.seen.text, step.seen.answer, verdict=verdict)
        elif isinstance(step, UseTool):
            seen = Seen((), "assert f(1) == 2  # failed")
        else:
            answer = answers[n_asked % len(answers)]
            n_asked += 1
            text = f"reply {n_asked}: {answer}"
            seen = Seen((*step.messages, Message("assistant", text)), text, answer)
        try:
            step = exchange.send(seen)
        except StopIteration:
            step = None
    exchange.close()
    return steps


def check_scorer(scorer: Scorer, items: Sequence[Item], gold: Callable[[Item], str]) -> None:
    """What our own scorers are held to. `gold(item)` writes an item's target as a good reply.

    Raises AssertionError: a gold reply must score 1; no text may raise, and the same text must
    always give the same answer; an answer found again in its own text must be the same answer.
    """
    for item in items:
        text = gold(item)
        answer = scorer.extract(item.question, text)
        assert answer is not None, f"{scorer.name}: {item.id}: no answer in its gold reply"
        value = scorer.judge(item, answer, text).value
        assert value == 1.0, f"{scorer.name}: {item.id}: its gold reply scores {value}"
    for item in items[:3]:
        for text in (*_ODD_TEXTS, *(odd + gold(item) for odd in _ODD_TEXTS[:3])):
            found = scorer.extract(item.question, text)
            assert found == scorer.extract(item.question, text), f"{scorer.name}: not pure"
            if found is not None:
                value = scorer.judge(item, found, text).value
                assert 0.0 <= value <= 1.0, f"{scorer.name}: a score of {value}"


def check_items(items: Sequence[Item]) -> None:
    """What the items of our own datasets are held to.

    Raises AssertionError: ids are unique and not empty; a question opens with words for the model
    and says how to answer; a target is there; whatever a protocol may see is free of targets as a
    field of its own.
    """
    assert items, "no items"
    assert len({item.id for item in items}) == len(items), "two items have the same id"
    for item in items:
        question = item.question
        assert item.id, "an item without an id"
        assert item.target, f"{item.id}: no target"
        assert question.messages, f"{item.id}: nothing is asked"
        assert question.messages[-1].role == "user", f"{item.id}: the model would begin"
        assert all(message.content for message in question.messages), f"{item.id}: empty words"
        assert question.answer_format, f"{item.id}: it is not said how to answer"
