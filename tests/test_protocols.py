"""Protocols, driven by hand: what they ask, what they submit, and what they may know."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltascale import protocols
from deltascale.errors import Mistake
from deltascale.protocols.vote import majority
from deltascale.records import Ask, Message, Question, Seen, Submit, UseTool, user

FORMAT = "End with #### <number>."
QUESTION = Question((user("What is 1 + 1?"),), FORMAT, examples="assert f(1) == 2")
ALL = protocols.names()


def drive(
    name: str,
    *,
    turns: int,
    answers: Sequence[str | None],
    verdicts: Sequence[bool] = (),
    question: Question = QUESTION,
    observations: Sequence[str] = ("assert f(1) == 2  # failed",),
) -> tuple[list[Ask], list[Seen]]:
    """Lead a protocol; reply n says and answers `answers[n]`. Returns its asks and submissions."""
    asks: list[Ask] = []
    submitted: list[Seen] = []
    exchange = protocols.find(name).run(question, turns)
    used = 0
    try:
        step = next(exchange)
        while True:
            if isinstance(step, Submit):
                submitted.append(step.seen)
                if len(submitted) == turns:
                    break
                told = verdicts[len(submitted) - 1] if verdicts else None
                seen = Seen(step.seen.messages, step.seen.text, step.seen.answer, verdict=told)
            elif isinstance(step, UseTool):
                seen = Seen((), observations[used % len(observations)])
                used += 1
            else:
                answer = answers[len(asks) % len(answers)]
                asks.append(step)
                text = f"reply {len(asks)}: {answer}"
                seen = Seen((*step.messages, Message("assistant", text)), text, answer)
            step = exchange.send(seen)
    except StopIteration:
        pass
    return asks, submitted


@pytest.mark.parametrize("name", ALL)
@given(turns=st.integers(1, 6), answers=st.lists(st.sampled_from(["1", "2", None]), min_size=1))
def test_every_protocol_starts_alike_and_submits_every_turn(
    name: str, turns: int, answers: list[str | None]
) -> None:
    asks, submitted = drive(name, turns=turns, answers=answers, verdicts=[False] * turns)
    assert len(submitted) == turns
    assert asks[0] == Ask(QUESTION.messages), "turn 0 is the same call in every protocol"
    texts = {f"reply {n + 1}: {answers[n % len(answers)]}" for n in range(len(asks))}
    assert {seen.text for seen in submitted} <= texts


@pytest.mark.parametrize("name", ["review", "critique", "oracle"])
def test_a_correction_repeats_the_answer_format_and_keeps_the_history(name: str) -> None:
    asks, submitted = drive(name, turns=3, answers=["1"], verdicts=[False] * 3)
    for before, after in pairwise(submitted):
        assert after.messages[: len(before.messages)] == before.messages
        assert FORMAT in after.messages[-2].content
    assert all("{answer_format}" not in one.content for ask in asks for one in ask.messages)


def test_failed_examples_are_shown_until_none_fails() -> None:
    told = ["assert f(1) == 2  # timeout", ""]
    asks, submitted = drive("tests", turns=5, answers=["code"], observations=told)
    assert len(asks) == len(submitted) == 2
    assert told[0] in asks[1].messages[-1].content
    assert FORMAT in asks[1].messages[-1].content


def test_without_examples_or_code_nothing_is_run() -> None:
    bare = Question(QUESTION.messages, FORMAT)
    assert len(drive("tests", turns=3, answers=["code"], question=bare)[0]) == 1
    asks, _ = drive("tests", turns=2, answers=[None, "code"])
    assert "no code was found" in asks[1].messages[-1].content


def test_a_critique_is_an_aside() -> None:
    asks, submitted = drive("critique", turns=2, answers=["1", "2", "3"])
    assert [seen.text for seen in submitted] == ["reply 1: 1", "reply 3: 3"]
    assert FORMAT not in asks[1].messages[-1].content, "a critique is not asked for an answer"
    assert submitted[1].messages[-3].content == "reply 2: 2", "the revision sees the critique"


def test_resample_has_no_history_and_a_draw_of_its_own() -> None:
    asks, _ = drive("resample", turns=4, answers=["1"])
    assert asks == [Ask(QUESTION.messages, draw) for draw in range(4)]


def test_vote_asks_what_resample_asks() -> None:
    assert drive("vote", turns=4, answers=["1"])[0] == drive("resample", turns=4, answers=["1"])[0]


def test_the_oracle_stops_when_it_is_right() -> None:
    asks, submitted = drive("oracle", turns=5, answers=["1"], verdicts=[False, True, False, False])
    assert len(asks) == len(submitted) == 2


@pytest.mark.parametrize(
    ("answers", "winner"),
    [
        (["1"], 0),
        (["1", "2"], 0),
        (["1", "2", "2"], 1),
        ([None, "2"], 1),
        ([None, None], 0),
        (["1", "2", "3"], 0),
        (["3", "1", "2", "2", "1"], 1),
        ([None, None, None, "5"], 3),
    ],
)
def test_the_majority(answers: list[str | None], winner: int) -> None:
    seens = [Seen((), str(n), answer) for n, answer in enumerate(answers)]
    assert majority(seens) is seens[winner]


def test_an_unknown_protocol_is_one_line_with_the_nearest_name() -> None:
    with pytest.raises(Mistake, match="did you mean 'review'"):
        protocols.find("reveiw")
    with pytest.raises(Mistake, match="package.module:NAME"):
        protocols.find("nowhere.at_all:THING")
    with pytest.raises(Mistake, match="not a deltascale.records.Protocol"):
        protocols.find("deltascale.protocols:names")


@pytest.mark.parametrize("name", ALL)
def test_prompts_are_data(name: str) -> None:
    protocol = protocols.find(name)
    assert protocol.version >= 1
    asks, _ = drive(name, turns=2, answers=["1"], verdicts=[False, False])
    own = [ask.messages[-1].content for ask in asks if len(ask.messages) > 1]
    templates = {
        text.replace("{answer_format}", FORMAT).replace("{failed}", "assert f(1) == 2  # failed")
        for text in protocol.prompts.values()
    }
    assert set(own) <= templates
