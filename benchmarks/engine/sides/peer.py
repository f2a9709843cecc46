"""`python peer.py NAME URL TABLE OUTPUT`: the same work through a peer's client and a semaphore of 64.

Belongs here: openai (AsyncOpenAI, its retries off) and, where it is installed, litellm (its Router), as their
documentation shows them, writing JSONL. Not here: limits, resuming.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pyarrow.parquet as pq

__all__: list[str] = []

IN_FLIGHT = 64
CHUNK_ROWS = 1_000  # a task per row of them, never of the whole table

Ask = Callable[[list[dict[str, str]]], Awaitable[Any]]


def _openai(url: str) -> Ask:
    from openai import AsyncOpenAI

    client: Any = AsyncOpenAI(api_key="none", base_url=url, max_retries=0)
    return lambda messages: client.chat.completions.create(model="simulator/fast", messages=messages)


def _litellm(url: str) -> Ask:
    from litellm import Router  # type: ignore[import-not-found]  # an extra

    params = {"model": "openai/simulator/fast", "api_base": url, "api_key": "none"}
    router = Router(model_list=[{"model_name": "fast", "litellm_params": params}], num_retries=0)
    return lambda messages: router.acompletion(model="fast", messages=messages)


CLIENTS: dict[str, Callable[[str], Ask]] = {"openai": _openai, "litellm": _litellm}


async def _main(name: str, url: str, table: str, output: str) -> None:
    ask, room = CLIENTS[name](url), asyncio.Semaphore(IN_FLIGHT)

    async def call(row: dict[str, Any]) -> str:
        async with room:
            answer = await ask([{"role": "user", "content": f"Say: {row['text']}"}])
        text, tokens = answer.choices[0].message.content, answer.usage.total_tokens
        return json.dumps({"id": row["id"], "response": text, "tokens": tokens})

    with open(output, "w", encoding="utf-8") as out:  # noqa: ASYNC230  # one file, once
        for batch in pq.ParquetFile(table).iter_batches(CHUNK_ROWS):
            lines = await asyncio.gather(*map(call, batch.to_pylist()))
            out.writelines(line + "\n" for line in lines)


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:5]))
