"""What a call costs.

Belongs here: the price list (genai-prices, pinned) and what else it says of a model, a pool's own prices, the
arithmetic. Not here: the cap (limiter/budget.py). An unknown price is None, never 0.

Costs are exact `Decimal`s, rounded once, at the end, to `COST_PLACES` places (a billionth of a dollar; a token of the
cheapest models costs a few hundredths of a millionth), half to even: over a million rows roundings cancel out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from functools import cached_property
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice

__all__ = ["COST_PLACES", "Lane", "PoolPrices", "Price", "PriceList", "in_full", "usd_of_nano"]

COST_PLACES = Decimal("1e-9")
NANO_DIGITS = 9  # of a dollar: costs are whole nano-dollars
PER_TOKENS_DIGITS = 6  # prices are per 1M tokens
LIST_ROUNDS_TO = 1_000_000  # the list says 1,000,000 also of models that read 2**20 tokens
Lane = Literal["standard", "flex", "batch"]

# The only contexts that change a price. genai-prices answers an unknown context with the full price and no warning:
# {"service_tier": "batch"} looks right and is wrong, so a lane counts only if its context changes something.
# Source: genai-prices 0.2.3, types.py ModelInfo.get_prices (read 2026-11-21)
_CONTEXTS: dict[str, dict[str, str]] = {"batch": {"processing": "batch"}, "flex": {"service_tier": "flex"}}

# The list carries no date of its own: the newest day on which its text says a price was checked.
_LIST_DATES = {"0.2.3": "2026-11-04"}


class PoolPrices(Protocol):
    """Prices of a pool in the providers file, US dollars per 1M tokens."""

    @property
    def input(self) -> Decimal:
        """Input tokens."""
        ...

    @property
    def output(self) -> Decimal:
        """Output tokens."""
        ...

    @property
    def cached_input(self) -> Decimal | None:
        """Input tokens read from the provider's cache; None: as `input`."""
        ...


@dataclass(frozen=True, slots=True)
class _Tier:
    """US dollars per 1M tokens for requests with more than ``above_input_tokens``: all of their tokens."""

    above_input_tokens: int
    input: Decimal
    output: Decimal
    cached_input: Decimal


@dataclass(frozen=True)
class Price:
    """What one model costs in one lane.

    Attributes:
        version: Where it comes from, for `llm_price_version`: the list's version and date, or "override:<hash>". Of one
            model two prices with the same version are the same.
        tiers: Ascending; the first one begins at 0.
        per_request_usd: What a request costs beside its tokens.
    """

    version: str
    tiers: tuple[_Tier, ...]
    per_request_usd: Decimal = Decimal(0)

    def as_data(self) -> dict[str, Any]:
        """Its numbers as plain data, US dollars as text; without the version, which names them."""
        tiers = [[tier.above_input_tokens, *map(str, _amounts(tier))] for tier in self.tiers]
        return {"tiers": tiers, "per_request_usd": str(self.per_request_usd)}

    @classmethod
    def from_data(cls, version: str, data: Mapping[str, Any]) -> Price:
        """What `as_data` gave."""
        tiers = tuple(_Tier(int(above), *map(Decimal, amounts)) for above, *amounts in data["tiers"])
        return cls(version, tiers, Decimal(data["per_request_usd"]))

    def cost(
        self, input_tokens: int, output_tokens: int, cached_input_tokens: int = 0, *, requests: int = 1
    ) -> Decimal:
        """US dollars, 9 places. ``cached_input_tokens`` are part of ``input_tokens``; negative counts count as 0.

        With ``requests`` above 1 the counts are totals of that many requests of about the same size.
        """
        return usd_of_nano(self.cost_nano(input_tokens, output_tokens, cached_input_tokens, requests=requests))

    def cost_nano(
        self, input_tokens: int, output_tokens: int, cached_input_tokens: int = 0, *, requests: int = 1
    ) -> int:
        """As `cost`, in whole nano-dollars: exact integers all the way, for the bill of every single row."""
        input_tokens, output_tokens = max(0, input_tokens), max(0, output_tokens)
        cached_input_tokens = min(max(0, cached_input_tokens), input_tokens)
        scale, per_request, tiers = self._scaled
        tier = tiers[0]
        for dearer in tiers[1:]:
            if input_tokens > dearer[0] * requests:
                tier = dearer
        _, per_input, per_output, per_cached = tier
        parts = (
            per_input * (input_tokens - cached_input_tokens)
            + per_cached * cached_input_tokens
            + per_output * output_tokens
            + per_request * requests
        )
        whole, rest = divmod(parts, scale)
        twice = 2 * rest
        return whole + (twice > scale or (twice == scale and whole & 1))  # half to even

    @cached_property
    def _scaled(self) -> tuple[int, int, tuple[tuple[int, int, int, int], ...]]:
        """(parts per nano-dollar, parts per request, (above_input_tokens, parts per token ..) of each tier)."""
        amounts = [self.per_request_usd, *(one for tier in self.tiers for one in _amounts(tier))]
        digits = max(0, *(-int(amount.as_tuple().exponent) for amount in amounts))
        per_token, per_request = 10 ** (digits + NANO_DIGITS), 10 ** (digits + NANO_DIGITS + PER_TOKENS_DIGITS)
        tiers = tuple(
            (tier.above_input_tokens, *(int(one * per_token) for one in _amounts(tier))) for tier in self.tiers
        )
        return 10 ** (digits + PER_TOKENS_DIGITS), int(self.per_request_usd * per_request), tiers  # type: ignore[return-value]


def usd_of_nano(nano: int) -> Decimal:
    """Nano-dollars as US dollars, 9 places."""
    return Decimal(nano).scaleb(-NANO_DIGITS)


def in_full(usd: Decimal) -> str:
    """US dollars to the last digit, however few, without idle zeros: what somebody is to set is not rounded."""
    return f"{usd.normalize():f}"


def _amounts(tier: _Tier) -> tuple[Decimal, Decimal, Decimal]:
    return tier.input, tier.output, tier.cached_input


class PriceList:
    """The prices we know. Loading the list takes 0.3 s, at the first model without own prices."""

    @staticmethod
    def for_model(
        provider_name: str,
        model: str,
        override: PoolPrices | None = None,
        lane: Lane = "standard",
        at: datetime | None = None,
    ) -> Price | None:
        """The price of a model, None when it is unknown.

        Args:
            provider_name: The provider's id in the price list (openai, azure, google, anthropic, ..); never guessed.
            model: As the provider names it.
            override: The pool's own prices; they hold for every lane.
            lane: A lane for which the list has no price of its own is unknown.
            at: The moment whose price is asked for, aware; None: now.
        """
        return _price_of(_Model(provider_name, model), override, lane, at)

    @staticmethod
    def for_embeddings(
        provider_name: str,
        model: str,
        override: PoolPrices | None = None,
        lane: Lane = "standard",
        at: datetime | None = None,
    ) -> Price | None:
        """As `for_model`, of a model that makes vectors: it has no output tokens, and the list no price for them."""
        return _price_of(_Model(provider_name, model, has_output=False), override, lane, at)

    @staticmethod
    def context_tokens(provider_name: str, model: str) -> int | None:
        """How many tokens a model reads and writes at once, never less than it really does; None: not known."""
        found, _ = _model(provider_name, model)
        if found is None or found.context_window is None:
            return None
        rounded = found.context_window % LIST_ROUNDS_TO == 0
        return found.context_window * 1_048_576 // LIST_ROUNDS_TO if rounded else found.context_window


@dataclass(frozen=True, slots=True)
class _Model:
    """Whose price is asked for."""

    provider_name: str
    name: str
    has_output: bool = True  # writes answers, whose tokens cost


def _price_of(model: _Model, override: PoolPrices | None, lane: Lane, at: datetime | None) -> Price | None:
    if override is not None:
        return _overridden(override)
    prices = _listed(model.provider_name, model.name, lane, at or datetime.now(UTC))
    price = None if prices is None else _priced(prices, _list_version(lane), has_output=model.has_output)
    if price is None or not _varies(model):
        return price
    digest = _digest("/".join(map(str, (price.per_request_usd, *price.tiers))))
    return replace(price, version=f"{price.version} {digest}")


def _overridden(prices: PoolPrices) -> Price:
    cached = prices.input if prices.cached_input is None else prices.cached_input
    text = "/".join(f"{amount.normalize():f}" for amount in (prices.input, prices.output, cached))
    return Price(f"override:{_digest(text)}", (_Tier(0, prices.input, prices.output, cached),))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _list_version(lane: Lane) -> str:
    number = version("genai-prices")
    date = f" ({_LIST_DATES[number]})" if number in _LIST_DATES else ""
    return f"genai-prices {number}{date}" + ("" if lane == "standard" else f" {lane}")


def _model(provider_name: str, model_name: str) -> tuple[ModelInfo | None, bool]:
    """(the model in the list, whether it is the provider's own entry there)."""
    from genai_prices.data_snapshot import get_snapshot  # 0.3 s that `--help` need not pay

    snapshot = get_snapshot()
    # by its exact id: the list's own search would take any name that contains "openai" for OpenAI
    provider = next((one for one in snapshot.providers if one.id == provider_name.lower()), None)
    model = provider and provider.find_model(model_name.lower(), all_providers=snapshot.providers)
    if not provider or not model:
        return None, False
    return model, any(model is own for own in provider.models)


def _varies(model: _Model) -> bool:
    """Whether the list has several prices of it: by date, or by the hour."""
    found, _ = _model(model.provider_name, model.name)
    return found is not None and isinstance(found.prices, list) and len(found.prices) > 1


def _listed(provider_name: str, model_name: str, lane: Lane, at: datetime) -> ModelPrice | None:
    model, is_own = _model(provider_name, model_name)
    if model is None:
        return None
    standard = model.get_prices(at)
    if lane == "standard":
        return standard
    if not is_own:  # another provider's model, whose lanes need not exist here
        return None
    prices = model.get_prices(at, _CONTEXTS[lane])
    return None if prices == standard else prices


def _priced(prices: ModelPrice, version_text: str, *, has_output: bool) -> Price | None:
    """The list's prices as ours; None when tokens that will be used have no price there."""
    from genai_prices.types import TieredPrices

    named = (prices.input_mtok, prices.output_mtok, prices.cache_read_mtok)
    starts = {0} | {tier.start for price in named if isinstance(price, TieredPrices) for tier in price.tiers}

    def at(price: Decimal | TieredPrices | None, start: int) -> Decimal | None:
        if not isinstance(price, TieredPrices):
            return price
        return next((tier.price for tier in reversed(price.tiers) if start >= tier.start), price.base)

    tiers = []
    for start in sorted(starts):
        per_input, per_output, per_cached = (at(price, start) for price in named)
        if per_output is None and not has_output:
            per_output = Decimal(0)
        if per_input is None or per_output is None:
            return None
        tiers.append(_Tier(start, per_input, per_output, per_input if per_cached is None else per_cached))
    per_thousand = at(prices.requests_kcount, 0)
    return Price(version_text, tuple(tiers), (per_thousand or Decimal(0)) / 1000)
