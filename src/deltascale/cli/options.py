"""Options that several commands take, and what they share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deltascale.errors import Mistake

if TYPE_CHECKING:
    from deltascale.records import Study
    from deltascale.report.wording import Row

__all__ = [
    "RUNS",
    "THOROUGH",
    "analyzed",
    "cache",
    "environment",
    "json_option",
    "print_json",
    "study_options",
    "warn",
]

RUNS = Path("runs")
THOROUGH = 10_000
"""Bootstrap replicates of what others will quote; fewer are a preview."""


def json_option(command: Any) -> Any:  # click's decorators are untyped
    return click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")(
        command
    )


def study_options(command: Any) -> Any:  # click's decorators are untyped
    """A study file, or what an ad-hoc study is made of."""
    for option in reversed(
        [
            click.argument("study_file", required=False, type=click.Path(path_type=Path)),
            click.option("--phase", help="A phase of the study: its name, its number, or all."),
            click.option("--model", "models", multiple=True, help="provider/name; repeatable."),
            click.option("--base-url", help="An OpenAI-compatible server for the models."),
            click.option("--price", help="0, or USD per million tokens: INPUT/OUTPUT."),
            click.option(
                "--dataset", "datasets", multiple=True, help="A name or a file; repeatable."
            ),
            click.option("--scorer", help="How a file's answers are judged: numeric, choice, …"),
            click.option(
                "--protocol", "protocols", multiple=True, help="review, vote, …; repeatable."
            ),
            click.option("--turns", type=int, help="Scored answers per sample, the first too."),
            click.option("--temperature", type=float, multiple=True, help="Repeatable: a factor."),
            click.option("--epochs", type=int, help="Independent repetitions of every sample."),
            click.option("--max-tokens", type=int, help="The limit of every reply."),
            click.option("--budget", type=float, help="USD, never passed."),
            click.option("--out", type=click.Path(path_type=Path), help="Default: runs/NAME."),
        ]
    ):
        command = option(command)
    return command


def environment(study_file: Path | None = None) -> Mapping[str, str]:
    from deltascale.providers import read_environment

    return read_environment(study_file.parent if study_file else Path())


def print_json(rows: Iterable[Row] | object) -> None:
    import msgspec

    click.echo(msgspec.json.format(msgspec.json.encode(rows), indent=1).decode())


def cache(environ: Mapping[str, str]) -> Any:
    from deltascale.datasets import Cache

    return Cache.from_environ(environ)


def warn(study: Study, loaded: Iterable[Any] = ()) -> None:
    for warning in (*study.warnings, *(text for one in loaded for text in one.warnings)):
        click.echo(f"warning: {warning}", err=True)


def analyzed(out: Path, *, as_json: bool, **options: Any) -> Any:
    from deltascale import assess
    from deltascale.report import tables

    settings = settings_from(options)
    results = assess.analyze(out, settings=settings, tell=lambda line: click.echo(line, err=True))
    if as_json:
        print_json(list(tables.delta_rows(results.cells)))
    else:
        from deltascale.report import terminal

        terminal.show_results(terminal.console(), results)
        click.echo(f"tables: {out / assess.RESULTS}")
    return results


def settings_from(options: dict[str, Any]) -> Any:
    """What an analysis may choose, from the command line."""
    from deltascale.analysis import Settings
    from deltascale.carbon import check_zone

    chosen: dict[str, Any] = {}
    if options.get("thorough"):
        chosen |= {"replicates": THOROUGH, "error_rate": True}
    if options.get("estimated_sizes"):
        chosen["estimated_sizes"] = True
    margin = options.get("margin")
    if margin is not None:
        if not 0 < margin < 100:
            raise Mistake(f"{margin:g} is no margin", where="--margin", remedy="write points: 1")
        chosen["margin"] = margin / 100
    if options.get("worth"):
        if min(options["worth"]) <= 0:
            raise Mistake("a worth must be above 0", where="--worth", remedy="write dollars: 0.1")
        chosen["usd_per_corrected"] = tuple(sorted(set(options["worth"])))
    if options.get("seed") is not None:
        if options["seed"] < 0:
            raise Mistake("a seed must not be negative", where="--seed", remedy="write 0 or more")
        chosen["seed"] = options["seed"]
    if options.get("zone"):
        check_zone(options["zone"])
        chosen["zone"] = options["zone"]
    return Settings(**chosen)
