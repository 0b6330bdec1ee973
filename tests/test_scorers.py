"""Scorers by name, and the check of targets before anything is paid for."""

import timeit

import pytest

from deltascale import scorers
from deltascale.errors import DatasetMistake
from deltascale.records import Item, Question, Scorer

QUESTION = Question((), "", choices=("red", "blue"))
PLAIN = ("choice", "contains", "exact", "gsm8k", "numeric", "regex")

REPLY = "She eats 3 of the 16 eggs that are there, which leaves 16 - 3 = 13 eggs to sell.\n" * 12


def test_every_plain_scorer_is_found_under_its_name() -> None:
    assert set(PLAIN) <= set(scorers.names())
    for name in PLAIN:
        assert scorers.find(name).name == name


def test_a_scorer_at_a_dotted_path() -> None:
    assert isinstance(scorers.find("deltascale.scorers.numeric:NUMERIC"), Scorer)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("numerc", "unknown scorer 'numerc'; did you mean 'numeric'?"),
        ("zzz", "unknown scorer 'zzz'; known are "),
        ("json:loads", "json:loads is a function, not a deltascale.records.Scorer"),
        ("json:nothing", "has no attribute 'nothing'"),
        ("no_such_package.scorers:X", "No module named 'no_such_package'"),
        (":", "write it as package.module:NAME"),
        (".x:y", "write it as package.module:NAME"),
    ],
)
def test_a_wrong_name_is_told_in_one_line(name: str, told: str) -> None:
    with pytest.raises(DatasetMistake) as caught:
        scorers.find(name)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("numeric", "1,234", "many"),
        ("gsm8k", "-3", ""),
        ("choice", "b", "C"),
        ("exact", "Paris", "..."),
        ("contains", "Paris", " "),
        ("regex", r"\d+", r"(a+)+"),
    ],
)
def test_a_target_that_nothing_could_match_is_told_before_the_run(
    name: str, good: str, bad: str
) -> None:
    scorers.check(name, [Item("first", QUESTION, good)])
    with pytest.raises(DatasetMistake, match="second"):
        scorers.check(name, [Item("first", QUESTION, good), Item("second", QUESTION, bad)])


def test_at_most_twenty_targets_are_told_one_by_one() -> None:
    items = [Item(f"i{n}", QUESTION, "many") for n in range(30)]
    with pytest.raises(DatasetMistake) as caught:
        scorers.check("numeric", items)
    assert str(caught.value).count("\n") == 20
    assert str(caught.value).endswith("and 10 more problems")


@pytest.mark.parametrize(
    ("name", "target", "reply"),
    [
        ("numeric", "1234", "#### 1,234"),
        ("numeric", "3/4", "0.75"),
        ("gsm8k", "18", "#### 18"),
        ("choice", "B", "Answer: B"),
        ("exact", "New York", "Answer: New York"),
        ("contains", "New York", "New York"),
        ("regex", "[ab]+", "abba"),
    ],
)
def test_a_target_given_as_the_reply_is_right(name: str, target: str, reply: str) -> None:
    scorer, item = scorers.find(name), Item("i", QUESTION, target)
    answer = scorer.extract(QUESTION, reply)
    assert answer is not None
    assert scorer.judge(item, answer, reply).value == 1.0


@pytest.mark.parametrize("end", ["#### 18", "The answer is 18.", "\\boxed{18}", "so 18"])
def test_scoring_a_reply_takes_microseconds(end: str) -> None:
    scorer, item, text = scorers.find("gsm8k"), Item("i", QUESTION, "18"), REPLY + end
    assert len(text) > 950

    def score() -> None:
        assert scorer.judge(item, scorer.extract(QUESTION, text) or "", text).value == 1.0

    # Measured 30 to 50; the margin is for a busy machine.
    assert min(timeit.repeat(score, number=200, repeat=7)) / 200 < 240e-6


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize(
    "piece",
    ["\\boxed{", "answer is ", "#### ", "####    ", "1 ", "1,", "{", "answer", "\n", "<<", "A "],
)
def test_a_reply_that_repeats_itself_takes_linear_time(name: str, piece: str) -> None:
    text = piece * (60_000 // len(piece))
    assert timeit.timeit(lambda: scorers.find(name).extract(QUESTION, text), number=1) < 1.5
