"""The simulator as Anthropic, judged by the vendor's own client."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import anthropic
import orjson
import pytest

from batch_llm.clock import ManualClock
from batch_llm.simulator import Simulator, SimulatorConfig
from tests.contract.simulator_lab import messages

Open = Callable[..., Awaitable[tuple[Simulator, anthropic.AsyncAnthropic]]]
ANSWER = {
    "type": "object",
    "properties": {"tone": {"enum": ["calm", "tense"]}, "score": {"type": "integer"}},
    "required": ["tone", "score"],
    "additionalProperties": False,
}


@pytest.fixture
async def open_simulator() -> AsyncIterator[Open]:
    """Opens simulators with the SDK's client, which does not retry."""
    async with AsyncExitStack() as stack:

        async def opened(
            *, clock: ManualClock | None = None, key: str = "key", **config: Any
        ) -> tuple[Simulator, anthropic.AsyncAnthropic]:
            simulator = await stack.enter_async_context(Simulator(SimulatorConfig(**config), clock=clock))
            client = anthropic.AsyncAnthropic(api_key=key, base_url=simulator.origin, max_retries=0)
            return simulator, await stack.enter_async_context(client)

        yield opened


async def ask(client: anthropic.AsyncAnthropic, text: str = "hello", **params: Any) -> Any:
    return await client.messages.create(
        **{"model": "simulator/small", "max_tokens": 1_000, "messages": messages(text), **params}
    )


async def refused(client: anthropic.AsyncAnthropic, text: str = "hello", **params: Any) -> tuple[int, str, str]:
    """Status, type and message."""
    with pytest.raises(anthropic.APIStatusError) as error:
        await ask(client, text, **params)
    body: Any = error.value.body
    assert body["type"] == "error" and set(body) == {"type", "error", "request_id"}
    return error.value.status_code, body["error"]["type"], body["error"]["message"]


async def test_a_message_has_text_a_reason_and_a_usage(open_simulator: Open) -> None:
    simulator, client = await open_simulator(answer_tokens_median=10, answer_tokens_sigma=0)
    message = await ask(client, "one two three four", system="be brief")
    assert (message.type, message.role, message.model) == ("message", "assistant", "simulator/small")
    assert message.content[0].type == "text" and message.content[0].text.startswith("[simulated")
    assert message.stop_reason == "end_turn"
    assert (message.usage.input_tokens, message.usage.output_tokens) == (7, 10)  # 18 + 8 characters
    assert simulator.stats()["answered"] == 1
    cut = await ask(client, "one two three four", max_tokens=3)
    assert (cut.stop_reason, cut.usage.output_tokens) == ("max_tokens", 3)


async def test_a_stop_sequence_ends_the_text(open_simulator: Open) -> None:
    _, client = await open_simulator()
    whole = (await ask(client)).content[0].text
    assert (await ask(client, stop_sequences=[whole[20:25]])).content[0].text == whole[:20]


async def test_an_answer_keeps_to_its_schema(open_simulator: Open) -> None:
    _, client = await open_simulator()
    message = await ask(client, output_config={"format": {"type": "json_schema", "schema": ANSWER}, "effort": "low"})
    answer = orjson.loads(message.content[0].text)
    assert answer["tone"] in ("calm", "tense") and isinstance(answer["score"], int)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"score": {"type": "integer", "minimum": 1}}, "For 'integer' type, property 'minimum' is not supported"),
        ({"tone": {"type": "string", "maxLength": 9}}, "For 'string' type, property 'maxLength' is not supported"),
        (
            {"tone": {"type": "array", "items": {"type": "string"}, "minItems": 8}},
            "For 'array' type, 'minItems' values other than 0 or 1 are not supported",
        ),
        ({"tone": {"type": "object", "properties": {}}}, "'additionalProperties' must be explicitly set to false"),
    ],
)
async def test_a_schema_with_more_than_it_compiles_is_refused(
    open_simulator: Open, changes: dict[str, Any], said: str
) -> None:
    _, client = await open_simulator()
    schema = {**ANSWER, "properties": {**ANSWER["properties"], **changes}}  # type: ignore[dict-item]
    status, kind, message = await refused(client, output_config={"format": {"type": "json_schema", "schema": schema}})
    assert (status, kind) == (400, "invalid_request_error")
    assert message == f"output_config.format.schema: {said}" or said in message


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ({"response_format": {}}, "response_format: Extra inputs are not permitted"),
        ({"seed": 1}, "seed: Extra inputs are not permitted"),
        ({"temperature": 1.5}, "temperature: range: 0..1"),
        ({"tools": []}, "batch-llm's simulator does not imitate 'tools'."),
        ({"output_config": {"effort": "minimal"}}, "output_config.effort: Input should be one of low, medium"),
        ({"max_tokens": 100_000}, "max_tokens is too large: 100000."),
    ],
)
async def test_what_the_api_does_not_take_is_refused_by_name(
    open_simulator: Open, extra: dict[str, Any], said: str
) -> None:
    _, client = await open_simulator()
    status, kind, message = await refused(client, extra_body=extra)
    assert (status, kind) == (400, "invalid_request_error")
    assert said in message


@pytest.mark.parametrize("name", ["max_tokens", "messages", "model"])
async def test_a_field_that_is_missing_is_named(open_simulator: Open, name: str) -> None:
    _, client = await open_simulator()
    body = {"model": "simulator/small", "max_tokens": 10, "messages": messages()}
    body.pop(name)
    with pytest.raises(anthropic.BadRequestError, match=f"{name}: Field required"):
        await client.post("/v1/messages", body=body, cast_to=object)


async def test_the_system_prompt_is_no_message(open_simulator: Open) -> None:
    _, client = await open_simulator()
    told: Any = [{"role": "system", "content": "be brief"}, *messages()]
    status, _, message = await refused(client, messages=told)
    assert (status, message) == (400, "messages.0.role: Input should be 'user' or 'assistant'")


async def test_only_the_accounts_key_is_taken(open_simulator: Open) -> None:
    _, client = await open_simulator(key="wrong-key-0123456789", api_key="right-key")
    with pytest.raises(anthropic.AuthenticationError) as error:
        await ask(client)
    body: Any = error.value.body
    assert body["error"] == {"type": "authentication_error", "message": "invalid x-api-key"}
    await ask(client.with_options(api_key="right-key"))
    await ask(client, extra_headers={"Authorization": "", "x-api-key": "right-key"})  # as it was documented at first


async def test_the_version_header_is_required(open_simulator: Open) -> None:
    _, client = await open_simulator()
    with pytest.raises(anthropic.BadRequestError, match="anthropic-version: header is required"):
        await ask(client, extra_headers={"anthropic-version": ""})


async def test_an_unknown_model_is_not_found(open_simulator: Open) -> None:
    _, client = await open_simulator()
    status, kind, _ = await refused(client, model="claude-nobody")
    assert (status, kind) == (404, "not_found_error")


async def test_a_prompt_longer_than_the_model_reads(open_simulator: Open) -> None:
    _, client = await open_simulator(context_tokens=50)
    status, _, message = await refused(client, "x" * 400, max_tokens=5)
    assert (status, message) == (400, "prompt is too long: 100 tokens > 50 maximum")


async def test_overload_has_a_status_of_its_own_and_no_fault_of_ours_is_an_api_error(open_simulator: Open) -> None:
    _, client = await open_simulator(faults={"overloaded": 1})
    with pytest.raises(anthropic.OverloadedError):
        await ask(client)
    assert (await refused(client))[:2] == (529, "overloaded_error")
    _, client = await open_simulator(faults={"server_error": 1})
    assert (await refused(client))[:2] == (500, "api_error")


async def test_used_up_credit_is_told_as_an_invalid_request(open_simulator: Open) -> None:
    _, client = await open_simulator(quota_requests=0)
    status, kind, message = await refused(client)
    assert (status, kind) == (400, "invalid_request_error")
    assert "credit balance is too low" in message


async def test_each_limit_has_its_headers_and_input_and_output_are_counted_apart(open_simulator: Open) -> None:
    clock = ManualClock()
    _, client = await open_simulator(
        clock=clock,
        requests_per_minute=60,
        input_tokens_per_minute=6_000,
        output_tokens_per_minute=12_000,
        burst_s=60,
        debit="input_plus_max_tokens_then_corrected",
        answer_tokens_median=10,
        answer_tokens_sigma=0,
    )
    raw = await client.messages.with_raw_response.create(
        model="simulator/small", max_tokens=4_000, messages=messages("x" * 12_400)
    )
    told = {name: raw.headers[f"anthropic-ratelimit-{name}"] for name in (
        "requests-limit", "requests-remaining", "input-tokens-limit", "input-tokens-remaining",
        "output-tokens-limit", "output-tokens-remaining",
    )}  # fmt: skip
    assert list(told.values()) == ["60", "59", "6000", "3000", "12000", "8000"]
    begins = clock.now().strftime("%Y-%m-%dT%H:%M")
    assert raw.headers["anthropic-ratelimit-input-tokens-reset"] == f"{begins}:31Z"  # 3,100 at 100 a second
    assert "anthropic-ratelimit-tokens-limit" not in raw.headers
    await ask(client, "x" * 11_000, max_tokens=10_000)  # the output of the first was corrected to 10
    status, kind, message = await refused(client, "x" * 12_000)
    assert (status, kind) == (429, "rate_limit_error")
    assert "input tokens per minute" in message


async def test_a_429_says_how_many_seconds_and_no_milliseconds(open_simulator: Open) -> None:
    _, client = await open_simulator(clock=ManualClock(), requests_per_minute=60, window_s=60)
    for _ in range(60):
        await ask(client)
    with pytest.raises(anthropic.RateLimitError) as error:
        await ask(client)
    headers = error.value.response.headers
    assert (headers["retry-after"], headers["anthropic-ratelimit-requests-remaining"]) == ("60", "0")
    assert "retry-after-ms" not in headers
