"""The simulator, judged by the vendor's own client: answers, refusals, statistics.

Belongs here: what a user of the real API would notice. Not here: limits and faults (the files beside this one), the
wordings of every bad request and the arithmetic of the limits (tests/unit/simulator).
"""

import asyncio
import json
from typing import Any

import jsonschema_rs
import openai
import pytest

from batch_llm.clock import ManualClock
from tests.contract.simulator_lab import MODEL, Open, ask, collect, messages

TONE = {
    "type": "object",
    "properties": {
        "tone": {"type": "string", "enum": ["hawkish", "neutral", "dovish"]},
        "confidence": {"type": "number", "minimum": 0, "maximum": 1},
        "year": {"type": "integer", "minimum": 1990, "maximum": 2030},
        "certain": {"type": "boolean"},
        "districts": {"type": "array", "items": {"type": "string"}, "minItems": 1},
        "speaker": {
            "type": "object",
            "properties": {"name": {"type": ["string", "null"]}},
            "required": ["name"],
            "additionalProperties": False,
        },
    },
    "required": ["tone", "confidence", "year", "certain", "districts", "speaker"],
    "additionalProperties": False,
}
TONE_FORMAT: Any = {"type": "json_schema", "json_schema": {"name": "tone", "strict": True, "schema": TONE}}


async def test_a_completion_has_text_usage_and_the_model_asked_for(open_simulator: Open) -> None:
    _, client = await open_simulator()
    answer = await ask(client, "x" * 41)
    assert (answer.object, answer.model, answer.choices[0].finish_reason) == ("chat.completion", MODEL, "stop")
    assert answer.choices[0].message.role == "assistant"
    usage = answer.usage
    assert usage.prompt_tokens == 11  # 41 bytes at 4 per token, rounded up
    assert usage.completion_tokens == -(-len(answer.choices[0].message.content) // 4)
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens


async def test_every_answer_carries_a_request_id_of_its_own(open_simulator: Open) -> None:
    _, client = await open_simulator()
    first, second = await ask(client), await ask(client)
    assert first._request_id.startswith("req_")
    assert first._request_id != second._request_id
    with pytest.raises(openai.NotFoundError) as error:
        await ask(client, model="gpt-4.1-mini")
    assert error.value.request_id is not None


async def test_the_same_prompt_has_the_same_answer_and_another_seed_another(open_simulator: Open) -> None:
    _, client = await open_simulator()
    _, other = await open_simulator(seed=1)
    texts = [(await ask(one)).choices[0].message.content for one in (client, client, other)]
    assert texts[0] == texts[1] != texts[2]


async def test_a_structured_answer_obeys_its_schema(open_simulator: Open) -> None:
    _, client = await open_simulator()
    validator = jsonschema_rs.Draft202012Validator(TONE)
    tones = set()
    for row in range(30):
        answer = await ask(client, f"report {row}", response_format=TONE_FORMAT)
        parsed = json.loads(answer.choices[0].message.content)
        validator.validate(parsed)
        tones.add(parsed["tone"])
    assert len(tones) == 3


async def test_json_mode_gives_an_object_and_wants_to_be_asked_for_json(open_simulator: Open) -> None:
    _, client = await open_simulator()
    answer = await ask(client, "Answer as JSON", response_format={"type": "json_object"})
    assert isinstance(json.loads(answer.choices[0].message.content), dict)
    with pytest.raises(openai.BadRequestError, match="must contain the word 'json'"):
        await ask(client, "Answer", response_format={"type": "json_object"})


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
async def test_a_length_limit_cuts_the_answer_and_says_so(open_simulator: Open, name: str) -> None:
    _, client = await open_simulator(answer_tokens_median=100, answer_tokens_sigma=0)
    answer = await ask(client, **{name: 5})
    assert (answer.choices[0].finish_reason, answer.usage.completion_tokens) == ("length", 5)
    assert len(answer.choices[0].message.content) == 20


async def test_a_length_limit_cuts_a_structured_answer_into_invalid_json(open_simulator: Open) -> None:
    _, client = await open_simulator()
    answer = await ask(client, response_format=TONE_FORMAT, max_tokens=5)
    with pytest.raises(json.JSONDecodeError):
        json.loads(answer.choices[0].message.content)


async def test_a_stream_says_the_same_and_ends_with_its_usage_if_asked(open_simulator: Open) -> None:
    _, client = await open_simulator()
    whole = await ask(client)
    chunks = [chunk async for chunk in await ask(client, stream=True, stream_options={"include_usage": True})]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == whole.choices[0].message.content
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]] == [None] * (len(chunks) - 2) + ["stop"]
    assert [chunk.usage for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert (chunks[-1].choices, chunks[-1].usage) == ([], whole.usage)
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    unasked = [chunk async for chunk in await ask(client, stream=True)]
    assert all("usage" in chunk.model_fields_set for chunk in chunks)  # null, and said so
    assert not any("usage" in chunk.model_fields_set for chunk in unasked)
    assert all(chunk.choices for chunk in unasked)


async def test_a_stream_spends_its_time_between_the_chunks(open_simulator: Open) -> None:
    clock = ManualClock()
    _, client = await open_simulator(clock=clock, token_s=1, answer_tokens_median=40, answer_tokens_sigma=0)
    stream = await ask(client, stream=True)
    first = await anext(aiter(stream))
    assert first.choices[0].delta.role == "assistant"
    rest = asyncio.create_task(collect(stream))
    await clock.advance(20)
    assert not rest.done()
    while not rest.done():
        await clock.advance(1)
    assert len(await rest) > 5


async def test_models_are_listed_and_found_by_name(open_simulator: Open) -> None:
    _, client = await open_simulator(models=("simulator/a", "simulator/b"))
    assert [model.id async for model in client.models.list()] == ["simulator/a", "simulator/b"]
    assert (await client.models.retrieve("simulator/anything")).id == "simulator/anything"
    with pytest.raises(openai.NotFoundError):
        await client.models.retrieve("gpt-4.1-mini")


async def test_a_model_that_is_not_the_simulators_is_never_answered(open_simulator: Open) -> None:
    simulator, client = await open_simulator()
    with pytest.raises(openai.NotFoundError) as error:
        await ask(client, model="gpt-4.1-mini")
    assert (error.value.code, error.value.type) == ("model_not_found", "invalid_request_error")
    assert "`gpt-4.1-mini` does not exist or you do not have access to it" in str(error.value)
    assert simulator.stats()["rejected"] == {"model_not_found": 1}


async def test_any_key_will_do_unless_one_is_configured(open_simulator: Open) -> None:
    _, anybody = await open_simulator(key="whatever")
    await ask(anybody)
    _, insider = await open_simulator(key="opensesame", api_key="opensesame")
    await ask(insider)
    simulator, outsider = await open_simulator(key="guess-of-somebody", api_key="opensesame")
    with pytest.raises(openai.AuthenticationError) as error:
        await ask(outsider)
    assert error.value.code == "invalid_api_key"
    assert "guess-of" not in str(error.value)
    assert simulator.stats()["rejected"] == {"authentication": 1}


async def test_no_key_at_all_is_refused(open_simulator: Open) -> None:
    simulator, client = await open_simulator()
    with pytest.raises(openai.AuthenticationError, match="You didn't provide an API key"):
        await ask(client, extra_headers={"Authorization": openai.Omit()})
    assert simulator.stats()["rejected"] == {"authentication": 1}


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        ({"model": MODEL}, "messages", "missing_required_parameter"),
        ({"model": MODEL, "messages": []}, "messages", "empty_array"),
        ({"messages": messages()}, None, None),
        ({"model": MODEL, "messages": messages(), "temperature": 3}, "temperature", "decimal_above_max_value"),
        ({"model": MODEL, "messages": messages(), "max_tokens": 99_999}, "max_tokens", "invalid_value"),
        ({"model": MODEL, "messages": messages(), "nonsense": 1}, "nonsense", "unknown_parameter"),
        (
            {"model": MODEL, "messages": messages(), "response_format": {"type": "xml"}},
            "response_format.type",
            "invalid_value",
        ),
        (
            {
                "model": MODEL,
                "messages": messages(),
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "a", "strict": True, "schema": {"type": "object", "properties": {}}},
                },
            },
            "response_format",
            None,
        ),
        ({"model": MODEL, "messages": messages("x" * 600_000)}, "messages", "context_length_exceeded"),
    ],
)
async def test_a_bad_request_is_a_400_that_names_parameter_and_code(
    open_simulator: Open, body: dict[str, Any], param: str | None, code: str | None
) -> None:
    simulator, client = await open_simulator()
    with pytest.raises(openai.BadRequestError) as error:
        await client.post("/chat/completions", body=body, cast_to=object)
    assert (error.value.param, error.value.code, error.value.type) == (param, code, "invalid_request_error")
    assert simulator.stats()["accepted"] == 0


async def test_a_prompt_paid_twice_shows_in_the_statistics(open_simulator: Open) -> None:
    simulator, client = await open_simulator()
    for text in ("one", "two", "two", "three"):
        await ask(client, text)
    stats = simulator.stats(detail=True)
    assert (stats["accepted"], stats["answered"]) == (4, 4)
    assert stats["duplicates"] == {"answered_twice": 1, "extra_answers": 1, "prompts": 3}
    assert sorted(prompt["answered"] for prompt in stats["prompts"].values()) == [1, 1, 2]


async def test_billed_tokens_are_the_sum_of_all_usages(open_simulator: Open) -> None:
    simulator, client = await open_simulator()
    usages = [(await ask(client, f"row {row}")).usage for row in range(5)]
    stats = simulator.stats()
    assert stats["input_tokens"] == sum(usage.prompt_tokens for usage in usages)
    assert stats["output_tokens"] == sum(usage.completion_tokens for usage in usages)


async def test_an_answer_nobody_waited_for_is_not_counted_as_answered(open_simulator: Open) -> None:
    clock = ManualClock()
    simulator, client = await open_simulator(clock=clock, latency_median_s=60, latency_sigma=0)
    with pytest.raises(openai.APITimeoutError):
        await ask(client, timeout=0.05)
    while simulator.stats()["in_flight"]:
        await asyncio.sleep(0)
    stats = simulator.stats()
    assert (stats["accepted"], stats["answered"], stats["closed_before_answer"]) == (1, 0, 1)
