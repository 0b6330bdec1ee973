"""A log a cell, as Inspect AI reads it: what is in it is what is on record."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from msgspec.structs import replace

from deltascale import ledger
from deltascale.archive import export as exported
from deltascale.archive import inspect_log, lock
from deltascale.datasets import Cache
from deltascale.records import (
    Cell,
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
)
from tests import worlds
from tests.exports import export, logs, made_in, on_record, plain, rows


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_in(tmp_path_factory.mktemp("study"))


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
