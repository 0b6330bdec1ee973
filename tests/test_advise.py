"""Advice and guidelines: never more than the estimates show, and each with its evidence."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from msgspec.structs import replace as changed

from deltascale import analysis, frame, ledger
from deltascale.analysis import Caveat, Results, Settings
from deltascale.cli import cli
from deltascale.errors import Mistake
from deltascale.records import Estimate
from deltascale.report import advice, guidelines
from deltascale.report.wording import estimate_text
from tests import pages

WORTHS = (1e-9, 0.001, 1.0)


def study(folder: Path, gain: float, names: Sequence[str] = ("review", "resample")) -> pages.Made:
    return pages.make(folder, pages.gaining(gain), of=pages.models(), n_items=60, names=names)


@pytest.fixture(scope="module")
def gains(tmp_path_factory: pytest.TempPathFactory) -> pages.Made:
    names = ("review", "resample", "vote", "oracle")
    return study(tmp_path_factory.mktemp("gains"), 0.6, names)


@pytest.fixture(scope="module")
def losses(tmp_path_factory: pytest.TempPathFactory) -> pages.Made:
    return study(tmp_path_factory.mktemp("losses"), -0.6)


@pytest.fixture(scope="module")
def nothing(tmp_path_factory: pytest.TempPathFactory) -> pages.Made:
    return study(tmp_path_factory.mktemp("nothing"), 0.0)


def priced(made: pages.Made) -> Results:
    with ledger.read(made.folder / "ledger.db") as book:
        return analysis.analyse(
            frame.load(book),
            made.results.study,
            settings=Settings(replicates=200, usd_per_corrected=WORTHS),
        )


def estimates(results: Results) -> Iterator[Estimate]:
    for cell in results.cells:
        yield from (cell.delta, cell.first, cell.last)
    for finding in (*results.contrasts, *results.costs, *results.sensitivity):
        yield finding.estimate


def said(results: Results) -> list[str]:
    lines = [*guidelines.answer(results)]
    for one in guidelines.guidelines(results):
        lines += [one.sentence, *one.evidence]
    for usd in (None, *results.settings.usd_per_corrected):
        lines += [
            line
            for case in advice.advise(results, usd_per_right_answer=usd)
            for line in case.because
        ]
    return lines


@pytest.mark.parametrize("which", ["gains", "losses", "nothing"])
def test_every_interval_in_a_sentence_is_an_estimate(
    which: str, request: pytest.FixtureRequest
) -> None:
    results = request.getfixturevalue(which).results
    known = {estimate_text(one) for one in estimates(results)}
    found = [text for line in said(results) for text in re.findall(r"[^\s]+ \[[^\]]*\]", line)]
    assert found
    assert not set(found) - known


@pytest.mark.parametrize("which", ["gains", "losses", "nothing"])
def test_the_answer_has_at_most_three_sentences(which: str, request: pytest.FixtureRequest) -> None:
    results = request.getfixturevalue(which).results
    answer = guidelines.answer(results)
    assert 1 <= len(answer) <= 3
    for sentence in answer:
        assert sentence.endswith(".")
        assert "oracle" not in sentence


def test_cells_are_counted_as_they_were_tested(gains: pages.Made) -> None:
    results = gains.results
    tested = [one for one in results.cells if one.p_holm is not None]
    up = [one for one in tested if (one.p_holm or 0) < 0.05 and (one.delta.value or 0) > 0]
    assert 0 < len(up) < len(tested)
    assert not {one.cell.protocol for one in tested} & {"oracle", "resample"}
    sentence = guidelines.answer(results)[0]
    assert sentence.startswith(f"Of {len(tested)} cells (model × dataset × protocol), ")
    by = Counter(one.cell.protocol for one in up)
    assert f"accuracy rose in {len(up)} (review {by['review']}" in sentence
    cells = [
        replace(one, p_holm=0.001, delta=changed(one.delta, value=0.1))
        if one.cell.protocol == "vote" and one.p_holm is not None
        else one
        for one in results.cells
    ]
    sentence = guidelines.answer(replace(results, cells=tuple(cells)))[0]
    n_votes = sum(one.cell.protocol == "vote" for one in tested)
    assert f"(review {by['review']}, vote {n_votes})" in sentence, (
        "a vote's gain is no self-correction, and is counted apart"
    )


def test_whether_it_is_correction_is_asked_of_corrections_and_answered_of_what_is_shown(
    gains: pages.Made,
) -> None:
    (one,) = [o for o in guidelines.guidelines(gains.results) if "only another draw" in o.question]
    assert not one.sentence or one.sentence.startswith("Where a difference is shown, ")
    assert one.evidence
    assert not any(line.startswith("vote") for line in one.evidence)


def test_no_advice_speaks_in_markup(gains: pages.Made) -> None:
    for one in guidelines.guidelines(gains.results):
        assert "`" not in " ".join((one.question, one.sentence, *one.evidence))


def test_what_blocks_a_headline_blocks_it(gains: pages.Made) -> None:
    results = gains.results
    tested = guidelines.cells_tested(results, frozenset())
    one = next(cell for cell in tested if guidelines.has_gained(cell))
    blocked = replace(
        results, warnings=(Caveat(0, "scorers_disagree", guidelines.name_of(one), "so it is"),)
    )
    assert guidelines.answer(blocked)[0].startswith(f"Of {len(tested) - 1} cells")
    assert "1 cell left out" in guidelines.answer(blocked)[0]
    (case,) = advice.advise(blocked, model=one.cell.model, dataset="sums")
    assert case.protocol != one.cell.protocol
    whole = replace(results, warnings=(Caveat(0, "nothing_known", "", "no pair is complete"),))
    assert guidelines.answer(whole) == ("This study has no headline: no pair is complete.",)
    assert {case.verdict for case in advice.advise(whole)} == {"not shown"}


def test_correct_is_said_only_of_what_is_shown(gains: pages.Made) -> None:
    results = priced(gains)
    by_cell = {(one.cell.model, one.cell.protocol): one for one in results.cells}
    verdicts = set()
    for usd in (None, *WORTHS):
        for case in advice.advise(results, usd_per_right_answer=usd):
            verdicts.add(case.verdict)
            if case.verdict != "correct":
                continue
            cell = by_cell[case.model, case.protocol]
            assert cell.p_holm is not None
            assert cell.p_holm < 0.05
            assert case.gain == cell.delta
            assert (case.gain.value or 0) > 0
            if usd is not None:
                assert case.net is not None
                assert (case.net.low or 0) > 0
                assert case.chance is not None
    assert "correct" in verdicts
    assert "correct" not in {
        case.verdict for case in advice.advise(results, usd_per_right_answer=WORTHS[0])
    }, "for a billionth of a dollar nothing pays"


def test_losses_are_advised_against(losses: pages.Made) -> None:
    cases = advice.advise(losses.results)
    largest = cases[-1]
    assert largest.verdict != "correct" or largest.protocol != "review"
    made = {one.question: one for one in guidelines.guidelines(losses.results)}
    which = made["Which protocol, if any?"]
    assert "Leave out review" in which.sentence or "loses in others" in which.sentence
    assert any("falls by" in one for one in guidelines.answer(losses.results))


def test_without_evidence_there_is_no_guideline(nothing: pages.Made) -> None:
    for one in guidelines.guidelines(nothing.results):
        assert not one.supported, one
        assert one.evidence, "it says why"
    assert not {case.verdict for case in advice.advise(nothing.results)} & {"correct"}


def test_a_worth_that_was_not_analysed_is_a_bug_of_the_caller(gains: pages.Made) -> None:
    with pytest.raises(ValueError, match="was not analysed"):
        advice.advise(gains.results, usd_per_right_answer=0.123)


def test_models_are_found_by_name_and_unknown_ones_named(gains: pages.Made) -> None:
    (case,) = advice.advise(gains.results, model="m6", dataset="sums")
    assert case.model == "openai/m6"
    with pytest.raises(Mistake, match="no model m7"):
        advice.advise(gains.results, model="m7")
    with pytest.raises(Mistake, match="no dataset summs"):
        advice.advise(gains.results, dataset="summs")


def test_the_command(gains: pages.Made) -> None:
    folder = str(gains.folder)
    options = ["--value-of-a-correct-answer", "0.01"]
    done = CliRunner().invoke(cli, ["advise", folder, *options])
    assert done.exit_code == 0, done.output
    assert "Which protocol, if any?" in done.output
    assert "pays in" in done.output
    assert max(len(line.rstrip()) for line in done.output.splitlines()) <= 100
    done = CliRunner().invoke(cli, ["advise", folder, "--model", "m6", "--json", *options])
    found = json.loads(done.output)
    assert {"guidelines", "advice"} == set(found)
    assert [one["model"] for one in found["advice"]] == ["openai/m6"]
    assert not (gains.folder / "results").exists(), "asking for advice writes nothing"


@pytest.mark.parametrize("worth", ["0", "-1", "nan"])
def test_a_worth_must_be_dollars(gains: pages.Made, worth: str) -> None:
    options = ["advise", str(gains.folder), "--value-of-a-correct-answer", worth]
    done = CliRunner().invoke(cli, options)
    assert isinstance(done.exception, Mistake)
    assert "--value-of-a-correct-answer" in str(done.exception)


@pytest.mark.parametrize("cheaper", [False, True])
def test_beating_a_cheaper_vote_is_no_advice_against_voting(
    gains: pages.Made, cheaper: bool
) -> None:
    note = "a cheaper control" if cheaper else ""
    quantity = "accuracy_less_vote_of_equal_cost"
    contrasts = tuple(
        replace(one, estimate=changed(one.estimate, value=0.2, note=note), p_adjusted=0.001)
        if one.quantity == quantity else one
        for one in gains.results.contrasts
    )  # fmt: skip
    results = replace(gains.results, contrasts=contrasts)
    (vote,) = [one for one in guidelines.guidelines(results) if "majority vote" in one.question]
    assert bool(vote.sentence) != cheaper
    assert any("the vote is the cheaper one" in line for line in vote.evidence) == cheaper
    lines = [line for case in advice.advise(results) for line in case.because]
    assert any("which costs less" in line for line in lines) == cheaper
    assert any("which costs no more" in line for line in lines) != cheaper
    assert not any("costs as much" in line for line in lines)
