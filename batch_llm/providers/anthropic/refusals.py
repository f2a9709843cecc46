"""What it means when Anthropic answers with an error.

Belongs here: status, type and code onto our errors; which limit a 429 is about. Not here: sending (transport.py), what
is done about it (engine/retry.py, limiter).
Source: https://docs.claude.com/en/api/errors (status and type); anthropic 2.14.0, _exceptions.py (where the code
stands), types/shared/error_type.py, types/shared/*_spend_limit_reached_error_details.py (read 2026-11-28). The wording
of a message can change, say the same files: it is looked at only where status and type say nothing more.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import orjson

from batch_llm.errors import AuthenticationFailed, ErrorClass, ProviderError, QuotaExhausted
from batch_llm.providers.retry_after import retry_after_s

__all__ = ["refusal"]

MESSAGE_CHARACTERS = 300  # of a provider's error text that is kept
SCOPES = ("requests", "input_tokens", "output_tokens")
SPENT = "spend_limit_reached"  # how the codes of used-up money end
# What 400s of type invalid_request_error say that are none of the row's doing, or more than "invalid": no field tells
# them from the others. Source: issues of https://github.com/anthropics/claude-code, by number (read 2026-11-29).
SPENT_WORDS = ("credit balance is too low", "reached your specified API usage limits")  # 66314, 38035
DISABLED_WORDS = "organization has been disabled"  # 19028
FILTER_WORDS = "blocked by content filtering policy"  # 58367
# The row is too long, with its max_tokens or alone; or, with status 429, longer than the account may ask: 59696, 228,
# 33514 and 64982.
LONG_WORDS = ("prompt is too long", "exceed context limit")
LONG_ACCOUNT_WORDS = "required for long context requests"
_REGAIN = re.compile(r"regain access on ([0-9]{4}-[0-9]{2}-[0-9]{2}) at ([0-9]{2}:[0-9]{2}) UTC")


def refusal(status: int, headers: Mapping[str, str], body: bytes) -> Exception:
    """The error to raise for an answer that is not a 2xx. ``headers``: lower-case names."""
    kind, code, message = _read(body)
    shown = f"HTTP {status}" + (f" {code or kind}" if code or kind else "")
    if status in (401, 403):
        return AuthenticationFailed(f"the provider refused the key ({shown})")
    shown = f"{shown}: {message[:MESSAGE_CHARACTERS]}" if message else shown
    if status == 400 and DISABLED_WORDS in message:
        return AuthenticationFailed(f"Anthropic does not serve this account ({shown})")
    if status == 404:  # no row's fault: a model or an address
        return AuthenticationFailed(f"Anthropic has no such model, or not for this key ({shown})")
    spent = status == 400 and any(words in message for words in SPENT_WORDS)
    if status == 402 or kind == "billing_error" or code.endswith(SPENT) or spent:
        return QuotaExhausted(shown, until=_regained_at(message))
    error_class = _class_of(status, message)
    waits = error_class in (ErrorClass.RATE_LIMITED, ErrorClass.OVERLOADED, ErrorClass.SERVER_ERROR)
    return ProviderError(
        error_class,
        shown,
        retry_after_s=retry_after_s(headers) if waits else None,
        scope=_scope(headers) if error_class is ErrorClass.RATE_LIMITED else None,
    )


def _class_of(status: int, message: str) -> ErrorClass:
    if status == 429:
        return ErrorClass.TOO_LARGE if LONG_ACCOUNT_WORDS in message else ErrorClass.RATE_LIMITED
    if status in (503, 529):
        return ErrorClass.OVERLOADED
    if status in (408, 409) or status >= 500:
        return ErrorClass.SERVER_ERROR
    if status == 413 or (status == 400 and any(words in message for words in LONG_WORDS)):
        return ErrorClass.TOO_LARGE
    if status == 400 and FILTER_WORDS in message:
        return ErrorClass.CONTENT_FILTER
    return ErrorClass.INVALID_REQUEST


def _regained_at(message: str) -> datetime | None:
    """When used-up money is there again, as the message says."""
    found = _REGAIN.search(message)
    try:
        return datetime.fromisoformat(f"{found[1]}T{found[2]}+00:00") if found else None
    except ValueError:  # a date that no calendar has
        return None


def _scope(headers: Mapping[str, str]) -> str | None:
    """The one limit of which nothing remains; None where none or several are empty.

    Source: https://github.com/whoz-oss/coday/issues/110 (a 429 with remaining 0 of the input tokens) (read 2026-11-28).
    """
    names = {scope: f"anthropic-ratelimit-{scope.replace('_', '-')}-remaining" for scope in SCOPES}
    empty = [scope for scope, name in names.items() if headers.get(name) == "0"]
    return empty[0] if len(empty) == 1 else None


def _read(body: bytes) -> tuple[str, str, str]:
    """Type, code and message; empty where they are not there."""
    try:
        data: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        return "", "", ""
    error = data.get("error") if isinstance(data, dict) else None
    if not isinstance(error, dict):
        return "", "", ""
    details = error.get("details")
    code = details.get("error_code") if isinstance(details, dict) else None
    kind, message = error.get("type"), error.get("message")
    return tuple(each if isinstance(each, str) else "" for each in (kind, code, message))  # type: ignore[return-value]
