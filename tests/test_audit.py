"""The audit of flips: a blind sheet out, its verdicts back in, and what they do to a delta."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from deltascale import assess
from deltascale.analysis import Audited
from deltascale.cli import cli
from deltascale.datasets import Cache
from deltascale.errors import Mistake
from tests import archives

Fill = Callable[[int, dict[str, str], tuple[str, str]], tuple[str, str]]


@pytest.fixture
def study(tmp_path: Path) -> Path:
    wanted = archives.simulated(
        models=("simulated/sim-1b", "simulated/sim-8b"),
        protocols=("review", "critique", "oracle"),
        items=60,
    )
    return archives.had(wanted, tmp_path / "study")


def audited(directory: Path, n: int = 10) -> tuple[tuple[Audited, ...], int, int]:
    return assess.audited(directory, n_flips=n, cache=Cache(directory))


def rows(directory: Path) -> list[dict[str, str]]:
    with (directory / "audit.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def truth(row: dict[str, str]) -> tuple[str, str]:
    """What a person who can read would say."""
    said = (re.findall(r"####\s*(\S+)", row[name]) for name in ("reply_a", "reply_b"))
    first, second = ("yes" if found[-1:] == [row["target"]] else "No" for found in said)
    return first, second


def filled(directory: Path, fill: Fill) -> None:
    held = rows(directory)
    for number, row in enumerate(held):
        row["a_is_right"], row["b_is_right"] = fill(number, row, truth(row))
    with (directory / "audit.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, held[0])
        writer.writeheader()
        writer.writerows(held)


def test_a_sheet_tells_nothing_but_two_replies(study: Path) -> None:
    assert audited(study) == ((), 20, 0), "two protocols; the oracle is not asked about"
    held = rows(study)
    text = (study / "audit.csv").read_text(encoding="utf-8")
    assert not re.search("sim-1b|sim-8b|simulated|critique|oracle|fixed|broken", text)
    assert all(row["id"].startswith("flip-") for row in held), "a spreadsheet saw a number"
    n_second_right = sum(truth(row) == ("No", "yes") for row in held)
    assert 3 <= n_second_right <= 17, "which is right does not follow from the order"
    (study / "audit.csv").write_text(text.replace("Compute", "compute", 1), encoding="utf-8")
    audited(study)
    assert "compute" in (study / "audit.csv").read_text(encoding="utf-8"), "never written again"


def test_a_reader_who_agrees_confirms_every_flip(study: Path) -> None:
    before = {one.cell: one for one in assess.analyze(study, settings=archives.FEW).cells}
    audited(study, 50)
    filled(study, lambda n, row, right: right)
    made, n_rows, n_judged = audited(study)
    assert n_rows == n_judged
    flips: dict[str, list[int]] = {}
    for cell, one in before.items():
        own = flips.setdefault(cell.protocol, [0, 0])
        own[0] += one.fixed or 0
        own[1] += one.broken or 0
    for one in made:
        counts = one.fixed_audited, one.broken_audited
        assert counts == (one.fixed_confirmed, one.broken_confirmed)
        assert list(counts) == flips[one.protocol], "50 are more than there are"
    results = assess.analyze(study, settings=archives.FEW)
    left = [one for one in results.sensitivity if one.quantity == "delta_audited"]
    assert len(left) == 4
    for row in left:
        cell = next(c for c in before if (c.model, c.protocol) == (row.model, row.protocol))
        assert row.estimate.value == pytest.approx(before[cell].delta.value)
    assert not [one for one in results.warnings if one.code == "audit"]


def test_flips_that_are_none_shrink_the_delta(study: Path) -> None:
    audited(study, 50)

    def fill(n: int, row: dict[str, str], right: tuple[str, str]) -> tuple[str, str]:
        # Every second flip is said to be none: both replies right. Some are left open.
        return ("", "") if n % 5 == 4 else ("yes", "yes") if n % 2 else right

    filled(study, fill)
    made, n_rows, n_judged = audited(study)
    assert n_judged == n_rows - n_rows // 5
    results = assess.analyze(study, settings=archives.FEW)
    assert results.settings.audit == made
    assert [one.about for one in results.warnings if one.code == "audit"] == ["critique", "review"]
    by_protocol = {one.protocol: one for one in made}
    for one in results.cells:
        if one.gate:
            continue
        found = by_protocol[one.cell.protocol]
        kept = (
            (one.fixed or 0) * found.fixed_confirmed / found.fixed_audited
            - (one.broken or 0) * found.broken_confirmed / found.broken_audited
        ) / one.delta.n
        (row,) = [
            row for row in results.sensitivity
            if (row.quantity, row.model, row.protocol)
            == ("delta_audited", one.cell.model, one.cell.protocol)
        ]  # fmt: skip
        assert row.estimate.value == pytest.approx(kept)


def test_a_pack_has_the_same_tables_without_the_sheet(study: Path, tmp_path: Path) -> None:
    audited(study)
    filled(study, lambda n, row, right: ("yes", "yes") if n % 2 else right)
    assess.analyze(study, settings=archives.FEW)
    pack = archives.packed(study, tmp_path / "study.zip")
    assert archives.proved(pack).holds
    assert "audit.csv" not in archives.contents(pack, tmp_path)
    assert "delta_audited" in archives.contents(pack, tmp_path)


@pytest.mark.parametrize(
    ("a", "b", "told"),
    [
        ("maybe", "yes", "row 1: 'maybe' and 'yes' are not two of yes and no"),
        ("yes", "", "row 1: 'yes' and '' are not two of yes and no"),
    ],
)
def test_a_half_filled_row_is_one_line(study: Path, a: str, b: str, told: str) -> None:
    audited(study)
    filled(study, lambda n, row, right: (a, b) if n == 0 else ("", ""))
    with pytest.raises(Mistake, match=told):
        assess.analyze(study, settings=archives.FEW)


def test_a_sheet_of_another_study_is_refused(study: Path) -> None:
    audited(study)
    held = (study / "audit.csv").read_text(encoding="utf-8")
    identity = rows(study)[0]["id"]
    (study / "audit.csv").write_text(held.replace(identity, "0" * 16), encoding="utf-8")
    with pytest.raises(Mistake, match="1 of its 20 rows are no flips of this study"):
        audited(study)


def test_on_the_command_line(study: Path, tmp_path: Path) -> None:
    def told(*words: str) -> str:
        done = CliRunner().invoke(cli, words)
        return done.output if done.exception is None else str(done.exception)

    assert "0 of 20 flips are judged" in told("audit", str(study), "--flips", "10")
    filled(study, lambda n, row, right: right)
    assert "review: 10 of 10 are flips" in told("audit", str(study))
    assert "ask for at least 1" in told("audit", str(study), "--flips", "0")
    assert "there is no study here" in told("audit", str(tmp_path / "none"))
