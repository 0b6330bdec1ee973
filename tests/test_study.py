"""A study file is read whole: everything wrong with it is said at once, and nothing else passes."""

from __future__ import annotations

import contextlib
import math
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from deltascale import study
from deltascale.errors import StudyMistake
from deltascale.records import Limits, Price, Size, Study
from deltascale.study.text import Findings, plain, render, tree

# How long an example takes says more of the machine than of the code.
CALM = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
CALM_FEW = settings(CALM, max_examples=30)
TODAY = date(2026, 11, 21)
MALFORMED = Path(__file__).parent / "malformed"
MINIMAL = """\
name: x
models: [simulated/sim-1b]
datasets: [demo-sums]
protocols: [review]
"""


def parsed(text: str, *, on: date = TODAY) -> Study:
    return study.parse(text, file="study.yaml", on=on)


def said(text: str) -> list[str]:
    with pytest.raises(StudyMistake) as stop:
        parsed(text)
    return str(stop.value).splitlines()


# --- what is wrong -------------------------------------------------------------------------------


def malformed() -> list[Path]:
    found = sorted(MALFORMED.glob("*.yaml"))
    assert len(found) >= 100
    return found


@pytest.mark.parametrize("path", malformed(), ids=lambda path: path.stem)
def test_a_malformed_file_is_told_exactly_what_is_wrong(path: Path) -> None:
    """Each file ends in the lines it must produce, behind `#> `: line, key, what, remedy."""
    lines = path.read_bytes().decode().split("\n")
    expected = [line.removeprefix("#> ") for line in lines if line.startswith("#> ")]
    text = "\n".join(line for line in lines if not line.startswith("#> "))
    with pytest.raises(StudyMistake) as stop:
        study.parse(text, file=str(path), on=TODAY)
    found = [str(problem).removeprefix(str(path)).lstrip(": ") for problem in stop.value.problems]
    assert found == expected
    assert all(problem.remedy for problem in stop.value.problems)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "the file is empty; `deltascale init` writes a study to edit"),
        (b"\xef\xbb\xbf", "the file is empty; `deltascale init` writes a study to edit"),
        (MINIMAL.encode("utf-16"), "the text is in UTF-16; save it as UTF-8"),
        (b"name: x\nsystem: caf\xe9\n", "2: byte 0xe9 is not UTF-8; save the file as UTF-8"),
        (b"name: x\n\n\0", "3: the character U+0000 has no place in a text file; remove it"),
        (b"#" * 2_000_000, "2000000 bytes are too many for a study file"),
        (b"a: " + b"[" * 100_000, "1: a[0][0][0][0][0][0][0][0][0][0][0][0][0][0][0]: nested"),
    ],
    ids=["empty", "only-bom", "utf-16", "latin-1", "nul", "huge", "brackets"],
)
def test_bytes_that_are_no_study_are_one_line(tmp_path: Path, data: bytes, expected: str) -> None:
    path = tmp_path / "study.yaml"
    path.write_bytes(data)
    with pytest.raises(StudyMistake) as stop:
        study.load(path, on=TODAY)
    (line,) = str(stop.value).splitlines()
    assert line.removeprefix(str(path)).lstrip(": ").startswith(expected)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StudyMistake, match="there is no such file; `deltascale init` writes one"):
        study.load(tmp_path / "none.yaml", on=TODAY)
    with pytest.raises(StudyMistake, match="can't be read: Is a directory"):
        study.load(tmp_path, on=TODAY)


def test_a_byte_order_mark_and_foreign_line_ends_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + MINIMAL.replace("\n", "\r\n").encode())
    assert study.load(path, on=TODAY) == parsed(MINIMAL)


def test_an_error_names_its_line_in_a_file_with_foreign_line_ends() -> None:
    assert said((MINIMAL + "turns: x\n").replace("\n", "\r\n"))[0].startswith(
        "study.yaml:5: turns:"
    )


@CALM
@given(st.text(max_size=200))
@example("\x85")
@example("? ")
@example("a: !!python/object:os.system x")
@example("%TAG ! x\n---\na: b")
@example("- " * 2000)
def test_no_text_does_worse_than_a_list_of_problems(text: str) -> None:
    with pytest.raises(StudyMistake) as stop:
        parsed(text)
    assert all(line.startswith("study.yaml") for line in str(stop.value).splitlines())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)
PLACES = (
    "name", "models", "datasets", "protocols", "turns", "epochs", "temperature", "max_tokens",
    "items", "budget_usd", "seed", "system", "phases", "model", "id", "base_url", "parameters",
    "size", "price", "params", "limits", "context_tokens", "reasoning", "dataset", "file", "phase",
    "training_tokens",
)  # fmt: skip


@given(st.sampled_from(PLACES), JSON)
@CALM
def test_no_value_in_any_place_does_worse(place: str, value: Any) -> None:
    """Whatever stands where something else is meant: a study, or problems; never a crash."""
    model: dict[str, Any] = {"id": "simulated/sim-1b"}
    dataset: dict[str, Any] = {"name": "demo-sums"}
    body: dict[str, Any] = {"name": "x", "models": [model], "datasets": [dataset]}
    body |= {"protocols": ["review"], "phases": {"p": {"items": 3}}}
    if place == "model":
        body["models"] = [value]
    elif place == "dataset":
        body["datasets"] = [value]
    elif place == "phase":
        body["phases"] = {"p": value}
    elif place in PLACES[:13]:
        body[place] = value
    elif place == "file":
        dataset |= {"name": "mine", "file": value, "scorer": "numeric"}
    else:
        model[place] = value
    with contextlib.suppress(StudyMistake):
        parsed(render(body))


# --- what is meant -------------------------------------------------------------------------------


def test_the_smallest_study_has_the_defaults() -> None:
    found = parsed(MINIMAL)
    assert (found.turns, found.epochs, found.temperatures) == (2, 1, (0.7,))
    assert (found.max_tokens, found.items, found.budget_nusd) == (2048, None, None)
    assert (found.seed, found.system, found.phases, found.warnings) == (0, "", {}, ())
    (model,) = found.models
    assert (model.id, model.provider, model.name) == ("simulated/sim-1b", "simulated", "sim-1b")
    assert model.size.source == "simulated"
    assert model.price.output_nusd_per_ktok == 160_000


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("no", "no"), ("off", "off"), ("yes", "yes"), ("y", "y"), ("1:30", "1:30"),
        ("2026-11-21", "2026-11-21"), ("=", "="), ("1_000", "1_000"), ("0b1", "0b1"),
        ("1e-3", 0.001), ("1E3", 1000.0), ("+1.5", 1.5), (".5", 0.5), ("5.", 5.0),
        ("012", 12), ("0o10", 8), ("0x1F", 31), ("-7", -7),
        ("true", True), ("False", False), ("tRUE", "tRUE"), ("null", None), ("~", None), ("", None),
        ("'1'", "1"), ('"true"', "true"), ('"\\u00e9"', "é"), (".inf", math.inf), ("! 5", "5"),
    ],
)  # fmt: skip
def test_a_scalar_has_the_meaning_of_yaml_1_2(written: str, meant: object) -> None:
    found = tree(f"a: {written}\n", Findings("x"))
    assert plain(found) == {"a": meant}
    assert type(plain(found)["a"]) is type(meant)  # type: ignore[call-overload,index] # a mapping


def test_a_model_of_ones_own_server() -> None:
    found = parsed("""\
name: x
models:
  - id: openai/mine
    name: org/Mine-7B
    base_url: http://localhost:8000/v1/
    parameters: 7.2e9
    parameters_source: the model's card
    price: {input: 0.15, output: 0.60}
    params: {reasoning_effort: low, stop: [a, b]}
    limits: {connections: 64, rpm: 500, tpm: 2e5, timeout_s: 30}
    context_tokens: 4096
    reasoning: true
    native_tools: true
    family: mine
datasets: [gsm8k]
protocols: [review]
""")
    (model,) = found.models
    assert (model.id, model.provider, model.name) == ("openai/mine", "openai", "org/Mine-7B")
    assert model.base_url == "http://localhost:8000/v1"
    assert model.size == Size("published", 7.2e9, citation="the model's card")
    assert model.price == Price(150_000, 150_000, 600_000, "stated in the study file", "2026-11-21")
    assert model.params == {"reasoning_effort": "low", "stop": ["a", "b"]}
    assert model.limits == Limits(connections=64, rpm=500, tpm=200_000, timeout_s=30)
    assert (model.context_tokens, model.reasoning, model.native_tools) == (4096, True, True)
    assert model.family == "mine"


def one_model(entry: str) -> Any:
    return parsed(MINIMAL.replace("[simulated/sim-1b]", f"\n  - {entry}")).models[0]


def test_a_size_that_nobody_states_is_unknown() -> None:
    assert one_model("{id: openai/mine, price: 0}").size == Size("unknown")


def test_published_weights_are_known_on_any_server() -> None:
    model = one_model("{id: openai/Qwen/Qwen2.5-0.5B-Instruct, base_url: 'http://h/v1', price: 0}")
    assert model.size.parameters == 494_032_768
    assert model.name == "Qwen/Qwen2.5-0.5B-Instruct"
    assert model.family == "qwen2.5"


def test_a_number_the_user_states_is_kept_with_its_source() -> None:
    model = one_model("{id: openai/gpt-4o-mini, parameters: 8e9}")
    assert model.size == Size("published", 8e9, citation="stated in the study file")


def test_training_tokens_stand_beside_the_parameters() -> None:
    stated = "stated in the study file"
    model = one_model("{id: openai/mine, price: 0, parameters: 7e9, training_tokens: 18e12}")
    assert model.size == Size(
        "published", 7e9, citation=stated, training_tokens=18e12, training_citation=stated
    )
    model = one_model(
        "{id: openai/mine, price: 0, parameters: 7e9, training_tokens: 18e12, "
        "training_source: our own log}"
    )
    assert model.size.training_citation == "our own log"
    assert one_model("{id: openai/mine, price: 0, parameters: 7e9}").size.training_tokens is None
    served = "{id: openai/Qwen/Qwen2.5-0.5B-Instruct, base_url: 'http://h/v1', price: 0}"
    assert one_model(served).size.training_tokens == 18e12


def test_a_simulated_size_is_read_from_the_name_and_never_published() -> None:
    assert one_model("simulated/sim-2.5b").size.parameters == 2.5e9
    stated = one_model("{id: simulated/large, parameters: 5e11}").size
    assert (stated.source, stated.parameters) == ("simulated", 5e11)


def test_local_models_are_free_whatever_their_file() -> None:
    model = one_model("local/models/some file.gguf")
    assert (model.name, model.price.input_nusd_per_ktok) == ("models/some file.gguf", 0)
    assert one_model("local/smollm2-135m").size.parameters == 134_515_008


def test_a_catalogued_price_is_the_one_of_the_day() -> None:
    text = MINIMAL.replace("simulated/sim-1b", "openai/o3").replace("review]", "review]\nturns: 2")
    old = parsed(text, on=date(2025, 5, 1)).models[0].price
    new = parsed(text, on=date(2025, 7, 1)).models[0].price
    assert (old.input_nusd_per_ktok, new.input_nusd_per_ktok) == (10_000_000, 2_000_000)


def test_no_prompt_may_be_longer_than_its_price_holds() -> None:
    assert one_model("openai/gpt-5.4").context_tokens == 272_000
    assert one_model("openai/gpt-4o").context_tokens == 128_000


def test_the_same_weights_with_other_params_go_by_another_id() -> None:
    text = MINIMAL.replace(
        "[simulated/sim-1b]",
        """
  - {id: openai/gpt-6-luna-low, name: gpt-6-luna, params: {reasoning_effort: low}}
  - {id: openai/gpt-6-luna-high, name: gpt-6-luna, params: {reasoning_effort: high}}""",
    )
    low, high = parsed(text).models
    assert low.name == high.name == "gpt-6-luna"
    assert low.reasoning
    assert low.price == high.price


@CALM_FEW
@given(st.decimals(min_value=0, max_value=10**6, places=6))
def test_money_is_exactly_what_was_written(usd: Decimal) -> None:
    text = MINIMAL + f"budget_usd: {usd:f}\n"
    assert Decimal(parsed(text).budget_nusd or 0).scaleb(-9) == usd
    price = one_model(f"{{id: openai/x, price: {{input: {usd:f}, output: 0}}}}").price
    assert Decimal(price.input_nusd_per_ktok).scaleb(-6) == usd
    assert price.cached_input_nusd_per_ktok == price.input_nusd_per_ktok


def test_a_table_is_found_beside_the_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.csv").write_text("question,answer\n")
    text = MINIMAL.replace("[demo-sums]", "[{file: data/mine.csv, scorer: numeric, items: 9}]")
    (tmp_path / "x.yaml").write_text(text)
    monkeypatch.chdir(tmp_path.parent)
    found = study.load(Path(tmp_path.name) / "x.yaml", on=TODAY)
    (spec,) = found.datasets
    assert (spec.name, spec.items, spec.scorer) == ("mine", 9, "numeric")
    assert Path(spec.file) == tmp_path / "data" / "mine.csv"
    # A file that lies elsewhere finds it too, and names no folder of this machine.
    out = tmp_path / "runs" / "x"
    out.mkdir(parents=True)
    again = study.dump(found, folder=out)
    assert 'file: "../../data/mine.csv"' in again
    (out / "study.yaml").write_text(again)
    assert study.load(out / "study.yaml", on=TODAY) == found


def test_dataset_options_are_texts_as_they_were_written() -> None:
    text = MINIMAL.replace(
        "[demo-sums]", "[{name: demo-sums, options: {seed: 07, fast: true, of: 'a b'}}]"
    )
    assert parsed(text).datasets[0].options == {"seed": "07", "fast": "true", "of": "a b"}


def test_a_protocol_of_ones_own_is_named_by_its_path() -> None:
    text = MINIMAL.replace("[review]", "['deltascale.protocols.review:PROTOCOL']")
    assert parsed(text).protocols == ("deltascale.protocols.review:PROTOCOL",)


@pytest.mark.parametrize(
    ("change", "warning"),
    [
        (
            ("simulated/sim-1b", "anthropic/claude-haiku"),
            "anthropic/claude-haiku: retired by its provider on 2026-04-20, which will refuse it; "
            "use anthropic/claude-haiku-4-5",
        ),
        (
            ("[review]", "[review, resample, vote]\ntemperature: [0, 1]"),
            "temperature 0: every draw is the same answer, so resample and vote can show nothing; "
            "use a temperature above 0, such as 0.7",
        ),
        (
            ("simulated/sim-1b", "openai/gpt-6-luna"),
            "openai/gpt-6-luna: takes no temperature, so 0.7 is not sent to it",
        ),
        (
            ("[review]", "[review]\nturns: 1"),
            "turns 1: only first answers, so there is no delta; use 2 or more",
        ),
        (
            ("simulated/sim-1b", "openai/gpt-4o-mini"),
            "no budget: nothing limits what openai/gpt-4o-mini may cost; set a budget in USD",
        ),
        (
            ("[simulated/sim-1b]", "[openai/gpt-4o-mini]\nbudget_usd: 0"),
            "a budget of 0: openai/gpt-4o-mini can't be asked anything; raise it",
        ),
    ],
)
def test_what_is_lawful_but_unwise_is_a_warning(change: tuple[str, str], warning: str) -> None:
    assert warning not in parsed(MINIMAL).warnings
    assert warning in parsed(MINIMAL.replace(*change)).warnings


def test_a_model_is_not_called_retired_before_its_day() -> None:
    text = MINIMAL.replace("simulated/sim-1b", "openai/gpt-4o-mini") + "budget_usd: 1\n"
    assert parsed(text, on=date(2027, 1, 13)).warnings == ()
    (warning,) = parsed(text, on=date(2027, 1, 14)).warnings
    assert warning.startswith("openai/gpt-4o-mini: retired by its provider on 2027-01-14")


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
