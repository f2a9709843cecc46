"""What several pools are together: their limits, their prices."""

from __future__ import annotations

from decimal import Decimal

from batch_llm.config.providers_model import PricesSpec
from batch_llm.engine.pools import Pool, dearest, joint_limits, prices_by_pool
from batch_llm.limiter.base import Limits
from batch_llm.pricing import Price, PriceList


def price(usd: str) -> Price | None:
    return PriceList().for_model("p", "m", PricesSpec(input=Decimal(usd), output=Decimal(usd)))


def pool(name: str, usd: str | None = None, **limits: float) -> Pool:
    return Pool(name, Limits(f"p:{name}", **limits), None if usd is None else price(usd))  # type: ignore[arg-type]


def test_what_one_pool_does_not_limit_is_limited_for_none() -> None:
    together = joint_limits(
        [pool("a", requests_per_minute=60, tokens_per_minute=1_000), pool("b", requests_per_minute=30)]
    )
    assert (together.requests_per_minute, together.tokens_per_minute) == (90, None)
    assert together.pool == "p:a + p:b"


def test_one_pool_is_what_it_is() -> None:
    only = pool("a", "1", requests_per_minute=60, burst_s=2.0)
    assert joint_limits([only]) is only.limits
    assert dearest([only]) is only.price
    assert prices_by_pool([only]) == {}


def test_the_dearest_counts_and_an_unknown_price_makes_all_unknown() -> None:
    cheap, dear = pool("a", "1"), pool("b", "3")
    assert dearest([cheap, dear]) is dear.price
    assert prices_by_pool([cheap, dear]) == {"a": cheap.price, "b": dear.price}
    assert dearest([cheap, pool("c")]) is None
