"""One slice at work: its rows in order, what its journal knows, what is left to ask.

Belongs here: opening a slice, telling which rows are still to be asked, noting results. Not here: one row's request
(work.py), calling (pipeline.py), the output's columns (publish.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any

import pyarrow as pa

from batch_llm.engine.answerers import FALLBACK, USER
from batch_llm.engine.answers import AnyJudge, Verdict
from batch_llm.engine.context import too_long
from batch_llm.engine.copies import AnswerCopies, Copies, VectorCopies
from batch_llm.engine.equal_rows import EqualRows
from batch_llm.engine.events import FirstFailure
from batch_llm.engine.packing import CallBounds, Packer
from batch_llm.engine.parts import JobParts, frozen_input, python_rows, request_hash
from batch_llm.engine.prior import PriorAnswers, prior_answers
from batch_llm.engine.reuse import Elsewhere, Reuse, Twin
from batch_llm.engine.rows import Rows, asked_in
from batch_llm.engine.work import Work
from batch_llm.errors import ErrorClass
from batch_llm.job.template import RenderError
from batch_llm.journal.answer_index import Slice
from batch_llm.journal.base import NO_ROW, Entry, EntryKind, Journal, RunRecord
from batch_llm.warehouse.base import StatusCounts

__all__ = ["SliceWork"]

PREPARED_BYTES = 16 * 1024 * 1024  # of prompts and images that are handed on together

Prepared = list[Work | Entry | Twin | Elsewhere]
"""A batch of open rows: to be asked, known, or waiting for the answer of another row."""


class SliceWork:
    """One slice of one run, with its journal open and locked."""

    def __init__(self, parts: JobParts, judge: AnyJudge, record: RunRecord, number: int) -> None:
        """Nothing is read yet: see `open`."""
        self.parts = parts
        self.record = record
        self.number = number
        count = record.slice_rows[number]
        self.rows = Rows(parts.answerers(judge, record), count)
        self.outstanding = 0  # rows handed out and not ended
        self.fed = False  # all rows were handed out or found done
        self.asked = 0
        self.carried_ok = self.carried_failed = 0
        self.prior = PriorAnswers((), ())
        self._reuse: Reuse | None = None
        self._user = parts.declared.job.user
        self._is_guest = self._user != record.begun_by  # who goes on with somebody else's run pays in it for himself
        self.equal_rows = EqualRows(parts.clock)  # that wait for others; a feed has those of all its slices in one
        self.asked_elsewhere = 0  # rows of this slice among them
        self.asked_by: set[str] = set()  # the runs that ask them, as of the last look
        self.on_failed: Callable[[FirstFailure], None] = lambda failure: None  # a row ended before any call
        self._journal: Journal | None = None
        bounds = parts.call_bounds
        self._calls = None if bounds is None else _Calls(bounds)

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
        journal noted below this place; None: none but those of an earlier opening that were not asked yet.
        """
        with ExitStack() as opened:
            self._journal = journal = self.parts.runs.journal(self.record.run_id, self.number)
            opened.callback(self.close)
            self.rows.entry_at = lambda place: journal.entries_at([place])[0]  # not by self, which would keep itself
            self.rows.replay(journal.replay())
            self._reuse = self._opened_reuse()
            if reopen_below is not None:
                self._reopen(reopen_below)
            self.prior = prior_answers(self.parts, self.record, self.number, with_failed=not self.rows.retried)
            opened.pop_all()

    def _reopen(self, below: int) -> None:
        """Noted, so that rows that are not asked before somebody stops it are asked by whoever goes on."""
        at = self.parts.clock.now()
        if not self.rows.retried:
            self.note(Entry(EntryKind.RETRIED, NO_ROW, at=at))
        for row in self.rows.failed(below):
            self.note(Entry(EntryKind.REOPENED, row, at=at))

    def _opened_reuse(self) -> Reuse | None:
        """What this slice may use again."""
        parts, index = self.parts, self.parts.answers
        if index is None:
            return None
        owner, judge = Slice(self.record.run_id, self.number), self.rows.answerers.own.judge
        copies: Copies = AnswerCopies(parts.runs, judge)
        if parts.call_bounds is not None:
            copies = VectorCopies(parts.runs, judge, owner, parts.aside)
        reuse = Reuse(index, parts.runs, copies, owner)
        reuse.replayed(self._good_answers())
        return reuse

    def _good_answers(self) -> Iterator[tuple[str, int]]:
        """(request hash, place) of the answers that the user paid in this journal, and that count."""
        for entry in self.journal.replay() if self.rows.ok else ():
            if entry.kind is not EntryKind.ANSWER or FALLBACK in entry.detail:
                continue
            if entry.detail.get(USER, self.record.begun_by) != self._user:
                continue
            for row, asked in asked_in(entry):
                if self.rows.good_place(row) == entry.place:
                    yield asked, entry.place

    def counts(self) -> StatusCounts:
        """How its rows stand and what they cost, by the journal; also when it is closed."""
        carried = self.carried_ok + self.carried_failed
        rows = self.rows
        return StatusCounts(
            ok=rows.ok + self.carried_ok,
            failed=rows.failed_count + self.carried_failed,
            cached=carried + rows.cached,
            input_tokens=rows.input_tokens,
            output_tokens=rows.output_tokens,
            cost_usd=rows.known_usd,
            cost_unknown_rows=rows.unpriced,
        )

    def sync(self) -> None:
        """Bring the journal to the disk, if it is still open, and its answers to the index; blocking."""
        if self._journal is not None:
            self._journal.sync()
            if self._reuse is not None:
                self._reuse.register()

    def close(self) -> None:
        """Flush and unlock the journal, and remember what it cost; blocking."""
        if self._journal is not None:  # the sum first: once it is unlocked, somebody else's entries make it longer
            try:
                self.parts.runs.save_spent(self.record.run_id, self.number, str(self.rows.owed_usd))
            finally:
                self._journal.close()
                self._journal = None
                if self._reuse is not None:  # last: who takes over its claims looks whether the journal is locked
                    self._reuse.close()

    def note(self, entry: Entry) -> Verdict | None:
        """Store an entry, then fold it: in this order, always. The verdict when it is an answer.

        Raises `JournalError` when it could not be stored, or was and nothing more is to be asked.
        """
        if self._is_guest and entry.kind is EntryKind.ANSWER:
            entry = entry._replace(detail={**entry.detail, USER: self._user})
        journal, verdict = self.journal, None
        place = journal.append(entry)
        if entry.kind is EntryKind.CACHED:  # it was judged when it was found, or for the row that asked it
            self.rows.take(entry, place)
        else:
            verdict = self.rows.apply(entry, place)
            if verdict is not None and verdict.vectors and self._reuse is not None:
                self._reuse.answered(entry, place, verdict.vectors)
        if journal.failure is not None:
            raise journal.failure
        return verdict

    async def works(self) -> AsyncGenerator[Work]:
        """The rows that are still to be asked, in order; prepares one batch ahead in a thread.

        Rows that wait for others are left to `equal_rows`. When those are so many that this waits for them, no batch is
        ahead: its rows would be claimed and not asked, and the others, or rows of this very slice, might wait for them.
        """
        batches = self._prepared()
        ahead = self._begun(batches)
        try:
            while True:
                await asyncio.wait({ahead})  # not the task itself: cancelled, it would leave its thread behind
                prepared = ahead.result()
                if prepared is None:
                    break
                is_full = self.equal_rows.is_full
                if not is_full:
                    ahead = self._begun(batches)
                for work in self.to_ask(prepared):
                    yield work
                while is_full and self.equal_rows.is_full:
                    for work in self.to_ask(self._left_over()):  # claimed: those that are waited for may wait for it
                        yield work
                    for work in await self.equal_rows.looked_later():
                        yield work
                if is_full:
                    ahead = self._begun(batches)
        finally:
            await asyncio.wait({ahead})
            ahead.exception()
            batches.close()

    @staticmethod
    def _begun(batches: Generator[Prepared]) -> asyncio.Future[Prepared | None]:
        """The next batch on its way; None at the end."""
        return asyncio.ensure_future(asyncio.to_thread(next, batches, None))

    def to_ask(self, prepared: Iterable[Work | Entry | Twin | Elsewhere]) -> Iterator[Work]:
        """The rows to hand out; notes what is known of others, and keeps those that wait for somebody else's answer."""
        for each in prepared:
            if isinstance(each, Work):
                self.outstanding += each.count
                self.asked += each.count
                if self._reuse is not None:
                    for row in (each, *each.others):
                        self._reuse.leads(row)
                yield each
            elif isinstance(each, Entry):
                self.note(each)
                if each.kind is EntryKind.FAILED:  # what is said of such a row holds no text of it
                    said = each.detail
                    self.on_failed(FirstFailure(said["error_class"], said["message"], self.number, each.row))
            elif isinstance(each, Elsewhere):
                self.equal_rows.add(each.work)
                self.asked_by.add(each.run_id)
            elif self._reuse is not None:
                self._join(each.work, self._reuse)

    def _join(self, twin: Work, reuse: Reuse) -> None:
        joined = reuse.join(twin)
        if isinstance(joined, Entry):
            self.note(joined._replace(at=self.parts.clock.now()))
        elif joined:
            self.outstanding += 1
        else:
            self.equal_rows.add(twin)

    def ended(self, work: Work) -> None:
        """A row that was handed out has its result, or all rows of a call; so have their twins."""
        self.outstanding -= work.count
        if self._reuse is None:
            return
        for each in (work, *work.others):
            place = self.rows.good_place(each.row)
            state = self.rows.open_state(each.row)
            failure = {} if state is None else {"error_class": state.error_class or "", "message": state.error or ""}
            for entry in self._reuse.ended(each, place if place >= 0 else None, failure):
                self.outstanding -= 1
                self.note(entry._replace(at=self.parts.clock.now()))

    def reused(self, works: list[Work]) -> Prepared:
        """What is known of these rows by now: they are to be asked, have an answer, or wait for one; blocking."""
        found, bounds = self._looked(works), self.parts.call_bounds
        return found if bounds is None else _Calls(bounds).of(found, rest=True)

    def _looked(self, works: list[Work]) -> Prepared:
        if self._reuse is None:
            return list(works)
        return list(self._reuse.look(works, self.parts.clock.now()))

    def _prepared(self) -> Generator[Prepared]:
        """The slice's open rows, batch by batch, packed into calls where a call asks many; blocking."""
        start = 0
        for batch in self.parts.warehouse.read(frozen_input(self.record), self.number):
            if not self.rows.all_done(start, batch.num_rows):
                for prepared in self._prepare(batch, start):
                    claimed = self._claimed(prepared)
                    yield claimed if self._calls is None else self._calls.of(claimed)
            start += batch.num_rows
        yield self._left_over()

    def _left_over(self) -> Prepared:
        """What waits for more rows in the same call. No batch may be prepared meanwhile."""
        return [] if self._calls is None else self._calls.of([], rest=True)

    def _claimed(self, prepared: list[Work | Entry]) -> Prepared:
        known = [each for each in prepared if isinstance(each, Entry)]
        return [*known, *self._looked([each for each in prepared if isinstance(each, Work)])]

    def _prepare(self, batch: pa.RecordBatch, start: int) -> Generator[list[Work | Entry]]:
        """Render and count a batch's open rows; a row that cannot be rendered becomes its FAILED entry.

        Not those whose key keeps its answer. In several parts where the rows have large images.
        """
        prepared: list[Work | Entry] = []
        held_bytes = 0
        rows = zip(python_rows(batch, self.parts.asked_columns), self.prior.keys(batch), strict=True)
        for row, (values, key) in enumerate(rows, start):
            if self.rows.is_done(row):
                continue
            if self.prior.kept(key) is not None:
                self.carried_ok += 1
                continue
            try:
                work = self._work(row, values)
            except RenderError as failure:
                detail = {"error_class": failure.error_class.value, "message": str(failure)}
                prepared.append(Entry(EntryKind.FAILED, row, at=self.parts.clock.now(), detail=detail))
                continue
            found = self.prior.find(values or {}, work.request_hash)
            too_large = too_long(self.parts, work.cost) if found is None else None
            if too_large is not None:
                detail = {"error_class": ErrorClass.TOO_LARGE.value, "message": too_large}
                prepared.append(Entry(EntryKind.FAILED, row, at=self.parts.clock.now(), detail=detail))
            elif found is None:
                prepared.append(work)
                held_bytes += work.held_bytes
                if held_bytes >= PREPARED_BYTES:
                    yield prepared
                    prepared, held_bytes = [], 0
            elif self.prior.is_failed(found):
                self.carried_failed += 1
            else:
                self.carried_ok += 1
        yield prepared

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
            image_bytes=self.parts.image_bytes(request),
            image_tokens=self.parts.image_tokens(request),
        )


class _Calls:
    """Packs rows into calls as they come; a twin comes after the call that asks for it."""

    def __init__(self, bounds: CallBounds) -> None:
        self._packer: Packer[Work] = Packer(bounds)
        self._twins_max = bounds.rows
        self._twins: list[Twin] = []  # of rows that wait in the packer, or were handed out

    def of(self, prepared: Prepared, *, rest: bool = False) -> Prepared:
        """The calls that these rows complete, and what needs none; ``rest``: no more rows will come."""
        found: Prepared = []
        for each in prepared:
            if isinstance(each, Work):
                self._hand_out(self._packer.add(each), found)
            elif isinstance(each, Twin):
                self._twins.append(each)
            else:
                found.append(each)
        if rest or len(self._twins) >= self._twins_max:  # they hold their texts
            self._hand_out(self._packer.rest(), found)
            found.extend(self._twins)
            self._twins = []
        return found

    def _hand_out(self, full: list[list[Work]], found: Prepared) -> None:
        """All rows that waited before are in these calls, if there are any: so are those that the twins wait for."""
        if full:
            found.extend(Work.together(works, row_is_request=self._packer.row_is_request) for works in full)
            found.extend(self._twins)
            self._twins = []
