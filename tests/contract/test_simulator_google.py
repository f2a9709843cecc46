"""The simulator as the Gemini API and as Vertex AI, judged by Google's own client for both."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import numpy as np
import openai
import pytest
from google.genai import Client
from google.genai.errors import APIError, ClientError, ServerError
from google.genai.types import EmbedContentConfig, GenerateContentConfig, HttpOptions, ThinkingConfig
from google.oauth2.credentials import Credentials

from batch_llm.clock import ManualClock
from batch_llm.simulator import Simulator, SimulatorConfig
from batch_llm.simulator.vectors import unit_vector
from tests.contract.simulator_lab import messages

pytestmark = pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning")
MODEL = "simulator-small"
SCHEMA = {"type": "object", "properties": {"tone": {"enum": ["calm", "tense"]}}, "required": ["tone"]}
Open = Callable[..., Awaitable[tuple[Simulator, Any]]]


@pytest.fixture
async def open_simulator() -> AsyncIterator[Open]:
    """Opens simulators with google-genai's client, which does not retry; ``token``: as Vertex AI's."""
    async with AsyncExitStack() as stack:

        async def opened(
            *,
            clock: ManualClock | None = None,
            key: str = "key",
            token: str | None = None,
            version: str | None = None,
            **config: Any,
        ) -> tuple[Simulator, Any]:
            simulator = await stack.enter_async_context(Simulator(SimulatorConfig(**config), clock=clock))
            options = HttpOptions(base_url=simulator.origin, api_version=version)
            if token is None:
                client = Client(api_key=key, http_options=options)
            else:
                client = Client(
                    enterprise=True,
                    project="my-project",
                    location="us-central1",
                    credentials=Credentials(token),  # type: ignore[no-untyped-call]
                    http_options=options,
                )
            stack.push_async_callback(client.aio.aclose)
            stack.callback(client.close)
            return simulator, client.aio.models

        yield opened


async def ask(models: Any, text: Any = "hello", model: str = MODEL, **config: Any) -> Any:
    return await models.generate_content(model=model, contents=text, config=GenerateContentConfig(**config))


async def refused(models: Any, kind: type[APIError] = ClientError, **asked: Any) -> Any:
    """The error that a question gets."""
    with pytest.raises(kind) as error:
        await ask(models, **asked)
    return error.value


async def posted(simulator: Simulator, body: Any, path: str = f"/v1beta/models/{MODEL}:generateContent") -> Any:
    """What a body gets that google-genai would not send."""
    async with (
        aiohttp.ClientSession(headers={"x-goog-api-key": "key"}) as session,
        session.post(simulator.origin + path, json=body) as response,
    ):
        return response.status, (await response.json())["error"]


def details_of(error: Any) -> dict[str, Any]:
    """The details of an error by the last part of their type."""
    return {each["@type"].rpartition(".")[2]: each for each in error.details["error"]["details"]}


@pytest.mark.parametrize("version", ["v1", "v1beta"])
async def test_the_gemini_api_answers_a_model_in_its_address(open_simulator: Open, version: str) -> None:
    simulator, models = await open_simulator(version=version)
    answer = await ask(models)
    assert answer.text.startswith("[simulated")
    assert (answer.candidates[0].finish_reason.name, answer.model_version) == ("STOP", "simulator/small")
    usage = answer.usage_metadata
    assert usage.total_token_count == usage.prompt_token_count + usage.candidates_token_count
    assert (usage.prompt_token_count, usage.prompt_tokens_details[0].token_count) == (2, 2)
    assert simulator.stats()["accepted"] == 1


@pytest.mark.parametrize("version", ["v1", "v1beta1"])
async def test_vertex_ai_answers_below_a_project_to_a_token(open_simulator: Open, version: str) -> None:
    simulator, models = await open_simulator(token="a token of Google Cloud", version=version)
    assert (await ask(models)).text.startswith("[simulated")
    assert simulator.stats()["accepted"] == 1


async def test_the_same_question_has_the_same_answer_in_both_dialects(open_simulator: Open) -> None:
    simulator, models = await open_simulator()
    said = await ask(models, "hello", system_instruction="be brief", seed=3)
    async with openai.AsyncOpenAI(api_key="any", base_url=simulator.base_url, max_retries=0) as plain:
        asked: Any = [{"role": "system", "content": "be brief"}, *messages("hello")]
        told = await plain.chat.completions.create(model="simulator/small", messages=asked, seed=3)
    assert said.text == told.choices[0].message.content


async def test_only_the_accounts_key_is_taken_and_it_is_not_repeated(open_simulator: Open) -> None:
    _, models = await open_simulator(api_key="right-key-0123456789", key="wrong-key-0123456789")
    error = await refused(models)
    assert (error.code, error.status) == (400, "INVALID_ARGUMENT")
    assert error.message == "API key not valid. Please pass a valid API key."
    assert details_of(error)["ErrorInfo"]["reason"] == "API_KEY_INVALID"
    assert "wrong-key" not in str(error)
    _, models = await open_simulator(api_key="right-key-0123456789", key="right-key-0123456789")
    await ask(models)


async def test_a_request_without_a_key_is_nobodys_even_if_one_is_in_its_address(open_simulator: Open) -> None:
    simulator, _ = await open_simulator()
    url = f"{simulator.origin}/v1beta/models/{MODEL}:generateContent?key=key"
    async with aiohttp.ClientSession() as session, session.post(url, json={}) as response:
        error = (await response.json())["error"]
    assert (error["code"], error["status"]) == (403, "PERMISSION_DENIED")
    assert "unregistered callers" in error["message"]


async def test_a_project_takes_no_key_and_only_the_accounts_token(open_simulator: Open) -> None:
    simulator, _ = await open_simulator()
    path = f"/v1/projects/p/locations/global/publishers/google/models/{MODEL}:generateContent"
    status, error = await posted(simulator, {}, path)
    assert (status, error["status"]) == (401, "UNAUTHENTICATED")
    assert error["details"][0]["reason"] == "CREDENTIALS_MISSING"
    _, models = await open_simulator(token="another", api_key="right")
    wrong = await refused(models)
    assert (wrong.code, wrong.status) == (401, "UNAUTHENTICATED")
    assert details_of(wrong)["ErrorInfo"]["reason"] == "ACCESS_TOKEN_EXPIRED"


@pytest.mark.parametrize("name", ["gemini-2.5-flash", "simulator-"])
async def test_a_model_that_does_not_exist_is_not_found(open_simulator: Open, name: str) -> None:
    _, models = await open_simulator(version="v1beta")
    error = await refused(models, model=name)
    assert (error.code, error.status) == (404, "NOT_FOUND")
    assert error.message.startswith(f"models/{name} is not found for API version v1beta, or is not supported for gen")
    _, models = await open_simulator(token="t")
    assert "Publisher Model `projects/my-project/" in (await refused(models, model=name)).message


async def test_a_method_that_is_not_imitated_is_not_found(open_simulator: Open) -> None:
    simulator, models = await open_simulator()
    with pytest.raises(ClientError) as error:
        await models.count_tokens(model=MODEL, contents="hello")
    assert error.value.code == 404
    assert (await posted(simulator, {}, "/v1beta/cachedContents"))[0] == 404


@pytest.mark.parametrize(
    ("body", "message", "field"),
    [
        ({"top_k": 1, "contents": []}, 'Unknown name "topK": Cannot find field.', None),
        ({"generationConfig": {"n": 1}}, "Unknown name \"n\" at 'generation_config'", "generation_config"),
        ({"contents": [{"parts": [{"text": "a", "role": "user"}]}]}, "Unknown name \"role\" at 'contents[0].parts[0]'",
         "contents[0].parts[0]"),
    ],
)  # fmt: skip
async def test_a_name_that_the_api_does_not_have_is_told_with_its_place(
    open_simulator: Open, body: Any, message: str, field: str | None
) -> None:
    simulator, _ = await open_simulator()
    status, error = await posted(simulator, body)
    assert (status, error["status"]) == (400, "INVALID_ARGUMENT")
    assert message in error["message"]
    assert error["details"][0]["fieldViolations"][0].get("field") == field


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        ([], "* GenerateContentRequest.contents: contents is not specified\n"),
        ([{"role": "system", "parts": [{"text": "a"}]}], "Please use a valid role: user, model."),
        ([{"parts": []}], "* GenerateContentRequest.contents[0].parts: contents.parts must not be empty.\n"),
        ([{"parts": [{}]}], "* GenerateContentRequest.contents[0].parts[0].data: required oneof field 'data' must"),
        (
            [{"parts": [{"fileData": {}}]}],
            "* GenerateContentRequest.contents[0].parts[0].file_data: must have fileUri",
        ),
        ([{"parts": [{"functionCall": {}}]}], "batch-llm's simulator does not imitate 'functionCall'."),
        (
            [{"parts": [{"inlineData": {}}]}],
            "* GenerateContentRequest.contents[0].parts[0].inline_data: must have data",
        ),
    ],
)
async def test_contents_are_checked_as_google_does(open_simulator: Open, contents: Any, message: str) -> None:
    simulator, _ = await open_simulator()
    status, error = await posted(simulator, {"contents": contents})
    assert status == 400 and error["message"].startswith(message)


async def test_a_level_and_a_budget_of_thinking_exclude_each_other(open_simulator: Open) -> None:
    _, models = await open_simulator()
    await ask(models, thinking_config=ThinkingConfig(thinking_level="LOW"))  # type: ignore[arg-type]
    await ask(models, thinking_config=ThinkingConfig(thinking_budget=512))
    both = ThinkingConfig(thinking_level="LOW", thinking_budget=512)  # type: ignore[arg-type]
    assert "only one of thinking budget and thinking level" in (await refused(models, thinking_config=both)).message


async def test_a_schema_goes_with_json_and_the_answer_keeps_to_it(open_simulator: Open) -> None:
    _, models = await open_simulator()
    answer = await ask(models, response_mime_type="application/json", response_json_schema=SCHEMA)
    assert answer.parsed["tone"] in ("calm", "tense")
    error = await refused(models, response_json_schema=SCHEMA)
    assert "only supported with response_mime_type application/json" in error.message


async def embed(models: Any, *texts: str, model: str = MODEL, **config: Any) -> Any:
    return await models.embed_content(model=model, contents=list(texts), config=EmbedContentConfig(**config))


async def test_vectors_come_in_the_order_of_the_texts_and_with_their_usage(open_simulator: Open) -> None:
    simulator, models = await open_simulator(seed=3)
    answer = await embed(models, "one", "two two", output_dimensionality=8)
    expected = [unit_vector(text.encode(), "simulator/small", 3, 8) for text in ("one", "two two")]
    assert [np.array(each.values, dtype="<f4").tobytes() for each in answer.embeddings] == expected
    assert answer.usage_metadata.prompt_token_count == 3
    assert simulator.stats()["accepted"] == 1


async def test_a_batch_has_at_most_a_hundred_texts(open_simulator: Open) -> None:
    _, models = await open_simulator(embedding_dimensions=4)
    assert len((await embed(models, *["a"] * 100)).embeddings) == 100
    with pytest.raises(ClientError) as error:
        await embed(models, *["a"] * 101)
    assert error.value.message == "* BatchEmbedContentsRequest.requests: at most 100 requests can be in one batch\n"


async def test_each_text_of_a_batch_counts_as_a_request(open_simulator: Open) -> None:
    """Not so of a project's predict."""
    waits = []
    for token, model in ((None, MODEL), ("a-token", "simulator-text-embedding-005")):
        _, models = await open_simulator(clock=ManualClock(), token=token, requests_per_minute=100, burst_s=0)
        await embed(models, *["a"] * 100, model=model, output_dimensionality=4)
        with pytest.raises(ClientError) as error:
            await embed(models, "a", model=model, output_dimensionality=4)
        waits.append(str(error.value.message).rpartition("Please retry in ")[2])
    assert waits == ["60s.", "0.6s."]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "* BatchEmbedContentsRequest.requests: requests is not specified"),
        ({"requests": [{"content": {"parts": [{"text": "a"}]}}]}, "* BatchEmbedContentsRequest.requests[0].model"),
        ({"requests": [{"model": f"models/{MODEL}"}]}, "* GenerateContentRequest.requests[0].content.parts"),
        ({"requests": [{"input": "a"}]}, "Invalid JSON payload received. Unknown name \"input\" at 'requests[0]'"),
    ],
)
async def test_each_request_of_a_batch_is_checked(open_simulator: Open, body: Any, message: str) -> None:
    simulator, _ = await open_simulator()
    status, error = await posted(simulator, body, f"/v1beta/models/{MODEL}:batchEmbedContents")
    assert status == 400 and error["message"].startswith(message)


async def test_the_cap_ends_an_answer(open_simulator: Open) -> None:
    _, models = await open_simulator(answer_tokens_median=100)
    answer = await ask(models, max_output_tokens=5)
    assert answer.candidates[0].finish_reason.name == "MAX_TOKENS"
    assert answer.usage_metadata.candidates_token_count == 5


async def test_an_empty_answer_has_no_parts_and_no_count(open_simulator: Open) -> None:
    _, models = await open_simulator(faults={"empty": 1})
    answer = await ask(models)
    assert (answer.text, answer.candidates[0].content.parts) == (None, None)
    assert answer.usage_metadata.candidates_token_count is None


async def test_a_blocked_prompt_is_an_answer_without_candidates(open_simulator: Open) -> None:
    simulator, models = await open_simulator(filtered_words=["poison"])
    await ask(models)
    answer = await ask(models, "how to poison a well")
    assert not answer.candidates
    assert answer.prompt_feedback.block_reason.name == "PROHIBITED_CONTENT"
    assert simulator.stats()["rejected"] == {"content_filter": 1}


async def test_too_long_a_prompt_is_told_in_tokens(open_simulator: Open) -> None:
    _, models = await open_simulator(context_tokens=10)
    error = await refused(models, text="x" * 44)
    assert error.message == "The input token count (11) exceeds the maximum number of tokens allowed (10)."
    assert (error.code, error.status) == (400, "INVALID_ARGUMENT")


@pytest.mark.parametrize(
    ("limit", "quota_id", "wait"),
    [
        ("requests_per_minute", "GenerateRequestsPerMinutePerProjectPerModel", "60s"),
        ("input_tokens_per_minute", "GenerateContentInputTokensPerModelPerMinute", "60s"),
        ("requests_per_day", "GenerateRequestsPerDayPerProjectPerModel", "5s"),
    ],
)
async def test_a_used_up_quota_is_named_in_the_details_and_no_header_tells_of_it(
    open_simulator: Open, limit: str, quota_id: str, wait: str
) -> None:
    """The seconds beside a day's quota are not until its end, here 65 seconds away."""
    value = 3 if "token" in limit else 1
    clock = ManualClock()
    midnight_s = (clock.now().timestamp() + 65) % 86_400
    _, models = await open_simulator(clock=clock, window_s=60, day_resets_s=midnight_s, **{limit: value})
    answer = await ask(models)
    assert not [name for name in answer.sdk_http_response.headers if "ratelimit" in name.lower()]
    error = await refused(models)
    assert (error.code, error.status) == (429, "RESOURCE_EXHAUSTED")
    details = details_of(error)
    violation = details["QuotaFailure"]["violations"][0]
    assert (violation["quotaId"], violation["quotaValue"]) == (quota_id, str(value))
    assert details["RetryInfo"]["retryDelay"] == wait
    assert f"Please retry in {wait}." in error.message
    assert "retry-after" not in {name.lower() for name in error.response.headers}
    await clock.advance(65)
    await ask(models)


async def test_used_up_credit_is_a_429_without_details(open_simulator: Open) -> None:
    _, models = await open_simulator(quota_requests=0)
    error = await refused(models)
    assert (error.code, error.status) == (429, "RESOURCE_EXHAUSTED")
    assert error.message.startswith("Your prepayment credits are depleted.")
    assert "details" not in error.details["error"]


@pytest.mark.parametrize(
    ("fault", "code", "status", "words"),
    [
        ("overloaded", 503, "UNAVAILABLE", "The model is overloaded. Please try again later."),
        ("server_error", 500, "INTERNAL", "An internal error has occurred."),
    ],
)
async def test_googles_own_failures_have_their_status(
    open_simulator: Open, fault: str, code: int, status: str, words: str
) -> None:
    _, models = await open_simulator(faults={fault: 1})
    error = await refused(models, ServerError)
    assert (error.code, error.status) == (code, status)
    assert error.message.startswith(words)


async def test_the_openai_routes_stay_as_they_are(open_simulator: Open) -> None:
    """One account, two dialects: what was used by one is used for the other."""
    simulator, models = await open_simulator(clock=ManualClock(), requests_per_minute=60, window_s=1)
    await ask(models)
    async with openai.AsyncOpenAI(api_key="any", base_url=simulator.base_url, max_retries=0) as plain:
        with pytest.raises(openai.RateLimitError) as error:
            await plain.chat.completions.create(model="simulator/small", messages=messages())
    assert error.value.code == "rate_limit_exceeded"
