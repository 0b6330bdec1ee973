"""What a raw body means, provider by provider, and that the official clients read the same."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest

from deltascale.providers import CallFailed, anthropic, openai, replicate
from deltascale.records import FailureKind, Reply, StopReason, ToolCall, Usage
from deltascale.testing import Asked, LoopbackServer, Told

WIRE = Path(__file__).parent / "wire"
PROVIDERS: dict[str, ModuleType] = {
    "openai": openai,
    "anthropic": anthropic,
    "replicate": replicate,
}


def wire(provider: str, name: str) -> tuple[bytes, int]:
    (path,) = (WIRE / provider).glob(f"{name}.*")
    return path.read_bytes(), int(path.suffixes[-2][1:])


def parsed(provider: str, name: str) -> Reply:
    body, status = wire(provider, name)
    reply = PROVIDERS[provider].parse(body, status, {})
    assert isinstance(reply, Reply)
    assert reply.raw == body
    return reply


def failure(provider: str, name: str, **headers: str):
    body, status = wire(provider, name)
    told = {name.replace("_", "-"): value for name, value in headers.items()}
    with pytest.raises(CallFailed) as caught:
        PROVIDERS[provider].parse(body, status, told)
    return caught.value.failure


# --- replies -------------------------------------------------------------------------------------

DONE = "42 — “done” ✓"
OPENAI: dict[str, tuple[str, StopReason, Usage | None]] = {
    "text": (f"Six times seven is **42**.\n\nAnswer: {DONE}", "stop", Usage(24, 9)),
    "cached_and_reasoning": ("42", "stop", Usage(2100, 340, 1920, 320)),
    "tool_calls": ("", "tool_use", Usage(24, 9)),
    "function_call": ("", "tool_use", Usage(24, 9)),
    "refusal": ("", "refusal", Usage(24, 9)),
    "null_content": ("", "length", Usage(30, 16, 0, 16)),
    "empty_content": ("", "stop", Usage(24, 9)),
    "length": ("First we add the eggs, then", "length", Usage(24, 9)),
    "content_filter": ("The recipe begins", "filter", Usage(24, 9)),
    "parts": ("The answer is 42.", "stop", Usage(24, 9)),
    "vllm_text": ("42", "stop", Usage(36, 3)),
    "llamacpp_text": ("42", "stop", Usage(37, 3)),
    "ollama_text": ("42", "stop", Usage(31, 3)),
    "total_holds_reasoning": ("42", "stop", Usage(100, 305, 0, 300)),
    "no_usage": ("42", "stop", None),
    "output_limit": ("", "length", None),
}
ANTHROPIC: dict[str, tuple[str, StopReason, Usage | None]] = {
    "text": (f"Six times seven is {DONE}", "stop", Usage(21, 12)),
    "stop_sequence": ("42", "stop", Usage(21, 12)),
    "thinking": ("42", "stop", Usage(40, 220, 0, 200)),
    "tool_use": ("I'll calculate.", "tool_use", Usage(21, 12)),
    "max_tokens": ("First we add the eggs, then", "length", Usage(21, 12)),
    "window": ("First we", "length", Usage(21, 12)),
    "refusal": ("", "refusal", Usage(21, 12)),
    "pause": ("Let me look further", "length", Usage(21, 12)),
    "empty": ("", "stop", Usage(21, 12)),
    "cached": ("42", "stop", Usage(2010, 5, 1700)),
}
REPLICATE: dict[str, tuple[str, StopReason, Usage | None]] = {
    "text": (f"\n\nSix times seven is {DONE}", "stop", Usage(26, 11)),
    "string": ("42", "stop", Usage(26, 11)),
    "cut": ("First we add", "length", Usage(26, 256)),
    "nothing": ("", "stop", Usage(26, 11)),
    "no_counts": ("42", "stop", None),
}
REPLIES = [
    (provider, name, *expected)
    for provider, table in (
        ("openai", OPENAI),
        ("anthropic", ANTHROPIC),
        ("replicate", REPLICATE),
    )
    for name, expected in table.items()
]


@pytest.mark.parametrize(("provider", "name", "text", "stop", "usage"), REPLIES)
def test_a_reply_is_its_text_its_end_and_its_usage(
    provider: str, name: str, text: str, stop: StopReason, usage: Usage | None
) -> None:
    reply = parsed(provider, name)
    assert (reply.text, reply.stop, reply.usage) == (text, stop, usage)


def test_a_tool_call_keeps_its_arguments_as_written() -> None:
    assert parsed("openai", "tool_calls").tool_calls == (
        ToolCall("call_aaa", "Calculate", '{"expression": "6*7"}'),
        ToolCall("call_bbb", "Finish", '{"answer":"42"}'),
    )
    (legacy,) = parsed("openai", "function_call").tool_calls
    assert (legacy.name, legacy.arguments) == ("Calculate", '{"expression":"1+1"}')
    (call,) = parsed("anthropic", "tool_use").tool_calls
    assert (call.id, call.name) == ("toolu_01", "Calculate")
    assert msgspec.json.decode(call.arguments) == {"expression": "6*7", "exact": True}


def test_the_version_that_answered_is_kept() -> None:
    reply = parsed("openai", "text")
    assert (reply.model_served, reply.fingerprint) == ("gpt-4o-mini-2024-07-18", "fp_0a1b2c3d4e")
    assert parsed("anthropic", "text").model_served == "claude-3-haiku-20240307"
    assert parsed("replicate", "text").model_served == "meta/meta-llama-3-70b-instruct"


# --- failures ------------------------------------------------------------------------------------

FAILURES: list[tuple[str, str, FailureKind, bool]] = [
    ("openai", "router_error", "rate_limited", False),
    ("openai", "router_error_bare", "transient", True),
    ("openai", "choice_error", "transient", False),
    ("openai", "cut", "transient", True),
    ("openai", "html", "transient", True),
    ("openai", "empty", "transient", True),
    ("openai", "invalid_key", "bad_key", False),
    ("openai", "rate_limit", "rate_limited", False),
    ("openai", "quota", "no_credit", False),
    ("openai", "quota_google", "rate_limited", False),
    ("openai", "request_too_large", "context_too_long", False),
    ("openai", "model_not_found", "unknown_model", False),
    ("openai", "no_access", "unknown_model", False),
    ("openai", "region", "bad_key", False),
    ("openai", "context_length", "context_too_long", False),
    ("openai", "unsupported_parameter", "bad_request", False),
    ("openai", "prompt_flagged", "filtered", False),
    ("openai", "azure_filter", "filtered", False),
    ("openai", "azure_deployment", "unknown_model", False),
    ("openai", "server_error", "transient", False),
    ("openai", "vllm_context", "context_too_long", False),
    ("openai", "vllm_model", "unknown_model", False),
    ("openai", "llamacpp_context", "context_too_long", False),
    ("openai", "llamacpp_context_old", "context_too_long", False),
    ("openai", "llamacpp_loading", "transient", False),
    ("openai", "ollama_model", "unknown_model", False),
    ("openai", "ollama_plain", "unknown_model", False),
    ("openai", "router_credits", "no_credit", False),
    ("openai", "router_model", "unknown_model", False),
    ("openai", "router_moderation", "filtered", False),
    ("openai", "router_key_limit", "no_credit", False),
    ("openai", "together_context", "context_too_long", False),
    ("openai", "google_key", "bad_key", False),
    ("openai", "validation", "bad_request", False),
    ("openai", "retired_model", "unknown_model", False),
    ("openai", "gateway", "transient", True),
    ("openai", "gateway_timeout", "transient", True),
    ("openai", "nowhere", "unknown_model", False),
    ("anthropic", "authentication", "bad_key", False),
    ("anthropic", "permission", "bad_key", False),
    ("anthropic", "credit", "no_credit", False),
    ("anthropic", "usage_limit", "no_credit", False),
    ("anthropic", "billing", "no_credit", False),
    ("anthropic", "model", "unknown_model", False),
    ("anthropic", "too_long", "context_too_long", False),
    ("anthropic", "limit_beyond_context", "context_too_long", False),
    ("anthropic", "filtered", "filtered", False),
    ("anthropic", "invalid", "bad_request", False),
    ("anthropic", "large", "context_too_long", False),
    ("anthropic", "rate", "rate_limited", False),
    ("anthropic", "api_error", "transient", False),
    ("anthropic", "timeout", "transient", True),
    ("anthropic", "overloaded", "transient", False),
    ("anthropic", "cut", "transient", True),
    ("replicate", "failed", "transient", True),
    ("replicate", "failed_context", "context_too_long", True),
    ("replicate", "failed_unsafe", "filtered", True),
    ("replicate", "canceled", "transient", True),
    ("replicate", "aborted", "transient", False),
    ("replicate", "unauthenticated", "bad_key", False),
    ("replicate", "credit", "no_credit", False),
    ("replicate", "spend_limit", "no_credit", False),
    ("replicate", "not_found", "unknown_model", False),
    ("replicate", "validation", "bad_request", False),
    ("replicate", "throttled", "rate_limited", False),
    ("replicate", "server_error", "transient", False),
]


@pytest.mark.parametrize(("provider", "name", "kind", "billed"), FAILURES)
def test_a_failure_has_a_kind_and_says_whether_it_may_be_billed(
    provider: str, name: str, kind: FailureKind, billed: bool
) -> None:
    found = failure(provider, name)
    assert (found.kind, found.maybe_billed) == (kind, billed), found.message
    assert 0 < len(found.message) <= 300
    assert found.message.isprintable()
    assert "<" not in found.message or "html" not in found.message


def test_every_wire_body_is_expected_to_mean_something() -> None:
    expected = {(provider, name) for provider, name, *_ in REPLIES + FAILURES}
    there = {
        (path.parent.name, path.name.split(".")[0])
        for path in WIRE.rglob("*.*")
        if path.parent != WIRE
    }
    assert there - expected == {("replicate", "processing")}  # served by a test of polling
    assert expected <= there


def test_a_broken_off_reply_keeps_the_usage_that_was_counted() -> None:
    assert failure("openai", "choice_error").usage == Usage(20, 2)


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({}, None),
        ({"retry_after": "7"}, 7.0),
        ({"retry_after": "0.25"}, 0.25),
        ({"retry_after": "-3"}, 0.0),
        ({"retry_after": "nan"}, None),
        ({"retry_after": "soon"}, None),
        ({"retry_after_ms": "1500", "retry_after": "2"}, 1.5),
        (
            {
                "retry_after": "Wed, 21 Oct 2026 07:28:30 GMT",
                "date": "Wed, 21 Oct 2026 07:28:00 GMT",
            },
            30.0,
        ),
        ({"retry_after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
    ],
)
def test_retry_after_is_read_in_every_form(headers: dict[str, str], wait_s: float | None) -> None:
    assert failure("openai", "rate_limit", **headers).retry_after_s == wait_s


@pytest.mark.parametrize("provider", PROVIDERS)
def test_no_body_of_success_breaks_the_parser(provider: str) -> None:
    for body in (b"null", b"[]", b"{}", b"0", b'"x"', b"\xff\xfe", b"{" * 5000, b'{"error":null}'):
        with pytest.raises(CallFailed) as caught:
            PROVIDERS[provider].parse(body, 200, {})
        assert (caught.value.failure.kind, caught.value.failure.maybe_billed) == ("transient", True)


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("status", [301, 400, 418, 429, 500, 503])
def test_no_body_of_failure_breaks_the_parser(provider: str, status: int) -> None:
    for body in (b"", b"null", b"[]", b'{"error":{"message":{"a":1}}}', b'{"error":[]}', b"\xff"):
        with pytest.raises(CallFailed) as caught:
            PROVIDERS[provider].parse(body, status, {})
        assert caught.value.failure.http_status == status
        assert caught.value.failure.message


# --- the official clients read the same ----------------------------------------------------------


def serving(provider: str, name: str) -> LoopbackServer:
    body, status = wire(provider, name)
    return LoopbackServer(lambda _: Told(status, body))


def plain(library: str = "httpx") -> Any:
    """The transport of a client that only asks this machine: certificates take long to load."""
    return import_module(library).AsyncClient(verify=False)


OWN_WORDS: dict[StopReason, set[str | None]] = {
    "stop": {"stop", "end_turn", "stop_sequence", None},
    "length": {"length", "max_tokens", "model_context_window_exceeded", "pause_turn"},
    "tool_use": {"tool_calls", "function_call", "tool_use"},
    "filter": {"content_filter"},
    "refusal": {"stop", "refusal"},
}


@pytest.mark.parametrize("name", [name for name in OPENAI if name not in {"parts", "output_limit"}])
async def test_openai_s_client_reads_the_same(name: str) -> None:
    import openai as official

    reply = parsed("openai", name)
    async with (
        serving("openai", name) as server,
        official.AsyncOpenAI(
            api_key="k", base_url=f"{server.url}/v1", max_retries=0, http_client=plain("httpx2")
        ) as client,
    ):
        theirs = await client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "?"}]
        )
    choice = theirs.choices[0]
    assert (choice.message.content or "") == reply.text
    assert choice.finish_reason in OWN_WORDS[reply.stop]
    assert (choice.message.refusal is not None) == (reply.stop == "refusal")
    called = [
        (c.id, c.function.name, c.function.arguments) for c in choice.message.tool_calls or ()
    ]
    if choice.message.function_call is None:
        assert called == [(c.id, c.name, c.arguments) for c in reply.tool_calls]
    assert theirs.model == reply.model_served
    assert (theirs.system_fingerprint or "") == reply.fingerprint
    if theirs.usage is None:
        assert reply.usage is None
    else:
        assert reply.usage is not None
        assert theirs.usage.prompt_tokens == reply.usage.input_tokens
        if name != "total_holds_reasoning":  # where that server's total is what is billed
            assert theirs.usage.completion_tokens == reply.usage.output_tokens
        details = theirs.usage.prompt_tokens_details
        assert ((details and details.cached_tokens) or 0) == reply.usage.cached_input_tokens


@pytest.mark.parametrize("name", ANTHROPIC)
async def test_anthropic_s_client_reads_the_same(name: str) -> None:
    import anthropic as official

    reply = parsed("anthropic", name)
    async with (
        serving("anthropic", name) as server,
        official.AsyncAnthropic(
            api_key="k", base_url=server.url, max_retries=0, http_client=plain("httpx2")
        ) as client,
    ):
        theirs = await client.messages.create(
            model="m", max_tokens=9, messages=[{"role": "user", "content": "?"}]
        )
    assert "".join(block.text for block in theirs.content if block.type == "text") == reply.text
    assert theirs.stop_reason in OWN_WORDS[reply.stop]
    called = [(b.id, b.name, b.input) for b in theirs.content if b.type == "tool_use"]
    ours = [(c.id, c.name, msgspec.json.decode(c.arguments)) for c in reply.tool_calls]
    assert called == ours
    counted = theirs.usage
    cached, written = counted.cache_read_input_tokens, counted.cache_creation_input_tokens
    assert reply.usage is not None
    assert counted.input_tokens + (cached or 0) + (written or 0) == reply.usage.input_tokens
    assert (cached or 0) == reply.usage.cached_input_tokens
    assert counted.output_tokens == reply.usage.output_tokens


@pytest.mark.parametrize("name", REPLICATE)
async def test_replicate_s_client_reads_the_same(name: str) -> None:
    import replicate as official

    reply = parsed("replicate", name)
    async with serving("replicate", name) as server:
        client = official.Client(api_token="k", base_url=server.url)
        theirs = await client.models.predictions.async_create(
            ("meta", "meta-llama-3-70b-instruct"), input={"prompt": "?"}
        )
        await client._async_client.aclose()  # it has no public way to be closed
    output = theirs.output
    assert (output if isinstance(output, str) else "".join(output or ())) == reply.text
    metrics = theirs.metrics or {}
    usage = (metrics.get("input_token_count"), metrics.get("output_token_count"))
    assert usage == (
        (None, None)
        if reply.usage is None
        else (reply.usage.input_tokens, reply.usage.output_tokens)
    )


ERRORS_OF_OPENAI: dict[str, tuple[str, set[FailureKind]]] = {
    "invalid_key": ("AuthenticationError", {"bad_key"}),
    "rate_limit": ("RateLimitError", {"rate_limited"}),
    "quota": ("RateLimitError", {"no_credit"}),
    "model_not_found": ("NotFoundError", {"unknown_model"}),
    "no_access": ("PermissionDeniedError", {"unknown_model"}),
    "context_length": ("BadRequestError", {"context_too_long"}),
    "azure_filter": ("BadRequestError", {"filtered"}),
    "server_error": ("InternalServerError", {"transient"}),
}


@pytest.mark.parametrize("name", ERRORS_OF_OPENAI)
async def test_openai_s_client_meets_the_same_error(name: str) -> None:
    import openai as official

    error, kinds = ERRORS_OF_OPENAI[name]
    async with (
        serving("openai", name) as server,
        official.AsyncOpenAI(
            api_key="k", base_url=f"{server.url}/v1", max_retries=0, http_client=plain("httpx2")
        ) as client,
    ):
        with pytest.raises(getattr(official, error)) as caught:
            await client.chat.completions.create(
                model="m", messages=[{"role": "user", "content": "?"}]
            )
    found = failure("openai", name)
    assert found.kind in kinds
    assert caught.value.status_code == found.http_status


# --- what we send is what the official clients send ----------------------------------------------


def keeping(provider: str) -> tuple[list[Asked], LoopbackServer]:
    body, status = wire(provider, "text")
    asked: list[Asked] = []

    def respond(request: Asked) -> Told:
        asked.append(request)
        return Told(status, body)

    return asked, LoopbackServer(respond)


TOOL_SCHEMA = {"type": "object", "properties": {"x": {"type": "string"}}, "required": ["x"]}


async def test_openai_is_sent_what_its_client_sends() -> None:
    import openai as official

    from deltascale.records import Message, ModelSpec, Params, Price, Request, Size, Tool

    asked, server = keeping("openai")
    model = ModelSpec("openai/m", "openai", "m", Size("unknown"), Price(0, 0, 0, "", ""))
    request = Request(
        model.id,
        "e",
        Params(64, 0.7, {"top_p": 0.9}),
        (
            Message("system", "Be brief."),
            Message("user", "6*7? ✓"),
            Message("assistant", "", (ToolCall("c1", "Calculate", '{"x": "6*7"}'),)),
            Message("tool", "42", tool_call_id="c1"),
        ),
        (Tool("Calculate", "Adds up.", msgspec.json.encode(TOOL_SCHEMA).decode()),),
    )
    async with server:
        there = msgspec.structs.replace(model, base_url=f"{server.url}/v1")
        async with openai.connect(there, environ={"OPENAI_API_KEY": "sk-test"}) as ask:
            await ask(request)
        async with official.AsyncOpenAI(
            api_key="sk-test", base_url=f"{server.url}/v1", http_client=plain("httpx2")
        ) as client:
            call = {"name": "Calculate", "arguments": '{"x": "6*7"}'}
            function = {"name": "Calculate", "description": "Adds up.", "parameters": TOOL_SCHEMA}
            await client.chat.completions.create(
                model="m",
                max_tokens=64,
                temperature=0.7,
                top_p=0.9,
                messages=[
                    {"role": "system", "content": "Be brief."},
                    {"role": "user", "content": "6*7? ✓"},
                    {
                        "role": "assistant",
                        "content": None,
                        "tool_calls": [{"id": "c1", "type": "function", "function": call}],
                    },
                    {"role": "tool", "tool_call_id": "c1", "content": "42"},
                ],
                tools=[{"type": "function", "function": function}],
            )
    ours, theirs = asked
    assert msgspec.json.decode(ours.body) == msgspec.json.decode(theirs.body)
    assert (ours.method, ours.path) == (theirs.method, theirs.path)
    for name in ("authorization", "content-type"):
        assert ours.headers[name] == theirs.headers[name]


async def test_anthropic_is_sent_what_its_client_sends() -> None:
    import anthropic as official

    from deltascale.records import Message, ModelSpec, Params, Price, Request, Size, Tool

    asked, server = keeping("anthropic")
    model = ModelSpec("anthropic/m", "anthropic", "m", Size("unknown"), Price(0, 0, 0, "", ""))
    request = Request(
        model.id,
        "e",
        Params(64, 0.7),
        (
            Message("system", "Be brief."),
            Message("user", "6*7? ✓"),
            Message(
                "assistant",
                "Both.",
                (ToolCall("c1", "Calculate", '{"x":"6"}'), ToolCall("c2", "Calculate", "{}")),
            ),
            Message("tool", "6", tool_call_id="c1"),
            Message("tool", "7", tool_call_id="c2"),
        ),
        (Tool("Calculate", "Adds up.", msgspec.json.encode(TOOL_SCHEMA).decode()),),
    )
    async with server:
        there = msgspec.structs.replace(model, base_url=server.url)
        async with anthropic.connect(there, environ={"ANTHROPIC_API_KEY": "sk-ant"}) as ask:
            await ask(request)
        async with official.AsyncAnthropic(
            api_key="sk-ant", base_url=server.url, http_client=plain("httpx2")
        ) as client:
            await client.messages.create(
                model="m",
                max_tokens=64,
                extra_body={"temperature": 0.7},  # gone from the client, not from the models
                system="Be brief.",
                messages=[
                    {"role": "user", "content": [{"type": "text", "text": "6*7? ✓"}]},
                    {
                        "role": "assistant",
                        "content": [
                            {"type": "text", "text": "Both."},
                            {
                                "type": "tool_use",
                                "id": "c1",
                                "name": "Calculate",
                                "input": {"x": "6"},
                            },
                            {"type": "tool_use", "id": "c2", "name": "Calculate", "input": {}},
                        ],
                    },
                    {
                        "role": "user",
                        "content": [
                            {"type": "tool_result", "tool_use_id": "c1", "content": "6"},
                            {"type": "tool_result", "tool_use_id": "c2", "content": "7"},
                        ],
                    },
                ],
                tools=[
                    {"name": "Calculate", "description": "Adds up.", "input_schema": TOOL_SCHEMA}
                ],
            )
    ours, theirs = asked
    assert msgspec.json.decode(ours.body) == msgspec.json.decode(theirs.body)
    assert (ours.method, ours.path) == (theirs.method, theirs.path)
    assert ours.headers["x-api-key"] == "sk-ant"
    assert ours.headers["anthropic-version"] == "2023-06-01"
