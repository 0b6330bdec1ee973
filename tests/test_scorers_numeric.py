"""The numeric scorer: what it takes for the answer, and how it compares."""

import json
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from deltascale import scorers
from deltascale.records import Item, Question
from deltascale.scorers import numeric

SHARED = Path(__file__).resolve().parents[1] / ".." / "shared" / "data"
QUESTION = Question((), "")


def found(text: str) -> str | None:
    return scorers.find("numeric").extract(QUESTION, text)


# What the regular expressions of other harnesses get wrong, and what a person would say.
TRAPS = [
    ("The answer is 18...", "18"),
    ("There are 18 of them ...", "18"),
    ("1234.00", "1234"),
    ("18 (see Eq. 2)", "2"),
    ("The answer is 18 (see Eq. 2).", "18"),
    ("3/4", "3/4"),
    ("1,234", "1234"),
    ("$1,234.00", "1234"),
    ("\u22123", "-3"),
    ("72%", "72"),
    ("**72**.", "72"),
    ("", None),
    ("I cannot solve this", None),
]

HASHES = [
    ("#### 18", "18"),
    ("####18", "18"),
    ("####\n18", "18"),
    ("#### **18**", "18"),
    ("#### \\$18", "18"),
    ("#### $ 18", "18"),
    ("#### -5", "-5"),
    ("#### 1,000,000", "1000000"),
    ("#### 18 eggs. Good", "18"),
    ("#### 7\nNo, I forgot one.\n#### 8", "8"),
    ("#### 8\nI am sure; 100 percent.", "8"),
    ("#### Step 2: add\nThe answer is 18.", "18"),
    ("#### 2. Add them\n5 + 13\n#### 18", "18"),
    ("#### 2. Add them\nso the answer is 18", "18"),
]

CUES = [
    ("The answer is 5 + 13 = 18.", "18"),
    ("Answer: 18 dollars (9 * 2 = 18, x = 3)", "18"),
    ("So the answer is 9 eggs * $2 = $18 a day, which took 3 steps.", "18"),
    ("**Final answer:**\n\n18", "18"),
    ("Answer:\n\\[ 18 \\]", "18"),
    ("The answer is 20, not 18.", "20"),
    ("The answer is incorrect. It should be 20.", "20"),
    ("The first answer was 3. The answer is 4, after 2 checks", "4"),
    ("Answer: -$5", "-5"),
    ("Answer: $-5", "-5"),
    ("The answer is 18. I hope that this answer helps.", "18"),
    ("答案是18", "18"),
    ("答案:18。", "18"),
]

NUMBERS = [
    ("\\boxed{\\frac{3}{4}}", "3/4"),
    ("\\boxed{1{,}234}", "1234"),
    ("\\boxed{18\\text{ eggs}} in 3 nests", "18"),
    ("\\boxed{x = 18}", "18"),
    ("\\boxed{7} is wrong, \\boxed{8}", "8"),
    ("It takes 1 1/2 hours", "3/2"),
    ("It takes \\( 2\\frac{1}{2} \\) hours", "5/2"),
    ("so 10 30/2", "15"),
    ("共有18个", "18"),
    ("\u0663\u0664", "34"),
    ("\uff11\uff18", "18"),
    ("10\u201315", "15"),
    ("It is 3 \u00d7 10^5", "300000"),
    ("costs 1.5e3", "1500"),
    ("...18", "18"),
    ("x=.5", "1/2"),
    ("12\u202f000", "12000"),
    ("H2O and CO2", None),
    ("3/0", None),
    ("5", "5"),
    ("9" * 5000, None),
    ("16-3-4=9", "9"),
    ("She makes 9 * 2 = $<<9*2=18>>18 there", "18"),
    ("18 is said, <<9*2=17>> is calculated", "18"),
    ("<think>it is 5</think> It is 6", "6"),
    ("<think>it is 5", None),
]


@pytest.mark.parametrize(("text", "answer"), TRAPS + HASHES + CUES + NUMBERS)
def test_what_is_taken_for_the_answer(text: str, answer: str | None) -> None:
    assert found(text) == answer


@pytest.mark.parametrize(
    "body",
    [
        "Error code: 404 - {'error': {'message': 'The model gpt-4-32k does not exist'}}",
        "Error code: 429 - Rate limit reached: 500 requests a day",
        '{"error": {"message": "maximum context length is 8192 tokens", "code": 400}}',
        '{"type": "error", "error": {"type": "overloaded_error", "message": "529"}}',
        '{"detail": "You have run out of credit. 402"}',
        "[ERROR] API call failed after 3 attempts",
        "[ERROR 404] not found",
        "HTTP 503 Service Unavailable",
        "HTTP/1.1 502 Bad Gateway",
        "<!DOCTYPE html><title>504 Gateway Time-out</title>",
        "API Error: 500 internal error",
        "Traceback (most recent call last):\n  line 3",
    ],
)
@pytest.mark.parametrize("name", ["numeric", "gsm8k", "choice", "exact", "contains", "regex"])
def test_an_error_body_is_never_an_answer(name: str, body: str) -> None:
    assert scorers.find(name).extract(QUESTION, body) is None


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("$1,234.00", "1234"),
        ("18.", "18"),
        ("+5", "5"),
        (".5", "1/2"),
        ("- 3", "-3"),
        ("-1 1/2", "-3/2"),
        ("1.20", "6/5"),
        ("4/8", "1/2"),
        ("1,23", None),
        ("1 234", "1234"),
        ("1,234,56", None),
        ("3 eggs", None),
        ("nan", None),
        ("inf", None),
        ("1e999999999", None),
        ("1_000", None),
        ("", None),
    ],
)
def test_canonical_reads_whole_texts_only(text: str, number: str | None) -> None:
    assert numeric.canonical(text) == number


@given(st.fractions())
def test_canonical_is_idempotent_and_exact(number: Fraction) -> None:
    once = numeric.canonical(str(number))
    assert once == str(number)
    assert numeric.canonical(once) == once


@given(st.decimals(allow_nan=False, allow_infinity=False, places=4, min_value=-(10**12)))
def test_trailing_zeros_and_commas_change_nothing(number: object) -> None:
    plain = f"{number:f}"
    assert numeric.canonical(f"{number:,f}") == numeric.canonical(plain + "00")
    assert numeric.canonical(plain) is not None


ALPHABET = st.sampled_from([*list("0123456789.,$-/ \n#=*e%"), "\\boxed{", "}", "answer is "])


@given(st.one_of(st.text(), st.lists(ALPHABET, max_size=30).map("".join)))
@example("\\boxed{" * 50)
@example("\u0660/\u0660")
def test_any_text_has_a_canonical_answer_or_none(text: str) -> None:
    answer = found(text)
    assert answer is None or numeric.canonical(answer) == answer


@given(st.lists(ALPHABET, max_size=200).map("".join), st.integers(0, 400))
def test_lm_eval_flexible_is_the_last_match_of_its_pattern(text: str, pad: int) -> None:
    text = text + "x" * pad
    every = numeric._LM_FLEXIBLE.findall(text)
    last = (every[-1][0] or every[-1][1]) if every else None
    assert numeric.lm_eval_flexible(text) == last


@pytest.mark.parametrize(
    ("text", "strict", "flexible"),
    [
        ("so #### 18 and #### 19", "18", "19"),
        ("The answer is 18...", None, "18..."),
        ("text with 5 that ends in ...", None, "..."),
        ("####18", None, "18"),
        ("3/4", None, "4"),
        ("nothing", None, None),
    ],
)
def test_the_rules_of_lm_eval(text: str, strict: str | None, flexible: str | None) -> None:
    assert numeric.lm_eval_strict(text) == strict
    assert numeric.lm_eval_flexible(text) == flexible


def test_their_comparison_is_one_of_strings() -> None:
    item = Item("i", QUESTION, "1234")
    score = scorers.find("gsm8k").judge(item, "1234", "It is 1234.00")
    assert score.value == 1.0
    assert score.others == {"strict": 0.0, "lm_eval_strict": 0.0, "lm_eval_flexible": 0.0}
    score = scorers.find("gsm8k").judge(item, "1234", "It is $1,234.")
    assert score.others["lm_eval_flexible"] == 1.0


def test_every_gold_solution_of_gsm8k_is_right_by_every_rule() -> None:
    path = SHARED / "gsm8k" / "test.jsonl"
    if not path.exists():
        pytest.skip("the shared GSM8K test file is not beside this checkout")
    scorer, n_right = scorers.find("gsm8k"), 0
    for line in path.read_text(encoding="utf-8").rstrip("\n").split("\n"):
        solution = json.loads(line)["answer"]
        item = Item("i", QUESTION, solution.split("####")[1].strip().replace(",", ""))
        answer = scorer.extract(QUESTION, solution)
        assert answer is not None
        score = scorer.judge(item, answer, solution)
        n_right += score.value == 1.0 and set(score.others.values()) == {1.0}
    assert n_right == 1319
