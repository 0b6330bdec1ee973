"""Models on servers of this machine for tests of providers, and what to ask of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest

from deltascale import providers
from deltascale.providers import CallFailed
from deltascale.records import Failure, Message, ModelSpec, Params, Price, Request, Size, user

KEY = "sk-proj-Very-Secret-0123456789abcdef"
ENVIRON = {"OPENAI_API_KEY": KEY, "ANTHROPIC_API_KEY": KEY, "REPLICATE_API_TOKEN": KEY}
WIRE = Path(__file__).parent / "wire"
LLAMA = "meta/meta-llama-3-70b-instruct"
DIALECTS = ["openai", "anthropic", "replicate"]


def spec(provider: str, base_url: str = "", **more: object) -> ModelSpec:
    name = LLAMA if provider == "replicate" else "m"
    made = ModelSpec(
        f"{provider}/{name}", provider, name, Size("unknown"), Price(0, 0, 0, "", ""), base_url
    )
    return msgspec.structs.replace(made, **more)


def ask_for(*messages: Message, **more: object) -> Request:
    request = Request("m", "e", Params(64, 0.7), messages or (user("6*7?"),))
    return msgspec.structs.replace(request, **more)


async def failure_of(model: ModelSpec, environ: Mapping[str, str] = ENVIRON) -> Failure:
    async with providers.connect(model, environ=environ) as ask:
        with pytest.raises(CallFailed) as caught:
            await ask(ask_for())
    return caught.value.failure
