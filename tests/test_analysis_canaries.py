"""Signs of an artefact: first answers worse than a guess, and a gate that is no oracle."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from deltascale.analysis import Caveat, Results, analyse
from deltascale.frame import OUTCOMES, Frame
from deltascale.report import guidelines
from tests.frames import QUICK, make_frame, model, study

Floats = NDArray[np.float64]
NO_ANSWER = OUTCOMES.index("no_answer")


# --- worse than a guess --------------------------------------------------------------------------


def guesses(
    n_right: int,
    n: int = 60,
    *,
    chance: float = 0.25,
    protocols: tuple[str, ...] = ("review", "vote"),
    epochs: int = 1,
    clusters: int = 0,
    unanswered: int = 0,
    known: int | None = None,
) -> tuple[Results, Frame]:
    """One model whose first answers are right for the first `n_right` of n items, the rest being
    wrong, `unanswered` of them for want of an answer; chance is known for `known` items."""
    spec = model(1.0)
    score = np.zeros((n, epochs, 2))
    score[:n_right] = 1.0
    score[n_right : n_right + 3, :, 1] = 1.0  # something flips
    frame = make_frame("d", {(spec.id, protocol): score for protocol in protocols})
    chance_I = np.full(n, chance)
    if known is not None:
        chance_I[known:] = np.nan
    outcome = frame.outcome_CIET.copy()
    outcome[:, n - unanswered :, :, 0] = NO_ANSWER
    frame = replace(frame, chance_I=chance_I, outcome_CIET=outcome)
    if clusters:
        frame = replace(frame, clusters=tuple(f"c{k % clusters}" for k in range(n)))
    return analyse((frame,), study([spec], *protocols), settings=QUICK), frame


def below(found: Results) -> list[Caveat]:
    return [one for one in found.warnings if one.code == "below_chance"]


def test_first_answers_worse_than_a_guess_block_every_cell_that_shares_them() -> None:
    found, _ = guesses(2)
    (said,) = below(found)
    assert said.weight == 0
    assert said.about == "openai/m1, d, temperature 0.7", "once, though there are two protocols"
    assert said.text.startswith("3.3 % of 60 first answers are right, of blind guesses 25.0 %: ")
    assert "swapped" in said.text
    assert "no answer" not in said.text
    assert guidelines.blocked_cells(found) == frozenset(cell.cell.id for cell in found.cells)
    assert "no cell" in guidelines.answer(found)[0]


def test_only_the_model_and_dataset_that_is_worse_than_a_guess_is_blocked() -> None:
    good, bad = model(1.0), model(2.0)
    wrong, right = np.zeros((40, 1, 2)), np.ones((40, 1, 2))
    frames = [
        replace(
            make_frame(name, {(good.id, "review"): right, (bad.id, "review"): score}),
            chance_I=np.full(40, 0.5),
        )
        for name, score in (("one", wrong), ("two", right))
    ]
    found = analyse(frames, study([good, bad], "review"), settings=QUICK)
    (said,) = below(found)
    assert said.about == "openai/m2, one, temperature 0.7"
    assert guidelines.blocked_cells(found) == frozenset(
        one.cell.id for one in found.cells if (one.cell.model, one.cell.dataset) == (bad.id, "one")
    )


@pytest.mark.parametrize(
    ("n_right", "n", "chance", "flagged"),
    [
        # P(X <= k) of 60 trials at .24 is .0010 for 5 right (not below .001) and .0003 for 4.
        (4, 60, 0.25, True),
        (5, 60, 0.25, False),
        (15, 60, 0.25, False),
        (0, 60, 0.01, False),  # chance less a point is nothing
        (0, 10, 0.5, False),  # .51 ** 10 is .0012
        (0, 11, 0.5, True),
        (0, 9, 1.0, False),  # fewer than ten items
        (0, 10, 1.0, True),
    ],
)
def test_chance_less_a_point_is_the_bound(
    n_right: int, n: int, chance: float, flagged: bool
) -> None:
    found, _ = guesses(n_right, n, chance=chance)
    assert bool(below(found)) == flagged


def test_items_of_unknown_chance_are_left_out() -> None:
    found, _ = guesses(0, known=9)
    assert not below(found)
    found, _ = guesses(0, known=10, chance=0.9)
    (said,) = below(found)
    assert "0.0 % of 10 first answers" in said.text
    found, _ = guesses(0, known=0)
    assert not below(found)


def test_answers_that_may_all_be_alike_count_once() -> None:
    assert below(guesses(0, chance=0.3)[0])
    assert not below(guesses(0, chance=0.3, clusters=10)[0]), ".71 ** 10 is .03"
    # Three epochs of 20 items are 20 trials: .71 ** 20 is .0011, .70 ** 20 .0008.
    assert not below(guesses(0, n=20, chance=0.30, epochs=3)[0])
    assert below(guesses(0, n=20, chance=0.31, epochs=3)[0])


def test_replies_without_an_answer_are_named_as_the_reason() -> None:
    found, _ = guesses(4, unanswered=50)
    (said,) = below(found)
    assert "50 replies hold no answer (50 no answer), 40.0 % of the others are right" in said.text
    assert "swapped" not in said.text, "what was answered is no worse than a guess"
    found, _ = guesses(2, unanswered=20)
    (said,) = below(found)
    assert "20 replies hold no answer" in said.text
    assert "token limit" in said.text
    assert "swapped" in said.text, "what was answered is worse than a guess as well"
    found, _ = guesses(0, unanswered=60)
    (said,) = below(found)
    assert "60 replies hold no answer (60 no answer): " in said.text
    assert "nan" not in said.text


def test_a_withheld_cell_is_not_called_worse_than_a_guess() -> None:
    _, frame = guesses(2)
    errors = replace(
        frame,
        reply_CIET=np.zeros_like(frame.reply_CIET),
        reply_error_CIET=np.ones_like(frame.reply_error_CIET),
    )
    found = analyse((errors,), study([model(1.0)], "review", "vote"), settings=QUICK)
    assert all(cell.withheld for cell in found.cells)
    assert not below(found)


def test_the_cell_with_the_most_first_answers_speaks_for_the_model() -> None:
    _, frame = guesses(2)
    frame.score_CIET[0] = np.nan
    found = analyse((frame,), study([model(1.0)], "review", "vote"), settings=QUICK)
    (said,) = below(found)
    assert " of 60 first answers" in said.text


# --- a gate that is no oracle --------------------------------------------------------------------


def example_gate(
    protocol: str, *, asks_right: bool = False, asks_wrong: bool = True, right: float = 0.6
) -> Results:
    """Wrong first answers get a further call, as a protocol does that stops where examples pass."""
    rng = np.random.default_rng(4)
    specs = [model(1.0), model(2.0)]
    scores, calls = {}, {}
    for spec in specs:
        first = (rng.random(80) < right).astype(float)
        last = np.where(first == 1, 1.0, rng.random(80) < 0.5)
        for name in (protocol, "critique"):
            scores[spec.id, name] = np.stack([first, last], axis=-1)[:, None, :]
            n_calls = np.ones((80, 1, 2), np.int32)
            if name == protocol:
                n_calls[first == 1, 0, 1] = int(asks_right)
                n_calls[first == 0, 0, 1] = int(asks_wrong)
            calls[spec.id, name] = n_calls
    frame = make_frame("d", scores, n_calls=calls)
    return analyse((frame,), study(specs, protocol, "critique"), settings=QUICK)


def test_stopping_where_the_examples_pass_is_no_oracle() -> None:
    found = example_gate("tests")
    own = [one for one in found.cells if one.cell.protocol == "tests"]
    assert len(own) == 2
    for cell in own:
        assert (cell.gate, cell.regime) == ("", "tests")
        assert cell.p_value is not None
        assert cell.p_bh is not None
        assert cell.p_holm is not None, "what it gains is gained in use"
        assert cell.simultaneous.low is not None
    others = [one for one in found.cells if one.cell.protocol == "critique"]
    assert {one.family_size for one in others} == {4}
    said = [one for one in found.warnings if one.code == "examples_gate"]
    assert [(one.weight, one.about) for one in said] == [
        (2, guidelines.name_of(cell)) for cell in own
    ]
    assert "oracle" not in " ".join(one.text for one in found.warnings)
    assert "oracle_like" not in {one.code for one in found.warnings}
    claim = next(one for one in found.claims if one.protocol == "tests")
    assert claim.rung >= 1
    assert {row.protocol for row in found.contrasts} >= {"tests"}, "it has its comparisons"
    assert {row.protocol for row in found.frontier} >= {"tests"}


def test_the_same_calls_by_a_protocol_that_sees_nothing_are_an_oracles() -> None:
    found = example_gate("review")
    assert {one.gate for one in found.cells if one.cell.protocol == "review"} == {"oracle-like"}
    assert "examples_gate" not in {one.code for one in found.warnings}


@pytest.mark.parametrize(
    "how",
    [{"asks_right": True}, {"asks_wrong": False}, {"right": 0.0}],
    ids=["a right one is asked again", "none is asked again", "none is right"],
)
def test_what_examples_find_is_said_only_where_they_chose(how: dict[str, float]) -> None:
    found = example_gate("tests", **how)  # type: ignore[arg-type]
    assert "examples_gate" not in {one.code for one in found.warnings}
    assert {one.gate for one in found.cells} == {""}


# --- replies without an answer -------------------------------------------------------------------


@pytest.mark.parametrize(("unanswered", "warned"), [(0, False), (5, False), (7, True), (60, True)])
def test_over_a_tenth_of_replies_without_an_answer_is_a_warning(
    unanswered: int, warned: bool
) -> None:
    found, _ = guesses(0, unanswered=unanswered, known=0)
    said = [one for one in found.warnings if one.code == "no_answer"]
    assert bool(said) == warned
    for one in said:
        assert one.text.startswith(f"{unanswered} of 60 first replies ({unanswered} no answer) and")
        assert "0 of 60 last replies hold no answer and count as wrong" in one.text
