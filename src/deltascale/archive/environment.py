"""What a run ran in: versions and kinds, and nothing that names a machine or a person."""

from __future__ import annotations

import platform
import re
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path

import msgspec

import deltascale

__all__ = ["Environment", "here"]


class Environment(msgspec.Struct, frozen=True):
    """`commit` is empty where deltascale does not run from a checkout; `platform` is a class such
    as `Linux x86_64`; `packages` are deltascale's own dependencies, as `name==version`."""

    deltascale: str
    commit: str
    python: str
    platform: str
    packages: tuple[str, ...]


@cache
def here() -> Environment:
    """The environment of this process."""
    return Environment(
        deltascale.__version__,
        _commit(),
        f"{platform.python_implementation()} {platform.python_version()}",
        f"{platform.system()} {platform.machine()}",
        _packages(),
    )


def _packages() -> tuple[str, ...]:
    try:
        required = distribution("deltascale").requires or []
    except PackageNotFoundError:
        return ()  # run from its sources, without being installed
    found = []
    for name in sorted({re.split(r"[^A-Za-z0-9._-]", line)[0].lower() for line in required}):
        try:
            found.append(f"{name}=={version(name)}")
        except PackageNotFoundError:
            continue  # an extra that is not installed
    return tuple(found)


def _commit() -> str:
    """The commit of the checkout that this package lies in, read without git."""
    package = Path(deltascale.__file__).resolve().parent
    git = package.parents[1] / ".git"
    if package.parent.name != "src" or not git.is_dir():
        return ""
    try:
        head = (git / "HEAD").read_text(encoding="ascii").strip()
        if not head.startswith("ref: "):
            return head
        name = head.removeprefix("ref: ")
        if (git / name).exists():
            return (git / name).read_text(encoding="ascii").strip()
        packed = (git / "packed-refs").read_text(encoding="utf-8")
        lines = (line.split() for line in packed.splitlines())
        return next((words[0] for words in lines if words[1:] == [name]), "")
    except (OSError, ValueError):
        return ""
