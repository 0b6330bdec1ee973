"""Numerics of the study on NumPy arrays: estimates, intervals, tests, fits.

Knows nothing of models, datasets or files, and imports nothing else of deltascale. Importing it
costs NumPy and scipy.special; anything heavier is imported by the function that needs it.
"""

from deltascale.stats.multiplicity import (
    benjamini_hochberg,
    bonferroni_z,
    family_size,
    holm,
    max_t_critical,
)
from deltascale.stats.paired import (
    ChiSquare,
    Equivalence,
    Interval,
    ManskiBounds,
    clopper_pearson_interval,
    delta,
    equivalence,
    manski_bounds,
    mcnemar_chi2,
    mcnemar_exact,
    mcnemar_midp,
    newcombe10_interval,
    smallest_exact_p,
    tango_interval,
    tango_statistic,
    wilson_interval,
)

__all__ = [
    "ChiSquare",
    "Equivalence",
    "Interval",
    "ManskiBounds",
    "benjamini_hochberg",
    "bonferroni_z",
    "clopper_pearson_interval",
    "delta",
    "equivalence",
    "family_size",
    "holm",
    "manski_bounds",
    "max_t_critical",
    "mcnemar_chi2",
    "mcnemar_exact",
    "mcnemar_midp",
    "newcombe10_interval",
    "smallest_exact_p",
    "tango_interval",
    "tango_statistic",
    "wilson_interval",
]
