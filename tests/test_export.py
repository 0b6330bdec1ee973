"""What is exported is what is on record: every turn a row, every cell a log; nothing secret."""

from __future__ import annotations

import asyncio
import csv
import json
import os
import subprocess
import sys
import tracemalloc
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner
from msgspec.structs import replace

from deltascale import assess, ledger
from deltascale.archive import container, inspect_log, lock
from deltascale.archive import export as exported
from deltascale.cli import cli
from deltascale.cli import main as command_line
from deltascale.datasets import Cache
from deltascale.providers import CallFailed
from deltascale.providers.simulated import _reply
from deltascale.records import (
    Cell,
    DatasetSpec,
    Failure,
    Message,
    Params,
    Reply,
    Request,
    Sample,
    Tool,
    ToolCall,
    Turn,
    Usage,
    digest,
    user,
)
from deltascale.report import files
from tests import archives, worlds

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


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study with every outcome, two epochs and three turns, of a file that can be taken away."""
    folder = tmp_path_factory.mktemp("study")
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


# --- logs ----------------------------------------------------------------------------------------


def logs(place: Path) -> list[dict]:  # type: ignore[type-arg]  # JSON as it was written
    return [json.loads(path.read_text()) for path in sorted((place / "inspect").glob("*.json"))]


def test_a_log_a_cell_with_every_sample(directory: Path, tmp_path: Path) -> None:
    made, _ = export(directory, tmp_path, "inspect")
    assert len(made) == 12
    deltas = {
        (one["model"], one["dataset"], one["protocol"]): one
        for one in rows(directory / "results" / "deltas.csv")
    }
    with ledger.read(directory / "ledger.db") as book:
        planned = {one.cell.id: one for one in book.cells()}
        for one in logs(tmp_path):
            cell = planned[one["eval"]["eval_id"]].cell
            row = deltas[cell.model, cell.dataset, cell.protocol]
            assert (one["eval"]["model"], one["status"]) == (cell.model, "success")
            assert one["results"]["total_samples"] == len(one["samples"])
            assert one["results"]["completed_samples"] == int(row["n_items"])
            scores = one["results"]["scores"]
            assert [score["name"] for score in scores] == ["last", "first", "turn_1"]
            for score, name in zip(scores, ("acc_last", "acc_first"), strict=False):
                value = score["metrics"]["accuracy"]["value"]
                assert value == pytest.approx(float(row[name]))
            used = one["stats"]["model_usage"][cell.model]
            assert used["total_cost"] == pytest.approx(float(row["cost_usd"]))
            assert used["total_tokens"] == int(row["tokens_in"]) + int(row["tokens_out"])
            assert used["input_tokens_cache_read"] > 0
            assert used["input_tokens"] + used["input_tokens_cache_read"] == int(row["tokens_in"])
            tags = ["upper bound (oracle)"] if cell.protocol == "oracle" else []
            assert one["eval"]["tags"] == tags
            for sample, (item, epoch, turns) in zip(
                one["samples"], book.samples(cell), strict=True
            ):
                assert (sample["id"], sample["epoch"]) == (item, epoch + 1)
                check_sample(sample, turns)


def check_sample(sample: Mapping[str, dict], turns: tuple[Turn, ...]) -> None:  # type: ignore[type-arg]
    scores = {name: score["value"] for name, score in sample["scores"].items()}
    named = {"last": turns[-1], "first": turns[0], "turn_1": turns[1]}
    known = {name: turn.score for name, turn in named.items() if turn.score is not None}
    assert scores == known
    assert list(scores) == list(known), "the first score is the one that Inspect shows"
    missing = any(turn.score is None for turn in turns)
    assert bool(sample.get("error")) == missing
    marked = [one["metadata"]["turn"] for one in sample["messages"] if one.get("metadata")]
    calls = [turn.call for turn in turns if turn.call]
    assert len(marked) == len(set(calls)), "each reply comes once"
    if calls and calls[-1] == turns[-1].call:
        assert len(sample["output"]["choices"]) == 1


def test_a_correction_goes_on_and_a_new_draw_begins_afresh(directory: Path, tmp_path: Path) -> None:
    export(directory, tmp_path, "inspect")
    roles = {}
    for one in logs(tmp_path):
        for sample in one["samples"]:
            if not sample.get("error") and len(sample["messages"]) == 6:
                said = [message["content"] for message in sample["messages"] if
                        message["role"] == "user"]  # fmt: skip
                roles.setdefault(one["eval"]["solver"], set()).add(len(set(said)))
    assert roles["resample"] == {1}, "the question again"
    assert roles["review"] == {2}, "the question and the request to review"


TOOL = Tool("lookup", "Looks a name up.", '{"type":"object"}')


def test_tools_that_were_used_are_shown(tmp_path: Path) -> None:
    plan = worlds.plan([worlds.model()], n_items=1, names=("review",), turns=1)
    cell, item = next(plan.cells()), plan.loaded[0].items[0]
    good, bad = ToolCall("c1", "lookup", '{"name": "x"}'), ToolCall("c2", "lookup", "[1")
    messages = (
        Message("system", "Be brief."),
        *item.question.messages,
        Message("assistant", "", (good,)),
        Message("tool", "x is 3", tool_call_id="c1"),
        Message("assistant", "again", (bad,)),
        Message("tool", "no", tool_call_id="c2"),
    )
    request = Request("toy", "x", Params(9), messages, (TOOL,))
    reply = Reply("So it is\n#### 3", "stop", Usage(40, 5))
    lock.write(tmp_path, lock.make(plan))
    with ledger.write(tmp_path / "ledger.db") as book:
        book.keep_items("sums", (item,))
        book.keep_cell(cell, n_items=1, n_epochs=1, n_turns=1)
        asyncio.run(book.keep_reply(digest(request), request, reply, 7))
        turn = Turn(0, "ok", "3", 1.0, {"n_uses": 2.0}, digest(request).hex(), 3, 40, 0, 5, 7)
        book.keep_sample(Sample(cell, item, 0), (turn,))
    export(tmp_path, tmp_path / "export", "csv")
    (row,) = rows(tmp_path / "export" / "turns.csv")
    assert (row["reply"], row["n_calls"], row["count_uses"]) == (reply.text, "3", "2.0")
    export(tmp_path, tmp_path / "export", "inspect")
    (one,) = logs(tmp_path / "export")
    _, _, first, seen, second, _, last = one["samples"][0]["messages"]
    assert first["tool_calls"] == [{"id": "c1", "function": "lookup", "arguments": {"name": "x"}}]
    assert (seen["tool_call_id"], seen["function"]) == ("c1", "lookup")
    assert second["tool_calls"][0]["arguments"] == {}
    assert "[1" in second["tool_calls"][0]["parse_error"]
    assert last["content"] == reply.text
    said = read_by_inspect(tmp_path / "export")
    assert said[0]["tools"] == [["lookup", {"name": "x"}], ["lookup", {}]]


SCRIPT = """\
import json, sys
from pathlib import Path
from inspect_ai.log import list_eval_logs, read_eval_log, read_eval_log_sample_summaries
found = []
for path in sorted(Path(sys.argv[1]).glob("*.json")):
    log, head = read_eval_log(str(path)), read_eval_log(str(path), header_only=True)
    assert head.results == log.results and head.eval == log.eval
    assert len(read_eval_log_sample_summaries(str(path))) == len(log.samples)
    found.append({
        "id": log.eval.eval_id,
        "created": log.eval.created,
        "accuracy": {one.name: one.metrics["accuracy"].value for one in log.results.scores},
        "n_errors": sum(one.error is not None for one in log.samples),
        "samples": [
            [one.id, one.epoch, one.target, {name: score.as_float() for name, score
             in one.scores.items()}, one.output.completion] for one in log.samples
        ],
        "tools": [[call.function, call.arguments] for one in log.samples for said in one.messages
                  if said.role == "assistant" for call in said.tool_calls or ()],
    })
assert len(list_eval_logs(sys.argv[1])) == len(found)
print(json.dumps(found))
"""


def read_by_inspect(place: Path) -> list[dict]:  # type: ignore[type-arg]
    """What Inspect AI reads of the logs. Skips the test where there is none to be had."""
    for python in (sys.executable, os.environ.get("DELTASCALE_BENCH_PYTHON")):
        command = [python or "", "-c"]
        if (
            not python
            or subprocess.run([*command, "import inspect_ai"], capture_output=True).returncode
        ):
            continue
        done = subprocess.run(
            [*command, SCRIPT, str(place / "inspect")], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)  # type: ignore[no-any-return]
    pytest.skip(
        "Inspect AI is not installed; DELTASCALE_BENCH_PYTHON may name a Python that has it"
    )


def test_inspect_reads_the_logs(directory: Path, tmp_path: Path) -> None:
    export(directory, tmp_path, "inspect")
    said = {one["id"]: one for one in read_by_inspect(tmp_path)}
    for row in rows(directory / "results" / "deltas.csv"):
        cell = Cell(row["model"], row["dataset"], row["protocol"], float(row["temperature"]))
        one = said.pop(cell.id)
        assert one["accuracy"]["last"] == pytest.approx(float(row["acc_last"]))
        assert one["accuracy"]["first"] == pytest.approx(float(row["acc_first"]))
        assert one["n_errors"] == int(row["n_missing"])
        known = {
            (item, epoch, turn.turn): (turn.score, text)
            for found, item, epoch, turn, text in on_record(directory)
            if found == cell
        }
        for item, epoch, target, scores, completion in one["samples"]:
            assert target
            assert scores.get("first") == known[item, epoch - 1, 0][0]
            assert scores.get("last") == known[item, epoch - 1, 2][0]
            assert completion == plain(known[item, epoch - 1, 2][1]).lstrip("'")
    assert not said


def test_a_study_under_way_says_so(directory: Path, tmp_path: Path) -> None:
    with ledger.read(directory / "ledger.db") as book:
        planned = book.cells()[0]
        locked = lock.read(directory)
        assert locked is not None
        found = exported.record(
            directory, book, locked, cache=Cache(tmp_path), environ={}, tell=print
        )
        more = replace(planned, n_items=planned.n_items + 1)
        book.cells = lambda: (more,)  # type: ignore[method-assign]
        ((path, _),) = inspect_log.write(found, tmp_path)
    assert json.loads(path.read_text())["status"] == "cancelled"


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
