"""`python floor.py URL TABLE OUTPUT`: the floor, as little as a script in Python can do with aiohttp.

Belongs here: read the Parquet table, call with 64 in flight, write JSONL. Not here: limits, retries, a journal,
resuming, checks: what an engine is for. uvloop only where it is installed.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from typing import Any, BinaryIO

import aiohttp
import orjson
import pyarrow.parquet as pq

__all__: list[str] = []

IN_FLIGHT = 64
HEADERS = {"Content-Type": "application/json", "Authorization": "Bearer none"}


def _rows(table: str) -> Iterator[dict[str, Any]]:
    for batch in pq.ParquetFile(table).iter_batches(1_000):
        yield from batch.to_pylist()


async def _feed(rows: Iterator[dict[str, Any]], session: aiohttp.ClientSession, url: str, out: BinaryIO) -> None:
    for row in rows:  # all feeders share the iterator
        messages = [{"role": "user", "content": f"Say: {row['text']}"}]
        async with session.post(url, data=orjson.dumps({"model": "simulator/fast", "messages": messages})) as response:
            answer = orjson.loads(await response.read())
        text = answer["choices"][0]["message"]["content"]
        tokens = answer["usage"]["total_tokens"]
        out.write(orjson.dumps({"id": row["id"], "response": text, "tokens": tokens}) + b"\n")


async def _main(url: str, table: str, output: str) -> None:
    rows = _rows(table)
    with open(output, "wb") as out:  # noqa: ASYNC230  # one file, once
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), headers=HEADERS) as session:
            await asyncio.gather(*(_feed(rows, session, f"{url}/chat/completions", out) for _ in range(IN_FLIGHT)))


if __name__ == "__main__":
    try:
        from uvloop import run
    except ImportError:
        from asyncio import run  # type: ignore[assignment]  # its options are not used
    run(_main(*sys.argv[1:4]))
