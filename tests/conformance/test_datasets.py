"""What every built-in dataset must be, whatever it holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from deltascale import datasets, scorers
from deltascale.datasets import Cache
from deltascale.errors import DatasetMistake
from deltascale.records import DatasetSpec


@pytest.mark.parametrize("name", datasets.names())
def test_a_dataset_says_what_it_is(name: str) -> None:
    dataset = datasets.find(name)
    assert dataset.name == name
    assert dataset.summary
    assert len(dataset.summary) < 80
    assert dataset.licence
    assert dataset.homepage.startswith("https://") or name.startswith("demo-")
    assert dataset.source or name.startswith("demo-")
    assert dataset.max_items is None or dataset.max_items > 0
    assert 1 <= dataset.output_tokens <= 4096
    assert scorers.find(dataset.scorer).name == dataset.scorer


@pytest.mark.parametrize("name", [n for n in datasets.names() if not n.startswith("demo-")])
def test_offline_with_a_cold_cache_it_says_what_to_do(name: str, tmp_path: Path) -> None:
    with pytest.raises(DatasetMistake) as caught:
        datasets.load(DatasetSpec(name), items=1, seed=0, cache=Cache(tmp_path, offline=True))
    text = str(caught.value)
    assert "\n" not in text
    assert str(tmp_path) in text
    assert "DELTASCALE_OFFLINE" in text


@pytest.mark.parametrize("name", [n for n in datasets.names() if not n.startswith("demo-")])
def test_an_unknown_setting_is_refused_before_anything_is_fetched(
    name: str, tmp_path: Path
) -> None:
    spec = DatasetSpec(name, options={"no such setting": "1"})
    with pytest.raises(DatasetMistake, match="unknown setting 'no such setting'"):
        datasets.load(spec, items=1, seed=0, cache=Cache(tmp_path, offline=True))


@pytest.mark.parametrize("name", ["demo-choices", "demo-sums"])
def test_what_can_be_had_without_a_network_is_whole(name: str, tmp_path: Path) -> None:
    def take(items: int | None) -> datasets.Loaded:
        cache = Cache(tmp_path, offline=True)
        return datasets.load(DatasetSpec(name), items=items, seed=0, cache=cache)

    every = take(None)
    assert len({item.id for item in every.items}) == every.n_available == len(every.items)
    assert take(10).items == every.items[:10]
    scorers.check(every.scorer, every.items)
    for item in every.items:
        assert item.question.messages[0].content.endswith(item.question.answer_format)
