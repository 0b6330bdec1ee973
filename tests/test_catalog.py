"""What the catalogue says holds together, agrees with its sources, and is had offline."""

from __future__ import annotations

import math
import socket
import subprocess
import sys
from collections import Counter
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from deltascale import catalog
from deltascale.errors import CatalogMistake
from deltascale.records import Size
from deltascale.report.wording import size_text

TODAY = date(2026, 11, 21)
EVERY = {model.id: model for model in catalog.models()}
HOSTED = [
    model for model in EVERY.values() if model.provider in ("openai", "anthropic", "replicate")
]


def served(model: catalog.CatalogModel) -> bool:
    return model.retired is None or model.retired > TODAY


# --- models --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("alias", "model", "name"),
    [
        ("openai/gpt-4o-mini", "openai/gpt-4o-mini", "gpt-4o-mini"),
        ("openai/gpt-4o", "openai/gpt-4o", "gpt-4o"),
        ("openai/gpt-4", "openai/gpt-4", "gpt-4"),
        ("anthropic/claude-haiku", "anthropic/claude-3-haiku", "claude-3-haiku-20240307"),
        ("anthropic/claude-sonnet", "anthropic/claude-3-5-sonnet", "claude-3-5-sonnet-20241022"),
        ("anthropic/claude-opus", "anthropic/claude-3-opus", "claude-3-opus-20240229"),
        (
            "replicate/llama-70b",
            "replicate/meta/meta-llama-3-70b-instruct",
            "meta/meta-llama-3-70b-instruct",
        ),
    ],
)
def test_the_seven_of_the_classic_study_are_known(alias: str, model: str, name: str) -> None:
    found = catalog.lookup(alias)
    assert (found.id, found.name) == (model, name)


def test_a_snapshot_is_asked_for_by_its_own_name() -> None:
    pinned = catalog.lookup("openai/gpt-4o-2024-11-20")
    assert (pinned.id, pinned.name) == ("openai/gpt-4o", "gpt-4o-2024-11-20")
    assert catalog.lookup("gpt-4o-2024-11-20") == pinned
    assert catalog.lookup("openai/gpt-4o").name == "gpt-4o"


def test_letters_may_be_of_either_case() -> None:
    assert catalog.lookup("OpenAI/GPT-4o-mini") == catalog.lookup("openai/gpt-4o-mini")


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        ("openai/gpt4o-mini", "did you mean 'openai/gpt-4o-mini'?"),
        ("anthropic/claude-hiaku-4-5", "did you mean 'anthropic/claude-haiku-4-5'?"),
        ("zzz", "`deltascale models` lists them"),
    ],
)
def test_an_unknown_model_names_the_nearest(typed: str, hint: str) -> None:
    with pytest.raises(CatalogMistake) as stop:
        catalog.lookup(typed)
    assert str(stop.value) == f"there is no model '{typed}' in the catalogue; {hint}"


def test_no_name_means_two_models() -> None:
    names = Counter(
        name.casefold()
        for model in EVERY.values()
        for name in {model.id, model.name, *model.aliases, *model.snapshots}
    )
    assert [name for name, n in names.items() if n > 1] == []
    assert len(catalog.models()) == len(EVERY)


def test_every_name_leads_to_its_model() -> None:
    for model in EVERY.values():
        for name in (model.id, model.name, *model.aliases):
            assert catalog.lookup(name).id == model.id
        for snapshot in model.snapshots:
            assert catalog.lookup(f"{model.provider}/{snapshot}").name == snapshot


@pytest.mark.parametrize("model", EVERY.values(), ids=lambda model: model.id)
def test_every_size_has_what_its_source_demands(model: catalog.CatalogModel) -> None:
    catalog.check_size(model.size)
    assert (model.size.source == "simulated") == (model.provider == "simulated")
    if model.size.source == "published":
        assert "arXiv:" in model.size.citation or "model card" in model.size.citation
    if model.provider in ("openai", "anthropic"):
        assert model.size.source in ("estimate", "unknown"), "closed models publish no size"


@pytest.mark.parametrize("model", EVERY.values(), ids=lambda model: model.id)
def test_a_retired_model_has_a_successor_that_is_served(model: catalog.CatalogModel) -> None:
    assert bool(model.successor) == (model.retired is not None)
    if model.retired is not None:
        successor = EVERY[model.successor]
        assert served(successor)
        assert successor.retired is None or successor.retired > model.retired
        assert model.released is not None
        assert model.released < model.retired


@pytest.mark.parametrize("model", HOSTED, ids=lambda model: model.id)
def test_a_successor_takes_a_temperature_if_one_could(model: catalog.CatalogModel) -> None:
    """A study with controls goes on with the successor of a model that is gone by today."""
    if model.retired is not None and not served(model) and not model.reasoning:
        assert not EVERY[model.successor].reasoning


def test_limits_are_possible() -> None:
    for model in EVERY.values():
        assert model.context_tokens is not None
        assert model.context_tokens > 0
        assert 0 < (model.max_output_tokens or 1) <= model.context_tokens


# --- sizes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (Size("unknown"), "unknown"),
        (Size("published", 9_999_999_999, citation="x"), "small"),
        (Size("published", 10e9, citation="x"), "medium"),
        (Size("published", 99_999_999_999, citation="x"), "medium"),
        (Size("published", 100e9, citation="x"), "large"),
        (Size("simulated", 0.1e9, citation="x"), "small"),
        (Size("estimate", low=200e9, high=440e9, citation="x"), "large"),
        (Size("estimate", low=8e9, high=28e9, citation="x"), "unknown"),
    ],
)
def test_category_follows_from_size(size: Size, expected: str) -> None:
    assert catalog.category(size) == expected


@pytest.mark.parametrize(
    ("size", "found"),
    [
        (Size("published", 7e9), "published size without a citation"),
        (Size("published", citation="x"), "published size without parameters"),
        (Size("published", 7e9, low=6e9, citation="x"), "published size with low"),
        (Size("published", -7e9, citation="x"), "parameters -7e+09 is not a parameter count"),
        (Size("published", float("nan"), citation="x"), "parameters nan is not a parameter count"),
        (Size("published", float("inf"), citation="x"), "parameters inf is not a parameter count"),
        (Size("published", 7e9, active=8e9, citation="x"), "more active parameters than there are"),
        (Size("estimate", 7e9, citation="x"), "estimate size without high and low"),
        (Size("estimate", low=2e9, high=1e9, citation="x"), "low above high"),
        (
            Size("estimate", 5e9, low=1e9, high=2e9, citation="x"),
            "size outside its own interval",
        ),
        (Size("estimate", low=1e9, high=2e9), "estimate size without a citation"),
        (Size("unknown", 7e9), "unknown size with parameters"),
        (Size("simulated", 7e9), "simulated size without a citation"),
        (
            Size("published", 7e9, citation="x", training_tokens=1e12),
            "training_tokens without a training_citation",
        ),
        (
            Size("published", 7e9, citation="x", training_citation="x"),
            "a training_citation without training_tokens",
        ),
        (
            Size("published", 7e9, citation="x", training_tokens=0.0, training_citation="x"),
            "training_tokens 0 is not a token count",
        ),
        (
            Size("published", 7e9, citation="x", training_tokens=math.inf, training_citation="x"),
            "training_tokens inf is not a token count",
        ),
        (
            Size("unknown", training_tokens=1e12, training_citation="x"),
            "unknown size with training_tokens",
        ),
        (Size("unknown", training_citation="x"), "a training_citation without training_tokens"),
    ],
)
def test_a_size_without_its_source_is_refused(size: Size, found: str) -> None:
    with pytest.raises(CatalogMistake) as stop:
        catalog.check_size(size)
    assert str(stop.value) == found


@pytest.mark.parametrize("model", EVERY.values(), ids=lambda model: model.id)
def test_training_tokens_are_published_or_left_out(model: catalog.CatalogModel) -> None:
    tokens, citation = model.size.training_tokens, model.size.training_citation
    if model.size.source == "published":
        assert "arXiv:" in citation or "model card" in citation
        assert 1e11 <= (tokens or 0) <= 1e14
    else:
        assert tokens is None, "closed and invented models have none"
    known = catalog.training_flops(model.size) is not None
    assert known == (model.size.source == "published")


def test_training_flops_are_six_for_each_parameter_used_and_token() -> None:
    one = Size("published", 2e9, citation="x", training_tokens=3e12, training_citation="x")
    assert catalog.training_flops(one) == 6 * 2e9 * 3e12
    assert catalog.training_flops(replace(one, active=0.5e9)) == 6 * 0.5e9 * 3e12
    assert catalog.training_flops(replace(one, training_tokens=None)) is None
    guess = Size("estimate", 2e9, None, 1e9, 3e9, "x", training_tokens=3e12, training_citation="x")
    assert catalog.training_flops(guess) is None, "no point without a published count"
    # Its makers say 3.8e25 (Grattafiori et al. 2024, arXiv:2407.21783).
    largest = catalog.training_flops(EVERY["local/llama-3.1-405b"].size)
    assert largest == pytest.approx(3.8e25, rel=0.005)


def test_counts_are_written_in_the_unit_they_round_to() -> None:
    assert size_text(EVERY["local/gemma-3-1b"].size) == "1B"
    assert size_text(Size("published", 999.4e6, citation="x")) == "999M"
    assert size_text(Size("published", 999.6e9, citation="x")) == "1T"


def llama(
    vocabulary: int, width: int, layers: int, inner: int, heads: int, kv: int, head: int,
    *, tied: bool, bias: bool = False,
) -> int:  # fmt: skip
    """Parameters of a decoder with gated MLPs and grouped queries."""
    attention = 2 * width * heads * head + 2 * width * kv * head
    attention += (heads + 2 * kv) * head if bias else 0
    embeddings = vocabulary * width * (1 if tied else 2)
    return embeddings + layers * (attention + 3 * width * inner + 2 * width) + width


def gemma(
    vocabulary: int, width: int, layers: int, inner: int, heads: int, kv: int, head: int
) -> int:
    """As above, with four norms a layer and normed queries and keys; embeddings tied."""
    layer = 2 * width * (heads + kv) * head + 3 * width * inner + 4 * width + 2 * head
    return vocabulary * width + layers * layer + width


def neox(vocabulary: int, width: int, layers: int) -> int:
    return 2 * vocabulary * width + layers * (12 * width**2 + 13 * width) + 2 * width


_8B = llama(128256, 4096, 32, 14336, 32, 8, 128, tied=False)
_70B = llama(128256, 8192, 80, 28672, 64, 8, 128, tied=False)
_405B = llama(128256, 16384, 126, 53248, 128, 8, 128, tied=False)
_QWEN_HALF = llama(151936, 896, 24, 4864, 14, 2, 64, tied=True, bias=True)
_QWEN_ONE_AND_A_HALF = llama(151936, 1536, 28, 8960, 12, 2, 128, tied=True, bias=True)
FROM_SHAPE = {
    "replicate/meta/meta-llama-3-8b-instruct": _8B,
    "replicate/meta/meta-llama-3-70b-instruct": _70B,
    "replicate/meta/meta-llama-3.1-405b-instruct": _405B,
    "local/llama-3.1-8b": _8B,
    "local/llama-3.1-70b": _70B,
    "local/llama-3.1-405b": _405B,
    "local/llama-3.2-1b": llama(128256, 2048, 16, 8192, 32, 8, 64, tied=True),
    "local/llama-3.2-3b": llama(128256, 3072, 28, 8192, 24, 8, 128, tied=True),
    "local/llama-3.3-70b": _70B,
    "local/smollm2-135m": llama(49152, 576, 30, 1536, 9, 3, 64, tied=True),
    "local/smollm2-360m": llama(49152, 960, 32, 2560, 15, 5, 64, tied=True),
    "local/smollm2-1.7b": llama(49152, 2048, 24, 8192, 32, 32, 64, tied=True),
    "local/qwen2.5-0.5b": _QWEN_HALF,
    "local/qwen2.5-coder-0.5b": _QWEN_HALF,
    "local/qwen2.5-1.5b": _QWEN_ONE_AND_A_HALF,
    "local/qwen2.5-coder-1.5b": _QWEN_ONE_AND_A_HALF,
    "local/qwen2.5-3b": llama(151936, 2048, 36, 11008, 16, 2, 128, tied=True, bias=True),
    "local/qwen2.5-7b": llama(152064, 3584, 28, 18944, 28, 4, 128, tied=False, bias=True),
    "local/qwen2.5-14b": llama(152064, 5120, 48, 13824, 40, 8, 128, tied=False, bias=True),
    "local/qwen2.5-32b": llama(152064, 5120, 64, 27648, 40, 8, 128, tied=False, bias=True),
    "local/qwen2.5-72b": llama(152064, 8192, 80, 29568, 64, 8, 128, tied=False, bias=True),
    "local/gemma-3-270m": gemma(262144, 640, 18, 2048, 4, 1, 256),
    "local/gemma-3-1b": gemma(262144, 1152, 26, 6912, 4, 1, 256),
    "local/gemma-3-4b": gemma(262208, 2560, 34, 10240, 8, 4, 256),
    "local/gemma-3-12b": gemma(262208, 3840, 48, 15360, 16, 8, 256),
    "local/gemma-3-27b": gemma(262208, 5376, 62, 21504, 32, 16, 128),
    "local/pythia-14m": neox(50304, 128, 6),
    "local/pythia-31m": neox(50304, 256, 6),
    "local/pythia-70m": neox(50304, 512, 6),
    "local/pythia-160m": neox(50304, 768, 12),
    "local/pythia-410m": neox(50304, 1024, 24),
    "local/pythia-1b": neox(50304, 2048, 16),
    "local/pythia-1.4b": neox(50304, 2048, 24),
    "local/pythia-2.8b": neox(50304, 2560, 32),
    "local/pythia-6.9b": neox(50432, 4096, 32),
    "local/pythia-12b": neox(50688, 5120, 36),
}


def test_published_counts_follow_from_the_published_shapes() -> None:
    """The number in the catalogue is the number of weights in the checkpoint, to the last one."""
    published = {
        model.id: model.size.parameters
        for model in EVERY.values()
        if model.size.source == "published"
    }
    assert published == FROM_SHAPE


def test_weights_are_recognised_by_the_name_a_server_gives_them() -> None:
    found = catalog.open_weights("qwen2.5-0.5b-instruct")
    assert found is not None
    assert found is catalog.open_weights("Qwen/Qwen2.5-0.5B-Instruct")
    assert found.size.parameters == 494_032_768
    assert catalog.open_weights("gpt-4o") is None


# --- prices --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("provider", "name", "input_usd", "output_usd"),
    [
        ("openai", "gpt-4o-mini", "0.15", "0.60"),
        ("openai", "gpt-4o", "2.50", "10"),
        ("openai", "gpt-4o-2024-05-13", "5", "15"),
        ("openai", "gpt-4", "30", "60"),
        ("openai", "gpt-4-turbo", "10", "30"),
        ("openai", "gpt-3.5-turbo", "0.50", "1.50"),
        ("openai", "gpt-5", "1.25", "10"),
        ("openai", "gpt-6-sol", "2", "10"),
        ("anthropic", "claude-3-haiku-20240307", "0.25", "1.25"),
        ("anthropic", "claude-3-5-sonnet-20241022", "3", "15"),
        ("anthropic", "claude-3-opus-20240229", "15", "75"),
        ("anthropic", "claude-opus-4-5-20251101", "5", "25"),
        ("anthropic", "claude-sonnet-5-5", "2", "10"),
        ("anthropic", "claude-opus-5-5", "4", "20"),
        ("replicate", "meta/meta-llama-3-70b-instruct", "0.65", "2.75"),
        ("replicate", "meta/meta-llama-3-8b-instruct", "0.05", "0.25"),
    ],
)
def test_prices_are_the_published_ones(
    provider: str, name: str, input_usd: str, output_usd: str
) -> None:
    found = catalog.price(provider, name, on=TODAY)
    assert found is not None
    assert found.input_nusd_per_ktok == Decimal(input_usd) * 10**6
    assert found.output_nusd_per_ktok == Decimal(output_usd) * 10**6


@pytest.mark.parametrize(
    ("name", "on", "input_usd", "output_usd", "dated"),
    [
        ("o3", date(2025, 5, 1), 10, 40, "2025-04-16"),
        ("o3", date(2025, 6, 9), 10, 40, "2025-04-16"),
        ("o3", date(2025, 6, 10), 2, 8, "2025-06-10"),
        ("gpt-4o", date(2024, 10, 1), 5, 15, "2024-05-13"),
        ("gpt-4o", date(2024, 10, 2), Decimal("2.5"), 10, "2024-10-02"),
    ],
)
def test_a_past_day_has_the_price_of_that_day(
    name: str, on: date, input_usd: Decimal, output_usd: Decimal, dated: str
) -> None:
    found = catalog.price("openai", name, on=on)
    assert found is not None
    assert found.input_nusd_per_ktok == input_usd * 10**6
    assert found.output_nusd_per_ktok == output_usd * 10**6
    assert found.dated == dated


@pytest.mark.parametrize("model", HOSTED, ids=lambda model: model.id)
def test_every_model_that_is_served_has_a_price(model: catalog.CatalogModel) -> None:
    for name in (model.name, *model.snapshots):
        found = catalog.price(model.provider, name, on=TODAY)
        assert found is not None
        sides = (
            found.cached_input_nusd_per_ktok,
            found.input_nusd_per_ktok,
            found.output_nusd_per_ktok,
        )
        assert all(isinstance(side, int) for side in sides)
        assert 0 < sides[0] <= sides[1] <= sides[2]
        assert found.source
        assert date.fromisoformat(found.dated) <= TODAY


@pytest.mark.parametrize("model", EVERY.values(), ids=lambda model: model.id)
def test_a_price_does_not_change_with_the_day_it_is_asked_on(model: catalog.CatalogModel) -> None:
    today = catalog.price(model.provider, model.name, on=TODAY)
    assert catalog.price(model.provider, model.name, on=date(2027, 3, 1)) == today


@pytest.mark.parametrize(
    "model",
    [model for model in HOSTED if model.provider != "replicate"],
    ids=lambda model: model.id,
)
def test_prices_agree_with_what_genai_prices_calculates(model: catalog.CatalogModel) -> None:
    from genai_prices import Usage, calc_price

    found = catalog.price(model.provider, model.name, on=TODAY)
    assert found is not None
    usage = Usage(input_tokens=10_000, cache_read_tokens=4_000, output_tokens=2_000)
    theirs = calc_price(
        usage,
        model.name,
        provider_id=model.provider,
        genai_request_timestamp=datetime(2026, 11, 21, 12, tzinfo=UTC),
    )
    ours = 6 * found.input_nusd_per_ktok + 4 * found.cached_input_nusd_per_ktok
    ours += 2 * found.output_nusd_per_ktok
    assert theirs.total_price * 10**9 == ours


@pytest.mark.parametrize(
    ("provider", "name", "longest"),
    [
        ("openai", "gpt-5.4", 272_000),
        ("anthropic", "claude-haiku-5-5", 100_000),
        ("openai", "gpt-4o-mini", None),
        ("openai", "gpt-4o", None),
        ("replicate", "meta/meta-llama-3-70b-instruct", None),
        ("local", "smollm2-135m", None),
    ],
)
def test_a_price_says_how_far_it_holds(provider: str, name: str, longest: int | None) -> None:
    from genai_prices import Usage, calc_price

    assert catalog.priced_tokens(provider, name, on=TODAY) == longest
    if longest is not None:
        at, beyond = (
            calc_price(Usage(input_tokens=n, output_tokens=0), name, provider_id=provider)
            for n in (longest, longest + 1)
        )
        assert beyond.input_price > at.input_price * Decimal("1.5")


@pytest.mark.parametrize(
    ("provider", "name"),
    [
        ("openai", "no-such-model"),
        ("replicate", "no/such-model"),
        ("nobody", "gpt-4o"),
        ("replicate", "meta/meta-llama-3-70b-instruct "),
    ],
)
def test_an_unknown_price_is_none(provider: str, name: str) -> None:
    assert catalog.price(provider, name, on=TODAY) is None


def test_our_own_table_knows_nothing_before_its_first_day() -> None:
    name = "meta/meta-llama-3-70b-instruct"
    assert catalog.price("replicate", name, on=date(2024, 4, 17)) is None
    assert catalog.price("replicate", name, on=date(2024, 4, 18)) is not None


def test_models_of_ones_own_are_free() -> None:
    found = catalog.price("local", "anything.gguf", on=TODAY)
    assert found is not None
    assert found.input_nusd_per_ktok == found.output_nusd_per_ktok == 0


def test_the_simulated_ladder_grows_in_size_and_price_and_says_what_it_is() -> None:
    ladder = [model for model in EVERY.values() if model.provider == "simulated"]
    assert [model.size.parameters for model in ladder] == [1e8, 4e8, 1e9, 3e9, 8e9, 27e9, 70e9]
    prices = [catalog.price("simulated", model.name, on=TODAY) for model in ladder]
    outputs = [each.output_nusd_per_ktok for each in prices if each is not None]
    assert len(outputs) == 7
    assert outputs == sorted(set(outputs))
    assert {each.source for each in prices if each is not None} == {"simulated"}


@settings(deadline=None)
@given(st.decimals(min_value=0, max_value=10_000, places=6))
def test_every_price_of_six_decimals_is_kept_exactly(usd: Decimal) -> None:
    assert Decimal(catalog.nusd_per_ktok(usd)).scaleb(-6) == usd


@pytest.mark.parametrize("usd", ["-1", "NaN", "Infinity", "0.0000001"])
def test_what_is_no_exact_price_is_refused(usd: str) -> None:
    with pytest.raises(CatalogMistake):
        catalog.nusd_per_ktok(Decimal(usd))


def test_prices_are_had_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a price was looked up on the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    for model in HOSTED:
        assert catalog.price(model.provider, model.name, on=TODAY) is not None


def test_neither_importing_nor_looking_up_loads_anything_heavy() -> None:
    """Only a price of a hosted model needs genai-prices."""
    code = (
        "import sys; from datetime import date; from deltascale import catalog; "
        "catalog.lookup('gpt-4o'); catalog.price('simulated', 'sim-1b', on=date(2026, 11, 21)); "
        "print([name for name in ('genai_prices', 'pydantic', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
