"""What is known of each model: its size with a source, its limits, its dated prices.

The facts are in `models.toml` and `prices.toml`, read when first asked for. Knows nothing of
studies and asks nobody: every answer is offline.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from decimal import Decimal
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Literal, TypeAlias

import msgspec
from msgspec.structs import replace

from deltascale.errors import CatalogMistake
from deltascale.records import Price, Size

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo

__all__ = [
    "LARGE_FROM",
    "MEDIUM_FROM",
    "CatalogModel",
    "Category",
    "category",
    "check_size",
    "lookup",
    "models",
    "nusd_per_ktok",
    "open_weights",
    "price",
    "priced_tokens",
    "suggest",
    "training_flops",
]

Category: TypeAlias = Literal["small", "medium", "large", "unknown"]

MEDIUM_FROM = 10e9
LARGE_FROM = 100e9
"""Parameter counts: small is below 10 billion, medium from there, large from 100 billion."""

_PRICED_BY_GENAI = frozenset({"anthropic", "openai"})
"""Providers whose prices the genai-prices data has, as one price for the whole day."""


class CatalogModel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is known of a model. `models.toml` says what each field means.

    None and the empty text mean not known; `retired` is the first day on which it is not served.
    """

    id: str
    size: Size
    name: str = ""
    family: str = ""
    aliases: tuple[str, ...] = ()
    snapshots: tuple[str, ...] = ()
    weights: tuple[str, ...] = ()
    context_tokens: int | None = None
    max_output_tokens: int | None = None
    reasoning: bool = False
    native_tools: bool = False
    released: date | None = None
    retired: date | None = None
    successor: str = ""

    @property
    def provider(self) -> str:
        return self.id.partition("/")[0]


class _Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A dated price as `prices.toml` has it, in USD per million tokens."""

    model: str
    since: date = msgspec.field(name="from")
    input: Decimal
    output: Decimal
    source: str
    cached_input: Decimal | None = None


def models() -> tuple[CatalogModel, ...]:
    """Every model of the catalogue, in the order of the file."""
    return _known().models


def lookup(id_or_alias: str) -> CatalogModel:
    """The model of this id, alias or snapshot, whatever the case of its letters.

    A snapshot gives its model with the snapshot as the name that is asked for.

    Raises CatalogMistake where there is none, with the nearest id.
    """
    found = _known().by_name.get(id_or_alias.casefold())
    if found is None:
        hint = suggest(id_or_alias) or "`deltascale models` lists them"
        raise CatalogMistake(f"there is no model {id_or_alias!r} in the catalogue", remedy=hint)
    return found


def suggest(id_or_alias: str) -> str:
    """A question that names the nearest id, `did you mean 'openai/gpt-4o'?`; empty: none near."""
    near = get_close_matches(id_or_alias.casefold(), _known().by_name, n=1, cutoff=0.75)
    return f"did you mean {_known().by_name[near[0]].id!r}?" if near else ""


def open_weights(name: str) -> CatalogModel | None:
    """The published weights that a server calls `name`, with or without their owner; or None."""
    return _known().by_weights.get(name.casefold())


def category(size: Size) -> Category:
    """The class of a size; an interval that spans two classes is `unknown`."""
    check_size(size)
    low = size.parameters if size.low is None else size.low
    high = size.parameters if size.high is None else size.high
    if low is None or high is None:
        return "unknown"
    classes = {_category(low), _category(high)}
    return classes.pop() if len(classes) == 1 else "unknown"


def _category(parameters: float) -> Category:
    if parameters < MEDIUM_FROM:
        return "small"
    return "medium" if parameters < LARGE_FROM else "large"


def check_size(size: Size) -> None:
    """Raise CatalogMistake unless the size has what its source demands and nothing else.

    `published` and `simulated` have `parameters` and a citation, `estimate` an interval and a
    citation, `unknown` nothing. Every number is finite and positive; `active` is at most the total.
    Training tokens may be beside any size that is not unknown, and have a citation of their own.
    """
    given = {"parameters": size.parameters, "active": size.active}
    given |= {"low": size.low, "high": size.high}
    for name, value in given.items():
        if value is not None and not (math.isfinite(value) and value > 0):
            raise CatalogMistake(f"{name} {value:g} is not a parameter count")
    given["training_tokens"] = size.training_tokens
    needed, allowed = {
        "published": ({"parameters"}, {"active", "training_tokens"}),
        "simulated": ({"parameters"}, {"active", "training_tokens"}),
        "estimate": ({"low", "high"}, {"parameters", "active", "training_tokens"}),
        "unknown": (set[str](), set[str]()),
    }[size.source]
    has = {name for name, value in given.items() if value is not None}
    if missing := sorted(needed - has):
        raise CatalogMistake(f"{size.source} size without {' and '.join(missing)}")
    if surplus := sorted(has - needed - allowed):
        raise CatalogMistake(f"{size.source} size with {' and '.join(surplus)}")
    if size.source != "unknown" and not size.citation:
        raise CatalogMistake(f"{size.source} size without a citation")
    low, high = size.low or 0.0, size.high or math.inf
    if not low <= (size.parameters or low) <= high:
        raise CatalogMistake(
            "size outside its own interval" if size.parameters else "low above high"
        )
    if size.active is not None and size.active > (size.parameters or high):
        raise CatalogMistake("more active parameters than there are")
    _check_training(size)


def _check_training(size: Size) -> None:
    tokens = size.training_tokens
    if tokens is not None and not (math.isfinite(tokens) and tokens > 0):
        raise CatalogMistake(f"training_tokens {tokens:g} is not a token count")
    if (tokens is not None) != bool(size.training_citation):
        has, lacks = ("training_tokens", "a training_citation")
        if tokens is None:
            has, lacks = ("a training_citation", "training_tokens")
        raise CatalogMistake(f"{has} without {lacks}")


def training_flops(size: Size) -> float | None:
    """Floating-point operations of pre-training, 6 × parameters used per token × tokens.

    Two for each parameter of the forward pass and four of the backward one, attention over the
    context left out. A mixture of experts counts its active parameters. An approximation in other
    ways too: tokens are of pre-training only, and the parameters are all there are, embeddings
    included. None where the tokens are not published, or the size is no point.

    Source: Kaplan et al. 2020, arXiv:2001.08361, section 2.1; Hoffmann et al. 2022,
    arXiv:2203.15556, appendix F.
    """
    used = size.active or size.parameters
    if size.source not in ("published", "simulated") or used is None:
        return None
    return None if size.training_tokens is None else 6 * used * size.training_tokens


def price(provider: str, name: str, *, on: date) -> Price | None:
    """What the provider charged for the model on that day; None: not known.

    `name` is the name that is asked for, snapshots included. Our own table comes first, then the
    data inside genai-prices. Where the price depends on the length of the prompt it is that of the
    shortest, and holds up to `priced_tokens`. `dated` is the first day on which this price is known
    to hold. A `local` model is free.
    """
    if provider == "local":
        return Price(0, 0, 0, source="local", dated=min(_known().read, on).isoformat())
    rows = [row for row in _rows().get((provider, name), ()) if row.since <= on]
    if rows:
        row = max(rows, key=lambda each: each.since)
        cached = row.input if row.cached_input is None else row.cached_input
        dated = row.since.isoformat()
        return _price(row.input, cached, row.output, source=row.source, dated=dated)
    found = _genai(provider, name)
    if found is None:
        return None
    return _genai_price(found, _first_known(provider, name, on=on), on=on)


def priced_tokens(provider: str, name: str, *, on: date) -> int | None:
    """The longest prompt, in tokens, for which `price` holds; None: every prompt."""
    found = _genai(provider, name)
    if found is None or (provider, name) in _rows():
        return None
    from genai_prices.types import TieredPrices

    prices = found.get_prices(_moment(on))
    sides = (prices.input_mtok, prices.cache_read_mtok, prices.output_mtok)
    starts = [tier.start for side in sides if isinstance(side, TieredPrices) for tier in side.tiers]
    return min(starts, default=None)


def nusd_per_ktok(usd_per_mtok: Decimal) -> int:
    """A price per million tokens in USD as nano-dollars per 1000 tokens, exactly.

    Raises CatalogMistake where it is negative, not finite, or finer than 1e-6 USD.
    """
    if not usd_per_mtok.is_finite() or usd_per_mtok < 0:
        raise CatalogMistake(f"{usd_per_mtok} is not a price")
    exact = usd_per_mtok * 1_000_000
    if exact != exact.to_integral_value():
        raise CatalogMistake(
            f"{usd_per_mtok:f} USD per million tokens is finer than 0.000001",
            remedy="round it up to six decimals",
        )
    return int(exact)


def _price(
    input_usd: Decimal, cached_usd: Decimal, output_usd: Decimal, *, source: str, dated: str
) -> Price:
    return Price(
        input_nusd_per_ktok=nusd_per_ktok(input_usd),
        cached_input_nusd_per_ktok=nusd_per_ktok(cached_usd),
        output_nusd_per_ktok=nusd_per_ktok(output_usd),
        source=source,
        dated=dated,
    )


# --- the data files ------------------------------------------------------------------------------


class _Models(msgspec.Struct, frozen=True):
    """`models.toml`. `read`: the day on which its facts were looked up."""

    read: date
    model: tuple[CatalogModel, ...]


class _Prices(msgspec.Struct, frozen=True):
    """`prices.toml`."""

    price: tuple[_Row, ...]


class _Known(msgspec.Struct, frozen=True):
    """The catalogue with its indexes; their keys are in lower case."""

    read: date
    models: tuple[CatalogModel, ...]
    by_name: Mapping[str, CatalogModel]
    by_weights: Mapping[str, CatalogModel]


@cache
def _known() -> _Known:
    by_name: dict[str, CatalogModel] = {}
    by_weights: dict[str, CatalogModel] = {}
    every: list[CatalogModel] = []
    text = files(__name__).joinpath("models.toml").read_text(encoding="utf-8")
    facts = msgspec.convert(tomllib.loads(text), _Models)
    for model in facts.model:
        rest = model.id.partition("/")[2]
        model = replace(model, name=model.name or rest)
        every.append(model)
        for alias in (model.id, rest, *model.aliases):
            _put(by_name, alias, model)
        for snapshot in (model.name, *model.snapshots):
            pinned = replace(model, name=snapshot)
            _put(by_name, snapshot, pinned)
            _put(by_name, f"{model.provider}/{snapshot}", pinned)
        for weights in model.weights:
            for name in {weights, weights.rpartition("/")[2]}:
                _put(by_weights, name, model)
    return _Known(facts.read, tuple(every), by_name, by_weights)


def _put(index: dict[str, CatalogModel], name: str, model: CatalogModel) -> None:
    held = index.setdefault(name.casefold(), model)
    if held.id != model.id:
        raise ValueError(f"models.toml: {name!r} names both {held.id} and {model.id}")


@cache
def _rows() -> Mapping[tuple[str, str], tuple[_Row, ...]]:
    """Our own dated prices, by provider and name."""
    text = files(__name__).joinpath("prices.toml").read_text(encoding="utf-8")
    # A price is exact only if no binary fraction comes between the file and the integer.
    rows = msgspec.convert(tomllib.loads(text, parse_float=Decimal), _Prices).price
    found: dict[tuple[str, str], tuple[_Row, ...]] = {}
    for row in rows:
        provider, _, name = row.model.partition("/")
        found[provider, name] = (*found.get((provider, name), ()), row)
    return found


# --- genai-prices --------------------------------------------------------------------------------


def _moment(on: date) -> datetime:
    return datetime.combine(on, time(12), tzinfo=UTC)


def _genai(provider: str, name: str) -> ModelInfo | None:
    """The entry of the data that genai-prices ships. Its import is slow, so it is done here."""
    if provider not in _PRICED_BY_GENAI:
        return None
    from genai_prices import data_snapshot

    try:
        _, found = data_snapshot.get_snapshot().find_provider_model(name, None, provider, None)
    except LookupError:
        return None
    return found


def _genai_price(found: ModelInfo, first_known: date, *, on: date) -> Price | None:
    from importlib.metadata import version

    from genai_prices.types import StartDateConstraint, TieredPrices

    def shortest(side: Decimal | TieredPrices | None) -> Decimal | None:
        return side.base if isinstance(side, TieredPrices) else side

    prices = found.get_prices(_moment(on))
    input_usd, output_usd = shortest(prices.input_mtok), shortest(prices.output_mtok)
    if input_usd is None or output_usd is None:
        return None
    cached_usd = shortest(prices.cache_read_mtok)
    since = first_known
    if isinstance(found.prices, list):
        for each in found.prices:
            if each.prices is prices and isinstance(each.constraint, StartDateConstraint):
                since = each.constraint.start_date
    return _price(
        input_usd,
        input_usd if cached_usd is None else cached_usd,
        output_usd,
        source=f"genai-prices {version('genai-prices')}",
        dated=since.isoformat(),
    )


def _first_known(provider: str, name: str, *, on: date) -> date:
    """Since when a price without a date of its own is known: the model's release, else the day the
    catalogue was read. Never simply `on`: a study's price must not change from day to day."""
    model = _known().by_name.get(f"{provider}/{name}".casefold())
    released = None if model is None else model.released
    return min(released or _known().read, on)
