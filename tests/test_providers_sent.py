"""What providers send, dialect by dialect, and how a prediction of Replicate goes."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from deltascale import providers
from deltascale.providers import CallFailed, anthropic, openai, replicate
from deltascale.providers.policies import timeout
from deltascale.records import (
    Limits,
    Message,
    ModelSpec,
    Params,
    Reply,
    Request,
    Tool,
    ToolCall,
    user,
)
from deltascale.testing import Asked, LoopbackServer, ManualClock, Told
from tests.asking import DIALECTS, ENVIRON, KEY, LLAMA, WIRE, ask_for, spec


def body_of(module, model: ModelSpec, request: Request) -> dict[str, object]:
    return msgspec.json.decode(module.render(model, request))


def test_a_reasoning_model_takes_no_temperature_and_its_own_limit() -> None:
    sent = body_of(openai, spec("openai", reasoning=True), ask_for())
    assert sent["max_completion_tokens"] == 64
    assert {"temperature", "max_tokens"}.isdisjoint(sent)
    sent = body_of(openai, spec("openai"), ask_for())
    assert (sent["max_tokens"], sent["temperature"]) == (64, 0.7)
    assert "temperature" not in body_of(anthropic, spec("anthropic", reasoning=True), ask_for())
    no_temperature = ask_for(params=Params(64))
    for module, name in ((openai, "openai"), (anthropic, "anthropic")):
        assert "temperature" not in body_of(module, spec(name), no_temperature)


@pytest.mark.parametrize("provider", DIALECTS)
def test_extra_parameters_are_sent_as_they_are_unless_they_change_the_study(provider: str) -> None:
    module = {"openai": openai, "anthropic": anthropic, "replicate": replicate}[provider]
    sent = body_of(module, spec(provider), ask_for(params=Params(64, 0.7, {"top_p": 0.9})))
    assert sent.get("input", sent)["top_p"] == 0.9
    for name in providers.RESERVED_PARAMS:
        with pytest.raises(CallFailed) as caught:
            module.render(spec(provider), ask_for(params=Params(64, 0.7, {name: 1})))
        assert caught.value.failure.kind == "bad_request"
        assert name in caught.value.failure.message


def test_anthropic_never_gets_an_empty_message_or_two_of_one_role_in_a_row() -> None:
    call = ToolCall("c1", "Calculate", "not json")
    sent = body_of(
        anthropic,
        spec("anthropic"),
        ask_for(
            Message("system", "Be brief."),
            Message("system", "Be right."),
            user("6*7?"),
            Message("assistant", " \n"),
            user("Again."),
            user("Please."),
            Message("assistant", "", (call,)),
            Message("tool", "42", tool_call_id="c1"),
        ),
    )
    messages = sent["messages"]
    assert sent["system"] == "Be brief.\n\nBe right."
    assert [m["role"] for m in messages] == ["user", "assistant", "user", "assistant", "user"]
    assert all(m["content"] for m in messages)
    assert all(block.get("text", "x").strip() for m in messages for block in m["content"])
    assert messages[3]["content"][0]["input"] == {"arguments": "not json"}


def test_replicate_renders_every_turn_of_llama_3_in_the_same_way() -> None:
    head, end = "<|start_header_id|>", "<|eot_id|>"
    turns = (Message("system", "Be brief."), user("6*7? {x}"))
    first = body_of(replicate, spec("replicate"), ask_for(*turns))["input"]
    second = body_of(
        replicate,
        spec("replicate"),
        ask_for(*turns, Message("assistant", "41"), user("Sure?")),
    )["input"]
    assert first["prompt_template"] == second["prompt_template"] == "{prompt}"
    assert first["prompt"] == (
        f"<|begin_of_text|>{head}system<|end_header_id|>\n\nBe brief.{end}"
        f"{head}user<|end_header_id|>\n\n6*7? {{x}}{end}{head}assistant<|end_header_id|>\n\n"
    )
    assert second["prompt"].startswith(first["prompt"])
    assert second["prompt"].removeprefix(first["prompt"]) == (
        f"41{end}{head}user<|end_header_id|>\n\nSure?{end}{head}assistant<|end_header_id|>\n\n"
    )
    assert (first["max_tokens"], first["temperature"]) == (64, 0.7)


def test_replicate_renders_llama_2_and_refuses_what_it_can_not_render() -> None:
    llama2 = spec("replicate", name="meta/llama-2-70b-chat")
    turns = (Message("system", "Be brief."), user("6*7?"), Message("assistant", "41"), user("?"))
    sent = body_of(replicate, llama2, ask_for(*turns))["input"]
    assert sent["prompt"] == (
        "[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\n6*7? [/INST] 41 </s><s>[INST] ? [/INST]"
    )
    assert sent["max_new_tokens"] == 64
    other = spec("replicate", name="somebody/something")
    sent = body_of(replicate, other, ask_for(*turns[:2]))["input"]
    assert (sent["prompt"], sent["system_prompt"]) == ("6*7?", "Be brief.")
    assert "prompt_template" not in sent
    tool = Tool("Calculate", "", "{}")
    for model, request in (
        (other, ask_for(*turns)),
        (other, ask_for(tools=(tool,))),
        (llama2, ask_for(tools=(tool,))),
    ):
        with pytest.raises(CallFailed) as caught:
            replicate.render(model, request)
        assert caught.value.failure.kind == "bad_request"


async def test_replicate_asks_for_a_version_by_its_own_address() -> None:
    asked: list[Asked] = []

    def respond(request: Asked) -> Told:
        asked.append(request)
        return Told(201, (WIRE / "replicate/text.201.json").read_bytes())

    async with LoopbackServer(respond) as server:
        for name in (LLAMA, f"{LLAMA}:abc123"):
            model = spec("replicate", server.url, name=name, limits=Limits(timeout_s=90.5))
            async with providers.connect(model, environ=ENVIRON) as ask:
                await ask(ask_for())
    assert [one.path for one in asked] == [f"/v1/models/{LLAMA}/predictions", "/v1/predictions"]
    assert "version" not in msgspec.json.decode(asked[0].body)
    assert msgspec.json.decode(asked[1].body)["version"] == "abc123"
    assert asked[0].headers["prefer"] == "wait=60"
    assert asked[0].headers["cancel-after"] == "90s"
    assert asked[0].headers["authorization"] == f"Bearer {KEY}"


class Predictions(LoopbackServer):
    """A server of predictions that stay under way for some questions, then end as told."""

    def __init__(self, n_pending: int, end: str = "text.201.json") -> None:
        super().__init__(self._respond)
        self.n_pending = n_pending
        self.end = end
        self.log: list[str] = []
        self.polled = asyncio.Event()

    def _respond(self, asked: Asked) -> Told:
        self.log.append(f"{asked.method} {asked.path}")
        if asked.path.endswith("/cancel"):
            return Told()
        if asked.method == "GET":
            self.polled.set()
        n_polls = sum(line.startswith("GET") for line in self.log)
        pending = asked.method == "POST" or n_polls <= self.n_pending
        name = "processing.201.json" if pending else self.end
        return Told(200 if asked.method == "GET" else 201, (WIRE / "replicate" / name).read_bytes())


async def test_a_prediction_under_way_is_asked_for_until_it_ends() -> None:
    clock = ManualClock()
    async with Predictions(3) as server:
        model = spec("replicate", server.url)
        async with replicate.connect(model, environ=ENVIRON, sleep=clock.sleep) as ask:

            async def one() -> Reply:
                return await ask(ask_for())

            reply = await clock.run(one())
    assert reply.text.endswith("42 — “done” ✓")
    get = "GET /v1/predictions/ex0mple0pred0iction0000000"
    assert server.log == [f"POST /v1/models/{LLAMA}/predictions", *[get] * 4]
    assert clock() > 1


async def test_a_cancelled_call_cancels_its_prediction() -> None:
    async with (
        Predictions(10**9) as server,
        replicate.connect(
            spec("replicate", server.url), environ=ENVIRON, sleep=lambda _: asyncio.sleep(0)
        ) as ask,
    ):
        call = asyncio.create_task(ask(ask_for()))
        await server.polled.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    assert server.log[-1] == "POST /v1/predictions/ex0mple0pred0iction0000000/cancel"


async def test_a_call_that_times_out_cancels_its_prediction() -> None:
    async def for_ever(_: float) -> None:
        await asyncio.get_running_loop().create_future()

    async with (
        Predictions(10**9) as server,
        replicate.connect(spec("replicate", server.url), environ=ENVIRON, sleep=for_ever) as ask,
    ):
        with pytest.raises(CallFailed) as caught:
            await timeout(ask, seconds=0.5)(ask_for())
    assert caught.value.failure.kind == "timeout"
    assert server.log[-1].endswith("/cancel")


async def test_a_lost_question_is_asked_again_and_many_end_the_call_as_billed() -> None:
    clock = ManualClock()
    n_lost = 3

    def respond(asked: Asked) -> Told:
        nonlocal n_lost
        if asked.method == "POST":
            return Told(201, (WIRE / "replicate/processing.201.json").read_bytes())
        n_lost -= 1
        if n_lost >= 0:
            return Told(500, b"{}")
        return Told(200, (WIRE / "replicate/string.200.json").read_bytes())

    async with LoopbackServer(respond) as server:
        model = spec("replicate", server.url)
        async with replicate.connect(model, environ=ENVIRON, sleep=clock.sleep) as ask:

            async def one() -> Reply:
                return await ask(ask_for())

            assert (await clock.run(one())).text == "42"
            n_lost = 10**9
            with pytest.raises(CallFailed) as caught:
                await clock.run(one())
    assert (caught.value.failure.kind, caught.value.failure.maybe_billed) == ("transient", True)
