"""What a call costs."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from importlib.metadata import version

import pytest
from genai_prices import Usage, calc_price
from genai_prices.data_snapshot import get_snapshot
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_llm.pricing import _LIST_DATES, COST_PLACES, Price, PriceList, _Tier
from tests.search import examples

AT = datetime(2026, 11, 1, 12, tzinfo=UTC)
MODELS = [
    ("openai", "gpt-4.1-mini"),
    ("openai", "gpt-5-mini"),
    ("openai", "gpt-4.1-mini-2025-04-14"),
    ("azure", "gpt-4.1-mini"),
    ("google", "gemini-2.5-flash"),
    ("google", "gemini-2.5-pro"),  # dearer above 200,000 input tokens
    ("anthropic", "claude-sonnet-4-5"),
    ("mistral", "mistral-small-latest"),
    ("perplexity", "sonar"),  # a price per request
]


@dataclass(frozen=True)
class Own:
    input: Decimal
    output: Decimal
    cached_input: Decimal | None = None


@pytest.mark.parametrize(("provider", "model"), MODELS)
@settings(max_examples=examples(30))
@given(st.integers(0, 400_000), st.integers(0, 100_000), st.data())
def test_costs_are_the_price_lists_own_to_a_billionth(
    provider: str, model: str, input_tokens: int, output_tokens: int, data: st.DataObject
) -> None:
    cached = data.draw(st.integers(0, input_tokens))
    price = PriceList.for_model(provider, model, at=AT)
    assert price is not None
    usage = Usage(input_tokens=input_tokens, output_tokens=output_tokens, cache_read_tokens=cached)
    theirs = calc_price(usage, model, provider_id=provider, genai_request_timestamp=AT).total_price
    ours = price.cost(input_tokens, output_tokens, cached)
    assert ours == theirs.quantize(COST_PLACES)
    assert -ours.as_tuple().exponent == 9  # type: ignore[operator]


def test_the_batch_lane_halves_and_says_so() -> None:
    standard, batch = (PriceList.for_model("openai", "gpt-4.1-mini", lane=lane) for lane in ("standard", "batch"))  # type: ignore[arg-type]
    assert standard is not None and batch is not None
    assert batch.cost(10**6, 10**6) * 2 == standard.cost(10**6, 10**6) == Decimal(2)
    assert batch.version == f"{standard.version} batch"


def test_the_flex_lane_halves_where_the_provider_has_one() -> None:
    standard, flex = (PriceList.for_model("openai", "gpt-5-mini", lane=lane) for lane in ("standard", "flex"))  # type: ignore[arg-type]
    assert standard is not None and flex is not None
    assert flex.cost(10**6, 10**6) * 2 == standard.cost(10**6, 10**6)


@pytest.mark.parametrize(
    ("provider", "model", "lane"),
    [
        ("openai", "gpt-4.1-mini", "flex"),  # no flex price in the list: not the full price in disguise
        ("anthropic", "claude-sonnet-4-5", "flex"),
        ("azure", "gpt-4.1-mini", "batch"),  # OpenAI's price, but not OpenAI's lanes
        ("openai", "gpt-9-foo", "standard"),
        ("openai", "gpt-4.1-mini-and-more", "standard"),
        ("simulator", "gpt-4.1-mini", "standard"),
        ("my-openai-proxy", "gpt-4.1-mini", "standard"),  # contains "openai"; never guessed
        ("openai", "", "standard"),
    ],
)
def test_an_unknown_price_is_none_and_never_zero(provider: str, model: str, lane: str) -> None:
    assert PriceList.for_model(provider, model, lane=lane) is None  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("provider", "model", "per_million"),
    [
        ("openai", "text-embedding-3-small", "0.02"),
        ("openai", "text-embedding-3-large", "0.13"),
        ("openai", "text-embedding-ada-002", "0.1"),
        ("azure", "text-embedding-3-small", "0.02"),
    ],
)
def test_a_model_of_vectors_needs_no_price_for_an_output_it_does_not_have(
    provider: str, model: str, per_million: str
) -> None:
    price = PriceList.for_embeddings(provider, model, at=AT)
    assert price is not None
    assert price.cost(1_000_000, 0) == Decimal(per_million)
    assert PriceList.for_model(provider, model, at=AT) is None  # asked as a chat, its answers would have a price
    assert PriceList.for_embeddings(provider, "text-embedding-of-tomorrow", at=AT) is None


def test_vectors_have_a_pools_own_prices_as_well() -> None:
    price = PriceList.for_embeddings("mine", "any", Own(Decimal("0.05"), Decimal(0)))
    assert price is not None
    assert price.cost(2_000_000, 0) == Decimal("0.1")


def test_every_price_of_the_list_is_read_or_unknown() -> None:
    """No model of the list makes us fail, and none gets a price without prices for its text tokens."""
    known = 0
    for provider in get_snapshot().providers:
        for model in provider.models:
            for lane in ("standard", "batch") if provider.id in {"openai", "google", "anthropic"} else ("standard",):
                price = PriceList.for_model(provider.id, model.id, lane=lane, at=AT)  # type: ignore[arg-type]
                known += price is not None
    assert known > 1_000


def test_a_pools_own_prices_win_and_their_version_is_their_hash() -> None:
    price = PriceList().for_model("openai", "gpt-4.1-mini", Own(Decimal("0.40"), Decimal("1.60")))
    assert price is not None
    assert price.cost(1_000, 1_000, 500) == Decimal("0.002000000")  # no own price for cached tokens: the full one
    same = PriceList.for_model("any", "thing", Own(Decimal("0.4"), Decimal("1.6"), Decimal("0.4")), "batch")
    other = PriceList.for_model("any", "thing", Own(Decimal("0.4"), Decimal("1.6"), Decimal("0.1")))
    assert same is not None and other is not None
    assert price.version == same.version != other.version
    assert price.version.startswith("override:") and len(price.version) == len("override:") + 8
    assert other.cost(1_000_000, 0, 1_000_000) == Decimal("0.1")


def test_a_price_names_its_list_and_the_lists_date() -> None:
    """A new genai-prices needs the date on which its text was last checked: see _LIST_DATES."""
    number = version("genai-prices")
    price = PriceList.for_model("openai", "gpt-4.1-mini")
    assert price is not None
    assert price.version == f"genai-prices {number} ({_LIST_DATES[number]})"


@given(
    st.lists(st.tuples(*[st.decimals(0, 1_000, places=6)] * 3), min_size=1, max_size=3),
    st.decimals(0, 1, places=9),
)
def test_a_price_that_was_kept_as_data_costs_the_same(tiers: list[tuple[Decimal, ...]], per_request: Decimal) -> None:
    price = Price("v", tuple(_Tier(1_000 * at, *amounts) for at, amounts in enumerate(tiers)), per_request)
    assert Price.from_data("v", json.loads(json.dumps(price.as_data()))) == price


def test_a_price_that_the_list_changes_by_date_is_named_by_its_numbers_as_well() -> None:
    """Of one model two prices never have the same version."""
    before, after, same = (
        PriceList.for_model("anthropic", "claude-opus-4-6", at=datetime(2026, month, 1, tzinfo=UTC))
        for month in (2, 4, 5)
    )
    assert before is not None and after is not None and same is not None
    assert (before.version == after.version) == (before == after) and after == same
    assert before.version.startswith(f"genai-prices {version('genai-prices')}")


def test_roundings_cancel_out() -> None:
    price = PriceList.for_model("any", "thing", Own(Decimal("0.0005"), Decimal(0)))
    assert price is not None
    assert [price.cost(tokens, 0) for tokens in (1, 3, 5)] == [Decimal(0), Decimal("2e-9"), Decimal("2e-9")]


def test_nonsense_counts_never_fail_a_row() -> None:
    price = PriceList.for_model("any", "thing", Own(Decimal(1), Decimal(1), Decimal(0)))
    assert price is not None
    assert price.cost(-5, -5, -5) == 0
    assert price.cost(10, 0, 500) == 0


def test_totals_of_many_small_requests_stay_in_the_small_tier() -> None:
    price = PriceList.for_model("google", "gemini-2.5-pro", at=AT)
    assert price is not None
    assert price.cost(10_000_000, 1_000_000, requests=1_000) == 1_000 * price.cost(10_000, 1_000)
    assert price.cost(10_000_000, 1_000_000) > price.cost(10_000_000, 1_000_000, requests=1_000)


def test_importing_it_loads_no_price_list() -> None:
    code = "import sys, batch_llm.pricing, batch_llm.tokens; print({'genai_prices', 'tiktoken'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "set()\n"


@pytest.mark.parametrize(
    ("provider", "model", "context"),
    [
        ("openai", "gpt-4o-mini", 128_000),
        ("openai", "gpt-4.1-mini", 1_048_576),  # the list rounds to 1,000,000: a row must never fail for that
        ("openai", "of-nobody-we-know", None),
        ("nobody", "gpt-4o-mini", None),
    ],
)
def test_the_list_knows_how_much_a_model_reads(provider: str, model: str, context: int | None) -> None:
    assert PriceList().context_tokens(provider, model) == context
