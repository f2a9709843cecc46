"""Rate-limit headers: which limit each one tells, in which unit, and what is not believed."""

from __future__ import annotations

import math
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_llm.config.provider_kinds import kind_named, kind_names
from batch_llm.config.providers_file import PoolSpec
from batch_llm.limiter.headers import HeaderFact, HeaderReader

MINUTE = {  # Source: https://community.openai.com/t/1268905 (read 2026-11-21)
    "x-ratelimit-limit-requests": "5000",
    "x-ratelimit-remaining-requests": "4999",
    "x-ratelimit-reset-requests": "12ms",
    "x-ratelimit-limit-tokens": "160000",
    "x-ratelimit-remaining-tokens": "159976",
    "x-ratelimit-reset-tokens": "9ms",
}
DAY = {  # Source: https://redis.io/blog/kong-ai-gateway-and-redis/ (read 2026-11-21)
    "x-ratelimit-limit-requests": "10000",
    "x-ratelimit-remaining-requests": "9999",
    "x-ratelimit-reset-requests": "8.64s",
    "x-ratelimit-limit-tokens": "10000",
    "x-ratelimit-remaining-tokens": "9481",
    "x-ratelimit-reset-tokens": "3.114s",
}
LATER_THAT_DAY = {**DAY, "x-ratelimit-remaining-requests": "9998", "x-ratelimit-reset-requests": "17.28s"}
GROQ = {  # Source: https://console.groq.com/docs/rate-limits (read 2026-11-21)
    "x-ratelimit-limit-requests": "14400",
    "x-ratelimit-remaining-requests": "14370",
    "x-ratelimit-reset-requests": "2m59.56s",
    "x-ratelimit-limit-tokens": "18000",
    "x-ratelimit-remaining-tokens": "17997",
    "x-ratelimit-reset-tokens": "7.66s",
}
ANTHROPIC = {  # Source: https://rdrr.io/cran/tidyllm/src/tests/testthat/claude (read 2026-11-21)
    "anthropic-ratelimit-requests-limit": "1000",
    "anthropic-ratelimit-requests-remaining": "999",
    "anthropic-ratelimit-requests-reset": "2025-08-21T12:40:59Z",
    "anthropic-ratelimit-input-tokens-limit": "80000",
    "anthropic-ratelimit-input-tokens-remaining": "80000",
    "anthropic-ratelimit-output-tokens-limit": "16000",
    "anthropic-ratelimit-output-tokens-remaining": "16000",
    "anthropic-ratelimit-tokens-limit": "96000",
    "anthropic-ratelimit-tokens-remaining": "96000",
}


def test_openai_tells_requests_and_tokens_per_minute() -> None:
    assert HeaderReader("openai").read(MINUTE) == [
        HeaderFact("requests", 5_000 / 60, 4_999),
        HeaderFact("tokens", 160_000 / 60, 159_976),
    ]


def test_openais_requests_may_be_those_of_a_day_and_the_reset_header_shows_it() -> None:
    """10,000 a day read as 10,000 a minute would be 1,440 times too fast. It takes two answers to be sure."""
    reader = HeaderReader("openai")
    assert reader.read(DAY) == [HeaderFact("tokens", 10_000 / 60, 9_481)]
    assert reader.read(LATER_THAT_DAY) == [
        HeaderFact("requests_per_day", 10_000 / 86_400, 9_998),
        HeaderFact("tokens", 10_000 / 60, 9_481),
    ]


def test_a_reset_of_more_than_two_minutes_is_that_of_a_day_at_once() -> None:
    headers = {**DAY, "x-ratelimit-remaining-requests": "9900", "x-ratelimit-reset-requests": "14m24s"}
    assert HeaderReader("openai").read(headers)[0] == HeaderFact("requests_per_day", 10_000 / 86_400, 9_900)


def test_fixed_windows_of_a_minute_are_never_taken_for_a_day() -> None:
    """Limit 1,440, one used, 60 s left: the very figures of a day; but here the reset falls while the use grows."""
    reader = HeaderReader("openai")
    seen = set()
    for second in range(180):
        used = 1 + second % 60
        headers = {
            "x-ratelimit-limit-requests": "1440",
            "x-ratelimit-remaining-requests": str(1_440 - used),
            "x-ratelimit-reset-requests": f"{60 - second % 60}s",
        }
        seen |= {fact.dimension for fact in reader.read(headers)}
    assert seen == {"requests"}


def test_groqs_requests_are_always_those_of_a_day() -> None:
    assert HeaderReader("groq").read(GROQ) == [
        HeaderFact("requests_per_day", 14_400 / 86_400, 14_370),
        HeaderFact("tokens", 18_000 / 60, 17_997),
    ]


def test_anthropic_tells_input_and_output_apart_and_its_combined_header_is_no_dimension() -> None:
    assert HeaderReader("anthropic").read(ANTHROPIC) == [
        HeaderFact("requests", 1_000 / 60, 999),
        HeaderFact("input_tokens", 80_000 / 60, 80_000),
        HeaderFact("output_tokens", 16_000 / 60, 16_000),
    ]


def test_azures_requests_are_of_a_period_it_does_not_name_and_are_not_believed() -> None:
    headers = {**MINUTE, "x-ratelimit-limit-requests": "50", "x-ratelimit-remaining-requests": "45"}
    assert HeaderReader("azure").read(headers) == [HeaderFact("tokens", 160_000 / 60, 159_976)]


def test_where_nobody_says_whose_headers_they_are_nothing_is_believed() -> None:
    assert HeaderReader("none").read({**MINUTE, **ANTHROPIC}) == []


def test_every_kind_and_every_choice_of_the_providers_file_is_known() -> None:
    kinds = [kind_named(name).headers for name in kind_names()]
    chosen = [word for part in get_args(PoolSpec.model_fields["headers"].annotation) for word in get_args(part)]
    assert len(kinds) >= 6 and "groq" in chosen and "none" in chosen
    for kind in (*kinds, *chosen):
        HeaderReader(kind)
    with pytest.raises(ValueError, match="'opanai'; known: openai, "):
        HeaderReader("opanai")


@pytest.mark.parametrize(
    "text", ["", " ", "-1", "-0.5", "inf", "nan", "1e400", "9" * 400, "many", "1_000", "0x10", "\u0665"]
)
def test_a_value_that_is_no_plain_number_is_ignored(text: str) -> None:
    """And the other headers are read all the same."""
    assert HeaderReader("openai").read({**MINUTE, "x-ratelimit-limit-tokens": text}) == [
        HeaderFact("requests", 5_000 / 60, 4_999),
        HeaderFact("tokens", None, 159_976),
    ]
    assert HeaderReader("openai").read({**MINUTE, "x-ratelimit-remaining-tokens": text})[1] == HeaderFact(
        "tokens", 160_000 / 60, None
    )
    assert HeaderReader("openai").read({"x-ratelimit-limit-tokens": text}) == []


def test_a_limit_of_zero_is_no_rate_and_nothing_remaining_is_a_fact() -> None:
    headers = {"x-ratelimit-limit-tokens": "0", "x-ratelimit-remaining-tokens": "0"}
    assert HeaderReader("openai").read(headers) == [HeaderFact("tokens", None, 0)]


def test_what_did_not_change_is_the_same_object_and_what_is_gone_is_not_repeated() -> None:
    reader = HeaderReader("openai")
    first = reader.read(MINUTE)
    assert reader.read(dict(MINUTE)) is first
    later = reader.read({**MINUTE, "x-ratelimit-remaining-tokens": "7"})
    assert [fact.remaining for fact in later] == [4_999, 7]
    assert reader.read({}) == []
    assert reader.read({}) is reader.read({"content-type": "application/json"})


def test_a_limit_that_changes_is_told_at_once() -> None:
    reader = HeaderReader("openai")
    reader.read(MINUTE)
    raised = {**MINUTE, "x-ratelimit-limit-requests": "6000", "x-ratelimit-remaining-requests": "5999"}
    assert reader.read(raised)[0] == HeaderFact("requests", 100, 5_999)


def test_as_long_as_the_period_cannot_be_told_the_requests_are_left_out() -> None:
    """Nothing used, or a reset that fits neither a minute nor a day; once told it stays until the limit changes."""
    reader = HeaderReader("openai")
    unused = {**DAY, "x-ratelimit-remaining-requests": "10000", "x-ratelimit-reset-requests": "0s"}
    assert [fact.dimension for fact in reader.read(unused)] == ["tokens"]
    strange = {**DAY, "x-ratelimit-remaining-requests": "9000", "x-ratelimit-reset-requests": "6m0s"}
    assert [fact.dimension for fact in reader.read(strange)] == ["tokens"]
    assert [fact.dimension for fact in reader.read(DAY)] == ["tokens"]
    assert [fact.dimension for fact in reader.read(LATER_THAT_DAY)] == ["requests_per_day", "tokens"]
    assert [fact.dimension for fact in reader.read(unused)] == ["requests_per_day", "tokens"]
    without_limit = {name: value for name, value in DAY.items() if "limit-requests" not in name}
    assert [fact.dimension for fact in reader.read(without_limit)] == ["tokens"]


def test_without_a_reset_header_openais_requests_are_per_minute() -> None:
    headers = {"x-ratelimit-limit-requests": "60", "x-ratelimit-remaining-requests": "59"}
    assert HeaderReader("openai").read(headers) == [HeaderFact("requests", 1, 59)]


@given(
    st.sampled_from([(60, "requests"), (86_400, "requests_per_day")]),
    st.integers(4, 1_000_000),
    st.floats(0, 0.4),
)
def test_the_period_is_told_for_every_level_of_a_bucket_that_drains(
    period: tuple[int, str], limit: int, share: float
) -> None:
    """A bucket's level is at least the request just counted; remaining is rounded down, reset up to a millisecond."""
    reader = HeaderReader("openai")
    for level in (1 + share * (limit - 1), 2 + share * (limit - 1)):
        reset_ms = math.ceil(level * period[0] / limit * 1000)
        headers = {
            "x-ratelimit-limit-requests": str(limit),
            "x-ratelimit-remaining-requests": str(int(limit - level)),
            "x-ratelimit-reset-requests": f"{reset_ms}ms" if reset_ms < 1000 else f"{reset_ms / 1000:.3f}s",
        }
        facts = reader.read(headers)
    assert facts == [HeaderFact(period[1], limit / period[0], float(int(limit - level)))]


@given(
    st.dictionaries(st.sampled_from([*MINUTE, *ANTHROPIC]), st.text(max_size=12)), st.sampled_from(["openai", "groq"])
)
def test_no_headers_at_all_can_break_it(headers: dict[str, str], kind: str) -> None:
    for fact in HeaderReader(kind).read(headers):
        assert fact.limit_per_s is None or 0 < fact.limit_per_s < float("inf")
        assert fact.remaining is None or 0 <= fact.remaining < float("inf")


@pytest.mark.parametrize(
    ("reset", "dimension"), [("1h26m24s", "requests_per_day"), ("0d1h26m24s", "requests_per_day"), ("3s", "requests")]
)
def test_the_reset_headers_notation_of_long_times_is_read(reset: str, dimension: str) -> None:
    headers = {
        "x-ratelimit-limit-requests": "10000",
        "x-ratelimit-remaining-requests": "9400",
        "x-ratelimit-reset-requests": reset,
    }
    assert [fact.dimension for fact in HeaderReader("openai").read(headers)] == [dimension]


def test_a_reset_shorter_than_its_rounding_is_that_of_a_minute() -> None:
    """3,000,000 a minute: one request is forgotten after 0.02 ms, told as 1 ms."""
    headers = {
        "x-ratelimit-limit-requests": "3000000",
        "x-ratelimit-remaining-requests": "2999999",
        "x-ratelimit-reset-requests": "1ms",
    }
    assert HeaderReader("openai").read(headers) == [HeaderFact("requests", 50_000, 2_999_999)]
