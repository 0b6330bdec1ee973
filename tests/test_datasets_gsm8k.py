"""GSM8K as it is published, read without the network."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from deltascale import scorers
from deltascale.datasets import Cache, gsm8k, load
from deltascale.errors import DatasetMistake
from deltascale.records import DatasetSpec

SHARED = Path(__file__).resolve().parents[1] / ".." / "shared" / "data"
LINE = '{"question": "q", "answer": "1 + 1 = <<1+1=2>>2\\n#### 2"}\n'


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    """A warm cache, offline."""
    published = SHARED / "gsm8k" / "test.jsonl"
    if not published.exists():
        pytest.skip("the shared GSM8K test file is not beside this checkout")
    warm = Cache(tmp_path, offline=True)
    path = warm.path(gsm8k.TEST)
    path.parent.mkdir(parents=True)
    path.write_bytes(published.read_bytes())
    return warm


def test_the_whole_benchmark(cache: Cache) -> None:
    loaded = load(DatasetSpec("gsm8k"), items=None, seed=0, cache=cache)
    assert (len(loaded.items), loaded.n_available, loaded.scorer) == (1319, 1319, "gsm8k")
    assert loaded.warnings == ()
    targets = [item.target for item in loaded.items]
    assert all(target.lstrip("-").isdigit() for target in targets)
    assert sum(target.startswith("-") for target in targets) == 2
    assert len({item.question.messages for item in loaded.items}) == 1319
    scorers.check(loaded.scorer, loaded.items)


def test_what_a_model_is_shown(cache: Cache) -> None:
    loaded = load(DatasetSpec("gsm8k"), items=None, seed=0, cache=cache)
    item = next(item for item in loaded.items if item.id == "gsm8k/test/0000")
    assert item.target == "18"
    (message,) = item.question.messages
    assert message.content.startswith("Janet\u2019s ducks lay 16 eggs per day.")
    assert message.content.endswith(item.question.answer_format)
    for shown in loaded.items:
        assert "<<" not in shown.question.messages[0].content
        assert shown.question.examples == ""


def test_phases_are_nested_and_the_seed_matters(cache: Cache) -> None:
    def take(items: int, seed: int = 0) -> tuple[str, ...]:
        loaded = load(DatasetSpec("gsm8k"), items=items, seed=seed, cache=cache)
        return tuple(item.id for item in loaded.items)

    assert take(100) == take(500)[:100] == take(1000)[:100]
    assert take(100, seed=1) != take(100)
    assert take(5000) == take(1319)


def test_the_disputed_labels_are_named_and_kept(cache: Cache) -> None:
    loaded = load(DatasetSpec("gsm8k"), items=None, seed=0, cache=cache)
    disputed = {item.id: item.target for item in loaded.items if "disputed" in item.meta}
    assert disputed == {"gsm8k/test/0119": "95200", "gsm8k/test/0749": "3"}


def test_a_damaged_file_never_becomes_items(cache: Cache) -> None:
    path = cache.path(gsm8k.TEST)
    path.write_bytes(path.read_bytes().replace(b"#### 18", b"#### 19", 1))
    with pytest.raises(DatasetMistake, match="is damaged in the cache"):
        load(DatasetSpec("gsm8k"), items=10, seed=0, cache=cache)


@pytest.mark.parametrize(
    "line", ["not json\n", '{"question": "q"}\n', LINE.replace("####", "##"), "[]\n", "\n"]
)
def test_a_line_that_is_no_problem_is_told_with_its_number(line: str) -> None:
    with pytest.raises(DatasetMistake, match="gsm8k line 2: "):
        gsm8k.parse(LINE + line + LINE, DatasetSpec("gsm8k"))


def test_strata_are_steps_and_thousands_lose_their_commas() -> None:
    def parsed(n_steps: int) -> str:
        steps = "\\n".join(["1 + 1 = 2"] * n_steps)
        line = f'{{"question": "q", "answer": "{steps}\\n#### 1,000"}}'
        (item,) = gsm8k.parse(line, DatasetSpec("gsm8k"))
        assert item.target == "1000"
        return item.stratum

    assert [parsed(n) for n in (2, 6, 7, 9)] == ["steps2", "steps6", "steps7+", "steps7+"]


def test_a_setting_that_gsm8k_has_not(cache: Cache) -> None:
    with pytest.raises(DatasetMistake, match="unknown setting 'shots'"):
        load(DatasetSpec("gsm8k", options={"shots": "8"}), items=1, seed=0, cache=cache)


def test_the_source_names_the_very_bytes(cache: Cache) -> None:
    loaded = load(DatasetSpec("gsm8k"), items=1, seed=0, cache=cache)
    data = cache.path(gsm8k.TEST).read_bytes()
    assert hashlib.sha256(data).hexdigest() in loaded.source
