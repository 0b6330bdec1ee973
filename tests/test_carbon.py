"""Energy and emissions: laws of the estimate, and what is said where there is none."""

from __future__ import annotations

import sys

import pytest

from deltascale import carbon
from deltascale.carbon import footprint
from deltascale.errors import MissingExtra, Mistake
from deltascale.records import ModelSpec, Price, Size

PRICE = Price(0, 0, 0, "test", "2026-01-01")
OPEN = ModelSpec(
    "openai/open-8b", "openai", "open-8b", Size("published", 8e9, citation="a card"), PRICE,
    base_url="http://localhost/v1",
)  # fmt: skip
CLOSED = ModelSpec("openai/gpt-4o-mini", "openai", "gpt-4o-mini", Size("unknown"), PRICE)


def numbers(model: ModelSpec, **asked: object) -> tuple[float, float, float, float]:
    pytest.importorskip("ecologits")
    used = footprint(model, **{"output_tokens": 100_000, "n_calls": 500, **asked})  # type: ignore[arg-type]
    found = (used.energy.low, used.energy.high, used.emissions.low, used.emissions.high)
    assert None not in found
    return found  # type: ignore[return-value]


def test_twice_the_calls_use_twice_the_energy() -> None:
    one = numbers(OPEN)
    assert numbers(OPEN, output_tokens=200_000, n_calls=1_000) == pytest.approx(
        [2 * x for x in one]
    )
    assert one[0] < one[1], "the overhead of data centres is a range"
    used = footprint(OPEN, output_tokens=100_000, n_calls=500)
    assert used.energy.unit == "kWh"
    assert used.emissions.unit == "kg CO2e"
    assert "8B parameters" in used.assumptions
    assert "published" in used.assumptions
    assert "EcoLogits" in used.assumptions
    assert used.energy.note == used.assumptions


def test_more_tokens_and_more_parameters_use_more() -> None:
    one = numbers(OPEN)
    assert numbers(OPEN, output_tokens=300_000)[0] > one[0]
    from msgspec.structs import replace

    large = replace(OPEN, size=Size("published", 70e9, citation="a card"))
    assert numbers(large)[0] > one[1]
    sparse = replace(OPEN, size=Size("published", 70e9, active=8e9, citation="a card"))
    assert one[0] < numbers(sparse)[0] < numbers(large)[0]


def test_the_zone_changes_the_emissions_and_not_the_energy() -> None:
    world, france = numbers(OPEN), numbers(OPEN, zone="FRA")
    assert france[:2] == world[:2]
    assert france[3] < world[2]


def test_what_is_not_published_is_a_range_of_assumptions() -> None:
    low, high, _, _ = numbers(CLOSED)
    assert high > 1.2 * low
    used = footprint(CLOSED, output_tokens=1_000, n_calls=10)
    assert "not released" in used.assumptions


def test_a_zone_without_a_mix_is_the_users_mistake() -> None:
    pytest.importorskip("ecologits")
    with pytest.raises(Mistake, match="did you mean 'FRA'"):
        footprint(OPEN, output_tokens=1, n_calls=1, zone="FRAN")


def test_what_can_not_be_estimated_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    simulated = ModelSpec("simulated/sim-1b", "simulated", "sim-1b", Size("simulated", 1e9), PRICE)
    unknown = ModelSpec("openai/secret", "openai", "secret", Size("unknown"), PRICE)
    assert "no energy" in footprint(simulated, output_tokens=5, n_calls=1).energy.note
    if carbon_is_there():
        assert "size" in footprint(unknown, output_tokens=5, n_calls=1).energy.note
        assert footprint(OPEN, output_tokens=0, n_calls=0).energy.note == "no calls"
    for name in list(sys.modules):
        if name.split(".")[0] == "ecologits":
            monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "ecologits", None)
    none = footprint(OPEN, output_tokens=5, n_calls=1)
    assert none.energy.value is None
    assert none.emissions.value is None
    assert "deltascale[carbon]" in none.energy.note
    with pytest.raises(MissingExtra):
        carbon.check_zone("FRA")


def carbon_is_there() -> bool:
    from importlib.util import find_spec

    return find_spec("ecologits") is not None
