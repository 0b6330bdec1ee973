"""Getting one reply from a model: who answers, at which address, and how a call can fail.

It knows no policy (retry, pace, budget, record: see `policies`) and opens no socket by itself.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib import import_module
from pathlib import Path
from typing import Protocol, TypeAlias, cast

from deltascale import extensions
from deltascale.errors import CatalogMistake
from deltascale.records import Failure, ModelSpec, Reply, Request

__all__ = [
    "PROVIDERS",
    "RESERVED_PARAMS",
    "CallFailed",
    "Caller",
    "Provider",
    "check",
    "connect",
    "endpoint",
    "located",
    "missing_key",
    "read_environment",
]

Caller: TypeAlias = Callable[[Request], Awaitable[Reply]]
"""Asks a model once. Raises `CallFailed`, and nothing else that the world can cause."""

PROVIDERS: Mapping[str, str] = {
    "anthropic": "deltascale.providers.anthropic",
    "local": "deltascale.providers.local",
    "openai": "deltascale.providers.openai",
    "replicate": "deltascale.providers.replicate",
    "simulated": "deltascale.providers.simulated",
}
"""Provider name → the module that asks it, imported when first used. The entry points of the group
`deltascale.providers` add to it."""

RESERVED_PARAMS = frozenset(
    {
        "best_of",
        "cache_control",
        "input",
        "max_completion_tokens",
        "max_output_tokens",
        "max_tokens",
        "messages",
        "model",
        "n",
        "prompt",
        "stream",
        "system",
        "temperature",
        "tool_choice",
        "tools",
    }
)
"""What a model's own `params` may not set: it would change what the study compares, multiply the
price behind the budget's back, or make the reply unreadable."""


class CallFailed(Exception):  # noqa: N818 - a failed call is data, not a fault of the program
    """A call that brought no reply. `cost_nusd`: what to count for it, set by the budget policy."""

    def __init__(self, failure: Failure, *, cost_nusd: int = 0) -> None:
        super().__init__(failure.kind, failure.message)
        self.failure = failure
        self.cost_nusd = cost_nusd

    def __str__(self) -> str:
        status = f" (HTTP {self.failure.http_status})" if self.failure.http_status else ""
        return f"{self.failure.kind}{status}: {self.failure.message}"


class Provider(Protocol):
    """The shape of a provider: a module or any other value with `connect`.

    It may also have `endpoint(model) -> str` (of a located model), `located(model, *, environ)`,
    `missing_key(model, *, environ)` and `check(model, *, environ)`, with the meaning of the
    functions of this module.
    """

    def connect(
        self, model: ModelSpec, *, environ: Mapping[str, str]
    ) -> AbstractAsyncContextManager[Caller]: ...


def _provider(name: str) -> Provider:
    if name in PROVIDERS:
        return cast("Provider", import_module(PROVIDERS[name]))
    plugins = extensions.points("deltascale.providers")
    if name in plugins.names:
        return cast("Provider", plugins[name].load())
    known = ", ".join(sorted({*PROVIDERS, *plugins.names}))
    raise CatalogMistake(
        f"there is no provider {name!r}",
        remedy=f"use one of {known}, or base_url for an OpenAI-compatible server",
    )


@asynccontextmanager
async def connect(model: ModelSpec, *, environ: Mapping[str, str]) -> AsyncIterator[Caller]:
    """The bare provider of a model, without any policy; connections close with the context.

    Raises CatalogMistake for an unknown provider, MissingExtra for one that is not installed.
    """
    async with _provider(model.provider).connect(model, environ=environ) as ask:
        yield ask


def endpoint(model: ModelSpec, *, environ: Mapping[str, str] | None = None) -> str:
    """The stable identity of server and dialect, `openai:https://api.openai.com/v1`.

    Part of every call's key; never holds a key, a user name or a query. For a local model it is
    `local:<SHA-256 of the weights>`. `environ` None: the process's own. A model that went through
    `located` has the same endpoint in every environment.
    """
    model = located(model, environ=os.environ if environ is None else environ)
    own = getattr(_provider(model.provider), "endpoint", None)
    if own is None:
        return f"{model.provider}:{model.base_url}"
    return cast("str", own(model))


def located(model: ModelSpec, *, environ: Mapping[str, str]) -> ModelSpec:
    """The same model with the address it will be asked at, environment variables resolved.

    What is kept of a study must be located: a replay must not depend on who replays it.
    """
    own = getattr(_provider(model.provider), "located", None)
    return model if own is None else cast("ModelSpec", own(model, environ=environ))


def missing_key(model: ModelSpec, environ: Mapping[str, str]) -> str | None:
    """The environment variable that the model needs and that is not set; None: nothing missing."""
    own = getattr(_provider(model.provider), "missing_key", None)
    return None if own is None else cast("str | None", own(model, environ=environ))


async def check(model: ModelSpec, *, environ: Mapping[str, str]) -> Failure | None:
    """Ask the provider whether key and model are good; None: they are.

    Costs at most one call of a few tokens, and nothing where the provider can tell for free.
    """
    variable = missing_key(model, environ)
    if variable is not None:
        return Failure("bad_key", f"{variable} is not set")
    own = getattr(_provider(model.provider), "check", None)
    return None if own is None else cast("Failure | None", await own(model, environ=environ))


class _Environment(Mapping[str, str]):
    """Variables by name. Its text shows no value, because some of them are keys."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = dict(values)

    def __getitem__(self, name: str) -> str:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"<environment: {len(self._values)} variables>"


def read_environment(directory: Path) -> Mapping[str, str]:
    """The process's environment and the directory's `.env`; the environment wins.

    `.env` holds lines `NAME=value`, with `#` comments, optional `export` and optional quotes;
    nothing is interpolated. A file that is missing or not text adds nothing.
    """
    try:
        text = (directory / ".env").read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError):
        text = ""
    values: dict[str, str] = {}
    for line in text.splitlines():
        name, equals, value = line.strip().removeprefix("export ").partition("=")
        name = name.strip()
        if equals and name.replace("_", "a").isalnum() and not name[0].isdigit():
            values[name] = _unquoted(value.strip())
    # A variable that is set but empty says nothing, so the file may still say something.
    values.update(
        (name, value) for name, value in os.environ.items() if value or name not in values
    )
    return _Environment(values)


def _unquoted(value: str) -> str:
    if value[:1] in {"'", '"'}:
        end = value.find(value[0], 1)
        if end > 0:
            return value[1:end]
    return value.partition(" #")[0].rstrip()
