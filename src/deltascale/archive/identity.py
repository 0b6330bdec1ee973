"""Who and where: what of this machine, its user and the study's servers must not be in a pack."""

from __future__ import annotations

import getpass
import os
import platform
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from deltascale import datasets, protocols, providers, records, scorers
from deltascale.errors import Mistake
from deltascale.records import DatasetSpec, Study

__all__ = ["listed", "names", "places", "secrets"]

_SECRET_NAME = re.compile(r"(?i)key|token|secret|passw|credential|auth|cookie")
_COMMON_USERS = frozenset(
    {
        "root", "user", "admin", "administrator", "ubuntu", "debian", "runner", "work", "home",
        "docker", "jovyan", "vscode", "test", "guest", "default", "localhost", "nobody", "build",
        "node", "app", "data", "student", "research", "local",
    }
)  # fmt: skip
"""They tell nobody's name, and stand in questions: the square root of a number."""
_PUBLIC_HOSTS = re.compile(
    r"(?i)(?:.*\.)?(?:openai\.com|anthropic\.com|replicate\.com|deepseek\.com|fireworks\.ai|groq\.com"
    r"|mistral\.ai|together\.xyz|together\.ai|x\.ai|openrouter\.ai|googleapis\.com|cohere\.com"
    r"|perplexity\.ai|nvidia\.com|huggingface\.co)|localhost|127\.0\.0\.1|\[?::1\]?"
)
_URL = re.compile(r"https?://(?:[^/\s@]*@)?(\[[^\]]*\]|[^/:\s]+)(:\d+)?[^\s]*")
_SHORTEST = 3
_PLACE_OPTIONS = frozenset({"corpus", "path", "plus"})
_TEXT_OPTIONS = frozenset({"prompt", "format"})
_PLACE = re.compile(r"(?:~[\w.-]*|\.{1,2}|[A-Za-z]:)?[/\\].+")


def secrets(directory: Path, environ: Mapping[str, str]) -> frozenset[str]:
    """Values that are keys by their variable's name, and all that stands in a `.env` file."""
    found = {
        value.strip()
        for name, value in environ.items()
        if _SECRET_NAME.search(name) and not value.startswith(("/", "~"))
    }
    for folder in (directory, Path()):
        if not (folder / ".env").is_file():
            continue
        own = providers.read_environment(folder)
        found |= {own[name].strip() for name in own if name not in os.environ}
    return frozenset(value for value in found if len(value) >= 8 and not _is_plain(value))


def _is_plain(value: str) -> bool:
    """An address without a password, a number: nothing that opens anything."""
    return value.isdigit() or (_URL.fullmatch(value) is not None and "@" not in value)


def listed(path: Path) -> dict[str, str]:
    """The texts of a list, one a line; empty lines and those that begin with # say nothing."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise Mistake(f"the list can't be read ({error})", where=str(path)) from None
    return {line.strip(): "listed" for line in lines if line.strip() and line.strip()[0] != "#"}


def names(directory: Path, study: Study, environ: Mapping[str, str]) -> dict[str, str]:
    """Every text that tells who made the study or where, with its kind."""
    found: dict[str, str] = {}
    common = _COMMON_USERS | _own_words()
    for kind, text in (
        *_servers(study, environ),
        *_paths(directory, study),
        *_hosts(environ),
        *_users(environ),
        *_git(directory),
    ):
        text = text.strip()
        if len(text) >= _SHORTEST and text.lower() not in common:
            found.setdefault(text, kind)
    return found


def places(spec: DatasetSpec) -> dict[str, str]:
    """The options of a dataset that name files of the user's own, as they are written.

    A benchmark's own are known by name, a plugin's by their look.
    """
    return {
        key: value
        for key, value in spec.options.items()
        if value and (key in _PLACE_OPTIONS or (key not in _TEXT_OPTIONS and _is_place(value)))
    }


def _is_place(value: str) -> bool:
    """`/data/lab` is, `/no_think` is not, unless it is there."""
    if not _PLACE.fullmatch(value):
        return False
    return len(re.findall(r"[/\\]", value)) > 1 or Path(value).exists()


def _own_words() -> frozenset[str]:
    """What a pack says of itself, in fields and names: a user called `seed` is not told by them."""
    fields = {name for one in vars(records).values() for name in _fields(one)}
    named = {*datasets.names(), *protocols.names(), *scorers.names(), *providers.PROVIDERS}
    words = {word for name in (*fields, *named) for word in re.split(r"[^a-z0-9]+", name.lower())}
    return frozenset(words | named | fields)


def _fields(one: object) -> tuple[str, ...]:
    return getattr(one, "__struct_fields__", ()) if isinstance(one, type) else ()


def _servers(study: Study, environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    urls = [model.base_url for model in study.models]
    urls += [value for name, value in environ.items() if name.upper().endswith("_BASE_URL")]
    for url in urls:
        match = _URL.fullmatch(url.strip())
        if match and not _PUBLIC_HOSTS.fullmatch(match[1]):
            path = url.strip().partition("//")[2].partition("/")[2].rstrip("/")
            if path and not re.fullmatch(r"(?:api/)?v\d+(?:beta\d*)?", path):
                # The path of a private server may name a team or a deployment.
                yield "endpoint", f"{match[1]}{match[2] or ''}/{path}"
            yield "endpoint", match[1] + (match[2] or "")
            yield "endpoint", match[1]


def _paths(directory: Path, study: Study) -> Iterator[tuple[str, str]]:
    found = [directory.resolve(), directory.resolve().parent, Path.cwd(), Path.home()]
    found += [Path(model.name).parent for model in study.models if model.provider == "local"]
    for spec in study.datasets:
        for written in (spec.file, *places(spec).values()):
            place = _expanded(written)
            if written:
                found += [place, place.resolve(), place.resolve().parent]
            if written.startswith(("~", "..")):
                yield "path", written
    for place in found:
        if place.is_absolute() and len(place.parts) > 2:
            yield "path", str(place)


def _expanded(written: str) -> Path:
    try:
        return Path(written).expanduser()
    except RuntimeError:  # somebody's home that is not on this machine
        return Path(written)


def _hosts(environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    told = [platform.node(), *(environ.get(name, "") for name in ("HOSTNAME", "HOST"))]
    for name in (*told, environ.get("COMPUTERNAME", "")):
        yield "host", name
        yield "host", name.partition(".")[0]


def _users(environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name in ("USER", "LOGNAME", "USERNAME"):
        yield "user", environ.get(name, "")
    home = environ.get("HOME") or environ.get("USERPROFILE") or ""
    yield "user", Path(home).name
    try:
        yield "user", getpass.getuser()
    except (KeyError, OSError):
        return  # a user without an entry, as in some containers
    try:
        import pwd
    except ImportError:
        return  # Windows
    try:
        full = pwd.getpwuid(os.getuid()).pw_gecos.split(",")[0]
    except KeyError:
        return
    yield from _person(full)


def _person(full: str) -> Iterator[tuple[str, str]]:
    """A full name, and the last of two or three words: a family name more often than not."""
    yield "name", full
    parts = full.split()
    if len(parts) in (2, 3) and all(part.isalpha() for part in parts) and len(parts[-1]) > 3:
        yield "name", parts[-1]


def _git(directory: Path) -> Iterator[tuple[str, str]]:
    """Names, addresses and remotes of the repository that the study lies in, and of its user."""
    for name in ("user.name", "author.name", "committer.name"):
        for line in _said(directory, "config", "--get-all", name):
            yield from _person(line)
    for name in ("user.email", "author.email", "committer.email"):
        for line in _said(directory, "config", "--get-all", name):
            yield "email", line
    for line in _said(directory, "log", "-n", "1000", "--format=%an%n%cn"):
        yield "name", line
    for line in _said(directory, "log", "-n", "1000", "--format=%ae%n%ce"):
        yield "email", line
    for line in _said(directory, "config", "--get-regexp", r"^remote\..*\.url$"):
        url = line.partition(" ")[2].strip()
        yield "path", url
        parts = [part for part in re.split(r"[/:]", url.removesuffix(".git")) if part]
        if len(parts) > 1:
            yield "path", f"{parts[-2]}/{parts[-1]}"
            yield "org", parts[-2]


def _said(directory: Path, *arguments: str) -> list[str]:
    try:
        done = subprocess.run(  # noqa: S603 - a list of words, no shell
            ["git", "-C", str(directory), *arguments],  # noqa: S607 - the user's own git
            capture_output=True,
            text=True,
            errors="replace",
            timeout=20,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return []  # no git: nothing of it can be in the study either
    return sorted(set(done.stdout.splitlines())) if done.returncode == 0 else []
