"""Our own protocols, scorers and datasets pass the checks that a plugin's author runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from deltascale import datasets, protocols, scorers
from deltascale.datasets import Cache
from deltascale.protocols.attempt import attempt, draft
from deltascale.records import DatasetSpec, Exchange, Item, Protocol, Question, Score, Scorer, user
from deltascale.testing import check_items, check_protocol, check_scorer


@pytest.mark.parametrize("name", protocols.names())
def test_protocols(name: str) -> None:
    check_protocol(protocols.find(name))


def _silent(question: Question, turns: int) -> Exchange:
    for _ in range(turns):
        yield from draft(question)


def _chatty(question: Question, turns: int) -> Exchange:
    for _ in range(turns):
        yield from attempt(question, (*question.messages, user("Think hard.")))


def _careless(question: Question, turns: int) -> Exchange:
    seen = yield from attempt(question)
    for _ in range(turns - 1):
        seen = yield from attempt(question, (*seen.messages, user("Again. {answer_format}")))


@pytest.mark.parametrize(
    ("run", "law"),
    [(_silent, "submitted"), (_chatty, "turn 0 is not"), (_careless, "a placeholder")],
)
def test_a_protocol_that_breaks_a_law_is_told_which(run: object, law: str) -> None:
    with pytest.raises(AssertionError, match=law):
        check_protocol(Protocol("mine", 1, "nothing", "", run))  # type: ignore[arg-type]


ITEMS = {
    "numeric": ("12", "#### 12"),
    "gsm8k": ("12", "#### 12"),
    "choice": ("B", "Answer: B"),
    "exact": ("blue whale", "Answer: blue whale"),
    "contains": ("blue whale", "It is the blue whale."),
    "regex": ("bl(ue|eu) whale", "Answer: blue whale"),
}


@pytest.mark.parametrize("name", sorted(ITEMS))
def test_scorers(name: str) -> None:
    target, reply = ITEMS[name]
    question = Question((user("Which one?"),), "Answer: <it>", choices=("a", "b", "c"))
    check_scorer(scorers.find(name), [Item("one", question, target)], lambda _: reply)


def test_a_scorer_that_breaks_a_law_is_told_which() -> None:
    item = Item("one", Question((user("?"),), "f"), "12")
    deaf = Scorer("deaf", 1, lambda q, t: None, lambda i, a, t: Score(1.0))
    harsh = Scorer("harsh", 1, lambda q, t: "12", lambda i, a, t: Score(0.0))
    wild = Scorer("wild", 1, lambda q, t: t or None, lambda i, a, t: Score(float(len(t) > 1) * 2))
    for scorer, law in ((deaf, "no answer in"), (harsh, "scores 0"), (wild, "scores 2")):
        with pytest.raises(AssertionError, match=law):
            check_scorer(scorer, [item], lambda _: "12")


@pytest.mark.parametrize("name", ["demo-sums", "demo-choices"])
def test_items(name: str, tmp_path: Path) -> None:
    cache = Cache(tmp_path, offline=True)
    check_items(datasets.load(DatasetSpec(name), items=50, seed=0, cache=cache).items)


def test_items_that_break_a_law_are_told_which() -> None:
    good = Item("one", Question((user("?"),), "f"), "12")
    with pytest.raises(AssertionError, match="same id"):
        check_items([good, good])
    with pytest.raises(AssertionError, match="no target"):
        check_items([Item("one", good.question, "")])
