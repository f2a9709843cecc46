"""Anthropic's messages: what is sent for a request, what an answer says."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest
from aiohttp import web
from pydantic import SecretStr

from batch_llm.errors import ErrorClass, ProviderError
from batch_llm.providers.account import Account
from batch_llm.providers.anthropic.messages import AnthropicProvider
from batch_llm.providers.base import Message, Request, Usage
from batch_llm.providers.structured_output import StructureMode
from tests.local_server import served

MESSAGES = (Message("system", "be brief"), Message("user", "hello"))
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}}, "required": ["n"]}
GOOD = {
    "type": "message",
    "model": "m",
    "content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
    "stop_reason": "end_turn",
    "usage": {
        "input_tokens": 5,
        "output_tokens": 7,
        "cache_creation_input_tokens": 2,
        "cache_read_input_tokens": 3,
        "output_tokens_details": {"thinking_tokens": 4},
    },
}


@asynccontextmanager
async def answering(seen: list[Any], **account: Any) -> AsyncIterator[AnthropicProvider]:
    """A server that answers well and keeps what it was sent."""

    async def answer(request: web.Request) -> web.Response:
        seen.append((request.path, dict(request.headers), await request.json()))
        return web.json_response(GOOD)

    app = web.Application()
    app.router.add_post("/{path:.*}", answer)
    async with (
        served(app) as host,
        AnthropicProvider(Account("p", f"http://{host}", SecretStr("the-key"), **account)) as provider,
    ):
        yield provider


def asked(schema: Any = None, **params: Any) -> Request:
    return Request("r-0-1", "m", MESSAGES, {"max_output_tokens": 9, **params}, schema, attempt=2)


async def test_a_request_has_anthropics_names_and_headers() -> None:
    seen: list[Any] = []
    async with answering(seen) as provider:
        await provider.send(asked(temperature=0.5, top_p=0.9, stop=["x"], reasoning_effort="low"), total_s=5)
    path, headers, body = seen[0]
    assert path == "/v1/messages"
    assert (headers["x-api-key"], headers["anthropic-version"]) == ("the-key", "2023-06-01")
    assert "Authorization" not in headers
    assert body == {
        "model": "m",
        "max_tokens": 9,
        "system": "be brief",
        "messages": [{"role": "user", "content": "hello"}],
        "temperature": 0.5,
        "top_p": 0.9,
        "stop_sequences": ["x"],
        "output_config": {"effort": "low"},
    }


async def test_a_schema_goes_into_the_output_config() -> None:
    seen: list[Any] = []
    async with answering(seen) as provider:
        await provider.send(asked(SCHEMA), total_s=5)
    wanted = seen[0][2]["output_config"]["format"]
    assert wanted["type"] == "json_schema"
    assert wanted["schema"]["additionalProperties"] is False
    assert wanted["schema"]["properties"]["n"] == {"type": "integer", "description": "{minimum: 1}"}


@pytest.mark.parametrize("mode", [StructureMode.JSON_OBJECT, StructureMode.PROMPT])
async def test_in_other_modes_the_schema_is_told_in_words(mode: StructureMode) -> None:
    seen: list[Any] = []
    async with answering(seen, structure=mode) as provider:
        await provider.send(asked(SCHEMA), total_s=5)
    body = seen[0][2]
    assert "output_config" not in body
    assert body["system"].startswith("be brief\n\nAnswer with exactly one JSON object")


async def test_an_attempt_is_named_where_the_file_says_so() -> None:
    seen: list[Any] = []
    async with answering(seen, idempotency_header="Once") as provider:
        await provider.send(asked(), total_s=5)
    assert seen[0][1]["Once"] == "r-0-1-2"


async def test_without_a_cap_nothing_is_sent() -> None:
    seen: list[Any] = []
    async with answering(seen) as provider:
        with pytest.raises(ProviderError, match="max_output_tokens") as error:
            await provider.send(Request("r", "m", MESSAGES, {}, None), total_s=5)
    assert (error.value.error_class, seen) == (ErrorClass.INVALID_REQUEST, [])


READER = AnthropicProvider(Account("p", "http://127.0.0.1", None))


def test_an_answer_is_its_texts_and_its_usage_is_the_whole_bill() -> None:
    found = READER.read(orjson.dumps(GOOD))
    assert (found.text, found.finish_reason, found.model) == ("ab", "stop", "m")
    assert found.usage == Usage(10, 7, cached_input_tokens=3, reasoning_tokens=4)


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("refusal", "refusal"),
        ("tool_use", "other"),
        ("pause_turn", "other"),
        (None, "other"),
    ],
)
def test_each_reason_to_stop_has_its_finish(reason: str | None, finish: str) -> None:
    assert READER.read(orjson.dumps({**GOOD, "stop_reason": reason})).finish_reason == finish


@pytest.mark.parametrize(
    "usage",
    [
        None,
        {},
        {"input_tokens": -1, "output_tokens": 1},
        {"input_tokens": 10**12, "output_tokens": 1},
        {"input_tokens": "5", "output_tokens": 1},
    ],
)
def test_a_usage_that_cannot_be_true_is_none(usage: Any) -> None:
    assert READER.read(orjson.dumps({**GOOD, "usage": usage})).usage is None


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"content": 5}', b'{"content": [{"type": "text"}]}', b"<html>"])
def test_what_is_no_message_is_malformed(body: bytes) -> None:
    with pytest.raises(ProviderError) as error:
        READER.read(body)
    assert (error.value.error_class, error.value.maybe_paid) == (ErrorClass.MALFORMED, True)
