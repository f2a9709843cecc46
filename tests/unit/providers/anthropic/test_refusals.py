"""Anthropic's errors onto ours, by status, type and code; every type that its SDK knows has a class."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, get_args

import orjson
import pytest
from anthropic.types.shared.error_type import ErrorType

from batch_llm.errors import AuthenticationFailed, ErrorClass, ProviderError, QuotaExhausted
from batch_llm.providers.anthropic.refusals import refusal

# status and type: https://docs.claude.com/en/api/errors (read 2026-11-28)
EXPECTED: dict[str, tuple[int, ErrorClass | type[Exception]]] = {
    "invalid_request_error": (400, ErrorClass.INVALID_REQUEST),
    "authentication_error": (401, AuthenticationFailed),
    "billing_error": (402, QuotaExhausted),
    "permission_error": (403, AuthenticationFailed),
    "not_found_error": (404, AuthenticationFailed),
    "conflict_error": (409, ErrorClass.SERVER_ERROR),
    "request_too_large": (413, ErrorClass.TOO_LARGE),
    "rate_limit_error": (429, ErrorClass.RATE_LIMITED),
    "api_error": (500, ErrorClass.SERVER_ERROR),
    "timeout_error": (504, ErrorClass.SERVER_ERROR),
    "overloaded_error": (529, ErrorClass.OVERLOADED),
}
NOT_OF_MESSAGES = {"memory_precondition_failed_error", "memory_path_conflict_error"}  # of another API


def body(kind: str, message: str = "no", **details: Any) -> bytes:
    error = {"type": kind, "message": message, **({"details": details} if details else {})}
    return orjson.dumps({"type": "error", "error": error, "request_id": "req_1"})


def test_every_type_of_the_sdk_is_known_here() -> None:
    assert set(get_args(ErrorType)) - NOT_OF_MESSAGES <= set(EXPECTED)


@pytest.mark.parametrize("kind", list(EXPECTED))
def test_each_documented_error_has_its_class(kind: str) -> None:
    status, expected = EXPECTED[kind]
    error = refusal(status, {"retry-after": "7"}, body(kind))
    if isinstance(expected, ErrorClass):
        assert isinstance(error, ProviderError)
        assert error.error_class is expected
        waits = expected in (ErrorClass.RATE_LIMITED, ErrorClass.OVERLOADED, ErrorClass.SERVER_ERROR)
        assert error.retry_after_s == (7 if waits else None)
        assert not error.maybe_paid
    else:
        assert type(error) is expected
    assert kind in str(error)


@pytest.mark.parametrize(
    ("status", "sent"),
    [
        (429, body("rate_limit_error", error_code="contract_spend_limit_reached")),
        (400, body("invalid_request_error", error_code="enforced_spend_limit_reached")),
        (400, body("invalid_request_error", "Your credit balance is too low to access the Anthropic API.")),
        (400, body("invalid_request_error", "You have reached your specified API usage limits.")),
    ],
)
def test_used_up_money_stops_the_run(status: int, sent: bytes) -> None:
    assert type(refusal(status, {}, sent)) is QuotaExhausted


@pytest.mark.parametrize(
    ("day", "until"), [("2026-12-01", datetime(2026, 12, 1, tzinfo=UTC)), ("2026-13-01", None), ("soon", None)]
)
def test_a_limit_of_spending_says_until_when(day: str, until: datetime | None) -> None:
    words = f"You have reached your specified API usage limits. You will regain access on {day} at 00:00 UTC."
    error = refusal(400, {}, body("invalid_request_error", words))
    assert isinstance(error, QuotaExhausted) and error.until == until


def test_a_disabled_account_stops_the_run() -> None:
    error = refusal(400, {}, body("invalid_request_error", "This organization has been disabled."))
    assert type(error) is AuthenticationFailed and "organization has been disabled" in str(error)


@pytest.mark.parametrize(
    ("status", "words", "expected"),
    [
        (400, "prompt is too long: 210000 tokens > 200000 maximum", ErrorClass.TOO_LARGE),
        (
            400,
            "input length and `max_tokens` exceed context limit: 178959 + 64000 > 200000, decrease input length",
            ErrorClass.TOO_LARGE,
        ),
        (429, "Extra usage is required for long context requests.", ErrorClass.TOO_LARGE),
        (429, "Usage credits are required for long context requests.", ErrorClass.TOO_LARGE),
        (400, "Output blocked by content filtering policy", ErrorClass.CONTENT_FILTER),
    ],
)
def test_what_only_the_words_tell_from_other_errors(status: int, words: str, expected: ErrorClass) -> None:
    """A row that no waiting makes shorter is not asked for ever; a filtered one is not called invalid."""
    error = refusal(status, {"retry-after": "7"}, body("rate_limit_error" if status == 429 else "", words))
    assert isinstance(error, ProviderError)
    assert (error.error_class, error.retry_after_s) == (expected, None)


def test_a_ramp_that_is_too_steep_is_a_rate() -> None:
    error = refusal(429, {"retry-after": "3"}, body("rate_limit_error", error_code="ramp_limit_exceeded"))
    assert isinstance(error, ProviderError)
    assert (error.error_class, error.retry_after_s, error.scope) == (ErrorClass.RATE_LIMITED, 3, None)


@pytest.mark.parametrize(
    ("empty", "scope"),
    [
        (["input-tokens"], "input_tokens"),
        (["output-tokens"], "output_tokens"),
        (["requests"], "requests"),
        (["requests", "input-tokens"], None),
        ([], None),
    ],
)
def test_the_limit_of_which_nothing_remains_is_the_one_that_was_met(empty: list[str], scope: str | None) -> None:
    headers = {
        f"anthropic-ratelimit-{name}-remaining": "0" if name in empty else "1000"
        for name in ("requests", "input-tokens", "output-tokens")
    }
    error = refusal(429, headers, body("rate_limit_error"))
    assert isinstance(error, ProviderError) and error.scope == scope


@pytest.mark.parametrize("sent", [b"", b"<html>", b"[]", b'{"error": 5}', b'{"error": {"type": 5, "details": []}}'])
def test_what_cannot_be_read_is_classed_by_its_status(sent: bytes) -> None:
    error = refusal(529, {}, sent)
    assert isinstance(error, ProviderError) and error.error_class is ErrorClass.OVERLOADED


def test_a_key_that_is_quoted_back_is_not_repeated() -> None:
    assert "planted" not in str(refusal(401, {}, body("authentication_error", "the key planted is wrong")))
