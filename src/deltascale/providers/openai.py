"""OpenAI's chat completions, and every server that speaks them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from time import perf_counter
from urllib.parse import urlsplit

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
    Tool,
    ToolCall,
    Usage,
    user,
)

__all__ = ["check", "connect", "endpoint", "located", "missing_key", "parse", "render"]

_DEFAULT = "https://api.openai.com/v1"
_VARIABLE = "OPENAI_BASE_URL"

_KEYS: Mapping[str, str] = {
    "api.openai.com": "OPENAI_API_KEY",
    "api.deepseek.com": "DEEPSEEK_API_KEY",
    "api.fireworks.ai": "FIREWORKS_API_KEY",
    "api.groq.com": "GROQ_API_KEY",
    "api.mistral.ai": "MISTRAL_API_KEY",
    "api.together.xyz": "TOGETHER_API_KEY",
    "api.x.ai": "XAI_API_KEY",
    "openrouter.ai": "OPENROUTER_API_KEY",
}
"""Which variable holds the key of which host; any other server is sent OPENAI_API_KEY, if set."""

# --- where and who -------------------------------------------------------------------------------


def located(model: ModelSpec, *, environ: Mapping[str, str]) -> ModelSpec:
    """The model with its address filled in."""
    if model.base_url:
        return model
    return msgspec.structs.replace(
        model, base_url=bare(address(model, _VARIABLE, _DEFAULT, environ))
    )


def endpoint(model: ModelSpec) -> str:
    """`openai:` and the server's address."""
    return f"openai:{bare(model.base_url or _DEFAULT)}"


def _key(base: str, environ: Mapping[str, str]) -> str:
    own = _KEYS.get(urlsplit(base).hostname or "", "OPENAI_API_KEY")
    return (environ.get(own) or environ.get("OPENAI_API_KEY") or "").strip()


def missing_key(model: ModelSpec, *, environ: Mapping[str, str]) -> str | None:
    """Hosts known to want a key need theirs; any other server may do without."""
    base = address(model, _VARIABLE, _DEFAULT, environ)
    variable = _KEYS.get(urlsplit(base).hostname or "")
    return None if variable is None or _key(base, environ) else variable


# --- the request ---------------------------------------------------------------------------------

_encode = msgspec.json.Encoder().encode


def _message(message: Message) -> object:
    if message.role == "tool":
        return {
            "role": "tool",
            "tool_call_id": message.tool_call_id,
            "content": message.content,
        }
    if not message.tool_calls:
        return {"role": message.role, "content": message.content}
    calls = [
        {
            "id": call.id,
            "type": "function",
            "function": {"name": call.name, "arguments": call.arguments},
        }
        for call in message.tool_calls
    ]
    return {"role": "assistant", "content": message.content or None, "tool_calls": calls}


def _tool(tool: Tool) -> object:
    function = {
        "name": tool.name,
        "description": tool.description,
        "parameters": msgspec.Raw(tool.schema.encode()),
    }
    return {"type": "function", "function": function}


def render(model: ModelSpec, request: Request) -> bytes:
    """The request's JSON body. A reasoning model takes no temperature and its own token limit."""
    params = request.params
    body: dict[str, object] = {
        **checked_extra(request),
        "model": model.name,
        "messages": [_message(message) for message in request.messages],
    }
    if request.tools:
        body["tools"] = [_tool(tool) for tool in request.tools]
    if model.reasoning:
        body["max_completion_tokens"] = params.max_tokens
    else:
        body["max_tokens"] = params.max_tokens
        if params.temperature is not None:
            body["temperature"] = params.temperature
    return _encode(body)


# --- the reply -----------------------------------------------------------------------------------


class _Part(msgspec.Struct):
    type: str = ""
    text: str | None = None


class _Function(msgspec.Struct):
    name: str
    arguments: str | dict[str, object] | None = None


class _Call(msgspec.Struct):
    function: _Function
    id: str | None = None


class _Said(msgspec.Struct):
    content: str | list[_Part] | None = None
    refusal: str | None = None
    tool_calls: list[_Call] | None = None
    function_call: _Function | None = None


class _Choice(msgspec.Struct):
    message: _Said
    finish_reason: str | None = None


class _InputDetails(msgspec.Struct):
    cached_tokens: int | None = None


class _OutputDetails(msgspec.Struct):
    reasoning_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    prompt_tokens_details: _InputDetails | None = None
    completion_tokens_details: _OutputDetails | None = None
    prompt_cache_hit_tokens: int | None = None


class _Completion(msgspec.Struct):
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    model: str | None = None
    system_fingerprint: str | None = None
    error: msgspec.Raw = msgspec.Raw(b"null")


_decode = msgspec.json.Decoder(_Completion).decode

_STOPS: Mapping[str | None, StopReason] = {
    "stop": "stop",
    "eos": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "filter",
    "safety": "filter",
    "refusal": "refusal",
}
_BROKEN_OFF = frozenset({"error", "abort", "cancelled", "insufficient_system_resource"})


def _usage(counted: _Usage | None) -> Usage | None:
    if counted is None:
        return None
    n_input, n_output, total = (
        counted.prompt_tokens, counted.completion_tokens, counted.total_tokens
    )  # fmt: skip
    if n_output is None and n_input is not None and total is not None:
        n_output = total - n_input
    if n_input is None or n_output is None or not countable(n_input, n_output, total or 0):
        return None
    # Some servers leave reasoning out of completion_tokens and in the total.
    n_output = max(n_output, (total or 0) - n_input)
    cached = counted.prompt_cache_hit_tokens or 0
    if counted.prompt_tokens_details is not None:
        cached = counted.prompt_tokens_details.cached_tokens or cached
    reasoning = 0
    if counted.completion_tokens_details is not None:
        reasoning = counted.completion_tokens_details.reasoning_tokens or 0
    return Usage(n_input, n_output, min(max(0, cached), n_input), min(max(0, reasoning), n_output))


def _call(function: _Function, number: int, name: str | None) -> ToolCall:
    arguments = function.arguments
    if not isinstance(arguments, str):
        arguments = _encode(arguments or {}).decode()
    return ToolCall(name or f"call_{number}", function.name, arguments)


def _text(content: str | list[_Part] | None) -> str:
    if isinstance(content, str):
        return content
    parts = content or ()
    return "".join(part.text or "" for part in parts if part.type in {"text", "output_text"})


def parse(body: bytes, status: int, headers: Mapping[str, str]) -> Reply:
    """The reply in a chat completion; raises CallFailed for everything else."""
    if status != 200:
        if status == 400 and b"max_tokens or model output limit was reached" in body:
            # What OpenAI says of a reasoning model that spent its whole limit before a word.
            return Reply("", "length", raw=body)
        raise failed(status, body, headers)
    try:
        completion = _decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise unreadable(status, f"the reply is no chat completion: {error}") from None
    usage = _usage(completion.usage)
    if not completion.choices:
        if bytes(completion.error) != b"null":
            raise failed(status, body, headers, usage=usage)
        raise unreadable(status, "the reply holds no choice", usage=usage)
    choice = completion.choices[0]
    said, reason = choice.message, choice.finish_reason
    if reason in _BROKEN_OFF:
        raise unreadable(status, f"the server broke the reply off ({reason})", usage=usage)
    calls: tuple[ToolCall, ...] = ()
    if said.tool_calls:
        calls = tuple(_call(call.function, i, call.id) for i, call in enumerate(said.tool_calls))
    elif said.function_call is not None:
        calls = (_call(said.function_call, 0, None),)
    stop = _STOPS.get(reason and reason.lower(), "stop")
    if said.refusal and stop != "filter":
        stop = "refusal"
    elif calls and stop == "stop":
        stop = "tool_use"
    return Reply(
        text=_text(said.content),
        stop=stop,
        usage=usage,
        tool_calls=calls,
        model_served=completion.model or "",
        fingerprint=completion.system_fingerprint or "",
        raw=body,
    )


# --- asking --------------------------------------------------------------------------------------


@asynccontextmanager
async def connect(model: ModelSpec, *, environ: Mapping[str, str]) -> AsyncIterator[Caller]:
    """A caller of the model's server. Reads OPENAI_API_KEY and OPENAI_BASE_URL."""
    from deltascale.providers import http

    base = address(model, _VARIABLE, _DEFAULT, environ)
    key = _key(base, environ)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    url = http.target(base, "/chat/completions")
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
    """One call of a few tokens: the only question that every server answers truthfully."""
    request = Request(model.id, endpoint(model), Params(16), (user("Say yes."),))
    async with connect(model, environ=environ) as ask:
        try:
            await ask(request)
        except CallFailed as failed_call:
            return failed_call.failure
    return None
