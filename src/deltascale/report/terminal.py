"""What a person sees in the terminal: tables that fit 100 columns, and a run while it goes on.

Rich honours NO_COLOR and draws nothing that moves where the output is not a terminal.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.live import Live
from rich.markup import escape as _without_markup
from rich.table import Column, Table
from rich.text import Text

from deltascale.carbon import Footprint
from deltascale.engine import Progress, Watch
from deltascale.forecast import Forecast
from deltascale.ledger import Spent, Status
from deltascale.records import Cell, Estimate, Study
from deltascale.report.wording import dollars, in_unit, n_of, size_text, visible

if TYPE_CHECKING:
    # What shows a run has no need of what estimates, which takes longest to import.
    from deltascale.analysis import Caveat, CellResult, Results, TurnResult

__all__ = [
    "console",
    "show_estimate",
    "show_footprint",
    "show_results",
    "show_run",
    "show_simulated",
    "show_status",
    "show_table",
    "show_totals",
    "table",
    "watcher",
]

_REFRESH_S = 0.5
_PLAIN_EVERY_S = 5.0
_BAR = 8
_FEW_COLUMNS = 4
_HEAD = 9
_RUNGS = ("none", "sign", "trend", "form", "extrapolation")
_WEIGHTS = ("[red]no headline:[/] ", "[yellow]warning:[/] ", "note: ")
_WARNINGS = 8
_LEAST_NAME, _LEAST_TEXT = 12, 20
_SPARE = ("extra $", "% right by turn", "size", "fix/break", "p Holm")


def escape(text: str) -> str:
    """Foreign text as text: neither markup nor an escape sequence does anything."""
    return _without_markup(visible(text))


def console() -> Console:
    """The terminal as it is; 100 columns where there is none, so that piped tables are whole."""
    found = Console(highlight=False)
    if not found.is_terminal:
        found = Console(highlight=False, width=100)
    return found


def table(title: str, columns: Sequence[str], *, left: int = 1) -> Table:
    """An open table; the first `left` columns are text, the others numbers. See `show_table`."""
    made = [
        Column(
            escape(column),
            justify="left" if number < left else "right",
            no_wrap=True,
            overflow="ellipsis",
        )
        for number, column in enumerate(columns)
    ]
    return _open(escape(title), made)


def _open(title: str, columns: Sequence[Column]) -> Table:
    return Table(
        *columns,
        title=title,
        title_justify="left",
        title_style="bold",
        box=None,
        padding=(0, 2, 0, 0),
        pad_edge=False,
        min_width=min(len(title), 100),  # else the title is broken at the table's width
    )


def show_table(shown: Console, made: Table, *, spare: Sequence[str] = ()) -> None:
    """Print a table in which no number is ever cut.

    Where it is too wide, columns of `spare` are left out, the first one first, and named below it.
    Then names are cut, with an ellipsis. What is still too wide is left to the terminal to wrap.
    """
    left_out: list[str] = []
    while (excess := _excess(made, shown.width)) > 0 and spare:
        kept = [column for column in made.columns if column.header != spare[0]]
        if len(kept) < len(made.columns):
            left_out.append(spare[0])
            made = _with(made, kept)
        spare = spare[1:]
    for column in sorted(made.columns, key=_width, reverse=True):
        if excess > 0 and column.no_wrap and column.justify == "left":
            cut = max(0, min(excess, _width(column) - _LEAST_NAME))
            column.max_width = _width(column) - cut
            excess -= cut
    if excess > 0:
        made.width = shown.width + excess
    shown.print(made, soft_wrap=excess > 0)
    if left_out:
        shown.print(f"[dim]no room here for: {', '.join(left_out)}[/]")


def _with(made: Table, columns: Sequence[Column]) -> Table:
    fresh = _open(str(made.title), [column.copy() for column in columns])
    for row, cells in zip(
        made.rows, zip(*(one.cells for one in columns), strict=True), strict=True
    ):
        fresh.add_row(*cells, style=row.style, end_section=row.end_section)
    return fresh


def _excess(made: Table, width: int) -> int:
    """How many columns of the terminal are lacking, if nothing is cut and texts may wrap."""
    widths = (_width(one) if one.no_wrap else min(_width(one), _LEAST_TEXT) for one in made.columns)
    return sum(widths) + 2 * (len(made.columns) - 1) - width


def _width(column: Column) -> int:
    cells = (column.header, *column.cells)
    return max(
        Text.from_markup(one).cell_len if isinstance(one, str) else Text.assemble(one).cell_len
        for one in cells
        if isinstance(one, str | Text)
    )


# --- a run while it goes on ----------------------------------------------------------------------


def watcher(shown: Console, *, budget_nusd: int | None) -> Watch:
    """A function that shows a run's progress: a live grid, or plain lines without a terminal."""

    async def watch(progress: Progress) -> None:
        began = time.monotonic()
        if shown.is_terminal:
            with Live(console=shown, refresh_per_second=2, transient=True) as live:
                while True:
                    live.update(_grid(progress, time.monotonic() - began, budget_nusd))
                    await asyncio.sleep(_REFRESH_S)
        while True:
            await asyncio.sleep(_PLAIN_EVERY_S)
            shown.print(_line(progress, time.monotonic() - began, budget_nusd))

    return watch


def _grid(progress: Progress, elapsed_s: float, budget_nusd: int | None) -> Table:
    """Models by datasets, the fewer of them as columns; bars only where they leave room."""
    models = list(dict.fromkeys(model for model, _ in progress.total))
    datasets = list(dict.fromkeys(dataset for _, dataset in progress.total))
    turned = len(datasets) > max(len(models), _FEW_COLUMNS)
    rows, columns = (datasets, models) if turned else (models, datasets)
    width = _BAR if len(columns) <= _FEW_COLUMNS else 0
    heads = [name.rsplit("/", 1)[-1] for name in columns]
    heads = [head if width or len(head) <= _HEAD else f"…{head[1 - _HEAD :]}" for head in heads]
    made = table("", ["dataset" if turned else "model", *heads], left=1 + len(heads))
    for row in rows:
        lanes = [(column, row) if turned else (row, column) for column in columns]
        made.add_row(escape(row), *(_progress_cell(progress, *lane, width) for lane in lanes))
    made.caption = _line(progress, elapsed_s, budget_nusd)
    made.caption_justify = "left"
    return made


def _progress_cell(progress: Progress, model: str, dataset: str, width: int) -> Text:
    lane = (model, dataset)
    total = progress.total.get(lane, 0)
    if not total:
        return Text("")
    done, missing = progress.done[lane], progress.missing[lane]
    filled = width * done // total
    text = Text("━" * filled, style="green")
    text.append("─" * (width - filled), style="dim")
    text.append(f"{' ' * bool(width)}{100 * done // total:3d}%", style="")
    if missing:
        text.append(f" {missing} failed" if width else f" {missing}!", style="red")
    elif model in progress.stopped:
        text.append(" stopped" if width else " off", style="red")
    elif done == total:
        text.append(" done" if width else "", style="dim")
    elif not done:
        text.append(" waiting" if width else "", style="dim")
    return text


def _line(progress: Progress, elapsed_s: float, budget_nusd: int | None) -> str:
    total, over = sum(progress.total.values()), sum(progress.done.values())
    missing = sum(progress.missing.values())
    share = over / total if total else 0.0
    spent = progress.spent_nusd / 1e9
    parts = [
        f"{over - missing}/{total} samples",
        *[f"{missing} missing"] * bool(missing),
        f"{progress.n_calls / elapsed_s if elapsed_s else 0:.0f} calls/s",
        f"{progress.in_flight} in flight",
        f"${spent:.2f}" + (f" of ${budget_nusd / 1e9:.2f}" if budget_nusd is not None else ""),
    ]
    if 0 < share < 1:
        parts.append(f"~${spent / share:.2f} at the end")
        parts.append(f"{_duration(elapsed_s * (1 - share) / share)} left")
    if progress.n_failed_attempts:
        parts.append(f"{progress.n_failed_attempts} failed attempts")
    return ", ".join(parts)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


# --- tables --------------------------------------------------------------------------------------


def show_results(shown: Console, results: Results) -> None:
    """The deltas of every dataset, oracles in a table of their own, what may be claimed, what
    stands against it, and what was spent."""
    ordinary = [one for one in results.cells if not one.gate]
    oracles = [one for one in results.cells if one.gate]
    paths = _paths(results.turns)
    for dataset in dict.fromkeys(one.cell.dataset for one in ordinary):
        rows = [one for one in ordinary if one.cell.dataset == dataset]
        show_table(shown, _deltas(dataset, rows, paths), spare=_SPARE)
        shown.print()
        _show_benchmark(shown, results, dataset)
    if oracles:
        title = "upper bound (oracle): told right or wrong, so it can only gain"
        show_table(shown, _deltas(title, oracles, paths), spare=_SPARE)
        shown.print()
    _show_claims(shown, results)
    _show_warnings(shown, results)
    _show_notes(shown, results)


def _show_benchmark(shown: Console, results: Results, dataset: str) -> None:
    """The benchmark's own scores of the whole, from turn 0 to the last turn."""
    from deltascale.report import tables

    scores = tables.overall_scores(results, dataset)
    metrics = list(dict.fromkeys(one.metric for one in scores))
    if not metrics:
        return
    heads = [metric.replace(" per attempt", "/attempt") for metric in metrics]
    made = table(f"{dataset}, as the benchmark scores it", ["model", "protocol", *heads], left=2)
    by_cell: dict[Cell, dict[str, str]] = {}
    for one in scores:
        ends = (
            in_unit(end.value, end.unit, signed=False).removesuffix(" %")
            for end in (one.first, one.last)
        )
        by_cell.setdefault(one.cell, {})[one.metric] = " → ".join(ends)
    for cell, own in by_cell.items():
        name = escape(cell.protocol)
        if len(results.study.temperatures) > 1:
            name += f" T{cell.temperature:g}"
        made.add_row(_short(cell.model), name, *(own.get(metric, "") for metric in metrics))
    show_table(shown, made)
    shown.print()


def _show_claims(shown: Console, results: Results) -> None:
    """The highest rung of every protocol, and how it does against a vote of equal cost."""
    several = len({one.temperature for one in results.claims}) > 1
    if results.claims:
        shown.print("[bold]what may be said[/] (5 % level; none, sign, trend, form, extrapolation)")
    for one in results.claims:
        name = escape(one.protocol) + (f" T{one.temperature:g}" if several else "")
        shown.print(f"{name}: {_RUNGS[one.rung]}: {escape(one.text)}")
        if one.missing:
            shown.print(f"  no more is claimed; missing: {escape(one.missing)}", soft_wrap=False)
        if one.cost:
            shown.print(f"  {escape(one.cost)}")
    if results.claims:
        shown.print()


def _show_warnings(shown: Console, results: Results) -> None:
    """The weightiest kinds of warnings, a line each; all of them are in warnings.csv."""
    kinds: dict[str, list[Caveat]] = {}
    for one in results.warnings:
        kinds.setdefault(one.code, []).append(one)
    for rows in list(kinds.values())[:_WARNINGS]:
        first = rows[0]
        more = f" (and {len(rows) - 1} more)" if len(rows) > 1 else ""
        about = f"{first.about}: " if first.about else ""
        shown.print(f"{_WEIGHTS[first.weight]}{escape(about)}{escape(first.text)}{more}")
    if len(kinds) > _WARNINGS:
        shown.print(f"{len(kinds) - _WARNINGS} more kinds of warnings in warnings.csv")
    if kinds:
        shown.print()


def _deltas(title: str, rows: Sequence[CellResult], paths: Mapping[str, str]) -> Table:
    several_datasets = len({row.cell.dataset for row in rows}) > 1
    several_temperatures = len({row.cell.temperature for row in rows}) > 1
    some_missing = any(row.n_missing for row in rows)
    made = table(
        title,
        ["model", "size", "dataset" if several_datasets else "protocol",
         *["T"] * several_temperatures, "% right by turn", "delta", "95 % interval", "p Holm",
         "fix/break", "extra $", *["miss."] * some_missing],
        left=3,
    )  # fmt: skip
    before = rows[0].cell.protocol, rows[0].cell.dataset
    for row in rows:
        if (row.cell.protocol, row.cell.dataset) != before:
            made.add_row()
            before = row.cell.protocol, row.cell.dataset
        name = row.cell.dataset if several_datasets else row.cell.protocol
        made.add_row(
            _short(row.cell.model),
            size_text(row.model.size),
            _short(name),
            *[f"{row.cell.temperature:g}"] * several_temperatures,
            paths[row.cell.id],
            _points(row.delta.value),
            _interval(row.delta.low, row.delta.high),
            _p_value(row.p_holm),
            "" if row.fixed is None else f"{row.fixed}/{row.broken}",
            f"{row.cost_extra_usd:.3g}",
            *[str(row.n_missing)] * some_missing,
        )
    return made


def _paths(turns: Sequence[TurnResult]) -> dict[str, str]:
    """By cell: the accuracy at each turn, `50.5 54.5 53.0`; the middle of long ones left out."""
    by_cell: dict[str, list[str]] = {}
    for one in turns:
        by_cell.setdefault(one.cell.id, []).append(_percent(one.accuracy.value) or "?")
    return {
        cell: " ".join(path if len(path) <= 4 else [*path[:2], "…", path[-1]])
        for cell, path in by_cell.items()
    }


def _show_notes(shown: Console, results: Results) -> None:
    missing = [one for one in results.cells if one.n_missing]
    several = len(results.study.temperatures) > 1
    if missing:
        made = table(
            "missing answers: the delta if each were as bad, or as good, as can be",
            ["model", "dataset", "protocol", *["T"] * several, "missing", "of", "worst", "best"],
            left=3,
        )
        for one in missing:
            made.add_row(
                _short(one.cell.model),
                escape(one.cell.dataset),
                escape(one.cell.protocol),
                *[f"{one.cell.temperature:g}"] * several,
                str(one.n_missing),
                str(one.n_samples),
                _points(one.worst.value),
                _points(one.best.value),
            )
        show_table(shown, made)
        shown.print()
    show_simulated(shown, results.study)
    family = max((one.family_size for one in results.cells), default=0)
    intervals = dict.fromkeys(one.delta.method for one in results.cells if one.delta.method)
    if intervals:
        shown.print(
            f"delta in percentage points; {' or '.join(intervals)} interval; p by McNemar mid-p or "
            f"cluster sign-flip, Holm over {n_of(family, 'cell')} ({_of_family(results.study)})"
        )
    doubt = f", {_set_aside(results.spent)}" if results.spent.uncertain_nusd else ""
    shown.print(
        f"{n_of(results.spent.n_calls, 'call')}, ${results.spent.spent_nusd / 1e9:.4f} spent{doubt}"
    )


def show_simulated(shown: Console, study: Study) -> None:
    """Says so where numbers are of simulated models."""
    if any(model.provider == "simulated" for model in study.models):
        shown.print("[bold]simulated models: these numbers say nothing about any real model[/]")


def show_run(shown: Console, study: Study, progress: Progress) -> None:
    """One line on a run that ended by itself."""
    total, missing = sum(progress.total.values()), sum(progress.missing.values())
    done = sum(progress.done.values()) - missing
    replayed = f", {progress.n_replayed:,} replayed" if progress.n_replayed else ""
    shown.print(
        f"{escape(study.name)}: {done:,} of {n_of(total, 'sample')}, "
        + f"{missing} missing, " * bool(missing)
        + f"{n_of(progress.n_calls, 'call')} bought{replayed}, "
        f"${progress.spent_nusd / 1e9:.4f} spent in all"
    )
    shown.print()


def show_footprint(shown: Console, models: Sequence[str], used: Sequence[Footprint]) -> None:
    """Energy and emissions, a range a model, with what is assumed or why there is none.

    `models` has the model of each footprint; cells are in the JSON.
    """
    known = [one for one in used if one.emissions.value is not None]
    if known:
        shown.print(f"{_used(known)}; ranges span assumptions:")
    said: dict[str, list[str]] = {}
    for model in dict.fromkeys(models):
        own = [one for one, of in zip(used, models, strict=True) if of == model]
        told = [one for one in own if one.emissions.value is not None]
        text = f"{_used(told)}; {told[0].assumptions}" if told else own[0].emissions.note
        said.setdefault(text, []).append(_short(model))
    for text, names in said.items():
        shown.print(f"  {', '.join(names)}: {escape(text)}")


def _used(footprints: Sequence[Footprint]) -> str:
    kwh, kg = (
        _range_of([getattr(one, name) for one in footprints]) for name in ("energy", "emissions")
    )
    return f"energy {kwh} kWh, emissions {kg} kg CO2e"


def _range_of(estimates: Sequence[Estimate]) -> str:
    low = sum(one.low if one.low is not None else one.value or 0.0 for one in estimates)
    high = sum(one.high if one.high is not None else one.value or 0.0 for one in estimates)
    return f"{low:.2g} to {high:.2g}" if high > low else f"{high:.2g}"


def show_totals(
    shown: Console, totals: Sequence[tuple[str, float, float, float]], budget_nusd: int | None
) -> None:
    """The dollars of several parts: what each needs if it is run alone, low to worst."""
    if len(totals) > 1:
        made = table("each run by itself", ["part", "low", "expected", "worst"])
        for name, low, expected, worst in totals:
            made.add_row(escape(name), *map(dollars, (low, expected, worst)))
        lows, expecteds, worsts = (
            sum(column) for column in zip(*(t[1:] for t in totals), strict=True)
        )
        made.add_row("together, at most", *map(dollars, (lows, expecteds, worsts)))
        show_table(shown, made)
    if budget_nusd is None:
        shown.print("no budget is set: give one with budget_usd or --budget")
    else:
        shown.print(f"budget ${budget_nusd / 1e9:.2f}: never passed, whatever the estimate says")


def show_estimate(
    shown: Console,
    name: str,
    forecasts: Sequence[Forecast],
    hours: Mapping[str, float],
) -> None:
    """What a study still needs: a row a model and dataset, and the total."""
    made = table(
        f"{name}: what is still to be asked",
        ["model", "dataset", "items", "calls", "paid", "tokens in", "out", "low", "expected",
         "worst", "hours"],
        left=2,
    )  # fmt: skip
    shown_hours: set[str] = set()
    for model, dataset in dict.fromkeys((one.cell.model, one.cell.dataset) for one in forecasts):
        rows = [o for o in forecasts if (o.cell.model, o.cell.dataset) == (model, dataset)]
        took = "" if model in shown_hours else f"{hours[model]:.2f}"
        shown_hours.add(model)
        made.add_row(_short(model), escape(dataset), str(rows[0].n_samples), *_sums(rows), took)
    made.add_section()
    longest = max(hours.values(), default=0.0)
    made.add_row("total", "", "", *_sums(forecasts), f"{longest:.2f}", style="bold")
    show_table(shown, made, spare=("out", "tokens in", "hours"))


def _sums(rows: Sequence[Forecast]) -> tuple[str, ...]:
    return (
        f"{sum(one.n_calls for one in rows):,}",
        f"{sum(one.n_on_record for one in rows):,}",
        _thousands(sum(one.input_tokens[1] for one in rows)),
        _thousands(sum(one.output_tokens[1] for one in rows)),
        *(dollars(sum(one.usd[scenario] for one in rows)) for scenario in range(3)),
    )


def show_status(shown: Console, study: Study, status: Status) -> None:
    """Done, failed and missing samples of every cell, and what was spent."""
    made = table(
        study.name, ["model", "dataset", "protocol", "T", "done", "failed", "to do"], left=3
    )
    models = [one.id for one in study.models]
    places = [one.name for one in study.datasets]
    for planned, outcomes in sorted(
        status.by_cell,
        key=lambda row: (
            *map(_place, ((places, row[0].cell.dataset), (study.protocols, row[0].cell.protocol))),
            row[0].cell.temperature,
            _place((models, row[0].cell.model)),
        ),
    ):
        n_failed = outcomes.get("failed", 0)
        n_done = sum(outcomes.values()) - n_failed - outcomes.get("budget", 0)
        made.add_row(
            _short(planned.cell.model),
            escape(planned.cell.dataset),
            escape(planned.cell.protocol),
            f"{planned.cell.temperature:g}",
            str(n_done),
            str(n_failed) if n_failed else "",
            str(planned.n_samples - n_done - n_failed),
        )
    show_table(shown, made)
    for model, count, failure in status.failures:
        kind, attempts = failure.kind.replace("_", " "), n_of(count, "failed attempt")
        shown.print(f"{escape(model)}: {attempts}, {kind}: {escape(failure.message)}")
    for asked, served in status.served:
        if served and served != asked:
            shown.print(f"{escape(asked)} was served by {escape(served)}")
    budget = f" of ${study.budget_nusd / 1e9:.2f}" if study.budget_nusd is not None else ""
    spent = status.spent
    doubt = f", {_set_aside(spent)}" if spent.uncertain_nusd else ""
    calls = n_of(spent.n_calls, "call")
    shown.print(f"{calls}, ${spent.spent_nusd / 1e9:.4f} spent{budget}{doubt}")


def _place(of: tuple[Sequence[str], str]) -> int:
    names, name = of
    return names.index(name) if name in names else len(names)


def _set_aside(spent: Spent) -> str:
    return f"${spent.uncertain_nusd / 1e9:.4f} of it set aside for calls without an answer"


# --- numbers as text -----------------------------------------------------------------------------


def _of_family(study: Study) -> str:
    return ", ".join(study.confirmatory) or "not resample, not oracle"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f}"


def _points(share: float | None) -> str:
    return "" if share is None else _signed(100 * share)


def _interval(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{_signed(100 * low)} to {_signed(100 * high)}"


def _signed(points: float) -> str:
    """As on the page and in the paper, what rounds to nothing has no sign."""
    text = f"{points:+.1f}"
    return text if float(text) else text[1:]


def _p_value(p: float | None) -> str:
    if p is None:
        return ""
    return "<.001" if p < 0.001 else f"{p:.3f}".lstrip("0") if p < 1 else "1"


def _thousands(n: int) -> str:
    return f"{n / 1e6:.1f}M" if n >= 1e6 else f"{n / 1e3:.0f}k" if n >= 1e4 else str(n)


def _short(model: str) -> str:
    """A model's name without its provider, since the name alone tells it in most studies."""
    name = model.split("/", 1)[-1]
    return escape(name if len(name) <= 26 else f"{name[:25]}…")
