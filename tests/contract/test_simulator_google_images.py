"""Images for Google, judged by the vendor's own client: what is taken, billed and refused."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from google.genai import Client
from google.genai.errors import ClientError
from google.genai.types import FileData, HttpOptions, Part
from google.oauth2.credentials import Credentials

from batch_llm.simulator import Simulator, SimulatorConfig
from tests.pictures import GIF_1X1, JPEG_1X1, png

pytestmark = pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning")


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with Simulator(SimulatorConfig(filtered_words=("forbidden",))) as opened:
        yield opened


async def ask(simulator: Simulator, *parts: Any, model: str = "simulator-small", vertex: bool = False) -> Any:
    options = HttpOptions(base_url=simulator.origin)
    credentials = Credentials("a token")  # type: ignore[no-untyped-call]
    place: dict[str, Any] = {"enterprise": True, "project": "p", "location": "global", "credentials": credentials}
    client = Client(**(place if vertex else {"api_key": "key"}), http_options=options)
    try:
        return await client.aio.models.generate_content(model=model, contents=[*parts, "What is it?"])
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
    ],
)
async def test_what_is_not_taken_is_a_bad_request_and_costs_nothing(
    simulator: Simulator, part: Part, words: str
) -> None:
    with pytest.raises(ClientError) as caught:
        await ask(simulator, part)
    assert caught.value.code == 400 and words in str(caught.value)
    assert simulator.stats()["input_tokens"] == 0


def address(url: str, mime_type: str = "image/png") -> Part:
    return Part.from_uri(file_uri=url, mime_type=mime_type)


@pytest.mark.parametrize(
    ("vertex", "url"),
    [
        (False, "https://host/a.png"),
        (True, "https://host/a.png"),
        (True, "http://host/a.png"),
        (True, "gs://bucket/a.png"),
    ],
)
async def test_an_address_is_billed_as_a_square_of_1024_pixels(simulator: Simulator, vertex: bool, url: str) -> None:
    billed = [
        (await ask(simulator, *images, vertex=vertex)).usage_metadata.prompt_token_count
        for images in ([], [address(url)])
    ]
    assert billed[1] - billed[0] == 4 * 258


@pytest.mark.parametrize(
    ("vertex", "model", "part", "words"),
    [
        (False, "simulator-small", address("http://host/a.png"), "Unsupported file URI type: http://host/a.png"),
        (False, "simulator-small", address("gs://bucket/a.png"), "Unsupported file URI type: gs://bucket/a.png"),
        (False, "simulator-gemini-2.0-flash", address("https://host/a.png"), "Unsupported file URI type"),
        (False, "simulator-small", address("https://host/a.gif", "image/gif"), "Unsupported MIME type: image/gif"),
        (True, "simulator-small", address("ftp://host/a.png"), "Unsupported file URI type"),
    ],
)
async def test_an_address_that_is_not_fetched_from_is_a_bad_request(
    simulator: Simulator, vertex: bool, model: str, part: Part, words: str
) -> None:
    with pytest.raises(ClientError) as caught:
        await ask(simulator, part, model=model, vertex=vertex)
    assert caught.value.code == 400 and words in str(caught.value)
    assert simulator.stats()["input_tokens"] == 0


async def test_vertex_wants_the_type_and_takes_ten_images_of_the_web(simulator: Simulator) -> None:
    web, stored = address("https://host/a.png"), address("gs://bucket/a.png")
    await ask(simulator, *[web] * 10, *[stored] * 10, vertex=True)
    with pytest.raises(ClientError, match="takes 10 images of the web"):
        await ask(simulator, *[web] * 11, vertex=True)
    untyped = Part(file_data=FileData(file_uri="https://host/a.png"))
    await ask(simulator, untyped)
    with pytest.raises(ClientError, match="Unsupported MIME type: None"):
        await ask(simulator, untyped, vertex=True)


async def test_the_filter_reads_the_text_beside_an_image(simulator: Simulator) -> None:
    answer = await ask(simulator, image(png(1, 1)), "forbidden")
    assert not answer.candidates
