"""Estimates as rows of tidy tables, one value a column, and as CSV files."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TypeAlias

from deltascale.analysis import CellResult, TurnResult
from deltascale.forecast import SCENARIOS, Forecast
from deltascale.records import Estimate, Size

__all__ = ["Row", "delta_rows", "forecast_rows", "turn_rows", "write_csv"]

Value: TypeAlias = str | int | float | None
Row: TypeAlias = Mapping[str, Value]
"""Column → value; None is an empty field: not estimable, or not applicable."""


def delta_rows(cells: Iterable[CellResult]) -> Iterator[Row]:
    """`results/deltas.csv`: one row a cell."""
    for one in cells:
        yield {
            "model": one.cell.model,
            "parameters": one.model.size.parameters,
            "parameters_source": one.model.size.source,
            "provider": one.model.provider,
            "dataset": one.cell.dataset,
            "protocol": one.cell.protocol,
            "regime": one.regime,
            "temperature": one.cell.temperature,
            "turns": one.n_turns,
            "n_items": one.delta.n,
            "n_missing": one.n_missing,
            "acc_first": one.first.value,
            "acc_last": one.last.value,
            "delta": one.delta.value,
            "ci_low": one.delta.low,
            "ci_high": one.delta.high,
            "fixed": one.fixed,
            "broken": one.broken,
            "p_value": one.p_value,
            "p_holm": one.p_holm,
            "no_answer_first": one.n_by_outcome_first.get("no_answer", 0),
            "no_answer_last": one.n_by_outcome_last.get("no_answer", 0),
            "truncated_first": one.n_by_outcome_first.get("truncated", 0),
            "truncated_last": one.n_by_outcome_last.get("truncated", 0),
            "cost_usd": one.cost_usd,
            "cost_extra_usd": one.cost_extra_usd,
            "tokens_in": one.input_tokens,
            "tokens_out": one.output_tokens,
            "delta_worst": one.worst.value,
            "delta_best": one.best.value,
            "ci_method": one.delta.method,
            "p_method": one.p_method,
            "family_size": one.family_size,
        }


def turn_rows(turns: Iterable[TurnResult]) -> Iterator[Row]:
    """`results/turns.csv`: one row a cell and turn."""
    for one in turns:
        row: dict[str, Value] = {
            "model": one.cell.model,
            "dataset": one.cell.dataset,
            "protocol": one.cell.protocol,
            "temperature": one.cell.temperature,
            "turn": one.turn,
            "n_items": one.accuracy.n,
            "n_missing": one.accuracy.n_missing,
        }
        row |= _estimate("accuracy", one.accuracy) | _estimate("delta", one.delta)
        row |= {
            name: one.outcomes.get(name, 0)
            for name in ("ok", "no_answer", "truncated", "refused", "filtered", "failed", "budget")
        }
        yield row | {
            "not_asked": one.outcomes.get("not_asked", 0),
            "cost_usd": one.cost_usd,
            "n_calls": one.n_calls,
            "tokens_in": one.input_tokens,
            "tokens_out": one.output_tokens,
        }


def forecast_rows(forecasts: Iterable[Forecast]) -> Iterator[Row]:
    """One row a cell of what it still needs, in each scenario."""
    for one in forecasts:
        row: dict[str, Value] = {
            "model": one.cell.model,
            "dataset": one.cell.dataset,
            "protocol": one.cell.protocol,
            "temperature": one.cell.temperature,
            "samples": one.n_samples,
            "calls": one.n_calls,
            "calls_on_record": one.n_on_record,
        }
        for scenario, usd, inputs, outputs in zip(
            SCENARIOS, one.usd, one.input_tokens, one.output_tokens, strict=True
        ):
            row |= {
                f"usd_{scenario}": usd,
                f"tokens_in_{scenario}": inputs,
                f"tokens_out_{scenario}": outputs,
            }
        yield row


def write_csv(path: Path, rows: Iterable[Row]) -> None:
    """Write the rows, whole or not at all; an empty table is an empty file.

    Numbers are written in full (`repr`), so that reading them back gives the same values.
    """
    part = path.with_suffix(".part")
    with part.open("w", encoding="utf-8", newline="") as file:
        writer: csv.DictWriter[str] | None = None
        for row in rows:
            if writer is None:
                writer = csv.DictWriter(file, list(row), lineterminator="\n")
                writer.writeheader()
            writer.writerow({name: _inert(value) for name, value in row.items()})
    part.replace(path)


def size_text(size: Size) -> str:
    """A parameter count as people write it; `?` where it is unknown, a range where estimated."""
    if size.parameters is not None:
        return _count(size.parameters)
    if size.low is not None and size.high is not None:
        return f"{_count(size.low)}-{_count(size.high)}?"
    return "?"


def _count(parameters: float) -> str:
    for unit, name in ((1e12, "T"), (1e9, "B"), (1e6, "M")):
        if parameters >= unit:
            return f"{parameters / unit:.3g}{name}"
    return f"{parameters:.0f}"


def _estimate(name: str, estimate: Estimate) -> dict[str, Value]:
    return {
        name: estimate.value,
        f"{name}_low": estimate.low,
        f"{name}_high": estimate.high,
    }


def _inert(value: Value) -> Value:
    """A text that a spreadsheet would run as a formula is kept as text."""
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return f"'{value}"
    return value
