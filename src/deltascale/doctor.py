"""What is installed, which keys are set, and what works on this machine. Never a key's value."""

from __future__ import annotations

import asyncio
import platform
import sqlite3
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from importlib.metadata import PackageNotFoundError, version

from deltascale import __version__, catalog, providers, study
from deltascale.datasets import Cache
from deltascale.errors import Mistake

__all__ = ["GOOD", "check_models", "examine"]

GOOD = "good"

_EXTRAS = {
    "carbon": ("ecologits", "energy and emissions"),
    "figures": ("matplotlib", "figures and the report's charts"),
    "local": ("xllamacpp", "models on this machine"),
    "math": ("math-verify", "equality of mathematical answers"),
    "paper": ("typst", "papers as PDF"),
    "sandbox": ("wasmtime", "running generated code"),
    "tables": ("polars", "results as Parquet, and the hub's copies of benchmarks"),
}
_KEY_BY_PROVIDER = {
    "openai": "OPENAI_API_KEY",
    "anthropic": "ANTHROPIC_API_KEY",
    "replicate": "REPLICATE_API_TOKEN",
}


def examine(environ: Mapping[str, str]) -> list[dict[str, str]]:
    """Rows of what was looked at: `what`, `found`, and `remedy` (empty where nothing is needed)."""
    return [{"what": w, "found": f, "remedy": r} for w, f, r in _findings(environ)]


def _findings(environ: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    yield "deltascale", __version__, ""
    yield "Python", f"{sys.version.split()[0]} on {platform.system()} {platform.machine()}", ""
    yield "SQLite", sqlite3.sqlite_version, ""
    for extra, (package, use) in _EXTRAS.items():
        try:
            yield f"extra {extra}: {use}", f"{package} {version(package)}", ""
        except PackageNotFoundError:
            yield f"extra {extra}: {use}", "-", f"pip install 'deltascale[{extra}]'"
    for key in _KEY_BY_PROVIDER.values():
        is_set = bool(environ.get(key))
        yield key, "set" if is_set else "-", "" if is_set else "only if you use it"
    cache = Cache.from_environ(environ)
    yield "dataset cache", str(cache.directory), ""
    yield "network for datasets", "off" if cache.offline else "on", ""


def check_models(ids: Sequence[str], environ: Mapping[str, str]) -> list[dict[str, str]]:
    """Ask each provider whether key and model are good; at most one tiny call a model.

    `ids` empty: every model of the catalogue that is served and whose key is set.
    Raises CatalogMistake for an unknown id, and Mistake where no key is set and no id given.
    """
    today = date.today()  # noqa: DTZ011 - the user's day
    known = [catalog.lookup(one) for one in ids] or [
        model
        for model in catalog.models()
        if model.provider in _KEY_BY_PROVIDER
        and environ.get(_KEY_BY_PROVIDER[model.provider])
        and (model.retired is None or model.retired > today)
    ]
    if not known:
        raise Mistake(
            "no key is set, so there is nobody to ask",
            remedy=f"set {' or '.join(_KEY_BY_PROVIDER.values())}, or name a model with --model",
        )
    return asyncio.run(_checked([model.id for model in known], environ))


async def _checked(ids: Sequence[str], environ: Mapping[str, str]) -> list[dict[str, str]]:
    rows = []
    for one in ids:
        made = study.adhoc(
            models=[one],
            datasets=["demo-sums"],
            on=date.today(),  # noqa: DTZ011 - the user's day
        )
        failure = await providers.check(made.models[0], environ=environ)
        found = GOOD if failure is None else failure.kind.replace("_", " ")
        rows.append({"what": one, "found": found, "remedy": failure.message if failure else ""})
    return rows
