"""What it means when an OpenAI-compatible endpoint answers with an error.

Belongs here: status, codes and wordings onto our errors; which limit a 429 is about, waits in its text. Not here:
sending (transport.py), waits in headers (retry_after.py), what is done about it (engine/retry.py, limiter).

The kinds of 429: a rate (wait, slow down) | a day's limit (wait for its end) | larger than the limit itself (never) |
credit used up (stop) | no room right now (overload: fewer at once).
Source: https://platform.openai.com/docs/guides/error-codes (read 2026-11-21); each table names its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from batch_llm.errors import AuthenticationFailed, ErrorClass, ProviderError, QuotaExhausted
from batch_llm.providers.retry_after import retry_after_s

__all__ = ["refusal"]

MESSAGE_CHARACTERS = 300  # of a provider's error text that is kept
QUOTA_CODES = {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"}
CONTEXT_CODES = {
    "context_length_exceeded",
    "string_above_max_length",
    "request_too_large",
    "max_tokens_per_request",  # of all inputs of an embeddings request together
}
# 400s without a code that say the same of embeddings.
# Source: https://github.com/Fergana-Labs/stash/pull/268, https://github.com/sbintuitions/JMTEB/issues/15
# (read 2026-11-28).
CONTEXT_WORDS = ("maximum input length is", "maximum context length is")

# 429s (and Groq's own 498) that say: no room now, whatever the limits.
# Source: https://developers.openai.com/api/docs/guides/flex-processing (429 Resource Unavailable),
# https://console.groq.com/docs/flex-processing (498 capacity_exceeded),
# https://github.com/continuedev/continue/issues/6185 (Mistral) (read 2026-11-21),
# https://github.com/pollinations/pollinations/issues/6260 (Azure's peak load) (read 2026-11-28).
CAPACITY_CODES = {"resource_unavailable", "capacity_exceeded"}
CAPACITY_WORDS = ("resource unavailable", "service tier capacity exceeded", "usage size allowed during peak load")

# A prompt that a filter stopped, beside Azure's code `content_filter`: OpenAI's reasoning models call it invalid.
# Source: https://github.com/BeehiveInnovations/pal-mcp-server/issues/178 (code invalid_prompt),
# https://github.com/compl-ai/compl-ai/issues/20 (Azure; both read 2026-11-28).
FILTER_CODES = {"content_filter", "content_policy_violation", "ResponsibleAIPolicyViolation"}
FLAGGED_WORDS = "flagged as potentially violating"

# Which limit a message speaks of; the first that fits. No field says it for these.
# Source: https://github.com/continuedev/continue/issues/10920 ("on tokens per day (TPD)"),
# https://github.com/FoundationAgents/OpenManus/issues/746 ("input tokens per minute"),
# https://github.com/langchain-ai/langchain/issues/12986 ("call rate limit"),
# https://github.com/jasonacox/TinyLLM/issues/17 ("token rate limit") (read 2026-11-21).
SCOPE_WORDS = (
    ("requests per day", "requests_per_day"),
    ("tokens per day", "tokens_per_day"),
    ("input tokens per min", "input_tokens"),
    ("output tokens per min", "output_tokens"),
    ("requests per min", "requests"),
    ("tokens per min", "tokens"),
    ("call rate limit", "requests"),
    ("token rate limit", "tokens"),
)
# Google names the limits in the details, often several; a day's comes first, for waiting a minute would not help.
# Source: https://github.com/google-gemini/gemini-cli/issues/8437,
# https://github.com/langgenius/dify/issues/19838 (read 2026-11-21).
GOOGLE_QUOTAS = (
    ("TokensPerDay", "tokens_per_day"),
    ("TokensPerModelPerDay", "tokens_per_day"),
    ("PerDay", "requests_per_day"),
    ("InputTokens", "input_tokens"),
    ("Requests", "requests"),
)

# "Limit 7000, Used 0, Requested ~12903": it can never fit, whatever waiting time the message names.
# Source: https://github.com/danielmiessler/Fabric/issues/364, https://github.com/vanderschaarlab/climb/issues/1
# (read 2026-11-21).
_AMOUNTS = re.compile(r"Limit:? ~?([0-9]+)\b.*?Requested:? ~?([0-9]+)\b", re.DOTALL)
# "Please try again in 7m12s", "in 644ms", "Please retry in 45.57s", "Please retry after 9 seconds".
# Source: the issues above; https://github.com/BuilderIO/micro-agent/issues/86,
# https://github.com/continuedev/continue/issues/9570,
# https://github.com/microsoft/sample-app-aoai-chatGPT/issues/406 (read 2026-11-21).
_WAIT = re.compile(
    r"(?:try again|retry) (?:in|after) (?=[0-9])(?:([0-9]+)h)?(?:([0-9]+)m(?!s))?(?:([0-9]+(?:\.[0-9]+)?) ?(ms|s))?",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class _Said:
    """The error an endpoint sent, as far as it could be read."""

    code: str = ""
    kind: str = ""
    message: str = ""
    inner: str = ""  # Azure's code of what is behind the code
    quotas: tuple[str, ...] = ()  # Google's names of the limits that were met


def refusal(status: int, headers: Mapping[str, str], body: bytes) -> Exception:
    """The error to raise for an answer that is not a 2xx. ``headers``: lower-case names."""
    said = _read(body)
    code = f" {said.code}" if said.code else ""
    shown = f"HTTP {status}{code}: {said.message[:MESSAGE_CHARACTERS]}" if said.message else f"HTTP {status}"
    if status == 429:
        return _too_many(said, shown, headers)
    if status == 403 and b'"flagged_input"' in body:  # OpenRouter: moderation of this very prompt
        return ProviderError(ErrorClass.CONTENT_FILTER, shown)
    if status in (401, 403):
        return AuthenticationFailed(f"the provider refused the key (HTTP {status}{code})")
    if status == 404:  # no row's fault: none of these APIs has anything but models and addresses to find
        return AuthenticationFailed(f"the provider has no such model, or not for this key ({shown})")
    if status == 402 or said.code in QUOTA_CODES:
        return QuotaExhausted(shown)
    if status in (498, 503, 529):
        return ProviderError(ErrorClass.OVERLOADED, shown, retry_after_s=retry_after_s(headers))
    if status in (408, 409) or status >= 500:
        return ProviderError(ErrorClass.SERVER_ERROR, shown, retry_after_s=retry_after_s(headers))
    if status == 413 or _is_too_long(status, said):
        return ProviderError(ErrorClass.TOO_LARGE, shown)
    if {said.code, said.kind, said.inner} & FILTER_CODES or FLAGGED_WORDS in said.message:
        return ProviderError(ErrorClass.CONTENT_FILTER, shown)
    return ProviderError(ErrorClass.INVALID_REQUEST, shown)


def _is_too_long(status: int, said: _Said) -> bool:
    """Whether the request itself is longer than the model takes."""
    return said.code in CONTEXT_CODES or (status == 400 and any(words in said.message for words in CONTEXT_WORDS))


def _too_many(said: _Said, shown: str, headers: Mapping[str, str]) -> Exception:
    """The kinds of 429 (DESIGN 3.4)."""
    if {said.code, said.kind} & QUOTA_CODES:
        return QuotaExhausted(shown)
    text = said.message.lower()
    if {said.code.lower(), said.kind.lower()} & CAPACITY_CODES or any(words in text for words in CAPACITY_WORDS):
        return ProviderError(ErrorClass.OVERLOADED, shown, retry_after_s=retry_after_s(headers))
    amounts = _AMOUNTS.search(said.message)
    if "request too large" in text or (amounts and int(amounts[2]) > int(amounts[1])):
        return ProviderError(ErrorClass.TOO_LARGE, shown)  # it has the code of an ordinary one
    scope = _scope(said, text, headers)
    wait_s = retry_after_s(headers)
    if wait_s is None and not (said.quotas and scope and scope.endswith("_per_day")):
        wait_s = _named_wait_s(said.message)  # the seconds Google names beside a day's limit are not until its end
    return ProviderError(ErrorClass.RATE_LIMITED, shown, retry_after_s=wait_s, scope=scope)


def _scope(said: _Said, text: str, headers: Mapping[str, str]) -> str | None:
    """Which limit was met: by Google's details, by the words, by the type, by the headers."""
    for part, scope in GOOGLE_QUOTAS:
        if any(part in quota for quota in said.quotas):
            return scope
    for words, scope in SCOPE_WORDS:
        if words in text:
            return scope
    if said.kind in ("requests", "tokens"):
        return said.kind
    empty = [scope for scope in ("requests", "tokens") if headers.get(f"x-ratelimit-remaining-{scope}") == "0"]
    return empty[0] if len(empty) == 1 else None


def _named_wait_s(message: str) -> float | None:
    """The waiting time in the text: not every 429 carries Retry-After."""
    found = _WAIT.search(message)
    if found is None or not any(found.groups()):  # "in 2 hours" is in no notation that was ever seen
        return None
    hours, minutes, rest, unit = found.groups(default="0")
    return float(hours) * 3600 + float(minutes) * 60 + float(rest) * (0.001 if unit == "ms" else 1.0)


def _read(body: bytes) -> _Said:
    """OpenAI's error object, Google's list around it, Mistral's without a frame, or a bare text."""
    try:
        data: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        return _Said()
    if isinstance(data, list) and data:
        data = data[0]
    if not isinstance(data, dict):
        return _Said()
    error = data.get("error", data)
    if isinstance(error, str):
        return _Said(message=error)
    if not isinstance(error, dict):
        return _Said()
    code, kind, message = (_text(error.get(name)) for name in ("code", "type", "message"))
    behind = error.get("innererror")
    inner = _text(behind.get("code")) if isinstance(behind, dict) else ""
    return _Said(code, kind, message, inner, tuple(_quotas(error.get("details"))))


def _text(value: object) -> str:
    return str(value) if isinstance(value, str | int) else ""


def _quotas(details: object) -> list[str]:
    parts = details if isinstance(details, list) else []
    found = [part.get("violations") for part in parts if isinstance(part, dict)]
    violations = [each for group in found if isinstance(group, list) for each in group]
    return [_text(each.get("quotaId")) for each in violations if isinstance(each, dict)]
