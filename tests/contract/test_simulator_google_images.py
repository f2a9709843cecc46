"""Images for Google, judged by the vendor's own client: what is taken, billed and refused."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from google.genai import Client
from google.genai.errors import ClientError
from google.genai.types import HttpOptions, Part

from batch_llm.simulator import Simulator, SimulatorConfig
from tests.pictures import GIF_1X1, JPEG_1X1, png

pytestmark = pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning")


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with Simulator(SimulatorConfig(filtered_words=("forbidden",))) as opened:
        yield opened


async def ask(simulator: Simulator, *parts: Any) -> Any:
    client = Client(api_key="key", http_options=HttpOptions(base_url=simulator.origin))
    try:
        return await client.aio.models.generate_content(model="simulator-small", contents=[*parts, "What is it?"])
    finally:
        await client.aio.aclose()
        client.close()


def image(data: bytes, mime_type: str = "image/png") -> Part:
    return Part.from_bytes(data=data, mime_type=mime_type)


async def test_images_are_billed_beside_the_text(simulator: Simulator) -> None:
    """By the guide's own example, and small ones as one tile each."""
    given = [[], [image(png(960, 540))], [image(png(384, 384)), image(JPEG_1X1, "image/jpeg")]]
    billed = [(await ask(simulator, *images)).usage_metadata.prompt_token_count for images in given]
    assert [tokens - billed[0] for tokens in billed] == [0, 6 * 258, 2 * 258]
    assert simulator.stats()["input_tokens"] == sum(billed)


@pytest.mark.parametrize(
    ("part", "words"),
    [
        (image(GIF_1X1, "image/gif"), "Unsupported MIME type: image/gif"),
        (image(GIF_1X1, "image/png"), "Provided image is not valid"),
        (image(b"no image"), "Provided image is not valid"),
        (Part.from_uri(file_uri="gs://bucket/a.png", mime_type="image/png"), "fileData"),
    ],
)
async def test_what_is_not_taken_is_a_bad_request_and_costs_nothing(
    simulator: Simulator, part: Part, words: str
) -> None:
    with pytest.raises(ClientError) as caught:
        await ask(simulator, part)
    assert caught.value.code == 400 and words in str(caught.value)
    assert simulator.stats()["input_tokens"] == 0


async def test_the_filter_reads_the_text_beside_an_image(simulator: Simulator) -> None:
    answer = await ask(simulator, image(png(1, 1)), "forbidden")
    assert not answer.candidates
