"""What a researcher types from the page for notebooks works as it stands, and warns of nothing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from deltascale.analysis import Results
from deltascale.stats import Exponent

PAGE = Path(__file__).resolve().parents[2] / "docs" / "notebook.md"


def test_the_page_runs_from_top_to_bottom(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 5
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, PAGE.name, "exec"), names)
    alpha, results, rows = names["alpha"], names["results"], names["rows"]
    assert isinstance(alpha, Exponent)
    assert isinstance(results, Results)
    assert isinstance(rows, dict)
    said = capsys.readouterr().out
    assert "loglinear" in said
    assert len(results.cells) == len(rows["deltas"]) == 7
    assert {one.form for one in results.scaling} >= {"constant", "loglinear", "power"}
    assert all(one.p_holm is not None for one in results.cells)
    # Made by hand or from a ledger, the headline of a cell is the same function of its scores.
    one = names["one"]
    assert one.delta == results.cells[-1].delta.value  # type: ignore[attr-defined]  # a Headline
    assert one.interval.low == results.cells[-1].delta.low  # type: ignore[attr-defined]
