"""What a study needs and could see, in the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from deltascale.report.terminal import escape, show_table, table
from deltascale.report.wording import Row

__all__ = ["show_power"]


def show_power(shown: Console, rows: Sequence[Row]) -> None:
    """What a study needs and could see: a table for each dataset and protocol."""
    several = len({row["temperature"] for row in rows}) > 1
    for place in dict.fromkeys(map(_place_of, rows)):
        own = [row for row in rows if _place_of(row) == place]
        # What no row has is no column: the others then fit.
        counts = [n for n in ("items", "epochs", "models") if any(row[n] for row in own)]
        named = [str(part) for part in place[:2] if part]
        title = ", ".join([*named, *[f"temperature {place[2]}"] * several]) or "assumed flips"
        made = table(escape(title), ["question", *counts, "answer", ""])
        made.columns[-1].justify = "left"
        made.columns[-1].no_wrap = False
        made.columns[0].min_width, made.columns[-2].min_width = 28, 12
        for row in own:
            made.add_row(
                _QUESTIONS.get(str(row["quantity"]), str(row["quantity"]).replace("_", " ")),
                *("" if row[name] is None else f"{row[name]:,}" for name in counts),
                _answer(row),
                escape(str(row["note"])),
            )
        show_table(shown, made)
        shown.print()
    if any(row["mc_se"] for row in rows):
        shown.print("±: standard error of the simulation itself")


def _place_of(row: Row) -> tuple[object, object, object]:
    return row["dataset"], row["protocol"], row["temperature"]


_QUESTIONS = {
    "power": "power with these items",
    "items_until_only_models_help": "beyond it only models help",
    "items_for_epochs": "items with these epochs",
    "power_of_trend_of_these_models": "power, trend of these models",
    "power_of_trend_of_such_models": "power, trend of such models",
}


def _answer(row: Row) -> str:
    value, error, unit = row["value"], row["mc_se"], row["unit"]
    if not isinstance(value, int | float):
        return "-"
    if row["quantity"] == "least_detectable_delta":
        return f"{100 * value:.1f} points"
    if unit == "share":
        around = f" ± {100 * error:.1f}" if isinstance(error, float) and error else ""
        return f"{100 * value:.1f}{around} %"
    return f"{value:,.0f} {unit}"
