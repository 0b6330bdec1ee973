"""The subset law: one order, whose first n are the subset of n."""

import json
from collections import Counter
from fractions import Fraction
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltascale.datasets import subsets
from deltascale.datasets.subsets import Mode
from deltascale.records import Item, Question

SHARED = Path(__file__).resolve().parents[1] / ".." / "shared" / "data"
QUESTION = Question((), "")

STRATA = st.lists(st.integers(1, 12), min_size=1, max_size=5)
MODES = st.sampled_from(["proportional", "equal"])


def made(sizes: list[int]) -> list[Item]:
    return [
        Item(f"{stratum}-{n}", QUESTION, "1", stratum=str(stratum))
        for stratum, size in enumerate(sizes)
        for n in range(size)
    ]


def ordered(items: list[Item], mode: Mode, seed: int = 0) -> list[Item]:
    units = subsets.order(items, benchmark="made", seed=seed, mode=mode)
    return [item for unit in units for item in unit]


def ids(items: list[Item]) -> set[str]:
    assert len({item.id for item in items}) == len(items)
    return {item.id for item in items}


@given(STRATA, MODES, st.randoms(use_true_random=False))
def test_the_order_does_not_depend_on_the_order_given(
    sizes: list[int], mode: Mode, random: Random
) -> None:
    items = made(sizes)
    shuffled = list(items)
    random.shuffle(shuffled)
    assert ordered(items, mode) == ordered(shuffled, mode)
    assert ids(ordered(items, mode)) == ids(items)


@given(STRATA)
def test_every_prefix_has_each_stratums_share(sizes: list[int]) -> None:
    """Each stratum is rounded to its nearest count, and so is the whole: half a unit each."""
    items = made(sizes)
    order = ordered(items, "proportional")
    for n in range(1, len(order) + 1):
        held = Counter(item.stratum for item in order[:n])
        for stratum, size in enumerate(sizes):
            share = Fraction(size, len(items))
            assert abs(held[str(stratum)] - n * share) <= (1 + len(sizes) * share) / 2


@given(STRATA)
def test_every_prefix_is_as_equal_as_the_strata_last(sizes: list[int]) -> None:
    order = ordered(made(sizes), "equal")
    for n in range(1, len(order) + 1):
        held = Counter(item.stratum for item in order[:n])
        most = max(held.values())
        for stratum, size in enumerate(sizes):
            assert held[str(stratum)] >= min(size, most - 1)


@given(STRATA, MODES)
def test_another_seed_is_another_order_of_the_same(sizes: list[int], mode: Mode) -> None:
    items = made([*sizes, 12])
    assert ordered(items, mode, seed=0) != ordered(items, mode, seed=1)
    assert ids(ordered(items, mode, seed=0)) == ids(ordered(items, mode, seed=1))


def test_variants_of_a_question_are_drawn_together() -> None:
    items = [
        Item(f"{n}#{turn}", QUESTION, "A", stratum=str(n % 2), meta={"unit": str(n)})
        for n in range(10)
        for turn in "ABCD"
    ]
    units = subsets.order(items, benchmark="made", seed=0, mode="proportional")
    assert len(units) == 10
    assert all([item.id[-1] for item in unit] == list("ABCD") for unit in units)


def test_the_digest_tells_ids_and_their_order() -> None:
    one, two = made([2])
    assert subsets.digest([one, two]) != subsets.digest([two, one])
    assert subsets.digest([one]) != subsets.digest([one, two])


def test_the_golden_order_of_gsm8k() -> None:
    golden, lines = SHARED / "subset_golden.json", SHARED / "gsm8k" / "test.jsonl"
    if not (golden.exists() and lines.exists()):
        pytest.skip("the shared data is not beside this checkout")
    from deltascale.datasets.gsm8k import parse
    from deltascale.records import DatasetSpec

    expected = json.loads(golden.read_text())["datasets"]["gsm8k"]
    items = parse(lines.read_text(encoding="utf-8"), DatasetSpec("gsm8k"))
    assert Counter(item.stratum for item in items) == expected["strata"]
    units = subsets.order(items, benchmark="gsm8k", seed=0, mode=expected["mode"])
    order = [item for unit in units for item in unit]
    assert [item.id for item in order[:10]] == expected["first10"]
    for size, held in expected["sizes"].items():
        assert subsets.digest(order[: int(size)]) == held["sha256"]
        assert Counter(item.stratum for item in order[: int(size)]) == held["per_stratum"]
