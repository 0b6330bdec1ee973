"""Answers in words: equal, held in the reply, or matching a pattern."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltascale import scorers
from deltascale.errors import DatasetMistake
from deltascale.records import Item, Question
from deltascale.scorers import exact, regex

QUESTION = Question((), "")


def value(name: str, text: str, target: str, *aliases: str) -> float | None:
    scorer = scorers.find(name)
    answer = scorer.extract(QUESTION, text)
    if answer is None:
        return None
    return scorer.judge(Item("i", QUESTION, target, aliases), answer, text).value


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Answer: Paris.", "paris"),
        ("I thought of Lyon.\nParis", "paris"),
        ("The answer is **New  York**.", "new york"),
        ("The answer to the question is Paris.", "paris"),
        ("Answer: the capital is Paris", "the capital is paris"),
        ("\\boxed{Paris}", "paris"),
        ("Answer:\n**Paris**", "paris"),
        ("Answer: Lyon\nNo. Answer: Paris", "paris"),
        ("foo_bar", "foo_bar"),
        ('Final answer: "x_y"', "x_y"),
        ("答案是北京。", "北京"),
        ("STRASSE", "strasse"),
        ("straße", "strasse"),
        ("  \n ", None),
        ("Answer: **", None),
    ],
)
def test_the_stated_answer(text: str, answer: str | None) -> None:
    assert scorers.find("exact").extract(QUESTION, text) == answer


@pytest.mark.parametrize("make", [str, str.upper, "Answer: {}".format, "**{}**".format])
def test_exact_ignores_dress_only(make: object) -> None:
    assert callable(make)
    assert value("exact", make("new york"), "New York") == 1.0
    assert value("exact", make("new yorker"), "New York") == 0.0
    assert value("exact", make("big apple"), "New York", "Big Apple") == 1.0


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("Surely it is in Paris, France.", True),
        ("It is in PARIS.\nI am sure.", True),
        ("The Parisian said so.", False),
        ("<think>Paris</think>London", False),
        ("Lyon", False),
    ],
)
def test_contains_wants_whole_words(text: str, right: bool) -> None:
    assert value("contains", text, "Paris") == float(right)


def test_contains_in_a_script_without_spaces() -> None:
    assert value("contains", "首都是北京市", "北京") == 1.0


@given(st.text())
def test_canonical_is_idempotent(text: str) -> None:
    once = exact.canonical(text)
    assert exact.canonical(once) == once


@given(st.text())
def test_any_text_has_an_answer_or_none(text: str) -> None:
    for name in ("exact", "contains", "regex"):
        answer = scorers.find(name).extract(QUESTION, text)
        assert answer is None or answer
        if answer is not None and name != "regex":
            score = scorers.find(name).judge(Item("i", QUESTION, "x"), answer, text)
            assert score.value in {0.0, 1.0}


@pytest.mark.parametrize(
    ("pattern", "text", "right"),
    [
        (r"\$?\d+(?:\.\d+)?%?", "Answer: $12.50", True),
        (r"\$?\d+(?:\.\d+)?%?", "Answer: about $12.50", False),
        (r"(?i)par[iy]s|rome", "It is\nRome", True),
        (r"(?i:paris)", "PARIS", True),
        (r"\d{4}-\d{2}-\d{2}", "Answer: 2022-08-26", True),
        (r"(\d{1,3})(,\d{3})*", "1,234,567", True),
        (r".*x.*y.*", "axbyc", True),
        (r"[^]x]+", "abc", True),
        (r"(?=a)\w+(?<!b)", "abc", True),
        (r"a{,3}", "aaaa", False),
        (r"{", "{", True),
    ],
)
def test_a_pattern_is_held_against_the_whole_answer(pattern: str, text: str, right: bool) -> None:
    assert value("regex", text, pattern) == float(right)


@pytest.mark.parametrize(
    "pattern",
    [
        r"(a+)+b",
        r"(a*)*",
        r"(a|a)*b",
        r"(a|ab)+c",
        r"((a?b)*c)*",
        r"(?:a{1,9}){1,9}",
        r"(?P<x>a)+(?P=x)",
        r"(\w+) \1",
        r"(a)?(?(1)b|c)",
        r".*.*.*.*b",
        "a?" * 30 + "a" * 30,
        r"(?x) a # )",
        "(",
        "[",
        "[[a]]",
        "a{2,1}",
        "\\",
    ],
)
def test_a_pattern_that_could_hang_is_refused_at_once(pattern: str) -> None:
    with pytest.raises(DatasetMistake, match="the pattern can't be used"):
        regex.compiled(pattern)


@pytest.mark.parametrize(
    "pattern", [r".*x.*x.*x", r"(?:x,)?.*,.*;", r"\w*a\w*a\w*b", r"[ab]*a[ab]*a[ab]*c"]
)
def test_what_is_accepted_ends_soon(pattern: str) -> None:
    begun = time.process_time()
    for letter in "xa,":
        regex.compiled(pattern).fullmatch(letter * (regex.MAX_ANSWER - 1) + "!")
    assert time.process_time() - begun < 5


def test_a_longer_answer_matches_nothing() -> None:
    assert value("regex", "a" * regex.MAX_ANSWER, "a+") == 1.0
    assert value("regex", "a" * (regex.MAX_ANSWER + 1), "a+") == 0.0


@given(st.lists(st.sampled_from([*list("ab|*+?(){}[]\\1,2^$."), "(?:", "(?="]), max_size=12))
def test_the_bound_knows_every_pattern_that_python_knows(parts: list[str]) -> None:
    pattern = "".join(parts)
    try:
        ready = regex.compiled(pattern)
    except DatasetMistake:
        return
    begun = time.process_time()
    ready.fullmatch("ab" * 12)
    assert time.process_time() - begun < 5
