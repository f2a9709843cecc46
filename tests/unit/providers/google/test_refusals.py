"""What Google's error answers mean: by status and details, and by words only where no field says it."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_llm.errors import AuthenticationFailed, ErrorClass, ProviderError, QuotaExhausted
from batch_llm.providers.google.refusals import refusal

RPC = "type.googleapis.com/google.rpc."


def error(code: int, status: str, message: str = "words", *details: dict[str, Any]) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, "status": status, "details": list(details)}}


def quota(*names: str, value: str = "10") -> dict[str, Any]:
    violations = [{"quotaMetric": "m", "quotaId": name, "quotaValue": value} for name in names]
    return {"@type": f"{RPC}QuotaFailure", "violations": violations}


def retry(delay: str) -> dict[str, Any]:
    return {"@type": f"{RPC}RetryInfo", "retryDelay": delay}


def info(reason: str, **metadata: str) -> dict[str, Any]:
    return {"@type": f"{RPC}ErrorInfo", "reason": reason, "domain": "googleapis.com", "metadata": metadata}


def meaning(body: Any, status: int | None = None) -> Exception:
    code = status or body["error"]["code"]
    return refusal(code, {}, body if isinstance(body, bytes) else orjson.dumps(body))


def attempt(body: Any, status: int | None = None) -> ProviderError:
    found = meaning(body, status)
    assert isinstance(found, ProviderError) and not found.maybe_paid
    return found


# Source: https://github.com/google-gemini/gemini-cli/issues/8437 (read 2026-11-29).
INPUT_PER_MINUTE = "GenerateContentInputTokensPerModelPerMinute-FreeTier"
PER_MINUTE = "GenerateRequestsPerMinutePerProjectPerModel-FreeTier"
PER_DAY = "GenerateRequestsPerDayPerProjectPerModel-FreeTier"


@pytest.mark.parametrize(
    ("names", "scope", "wait_s"),
    [
        ([PER_MINUTE], "requests", 34.074824224),
        ([INPUT_PER_MINUTE], "input_tokens", 34.074824224),
        ([PER_DAY], "requests_per_day", None),
        ([INPUT_PER_MINUTE, PER_MINUTE, PER_DAY], "requests_per_day", None),
        (["GenerateTokensPerDayPerProjectPerModel"], "tokens_per_day", None),
    ],
)
def test_a_quota_is_known_by_its_name_and_a_days_comes_first(names: list[str], scope: str, wait_s: Any) -> None:
    """The seconds beside a day's quota are not until its end, so none are told."""
    found = attempt(
        error(429, "RESOURCE_EXHAUSTED", "You exceeded your current quota", quota(*names), retry("34.074824224s"))
    )
    assert (found.error_class, found.scope, found.retry_after_s) == (ErrorClass.RATE_LIMITED, scope, wait_s)


def test_a_quota_in_the_metadata_of_an_error_info_is_one_as_well() -> None:
    named = info("RATE_LIMIT_EXCEEDED", quota_limit="generate_content_requests_per_minute_per_project_per_base_model")
    assert attempt(error(429, "RESOURCE_EXHAUSTED", "Quota exceeded", named)).scope == "requests"


def test_the_shared_quota_of_vertex_names_no_limit() -> None:
    """Source: https://github.com/google-gemini/gemini-cli/issues/14811 (read 2026-11-29)."""
    found = attempt(error(429, "RESOURCE_EXHAUSTED", "Resource exhausted. Please try again later."))
    assert (found.error_class, found.scope, found.retry_after_s) == (ErrorClass.RATE_LIMITED, None, None)


@pytest.mark.parametrize(
    "body",
    [
        error(429, "RESOURCE_EXHAUSTED", "Your prepayment credits are depleted. Please go to AI Studio"),
        error(429, "RESOURCE_EXHAUSTED", "Your project has exceeded its monthly spending cap."),
        error(429, "RESOURCE_EXHAUSTED", "You exceeded your current quota", quota(PER_MINUTE, value="0"), retry("5s")),
    ],
)
def test_what_waiting_does_not_bring_back_stops_the_run(body: Any) -> None:
    assert isinstance(meaning(body), QuotaExhausted)


def test_words_alone_make_no_credit_of_a_named_quota() -> None:
    found = attempt(error(429, "RESOURCE_EXHAUSTED", "credits are depleted", quota(PER_MINUTE)))
    assert found.error_class is ErrorClass.RATE_LIMITED


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (error(400, "INVALID_ARGUMENT", "API key not valid.", info("API_KEY_INVALID")), "API_KEY_INVALID"),
        (error(401, "UNAUTHENTICATED", "no", info("ACCESS_TOKEN_EXPIRED")), "ACCESS_TOKEN_EXPIRED"),
        (error(403, "PERMISSION_DENIED", "Your API key was reported as leaked."), "HTTP 403 PERMISSION_DENIED"),
        (error(400, "FAILED_PRECONDITION", "User location is not supported"), "User location is not supported"),
        (error(404, "NOT_FOUND", "models/gemini-pro is not found"), "no such model, or not for this key (HTTP 404"),
    ],
)
def test_a_refused_key_or_account_stops_the_run(body: Any, said: str) -> None:
    found = meaning(body)
    assert isinstance(found, AuthenticationFailed) and said in str(found)


# Source: https://ai.google.dev/gemini-api/docs/troubleshooting (the table; read 2026-11-29).
@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (error(400, "INVALID_ARGUMENT", "Please use a valid role: user, model."), ErrorClass.INVALID_REQUEST),
        (
            error(
                400, "INVALID_ARGUMENT", "The input token count (2) exceeds the maximum number of tokens allowed (1)."
            ),
            ErrorClass.TOO_LARGE,
        ),
        (
            error(
                400,
                "INVALID_ARGUMENT",
                "Unable to submit request because the input token count is 34708 but the model supports up to 20000.",
            ),
            ErrorClass.TOO_LARGE,
        ),
        (
            error(400, "INVALID_ARGUMENT", "the input token count is 1251952 but model only supports up to 1048576."),
            ErrorClass.TOO_LARGE,
        ),
        (error(499, "CANCELLED"), ErrorClass.SERVER_ERROR),
        (error(500, "INTERNAL"), ErrorClass.SERVER_ERROR),
        (error(503, "UNAVAILABLE", "The model is overloaded. Please try again later."), ErrorClass.OVERLOADED),
        (error(504, "DEADLINE_EXCEEDED"), ErrorClass.TIMEOUT),
    ],
)
def test_each_status_of_the_table_has_its_class(body: Any, expected: ErrorClass) -> None:
    assert attempt(body).error_class is expected
    assert attempt([body], body["error"]["code"]).error_class is expected


@given(st.sampled_from([400, 409, 429, 500, 503, 504]), st.binary(max_size=60))
def test_a_body_that_is_none_of_googles_still_has_a_class(status: int, body: bytes) -> None:
    assert isinstance(meaning(body, status), ProviderError)


NAMES = st.sampled_from(
    ["details", "violations", "quotaId", "metadata", "quota_limit", "retryDelay", "reason", "status"]
)
ODD = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(),
    lambda each: st.lists(each) | st.dictionaries(NAMES, each),
)


@given(ODD)
def test_details_of_another_shape_break_nothing(body: Any) -> None:
    assert isinstance(meaning(orjson.dumps({"error": body}), 429), Exception)
