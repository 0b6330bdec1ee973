"""From frames to estimates: which question, which estimator. Reads no ledger and prints nothing.

`analyse` answers everything. Each module answers one question and may be called alone, from a
notebook too: `arms.arms(frames, study)` first, then `joint.resample`, and what is wanted of
`flips`, `contrasts`, `scaling`, `cost`, `benchmarks`, `sensitivity` and `generalisation`.
`frame_of_scores` and `study_of_frames` make both from arrays, where no study was run.
"""

from collections.abc import Sequence

from deltascale.analysis import (
    arms,
    audited,
    benchmarks,
    caveats,
    claims,
    contrasts,
    cost,
    deltas,
    flips,
    generalisation,
    joint,
    scaling,
    sensitivity,
)
from deltascale.analysis.deltas import cells, turns
from deltascale.analysis.given import frame_of_scores, study_of_frames
from deltascale.analysis.results import (
    Audited,
    BenchmarkScore,
    Caveat,
    CellResult,
    Claim,
    Finding,
    Foretold,
    FormFit,
    FrontierPoint,
    Results,
    Settings,
    TurnResult,
)
from deltascale.frame import Frame
from deltascale.ledger import Spent
from deltascale.records import Study

__all__ = [
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
    "analyse",
    "cells",
    "frame_of_scores",
    "study_of_frames",
    "turns",
]


def analyse(
    frames: Sequence[Frame],
    study: Study,
    *,
    spent: Spent | None = None,
    settings: Settings | None = None,
) -> Results:
    """Everything that a study's frames can tell. The same frames and settings give the same bytes.

    `spent` is what the ledger says was paid; without it those rows are missing from the costs.
    """
    chosen = settings or Settings()
    found = arms.arms(frames, study)
    drawn = joint.resample(found, chosen)
    of_cells = deltas.of_arms(found, drawn)
    between = contrasts.contrasts(found, chosen)
    fits = scaling.scale(found, drawn)
    sensitive = sensitivity.sensitivity(found, drawn)
    general = tuple(generalisation.generalisation(found, fits, chosen))
    warnings = caveats.caveats(found, of_cells, fits, sensitive, chosen)
    money = () if spent is None else tuple(cost.paid(spent, found, study))
    return Results(
        study=study,
        cells=of_cells,
        turns=tuple(turns(frames, chosen)),
        spent=spent or Spent(0, 0, 0, 0),
        settings=chosen,
        flips=tuple(flips.flips(found, drawn)),
        contrasts=between,
        scaling=tuple(row for one in fits for row in scaling.describe(one, chosen)),
        predictions=tuple(row for one in fits for row in scaling.foretell(one, chosen)),
        costs=(*cost.costs(found, drawn), *money),
        frontier=tuple(cost.frontier(found, drawn)),
        benchmarks=tuple(benchmarks.benchmarks(found, study, chosen)),
        thresholds=tuple(cost.thresholds(fits, drawn)),
        sensitivity=(*sensitive, *audited.audited(found, chosen)),
        generalisation=general,
        warnings=warnings,
        claims=claims.claims(
            of_cells, between, fits, general, blocked=caveats.blocked(of_cells, warnings)
        ),
    )
