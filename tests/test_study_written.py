"""A study that was written loads again to the same study, and any text survives the writing."""

from __future__ import annotations

import math
import os
from datetime import date
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from deltascale import study
from deltascale.errors import StudyMistake
from deltascale.study.text import Findings, plain, render, tree
from tests.test_study import JSON, parsed
from tests.test_study_chosen import PHASED

CALM = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
CALM_FEW = settings(CALM, max_examples=12)
TEXTS = st.text(min_size=1, max_size=20).filter(lambda text: bool(text.strip()))
COUNTS = st.floats(1e6, 1e13, allow_nan=False)
USD = st.decimals(min_value=0, max_value=500, places=6)
SIZES = st.one_of(
    st.builds(lambda n, c: {"source": "published", "parameters": n, "citation": c}, COUNTS, TEXTS),
    st.builds(
        lambda n, share, c: {
            "source": "published", "parameters": n, "active": n * share, "citation": c,
        },
        COUNTS, st.floats(0.1, 1), TEXTS,
    ),
    st.builds(
        lambda n, more, c: {"source": "estimate", "low": n, "high": n * more, "citation": c},
        COUNTS, st.floats(1, 9), TEXTS,
    ),
    st.builds(
        lambda n, tokens, c: {
            "source": "published", "parameters": n, "citation": c, "training_tokens": tokens,
            "training_citation": c,
        },
        COUNTS, COUNTS, TEXTS,
    ),
    st.just({"source": "unknown"}),
)  # fmt: skip
PARAMS = st.dictionaries(
    TEXTS.map(lambda text: f"x {text}"),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False, width=64,
                                                                        allow_infinity=False),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=4,
    ),
    max_size=3,
)  # fmt: skip
OWN_MODELS = st.fixed_dictionaries(
    {
        "price": st.just(0)
        | st.fixed_dictionaries(
            {"input": USD, "output": USD}, optional={"cached_input": USD, "source": TEXTS}
        )
    },
    optional={
        "base_url": st.sampled_from(["http://localhost:8000/v1", "https://h.example/a-b/"]),
        "size": SIZES,
        "params": PARAMS,
        "limits": st.fixed_dictionaries(
            {},
            optional={
                "connections": st.integers(1, 500),
                "rpm": st.integers(1, 10**6),
                "timeout_s": st.floats(1, 3600),
            },
        ),
        "context_tokens": st.integers(100_000, 10**6),
        "native_tools": st.booleans(),
        "name": st.sampled_from(["Qwen/Qwen2.5-7B-Instruct", "gpt-4o-mini", "other"]),
    },
)
KNOWN = ("simulated/sim-1b", "simulated/sim-9b", "local/pythia-12b", "anthropic/claude-haiku",
         "openai/gpt-4o-2024-05-13", "gpt-4o-mini", "replicate/llama-70b")  # fmt: skip


@st.composite
def studies(draw: st.DrawFn) -> dict[str, Any]:
    """The contents of a study file without a mistake."""
    own = draw(st.lists(OWN_MODELS, max_size=2))
    models: list[Any] = [{"id": f"openai/own-{i}"} | entry for i, entry in enumerate(own)]
    for model in models:
        model["params"] = {**model.get("params", {}), "x": model["id"]}
    models += draw(st.lists(st.sampled_from(KNOWN), unique=True, min_size=not models, max_size=3))
    names = draw(
        st.lists(st.sampled_from(["gsm8k", "demo-sums", "toolqa"]), unique=True, min_size=1)
    )
    datasets = [
        {"name": name}
        | draw(
            st.fixed_dictionaries(
                {},
                optional={
                    "items": st.integers(1, 900),
                    "scorer": st.just("numeric"),
                    "options": st.dictionaries(TEXTS, st.text(), max_size=2),
                },
            )
        )
        for name in names
    ]
    protocols = draw(
        st.lists(st.sampled_from(["review", "vote", "oracle"]), unique=True, min_size=1)
    )
    body: dict[str, Any] = {"name": "x", "models": models, "datasets": datasets}
    body |= {"protocols": protocols, "max_tokens": draw(st.integers(1, 2000))}
    claimed = [name for name in protocols if name != "oracle"]
    if claimed:
        body["confirmatory"] = draw(st.sampled_from([claimed, claimed[:1]]))
    body |= draw(
        st.fixed_dictionaries(
            {},
            optional={
                "turns": st.integers(2, 20),
                "epochs": st.integers(1, 9),
                "temperature": st.lists(st.floats(0, 1), unique=True, min_size=1, max_size=3),
                "items": st.integers(900, 10**6) | st.just("all"),
                "budget_usd": USD,
                "seed": st.integers(0, 2**63 - 1),
                "system": TEXTS,
            },
        )
    )
    ids = [model["id"] if isinstance(model, dict) else model for model in models]
    phase = st.fixed_dictionaries(
        {},
        optional={
            "models": st.lists(st.sampled_from(ids), unique=True, min_size=1),
            "datasets": st.lists(st.sampled_from(names), unique=True, min_size=1),
            "protocols": st.lists(st.sampled_from(protocols), unique=True, min_size=1),
            "items": st.integers(1, 900),
            "turns": st.integers(1, 2),
        },
    )
    names_of_phases = st.from_regex("[a-z][a-z0-9._-]{0,9}", fullmatch=True)
    kept = names_of_phases.filter(lambda name: name != "all")
    return body | {"phases": draw(st.dictionaries(kept, phase, max_size=2))}


@given(studies())
@CALM_FEW
def test_a_study_that_was_written_loads_again_to_the_same(body: dict[str, Any]) -> None:
    first = parsed(render(body))
    again = study.dump(first)
    assert parsed(again) == first
    assert study.dump(parsed(again)) == again
    # What is resolved stays so: another day's prices do not change it.
    later = parsed(again, on=date(2027, 12, 1))
    assert [model.price for model in later.models] == [model.price for model in first.models]


@CALM
@example({"a": "x\u2028y\u2029z\x85\ufeff\0\t\r\n \U0001f600"})
@example({"true": "null", "no": ["false", "~", ".inf", "1e3", "0x1F", "012", "-", "a: b", "# c"]})
@example({"a": [[1, [2]], {}, [], {"b": [{"c": {}}]}], "": {"x" * 90: None}})
@given(st.dictionaries(st.text(max_size=20), JSON, min_size=1, max_size=4))
def test_what_is_rendered_is_read_back(body: dict[str, Any]) -> None:
    def same(one: object, other: object) -> bool:
        if isinstance(one, float) and isinstance(other, float) and math.isnan(one):
            return math.isnan(other)
        if isinstance(one, dict) and isinstance(other, dict):
            return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
        if isinstance(one, list) and isinstance(other, list):
            return len(one) == len(other) and all(map(same, one, other))
        return type(one) is type(other) and one == other

    assert same(body, plain(tree(render(body), Findings("x"))))


def test_the_template_is_a_good_study() -> None:
    text = study.template("my-study")
    found = parsed(text)
    assert (found.name, found.warnings) == ("my-study", ())
    assert "my-study.yaml" in text
    assert list(found.phases) == ["pilot", "whole"]
    with pytest.raises(StudyMistake, match="can't name a study"):
        study.template("../x")


def test_what_the_template_comments_out_is_good_too() -> None:
    text = study.template("x").replace("  # - id", "  - id").replace("  #   ", "    ")
    text = text.replace("# confirmatory:", "confirmatory:")
    found = parsed(text)
    assert found.confirmatory == ("review",)
    assert found.models[2].base_url == "http://localhost:8000/v1"
    assert found.models[2].size.parameters == 494_032_768


def test_the_phases_of_a_study_that_was_written_load_again() -> None:
    whole = parsed(PHASED)
    again = parsed(study.dump(whole))
    assert again == whole
    assert list(again.phases) == list(whole.phases)


def test_nothing_of_this_machine_is_in_a_study_without_files() -> None:
    assert os.getcwd() not in study.dump(parsed(PHASED))
