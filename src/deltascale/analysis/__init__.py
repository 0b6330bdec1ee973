"""From frames to estimates: which question, which estimator. Reads no ledger and prints nothing.

`analyse` answers everything; each module answers one question and may be called alone, from a
notebook as well, with frames (or arms made of them) and a study.
"""

from deltascale.analysis.deltas import cells, turns
from deltascale.analysis.results import CellResult, Results, Settings, TurnResult

__all__ = ["CellResult", "Results", "Settings", "TurnResult", "cells", "turns"]
