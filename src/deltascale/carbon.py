"""Energy and emissions of calls, by the EcoLogits model of data centres. Knows no study.

A range here spans assumptions (a model's size, a data centre's overhead); it is no confidence
interval. Needs the extra `carbon`; without it nothing is estimated, and that is said.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING

from deltascale.errors import MissingExtra, Mistake
from deltascale.records import Estimate, ModelSpec

if TYPE_CHECKING:
    from ecologits.model_repository import Model
    from ecologits.utils.range_value import RangeValue

__all__ = ["Footprint", "check_zone", "footprint"]

_OVERHEAD = (1.09, 1.20)
"""Power usage effectiveness: the span of the providers' figures in EcoLogits."""

_WATER = (0.13, 0.999)
_HOW_TO_GET = "not estimated: install the extra with `pip install 'deltascale[carbon]'`"
_PROVIDERS = {"openai": "openai", "anthropic": "anthropic", "replicate": "huggingface_hub"}


@dataclass(frozen=True, slots=True)
class Footprint:
    """What some calls of one model used: kWh, and kg of CO2 equivalent (use and hardware).

    `assumptions` says in one line what was taken for granted; in an estimate without a value the
    note says why.
    """

    energy: Estimate
    emissions: Estimate
    assumptions: str


@dataclass(frozen=True, slots=True)
class _Taken:
    """Billions of parameters, total and active, each from low to high; and the server's pace."""

    total: tuple[float, float]
    active: tuple[float, float]
    source: str
    tps: float | None = None
    ttft: float | None = None


def footprint(
    model: ModelSpec, *, output_tokens: int, n_calls: int, zone: str = "WOR"
) -> Footprint:
    """Energy and emissions of `n_calls` calls that wrote `output_tokens` tokens together.

    `zone` is the electricity mix, an ISO 3166-1 alpha-3 code (WOR: the world's). A published size
    comes first, then what EcoLogits assumes of the model, then the study's own estimate.

    Raises Mistake for a zone without a mix. Source: Rincé & Banse 2025, "EcoLogits", JOSS.
    """
    if model.provider == "simulated":
        return _nothing("a simulated model uses no energy", n_calls)
    try:
        from ecologits.impacts.llm import compute_llm_impacts
        from ecologits.utils.range_value import RangeValue
    except ImportError:
        return _nothing(_HOW_TO_GET, n_calls)
    mix = check_zone(zone)
    taken = _taken(model)
    if taken is None:
        return _nothing("not estimated: nothing is known of this model's size", n_calls)
    if n_calls == 0:
        return _nothing("no calls", 0)
    if output_tokens == 0:
        return _nothing("not estimated: no tokens are on record", n_calls)
    impacts = compute_llm_impacts(
        model_active_parameter_count=_range(RangeValue, taken.active),
        model_total_parameter_count=_range(RangeValue, taken.total),
        output_token_count=output_tokens / n_calls,
        if_electricity_mix_adpe=mix.adpe,
        if_electricity_mix_pe=mix.pe,
        if_electricity_mix_gwp=mix.gwp,
        if_electricity_mix_wue=mix.wue,
        datacenter_pue=RangeValue(min=_OVERHEAD[0], max=_OVERHEAD[1]),
        datacenter_wue=RangeValue(min=_WATER[0], max=_WATER[1]),
        tps=taken.tps,
        ttft=taken.ttft,
    )
    assumptions = (
        f"{_billions(taken.total)} parameters, {_billions(taken.active)} active ({taken.source}); "
        f"H100 servers, 16-bit weights, batches of 64; overhead {_OVERHEAD[0]} to {_OVERHEAD[1]}; "
        f"electricity of {zone}: {mix.gwp:.3f} kg CO2e per kWh; EcoLogits {_version()}"
    )
    return Footprint(
        _estimate("energy of the calls", impacts.energy.value, n_calls, "kWh", assumptions),
        _estimate("emissions of the calls", impacts.gwp.value, n_calls, "kg CO2e", assumptions),
        assumptions,
    )


@dataclass(frozen=True, slots=True)
class _Mix:
    adpe: float
    pe: float
    gwp: float
    wue: float


def check_zone(zone: str) -> _Mix:
    """The zone's electricity mix. Raises Mistake where there is none, or without the extra."""
    try:
        from ecologits.electricity_mix_repository import electricity_mixes
    except ImportError:
        raise MissingExtra(
            "carbon figures need EcoLogits",
            where="--zone",
            remedy="install it with `pip install 'deltascale[carbon]'`",
        ) from None

    found = electricity_mixes.find_electricity_mix(zone=zone)
    if found is None:
        known = [mix.zone for mix in electricity_mixes.list_electricity_mixes()]
        close = get_close_matches(zone.upper(), known, n=1)
        raise Mistake(
            f"no electricity mix is known for zone {zone!r}",
            where="--zone",
            remedy=f"did you mean {close[0]!r}?" if close else "give a code like FRA, USA or WOR",
        )
    return _Mix(found.adpe, found.pe, found.gwp, found.wue)


def _taken(model: ModelSpec) -> _Taken | None:
    size = model.size
    if size.source == "published" and size.parameters:
        total = size.parameters / 1e9
        active = (size.active or size.parameters) / 1e9
        return _Taken((total, total), (active, active), "published")
    known = _in_ecologits(model)
    if known is not None:
        return known
    if size.low and size.high:
        total_range = (size.low / 1e9, size.high / 1e9)
        active = (size.active or 0.0) / 1e9
        return _Taken(total_range, (active, active) if active else total_range, "estimated")
    return None


def _in_ecologits(model: ModelSpec) -> _Taken | None:
    from ecologits.model_repository import ParametersMoE, models

    provider = _PROVIDERS.get(model.provider)
    found: Model | None = None
    if provider is not None and not model.base_url:
        found = models.find_model(provider=provider, model_name=model.name)
    if found is None:
        return None
    parameters = found.architecture.parameters
    mixed = isinstance(parameters, ParametersMoE)
    total = _limits(parameters.total if isinstance(parameters, ParametersMoE) else parameters)
    active = _limits(parameters.active if isinstance(parameters, ParametersMoE) else parameters)
    pace = found.deployment
    guessed = "not released, as EcoLogits assumes" if found.has_warnings else "as in EcoLogits"
    return _Taken(
        total,
        active,
        f"{guessed}{', mixture of experts' if mixed else ''}",
        pace.tps if pace else None,
        pace.ttft if pace else None,
    )


def _limits(value: RangeValue | float) -> tuple[float, float]:
    if isinstance(value, int | float):
        return float(value), float(value)
    return float(value.min), float(value.max)


def _range(kind: type[RangeValue], limits: tuple[float, float]) -> RangeValue | float:
    return limits[0] if limits[0] == limits[1] else kind(min=limits[0], max=limits[1])


def _estimate(
    estimand: str, per_call: RangeValue | float, n_calls: int, unit: str, note: str
) -> Estimate:
    low, high = (limit * n_calls for limit in _limits(per_call))
    method = "EcoLogits; the limits span assumptions"
    return Estimate(
        estimand, (low + high) / 2, low, high, unit=unit, n=n_calls, method=method, note=note
    )


def _nothing(why: str, n_calls: int) -> Footprint:
    return Footprint(
        Estimate("energy of the calls", None, unit="kWh", n=n_calls, note=why),
        Estimate("emissions of the calls", None, unit="kg CO2e", n=n_calls, note=why),
        why,
    )


def _billions(limits: tuple[float, float]) -> str:
    low, high = (f"{limit:.3g}" for limit in limits)
    return f"{low}B" if low == high else f"{low} to {high}B"


def _version() -> str:
    from importlib.metadata import version

    return version("ecologits")
