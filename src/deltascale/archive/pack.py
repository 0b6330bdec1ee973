"""A study's directory as one file that anybody can verify, and that tells who made it or does not.

Everything is built anew in a temporary place: the ledger in a fixed order, the items, the tables
computed from what is packed. A pack that does not verify is never written.
"""

from __future__ import annotations

import re
import shutil
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from msgspec.structs import replace

from deltascale import __version__, datasets, ledger
from deltascale import study as study_file
from deltascale.analysis import Settings
from deltascale.archive import container, document, identity, items, papers, snapshot
from deltascale.archive import lock as locks
from deltascale.archive.container import Manifest
from deltascale.archive.lock import Lock, LockedDataset
from deltascale.archive.replay import replay
from deltascale.archive.scrub import Scrub
from deltascale.archive.verify import Analyze, Report, settings_in, verify
from deltascale.datasets import bundle
from deltascale.errors import DatasetMistake, Mistake
from deltascale.records import DatasetSpec, Item, Study, digest

__all__ = ["locked_items", "pack"]

LEDGER = "ledger.db"
_OPEN = re.compile(
    r"(?i)(?:apache-2\.0|mit|bsd(?:-\d-clause)?|cc0(?:[- ]1\.0)?|public domain"
    r"|cc[- ]by(?:-sa)?(?:[- ]\d\.\d)?)"
)
"""Licences that let everybody give the text on. One that is not known does not."""

_TEXTS = frozenset(
    {
        ".bib", ".css", ".csv", ".html", ".json", ".jsonl", ".md", ".svg", ".tex", ".tsv", ".txt",
        ".typ",
    }
)  # fmt: skip
_FOLDERS = ("report", "paper")
_OWN = ("LICENSE", "CITATION.cff")


def pack(
    directory: Path,
    target: Path,
    *,
    analyze: Analyze,
    cache: datasets.Cache,
    environ: Mapping[str, str],
    anonymous: bool = False,
    without_text: bool = False,
    also: Path | None = None,
    check: bool = True,
) -> tuple[Manifest, Report | None]:
    """Write the study as one file; returns its manifest and what verifying it proved.

    `anonymous` takes out who made it and where, `also` lists more texts to take out, one a line.
    `without_text` leaves out the text of datasets whose licence does not let everybody give it on.
    `check` False skips verifying the file before it is put in its place.

    Raises Mistake where there is no study, an item can't be had, something remains that should not
    be in it, or it does not verify.
    """
    lock = locks.read(directory)
    if lock is None or not (directory / LEDGER).is_file():
        raise Mistake(
            "there is no study here", where=str(directory), remedy="run one with --out here first"
        )
    part = target.with_name(f"{target.name}.part")
    with TemporaryDirectory(prefix="deltascale-") as folder:
        stage = Path(folder) / "stage"
        stage.mkdir()
        work = _Work(directory, stage, lock, _scrub(directory, lock, environ, anonymous, also))
        manifest = work.build(cache, analyze, without_text=without_text)
        _refuse_leftovers(stage, work.scrub)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            manifest = container.write(stage, part, manifest)
            report = verify(part, analyze=_as_computed(stage)) if check else None
            if report is not None and not report.holds:
                failed = next(one for one in report.checks if one.state == "failed")
                raise Mistake(
                    f"the pack would not verify: {failed.name}: {failed.detail}",
                    where=str(directory),
                    remedy="run the study again to settle its samples, then pack it",
                )
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
    return manifest, report


def _as_computed(stage: Path) -> Analyze:
    """The tables that were computed a moment ago, from the same ledger: once is enough."""

    def analyze(directory: Path, *, settings: Settings | None) -> object:
        return shutil.copytree(stage / "results", directory / "results")

    return analyze


def _scrub(
    directory: Path, lock: Lock, environ: Mapping[str, str], anonymous: bool, also: Path | None
) -> Scrub:
    names = identity.names(directory, lock.study, environ) if anonymous else {}
    if also is not None:
        names = {**identity.listed(also), **names}
    return Scrub(secrets=identity.secrets(directory, environ), names=names, anonymous=anonymous)


@dataclass(slots=True)
class _Work:
    """A pack in the making: from the study's directory into the stage."""

    directory: Path
    stage: Path
    lock: Lock
    scrub: Scrub

    def build(self, cache: datasets.Cache, analyze: Analyze, *, without_text: bool) -> Manifest:
        """Fill the stage; returns the manifest without its members."""
        closed = frozenset(
            name
            for name, dataset in self.lock.datasets.items()
            if without_text and not _OPEN.fullmatch(dataset.licence.strip())
        )
        loaded = {
            spec.name: locked_items(spec.name, self.lock, cache)
            for spec in self.lock.study.datasets
            if spec.name in self.lock.datasets
        }
        self._copy_ledger(loaded, closed)
        files, contents = self._write_items(loaded, closed)
        left_out = [*self._copy_folders(), *_told(closed, self.scrub), *self._needed()]
        study = self._copy_data(closed)
        lock = self._written_lock(study, contents)
        with ledger.read(self.stage / LEDGER) as book:
            lock = replace(lock, served=document.served(lock, book))
        locks.write(self.stage, lock)
        dumped = replace(study, datasets=_absolute(study, self.stage))
        text = study_file.dump(dumped, folder=self.stage)
        (self.stage / "study.yaml").write_text(text, encoding="utf-8")
        document.write_models(self.stage, lock, lock.served)
        analyze(self.stage, settings=settings_in(self.directory / "results"))
        for name in _OWN:
            if (self.directory / name).is_file():
                self._copy_text(self.directory / name, self.stage / name)
        manifest = Manifest(
            format=1,
            deltascale=__version__,
            study=study.name,
            anonymous=self.scrub.anonymous,
            members=(),
            items=files,
            withheld=tuple(sorted(self.scrub.text(name) for name in closed)),
            left_out=tuple(left_out),
            replaced=self.scrub.counts,
        )
        papers.write(self.stage, lock, manifest)
        return manifest

    def _copy_ledger(self, loaded: Mapping[str, tuple[Item, ...]], closed: frozenset[str]) -> None:
        source, target = self.directory / LEDGER, self.stage / LEDGER
        coarse = self.scrub.anonymous
        if not closed and not coarse:
            snapshot.copy(source, target, snapshot.Rules(self.scrub))
            return
        with _Notes.made() as notes, ledger.read(source) as book:
            by_id = {name: {item.id: item for item in own} for name, own in loaded.items()}

            def on_key(dataset: str, key: bytes, what: object) -> None:
                notes.add(key, digest(self.scrub.value(what)), shown=dataset not in closed)

            # Which keys a sample needs only its protocol knows: so it is had again.
            replay(self.lock, book, by_id.__getitem__, on_key=on_key, programs=False)
            rules = snapshot.Rules(
                self.scrub,
                coarse=coarse,
                withheld=closed,
                may_show=notes.may_show if closed else lambda _: True,
                renamed=notes.renamed if coarse else lambda key: key,
            )
            snapshot.copy(source, target, rules)

    def _write_items(
        self, loaded: Mapping[str, tuple[Item, ...]], closed: frozenset[str]
    ) -> tuple[dict[str, str], dict[str, tuple[tuple[str, ...], tuple[str, ...]]]]:
        """The file of each dataset's items, and the ids and contents of the items in it."""
        files: dict[str, str] = {}
        contents: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {}
        (self.stage / "items").mkdir()
        for number, (name, own) in enumerate(loaded.items(), 1):
            if name in closed:
                continue
            member = f"items/{number:02d}-{_slug(self.scrub.text(name))}.jsonl"
            kept = [self._scrubbed(items.packed(item)) for item in own]
            items.write(self.stage / member, kept)
            files[self.scrub.text(name)] = member
            contents[name] = (
                tuple(one.id for one in kept),
                tuple(digest(one).hex()[:16] for one in kept),
            )
        return files, contents

    def _scrubbed(self, kept: items.PackedItem) -> items.PackedItem:
        # The name of a function of ours is nobody's.
        return replace(self.scrub.value(replace(kept, attempt=None)), attempt=kept.attempt)

    def _written_lock(
        self, study: Study, contents: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]
    ) -> Lock:
        lock = replace(self.scrub.value(self.lock), study=study)
        changed: dict[str, LockedDataset] = {}
        for name, dataset in self.lock.datasets.items():
            renamed = lock.datasets[self.scrub.text(name)]
            if name in contents:
                ids, texts = contents[name]
                renamed = replace(renamed, ids=ids, contents=texts)
                if ids != dataset.ids:
                    renamed = replace(renamed, digest=locks.digest_of(ids))
            changed[self.scrub.text(name)] = renamed
        environments = lock.environments
        if self.scrub.anonymous:
            # The commit of somebody's own fork tells whose it is.
            environments = tuple(dict.fromkeys(replace(one, commit="") for one in environments))
        return replace(lock, datasets=changed, environments=environments)

    def _copy_data(self, closed: frozenset[str]) -> Study:
        """Copy people's own files; returns the study with their new places."""
        study = self.scrub.value(self.lock.study)
        specs = []
        for before, spec in zip(self.lock.study.datasets, study.datasets, strict=True):
            if before.file:
                name = f"data/{_slug(self.scrub.text(Path(before.file).name))}"
                spec = replace(spec, file=name)
                if before.name not in closed and Path(before.file).is_file():
                    self._copy_text(Path(before.file), self.stage / name)
            if self.scrub.anonymous:
                named = identity.places(before)
                hidden = {key: self.scrub.label("path", value) for key, value in named.items()}
                spec = replace(spec, options={**spec.options, **hidden})
            specs.append(spec)
        return replace(study, datasets=tuple(specs))

    def _needed(self) -> Iterator[str]:
        """What is not packed, because its items or what its tools gave are, but a new run needs."""
        for spec in self.lock.study.datasets:
            for key in identity.places(spec):
                yield (
                    f"{self.scrub.text(spec.name)}: what its option {key} names, which repeating "
                    "the study needs; verifying does not"
                )

    def _copy_folders(self) -> Iterator[str]:
        """Copy report and paper; says what could not be taken along."""
        for top in _FOLDERS:
            for path in sorted((self.directory / top).rglob("*")):
                if not path.is_file() or path.is_symlink():
                    continue
                inside = path.relative_to(self.directory)
                if path.suffix.lower() in _TEXTS:
                    self._copy_text(path, self.stage / inside)
                elif self.scrub.anonymous:
                    yield f"{inside.as_posix()}: a format that can't be searched for names"
                else:
                    (self.stage / inside).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(path, self.stage / inside)

    def _copy_text(self, source: Path, target: Path) -> None:
        """Copy a text line by line, with what must not be in it replaced."""
        target.parent.mkdir(parents=True, exist_ok=True)
        with (
            source.open(encoding="utf-8", errors="surrogateescape", newline="") as lines,
            target.open("w", encoding="utf-8", errors="surrogateescape", newline="") as sink,
        ):
            sink.writelines(self.scrub.text(line) for line in lines)


def locked_items(name: str, lock: Lock, cache: datasets.Cache) -> tuple[Item, ...]:
    """The items of a dataset that the lock names, as they were when it was written.

    Raises Mistake where they can't be had, or are others by now.
    """
    spec = next(one for one in lock.study.datasets if one.name == name)
    locked = lock.datasets[name]
    try:
        whole = replace(spec, items=None)
        every = datasets.load(whole, items=None, seed=lock.study.seed, cache=cache)
    except DatasetMistake as mistake:
        gone = [what for what, path in _named(spec) if not path.exists()]
        if not gone:
            raise
        raise Mistake(
            f"{gone[0]} is not there any more",
            where=f"dataset {name}",
            remedy="bring it back, or run the study again with its new place: what is on record is "
            "not asked again",
        ) from mistake
    own = every.items[: len(locked.ids)]
    same = tuple(item.id for item in own) == locked.ids
    if same and locked.contents:
        same = tuple(items.fingerprint(item) for item in own) == locked.contents
    if not same:
        raise Mistake(
            "its items are not the ones that the study was run on",
            where=f"dataset {name}",
            remedy="bring back the file or version that it was run on: the lock names its checksum",
        )
    return own


def _named(spec: DatasetSpec) -> Iterator[tuple[str, Path]]:
    """The files of the user's own that the dataset's items come from, and what they are called."""
    if spec.file:
        yield f"its file {spec.file}", bundle.own(spec.file)
    for key, value in identity.places(spec).items():
        yield f"what its option {key} names, {value},", bundle.own(value)


def _told(closed: frozenset[str], scrub: Scrub) -> Iterator[str]:
    for name in sorted(closed):
        yield (
            f"{scrub.text(name)}: items, prompts, replies and answers, because the licence does "
            "not let everybody give them on; the samples can't be had again from this pack, the "
            "tables can"
        )
    if scrub.anonymous:
        yield "the bodies of the servers' replies, the times of day, and names of people and places"


def _absolute(study: Study, stage: Path) -> tuple[DatasetSpec, ...]:
    return tuple(
        replace(spec, file=str(stage / spec.file)) if spec.file else spec for spec in study.datasets
    )


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-._")[:60] or "items"


def _refuse_leftovers(stage: Path, scrub: Scrub) -> None:
    """Look at everything that was written for what should not be in it.

    Raises Mistake with the place and the kind, never with the thing itself.
    """
    for path in sorted(stage.rglob("*")):
        if not path.is_file() or path.name == container.MANIFEST:
            continue
        name = path.relative_to(stage).as_posix()
        for kind in scrub.found(name):
            raise _leftover(kind, "a file's name")
        if path.name == LEDGER:
            places = snapshot.texts(path)
        else:
            with path.open(encoding="utf-8", errors="replace") as lines:
                places = iter([(name, line) for line in lines])
        for place, text in places:
            for kind in scrub.found(text):
                raise _leftover(kind, f"{name}, {place}" if place != name else name)


def _leftover(kind: str, where: str) -> Mistake:
    return Mistake(
        f"a text of the kind {kind!r} is still in the pack",
        where=where,
        remedy="take it out of the study, or report this: it should have been replaced",
    )


class _Notes:
    """On disk, so that memory does not grow with the study: what a replay looked up."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    @classmethod
    @contextmanager
    def made(cls) -> Iterator[_Notes]:
        # An empty name is a database on disk that is gone when it is closed.
        with closing(sqlite3.connect("", isolation_level=None)) as connection:
            connection.execute(
                "CREATE TABLE notes(key BLOB PRIMARY KEY, new BLOB, shown INTEGER) WITHOUT ROWID"
            )
            connection.execute("BEGIN")
            yield cls(connection)

    def add(self, key: bytes, new: bytes, *, shown: bool) -> None:
        self._connection.execute(
            "INSERT INTO notes VALUES(?,?,?) ON CONFLICT(key) DO UPDATE SET"
            " shown=MAX(shown,excluded.shown)",
            (key, new, shown),
        )

    def may_show(self, key: bytes) -> bool:
        row = self._connection.execute("SELECT shown FROM notes WHERE key=?", (key,)).fetchone()
        return row is not None and bool(row[0])

    def renamed(self, key: bytes) -> bytes:
        row = self._connection.execute("SELECT new FROM notes WHERE key=?", (key,)).fetchone()
        return key if row is None else bytes(row[0])
