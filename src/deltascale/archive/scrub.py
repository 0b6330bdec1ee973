"""Taking out of a pack what must not be in it: keys always, and for a blind review, who made it.

Everything is replaced consistently, the same text by the same stand-in, in one pass over each text.
Knows the shapes of keys, addresses and ids, and what it is told of this machine and its user.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache, partial
from typing import TypeVar, cast

import msgspec

__all__ = ["Scrub"]

T = TypeVar("T")

_SHAPES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "key": (
        r"""
          \b(?:sk|pk|rk)-(?=[\w*.-]*[0-9*])[\w*.-]{12,}
        | \b(?:r8|hf|gsk|fw|xai|pplx|ghp|gho|ghs|glpat|tgp_v1|nvapi|github_pat)[_-]
          (?=[\w-]*\d)[\w-]{12,}
        | \bAIza[\w-]{20,} | \bAKIA[0-9A-Z]{16}\b | \bya29\.[\w-]{20,}
        | \beyJ[\w-]{10,}\.eyJ[\w.-]{10,}
        | \b(?:bearer|basic)\s+(?=[\w+/=.-]*\d)[\w+/=.-]{12,}
        | (?<=://)[^/\s@:]+:[^/\s@]+(?=@)
        """,
        (
            "sk-",
            "pk-",
            "rk-",
            "r8",
            "hf_",
            "gsk",
            "fw_",
            "xai",
            "pplx",
            "ghp",
            "gho_",
            "ghs_",
            "glpat",
            "tgp_",
            "nvapi",
            "github_",
            "aiza",
            "akia",
            "ya29.",
            "eyj",
            "bearer",
            "basic",
            "://",
        ),
    ),
    "email": (r"(?<![\w.+-])[\w.+-]+@[\w-]+(?:\.[\w-]+)+", ("@",)),
    "tuned": (r"\bft:[\w.-]+:(?!org-\d+\b)[\w.-]+", ("ft:",)),
    "org": (
        r"\b(?:org|proj|acct)[-_](?=[A-Za-z]*\d)[A-Za-z0-9]{12,}",
        ("org-", "org_", "proj-", "proj_", "acct-", "acct_"),
    ),
    "id": (
        r"""
          \b(?:req|resp|chatcmpl|cmpl|msg|gen)[-_](?=[A-Za-z_-]*\d)[A-Za-z0-9_-]{12,}
        | \b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b
        """,
        ("req_", "req-", "resp_", "cmpl-", "cmpl_", "msg_", "msg-", "gen-", "-4", "-1", "-7"),
    ),
    "host": (
        r"""
          (?<![\w.-])(?:10|192\.168|172\.(?:1[6-9]|2[0-9]|3[01]))(?:\.[0-9]{1,3}){2,3}(?![\w.-])
        | (?<![\w.-])(?:[\w-]+\.)+(?:local|internal|corp|lan|intranet|localdomain)\b
        """,
        ("10.", "192.168", "172.", ".local", ".internal", ".corp", ".lan", ".intranet"),
    ),
    "zone": (
        r"""
          \b\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?\s?[+-]\d\d:?\d\d\b
        | \b\d{1,2}\s[A-Z][a-z]{2}\s\d{4}\s\d\d:\d\d:\d\d\s[+-]\d{4}\b
        """,
        (":0", ":1", ":2", ":3", ":4", ":5"),
    ),
}
"""Kind → its pattern, and what a text in lower case must hold (any of it) to be worth a look. They
are applied in this order, after paths and known texts; no stand-in matches a later pattern."""

_HOME = r"(?:/home/|/users/|\b[a-z]:\\users\\)[\w.-]+"
_BELOW = r"(?:[/\\][\w.-]+)*"
"""A path is replaced to its end: what lies in somebody's home tells of them too."""

_STAND_INS = {
    "email": "email-{}",
    "org": "org-{}",
    "id": "id-{}",
    "user": "user-{}",
    "host": "host-{}",
    "endpoint": "endpoint-{}.invalid",
    "name": "name-{}",
    "path": "/path-{}",
    "listed": "withheld-{}",
}
KEY = "[key]"


class Scrub:
    """A replacement of texts, the same for the whole pack.

    `secrets` are texts that never enter a pack. `names` are texts that tell who made it, each with
    its kind (user, host, endpoint, name, path, org, listed); they and all that has the shape of an
    address or id are replaced where `anonymous`. `counts` says how many of each kind were met.
    """

    def __init__(
        self, *, secrets: Iterable[str] = (), names: Mapping[str, str], anonymous: bool
    ) -> None:
        self.anonymous = anonymous
        self._known: dict[tuple[str, str], str] = {}
        self._literals: dict[str, str] = {}
        for text in sorted(set(secrets)):
            self._literals[_plain(text)] = "key"
        if anonymous:
            for text, kind in names.items():
                self._literals.setdefault(_plain(text), kind)
        paths = [text for text, kind in self._literals.items() if kind == "path"]
        places = "|".join([*map(_escaped, _longest_first(paths)), _HOME])
        self._paths = re.compile(rf"(?:{places}){_BELOW}", re.IGNORECASE) if anonymous else None
        self._exact: re.Pattern[str] | None = None
        if self._literals:
            exact = "|".join(map(_escaped, _longest_first(self._literals)))
            self._exact = re.compile(rf"(?<![A-Za-z0-9])(?:{exact})(?![A-Za-z0-9])", re.IGNORECASE)
        self._first_words = {text.partition(" ")[0] for text in self._literals}
        self._path_hints = ("/home/", "/users/", "\\users\\", *map(_plain, paths))
        self._shapes = [
            (kind, re.compile(pattern, re.VERBOSE | re.IGNORECASE), hints)
            for kind, (pattern, hints) in _SHAPES.items()
            if anonymous or kind == "key"
        ]
        # A conversation's texts come back in each of its calls.
        self.text: Callable[[str], str] = lru_cache(maxsize=2048)(self._text)

    @property
    def counts(self) -> dict[str, int]:
        """How many different texts were replaced, by kind."""
        found: dict[str, int] = {}
        for kind, _ in self._known:
            found[kind] = found.get(kind, 0) + 1
        return dict(sorted(found.items()))

    def _text(self, text: str) -> str:
        """The text with every match replaced."""
        changed = text
        for kind, pattern in self._patterns(text):
            changed = pattern.sub(partial(self._stand_in, kind), changed)
        return text if changed == text else changed

    def _patterns(self, text: str) -> Iterator[tuple[str, re.Pattern[str]]]:
        """The patterns that may match; looking for plain words first is many times faster."""
        lower = text.lower()
        if self._paths is not None and any(hint in lower for hint in self._path_hints):
            yield "path", self._paths
        if self._exact is not None and any(word in lower for word in self._first_words):
            yield "literal", self._exact
        for kind, pattern, hints in self._shapes:
            if any(hint in lower for hint in hints):
                yield kind, pattern

    def value(self, value: T) -> T:
        """The value with every text in it replaced; the value itself where nothing matches.

        Lists, tuples, mappings (keys too) and Structs are walked; names of fields are ours.
        """
        return cast("T", self._walk(value))

    def found(self, text: str) -> Iterator[str]:
        """What should not be in a text that was replaced already: its kind, never the thing."""
        for kind, pattern in self._patterns(text):
            for match in pattern.finditer(text):
                yield self._literals[_plain(match.group())] if kind == "literal" else kind

    def _walk(self, value: object) -> object:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, msgspec.Struct):
            fields = {name: getattr(value, name) for name in value.__struct_fields__}
            walked = {name: self._walk(inner) for name, inner in fields.items()}
            changed = {name: new for name, new in walked.items() if new is not fields[name]}
            return msgspec.structs.replace(value, **changed) if changed else value
        if isinstance(value, dict):
            pairs = {self._walk(key): self._walk(inner) for key, inner in value.items()}
            same = all(
                new is old and key is name
                for (key, new), (name, old) in zip(pairs.items(), value.items(), strict=False)
            )
            return value if same and len(pairs) == len(value) else pairs
        if isinstance(value, list | tuple):
            inner = [self._walk(one) for one in value]
            if all(new is old for new, old in zip(inner, value, strict=True)):
                return value
            return tuple(inner) if isinstance(value, tuple) else inner
        return value

    def _stand_in(self, kind: str, match: re.Match[str]) -> str:
        found = match.group()
        if kind == "literal":
            kind = self._literals[_plain(found)]
        if kind == "key":
            self._known.setdefault(("key", found), KEY)
            return KEY
        if kind == "zone":
            return _day(found)
        if kind == "tuned":
            start, organisation = found.rsplit(":", 1)
            return f"{start}:{self.label('org', organisation)}"
        return self.label(kind, found)

    def label(self, kind: str, found: str) -> str:
        """What stands in for this text wherever it is found, of a kind such as `path`."""
        name = (kind, _plain(found))
        if name not in self._known:
            number = 1 + sum(known == kind for known, _ in self._known)
            self._known[name] = _STAND_INS[kind].format(number)
        return self._known[name]


def _longest_first(texts: Iterable[str]) -> list[str]:
    return sorted(texts, key=lambda text: (-len(text), text))


def _plain(text: str) -> str:
    return " ".join(text.lower().split())


def _escaped(text: str) -> str:
    """The text as a pattern: any blanks stand for its blanks."""
    return re.escape(text).replace("\\ ", r"\s+")


def _day(text: str) -> str:
    """A timestamp without its time: with the zone left off, the time would still tell it."""
    found = re.match(r"\d{4}-\d\d-\d\d|\d{1,2}\s[A-Z][a-z]{2}\s\d{4}", text)
    return found.group() if found else ""
