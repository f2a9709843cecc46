"""What Anthropic answers instead of a message: status, type, its own error body.

Belongs here: wordings and types, each with its source. Not here: deciding that something is refused (anthropic.py,
anthropic_request.py), headers.
"""

from __future__ import annotations

import re

import orjson

from batch_llm.simulator.refusals import Refused

__all__ = ["missing_version", "said_by_anthropic", "wrong_key"]

# Source: https://docs.claude.com/en/api/errors (status and type) (read 2026-11-28).
TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    529: "overloaded_error",
}
COUNTED = {
    "requests_per_minute": "requests per minute",
    "input_tokens_per_minute": "input tokens per minute",
    "output_tokens_per_minute": "output tokens per minute",
}


class _AnthropicRefused(Refused):
    """Anthropic's error object."""

    def __init__(self, reason: str, status: int, message: str, request_id: str | None = None) -> None:
        super().__init__(reason, status, message, TYPES[status])
        self._request_id = request_id

    def body(self) -> bytes:
        """Source: anthropic 2.14.0, types/shared/error_response.py (read 2026-11-28)."""
        error = {"type": self.kind, "message": self.message}
        return orjson.dumps({"type": "error", "error": error, "request_id": self._request_id})


def wrong_key() -> Refused:
    """401: no key, or not the account's.

    Source: https://github.com/eyaltoledano/claude-task-master/issues/222 (read 2026-11-28).
    """
    return _AnthropicRefused("authentication", 401, "invalid x-api-key")


def missing_version() -> Refused:
    """400: the header that every request must have.

    Source: https://github.com/Pasta-Devs/Marinara-Engine/issues/120 (read 2026-11-28).
    """
    return _AnthropicRefused("invalid_request", 400, "anthropic-version: header is required")


def said_by_anthropic(refused: Refused, request_id: str) -> Refused:
    """``refused``, as Anthropic words it.

    Source: https://docs.claude.com/en/api/errors (529, api_error), https://github.com/anthropics/claude-code/issues/59696
    (a prompt that is too long), https://github.com/FoundationAgents/OpenManus/issues/746 (a rate),
    https://github.com/anthropics/claude-code/issues/66314 (no credit) (read 2026-11-28). No recording of an unknown
    model's wording was found.
    """
    status, message = refused.status, refused.message
    if refused.code == "insufficient_quota":
        status = 400
        message = (
            "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade or "
            "purchase credits."
        )
    elif status == 429:
        counted = COUNTED.get(refused.reason, "requests per minute")
        message = f"This request would exceed the rate limit for your organization in {counted}."
    elif refused.reason == "context_length_exceeded":
        limit, had = re.findall(r"[0-9]+", message)[:2]
        message = f"prompt is too long: {had} tokens > {limit} maximum"
    elif status == 503:
        status, message = 529, "Overloaded"
    elif status == 500:
        message = "Internal server error"
    said = _AnthropicRefused(refused.reason, status, message, request_id)
    if "retry-after" in refused.headers:
        said.headers["retry-after"] = refused.headers["retry-after"]
    return said
