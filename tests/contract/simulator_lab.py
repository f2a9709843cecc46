"""A simulator and the vendor's client on it, for the files test_simulator_openai*.py.

Belongs here: opening both, asking. Not here: promises.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import openai
from openai import AsyncOpenAI

from batch_llm.clock import ManualClock
from batch_llm.simulator import Simulator, SimulatorConfig

MODEL = "simulator/small"
# a fault, what the vendor's client makes of it, and the status it tells
FAULTS: list[tuple[str, type[Exception], int | None]] = [
    ("server_error", openai.InternalServerError, 500),
    ("overloaded", openai.InternalServerError, 503),
    ("rate_limit", openai.RateLimitError, 429),
    ("reset", openai.APIConnectionError, None),
    ("truncated", openai.APIConnectionError, None),
    ("malformed", json.JSONDecodeError, None),
]
Open = Callable[..., Awaitable[tuple[Simulator, AsyncOpenAI]]]


@asynccontextmanager
async def simulators() -> AsyncIterator[Open]:
    """Gives a function that opens a simulator with these settings and an SDK client that does not retry."""
    async with AsyncExitStack() as stack:

        async def opened(
            *, clock: ManualClock | None = None, key: str = "any key", **config: Any
        ) -> tuple[Simulator, AsyncOpenAI]:
            simulator = await stack.enter_async_context(Simulator(SimulatorConfig(**config), clock=clock))
            client = AsyncOpenAI(api_key=key, base_url=simulator.base_url, max_retries=0, timeout=10)
            return simulator, await stack.enter_async_context(client)

        yield opened


def messages(text: str = "hello") -> Any:
    """One user message."""
    return [{"role": "user", "content": text}]


async def ask(client: AsyncOpenAI, text: str = "hello", **params: Any) -> Any:
    """One completion."""
    return await client.chat.completions.create(**({"model": MODEL, "messages": messages(text)} | params))


async def embed(client: AsyncOpenAI, texts: Any = "hello", **params: Any) -> Any:
    """One request for vectors."""
    return await client.embeddings.create(**({"model": MODEL, "input": texts} | params))


async def headers_of(client: AsyncOpenAI, text: str = "hello", **params: Any) -> Any:
    """One completion's headers."""
    raw = await client.chat.completions.with_raw_response.create(model=MODEL, messages=messages(text), **params)
    return raw.headers


async def collect(stream: Any) -> list[Any]:
    """All chunks of a stream."""
    return [chunk async for chunk in stream]
