"""Everything the simulator answers instead of a completion: status, OpenAI's error body, headers.

Belongs here: wordings and codes, each with its source. Not here: deciding that something is refused.
"""

from __future__ import annotations

import math

import orjson

from batch_llm.simulator.limits import Overrun, duration

__all__ = [
    "INJECTED",
    "Refused",
    "bad_request",
    "context_exceeded",
    "injected_rate_limit",
    "input_too_long",
    "insufficient_quota",
    "invalid_input",
    "key_in_use",
    "key_reused",
    "missing_key",
    "model_not_found",
    "over_limit",
    "overloaded",
    "server_error",
    "too_many_tokens",
    "unknown_url",
    "wrong_key",
]

INJECTED = "fault"  # the reason of what no rule refused: counted under the faults
LIMITS_PAGE = "Visit https://platform.openai.com/account/rate-limits to learn more."
PERIODS = {
    "requests_per_minute": "requests per min (RPM)",
    "tokens_per_minute": "tokens per min (TPM)",
    "input_tokens_per_minute": "input tokens per min (ITPM)",
    "output_tokens_per_minute": "output tokens per min (OTPM)",
    "requests_per_day": "requests per day (RPD)",
    "tokens_per_day": "tokens per day (TPD)",
}


class Refused(Exception):
    """The request gets this error body instead of an answer; ``reason`` is what the statistics count it under."""

    def __init__(self, reason: str, status: int, message: str, kind: str = "invalid_request_error") -> None:
        super().__init__(message)
        self.reason = reason
        self.status = status
        self.message = message
        self.kind = kind
        self.param: str | None = None
        self.code: str | None = None
        self.headers: dict[str, str] = {}

    def about(self, param: str | None, code: str | None) -> Refused:
        """Name the parameter and the machine-readable code."""
        self.param = param
        self.code = code
        return self

    def retry(self, wait_s: float) -> Refused:
        """Ask to wait, in whole seconds and in milliseconds (the openai SDK prefers the latter)."""
        self.headers["retry-after"] = str(max(1, math.ceil(wait_s)))
        self.headers["retry-after-ms"] = str(max(1, math.ceil(wait_s * 1000)))
        return self

    def body(self) -> bytes:
        """OpenAI's error object.

        Source: the bodies quoted at the functions below; openai 3.54.0, _exceptions.py, reads message, type, param
        and code from ``error`` (read 2026-11-21).
        """
        error = {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}
        return orjson.dumps({"error": error})


def bad_request(message: str, param: str | None, code: str | None) -> Refused:
    """400: the request breaks a rule of the API."""
    return Refused("invalid_request", 400, message).about(param, code)


def context_exceeded(limit: int, prompt_tokens: int, max_tokens: int | None) -> Refused:
    """400: prompt, or prompt and max_tokens together, larger than the model's context.

    Source: https://github.com/crewAIInc/crewAI-examples/issues/121 (prompt alone),
    https://github.com/ChatGPTNextWeb/NextChat/issues/3195 (with the completion) (read 2026-11-21).
    """
    if max_tokens is None or prompt_tokens > limit:
        had = f"your messages resulted in {prompt_tokens} tokens. Please reduce the length of the messages."
    else:
        had = (
            f"you requested {prompt_tokens + max_tokens} tokens ({prompt_tokens} in the messages, {max_tokens} in the "
            "completion). Please reduce the length of the messages or completion."
        )
    message = f"This model's maximum context length is {limit} tokens. However, {had}"
    return Refused("context_length_exceeded", 400, message).about("messages", "context_length_exceeded")


def key_in_use() -> Refused:
    """409: the first request under this Idempotency-Key is still being answered.

    Source: https://datatracker.ietf.org/doc/html/draft-ietf-httpapi-idempotency-key-header (the status;
    the code is freellmapi's, https://github.com/tashfeenahmed/freellmapi/issues/1094; both read 2026-11-28).
    """
    message = "A request with this Idempotency-Key is still being answered."
    return Refused("idempotency", 409, message).about(None, "idempotency_request_in_progress")


def key_reused() -> Refused:
    """422: this Idempotency-Key came with another request before. Source: as above."""
    message = "This Idempotency-Key came with another request before; give each request its own."
    return Refused("idempotency", 422, message).about(None, "idempotency_key_conflict")


def invalid_input() -> Refused:
    """400: an embeddings input that is empty, has an empty text, too many, or something else than texts or tokens.

    Source: https://github.com/aryn-ai/sycamore/pull/943 (empty), https://github.com/embeddings-benchmark/mteb/issues/1200
    (more than 2,048), both with param and code null (read 2026-11-28).
    """
    message = "'$.input' is invalid. Please check the API reference: https://platform.openai.com/docs/api-reference."
    return bad_request(message, None, None)


def input_too_long(number: int, limit: int) -> Refused:
    """400: one embeddings input (0-based ``number``) larger than the model takes.

    Source: https://github.com/Fergana-Labs/stash/pull/268, which names input[0] and input[22]; param and code null as
    in the older wording, https://github.com/sbintuitions/JMTEB/issues/15 (read 2026-11-28).
    """
    message = f"Invalid 'input[{number}]': maximum input length is {limit} tokens."
    return Refused("context_length_exceeded", 400, message)


def too_many_tokens(tokens: int, limit: int) -> Refused:
    """400: all inputs of an embeddings request together larger than one request may be.

    Source: https://github.com/assafelovic/gpt-researcher/issues/1524 (type and code alike) (read 2026-11-28).
    """
    message = f"Requested {tokens} tokens, max {limit} tokens per request"
    name = "max_tokens_per_request"
    return Refused("context_length_exceeded", 400, message, name).about(None, name)


def missing_key() -> Refused:
    """401: no bearer token.

    Source: https://github.com/chatboxai/chatbox/issues/98 (read 2026-11-21).
    """
    message = (
        "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer auth "
        "(i.e. Authorization: Bearer YOUR_KEY). The simulator accepts any key."
    )
    return Refused("authentication", 401, message)


def wrong_key(key: str) -> Refused:
    """401: not the configured key; shows at most its last four characters.

    Source: https://github.com/popjane/free_chatgpt_api/issues/3 (read 2026-11-21).
    """
    shown = "*" * 8 + (key[-4:] if len(key) >= 12 else "")
    message = f"Incorrect API key provided: {shown}. This is batch-llm's simulator: it was started with another key."
    return Refused("authentication", 401, message).about(None, "invalid_api_key")


def model_not_found(model: str) -> Refused:
    """404: the simulator answers for no model but its own.

    Source: https://github.com/openai/openai-agents-python/issues/458 (read 2026-11-21).
    """
    message = (
        f"The model `{model}` does not exist or you do not have access to it. This is batch-llm's simulator: it "
        "answers only models named simulator/<anything>."
    )
    return Refused("model_not_found", 404, message).about(None, "model_not_found")


def unknown_url(method: str, path: str) -> Refused:
    """404: no such endpoint."""
    return Refused("unknown_url", 404, f"Invalid URL ({method} {path})")


def over_limit(model: str, overrun: Overrun) -> Refused:
    """429: a limit is used up for now, or the request is larger than the limit itself and never fits.

    Source: https://github.com/FoundationAgents/MetaGPT/issues/523 (per minute),
    https://github.com/Aider-AI/aider/issues/1880 (too large: no waiting time, type tokens),
    https://github.com/continuedev/continue/issues/10920 (per day, the same sentence) (read 2026-11-21).
    """
    limit = f"on {PERIODS[overrun.name]}: Limit {overrun.limit:.0f}"
    if overrun.wait_s is None:
        message = (
            f"Request too large for {model} in organization org-simulator {limit}, Requested {overrun.requested:.0f}. "
            f"The input or output tokens must be reduced in order to run successfully. {LIMITS_PAGE}"
        )
        return Refused("too_large", 429, message, "tokens").about(None, "rate_limit_exceeded")
    message = (
        f"Rate limit reached for {model} in organization org-simulator {limit}, Used {overrun.used:.0f}, Requested "
        f"{overrun.requested:.0f}. Please try again in {duration(overrun.wait_s)}. {LIMITS_PAGE}"
    )
    refused = Refused(overrun.name, 429, message, overrun.scope).about(None, "rate_limit_exceeded")
    return refused.retry(overrun.wait_s)


def insufficient_quota() -> Refused:
    """429: the account has no credit left; waiting does not help.

    Source: https://github.com/OpenHands/OpenHands/issues/998 (read 2026-11-21).
    """
    message = (
        "You exceeded your current quota, please check your plan and billing details. For more information on this "
        "error, read the docs: https://platform.openai.com/docs/guides/error-codes/api-errors."
    )
    return Refused("insufficient_quota", 429, message, "insufficient_quota").about(None, "insufficient_quota")


def injected_rate_limit(model: str, wait_s: float) -> Refused:
    """429 although the limit has room."""
    message = (
        f"Rate limit reached for {model} in organization org-simulator on requests per min (RPM). "
        f"Please try again in {duration(wait_s)}. {LIMITS_PAGE}"
    )
    return Refused(INJECTED, 429, message, "requests").about(None, "rate_limit_exceeded").retry(wait_s)


def overloaded(reason: str) -> Refused:
    """503: too many at once.

    Source: wording: https://help.openai.com/en/articles/6891839-api-error-code-guidance; 503:
    https://www.fixthatapp.com/pages/openai-api-down.html (read 2026-11-21).
    """
    return Refused(reason, 503, "The engine is currently overloaded, please try again later", "server_error")


def server_error() -> Refused:
    """500.

    Source: https://help.openai.com/en/articles/6891839-api-error-code-guidance (wording),
    https://github.com/acheong08/ChatGPT/issues/607 (type server_error) (read 2026-11-21).
    """
    message = "The server had an error while processing your request. Sorry about that!"
    return Refused(INJECTED, 500, message, "server_error")
