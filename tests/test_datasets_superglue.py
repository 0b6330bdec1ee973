"""SuperGLUE's validation sets as they are published (ReCoRD: a sample)."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from deltascale import scorers
from deltascale.datasets import Cache, find, load, subsets, superglue
from deltascale.errors import DatasetMistake
from deltascale.records import DatasetSpec, Item

SHARED = Path(__file__).resolve().parents[1] / ".." / "shared" / "data"
FOLDER = SHARED / "superglue"
SEVEN = "BoolQ,CB,COPA,MultiRC,RTE,WiC,WSC"


@pytest.fixture(scope="module")
def items() -> dict[str, Item]:
    """The seven tasks that are there whole, and two genuine queries of ReCoRD."""
    if not FOLDER.exists():
        pytest.skip("the shared SuperGLUE files are not beside this checkout")
    spec = DatasetSpec("superglue", options={"path": str(FOLDER), "tasks": SEVEN})
    found = load(spec, items=None, seed=0, cache=Cache(FOLDER, offline=True)).items
    record = (FOLDER / "ReCoRD" / "val_genuine2.jsonl").read_text(encoding="utf-8")
    return {item.id: item for item in (*found, *superglue.parse("ReCoRD", record, spec))}


def of(items: dict[str, Item], task: str) -> list[Item]:
    return [item for item in items.values() if item.stratum == task]


def test_counts_and_labels_are_the_published_ones(items: dict[str, Item]) -> None:
    for task in SEVEN.split(","):
        assert len(of(items, task)) == superglue.TASKS[task].n_items
    targets = {task: Counter(item.target for item in of(items, task)) for task in SEVEN.split(",")}
    assert targets["BoolQ"] == {"yes": 2033, "no": 1237}
    assert targets["CB"] == {"false": 28, "true": 23, "neither": 5}
    assert targets["COPA"] == {"A": 55, "B": 45}
    assert targets["RTE"] == {"true": 146, "false": 131}
    assert targets["WiC"] == {"yes": 319, "no": 319}
    assert targets["WSC"] == {"no": 66, "yes": 38}
    assert targets["MultiRC"]["0"] == 3
    options = [item.question.choices for item in of(items, "MultiRC")]
    n_right = sum(len(t.split(",")) * n for t, n in targets["MultiRC"].items() if t != "0")
    assert n_right == 2075
    assert sum(map(len, options)) - n_right == 2773
    assert max(map(len, options)) == 14


def test_a_gold_written_as_asked_is_right(items: dict[str, Item]) -> None:
    scorer = scorers.find("superglue")
    for item in items.values():
        for reply in (f"I think so.\nAnswer: {item.target}", f"**Answer:** {item.target}."):
            answer = scorer.extract(item.question, reply)
            assert answer is not None, item.id
            assert scorer.judge(item, answer, reply).value == 1.0, item.id


def test_the_question_ends_in_the_format_and_shows_its_options(items: dict[str, Item]) -> None:
    for item in items.values():
        (message,) = item.question.messages
        assert message.content.endswith(item.question.answer_format)
        if item.stratum in {"COPA", "MultiRC", "ReCoRD"}:
            assert all(option in message.content for option in item.question.choices)


def test_items_of_one_passage_share_a_cluster(items: dict[str, Item]) -> None:
    def n_clusters(task: str) -> int:
        return len({item.cluster or item.id for item in of(items, task)})

    found = {task: n_clusters(task) for task in SEVEN.split(",")}
    assert found == {
        "BoolQ": 2939,
        "CB": 56,
        "COPA": 100,
        "MultiRC": 83,
        "RTE": 274,
        "WSC": 41,
        "WiC": 599,
    }


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (5, 'because *it* was made of styrofoam.\n\nDoes the pronoun "it" between the asterisks'),
        (
            42,
            "they might want to use *it* , but really for now, what more could they wish for?\n\n",
        ),
        (51, 'Patting *her* back, the woman smiled at the girl .\n\nDoes the pronoun "her"'),
        (0, 'could take his claim away from *him* .\n\nDoes the pronoun "him"'),
    ],
)
def test_pronouns_are_marked_where_they_stand(
    items: dict[str, Item], number: int, told: str
) -> None:
    assert told in items[f"superglue/WSC/{number}"].question.messages[0].content


def test_every_pronoun_is_marked_once(items: dict[str, Item]) -> None:
    for item in of(items, "WSC"):
        assert item.question.messages[0].content.count("*") == 2


def test_names_of_record_are_those_of_the_passage_and_golds_are_among_them(
    items: dict[str, Item],
) -> None:
    record = of(items, "ReCoRD")
    assert len(record) == 2
    for item in record:
        assert {item.target, *item.aliases} <= set(item.question.choices)
        assert "@highlight" not in item.question.messages[0].content
        assert "@placeholder" in item.question.messages[0].content
    assert "Tracy Morgan" in record[0].question.choices


@pytest.mark.parametrize("label", [True, "true", "True", 1])
def test_labels_as_words_are_labels_as_truth_values(label: object) -> None:
    line = json.dumps({"idx": 0, "question": "is it", "passage": "It is.", "label": label})
    (item,) = superglue.parse("BoolQ", line, DatasetSpec("superglue"))
    assert item.target == "yes"


@pytest.mark.parametrize(
    ("task", "line"),
    [
        ("BoolQ", '{"idx": 0, "question": "q", "passage": "p"}'),
        ("BoolQ", '{"idx": 0, "question": "q", "passage": "p", "label": "maybe"}'),
        ("CB", '{"idx": 0, "premise": "p", "hypothesis": "h", "label": "unknown"}'),
        ("COPA", '{"idx": 0, "premise": "p", "choice1": "a", "choice2": "b", "question": "why"}'),
        ("MultiRC", "[]"),
        ("ReCoRD", "not json"),
    ],
)
def test_a_line_that_is_no_example(task: str, line: str) -> None:
    with pytest.raises(DatasetMistake, match=f"superglue {task} line 2: this line is not"):
        list(superglue.parse(task, f"\n{line}", DatasetSpec("superglue")))


def test_the_golden_order_and_that_of_the_parts(items: dict[str, Item]) -> None:
    golden = json.loads((SHARED / "subset_golden.json").read_text())["datasets"]["superglue"]
    spec = DatasetSpec("superglue", options={"path": str(FOLDER), "tasks": SEVEN})
    cache = Cache(FOLDER, offline=True)
    order = load(spec, items=None, seed=0, cache=cache).items
    assert [item.id for item in order[:10]] == golden["first10"]
    for size, held in golden["sizes"].items():
        assert subsets.digest(order[: int(size)]) == held["sha256"]
        assert Counter(item.stratum for item in order[: int(size)]) == held["per_stratum"]
    alone = DatasetSpec("superglue-rte", options={"path": str(FOLDER)})
    assert load(alone, items=None, seed=0, cache=cache).items == tuple(
        item for item in order if item.stratum == "RTE"
    )


@pytest.mark.parametrize("task", superglue.TASKS)
def test_every_task_is_a_dataset(task: str) -> None:
    dataset = find(f"superglue-{task.lower()}")
    assert dataset.max_items == superglue.TASKS[task].n_items
    assert superglue.TASKS[task].remote.sha256 in dataset.source


def test_zips_as_they_come_from_the_wire(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, items: dict[str, Item]
) -> None:
    cache = Cache(tmp_path, offline=True)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name in ("train", "test"):
            archive.writestr(f"CB/{name}.jsonl", "{}\n{}\n")
        archive.write(FOLDER / "CB" / "val.jsonl", "CB/val.jsonl")
    data = packed.getvalue()
    task = superglue.TASKS["CB"]
    remote = replace(task.remote, size=len(data), sha256=hashlib.sha256(data).hexdigest())
    monkeypatch.setitem(superglue.TASKS, "CB", replace(task, remote=remote))
    path = cache.path(remote)
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    loaded = load(DatasetSpec("superglue-cb"), items=None, seed=0, cache=cache)
    assert {item.id: item for item in loaded.items} == {i.id: i for i in of(items, "CB")}


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        ("superglue", {"tasks": "BoolQ,AX"}, "unknown task 'AX'; known are BoolQ, CB"),
        ("superglue", {"task": "BoolQ"}, "unknown setting 'task'; did you mean 'tasks'?"),
        ("superglue-cb", {"tasks": "CB"}, "unknown setting 'tasks'"),
    ],
)
def test_settings_that_can_not_be(name: str, options: dict[str, str], told: str) -> None:
    with pytest.raises(DatasetMistake) as caught:
        load(DatasetSpec(name, options=options), items=1, seed=0, cache=Cache(Path("x"), "", True))
    assert told in str(caught.value)


def test_a_home_that_is_nobodys_is_one_line(tmp_path: Path) -> None:
    spec = DatasetSpec("superglue-cb", options={"path": "~no-such-person/x"})
    with pytest.raises(DatasetMistake, match="~no-such-person/x"):
        load(spec, items=1, seed=0, cache=Cache(tmp_path))
