"""What every wire dialect shares: addresses, error bodies, and what they mean. Pure, no sockets."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit, urlunsplit

import msgspec

from deltascale.errors import CatalogMistake
from deltascale.providers import RESERVED_PARAMS, CallFailed
from deltascale.records import Failure, FailureKind, ModelSpec, Request, Usage

__all__ = [
    "address",
    "bare",
    "checked_extra",
    "countable",
    "error_in",
    "failed",
    "one_line",
    "retry_after_s",
    "unreadable",
]

# --- addresses -----------------------------------------------------------------------------------


def bare(url: str) -> str:
    """The URL without user, password, query and fragment, in one spelling: what may be recorded."""
    parts = urlsplit(url.strip())
    host = (parts.hostname or "").lower()
    if ":" in host:
        host = f"[{host}]"
    netloc = host if parts.port is None else f"{host}:{parts.port}"
    return urlunsplit((parts.scheme.lower(), netloc, parts.path.rstrip("/"), "", ""))


def address(model: ModelSpec, variable: str, default: str, environ: Mapping[str, str]) -> str:
    """Where to ask: the model's own `base_url`, else the environment's, else the provider's.

    May hold a user and password; `bare` takes them off. They come from the environment too where
    the model's address is the bare form of the variable's, as `located` writes it. Raises
    CatalogMistake for what is no address.
    """
    asked = environ.get(variable, "").strip()
    own = bool(model.base_url) and (not asked or bare(asked) != model.base_url)
    url = model.base_url.strip() if own else asked or default
    if not url.startswith(("http://", "https://")):
        raise CatalogMistake(
            f"{'base_url' if own else variable} is no address: {one_line(url)}",
            where=model.id,
            remedy="begin it with http:// or https://",
        )
    return url


# --- requests ------------------------------------------------------------------------------------


def checked_extra(request: Request) -> dict[str, object]:
    """The request's extra parameters; CallFailed where they would change the study itself."""
    extra = request.params.extra
    if extra and not RESERVED_PARAMS.isdisjoint(extra):
        names = ", ".join(sorted(RESERVED_PARAMS.intersection(extra)))
        raise CallFailed(Failure("bad_request", f"params may not set {names}"))
    return extra


# --- usage ---------------------------------------------------------------------------------------

_MOST_TOKENS = 10**9
"""A larger count of one call is a server's fault; no sum of money could be made of it."""


def countable(*counts: int | None) -> bool:
    """Whether all of these can be what a server counted in a call."""
    return all(n is not None and 0 <= n <= _MOST_TOKENS for n in counts)


# --- messages ------------------------------------------------------------------------------------

_MAX_MESSAGE = 300
_KEY_SHAPES = re.compile(
    r"""(?xi)
    \b(?:sk|pk|rk)-[\w*.\-]{6,}          # OpenAI, Anthropic, OpenRouter, DeepSeek (also masked)
    | \b(?:r8|hf|gsk|nvapi|fw|pplx|xai|tgp_v1)[_-](?=[\w\-]*\d)[\w\-]{8,}
    | \bAIza[\w\-]{20,}
    | \b(?:bearer|basic)\s+(?=\S*\d)[\w+/=.\-]{8,}
    | (?<=://)[^/\s@]+@                  # user and password in a URL
    """
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u200b-\u200f\u202a-\u202e\ufeff]+")
_TAG = re.compile(r"(?s)<(style|script)\b.*?</\1>|<[^>]*>")


def one_line(text: str) -> str:
    """The text as one line of at most 300 characters, without control characters and keys."""
    # Keys go before the cut: half a key at the end of a line would not look like one.
    text = _KEY_SHAPES.sub("[key]", _CONTROL.sub(" ", text[:20_000]))
    text = " ".join(text.split())
    return text if len(text) <= _MAX_MESSAGE else text[: _MAX_MESSAGE - 1] + "…"


class _Error(msgspec.Struct):
    message: object = None
    type: object = None
    code: object = None
    status: object = None
    metadata: object = None
    innererror: object = None
    detail: object = None


class _ErrorBody(msgspec.Struct):
    """Every shape in which servers wrap an error; all fields optional, all types lenient."""

    error: _Error | str | None = None
    message: object = None
    detail: object = None
    title: object = None
    type: object = None
    code: object = None


_decode_error = msgspec.json.Decoder(_ErrorBody).decode


def _text(value: object) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def error_in(body: bytes) -> tuple[str, str, int | None]:
    """What a body says went wrong: (message, machine words, status inside the body).

    The words are the codes and types, for `failed` to judge by. A body without an error gives
    ("", "", None); one that is not JSON is its own message, tags taken off.
    """
    try:
        said = _decode_error(body)
    except msgspec.MsgspecError:
        return _TAG.sub(" ", body[:20_000].decode("utf-8", "replace")).strip(), "", None
    if isinstance(said.error, str):
        return said.error, _text(said.code), None
    if said.error is not None:
        error = said.error
        words = " ".join(
            _text(part)
            for part in (error.code, error.type, error.status, error.metadata, error.innererror)
        )
        message = _text(error.message) or _text(error.detail)
        if isinstance(error.metadata, dict) and error.metadata.get("raw"):
            message = f"{message}: {_text(error.metadata['raw'])}"
        status = error.code if isinstance(error.code, int) else None
        return message or words, words, status
    parts = [_text(part) for part in (said.title, said.message, said.detail)]
    status = said.code if isinstance(said.code, int) else None
    return (
        ": ".join(part for part in parts if part),
        f"{_text(said.code)} {_text(said.type)}",
        status,
    )


# --- what an error means -------------------------------------------------------------------------

_NO_CREDIT = re.compile(
    r"insufficient_quota|billing_hard_limit|billing_not_active|billing_error|account_deactivated"
    r"|credit balance is too low|insufficient[ _](?:credit|balance|fund)|out of credits"
    r"|spend(?:ing)? limit|key limit exceeded|specified api usage limits|payment required"
)
_BAD_KEY = re.compile(
    r"invalid_api_key|(?:incorrect|invalid|missing|expired) api[ _]key"
    r"|api key (?:not valid|expired)|authentication_error|permission_error|unauthenticated"
)
_TOO_LONG = re.compile(
    r"context_length_exceeded|exceed_context_size|string_above_max_length|request_too_large"
    r"|maximum context length|maximum model length|context window|context size|context limit"
    r"|model'?s context length|prompt is too long|input is too long|prompt too long"
    r"|too many (?:input |prompt )?tokens|request too large|max_new_tokens`? must be"
    r"|input (?:length|tokens?) .{0,40}exceed|longer than the (?:maximum|model)"
)
_FILTERED = re.compile(
    r"content_filter|content_policy_violation|responsibleaipolicy|content management policy"
    r"|content filter|invalid_prompt|data_inspection_failed|flagged|moderation|nsfw"
    r"|safety system|violat\w+ (?:of )?(?:our |the )?(?:usage |content )?polic"
)
_UNKNOWN_MODEL = re.compile(
    r"model_not_found|model_not_exist|model_decommissioned|deploymentnotfound|unknown_model"
    r"|models?\b.{0,120}(?:does not exist|doesn't exist|not exist|not found|isn't available"
    r"|is not available|has been deprecated|decommissioned|not loaded)"
    r"|(?:unknown|invalid|no such|unsupported) model|not a valid model|no endpoints found"
    r"|access to (?:the )?model"
)
_RATE = re.compile(r"rate_limit|rate limit|too many requests|throttl|resource_exhausted")
_CUT_SHORT = frozenset({408, 499, 502, 504, 520, 522, 524})
"""Statuses of a gateway that gave up: the model behind it may have answered, and billed."""


def _kind(status: int, text: str) -> FailureKind:
    certain: Mapping[int, FailureKind] = {401: "bad_key", 402: "no_credit", 404: "unknown_model"}
    if status in certain:
        return certain[status]
    if status == 408:
        return "timeout"
    if _TOO_LONG.search(text) or status == 413:
        return "context_too_long"
    if status >= 500 or status in {409, 425, 499}:
        return "transient"
    if _NO_CREDIT.search(text):
        return "no_credit"
    if status == 429:
        # Google says this of a limit per minute too, and then adds its own word.
        quota = "exceeded your current quota" in text and "resource_exhausted" not in text
        return "no_credit" if quota else "rate_limited"
    patterns: tuple[tuple[re.Pattern[str], FailureKind], ...] = (
        (_FILTERED, "filtered"),
        (_UNKNOWN_MODEL, "unknown_model"),
        (_BAD_KEY, "bad_key"),
        (_RATE, "rate_limited"),
    )
    for pattern, kind in patterns:
        if pattern.search(text):
            return kind
    if status == 403:
        return "bad_key"
    return "bad_request" if status >= 300 else "transient"


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds the server asks us to wait: `retry-after-ms`, or `Retry-After` as seconds or date.

    A date counts from the server's own `Date`, else from now. None: it does not say.
    """
    for name, unit_s in (("retry-after-ms", 1e-3), ("Retry-After", 1.0)):
        value = headers.get(name) or headers.get(name.lower())
        if value is None:
            continue
        try:
            wait_s = float(value) * unit_s
        except ValueError:
            try:
                until = parsedate_to_datetime(value).timestamp()
                dated = headers.get("Date") or headers.get("date")
                now = parsedate_to_datetime(dated).timestamp() if dated else time.time()
            except ValueError:
                continue
            wait_s = until - now
        if wait_s == wait_s:  # not NaN
            return max(0.0, wait_s)
    return None


def failed(
    status: int, body: bytes, headers: Mapping[str, str], *, usage: Usage | None = None
) -> CallFailed:
    """The failure that an error body is. `status` below 300: the error came in a body of success.

    Then the status inside the body counts, and without one the call's fate is unknown.
    """
    message, words, inner = error_in(body)
    if status < 300 and inner is not None and 300 <= inner < 600:
        status = inner
    text = f"{words} {message}".lower()
    billed = status in _CUT_SHORT or status < 300
    return CallFailed(
        Failure(
            kind=_kind(status, text),
            message=one_line(message) or f"HTTP {status} without a word",
            http_status=status,
            retry_after_s=retry_after_s(headers),
            usage=usage,
            maybe_billed=billed and usage is None,
        )
    )


def unreadable(status: int, what: str, *, usage: Usage | None = None) -> CallFailed:
    """The failure of a success that can't be read: asked for again, and counted as billed."""
    return CallFailed(
        Failure(
            "transient", one_line(what), http_status=status, usage=usage, maybe_billed=usage is None
        )
    )
