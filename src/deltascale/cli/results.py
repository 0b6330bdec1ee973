"""Commands that answer: estimates, power, report, paper, advice."""

from __future__ import annotations

import dataclasses
import math
import os
from pathlib import Path
from typing import Any

import click

from deltascale.cli.options import (
    THOROUGH,
    analyzed,
    cache,
    environment,
    json_option,
    print_json,
    settings_from,
)
from deltascale.errors import Mistake

__all__ = ["advise", "analyze", "audit", "paper", "power", "report"]


@click.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--thorough", is_flag=True, help="10,000 replicates, and the error-rate form.")
@click.option("--estimated-sizes", is_flag=True, help="Let estimated sizes in, as intervals.")
@click.option("--margin", type=float, help="Points that still count as no effect; default 1.")
@click.option("--worth", type=float, multiple=True, help="USD a right answer; repeatable.")
@click.option("--zone", help="Electricity for the carbon figures, like FRA; default WOR.")
@click.option("--seed", type=int, help="Draws another bootstrap; default 0.")
@json_option
def analyze(directory: Path, as_json: bool, **options: Any) -> None:
    """Estimates from the ledger: tables here, and DIRECTORY/results/*.csv."""
    analyzed(directory, as_json=as_json, **options)


@click.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--flips", type=int, default=50, show_default=True, help="Of each protocol.")
def audit(directory: Path, flips: int) -> None:
    """DIRECTORY/audit.csv: flips for a person to judge, blind to what came first.

    Fill its last two columns with yes or no, in a spreadsheet or an editor; `analyze` then says how
    many flips are none, and what is left of each delta. A sheet that is there is never overwritten.
    """
    from deltascale import assess

    if flips < 1:
        raise Mistake(f"{flips} flips", where="--flips", remedy="ask for at least 1")
    made, n_rows, n_judged = assess.audited(directory, n_flips=flips, cache=cache(environment()))
    click.echo(f"{directory / assess.AUDIT}: {n_judged} of {n_rows} flips are judged")
    for one in made:
        n = one.fixed_audited + one.broken_audited
        confirmed = one.fixed_confirmed + one.broken_confirmed
        click.echo(f"{one.protocol}: {confirmed} of {n} are flips")
    if not n_judged:
        click.echo("write yes or no in its last two columns, then `deltascale analyze`")


@click.command()
@click.argument("pilot", required=False, type=click.Path(path_type=Path))
@click.option("--fixed", type=float, help="Percent of all items that go from wrong to right.")
@click.option("--broken", type=float, help="Percent of all items that go from right to wrong.")
@click.option("--delta", type=float, help="Instead: their difference, in points, …")
@click.option("--flips", type=float, help="… and their sum, in percent.")
@click.option("--items", type=int, help="Also: what this many items would see.")
@click.option("--tests", type=int, default=1, show_default=True, help="Cells tested together.")
@click.option("--power", "wanted", type=float, default=80, show_default=True, help="Percent.")
@click.option("--alpha", type=float, default=5, show_default=True, help="Percent.")
@click.option("--deff", type=float, default=1, show_default=True, help="Design effect.")
@click.option("--scatter", type=float, default=1, show_default=True, help="Between models, points.")
@json_option
def power(pilot: Path | None, as_json: bool, **options: Any) -> None:
    """How many items, epochs and models a study needs, and what it could see.

    From assumed flips (--fixed and --broken, or --delta and --flips), or from those of a study that
    was run: its directory as PILOT.
    """
    from deltascale.report import tables

    rows = tables.power_rows(_power_rows(pilot, options))
    if as_json:
        print_json(rows)
        return
    from deltascale.report import foresight, terminal

    shown = terminal.console()
    if pilot is not None:
        from deltascale.archive import lock

        terminal.show_simulated(shown, lock.required(pilot).study)
    foresight.show_power(shown, rows)


@click.command()
@click.argument("directory", type=click.Path(path_type=Path))
def report(directory: Path) -> None:
    """DIRECTORY/report: the page to explore, figures and tables to take.

    With the settings of the last `analyze`, or the usual ones, and 10,000 replicates at least.
    """
    from deltascale import assess
    from deltascale.errors import MissingExtra
    from deltascale.report import figures, latex

    results = _for_readers(directory)
    folder = directory / "report"
    click.echo(f"page: {assess.page(results, directory)}")
    latex.write(results, folder / "tables")
    click.echo(f"tables: {folder / 'tables'}")
    try:
        power = assess.power_rows(directory, results)
        figures.draw(results, folder / "figures", power=power, processes=os.cpu_count() or 1)
    except MissingExtra as missing:
        click.echo(f"no figures: {missing}", err=True)
    else:
        click.echo(f"figures: {folder / 'figures'}")


@click.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--anonymous", is_flag=True, help="For a blind review: no paths, addresses, commits.")
def paper(directory: Path, anonymous: bool) -> None:
    """DIRECTORY/paper: the study written up, as LaTeX source and as PDF.

    With the settings of the last `analyze`, or the usual ones, and 10,000 replicates at least. It
    is written anew each time.
    """
    from deltascale import assess
    from deltascale.archive import lock
    from deltascale.report import paper

    record = paper.read(directory / lock.FILE)
    results = _for_readers(directory)
    rows = assess.power_rows(directory, results)
    folder = directory / "paper"
    paper.write(results, record, folder, anonymous=anonymous, power=rows)
    click.echo(f"paper: {folder / 'paper.pdf'}; its LaTeX source: {folder / 'paper.tex'}")


@click.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--model", help="One model of the study, whole id or name.")
@click.option("--dataset", help="One dataset of the study.")
@click.option("--value-of-a-correct-answer", "worth", type=float, help="USD.")
@json_option
def advise(
    directory: Path, model: str | None, dataset: str | None, worth: float | None, as_json: bool
) -> None:
    """Correct or not, by which protocol, at what gain and cost, and how sure."""
    from deltascale import analysis, assess
    from deltascale.report import advice, terminal

    if worth is not None and not 0 < worth < float("inf"):
        raise Mistake(
            f"{worth:g} is no worth",
            where="--value-of-a-correct-answer",
            remedy="write dollars: 0.1",
        )
    settings = settings_from({"worth": () if worth is None else (worth,)})
    study, frames = assess.frames(directory)
    results = analysis.analyse(frames, study, settings=settings)
    made = advice.advise(results, model=model, dataset=dataset, usd_per_right_answer=worth)
    rules = advice.guidelines(results)
    if as_json:
        print_json({"guidelines": rules, "advice": made})
        return
    shown = terminal.console()
    terminal.show_simulated(shown, study)
    if model is None and dataset is None:
        advice.show_guidelines(shown, rules)
    advice.show_advice(shown, made)


def _for_readers(directory: Path) -> Any:
    """The analysis, with replicates enough for limits that others will quote."""
    from deltascale import assess
    from deltascale.analysis import Settings
    from deltascale.archive import verify

    said = verify.settings_in(directory / assess.RESULTS) or Settings()
    enough = max(said.replicates, THOROUGH)
    return assess.analyze(directory, settings=dataclasses.replace(said, replicates=enough))


def _power_rows(pilot: Path | None, options: dict[str, Any]) -> Any:
    """What `power` answers, after its options are checked."""
    from deltascale.analysis import power

    shares = {name: options[name] for name in ("fixed", "broken", "delta", "flips")}
    given = {name for name, value in shares.items() if value is not None}
    if pilot is not None and given:
        raise Mistake("a pilot has its own flips", remedy=f"leave --{min(given)} out")
    if pilot is None and given not in ({"fixed", "broken"}, {"delta", "flips"}):
        raise Mistake(
            "the flips are not known",
            remedy="give --fixed and --broken, or --delta and --flips, or a pilot's directory",
        )
    numbers = {"power": options["wanted"], **{k: options[k] for k in ("deff", "scatter")}, **shares}
    for name, value in numbers.items():
        if value is not None and not math.isfinite(value):
            raise Mistake(f"--{name}: {value} is not a number", remedy="write digits, such as 4.5")
    for name, low, high in (("wanted", 0, 100), ("alpha", 0, 100)):
        if not low < options[name] < high:
            option = {"wanted": "power"}.get(name, name)
            raise Mistake(f"{options[name]:g} is no percentage between 0 and 100 for --{option}")
    if options["tests"] < 1 or options["deff"] < 1 or options["scatter"] < 0:
        raise Mistake("--tests and --deff begin at 1, --scatter at 0")
    if options["items"] is not None and options["items"] < 1:
        raise Mistake("--items must be at least 1")
    design = power.Design(
        alpha=options["alpha"] / 100,
        power=options["wanted"] / 100,
        n_tests=options["tests"],
        deff=options["deff"],
        tau=options["scatter"] / 100,
        items=options["items"],
    )
    if pilot is not None:
        from deltascale import assess

        study, frames = assess.frames(pilot)
        return power.pilot(frames, study, design=design)
    if given == {"delta", "flips"}:
        fixed = (shares["flips"] + shares["delta"]) / 2
        broken = (shares["flips"] - shares["delta"]) / 2
    else:
        fixed, broken = shares["fixed"], shares["broken"]
    if min(fixed, broken) < 0 or fixed + broken > 100:
        raise Mistake(
            f"{fixed:g} % fixed and {broken:g} % broken can't be",
            remedy="neither below 0, together at most 100; --flips is at least --delta",
        )
    return power.assumed(fixed / 100, broken / 100, design=design)
