"""Run records: saved whole, found again."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from batch_llm.errors import JournalError
from batch_llm.journal.base import Entry, EntryKind, RunRecord, RunState
from batch_llm.journal.runs import LocalRunStore

AT = datetime(2026, 3, 4, 5, 6, 7, 89, tzinfo=UTC)


def record(run_id: str, job: str = "tone", created_at: datetime = AT) -> RunRecord:
    return RunRecord(
        run_id=run_id,
        job={"name": job, "budget_usd": "2.50"},
        job_dir="jobs",
        signature="s",
        shape="h",
        source="t",
        input_version="v",
        key=("a", "b"),
        columns=("a", "b", "text"),
        slice_rows=(20, 3),
        supersedes=("old",),
        state=RunState.PLANNED,
        created_at=created_at,
    )


def test_a_record_comes_back_equal(tmp_path: Path) -> None:
    """Types included: tuples, times, state."""
    store = LocalRunStore(tmp_path)
    finished = replace(record("r1"), state=RunState.FINISHED, finished_at=AT)
    store.save(finished)
    assert store.get("r1") == finished


def test_the_latest_is_the_jobs_own_newest(tmp_path: Path) -> None:
    """Other jobs' runs do not count."""
    store = LocalRunStore(tmp_path)
    store.save(record("r2", created_at=AT + timedelta(seconds=1)))
    store.save(record("r1"))
    store.save(record("other", job="other", created_at=AT + timedelta(days=1)))
    latest = store.latest("tone")
    assert latest is not None and latest.run_id == "r2"
    assert store.latest("nobody") is None
    assert [one.run_id for one in store.all()] == ["other", "r2", "r1"]


def test_an_absent_or_broken_record_is_a_clear_error(tmp_path: Path) -> None:
    """Never a KeyError from inside."""
    store = LocalRunStore(tmp_path)
    with pytest.raises(JournalError, match="no run nobody"):
        store.get("nobody")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "run.json").write_text("{}")
    with pytest.raises(JournalError, match="is not a run record"):
        store.get("bad")


def test_what_a_slice_cost_is_forgotten_when_its_journal_grows(tmp_path: Path) -> None:
    """A remembered sum must never hide later spending."""
    store = LocalRunStore(tmp_path)
    journal = store.journal("r1", 0)
    journal.append(Entry(EntryKind.FAILED, 0, 1, detail={"error_class": "timeout", "message": ""}))
    store.save_spent("r1", 0, "1.25")
    assert store.spent("r1", 0) == (journal.size(), "1.25")
    journal.append(Entry(EntryKind.REOPENED, 0, 1))
    assert store.spent("r1", 0) is None
    journal.close()


def test_delete_erases_everything_of_the_run(tmp_path: Path) -> None:
    """And nothing of another."""
    store = LocalRunStore(tmp_path)
    store.save(record("r1"))
    store.save(record("r2"))
    store.journal("r1", 0).close()
    store.delete("r1")
    assert [one.run_id for one in store.all()] == ["r2"]
    assert not (tmp_path / "r1").exists()
