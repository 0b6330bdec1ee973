"""What the page's script draws and lists, as plain values: names as places in lists.

Nothing is computed: numbers are only cut to six figures, which no pixel can show.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from msgspec.structs import replace

from deltascale.analysis import BenchmarkScore, CellResult, Finding, Results
from deltascale.analysis.generalisation import task_kind
from deltascale.analysis.results import ALL_DATASETS
from deltascale.catalog import training_flops
from deltascale.records import Cell, Estimate
from deltascale.report.page.transcripts import Examples
from deltascale.report.wording import estimate_text, in_unit, p_text, short, size_text, visible

__all__ = ["Index", "chart_data", "rungs", "speakable"]

Number: TypeAlias = float | int | None
Triple: TypeAlias = list[Number]


class Index:
    """The places of models, datasets and protocols in the page's lists; -1 for none of them."""

    def __init__(self, results: Results) -> None:
        self.models = [one.id for one in results.study.models]
        self.datasets = [*(one.name for one in results.study.datasets), ALL_DATASETS]
        self.protocols = list(results.study.protocols)

    def of(self, model: str, dataset: str, protocol: str) -> tuple[int, int, int]:
        return (
            _place(self.models, model),
            _place(self.datasets, dataset),
            _place(self.protocols, protocol),
        )

    def of_cell(self, cell: Cell) -> tuple[int, int, int]:
        return self.of(cell.model, cell.dataset, cell.protocol)


def _place(names: list[str], name: str) -> int:
    try:
        return names.index(name)
    except ValueError:
        if name:
            names.append(name)
            return len(names) - 1
        return -1


def rungs(results: Results) -> Mapping[tuple[str, float], int]:
    """How far up the ladder of claims each protocol is, by protocol and temperature."""
    return {(one.protocol, one.temperature): one.rung for one in results.claims}


def speakable(finding: Finding, ladder: Mapping[tuple[str, float], int]) -> bool:
    """Whether a finding about size is below the rung that its protocol has reached."""
    if finding.temperature is None:
        return True
    rung = ladder.get((finding.protocol, finding.temperature), 0)
    if finding.quantity.startswith("alpha"):
        return rung >= 3
    if finding.quantity == "slope_by_axis":
        return True  # like the trends themselves, it is shown whatever comes of it
    if finding.quantity.startswith(("slope", "held_out", "break_even_size")):
        return rung >= 2
    return True


def chart_data(results: Results, drawn: Examples, index: Index) -> dict[str, object]:
    """Everything that the script needs."""
    ladder = rungs(results)
    cells = {one.cell.id: number for number, one in enumerate(results.cells)}
    made: dict[str, object] = {
        "level": results.settings.level,
        "temperatures": list(results.study.temperatures),
        "worths": list(results.settings.usd_per_corrected),
        "cells": [_cell(one, index) for one in results.cells],
        "turns": [
            [cells[one.cell.id], one.turn, *_triple(one.accuracy)]
            for one in results.turns
            if one.cell.id in cells
        ],
        "means": _means(results, index),
        "curves": _curves(results, ladder, index),
        "rungs": [
            [_place(index.protocols, protocol), temperature, rung]
            for (protocol, temperature), rung in ladder.items()
        ],
        "refused": [
            [*index.of("", fit.dataset, fit.protocol)[1:], fit.temperature, visible(fit.note)]
            for fit in results.scaling
            if fit.form == "none"
        ],
        "frontier": _frontier(results, index),
        "worth": _worth(results, cells),
        "findings": {
            "flips": _findings(results.flips, ladder, index),
            "contrasts": _findings(results.contrasts, ladder, index),
            "costs": _findings(results.costs, ladder, index),
            "sensitivity": _findings(results.sensitivity, ladder, index),
            "benchmarks": _findings(list(map(_of_benchmark, results.benchmarks)), ladder, index),
        },
        "texts": drawn.texts,
        "examples": _examples(drawn, index),
    }
    return made | _names(results, index)


def _means(results: Results, index: Index) -> list[dict[str, object]]:
    """Each model's delta over all datasets."""
    return [
        {
            "at": index.of(one.model, one.dataset, one.protocol),
            "t": one.temperature,
            "delta": _triple(one.estimate),
        }
        for one in results.contrasts
        if one.quantity == "macro_delta"
    ]


def _frontier(results: Results, index: Index) -> list[dict[str, object]]:
    return [
        {
            "at": index.of(one.model, one.dataset, one.protocol),
            "t": one.temperature,
            "cost": _triple(one.cost_usd),
            "accuracy": _triple(one.accuracy),
            "share": _cut(one.membership.value),
        }
        for one in results.frontier
    ]


def _examples(drawn: Examples, index: Index) -> list[dict[str, object]]:
    return [
        {
            "at": index.of_cell(one.cell),
            "t": one.cell.temperature,
            "kind": one.kind,
            "item": one.item,
            "epoch": one.epoch,
            "spoken": [
                [s.role, s.text, s.turn, s.outcome, _cut(s.score), s.answer] for s in one.spoken
            ],
        }
        for one in drawn.shown
    ]


def _names(results: Results, index: Index) -> dict[str, object]:
    """Last, because naming what the study does not list adds to the lists."""
    regimes = {one.cell.protocol: one.regime for one in results.cells}
    by_id = {one.id: one for one in results.study.models}
    models = []
    for name in index.models:
        one = by_id.get(name)
        size = None if one is None else one.size
        models.append(
            {
                "name": visible(short(name)),
                "size": "?" if size is None else size_text(size),
                "n": None if size is None else size.parameters,
                "low": None if size is None else size.low,
                "high": None if size is None else size.high,
                "active": None if size is None else size.active,
                "flops": None if size is None else training_flops(size),
                "source": "unknown" if size is None else size.source,
                "price": None if one is None else one.price.output_nusd_per_ktok / 1e6,
            }
        )
    return {
        "models": models,
        "datasets": [{"name": visible(name), "kind": task_kind(name)} for name in index.datasets],
        "protocols": [
            {"name": visible(name), "oracle": regimes.get(name) == "verdict"}
            for name in index.protocols
        ],
    }


def _cell(one: CellResult, index: Index) -> dict[str, object]:
    return {
        "at": index.of_cell(one.cell),
        "t": one.cell.temperature,
        "gate": one.gate,
        "withheld": bool(one.withheld),
        "delta": _triple(one.delta),
        "first": _triple(one.first),
        "last": _triple(one.last),
        "fixed": one.fixed,
        "broken": one.broken,
        "n": one.delta.n,
        "missing": one.n_missing,
        "p": _cut(one.p_holm),
    }


def _worth(results: Results, cells: Mapping[str, int]) -> list[list[Number]]:
    """Cell, worth of a right answer in dollars, share of replicates in which it pays."""
    ids = {
        (c.cell.model, c.cell.dataset, c.cell.protocol, c.cell.temperature): cells[c.cell.id]
        for c in results.cells
    }
    rows: list[list[Number]] = []
    for one in results.costs:
        if one.quantity.startswith("acceptability_at_") and one.temperature is not None:
            usd = float(one.quantity.removeprefix("acceptability_at_"))
            cell = ids[one.model, one.dataset, one.protocol, one.temperature]
            rows.append([cell, usd, _cut(one.estimate.value)])
    return rows


def _curves(
    results: Results, ladder: Mapping[tuple[str, float], int], index: Index
) -> list[dict[str, object]]:
    """A curve a form where a trend over size is claimed; none of them is a claim by itself."""
    studied = {
        (one.dataset, one.protocol, one.temperature): (
            _cut(one.smallest_parameters),
            _cut(one.largest_parameters),
        )
        for one in results.scaling
    }
    curves: dict[tuple[object, ...], dict[str, object]] = {}
    points: dict[tuple[object, ...], list[list[Number]]] = {}
    for one in results.predictions:
        if ladder.get((one.protocol, one.temperature), 0) < 2:
            continue
        key = one.dataset, one.protocol, one.temperature, one.form
        if key not in curves:
            points[key] = []
            _, d, p = index.of("", one.dataset, one.protocol)
            curves[key] = {"d": d, "p": p, "t": one.temperature, "form": one.form,
                           "studied": studied[key[:3]], "points": points[key]}  # fmt: skip
        new = _triple(one.new_model)[1:]
        points[key].append([_cut(one.parameters), *_triple(one.mean), *new, int(one.extrapolated)])
    return list(curves.values())


def _findings(
    findings: Sequence[Finding], ladder: Mapping[tuple[str, float], int], index: Index
) -> dict[str, object]:
    """Rows whose repeated texts are kept once."""
    texts: dict[str, int] = {}

    def kept(text: str) -> int:
        return texts.setdefault(visible(text), len(texts))

    rows = []
    for one in findings:
        if not speakable(one, ladder):
            continue
        made = one.estimate
        p = p_text(one.p_adjusted if one.p_adjusted is not None else one.p_value)
        adjusted = f" ({one.adjusted_by} of {one.family_size})" if one.adjusted_by else ""
        rows.append(
            [
                *index.of(one.model, one.dataset, one.protocol),
                one.temperature,
                kept(made.estimand),
                kept(short(one.versus)),
                kept(estimate_text(made, signed=_is_difference(one))),
                made.n,
                kept(p + adjusted if p != "—" else ""),
                kept(made.note if made.value is not None else ""),
                kept(made.method),
            ]
        )
    return {"rows": rows, "texts": list(texts)}


def _of_benchmark(one: BenchmarkScore) -> Finding:
    first, last = (in_unit(end.value, end.unit, signed=False) for end in (one.first, one.last))
    delta = replace(one.delta, note=f"{first} to {last}")
    cell = one.cell
    return Finding(one.metric, delta, cell.model, cell.dataset, cell.protocol, cell.temperature)


_SHARES = ("stay_right", "fix_wrong", "answer_changed", "wrong_to_other_wrong", "wrong_kept",
           "probability_of_gain", "acceptability", "stationary_accuracy", "held_out", "membership",
           "answer_disagreement", "axis_rmse", "saved_by_sharing")  # fmt: skip


def _is_difference(one: Finding) -> bool:
    """Whether a share is a difference of shares, and so has a sign."""
    return not one.quantity.startswith(_SHARES) or one.quantity.endswith("_less_null")


def _triple(made: Estimate) -> Triple:
    return [_cut(made.value), _cut(made.low), _cut(made.high)]


def _cut(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.6g}")
