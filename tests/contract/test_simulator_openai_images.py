"""Images, judged by the vendor's own client: what is taken, billed and refused."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest

from tests.contract.simulator_lab import Open, ask, simulators
from tests.pictures import data_url, png


@pytest.fixture
async def opened() -> AsyncIterator[Open]:
    async with simulators() as made:
        yield made


def asked(*urls: str, text: str = "What is it?", role: str = "user") -> Any:
    images = ({"type": "image_url", "image_url": {"url": url, "detail": "high"}} for url in urls)
    return [{"role": role, "content": [{"type": "text", "text": text}, *images]}]


async def test_images_are_billed_beside_the_text(opened: Open) -> None:
    simulator, client = await opened()
    square, elsewhere = data_url(png(1_024, 1_024)), "https://nowhere.invalid/a.png"
    text = await ask(client, messages=asked())
    one = await ask(client, messages=asked(square))
    two = await ask(client, messages=asked(square, elsewhere))
    assert [each.usage.prompt_tokens - text.usage.prompt_tokens for each in (one, two)] == [1_229, 2_458]
    assert simulator.stats()["input_tokens"] == sum(each.usage.prompt_tokens for each in (text, one, two))
    assert len({each.choices[0].message.content for each in (text, one, two)}) == 3


async def test_they_take_of_the_models_context(opened: Open) -> None:
    _, client = await opened(context_tokens=1_229)
    with pytest.raises(openai.BadRequestError, match="maximum context length is 1229 tokens"):
        await ask(client, messages=asked(data_url(png(1_024, 1_024))))


@pytest.mark.parametrize(
    ("messages", "code"),
    [
        (asked(data_url(b"no image")), "invalid_image_format"),
        (asked("C:\\chart.png"), "invalid_value"),
        (asked(data_url(png(1, 1)), role="system"), "invalid_value"),
        (asked(data_url(png(1, 1)), role="assistant"), "invalid_value"),
        (asked(*[data_url(png(1, 1))] * 1_501), None),
    ],
)
async def test_what_is_not_taken_is_a_bad_request_and_costs_nothing(opened: Open, messages: Any, code: str) -> None:
    simulator, client = await opened()
    with pytest.raises(openai.BadRequestError) as caught:
        await ask(client, messages=messages)
    assert caught.value.code == code
    assert simulator.stats()["input_tokens"] == 0


async def test_large_ones_arrive(opened: Open) -> None:
    """A body of 27 MB."""
    _, client = await opened()
    answer = await ask(client, messages=asked(data_url(png(64, 64) + b"\0" * 20_000_000)))
    assert answer.usage.prompt_tokens == 3 + 5
