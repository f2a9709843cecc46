"""Which rows of a frozen input are to be asked, and what a sample of them says of their tokens.

Belongs here: passing over the rows. Not here: the sample's mathematics (sampling.py), answers (expected.py), money
(planned.py). Where there are no earlier answers nothing is rendered but the sample.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import pyarrow as pa

from batch_llm.engine.answers import AnyJudge
from batch_llm.engine.context import too_long
from batch_llm.engine.parts import JobParts, python_rows, request_hash
from batch_llm.engine.prior import PriorAnswers, keys_of, prior_answers
from batch_llm.engine.row_state import RowStatus
from batch_llm.engine.rows import Rows
from batch_llm.engine.sampling import EvenSample, is_drawn
from batch_llm.errors import OutputError
from batch_llm.job.template import RenderError
from batch_llm.journal.base import RunRecord
from batch_llm.providers.base import Request
from batch_llm.warehouse.base import FrozenInput

__all__ = ["COUNTED_ROWS", "Estimate", "Looking", "estimate"]

COUNTED_ROWS = 1_001  # rows whose tokens are counted; odd, so that they are thinned out in whole pairs
LOOKED_AT_ROWS = 5_000  # rows with an earlier answer that are compared with it, where a sample is enough
SHOWN_PROMPTS = 2


@dataclass(frozen=True, slots=True)
class Looking:
    """How to look."""

    runs: tuple[str, ...] = ()  # earlier runs with answers that are not in the output table
    every_row: bool = True  # compare every row with its earlier answer; else a sample of them
    retried: RunRecord | None = None  # the run whose failed rows are to be asked again; None: what failed is done


@dataclass(slots=True)
class Estimate:
    """What is to be asked."""

    rows: int
    new: int = 0  # never asked before
    changed: int = 0  # asked before, otherwise
    done: int = 0
    failed: int = 0
    taken: int = 0  # rows that were drawn, those included that the sample has dropped since
    unrendered_drawn: int = 0  # of them
    too_long_drawn: int = 0  # of them
    repeated_drawn: int = 0  # of them: rows that ask what a row drawn before asks
    known_drawn: int = 0  # of them: rows whose answer the user's index has
    distinct: int | None = None  # different questions among all rows, where that is known
    asked: set[str] = field(default_factory=set)  # request hashes of the rows that were drawn
    unrendered_again: int = 0  # of `failed`: rows with an earlier row that cannot be sent, so nothing tells what it was
    too_long_again: int = 0  # the same
    sample: EvenSample = field(default_factory=lambda: EvenSample(COUNTED_ROWS))
    prompts: list[str] = field(default_factory=list)
    others: tuple[EvenSample, ...] = ()  # the same sample as each model of `fallback` counts it

    @property
    def to_ask(self) -> int:
        """Rows that are to be asked, those that cannot be sent included."""
        return self.new + self.changed

    @property
    def unrendered(self) -> int:
        """Rows that cannot be rendered, and so fail without a call."""
        return self._of_all(self.unrendered_drawn) + self.unrendered_again

    @property
    def too_long(self) -> int:
        """Rows that are too long for the model, and so fail without a call."""
        return self._of_all(self.too_long_drawn) + self.too_long_again

    @property
    def requests(self) -> int:
        """Rows that are sent."""
        return round(self._sent_by_sample * self.scale)

    @property
    def _sent_by_sample(self) -> int:
        free = self.repeated_drawn + self.known_drawn
        return max(0, self.to_ask - self._of_all(self.unrendered_drawn + self.too_long_drawn + free))

    @property
    def scale(self) -> float:
        """What the sample's totals are to be multiplied by: of rows that repeat an earlier one it sees few."""
        if self.distinct is None or self.sample.whole or not self.taken or self.repeated_drawn == self.taken:
            return 1.0
        return min(1.0, self.distinct / self.rows / (1 - self.repeated_drawn / self.taken))

    @property
    def free(self) -> int:
        """Rows that need no call: an equal row's answer, or one that the user's index has, is theirs.

        At least: where something was answered before, two equal rows are seen only if both were drawn.
        """
        sent = self._sent_by_sample
        return self._of_all(self.repeated_drawn + self.known_drawn) + sent - round(sent * self.scale)

    def _of_all(self, drawn: int) -> int:
        return round(drawn * self.to_ask / self.taken) if self.taken else 0


def estimate(parts: JobParts, judge: AnyJudge, frozen: FrozenInput, looking: Looking) -> Estimate:
    """Look at a frozen input; blocking."""
    found = Estimate(frozen.rows, others=tuple(EvenSample(COUNTED_ROWS) for _ in parts.fallbacks))
    retried = looking.retried
    untouched = retried is None and _is_untouched(parts, looking)
    if untouched:
        found.sample.stretch = max(1, math.ceil(frozen.rows / COUNTED_ROWS))
    for info in frozen.slices:
        own = Rows(parts.answerers(judge, retried), info.rows)
        own.replay(parts.runs.entries(frozen.run_id, info.number))
        prior = PriorAnswers((), ())
        if retried is not None:
            prior = prior_answers(parts, retried, info.number, with_failed=False)
        elif not untouched:
            prior = prior_answers(parts, frozen, info.number, looking.runs)
        stretch = 1 if looking.every_row else max(1, math.ceil(frozen.rows / LOOKED_AT_ROWS))
        _Pass(parts, own, prior, found, stretch, asks_failed=retried is not None).over(frozen, info.number)
    if parts.answers is not None:
        parts.answers.close()
        if untouched and not found.sample.whole:
            found.distinct = _distinct(parts, frozen)
    for other in found.others:
        other.seen, other.sizes = found.sample.seen, found.sample.sizes
    return found


def _distinct(parts: JobParts, frozen: FrozenInput) -> int | None:
    """Different questions among the rows: as many as the columns of the prompt have values together."""
    columns = sorted(parts.declared.prompt.columns)
    if parts.declared.job.images:
        return None  # they are large
    return parts.warehouse.distinct(frozen, columns) if columns else 1


def _is_untouched(parts: JobParts, looking: Looking) -> bool:
    """Whether nothing at all was answered before."""
    if looking.runs:
        return False
    try:
        return not any(batch.num_rows for batch in parts.warehouse.rows(parts.output, limit=1))
    except OutputError:
        return True


@dataclass(slots=True)
class _Pass:
    """One slice's rows."""

    parts: JobParts
    own: Rows  # what the run's own journal says
    prior: PriorAnswers
    found: Estimate
    stretch: int  # of rows with an earlier answer, one of so many is compared with it
    asks_failed: bool = False  # the rows that failed are to be asked
    known: int = 0

    def over(self, frozen: FrozenInput, number: int) -> None:
        start = 0
        for batch in self.parts.warehouse.read(frozen, number):
            sizes = _text_sizes(batch, sorted(self.parts.declared.prompt.columns))
            if self.own.ok or self.own.failed_count or self.prior.any():
                self._row_by_row(batch, sizes, start)
            else:
                self._all_new(batch, sizes)
            start += batch.num_rows

    def _all_new(self, batch: pa.RecordBatch, sizes: Sequence[int]) -> None:
        self.found.new += batch.num_rows
        for place in self.found.sample.pass_by(batch.num_rows, sum(sizes)):
            self._count(self._request(batch, place), sizes[place])

    def _row_by_row(self, batch: pa.RecordBatch, sizes: Sequence[int], start: int) -> None:
        for place, key in enumerate(keys_of(batch, self.parts.key)):
            status = self.own.status(start + place)
            if status == RowStatus.OK or (status == RowStatus.FAILED and not self.asks_failed):
                self._count_done(status, 1)
            elif self.prior.kept(key) is not None:
                self._count_done(RowStatus.OK, 1)
            elif key is not None and self.prior.has_key(key):
                self._compare(batch, place, sizes[place])
            else:
                self.found.new += 1
                if self.found.sample.wants(sizes[place]):
                    self._count(self._request(batch, place), sizes[place])

    def _compare(self, batch: pa.RecordBatch, place: int, size: int) -> None:
        """A row with an earlier answer: is it the answer to this very question?"""
        self.known += 1
        if not is_drawn(self.known - 1, self.stretch):
            return
        row = python_rows(batch.slice(place, 1), self.parts.asked_columns)[0]
        request = self._rendered(row)
        if request is None or row is None:
            self.found.unrendered_again += self.stretch
            self._count_done(RowStatus.FAILED, self.stretch)
            return
        match = self.prior.find(row, request_hash(request, self.parts.declared.job.model))
        if match is not None:
            self._count_done(RowStatus.FAILED if self.prior.is_failed(match) else RowStatus.OK, self.stretch)
            return
        if self._is_too_long(request):
            self.found.too_long_again += self.stretch
            self._count_done(RowStatus.FAILED, self.stretch)
            return
        self.found.changed += self.stretch
        for copy in range(self.stretch):
            if self.found.sample.wants(size):
                self._count(request, size, stands_for_another=copy > 0)

    def _count_done(self, status: str, rows: int) -> None:
        if status == RowStatus.OK:
            self.found.done += rows
        else:
            self.found.failed += rows

    def _count(self, request: Request | None, size: int, *, stands_for_another: bool = False) -> None:
        """A row of the sample, or one that stands for another that was not looked at."""
        self.found.taken += 1
        refused = request is None or self._is_too_long(request)
        free = request is not None and not refused and not stands_for_another and self._is_free(request)
        models = zip((self.parts, *self.parts.fallbacks), (self.found.sample, *self.found.others), strict=True)
        for parts, sample in models:
            if request is None or refused or free:
                sample.take(size, 0, 0)
                continue
            named = replace(request, model=parts.declared.job.model_name)
            given, size_bytes = parts.predicted_cost(named).input_tokens, parts.input_bytes(named)
            sample.take(size, given, size_bytes, parts.image_tokens(named))
        if request is None:
            self.found.unrendered_drawn += 1
            return
        if refused:
            self.found.too_long_drawn += 1
            return
        if len(self.found.prompts) < SHOWN_PROMPTS:
            told = [f"[{part.role}] {part.content}" for part in request.messages]
            self.found.prompts.append("\n".join([*told, *(f"[image] {image.shown}" for image in request.images)]))

    def _is_free(self, request: Request) -> bool:
        """Whether the answer of an equal row, or one that the user's index has, is this row's as well; counted."""
        index = self.parts.answers
        if index is None:
            return False
        said, asked = request_hash(request, self.parts.declared.job.model), self.found.asked
        if said in asked:
            self.found.repeated_drawn += 1
            return True
        asked.add(said)
        known = bool(index.known([said]))
        self.found.known_drawn += known
        return known

    def _is_too_long(self, request: Request) -> bool:
        if self.parts.context_tokens is None:  # nobody knows, and counting takes time
            return False
        return too_long(self.parts, self.parts.predicted_cost(request)) is not None

    def _request(self, batch: pa.RecordBatch, place: int) -> Request | None:
        return self._rendered(python_rows(batch.slice(place, 1), self.parts.asked_columns)[0])

    def _rendered(self, row: dict[str, Any] | None) -> Request | None:
        try:
            return None if row is None else self.parts.request(row, "")
        except RenderError:
            return None


def _text_sizes(batch: pa.RecordBatch, columns: Sequence[str]) -> list[int]:
    """Bytes of each row's texts; what is no text counts nothing, as it hardly differs in length.

    Read from where Arrow keeps them: its compute functions would load pandas, which takes a second.
    """
    sizes = [0] * batch.num_rows
    for name in columns:
        column = batch.column(name)
        is_large = pa.types.is_large_string(column.type)
        if batch.num_rows and (is_large or pa.types.is_string(column.type)):
            places = memoryview(column.buffers()[1])  # of the texts' ends, 32 or 64 bits wide
            offsets = places.cast("q") if is_large else places.cast("i")
            used = offsets[column.offset : column.offset + batch.num_rows + 1]
            sizes = [size + end - start for size, (start, end) in zip(sizes, pairwise(used), strict=True)]
    return sizes
