"""The errors of BigQuery's API, in its own JSON.

Belongs here: the reasons, the HTTP status of each, the words of the errors that more than one part of the server says.
Not here: when an error is due.
Source: https://cloud.google.com/bigquery/docs/error-messages (read 2026-11-28).
"""

from __future__ import annotations

from typing import Any

__all__ = ["STATUS_OF_REASON", "ApiError", "already_exists", "invalid", "invalid_query", "not_found"]

# A failed job is HTTP 200 for jobs.get, and this status for getQueryResults.
STATUS_OF_REASON = {
    "accessDenied": 403,
    "backendError": 503,
    "badRequest": 400,
    "billingNotEnabled": 403,
    "billingTierLimitExceeded": 400,
    "blocked": 403,
    # as seen by others: https://github.com/exmergo/dex/issues/320 (read 2026-11-28)
    "bytesBilledLimitExceeded": 500,
    "conditionNotMet": 412,
    "duplicate": 409,
    "internalError": 500,
    "invalid": 400,
    "invalidQuery": 400,
    "invalidUser": 400,
    "jobBackendError": 400,
    "jobInternalError": 400,
    "jobRateLimitExceeded": 400,
    "notFound": 404,
    "notImplemented": 501,
    "quotaExceeded": 403,
    "rateLimitExceeded": 403,
    "required": 400,
    "resourceInUse": 400,
    "resourcesExceeded": 400,
    "responseTooLarge": 403,
    "stopped": 499,
    "tableUnavailable": 400,
    "timeout": 400,
}


class ApiError(Exception):
    """An answer that is no success, or the end of a job that failed."""

    def __init__(self, reason: str, message: str, *, status: int | None = None, location: str | None = None) -> None:
        """``status`` is the reason's own unless given; ``location`` is the field or column that is wrong."""
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.status = status or STATUS_OF_REASON.get(reason, 400)
        self.location = location

    def proto(self) -> dict[str, str]:
        """As in a job's ``status.errorResult``."""
        told = {"reason": self.reason, "message": self.message}
        return told | ({"location": self.location} if self.location else {})

    def body(self) -> dict[str, Any]:
        """As the body of an HTTP answer."""
        first = {"message": self.message, "domain": "global", "reason": self.reason}
        if self.location:
            first |= {"location": self.location, "locationType": "other"}
        return {"error": {"code": self.status, "message": self.message, "errors": [first]}}


def not_found(kind: str, name: str) -> ApiError:
    """``kind``: Dataset, Table, Job; ``name`` with colons and dots as BigQuery writes it."""
    return ApiError("notFound", f"Not found: {kind} {name}")


def already_exists(kind: str, name: str) -> ApiError:
    """The 409 of creating something twice."""
    return ApiError("duplicate", f"Already Exists: {kind} {name}")


def invalid(message: str, location: str | None = None) -> ApiError:
    """A request or load that makes no sense."""
    return ApiError("invalid", message, location=location)


def invalid_query(message: str) -> ApiError:
    """A statement that makes no sense."""
    return ApiError("invalidQuery", message, location="query")
