"""A study with every outcome, and what is exported of it."""

from __future__ import annotations

import csv
import json
import zlib
from collections.abc import Iterator
from pathlib import Path

from msgspec.structs import replace

from deltascale import assess, ledger
from deltascale.datasets import Cache
from deltascale.providers import CallFailed
from deltascale.providers.simulated import _reply
from deltascale.records import (
    Cell,
    DatasetSpec,
    Failure,
    Reply,
    Request,
    Turn,
    Usage,
)
from tests import archives

KEY = "sk-" + "n0t4n0nym0us" * 3
HOSTILE = '=HYPERLINK("x")\rone, "two"\r\nthree\n#### 41'


async def speaking(request: Request) -> Reply:
    """A model that fails, refuses, is cut off, and says what no table is made for."""
    said = request.messages[0].content
    n = zlib.crc32(said.encode()) % 12
    if n == 0:
        raise CallFailed(Failure("bad_request", "no"))
    if n == 1 and len(request.messages) > 1:
        raise CallFailed(Failure("bad_request", "not again"))
    if n == 2:
        raise CallFailed(Failure("refused", "I won't"))
    reply = _reply(request, 1e9)
    usage = Usage(50, 20, cached_input_tokens=30)
    if n == 3:
        return replace(reply, text=HOSTILE, usage=usage)
    if n == 4:
        return replace(reply, text="", stop="length", usage=usage)
    if n == 6:
        return replace(reply, text="I can't say.", usage=usage)
    if n == 5:
        return replace(reply, text=f"The key is {KEY}.\n#### -7", usage=usage)
    return replace(reply, usage=usage)


def made_in(folder: Path) -> Path:
    """A study with every outcome, two epochs and three turns, of a file that can be taken away."""
    lines = ["question,answer,topic"]
    lines += [f"Compute {n} * 3 + 100.,{3 * n + 100},{n % 2}" for n in range(11, 35)]
    (folder / "mine.csv").write_text("\n".join(lines) + "\n")
    made = archives.simulated(models=("simulated/sim-1b", "simulated/sim-8b"), items=24)
    made = replace(
        made,
        datasets=(
            DatasetSpec("mine", file=str(folder / "mine.csv"), scorer="numeric"),
            DatasetSpec("demo-sums", items=5),
        ),
        protocols=("review", "resample", "oracle"),
        turns=3,
        epochs=2,
    )
    return archives.had(made, folder / "out", call=speaking)


def export(directory: Path, place: Path, to: str, **options: object) -> tuple[dict[str, int], str]:
    """Every file with its number of rows, and what was told."""
    told: list[str] = []
    chosen: dict[str, object] = {
        "cache": Cache(directory),
        "environ": {"OPENAI_API_KEY": KEY},
        "tell": told.append,
        **options,
    }
    made = assess.export(directory, place, to=to, **chosen)  # type: ignore[arg-type]
    return {path.name: n for path, n in made}, "\n".join(told)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


Place = tuple[str, str, str, int, int]


def on_record(directory: Path) -> Iterator[tuple[Cell, str, int, Turn, str]]:
    with ledger.read(directory / "ledger.db") as book:
        for one in book.cells():
            for item, epoch, turns in book.samples(one.cell):
                for turn in turns:
                    reply = book.reply(bytes.fromhex(turn.call)) if turn.call else None
                    yield one.cell, item, epoch, turn, reply.text if reply else ""


def plain(text: str | None) -> str:
    """As a table has it: without keys, and nothing that a spreadsheet runs."""
    said = (text or "").replace(KEY, "[key]")
    return f"'{said}" if said.startswith("=") else said


def logs(place: Path) -> list[dict]:  # type: ignore[type-arg]  # JSON as it was written
    return [json.loads(path.read_text()) for path in sorted((place / "inspect").glob("*.json"))]
