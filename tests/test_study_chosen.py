"""What a user chooses of a study: a phase of its file, or options without a file."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from deltascale import study
from deltascale.errors import StudyMistake
from tests.test_study import CALM_FEW, MINIMAL, TODAY, parsed

# --- phases --------------------------------------------------------------------------------------

PHASED = """\
name: x
models: [simulated/sim-1b, simulated/sim-3b]
datasets: [demo-sums, {name: demo-choices, items: 150}]
protocols: [review, vote]
turns: 3
items: 200
budget_usd: 5
phases:
  pilot:
    models: [simulated/sim-3b]
    datasets: [{name: demo-choices, items: 20}]
    protocols: [vote]
    items: 100
    turns: 2
  middle: {items: 100}
  whole:
"""


def test_a_phase_is_its_study_restricted() -> None:
    whole = parsed(PHASED)
    pilot, middle, last = study.phase(whole, "all")
    assert [model.id for model in pilot.models] == ["simulated/sim-3b"]
    assert [(spec.name, spec.items) for spec in pilot.datasets] == [("demo-choices", 20)]
    assert (pilot.protocols, pilot.items, pilot.turns) == (("vote",), 100, 2)
    assert (pilot.name, pilot.budget_nusd, pilot.phases) == ("x", 5_000_000_000, {})
    assert middle == replace(
        whole,
        items=100,
        datasets=tuple(replace(spec, items=spec.items and 100) for spec in whole.datasets),
        phases={},
    )
    assert last == replace(whole, phases={})


def test_a_phase_is_meant_by_name_number_or_all() -> None:
    whole = parsed(PHASED)
    pilot, middle, last = whole.phases.values()
    assert list(whole.phases) == ["pilot", "middle", "whole"]
    assert study.phase(whole, "middle") == (middle,)
    assert study.phase(whole, "1") == (pilot,)
    assert study.phase(whole, "3") == (last,)
    alone = parsed(MINIMAL)
    assert study.phase(alone, "all") == (alone,)


@pytest.mark.parametrize(
    ("which", "remedy"),
    [
        ("pilto", "did you mean 'pilot'?"),
        ("4", "phases: pilot, middle, whole; or a number, or all"),
        ("0", "phases: pilot, middle, whole; or a number, or all"),
        ("²", "phases: pilot, middle, whole; or a number, or all"),
    ],
)
def test_an_unknown_phase_is_one_line(which: str, remedy: str) -> None:
    with pytest.raises(StudyMistake) as stop:
        study.phase(parsed(PHASED), which)
    expected = f"command line: --phase: {which!r} is not a phase of 'x'; {remedy}"
    assert str(stop.value) == expected


def test_a_study_without_phases_says_so() -> None:
    with pytest.raises(StudyMistake, match="it has none; leave the option out"):
        study.phase(parsed(MINIMAL), "pilot")


# --- without a file ------------------------------------------------------------------------------


def test_options_make_the_same_study_as_a_file() -> None:
    made = study.adhoc(
        models=["simulated/sim-1b", "openai/gpt-4o-mini"],
        datasets=["demo-sums"],
        protocols=["review", "vote"],
        turns=3,
        items=50,
        temperature=(0.3, 0.7),
        epochs=2,
        max_tokens=512,
        budget_usd=1.5,
        seed=7,
        name="x",
        on=TODAY,
    )
    assert made == parsed("""\
name: x
models: [simulated/sim-1b, openai/gpt-4o-mini]
datasets: [demo-sums]
protocols: [review, vote]
turns: 3
items: 50
temperature: [0.3, 0.7]
epochs: 2
max_tokens: 512
budget_usd: 1.5
seed: 7
""")


def test_options_that_were_not_given_have_the_defaults() -> None:
    made = study.adhoc(models=("simulated/sim-1b",), datasets=("demo-sums",), on=TODAY)
    assert made == replace(parsed(MINIMAL), name="sim-1b-demo-sums-review")
    several = study.adhoc(
        models=("simulated/sim-1b", "simulated/sim-3b"),
        datasets=("demo-sums",),
        protocols=(),
        temperature=(),
        on=TODAY,
    )
    assert several.name == "2-models-demo-sums-review"


def test_a_server_and_its_price_are_of_every_model() -> None:
    made = study.adhoc(
        models=["openai/a", "openai/b"],
        base_url="http://127.0.0.1:9/v1",
        price=0,
        datasets=["gsm8k"],
        on=TODAY,
    )
    assert {model.base_url for model in made.models} == {"http://127.0.0.1:9/v1"}
    assert {model.price.output_nusd_per_ktok for model in made.models} == {0}


@pytest.mark.parametrize(
    ("price", "sides"),
    [
        (0, (0, 0, 0)),
        ("0", (0, 0, 0)),
        (0.5, (500_000, 500_000, 500_000)),
        ("0.15/0.6", (150_000, 150_000, 600_000)),
        ("0.15/0.075/0.6", (150_000, 75_000, 600_000)),
    ],
)
def test_a_price_on_the_command_line(price: float | str, sides: tuple[int, int, int]) -> None:
    made = study.adhoc(models=["openai/x"], price=price, datasets=["gsm8k"], on=TODAY)
    found = made.models[0].price
    assert sides == (
        found.input_nusd_per_ktok, found.cached_input_nusd_per_ktok, found.output_nusd_per_ktok,
    )  # fmt: skip


def test_a_table_on_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.csv").write_text("question,answer\n")
    monkeypatch.chdir(tmp_path)
    made = study.adhoc(
        models=["simulated/sim-1b"], datasets=["mine.csv"], scorer="numeric", on=TODAY
    )
    assert made.name == "sim-1b-mine.csv-review"
    assert made.datasets[0].name == "mine"
    assert Path(made.datasets[0].file) == tmp_path / "mine.csv"


def test_mistakes_in_options_carry_the_options_names() -> None:
    with pytest.raises(StudyMistake) as stop:
        study.adhoc(
            models=["openai/gpt4o-mini", "openai/gpt4o-mini"],
            datasets=["gsm9k", "no.csv"],
            protocols=["reveiw"],
            scorer="numerc",
            base_url="localhost",
            price="cheap",
            turns=0,
            items=0,
            temperature=3,
            epochs=0,
            budget_usd=-1,
            seed=-1,
            name="a/b",
            on=TODAY,
        )
    assert str(stop.value).splitlines() == [
        "command line: --base-url: 'localhost' is not the address of a server; "
        "write it like http://localhost:8000/v1",
        "command line: --price: 'cheap' is not an amount; write a number of USD, such as 12.50",
        "command line: --dataset: unknown dataset 'gsm9k'; did you mean 'gsm8k'?",
        "command line: --scorer: unknown scorer 'numerc'; did you mean 'numeric'?",
        "command line: --dataset: there is no file 'no.csv'; check the path",
        "command line: --protocol: unknown protocol 'reveiw'; did you mean 'review'?",
        "command line: --name: 'a/b' can't name a folder; "
        "use up to 64 letters, digits, dots, dashes and underscores",
        "command line: --turns: 0 is out of range; write a whole number from 1 to 20",
        "command line: --epochs: 0 is out of range; write a whole number from 1 to 1000",
        "command line: --temperature: 3 is out of range; write a number from 0 to 2",
        "command line: --items: 0 is out of range; write a whole number from 1 to 10000000",
        "command line: --budget: -1 is negative; write 0 or more",
        "command line: --seed: -1 is out of range; write a whole number from 0 to "
        "9223372036854775807",
    ]


def test_options_that_are_needed_are_asked_for() -> None:
    with pytest.raises(StudyMistake) as stop:
        study.adhoc(models=(), datasets=(), on=TODAY)
    assert str(stop.value).splitlines() == [
        "command line: --model: missing; give --model",
        "command line: --dataset: missing; give --dataset",
    ]


@CALM_FEW
@given(
    st.lists(st.text(min_size=1), min_size=1, max_size=3),
    st.lists(st.text(min_size=1), min_size=1, max_size=2),
)
def test_no_option_does_worse_than_a_list_of_problems(models: list[str], names: list[str]) -> None:
    with pytest.raises(StudyMistake):
        study.adhoc(models=models, datasets=names, on=TODAY)


def test_another_budget_holds_for_every_phase() -> None:
    text = PHASED.replace("simulated/sim-1b", "openai/gpt-4o-mini").replace("budget_usd: 5\n", "")
    whole = parsed(text)
    assert any(warning.startswith("no budget") for warning in whole.warnings)
    capped = study.with_budget(whole, 2.5)
    assert capped == parsed(text + "budget_usd: 2.5\n")
    assert {each.budget_nusd for each in study.phase(capped, "all")} == {2_500_000_000}
    assert study.with_budget(whole, 0) == parsed(text + "budget_usd: 0\n")
    assert study.with_budget(capped, 0).warnings[-1].startswith("a budget of 0")
    with pytest.raises(StudyMistake, match="command line: --budget: nan is not an amount"):
        study.with_budget(whole, math.nan)
