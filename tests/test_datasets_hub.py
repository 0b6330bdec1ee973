"""The copies on the hub: rows made from the releases' records come back as the very same items."""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from deltascale.datasets import Cache, Loaded, gsm8k, hub, humaneval, load, superglue
from deltascale.errors import DatasetMistake, MissingExtra
from deltascale.records import DatasetSpec
from tests import wires

SHARED = Path(__file__).resolve().parents[1] / ".." / "shared" / "data"
SEVEN = "BoolQ,CB,COPA,MultiRC,RTE,WiC,WSC"


@pytest.fixture(scope="module")
def releases() -> Mapping[str, str]:
    """The text of each release, by the name of its copy."""
    if not SHARED.exists():
        pytest.skip("the shared data is not beside this checkout")
    texts = {
        task: (SHARED / "superglue" / task / "val.jsonl").read_text(encoding="utf-8")
        for task in SEVEN.split(",")
    }
    texts["ReCoRD"] = "\n".join(_record_lines())
    texts["gsm8k"] = (SHARED / "gsm8k" / "test.jsonl").read_text(encoding="utf-8")
    packed = (SHARED / "humaneval" / "HumanEval.jsonl.gz").read_bytes()
    texts["humaneval"] = gzip.decompress(packed).decode()
    return texts


def _record_lines() -> Iterator[str]:
    """Of two samples, with the queries of the second numbered on."""
    for number, name in enumerate(("val_genuine2.jsonl", "handmade.jsonl")):
        text = (SHARED / "superglue" / "ReCoRD" / name).read_text(encoding="utf-8")
        for line in map(json.loads, text.splitlines()):
            for query in line["qas"]:
                query["idx"] += 100 * number
            yield json.dumps(line)


@pytest.fixture(scope="module")
def warm(releases: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> Cache:
    """An offline cache with both sources of everything but the zips of SuperGLUE."""
    cache = Cache(tmp_path_factory.mktemp("warm"), offline=True)
    for name, text in releases.items():
        kept(cache.path(hub.COPIES[name].remote), wires.parquet(name, text))
    kept(cache.path(gsm8k.TEST), releases["gsm8k"].encode())
    kept(cache.path(humaneval.FILE), (SHARED / "humaneval" / "HumanEval.jsonl.gz").read_bytes())
    return cache


@pytest.fixture(autouse=True)
def _unpinned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parquet that is made here has other bytes than the published one."""
    monkeypatch.setitem(hub.COPIES, "gsm8k", replace(hub.COPIES["gsm8k"], sha256=""))


def kept(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def had(name: str, cache: Cache, **options: str) -> Loaded:
    return load(DatasetSpec(name, options=options), items=None, seed=3, cache=cache)


@pytest.mark.parametrize("name", ["gsm8k", "humaneval"])
def test_both_sources_give_the_same_items_in_the_same_order(name: str, warm: Cache) -> None:
    release, copy = had(name, warm), had(name, warm, **{"from": "hub"})
    assert copy.items == release.items
    assert copy.digest == release.digest


@pytest.mark.parametrize("task", SEVEN.split(","))
def test_both_sources_of_a_task_give_the_same_items(task: str, warm: Cache) -> None:
    name = f"superglue-{task.lower()}"
    release = had(name, warm, path=str(SHARED / "superglue"))
    copy = had(name, warm, **{"from": "hub"})
    assert copy.items == release.items
    assert copy.warnings == ()


def test_the_whole_of_superglue(warm: Cache, releases: Mapping[str, str]) -> None:
    release = had("superglue", warm, path=str(SHARED / "superglue"), tasks=SEVEN)
    assert had("superglue", warm, tasks=SEVEN, **{"from": "hub"}).items == release.items


def test_choices_of_record_need_no_places(warm: Cache, releases: Mapping[str, str]) -> None:
    """The release has each name by every place where it stands, a copy by its letters."""
    spec = DatasetSpec("superglue-record")
    release = tuple(superglue.parse("ReCoRD", releases["ReCoRD"], spec))
    copy = had("superglue-record", warm, counts="any", **{"from": "hub"})
    assert len(release) == 4
    by_id = {item.id: item for item in copy.items}
    assert len(by_id) == len(release)
    assert [by_id[item.id] for item in release] == list(release)


@pytest.fixture(scope="module")
def platinum(releases: Mapping[str, str]) -> str:
    """As many of GSM8K's questions as were kept, in another order, the first of them with another
    answer."""
    lines = releases["gsm8k"].splitlines()
    kept = [line for number, line in enumerate(lines) if number >= 1319 - 1209]
    changed = json.loads(kept[0])
    changed["answer"] = changed["answer"].partition("####")[0] + "#### 41"
    return "\n".join([*kept[1:], json.dumps(changed)])


def test_a_revised_item_is_known_by_its_first_name(warm: Cache, platinum: str) -> None:
    kept(warm.path(hub.COPIES["gsm8k-platinum"].remote), wires.parquet("gsm8k", platinum))
    revised, original = had("gsm8k-platinum", warm), had("gsm8k", warm)
    assert len(revised.items) == 1209
    assert revised.warnings == ()
    assert "madrylab/gsm8k-platinum@main main/test-00000-of-00001.parquet" in revised.source
    by_id = {item.id: item for item in original.items}
    assert "gsm8k/test/0110" in by_id
    for item in revised.items:
        assert item.question == by_id[item.id].question
        if item.id == "gsm8k/test/0110":
            assert item.target == "41" != by_id[item.id].target
            assert by_id[item.id].target in item.meta["revised"]
        else:
            assert item == replace(by_id[item.id], meta={})


def test_a_revision_has_no_question_of_its_own(warm: Cache, platinum: str) -> None:
    other = platinum.replace('{"question": "', '{"question": "Again: ', 1)
    kept(warm.path(hub.COPIES["gsm8k-platinum"].remote), wires.parquet("gsm8k", other))
    with pytest.raises(DatasetMistake, match="a question that is not in GSM8K"):
        had("gsm8k-platinum", warm)


def test_the_lock_says_which_file_was_read(warm: Cache) -> None:
    path = warm.path(hub.COPIES["gsm8k"].remote)
    checksum = hashlib.sha256(path.read_bytes()).hexdigest()
    assert had("gsm8k", warm, **{"from": "hub"}).source == (
        f"Hugging Face hub: openai/gsm8k@740312a main/test-00000-of-00001.parquet sha256 {checksum}"
    )
    for options in ({}, {"from": "release"}):
        assert gsm8k.TEST.sha256 in had("gsm8k", warm, **options).source
    chosen = had("superglue", warm, tasks="CB,RTE", **{"from": "hub"}).source
    assert "aps/super_glue@refs/convert/parquet cb/validation/0000.parquet sha256 " in chosen
    assert "rte/validation" in chosen
    assert "boolq" not in chosen
    assert "zip" not in chosen
    alone = had("superglue-cb", warm, **{"from": "hub"}).source
    assert alone == chosen.partition(", ")[0]


def test_every_task_has_a_copy_at_a_place_of_its_own() -> None:
    assert hub.COPIES.keys() == {"gsm8k", "gsm8k-platinum", "humaneval", *superglue.TASKS}
    urls = [copy.remote.url for copy in hub.COPIES.values()]
    assert len(set(urls)) == len(urls)
    assert all(url.startswith("https://huggingface.co/datasets/") for url in urls)
    assert "resolve/refs%2Fconvert%2Fparquet/wsc/validation/0000.parquet" in urls[-1]


# --- what is not as it should be -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        ("gsm8k", {"from": "hugging"}, "from is 'hugging'; known are release, hub"),
        ("superglue-cb", {"from": "hub", "path": "x"}, "path and from: hub at once"),
        ("superglue", {"from": "hub", "path": "x"}, "path and from: hub at once"),
        ("humaneval", {"from": "hub", "counts": "some"}, "counts is 'some'"),
        ("mathbench", {"from": "hub"}, "unknown setting 'from'"),
    ],
)
def test_settings_that_can_not_be(
    name: str, options: dict[str, str], told: str, warm: Cache
) -> None:
    with pytest.raises(DatasetMistake) as caught:
        had(name, warm, **options)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def without(text: str, n_lines: int) -> str:
    return "".join(text.splitlines(keepends=True)[:-n_lines])


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("gsm8k", "gsm8k: 1317 problems instead of 1319"),
        ("humaneval", "humaneval: 162 tasks instead of 164"),
        ("CB", "superglue-cb: 54 items of CB instead of 56"),
    ],
)
def test_a_copy_that_is_not_whole_is_refused_unless_asked_for(
    name: str, told: str, releases: Mapping[str, str], tmp_path: Path
) -> None:
    cache = Cache(tmp_path, offline=True)
    kept(cache.path(hub.COPIES[name].remote), wires.parquet(name, without(releases[name], 2)))
    dataset = f"superglue-{name.lower()}" if name == "CB" else name
    with pytest.raises(DatasetMistake) as caught:
        had(dataset, cache, **{"from": "hub"})
    assert str(caught.value).startswith(told)
    assert "{counts: any}" in str(caught.value)
    n_there = int(told.split()[1])
    assert had(dataset, cache, counts="any", **{"from": "hub"}).n_available == n_there


def test_a_release_that_is_not_whole_is_refused_too(
    releases: Mapping[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, text = Cache(tmp_path, offline=True), without(releases["gsm8k"], 1)
    short = replace(gsm8k.TEST, size=None, sha256=hashlib.sha256(text.encode()).hexdigest())
    monkeypatch.setattr(gsm8k, "TEST", short)
    kept(cache.path(short), text.encode())
    with pytest.raises(DatasetMistake, match="1318 problems instead of 1319"):
        had("gsm8k", cache)
    assert had("gsm8k", cache, counts="any").n_available == 1318


def test_files_of_ones_own_may_have_any_number(releases: Mapping[str, str], tmp_path: Path) -> None:
    kept(tmp_path / "CB" / "val.jsonl", without(releases["CB"], 50).encode())
    assert had("superglue-cb", Cache(tmp_path), path=str(tmp_path)).n_available == 6


def rows(name: str) -> Iterator[tuple[str, bytes]]:
    """Files of another kind in the place of a copy, with what is told of each."""
    yield "PAR1", b"PAR1 and nothing else"
    yield "label", wires.written([{"premise": "p", "hypothesis": "h", "idx": 0}])
    unlabelled = {"premise": "p", "hypothesis": "h", "idx": 0, "label": -1}
    yield "another kind", wires.written([unlabelled])
    yield "another kind", wires.written([{**unlabelled, "label": None}])


@pytest.mark.parametrize("number", range(4))
def test_another_file_in_its_place_is_told_in_one_line(number: int, tmp_path: Path) -> None:
    cache = Cache(tmp_path, offline=True)
    path = cache.path(hub.COPIES["CB"].remote)
    told, data = list(rows("CB"))[number]
    kept(path, data)
    with pytest.raises(DatasetMistake) as caught:
        had("superglue-cb", cache, counts="any", **{"from": "hub"})
    text = str(caught.value)
    assert text.startswith(f"{path}: this is not cb/validation/0000.parquet of aps/super_glue (")
    assert told in text or told == "PAR1"
    assert "\n" not in text


def test_a_name_that_its_passage_has_not_is_told(tmp_path: Path) -> None:
    cache = Cache(tmp_path, offline=True)
    row: dict[str, Any] = {
        "passage": "Ada is here.",
        "query": "@placeholder is here",
        "entities": ["Ada", "Bob"],
        "answers": ["Ada"],
        "idx": {"passage": 0, "query": 0},
    }
    kept(cache.path(hub.COPIES["ReCoRD"].remote), wires.written([row]))
    with pytest.raises(DatasetMistake, match="a row of another kind"):
        had("superglue-record", cache, counts="any", **{"from": "hub"})


def test_without_polars_it_says_what_to_install_before_anything_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "polars" else find(name)
    )
    with pytest.raises(MissingExtra, match=r"pip install 'deltascale\[tables\]'"):
        had("gsm8k", Cache(tmp_path, offline=True), **{"from": "hub"})


def test_nothing_is_read_from_the_hub_unless_asked(warm: Cache, tmp_path: Path) -> None:
    """With the copy there and the release not, a study that names no source stops."""
    only = Cache(tmp_path, offline=True)
    path = only.path(hub.COPIES["gsm8k"].remote)
    path.parent.mkdir(parents=True)
    shutil.copyfile(warm.path(hub.COPIES["gsm8k"].remote), path)
    with pytest.raises(DatasetMistake, match="is not in the cache"):
        had("gsm8k", only)
    assert had("gsm8k", only, **{"from": "hub"}).n_available == 1319


def test_the_rows_are_those_that_the_hub_has(warm: Cache) -> None:
    """What the tests hold to be its layout, as far as it is known from its pages."""
    import polars

    table = polars.read_parquet(warm.path(hub.COPIES["MultiRC"].remote))
    assert table.columns == ["paragraph", "question", "answer", "idx", "label"]
    assert table.height == 4848
    first = json.loads(json.dumps(table.row(0, named=True)))
    assert first["idx"] == {"paragraph": 0, "question": 0, "answer": 0}
