"""What a request takes: the fast form of the debit rule does what the readable one says."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_llm.limiter.base import Cost, Limits
from batch_llm.limiter.debit import Debit, rules_of
from batch_llm.limiter.measures import Measures

NOW = datetime(2026, 1, 1, tzinfo=UTC)
NAMES = ("requests_per_minute", "tokens_per_minute", "input_tokens_per_minute", "output_tokens_per_minute")
DAYS = ("requests_per_day", "tokens_per_day")
LIMITS = st.builds(
    Limits,
    st.just("p"),
    **{name: st.sampled_from([None, 1e6]) for name in (*NAMES, *DAYS)},
    debit=st.sampled_from(["actual", "input_plus_max_tokens", "input_plus_max_tokens_then_corrected"]),
)
COSTS = st.builds(Cost, st.integers(0, 5000), st.integers(0, 5000), st.one_of(st.none(), st.integers(0, 5000)))


@given(LIMITS, COSTS, COSTS)
def test_both_forms_agree(limits: Limits, cost: Cost, actual: Cost) -> None:
    rules = rules_of(limits, NOW)
    measures, debit = Measures(limits, rules), Debit(limits, rules)
    reserved = measures.reserved(cost)
    assert list(reserved) == debit.reserved(cost)
    assert list(measures.used(reserved, actual)) == debit.used(cost, actual)


@pytest.mark.parametrize("more", [{}, {"requests_per_minute": 60}, {"tokens_per_day": 9e9}])
def test_nonsense_counts_as_a_minute_of_the_limit_at_most(more: Any) -> None:
    limits = Limits("p", tokens_per_minute=1000, **more)
    measures = Measures(limits, rules_of(limits, NOW))
    place = [rule.name for rule in rules_of(limits, NOW)].index("tokens")
    reserved = measures.reserved(Cost(100, 0))
    assert measures.used(reserved, Cost(10**12, 0))[place] == 1000
    assert measures.used(reserved, Cost(-5, 0))[place] == 0
    assert measures.used(measures.reserved(Cost(5_000, 0)), Cost(10**12, 0))[place] == 5_000


def test_a_rejected_request_stays_counted_and_its_tokens_do_not() -> None:
    limits = Limits("p", requests_per_minute=60, tokens_per_minute=1000, requests_per_day=100, tokens_per_day=1e6)
    measures = Measures(limits, rules_of(limits, NOW))
    assert measures.rejected(measures.reserved(Cost(100, 0))) == (1, 0, 1, 0)
