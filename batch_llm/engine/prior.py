"""Answers of earlier runs that this run need not pay for again.

Belongs here: finding a row's earlier result by key and request hash. Not here: reading them (warehouse), writing
them out (publish.py).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from batch_llm.engine.parts import JobParts, frozen_input
from batch_llm.journal.base import RunRecord
from batch_llm.warehouse.base import FrozenInput

__all__ = ["PriorAnswers", "key_of", "prior_answers"]


def key_of(values: Iterable[Any]) -> tuple[Any, ...]:
    """A row's key as something that equals itself: NaN does not."""
    return tuple("NaN" if value != value else value for value in values)  # noqa: PLR0124  that is the test for NaN


def prior_answers(
    parts: JobParts, of: RunRecord | FrozenInput, number: int, runs: Sequence[str] = (), *, with_failed: bool = True
) -> PriorAnswers:
    """The earlier answers for one slice of a run, or of an input that was only frozen; blocking."""
    frozen = frozen_input(of) if isinstance(of, RunRecord) else of
    looked_in = of.supersedes if isinstance(of, RunRecord) else runs
    batches = parts.warehouse.prior(frozen, number, parts.output, looked_in)
    any_question = parts.declared.job.output.mode == "append_missing"  # a key that is there stays as it is
    return PriorAnswers(parts.key, batches, with_failed=with_failed, any_question=any_question)


class PriorAnswers:
    """The finished rows of earlier runs with the keys of one slice; ok rows win over failed ones."""

    def __init__(
        self,
        key: Sequence[str],
        batches: Iterable[pa.RecordBatch],
        *,
        with_failed: bool = True,
        any_question: bool = False,
    ) -> None:
        """``with_failed``: a failed row counts as done. ``any_question``: an ok row does whatever it was asked."""
        self._key = tuple(key)
        self._any_question = any_question
        self._index: dict[tuple[Any, ...], int] = {}
        self._failed: set[int] = set()
        self._batches: list[pa.RecordBatch] = []
        self._starts: list[int] = []  # each batch's first number
        self.keys: set[tuple[Any, ...]] = set()  # all keys that have an earlier row, whatever was asked
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
        if not self._index:
            return None
        key = key_of(row[name] for name in self._key)
        found = self._index.get(("", *key)) if self._any_question else None
        return found if found is not None else self._index.get((request_hash, *key))

    def is_failed(self, found: int) -> bool:
        """Whether the earlier result is a failure."""
        return found in self._failed

    def values(self, found: int) -> dict[str, Any]:
        """All columns of an earlier row."""
        batch = bisect_right(self._starts, found) - 1
        row: dict[str, Any] = self._batches[batch].slice(found - self._starts[batch], 1).to_pylist()[0]
        return row

    def _add(self, batch: pa.RecordBatch, start: int, with_failed: bool) -> None:
        hashes = batch.column("llm_request_hash").to_pylist()
        statuses = batch.column("llm_status").to_pylist()
        keys = zip(*(batch.column(name).to_pylist() for name in self._key), strict=True)
        for number, (request_hash, status, values) in enumerate(zip(hashes, statuses, keys, strict=True), start):
            key = key_of(values)
            self.keys.add(key)
            if status == "ok" and self._any_question:
                self._index["", *key] = number
            if status == "ok" and request_hash:
                self._index[request_hash, *key] = number
            elif status == "failed" and request_hash and with_failed:
                self._failed.add(number)
                self._index.setdefault((request_hash, *key), number)
