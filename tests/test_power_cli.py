"""`deltascale power`: the numbers of the methods, a pilot's own, mistakes in one line."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from rich.console import Console

from deltascale.analysis import frame_of_scores, study_of_frames
from deltascale.analysis.power import Design, assumed, cannot_see, pilot
from deltascale.cli import cli
from deltascale.errors import Mistake
from deltascale.report import foresight, tables
from tests.frames import flipped


def rows(*arguments: str) -> list[dict[str, object]]:
    done = CliRunner().invoke(cli, ["power", *arguments, "--json"])
    assert done.exit_code == 0, done.output + repr(done.exception)
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def only(found: list[dict[str, object]], quantity: str, **where: object) -> dict[str, object]:
    (row,) = [
        one for one in found
        if one["quantity"] == quantity and all(one[k] == v for k, v in where.items())
    ]  # fmt: skip
    return row


@pytest.mark.parametrize(
    ("fixed", "broken", "items"), [(15, 5, 155), (8, 3, 343), (5, 2, 609), (3, 1, 783)]
)
def test_items_needed_are_those_of_the_formula(fixed: int, broken: int, items: int) -> None:
    found = rows("--fixed", str(fixed), "--broken", str(broken))
    assert only(found, "items_needed")["value"] == items
    power = only(found, "power", items=items)["value"]
    assert power == pytest.approx(0.81, abs=0.02)
    other = rows("--delta", str(fixed - broken), "--flips", str(fixed + broken))
    assert other == found


def test_what_164_items_see() -> None:
    found = rows("--delta", "2", "--flips", "10", "--items", "164")
    least = only(found, "least_detectable_delta", items=164)["value"]
    assert least == pytest.approx(0.069, abs=0.001)
    least_by_items = [one["value"] for one in found if one["quantity"] == "least_detectable_delta"]
    known = [value for value in least_by_items if value is not None]
    assert known == sorted(known, reverse=True)


def test_many_tests_and_clusters_need_more() -> None:
    plain = rows("--fixed", "15", "--broken", "5")
    many = rows("--fixed", "15", "--broken", "5", "--tests", "14")
    clustered = rows("--fixed", "15", "--broken", "5", "--deff", "2")
    n = [only(found, "items_needed")["value"] for found in (plain, many, clustered)]
    assert n[0] < n[1]  # type: ignore[operator]
    assert n[2] == pytest.approx(2 * n[0], abs=1)  # type: ignore[operator]


def test_no_delta_is_never_found() -> None:
    found = assumed(0.1, 0.1, design=Design())
    (needed,) = [one for one in found if one.quantity == "items_needed"]
    assert needed.value is None
    assert "no delta to find" in needed.note


def test_a_phase_that_can_not_see_says_so() -> None:
    (line,) = cannot_see({"toolqa": 100, "gsm8k": 1_319})
    assert line.startswith("toolqa: 100 items see a delta of 12.4 points or more")
    assert "5 points need" in line
    assert cannot_see({"gsm8k": 1_319}) == ()
    (line,) = cannot_see({"tiny": 3})
    assert "no delta at all" in line


def test_a_pilot_speaks_for_itself(tmp_path: Path) -> None:
    out = tmp_path / "pilot"
    arguments = "run --dataset demo-sums --protocol review --protocol resample --turns 2 --epochs 2"
    models = [f"--model=simulated/sim-{size}" for size in ("0.1b", "1b", "8b", "70b")]
    done = CliRunner().invoke(
        cli, [*arguments.split(), *models, "--items", "40", "--out", str(out), "--json"]
    )
    assert done.exit_code == 0, done.output
    found = rows(str(out), "--items", "500")
    assert {one["protocol"] for one in found} == {"review"}, "the null looks for nothing"
    needed = only(found, "items_needed")
    assert "fixed" in str(needed["note"])
    by_epochs = [one for one in found if one["quantity"] == "items_for_epochs"]
    assert [one["epochs"] for one in by_epochs] == [1, 2, 3, 5]
    values = [one["value"] for one in by_epochs]
    assert values == sorted(values, reverse=True)  # type: ignore[type-var]
    trend = [one for one in found if str(one["quantity"]).startswith("power_of_trend")]
    assert {one["models"] for one in trend} == {4, 8}
    assert all(one["mc_se"] is not None for one in trend)
    shown = CliRunner().invoke(cli, ["power", str(out)])
    assert shown.exit_code == 0
    assert max(len(line.rstrip()) for line in shown.output.splitlines()) <= 100


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "--fixed and --broken"),
        (("--fixed", "5"), "--fixed and --broken"),
        (("--delta", "5", "--flips", "4"), "--flips is at least --delta"),
        (("--fixed", "80", "--broken", "40"), "at most 100"),
        (("--fixed", "5", "--broken", "1", "--power", "100"), "--power"),
        (("--fixed", "5", "--broken", "1", "--tests", "0"), "--tests"),
        (("nowhere",), "run one with --out"),
        (("nowhere", "--fixed", "5"), "leave --fixed out"),
    ],
)
def test_mistakes_are_one_line(arguments: tuple[str, ...], says: str) -> None:
    done = CliRunner().invoke(cli, ["power", *arguments])
    assert isinstance(done.exception, Mistake)
    assert says in str(done.exception)
    assert done.output == ""


def test_a_pilots_temperatures_are_told_apart() -> None:
    rng = np.random.default_rng(0)
    given = {("lab/m", "review"): flipped(rng, 80, 0.5, 0.3, 0.1)}
    frame = frame_of_scores("d", given, temperature=0.0)
    warm = frame_of_scores("d", {("lab/m", "review"): flipped(rng, 80, 0.5, 0.6, 0.1)})
    both = replace(
        frame,
        cells=frame.cells + warm.cells,
        **{
            name: np.concatenate([getattr(frame, name), getattr(warm, name)])
            for name in ("planned_CIE", *(n for n in frame.__slots__ if n.endswith("_CIET")))
        },
    )
    found = pilot([both], study_of_frames([both]), design=Design())
    wanted = {one.temperature: one.value for one in found if one.quantity == "items_needed"}
    assert set(wanted) == {0.0, 0.7}
    assert len(set(wanted.values())) == 2
    console = Console(record=True, width=120, file=io.StringIO())
    foresight.show_power(console, tables.power_rows(found))
    said = console.export_text()
    assert "d, review, temperature 0.0" in said
    assert "d, review, temperature 0.7" in said
