"""Rows as files, CSV and Parquet: written as they come, whole or not at all."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TextIO

from deltascale.errors import MissingExtra
from deltascale.report.wording import Row, Value

__all__ = ["whole", "write_csv", "write_parquet"]


def write_csv(path: Path, rows: Iterable[Row], *, columns: Iterable[str] = ()) -> int:
    """Write the rows as they come, whole or not at all; returns how many. Without rows the file
    has `columns` as its header.

    Numbers are written in full (`repr`), so that reading them back gives the same values. A text
    that a spreadsheet would run as a formula gets an apostrophe before it.
    """
    count = 0
    with whole(path) as part, part.open("w", encoding="utf-8", newline="") as file:
        writer: csv.DictWriter[str] | None = None
        for row in rows:
            if writer is None:
                writer = _csv_writer(file, list(row))
            writer.writerow({name: _inert(value) for name, value in row.items()})
            count += 1
        if writer is None and columns:
            _csv_writer(file, list(columns))
    return count


def _csv_writer(file: TextIO, columns: Sequence[str]) -> csv.DictWriter[str]:
    writer = csv.DictWriter(_Lines(file), columns, lineterminator="\r\n")
    writer.writeheader()
    return writer


class _Lines:
    """A file of lines that end in a line feed, given ones that end in both signs: only then does
    the csv module quote a carriage return in a text, which readers would take for a line's end."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, line: str) -> int:
        return self._file.write(f"{line[:-2]}\n")


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A place to write to that takes the path's place in the end, and is gone if there is none."""
    part = path.with_suffix(".part")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


_ROWS_AT_ONCE = 1024
"""So many rows of a table are in memory while it is written as Parquet; also a row group."""


def write_parquet(path: Path, rows: Iterable[Row], *, columns: Mapping[str, type]) -> int:
    """Write the rows as they come, whole or not at all; returns how many. `columns` says of each
    whether it holds `str`, `int` or `float`. Texts are as they are: nothing runs them.

    Raises MissingExtra without the extra `tables`, OSError where it can't be written.
    """
    try:
        import polars
    except ImportError:
        raise MissingExtra(
            "Parquet needs polars", remedy="install it with: pip install 'deltascale[tables]'"
        ) from None
    count = 0
    with TemporaryDirectory(prefix=".parts-", dir=path.parent) as folder, whole(path) as part:
        pieces: list[Path] = []
        for held in _batches(rows):
            count += len(held)
            pieces.append(Path(folder) / f"{len(pieces)}.parquet")
            values = {name: [row[name] for row in held] for name in columns}
            with _disk_errors(polars.exceptions.ComputeError):
                polars.DataFrame(values, schema=columns).write_parquet(pieces[-1])
        with _disk_errors(polars.exceptions.ComputeError):
            polars.scan_parquet(pieces).sink_parquet(part, row_group_size=_ROWS_AT_ONCE)
    return count


@contextmanager
def _disk_errors(kind: type[Exception]) -> Iterator[None]:
    """An error of writing as what it is: polars has the kind of a wrong computation for it."""
    try:
        yield
    except kind as error:
        raise OSError(str(error)) from None


def _batches(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """The rows in lists; one empty list where there are none."""
    left = iter(rows)
    yield list(islice(left, _ROWS_AT_ONCE))
    while held := list(islice(left, _ROWS_AT_ONCE)):
        yield held


def _inert(value: Value) -> Value:
    """A text that a spreadsheet would run as a formula is kept as text; a number is none."""
    if not isinstance(value, str) or value[:1] not in ("=", "+", "-", "@", "\t", "\r"):
        return value
    return value if _NUMBER.fullmatch(value) else f"'{value}"


_NUMBER = re.compile(r"[-+]\d+(\.\d+)?")
