"""What is exported is what is on record: every turn a row, every cell a log; nothing secret."""

from __future__ import annotations

import asyncio
import sys
import tracemalloc
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner

from deltascale import ledger
from deltascale.archive import container, lock
from deltascale.archive import export as exported
from deltascale.cli import cli
from deltascale.cli import main as command_line
from deltascale.datasets import Cache
from deltascale.records import (
    Params,
    Reply,
    Request,
    Sample,
    Turn,
    Usage,
    digest,
    user,
)
from deltascale.report import files
from tests import archives, worlds
from tests.exports import HOSTILE, KEY, export, logs, made_in, on_record, plain, rows


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_in(tmp_path_factory.mktemp("study"))


# --- tables --------------------------------------------------------------------------------------


def test_the_rows_are_the_turns_on_record(directory: Path, tmp_path: Path) -> None:
    made, told = export(directory, tmp_path, "csv")
    found = rows(tmp_path / "turns.csv")
    expected = list(on_record(directory))
    assert made == {"turns.csv": len(expected), "items.csv": 29}
    assert not told
    outcomes = {turn.outcome for _, _, _, turn, _ in expected}
    assert outcomes == {"ok", "no_answer", "truncated", "refused", "failed"}
    assert any(text == HOSTILE for *_, text in expected)
    for row, (cell, item, epoch, turn, text) in zip(found, expected, strict=True):
        assert (row["model"], row["dataset"], row["protocol"]) == (
            cell.model, cell.dataset, cell.protocol,
        )  # fmt: skip
        assert float(row["temperature"]) == cell.temperature
        assert (row["item"], row["epoch"], row["turn"]) == (item, str(epoch), str(turn.turn))
        assert (row["outcome"], row["answer"]) == (turn.outcome, plain(turn.answer))
        assert row["score"] == ("" if turn.score is None else repr(turn.score))
        assert row["reply"] == plain(text)
        assert row["call"] == turn.call
        counted = [row[name] for name in ("n_calls", "tokens_in", "tokens_cached", "tokens_out")]
        assert counted == [
            str(n)
            for n in (turn.n_calls, turn.input_tokens, turn.cached_input_tokens, turn.output_tokens)
        ]
        assert round(float(row["cost_usd"]) * 1e9) == turn.cost_nusd
        assert row["regime"] == ("verdict" if cell.protocol == "oracle" else "nothing")
        assert row["parameters_source"] == row["provider"] == "simulated"


def test_sums_over_rows_are_the_deltas(directory: Path, tmp_path: Path) -> None:
    export(directory, tmp_path, "csv")
    by_cell: dict[tuple[str, ...], dict[tuple[str, str], list[dict[str, str]]]] = {}
    for row in rows(tmp_path / "turns.csv"):
        cell = (row["model"], row["dataset"], row["protocol"])
        by_cell.setdefault(cell, {}).setdefault((row["item"], row["epoch"]), []).append(row)
    deltas = rows(directory / "results" / "deltas.csv")
    assert len(deltas) == len(by_cell) == 12
    for one in deltas:
        samples = by_cell[one["model"], one["dataset"], one["protocol"]]
        every = [row for turns in samples.values() for row in turns]
        whole = [turns for turns in samples.values() if all(row["score"] for row in turns)]
        assert len(whole) == int(one["n_items"])
        assert len(samples) - len(whole) == int(one["n_missing"])
        for turn, name in ((0, "acc_first"), (-1, "acc_last")):
            mean = sum(float(turns[turn]["score"]) for turns in whole) / len(whole)
            assert mean == pytest.approx(float(one[name]))
        assert sum(float(row["cost_usd"]) for row in every) == pytest.approx(float(one["cost_usd"]))
        for name in ("tokens_in", "tokens_out"):
            assert sum(int(row[name]) for row in every) == int(one[name])
    assert any(int(one["n_missing"]) for one in deltas)


def test_parquet_is_the_same_table_with_its_types(directory: Path, tmp_path: Path) -> None:
    polars = pytest.importorskip("polars", reason="the extra `tables` is not installed")
    export(directory, tmp_path, "csv")
    assert export(directory, tmp_path, "parquet")[0].keys() == {"turns.parquet", "items.parquet"}
    for name in ("turns", "items"):
        table = polars.read_parquet(tmp_path / f"{name}.parquet")
        found = rows(tmp_path / f"{name}.csv")
        assert table.columns == list(found[0])
        for typed, row in zip(table.iter_rows(named=True), found, strict=True):
            shown = {column: "" if v is None else v for column, v in typed.items()}
            shown = {c: plain(v) if isinstance(v, str) else str(v) for c, v in shown.items()}
            assert shown == row
    table = polars.read_parquet(tmp_path / "turns.parquet")
    assert table["turn"].dtype == polars.Int64
    assert table["score"].dtype == table["parameters"].dtype == polars.Float64
    assert table["reply"].null_count(), "no reply"
    assert (table["reply"] == "").sum(), "is not an empty one"


def test_secondary_scores_and_counts_have_columns_of_their_own(tmp_path: Path) -> None:
    plan = worlds.plan([worlds.model()], n_items=2, names=("review",), turns=2)
    lock.write(tmp_path, lock.make(plan))
    turns = (
        Turn(0, "ok", "1", 1.0, {"f1": 0.25, "n_uses": 3.0}),
        Turn(1, "no_answer", None, 0.0, {"n_uses": 2.0, "n_bad": 1.0}),
    )
    with ledger.write(tmp_path / "ledger.db") as book:
        cell = next(plan.cells())
        book.keep_items("sums", plan.loaded[0].items)
        book.keep_cell(cell, n_items=2, n_epochs=1, n_turns=2)
        book.keep_sample(Sample(cell, plan.loaded[0].items[0], 0), turns)
    made, told = export(tmp_path, tmp_path / "export", "csv")
    assert made == {"turns.csv": 2, "items.csv": 2}, "what was not asked has no row"
    first, second = rows(tmp_path / "export" / "turns.csv")
    names = list(first)
    assert names[names.index("score") + 1 : names.index("n_calls")] == [
        "other_f1", "count_bad", "count_uses",
    ]  # fmt: skip
    assert (first["other_f1"], first["count_bad"], first["count_uses"]) == ("0.25", "", "3.0")
    assert (second["other_f1"], second["count_bad"], second["count_uses"]) == ("", "1.0", "2.0")
    assert "sums: targets are left empty" in told


def test_items_have_their_strata_and_targets(directory: Path, tmp_path: Path) -> None:
    export(directory, tmp_path, "csv")
    found = rows(tmp_path / "items.csv")
    assert list(found[0]) == ["dataset", "item", "stratum", "cluster", "unit", "target"]
    locked = lock.read(directory)
    assert locked is not None
    for name, dataset in locked.datasets.items():
        assert tuple(row["item"] for row in found if row["dataset"] == name) == dataset.ids
    assert all(row["target"] for row in found)
    assert {row["target"] for row in found if row["dataset"] == "mine"} == {
        str(3 * n + 100) for n in range(11, 35)
    }


def test_items_that_can_not_be_had_leave_their_targets_empty(
    directory: Path, tmp_path: Path
) -> None:
    export(directory, tmp_path / "before", "csv")
    own = directory.parent / "mine.csv"
    away = own.rename(own.with_suffix(".away"))
    try:
        _, told = export(directory, tmp_path / "after", "csv")
        _, again = export(directory, tmp_path / "after", "inspect")
        _, nothing = export(directory, tmp_path / "bare", "csv", text=False)
    finally:
        away.rename(own)
    assert told == again
    assert not nothing, "targets that are left out are not looked for"
    assert len(told.splitlines()) == 1
    assert told.startswith("mine: targets are left empty")
    before, after = (tmp_path / name / "turns.csv" for name in ("before", "after"))
    assert before.read_bytes() == after.read_bytes()
    targets = {row["dataset"]: row["target"] for row in rows(tmp_path / "after" / "items.csv")}
    assert not targets["mine"]
    assert targets["demo-sums"]
    for one in logs(tmp_path / "after"):
        for sample in one["samples"]:
            assert bool(sample["target"]) == (one["eval"]["dataset"]["name"] == "demo-sums")
            if sample["metadata"]["turns"][0].get("call"):
                assert "Compute" in sample["input"][0]["content"]


def test_nothing_is_downloaded(directory: Path, tmp_path: Path) -> None:
    locked = lock.read(directory)
    assert locked is not None
    with ledger.read(directory / "ledger.db") as book:
        found = exported.record(
            directory, book, locked, cache=Cache(tmp_path), environ={}, tell=print
        )
    assert found.cache.offline


def test_an_unpacked_pack_has_its_items(directory: Path, tmp_path: Path) -> None:
    pack = archives.packed(directory, tmp_path / "pack.zip")
    (tmp_path / "unpacked").mkdir()
    container.unpack(pack, tmp_path / "unpacked")
    _, told = export(tmp_path / "unpacked", tmp_path, "csv")
    assert not told
    assert all(row["target"] for row in rows(tmp_path / "items.csv"))


def test_without_text_there_is_none(directory: Path, tmp_path: Path) -> None:
    export(directory, tmp_path / "with", "csv")
    export(directory, tmp_path / "without", "csv", text=False)
    for name, gone in (("turns.csv", {"answer", "reply"}), ("items.csv", {"target"})):
        full, bare = rows(tmp_path / "with" / name), rows(tmp_path / "without" / name)
        assert bare == [{c: v for c, v in row.items() if c not in gone} for row in full]
    assert "HYPERLINK" not in (tmp_path / "without" / "turns.csv").read_text()


def test_keys_are_in_no_export(directory: Path, tmp_path: Path) -> None:
    pytest.importorskip("polars", reason="the extra `tables` is not installed")
    for to in ("csv", "parquet", "inspect"):
        export(directory, tmp_path, to)
    texts = [path.read_bytes() for path in tmp_path.rglob("*.*")]
    assert any(b"The key is [key]." in text for text in texts)
    assert not any(KEY.encode() in text for text in texts)


# --- files ---------------------------------------------------------------------------------------


def test_a_carriage_return_ends_no_row(tmp_path: Path) -> None:
    texts = ["a\rb", "\r", "a\r\nb", "a\nb", ' "a",b', "\x00", "'=1"]
    n = files.write_csv(tmp_path / "t.csv", ({"text": text, "n": 1} for text in texts))
    assert n == len(texts)
    back = [row["text"] for row in rows(tmp_path / "t.csv")]
    assert back == ["a\rb", "'\r", *texts[2:]]
    assert (tmp_path / "t.csv").read_bytes().startswith(b"text,n\n")


@pytest.mark.parametrize("to", ["csv", "parquet"])
def test_what_breaks_off_leaves_what_was_there(to: str, tmp_path: Path) -> None:
    if to == "parquet":
        pytest.importorskip("polars", reason="the extra `tables` is not installed")
    write = files.write_csv if to == "csv" else files.write_parquet

    def broken() -> Iterator[Mapping[str, int]]:
        yield {"n": 1}
        raise OSError(28, "No space left on device")

    path = tmp_path / f"t.{to}"
    path.write_text("before")
    with pytest.raises(OSError, match="No space"):
        write(path, broken(), columns={"n": int})
    assert path.read_text() == "before"
    assert [one.name for one in tmp_path.iterdir()] == [path.name]
    assert write(path, iter([]), columns={"n": int}) == 0
    assert path.read_bytes() != b"before"


@pytest.mark.parametrize("to", ["csv", "parquet"])
def test_a_full_disk_is_an_error_of_the_disk(to: str, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource", reason="no limits of a file's size here")
    if to == "parquet":
        pytest.importorskip("polars", reason="the extra `tables` is not installed")
    write = files.write_csv if to == "csv" else files.write_parquet
    rows = [{"text": str(n) * 500} for n in range(2000)]
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            write(tmp_path / "t", iter(rows), columns={"text": str})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """3,000 turns of 4 kB each."""
    folder = tmp_path_factory.mktemp("long")
    plan = worlds.plan([worlds.model()], n_items=100, names=("review",), turns=2, epochs=15)
    lock.write(folder, lock.make(plan))
    cell = next(plan.cells())

    async def keep() -> None:
        kept = []
        before = Turn(0, "ok")
        for n in range(3000):
            request = Request("toy", "x", Params(9), (user("q"),), epoch=n // 200, draw=n % 200)
            reply = Reply(f"{n} " + "word " * 830, "stop", Usage(1, 1))
            kept.append(book.keep_reply(digest(request), request, reply, 5))
            if n % 2:
                turns = (before, Turn(1, "ok", "1", 1.0, call=digest(request).hex()))
                book.keep_sample(Sample(cell, plan.loaded[0].items[n % 200 // 2], n // 200), turns)
            before = Turn(0, "ok", "0", 0.0, call=digest(request).hex())
        await asyncio.gather(*kept)

    with ledger.write(folder / "ledger.db") as book:
        book.keep_items("sums", plan.loaded[0].items)
        book.keep_cell(cell, n_items=100, n_epochs=15, n_turns=2)
        asyncio.run(keep())
    return folder


@pytest.mark.parametrize(
    "to", ["csv", *(pytest.param(to, marks=pytest.mark.slow) for to in ("parquet", "inspect"))]
)
def test_memory_does_not_grow_with_the_study(
    long: Path, to: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if to == "parquet":
        pytest.importorskip("polars", reason="the extra `tables` is not installed")
    monkeypatch.setattr(files, "_ROWS_AT_ONCE", 128)
    tracemalloc.start()
    try:
        made, _ = export(long, tmp_path, to)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert next(iter(made.values())) == (1500 if to == "inspect" else 3000)
    written = sum(path.stat().st_size for path in tmp_path.rglob("*.*"))
    assert to == "parquet" or written > 12_000_000
    assert peak < 6_000_000


# --- the command ---------------------------------------------------------------------------------


def test_the_command_names_each_file_with_its_rows(directory: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(
        cli, ["export", str(directory), "--to", "csv", "--out", str(tmp_path / "here")]
    )
    assert done.exit_code == 0, done.output
    n = len(list(on_record(directory)))
    assert f"{tmp_path / 'here' / 'turns.csv'}: {n:,} rows" in done.output
    assert f"{tmp_path / 'here' / 'items.csv'}: 29 rows" in done.output


def test_the_default_place_is_in_the_directory(tmp_path: Path) -> None:
    directory = archives.had(archives.simulated(protocols=("review",)), tmp_path / "study")
    done = CliRunner().invoke(cli, ["export", str(directory), "--to", "inspect"])
    assert done.exit_code == 0, done.output
    (made,) = (directory / "export" / "inspect").iterdir()
    assert done.output == f"{made}: 4 samples\n"


def test_mistakes_are_one_line(
    directory: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    empty = tmp_path / "empty"
    with ledger.write(empty / "ledger.db"):
        lock.write(empty, lock.make(worlds.plan([worlds.model()])))
    (tmp_path / "file").write_text("")
    place = str(tmp_path / "file" / "export")
    monkeypatch.setitem(sys.modules, "polars", None)
    for arguments, says in (
        ([str(tmp_path / "nowhere"), "--to", "csv"], "there is no study here"),
        ([str(empty), "--to", "csv"], "nothing is on record yet"),
        ([str(directory), "--to", "csv", "--out", place], "choose another place with --out"),
        ([str(directory), "--to", "inspect", "--out", place], "choose another place with --out"),
        ([str(directory), "--to", "parquet", "--out", str(tmp_path)], "deltascale[tables]"),
        ([str(directory), "--to", "inspect", "--without-text"], "--without-text"),
        ([str(directory), "--to", "xml"], "parquet"),
    ):
        monkeypatch.setattr(sys, "argv", ["deltascale", "export", *arguments])
        with pytest.raises(SystemExit) as ended:
            command_line()
        said = capsys.readouterr()
        assert ended.value.code == 2
        assert says in said.err
        assert len(said.err.strip().splitlines()) == 1, said.err
    assert not list(tmp_path.glob("turns.*"))
    assert not list(tmp_path.glob(".parts-*"))
