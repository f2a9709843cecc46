"""The input tables of the cases: id and text, every text its own, so that no answer may stand for two rows.

Belongs here: writing Parquet files. Not here: how many rows a case needs (its own file).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

__all__ = ["BYTES_PER_TOKEN", "long_and_short", "short", "sixty_tokens", "write"]

BYTES_PER_TOKEN = 4  # the simulator's
WORDS = ("rate", "bank", "area", "loan", "term", "good", "risk", "data", "firm", "debt", "cash", "gain", "loss", "tone")
CHUNK_ROWS = 20_000


def write(path: Path, rows: int, text: Callable[[int], str]) -> Path:
    """``id: int64, text: string``; memory does not grow with the rows."""
    schema = pa.schema({"id": pa.int64(), "text": pa.string()})
    with pq.ParquetWriter(path, schema) as writer:
        for ids in _chunks(rows):
            writer.write_table(pa.table({"id": list(ids), "text": [text(i) for i in ids]}, schema=schema))
    return path


def short(row: int) -> str:
    """A few tokens."""
    return f"row {row}"


def sixty_tokens(row: int) -> str:
    """About 60 tokens with the prompt around it."""
    return _text(row, 58)


def long_and_short(row: int) -> str:
    """50 to 3,000 tokens, evenly spread."""
    return _text(row, random.Random(row).randint(50, 3_000) - 2)


def _text(row: int, tokens: int) -> str:
    draw = random.Random(row)
    words = draw.choices(WORDS, k=tokens * BYTES_PER_TOKEN // 5 + 1)
    return f"{row:08d} {' '.join(words)}"[: tokens * BYTES_PER_TOKEN]


def _chunks(rows: int) -> Iterator[range]:
    for start in range(0, rows, CHUNK_ROWS):
        yield range(start, min(rows, start + CHUNK_ROWS))
