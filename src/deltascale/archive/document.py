"""The models of a study as they were: asked, served, sized, priced, sent, and when.

It reads the lock and the ledger; what a server called itself is in its own words.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from deltascale import ledger
from deltascale.archive import lock as locks
from deltascale.archive.lock import Lock, Served
from deltascale.errors import Mistake
from deltascale.ledger import Ledger
from deltascale.records import ModelSpec, Size

__all__ = ["document", "model_rows", "served", "write_models"]

NAMES = ("models.csv", "models.md")


def document(directory: Path) -> tuple[Path, ...]:
    """Write the models of a study into its directory, as CSV and Markdown; returns the paths.

    Raises Mistake or LedgerMistake where there is no study.
    """
    found = locks.read(directory)
    if found is None:
        raise Mistake("there is no study here", where=str(directory), remedy="run one first")
    with ledger.read(directory / "ledger.db") as book:
        return write_models(directory, found, served(found, book))


def served(lock: Lock, book: Ledger) -> tuple[Served, ...]:
    """Every version that answered, by model and server, in the order of first calls. Streams."""
    ids = {(_endpoint(lock, model), model.name): model.id for model in lock.study.models}
    seen: dict[tuple[str, str, str, str], list[float]] = {}
    for call in book.calls():
        asked = (call.request.endpoint, call.request.model)
        model = ids.get(asked, call.request.model)
        name = (model, call.request.endpoint, call.reply.model_served, call.reply.fingerprint)
        spans = seen.setdefault(name, [0, call.at, call.at])
        spans[0] += 1
        spans[1], spans[2] = min(spans[1], call.at), max(spans[2], call.at)
    rows = sorted(seen.items(), key=lambda row: (row[0][0], row[1][1], row[0]))
    return tuple(
        Served(*name, n_calls=int(count), first=_utc(first), last=_utc(last))
        for name, (count, first, last) in rows
    )


def model_rows(lock: Lock, served: Sequence[Served]) -> Iterator[Mapping[str, str]]:
    """One row a model: provider, id asked, versions served, size, price, parameters, calls."""
    for model in lock.study.models:
        own = [one for one in served if one.model == model.id]
        yield {
            "model": model.id,
            "provider": model.provider,
            "asked_for": model.name,
            "endpoint": _endpoint(lock, model),
            "served": "; ".join(_version(one) for one in own),
            "parameters": _size(model.size),
            "parameters_source": model.size.source,
            "citation": model.size.citation,
            "training_tokens": _tokens(model.size),
            "training_citation": model.size.training_citation,
            "context_tokens": "" if model.context_tokens is None else str(model.context_tokens),
            "usd_per_mtok_in": f"{model.price.input_nusd_per_ktok / 1e6:g}",
            "usd_per_mtok_cached": f"{model.price.cached_input_nusd_per_ktok / 1e6:g}",
            "usd_per_mtok_out": f"{model.price.output_nusd_per_ktok / 1e6:g}",
            "price_dated": model.price.dated,
            "price_source": model.price.source,
            "sent": _sent(lock, model),
            "calls": str(sum(one.n_calls for one in own)),
            "first_call": min((one.first for one in own), default=""),
            "last_call": max((one.last for one in own), default=""),
        }


def write_models(directory: Path, lock: Lock, served: Sequence[Served]) -> tuple[Path, ...]:
    """Write `models.csv` and `models.md`."""
    rows = list(model_rows(lock, served))
    paths = tuple(directory / name for name in NAMES)
    for path, text in zip(paths, (_csv(rows), _markdown(rows)), strict=True):
        path.write_text(text, encoding="utf-8", newline="\n")
    return paths


def _endpoint(lock: Lock, model: ModelSpec) -> str:
    return lock.endpoints.get(model.id, f"{model.provider}:{model.base_url}")


def _version(one: Served) -> str:
    name = one.version or "not said"
    mark = f" ({one.fingerprint})" if one.fingerprint else ""
    return f"{name}{mark}: {one.n_calls} calls, {one.first} to {one.last}"


def _tokens(size: Size) -> str:
    return "" if size.training_tokens is None else f"{size.training_tokens:.3g}"


def _size(size: Size) -> str:
    if size.parameters is not None:
        return f"{size.parameters:.6g}"
    if size.low is not None and size.high is not None:
        return f"{size.low:.6g} to {size.high:.6g}"
    return "unknown"


def _sent(lock: Lock, model: ModelSpec) -> str:
    """What went with every prompt, as JSON."""
    heat = lock.study.temperatures
    sent: dict[str, object] = {"max_tokens": lock.study.max_tokens}
    if not model.reasoning:
        sent["temperature"] = heat[0] if len(heat) == 1 else list(heat)
    return json.dumps(sent | model.params, sort_keys=True)


def _utc(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _csv(rows: Sequence[Mapping[str, str]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({key: _inert(value) for key, value in row.items()})
    return text.getvalue()


def _inert(value: str) -> str:
    """A server names its versions: a spreadsheet must not take one for a formula."""
    return f"'{value}" if value.startswith(("=", "+", "-", "@", "\t", "\r")) else value


def _markdown(rows: Sequence[Mapping[str, str]]) -> str:
    lines = ["# The models of this study", ""]
    for row in rows:
        lines += [f"## {row['model']}", "", "| | |", "|---|---|"]
        lines += [f"| {key} | {_cell(text)} |" for key, text in row.items() if key != "model"]
        lines.append("")
    return "\n".join(lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
