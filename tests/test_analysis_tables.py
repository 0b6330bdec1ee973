"""The tables in `results/`: their columns, the same bytes every time, and the canary."""

from __future__ import annotations

import csv
import itertools
import json
import sys
from pathlib import Path

import msgspec
import pytest

from deltascale import analysis, frame, ledger
from deltascale.analysis import Results, Settings, arms
from deltascale.records import Reply, Request, Usage
from deltascale.report import tables
from tests import worlds
from tests.test_simulated import demo_plan

QUICK = Settings(replicates=200)
FINDING = (
    "model,dataset,protocol,temperature,quantity,versus,value,ci_low,ci_high,level,unit,n,"
    "n_missing,mc_se,estimand,method,note,p_value,p_adjusted,adjusted_by,family,family_size,"
    "family_excluded"
)
FIRST_COLUMNS = {
    "deltas": "model,parameters,parameters_source,provider,dataset,protocol,regime,temperature,"
    "turns,n_items,n_missing,acc_first,acc_last,delta,ci_low,ci_high,fixed,broken,p_value,p_holm,"
    "no_answer_first,no_answer_last,truncated_first,truncated_last,cost_usd,cost_extra_usd,"
    "tokens_in,tokens_out",
    "turns": "model,dataset,protocol,temperature,turn,n_items,n_missing,accuracy,accuracy_low",
    "flips": FINDING,
    "contrasts": FINDING,
    "scaling": "dataset,protocol,temperature,form,n_models,c,c_low,c_high",
    "predictions": "dataset,protocol,temperature,form,parameters,delta,delta_low,delta_high",
    "costs": FINDING,
    "frontier": "dataset,model,protocol,temperature,cost_usd,cost_usd_low,cost_usd_high,accuracy",
    "benchmarks": "model,dataset,protocol,temperature,part,metric,first,first_low,first_high,last",
    "thresholds": FINDING,
    "sensitivity": FINDING,
    "generalisation": FINDING,
    "warnings": "weight,means,code,about,text",
    "claims": "protocol,temperature,rung,claim,next_needs,cost",
}


def analysed(path: Path, plan: worlds.Plan, settings: Settings = QUICK) -> Results:
    with ledger.read(path) as book:
        return analysis.analyse(frame.load(book), plan.study, spent=book.spent(), settings=settings)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, worlds.Plan]:
    import asyncio

    from deltascale import engine
    from deltascale.engine import Progress

    plan = demo_plan(seed=1, items=12)
    path = tmp_path_factory.mktemp("demo") / "ledger.db"

    async def scenario() -> None:
        with ledger.write(path) as book:
            await engine.run(
                plan, book, environ={}, stop=asyncio.Event(), progress=Progress(), seed=0
            )

    asyncio.run(scenario())
    return path, plan


@pytest.fixture(scope="module")
def found(demo: tuple[Path, worlds.Plan]) -> Results:
    return analysed(*demo)


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_table_is_there_with_its_columns_and_the_same_bytes_again(
    demo: tuple[Path, worlds.Plan], found: Results, tmp_path: Path
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for folder, results in ((one, found), (two, analysed(*demo))):
        assert tables.write_results(folder, results) == ""
    for name, columns in FIRST_COLUMNS.items():
        text = (one / f"{name}.csv").read_text()
        assert text.startswith(columns), name
    names = sorted(path.name for path in one.iterdir())
    assert names == sorted(
        [f"{n}.{e}" for n in FIRST_COLUMNS for e in ("csv", "parquet")] + ["settings.json"]
    )
    for name in names:
        assert (one / name).read_bytes() == (two / name).read_bytes(), name
    kept = json.loads((one / "settings.json").read_text())
    assert kept["settings"]["seed"] == 0
    assert kept["settings"]["replicates"] == 200


def test_parquet_holds_what_csv_holds(found: Results, tmp_path: Path) -> None:
    polars = pytest.importorskip("polars")
    tables.write_results(tmp_path, found)
    for name in FIRST_COLUMNS:
        rows = read(tmp_path / f"{name}.csv")
        table = polars.read_parquet(tmp_path / f"{name}.parquet")
        assert table.height == len(rows), name
        for kept, row in zip(table.iter_rows(named=True), rows, strict=True):
            for column, text in row.items():
                value = kept[column]
                if value is None or isinstance(value, str):
                    assert text.removeprefix("'") == (value or ""), (name, column)
                elif isinstance(value, bool):
                    assert text == str(value)
                else:
                    assert float(text) == value, (name, column)


def test_without_the_extra_there_is_csv_and_one_line(
    found: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "polars", None)
    said = tables.write_results(tmp_path, found)
    assert "deltascale[tables]" in said
    assert not list(tmp_path.glob("*.parquet"))
    assert len(list(tmp_path.glob("*.csv"))) == len(FIRST_COLUMNS)


def test_every_estimate_says_what_it_is(found: Results, tmp_path: Path) -> None:
    tables.write_results(tmp_path, found)
    for name, columns in FIRST_COLUMNS.items():
        for row in read(tmp_path / f"{name}.csv") if columns == FINDING else ():
            if row["quantity"] in ("paid", "as_deployed", "saved_by_sharing", "energy",
                                   "emissions"):  # fmt: skip
                continue
            assert row["estimand"][:3] in ("E1:", "E2:"), row
            if row["value"] == "" and row["ci_low"] == row["ci_high"] == "":
                assert row["note"], row
            if row["value"] and row["ci_low"] and row["ci_high"]:
                low, value, high = (float(row[c]) for c in ("ci_low", "value", "ci_high"))
                if "set:" not in row["note"]:
                    assert low - 1e-9 <= value <= high + 1e-9, row


def test_every_turn_says_what_its_intervals_are(found: Results, tmp_path: Path) -> None:
    tables.write_results(tmp_path, found)
    for row in read(tmp_path / "turns.csv"):
        assert row["accuracy_method"] == "Wilson", row
        assert row["delta_method"] == "Tango", row
        assert row["level"] == "0.95", row
        assert row["estimand"].startswith("E1:"), row
        assert row["delta_n"] == row["n_items"], row


def test_an_empty_table_keeps_its_header(tmp_path: Path) -> None:
    plan = worlds.plan([worlds.model()], n_items=3, names=("oracle",))
    worlds.run(plan, tmp_path / "ledger.db", call=worlds.reply)
    tables.write_results(tmp_path, analysed(tmp_path / "ledger.db", plan))
    assert (tmp_path / "contrasts.csv").read_text().strip() == FINDING
    assert read(tmp_path / "predictions.csv") == []


# --- the canary ----------------------------------------------------------------------------------


def error_text(number: int) -> str:
    """What a client prints of a failed request, and a careless harness keeps as an answer."""
    return (
        "PROVIDER_API_ERROR: Error code: 404 - {'type': 'error', 'error': {'type': "
        f"'not_found_error', 'message': 'model: old'}}, 'request_id': 'req_{number}'}}"
        f"\n#### {number}"
    )


@pytest.mark.parametrize("identical", [False, True])
def test_a_cell_of_error_strings_has_no_accuracy_by_any_route(
    tmp_path: Path, identical: bool
) -> None:
    numbers = itertools.count(3)

    async def broken(request: Request) -> Reply:
        if request.model != "broken":
            return await worlds.reply(request)
        text = "The service is over capacity. #### 30" if identical else error_text(next(numbers))
        return Reply(text, "stop", Usage(10, 10))

    plan = worlds.plan([worlds.model("broken"), worlds.model("good")], n_items=20)
    path = tmp_path / "ledger.db"
    worlds.run(plan, path, call=broken)
    found = analysed(path, plan)
    tables.write_results(tmp_path, found)
    said = [one for one in found.warnings if one.code == "replies_are_no_answers"]
    assert len(said) == 5, "every protocol's cell"
    assert {one.weight for one in said} == {0}
    for row in read(tmp_path / "deltas.csv"):
        if row["model"] == "openai/broken":
            values = {row[c] for c in ("acc_first", "acc_last", "delta", "ci_low", "p_value",
                                       "delta_worst", "fixed", "no_effect")}  # fmt: skip
            assert values <= {"", "0", "False"}, row
            assert row["withheld"]
        else:
            assert row["delta"]
    for row in read(tmp_path / "turns.csv"):
        assert (row["accuracy"] == "") == (row["model"] == "openai/broken")
    for name in ("flips", "contrasts", "frontier", "sensitivity"):
        rows = read(tmp_path / f"{name}.csv")
        assert rows
        assert not [r for r in rows if "openai/broken" in (r["model"], r.get("versus"))], name
    costs = [r for r in read(tmp_path / "costs.csv") if r["model"] == "openai/broken"]
    money = {"paid", "as_deployed", "saved_by_sharing"}
    assert {r["quantity"] for r in costs} == money, "error strings were paid for, and no more"


def test_a_constant_guess_among_options_is_an_answer(tmp_path: Path) -> None:
    async def guesses(_: Request) -> Reply:
        return Reply("After some thought I am sure of it.\n#### 3", "stop", Usage(10, 10))

    plan = worlds.plan([worlds.model()], n_items=20, names=("review",))
    # Half of the items have the answer that is always given.
    items = tuple(
        item if number % 2 else type(item)(item.id, item.question, "3")
        for number, item in enumerate(plan.loaded[0].items)
    )
    from dataclasses import replace

    plan = replace(plan, loaded=(replace(plan.loaded[0], items=items),))
    worlds.run(plan, tmp_path / "ledger.db", call=guesses)
    found = analysed(tmp_path / "ledger.db", plan)
    assert found.cells[0].withheld == ""
    assert found.cells[0].first.value == pytest.approx(0.5, abs=0.06)
    assert "one_reply" in {one.code for one in found.warnings}


def test_tokens_from_a_cache_are_told_apart(tmp_path: Path) -> None:
    async def call(request: Request) -> Reply:
        made = await worlds.reply(request)
        assert made.usage is not None
        used = msgspec.structs.replace(made.usage, cached_input_tokens=2)
        return msgspec.structs.replace(made, usage=used)

    plan = worlds.plan([worlds.model()], names=("review",), n_items=5, turns=2)
    worlds.run(plan, tmp_path / "ledger.db", call=call)
    rows = list(tables.turn_rows(analysed(tmp_path / "ledger.db", plan).turns))
    assert [row["tokens_cached"] for row in rows] == [2 * 5, 2 * 5]


def test_a_text_counts_once_an_item_however_many_epochs_it_came_in(tmp_path: Path) -> None:
    async def same(_: Request) -> Reply:
        return Reply("#### 3", "stop", Usage(10, 10))

    plan = worlds.plan([worlds.model()], n_items=11, names=("review",), turns=2, epochs=2)
    worlds.run(plan, tmp_path / "ledger.db", call=same)
    with ledger.read(tmp_path / "ledger.db") as book:
        (of_cell,) = frame.load(book)
    found = arms.repeated(of_cell, 0, 0, of_cell.planned_CIE[0])
    assert found == (11, 11, pytest.approx(1 / 11), True)
