"""The copies of benchmarks on the Hugging Face hub, as the records of their releases.

A study takes them only where its dataset says `from: hub`, so that its source never changes by
itself. The rows of a Parquet file become the lines of the release's own file, which the benchmark's
module reads as ever: ids, prompts, targets and order are the same from either source.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from deltascale.datasets.fetch import Cache, Remote, fetch
from deltascale.errors import DatasetMistake, MissingExtra
from deltascale.records import DatasetSpec

__all__ = ["COPIES", "INSTEAD", "Copy", "chosen", "lines", "source"]

INSTEAD = "set the dataset's options to {from: hub} to use the copy on the Hugging Face hub"
"""The remedy where a release can't be had."""

Row: TypeAlias = "dict[str, Any]"
"""A row of a Parquet file or a line of a release; each benchmark has fields of its own."""


@dataclass(frozen=True, slots=True)
class Copy:
    """One Parquet file on the hub. `records` turns its rows into the release's lines.

    `sha256` is empty where none is published: then the first download's is kept, as `fetch` does.
    """

    repository: str
    revision: str
    path: str
    columns: tuple[str, ...]
    records: Callable[[Iterable[Row]], Iterable[Row]]
    sha256: str = ""

    @property
    def remote(self) -> Remote:
        """Where the file is."""
        revision = self.revision.replace("/", "%2F")
        return Remote(
            f"https://huggingface.co/datasets/{self.repository}/resolve/{revision}/{self.path}",
            sha256=self.sha256,
        )

    @property
    def name(self) -> str:
        """As it stands in a lock: the repository, its version, the file."""
        revision = self.revision if "/" in self.revision else self.revision[:7]
        return f"{self.repository}@{revision} {self.path}"


def chosen(spec: DatasetSpec) -> bool:
    """Whether the dataset's setting `from` is `hub` and not `release`.

    Raises:
        DatasetMistake: it is neither, or there is a `path` too.
    """
    said, where = spec.options.get("from", "release"), f"dataset {spec.name!r} options"
    if said not in ("release", "hub"):
        raise DatasetMistake(f"from is {said!r}", where=where, remedy="known are release, hub")
    if said == "hub" and spec.options.get("path"):
        raise DatasetMistake(
            "path and from: hub at once", where=where, remedy="leave out one: there is one source"
        )
    return said == "hub"


def lines(name: str, cache: Cache) -> str:
    """The text of the release's file, as JSON lines, from the copy of this name in `COPIES`.

    Raises:
        DatasetMistake: the copy can't be had, or is not what it should be.
        MissingExtra: polars is not installed.
    """
    copy = COPIES[name]
    _require()
    path = fetch(copy.remote, cache)
    try:
        return "\n".join(map(json.dumps, copy.records(_rows(path, copy))))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _unlike(path, copy, f"a row of another kind: {error}") from error


def source(names: Iterable[str], cache: Cache) -> str:
    """Which files these copies are, each with the checksum that it has here."""
    told = []
    for name in names:
        path = fetch(COPIES[name].remote, cache)
        told.append(f"{COPIES[name].name} sha256 {hashlib.sha256(path.read_bytes()).hexdigest()}")
    return f"Hugging Face hub: {', '.join(told)}"


def _require() -> None:
    """Before anything is downloaded."""
    from importlib.util import find_spec

    if find_spec("polars") is None:
        raise MissingExtra(
            "reading the hub's Parquet files needs polars",
            where="from: hub",
            remedy="install it with: pip install 'deltascale[tables]'",
        )


def _rows(path: Path, copy: Copy) -> Iterator[Row]:
    import polars

    try:
        table = polars.read_parquet(path, columns=list(copy.columns))
    except (polars.exceptions.PolarsError, OSError) as error:
        raise _unlike(path, copy, str(error).partition("\n")[0]) from error
    yield from table.iter_rows(named=True)


def _unlike(path: Path, copy: Copy, what: str) -> DatasetMistake:
    return DatasetMistake(
        f"this is not {copy.path} of {copy.repository} ({what})",
        where=str(path),
        remedy="delete it and prepare the dataset again; if it stays so, the copy was changed",
    )


# --- rows as the releases have them --------------------------------------------------------------


def _same(rows: Iterable[Row]) -> Iterable[Row]:
    return rows


def _labelled(*values: object) -> Callable[[Iterable[Row]], Iterator[Row]]:
    """Labels are numbers in the copies: what they stand for. A row without one has -1."""
    known = dict(enumerate(values))

    def records(rows: Iterable[Row]) -> Iterator[Row]:
        for row in rows:
            yield {**row, "label": known[row["label"]]}

    return records


def _multirc(rows: Iterable[Row]) -> Iterator[Row]:
    """One row an option, the passage and question each time."""
    label = {0: 0, 1: 1}
    passages: dict[int, Row] = {}
    questions: dict[tuple[int, int], Row] = {}
    for row in rows:
        at = row["idx"]
        key = at["paragraph"], at["question"]
        if key[0] not in passages:
            passages[key[0]] = {"text": row["paragraph"], "questions": []}
        if key not in questions:
            questions[key] = {"question": row["question"], "idx": key[1], "answers": []}
            passages[key[0]]["questions"].append(questions[key])
        questions[key]["answers"].append({"text": row["answer"], "label": label[row["label"]]})
    for idx, passage in passages.items():
        yield {"idx": idx, "passage": passage}


def _record(rows: Iterable[Row]) -> Iterator[Row]:
    """One row a query. Names stand as texts, in the release as places in the passage: so each is
    given the first place where it stands."""
    for row in rows:
        text = row["passage"]
        places = [(text.index(name), len(name)) for name in sorted(row["entities"])]
        entities = [{"start": start, "end": start + length - 1} for start, length in places]
        answers = [{"text": answer} for answer in row["answers"]]
        query = {"query": row["query"], "answers": answers, "idx": row["idx"]["query"]}
        yield {
            "idx": row["idx"]["passage"],
            "passage": {"text": text, "entities": entities},
            "qas": [query],
        }


def _wsc(rows: Iterable[Row]) -> Iterator[Row]:
    """The spans stand beside the text, in the release below `target`."""
    for row in _labelled(False, True)(rows):
        target = {key: row.pop(key) for key in _SPANS}
        yield {**row, "target": target}


_SPANS = ("span1_text", "span1_index", "span2_text", "span2_index")


def _superglue(task: str, *columns: str, records: Callable[[Iterable[Row]], Iterable[Row]]) -> Copy:
    # Its data is on a branch that the hub keeps by itself, one file a task and split.
    return Copy(
        "aps/super_glue",
        "refs/convert/parquet",
        f"{task.lower()}/validation/0000.parquet",
        (*columns, "idx"),
        records,
    )


COPIES: Mapping[str, Copy] = {
    "gsm8k": Copy(
        "openai/gsm8k",
        "740312add88f781978c0658806c59bc2815b9866",
        "main/test-00000-of-00001.parquet",
        ("question", "answer"),
        _same,
        # Not published on a page of its own; public evaluation code of many hands agrees on it.
        sha256="ee7b8da9e381df27b9e3f7758a159ab2bdaa4dbaa910546cbbc47e0cb44e4f59",
    ),
    "gsm8k-platinum": Copy(
        "madrylab/gsm8k-platinum",
        "main",  # no version of it is pinned in public: the first download's checksum is kept
        "main/test-00000-of-00001.parquet",
        ("question", "answer"),
        _same,
    ),
    "humaneval": Copy(
        "openai/openai_humaneval",
        "7dce6050a7d6d172f3cc5c32aa97f52fa1a2e544",
        "openai_humaneval/test-00000-of-00001.parquet",
        ("task_id", "prompt", "canonical_solution", "test", "entry_point"),
        _same,
    ),
    "BoolQ": _superglue("BoolQ", "question", "passage", "label", records=_labelled(False, True)),
    "CB": _superglue(
        "CB",
        "premise",
        "hypothesis",
        "label",
        records=_labelled("entailment", "contradiction", "neutral"),
    ),
    "COPA": _superglue(
        "COPA", "premise", "choice1", "choice2", "question", "label", records=_labelled(0, 1)
    ),
    "MultiRC": _superglue("MultiRC", "paragraph", "question", "answer", "label", records=_multirc),
    "ReCoRD": _superglue("ReCoRD", "passage", "query", "entities", "answers", records=_record),
    "RTE": _superglue(
        "RTE", "premise", "hypothesis", "label", records=_labelled("entailment", "not_entailment")
    ),
    "WiC": _superglue(
        "WiC",
        *("word", "sentence1", "sentence2", "start1", "start2", "end1", "end2", "label"),
        records=_labelled(False, True),
    ),
    "WSC": _superglue("WSC", "text", *_SPANS, "label", records=_wsc),
}
"""By name of the benchmark, or of SuperGLUE's task."""
