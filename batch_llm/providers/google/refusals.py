"""What it means when the Gemini API or Vertex AI answers with an error.

Belongs here: status and details (google.rpc) onto our errors; which quota a 429 is about and how long to wait. Not
here: sending (transport.py), what is done about it (engine/retry.py, limiter).
Source: https://ai.google.dev/gemini-api/docs/troubleshooting (the table of statuses), google.rpc error_details.proto
(RetryInfo, QuotaFailure, ErrorInfo) (read 2026-11-29); each table names its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from batch_llm.errors import AuthenticationFailed, ErrorClass, ProviderError, QuotaExhausted

__all__ = ["refusal"]

MESSAGE_CHARACTERS = 300  # of the error text that is kept
# A 400 whose reason says it is about the key, not the request.
# Source: https://github.com/continuedev/continue/issues/9330 (read 2026-11-29).
KEY_REASONS = {"API_KEY_INVALID"}
# A 400 in INVALID_ARGUMENT that no field tells from another: the prompt is longer than the model reads.
# Source: https://github.com/google-gemini/gemini-cli/issues/4231; of Vertex AI
# https://github.com/google-gemini/gemini-cli/issues/19727, and for vectors without "only", as many public repositories
# quote it (read 2026-11-29).
_TOO_LONG = re.compile(
    r"exceeds the maximum number of tokens allowed|token count is [0-9]+ but (?:the )?model (?:only )?supports"
)
# A 429 without details: the account's money, not its rate. "Your project has exceeded its monthly spending cap." is
# quoted by many public repositories.
# Source: https://github.com/dyad-sh/dyad/issues/3626 (prepaid; read 2026-11-29).
CREDIT_WORDS = ("credits are depleted", "spending cap")
# Which limit a quota's name speaks of; the first that fits any of those that were met. A day's comes first: waiting a
# minute would not help.
# Source: https://github.com/google-gemini/gemini-cli/issues/8437 (three at once), https://github.com/langgenius/dify/issues/19838,
# https://github.com/felixbinder/introspection_self_prediction/issues/66 (Vertex AI's) (read 2026-11-29).
QUOTAS = (
    (re.compile(r"token.*per_?day", re.IGNORECASE), "tokens_per_day"),
    (re.compile(r"per_?day", re.IGNORECASE), "requests_per_day"),
    (re.compile(r"input_?token", re.IGNORECASE), "input_tokens"),
    (re.compile(r"output_?token", re.IGNORECASE), "output_tokens"),
    (re.compile(r"token", re.IGNORECASE), "tokens"),
    (re.compile(r"request", re.IGNORECASE), "requests"),
)
_SECONDS = re.compile(r"([0-9]+(?:\.[0-9]+)?)s")


@dataclass(frozen=True, slots=True)
class _Said:
    """The error, as far as it could be read."""

    status: str = ""  # of google.rpc.Code
    message: str = ""
    reasons: frozenset[str] = frozenset()
    quotas: tuple[str, ...] = ()  # names of the quotas that were met
    never: bool = False  # one of them is 0: this account has none of it
    retry_s: float | None = None


def refusal(status: int, headers: Mapping[str, str], body: bytes) -> Exception:
    """The error to raise for an answer that is not a 2xx. ``headers``: Google says nothing in them."""
    del headers
    said = _read(body)
    code = f"HTTP {status}" + (f" {said.status}" if said.status else "")
    shown = f"{code}: {said.message[:MESSAGE_CHARACTERS]}" if said.message else code
    if status == 429:
        return _too_many(said, shown)
    if status in (401, 403) or (status == 400 and said.reasons & KEY_REASONS):
        why = ", ".join(sorted(said.reasons))
        return AuthenticationFailed(f"Google refused the key or account ({code}{', ' if why else ''}{why})")
    if said.status == "FAILED_PRECONDITION":  # the free tier is not offered where this account is; every row meets it
        return AuthenticationFailed(f"Google does not serve this account: {shown}")
    if status == 404:  # no row's fault: a model, a project's place or an address
        return AuthenticationFailed(f"Google has no such model, or not for this key ({shown})")
    if status == 503:
        return ProviderError(ErrorClass.OVERLOADED, shown, retry_after_s=said.retry_s)
    if status == 504:
        return ProviderError(ErrorClass.TIMEOUT, shown, retry_after_s=said.retry_s)
    if status in (408, 409, 499) or status >= 500:
        return ProviderError(ErrorClass.SERVER_ERROR, shown, retry_after_s=said.retry_s)
    if status == 413 or (said.status == "INVALID_ARGUMENT" and _TOO_LONG.search(said.message)):
        return ProviderError(ErrorClass.TOO_LARGE, shown)
    return ProviderError(ErrorClass.INVALID_REQUEST, shown)


def _too_many(said: _Said, shown: str) -> Exception:
    """A rate, a day's quota, or no credit. Vertex AI's shared quota names none: a rate of which nobody knows the limit.

    Source: https://github.com/google-gemini/gemini-cli/issues/14811 (shared quota, no details) (read 2026-11-29).
    """
    if said.never or (not said.quotas and any(words in said.message for words in CREDIT_WORDS)):
        return QuotaExhausted(shown)
    named = "\n".join(said.quotas)
    scope = next((scope for words, scope in QUOTAS if words.search(named)), None)
    of_a_day = scope is not None and scope.endswith("_per_day")
    # The seconds beside a day's quota are not until its end.
    # Source: https://github.com/voideditor/void/issues/557 (5 s) (read 2026-11-29).
    wait_s = None if of_a_day else said.retry_s
    return ProviderError(ErrorClass.RATE_LIMITED, shown, retry_after_s=wait_s, scope=scope)


def _read(body: bytes) -> _Said:
    """The error object, alone or in a list."""
    try:
        data: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        return _Said()
    if isinstance(data, list) and data:
        data = data[0]
    error = data.get("error") if isinstance(data, dict) else None
    if not isinstance(error, dict):
        return _Said()
    details = [part for part in _list(error.get("details")) if isinstance(part, dict)]
    violations = [each for part in details for each in _list(part.get("violations")) if isinstance(each, dict)]
    return _Said(
        status=_text(error.get("status")),
        message=_text(error.get("message")),
        reasons=frozenset(filter(None, (_text(part.get("reason")) for part in details))),
        quotas=tuple(_quotas(details, violations)),
        never=any(each.get("quotaValue") == "0" for each in violations),
        retry_s=next(filter(None, (_seconds(part.get("retryDelay")) for part in details)), None),
    )


def _quotas(details: list[dict[str, Any]], violations: list[dict[str, Any]]) -> Iterator[str]:
    """The names of quotas, in QuotaFailure or in the metadata of an ErrorInfo."""
    for each in violations:
        yield _text(each.get("quotaId")) or _text(each.get("quotaMetric"))
    for part in details:
        metadata = part.get("metadata")
        if isinstance(metadata, dict) and "quota_limit" in metadata:
            yield _text(metadata["quota_limit"])


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _seconds(value: object) -> float | None:
    """A google.protobuf.Duration in JSON: ``5s``, ``21.96s``."""
    found = _SECONDS.fullmatch(value) if isinstance(value, str) else None
    return float(found[1]) if found else None
