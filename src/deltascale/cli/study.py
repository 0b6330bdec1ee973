"""Commands that make, price, run and watch a study."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deltascale.cli.options import (
    RUNS,
    analyzed,
    cache,
    environment,
    json_option,
    print_json,
    study_options,
    warn,
)
from deltascale.errors import Mistake, Stop

if TYPE_CHECKING:
    from deltascale.carbon import Footprint
    from deltascale.forecast import Forecast
    from deltascale.records import Study
    from deltascale.report.wording import Row

__all__ = ["demo", "estimate", "init", "run", "status"]


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=RUNS / "demo", show_default=True)
@click.option("--seed", type=int, default=0, show_default=True, help="Draws another simulation.")
@click.option("--items", type=int, default=200, show_default=True, help="Items per dataset.")
@json_option
def demo(out: Path, seed: int, items: int, as_json: bool) -> None:
    """The whole way, offline, no keys: simulated models whose truth is known."""
    from deltascale import demo

    study = demo.demo_study(seed=seed, items=items)
    if not as_json:
        click.echo("simulated models only: these numbers say nothing about any real model\n")
    _run((study,), out, {}, quiet=as_json)
    results = analyzed(out, as_json=as_json)
    if not as_json:
        from deltascale import assess

        click.echo(f"page: {assess.page(results, out)}")
        click.echo(str(demo.agreement(results.cells)))


@click.command()
@click.argument("name", default="study")
def init(name: str) -> None:
    """Write a commented study file, NAME.yaml."""
    from deltascale import study

    path = Path(name if name.endswith((".yaml", ".yml")) else f"{name}.yaml")
    if path.exists():
        raise Mistake("there is a file already", where=str(path), remedy="choose another NAME")
    path.write_text(study.template(path.stem), encoding="utf-8")
    click.echo(f"wrote {path}; next: deltascale estimate {path}")


@click.command()
@study_options
@click.option("--items", type=int, multiple=True, help="Items per dataset; repeatable.")
@click.option("--zone", default="WOR", help="Electricity for the carbon figures, like FRA.")
@json_option
def estimate(
    study_file: Path | None, items: tuple[int, ...], zone: str, as_json: bool, **options: Any
) -> None:
    """What a study will cost: calls, tokens, dollars (low, expected, worst), hours and carbon."""
    from deltascale import conduct
    from deltascale.analysis import power
    from deltascale.carbon import check_zone
    from deltascale.forecast import hours
    from deltascale.report import tables

    if zone != "WOR":
        check_zone(zone)
    environ = environment(study_file)
    totals: list[tuple[str, float, float, float]] = []
    rows: list[Row] = []
    for n_items in items or (None,):
        whole, parts = _study(study_file, n_items, options)
        out = options["out"] or RUNS / whole.name
        for part in parts:
            plan, forecasts = conduct.estimate(part, out, cache=cache(environ), environ=environ)
            warn(part, plan.loaded)
            name = _part_name(whole, part, n_items)
            used = _footprints(part, forecasts, zone)
            if as_json:
                rows += [{"part": name, **row} for row in tables.forecast_rows(forecasts, used)]
                continue
            from deltascale.report import terminal

            terminal.show_estimate(
                terminal.console(), name, forecasts, hours(forecasts, part.models)
            )
            models = [one.cell.model for one in forecasts]
            terminal.show_footprint(terminal.console(), models, used)
            for line in power.cannot_see({one.spec.name: len(one.items) for one in plan.loaded}):
                click.echo(line)
            low, expected, worst = (sum(one.usd[s] for one in forecasts) for s in range(3))
            totals.append((name, low, expected, worst))
    if as_json:
        print_json(rows)
    else:
        from deltascale.report import terminal

        terminal.show_totals(terminal.console(), totals, whole.budget_nusd)


@click.command()
@study_options
@click.option("--items", type=int, help="Items per dataset.")
@click.option(
    "--unsafe-code-execution",
    "unsafe_code",
    is_flag=True,
    help="Run generated code with your own rights where no sandbox works.",
)
@click.option(
    "--fork",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Begin a study of another meaning with the calls of this one's ledger.",
)
@json_option
def run(
    study_file: Path | None,
    items: int | None,
    unsafe_code: bool,
    fork: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Run a study or resume it, then print its estimates.

    STUDY_FILE is a YAML file; without one, --model and --dataset make an ad-hoc study.
    """
    whole, parts = _study(study_file, items, options)
    out = options["out"] or RUNS / whole.name
    environ = environment(study_file)
    if fork is not None:
        from deltascale.archive import snapshot

        snapshot.fork(fork / "ledger.db", out / "ledger.db")
    try:
        _run(parts, out, environ, quiet=as_json, unsafe_code=unsafe_code)
    except Stop as stop:
        if stop.exit_code in (3, 4):
            analyzed(out, as_json=as_json)
        raise
    analyzed(out, as_json=as_json)


@click.command()
@click.argument("directory", type=click.Path(path_type=Path))
@json_option
def status(directory: Path, as_json: bool) -> None:
    """Done, failed, missing and spent; also while a run goes on."""
    from deltascale import conduct

    study, found = conduct.status(directory)
    if as_json:
        print_json(found)
        return
    from deltascale.report import terminal

    shown = terminal.console()
    terminal.show_status(shown, study, found)
    terminal.show_simulated(shown, study)


def _part_name(whole: Study, part: Study, n_items: int | None) -> str:
    """The study's name, with the phase or the number of items that was asked about."""
    phase = next((name for name, one in whole.phases.items() if one is part), None)
    items = "" if n_items is None else f", {n_items} items"
    return whole.name + ("" if phase is None else f", phase {phase}") + items


def _footprints(part: Study, forecasts: Iterable[Forecast], zone: str) -> list[Footprint]:
    """Energy and emissions of what each cell still has to write, as expected."""
    from deltascale.carbon import footprint

    models = {model.id: model for model in part.models}
    return [
        footprint(
            models[one.cell.model],
            output_tokens=one.output_tokens[1],
            n_calls=one.n_calls,
            zone=zone,
        )
        for one in forecasts
    ]


def _study(
    study_file: Path | None, items: int | None, options: dict[str, Any]
) -> tuple[Study, tuple[Study, ...]]:
    """The whole study, and the parts of it that the command is about."""
    from datetime import date

    from deltascale import study

    on = date.today()  # noqa: DTZ011 - a price's date is the user's day
    given = {name: value for name, value in options.items() if value not in (None, ())}
    given.pop("out", None)
    if study_file is None:
        if not (given.keys() & {"models", "datasets"}):
            raise Mistake(
                "no study is named",
                remedy="name its file (`init` writes one), or give --model and --dataset",
            )
        if "phase" in given:
            raise Mistake("--phase needs a study file", remedy="name the file, or leave it out")
        if "budget" in given:
            given["budget_usd"] = given.pop("budget")
        if items is not None:
            given["items"] = items
        whole = study.adhoc(**{"models": (), "datasets": (), **given}, on=on)
        return whole, (whole,)
    _refuse_both(given, items)
    whole = study.load(study_file, on=on)
    if "budget" in given:
        whole = study.with_budget(whole, given["budget"])
    parts = study.phase(whole, given["phase"]) if "phase" in given else (whole,)
    return whole, parts


def _refuse_both(given: dict[str, Any], items: int | None) -> None:
    """What a study file says can't be said twice."""
    extra = [name for name in given if name not in ("phase", "budget")]
    if items is not None:
        extra.append("items")
    if extra:
        option = extra[0].replace("_", "-").removesuffix("s") if extra[0] != "items" else "items"
        raise Mistake(
            f"--{option} can't be given with a study file",
            remedy="change the study file, or leave the file out",
        )


def _run(
    parts: Iterable[Study],
    out: Path,
    environ: Mapping[str, str],
    *,
    quiet: bool,
    unsafe_code: bool = False,
) -> None:
    from deltascale import conduct
    from deltascale.engine import Progress
    from deltascale.report import terminal

    missing: Stop | None = None
    for part in parts:
        warn(part)
        progress = Progress()
        console = terminal.console()
        try:
            conduct.run(
                part,
                out,
                cache=cache(environ),
                environ=environ,
                progress=progress,
                tell=lambda line: click.echo(line, err=True),
                unsafe_code=unsafe_code,
                watch=None if quiet else terminal.watcher(console, budget_nusd=part.budget_nusd),
            )
        except Stop as stop:
            if stop.exit_code != 4:
                raise
            missing = stop  # later phases still have their say
        finally:
            for line in progress.stopped.values():
                click.echo(line, err=True)
        if not quiet:
            terminal.show_run(console, part, progress)
    if missing is not None:
        raise missing
