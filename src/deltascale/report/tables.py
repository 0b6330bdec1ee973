"""Estimates as rows of tidy tables, one value a column, and as files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from io import BytesIO
from pathlib import Path

import msgspec

from deltascale import __version__
from deltascale.analysis import (
    BenchmarkScore,
    Caveat,
    CellResult,
    Claim,
    Finding,
    Foretold,
    FormFit,
    FrontierPoint,
    Results,
    TurnResult,
)
from deltascale.analysis.power import PowerRow
from deltascale.carbon import Footprint
from deltascale.forecast import SCENARIOS, Forecast
from deltascale.records import Cell, Estimate
from deltascale.report.files import whole, write_csv
from deltascale.report.wording import Row, Value

__all__ = [
    "benchmark_rows",
    "claim_rows",
    "delta_rows",
    "finding_rows",
    "forecast_rows",
    "frontier_rows",
    "overall_scores",
    "power_rows",
    "prediction_rows",
    "result_tables",
    "scaling_rows",
    "turn_rows",
    "warning_rows",
    "write_results",
]


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
            "family_excluded": one.family_excluded,
            "bound_low": one.widened.low,
            "bound_high": one.widened.high,
            **_beside(one),
            "intervals_disagree": one.disagree,
            "design_effect": one.design_effect,
            "p_exact": one.p_exact,
            "p_bh": one.p_bh,
            "exploratory_size": one.exploratory_size,
            "equivalence_low": one.equivalence.low,
            "equivalence_high": one.equivalence.high,
            "p_equivalence": one.p_equivalence,
            "no_effect": one.no_effect,
            "gate": one.gate,
            "withheld": one.withheld,
            "estimand": one.delta.estimand,
            "level": one.delta.level,
            "note": one.delta.note,
        }


def _beside(one: CellResult) -> dict[str, Value]:
    """The intervals that stand beside the headline."""
    return {
        "newcombe_low": one.newcombe.low,
        "newcombe_high": one.newcombe.high,
        "bootstrap_low": one.bootstrap.low,
        "bootstrap_high": one.bootstrap.high,
        "bootstrap_mc_se": one.bootstrap.mc_se,
        "simultaneous_low": one.simultaneous.low,
        "simultaneous_high": one.simultaneous.high,
        "simultaneous_method": one.simultaneous.method,
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
            "tokens_cached": one.cached_input_tokens,
            "tokens_out": one.output_tokens,
        }


def forecast_rows(forecasts: Iterable[Forecast], used: Iterable[Footprint]) -> Iterator[Row]:
    """One row a cell of what it still needs, in each scenario, and what the expected one uses."""
    for one, footprint in zip(forecasts, used, strict=True):
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
        row |= _estimate("kwh", footprint.energy) | _estimate("kg_co2e", footprint.emissions)
        row["carbon_note"] = footprint.assumptions
        yield row


def finding_rows(findings: Iterable[Finding]) -> Iterator[Row]:
    """Flips, contrasts, costs, thresholds, sensitivity, generalisation: one row an estimate."""
    for one in findings:
        row: dict[str, Value] = {
            "model": one.model,
            "dataset": one.dataset,
            "protocol": one.protocol,
            "temperature": one.temperature,
            "quantity": one.quantity,
            "versus": one.versus,
        }
        yield (
            row
            | _whole(one.estimate)
            | {
                "p_value": one.p_value,
                "p_adjusted": one.p_adjusted,
                "adjusted_by": one.adjusted_by,
                "family": one.family,
                "family_size": one.family_size,
                "family_excluded": one.family_excluded,
            }
        )


def scaling_rows(fits: Iterable[FormFit]) -> Iterator[Row]:
    """`results/scaling.csv`: one row a dataset, protocol and form."""
    for one in fits:
        row: dict[str, Value] = {
            name: getattr(one, name)
            for name in ("dataset", "protocol", "temperature", "form", "n_models")
        }
        for name in _PARAMETERS:
            row |= _estimate(name, one.parameters.get(name, _NO_ESTIMATE))
        alpha = one.parameters.get("alpha")
        row |= {
            "alpha_estimand": alpha.estimand if alpha else "",
            "alpha_method": alpha.method if alpha else "",
            "alpha_note": alpha.note if alpha else "",
        }
        row |= {name: getattr(one, name) for name in _FIT_NUMBERS}
        yield (
            row
            | _estimate("r2", one.r2 or _NO_ESTIMATE)
            | _estimate("r2_weighted", one.r2_weighted or _NO_ESTIMATE)
            | {
                "n_missing": one.n_missing,
                "level": next((own.level for own in one.parameters.values()), None),
                "estimand": "; ".join(sorted({o.estimand[:2] for o in one.parameters.values()})),
                "method": "; ".join(dict.fromkeys(o.method for o in one.parameters.values())),
                "r2_gate": one.r2_gate,
                "note": one.note,
            }
        )


def prediction_rows(foretold: Iterable[Foretold]) -> Iterator[Row]:
    """`results/predictions.csv`: one row a dataset, protocol, form and size."""
    for one in foretold:
        row: dict[str, Value] = {
            "dataset": one.dataset,
            "protocol": one.protocol,
            "temperature": one.temperature,
            "form": one.form,
            "parameters": one.parameters,
        }
        row |= _estimate("delta", one.mean) | {
            "new_model_low": one.new_model.low,
            "new_model_high": one.new_model.high,
            "extrapolated": one.extrapolated,
            "n_models": one.mean.n,
            "n_missing": one.mean.n_missing,
            "level": one.mean.level,
            "estimand": one.mean.estimand,
            "method": one.mean.method,
        }
        yield row


def frontier_rows(points: Iterable[FrontierPoint]) -> Iterator[Row]:
    """`results/frontier.csv`: one row a way to get an answer."""
    for one in points:
        row: dict[str, Value] = {
            "dataset": one.dataset,
            "model": one.model,
            "protocol": one.protocol,
            "temperature": one.temperature,
        }
        row |= _estimate("cost_usd", one.cost_usd) | _estimate("accuracy", one.accuracy)
        yield row | {
            "membership": one.membership.value,
            "n": one.accuracy.n,
            "n_missing": one.accuracy.n_missing,
            "level": one.accuracy.level,
            "estimand": one.accuracy.estimand,
            "method": one.accuracy.method,
        }


def benchmark_rows(scores: Iterable[BenchmarkScore]) -> Iterator[Row]:
    """`results/benchmarks.csv`: one row a cell and score, as the benchmark defines it."""
    for one in scores:
        row: dict[str, Value] = {
            "model": one.cell.model,
            "dataset": one.cell.dataset,
            "protocol": one.cell.protocol,
            "temperature": one.cell.temperature,
            "part": one.part,
            "metric": one.metric,
        }
        row |= _estimate("first", one.first) | _estimate("last", one.last)
        yield (
            row
            | _estimate("delta", one.delta)
            | {
                "n": one.delta.n,
                "n_missing": one.delta.n_missing,
                "level": one.delta.level,
                "estimand": one.delta.estimand,
                "method": one.delta.method,
                "note": one.delta.note,
            }
        )


def overall_scores(results: Results, dataset: str) -> tuple[BenchmarkScore, ...]:
    """The scores of the benchmark as a whole, where they say more than accuracy does."""
    accuracy = {one.cell: (one.first.value, one.last.value) for one in results.cells}
    return tuple(
        one
        for one in results.benchmarks
        if one.cell.dataset == dataset
        and not one.part
        and not one.metric.startswith("prior ")
        and (one.metric, accuracy[one.cell]) != ("pass@1", (one.first.value, one.last.value))
    )


def warning_rows(caveats: Iterable[Caveat]) -> Iterator[Row]:
    """`results/warnings.csv`: the weightiest first."""
    names = {0: "blocks a headline", 1: "limits a claim", 2: "good to know"}
    for one in caveats:
        yield {
            "weight": one.weight,
            "means": names[one.weight],
            "code": one.code,
            "about": one.about,
            "text": one.text,
        }


def claim_rows(claims: Iterable[Claim]) -> Iterator[Row]:
    """`results/claims.csv`: the highest rung the evidence allows each protocol."""
    for one in claims:
        yield {
            "protocol": one.protocol,
            "temperature": one.temperature,
            "rung": one.rung,
            "claim": one.text,
            "next_needs": one.missing,
            "cost": one.cost,
        }


def power_rows(rows: Iterable[PowerRow]) -> tuple[Row, ...]:
    """What `deltascale power` answers."""
    return tuple(
        {
            "dataset": one.dataset,
            "protocol": one.protocol,
            "temperature": one.temperature,
            "quantity": one.quantity,
            "items": one.items,
            "epochs": one.epochs,
            "models": one.models,
            "value": one.value,
            "unit": one.unit,
            "mc_se": one.mc_se,
            "note": one.note,
        }
        for one in rows
    )


def result_tables(results: Results) -> Mapping[str, tuple[Row, ...]]:
    """Every table of a study's results by its name."""
    return {
        "deltas": tuple(delta_rows(results.cells)),
        "turns": tuple(turn_rows(results.turns)),
        "flips": tuple(finding_rows(results.flips)),
        "contrasts": tuple(finding_rows(results.contrasts)),
        "scaling": tuple(scaling_rows(results.scaling)),
        "predictions": tuple(prediction_rows(results.predictions)),
        "costs": tuple(finding_rows(results.costs)),
        "frontier": tuple(frontier_rows(results.frontier)),
        "benchmarks": tuple(benchmark_rows(results.benchmarks)),
        "thresholds": tuple(finding_rows(results.thresholds)),
        "sensitivity": tuple(finding_rows(results.sensitivity)),
        "generalisation": tuple(finding_rows(results.generalisation)),
        "warnings": tuple(warning_rows(results.warnings)),
        "claims": tuple(claim_rows(results.claims)),
    }


def write_results(folder: Path, results: Results) -> str:
    """Write every table as CSV, as Parquet too where the extra `tables` is installed, and the
    settings as JSON. Returns the line that says how to get Parquet, or nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    made = result_tables(results)
    for name, rows in made.items():
        write_csv(folder / f"{name}.csv", rows, columns=_COLUMNS.get(name, ()))
    said = {"deltascale": __version__, "settings": results.settings}
    _put(folder / "settings.json", msgspec.json.format(msgspec.json.encode(said), indent=1))
    return "" if _write_parquet(folder, made) else _NO_PARQUET


def _write_parquet(folder: Path, made: Mapping[str, tuple[Row, ...]]) -> bool:
    try:
        import polars
    except ImportError:
        return False
    for name, rows in made.items():
        if rows:
            columns = {column: [row[column] for row in rows] for column in rows[0]}
        else:
            columns = {column: [] for column in _COLUMNS.get(name, ())}
        buffer = BytesIO()
        polars.DataFrame(columns, strict=False).write_parquet(buffer)
        _put(folder / f"{name}.parquet", buffer.getvalue())
    return True


def _put(path: Path, content: bytes) -> None:
    with whole(path) as part:
        part.write_bytes(content)


def _estimate(name: str, estimate: Estimate) -> dict[str, Value]:
    return {
        name: estimate.value,
        f"{name}_low": estimate.low,
        f"{name}_high": estimate.high,
    }


def _whole(estimate: Estimate) -> dict[str, Value]:
    return {
        "value": estimate.value,
        "ci_low": estimate.low,
        "ci_high": estimate.high,
        "level": estimate.level,
        "unit": estimate.unit,
        "n": estimate.n,
        "n_missing": estimate.n_missing,
        "mc_se": estimate.mc_se,
        "estimand": estimate.estimand,
        "method": estimate.method,
        "note": estimate.note,
    }


_NO_ESTIMATE = Estimate("", None)
_NO_PARQUET = "Parquet tables too: `pip install 'deltascale[tables]'`"
_PARAMETERS = (
    "c", "b", "q", "A", "alpha", "alpha_if_exact", "alpha_models_drawn", "ln_n0",
    "first_logit", "first_slope", "fix_logit", "fix_slope", "break_logit", "break_slope",
    "eps_before", "eps_after", "B_before", "B_after", "beta_before", "beta_after",
)  # fmt: skip
_FIT_NUMBERS = (
    "reference_parameters", "smallest_parameters", "largest_parameters", "tau", "chi2", "df",
    "p_misfit", "aicc", "delta_aicc", "weight", "chosen", "left_out_rmse", "left_out_skill",
)  # fmt: skip
_NOTHING = Finding("", _NO_ESTIMATE)
_COLUMNS: Mapping[str, tuple[str, ...]] = {
    **{
        name: tuple(next(finding_rows([_NOTHING])))
        for name in ("flips", "contrasts", "costs", "thresholds", "sensitivity", "generalisation")
    },
    "scaling": tuple(next(scaling_rows([FormFit("", "", 0.0, "none", 0)]))),
    "predictions": tuple(
        next(prediction_rows([Foretold("", "", 0.0, "", 0.0, _NO_ESTIMATE, _NO_ESTIMATE, False)]))
    ),
    "frontier": tuple(
        next(
            frontier_rows(
                [FrontierPoint("", "", "", 0.0, _NO_ESTIMATE, _NO_ESTIMATE, _NO_ESTIMATE)]
            )
        )
    ),
    "benchmarks": tuple(
        next(
            benchmark_rows(
                [
                    BenchmarkScore(
                        Cell("", "", "", 0.0), "", "", _NO_ESTIMATE, _NO_ESTIMATE, _NO_ESTIMATE
                    )
                ]
            )
        )
    ),
    "warnings": tuple(next(warning_rows([Caveat(0, "", "", "")]))),
    "claims": tuple(next(claim_rows([Claim("", 0.0, 0, "", "", "")]))),
}
"""The header of a table without rows."""
