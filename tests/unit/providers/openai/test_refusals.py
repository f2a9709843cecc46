"""What an error answer means: the kinds of 429, whose limit it was, how long to wait."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_llm.errors import ErrorClass, ProviderError, QuotaExhausted
from batch_llm.providers.openai.refusals import refusal
from batch_llm.providers.retry_after import retry_after_s


def refused(body: Any, status: int = 429, headers: Mapping[str, str] | None = None) -> ProviderError:
    error = refusal(status, headers or {}, body if isinstance(body, bytes) else orjson.dumps(body))
    assert isinstance(error, ProviderError)
    assert not error.maybe_paid
    return error


def openai(message: str, kind: str | None = "tokens", code: str = "rate_limit_exceeded") -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


RPD = (
    "Rate limit reached for gpt-4 in organization org-x on requests per day (RPD): Limit 200, Used 200, Requested 1. "
    "Please try again in 7m12s."
)
TPD = (
    "Rate limit reached for model `llama-3.3-70b-versatile` in organization `org_x` service tier `on_demand` on tokens "
    "per day (TPD): Limit 100000, Used 97050, Requested 3619. Please try again in 9m38.016s. Need more tokens?"
)
TPM = (
    "Rate limit reached for gpt-4 in organization org-x on tokens per min (TPM): Limit 10000, Used 8554, Requested "
    "3082. Please try again in 9.816s. Visit https://platform.openai.com/account/rate-limits to learn more."
)
ITPM = (
    "This request would exceed the rate limit for your organization of 20,000 input tokens per minute. For details, "
    "refer to: https://docs.anthropic.com/en/api/rate-limits."
)
AZURE_PEAK = (  # Source: https://github.com/pollinations/pollinations/issues/6260 (read 2026-11-28)
    "The system is currently experiencing high demand and cannot process your request. Your request exceeds the "
    "maximum usage size allowed during peak load."
)
AZURE = (
    "Requests to the ChatCompletions_Create Operation under Azure OpenAI API version 2023-05-15 have exceeded token "
    "rate limit of your current AIServices S0 pricing tier. Please retry after 9 seconds. Please contact Azure support."
)


@pytest.mark.parametrize(
    ("body", "scope", "wait_s"),
    [
        (openai(RPD, "requests"), "requests_per_day", 432),
        (openai(TPD), "tokens_per_day", 578.016),
        (openai(TPM), "tokens", 9.816),
        (openai("Limit: 3 / min on requests per min (RPM). Please try again in 20s.", "requests"), "requests", 20),
        (openai("on tokens per min. Limit: 10000 / min. Please try again in 6ms.", None), "tokens", 0.006),
        (openai(ITPM, "invalid_request_error", "rate_limit_error"), "input_tokens", None),
        (openai("would exceed 8,000 output tokens per minute", "rate_limit_error"), "output_tokens", None),
        ({"error": {"code": "429", "message": AZURE}}, "tokens", 9),
        ({"error": {"code": "429", "message": "have exceeded call rate limit of your tier."}}, "requests", None),
        ({"object": "error", "message": "Rate limit exceeded", "type": "rate_limited", "code": "1300"}, None, None),
        (openai("slow down", "requests"), "requests", None),
        (openai("Please try again in 2 hours.", "requests"), "requests", None),
        (openai("Please try again in 1h0m30s.", "requests"), "requests", 3_630),
        ({"error": "too many requests"}, None, None),
        (b"<html>429</html>", None, None),
        (b"", None, None),
        ([], None, None),
        ([7], None, None),
    ],
)
def test_a_429_says_which_limit_was_met_and_how_long_to_wait(
    body: Any, scope: str | None, wait_s: float | None
) -> None:
    error = refused(body)
    assert error.error_class is ErrorClass.RATE_LIMITED
    assert error.scope == scope
    assert error.retry_after_s == pytest.approx(wait_s)


def test_retry_after_wins_over_the_text() -> None:
    assert refused(openai(RPD, "requests"), headers={"retry-after": "28800"}).retry_after_s == 28_800


@pytest.mark.parametrize(
    ("remaining", "scope"), [(("0", "5"), "requests"), (("5", "0"), "tokens"), (("0", "0"), None), (("5", "5"), None)]
)
def test_where_the_body_names_no_limit_the_empty_one_of_the_headers_is_it(
    remaining: tuple[str, str], scope: str | None
) -> None:
    headers = {"x-ratelimit-remaining-requests": remaining[0], "x-ratelimit-remaining-tokens": remaining[1]}
    assert refused(openai("slow down", None), headers=headers).scope == scope


def google(*quotas: str) -> list[dict[str, Any]]:
    violations = [{"quotaMetric": "m", "quotaId": quota} for quota in quotas]
    return [
        {
            "error": {
                "code": 429,
                "message": "You exceeded your current quota, please check your plan. Please retry in 45.578569677s.",
                "status": "RESOURCE_EXHAUSTED",
                "details": [{"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": violations}],
            }
        }
    ]


@pytest.mark.parametrize(
    ("quotas", "scope", "wait_s"),
    [
        (["GenerateRequestsPerMinutePerProjectPerModel-FreeTier"], "requests", 45.578569677),
        (["GenerateContentInputTokensPerModelPerMinute-FreeTier"], "input_tokens", 45.578569677),
        (["GenerateRequestsPerDayPerProjectPerModel"], "requests_per_day", None),
        (["GenerateContentInputTokensPerModelPerDay"], "tokens_per_day", None),
        (["GenerateRequestsPerMinutePerProjectPerModel", "GenerateRequestsPerDayPerProject"], "requests_per_day", None),
        ([], None, 45.578569677),
    ],
)
def test_google_names_its_limits_in_the_details_and_no_quota_of_it_stops_the_run(
    quotas: list[str], scope: str | None, wait_s: float | None
) -> None:
    """Its words "exceeded your current quota" are those of OpenAI's used-up credit; here they mean any limit."""
    error = refused(google(*quotas))
    assert (error.error_class, error.scope) == (ErrorClass.RATE_LIMITED, scope)
    assert error.retry_after_s == pytest.approx(wait_s)


@pytest.mark.parametrize(
    "message",
    [
        "Request too large for gpt-4o in organization org-x on tokens per min (TPM): Limit 30000, Requested 30601.",
        "on tokens per minute (TPM): Limit 7000, Used 0, Requested ~12903. Please try again in 50.597142857s.",
        "Request too large for x on tokens per day (TPD): Limit 100, Requested 101.",
    ],
)
def test_a_request_larger_than_the_limit_is_never_waited_for(message: str) -> None:
    assert refused(openai(message)).error_class is ErrorClass.TOO_LARGE


@pytest.mark.parametrize("kind", ["insufficient_quota", "billing_hard_limit_reached", "billing_not_active"])
def test_used_up_credit_stops_the_run(kind: str) -> None:
    for body in (openai("no credit", kind, "x"), openai("no credit", None, kind)):
        assert type(refusal(429, {}, orjson.dumps(body))) is QuotaExhausted


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (429, openai("Resource Unavailable", None, "")),
        (429, openai("We are busy", "resource_unavailable", "resource_unavailable")),
        (429, {"object": "error", "message": "Service tier capacity exceeded for this model.", "code": "3505"}),
        (429, {"error": {"code": "too_many_requests", "message": AZURE_PEAK}}),
        (498, openai("no flex capacity", None, "capacity_exceeded")),
        (503, openai("The engine is currently overloaded", "server_error", "")),
        (529, {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}),
    ],
)
def test_no_room_at_the_provider_is_overload_and_not_the_rate(status: int, body: Any) -> None:
    error = refused(body, status, {"retry-after": "3"})
    assert (error.error_class, error.scope, error.retry_after_s) == (ErrorClass.OVERLOADED, None, 3)


NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7),
        ({"retry-after": "0"}, 0),
        ({"retry-after": " 1.5 "}, 1.5),
        ({"retry-after": "7", "retry-after-ms": "250"}, 0.25),
        ({"retry-after": "7", "retry-after-ms": "soon"}, 7),
        ({"retry-after": "-7"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "1e999"}, None),
        ({"retry-after": "9" * 400}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "Sat, 21 Nov 2026 12:00:30 GMT"}, 30),
        ({"retry-after": "Sat, 21 Nov 2026 11:00:00 GMT"}, 0),
        ({"retry-after": "Sat, 21 Nov 2026 12:00:30 GMT", "date": "Sat, 21 Nov 2026 12:00:20 GMT"}, 10),
        ({"retry-after": "Sat, 21 Nov 2026 12:00:30 -0000", "date": "yesterday"}, 30),
    ],
)
def test_retry_after_is_seconds_milliseconds_or_a_date(headers: dict[str, str], expected: float | None) -> None:
    """A date counts from the answer's own Date, so that a wrong clock here does not matter."""
    assert retry_after_s(headers, NOW) == expected


@given(
    st.text(max_size=40),
    st.sampled_from([400, 429, 500]),
    st.recursive(
        st.none() | st.integers() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["error", "code", "type", "message", "details", "violations", "quotaId"]),
                inner,
                max_size=4,
            )
        ),
        max_leaves=8,
    ),
)
def test_no_body_and_no_header_can_break_it(text: str, status: int, body: Any) -> None:
    headers = {"retry-after": text, "date": text, "x-ratelimit-remaining-tokens": text}
    try:
        raw = orjson.dumps(body)
    except orjson.JSONEncodeError:  # an integer beyond 64 bits
        raw = text.encode(errors="replace")
    assert isinstance(refusal(status, headers, raw), ProviderError | QuotaExhausted)


@pytest.mark.parametrize(
    "body",
    [
        openai("Requested 416735 tokens, max 300000 tokens per request", *["max_tokens_per_request"] * 2),
        {"error": {"message": "Invalid 'input[8]': maximum input length is 8192 tokens.", "code": None}},
        {"error": {"message": "This model's maximum context length is 8192 tokens, however you requested 51435."}},
    ],
)
def test_a_text_longer_than_a_model_of_vectors_takes_is_too_large(body: dict[str, Any]) -> None:
    assert refused(body, 400).error_class is ErrorClass.TOO_LARGE


def test_other_bad_requests_are_no_matter_of_size() -> None:
    assert refused(openai("'$.input' is invalid.", None, ""), 400).error_class is ErrorClass.INVALID_REQUEST
