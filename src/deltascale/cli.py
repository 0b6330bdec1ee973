"""The command line: parse, call one public function, print. Help imports nothing heavy."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deltascale import __version__
from deltascale.errors import Mistake, Stop

if TYPE_CHECKING:
    from deltascale.records import Study
    from deltascale.report.tables import Row

__all__ = ["cli", "main"]

RUNS = Path("runs")


def main() -> None:
    """The entry point: every end of a command becomes its exit code and at most one message."""
    try:
        cli.main(standalone_mode=False)
    except Stop as stop:
        click.echo(str(stop), err=True)
        sys.exit(stop.exit_code)
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except click.ClickException as wrong:
        click.echo(f"deltascale: {wrong.format_message()}", err=True)
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        click.echo("stopped; nothing paid for is lost, run the same command to resume", err=True)
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="deltascale")
def cli() -> None:
    """Scaling studies of self-correction: does it help, by how much, and is it worth its price?

    Begin with `deltascale demo`, then `deltascale init`, `estimate`, `run`, `analyze`.
    """


# --- options that several commands take ----------------------------------------------------------


def _json_option(command: Any) -> Any:  # click's decorators are untyped
    return click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")(
        command
    )


def _study_options(command: Any) -> Any:  # click's decorators are untyped
    """A study file, or what an ad-hoc study is made of."""
    for option in reversed(
        [
            click.argument("study_file", required=False, type=click.Path(path_type=Path)),
            click.option("--phase", help="A phase of the study: its name, its number, or all."),
            click.option("--model", "models", multiple=True, help="provider/name; repeatable."),
            click.option("--base-url", help="An OpenAI-compatible server for the models."),
            click.option("--price", help="0, or USD per million tokens: INPUT/OUTPUT."),
            click.option("--dataset", "datasets", multiple=True, help="A name or a file."),
            click.option("--scorer", help="How a file's answers are judged: numeric, choice, …"),
            click.option("--protocol", "protocols", multiple=True, help="review, vote, …"),
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


def _environment(study_file: Path | None = None) -> Mapping[str, str]:
    from deltascale.providers import read_environment

    return read_environment(study_file.parent if study_file else Path())


def _print_json(rows: Iterable[Row] | object) -> None:
    import msgspec

    click.echo(msgspec.json.format(msgspec.json.encode(rows), indent=1).decode())


# --- commands ------------------------------------------------------------------------------------


@cli.command()
@click.option("--out", type=click.Path(path_type=Path), default=RUNS / "demo", show_default=True)
@click.option("--seed", type=int, default=0, show_default=True, help="Draws another simulation.")
@click.option("--items", type=int, default=200, show_default=True, help="Items per dataset.")
@_json_option
def demo(out: Path, seed: int, items: int, as_json: bool) -> None:
    """The whole way, offline, no keys: simulated models whose truth is known."""
    from deltascale import demo

    study = demo.demo_study(seed=seed, items=items)
    if not as_json:
        click.echo("simulated models only: these numbers say nothing about any real model\n")
    _run((study,), out, {}, quiet=as_json)
    results = _analyzed(out, as_json=as_json)
    if not as_json:
        click.echo(str(demo.agreement(results.cells)))


@cli.command()
@click.argument("name", default="study")
def init(name: str) -> None:
    """Write a commented study file, NAME.yaml."""
    from deltascale import study

    path = Path(name if name.endswith((".yaml", ".yml")) else f"{name}.yaml")
    if path.exists():
        raise Mistake("there is a file already", where=str(path), remedy="choose another NAME")
    path.write_text(study.template(path.stem), encoding="utf-8")
    click.echo(f"wrote {path}; next: deltascale estimate {path}")


@cli.command()
@_study_options
@click.option("--items", type=int, multiple=True, help="Items per dataset; repeatable.")
@_json_option
def estimate(
    study_file: Path | None, items: tuple[int, ...], as_json: bool, **options: Any
) -> None:
    """What a study will cost: calls, tokens, dollars (low, expected, worst) and hours."""
    from deltascale import conduct
    from deltascale.forecast import hours
    from deltascale.report import tables

    environ = _environment(study_file)
    totals: list[tuple[str, float, float, float]] = []
    for n_items in items or (None,):
        whole, parts = _study(study_file, n_items, options)
        out = options["out"] or RUNS / whole.name
        for part in parts:
            plan, forecasts = conduct.estimate(part, out, cache=_cache(environ), environ=environ)
            if as_json:
                _print_json(list(tables.forecast_rows(forecasts)))
                continue
            from deltascale.report import terminal

            _warn(part, plan.loaded)
            name = part.name if n_items is None else f"{part.name}, {n_items} items"
            terminal.show_estimate(
                terminal.console(), name, forecasts, hours(forecasts, part.models)
            )
            low, expected, worst = (sum(one.usd[s] for one in forecasts) for s in range(3))
            totals.append((name, low, expected, worst))
    if totals:
        from deltascale.report import terminal

        terminal.show_totals(terminal.console(), totals, whole.budget_nusd)


@cli.command()
@_study_options
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
@_json_option
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
    environ = _environment(study_file)
    if fork is not None:
        from deltascale.archive import snapshot

        snapshot.fork(fork / "ledger.db", out / "ledger.db")
    try:
        _run(parts, out, environ, quiet=as_json, unsafe_code=unsafe_code)
    except Stop as stop:
        if stop.exit_code in (3, 4):
            _analyzed(out, as_json=as_json)
        raise
    _analyzed(out, as_json=as_json)


@cli.command()
@click.argument("directory", type=click.Path(path_type=Path))
@_json_option
def status(directory: Path, as_json: bool) -> None:
    """Done, failed, missing and spent; also while a run goes on."""
    from deltascale import conduct

    study, found = conduct.status(directory)
    if as_json:
        _print_json(found)
        return
    from deltascale.report import terminal

    terminal.show_status(terminal.console(), study, found)


@cli.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--thorough", is_flag=True, help="10,000 replicates, and the error-rate form.")
@click.option("--estimated-sizes", is_flag=True, help="Let estimated sizes in, as intervals.")
@click.option("--margin", type=float, help="Points that still count as no effect; default 1.")
@click.option("--worth", type=float, multiple=True, help="USD a right answer; repeatable.")
@click.option("--zone", help="Electricity for the carbon figures, like FRA; default WOR.")
@click.option("--seed", type=int, help="Draws another bootstrap; default 0.")
@_json_option
def analyze(directory: Path, as_json: bool, **options: Any) -> None:
    """Estimates from the ledger: tables here, and DIRECTORY/results/*.csv."""
    _analyzed(directory, as_json=as_json, **options)


@cli.command()
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
@_json_option
def power(pilot: Path | None, as_json: bool, **options: Any) -> None:
    """How many items, epochs and models a study needs, and what it could see.

    From assumed flips (--fixed and --broken, or --delta and --flips), or from those of a study that
    was run: its directory as PILOT.
    """
    from deltascale.report import tables

    rows = tables.power_rows(_power_rows(pilot, options))
    if as_json:
        _print_json(rows)
        return
    from deltascale.report import terminal

    terminal.show_power(terminal.console(), rows)


@cli.group(invoke_without_command=True)
@click.option("--check", is_flag=True, help="Ask each provider whether key and model are good.")
@click.option("--model", "asked", multiple=True, help="With --check: only these; repeatable.")
@click.option("--all", "every", is_flag=True, help="Retired models too.")
@click.option(
    "--document",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Write the models that a study used into its directory: models.csv and models.md.",
)
@_json_option
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

        checked = doctor.check_models(asked, _environment())
        if as_json:
            _print_json(checked)
        else:
            catalogue.show_doctor(checked)
        return
    rows = catalogue.model_rows(every=every)
    if as_json:
        _print_json(rows)
    else:
        catalogue.show_models(rows)


@models.command()
@click.argument("name")
def pull(name: str) -> None:
    """Fetch a local model's weights and check their hash."""
    from deltascale.providers import local

    click.echo(f"{name}: {local.pull(name)}")


@cli.group(invoke_without_command=True)
@_json_option
@click.pass_context
def datasets(context: click.Context, as_json: bool) -> None:
    """The datasets; `datasets prepare NAME` downloads one, `datasets show NAME` prints items."""
    if context.invoked_subcommand is not None:
        return
    from deltascale.report import catalogue

    rows = catalogue.dataset_rows()
    if as_json:
        _print_json(rows)
        return
    catalogue.show_datasets(rows)


@datasets.command()
@click.argument("name")
@click.option("--items", type=int, help="How many items will be used.")
def prepare(name: str, items: int | None) -> None:
    """Download a dataset into the cache, with size and checksum."""
    from deltascale import datasets as known
    from deltascale.records import DatasetSpec

    loaded = known.load(DatasetSpec(name), items=items, seed=0, cache=_cache(_environment()))
    for warning in loaded.warnings:
        click.echo(warning, err=True)
    click.echo(f"{name}: {len(loaded.items)} items ready of {loaded.n_available}; {loaded.source}")


@datasets.command()
@click.argument("name")
@click.option("--items", type=int, default=3, show_default=True)
@click.option("--scorer", default="", help="For a file: how its answers are judged.")
def show(name: str, items: int, scorer: str) -> None:
    """Print items as a model would see them, with their targets."""
    from deltascale import datasets as known
    from deltascale.records import DatasetSpec
    from deltascale.report import catalogue

    path = Path(name)
    spec = DatasetSpec(path.stem, file=name, scorer=scorer) if path.suffix else DatasetSpec(name)
    catalogue.show_items(known.load(spec, items=items, seed=0, cache=_cache(_environment())))


@cli.command()
@click.argument("directory", type=click.Path(path_type=Path))
def report(directory: Path) -> None:
    """DIRECTORY/report: the page to explore, figures and tables to take.

    With the settings of the last `analyze`, or the usual ones.
    """
    from deltascale import conduct
    from deltascale.archive import lock, verify
    from deltascale.errors import MissingExtra
    from deltascale.report import figures, latex, page

    settings = verify.settings_in(directory / conduct.RESULTS)
    results = conduct.analyze(directory, settings=settings)
    folder = directory / "report"
    made = page.build(
        results,
        folder,
        ledger_file=directory / conduct.LEDGER,
        lock_file=directory / lock.FILE,
    )
    click.echo(f"page: {made}")
    latex.write(results, folder / "tables")
    click.echo(f"tables: {folder / 'tables'}")
    try:
        figures.draw(results, folder / "figures")
    except MissingExtra as missing:
        click.echo(f"no figures: {missing}", err=True)
    else:
        click.echo(f"figures: {folder / 'figures'}")


@cli.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--anonymous", is_flag=True, help="For a blind review: no paths, addresses, commits.")
def paper(directory: Path, anonymous: bool) -> None:
    """DIRECTORY/paper: the study written up, as LaTeX source and as PDF.

    With the settings of the last `analyze`, or the usual ones. It is written anew each time.
    """
    from deltascale import conduct
    from deltascale.analysis import power
    from deltascale.archive import lock, verify
    from deltascale.report import paper

    record = paper.read(directory / lock.FILE)
    settings = verify.settings_in(directory / conduct.RESULTS)
    results = conduct.analyze(directory, settings=settings)
    n_tests = max((one.family_size for one in results.cells), default=0)
    study, frames = conduct.frames(directory)
    design = power.Design(n_tests=max(1, n_tests), simulations=1)  # no simulated row is shown
    rows = power.pilot(frames, study, design=design)
    folder = directory / "paper"
    paper.write(results, record, folder, anonymous=anonymous, power=rows)
    click.echo(f"paper: {folder / 'paper.pdf'}; its LaTeX source: {folder / 'paper.tex'}")


@cli.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--model", help="One model of the study, whole id or name.")
@click.option("--dataset", help="One dataset of the study.")
@click.option("--value-of-a-correct-answer", "worth", type=float, help="USD.")
@_json_option
def advise(
    directory: Path, model: str | None, dataset: str | None, worth: float | None, as_json: bool
) -> None:
    """Correct or not, by which protocol, at what gain and cost, and how sure."""
    from deltascale import analysis, conduct
    from deltascale.report import advice, terminal

    if worth is not None and not 0 < worth < float("inf"):
        raise Mistake(
            f"{worth:g} is no worth",
            where="--value-of-a-correct-answer",
            remedy="write dollars: 0.1",
        )
    settings = _settings({"worth": () if worth is None else (worth,)})
    study, frames = conduct.frames(directory)
    results = analysis.analyse(frames, study, settings=settings)
    made = advice.advise(results, model=model, dataset=dataset, usd_per_right_answer=worth)
    rules = advice.guidelines(results)
    if as_json:
        _print_json({"guidelines": rules, "advice": made})
        return
    shown = terminal.console()
    if model is None and dataset is None:
        advice.show_guidelines(shown, rules)
    advice.show_advice(shown, made)


@cli.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("-o", "--out", "target", type=click.Path(path_type=Path), required=True)
@click.option("--anonymous", is_flag=True, help="For a blind review: who and where is taken out.")
@click.option("--also", type=click.Path(path_type=Path), help="A list: more texts to take out.")
@click.option("--without-text", is_flag=True, help="Leave out texts whose licence is not open.")
def pack(directory: Path, target: Path, **options: Any) -> None:
    """A study as one file that anybody can verify."""
    from deltascale import conduct
    from deltascale.archive import pack

    environ = _environment()
    manifest, report = pack.pack(
        directory,
        target,
        analyze=conduct.analyze,
        cache=_cache(environ),
        environ=environ,
        **options,
    )
    if report is not None:
        _show_report(report)
    for kind, count in manifest.replaced.items():
        click.echo(f"replaced    {count} of the kind {kind}")
    for line in manifest.left_out:
        click.echo(f"left out    {line}")
    size = target.stat().st_size / 1e6
    click.echo(f"{target}: {len(manifest.members)} files, {size:.1f} MB")


@cli.command()
@click.argument("file", type=click.Path(path_type=Path))
@_json_option
def verify(file: Path, as_json: bool) -> None:
    """Check a pack: every byte, every sample, every table; offline, without keys or models."""
    from deltascale import conduct
    from deltascale.archive.verify import verify

    report = verify(file, analyze=conduct.analyze)
    if as_json:
        _print_json(report)
    else:
        _show_report(report)
    failed = sum(check.state == "failed" for check in report.checks)
    if failed:
        raise Mistake(
            f"it does not hold: {failed} of {len(report.checks)} checks failed",
            where=str(file),
            remedy="get the file again from where it is published, or ask its authors",
        )
    if not as_json:
        click.echo(f"{file}: all that can be checked holds")


@cli.command()
@click.argument("first", type=click.Path(path_type=Path))
@click.argument("second", type=click.Path(path_type=Path))
@_json_option
def diff(first: Path, second: Path, as_json: bool) -> None:
    """What differs between two studies: their meaning, and what is on record."""
    from deltascale.archive import compare

    found = compare.differences(first, second)
    if as_json:
        _print_json(found)
        return
    for one in found:
        before, after = compare.short(one.first) or "-", compare.short(one.second) or "-"
        click.echo(f"{one.path}: {before} | {after}")
    if not found:
        click.echo("nothing: the same study, and the same on record")


@cli.command()
@_json_option
def doctor(as_json: bool) -> None:
    """What is installed, which keys are set (never their values), and what works here."""
    from deltascale import doctor
    from deltascale.report import catalogue

    rows = doctor.examine(_environment())
    if as_json:
        _print_json(rows)
        return
    catalogue.show_doctor(rows)


# --- what the commands share ---------------------------------------------------------------------


def _document(directory: Path, *, as_json: bool) -> None:
    from deltascale.archive import document

    paths = document.document(directory)
    if as_json:
        _print_json([str(path) for path in paths])
    else:
        click.echo(f"wrote {' and '.join(str(path) for path in paths)}")


def _show_report(report: Any) -> None:
    for check in report.checks:
        click.echo(f"{check.state:11} {check.name}: {check.detail}")


def _cache(environ: Mapping[str, str]) -> Any:
    from deltascale.datasets import Cache

    return Cache.from_environ(environ)


def _warn(study: Study, loaded: Iterable[Any] = ()) -> None:
    for warning in (*study.warnings, *(text for one in loaded for text in one.warnings)):
        click.echo(f"warning: {warning}", err=True)


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
        _warn(part)
        progress = Progress()
        console = terminal.console()
        try:
            conduct.run(
                part,
                out,
                cache=_cache(environ),
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


def _analyzed(out: Path, *, as_json: bool, **options: Any) -> Any:
    from deltascale import conduct
    from deltascale.report import tables

    settings = _settings(options)
    results = conduct.analyze(out, settings=settings, tell=lambda line: click.echo(line, err=True))
    if as_json:
        _print_json(list(tables.delta_rows(results.cells)))
    else:
        from deltascale.report import terminal

        terminal.show_results(terminal.console(), results)
        click.echo(f"tables: {out / conduct.RESULTS}")
    return results


def _settings(options: dict[str, Any]) -> Any:
    """What an analysis may choose, from the command line."""
    from deltascale.analysis import Settings
    from deltascale.carbon import check_zone

    chosen: dict[str, Any] = {}
    if options.get("thorough"):
        chosen |= {"replicates": 10_000, "error_rate": True}
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
        from deltascale import conduct

        study, frames = conduct.frames(pilot)
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
