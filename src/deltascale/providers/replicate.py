"""Replicate's predictions, for language models that take a prompt."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from time import perf_counter
from typing import TYPE_CHECKING

import msgspec

from deltascale.providers import Caller, CallFailed
from deltascale.providers.wire import address, bare, checked_extra, countable, failed, unreadable
from deltascale.records import (
    RETRYABLE,
    Failure,
    Message,
    ModelSpec,
    Reply,
    Request,
    Usage,
)

if TYPE_CHECKING:
    from deltascale.providers.http import Answer, Exchange

__all__ = ["check", "connect", "endpoint", "located", "missing_key", "parse", "render"]

_DEFAULT = "https://api.replicate.com"
_VARIABLE = "REPLICATE_BASE_URL"
_KEY = "REPLICATE_API_TOKEN"

_HELD_S = 60  # the longest that the server holds a request open for its result
_FIRST_POLL_S = 0.5
_LONGEST_POLL_S = 5.0
_CANCEL_S = 5.0
_POLLS_LOST = 4

# --- where and who -------------------------------------------------------------------------------


def located(model: ModelSpec, *, environ: Mapping[str, str]) -> ModelSpec:
    """The model with its address filled in."""
    if model.base_url:
        return model
    return msgspec.structs.replace(
        model, base_url=bare(address(model, _VARIABLE, _DEFAULT, environ))
    )


def endpoint(model: ModelSpec) -> str:
    """`replicate:` and the server's address."""
    return f"replicate:{bare(model.base_url or _DEFAULT)}"


def missing_key(model: ModelSpec, *, environ: Mapping[str, str]) -> str | None:
    """REPLICATE_API_TOKEN, unless another server is asked."""
    base = bare(address(model, _VARIABLE, _DEFAULT, environ))
    return _KEY if base.startswith(_DEFAULT) and not environ.get(_KEY, "").strip() else None


# --- the request ---------------------------------------------------------------------------------

_encode = msgspec.json.Encoder().encode


def _llama3(messages: tuple[Message, ...]) -> str:
    """Llama 3's chat format. Source: Meta, "Llama 3 model card and prompt formats" (2024)."""
    turns = "".join(
        f"<|start_header_id|>{message.role}<|end_header_id|>\n\n{message.content.strip()}<|eot_id|>"
        for message in messages
    )
    return f"<|begin_of_text|>{turns}<|start_header_id|>assistant<|end_header_id|>\n\n"


def _llama2(messages: tuple[Message, ...]) -> str:
    """Llama 2's chat format. Source: Touvron et al. (2023), arXiv 2307.09288, and its code.

    The server puts the first beginning-of-sequence mark itself.
    """
    system = "\n".join(message.content for message in messages if message.role == "system")
    opening = f"<<SYS>>\n{system}\n<</SYS>>\n\n" if system else ""
    rendered = ""
    for message in messages:
        text = message.content.strip()
        if message.role == "assistant":
            rendered += f" {text} </s><s>"
        elif message.role == "user":
            rendered += f"[INST] {opening}{text} [/INST]"
            opening = ""
    return rendered


_FORMATS: tuple[tuple[str, Callable[[tuple[Message, ...]], str], str], ...] = (
    ("llama-3", _llama3, "max_tokens"),
    ("llama-2", _llama2, "max_new_tokens"),
)
"""Part of a model's name, its chat format, and what it calls the limit of output tokens."""


def render(model: ModelSpec, request: Request) -> bytes:
    """The prediction's JSON body.

    A model whose chat format is known gets the whole conversation in `prompt`, in every turn the
    same way, and a template that adds nothing: a server's own template may bring a system prompt
    that later turns would not have. Any other model gets `prompt` and `system_prompt` and can
    have one turn only. Raises CallFailed for what can't be rendered.
    """
    if request.tools or any(m.role == "tool" or m.tool_calls for m in request.messages):
        raise CallFailed(Failure("bad_request", "Replicate's models take no tools"))
    params = request.params
    made: dict[str, object] = {**checked_extra(request)}
    system = "\n\n".join(m.content for m in request.messages if m.role == "system")
    turns = tuple(m for m in request.messages if m.role != "system")
    known = [row for row in _FORMATS if row[0] in model.name.lower()]
    limit = "max_tokens"
    if known:
        _, format_, limit = known[0]
        opening = (Message("system", system),) if system else ()
        made["prompt"] = format_(opening + turns)
        made["prompt_template"] = "{prompt}"
    elif len(turns) == 1:
        made["prompt"] = turns[0].content
    else:
        what = f"the chat format of {model.name} is not known, so it can't be asked again"
        raise CallFailed(Failure("bad_request", what))
    made["system_prompt"] = system
    made[limit] = params.max_tokens
    if params.temperature is not None and not model.reasoning:
        made["temperature"] = params.temperature
    _, _, version = model.name.partition(":")
    return _encode({"version": version, "input": made} if version else {"input": made})


# --- the reply -----------------------------------------------------------------------------------


class _Metrics(msgspec.Struct):
    input_token_count: int | None = None
    output_token_count: int | None = None


class _Input(msgspec.Struct):
    max_tokens: int | None = None
    max_new_tokens: int | None = None


class _Urls(msgspec.Struct):
    get: str | None = None
    cancel: str | None = None


class _Prediction(msgspec.Struct):
    id: str
    status: str
    output: str | list[str] | None = None
    error: object = None
    metrics: _Metrics | None = None
    input: _Input | None = None
    urls: _Urls | None = None
    model: str | None = None
    version: str | None = None


_decode = msgspec.json.Decoder(_Prediction).decode

_PENDING = frozenset({"starting", "processing", "queued"})
_CREATED = frozenset({200, 201, 202})


def _prediction(body: bytes, status: int, headers: Mapping[str, str]) -> _Prediction:
    if status not in _CREATED:
        raise failed(status, body, headers)
    try:
        return _decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise unreadable(status, f"the reply is no prediction: {error}") from None


def _usage(counted: _Metrics | None) -> Usage | None:
    if counted is None:
        return None
    n_input, n_output = counted.input_token_count, counted.output_token_count
    if n_input is None or n_output is None or not countable(n_input, n_output):
        return None
    return Usage(n_input, n_output)


def parse(body: bytes, status: int, headers: Mapping[str, str]) -> Reply:
    """The reply in a finished prediction; raises CallFailed for everything else.

    Replicate does not say why a model stopped: a reply as long as its limit counts as cut.
    """
    prediction = _prediction(body, status, headers)
    usage = _usage(prediction.metrics)
    if prediction.status != "succeeded":
        raise _unsuccessful(prediction, status, usage)
    output = prediction.output
    text = output if isinstance(output, str) else "".join(output or ())
    asked = prediction.input or _Input()
    limit = asked.max_tokens or asked.max_new_tokens
    cut = usage is not None and limit is not None and usage.output_tokens >= limit
    return Reply(
        text=text,
        stop="length" if cut else "stop",
        usage=usage,
        model_served=prediction.model or "",
        fingerprint=prediction.version or "",
        raw=body,
    )


def _unsuccessful(prediction: _Prediction, status: int, usage: Usage | None) -> CallFailed:
    said = prediction.error
    message = said if isinstance(said, str) else ""
    if prediction.status == "failed" and message:
        # The same words as in an error body, so the same judgement; else it may pass.
        judged = failed(400, _encode({"detail": message}), {}).failure
        kind = "transient" if judged.kind == "bad_request" else judged.kind
        return CallFailed(
            Failure(
                kind, judged.message, http_status=status, usage=usage, maybe_billed=usage is None
            )
        )
    # `aborted` never began to run, so it costs nothing.
    billed = usage is None and prediction.status != "aborted"
    what = f"the prediction was {prediction.status}"
    return CallFailed(
        Failure("transient", what, http_status=status, usage=usage, maybe_billed=billed)
    )


# --- asking --------------------------------------------------------------------------------------


def _poll_url(prediction: _Prediction, base: str) -> str:
    """Where the prediction is, on the server that was asked: the token goes to no other."""
    told = prediction.urls and prediction.urls.get
    if told and bare(told).startswith(f"{bare(base)}/"):
        return told
    root = "" if bare(base).endswith("/v1") else "/v1"
    return f"{bare(base)}{root}/predictions/{prediction.id}"


async def _finished(
    exchange: Exchange, url: str, sleep: Callable[[float], Awaitable[None]]
) -> Answer:
    """Ask for the prediction until it has ended. Some questions in a row may be lost."""
    n_lost, pause_s = 0, _FIRST_POLL_S
    while True:
        await sleep(pause_s)
        pause_s = min(_LONGEST_POLL_S, pause_s * 1.5)
        try:
            status, headers, content = await exchange(url)
            if _prediction(content, status, headers).status not in _PENDING:
                return status, headers, content
            n_lost = 0
        except CallFailed as lost:
            n_lost += 1
            if lost.failure.kind not in RETRYABLE or n_lost == _POLLS_LOST:
                # The question failed, not the prediction: it may well be billed.
                billed = msgspec.structs.replace(lost.failure, maybe_billed=True)
                raise CallFailed(billed) from None
            pause_s = max(pause_s, lost.failure.retry_after_s or 0.0)


@asynccontextmanager
async def connect(
    model: ModelSpec,
    *,
    environ: Mapping[str, str],
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> AsyncIterator[Caller]:
    """A caller of the model. Reads REPLICATE_API_TOKEN and REPLICATE_BASE_URL.

    A prediction under way is cancelled when its caller is; one of which the server has not yet
    said its name ends by itself after the model's timeout.
    """
    from deltascale.providers import http

    base = address(model, _VARIABLE, _DEFAULT, environ)
    key = environ.get(_KEY, "").strip()
    auth = {"Authorization": f"Bearer {key}"} if key else {}
    root = "" if bare(base).endswith("/v1") else "/v1"
    name, _, version = model.name.partition(":")
    path = "/predictions" if version else f"/models/{name}/predictions"
    create = http.target(base, root + path)
    timeout_s = max(5, int(model.limits.timeout_s))
    held = {"Prefer": f"wait={min(_HELD_S, timeout_s)}", "Cancel-After": f"{timeout_s}s"}

    async with http.session(
        model, base=base, headers=auth, secret=key, environ=environ
    ) as exchange:

        async def cancel(prediction: _Prediction) -> None:
            # Nobody is left to tell if this fails, and the server's own deadline still holds.
            with suppress(CallFailed, TimeoutError):
                async with asyncio.timeout(_CANCEL_S):
                    await exchange(f"{_poll_url(prediction, base)}/cancel", b"{}")

        async def ask(request: Request) -> Reply:
            body = render(model, request)
            started = perf_counter()
            status, told, content = await exchange(create, body, held)
            prediction = _prediction(content, status, told)
            if prediction.status in _PENDING:
                try:
                    url = _poll_url(prediction, base)
                    status, told, content = await _finished(exchange, url, sleep)
                except (asyncio.CancelledError, CallFailed):
                    await asyncio.shield(cancel(prediction))
                    raise
            reply = parse(content, status, told)
            return msgspec.structs.replace(reply, latency_s=perf_counter() - started)

        yield ask


async def check(model: ModelSpec, *, environ: Mapping[str, str]) -> Failure | None:
    """Ask for the model's card, which is free and wants the key."""
    from deltascale.providers import http

    base = address(model, _VARIABLE, _DEFAULT, environ)
    key = environ.get(_KEY, "").strip()
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    root = "" if bare(base).endswith("/v1") else "/v1"
    card = http.target(base, f"{root}/models/{model.name.partition(':')[0]}")
    async with http.session(
        model, base=base, headers=headers, secret=key, environ=environ
    ) as exchange:
        try:
            status, told, content = await exchange(card)
        except CallFailed as failed_call:
            return failed_call.failure
    return None if status == 200 else failed(status, content, told).failure
