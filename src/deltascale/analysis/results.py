"""What an analysis hands on: settings, findings, fits, warnings. Values only."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from deltascale.ledger import Spent
from deltascale.records import Cell, Estimate, ModelSpec, Regime, Study
from deltascale.stats.paired import Interval
from deltascale.stats.regions import Region

__all__ = [
    "ALL_DATASETS",
    "E1",
    "E2",
    "Audited",
    "BenchmarkScore",
    "Caveat",
    "CellResult",
    "Claim",
    "Finding",
    "Foretold",
    "FormFit",
    "FrontierPoint",
    "Results",
    "Settings",
    "TurnResult",
    "estimate",
    "finite",
    "from_region",
    "region_text",
]

ALL_DATASETS = "all datasets"
"""The macro mean: every dataset weighs the same, however many items it has."""

E1 = "E1"
"""Estimand: these models, over items like these."""
E2 = "E2"
"""Estimand: models and items like these; what any sentence about a law of size needs."""

_NOT_MADE = Estimate("", None)

Gate: TypeAlias = Literal["", "oracle", "oracle-like"]


@dataclass(frozen=True, slots=True)
class Audited:
    """What a blind audit found of a protocol's flips: how many of each kind were looked at, and how
    many are flips."""

    protocol: str
    fixed_audited: int = 0
    fixed_confirmed: int = 0
    broken_audited: int = 0
    broken_confirmed: int = 0


@dataclass(frozen=True, slots=True)
class Settings:
    """What an analysis may choose. All of it is written beside the results.

    `replicates` of the joint bootstrap, from streams keyed by `seed`. `margin` is the largest delta
    that still counts as no effect. `usd_per_corrected` are worths, in dollars, of one more right
    answer. `price_mix` is input tokens to output tokens where models are ordered by price.
    `estimated_sizes` lets sizes that are only estimated enter, as intervals.
    `error_rate` fits the error-rate form too, which takes a second a protocol.
    `zone` is the electricity mix of the carbon figures (ISO 3166-1 alpha-3; WOR: the world's).
    `audit` has what a person found of the flips: a number of it, so that the tables can be had
    again without the sheet.
    """

    level: float = 0.95
    replicates: int = 2_000
    seed: int = 0
    margin: float = 0.01
    estimated_sizes: bool = False
    error_rate: bool = False
    usd_per_corrected: tuple[float, ...] = (0.001, 0.01, 0.1, 1.0)
    price_mix: tuple[int, int] = (3, 1)
    zone: str = "WOR"
    audit: tuple[Audited, ...] = ()


@dataclass(frozen=True, slots=True)
class TurnResult:
    """One turn of a cell. `accuracy` is over the samples whose answer at this turn is known;
    `delta` is against turn 0, over the samples known at both. `outcomes` counts samples."""

    cell: Cell
    turn: int
    accuracy: Estimate
    delta: Estimate
    outcomes: dict[str, int]
    cost_usd: float
    n_calls: int
    input_tokens: int
    output_tokens: int
    cached_input_tokens: int = 0


@dataclass(frozen=True, slots=True)
class CellResult:
    """One cell's delta, from turn 0 to the last turn, over the samples known at both.

    `fixed` and `broken` count flips (samples, all epochs): fixed − broken = delta × n for binary
    scores; None for graded ones. `newcombe` and `bootstrap` are other intervals of the same delta;
    `disagree` says that any two of the three differ by over a quarter of the first's width.
    `equivalence` is the interval of two one-sided tests: `no_effect` is claimed only where it lies
    within the margin. `worst` and `best` bound the delta over everything planned, whatever the
    missing answers are, and `widened` adds sampling error to both; None without binary scores.
    `gate` is `oracle` where the protocol is told the verdict, `oracle-like` where it behaves so: no
    answer that was right at first got a further call. `p_value` is None where no test is made (a
    gated cell); `p_holm` also for the resampling null, which is in no family of claims; `p_bh` is
    over all cells with a test. `family_excluded` counts the cells of the family of `p_holm` of
    which no test could be made. `simultaneous` is the interval of `delta` so widened that those of
    the whole family of `p_holm` hold together.
    `withheld` says why nothing is estimated, or is empty. `confirmatory`: the cell is of the family
    of `p_holm`.
    Costs are as deployed: what these conversations cost with every call paid for.
    """

    cell: Cell
    model: ModelSpec
    regime: Regime
    n_turns: int
    n_samples: int
    n_missing: int
    first: Estimate
    last: Estimate
    delta: Estimate
    fixed: int | None
    broken: int | None
    worst: Estimate
    best: Estimate
    p_value: float | None
    p_method: str
    n_by_outcome_first: dict[str, int]
    n_by_outcome_last: dict[str, int]
    cost_usd: float
    cost_extra_usd: float
    input_tokens: int
    output_tokens: int
    newcombe: Estimate
    bootstrap: Estimate
    disagree: bool
    equivalence: Estimate
    p_equivalence: float | None
    no_effect: bool
    widened: Estimate
    p_exact: float | None = None
    design_effect: float | None = None
    gate: Gate = ""
    withheld: str = ""
    confirmatory: bool = False
    p_holm: float | None = None
    family_size: int = 0
    family_excluded: int = 0
    p_bh: float | None = None
    exploratory_size: int = 0
    simultaneous: Estimate = _NOT_MADE


@dataclass(frozen=True, slots=True)
class Finding:
    """One estimate with what it is about. Empty texts: not about one model, protocol, ...

    `versus` is what it is compared with. `adjusted_by` is `Holm` or `BH` over `family`, which held
    `family_size` tests, and `family_excluded` more that could not be made.
    """

    quantity: str
    estimate: Estimate
    model: str = ""
    dataset: str = ""
    protocol: str = ""
    temperature: float | None = None
    versus: str = ""
    p_value: float | None = None
    p_adjusted: float | None = None
    adjusted_by: str = ""
    family: str = ""
    family_size: int = 0
    family_excluded: int = 0


@dataclass(frozen=True, slots=True)
class FormFit:
    """One form of delta(N), fitted for one dataset (or all) and protocol.

    Forms are the families, `two_rate` and `error_rate`; `none` where nothing may be fitted, with
    the reason in `note`. `r2_gate` names what fails of "R² > .85", or is `passed`: a statistic that
    is shown and decides nothing. `n_missing` counts samples, over all models and datasets. Numbers
    are None where the form has none.
    """

    dataset: str
    protocol: str
    temperature: float
    form: str
    n_models: int
    n_missing: int = 0
    parameters: Mapping[str, Estimate] = field(default_factory=dict)
    reference_parameters: float | None = None
    smallest_parameters: float | None = None
    largest_parameters: float | None = None
    tau: float | None = None
    chi2: float | None = None
    df: int | None = None
    p_misfit: float | None = None
    aicc: float | None = None
    delta_aicc: float | None = None
    weight: float | None = None
    chosen: float | None = None
    left_out_rmse: float | None = None
    left_out_skill: float | None = None
    r2: Estimate | None = None
    r2_weighted: Estimate | None = None
    r2_gate: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Foretold:
    """Delta at one size by one form: of the mean, and of one more model. `extrapolated` is beyond
    three times the largest size, or below a third of the least."""

    dataset: str
    protocol: str
    temperature: float
    form: str
    parameters: float
    mean: Estimate
    new_model: Estimate
    extrapolated: bool


@dataclass(frozen=True, slots=True)
class FrontierPoint:
    """One way to get an answer: its cost, its accuracy, and how often it is undominated.

    `protocol` is `first answer` for no correction. `membership` is over joint replicates.
    """

    dataset: str
    model: str
    protocol: str
    temperature: float
    cost_usd: Estimate
    accuracy: Estimate
    membership: Estimate


@dataclass(frozen=True, slots=True)
class BenchmarkScore:
    """A score as its benchmark defines it, of one cell: at turn 0, at the last turn, and the
    difference. `part` is a task, level or stratum of the benchmark; empty: the whole."""

    cell: Cell
    part: str
    metric: str
    first: Estimate
    last: Estimate
    delta: Estimate


@dataclass(frozen=True, slots=True)
class Caveat:
    """One reason to trust or claim less. `weight`: 0 blocks a headline, 1 limits a claim, 2 is
    good to know."""

    weight: int
    code: str
    about: str
    text: str


@dataclass(frozen=True, slots=True)
class Claim:
    """The highest rung that the evidence allows a protocol: 0 none, 1 the sign of delta in a cell,
    2 a trend over these models, 3 a functional form, 4 extrapolation. `missing` says what the next
    rung lacks, `cost` how the protocol compares with a vote that costs the same."""

    protocol: str
    temperature: float
    rung: int
    text: str
    missing: str
    cost: str


@dataclass(frozen=True, slots=True)
class Results:
    """A study's estimates, with what they cost to get."""

    study: Study
    cells: tuple[CellResult, ...]
    turns: tuple[TurnResult, ...]
    spent: Spent
    settings: Settings = Settings()
    flips: tuple[Finding, ...] = ()
    contrasts: tuple[Finding, ...] = ()
    scaling: tuple[FormFit, ...] = ()
    predictions: tuple[Foretold, ...] = ()
    costs: tuple[Finding, ...] = ()
    frontier: tuple[FrontierPoint, ...] = ()
    benchmarks: tuple[BenchmarkScore, ...] = ()
    thresholds: tuple[Finding, ...] = ()
    sensitivity: tuple[Finding, ...] = ()
    generalisation: tuple[Finding, ...] = ()
    warnings: tuple[Caveat, ...] = ()
    claims: tuple[Claim, ...] = ()


# --- numbers into estimates ----------------------------------------------------------------------


def estimate(
    estimand: str,
    value: float,
    interval: Interval | tuple[float, float] | None = None,
    *,
    n: int,
    n_missing: int = 0,
    method: str = "",
    unit: str = "share",
    level: float = 0.95,
    note: str = "",
    mc_se: float = math.nan,
) -> Estimate:
    """An Estimate in which what is NaN or infinite is None and, where the note is empty, why."""
    low, high = (None, None) if interval is None else (finite(x) for x in interval)
    number = finite(value)
    if not note and number is None:
        note = "not estimable"
    elif not note and interval is not None and low is None and high is None:
        note = "too few units for an interval"
    return Estimate(
        estimand, number, low, high, level, unit, n, n_missing, method, note, finite(mc_se)
    )


def from_region(
    estimand: str,
    value: float,
    region: Region,
    *,
    n: int,
    n_missing: int = 0,
    method: str,
    unit: str,
    level: float = 0.95,
    note: str = "",
) -> Estimate:
    """An Estimate from a set: the limits it has; what it lacks, or its pieces, in the note."""
    said = "" if region.bounded and len(region.pieces) == 1 else f"set: {region_text(region)}"
    return estimate(
        estimand,
        value,
        region.hull,
        n=n,
        n_missing=n_missing,
        method=method,
        unit=unit,
        level=level,
        note="; ".join(text for text in (note, said) if text),
    )


def region_text(region: Region) -> str:
    """`(-inf, 0.12] or [0.5, inf)`; `empty`."""

    def side(value: float) -> str:
        return f"{value:.4g}"

    pieces = [
        f"{'[' if math.isfinite(p.low) else '('}{side(p.low)}, {side(p.high)}"
        f"{']' if math.isfinite(p.high) else ')'}"
        for p in region.pieces
    ]
    return " or ".join(pieces) or "empty"


def finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
