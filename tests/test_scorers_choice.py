"""The choice scorer: a letter is an answer only where the reply settles on it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltascale import scorers
from deltascale.records import Item, Question

CHOICE = scorers.find("choice")
QUESTION = Question((), "", choices=("red train", "blue", "12", "17 km"))


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("The answer is B.", "B"),
        ("The answer is (C)", "C"),
        ("**Answer: D**", "D"),
        ("Answer: b", "B"),
        ("Answer: (a)", "A"),
        ("Therefore, the correct answer is option B.", "B"),
        ("The correct answer is **C. 12**", "C"),
        ("Final Answer: The final answer is $\\boxed{C}$.", "C"),
        ("\\boxed{A}", "A"),
        ("\\boxed{\\text{B}}", "B"),
        ("\\boxed{12}", "C"),
        ("so 故选B", "B"),
        ("答案是:C。", "C"),
        ("所以答案为选项D", "D"),
        ("选C", "C"),
        ("Ａｎｓｗｅｒ：Ｂ", "B"),
        ("Correct option: D", "D"),
        ("The best choice is B", "B"),
        ("Option A is wrong. Option B is correct.", "B"),
        ("So the answer is B. Option A is wrong since it is red.", "B"),
        ("The answer was A, but the answer is B", "B"),
        ("Answer: A, because B is wrong", "A"),
        ("Let me think.\n(B)", "B"),
        ("B.", "B"),
        ("B) blue", "B"),
        ("Blue", "B"),
        ("The answer is blue.", "B"),
        ("17km", "D"),
        ("<think>Answer: A</think>Answer: B", "B"),
    ],
)
def test_the_letter_that_a_reply_settles_on(text: str, letter: str) -> None:
    assert CHOICE.extract(QUESTION, text) == letter


@pytest.mark.parametrize(
    "text",
    [
        "",
        "A train leaves at 9.",
        "I think A",
        "The answer is a train that leaves.",
        "The answer is not A.",
        "The answer is A or B",
        "Answer: A/B",
        "The answer is: E",
        "\\boxed{E}",
        "<think>Answer: A",
    ],
)
def test_what_is_no_choice(text: str) -> None:
    assert CHOICE.extract(QUESTION, text) is None


def test_letters_reach_as_far_as_the_options() -> None:
    ten = Question((), "", choices=tuple(f"option {n}" for n in range(10)))
    assert CHOICE.extract(ten, "The answer is J.") == "J"
    assert CHOICE.extract(QUESTION, "The answer is J.") is None
    assert CHOICE.extract(Question((), ""), "The answer is H.") == "H"


def test_a_text_that_two_options_share_is_no_choice() -> None:
    twins = Question((), "", choices=("1 km", "1km", "2 km"))
    assert CHOICE.extract(twins, "1 km") is None
    assert CHOICE.extract(twins, "2 km") == "C"


@given(st.text(), st.lists(st.text(min_size=1), min_size=2, max_size=8))
def test_any_text_has_a_letter_of_the_options_or_none(text: str, choices: list[str]) -> None:
    letter = CHOICE.extract(Question((), "", choices=tuple(choices)), text)
    assert letter is None or letter in "ABCDEFGH"[: len(choices)]


@given(st.sampled_from("ABCD"), st.sampled_from("ABCD"))
def test_only_the_targets_letter_scores(target: str, said: str) -> None:
    answer = CHOICE.extract(QUESTION, f"Answer: {said}")
    assert answer == said
    score = CHOICE.judge(Item("i", QUESTION, target.lower()), answer, "")
    assert score.value == float(target == said)
