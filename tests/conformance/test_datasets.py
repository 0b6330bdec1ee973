"""What every built-in dataset must be, whatever it holds."""

from __future__ import annotations

import pytest

from deltascale import datasets, scorers

NAMES = tuple(name for name in datasets.names() if name != "toolqa")


@pytest.mark.parametrize("name", NAMES)
def test_a_dataset_says_what_it_is(name: str) -> None:
    dataset = datasets.find(name)
    assert dataset.name == name
    assert dataset.summary
    assert len(dataset.summary) < 80
    assert dataset.licence
    assert dataset.homepage.startswith("https://") or name.startswith("demo-")
    assert dataset.max_items is None or dataset.max_items > 0
    assert 1 <= dataset.output_tokens <= 4096
    assert dataset.scorer in scorers.names()
