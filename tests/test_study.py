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
