"""Every error of batch_llm, drawn once.

Belongs here: exception classes and the classes of failure a row can end with. Not here: what is done about
them (``engine/retry.py``), how foreign errors are mapped onto them (each provider, each warehouse).

    BatchLLMError
    ├── ConfigurationError            exit code 2: nothing was spent
    │   ├── JobFileError              a job file: file, line, field, value, nearest valid name
    │   ├── ProvidersFileError        the providers file: likewise
    │   ├── SecretError               a ${env:..} that is not set, a literal key
    │   ├── InputError                the input table: missing, column absent, key null or not unique
    │   ├── OutputError               the output table: not ours, other key, other types
    │   └── NotYetAvailable           a documented feature that has not landed
    ├── StopRun                       exit code 3: the run stops early, keeps what is paid, can be resumed
    │   ├── BudgetExhausted
    │   ├── QuotaExhausted            the provider's daily quota or credit
    │   ├── AuthenticationFailed      the key was refused, or has no such model
    │   └── Cancelled                 Ctrl-C, the UI's Terminate
    ├── ProviderError                 one attempt of one row failed; carries its ErrorClass
    ├── LimiterError
    │   ├── NeverFits                 a request larger than the limit itself
    │   ├── LimiterUnreachable        the store of the limits (Redis) does not answer
    │   └── LimiterStoreError         the store answers with an error, or is of an unsupported version
    ├── WarehouseError
    │   └── WarehouseRefused          no waiting mends it; exit code 2 while nothing was asked
    ├── JournalError
    │   ├── JournalFull               the disk is full; everything paid before is safe
    │   ├── JournalRefused            no waiting mends it, the user must; exit code 2: nothing was spent
    │   ├── JournalUnreachable        the journal's store, or the Redis of its leases, does not answer
    │   └── JournalBusy               another process writes this slice
    └── SliceBusy                     another process works on this slice or home
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

__all__ = [
    "AuthenticationFailed",
    "BatchLLMError",
    "BudgetExhausted",
    "Cancelled",
    "ConfigurationError",
    "ErrorClass",
    "InputError",
    "JobFileError",
    "JournalBusy",
    "JournalError",
    "JournalFull",
    "JournalRefused",
    "JournalUnreachable",
    "LimiterError",
    "LimiterStoreError",
    "LimiterUnreachable",
    "NeverFits",
    "NotYetAvailable",
    "OutputError",
    "ProviderError",
    "ProvidersFileError",
    "QuotaExhausted",
    "SecretError",
    "SliceBusy",
    "StopRun",
    "WarehouseError",
    "WarehouseRefused",
]


class ErrorClass(StrEnum):
    """Why a row failed or is pending: the values of the output column ``llm_error_class``."""

    # transient: asked again by the engine; a row ends with one of these only when its attempts are used up
    RATE_LIMITED = "rate_limited"  # also the reason of a pending row
    OVERLOADED = "overloaded"  # 503, 529
    SERVER_ERROR = "server_error"  # other 5xx
    TIMEOUT = "timeout"
    CONNECTION = "connection"  # refused, reset, cut in the middle of the body
    MALFORMED = "malformed"  # a 200 whose body is not what the API documents
    EMPTY = "empty"  # an answer without text
    # the answer came and is not good enough
    TRUNCATED = "truncated"  # finish_reason=length
    SCHEMA_MISMATCH = "schema_mismatch"  # after the re-asks
    REFUSED = "refused"
    CONTENT_FILTER = "content_filter"
    # permanent: never asked again by itself
    INVALID_REQUEST = "invalid_request"
    TOO_LARGE = "too_large"  # larger than the model's context or the limit itself
    TEMPLATE = "template"  # the prompt could not be rendered from this row
    INTERNAL = "internal"  # a defect of ours: the message names it
    # stop the run
    AUTHENTICATION = "authentication"
    DAILY_QUOTA = "daily_quota"  # also pending
    # pending only
    BUDGET = "budget"
    DEADLINE = "deadline"
    CANCELLED = "cancelled"
    SAMPLE = "sample"  # only so many rows were to be asked


class BatchLLMError(Exception):
    """The base of every error that batch_llm raises on purpose."""


class ConfigurationError(BatchLLMError):
    """What the user declared cannot be run; nothing was spent."""


class JobFileError(ConfigurationError):
    """A job file is wrong; the message names file, line, field, value and the nearest valid name."""


class ProvidersFileError(ConfigurationError):
    """The providers file is wrong; the message names file, line, field, value and the nearest valid name."""


class SecretError(ConfigurationError):
    """A secret reference cannot be resolved, or a literal stands where a reference must; never shows the value."""


class InputError(ConfigurationError):
    """The input table is missing, lacks a column, or its key is null or not unique."""


class OutputError(ConfigurationError):
    """The output table exists and cannot take this job's rows."""


class NotYetAvailable(ConfigurationError):
    """A documented feature that has not landed."""


class StopRun(BatchLLMError):
    """The run must stop; what is paid is kept and the same command resumes. ``error_class`` marks pending rows."""

    error_class = ErrorClass.CANCELLED


class BudgetExhausted(StopRun):
    """The next request could cost more than what is left of the budget.

    Attributes:
        of_run: It is the run's own budget, not a cap of its user or of a day.
    """

    error_class = ErrorClass.BUDGET

    def __init__(self, message: str, *, of_run: bool = True) -> None:
        super().__init__(message)
        self.of_run = of_run


class QuotaExhausted(StopRun):
    """The provider's daily quota or credit is used up.

    Attributes:
        until: When it is there again, aware UTC; None when nobody said.
    """

    error_class = ErrorClass.DAILY_QUOTA

    def __init__(self, message: str, *, until: datetime | None = None) -> None:
        super().__init__(message)
        self.until = until


class AuthenticationFailed(StopRun):
    """The provider refused the key, or has no such model for it: no row can be asked."""

    error_class = ErrorClass.AUTHENTICATION


class Cancelled(StopRun):
    """Somebody asked the run to stop."""


class ProviderError(BatchLLMError):
    """One attempt failed.

    Attributes:
        error_class: What kind of failure; ``engine/retry.py`` says what follows from it.
        retry_after_s: What the provider asked us to wait, seconds; None when it did not say.
        scope: Of a rate-limited 429, which limit was met: ``requests``, ``tokens``, ``input_tokens`` or
            ``output_tokens`` (per minute), ``requests_per_day`` or ``tokens_per_day``; None when nobody said.
        maybe_paid: The provider may have done the work (the outcome is unknown); the budget counts it as spent.
        outline: What of it holds no row's text (HTTP status, the API's code), for where rows are not shown.
    """

    def __init__(
        self,
        error_class: ErrorClass,
        message: str,
        *,
        retry_after_s: float | None = None,
        scope: str | None = None,
        maybe_paid: bool = False,
        outline: str = "",
    ) -> None:
        super().__init__(message)
        self.error_class = error_class
        self.retry_after_s = retry_after_s
        self.scope = scope
        self.maybe_paid = maybe_paid
        self.outline = outline


class LimiterError(BatchLLMError):
    """The rate limiter cannot do what was asked."""


class NeverFits(LimiterError):
    """The request is larger than the limit itself: waiting would never end."""


class LimiterUnreachable(LimiterError):
    """The store that holds the limits (Redis) does not answer.

    Attributes:
        refused: Nobody listens at its address: it is down for everybody, not only for us.
    """

    def __init__(self, message: str, *, refused: bool = False) -> None:
        super().__init__(message)
        self.refused = refused


class LimiterStoreError(LimiterError):
    """The store that holds the limits answers with an error, or is of a version that cannot hold them."""


class WarehouseError(BatchLLMError):
    """The warehouse failed; what is paid stays in the journal and publishing again costs nothing."""


class WarehouseRefused(WarehouseError):
    """The warehouse refuses, and no waiting mends it: credentials, a right, a name or place, a limit of the user's.

    Where answers are paid for already, the engine raises a plain `WarehouseError` in its place: the run can go on.
    """


class JournalError(BatchLLMError):
    """The journal failed."""


class JournalFull(JournalError):
    """The journal's disk is full; every answer before this one is stored."""


class JournalRefused(JournalError):
    """No waiting mends it: a run's record cannot be read, or its files cannot be erased. Nothing is asked meanwhile."""


class JournalUnreachable(JournalError):
    """The journal's store, or the Redis of its leases, does not answer; what is paid is safe on this machine."""


class JournalBusy(JournalError):
    """Another process writes the journal of this slice."""


class SliceBusy(BatchLLMError):
    """Another process is working on this slice."""
