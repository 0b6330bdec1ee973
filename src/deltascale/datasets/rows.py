"""A CSV, TSV, JSON or JSONL file as rows of named cells with their line numbers. Knows no columns.

A number of a JSON file stays the text that was written, so that 0.10 or 10^30 lose nothing.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from deltascale.errors import DatasetMistake, Problem

__all__ = ["Cell", "Row", "checksum", "content", "kind", "listed", "parse"]

Cell: TypeAlias = "str | bool | list[Cell] | dict[str, Cell] | None"

_SUFFIXES = {".csv": ",", ".tsv": "\t", ".jsonl": "", ".ndjson": "", ".json": ""}
_MAX_CELL = 1 << 27
_QUOTE = "put quotes around cells that hold commas, quotes or line ends"


@dataclass(frozen=True, slots=True)
class Row:
    """One record of a file. `line` is where it begins, from 1."""

    line: int
    cells: dict[str, Cell]


def content(path: Path, file: str) -> bytes:
    """The bytes of the file; `file` is how the user wrote its name.

    Raises:
        DatasetMistake: there is no such file, or it can't be read.
    """
    if path.suffix.lower() not in _SUFFIXES:
        raise DatasetMistake(
            f"files of the kind {path.suffix or 'without an ending'!r} can't be read",
            where=file,
            remedy=f"give a file that ends in {', '.join(_SUFFIXES)}",
        )
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise DatasetMistake(
            "there is no such file",
            where=file,
            remedy="paths count from the directory you are in",
        ) from error
    except OSError as error:
        raise DatasetMistake(f"it can't be read ({error.strerror})", where=file) from error


def checksum(data: bytes) -> str:
    """SHA-256 in hex."""
    return hashlib.sha256(data).hexdigest()


def parse(data: bytes, suffix: str, file: str) -> tuple[list[Row], list[Problem]]:
    """The rows of a file's content and what is wrong with single lines; not both are empty.

    Raises:
        DatasetMistake: it is not UTF-8, not what its name says, or empty.
    """
    text, problems = _decoded(data, file), list[Problem]()
    if suffix == ".json":
        rows = list(_json(text, file))
    elif _SUFFIXES[suffix]:
        rows = list(_csv(text, _SUFFIXES[suffix], file, problems))
    else:
        rows = list(_jsonl(text, file, problems))
    if not rows and not problems:
        raise DatasetMistake("it holds no questions", where=file)
    return rows, problems


def kind(value: object) -> str:
    """What JSON calls a value of this type, with its article."""
    names = {bool: "a truth value", str: "a text", list: "a list", dict: "an object"}
    return names.get(type(value), "null")


def listed(text: str) -> Cell:
    """The value of a cell that holds JSON; None if it does not."""
    try:
        return _decoder().decode(text)  # type: ignore[no-any-return]  # json's decode is untyped
    except (ValueError, RecursionError):
        return None


def _decoded(data: bytes, file: str) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DatasetMistake("it is UTF-16, not UTF-8", where=file, remedy="save it as UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DatasetMistake(
            f"it is not UTF-8 (byte {data[error.start]:#04x})",
            where=f"{file}:{line}",
            remedy="save it as UTF-8",
        ) from error


# --- CSV -----------------------------------------------------------------------------------------


@contextmanager
def _long_cells() -> Iterator[None]:
    """Python's limit is one for the whole process, so it is put back."""
    before = csv.field_size_limit(_MAX_CELL)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _csv(text: str, delimiter: str, file: str, problems: list[Problem]) -> Iterator[Row]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    with _long_cells():
        try:
            header = _header(next(reader, None), delimiter, file)
            line = reader.line_num + 1
            for cells in reader:
                if len(cells) == len(header):
                    if any(cell.strip() for cell in cells):
                        yield Row(line, dict(zip(header, cells, strict=True)))
                elif any(cell.strip() for cell in cells):
                    found = f"{len(cells)} cells, but the header has {len(header)}"
                    problems.append(Problem(file, line, "", found, _QUOTE))
                line = reader.line_num + 1
        except csv.Error as error:
            raise DatasetMistake(
                f"not a CSV file: {error}", where=f"{file}:{reader.line_num}", remedy=_QUOTE
            ) from error


def _header(cells: list[str] | None, delimiter: str, file: str) -> list[str]:
    names = [cell.strip() for cell in cells or ()]
    if not any(names):
        raise DatasetMistake("it is empty", where=file, remedy="the first line names the columns")
    if len(names) == 1 and any(other in names[0] for other in ";\t|,"):
        raise DatasetMistake(
            f"its columns are not separated by {'commas' if delimiter == ',' else 'tabs'}",
            where=f"{file}:1",
            remedy="save it with commas as .csv, or with tabs as .tsv",
        )
    for position, name in enumerate(names):
        if not name:
            raise DatasetMistake(f"column {position + 1} has no name", where=f"{file}:1")
        if name in names[:position]:
            raise DatasetMistake(f"two columns are named {name!r}", where=f"{file}:1")
    return names


# --- JSON ----------------------------------------------------------------------------------------


def _no_constant(name: str) -> Cell:
    raise ValueError(f"{name} is not a value that JSON has")


def _once(pairs: list[tuple[str, Cell]]) -> dict[str, Cell]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} is there twice")
    return found


def _whole(record: Cell) -> Cell:
    """The record, if all of it can be written as UTF-8.

    Raises:
        ValueError: an escape names half of a character.
    """
    try:
        json.dumps(record, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        half = error.object[error.start : error.end].encode("ascii", "backslashreplace").decode()
        raise ValueError(f"{half[:6]} is half of a character") from error
    return record


def _decoder() -> json.JSONDecoder:
    return json.JSONDecoder(
        parse_float=str, parse_int=str, parse_constant=_no_constant, object_pairs_hook=_once
    )


def _what(error: Exception) -> str:
    """The decoder's complaint without its own line and column."""
    if isinstance(error, RecursionError):
        return "nested too deeply"
    return error.msg if isinstance(error, json.JSONDecodeError) else str(error)


def _jsonl(text: str, file: str, problems: list[Problem]) -> Iterator[Row]:
    if text.lstrip().startswith("["):
        raise DatasetMistake(
            "it holds one list, not an object a line",
            where=file,
            remedy="let its name end in .json",
        )
    decoder = _decoder()
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            record = _whole(decoder.decode(line))
        except (ValueError, RecursionError) as error:
            problems.append(Problem(file, number, "", f"not JSON: {_what(error)}"))
            continue
        if isinstance(record, dict):
            yield Row(number, record)
        else:
            problems.append(Problem(file, number, "", f"{kind(record)}, not an object"))


def _json(text: str, file: str) -> Iterator[Row]:
    """A list of objects, decoded one after another so that each one's line is known."""
    decoder, at, line = _decoder(), _skip(text, 0), 1

    def stop(what: str, at_line: int) -> DatasetMistake:
        return DatasetMistake(
            what,
            where=f"{file}:{at_line}",
            remedy="write a list of objects, or use .jsonl with one a line",
        )

    if not text.startswith("[", at):
        raise stop("empty" if at == len(text) else "no list", 1)
    begun, at = 0, _skip(text, at + 1)
    while not text.startswith("]", at):
        line, begun = line + text.count("\n", begun, at), at
        try:
            record, at = decoder.raw_decode(text, at)
            record = _whole(record)
        except (ValueError, RecursionError) as error:
            wrong = error.lineno if isinstance(error, json.JSONDecodeError) else line
            raise stop(f"not JSON: {_what(error)}", wrong) from error
        if not isinstance(record, dict):
            raise stop(f"{kind(record)}, not an object", line)
        yield Row(line, record)
        at = _skip(text, at)
        if text.startswith(",", at):
            at = _skip(text, at + 1)
        elif not text.startswith("]", at):
            raise stop(
                "not JSON: a comma or the list's end is missing", text.count("\n", 0, at) + 1
            )
    if text[at + 1 :].strip():
        raise stop("not JSON: there is more after the list's end", text.count("\n", 0, at) + 1)


def _skip(text: str, at: int) -> int:
    while text[at : at + 1].isspace():
        at += 1
    return at
