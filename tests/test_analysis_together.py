"""Intervals that hold together: over Holm's family, from the joint replicates, never narrower."""

from __future__ import annotations

import re

import numpy as np
import pytest

from deltascale.analysis import CellResult, Results, Settings, analyse
from deltascale.analysis import cells as cells_of
from deltascale.report import tables
from deltascale.stats.multiplicity import bonferroni_z
from deltascale.stats.paired import tango_interval
from tests.frames import flipped, make_frame, model, null_world, study

SETTINGS = Settings(replicates=1_000)


def width(low: float | None, high: float | None) -> float:
    assert low is not None
    assert high is not None
    return high - low


def family(found: Results) -> list[CellResult]:
    return [one for one in found.cells if one.p_holm is not None]


def level_of(one: CellResult) -> float:
    said = re.search(r" at ([\d.]+) %, by the max-t of a joint", one.simultaneous.method)
    assert said is not None
    return float(said[1]) / 100


def test_they_are_of_holms_family_and_hold_the_headline() -> None:
    frames, made = null_world(5, models=4)
    found = analyse(frames, made, settings=SETTINGS)
    own = family(found)
    assert len(own) == 4 * 2
    for one in own:
        made_together = one.simultaneous
        assert made_together.estimand.startswith("E1")
        assert made_together.value == one.delta.value
        assert (made_together.n, made_together.n_missing) == (one.delta.n, one.n_missing)
        assert made_together.level == 0.95, "of all together"
        low, high = one.simultaneous.low, one.simultaneous.high
        assert low < one.delta.low  # type: ignore[operator]
        assert high > one.delta.high  # type: ignore[operator]
        assert width(low, high) > width(one.bootstrap.low, one.bootstrap.high)
        assert made_together.method.startswith("Tango at 99.")
    for one in found.cells:
        if one.p_holm is None:
            assert one.cell.protocol == "resample"
            assert one.simultaneous.value is one.simultaneous.low is None
            assert one.simultaneous.note
    rows = list(tables.delta_rows(found.cells))
    assert [(row["simultaneous_low"], row["simultaneous_high"]) for row in rows] == [
        (one.simultaneous.low, one.simultaneous.high) for one in found.cells
    ]
    assert cells_of(frames, made, SETTINGS) == found.cells, "the same by either way"


def test_cells_that_are_one_cell_need_no_more_than_one() -> None:
    rng = np.random.default_rng(9)
    spec = model(1.0)
    score = flipped(rng, 300, 0.5, 0.3, 0.1)
    protocols = ("review", "critique", "vote")
    alike = make_frame("d", {(spec.id, name): score for name in protocols})
    apart = make_frame(
        "d", {(spec.id, name): flipped(rng, 300, 0.5, 0.3, 0.1) for name in protocols}
    )
    one, other = (
        family(analyse((frame,), study([spec], *protocols), settings=SETTINGS))
        for frame in (alike, apart)
    )
    sidak, bonferroni = 0.95 ** (1 / 3), 1 - 0.05 / 3
    assert len({level_of(cell) for cell in one}) == len({level_of(cell) for cell in other}) == 1
    assert level_of(one[0]) == pytest.approx(0.95, abs=0.008)
    assert level_of(other[0]) == pytest.approx(sidak, abs=0.006)
    assert level_of(other[0]) <= bonferroni + 1e-5
    alone = make_frame("d", {(spec.id, "review"): score})
    (single,) = family(analyse((alone,), study([spec], "review"), settings=SETTINGS))
    assert (single.simultaneous.low, single.simultaneous.high) == (
        single.delta.low, single.delta.high,
    )  # fmt: skip


def test_a_cell_in_which_nothing_flips_keeps_a_width() -> None:
    rng = np.random.default_rng(10)
    spec, other = model(1.0), model(2.0)
    still = np.repeat((rng.random((120, 1, 1)) < 0.5).astype(float), 2, axis=2)
    frame = make_frame(
        "d",
        {(spec.id, "review"): still, (other.id, "review"): flipped(rng, 120, 0.5, 0.3, 0.1)},
    )
    found = family(analyse((frame,), study([spec, other], "review"), settings=SETTINGS))
    assert found[0].simultaneous.low == pytest.approx(
        tango_interval(0, 0, 120, level=level_of(found[0])).low, rel=1e-4
    )
    assert 0.97 < level_of(found[0]) <= 0.9751, "it counts as one of two"
    # A family in which nothing flips at all: Sidak's level, all but Bonferroni's.
    nothing = make_frame("d", {(one.id, "review"): still for one in (spec, other)})
    found = family(analyse((nothing,), study([spec, other], "review"), settings=SETTINGS))
    z2 = bonferroni_z(2) ** 2
    assert found[0].simultaneous.high == pytest.approx(z2 / (120 + z2), rel=0.01)


def test_one_replicate_widens_nothing() -> None:
    frames, made = null_world(5, models=2, n=40)
    found = cells_of(frames, made, Settings(replicates=1))
    assert all(one.simultaneous.value is None for one in found)
