"""What BigQuery's errors mean: one table, by reason and status."""

from __future__ import annotations

import grpc
import pytest
import requests
from google.api_core import exceptions as api
from google.auth import exceptions as auth

from batch_llm.warehouse.bigquery.failures import FAILURES, PASSING_REASONS, Failure


def answered(status: int, reason: str | None, message: str = "m") -> api.GoogleAPICallError:
    errors = [{"reason": reason, "message": message}] if reason else []
    return api.from_http_status(status, f"POST https://x/?upload_id=s3cret: {message}", errors=errors)


@pytest.mark.parametrize("reason", sorted(PASSING_REASONS))
@pytest.mark.parametrize("status", [400, 403, 500, 503])
def test_a_passing_reason_passes_whatever_its_status(reason: str, status: int) -> None:
    """403 rateLimitExceeded as well as 500 backendError."""
    assert Failure.of(answered(status, reason)).passing
    assert Failure.of_job({"reason": reason, "message": "m"}).passing


@pytest.mark.parametrize(
    "reason", ["accessDenied", "invalidQuery", "notFound", "quotaExceeded", "duplicate", "stopped", "responseTooLarge"]
)
def test_another_reason_does_not_pass_whatever_its_status(reason: str) -> None:
    """A 500 that says what is wrong is not tried again."""
    for status in (400, 403, 404, 500):
        assert not Failure.of(answered(status, reason)).passing
    assert not Failure.of_job({"reason": reason, "message": "m"}).passing


@pytest.mark.parametrize(
    ("status", "passes"), [(408, True), (429, True), (502, True), (503, True), (401, False), (404, False)]
)
def test_without_a_reason_the_status_decides(status: int, passes: bool) -> None:
    assert Failure.of(answered(status, None)).passing is passes


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (requests.ConnectionError("https://x/?upload_id=s3cret"), True),
        (requests.ReadTimeout(), True),
        (requests.exceptions.ChunkedEncodingError(), True),
        (ConnectionResetError(), True),
        (TimeoutError(), True),
        (requests.exceptions.SSLError("s3cret"), False),
        (auth.TransportError("s3cret"), True),
        (auth.RefreshError("token s3cret"), False),
        (auth.DefaultCredentialsError("s3cret"), False),
    ],
)
def test_no_answer_passes_and_no_credentials_do_not(error: Exception, passes: bool) -> None:
    assert isinstance(error, FAILURES)
    failure = Failure.of(error)
    assert failure.passing is passes
    assert "s3cret" not in str(failure)


def test_a_message_is_bigquerys_own_with_what_to_do() -> None:
    told = str(Failure.of(answered(403, "quotaExceeded", "Quota exceeded:\n too many table updates")))
    assert told.startswith("Quota exceeded: too many table updates (quotaExceeded, 403); a quota of the project")
    assert "s3cret" not in told
    assert str(Failure.of(answered(503, None))) == "HTTP 503 (503)"
    assert len(str(Failure.of(answered(400, "invalid", "x" * 9999)))) < 600


class Rpc(grpc.RpcError, grpc.Call):
    """A call that failed, as the client of the Storage Read API hands it on."""

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        self._code, self._details = code, details

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return self._details

    def trailing_metadata(self) -> None:
        return None


Rpc.__abstractmethods__ = frozenset()

PASSING_CODES = {
    "ABORTED",
    "CANCELLED",
    "DEADLINE_EXCEEDED",
    "INTERNAL",
    "RESOURCE_EXHAUSTED",
    "UNAVAILABLE",
    "UNKNOWN",
}


@pytest.mark.parametrize("code", [each for each in grpc.StatusCode if each is not grpc.StatusCode.OK])
def test_a_call_of_grpc_is_judged_by_its_code(code: grpc.StatusCode) -> None:
    """Whatever its text says."""
    error = api.from_grpc_error(Rpc(code, "UNAVAILABLE: try again,\n session expired, permission denied"))
    assert isinstance(error, FAILURES)
    failure = Failure.of(error)
    assert failure.passing is (code.name in PASSING_CODES)
    assert failure.message == "UNAVAILABLE: try again, session expired, permission denied"


def test_a_code_of_grpc_is_said_in_bigquerys_word() -> None:
    told = {code: str(Failure.of(api.from_grpc_error(Rpc(code, "m")))) for code in grpc.StatusCode}
    assert told[grpc.StatusCode.UNAVAILABLE] == "m (serviceUnavailable, 503)"
    assert told[grpc.StatusCode.PERMISSION_DENIED].startswith("m (accessDenied, 403); ask for roles/")
    assert told[grpc.StatusCode.FAILED_PRECONDITION] == "m (FAILED_PRECONDITION, 400)"
    assert Failure.of(api.from_grpc_error(Rpc(grpc.StatusCode.INTERNAL, ""))).message == "INTERNAL"
