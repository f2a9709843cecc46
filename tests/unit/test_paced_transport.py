"""The openai SDK behind the limiter: what an error answer tells the limiter, and what the SDK gets to see."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from types import SimpleNamespace
from typing import Any

import httpx2
import openai
import pytest

from batch_llm.paced_client import Opening
from batch_llm.paced_transport import RATE_LIMITED_ATTEMPTS, openai_client
from batch_llm.providers.openai.chat import OpenAIEndpoint

GOOD = (200, {}, {"usage": {"prompt_tokens": 3, "completion_tokens": 4}, "choices": []})


def error(message: str, code: str | None = "rate_limit_exceeded", kind: str = "requests") -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


class Calls:
    """Stands in for `PacedCalls`: answers from a script, and what the limiter was told of each."""

    def __init__(self, *answers: tuple[int, Mapping[str, str], dict[str, Any]]) -> None:
        self.answers = list(answers)
        self.told: list[Any] = []

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Opening]:
        pool = SimpleNamespace(endpoint=OpenAIEndpoint("http://provider.invalid/v1", None))
        self.pool = SimpleNamespace(pool=pool)
        paced: Any = SimpleNamespace(model_name="small", pools=(pool,))
        nothing: Any = None
        async with AsyncExitStack() as stack:
            http = await stack.enter_async_context(httpx2.AsyncClient(transport=httpx2.MockTransport(self.answer)))
            yield Opening(paced, nothing, nothing, stack, http)

    def answer(self, request: httpx2.Request) -> httpx2.Response:
        status, headers, body = self.answers.pop(0)
        return httpx2.Response(status, headers=headers, json=body)

    async def begin(self, opening: Opening, text: str, cap: int | None, not_to: Any = None) -> Any:
        return SimpleNamespace(
            answered=lambda usage, headers: self.told.append("answered"),
            refused=lambda failure, maybe_paid: self.told.append("refused"),
            can_go_elsewhere=lambda failure: False,
            pool=self.pool,
            throttled=lambda retry_after_s, scope: self.told.append((retry_after_s, scope)),
        )


async def ask(calls: Any) -> None:
    messages: Any = [{"role": "user", "content": "Hello"}]
    await openai_client(calls).chat.completions.create(model="small", messages=messages)


@pytest.mark.parametrize(
    ("headers", "body", "told"),
    [
        ({"retry-after": "7"}, error("Rate limit reached on requests per min (RPM)."), (7.0, "requests")),
        ({}, error("Rate limit reached on tokens per min (TPM). Please try again in 1m3s."), (63.0, "tokens")),
        ({}, error("Rate limit reached on requests per day (RPD). Try again in 8.64s."), (8.64, "requests_per_day")),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:09 GMT", "date": "Wed, 21 Oct 2026 07:28:00 GMT"}, {}, (9.0, None)),
    ],
)  # fmt: skip
async def test_a_429_about_a_limit_says_which_and_how_long_and_is_sent_again(
    headers: dict[str, str], body: dict[str, Any], told: tuple[float | None, str | None]
) -> None:
    calls = Calls((429, headers, body), GOOD)
    await ask(calls)
    assert calls.told == [told, "answered"]


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (429, error("You exceeded your current quota.", "insufficient_quota", "insufficient_quota")),
        (429, error("Resource Unavailable", "resource_unavailable")),  # no room now: slower requests would not help
        (429, error("Request too large on tokens per min (TPM): Limit 7000, Requested 12903.", kind="tokens")),
        (503, error("overloaded", None)),
        (400, error("bad", None)),
    ],
)
async def test_every_other_failure_slows_nobody_down_and_is_the_callers(status: int, body: dict[str, Any]) -> None:
    calls = Calls((status, {}, body))
    with pytest.raises(openai.APIStatusError) as caught:
        await ask(calls)
    assert caught.value.status_code == status
    assert calls.told == ["refused"]


async def test_a_429_that_does_not_end_is_the_callers_too() -> None:
    calls = Calls(*[(429, {"retry-after": "1"}, error("Rate limit reached"))] * RATE_LIMITED_ATTEMPTS)
    with pytest.raises(openai.RateLimitError):
        await ask(calls)
    assert calls.told == [(1.0, "requests")] * RATE_LIMITED_ATTEMPTS
