"""The studies that come with the project can be run as they stand."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from deltascale import catalog, study
from deltascale.records import Study

TODAY = date(2026, 11, 21)
STUDIES = Path(__file__).resolve().parents[1] / "studies"


def loaded(name: str) -> Study:
    return study.load(STUDIES / f"{name}.yaml", on=TODAY)


@pytest.mark.parametrize("path", sorted(STUDIES.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_study_of_ours_is_without_fault_or_warning(path: Path) -> None:
    found = study.load(path, on=TODAY)
    assert found.name == path.stem
    assert found.warnings == ()
    for phase in study.phase(found, "all"):
        assert phase.warnings == ()
    assert study.parse(study.dump(found), file=str(path), on=TODAY) == found


def test_the_demo_costs_nothing_and_says_that_it_is_invented() -> None:
    demo = loaded("demo")
    assert [model.size.parameters for model in demo.models] == [1e8, 4e8, 1e9, 3e9, 8e9, 27e9, 70e9]
    assert {model.provider for model in demo.models} == {"simulated"}
    assert {model.size.source for model in demo.models} == {"simulated"}
    assert [spec.name for spec in demo.datasets] == ["demo-sums", "demo-choices"]
    assert demo.protocols == ("review", "critique", "resample", "vote", "oracle")
    assert (demo.turns, demo.items) == (3, 200)


def test_the_local_study_is_free_and_small() -> None:
    local = loaded("local")
    (model,) = local.models
    assert (model.id, model.price.output_nusd_per_ktok) == ("local/smollm2-135m", 0)
    assert model.size.parameters == 134_515_008
    assert [(spec.name, local.items) for spec in local.datasets] == [("gsm8k", 20)]
    assert local.protocols == ("review", "resample", "vote")
    assert (local.turns, local.temperatures, local.max_tokens) == (3, (0.7,), 256)


def test_the_scaling_study_grows_by_phases() -> None:
    scaling = loaded("scaling")
    assert scaling.budget_nusd == 35_000_000_000
    assert list(scaling.phases) == ["validation", "medium", "full"]
    shapes = {
        name: (len(phase.models), [spec.name for spec in phase.datasets], phase.items)
        for name, phase in scaling.phases.items()
    }
    assert shapes == {
        "validation": (2, ["toolqa"], 100),
        "medium": (4, ["toolqa", "superglue"], 500),
        "full": (7, ["gsm8k", "humaneval", "mathbench", "superglue", "toolqa"], 1000),
    }
    earlier: set[tuple[str, str]] = set()
    for phase in scaling.phases.values():
        cells = {(model.id, spec.name) for model in phase.models for spec in phase.datasets}
        assert earlier < cells, "every phase holds the one before"
        earlier = cells


def test_the_scaling_study_asks_only_models_that_are_served_and_can_be_compared() -> None:
    for model in loaded("scaling").models:
        known = catalog.lookup(model.id)
        assert known.retired is None or known.retired > TODAY
        assert not model.reasoning, "the controls need a temperature"
        assert model.price.input_nusd_per_ktok > 0
    providers = [model.provider for model in loaded("scaling").models]
    assert sorted(set(providers)) == ["anthropic", "openai", "replicate"]


def test_every_replaced_model_of_the_classic_study_is_named_with_its_day() -> None:
    text = (STUDIES / "scaling.yaml").read_text(encoding="utf-8")
    for retired in ("gpt-4", "claude-3-haiku", "claude-3-5-sonnet", "claude-3-opus"):
        known = catalog.lookup(retired)
        line = next(line for line in text.splitlines() if f"# for {retired}, " in line)
        assert str(known.retired) in line
        assert known.successor in line
