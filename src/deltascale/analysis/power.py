"""Before a study: what it could see, from assumed flip rates or from a pilot's own."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from deltascale.analysis.arms import arms, groups
from deltascale.analysis.contrasts import Panel, panels
from deltascale.frame import Frame
from deltascale.records import Study
from deltascale.stats.clustered import epoch_components
from deltascale.stats.flips import count_flips
from deltascale.stats.power import (
    items_beyond_which_models_count,
    items_for_epochs,
    items_needed,
    least_detectable_delta,
    logit_scatter,
    mcnemar_power,
    optimal_epochs,
    simulate_power,
)
from deltascale.stats.two_rate import fit_two_rate

__all__ = ["Design", "PowerRow", "assumed", "cannot_see", "pilot"]

Floats = NDArray[np.float64]

_ITEMS = (50, 100, 200, 500, 1_000, 2_000, 5_000)
_EPOCHS = (1, 2, 3, 5)
_SIMULATED_ITEMS = (100, 300, 1_000)
_NO_FLIPS = "no answer flips: take a larger pilot, or assume rates with --flips"


@dataclass(frozen=True, slots=True)
class Design:
    """What is asked of a study. `n_tests` are the cells tested together: Holm's first step divides
    alpha by it. `deff` is the design effect of clusters. `tau` is how far models scatter about any
    law, as a share. `items` None: not fixed yet."""

    alpha: float = 0.05
    power: float = 0.8
    n_tests: int = 1
    deff: float = 1.0
    tau: float = 0.01
    items: int | None = None
    simulations: int = 500
    seed: int = 0

    @property
    def alpha_each(self) -> float:
        return self.alpha / self.n_tests


@dataclass(frozen=True, slots=True)
class PowerRow:
    """One answer. None: not asked of, or not to be had; `mc_se` is the simulation's own error."""

    quantity: str
    value: float | None
    unit: str
    items: int | None = None
    epochs: int | None = None
    models: int | None = None
    dataset: str = ""
    protocol: str = ""
    temperature: float | None = None
    mc_se: float | None = None
    note: str = ""


def assumed(p_fixed: float, p_broken: float, *, design: Design) -> tuple[PowerRow, ...]:
    """Rows for shares of all items that are fixed and broken.

    Raises ValueError for shares that are negative or pass 1.
    """
    return tuple(_rows(p_fixed, p_broken, design))


def pilot(frames: Sequence[Frame], study: Study, *, design: Design) -> tuple[PowerRow, ...]:
    """Rows for every dataset, ungated protocol and temperature of a pilot, at its models' mean flip
    rates; with epochs, items against epochs; with four sizes, the trend over models by simulation.
    """
    rows: list[PowerRow] = []
    for (protocol, temperature), by_dataset in groups(arms(frames, study)).items():
        if protocol == "resample":
            continue
        own: list[PowerRow] = []
        for dataset, members in by_dataset.items():
            tables = [count_flips(a.first, a.last) for a in members if a.binary and a.known.any()]
            if not tables:
                continue
            n = sum(table.n for table in tables)
            p_fixed = sum(table.fixed for table in tables) / n
            p_broken = sum(table.broken for table in tables) / n
            d_IE = np.concatenate(
                [a.d.reshape(a.frame.score_CIET.shape[1:3]) for a in members if a.known.any()]
            )
            of_cell = (
                *_rows(p_fixed, p_broken, design),
                *_epochs(d_IE, p_fixed - p_broken, design),
            )
            own += [replace(row, dataset=dataset) for row in of_cell]
        for panel in panels(by_dataset)[-1:]:
            own += [replace(row, dataset=panel.of) for row in _trend(panel, design)]
        rows += [replace(row, protocol=protocol, temperature=temperature) for row in own]
    return tuple(rows)


def cannot_see(
    items_by_dataset: Mapping[str, int],
    *,
    looked_for: float = 0.05,
    flips: float = 0.2,
    design: Design | None = None,
) -> tuple[str, ...]:
    """A line for the datasets of each size that is too small to find a delta of `looked_for`, a
    share of the items.

    `flips` is the share of answers taken to change either way. Empty: all can be seen.
    """
    asked = design or Design()
    needed = items_needed(
        (flips + looked_for) / 2,
        (flips - looked_for) / 2,
        alpha=asked.alpha_each,
        power=asked.power,
        deff=asked.deff,
    )
    lines = []
    for items in dict.fromkeys(n for n in items_by_dataset.values() if n < needed):
        names = ", ".join(name for name, n in items_by_dataset.items() if n == items)
        least = _least(items, flips, asked)
        seen = (
            "no delta at all" if least is None else f"a delta of {100 * least:.1f} points or more"
        )
        lines.append(
            f"{names}: {items} item{'s' * (items != 1)} see{'s' * (items == 1)} {seen} in a cell; "
            f"{100 * looked_for:g} points need {math.ceil(needed)} "
            f"(where {100 * flips:g} % of answers flip; power {100 * asked.power:g} %)"
        )
    return tuple(lines)


def _rows(p_fixed: float, p_broken: float, design: Design) -> Iterator[PowerRow]:
    delta, flips = p_fixed - p_broken, p_fixed + p_broken
    said = f"{100 * p_fixed:.1f} % fixed, {100 * p_broken:.1f} % broken"
    needed = items_needed(
        p_fixed, p_broken, alpha=design.alpha_each, power=design.power, deff=design.deff
    )
    if math.isinf(needed):
        yield PowerRow("items_needed", None, "items", note=f"{said}: no delta to find")
    else:
        n = math.ceil(needed)
        yield PowerRow("items_needed", float(n), "items", epochs=1, note=said)
        exact = mcnemar_power(
            max(1, round(n / design.deff)), p_fixed, p_broken, alpha=design.alpha_each
        )
        yield PowerRow("power", exact, "share", items=n, epochs=1, note="exact, mid-p")
    if design.items is not None:
        exact = mcnemar_power(
            max(1, round(design.items / design.deff)), p_fixed, p_broken, alpha=design.alpha_each
        )
        yield PowerRow("power", exact, "share", items=design.items, epochs=1, note="exact, mid-p")
    if flips == 0:
        yield PowerRow("least_detectable_delta", None, "share", note=_NO_FLIPS)
        return
    for items in sorted({*_ITEMS, *([design.items] if design.items else [])}):
        least = _least(items, flips, design)
        yield PowerRow(
            "least_detectable_delta", least, "share", items=items, epochs=1,
            note=f"{100 * flips:.1f} % of answers flip" if least is not None
            else "even all flips one way would not be found")  # fmt: skip
    beyond = items_beyond_which_models_count(
        d_sd=math.sqrt(max(0.0, flips - delta**2)), tau=design.tau
    )
    yield PowerRow(
        "items_until_only_models_help", _finite(beyond), "items",
        note=f"where models scatter by {100 * design.tau:g} pp about any law")  # fmt: skip


def _least(items: int, flips: float, design: Design) -> float | None:
    return _finite(
        least_detectable_delta(
            items, flips, alpha=design.alpha_each, power=design.power, deff=design.deff
        )
    )


def _epochs(
    d_IE: Floats,
    delta: float,
    design: Design,
) -> Iterator[PowerRow]:
    """Items against epochs, from a pilot with at least two epochs."""
    if d_IE.shape[1] < 2 or np.count_nonzero((~np.isnan(d_IE)).any(axis=1)) < 2:
        yield PowerRow("items_for_epochs", None, "items", note="needs a pilot with two epochs")
        return
    parts = epoch_components(d_IE)
    for epochs in _EPOCHS:
        items = items_for_epochs(
            delta,
            item_variance=parts.item_variance,
            epoch_variance=parts.epoch_variance,
            epochs=epochs,
            alpha=design.alpha_each,
            power=design.power,
        )
        yield PowerRow(
            "items_for_epochs", _finite(math.ceil(items) if math.isfinite(items) else items),
            "items", epochs=epochs, note=f"item variance {parts.item_variance:.4f}, "
            f"epoch variance {parts.epoch_variance:.4f}")  # fmt: skip
    best = optimal_epochs(
        item_variance=parts.item_variance,
        epoch_variance=parts.epoch_variance,
        item_cost=1.0,
        epoch_cost=1.0,
    )
    yield PowerRow(
        "epochs_for_the_least_variance", _finite(best), "epochs",
        note="if a new item costs as much as one more epoch")  # fmt: skip


def _trend(panel: Panel, design: Design) -> Iterator[PowerRow]:
    """Chance to find the trend over models, by simulating the pilot's two-rate model."""
    binary = all(arm.binary for own in panel.members.values() for arm in own)
    if not binary or len(np.unique(panel.size_M)) < 4:
        yield PowerRow("power_of_trend", None, "share", note="needs a pilot of four sizes")
        return
    table_M4 = np.zeros((len(panel.models), 4))
    for own in panel.members.values():
        for m, arm in enumerate(own):
            table = count_flips(arm.first, arm.last)
            table_M4[m] += table.stayed_right, table.fixed, table.broken, table.stayed_wrong
    if not table_M4[:, 1:3].any():
        yield PowerRow("power_of_trend", None, "share", note=_NO_FLIPS)
        return
    fit = fit_two_rate(panel.size_M, table_M4)
    for models, size in _sizes(panel):
        rates = np.stack(fit.rates(size), axis=1)
        for items in sorted({*_SIMULATED_ITEMS, *([design.items] if design.items else [])}):
            found = simulate_power(
                size, rates, items=max(1, round(items / design.deff)),
                scatter_logit=logit_scatter(rates, design.tau), alpha=design.alpha_each,
                simulations=design.simulations, seed=design.seed,
            )  # fmt: skip
            for name, share, error, words in (
                ("power_of_trend_of_these_models", found.trend_models, found.trend_models_mc_se,
                 "E1"),
                ("power_of_trend_of_such_models", found.trend_such_models,
                 found.trend_such_models_mc_se, "E2"),
            ):  # fmt: skip
                yield PowerRow(
                    name, _finite(share), "share", items=items, models=models,
                    mc_se=_finite(error), note=f"{words}, {design.simulations} simulations",
                )  # fmt: skip


def _sizes(panel: Panel) -> Iterator[tuple[int, Floats]]:
    """The pilot's own sizes, and twice as many over the same range."""
    yield len(panel.models), panel.size_M
    twice = 2 * len(panel.models)
    yield twice, np.geomspace(panel.size_M.min(), panel.size_M.max(), twice)


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
