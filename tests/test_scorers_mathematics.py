"""Expressions that mean the same, and a process that is killed when it takes too long."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltascale import scorers
from deltascale.errors import MissingExtra
from deltascale.records import Item, Question
from deltascale.scorers import mathematics
from deltascale.scorers.mathematics import Comparer

QUESTION = Question((), "")
MATH = scorers.find("math")


@pytest.fixture(scope="module")
def comparer() -> Iterator[Comparer]:
    pytest.importorskip("math_verify")
    ours = Comparer()
    yield ours
    ours.close()


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("so \\boxed{\\frac{3}{4}}", "3/4"),
        ("The answer is $x^2$.", "x^2"),
        ("Answer: \\( \\left( 1 ,\\, 2 \\right) \\)", "( 1 , 2 )"),
        ("we get $a$ and then\n\\[ \\dfrac{a}{b} \\]", "\\frac{a}{b}"),
        ("It is 18 in the end", "18"),
        ("\\boxed{0.50}", "1/2"),
        ("nothing", None),
        ("", None),
        ("\\boxed{" + "x+" * 300 + "x}", None),
        ("Error code: 500 - 3", None),
    ],
)
def test_where_the_expression_stands(text: str, answer: str | None) -> None:
    assert MATH.extract(QUESTION, text) == answer


@given(st.text())
def test_any_text_has_a_canonical_answer_or_none(text: str) -> None:
    for reply in (text, f"\\boxed{{{text}}}"):
        answer = MATH.extract(QUESTION, reply)
        assert answer is None or mathematics.canonical(answer) == answer


@pytest.mark.parametrize(
    ("gold", "answer", "verdict"),
    [
        ("x^2+2x+1", "(x+1)^2", "right"),
        ("\\sqrt{8}", "2\\sqrt{2}", "right"),
        ("\\{1,2\\}", "\\{2,1\\}", "right"),
        ("\\begin{pmatrix}1&2\\end{pmatrix}", "\\begin{bmatrix}1&2\\end{bmatrix}", "right"),
        ("\\frac{\\pi}{2}", "0.5\\pi", "right"),
        ("(1,2)", "(2,1)", "wrong"),
        ("[0,1)", "[0,1]", "wrong"),
        ("\\infty", "-\\infty", "wrong"),
        ("x", "", "wrong"),
        ("", "x", "unscorable"),
    ],
)
def test_what_means_the_same(comparer: Comparer, gold: str, answer: str, verdict: str) -> None:
    assert comparer.compare(gold, answer) == verdict


def judged(target: str, answer: str, *aliases: str) -> tuple[float, float]:
    score = MATH.judge(Item("i", QUESTION, target, aliases), answer, "")
    return score.value, score.others["unscorable"]


def test_numbers_and_equal_spellings_need_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> str:
        raise AssertionError("a process was asked")

    monkeypatch.setattr(Comparer, "compare", never)
    assert judged("\\frac{1}{2}", "0.5") == (1.0, 0.0)
    assert judged("3", "4") == (0.0, 0.0)
    assert judged("\\left(a,\\, b\\right)", "(a, b)") == (1.0, 0.0)
    assert judged("8", "7", "7.0") == (1.0, 0.0)


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        ({"p": "right", "q": "unscorable"}, (1.0, 0.0)),
        ({"p": "wrong", "q": "unscorable"}, (0.0, 1.0)),
        ({"p": "wrong", "q": "wrong"}, (0.0, 0.0)),
    ],
)
def test_unscorable_is_said_beside_the_score(
    monkeypatch: pytest.MonkeyPatch, verdicts: dict[str, str], expected: tuple[float, float]
) -> None:
    def answers(_: Comparer, gold: str, answer: str) -> str:
        return verdicts[gold]

    monkeypatch.setattr(Comparer, "compare", answers)
    mathematics._compared.cache_clear()
    assert judged("p", "expression", "q") == expected
    mathematics._compared.cache_clear()


def test_a_missing_library_is_told_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mathematics, "_LIBRARY", "no_such_library")
    with pytest.raises(MissingExtra, match=r"no_such_library.*pip install 'deltascale\[math\]'"):
        Comparer().compare("x", "y")


@pytest.mark.slow
def test_what_takes_too_long_is_killed_and_the_next_is_answered() -> None:
    pytest.importorskip("math_verify")
    ours = Comparer()
    assert ours.compare("x+y", "y+x") == "right"
    ours.timeout_s = 0.0001
    assert ours.compare("(x+1)^9", "(1+x)^9") == "unscorable"
    ours.timeout_s = 60.0
    assert ours.compare("x+y", "y+x") == "right"
    assert ours._child is not None
    ours._child[0].kill()
    assert ours.compare("x+z", "z+x") == "unscorable"
    assert ours.compare("x+z", "z+x") == "right"
    ours.close()
