"""Images for Anthropic, judged by the vendor's own client: what is taken, billed and refused."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import AsyncIterator
from typing import Any

import anthropic
import pytest

from batch_llm.simulator import Simulator, SimulatorConfig
from tests.pictures import GIF_1X1, png


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with Simulator(SimulatorConfig()) as opened:
        yield opened


async def ask(simulator: Simulator, *images: Any, **more: Any) -> Any:
    content = [*images, {"type": "text", "text": "What is it?"}]
    messages: Any = [{"role": "user", "content": content}]
    async with anthropic.AsyncAnthropic(api_key="key", base_url=simulator.origin, max_retries=0) as client:
        return await client.messages.create(model="simulator/small", max_tokens=1_000, messages=messages, **more)


def image(data: bytes, media_type: str = "image/png") -> dict[str, Any]:
    source = {"type": "base64", "media_type": media_type, "data": b64encode(data).decode()}
    return {"type": "image", "source": source}


def elsewhere(url: str) -> dict[str, Any]:
    return {"type": "image", "source": {"type": "url", "url": url}}


async def test_images_are_billed_beside_the_text(simulator: Simulator) -> None:
    """By the guide's table for Opus 4.7; what is somewhere else as 1,024 x 1,024 pixels."""
    given = [
        [],
        [image(png(200, 200))],
        [image(png(3_840, 2_160))],
        [image(GIF_1X1, "image/gif"), elsewhere("https://nowhere.invalid/a.png")],
    ]
    billed = [(await ask(simulator, *images)).usage.input_tokens for images in given]
    assert [tokens - billed[0] for tokens in billed] == [0, 64, 4_784, 1 + 37 * 37]
    assert simulator.stats()["input_tokens"] == sum(billed)


@pytest.mark.parametrize(
    ("images", "words"),
    [
        ([image(png(1, 1), "image/bmp")], "base64.media_type: Input should be 'image/jpeg', 'image/png', "),
        ([image(png(1, 1), "image/jpeg")], "Image does not match the provided media type image/jpeg"),
        ([image(b"no image")], "Could not process image"),
        ([image(png(8_001, 1))], "exceed max allowed size: 8000 pixels"),
        ([image(png(2_001, 1)), *[image(png(1, 1))] * 20], "for many-image requests: 2000 pixels"),
        ([image(png(1, 1))] * 101, "at most 100 images are supported, got 101"),
        ([image(png(1, 1) + b"\0" * 7_864_400)], "image exceeds 10 MB maximum"),
        ([elsewhere("gs://bucket/a.png")], "Only HTTP and HTTPS URLs are supported"),
        ([{"type": "image"}], "messages.0.content.0.image.source: Field required"),
        ([{"type": "image", "source": {"type": "file", "file_id": "f"}}], "does not match any of the expected tags"),
    ],
)
async def test_what_is_not_taken_is_a_bad_request_and_costs_nothing(
    simulator: Simulator, images: list[Any], words: str
) -> None:
    with pytest.raises(anthropic.BadRequestError) as caught:
        await ask(simulator, *images)
    body: Any = caught.value.body
    assert words in body["error"]["message"]
    assert simulator.stats()["input_tokens"] == 0
