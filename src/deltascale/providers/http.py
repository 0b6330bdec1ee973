"""The socket under every provider: one session a model, typed failures, no policy.

Imported late, because aiohttp is slow to import.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TypeAlias

import aiohttp
from yarl import URL

from deltascale.providers import CallFailed
from deltascale.providers.wire import one_line
from deltascale.records import Failure, FailureKind, ModelSpec

__all__ = ["Answer", "Exchange", "session", "target"]

Answer: TypeAlias = tuple[int, Mapping[str, str], bytes]
"""Status, headers (names in any case) and the whole body."""

Exchange: TypeAlias = Callable[..., Awaitable[Answer]]
"""`exchange(url, body)` posts JSON, `exchange(url)` gets; raises CallFailed."""

# Below the five seconds after which many servers drop an idle connection: a request that crosses
# with the drop has an unknown fate.
_KEEP_ALIVE_S = 4.0
_CONNECT_S = 30.0
_LEAST_SECRET = 8
"""Characters; no provider's key is as short, but what servers without keys are given is."""
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


def target(base: str, path: str) -> URL:
    """The address of a path under a base URL; the base's query stays, its credentials go."""
    url = URL(base)
    whole = url.with_user(None).with_fragment(None)
    return whole.with_path(whole.path.rstrip("/") + path).with_query(url.query)


def _proxy(url: URL, environ: Mapping[str, str]) -> str | None:
    # Found once a session: aiohttp's own trust_env asks a thread for it on every request.
    if url.host is None or url.host in _LOOPBACK:
        return None
    proxies = {
        name.lower().removesuffix("_proxy"): value
        for name, value in environ.items()
        if name.lower().endswith("_proxy") and value
    }
    direct = [name.strip().lstrip("*.").lower() for name in proxies.get("no", "").split(",")]
    if "*" in proxies.get("no", "").split(",") or any(
        name and f".{url.host}".endswith(f".{name}") for name in direct
    ):
        return None
    return proxies.get(url.scheme) or proxies.get("all")


def _authorization(base: str) -> dict[str, str]:
    url = URL(base)
    if url.user is None:
        return {}
    credentials = b64encode(f"{url.user}:{url.password or ''}".encode()).decode()
    return {"Authorization": f"Basic {credentials}"}


@asynccontextmanager
async def session(
    model: ModelSpec,
    *,
    base: str,
    headers: Mapping[str, str],
    secret: str,
    environ: Mapping[str, str],
) -> AsyncIterator[Exchange]:
    """Connections to one server, closed with the context.

    `secret` is cut out of everything that comes back, unless it is a word that a server without
    keys is given in place of one, such as `none`: in a reply that may be the answer. Credentials in
    `base` are sent as Basic authorization unless `headers` hold another. Proxies come from
    `environ`; a loopback address never goes through one.
    """
    proxy = _proxy(URL(base), environ)
    secret = secret if len(secret) >= _LEAST_SECRET else ""
    key = secret.encode()
    connector = aiohttp.TCPConnector(
        limit=max(1, model.limits.connections),
        limit_per_host=0,
        ttl_dns_cache=300,
        keepalive_timeout=_KEEP_ALIVE_S,
    )
    always = {
        "Content-Type": "application/json",
        "User-Agent": "deltascale",
        **_authorization(base),
        **headers,
    }
    async with aiohttp.ClientSession(
        connector=connector,
        headers=always,
        cookie_jar=aiohttp.DummyCookieJar(),
        # The whole call's time is a policy's business, not the socket's.
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S),
    ) as opened:
        request = opened.request

        async def exchange(
            url: URL | str, body: bytes | None = None, more: Mapping[str, str] | None = None
        ) -> Answer:
            try:
                async with request(
                    "GET" if body is None else "POST",
                    url,
                    data=body,
                    headers=more,
                    proxy=proxy,
                    allow_redirects=False,  # a redirected POST loses its body or leaks its key
                ) as response:
                    content = await response.read()
                    if key and key in content:
                        content = content.replace(key, b"[key]")
                    return response.status, response.headers, content
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                raise _broken(error, secret) from None

        yield exchange


def _broken(error: Exception, secret: str) -> CallFailed:
    said = str(error)
    if secret:
        said = said.replace(secret, "[key]")
    message = one_line(f"{type(error).__name__}: {said}")
    if isinstance(error, aiohttp.InvalidURL | aiohttp.NonHttpUrlClientError):
        return CallFailed(Failure("bad_request", message))
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return CallFailed(Failure("timeout", message))
    if isinstance(error, aiohttp.ClientConnectorError):
        return CallFailed(Failure("transient", message))
    kind: FailureKind = "timeout" if isinstance(error, TimeoutError) else "transient"
    return CallFailed(Failure(kind, message, maybe_billed=True))
