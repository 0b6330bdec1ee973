"""ToolQA's comparison: what counts as the same answer, beside upstream's own rule."""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltascale import scorers
from deltascale.datasets.toolqa import FILES, parse
from deltascale.datasets.toolqa.calculator import calculate
from deltascale.records import DatasetSpec, Item, Question
from deltascale.scorers.toolqa import canonical, upstream

SHARED = Path(__file__).resolve().parents[1] / ".." / "shared" / "data" / "toolqa"
SCORER = scorers.find("toolqa")
QUESTION = Question((), "")


def score(answer: str, gold: str) -> tuple[float, float, float]:
    """(value, em_upstream, set_match)"""
    text = f"Thought: done\nAction: Finish[{answer}]"
    found = SCORER.extract(QUESTION, text)
    assert found is not None
    judged = SCORER.judge(Item("i", QUESTION, gold), found, text)
    return judged.value, judged.others["em_upstream"], judged.others["set_match"]


@pytest.mark.parametrize(
    ("answer", "gold", "ours", "theirs"),
    [
        ("147", "147.0", 1, 0),
        ("147.0", "147.0", 1, 1),
        ("1.39%", "-1.39%", 0, 1),
        ("-1.39", "-1.39%", 1, 1),
        ("14.0", "140", 0, 1),
        ("306.25", "306.25 USD", 1, 1),
        ("$306.25", "306.25 USD", 1, 1),
        ("$42,450", "$ 42450.0", 1, 0),
        ("$1,060", "$1,060 ", 1, 1),
        ("198.2", "198.2 minutes", 1, 0),
        ("198.2 min", "198.2 minutes", 1, 0),
        ("0.3", "0.31", 0, 0),
        ("20:00", "8:00 PM", 1, 0),
        ("8:00 p.m.", "8:00 PM", 1, 1),
        ("8:00 AM", "8:00 PM", 0, 0),
        ("12:05 AM", "0:05", 1, 0),
        ("2:00:00", "2:00:00", 1, 1),
        ("2:00:00", "20000", 0, 1),
        ("2016-11-10", "2016-11-10", 1, 1),
        ("20161110", "2016-11-10", 0, 1),
        ("the Broadway show", "Broadway Show", 1, 1),
        ("bullish", "bearish", 0, 0),
        ("Yes.", "Yes", 1, 1),
        ("A", "the", 0, 1),
        ("22M", "22M", 1, 1),
        ("Matched and Mismatched", "Matched, Mismatched", 0, 0),
    ],
)
def test_pairs_by_both_rules(answer: str, gold: str, ours: int, theirs: int) -> None:
    assert score(answer, gold)[:2] == (ours, theirs)


@pytest.mark.parametrize(
    ("answer", "gold", "same"),
    [
        ("Ann, Bob", "Bob, Ann", 1),
        ("Bob", "Bob, Ann", 0),
        ("Bob, Bob, Ann", "Bob, Ann", 0),
        ("1,234", "1234", 1),
        ("a, the", "the, a", 1),
    ],
)
def test_lists_in_any_order(answer: str, gold: str, same: int) -> None:
    assert score(answer, gold)[2] == same


def test_every_gold_is_itself_and_of_one_kind() -> None:
    if not SHARED.exists():
        pytest.skip("the shared ToolQA files are not beside this checkout")
    kinds: Counter[str] = Counter()
    for part, (name, _) in FILES.items():
        path = SHARED / "questions" / part.split("/")[0] / f"{name}.jsonl"
        for item in parse(part, path.read_text(encoding="utf-8"), DatasetSpec("toolqa")):
            assert score(item.target, item.target) == (1, 1, 1), item.id
            spelled = canonical(item.target)
            kind = "clock" if re.fullmatch(r"\d\d:\d\d", spelled) else "text"
            kinds["number" if re.fullmatch(r"-?\d+(/\d+)?", spelled) else kind] += 1
    assert kinds == {"number": 920, "text": 542, "clock": 59}


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Action: Finish[ 42 ]", "42"),
        ("Thought: [see]\nAction 7: Finish[x [b] c]. Done", "x b c"),
        ("Finish[42", "42"),
        ("Action: Finish[]", None),
        ("Action: GetValue[x]\nAction: Finish[42]", None),
        ("The answer is 42", "42"),
        ("Answer: **8:00 PM**", "20:00"),
        ("\\boxed{42}", "42"),
        ("42", None),
        ("<think>Finish[1]</think>\nFinish[2]", "2"),
        ("Error code: 400 - Finish[2]", None),
        ("", None),
    ],
)
def test_where_an_answer_stands(text: str, answer: str | None) -> None:
    assert SCORER.extract(QUESTION, text) == answer


@given(st.text())
def test_canonical_is_idempotent_for_any_text(text: str) -> None:
    once = canonical(text)
    assert canonical(once) == once
    assert upstream(upstream(text)) == upstream(text)


@pytest.mark.parametrize(
    ("formula", "value"),
    [
        ("3 * (4 + 1)", "15"),
        ("2 ^ 10", "1024"),
        ("7 // 2 + 7 % 2", "4"),
        ("0.1 + 0.2", "0.3"),
        ("(42.75 - 40) / 40 * 100 =", "6.875"),
        ("1,234 + 1", "1235"),
        ("(1,234 - 34) / 100", "12"),
        ("mean(1, 2, nan)", "1.5"),
        ("mean([1, 2, 3])", "2"),
        ("max(3, 1) - min(3, 1)", "2"),
        ("round(3.14159, 2)", "3.14"),
        ("std(1, 2, 3) + median(1, 5, 9) + len(4, 5) + abs(-1) + sqrt(4)", "11"),
        ("-2 ** 2", "-4"),
    ],
)
def test_formulas(formula: str, value: str) -> None:
    assert calculate(formula) == value


@pytest.mark.parametrize(
    "formula",
    [
        "",
        "1 / 0",
        "9 ** 9 ** 9",
        "9 ** 99999",
        "'a' * 9",
        "True + 1",
        "__import__('os')",
        "(1).real",
        "max()",
        "mean(nan)",
        "[1, 2]",
        "sqrt(-1)",
        "(-2) ** 0.5",
        "sum(1, 2",
        "x + 1",
        "lambda: 1",
        "1e308 * 10",
        "(" * 5000,
        "1" * 20_000,
        "round(10**290, -10**12)",  # it would never end
        "round(1, 10**9)",
    ],
)
def test_what_is_no_formula(formula: str) -> None:
    with pytest.raises(ValueError):
        calculate(formula)


@given(st.text(alphabet="0123456789+-*/%^()[], .eman", max_size=40))
def test_any_text_is_a_number_or_a_mistake(formula: str) -> None:
    with contextlib.suppress(ValueError):
        float(calculate(formula))
