"""Anthropic's messages."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from time import perf_counter

import msgspec

from deltascale.providers import Caller, CallFailed
from deltascale.providers.wire import address, bare, checked_extra, countable, failed, unreadable
from deltascale.records import (
    Failure,
    Message,
    ModelSpec,
    Params,
    Reply,
    Request,
    StopReason,
    ToolCall,
    Usage,
    user,
)

__all__ = ["check", "connect", "endpoint", "located", "missing_key", "parse", "render"]

_DEFAULT = "https://api.anthropic.com"
_VARIABLE = "ANTHROPIC_BASE_URL"
_KEY = "ANTHROPIC_API_KEY"

# Not the newest: versions from 2026-10-21 on take no temperature, which a study must set.
_VERSION = "2023-06-01"

# --- where and who -------------------------------------------------------------------------------


def located(model: ModelSpec, *, environ: Mapping[str, str]) -> ModelSpec:
    """The model with its address filled in."""
    if model.base_url:
        return model
    return msgspec.structs.replace(
        model, base_url=bare(address(model, _VARIABLE, _DEFAULT, environ))
    )


def endpoint(model: ModelSpec) -> str:
    """`anthropic:` and the server's address."""
    return f"anthropic:{bare(model.base_url or _DEFAULT)}"


def missing_key(model: ModelSpec, *, environ: Mapping[str, str]) -> str | None:
    """ANTHROPIC_API_KEY, unless another server is asked."""
    base = bare(address(model, _VARIABLE, _DEFAULT, environ))
    return _KEY if base.startswith(_DEFAULT) and not environ.get(_KEY, "").strip() else None


# --- the request ---------------------------------------------------------------------------------

_encode = msgspec.json.Encoder().encode

# The API refuses a message without text, so an empty reply is quoted back as this.
_EMPTY = "(empty)"


def _arguments(call: ToolCall) -> object:
    try:
        msgspec.json.decode(call.arguments, type=dict[str, object])
    except msgspec.MsgspecError:
        return {"arguments": call.arguments}
    return msgspec.Raw(call.arguments.encode())


def _blocks(message: Message) -> list[object]:
    if message.role == "tool":
        result = {
            "type": "tool_result",
            "tool_use_id": message.tool_call_id,
            "content": message.content,
        }
        return [result]
    text = message.content if message.content.strip() else ""
    blocks: list[object] = [{"type": "text", "text": text}] if text else []
    blocks.extend(
        {"type": "tool_use", "id": call.id, "name": call.name, "input": _arguments(call)}
        for call in message.tool_calls
    )
    return blocks or [{"type": "text", "text": _EMPTY}]


def _messages(messages: tuple[Message, ...]) -> list[object]:
    """Neighbours of one role become one message, because the results of tools must be together."""
    rendered: list[object] = []
    last_role, last_blocks = "", []
    for message in messages:
        if message.role == "system":
            continue
        role = "assistant" if message.role == "assistant" else "user"
        if role == last_role:
            last_blocks.extend(_blocks(message))
            continue
        last_role, last_blocks = role, _blocks(message)
        rendered.append({"role": role, "content": last_blocks})
    return rendered


def render(model: ModelSpec, request: Request) -> bytes:
    """The request's JSON body. A reasoning model is sent no temperature."""
    params = request.params
    body: dict[str, object] = {
        **checked_extra(request),
        "model": model.name,
        "max_tokens": params.max_tokens,
        "messages": _messages(request.messages),
    }
    system = "\n\n".join(m.content for m in request.messages if m.role == "system" and m.content)
    if system:
        body["system"] = system
    if params.temperature is not None and not model.reasoning:
        body["temperature"] = params.temperature
    if request.tools:
        body["tools"] = [
            {
                "name": tool.name,
                "description": tool.description,
                "input_schema": msgspec.Raw(tool.schema.encode()),
            }
            for tool in request.tools
        ]
    return _encode(body)


# --- the reply -----------------------------------------------------------------------------------


class _Block(msgspec.Struct):
    type: str
    text: str | None = None
    id: str | None = None
    name: str | None = None
    input: msgspec.Raw = msgspec.Raw(b"{}")


class _OutputDetails(msgspec.Struct):
    thinking_tokens: int | None = None


class _Usage(msgspec.Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    output_tokens_details: _OutputDetails | None = None


class _Answer(msgspec.Struct):
    content: list[_Block] | None = None
    stop_reason: str | None = None
    model: str | None = None
    usage: _Usage | None = None
    error: msgspec.Raw = msgspec.Raw(b"null")


_decode = msgspec.json.Decoder(_Answer).decode

_STOPS: Mapping[str | None, StopReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "pause_turn": "length",  # a turn that the server cut to be continued: not a whole answer
    "tool_use": "tool_use",
    "refusal": "refusal",
}


def _usage(counted: _Usage | None) -> Usage | None:
    if counted is None:
        return None
    cached = max(0, counted.cache_read_input_tokens or 0)
    written = max(0, counted.cache_creation_input_tokens or 0)
    n_input, n_output = counted.input_tokens, counted.output_tokens
    if n_input is None or n_output is None or not countable(n_input, n_output, cached, written):
        return None
    details = counted.output_tokens_details or _OutputDetails()
    thinking = min(max(0, details.thinking_tokens or 0), n_output)
    return Usage(n_input + cached + written, n_output, cached, thinking)


def parse(body: bytes, status: int, headers: Mapping[str, str]) -> Reply:
    """The reply in a message; raises CallFailed for everything else. Thinking is not text."""
    if status != 200:
        raise failed(status, body, headers)
    try:
        answer = _decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise unreadable(status, f"the reply is no message: {error}") from None
    usage = _usage(answer.usage)
    if answer.content is None:
        if bytes(answer.error) != b"null":
            raise failed(status, body, headers, usage=usage)
        raise unreadable(status, "the reply holds no content", usage=usage)
    calls = tuple(
        ToolCall(block.id or "", block.name or "", bytes(block.input).decode())
        for block in answer.content
        if block.type == "tool_use"
    )
    return Reply(
        text="".join(block.text or "" for block in answer.content if block.type == "text"),
        stop=_STOPS.get(answer.stop_reason, "tool_use" if calls else "stop"),
        usage=usage,
        tool_calls=calls,
        model_served=answer.model or "",
        raw=body,
    )


# --- asking --------------------------------------------------------------------------------------


@asynccontextmanager
async def connect(model: ModelSpec, *, environ: Mapping[str, str]) -> AsyncIterator[Caller]:
    """A caller of the model. Reads ANTHROPIC_API_KEY and ANTHROPIC_BASE_URL."""
    from deltascale.providers import http

    base = address(model, _VARIABLE, _DEFAULT, environ)
    key = environ.get(_KEY, "").strip()
    headers = {"anthropic-version": _VERSION}
    if key:
        headers["x-api-key"] = key
    path = "/messages" if bare(base).endswith("/v1") else "/v1/messages"
    url = http.target(base, path)
    async with http.session(
        model, base=base, headers=headers, secret=key, environ=environ
    ) as exchange:

        async def ask(request: Request) -> Reply:
            body = render(model, request)
            started = perf_counter()
            status, told, content = await exchange(url, body)
            reply = parse(content, status, told)
            return msgspec.structs.replace(reply, latency_s=perf_counter() - started)

        yield ask


async def check(model: ModelSpec, *, environ: Mapping[str, str]) -> Failure | None:
    """One call of a few tokens: it tells key, model and credit at once."""
    request = Request(model.id, endpoint(model), Params(16), (user("Say yes."),))
    async with connect(model, environ=environ) as ask:
        try:
            await ask(request)
        except CallFailed as failed_call:
            return failed_call.failure
    return None
