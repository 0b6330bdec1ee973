"""Commands that say what there is: models, datasets, this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from deltascale.cli.options import (
    cache,
    environment,
    json_option,
    print_json,
)
from deltascale.errors import Mistake

__all__ = ["datasets", "doctor", "models", "prepare", "pull", "show"]


@click.group(invoke_without_command=True)
@click.option("--check", is_flag=True, help="Ask each provider whether key and model are good.")
@click.option("--model", "asked", multiple=True, help="Only these; repeatable.")
@click.option("--all", "every", is_flag=True, help="Retired models too.")
@click.option(
    "--document",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Write the models that a study used into its directory: models.csv and models.md.",
)
@json_option
@click.pass_context
def models(
    context: click.Context,
    check: bool,
    asked: tuple[str, ...],
    every: bool,
    document: Path | None,
    as_json: bool,
) -> None:
    """The catalogue: sizes with their source, prices with their date."""
    if context.invoked_subcommand is not None:
        return
    if document is not None:
        _document(document, as_json=as_json)
        return
    from deltascale.report import catalogue

    if check:
        from deltascale import doctor

        checked = doctor.check_models(asked, environment())
        if as_json:
            print_json(checked)
        else:
            catalogue.show_findings("models", checked)
        bad = [row["what"] for row in checked if row["found"] != doctor.GOOD]
        if bad:
            raise Mistake(f"not usable: {', '.join(bad)}", remedy="see the remedies above")
        return
    rows = catalogue.model_rows(every=every, only=asked)
    if as_json:
        print_json(rows)
    else:
        catalogue.show_models(rows)


@models.command()
@click.argument("name")
def pull(name: str) -> None:
    """Fetch a local model's weights and check their hash."""
    from deltascale.providers import local

    click.echo(f"{name}: {local.pull(name)}")


@click.group(invoke_without_command=True)
@json_option
@click.pass_context
def datasets(context: click.Context, as_json: bool) -> None:
    """The datasets; `datasets prepare NAME` downloads one, `datasets show NAME` prints items."""
    if context.invoked_subcommand is not None:
        return
    from deltascale.report import catalogue

    rows = catalogue.dataset_rows()
    if as_json:
        print_json(rows)
        return
    catalogue.show_datasets(rows)


def _option_option(command: Any) -> Any:  # click's decorators are untyped
    return click.option(
        "--option",
        "options",
        multiple=True,
        metavar="KEY=VALUE",
        help="A setting, as under a study's datasets: from=hub; repeatable.",
    )(command)


def _settings(options: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for option in options:
        key, equals, value = option.partition("=")
        if not (key.strip() and equals):
            raise Mistake(f"{option!r} is no setting", where="--option", remedy="write key=value")
        found[key.strip()] = value.strip()
    return found


@datasets.command()
@click.argument("name")
@click.option("--items", type=int, help="How many items will be used.")
@_option_option
def prepare(name: str, items: int | None, options: tuple[str, ...]) -> None:
    """Download a dataset, and what its tools read, into the cache, with size and checksum."""
    from deltascale import datasets as known
    from deltascale.records import DatasetSpec

    spec = DatasetSpec(name, options=_settings(options))
    kept = cache(environment())
    loaded = known.load(spec, items=items, seed=0, cache=kept)
    for warning in loaded.warnings:
        click.echo(warning, err=True)
    told = f"{name}: {len(loaded.items)} items ready of {loaded.n_available}"
    click.echo(f"{told}; {loaded.source}" if loaded.source else told)
    if known.tools(spec, cache=kept) is not None:
        click.echo(f"{name}: tools ready")


@datasets.command()
@click.argument("name")
@click.option("--items", type=int, default=3, show_default=True)
@click.option("--scorer", default="", help="For a file: how its answers are judged.")
@_option_option
def show(name: str, items: int, scorer: str, options: tuple[str, ...]) -> None:
    """Print items as a model would see them, with their targets."""
    from deltascale import datasets as known
    from deltascale import scorers
    from deltascale.records import DatasetSpec
    from deltascale.report import catalogue

    path, settings = Path(name), _settings(options)
    spec = DatasetSpec(name, options=settings)
    if path.suffix:
        spec = DatasetSpec(path.stem, file=name, scorer=scorer, options=settings)
    loaded = known.load(spec, items=items, seed=0, cache=cache(environment()))
    scorers.find(loaded.scorer)
    scorers.check(loaded.scorer, loaded.items, where=name)
    catalogue.show_items(loaded)


@click.command()
@json_option
def doctor(as_json: bool) -> None:
    """What is installed, which keys are set (never their values), and what works here."""
    from deltascale import doctor
    from deltascale.report import catalogue

    rows = doctor.examine(environment())
    if as_json:
        print_json(rows)
        return
    catalogue.show_findings("doctor", rows)


def _document(directory: Path, *, as_json: bool) -> None:
    from deltascale.archive import document

    paths = document.document(directory)
    if as_json:
        print_json([str(path) for path in paths])
    else:
        click.echo(f"wrote {' and '.join(str(path) for path in paths)}")
