"""Judging a run's stored answers again, after its schema changed or a parser was mended; nothing is asked.

Belongs here: what may differ, what becomes of each row, the order of things. Not here: judging one answer (answers.py),
publishing (publishing.py), asking what does not fit (`run`, `retry`).

    note in each journal  ->  change the record  ->  publish each slice  ->  promote

Killed in between, the same command, or `run`, goes on: what a row is follows from its journal and the schema alone.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from batch_llm.engine.answerers import Answerers
from batch_llm.engine.answers import AnyJudge, Verdict
from batch_llm.engine.date_partition import date_range, latest_run
from batch_llm.engine.events import RunSummary
from batch_llm.engine.meter import Meter
from batch_llm.engine.output import check_owner
from batch_llm.engine.parts import JobParts, frozen_input, python_rows, request_hash
from batch_llm.engine.prior import Key
from batch_llm.engine.promotion import promote
from batch_llm.engine.publish import Pending
from batch_llm.engine.publishing import publish_slice
from batch_llm.engine.row_state import RowStatus
from batch_llm.engine.rows import Rows, asked_in
from batch_llm.engine.slice_work import SliceWork
from batch_llm.engine.starting import signatures
from batch_llm.errors import ConfigurationError, ErrorClass, OutputError
from batch_llm.job.load import DeclaredJob, declare
from batch_llm.job.template import RenderError
from batch_llm.journal.base import Entry, EntryKind, RunRecord, RunState

__all__ = ["Reparsed", "Reparser", "StandingRows", "differences"]

PENDING = RowStatus.PENDING
STANDS = "stands"  # in the detail of ASKED_AS: what was noted before of the row's end is not so any more
FOREIGN = "pending (answered in an earlier run)"


@dataclass(frozen=True, slots=True)
class Reparsed:
    """What became of a run's rows."""

    summary: RunSummary
    moves: Mapping[tuple[str, str], int]  # (before, after): rows; ok, an error class, or pending
    schema_changed: bool


class StandingRows(Rows):
    """Rows that also remember why their answers are not good, and as what they were asked."""

    def __init__(self, answerers: Answerers, count: int) -> None:
        super().__init__(answerers, count)
        self.failures: dict[int, Verdict] = {}  # of rows with bad answers: the one nearest to good
        self.hashes: dict[int, str] = {}
        self.ended_as: dict[int, str] = {}  # the class with which a row was given up, as it was judged then

    def apply(self, entry: Entry, place: int) -> Verdict | None:
        """See `Rows.apply`."""
        if entry.kind is EntryKind.FAILED:
            self.ended_as[entry.row] = entry.detail["error_class"]
        elif entry.kind is EntryKind.REOPENED or STANDS in entry.detail:
            self.ended_as.pop(entry.row, None)
        verdict = super().apply(entry, place)
        for row, request_hash_ in asked_in(entry):
            if request_hash_:
                self.hashes[row] = request_hash_
            if verdict is None or verdict.error_class is None:
                continue
            best = self.failures.get(row)
            if best is None or best.error_class != ErrorClass.SCHEMA_MISMATCH:
                self.failures[row] = verdict
        return verdict


class Reparser:
    """Judges the answers of a job's latest run again; needs no key and no provider."""

    def __init__(self, parts: JobParts, judge: AnyJudge) -> None:
        """``judge``: of the job as it is now."""
        self.parts = parts
        self._judge = judge

    async def reparse(self) -> Reparsed:
        """Judge, publish, promote. Costs nothing.

        Raises `ConfigurationError` when the job has not run or more than its schema differs, `SliceBusy` while a
        process works on the run, `OutputError` when the output cannot take the columns.
        """
        name = self.parts.declared.job.name
        with ExitStack() as held:
            await asyncio.to_thread(held.enter_context, self.parts.runs.starting(name))
            record = await asyncio.to_thread(self._record)
            await asyncio.to_thread(held.enter_context, self.parts.runs.alone(record.run_id))
            moves = await asyncio.to_thread(self._judge_again, record)
            changed = record.signature != signatures(self.parts)[0]
            record = await asyncio.to_thread(self._published, record, anew=changed)
            summary = await promote(self.parts, record, Meter(self.parts.clock))
        return Reparsed(summary, moves, changed)

    def _record(self) -> RunRecord:
        parts = self.parts
        record = latest_run(parts)
        if record is None:
            raise ConfigurationError(f"job {parts.declared.job.name} has not run in this home; `run` it first")
        other = differences(parts, record)
        if other:
            raise ConfigurationError(
                f"job {parts.declared.job.name}: {', '.join(other)} changed since run {record.run_id}, so its answers "
                "are answers to another question; only output.schema and output.table may differ. `run` the job: it "
                "asks what the change touches"
            )
        return record

    # ---- what each row is

    def _judge_again(self, record: RunRecord) -> Counter[tuple[str, str]]:
        """Note in the journals what a later look must find there; how rows moved."""
        self._ensure_output(record)
        moves: Counter[tuple[str, str]] = Counter()
        declared = _as_it_was(record)
        before = replace(self.parts, declared=declared, output=declared.resolve(declared.job.output.table))
        for number in range(len(record.slice_rows)):
            work = SliceWork(before, self._judge.for_schema(declared.answer), record, number)
            work.open(reopen_below=None)
            with closing(work):
                moves.update(self._moves(work))
                work.sync()
        return moves

    def _moves(self, work: SliceWork) -> Iterator[tuple[str, str]]:
        after = StandingRows(self.parts.answerers(self._judge, work.record), work.row_count)
        after.replay(work.journal.replay())
        for row, (values, key) in self._frozen_rows(work):
            before = work.rows.status(row)
            was = after.ended_as.get(row) or _label(work.rows, row)
            if after.status(row) == PENDING and row not in after.failures:
                yield self._without_answer(work, values, key)
                continue
            if after.status(row) == PENDING and before != PENDING:
                verdict = after.failures[row]
                detail = {"error_class": str(verdict.error_class), "message": verdict.message}
                failed = Entry(EntryKind.FAILED, row, at=self.parts.clock.now(), detail=detail)
                after.apply(failed, work.journal.append(failed))
            stands = row in after.ended_as and after.status(row) == RowStatus.OK
            self._note_hash(work, row, values, None if stands else after.hashes.get(row), stands=stands)
            yield was, _label(after, row)

    def _frozen_rows(self, work: SliceWork) -> Iterator[tuple[int, tuple[Mapping[str, Any] | None, Key | None]]]:
        start = 0
        for batch in self.parts.warehouse.read(frozen_input(work.record), work.number):
            rows = zip(python_rows(batch, self.parts.asked_columns), work.prior.keys(batch), strict=True)
            yield from enumerate(rows, start)
            start += batch.num_rows

    def _note_hash(
        self, work: SliceWork, row: int, values: Mapping[str, Any] | None, known: str | None, *, stands: bool
    ) -> None:
        """The request as the job would make it now; the journal's own is of the old schema.

        ``stands``: the row was given up before, and its answer is good now.
        """
        made = _request_hash(self.parts, values)
        if made is not None and made != known:
            detail = {STANDS: True} if stands else {}
            noted = Entry(EntryKind.ASKED_AS, row, at=self.parts.clock.now(), request_hash=made, detail=detail)
            work.journal.append(noted)

    def _without_answer(self, work: SliceWork, values: Mapping[str, Any] | None, key: Key | None) -> tuple[str, str]:
        """A row that this run did not ask: not yet, or because an earlier run's answer did."""
        was = _request_hash(work.parts, values)
        found = work.prior.kept(key)
        if found is None and was is not None:
            found = work.prior.find(values or {}, was)
        if found is None:
            return PENDING, PENDING
        status = work.prior.values(found)
        before = RowStatus.OK if status["llm_status"] == RowStatus.OK else str(status["llm_error_class"])
        return before, before if was == _request_hash(self.parts, values) else FOREIGN

    # ---- what follows

    def _ensure_output(self, record: RunRecord) -> None:
        parts = self.parts
        if not record.slice_rows:
            return
        first = next(parts.warehouse.read(frozen_input(record), 0, batch_rows=1))
        try:
            schema = parts.output_schema(first.schema)
            parts.warehouse.ensure(parts.output, schema, parts.key, source=parts.source)
            check_owner(parts)
        except OutputError as error:
            raise OutputError(
                f"{error}. Nothing was changed; `reparse` can fill a new table: change output.table"
            ) from (error)

    def _published(self, record: RunRecord, *, anew: bool) -> RunRecord:
        """Change the record, publish every slice. ``anew``: the columns may be others, so the old rows go first."""
        parts = self.parts
        if anew:
            parts.warehouse.unpublish(record.run_id)
        signature, shape = signatures(parts)
        job = parts.declared.job_data()
        changes = {"signature": signature, "shape": shape, "job": job, "user": record.begun_by, "ended_as": ""}
        record = parts.runs.change(record.run_id, state=RunState.PLANNED, **changes)
        for number in range(len(record.slice_rows)):
            work = SliceWork(parts, self._judge, record, number)
            work.open(reopen_below=None)
            with closing(work):
                publish_slice(work, Pending.because(None))
        if record.slice_rows:
            parts.warehouse.live_view(record.run_id, parts.output)
        return record


def _as_it_was(record: RunRecord) -> DeclaredJob:
    return declare(record.job, Path(record.job_dir))


def differences(parts: JobParts, record: RunRecord) -> list[str]:
    """What of the job is another than the run's, but for what `reparse` is there for."""
    now, was = parts.declared, _as_it_was(record)
    compared = {
        "prompt": ((now.job.prompt.system, now.user_template), (was.job.prompt.system, was.user_template)),
        "model": (now.job.model, was.job.model),
        "params": (now.job.params, was.job.params),
        "input.table": (parts.source, record.source),
        "input.key": (now.job.input.key, was.job.input.key),
        "input.where": (now.job.input.where, was.job.input.where),
        "schedule": (date_range(parts), date_range(replace(parts, declared=was))),
        "output.keep": (now.job.output.keep, was.job.output.keep),
        "output.mode": (now.job.output.mode, was.job.output.mode),
    }
    return [name for name, (new, old) in compared.items() if new != old]


def _request_hash(parts: JobParts, values: Mapping[str, Any] | None) -> str | None:
    if values is None:
        return None
    try:
        return request_hash(parts.request(values, ""), parts.declared.job.model)
    except RenderError:
        return None


def _label(rows: Rows, row: int) -> str:
    status, state = rows.status(row), rows.open_state(row)
    if status != RowStatus.FAILED:
        return status
    return (state and state.error_class) or ErrorClass.MALFORMED.value
