"""Answers of earlier runs that this run need not pay for again.

Belongs here: finding a row's earlier result by key and request hash. Not here: reading them (warehouse), writing
them out (publish.py).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

__all__ = ["PriorAnswers"]


class PriorAnswers:
    """The finished rows of earlier runs with the keys of one slice; ok rows win over failed ones."""

    def __init__(self, key: Sequence[str], batches: Iterable[pa.RecordBatch], *, with_failed: bool) -> None:
        """``with_failed``: whether a failed row counts as done (it does not where failed rows are asked again)."""
        self._key = tuple(key)
        self._index: dict[tuple[Any, ...], int] = {}
        self._batches: list[pa.RecordBatch] = []  # each place has columns of its own
        self._starts: list[int] = []
        start = 0
        for batch in batches:
            self._add(batch, start, with_failed)
            self._batches.append(batch)
            self._starts.append(start)
            start += batch.num_rows

    def __bool__(self) -> bool:
        return bool(self._index)

    def find(self, row: Mapping[str, Any], request_hash: str) -> int | None:
        """Where the earlier result of this very request for this very key is, if any; a number for `values`."""
        return self._index.get((request_hash, *(row[name] for name in self._key)))

    def values(self, found: int) -> dict[str, Any]:
        """All columns of an earlier row."""
        at = bisect_right(self._starts, found) - 1
        row: dict[str, Any] = self._batches[at].slice(found - self._starts[at], 1).to_pylist()[0]
        return row

    def _add(self, batch: pa.RecordBatch, start: int, with_failed: bool) -> None:
        hashes = batch.column("llm_request_hash").to_pylist()
        statuses = batch.column("llm_status").to_pylist()
        keys = zip(*(batch.column(name).to_pylist() for name in self._key), strict=True)
        for at, (request_hash, status, key) in enumerate(zip(hashes, statuses, keys, strict=True)):
            if status == "ok" and request_hash:
                self._index[request_hash, *key] = start + at
            elif status == "failed" and request_hash and with_failed:
                self._index.setdefault((request_hash, *key), start + at)
