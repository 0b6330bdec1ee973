"""The demo: a simulated study whose truth is known, and how well the estimates find it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from msgspec.structs import replace

from deltascale import study
from deltascale.analysis import CellResult
from deltascale.providers.simulated import truth
from deltascale.records import DatasetSpec, Study

__all__ = ["MODELS", "Agreement", "agreement", "demo_study"]

MODELS = tuple(f"simulated/sim-{size}" for size in ("0.1b", "0.4b", "1b", "3b", "8b", "27b", "70b"))
PROTOCOLS = ("review", "critique", "resample", "vote", "oracle")
DATASETS = ("demo-sums", "demo-choices")


@dataclass(frozen=True, slots=True)
class Agreement:
    """How many of the deltas' intervals hold the simulation's true delta."""

    n_inside: int
    n_cells: int
    level: float

    def __str__(self) -> str:
        return (
            f"{self.n_inside} of {self.n_cells} intervals hold the simulation's true delta; "
            f"{100 * self.level:g} % of them should, so about {self.level * self.n_cells:.0f}"
        )


def demo_study(*, seed: int = 0, items: int = 200) -> Study:
    """Seven simulated sizes × two simulated datasets × five protocols × three turns."""
    made = study.adhoc(
        models=MODELS,
        datasets=DATASETS,
        protocols=PROTOCOLS,
        turns=3,
        items=items,
        name="demo",
        on=date.today(),  # noqa: DTZ011 - a price's date is the user's day
    )
    specs = tuple(DatasetSpec(name, options={"seed": str(seed)}) for name in DATASETS)
    return replace(made, datasets=specs, seed=seed)


def agreement(cells: Sequence[CellResult]) -> Agreement:
    """Compare every estimated delta of simulated models with the truth of its cell."""
    n_inside = n_cells = 0
    level = 0.95
    for one in cells:
        size = one.model.size.parameters
        if one.model.provider != "simulated" or size is None or one.delta.low is None:
            continue
        true = truth(size, one.cell.protocol, one.n_turns).delta
        level = one.delta.level
        n_cells += 1
        n_inside += one.delta.low <= true <= (one.delta.high or 0.0)
    return Agreement(n_inside, n_cells, level)
