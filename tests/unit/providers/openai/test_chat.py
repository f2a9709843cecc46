"""What an endpoint's answers mean: a real server on a free port says them, one after the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import orjson
import pytest
from aiohttp import web
from pydantic import SecretStr

from batch_llm.errors import AuthenticationFailed, ErrorClass, ProviderError, QuotaExhausted
from batch_llm.providers.base import Message, Request, Usage
from batch_llm.providers.openai.chat import OpenAIChatProvider, OpenAIEndpoint
from batch_llm.providers.structured_output import StructureMode, instructions
from tests.local_server import served

KEY = "planted-key-0123456789"
REQUEST = Request("r-0-1", "small", (Message("user", "hi"),), {"temperature": 0, "max_output_tokens": 9}, None)
GOOD = {
    "model": "small-2026",
    "choices": [{"message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def answering(handler: Handler, **endpoint: Any) -> AsyncIterator[OpenAIChatProvider]:
    app = web.Application()
    app.router.add_post("/v1/chat/completions", handler)
    async with served(app, shutdown_s=0.1) as host:
        where = OpenAIEndpoint(f"http://{host}/v1", SecretStr(KEY), **endpoint)
        async with OpenAIChatProvider("simulator", where) as provider:
            yield provider


def error(
    status: int, code: str | None, message: str, *, kind: str = "", headers: dict[str, str] | None = None
) -> Handler:
    async def handler(request: web.Request) -> web.Response:
        body = {"error": {"code": code, "type": kind, "message": message, "param": None}}
        return web.json_response(body, status=status, headers=headers)

    return handler


async def test_a_request_is_written_as_the_api_documents() -> None:
    """Model, messages, parameters by their wire names, strict schema, the key as a bearer."""
    seen: dict[str, Any] = {}

    async def handler(request: web.Request) -> web.Response:
        seen.update(await request.json(), authorization=request.headers["Authorization"])
        return web.json_response(GOOD)

    asked = replace(REQUEST, json_schema={"type": "object"})
    async with answering(handler, cap_parameter="max_tokens", model_prefix="simulator/") as provider:
        raw = await provider.send(asked, total_s=5)
    assert seen.pop("authorization") == f"Bearer {KEY}"
    assert seen == {
        "model": "simulator/small",
        "messages": [{"role": "user", "content": "hi"}],
        "temperature": 0,
        "max_tokens": 9,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "answer", "strict": True, "schema": {"type": "object"}},
        },
    }
    assert orjson.loads(raw.body) == GOOD
    completion = provider.read(raw.body)
    assert (completion.text, completion.finish_reason, completion.model) == ("hello", "stop", "small-2026")
    assert completion.usage is not None and (completion.usage.input_tokens, completion.usage.output_tokens) == (3, 2)


@pytest.mark.parametrize(
    ("handler", "expected"),
    [
        (error(429, "rate_limit_exceeded", "slow down", kind="requests"), ErrorClass.RATE_LIMITED),
        (
            error(429, "rate_limit_exceeded", "Request too large for small: Limit 10", kind="tokens"),
            ErrorClass.TOO_LARGE,
        ),
        (error(503, None, "busy"), ErrorClass.OVERLOADED),
        (error(529, None, "busy"), ErrorClass.OVERLOADED),
        (error(500, None, "oops"), ErrorClass.SERVER_ERROR),
        (error(502, None, "oops"), ErrorClass.SERVER_ERROR),
        (error(408, None, "slow"), ErrorClass.SERVER_ERROR),
        (error(400, "context_length_exceeded", "too long"), ErrorClass.TOO_LARGE),
        (error(413, None, "too long"), ErrorClass.TOO_LARGE),
        (error(400, "content_filter", "no"), ErrorClass.CONTENT_FILTER),
        (
            error(
                400,
                "invalid_prompt",
                "Invalid prompt: your prompt was flagged as potentially violating our usage policy.",
            ),
            ErrorClass.CONTENT_FILTER,
        ),
        (error(400, "invalid_prompt", "Invalid prompt: it is no text."), ErrorClass.INVALID_REQUEST),
        (error(400, "invalid_value", "no"), ErrorClass.INVALID_REQUEST),
    ],
)
async def test_a_refusal_is_classed_by_status_and_code(handler: Handler, expected: ErrorClass) -> None:
    """None of these was billed."""
    async with answering(handler) as provider:
        with pytest.raises(ProviderError) as caught:
            await provider.send(REQUEST, total_s=5)
    assert caught.value.error_class is expected
    assert not caught.value.maybe_paid


@pytest.mark.parametrize(
    ("handler", "expected"),
    [
        (error(429, "insufficient_quota", "no credit", kind="insufficient_quota"), QuotaExhausted),
        (error(402, None, "pay"), QuotaExhausted),
        (error(401, "invalid_api_key", f"Incorrect API key provided: {KEY}"), AuthenticationFailed),
        (error(403, None, "no"), AuthenticationFailed),
        (error(404, "model_not_found", "no"), AuthenticationFailed),
    ],
)
async def test_what_no_other_row_would_survive_stops_the_run(handler: Handler, expected: type[Exception]) -> None:
    """And the key that a provider quotes back is never repeated."""
    async with answering(handler) as provider:
        with pytest.raises(expected) as caught:
            await provider.send(REQUEST, total_s=5)
    assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "7", "retry-after-ms": "250"}, 0.25),
        ({"retry-after": "soon"}, None),
    ],
)
async def test_how_long_to_wait_is_read_from_the_headers(headers: dict[str, str], expected: float | None) -> None:
    """Milliseconds win; nonsense is no answer."""
    async with answering(error(429, "rate_limit_exceeded", "x", kind="tokens", headers=headers)) as provider:
        with pytest.raises(ProviderError) as caught:
            await provider.send(REQUEST, total_s=5)
    assert caught.value.retry_after_s == expected
    assert caught.value.scope == "tokens"


async def test_a_hung_call_ends_as_a_timeout_that_may_be_billed() -> None:
    """The budget must count it."""

    async def handler(request: web.Request) -> web.Response:
        await asyncio.Event().wait()
        raise AssertionError

    async with answering(handler) as provider:
        with pytest.raises(ProviderError) as caught:
            await provider.send(REQUEST, total_s=0.2)
    assert (caught.value.error_class, caught.value.maybe_paid) == (ErrorClass.TIMEOUT, True)


async def test_a_connection_cut_in_the_body_may_be_billed() -> None:
    """Half an answer is no answer, and its outcome is unknown."""

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b'{"choices": [')
        assert request.transport is not None
        request.transport.abort()
        return response

    async with answering(handler) as provider:
        with pytest.raises(ProviderError) as caught:
            await provider.send(REQUEST, total_s=5)
    assert (caught.value.error_class, caught.value.maybe_paid) == (ErrorClass.CONNECTION, True)


@pytest.mark.parametrize(
    ("mode", "form"), [(StructureMode.JSON_OBJECT, {"type": "json_object"}), (StructureMode.PROMPT, None)]
)
async def test_an_endpoint_that_takes_no_schema_is_told_in_words(mode: StructureMode, form: Any) -> None:
    seen: dict[str, Any] = {}

    async def handler(request: web.Request) -> web.Response:
        seen.update(await request.json())
        return web.json_response(GOOD)

    schema = {"type": "object"}
    async with answering(handler, structure=mode) as provider:
        await provider.send(replace(REQUEST, json_schema=schema), total_s=5)
    assert seen.get("response_format") == form
    words = {"role": "system", "content": instructions(schema)}
    assert seen["messages"] == [words, {"role": "user", "content": "hi"}]


async def test_an_attempt_is_named_where_the_endpoint_wants_it_and_nowhere_else() -> None:
    """The same attempt has the same name, another one another."""
    seen: list[str | None] = []

    async def handler(request: web.Request) -> web.Response:
        seen.append(request.headers.get("Idempotency-Key"))
        return web.json_response(GOOD)

    for header in (None, "Idempotency-Key"):
        async with answering(handler, idempotency_header=header) as provider:
            for attempt in (1, 1, 2):
                await provider.send(replace(REQUEST, attempt=attempt), total_s=5)
    assert seen == [None] * 3 + ["r-0-1-1", "r-0-1-1", "r-0-1-2"]


async def test_a_closed_port_cannot_have_billed_anything(unused_tcp_port: int) -> None:
    """Nothing was sent."""
    async with OpenAIChatProvider("p", OpenAIEndpoint(f"http://127.0.0.1:{unused_tcp_port}/v1", None)) as provider:
        with pytest.raises(ProviderError) as caught:
            await provider.send(REQUEST, total_s=5)
    assert (caught.value.error_class, caught.value.maybe_paid) == (ErrorClass.CONNECTION, False)


@pytest.mark.parametrize("body", [b"", b"not json", b"[]", b'{"choices": []}', b'{"choices": [{}]}', b'{"choices": 3}'])
def test_a_body_that_is_no_chat_completion_is_malformed(body: bytes) -> None:
    """Never a KeyError."""
    provider = OpenAIChatProvider("p", OpenAIEndpoint("http://127.0.0.1/v1", None))
    with pytest.raises(ProviderError) as caught:
        provider.read(body)
    assert caught.value.error_class is ErrorClass.MALFORMED


@pytest.mark.parametrize(
    "usage",
    [
        None,
        {},
        {"prompt_tokens": -1, "completion_tokens": 2},
        {"prompt_tokens": 3, "completion_tokens": 10**9},
        {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 4},
        {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 10**9},
        {
            "prompt_tokens": 3,
            "completion_tokens": 2,
            "total_tokens": 77,
            "completion_tokens_details": {"reasoning_tokens": 5},
        },
        {"prompt_tokens": "3", "completion_tokens": 2},
    ],
)
def test_a_usage_that_cannot_be_true_is_unknown(usage: Any) -> None:
    """Unknown, not zero: the row's tokens and cost become NULL."""
    provider = OpenAIChatProvider("p", OpenAIEndpoint("http://127.0.0.1/v1", None))
    assert provider.read(orjson.dumps({**GOOD, "usage": usage})).usage is None


@pytest.mark.parametrize("details", [{}, {"completion_tokens_details": {"reasoning_tokens": 386}}])
def test_thoughts_that_only_the_total_counts_are_billed_as_output(details: dict[str, Any]) -> None:
    """As xAI states them, with details, and Gemini's endpoint for OpenAI's formats, without."""
    provider = OpenAIChatProvider("p", OpenAIEndpoint("http://127.0.0.1/v1", None))
    usage = {"prompt_tokens": 12, "completion_tokens": 1, "total_tokens": 399, **details}
    assert provider.read(orjson.dumps({**GOOD, "usage": usage})).usage == Usage(12, 387, reasoning_tokens=386)


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({"message": {"content": "x"}, "finish_reason": "length"}, "length"),
        ({"message": {"content": "x"}, "finish_reason": "content_filter"}, "content_filter"),
        ({"message": {"content": None, "refusal": "no"}, "finish_reason": "stop"}, "refusal"),
        ({"message": {"content": "x"}, "finish_reason": "tool_calls"}, "other"),
    ],
)
def test_why_an_answer_ended_is_told(choice: dict[str, Any], expected: str) -> None:
    """Only `stop` can be good."""
    provider = OpenAIChatProvider("p", OpenAIEndpoint("http://127.0.0.1/v1", None))
    assert provider.read(orjson.dumps({**GOOD, "choices": [choice]})).finish_reason == expected
