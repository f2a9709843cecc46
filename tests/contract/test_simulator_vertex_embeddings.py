"""The simulator's vectors as Vertex AI gives them, judged by Google's own client."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import numpy as np
import pytest
from google.genai import Client
from google.genai.errors import ClientError
from google.genai.types import EmbedContentConfig, HttpOptions
from google.oauth2.credentials import Credentials

from batch_llm.simulator import Simulator, SimulatorConfig
from batch_llm.simulator.vectors import unit_vector

pytestmark = pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning")
MANY, FIRST, SECOND = "simulator-text-embedding-005", "simulator-gemini-embedding-001", "simulator-gemini-embedding-2"
Open = Callable[..., Awaitable[tuple[Simulator, Any]]]


@pytest.fixture
async def open_simulator() -> AsyncIterator[Open]:
    """Opens simulators with google-genai's client for Vertex AI, which does not retry."""
    async with AsyncExitStack() as stack:

        async def opened(**config: Any) -> tuple[Simulator, Any]:
            simulator = await stack.enter_async_context(Simulator(SimulatorConfig(embedding_dimensions=4, **config)))
            client = Client(
                enterprise=True,
                project="my-project",
                location="us-central1",
                credentials=Credentials("a token"),  # type: ignore[no-untyped-call]
                http_options=HttpOptions(base_url=simulator.origin),
            )
            stack.push_async_callback(client.aio.aclose)
            stack.callback(client.close)
            return simulator, client.aio.models

        yield opened


async def embed(models: Any, *texts: str, model: str = MANY, **config: Any) -> Any:
    return await models.embed_content(model=model, contents=list(texts), config=EmbedContentConfig(**config))


async def refused(models: Any, *texts: str, **asked: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as error:
        await embed(models, *texts, **asked)
    assert error.value.code == 400
    return str(error.value.status), str(error.value.message)


async def posted(simulator: Simulator, body: Any, model: str = MANY, method: str = "predict") -> tuple[int, Any]:
    """What a body gets that google-genai would not send."""
    path = f"/v1/projects/p/locations/us-central1/publishers/google/models/{model}:{method}"
    async with (
        aiohttp.ClientSession(headers={"Authorization": "Bearer token"}) as session,
        session.post(simulator.origin + path, json=body) as response,
    ):
        return response.status, await response.json()


def packed(answer: Any) -> list[bytes]:
    return [np.array(each.values, dtype="<f4").tobytes() for each in answer.embeddings]


async def test_predict_gives_vectors_in_the_order_of_the_texts_with_the_tokens_of_each(open_simulator: Open) -> None:
    simulator, models = await open_simulator(seed=3)
    answer = await embed(models, "one", "two two", output_dimensionality=2, task_type="CLUSTERING", title="t")
    expected = [unit_vector(text.encode(), "simulator/text-embedding-005", 3, 2) for text in ("one", "two two")]
    assert packed(answer) == expected
    assert [(each.statistics.token_count, each.statistics.truncated) for each in answer.embeddings] == [
        (1, False),
        (2, False),
    ]
    assert answer.metadata.billable_character_count == 9  # white space is not billed
    assert simulator.stats()["accepted"] == 1


@pytest.mark.parametrize("model", [FIRST, SECOND])
async def test_embed_content_gives_one_vector_with_the_usage_of_a_chat(open_simulator: Open, model: str) -> None:
    _, models = await open_simulator()
    answer = await embed(models, "one two", model=model, output_dimensionality=2, auto_truncate=False)
    assert packed(answer) == [unit_vector(b"one two", model.replace("-", "/", 1), 0, 2)]
    assert (answer.embeddings[0].statistics.token_count, answer.usage_metadata.prompt_token_count) == (2, 2)


async def test_settings_may_also_stand_beside_the_content(open_simulator: Open) -> None:
    simulator, _ = await open_simulator()
    asked = {"content": {"parts": [{"text": "a"}]}, "outputDimensionality": 3, "autoTruncate": False}
    status, answer = await posted(simulator, asked, SECOND, "embedContent")
    assert (status, len(answer["embedding"]["values"]), answer["truncated"]) == (200, 3, False)


async def test_a_request_has_at_most_two_hundred_and_fifty_texts(open_simulator: Open) -> None:
    _, models = await open_simulator()
    assert len((await embed(models, *["a"] * 250)).embeddings) == 250
    status, message = await refused(models, *["a"] * 251)
    assert status == "INVALID_ARGUMENT" and "it has a batchSize value of 251" in message


async def test_the_first_gemini_model_takes_one_text_by_predict(open_simulator: Open) -> None:
    simulator, _ = await open_simulator()
    assert (await posted(simulator, {"instances": [{"content": "a"}]}, FIRST))[0] == 200
    status, answer = await posted(simulator, {"instances": [{"content": "a"}] * 2}, FIRST)
    assert status == 400 and "batchSize must be 1 but the entered value was 2" in answer["error"]["message"]


async def test_later_gemini_models_have_no_predict(open_simulator: Open) -> None:
    simulator, _ = await open_simulator()
    status, answer = await posted(simulator, {"instances": [{"content": "a"}]}, SECOND)
    error = answer["error"]
    assert (status, error["status"], error["message"]) == (400, "FAILED_PRECONDITION", "Precondition check failed.")


async def test_other_models_have_no_embed_content(open_simulator: Open) -> None:
    simulator, _ = await open_simulator()
    status, answer = await posted(simulator, {"content": {"parts": [{"text": "a"}]}}, MANY, "embedContent")
    assert status == 400 and answer["error"]["message"].endswith("is not supported in the embedContent API.")


@pytest.mark.parametrize("model", [MANY, SECOND])
async def test_too_long_a_text_is_cut_unless_that_is_refused(open_simulator: Open, model: str) -> None:
    """2,048 tokens of four bytes."""
    _, models = await open_simulator()
    cut = await embed(models, "x" * 8_193, model=model)
    whole = await embed(models, "x" * 8_192, model=model)
    assert cut.embeddings[0].statistics.truncated and not whole.embeddings[0].statistics.truncated
    assert cut.embeddings[0].statistics.token_count == 2_048
    assert packed(cut) == packed(whole)
    status, message = await refused(models, "x" * 8_193, model=model, auto_truncate=False)
    assert status == "INVALID_ARGUMENT" and "token count is 2049 but the model supports up to 2048" in message


async def test_a_request_has_at_most_twenty_thousand_tokens(open_simulator: Open) -> None:
    _, models = await open_simulator()
    assert len((await embed(models, *["x" * 8_000] * 10)).embeddings) == 10
    status, message = await refused(models, *["x" * 8_000] * 10, "x")
    assert status == "INVALID_ARGUMENT" and "token count is 20001 but the model supports up to 20000" in message


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "Unable to submit request because instances are not specified."),
        ({"requests": []}, 'Invalid JSON payload received. Unknown name "requests": Cannot find field.'),
        ({"instances": [{"text": "a"}]}, "batch-llm's simulator does not imitate other keys than content"),
        ({"instances": [{"content": "a"}], "parameters": {"dimensions": 1}}, "batch-llm's simulator does not imitate"),
        ({"instances": [{"content": ""}]}, "'$.input' is invalid."),
    ],
)
async def test_instances_are_checked(open_simulator: Open, body: Any, message: str) -> None:
    simulator, _ = await open_simulator()
    status, answer = await posted(simulator, body)
    assert status == 400 and answer["error"]["message"].startswith(message)
    assert answer["error"]["status"] == "INVALID_ARGUMENT"
