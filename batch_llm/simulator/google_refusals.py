"""What Google answers instead of content: status, its error body with details.

Belongs here: wordings, statuses and details, each with its source. Not here: deciding that something is refused
(google.py, google_request.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from batch_llm.simulator.config import SimulatorConfig
from batch_llm.simulator.refusals import INJECTED, Refused

__all__ = [
    "as_google",
    "invalid",
    "keyless_project",
    "no_key",
    "not_found",
    "not_imitated",
    "precondition_failed",
    "project_model_not_found",
    "unknown_names",
    "wrong_key",
    "wrong_token",
]

STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
}
RPC = "type.googleapis.com/google.rpc."
MINUTE_MS = 60_000

# The quota that stands for each limit: metric, id. Google has none of all tokens, nor of output or tokens per day;
# those names are made after the others.
# Source: https://github.com/google-gemini/gemini-cli/issues/8437 (input tokens, requests),
# https://github.com/langgenius/dify/issues/19838 (requests per day) (read 2026-11-29).
QUOTAS = {
    "requests_per_minute": ("generate_content_requests", "GenerateRequestsPerMinutePerProjectPerModel"),
    "input_tokens_per_minute": ("generate_content_input_token_count", "GenerateContentInputTokensPerModelPerMinute"),
    "output_tokens_per_minute": ("generate_content_output_token_count", "GenerateContentOutputTokensPerModelPerMinute"),
    "tokens_per_minute": ("generate_content_token_count", "GenerateContentTokensPerModelPerMinute"),
    "requests_per_day": ("generate_requests_per_model_per_day", "GenerateRequestsPerDayPerProjectPerModel"),
    "tokens_per_day": ("generate_tokens_per_model_per_day", "GenerateTokensPerDayPerProjectPerModel"),
}


class _GoogleRefused(Refused):
    """Google's error object: the status in words, details of google.rpc."""

    def __init__(
        self,
        reason: str,
        status: int,
        message: str,
        details: Sequence[dict[str, Any]] = (),
        *,
        status_word: str | None = None,
    ) -> None:
        super().__init__(reason, status, message)
        self.details = details
        self._status_word = status_word or STATUSES[status]

    def body(self) -> bytes:
        """Source: the bodies quoted at the functions below."""
        error = {"code": self.status, "message": self.message, "status": self._status_word}
        return orjson.dumps({"error": {**error, "details": self.details} if self.details else error})


def invalid(message: str) -> Refused:
    """400: the request breaks a rule of the API."""
    return _GoogleRefused("invalid_request", 400, message)


def not_imitated(what: str) -> Refused:
    """400: documented, and refused aloud rather than answered as if it were not there."""
    return invalid(f"batch-llm's simulator does not imitate {what}.")


def precondition_failed() -> Refused:
    """400: a model that does not have this method.

    Source: https://github.com/vercel/ai/issues/15853 (read 2026-11-29).
    """
    return _GoogleRefused("invalid_request", 400, "Precondition check failed.", status_word="FAILED_PRECONDITION")


def unknown_names(places: Sequence[tuple[str, str]]) -> Refused:
    """400: names that the message does not have; ``places``: (name, path of the message it stands in, or "").

    Source: https://github.com/MinLL/SkyrimNet-GamePlugin/issues/77 (at the top: no field),
    https://github.com/gera2ld/ai.nvim/issues/13 (inside: with it) (read 2026-11-29).
    """
    violations = []
    for name, path in places:
        at = f" at '{path}'" if path else ""
        description = f'Invalid JSON payload received. Unknown name "{name}"{at}: Cannot find field.'
        violations.append({"field": path, "description": description} if path else {"description": description})
    message = "\n".join(each["description"] for each in violations)
    details = [{"@type": f"{RPC}BadRequest", "fieldViolations": violations}]
    return _GoogleRefused("invalid_request", 400, message, details)


def no_key() -> Refused:
    """403: the Gemini API without a key.

    Source: https://github.com/PublicAffairs/openai-gemini/issues/92 (read 2026-11-29).
    """
    message = (
        "Method doesn't allow unregistered callers (callers without established identity). Please use API Key or other "
        "form of API consumer identity to call this API."
    )
    return _GoogleRefused("authentication", 403, message)


def wrong_key() -> Refused:
    """400: not the account's key. It is not repeated.

    Source: https://github.com/continuedev/continue/issues/9330 (read 2026-11-29).
    """
    message = "API key not valid. Please pass a valid API key."
    details = [
        _error_info("API_KEY_INVALID", "generativelanguage.googleapis.com"),
        {"@type": f"{RPC}LocalizedMessage", "locale": "en-US", "message": message},
    ]
    return _GoogleRefused("authentication", 400, message, details)


def keyless_project() -> Refused:
    """401: Vertex AI without a token, whether or not there is a key.

    Source: https://github.com/a2aproject/a2a-samples/issues/43 (read 2026-11-29).
    """
    message = (
        "API keys are not supported by this API. Expected OAuth2 access token or other authentication credentials that "
        "assert a principal. See https://cloud.google.com/docs/authentication"
    )
    return _GoogleRefused(
        "authentication", 401, message, [_error_info("CREDENTIALS_MISSING", "aiplatform.googleapis.com")]
    )


def wrong_token() -> Refused:
    """401: a token that is not taken.

    Source: https://github.com/googleapis/java-aiplatform/issues/1056 (the words), googleapis-common-protos 1.76.0,
    google/api/error_reason.proto (ACCESS_TOKEN_EXPIRED) (read 2026-11-29).
    """
    message = (
        "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid "
        "authentication credential. See https://developers.google.com/identity/sign-in/web/devconsole-project."
    )
    return _GoogleRefused(
        "authentication", 401, message, [_error_info("ACCESS_TOKEN_EXPIRED", "aiplatform.googleapis.com")]
    )


def not_found(model: str, method: str, version: str) -> Refused:
    """404: the simulator has the models named simulator-<anything>, and few methods.

    Source: https://github.com/wwardaww/gnome-gemini-ai/issues/22 (read 2026-11-29).
    """
    message = (
        f"models/{model} is not found for API version {version}, or is not supported for {method}. Call ListModels to "
        "see the list of available models and their supported methods. This is batch-llm's simulator: its models are "
        "named simulator-<anything>."
    )
    return _GoogleRefused("model_not_found", 404, message)


def project_model_not_found(place: str) -> Refused:
    """404: as `not_found`, of a project; ``place``: the model's whole name.

    Source: https://github.com/truefoundry/models/pull/946 (read 2026-11-29).
    """
    message = (
        f"Publisher Model `{place}` was not found or your project does not have access to it. This is batch-llm's "
        "simulator: its models are named simulator-<anything>."
    )
    return _GoogleRefused("model_not_found", 404, message)


def as_google(refused: Refused, prompt_tokens: int, config: SimulatorConfig) -> Refused:
    """What another part of the simulator refused, as Google words it.

    Source: https://github.com/google-gemini/gemini-cli/issues/4231 (too long a prompt),
    https://github.com/google-gemini/gemini-cli/issues/5191 (503),
    https://github.com/PublicAffairs/openai-gemini/issues/15 (500) (read 2026-11-29).
    """
    if isinstance(refused, _GoogleRefused):
        return refused
    if refused.status == 429:
        return _out_of_credit() if refused.code == "insufficient_quota" else _over_quota(refused, config)
    message = refused.message
    if refused.reason == "context_length_exceeded":
        message = (
            f"The input token count ({prompt_tokens}) exceeds the maximum number of tokens allowed "
            f"({config.context_tokens})."
        )
    elif refused.status == 503:
        message = "The model is overloaded. Please try again later."
    elif refused.status == 500:
        message = (
            "An internal error has occurred. Please retry or report in "
            "https://developers.generativeai.google/guide/troubleshooting"
        )
    return _GoogleRefused(refused.reason, refused.status, message)


def _over_quota(refused: Refused, config: SimulatorConfig) -> Refused:
    """429: no header, all of it in the details. Beside a day's quota the delay is one of seconds.

    Source: https://github.com/voideditor/void/issues/557 (a day's quota with its value; 5 s),
    https://github.com/google-gemini/gemini-cli/issues/8437 (read 2026-11-29). No recording says what a request gets
    that is larger than its quota: the refusal of any other stands for it.
    """
    name = refused.reason if refused.reason in QUOTAS else "requests_per_minute"
    if refused.reason == "too_large":
        name = "input_tokens_per_minute"
    metric, quota_id = QUOTAS[name]
    wait_ms = int(refused.headers.get("retry-after-ms", MINUTE_MS))
    delay = f"{(wait_ms % MINUTE_MS if name.endswith('_day') else wait_ms) / 1_000:g}s"
    violation: dict[str, Any] = {
        "quotaMetric": f"generativelanguage.googleapis.com/{metric}",
        "quotaId": quota_id,
        "quotaDimensions": {"location": "global", "model": "simulator"},
    }
    limit = None if refused.reason == INJECTED else getattr(config, name)
    if limit is not None:
        violation["quotaValue"] = f"{limit:.0f}"
    link: dict[str, str] = {
        "description": "Learn more about Gemini API quotas",
        "url": "https://ai.google.dev/gemini-api/docs/rate-limits",
    }
    details: list[dict[str, Any]] = [
        {"@type": f"{RPC}QuotaFailure", "violations": [violation]},
        {"@type": f"{RPC}Help", "links": [link]},
        {"@type": f"{RPC}RetryInfo", "retryDelay": delay},
    ]
    message = (
        "You exceeded your current quota, please check your plan and billing details. For more information on this "
        f"error, head to: https://ai.google.dev/gemini-api/docs/rate-limits.\nPlease retry in {delay}."
    )
    return _GoogleRefused(refused.reason, 429, message, details)


def _out_of_credit() -> Refused:
    """429 as well, without details.

    Source: https://github.com/dyad-sh/dyad/issues/3626 (read 2026-11-29).
    """
    message = (
        "Your prepayment credits are depleted. Please go to AI Studio at https://ai.studio/projects to manage your "
        "project and billing."
    )
    return _GoogleRefused("insufficient_quota", 429, message)


def _error_info(reason: str, service: str) -> dict[str, Any]:
    return {
        "@type": f"{RPC}ErrorInfo",
        "reason": reason,
        "domain": "googleapis.com",
        "metadata": {"service": service},
    }
