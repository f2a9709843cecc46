"""The same account, spoken to as Anthropic is: the messages API, its refusals and headers.

Belongs here: the way of a request from Anthropic's form to OpenAI's, which the account knows, and of its answer back.
Not here: reading Anthropic's request (anthropic_request.py), how a limit counts (meters.py).
"""

from __future__ import annotations

import hmac
import math
from datetime import timedelta
from typing import Any

import orjson
from aiohttp import web

from batch_llm.simulator.account import Account
from batch_llm.simulator.anthropic_images import count_image
from batch_llm.simulator.anthropic_refusals import missing_version, said_by_anthropic, wrong_key
from batch_llm.simulator.anthropic_request import as_openai
from batch_llm.simulator.bodies import Completed
from batch_llm.simulator.chat import ChatEndpoint
from batch_llm.simulator.dialect import Dialect
from batch_llm.simulator.limits import Gate
from batch_llm.simulator.meters import SLACK
from batch_llm.simulator.refusals import Refused

__all__ = ["AnthropicEndpoint"]

THOUSAND = 1_000.0
STOPS = {"stop": "end_turn", "length": "max_tokens"}


class AnthropicEndpoint:
    """POST /v1/messages of one account."""

    def __init__(self, account: Account) -> None:
        """``account``: whose limits, faults and statistics hold."""
        self._account = account
        self._chat = ChatEndpoint(account, Dialect(headers=self._headers, whole=_message, count_image=count_image))

    async def answer(self, request: web.BaseRequest, request_id: str) -> web.StreamResponse:
        """Answer one request; raises `Refused` for everything that is not a 200."""
        self._check_headers(request)
        raw = await request.read()
        try:
            return await self._chat.answer_body(request, as_openai(raw), request_id)
        except Refused as refused:
            said = said_by_anthropic(refused, request_id)
            said.headers.update(self._headers(self._account.gate, self._account.clock.monotonic()))
            raise said from None

    def _check_headers(self, request: web.BaseRequest) -> None:
        """The key in x-api-key, or as the bearer token that the SDK makes of it; the version of the API.

        Source: https://docs.anthropic.com/en/api/versioning; anthropic 2.14.0, _client.py (a bearer token) (read
        2026-11-28).
        """
        wanted = self._account.config.api_key
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        key = request.headers.get("x-api-key", "") or (token.strip() if scheme.lower() == "bearer" else "")
        if not key or (wanted and not hmac.compare_digest(key.encode(), wanted.get_secret_value().encode())):
            raise wrong_key()
        if not request.headers.get("anthropic-version"):
            raise missing_version()

    def _headers(self, gate: Gate, now_s: float) -> dict[str, str]:
        """What is left of each limit, when it is whole again; tokens in thousands.

        Source: https://docs.anthropic.com/en/api/rate-limits ("rounded to the nearest thousand", RFC 3339),
        https://github.com/whoz-oss/coday/issues/110 (all of them, recorded) (read 2026-11-28).
        """
        headers = {}
        for scope in ("requests", "input_tokens", "output_tokens"):
            left = gate.left(f"{scope}_per_minute", now_s)
            if left is None:
                continue
            name = f"anthropic-ratelimit-{scope.replace('_', '-')}"
            free = math.floor(left.free + SLACK)
            whole_at = self._account.clock.now() + timedelta(seconds=left.reset_s)
            headers[f"{name}-limit"] = f"{left.window:.0f}"
            headers[f"{name}-remaining"] = str(free if scope == "requests" else int(round(free / THOUSAND) * THOUSAND))
            headers[f"{name}-reset"] = whole_at.strftime("%Y-%m-%dT%H:%M:%SZ")
        return headers


def _message(completed: Completed) -> bytes:
    """The message object.

    Source: anthropic 2.14.0, types/message.py, types/usage.py (read 2026-11-28).
    """
    body: dict[str, Any] = {
        "id": completed.completion_id.replace("chatcmpl-", "msg_"),
        "type": "message",
        "role": "assistant",
        "model": completed.model,
        "content": [{"type": "text", "text": completed.answer.text}],
        "stop_reason": STOPS[completed.answer.finish_reason],
        "stop_sequence": None,
    }
    if completed.usage is not None:
        body["usage"] = {
            "input_tokens": completed.usage["prompt_tokens"],
            "output_tokens": completed.usage["completion_tokens"],
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "service_tier": "standard",
        }
    return orjson.dumps(body)
