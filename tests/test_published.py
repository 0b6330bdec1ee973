"""What the literature prints, read with our own functions: beside the checkout, or skipped."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from deltascale import stats

FILE = Path(__file__).resolve().parents[1] / ".." / "shared" / "published_tables.json"
Row = dict[str, Any]


@pytest.fixture(scope="module")
def published() -> dict[str, list[Row]]:
    if not FILE.exists():
        pytest.skip("the published tables are not beside this checkout")
    found: dict[str, list[Row]] = json.loads(FILE.read_text(encoding="utf-8"))
    return found


def totals(row: Row) -> tuple[int, int, int]:
    """Items, and how many of them were right at first and at last."""
    n = row["n"]
    return n, round(n * row["acc_before"] / 100), round(n * row["acc_after"] / 100)


def p_by_fixed(n: int, first: int, last: int) -> list[float]:
    """McNemar's exact p of every table that these totals allow, from the fewest flips up."""
    most = min(n - first, last)
    return [
        stats.mcnemar_exact(fixed, fixed - (last - first))
        for fixed in range(max(0, last - first), most + 1)
    ]


def test_before_and_after_do_not_tell_the_flips(published: dict[str, list[Row]]) -> None:
    rows = {
        (row["model"], row["dataset"], row["protocol"]): row
        for row in published["rows"]
        if row["paper"].startswith("Huang")
    }
    verdicts: Counter[str] = Counter()
    for audit in published["audit_from_totals"]:
        n, first, last = totals(rows[audit["model"], audit["dataset"], audit["protocol"]])
        assert (n, last - first) == (audit["n"], audit["net"])
        if "verdict" not in audit:  # an oracle's: nothing is broken, so the table is known
            fixed = last - first
            assert stats.mcnemar_exact(fixed, 0) == pytest.approx(audit["p_exact"], rel=1e-9)
            assert tuple(stats.tango_interval(fixed, 0, n)) == pytest.approx(
                audit["ci_tango"], abs=1e-8
            )
            continue
        found = p_by_fixed(n, first, last)
        assert min(found) == pytest.approx(audit["p_min"], rel=1e-9)
        assert max(found) == pytest.approx(audit["p_max"], rel=1e-9)
        if max(found) < 0.05:
            verdict = "always significant"
        elif min(found) >= 0.05:
            verdict = "never significant"
        else:
            verdict = "undetermined without flip counts"
        assert verdict == audit["verdict"], audit
        verdicts[verdict.split()[0]] += 1
    # As docs/methods.md has it.
    assert verdicts == {"always": 7, "never": 8, "undetermined": 5}


def test_flips_that_are_printed_give_the_accuracies(published: dict[str, list[Row]]) -> None:
    rates = {}
    for row in published["rows"]:
        if row.get("wrong_to_right") is None:
            continue
        n, first, last = totals(row)
        fixed, broken = (round(n * row[way] / 100) for way in ("wrong_to_right", "right_to_wrong"))
        assert stats.delta(fixed, broken, n) == pytest.approx((last - first) / n, abs=1.0001 / n)
        flips = stats.Flips(first - broken, fixed, broken, n - first - fixed)
        rates[row["model"]] = (flips.stay_right, flips.fix_wrong)
        after = stats.accuracy_after(
            1, acc_first=first / n, fix_wrong=flips.fix_wrong, break_right=flips.break_right
        )
        assert after == pytest.approx(flips.acc_last, abs=1e-12)
    assert len(rates) == 6
    assert rates["Gemini 1.5 Flash base"] == pytest.approx((0.700, 0.097), abs=5e-4)
    assert rates["SCoRe"] == pytest.approx((0.977, 0.145), abs=5e-4)


def test_a_paradox_of_few_errors_is_none(published: dict[str, list[Row]]) -> None:
    few, many, _ = (row for row in published["rows"] if row["paper"].startswith("Li 2026"))
    table = [[row["fixed"], row["errors"] - row["fixed"]] for row in (few, many)]
    assert stats.fisher_exact(*table[0], *table[1]) == pytest.approx(0.36, abs=5e-3)
