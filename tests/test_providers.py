"""Providers over real sockets: how a call can fail, and that no key ever shows."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltascale import providers
from deltascale.errors import CatalogMistake
from deltascale.providers import CallFailed
from deltascale.providers.policies import timeout
from deltascale.providers.wire import bare, one_line
from deltascale.records import Failure, Limits, user
from deltascale.testing import Asked, FaultServer, LoopbackServer, Told
from tests.asking import DIALECTS, ENVIRON, KEY, WIRE, ask_for, failure_of, spec

# --- a reply over a socket -----------------------------------------------------------------------


@pytest.mark.parametrize("provider", DIALECTS)
async def test_a_reply_comes_over_a_real_connection(provider: str) -> None:
    async with FaultServer(lambda _: "forty-two ✓", key=KEY) as server:
        async with providers.connect(spec(provider, server.url), environ=ENVIRON) as ask:
            reply = await ask(ask_for())
        assert (reply.text, reply.stop) == ("forty-two ✓", "stop")
        assert reply.usage is not None
        assert reply.usage.input_tokens == server.input_tokens
        assert reply.latency_s > 0
        assert server.billed.total() == server.delivered.total() == 1


@pytest.mark.parametrize("provider", DIALECTS)
async def test_many_calls_share_few_connections(provider: str) -> None:
    async with FaultServer() as server:
        model = spec(provider, server.url, limits=Limits(connections=4))
        async with providers.connect(model, environ=ENVIRON) as ask:
            await asyncio.gather(*(ask(ask_for(draw=i)) for i in range(40)))
            assert 1 <= len(server.connections) <= 4
        assert server.n_requests == 40


@pytest.mark.parametrize("provider", DIALECTS)
@pytest.mark.parametrize(
    ("told", "kind", "billed"),
    [
        (Told(sent=0.0), "transient", True),
        (Told(body=b'{"id": "x", "choices": []}' * 50, sent=0.5), "transient", True),
        (Told(body=b'{"id": "x", "ch'), "transient", True),
        (Told(429, headers={"Retry-After": "3"}), "rate_limited", False),
        (Told(500, b""), "transient", False),
        (Told(503, b"<html>busy</html>", {"Retry-After": "2"}), "transient", False),
        (Told(504, b""), "transient", True),
        (Told(302, headers={"Location": "/elsewhere"}), "bad_request", False),
    ],
)
async def test_a_bad_server_is_a_typed_failure(
    provider: str, told: Told, kind: str, billed: bool
) -> None:
    async with LoopbackServer(lambda _: told) as server:
        found = await failure_of(spec(provider, server.url))
    assert (found.kind, found.maybe_billed) == (kind, billed), found
    wait = told.headers.get("Retry-After")
    assert found.retry_after_s == (None if wait is None else float(wait))


@pytest.mark.parametrize("provider", DIALECTS)
async def test_a_server_that_is_not_there_bills_nothing_and_nonsense_is_a_mistake(
    provider: str,
) -> None:
    async with LoopbackServer(lambda _: Told()) as server:
        url = server.url
    found = await failure_of(spec(provider, url))
    assert (found.kind, found.maybe_billed) == ("transient", False)
    for nonsense in ("localhost:8000/v1", "nonsense://x", "x"):
        with pytest.raises(CatalogMistake, match="http://"):
            await failure_of(spec(provider, nonsense))


async def test_a_slow_body_runs_into_the_timeout() -> None:
    async with (
        FaultServer(rate=1.0, faults=["slow"], slow_s=30.0) as server,
        providers.connect(spec("openai", server.base_url), environ={}) as ask,
    ):
        with pytest.raises(CallFailed) as caught:
            await timeout(ask, seconds=0.02)(ask_for())
    assert (caught.value.failure.kind, caught.value.failure.maybe_billed) == ("timeout", True)


# --- keys ----------------------------------------------------------------------------------------


def echoing(asked: Asked) -> Told:
    """A server that says back all that it was told, keys too."""
    said = asked.head.decode()
    return Told(
        400,
        msgspec.json.encode({"error": {"message": f"bad request: {said} {said}", "code": said}}),
    )


@pytest.mark.parametrize("provider", DIALECTS)
async def test_no_key_shows_in_a_failure_a_reply_or_a_log(
    provider: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    plain = "an-unusual-key-of-no-known-shape"
    for key in (KEY, plain):
        environ = dict.fromkeys(ENVIRON, key)
        async with LoopbackServer(echoing) as server:
            found = await failure_of(spec(provider, server.url), environ)
        assert "[key]" in found.message
        texts = [str(found), repr(found), str(CallFailed(found)), repr(CallFailed(found))]
        assert not any(key in text or key[:12] in text for text in texts)
        async with (
            FaultServer(lambda _, key=key: f"the key is {key}") as model_server,
            providers.connect(spec(provider, model_server.url), environ=environ) as ask,
        ):
            reply = await ask(ask_for())
            assert key not in repr(ask)
        assert key not in repr(reply)
        assert key.encode() not in reply.raw
    assert KEY not in caplog.text
    assert plain not in caplog.text


@pytest.mark.parametrize("word", ["none", "EMPTY", "x", "tokens"])
async def test_a_word_in_place_of_a_key_changes_no_reply(word: str) -> None:
    """Servers without keys are given some word, and a reply may well hold it: as its answer."""
    said = f"Of them {word}.\nAnswer: {word}"
    async with (
        FaultServer(lambda _: said) as server,
        providers.connect(spec("openai", server.url), environ=dict.fromkeys(ENVIRON, word)) as ask,
    ):
        reply = await ask(ask_for())
    assert reply.text == said
    assert reply.usage is not None


@given(st.text(max_size=400), st.sampled_from(["sk-", "sk-ant-api03-", "sk-or-v1-", "r8_"]))
def test_a_message_is_one_line_without_keys_wherever_it_is_cut(text: str, prefix: str) -> None:
    key = f"{prefix}0123456789abcdefABCDEF0123456789"
    for place in (0, 150, 270, 290, 299):
        line = one_line(f"{text[:place]:.<{place}} {key} {text}")
        assert len(line) <= 300
        assert not {"\n", "\r", "\x1b", "\x00", "\u2028"} & set(line)
        assert "0123456789" not in line or "0123456789" in text
    assert one_line(
        f"at https://me:hunter2@example.com/v1 with Bearer abc123def456 {text}"
    ).startswith("at https://[key]example.com/v1 with [key]")


def test_plain_words_are_not_taken_for_keys() -> None:
    for text in ("Basic authentication required", "risk-averse task-oriented", "hf_hub failed"):
        assert one_line(text) == text


async def test_credentials_in_an_address_are_sent_and_never_told() -> None:
    asked: list[Asked] = []

    def respond(request: Asked) -> Told:
        asked.append(request)
        return Told(418, b"{}")

    async with LoopbackServer(respond) as server:
        url = server.url.replace("http://", "http://me:hunter2@") + "/v1?api-version=1"
        model = spec("openai", url)
        found = await failure_of(model, {})
    assert asked[0].path == "/v1/chat/completions?api-version=1"
    assert asked[0].headers["authorization"].startswith("Basic ")
    assert "hunter2" not in repr(found) + providers.endpoint(model, environ={})


# --- where and who -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("provider", "base_url", "environ", "endpoint"),
    [
        ("openai", "", {}, "openai:https://api.openai.com/v1"),
        ("openai", "http://Host:80/v1/", {}, "openai:http://host:80/v1"),
        ("openai", "https://u:p@h/v1?key=x#y", {}, "openai:https://h/v1"),
        ("openai", "", {"OPENAI_BASE_URL": "http://[::1]:8/v1"}, "openai:http://[::1]:8/v1"),
        ("openai", "http://a/v1", {"OPENAI_BASE_URL": "http://b/v1"}, "openai:http://a/v1"),
        ("anthropic", "", {"OPENAI_BASE_URL": "http://b"}, "anthropic:https://api.anthropic.com"),
        ("anthropic", "", {"ANTHROPIC_BASE_URL": "http://b/"}, "anthropic:http://b"),
        ("replicate", "", {}, "replicate:https://api.replicate.com"),
    ],
)
def test_an_endpoint_names_server_and_dialect_and_stays(
    provider: str, base_url: str, environ: dict[str, str], endpoint: str
) -> None:
    model = spec(provider, base_url)
    assert providers.endpoint(model, environ=environ) == endpoint
    there = providers.located(model, environ=environ)
    elsewhere = {"OPENAI_BASE_URL": "http://z", "ANTHROPIC_BASE_URL": "http://z"}
    assert providers.endpoint(there, environ=elsewhere) == endpoint


async def test_the_environment_s_credentials_survive_being_located() -> None:
    asked: list[Asked] = []

    def respond(request: Asked) -> Told:
        asked.append(request)
        return Told(418, b"{}")

    async with LoopbackServer(respond) as server:
        url = server.url.replace("http://", "http://me:hunter2@")
        environ = {"OPENAI_BASE_URL": f"{url}/v1"}
        model = providers.located(spec("openai"), environ=environ)
        assert "hunter2" not in repr(model)
        await failure_of(model, environ)
    assert asked[0].headers["authorization"].startswith("Basic ")


@pytest.mark.parametrize(
    ("provider", "base_url", "environ", "variable"),
    [
        ("openai", "", {}, "OPENAI_API_KEY"),
        ("openai", "", {"OPENAI_API_KEY": "  "}, "OPENAI_API_KEY"),
        ("openai", "", {"OPENAI_API_KEY": "k"}, None),
        ("openai", "http://localhost:8000/v1", {}, None),
        ("openai", "", {"OPENAI_BASE_URL": "http://localhost:8000/v1"}, None),
        ("openai", "https://openrouter.ai/api/v1", {}, "OPENROUTER_API_KEY"),
        ("openai", "https://openrouter.ai/api/v1", {"OPENAI_API_KEY": "k"}, None),
        ("openai", "https://openrouter.ai/api/v1", {"OPENROUTER_API_KEY": "k"}, None),
        ("anthropic", "", {}, "ANTHROPIC_API_KEY"),
        ("anthropic", "", {"ANTHROPIC_API_KEY": "k"}, None),
        ("anthropic", "http://localhost:1", {}, None),
        ("replicate", "", {}, "REPLICATE_API_TOKEN"),
        ("replicate", "", {"REPLICATE_API_TOKEN": "k"}, None),
    ],
)
def test_a_missing_key_is_named(
    provider: str, base_url: str, environ: dict[str, str], variable: str | None
) -> None:
    assert providers.missing_key(spec(provider, base_url), environ) == variable


async def test_a_server_of_one_s_own_needs_no_key_and_is_sent_none() -> None:
    asked: list[Asked] = []

    def respond(request: Asked) -> Told:
        asked.append(request)
        return Told(418, b"{}")

    async with LoopbackServer(respond) as server:
        await failure_of(spec("openai", server.url), {})
        await failure_of(spec("openai", server.url), {"OPENAI_API_KEY": " k \n"})
    assert "authorization" not in asked[0].headers
    assert asked[1].headers["authorization"] == "Bearer k"


async def test_check_tells_a_good_model_from_a_bad_one() -> None:
    assert await providers.check(spec("openai"), environ={}) == Failure(
        "bad_key", "OPENAI_API_KEY is not set"
    )
    async with FaultServer(key=KEY) as server:
        for provider in DIALECTS:
            model = spec(provider, server.url)
            assert await providers.check(model, environ=ENVIRON) is None
        assert server.output_tokens <= 2 * 16
        wrong = dict.fromkeys(ENVIRON, "wrong")
        for provider in ("openai", "anthropic"):
            found = await providers.check(spec(provider, server.url), environ=wrong)
            assert found is not None
            assert found.kind == "bad_key"
    gone = (WIRE / "replicate/not_found.404.json").read_bytes()
    async with LoopbackServer(lambda _: Told(404, gone)) as server:
        for provider in DIALECTS:
            found = await providers.check(spec(provider, server.url), environ=ENVIRON)
            assert found is not None
            assert found.kind == "unknown_model"


def test_an_unknown_provider_is_the_user_s_mistake() -> None:
    with pytest.raises(CatalogMistake, match="openai"):
        providers.endpoint(spec("opnai"))


async def test_a_plugin_s_provider_is_found_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "deltascale_parrot-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: deltascale-parrot\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[deltascale.providers]\nparrot = deltascale_parrot\n")
    (tmp_path / "deltascale_parrot.py").write_text(
        "from contextlib import asynccontextmanager\n"
        "from deltascale.records import Reply\n"
        "@asynccontextmanager\n"
        "async def connect(model, *, environ):\n"
        "    async def ask(request):\n"
        "        return Reply(request.messages[-1].content, 'stop')\n"
        "    yield ask\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    model = spec("parrot", "http://p/v1")
    async with providers.connect(model, environ={}) as ask:
        assert (await ask(ask_for(user("hello")))).text == "hello"
    assert providers.endpoint(model) == "parrot:http://p/v1"
    assert providers.missing_key(model, {}) is None
    assert providers.located(model, environ={}) is model
    assert await providers.check(model, environ={}) is None


async def test_a_proxy_is_used_for_far_hosts_and_never_for_this_machine() -> None:
    asked: list[Asked] = []

    def respond(request: Asked) -> Told:
        asked.append(request)
        return Told(418, b"{}")

    async with LoopbackServer(respond) as proxy, LoopbackServer(respond) as server:
        environ = {"http_proxy": proxy.url, "NO_PROXY": "near.example, .close.example"}
        await failure_of(spec("openai", "http://far.example/v1"), environ)
        assert asked.pop().path == "http://far.example/v1/chat/completions"
        await failure_of(spec("openai", f"{server.url}/v1"), environ)
        assert asked.pop().path == "/v1/chat/completions"
        for host in ("near.example", "x.close.example"):
            found = await failure_of(spec("openai", f"http://{host}:9/v1"), environ)
            assert found.kind == "transient"
        assert asked == []


@given(st.text(max_size=60))
def test_the_bare_form_of_an_address_is_its_own_bare_form(path: str) -> None:
    url = f"https://user:pass@Example.com:8443/{path.replace('?', '').replace('#', '')}"
    assert bare(bare(url)) == bare(url)
    assert "pass" not in bare(url) or "pass" in path


# --- environment ---------------------------------------------------------------------------------


def test_the_environment_wins_over_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text(
        "\ufeff# keys\n"
        "OPENAI_API_KEY=from-file\n"
        "export ANTHROPIC_API_KEY='quoted # value'  # comment\n"
        'REPLICATE_API_TOKEN="double"\n'
        "PLAIN = spaced value # comment\n"
        "EMPTY=\n"
        "URL=http://h/v1#part\n"
        "not a line\n"
        "1BAD=x\n"
        "=x\n",
        encoding="utf-8",
    )
    for name in ("ANTHROPIC_API_KEY", "PLAIN", "URL", "EMPTY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", "from-environment")
    monkeypatch.setenv("REPLICATE_API_TOKEN", "")
    found = providers.read_environment(tmp_path)
    assert found["OPENAI_API_KEY"] == "from-environment"
    assert found["ANTHROPIC_API_KEY"] == "quoted # value"
    assert found["REPLICATE_API_TOKEN"] == "double"
    assert found["PLAIN"] == "spaced value"
    assert found["EMPTY"] == ""
    assert found["URL"] == "http://h/v1#part"
    assert {"1BAD", "", "not a line"}.isdisjoint(found)
    assert found["PATH"] == os.environ["PATH"]
    for shown in (str(found), repr(found), f"{found}"):
        assert "from-environment" not in shown
        assert "double" not in shown


def test_no_file_or_a_bad_one_adds_nothing(tmp_path: Path) -> None:
    assert dict(providers.read_environment(tmp_path)) == dict(os.environ)
    (tmp_path / ".env").write_bytes(b"\xff\xfe\x00K=v")
    assert dict(providers.read_environment(tmp_path)) == dict(os.environ)


def test_importing_the_providers_imports_no_client() -> None:
    code = (
        "import sys, deltascale.providers, deltascale.providers.policies, "
        "deltascale.providers.openai, deltascale.providers.local; "
        "print([m for m in ('aiohttp', 'yarl', 'xllamacpp', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("count", [None, -1, 2**31, 10**24])
@pytest.mark.parametrize("dialect", ["openai", "anthropic", "replicate"])
def test_a_count_that_can_not_be_is_none(dialect: str, count: int | None) -> None:
    """So the call costs its worst case: neither nothing nor what no column could hold."""
    from deltascale.providers import anthropic, openai, replicate

    made = {
        "openai": lambda n: openai._usage(openai._Usage(prompt_tokens=5, completion_tokens=n)),
        "anthropic": lambda n: anthropic._usage(anthropic._Usage(input_tokens=5, output_tokens=n)),
        "replicate": lambda n: replicate._usage(
            replicate._Metrics(input_token_count=5, output_token_count=n)
        ),
    }[dialect]
    assert made(count) is None
    assert made(7) is not None
