"""The openai SDK behind the limiter: what an error answer tells the limiter, and what the SDK gets to see."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from types import SimpleNamespace
from typing import Any

import httpx2
import openai
import pytest

from batch_llm.paced_client import Asking, Opening
from batch_llm.paced_transport import RATE_LIMITED_ATTEMPTS, openai_client
from batch_llm.providers.base import Usage
from batch_llm.providers.openai.chat import OpenAIEndpoint
from batch_llm.providers.transport import Signing

GOOD = (200, {}, {"usage": {"prompt_tokens": 3, "completion_tokens": 4}, "choices": []})


def error(message: str, code: str | None = "rate_limit_exceeded", kind: str = "requests") -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


class Calls:
    """Stands in for `PacedCalls`: answers from a script, and what the limiter was told of each."""

    def __init__(self, *answers: tuple[int, Mapping[str, str], dict[str, Any]]) -> None:
        self.answers = list(answers)
        self.signing: Signing | None = None
        self.told: list[Any] = []
        self.asked: list[Asking] = []
        self.bills: list[Any] = []

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Opening]:
        pool = SimpleNamespace(endpoint=OpenAIEndpoint("http://provider.invalid/v1", None, signing=self.signing))
        self.pool = SimpleNamespace(pool=pool)
        paced: Any = SimpleNamespace(model_name="small", pools=(pool,))
        nothing: Any = None
        async with AsyncExitStack() as stack:
            http = await stack.enter_async_context(httpx2.AsyncClient(transport=httpx2.MockTransport(self.answer)))
            yield Opening(paced, nothing, nothing, stack, http)

    def answer(self, request: httpx2.Request) -> httpx2.Response:
        status, headers, body = self.answers.pop(0)
        return httpx2.Response(status, headers=headers, json=body)

    async def begin(self, opening: Opening, asking: Asking, not_to: Any = None) -> Any:
        self.asked.append(asking)
        return SimpleNamespace(
            answered=lambda usage, headers: self.bills.append(usage) or self.told.append("answered"),
            refused=lambda failure, maybe_paid: self.told.append("paid?" if maybe_paid else "refused"),
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


async def test_a_bill_is_read_as_that_of_a_job_is() -> None:
    """Thoughts that are only in the total are billed; a cached prompt is cheaper; nonsense is no bill at all."""
    thoughts = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 2_110}
    cached = {"prompt_tokens": 100, "completion_tokens": 10, "prompt_tokens_details": {"cached_tokens": 64}}
    calls = Calls(*[(200, {}, {"choices": [], "usage": usage}) for usage in (thoughts, cached, {"prompt_tokens": -5})])
    for _ in range(3):
        await ask(calls)
    assert calls.bills == [Usage(100, 2_010, 0, 2_000), Usage(100, 10, 64), None]


async def test_what_is_asked_is_counted_before_it_is_sent() -> None:
    calls = Calls(GOOD)
    form: Any = {"type": "json_schema", "json_schema": {"name": "answer", "schema": {"properties": {"colour": {}}}}}
    content: Any = [{"type": "text", "text": "Hello"}, {"type": "image_url", "image_url": {"url": "https://h/i.png"}}]
    await openai_client(calls).chat.completions.create(  # type: ignore[arg-type]
        model="small", messages=[{"role": "user", "content": content}], n=8, max_completion_tokens=1_000,
        response_format=form,
    )  # fmt: skip
    (asked,) = calls.asked
    assert (asked.max_output_tokens, asked.answers, asked.unbounded) == (1_000, 8, None)
    assert "Hello" in asked.text
    assert "colour" in asked.text
    assert "https://h/i.png" not in asked.text
    assert asked.image_tokens == 10_077


async def test_each_attempt_is_signed_after_it_has_waited_for_the_limit() -> None:
    calls = Calls((429, {}, error("Rate limit reached")), GOOD)
    signed_after: list[int] = []

    async def sign() -> Mapping[str, str]:
        signed_after.append(len(calls.asked))
        return {"Authorization": "Bearer fresh"}

    calls.signing = sign
    await ask(calls)
    assert signed_after == [1, 2]


async def test_a_call_that_is_given_up_while_it_signs_in_was_not_sent() -> None:
    calls = Calls()
    calls.signing = asyncio.Event().wait  # type: ignore[assignment]  never
    call = asyncio.create_task(ask(calls))
    while not calls.asked:
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert calls.told == ["refused"]
