"""Verifying a pack: everything it claims is had again from what it holds, with the network off.

A pack is a stranger's file. What could do harm is refused with one line; what does not hold is a
failed check; what can't be checked here is said to be so.
"""

from __future__ import annotations

import csv
import math
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, Protocol, TypeAlias

import msgspec
from msgspec.structs import replace

from deltascale import ledger
from deltascale import study as study_file
from deltascale.analysis import Settings
from deltascale.archive import container, document, items, snapshot
from deltascale.archive import lock as locks
from deltascale.archive.container import Manifest
from deltascale.archive.lock import Lock
from deltascale.archive.replay import OTHER_VERSION, TOLERANCE, Replay, replay
from deltascale.engine import price_of
from deltascale.errors import Mistake
from deltascale.ledger import Ledger
from deltascale.records import Item, digest

__all__ = ["Analyze", "Check", "Report", "settings_in", "verify"]

_MOST_BLOB_BYTES = 64 << 20
_MOST_TURNS = 10_000_000
_MOST_REPLICATES = 100_000
_UNPROVABLE = (
    "that the replies are what the models said, and the times when they said it",
    "what the report and the paper say beside the tables",
)


_State: TypeAlias = Literal["proved", "failed", "not proved"]


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at, and what came of it."""

    name: str
    state: _State
    detail: str


@dataclass(frozen=True, slots=True)
class Report:
    """What verifying a pack brought. `holds`: nothing that could be checked failed."""

    checks: tuple[Check, ...]

    @property
    def holds(self) -> bool:
        return all(check.state != "failed" for check in self.checks)


class Analyze(Protocol):
    """Writes `results/` in a study's directory from its lock and ledger."""

    def __call__(self, directory: Path, *, settings: Settings | None) -> object: ...


def settings_in(results: Path) -> Settings | None:
    """The settings that tables were computed with; None: they do not say.

    Raises Mistake for settings that can't be read or that would take for ever.
    """
    path = results / "settings.json"
    if not path.is_file():
        return None
    try:
        found = msgspec.json.decode(path.read_bytes(), type=_Said).settings
    except msgspec.MsgspecError as error:
        raise Mistake(f"the settings can't be read ({error})", where="settings.json") from None
    if not 0 < found.replicates <= _MOST_REPLICATES:
        raise Mistake(f"{found.replicates} replicates", where="settings.json")
    return found


class _Said(msgspec.Struct, frozen=True):
    settings: Settings


def verify(path: Path, *, analyze: Analyze) -> Report:
    """Verify a pack; `analyze` is `assess.analyze`, or does the same.

    Raises Mistake, with one line, for a file that is no pack or could do harm.
    """
    with TemporaryDirectory(prefix="deltascale-") as name, _network_off():
        folder = Path(name) / "pack"
        folder.mkdir()
        sealed = container.is_sealed(path) if path.is_file() else False
        manifest, differing = container.unpack(path, folder)
        if differing:
            return Report((Check("bytes", "failed", "; ".join(differing[:5])),))
        seal = f"{len(manifest.members)} members, each with the SHA-256 of the manifest, sealed"
        if not sealed:
            seal = (
                "the seal over the whole file is broken or missing: something outside the members "
                "was changed, or the zip was written by something else"
            )
        checks = [Check("bytes", "proved" if sealed else "failed", seal)]
        try:
            checks += _Pack(path.name, folder, manifest, analyze).checks()
        except Mistake as mistake:
            text = str(mistake).replace(f"{folder}/", "").replace(name, path.name)
            checks.append(Check("contents", "failed", text))
        except Exception as error:
            # What a stranger wrote into a ledger or a lock can make any of our own steps fail: that
            # is a pack that does not hold, and never a crash.
            text = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            checks.append(Check("contents", "failed", f"they can't be read ({text})"))
        return Report((*checks, *(Check("beyond", "not proved", what) for what in _UNPROVABLE)))


@dataclass(frozen=True, slots=True)
class _Pack:
    """An unpacked pack. Each method yields what it looked at."""

    name: str
    folder: Path
    manifest: Manifest
    analyze: Analyze

    def checks(self) -> Iterator[Check]:
        found = locks.read(self.folder)
        if found is None:
            yield Check("lock", "failed", "lock.json is not among the members")
            return
        current = self.folder / "current.db"
        ledger.migrate(self.folder / "ledger.db", current)
        current.replace(self.folder / "ledger.db")
        with ledger.read(self.folder / "ledger.db") as book:
            loaded, item_checks = self._items(found)
            yield from item_checks
            yield from self._study(found, book)
            wrong_plan = self._plan(found, book)
            if wrong_plan is not None:
                yield wrong_plan
                return
            calls = self._calls(found, book)
            yield calls
            if calls.state == "failed":
                return
            yield from self._samples(found, book, loaded)
        yield from self._tables()

    def _items(self, lock: Lock) -> tuple[dict[str, Mapping[str, Item] | str], list[Check]]:
        loaded: dict[str, Mapping[str, Item] | str] = {}
        checks = []
        for name, dataset in lock.datasets.items():
            if name in self.manifest.withheld:
                loaded[name] = f"the text of {name} is left out of the pack"
                checks.append(Check("items", "not proved", f"{name}: its text is left out"))
                continue
            kept = list(items.read(self.folder / self.manifest.items[name]))
            own: dict[str, Item] = {}
            why = ""
            for one in kept:
                try:
                    own[one.id] = items.unpacked(one)
                except Mistake as mistake:
                    why = f"{name}: {mistake.what}"
            loaded[name] = why or own
            ids = tuple(one.id for one in kept)
            if ids != dataset.ids or locks.digest_of(ids) != dataset.digest:
                checks.append(
                    Check("items", "failed", f"{name}: not the items that the lock names")
                )
            elif tuple(digest(one).hex()[:16] for one in kept) != dataset.contents:
                text = f"{name}: a prompt or target is not the one that the lock names"
                checks.append(Check("items", "failed", text))
            else:
                text = f"{name}: {len(kept)} items, prompts and targets as the lock names them"
                checks.append(Check("items", "proved", text))
        return loaded, checks

    def _study(self, lock: Lock, book: Ledger) -> Iterator[Check]:
        here = replace(
            lock.study,
            datasets=tuple(
                replace(spec, file=str(self.folder / spec.file)) if spec.file else spec
                for spec in lock.study.datasets
            ),
        )
        dumped = study_file.dump(here, folder=self.folder)
        if (self.folder / "study.yaml").read_text(encoding="utf-8") != dumped:
            yield Check("study", "failed", "study.yaml is not the study that lock.json holds")
        served = document.served(lock, book)
        if served != lock.served:
            yield Check("models", "failed", "lock.json names other served versions than the ledger")
        before = {name: (self.folder / name).read_bytes() for name in document.NAMES}
        document.write_models(self.folder, lock, served)
        for name, claimed in before.items():
            if (self.folder / name).read_bytes() != claimed:
                yield Check("models", "failed", f"{name} is not what lock and ledger say")
                return
        yield Check("models", "proved", f"{len(lock.study.models)} models as the ledger knows them")

    def _plan(self, lock: Lock, book: Ledger) -> Check | None:
        """Nothing planned beyond what the lock names: else an analysis could take any memory."""
        for planned in book.cells():
            cell = planned.cell
            dataset = lock.datasets.get(cell.dataset)
            if (
                dataset is None
                or planned.n_items > len(dataset.ids)
                or planned.n_epochs > lock.study.epochs
                or planned.n_turns != lock.study.turns
                or planned.n_samples * planned.n_turns > _MOST_TURNS
            ):
                text = f"the ledger plans more of {cell.dataset} than the lock knows"
                return Check("plan", "failed", text)
        for name, dataset in lock.datasets.items():
            if tuple(item.id for item in book.items(name)) != dataset.ids:
                return Check("plan", "failed", f"{name}: the ledger has other items than the lock")
        return None

    def _calls(self, lock: Lock, book: Ledger) -> Check:
        """Each call's key must be the digest of its request, and its cost what its price says."""
        if snapshot.has_bomb(self.folder / "ledger.db", _MOST_BLOB_BYTES):
            text = f"a prompt unpacks to more than {_MOST_BLOB_BYTES} bytes"
            return Check("calls", "failed", text)
        models = {
            (lock.endpoints.get(model.id), model.name): price_of(model.price)
            for model in lock.study.models
        }
        n_calls = n_hidden = 0
        for call in book.calls():
            n_calls += 1
            hidden = bool(self.manifest.withheld) and not call.request.messages
            n_hidden += hidden
            where = f"call {call.key.hex()[:16]}"
            if not hidden and call.request.key != call.key:
                return Check("calls", "failed", f"{where}: its key is not that of its request")
            cost = models.get((call.request.endpoint, call.request.model))
            if cost is None:
                continue  # of a model that has left the study; no sample needs it
            if (not hidden or call.reply.usage is not None) and (
                cost(call.request, call.reply) != call.cost_nusd
            ):
                return Check("calls", "failed", f"{where}: its cost is not what its price says")
        text = f"{n_calls} calls, each under the digest of its request and at its price"
        return Check("calls", "proved", text + (f"; {n_hidden} without text" if n_hidden else ""))

    def _samples(
        self, lock: Lock, book: Ledger, loaded: Mapping[str, Mapping[str, Item] | str]
    ) -> Iterator[Check]:
        again = replay(lock, book, lambda name: loaded.get(name, f"{name} is not in the lock"))
        n_planned = sum(planned.n_samples for planned in book.cells())
        n_known = again.n_samples + sum(again.unproved.values())
        if again.n_wrong:
            more = f" (and {again.n_wrong - 1} more)" if again.n_wrong > 1 else ""
            yield Check("samples", "failed", f"{again.wrong[0]}{more}")
        elif again.n_samples:
            text = (
                f"{again.n_samples} of {n_planned} planned samples, {again.n_turns} turns and "
                f"{again.n_calls} calls (a shared one in each of its samples) had again: "
                "same prompts, answers, scores and costs"
            )
            if again.n_failed:
                text += f"; {again.n_failed} of them are on record as failed"
            yield Check("samples", "proved", text)
        if n_known < n_planned:
            text = f"{n_planned - n_known} planned samples are not on record"
            yield Check("samples", "not proved", text)
        for reason, count in again.unproved.items():
            # Who claims another version must not get away with not being checked.
            other = reason.endswith(OTHER_VERSION)
            remedy = f"; verify it with deltascale {self.manifest.deltascale}" if other else ""
            state: _State = "failed" if other else "not proved"
            yield Check("samples", state, f"{count} samples: {reason}{remedy}")
        yield from _verdicts(again)

    def _tables(self) -> Iterator[Check]:
        claimed = self.folder / "claimed"
        results = self.folder / "results"
        if not results.is_dir():
            yield Check("tables", "failed", "there are no results")
            return
        results.rename(claimed)
        self.analyze(self.folder, settings=settings_in(claimed))
        names = {path.name for folder in (claimed, results) for path in folder.iterdir()}
        tables = sorted(name for name in names if name.endswith(".csv"))
        n_wrong = 0
        for name in tables:
            line = _table_differs(claimed / name, results / name)
            if line:
                n_wrong += 1
                yield Check("tables", "failed", f"results/{name}: {line}")
        if not n_wrong:
            text = f"{len(tables)} tables computed anew: {', '.join(tables)}"
            yield Check("tables", "proved", f"{text}; relative tolerance {TOLERANCE:g}")
        others = sorted(names - set(tables))
        unsure = [name for name in others if not _equal(claimed / name, results / name)]
        if unsure:
            text = f"only the bytes of results/{', results/'.join(unsure)} were checked"
            yield Check("tables", "not proved", text)


def _equal(one: Path, other: Path) -> bool:
    return one.exists() and other.exists() and one.read_bytes() == other.read_bytes()


def _verdicts(again: Replay) -> Iterator[Check]:
    """Verdicts that a program's run gave: run again where that can be, else from the record."""
    if not again.n_verdicts:
        return
    if again.n_other:
        more = f" (and {again.n_other - 1} more)" if again.n_other > 1 else ""
        yield Check("verdicts", "failed", f"{again.other_verdicts[0]}{more}")
    elif again.n_ran:
        yield Check("verdicts", "proved", f"{again.n_ran} programs run again: same verdicts")
    if again.no_programs:
        text = f"{again.n_verdicts} verdicts are taken from the record: {again.no_programs}"
        yield Check("verdicts", "not proved", text)


def _table_differs(claimed: Path, computed: Path) -> str:
    """The first difference of two tables, beyond the tolerance; empty: none."""
    if not claimed.exists() or not computed.exists():
        return "it is packed, but not computed" if claimed.exists() else "it is not in the pack"
    if claimed.read_bytes() == computed.read_bytes():
        return ""
    with (
        claimed.open(encoding="utf-8", newline="") as one,
        computed.open(encoding="utf-8", newline="") as other,
    ):
        said, found = list(csv.reader(one)), list(csv.reader(other))
    if len(said) != len(found) or said[:1] != found[:1]:
        return "it has other rows or columns than were computed"
    for number, (before, after) in enumerate(zip(said, found, strict=True)):
        for column, (was, now) in enumerate(zip(before, after, strict=False)):
            if not _same(was, now):
                return f"row {number}, {said[0][column]}: {was!r} is packed, {now!r} computed"
        if len(before) != len(after):
            return f"row {number} has another length"
    return ""


def _same(one: str, other: str) -> bool:
    if one == other:
        return True
    try:
        return math.isclose(float(one), float(other), rel_tol=TOLERANCE, abs_tol=1e-12)
    except ValueError:
        return False


_off = False
_hooked = False


@contextmanager
def _network_off() -> Iterator[None]:
    """No connection to any host from this process while the block runs."""
    global _off, _hooked
    if not _hooked:
        sys.addaudithook(_refuse_sockets)
        _hooked = True
    before, _off = _off, True
    try:
        yield
    finally:
        _off = before


def _refuse_sockets(event: str, arguments: tuple[object, ...]) -> None:
    if not _off or event not in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
        return
    if event == "socket.getaddrinfo" or isinstance(arguments[-1], tuple):
        raise PermissionError("the network is off while a pack is verified")
