"""What Azure OpenAI answers instead of a completion: status, its own error body, headers.

Belongs here: wordings and codes, each with its source. Not here: deciding that something is refused (azure.py), what it
words as OpenAI does (refusals.py).
"""

from __future__ import annotations

from typing import Any

import orjson

from batch_llm.simulator.refusals import Refused, bad_request

__all__ = [
    "content_filter",
    "deployment_not_found",
    "no_token",
    "over_limit",
    "resource_not_found",
    "unrecognized",
    "wrong_key",
]

LONGEST_S = 86_400  # no longer wait was ever seen in a 429


class _AzureRefused(Refused):
    """Azure's error object is shorter than OpenAI's; some have parts of their own."""

    def __init__(self, reason: str, status: int, code: str, message: str) -> None:
        super().__init__(reason, status, message)
        self.code = code
        self.more: dict[str, Any] = {}

    def body(self) -> bytes:
        """Source: the bodies quoted at the functions below."""
        return orjson.dumps({"error": {"code": self.code, "message": self.message, **self.more}})


class _GatewayRefused(Refused):
    """Some refusals come from the gateway before the service, which has another form."""

    def body(self) -> bytes:
        """Source: as `no_token`."""
        return orjson.dumps({"statusCode": self.status, "message": self.message})


def no_token() -> Refused:
    """401: no key, no bearer token; or a key where only a token can stand.

    Source: https://github.com/run-llama/llama_index/issues/12484,
    https://github.com/Azure-Samples/azure-search-openai-demo/issues/458 (read 2026-11-28).
    """
    message = (
        "Unauthorized. Access token is missing, invalid, audience is incorrect (https://cognitiveservices.azure.com), "
        "or have expired."
    )
    return _GatewayRefused("authentication", 401, message)


def wrong_key() -> Refused:
    """401: not the account's key. It is not repeated.

    Source: https://github.com/SciSharp/BotSharp/issues/386 (read 2026-11-28).
    """
    message = (
        "Access denied due to invalid subscription key or wrong API endpoint. Make sure to provide a valid key for an "
        "active subscription and use a correct regional API endpoint for your resource."
    )
    return _AzureRefused("authentication", 401, "401", message)


def resource_not_found() -> Refused:
    """404: no such address.

    Source: https://github.com/ThinkInAIXYZ/deepchat/issues/262 (read 2026-11-28).
    """
    return _AzureRefused("unknown_url", 404, "404", "Resource not found")


def deployment_not_found() -> Refused:
    """404: the account has no such deployment; the simulator has those named simulator-<anything>.

    Source: https://github.com/Azure-Samples/azure-search-openai-demo-csharp/issues/379 (read 2026-11-28).
    """
    message = (
        "The API deployment for this resource does not exist. If you created the deployment within the last 5 minutes, "
        "please wait a moment and try again. This is batch-llm's simulator: its deployments are named "
        "simulator-<anything>."
    )
    return _AzureRefused("model_not_found", 404, "DeploymentNotFound", message)


def unrecognized(name: str) -> Refused:
    """400: the api-version does not know the parameter.

    Source: https://github.com/openai/openai-python/issues/1724 (max_completion_tokens, 2024-08-01-preview) (read
    2026-11-28).
    """
    return bad_request(f"Unrecognized request argument supplied: {name}", None, None)


def content_filter() -> Refused:
    """400: the filter stopped the prompt.

    Source: https://github.com/openai/openai-dotnet/issues/55, https://github.com/compl-ai/compl-ai/issues/20 (read
    2026-11-28).
    """
    message = (
        "The response was filtered due to the prompt triggering Azure OpenAI's content management policy. Please "
        "modify your prompt and retry. To learn more about our content filtering policies please read our "
        "documentation: https://go.microsoft.com/fwlink/?linkid=2198766"
    )
    refused = _AzureRefused("content_filter", 400, "content_filter", message)
    verdict: dict[str, Any] = {key: {"filtered": False, "severity": "safe"} for key in ("hate", "self_harm", "sexual")}
    verdict["violence"] = {"filtered": True, "severity": "high"}
    refused.more = {
        "type": None,
        "param": "prompt",
        "status": 400,
        "innererror": {"code": "ResponsibleAIPolicyViolation", "content_filter_result": verdict},
    }
    return refused


def over_limit(refused: Refused, operation: str, version: str) -> Refused:
    """429: ``refused``, as Azure words it.

    Source: https://github.com/microsoft/action-python/issues/12 (call rate limit),
    https://github.com/jasonacox/TinyLLM/issues/17 (token rate limit; 86400 seconds); the headers retry-after and
    retry-after-ms: openai 3.54.0, _base_client.py (read 2026-11-28). No recording says what a request gets that is
    larger than its limit: the longest wait that was seen stands for it.
    """
    counted = "token" if refused.kind == "tokens" else "call"
    wait_s = refused.headers.get("retry-after", str(LONGEST_S))
    message = (
        f"Requests to the {operation} Operation under Azure OpenAI API version {version} have exceeded {counted} rate "
        f"limit of your current OpenAI S0 pricing tier. Please retry after {wait_s} seconds. Please go here: "
        "https://aka.ms/oai/quotaincrease if you would like to further increase the default rate limit."
    )
    said = _AzureRefused(refused.reason, 429, "429", message)
    said.headers["retry-after"] = wait_s
    said.headers["retry-after-ms"] = refused.headers.get("retry-after-ms", f"{wait_s}000")
    return said
