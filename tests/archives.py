"""Small studies in their directories, and packs of them that somebody tampered with."""

from __future__ import annotations

import asyncio
import sqlite3
import zipfile
import zlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import closing
from datetime import date
from pathlib import Path

from msgspec.structs import replace

from deltascale import assess, conduct, engine, ledger, study
from deltascale.analysis import Settings
from deltascale.archive import container, lock
from deltascale.archive.pack import pack
from deltascale.archive.verify import Report, verify
from deltascale.datasets import Cache
from deltascale.engine import Progress
from deltascale.records import DatasetSpec, Reply, Request, Study
from tests import worlds

FEW = Settings(replicates=20)


def simulated(
    names: Sequence[str] = ("demo-sums",),
    *,
    models: Sequence[str] = ("simulated/sim-1b",),
    protocols: Sequence[str] = ("review", "vote"),
    items: int = 4,
    scorer: str = "",
) -> Study:
    made = study.adhoc(
        models=models,
        datasets=names,
        protocols=protocols,
        turns=2,
        items=items,
        name="small",
        on=date(2026, 11, 1),
    )
    return replace(made, datasets=tuple(DatasetSpec(name, scorer=scorer) for name in names))


def had(
    wanted: Study,
    directory: Path,
    *,
    call: Callable[[Request], Awaitable[Reply]] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Path:
    """The study, run to its end in the directory (with this caller as its models) and analysed."""
    plan = conduct.prepare(wanted, cache=Cache(directory), environ=environ or {})

    async def run() -> None:
        with ledger.write(directory / "ledger.db") as book:
            lock.write(directory, lock.make(plan))
            await engine.run(
                plan,
                book,
                environ={},
                stop=asyncio.Event(),
                progress=Progress(),
                connect=worlds.connecting(call) if call else None,  # type: ignore[arg-type]
                sleep=worlds.no_wait,
                seed=0,
            )

    asyncio.run(run())
    assess.analyze(directory, settings=FEW)
    return directory


def packed(directory: Path, target: Path, **options: object) -> Path:
    """A pack of the study; verified only where `check` is given."""
    chosen: dict[str, object] = {"environ": {}, "check": False, **options}
    pack(directory, target, analyze=assess.analyze, cache=Cache(directory), **chosen)  # type: ignore[arg-type]
    return target


def proved(path: Path, *, analyze: Callable[..., object] = assess.analyze) -> Report:
    return verify(path, analyze=analyze)


def failed(path: Path, *, analyze: Callable[..., object] = assess.analyze) -> list[str]:
    """The failed checks, as `name: detail`."""
    report = proved(path, analyze=analyze)
    return [f"{one.name}: {one.detail}" for one in report.checks if one.state == "failed"]


def tampered(path: Path, target: Path, edit: Callable[[Path], None]) -> Path:
    """The pack with its files edited, and manifest and seal repaired by somebody who knows how."""
    folder = target.with_suffix(".unpacked")
    folder.mkdir()
    manifest, wrong = container.unpack(path, folder)
    assert not wrong
    edit(folder)
    container.write(folder, target, manifest)
    return target


def replaced(name: str, before: str, after: str) -> Callable[[Path], None]:
    """An edit of a text member: this, once, by that."""

    def edit(folder: Path) -> None:
        text = (folder / name).read_text(encoding="utf-8")
        assert before in text, f"{name} has no {before!r}"
        (folder / name).write_text(text.replace(before, after, 1), encoding="utf-8")

    return edit


def executed(sql: str) -> Callable[[Path], None]:
    """An edit of the ledger, which must change something."""

    def edit(folder: Path) -> None:
        with closing(sqlite3.connect(folder / "ledger.db", isolation_level=None)) as connection:
            n_before = connection.total_changes
            connection.executescript(sql)
            assert connection.total_changes > n_before or "CREATE" in sql or "PRAGMA" in sql

    return edit


def contents(path: Path, folder: Path) -> str:
    """Every text in a pack, the packed columns of its ledger too, and every member's name."""
    found = []
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            found += [name, archive.read(name).decode("utf-8", "replace")]
        archive.extract("ledger.db", folder)
    with closing(sqlite3.connect(folder / "ledger.db")) as connection:
        for blobs in connection.execute("SELECT request, raw FROM calls"):
            found += [zlib.decompress(blob).decode("utf-8", "replace") for blob in blobs]
    return "\n".join(found)
