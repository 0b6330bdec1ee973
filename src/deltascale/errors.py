"""Every way deltascale stops the user, as a tree; each says what, where and the remedy.

    Stop                      ends the command; carries the exit code
    ├── Mistake               the user can mend it                            exit code 2
    │   ├── StudyMistake      the study file: all its problems at once
    │   ├── DatasetMistake    a dataset's file, name, checksum or size
    │   ├── CatalogMistake    an unknown model, a size without a source, no price
    │   ├── LedgerMistake     not a ledger, a newer schema, in use by another run
    │   └── MissingExtra      something that is not installed, or no sandbox
    ├── BudgetReached         the next call could pass the budget             exit code 3
    ├── SamplesMissing        finished, but calls failed                      exit code 4
    └── Interrupted           Ctrl-C; the ledger is intact                    exit code 130

A failed model call is not here: it is recorded data (`records.Failure`), never the end of a run.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "BudgetReached",
    "CatalogMistake",
    "DatasetMistake",
    "Interrupted",
    "LedgerMistake",
    "MissingExtra",
    "Mistake",
    "Problem",
    "SamplesMissing",
    "Stop",
    "StudyMistake",
]


class Stop(Exception):  # noqa: N818 - not every stop is an error
    """Ends the command with one line for the user.

    `what` says what was found, `where` the file, key path or place, `remedy` what to do next.
    """

    exit_code = 2

    def __init__(self, what: str, *, where: str = "", remedy: str = "") -> None:
        self.what = what
        self.where = where
        self.remedy = remedy
        super().__init__(what)

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        remedy = f"; {self.remedy}" if self.remedy else ""
        return f"{place}{self.what}{remedy}"


class Mistake(Stop):
    """Something the user wrote or asked for can't be done as it stands."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong in a study file.

    `line` counts from 1; 0 means the file as a whole. `path` is the key's path, `models[1].price`.
    """

    file: str
    line: int
    path: str
    found: str
    remedy: str = ""

    def __str__(self) -> str:
        place = self.file if self.line == 0 else f"{self.file}:{self.line}"
        path = f" {self.path}:" if self.path else ""
        remedy = f"; {self.remedy}" if self.remedy else ""
        return f"{place}:{path} {self.found}{remedy}"


class StudyMistake(Mistake):
    """The study file has problems: all of them, one line each, in the order of the file."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        if not problems:
            raise ValueError("a StudyMistake needs at least one problem")
        self.problems = tuple(sorted(problems, key=lambda problem: problem.line))
        super().__init__("\n".join(str(problem) for problem in self.problems))


class DatasetMistake(Mistake):
    """A dataset can't be had or can't be read as it stands."""


class CatalogMistake(Mistake):
    """A model is unknown, its size has no source, or it has no price."""


class LedgerMistake(Mistake):
    """The ledger can't be opened: not one of ours, a newer schema, or in use by another run."""


class MissingExtra(Mistake):
    """Something that has to be installed first."""


class BudgetReached(Stop):
    """The next call could pass the budget; all that was paid for is on record."""

    exit_code = 3


class SamplesMissing(Stop):
    """The run is over, but some samples have no result because their calls failed."""

    exit_code = 4


class Interrupted(Stop):
    """The user pressed Ctrl-C; all that was paid for is on record."""

    exit_code = 130
