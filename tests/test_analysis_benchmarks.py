"""Scores as benchmarks define them: from a ledger the same as from the answers themselves."""

from __future__ import annotations

import csv
import hashlib
import json
import math
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from deltascale import analysis, assess, ledger, scorers
from deltascale.analysis import Results
from deltascale.datasets import Cache, load
from deltascale.records import DatasetSpec, Item, Reply, Request, Study, Usage
from deltascale.scorers import benchmark
from tests import archives

N = 24
"""Items of each task."""
LABELS = ("entailment", "contradiction", "neutral")


def written(folder: Path) -> Path:
    """Three tasks in the release's layout, with made-up texts."""
    rows: dict[str, list[dict[str, object]]] = {"BoolQ": [], "CB": [], "MultiRC": []}
    for n in range(N):
        rows["BoolQ"].append(
            {"idx": n, "passage": f"p{n}", "question": f"is it {n}", "label": n % 3 == 0}
        )
        rows["CB"].append(
            {"idx": n, "premise": f"p{n}", "hypothesis": f"h{n}", "label": LABELS[n % 3]}
        )
        answers = [{"idx": k, "text": f"a{k}", "label": int((n + k) % 2)} for k in range(3)]
        question = {"idx": n, "question": f"which {n}?", "answers": answers}
        rows["MultiRC"].append(
            {
                "idx": n // 2,
                "passage": {"text": f"p{n // 2}", "questions": [question]},
            }
        )
    for task, lines in rows.items():
        place = folder / task / "val.jsonl"
        place.parent.mkdir(parents=True)
        place.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    return folder


def mathbench(folder: Path) -> Path:
    """The release's layout, with made-up choices everywhere that choices belong."""
    from deltascale.datasets import mathbench

    for file in mathbench.FILES:
        place = folder / f"{file}.jsonl"
        place.parent.mkdir(parents=True, exist_ok=True)
        one: dict[str, object] = {"question": f"{file}?", "answer": "7"}
        if "choice" in file:
            one |= {"answer": "B", "options": ["1", "2", "3", "4"]}
        lines = [one | {"question": f"{file} {n}?"} for n in range(4)]
        place.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    return folder


def drawn(request: Request) -> int:
    said = "\n".join(f"{one.role}: {one.content}" for one in request.messages)
    return hashlib.sha256(f"{said} {request.draw} {request.epoch}".encode()).digest()[0]


async def talker(request: Request) -> Reply:
    """Any of the answers that are asked for, or none, or a cut reply."""
    asked = request.messages[0].content
    known = [
        ("yes", "no") if '"Answer: yes"' in asked else
        ("true", "false", "neither") if '"Answer: neither"' in asked else
        ("1", "1,3", "2", "0") if "numbers of all" in asked else
        ("A", "B", "C", "D")
    ][0]  # fmt: skip
    x = drawn(request)
    text = "I can't say." if x < 30 else f"Well.\nAnswer: {known[x % len(known)]}"
    return Reply(text, "length" if x > 240 else "stop", Usage(9, 9), model_served="toy")


def study(name: str, options: dict[str, str]) -> Study:
    made = archives.simulated(protocols=("review", "oracle"), items=1000)
    return replace(made, datasets=(DatasetSpec(name, options=options),))


@pytest.fixture(scope="module")
def superglue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("superglue")
    options = {"path": str(written(folder / "data")), "tasks": "BoolQ,CB,MultiRC"}
    return archives.had(study("superglue", options), folder / "study", call=talker)


def answers(directory: Path, turn: int) -> list[tuple[Item, str | None]]:
    found, _ = assess.frames(directory)
    (spec,) = found.datasets
    items = load(spec, items=None, seed=found.seed, cache=Cache(directory)).items
    with ledger.read(directory / "ledger.db") as book:
        (planned,) = [one for one in book.cells() if one.cell.protocol == "review"]
        said = {at: one for at, _, one in book.turns(planned.cell) if one.turn == turn}
    return [(items[at], one.answer) for at, one in said.items()]


def table(directory: Path) -> dict[tuple[str, str], dict[str, str]]:
    with (directory / "results" / "benchmarks.csv").open(newline="") as file:
        return {
            (row["part"], row["metric"]): row
            for row in csv.DictReader(file)
            if row["protocol"] == "review"
        }


def test_the_table_holds_what_the_answers_give(superglue: Path) -> None:
    rows = table(superglue)
    assert ("", "mean of 3 tasks") in rows
    for turn, column in ((0, "first"), (1, "last")):
        expected = benchmark.scores(scorers.find("superglue"), answers(superglue, turn))
        assert set(expected) == set(rows)
        for name, value in expected.items():
            assert float(rows[name][column]) == pytest.approx(value, abs=1e-12), (name, column)
    for name, row in rows.items():
        low, value, high = (float(row[c]) for c in ("first_low", "first", "first_high"))
        assert low <= value <= high, name
        assert float(row["delta"]) == pytest.approx(float(row["last"]) - float(row["first"]))
    assert rows["CB", "macro-F1"]["n"] == str(N)


def test_multirc_asked_option_by_option_is_scored_by_question(tmp_path: Path) -> None:
    options = {"path": str(written(tmp_path / "data")), "multirc": "options"}
    directory = archives.had(study("superglue-multirc", options), tmp_path / "study", call=talker)
    said = answers(directory, 1)
    assert len(said) == 3 * N
    rows = table(directory)
    expected = benchmark.scores(scorers.find("superglue"), said)
    assert {name: float(row["last"]) for name, row in rows.items()} == pytest.approx(expected)
    whole: dict[str, bool] = {}
    for item, answer in said:
        unit = item.meta["unit"]
        whole[unit] = whole.get(unit, True) and answer == item.target
    assert expected["MultiRC", "EM"] == pytest.approx(sum(whole.values()) / N)
    drawn_together = load(
        DatasetSpec("superglue-multirc", options=options), items=5, seed=0, cache=Cache(tmp_path)
    )
    assert len(drawn_together.items) == 15


def test_circular_evaluation_groups_a_questions_rotations(tmp_path: Path) -> None:
    options = {"path": str(mathbench(tmp_path / "data")), "circular": "4"}
    directory = archives.had(study("mathbench", options), tmp_path / "study", call=talker)
    rows = table(directory)
    expected = benchmark.scores(scorers.find("mathbench"), answers(directory, 1))
    assert {name: float(row["last"]) for name, row in rows.items()} == pytest.approx(expected)
    assert ("", "circular evaluation, mean of both parts") in rows
    assert ("", "prior none") in rows


def test_a_pack_without_the_texts_gives_the_same_table(superglue: Path, tmp_path: Path) -> None:
    """What benchmarks' own scores need is numbers, so they can be had again without any text."""
    pack = archives.packed(superglue, tmp_path / "bare.zip", without_text=True)
    report = archives.proved(pack)
    assert report.holds, [one for one in report.checks if one.state == "failed"]
    assert "left out" in archives.contents(pack, tmp_path)


def test_strata_weigh_up_to_the_accuracy(superglue: Path) -> None:
    found, frames = assess.frames(superglue)
    own = replace(found, datasets=(replace(found.datasets[0], scorer="exact"),))
    results: Results = analysis.analyse(frames, own, settings=archives.FEW)
    cell = next(one for one in results.cells if one.cell.protocol == "review")
    parts = [one for one in results.benchmarks if one.cell == cell.cell]
    assert {one.part for one in parts} == {"BoolQ", "CB", "MultiRC"}
    for end in ("first", "last", "delta"):
        whole = getattr(cell, end).value
        n = [getattr(one, end).n for one in parts]
        mean = np.average([getattr(one, end).value for one in parts], weights=n)
        assert mean == pytest.approx(whole)
        assert sum(n) == cell.delta.n


def test_too_few_items_have_no_interval(tmp_path: Path) -> None:
    options = {"path": str(mathbench(tmp_path / "data"))}
    directory = archives.had(study("mathbench", options), tmp_path / "study", call=talker)
    row = table(directory)["arithmetic/cloze_en", "accuracy"]
    assert (row["n"], row["delta_low"], row["note"]) == ("4", "", "too few units for an interval")
    assert math.isfinite(float(row["delta"]))
