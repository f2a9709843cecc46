"""One slice at work: its rows in order, what its journal knows, what is left to ask.

Belongs here: opening a slice, telling which rows are still to be asked, noting results. Not here: calling
(pipeline.py), the output's columns (publish.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from batch_llm.engine.answers import Judge, Verdict
from batch_llm.engine.parts import JobParts, frozen_input, python_rows, request_hash
from batch_llm.engine.prior import PriorAnswers, prior_answers
from batch_llm.engine.rows import Rows
from batch_llm.errors import ErrorClass
from batch_llm.job.template import RenderError
from batch_llm.journal.base import Entry, EntryKind, Journal, RunRecord
from batch_llm.limiter.base import Cost, Hold
from batch_llm.providers.base import Request

__all__ = ["SliceWork", "Work"]


@dataclass(slots=True)
class Work:
    """A row that is to be asked."""

    slice_work: SliceWork
    row: int
    request: Request
    request_hash: str
    input_bytes: int
    cost: Cost  # predicted
    attempt: int  # of the next call, starting at 1
    first_messages: int  # how many messages the prompt itself has
    tries: int = 0  # transient failures in this process
    timeouts: int = 0  # of them, calls that took too long: the next may take twice as long
    throttles: int = 0  # 429s since its last call that ended otherwise
    cuts: int = 0  # answers that were cut short
    hold: Hold | None = None  # money that came too late for the call it was meant for

    def to_send(self) -> Request:
        """The request of the next call; its attempt is the one that the journal will name."""
        return self.request if self.attempt == self.request.attempt else replace(self.request, attempt=self.attempt)

    def note(
        self, kind: EntryKind, body: bytes = b"", latency_s: float = 0.0, detail: dict[str, Any] | None = None
    ) -> Verdict | None:
        """Store an entry about this row; the verdict when it is an answer."""
        now = self.slice_work.parts.clock.now()
        entry = Entry(kind, self.row, self.attempt, now, self.request_hash, body, latency_s, detail=detail or {})
        return self.slice_work.note(entry)


class SliceWork:
    """One slice of one run, with its journal open and locked."""

    def __init__(self, parts: JobParts, judge: Judge, record: RunRecord, number: int) -> None:
        """Nothing is read yet: see `open`."""
        self.parts = parts
        self.record = record
        self.number = number
        self.rows = Rows(
            judge, parts.price, record.slice_rows[number], lambda place: self.journal.entries_at([place])[0]
        )
        self.outstanding = 0  # rows handed out and not ended
        self.fed = False  # all rows were handed out or found done
        self.asked = 0
        self.carried_ok = self.carried_failed = 0
        self.prior = PriorAnswers((), ())
        self._journal: Journal | None = None

    @property
    def row_count(self) -> int:
        """Rows of the frozen slice."""
        return self.record.slice_rows[self.number]

    @property
    def journal(self) -> Journal:
        """The open journal."""
        if self._journal is None:
            raise RuntimeError("the slice is not open")
        return self._journal

    def open(self, *, reopen_below: int | None) -> None:
        """Lock the journal and learn what is known; blocking. Raises `JournalBusy`.

        ``reopen_below``: failed rows are to be asked once more, those of earlier runs and those whose failure this
        journal noted below this place; None: none.
        """
        with ExitStack() as opened:
            self._journal = self.parts.runs.journal(self.record.run_id, self.number)
            opened.callback(self.close)
            self.rows.replay(self._journal.replay())
            if reopen_below is not None:
                for row in self.rows.failed(reopen_below):
                    self.note(Entry(EntryKind.REOPENED, row, at=self.parts.clock.now()))
            self.prior = prior_answers(self.parts, self.record, self.number, with_failed=reopen_below is None)
            opened.pop_all()

    def sync(self) -> None:
        """Bring the journal to the disk, if it is still open; blocking."""
        if self._journal is not None:
            self._journal.sync()

    def close(self) -> None:
        """Flush and unlock the journal, and remember what it cost; blocking."""
        if self._journal is not None:  # the sum first: once it is unlocked, somebody else's entries make it longer
            try:
                self.parts.runs.save_spent(self.record.run_id, self.number, str(self.rows.spent_usd))
            finally:
                self._journal.close()
                self._journal = None

    def note(self, entry: Entry) -> Verdict | None:
        """Store an entry, then fold it: in this order, always. The verdict when it is an answer."""
        return self.rows.apply(entry, self.journal.append(entry))

    async def works(self) -> AsyncGenerator[Work]:
        """The rows that are still to be asked, in order; prepares one batch ahead in a thread."""
        batches = self._prepared()
        ahead = asyncio.ensure_future(asyncio.to_thread(next, batches, None))
        try:
            while True:
                await asyncio.wait({ahead})  # not the task itself: cancelled, it would leave its thread behind
                prepared = ahead.result()
                if prepared is None:
                    break
                ahead = asyncio.ensure_future(asyncio.to_thread(next, batches, None))
                for work in prepared:
                    if isinstance(work, Work):
                        self.outstanding += 1
                        self.asked += 1
                        yield work
                    else:
                        self.note(work)
        finally:
            await asyncio.wait({ahead})
            ahead.exception()
            batches.close()
        self.fed = True

    def _prepared(self) -> Generator[list[Work | Entry]]:
        """The slice's open rows, batch by batch; blocking."""
        start = 0
        for batch in self.parts.warehouse.read(frozen_input(self.record), self.number):
            if not self.rows.all_done(start, batch.num_rows):
                yield self._prepare(batch, start)
            start += batch.num_rows

    def _prepare(self, batch: pa.RecordBatch, start: int) -> list[Work | Entry]:
        """Render and count a batch's open rows; a row that cannot be rendered becomes its FAILED entry."""
        prepared: list[Work | Entry] = []
        for row, values in enumerate(python_rows(batch, self.parts.asked_columns), start):
            if self.rows.is_done(row):
                continue
            try:
                work = self._work(row, values)
            except RenderError as failure:
                detail = {"error_class": ErrorClass.TEMPLATE.value, "message": str(failure)}
                prepared.append(Entry(EntryKind.FAILED, row, at=self.parts.clock.now(), detail=detail))
                continue
            found = self.prior.find(values or {}, work.request_hash)
            if found is None:
                prepared.append(work)
            elif self.prior.is_failed(found):
                self.carried_failed += 1
            else:
                self.carried_ok += 1
        return prepared

    def _work(self, row: int, values: Mapping[str, Any] | None) -> Work:
        if values is None:
            raise RenderError("a value of this row is outside of what Python can hold (a date beyond the year 9999)")
        custom_id = f"{self.record.run_id}-{self.number:04d}-{row}"
        request = self.parts.request(values, custom_id)
        state = self.rows.open_state(row)
        sent = self.parts.with_cap(request, state.bad_answers if state else 0)
        return Work(
            self,
            row,
            sent,
            request_hash(request, self.parts.declared.job.model),
            self.parts.input_bytes(sent),
            self.parts.predicted_cost(sent),
            attempt=(state.attempts if state else 0) + 1,
            first_messages=len(request.messages),
        )
