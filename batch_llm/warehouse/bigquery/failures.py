"""What BigQuery's errors mean: which of them pass by themselves, and what a user can do about the others.

Belongs here: the one table of reasons and statuses. Not here: waiting (patience.py), doing it again (jobs.py). A
failure is judged by its reason and its HTTP status, never by its text; but for statements that collide, which
BigQuery tells from wrong ones, and from too large ones, by the words alone.
Source: https://cloud.google.com/bigquery/docs/error-messages (read 2026-11-28)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import requests
from google.api_core import exceptions as api
from google.auth import exceptions as auth

from batch_llm.errors import WarehouseError, WarehouseRefused

__all__ = ["FAILURES", "PASSING_REASONS", "PASSING_STATUSES", "Failure"]

FAILURES = (api.GoogleAPIError, auth.GoogleAuthError, requests.RequestException, ConnectionError, TimeoutError)
"""Everything the client raises when a call fails."""

# tried again, with growing pauses; the job's own reasons (jobBackendError ..) come in a finished job's status
PASSING_REASONS = frozenset(
    {
        "backendError",
        "badGateway",
        "internalError",
        "jobBackendError",
        "jobInternalError",
        "jobRateLimitExceeded",
        "rateLimitExceeded",
        "serviceUnavailable",
        "tableUnavailable",
        "tooManyRequests",
    }
)
PASSING_STATUSES = frozenset({408, 429, 500, 502, 503, 504})  # of an answer without a reason: a proxy's

# no waiting mends these
_REFUSALS = frozenset({"accessDenied", "authError", "billingNotEnabled", "bytesBilledLimitExceeded", "notFound"})

# gRPC has status codes only; each in BigQuery's word for the same. A session that has expired (FAILED_PRECONDITION) and
# what is not here do not pass.
# Source: https://cloud.google.com/apis/design/errors#handling_errors (read 2026-11-29)
_REASONS_OF_GRPC = {
    "ABORTED": "backendError",
    "CANCELLED": "backendError",
    "DEADLINE_EXCEEDED": "backendError",
    "INTERNAL": "internalError",
    "INVALID_ARGUMENT": "invalid",
    "NOT_FOUND": "notFound",
    "PERMISSION_DENIED": "accessDenied",
    "RESOURCE_EXHAUSTED": "rateLimitExceeded",  # quotas of a minute, or of calls at once
    "UNAVAILABLE": "serviceUnavailable",
    "UNKNOWN": "backendError",
}

_ROLES = "roles/bigquery.dataEditor on the dataset and roles/bigquery.jobUser on the project"
_ADVICE = {
    "accessDenied": f"ask for {_ROLES}, or for what the message names",
    "billingNotEnabled": "enable billing for the project",
    "blocked": "BigQuery has blocked the project for a while: ask Google's support",
    "bytesBilledLimitExceeded": "the statement would read more than BATCH_LLM_BIGQUERY_MAX_BYTES_BILLED allows: raise "
    "it, or read less (input.where, fewer columns)",
    "notFound": "it was dropped or never made, or lies in another location (BATCH_LLM_BIGQUERY_LOCATION)",
    "quotaExceeded": "a quota of the project or the table is used up: wait (most are of a day, the shortest of ten "
    "minutes), then run the job again",
    "responseTooLarge": "read fewer columns or rows",
    "resourcesExceeded": "the statement needs more than BigQuery gives to one: fewer columns, or input.where",
    "stopped": "somebody cancelled the job",
}
# Sources (read 2026-11-29): https://github.com/confluentinc/kafka-connect-bigquery/issues/279 (400 invalidQuery, after
# BigQuery itself has tried three times), https://github.com/m-lab/etl-gardener/issues/293 (more than 20 wait)
_COLLISIONS = {
    "invalidQuery": "Could not serialize access to table",
    "resourcesExceeded": "Too many DML statements outstanding",
}
_COLLIDES = "other statements change the same table at this moment"
_CREDENTIALS = (
    "on your own machine run `gcloud auth application-default login`; on a server give the machine a service account, "
    "or set GOOGLE_APPLICATION_CREDENTIALS to its key file"
)
_LONGEST = 500  # characters of BigQuery's own message that are shown


@dataclass(frozen=True, slots=True)
class Failure:
    """One failed call or job, as far as it matters."""

    status: int | None  # HTTP; None of a job, and where nobody answered
    reason: str | None  # BigQuery's word; None where an answer has none
    message: str  # one short line, without addresses and credentials
    advice: str = ""
    passing: bool = False
    refused: bool = False  # no waiting mends it
    collides: bool = False  # other statements change the same table: what may be repeated succeeds when they have ended

    @classmethod
    def of(cls, error: Exception) -> Failure:
        """What an exception of the client says. Never its whole text: that holds addresses of uploads, or tokens."""
        if isinstance(error, auth.GoogleAuthError):
            if _sign_in_passes(error):
                return cls(None, None, f"the sign-in server does not answer ({type(error).__name__})", passing=True)
            return cls(None, None, f"no usable Google credentials ({type(error).__name__})", _CREDENTIALS, refused=True)
        if isinstance(error, api.GoogleAPICallError):
            return cls._answered(error)
        passing = not isinstance(error, requests.exceptions.SSLError)
        return cls(None, None, f"no answer ({type(error).__name__})", "check the network", passing)

    @classmethod
    def of_job(cls, told: Mapping[str, Any]) -> Failure:
        """What ``status.errorResult`` of a job says."""
        return cls._judged(None, told.get("reason"), str(told.get("message", "")))

    @classmethod
    def _answered(cls, error: api.GoogleAPICallError) -> Failure:
        first = error.errors[0] if error.errors else {}
        status = int(error.code) if error.code is not None else None
        if not isinstance(first, Mapping):  # the call itself, of gRPC
            code = first.code().name
            return cls._judged(status, _REASONS_OF_GRPC.get(code, code), error.message or code)
        return cls._judged(status, first.get("reason"), first.get("message") or f"HTTP {status}")

    @classmethod
    def _judged(cls, status: int | None, reason: str | None, message: str) -> Failure:
        passing = reason in PASSING_REASONS if reason is not None else status in PASSING_STATUSES
        line = " ".join(message.split())
        line = line if len(line) <= _LONGEST else line[:_LONGEST] + " [..]"
        collides = reason in _COLLISIONS and _COLLISIONS[reason] in message
        advice = _COLLIDES if collides else _ADVICE.get(reason or "", "")
        return cls(status, reason, line, advice, passing, reason in _REFUSALS, collides)

    def error(self, what: str) -> WarehouseError:
        """As an error of the library; ``what`` was tried."""
        return (WarehouseRefused if self.refused else WarehouseError)(f"{what}: {self}")

    def __str__(self) -> str:
        where = ", ".join(str(part) for part in (self.reason, self.status) if part)
        line = f"{self.message} ({where})" if where else self.message
        return f"{line}; {self.advice}" if self.advice else line


def _sign_in_passes(error: auth.GoogleAuthError) -> bool:
    """Whether the server that gives tokens is to blame, not the credentials.

    An OAuth server's failure carries google-auth's own judgement; one of a machine's metadata server is a RefreshError
    without it, over the TransportError that tells: with the answer, or without when there was none after five tries.
    Source: google/auth/compute_engine/credentials.py and _metadata.py of google-auth 2 (read 2026-11-29)
    """
    told = error if isinstance(error, auth.TransportError) else error.__cause__
    if not isinstance(told, auth.TransportError):
        return bool(error.retryable)
    statuses = [arg.status for arg in told.args if isinstance(getattr(arg, "status", None), int)]
    return all(status in PASSING_STATUSES for status in statuses)
