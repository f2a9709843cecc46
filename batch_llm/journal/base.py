"""What the engine knows of durable state: the journal of a slice, and the record of a run.

Belongs here: protocols and frozen records. Not here: files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from batch_llm.errors import JournalError
from batch_llm.statement_costs import StatementCost

__all__ = [
    "HELD_USD",
    "NO_ROW",
    "POINTER",
    "ROWS",
    "Entry",
    "EntryKind",
    "Journal",
    "RunRecord",
    "RunState",
    "RunStore",
]


NO_DETAIL: Mapping[str, Any] = MappingProxyType({})
NO_ROW = -1
HELD_USD = "held_usd"  # in the detail of an entry about a call: the dearest bill, US dollars
ROWS = "rows"  # in the detail of an entry about a call for many rows: which; its own row is the first of them
POINTER = "place"  # in the detail of an entry whose body stands elsewhere in the same journal


class EntryKind(StrEnum):
    """What a journal entry says of a row."""

    SENT = "sent"  # the intent, written before the call when money is capped; detail: HELD_USD
    ANSWER = "answer"  # a complete answer, raw, not looked into yet
    CACHED = "cached"  # an answer that was paid for elsewhere: its body, or detail: place of it in this journal
    LOST = "lost"  # the outcome is unknown: may be billed, nothing to keep; detail: HELD_USD, where the price is known
    UNBILLED = "unbilled"  # an attempt the provider refused; cancels the intent
    FAILED = "failed"  # the row ends as failed
    REOPENED = "reopened"  # somebody asked for the failed row once more
    RETRIED = "retried"  # of the whole slice: failures of earlier runs do not count in it any more
    ASKED_AS = "asked_as"  # the answers are judged by another schema now: the request's hash as it would be made today


class Entry(NamedTuple):  # two are made per row: half the time of a frozen dataclass
    """One line of a slice's journal."""

    kind: EntryKind
    row: int  # 0-based position in the frozen slice; NO_ROW where it is about the slice
    attempt: int = 0  # starting at 1
    at: datetime | None = None
    request_hash: str = ""
    body: bytes = b""  # ANSWER, CACHED: the raw body
    latency_s: float = 0.0
    place: int = -1  # where the journal keeps the body; set by replay and append
    detail: Mapping[str, Any] = NO_DETAIL  # provider, model, lane, price_version; error_class, message

    @property
    def rows(self) -> Sequence[int]:
        """Every row that it is about; of a call's intent, or its end without a bill, older journals name the first."""
        rows: Sequence[int] = self.detail.get(ROWS, (self.row,))
        return rows


class Journal(Protocol):
    """One slice's append-only journal, one writer."""

    @property
    def failure(self) -> JournalError | None:
        """Why nothing more is to be asked, although every answer that came is stored; None: all is well.

        The disk is full, the store was away for too long, or another machine took the slice over.
        """
        ...

    def append(self, entry: Entry) -> int:
        """Store the entry before returning: kill -9 after this loses nothing. Returns its place.

        On a full disk it takes the room that was kept for this, and `failure` says so. Raises `JournalFull` when there
        is none (any more); then nothing of the entry is left behind. After a `failure` an intent is not stored but
        raises it: its call is not to be made.
        """
        ...

    def replay(self) -> Iterator[Entry]:
        """All whole entries in order; a torn or damaged one is skipped.

        An entry that points to an answer carries its body, and is skipped when no whole answer to its own request is
        there: its row is as if it had never been noted.
        """
        ...

    def entries_at(self, places: Sequence[int]) -> list[Entry]:
        """The entries at these places, in this order; few reads where the places lie close together.

        An entry that points to an answer carries its body. Raises `JournalError` for a place without a whole entry, or
        with one that points to anything but an answer to its own request.
        """
        ...

    def size(self) -> int:
        """Bytes written so far; grows with every entry."""
        ...

    def sync(self) -> None:
        """Bring what was appended to the disk itself, for a crash of the machine; may block, call it in a thread."""
        ...

    def close(self) -> None:
        """Flush to the disk and let another writer in."""
        ...


class RunState(StrEnum):
    """Where a run stands."""

    PLANNED = "planned"  # frozen; nothing asked yet, or some slices asked
    FINISHED = "finished"  # every row ok or failed, promoted
    SUPERSEDED = "superseded"  # a newer run of the job took its answers over


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One execution of a job over one frozen input; durable, small, no row's text and no secret in it."""

    run_id: str
    job: dict[str, Any]  # the job as declared (secret references stay references)
    job_dir: str  # what relative paths of the job are relative to
    signature: str  # hash of prompt, model, params, schema
    shape: str  # hash of input, key, filter, kept columns and output: what else makes it another run
    source: str
    input_version: str
    key: tuple[str, ...]
    columns: tuple[str, ...]
    slice_rows: tuple[int, ...]
    supersedes: tuple[str, ...]  # runs with answers that the output may not hold: unfinished ones, and some that ended
    state: RunState
    created_at: datetime
    requested: bool = False  # a door that only plans asked for its slices to be run (the Dagster sensor does)
    finished_at: datetime | None = None
    planned: dict[str, Any] | None = None  # what it was planned to take (engine/planned.py)
    job_file: str = ""  # where it was declared when it was frozen; "": in Python
    ended_as: str = ""  # hash of the stored rows' counters when a process last ended the run, wholly or not
    promoted: str = ""  # when it was last brought into its output (UTC), a space, the output's version after that
    user: str = ""  # who began it, whoever goes on with it; "": of an earlier batch_llm, which did not say
    prices: dict[str, Any] = field(default_factory=dict)  # that its calls were made at (engine/prices.py)

    @property
    def begun_by(self) -> str:
        """The user who paid the answers beside which the journal names no other."""
        return self.user or str(self.job.get("user", ""))

    @property
    def partition(self) -> str | None:
        """The date partition of the input that it is over, by its first day (2026-01-03); None: all of the input."""
        chosen: str | None = self.job.get("input", {}).get("partition")
        return chosen


class RunStore(Protocol):
    """The records of all runs, and their journals; any number of processes work with them at once.

    Locks go with their process: one that was killed holds none.
    """

    def save(self, record: RunRecord) -> None:
        """Write the record, whole or not at all."""
        ...

    def change(self, run_id: str, **fields: Any) -> RunRecord:
        """Change some fields of a record as it is stored now, whoever else changes others; the new record.

        Raises `JournalError` when there is none.
        """
        ...

    def get(self, run_id: str) -> RunRecord:
        """The record of a run. Raises `JournalError` when there is none."""
        ...

    def all(self, job_name: str | None = None) -> list[RunRecord]:
        """All records, newest first; of one job when named.

        Raises `JournalRefused` when one of that job cannot be read; those of others are passed over then, and told.
        """
        ...

    def latest(self, job_name: str) -> RunRecord | None:
        """The job's newest record."""
        ...

    def delete(self, run_id: str) -> None:
        """Erase the record and everything that lies beside it; harmless when there is none.

        Raises `JournalRefused` when something stays, as somebody else owns it; so does the record then.
        """
        ...

    def starting(self, job_name: str) -> AbstractContextManager[None]:
        """Held while somebody decides which run of the job is next; waits for others who do."""
        ...

    def at_work(self, run_id: str) -> AbstractContextManager[None]:
        """Held, by many at once, while a process works on a run. Waits for who has it alone.

        Raises `JournalError` when the run is not there (any more).
        """
        ...

    def alone(self, run_id: str) -> AbstractContextManager[None]:
        """Held while nobody may work on a run. Raises `SliceBusy` while somebody does."""
        ...

    def is_at_work(self, run_id: str) -> bool:
        """Whether a process works on the run now."""
        ...

    def ending(self, run_id: str) -> AbstractContextManager[None]:
        """Held while the run is brought into its output; waits for others who do. Raises like `at_work`."""
        ...

    def is_busy(self, run_id: str, slice_number: int) -> bool:
        """Whether somebody has the slice's journal open for writing."""
        ...

    def worker(self, run_id: str, slice_number: int) -> int | None:
        """The process that has, or last had, the slice's journal open for writing; None when that is not known."""
        ...

    def journal(self, run_id: str, slice_number: int) -> Journal:
        """Open a slice's journal for writing. Raises `JournalBusy` when another process has it."""
        ...

    def entries(self, run_id: str, slice_number: int) -> Iterator[Entry]:
        """A slice's entries, read only, as `Journal.replay` has them; nothing when the slice has no journal yet."""
        ...

    def entries_at(self, run_id: str, slice_number: int, places: Sequence[int]) -> list[Entry | None]:
        """The entries at these places of a slice's journal, read only; None where this machine has no whole one."""
        ...

    def size(self, run_id: str, slice_number: int) -> int:
        """Bytes of the slice's journal as it stands; 0 without one."""
        ...

    def spent(self, run_id: str, slice_number: int) -> tuple[int, str] | None:
        """What `save_spent` kept, if the journal has not grown since: (journal bytes, US dollars)."""
        ...

    def mark_published(self, run_id: str, slice_number: int) -> None:
        """Everything in the slice's journal as it stands is published."""
        ...

    def is_published(self, run_id: str, slice_number: int) -> bool:
        """Whether the slice's journal has not grown since `mark_published`; also true without a journal."""
        ...

    def sweep(self) -> None:
        """Erase what killed starts left behind: folders without a record or answers that nobody touched for a day."""
        ...

    def save_spent(self, run_id: str, slice_number: int, spent_usd: str) -> None:
        """Remember what the slice's journal as it stands has cost."""
        ...

    def note_statement(self, run_id: str, cost: StatementCost) -> None:
        """Keep what a statement of the warehouse cost the run, by any number of processes at once.

        One that cannot be kept is lost: no run fails for it.
        """
        ...

    def statements(self, run_id: str) -> list[StatementCost]:
        """What was kept, each job once, however often it was told; nothing when the warehouse bills nothing."""
        ...
