"""Answers of earlier runs that this run need not pay for again.

Belongs here: finding a row's earlier result by its key and request hash, or by its key alone, place by place. Not here:
reading them (warehouse), which places there are (starting.py), writing them out (publish.py).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa

from batch_llm.engine.parts import JobParts, frozen_input, python_rows
from batch_llm.errors import OutputError
from batch_llm.journal.base import RunRecord
from batch_llm.warehouse.base import LLM_COLUMNS, FrozenInput

__all__ = ["Key", "Place", "PriorAnswers", "key_of", "keys_of", "prior_answers"]

Key = tuple[Any, ...]
"""A row's values of the key columns."""


def key_of(values: Iterable[Any]) -> Key:
    """A row's key as something that equals itself: NaN does not."""
    return tuple("NaN" if value != value else value for value in values)  # noqa: PLR0124  that is the test for NaN


def keys_of(batch: pa.RecordBatch, columns: Sequence[str]) -> list[Key | None]:
    """Each row's key (`key_of`); None for one with a value that Python cannot hold: no row is found by it."""
    try:
        return [key_of(row) for row in zip(*(batch.column(name).to_pylist() for name in columns), strict=True)]
    except (OverflowError, ValueError):
        return [None if row is None else key_of(row.values()) for row in python_rows(batch, columns)]


@dataclass(frozen=True, slots=True)
class Place:
    """Where earlier rows may be."""

    read: Callable[[], Iterable[pa.RecordBatch]]  # those with the keys of the slice; blocking
    any_question: bool = False  # an ok row there is its key's answer, whatever it was asked


def prior_answers(
    parts: JobParts, of: RunRecord | FrozenInput, number: int, runs: Sequence[str] = (), *, with_failed: bool = True
) -> PriorAnswers:
    """The earlier answers for one slice of a run, or of an input that was only frozen; blocking."""
    frozen = frozen_input(of) if isinstance(of, RunRecord) else of
    looked_in = of.supersedes if isinstance(of, RunRecord) else runs
    keeps_keys = parts.declared.job.output.mode == "append_missing"  # a key that is in the output stays as it is
    own = [Place(partial(_published, parts, of.run_id, number), keeps_keys)] if isinstance(of, RunRecord) else []
    places = [
        Place(partial(parts.warehouse.prior, frozen, number, parts.output), keeps_keys),
        *own,
        *(Place(partial(parts.warehouse.prior, frozen, number, f"run:{run_id}")) for run_id in looked_in),
    ]
    of_use = {*(field.name for field in parts.schema.arrow_fields), *LLM_COLUMNS}
    return PriorAnswers(parts.key, places, of_use, with_failed=with_failed)


def _published(parts: JobParts, run_id: str, number: int) -> Iterator[pa.RecordBatch]:
    """A slice's rows as the run itself published them, those that it carried included; nothing before it did."""
    with suppress(OutputError):
        yield from parts.warehouse.rows(f"run:{run_id}", slice_number=number)


class PriorAnswers:
    """The finished rows of earlier runs with the keys of one slice; ok rows win over failed ones.

    A place is read when what was found before it does not answer a row. Of a row that a place before it had as well
    nothing more is kept.
    """

    def __init__(
        self,
        key: Sequence[str],
        places: Iterable[Place],
        columns: Collection[str] = LLM_COLUMNS,
        *,
        with_failed: bool = True,
    ) -> None:
        """``places``: in the order to look. ``columns``: to keep of them. ``with_failed``: a failed row is done."""
        self._key = tuple(key)
        self._columns = columns
        self._places = list(places)  # not read yet
        self._with_failed = with_failed
        self._keeps_keys = any(place.any_question for place in self._places)
        self._index: dict[Key, int] = {}  # by request and key
        self._of_key: dict[Key, int] = {}  # where any question counts
        self._failed: set[int] = set()
        self._batches: list[pa.RecordBatch] = []
        self._starts: list[int] = []  # each batch's first number
        self._count = 0
        self._keys: set[Key] = set()

    def any(self) -> bool:
        """Whether there is an earlier row at all; blocking."""
        while not self._keys:
            if not self._read_next():
                return False
        return True

    def has_key(self, key: Key) -> bool:
        """Whether an earlier row has this key (`key_of`), whatever was asked; blocking."""
        while key not in self._keys:
            if not self._read_next():
                return False
        return True

    def keys(self, batch: pa.RecordBatch) -> list[Key | None]:
        """Of an input's rows, to ask `kept` with (`keys_of`); all None where no key is kept."""
        return keys_of(batch, self._key) if self._keeps_keys else [None] * batch.num_rows

    def kept(self, key: Key | None) -> int | None:
        """Where the answer is that this key keeps whatever is asked, if any; a number for `values`. Blocking.

        To be asked before the request is made: such a row needs none.
        """
        if key is None or not self._keeps_keys:
            return None
        while key not in self._of_key and any(place.any_question for place in self._places):
            self._read_next()
        return self._of_key.get(key)

    def find(self, row: Mapping[str, Any], request_hash: str) -> int | None:
        """Where the earlier result of this very request for this very key is, if any; a number for `values`. Blocking.

        Of a key that is not `kept`.
        """
        if not self._index and not self._places:
            return None
        key = key_of(row[name] for name in self._key)
        while True:
            found = self._index.get((request_hash, *key))
            if (found is None or found in self._failed) and self._read_next():
                continue
            return found

    def is_failed(self, found: int) -> bool:
        """Whether the earlier result is a failure."""
        return found in self._failed

    def values(self, found: int) -> dict[str, Any]:
        """The columns of an earlier row that were to be kept; kept ones of the input may be beyond Python."""
        batch = bisect_right(self._starts, found) - 1
        row: dict[str, Any] = self._batches[batch].slice(found - self._starts[batch], 1).to_pylist()[0]
        return row

    def _read_next(self) -> bool:
        """Read the next place; False when there is none."""
        if not self._places:
            return False
        place = self._places[0]
        for batch in place.read():
            if self._add(batch, place.any_question):
                self._batches.append(batch.select([name for name in batch.schema.names if name in self._columns]))
                self._starts.append(self._count)
                self._count += batch.num_rows
        del self._places[0]  # only now: a place that cannot be read is tried again
        return True

    def _add(self, batch: pa.RecordBatch, any_question: bool) -> bool:
        """Whether one of these rows is of use."""
        hashes = batch.column("llm_request_hash").to_pylist()
        statuses = batch.column("llm_status").to_pylist()
        rows = zip(hashes, statuses, keys_of(batch, self._key), strict=True)
        is_of_use = False
        for number, (request_hash, status, key) in enumerate(rows, self._count):
            if key is None or status not in ("ok", "failed"):
                continue
            self._keys.add(key)
            if status == "ok" and any_question and self._of_key.setdefault(key, number) == number:
                is_of_use = True
            if request_hash and self._is_better(status, (request_hash, *key)):
                self._index[request_hash, *key] = number
                is_of_use = True
                if status == "failed":
                    self._failed.add(number)
        return is_of_use

    def _is_better(self, status: str, question: Key) -> bool:
        """Than what is known of this question for this key."""
        known = self._index.get(question)
        if status == "ok":
            return known is None or known in self._failed
        return known is None and self._with_failed
