"""What can be named in a study: models, datasets and items, as tables for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date

from rich.markup import escape

from deltascale import catalog, datasets
from deltascale.datasets import Loaded
from deltascale.errors import DatasetMistake
from deltascale.report.terminal import console, show_table, table
from deltascale.report.wording import Row, Value, size_text

__all__ = [
    "dataset_rows",
    "model_rows",
    "show_datasets",
    "show_findings",
    "show_items",
    "show_models",
]


def model_rows(*, every: bool, only: Sequence[str] = ()) -> list[Row]:
    """The catalogue, one row a model; `every`: those that are no longer served too; `only`: these,
    served or not. Raises CatalogMistake for one that is not in it."""
    wanted = {catalog.lookup(name).id for name in only}
    today = date.today()  # noqa: DTZ011 - the user's day
    rows: list[Row] = []
    for model in catalog.models():
        retired = model.retired is not None and model.retired <= today
        if model.id not in wanted if wanted else retired and not every:
            continue
        price = catalog.price(model.provider, model.name, on=model.retired or today)
        rows.append(
            {
                "model": model.id,
                "size": size_text(model.size),
                "category": catalog.category(model.size),
                "size_source": model.size.source,
                "citation": model.size.citation,
                "training_tokens": model.size.training_tokens,
                "training_citation": model.size.training_citation or None,
                "training_flops": catalog.training_flops(model.size),
                "context_tokens": model.context_tokens,
                "usd_per_mtok_in": price.input_nusd_per_ktok / 1e6 if price else None,
                "usd_per_mtok_out": price.output_nusd_per_ktok / 1e6 if price else None,
                "price_dated": price.dated if price else None,
                "price_source": price.source if price else None,
                "retired": model.retired.isoformat() if model.retired else None,
                "successor": model.successor or None,
            }
        )
    return rows


def show_models(rows: Sequence[Row]) -> None:
    """The catalogue as a table."""
    made = table(
        "models; a size not published is a range? or ?; FLOPs of training; --json has the sources",
        ["model", "size", "FLOPs", "$/Mtok", "retires"],
        left=1,
    )
    for row in rows:
        made.add_row(
            escape(str(row["model"])),
            str(row["size"]),
            "" if row["training_flops"] is None else f"{row['training_flops']:.1e}",
            f"{_text(row['usd_per_mtok_in'])}/{_text(row['usd_per_mtok_out'])}",
            _text(row["retired"]),
        )
    show_table(console(), made)


def dataset_rows() -> list[Row]:
    """The datasets that can be named, one row each."""
    rows: list[Row] = []
    for name in datasets.names():
        try:
            found = datasets.find(name)
        except DatasetMistake as mistake:
            rows.append(
                dict.fromkeys(_DATASET_COLUMNS) | {"dataset": name, "summary": mistake.what}
            )
            continue
        rows.append(
            {
                "dataset": name,
                "summary": found.summary,
                "items": found.max_items,
                "scorer": found.scorer,
                "licence": found.licence,
                "homepage": found.homepage,
            }
        )
    return rows


def show_datasets(rows: Sequence[Row]) -> None:
    """The datasets as a table."""
    made = table("datasets", ["dataset", "what", "items", "scorer", "licence"], left=2)
    # What is typed is never cut; the rest is in --json.
    made.columns[0].min_width = max(len(str(row["dataset"])) for row in rows)
    made.columns[1].no_wrap = False
    for row in rows:
        short = _text(row["licence"]).partition(";")[0]
        shown = (*(_text(row[key]) for key in _DATASET_COLUMNS[:-1]), short)
        made.add_row(*map(escape, shown))
    show_table(console(), made)
    console().print("your own: {file: data/mine.csv, scorer: numeric} (CSV, JSON or JSONL)")


_DATASET_COLUMNS = ("dataset", "summary", "items", "scorer", "licence")


def show_items(loaded: Loaded) -> None:
    """Items as a model would see them, each with the target it would be judged by."""
    shown = console()
    for item in loaded.items:
        shown.rule(escape(item.id), align="left")
        for message in item.question.messages:
            shown.print(f"[dim]{message.role}:[/] {escape(message.content)}")
        shown.print(f"[dim]target:[/] {escape(item.target)}")
    shown.print(f"{len(loaded.items)} of {loaded.n_available} items; scorer {loaded.scorer}")


def show_findings(title: str, rows: Sequence[Mapping[str, str]]) -> None:
    """What was looked at, what was found, what to do: nothing of it is cut."""
    made = table(title, ["what", "found", "remedy"], left=3)
    for column in made.columns:
        column.no_wrap, column.overflow = False, "fold"
    for row in rows:
        made.add_row(*(escape(row[key]) for key in ("what", "found", "remedy")))
    show_table(console(), made)


def _text(value: Value) -> str:
    if value is None:
        return ""
    return f"{value:g}" if isinstance(value, float) else str(value)
