"""A pack proves what it claims, and fails as soon as anything in it is not as it was."""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import zipfile
from collections.abc import Callable
from contextlib import closing
from datetime import date
from pathlib import Path

import pytest
from msgspec.structs import replace

from deltascale import assess, conduct, ledger, providers, scorers, study
from deltascale.archive import compare, container, document, items, lock, snapshot
from deltascale.datasets.toolqa import agent
from deltascale.errors import LedgerMistake, MissingExtra, Mistake
from deltascale.providers import CallFailed
from deltascale.providers.simulated import _reply
from deltascale.records import DatasetSpec, Failure, Item, Question, Reply, Request, user
from tests import archives, worlds


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return archives.had(archives.simulated(), tmp_path_factory.mktemp("small") / "small")


@pytest.fixture(scope="module")
def pack(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return archives.packed(small, tmp_path_factory.mktemp("pack") / "small.zip")


# --- what a pack is ------------------------------------------------------------------------------


def test_the_same_study_gives_the_same_bytes(small: Path, pack: Path, tmp_path: Path) -> None:
    assert archives.packed(small, tmp_path / "again.zip").read_bytes() == pack.read_bytes()
    with zipfile.ZipFile(pack) as archive:
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert not any(info.extra for info in archive.infolist())
        names = archive.namelist()
    assert names == [container.MANIFEST, *sorted(names[1:])]


def test_an_untouched_pack_holds_without_keys_models_or_network(
    pack: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("a model is asked")

    monkeypatch.setattr(providers, "connect", never)
    monkeypatch.setattr("deltascale.datasets.load", never)
    report = archives.proved(pack)
    assert report.holds, report
    names = {check.name for check in report.checks if check.state == "proved"}
    assert names == {"bytes", "items", "models", "calls", "samples", "tables"}
    assert "8 of 8 planned samples, 16 turns" in str(report)


def test_the_network_is_off_while_a_pack_is_verified(pack: Path) -> None:
    import socket

    def analyze(directory: Path, *, settings: object) -> None:
        for port in (9, 80):
            with socket.socket() as one:
                one.connect(("127.0.0.1", port))

    report = archives.verify(pack, analyze=analyze)
    assert "the network is off" in str(report.checks)
    assert not report.holds


def test_it_holds_what_repositories_and_people_ask_for(pack: Path, tmp_path: Path) -> None:
    container.unpack(pack, tmp_path)
    there = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*")}
    assert {"README.md", "LICENSES.md", "CITATION.cff", "lock.json", "ledger.db"} <= there
    crate = json.loads((tmp_path / "ro-crate-metadata.json").read_text())
    described = {entity["@id"]: entity for entity in crate["@graph"]}
    assert described["ro-crate-metadata.json"]["about"] == {"@id": "./"}
    assert {"name", "description", "datePublished", "license"} <= set(described["./"])
    parts = {part["@id"] for part in described["./"]["hasPart"]}
    assert parts == there - {"ro-crate-metadata.json", container.MANIFEST}
    assert parts <= set(described)
    assert "deltascale verify" in (tmp_path / "README.md").read_text()


def test_the_scripts_and_the_study_repeat_it(pack: Path, tmp_path: Path) -> None:
    container.unpack(pack, tmp_path)
    found = lock.read(tmp_path)
    assert found is not None
    again = study.load(tmp_path / "study.yaml", on=date(2027, 1, 1))
    assert replace(again, warnings=()) == found.study
    assert "deltascale run study.yaml" in (tmp_path / "repeat-study.sh").read_text()
    assert "deltascale analyze ." in (tmp_path / "repeat-analysis.sh").read_text()


@pytest.mark.slow
def test_the_scripts_run(pack: Path, tmp_path: Path) -> None:
    container.unpack(pack, tmp_path)
    claimed = (tmp_path / "results" / "turns.csv").read_bytes()
    environ = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    for script in ("repeat-analysis.sh", "repeat-study.sh"):
        command = ["/bin/sh", str(tmp_path / script)]
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "results" / "turns.csv").read_bytes() == claimed
    assert (tmp_path / "again" / "results" / "turns.csv").read_bytes() == claimed


def test_what_was_run_is_what_is_packed(small: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(small, other)
    found = lock.read(other)
    assert found is not None
    dataset = found.datasets["demo-sums"]
    changed = replace(dataset, contents=("0" * 16, *dataset.contents[1:]))
    lock.write(other, replace(found, datasets={"demo-sums": changed}))
    with pytest.raises(Mistake, match="not the ones that the study was run on"):
        archives.packed(other, tmp_path / "other.zip")
    assert not (tmp_path / "other.zip").exists()


def test_a_pack_that_would_not_verify_is_not_written(small: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(small, other)
    archives.executed("UPDATE turns SET score=1-score WHERE turn=1 AND score IS NOT NULL")(other)
    with pytest.raises(Mistake, match="would not verify: samples") as refused:
        archives.packed(other, tmp_path / "other.zip", check=True)
    assert "\n" not in str(refused.value)
    assert not list(tmp_path.glob("other.zip*"))


# --- one byte ------------------------------------------------------------------------------------


def flipped(pack: Path, target: Path, place: int, rng: random.Random) -> list[str]:
    """What is said of the pack with one byte changed; empty: that it holds."""
    data = bytearray(pack.read_bytes())
    data[place] ^= rng.randrange(1, 256)
    target.write_bytes(data)
    try:
        return archives.failed(target)
    except Mistake as refused:
        return str(refused).splitlines()


def places(pack: Path, n: int, rng: random.Random) -> list[int]:
    return [rng.randrange(pack.stat().st_size) for _ in range(n)]


def test_one_byte_changed_anywhere_is_found(pack: Path, tmp_path: Path) -> None:
    rng = random.Random(6)
    size = pack.stat().st_size
    edges = [0, 4, 10, 14, 30, size - 1, size - 70, size - 110, size - 125]
    for place in (*edges, *places(pack, 16, rng)):
        assert flipped(pack, tmp_path / "flipped.zip", place, rng), place


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_one_byte_changed_at_200_places_is_found(pack: Path, tmp_path: Path) -> None:
    rng = random.Random(7)
    for place in places(pack, 200, rng):
        assert flipped(pack, tmp_path / "flipped.zip", place, rng), place


@pytest.mark.parametrize("name", ["ledger.db", "lock.json", "results/turns.csv", "study.yaml"])
def test_a_changed_member_is_named(pack: Path, tmp_path: Path, name: str) -> None:
    target = tmp_path / "changed.zip"
    with zipfile.ZipFile(pack) as archive, zipfile.ZipFile(target, "w") as sink:
        for info in archive.infolist():
            data = bytearray(archive.read(info))
            if info.filename == name:
                data[len(data) // 2] ^= 1
            sink.writestr(info, bytes(data))
    assert archives.failed(target) == [f"bytes: {name}: its SHA-256 is not the manifest's"]


# --- everything repaired but the truth -----------------------------------------------------------


def _a_cell(folder: Path) -> None:
    path = folder / "results" / "deltas.csv"
    with path.open(newline="") as file:
        rows = list(csv.reader(file))
    column = rows[0].index("acc_last")
    rows[1][column] = str(float(rows[1][column]) + 0.01)
    with path.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def _a_target(folder: Path) -> None:
    (path,) = (folder / "items").iterdir()
    kept = list(items.read(path))
    items.write(path, [replace(kept[0], target="1"), *kept[1:]])


TAMPERED: list[tuple[Callable[[Path], None], str, str]] = [
    (_a_cell, "tables", "results/deltas.csv: row 1, acc_last"),
    (lambda folder: (folder / "results/flips.csv").unlink(), "tables", "not in the pack"),
    (_a_target, "items", "not the one that the lock names"),
    (
        archives.executed(
            "UPDATE calls SET reply=CAST(replace(CAST(reply AS TEXT),'#### ','#### 1') AS BLOB)"
        ),
        "samples",
        "",
    ),
    (archives.executed("UPDATE turns SET score=1-score"), "samples", "score is"),
    (archives.executed("UPDATE turns SET cost_nusd=cost_nusd+1"), "samples", "cost_nusd"),
    (archives.executed("UPDATE turns SET answer='12'"), "samples", "answer"),
    (archives.executed("DELETE FROM calls WHERE id=1"), "models", "other served versions"),
    (archives.executed("UPDATE calls SET cost_nusd=cost_nusd+1 WHERE id=1"), "calls", "its cost"),
    (archives.executed("UPDATE calls SET key=randomblob(32) WHERE id=1"), "calls", "its key"),
    (
        archives.executed("UPDATE samples SET outcome='failed'; DELETE FROM turns WHERE turn=1;"),
        "samples",
        "turns on record",
    ),
    (archives.executed("UPDATE cells SET n_items=1000000000"), "plan", "plans more"),
    (
        archives.replaced("lock.json", '"output_nusd_per_ktok": ', '"output_nusd_per_ktok": 1'),
        "calls",
        "its cost is not what its price says",
    ),
    (archives.replaced("lock.json", '"version": 1', '"version": 2'), "samples", "another version"),
    (archives.replaced("lock.json", "answer above", "answer below"), "samples", "other prompts"),
    (archives.replaced("lock.json", '"n_calls": ', '"n_calls": 1'), "models", "other served"),
    (archives.replaced("study.yaml", "turns: 2", "turns: 3"), "study", "study.yaml"),
    (archives.replaced("models.csv", "0.04", "0.03"), "models", "models.csv"),
    (lambda folder: (folder / "lock.json").write_text("[]"), "contents", "lock"),
    (lambda folder: (folder / "ledger.db").write_bytes(b"no"), "contents", "ledger"),
    (archives.executed("CREATE VIEW v AS SELECT 1"), "contents", "other tables"),
    (
        archives.executed("CREATE TRIGGER t AFTER INSERT ON turns BEGIN SELECT 1; END"),
        "contents",
        "other tables",
    ),
    (archives.executed("PRAGMA user_version=9"), "contents", "schema 9"),
    (
        archives.executed("UPDATE calls SET request=zeroblob(50) WHERE id=1"),
        "contents",
        "can't be read",
    ),
]


@pytest.mark.parametrize("number", range(len(TAMPERED)))
def test_a_lie_with_a_repaired_manifest_is_found(pack: Path, tmp_path: Path, number: int) -> None:
    edit, name, says = TAMPERED[number]

    def unasked(*_: object, **__: object) -> None:
        raise Mistake("the tables are not asked for here")

    lie = archives.tampered(pack, tmp_path / "tampered.zip", edit)
    said = archives.failed(lie, analyze=assess.analyze if name == "tables" else unasked)
    assert any(line.startswith(f"{name}: ") and says in line for line in said), said


# --- programs, tools, failures -------------------------------------------------------------------


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pack whose scorer's verdicts come from outside, and are kept."""
    folder = tmp_path_factory.mktemp("judged")
    wanted = archives.simulated(scorer="math", protocols=("review", "oracle"))
    return archives.packed(archives.had(wanted, folder / "study"), folder / "judged.zip")


def test_verdicts_are_had_again(judged: Path) -> None:
    assert archives.proved(judged).holds
    assert "verdicts" in {one.name for one in archives.proved(judged).checks}


def test_a_verdict_that_is_not_what_a_run_gives_is_found(judged: Path, tmp_path: Path) -> None:
    lie = archives.executed(
        "UPDATE observations SET result=replace(result,'1.0','0.0');"
        "UPDATE turns SET score=0.0 WHERE score=1.0;"
    )
    said = archives.failed(archives.tampered(judged, tmp_path / "lie.zip", lie))
    assert any(line.startswith("verdicts: ") and "when run again" in line for line in said), said


def test_without_a_sandbox_verdicts_come_from_the_record_and_it_says_so(
    judged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace as changed

    def no_sandbox(*_: object) -> None:
        raise MissingExtra("no sandbox to run programs in")

    found = scorers.find("math")
    monkeypatch.setattr(scorers, "find", lambda _: changed(found, judge=no_sandbox))
    report = archives.proved(judged)
    assert report.holds
    said = [one.detail for one in report.checks if one.state == "not proved"]
    assert any("verdicts are taken from the record: no sandbox" in line for line in said), said


def test_failed_samples_verify_too(tmp_path: Path) -> None:
    async def sometimes(request: Request) -> Reply:
        if "7" in request.messages[0].content[:12]:
            raise CallFailed(Failure("bad_request", "no"))
        return _reply(request, 1e9)

    directory = archives.had(archives.simulated(items=12), tmp_path / "study", call=sometimes)
    report = archives.proved(archives.packed(directory, tmp_path / "pack.zip"))
    assert report.holds, report
    assert "on record as failed" in str(report)
    lie = archives.executed("DELETE FROM failures")
    said = archives.failed(archives.tampered(tmp_path / "pack.zip", tmp_path / "lie.zip", lie))
    assert any("not on record" in line for line in said), said


def test_items_come_back_with_their_way_to_an_answer() -> None:
    question = Question((user("?"),), "format", ("a", "b"), "assert f()", agent.schema())
    for attempt in (None, agent.react(7), agent.native(3)):
        item = Item("i", replaced_attempt(question, attempt), "t", ("u",), "s", "c", {"k": "v"})
        again = items.unpacked(items.packed(item))
        assert replaced_attempt(again.question, None) == replaced_attempt(question, None)
        assert (again.target, again.aliases, again.meta) == ("t", ("u",), {"k": "v"})
        if attempt is not None:
            assert again.question.attempt.__code__ is attempt.__code__  # type: ignore[union-attr]
            assert again.question.attempt.__closure__[0].cell_contents in (3, 7)  # type: ignore[union-attr,index]


def replaced_attempt(question: Question, attempt: object) -> Question:
    from dataclasses import replace as changed

    return changed(question, attempt=attempt)  # type: ignore[arg-type]


@pytest.mark.parametrize("module", ["os", "subprocess", "deltascale.cli", "", "deltascale"])
def test_a_strangers_function_is_not_called(module: str) -> None:
    kept = items.PackedItem("i", (), "", "", attempt=items.PackedAttempt(module, "system", {}))
    with pytest.raises(Mistake, match="its way to an answer"):
        items.unpacked(kept)


# --- texts that may not be given on --------------------------------------------------------------


def test_without_text_nothing_of_it_is_there_and_the_tables_still_hold(tmp_path: Path) -> None:
    lines = ["question,answer", *(f"Compute {n} * 3 + 100.,{3 * n + 100}" for n in range(11, 17))]
    (tmp_path / "mine.csv").write_text("\n".join(lines) + "\n")
    wanted = archives.simulated(("demo-sums",))
    spec = DatasetSpec("mine", file=str(tmp_path / "mine.csv"), scorer="numeric")
    wanted = replace(wanted, datasets=(*wanted.datasets, spec))
    directory = archives.had(wanted, tmp_path / "study")
    whole = archives.packed(directory, tmp_path / "whole.zip")
    mute = archives.packed(directory, tmp_path / "mute.zip", without_text=True, check=True)
    assert "11 * 3 + 100" in archives.contents(whole, tmp_path)
    texts = archives.contents(mute, tmp_path)
    assert "11 * 3 + 100" not in texts
    assert "#### 133" not in texts
    with ledger.read(tmp_path / "ledger.db") as book:
        for planned in book.cells():
            kept = [turn.answer for _, _, turn in book.turns(planned.cell) if turn.answer]
            hidden = [answer.startswith("withheld:") for answer in kept]
            assert set(hidden) == {planned.cell.dataset == "mine"}
    report = archives.proved(mute)
    assert report.holds
    said = [one.detail for one in report.checks if one.state == "not proved"]
    assert "mine: its text is left out" in said
    assert any(line.startswith("8 samples: the text of mine") for line in said), said
    with zipfile.ZipFile(whole) as one, zipfile.ZipFile(mute) as other:
        for name in ("results/deltas.csv", "results/turns.csv"):
            assert one.read(name) == other.read(name)


# --- documents, differences, older ledgers -------------------------------------------------------


def test_the_models_are_documented(small: Path) -> None:
    paths = document.document(small)
    with paths[0].open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["model"] == "simulated/sim-1b"
    assert row["served"].startswith("sim-1b: ")
    assert json.loads(row["sent"]) == {"max_tokens": 2048, "temperature": 0.7}
    assert row["first_call"] <= row["last_call"]
    assert "simulated/sim-1b" in paths[1].read_text()
    with pytest.raises(Mistake, match="no study here"):
        document.document(small / "results")


def test_what_differs_is_named(small: Path, tmp_path: Path) -> None:
    assert compare.differences(small, small) == ()
    other = archives.simulated(protocols=("review",), items=5)
    archives.had(replace(other, max_tokens=99), tmp_path)
    found = {one.path: (one.first, one.second) for one in compare.differences(small, tmp_path)}
    assert found["study.max_tokens"] == ("2048", "99")
    assert found["study.protocols"] == ("review, vote", "review")
    assert found["datasets.demo-sums.n_items"] == ("4", "5")
    assert "ledger.calls" in found
    assert not any(path.startswith("study.models") for path in found)


def test_a_fork_buys_only_what_is_new(small: Path, tmp_path: Path) -> None:
    target = tmp_path / "ledger.db"
    snapshot.fork(small / "ledger.db", target)
    with ledger.read(target) as forked, ledger.read(small / "ledger.db") as before:
        assert list(forked.calls()) == list(before.calls())
        assert forked.cells() == ()
    asked: list[Request] = []

    async def call(request: Request) -> Reply:
        asked.append(request)
        return await worlds.reply(request)

    archives.had(archives.simulated(), tmp_path, call=call)
    assert not asked
    with pytest.raises(Mistake, match="a ledger already"):
        snapshot.fork(small / "ledger.db", target)


def test_local_weights_need_not_be_there(tmp_path: Path) -> None:
    weights = tmp_path / "weights" / "tiny.gguf"
    weights.parent.mkdir()
    weights.write_bytes(b"GGUF and nothing else")
    model = replace(worlds.model(), id="local/tiny", provider="local", name=str(weights))
    wanted = replace(archives.simulated(), models=(replace(model, base_url=""),))

    async def call(request: Request) -> Reply:
        return _reply(request, 1e9)

    directory = archives.had(wanted, tmp_path / "study", call=call)
    weights.unlink()
    assert archives.proved(archives.packed(directory, tmp_path / "plain.zip")).holds
    blind = archives.packed(directory, tmp_path / "blind.zip", anonymous=True)
    assert archives.proved(blind).holds
    assert str(weights.parent) not in archives.contents(blind, tmp_path)


# --- calls whose run ended before an answer came -------------------------------------------------


def cut_off(small: Path, directory: Path, *keys: str) -> Path:
    """The study with open calls, as a run that was killed leaves them."""
    shutil.copytree(small, directory)
    for at, key in enumerate(keys, 1):
        row = f"x'{key}', 'sim-1b', {at}000000, {at}.0"
        archives.executed(f"INSERT INTO reservations VALUES({row})")(directory)
    assess.analyze(directory, settings=archives.FEW)
    return directory


def test_a_pack_says_of_open_calls_what_the_study_says(small: Path, tmp_path: Path) -> None:
    directory = cut_off(small, tmp_path / "cut", "0b", "0a")
    before = conduct.status(directory)[1].spent
    assert before.uncertain_nusd == 3_000_000
    failed = {name: replace(own, n_failures=2) for name, own in before.by_name.items()}
    after = replace(before, n_failures=before.n_failures + 2, by_name=failed)
    made = archives.packed(directory, tmp_path / "cut.zip")
    assert archives.proved(made).holds
    (tmp_path / "inside").mkdir()
    container.unpack(made, tmp_path / "inside")
    with ledger.read(tmp_path / "inside" / "ledger.db") as book:
        assert book.spent() == after
        assert dict(book.failed_calls()) == {b"\x0b": ledger.LOST, b"\x0a": ledger.LOST}
    lines = dumped(tmp_path / "inside" / "ledger.db")
    assert not [line for line in lines if line.startswith('INSERT INTO "reservations"')]
    with ledger.write(directory / "ledger.db") as book:
        assert book.spent() == after, "as the next run"


def test_a_fork_owes_nothing_for_calls_of_another(small: Path, tmp_path: Path) -> None:
    directory = cut_off(small, tmp_path / "cut", "0b")
    snapshot.fork(directory / "ledger.db", tmp_path / "forked.db")
    with ledger.read(tmp_path / "forked.db") as book:
        assert (book.spent().n_failures, book.spent().uncertain_nusd) == (0, 0)
    with ledger.read(small / "ledger.db") as book:
        assert book.spent().uncertain_nusd == 0


def test_names_in_open_calls_are_searched_too(small: Path, tmp_path: Path) -> None:
    directory = cut_off(small, tmp_path / "cut", "0b")
    assert ("reservations", "sim-1b") in snapshot.texts(directory / "ledger.db")


@pytest.mark.parametrize(
    ("ended", "kinds"),
    [
        ("budget", ["transient"]),
        ("filtered", ["filtered", "transient"]),
        ("failed", ["transient", "filtered"]),
    ],
)
def test_samples_verify_as_they_ended_whatever_else_became_of_their_call(
    small: Path, tmp_path: Path, ended: str, kinds: list[str]
) -> None:
    """A later run may lose or lack the money for a call that failed before."""
    directory = tmp_path / "study"
    shutil.copytree(small, directory)
    with closing(sqlite3.connect(directory / "ledger.db", isolation_level=None)) as connection:
        (call,) = connection.execute(
            "SELECT call FROM turns JOIN samples ON id=sample WHERE turn=1 ORDER BY id LIMIT 1"
        ).fetchone()
        (sample,) = connection.execute("SELECT sample FROM turns WHERE call=?", (call,)).fetchone()
        key = bytes.fromhex(call)
        connection.execute("DELETE FROM calls WHERE key=?", (key,))
        connection.execute(
            "UPDATE turns SET outcome=?,answer=NULL,score=?,others='{}',call='',n_calls=0,"
            "input_tokens=0,output_tokens=0,cached_input_tokens=0,cost_nusd=0,detail=''"
            " WHERE sample=? AND turn=1",
            (ended, 0.0 if ended == "filtered" else None, sample),
        )
        connection.execute("UPDATE samples SET outcome=? WHERE id=?", (ended, sample))
        for kind in kinds:
            blob = json.dumps({"kind": kind, "message": "so it was"}).encode()
            connection.execute(
                "INSERT INTO failures(key,model,kind,failure,cost_nusd,at) VALUES(?,?,?,?,0,0)",
                (key, "sim-1b", kind, blob),
            )
    assess.analyze(directory, settings=archives.FEW)
    assert archives.failed(archives.packed(directory, tmp_path / "pack.zip")) == []


# --- older ledgers -------------------------------------------------------------------------------

SCHEMA_1 = (
    "ALTER TABLE items DROP COLUMN unit; ALTER TABLE items DROP COLUMN chance;"
    " DROP TABLE reservations;"
    " PRAGMA user_version=1;"
)


def older(small: Path, directory: Path) -> Path:
    """The study with a ledger as an older version would have written it."""
    shutil.copytree(small, directory)
    archives.executed(SCHEMA_1)(directory)
    return directory


def dumped(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        return [str(version), *connection.iterdump()]


def test_an_older_ledger_opens_and_verifies_and_stays_as_it_was(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = older(small, tmp_path / "older")
    before = (directory / "ledger.db").read_bytes()
    with monkeypatch.context() as without:
        without.setattr(ledger, "MIGRATIONS", {})
        with pytest.raises(LedgerMistake, match="schema 1, this deltascale reads 2"):
            conduct.status(directory)
    assert conduct.status(directory)[1] == conduct.status(small)[1]
    report = archives.proved(archives.packed(directory, tmp_path / "older.zip"))
    assert report.holds
    assert (directory / "ledger.db").read_bytes() == before


def test_a_pack_with_an_older_ledger_verifies(
    pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit = archives.executed(SCHEMA_1)
    assert archives.proved(archives.tampered(pack, tmp_path / "older.zip", edit)).holds


def test_writing_to_an_older_ledger_keeps_it_beside(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = older(small, tmp_path / "older")
    before = dumped(directory / "ledger.db")
    archives.had(archives.simulated(), directory)
    assert dumped(directory / "ledger.v1.db") == before
    assert worlds.turns(directory / "ledger.db") == worlds.turns(small / "ledger.db")
    monkeypatch.setattr(ledger, "MIGRATIONS", {})
    assert conduct.status(directory)[1].spent == conduct.status(small)[1].spent


def test_a_migration_that_ends_elsewhere_is_refused(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = older(small, tmp_path / "older")
    monkeypatch.setattr(ledger, "MIGRATIONS", {1: "CREATE TABLE more(x)"})
    with pytest.raises(LedgerMistake, match="other tables"):
        conduct.status(directory)
