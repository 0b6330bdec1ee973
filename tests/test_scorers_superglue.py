"""SuperGLUE's answers and its task scores, by hand and against scikit-learn."""

from __future__ import annotations

from itertools import chain, count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltascale import scorers
from deltascale.records import Item, Question, Seen
from deltascale.scorers import benchmark, superglue

SCORER = scorers.find("superglue")
NUMBER = count()
YES_NO = ("yes", "no")
TWO, THREE = ("true", "false"), ("true", "false", "neither")
LETTERS = ("A. The cat ran.", "B. The cat sat.")
NUMBERS = ("1. Ann", "2. Bob", "3. Cy", "4. Dee")
NAMES = ("Tracy Morgan", "SNL", "The Beatles")


@pytest.mark.parametrize(
    ("choices", "text", "answer"),
    [
        (YES_NO, "Answer: yes", "yes"),
        (YES_NO, "It says so.\n**Answer: No.**", "no"),
        (YES_NO, "Answer: Yes, because the text says so", "yes"),
        (YES_NO, "Yes", "yes"),
        (YES_NO, "No.\nThe passage is about films.", "no"),
        (YES_NO, "Answer: true", "yes"),
        (YES_NO, "Answer: yes or no", None),
        (YES_NO, "The text says yes to that", None),
        (YES_NO, "Yes and no are both possible.", None),
        (YES_NO, "Answer: maybe", None),
        (YES_NO, "Answer: not yes", None),
        (YES_NO, "", None),
        (TWO, "Answer: False", "false"),
        (TWO, "Answer: entailment", "true"),
        (TWO, "Answer: not_entailment", "false"),
        (TWO, "Answer: not entailed by the text", "false"),
        (TWO, "Answer: not true", "false"),
        (TWO, "Answer: neither", None),
        (THREE, "Answer: neither", "neither"),
        (THREE, "Answer: Neutral", "neither"),
        (THREE, "Answer: contradiction", "false"),
        (LETTERS, "Answer: B", "B"),
        (LETTERS, "The cat sat.", "B"),
        (LETTERS, "Answer: C", None),
        (NUMBERS, "Answer: 1, 4", "1,4"),
        (NUMBERS, "Answer: 4 and 1", "1,4"),
        (NUMBERS, "Answer: 1, 2, and 4.", "1,2,4"),
        (NUMBERS, "Answer: 1 (Ann)", "1"),
        (NUMBERS, "Answer: options 2; 3", "2,3"),
        (NUMBERS, "Answer: 0", "0"),
        (NUMBERS, "Answer: none", "0"),
        (NUMBERS, "Ann and Dee.\n1, 4", "1,4"),
        (NUMBERS, "Answer: 1, 5", None),
        (NUMBERS, "Answer: 0, 1", None),
        (NUMBERS, "Answer: 3 people were there", None),
        (NUMBERS, "1. Ann is right, 2. Bob is not", None),
        (NAMES, "Answer: Tracy Morgan", "Tracy Morgan"),
        (NAMES, "Answer: **tracy morgan**.", "Tracy Morgan"),
        (NAMES, "Answer: Beatles", "The Beatles"),
        (NAMES, "SNL", "SNL"),
        (NAMES, "Answer: Morgan", "Morgan"),
        (NAMES, "It must be Morgan", None),
        (NAMES, '{"error": {"code": 500}}', None),
        (NAMES, "<think>Answer: SNL</think>", None),
    ],
)
def test_answers_by_the_marks_of_the_options(
    choices: tuple[str, ...], text: str, answer: str | None
) -> None:
    assert SCORER.extract(Question((), "", choices=choices), text) == answer


@given(st.text(), st.sampled_from([YES_NO, TWO, THREE, LETTERS, NUMBERS, NAMES, ()]))
def test_any_text_has_an_answer_or_none(text: str, choices: tuple[str, ...]) -> None:
    question = Question((), "", choices=choices)
    for reply in (text, f"Answer: {text}"):
        answer = SCORER.extract(question, reply)
        assert answer is None or answer
        if choices in {YES_NO, TWO, THREE}:
            assert answer is None or answer in choices


def item(task: str, target: str, *aliases: str, choices: tuple[str, ...] = ()) -> Item:
    name = f"i{next(NUMBER)}"
    return Item(name, Question((), "", choices=choices), target, aliases, stratum=task)


def test_a_name_is_held_against_every_gold() -> None:
    score = SCORER.judge(item("ReCoRD", "Tracy Morgan", "Morgan"), "the morgan!", "")
    assert (score.value, score.others) == (1.0, {"f1": 1.0})
    score = SCORER.judge(item("ReCoRD", "Tracy Morgan"), "Morgan", "")
    assert score.value == 0.0
    assert score.others["f1"] == pytest.approx(2 / 3)


def test_a_set_of_options_is_right_as_a_whole() -> None:
    score = SCORER.judge(item("MultiRC", "1,4", choices=NUMBERS), "1,2", "")
    assert (score.value, score.others) == (0.0, {"f1": 0.5})
    assert SCORER.judge(item("MultiRC", "0", choices=NUMBERS), "0", "").others == {"f1": 1.0}
    assert SCORER.judge(item("MultiRC", "0", choices=NUMBERS), "1", "").others == {"f1": 0.0}


@given(
    st.lists(
        st.tuples(st.sampled_from(THREE), st.sampled_from([*THREE, None])), min_size=1, max_size=40
    )
)
def test_macro_f1_is_that_of_scikit_learn(pairs: list[tuple[str, str | None]]) -> None:
    from sklearn.metrics import f1_score  # type: ignore[import-untyped]  # no types; slow

    golds = [gold for gold, _ in pairs]
    answers = [answer or "no answer" for _, answer in pairs]
    expected = f1_score(golds, answers, labels=list(THREE), average="macro", zero_division=0)
    scores = benchmark.scores(SCORER, [(item("CB", gold), answer) for gold, answer in pairs])
    assert scores["CB", "macro-F1"] == pytest.approx(expected)


SETS = st.sets(st.integers(1, 4)).map(lambda s: ",".join(map(str, sorted(s))) or "0")


@given(st.lists(st.tuples(SETS, st.one_of(st.none(), SETS)), min_size=1, max_size=20))
def test_multirc_is_binary_f1_over_all_options(pairs: list[tuple[str, str | None]]) -> None:
    from sklearn.metrics import f1_score  # type: ignore[import-untyped]  # no types; slow

    def bits(answer: str) -> list[int]:
        return [int(str(number) in answer.split(",")) for number in range(1, 5)]

    golds = [bits(gold) for gold, _ in pairs]
    found = [
        [1 - bit for bit in bits(gold)] if answer is None else bits(answer)
        for gold, answer in pairs
    ]
    scores = benchmark.scores(
        SCORER, [(item("MultiRC", gold, choices=NUMBERS), answer) for gold, answer in pairs]
    )
    flat_gold, flat_found = list(chain(*golds)), list(chain(*found))
    expected = f1_score(flat_gold, flat_found, zero_division=0)
    assert scores["MultiRC", "F1a"] == pytest.approx(expected)
    n_exact = sum(g == f for g, f in zip(golds, found, strict=True))
    assert scores["MultiRC", "EM"] == pytest.approx(n_exact / len(pairs))
    # Asked option by option, the same judgements give the same scores.
    one_by_one = [
        (option(str(number), "yes" if gold else "no", place), "yes" if said else "no")
        for number, (golds_of_one, found_of_one) in enumerate(zip(golds, found, strict=True))
        for place, (gold, said) in enumerate(zip(golds_of_one, found_of_one, strict=True))
    ]
    assert benchmark.scores(SCORER, one_by_one) == pytest.approx(scores)


def option(question: str, target: str, place: int) -> Item:
    asked = Question((), "", choices=YES_NO)
    return Item(f"{question}-{place}", asked, target, stratum="MultiRC", meta={"unit": question})


def test_an_option_without_an_answer_was_judged_wrongly() -> None:
    right, wrong = option("q", "yes", 0), option("q", "no", 1)
    assert superglue.counts(right, Seen((), "", None))["n_missed"] == 1.0
    assert superglue.counts(wrong, Seen((), "", None))["n_wrong"] == 1.0


def test_scores_of_tasks_by_hand() -> None:
    cb = [("true", "true"), ("true", "false"), ("false", "false"), ("neither", None)]
    answers = [(item("CB", gold), answer) for gold, answer in cb]
    answers += [(item("BoolQ", "yes"), "yes"), (item("BoolQ", "yes"), None)]
    answers += [(item("ReCoRD", "Tracy Morgan"), "Morgan"), (item("ReCoRD", "SNL"), "SNL")]
    answers += [(item("ReCoRD", "SNL"), None)]
    scores = benchmark.scores(SCORER, answers)
    macro = (2 / 3 + 2 / 3 + 0) / 3
    f1 = (2 / 3 + 1 + 0) / 3
    assert scores == pytest.approx(
        {
            ("BoolQ", "accuracy"): 0.5,
            ("CB", "accuracy"): 0.5,
            ("CB", "macro-F1"): macro,
            ("CB", "score"): (0.5 + macro) / 2,
            ("ReCoRD", "F1"): f1,
            ("ReCoRD", "EM"): 1 / 3,
            ("ReCoRD", "score"): (f1 + 1 / 3) / 2,
            ("", "mean of 3 tasks"): (0.5 + (0.5 + macro) / 2 + (f1 + 1 / 3) / 2) / 3,
        }
    )


def test_the_benchmarks_score_needs_all_eight_tasks() -> None:
    tasks = ["BoolQ", "COPA", "RTE", "WSC", "WiC"]
    answers: list[tuple[Item, str | None]] = [(item(task, "x"), "x") for task in tasks]
    answers += [(item("CB", "true"), "true"), (item("ReCoRD", "SNL"), "SNL")]
    assert ("", "SuperGLUE score") not in benchmark.scores(SCORER, answers)
    answers += [(item("MultiRC", "1", choices=NUMBERS), "2")]
    expected = (6 + (1 + 1 / 3) / 2 + 0) / 8
    assert benchmark.scores(SCORER, answers)["", "SuperGLUE score"] == pytest.approx(expected)
