"""Run records: saved whole, found again."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pytest

from batch_llm.errors import JournalError, SliceBusy
from batch_llm.journal.base import Entry, EntryKind, RunRecord, RunState
from batch_llm.journal.retention import Retention
from batch_llm.journal.runs import LocalRunStore
from tests.unit.journal.unremovable import unremovable

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


def test_a_change_leaves_alone_what_others_changed(tmp_path: Path) -> None:
    """Two processes, each with a record of its own reading."""
    mine, other = LocalRunStore(tmp_path), LocalRunStore(tmp_path)
    mine.save(record("r1"))
    other.change("r1", state=RunState.FINISHED, finished_at=AT)
    changed = mine.change("r1", requested=True)
    assert changed == other.get("r1") == replace(record("r1"), state=RunState.FINISHED, finished_at=AT, requested=True)


def test_a_record_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    """Fields that came later have their default."""
    store = LocalRunStore(tmp_path)
    store.save(record("r1"))
    path = tmp_path / "r1" / "run.json"
    later = ("ended_as", "planned")
    stored = {name: value for name, value in orjson.loads(path.read_bytes()).items() if name not in later}
    path.write_bytes(orjson.dumps(stored))
    assert store.get("r1") == record("r1")


def test_a_run_is_not_erased_under_those_who_work_on_it(tmp_path: Path) -> None:
    """Any number may work on a run; being alone with it is refused, with the number of a process to look for."""
    store, other = LocalRunStore(tmp_path), LocalRunStore(tmp_path)
    store.save(record("r1"))
    with store.at_work("r1"), other.at_work("r1"):
        assert other.is_at_work("r1")
        with pytest.raises(SliceBusy, match=rf"run r1 is being worked on by process {os.getpid()}; stop"):
            other.alone("r1").__enter__()
    assert not other.is_at_work("r1")
    with other.alone("r1"):
        assert store.is_at_work("r1")
        other.delete("r1")
    with pytest.raises(JournalError, match=r"no run r1 .* forgotten"):
        store.at_work("r1").__enter__()
    assert not (tmp_path / "r1").exists()


def test_who_looks_whether_a_run_is_at_work_is_not_at_work(tmp_path: Path) -> None:
    """A `status` in the very moment of a `forget` does not make it fail."""
    store, looker = LocalRunStore(tmp_path), LocalRunStore(tmp_path)
    store.save(record("r1"))
    with store.at_work("r1"):
        pass
    for _ in range(200):
        assert not looker.is_at_work("r1")
        with store.alone("r1"):
            pass


def test_a_busy_slice_names_its_worker(tmp_path: Path) -> None:
    store = LocalRunStore(tmp_path)
    assert not store.is_busy("r1", 3) and store.worker("r1", 3) is None
    journal = store.journal("r1", 3)
    assert store.is_busy("r1", 3) and store.worker("r1", 3) == os.getpid()
    journal.close()
    assert not store.is_busy("r1", 3)


def test_a_run_forgotten_while_the_records_are_read_is_passed_over(tmp_path: Path) -> None:
    """Its folder is found, its record is gone."""

    class Forgetting(LocalRunStore):
        def all(self, job_name: str | None = None) -> list[RunRecord]:
            found = list(self.runs_dir.glob("*/run.json"))
            self.delete("r1")
            self.runs_dir = _Listed(found)  # type: ignore[assignment]
            return super().all(job_name)

    LocalRunStore(tmp_path).save(record("r1"))
    LocalRunStore(tmp_path).save(record("r2"))
    assert [one.run_id for one in Forgetting(tmp_path).all()] == ["r2"]


class _Listed:
    """A folder whose listing was read before."""

    def __init__(self, found: list[Path]) -> None:
        self._found = found
        self._folder = found[0].parent.parent

    def glob(self, pattern: str) -> list[Path]:
        return self._found

    def __truediv__(self, name: str) -> Path:
        return self._folder / name


def test_what_cannot_be_erased_is_told_and_its_record_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody asked for raw answers to be gone: the record leads back to what is left of them."""
    store = LocalRunStore(tmp_path)
    store.save(record("r1"))
    store.journal("r1", 0).close()
    with monkeypatch.context() as patched:
        unremovable(patched, "0000.jsonl")
        with pytest.raises(JournalError, match=rf"{tmp_path}/r1/journal .* cannot be erased: Permission denied.*again"):
            store.delete("r1")
    assert [one.run_id for one in store.all()] == ["r1"]
    store.delete("r1")
    assert not (tmp_path / "r1").exists()
    store.delete("r1")  # somebody else did it: no error


@pytest.mark.parametrize("stored", [b"", b"\0" * 500, b"[]", b'{"job": null}', None])
def test_a_record_that_cannot_be_read_stops_its_own_job_alone(
    tmp_path: Path, stored: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    """All others go on, and hear of it once; its folder stays."""
    store = LocalRunStore(tmp_path, Retention(1, lambda run_id: None))
    store.save(record("other-20260101-000000-aaaa", job="other"))
    damaged = tmp_path / "tone-20260101-000000-aaaa"
    store.save(record(damaged.name))
    (damaged / "run.json").unlink()
    if stored is None:
        (damaged / "run.json").mkdir()
    else:
        (damaged / "run.json").write_bytes(stored)
    store.save(record("tone-2-20260101-000000-aaaa", job="tone-2"))
    for job in ("other", "tone-2"):
        assert [one.job["name"] for one in store.all(job)] == [job]
    assert len(store.all()) == 2
    (told,) = caplog.records
    assert str(damaged / "run.json") in told.message and "paid again" in told.message
    with pytest.raises(JournalError, match=rf"{damaged}/run.json .*restore it"):
        store.latest("tone")
    os.utime(damaged, (0, 0))
    store.sweep()
    assert damaged.exists()


def test_a_record_is_on_the_disk_with_the_way_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine crashes: neither the file's new name nor the run's folder is lost."""
    synced: list[str] = []
    sync = os.fsync

    def noted(file: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{file}"))
        sync(file)

    monkeypatch.setattr(os, "fsync", noted)
    LocalRunStore(tmp_path / "runs").save(record("r1"))
    assert synced[0].startswith(f"{tmp_path}/runs/r1/run.json.")
    assert synced[1:] == [f"{tmp_path}/runs/r1", f"{tmp_path}/runs"]


def test_a_sweep_spares_answers_without_a_record(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """They are paid; what a killed start left is erased."""
    store = LocalRunStore(tmp_path)
    journal = store.journal("paid", 0)
    journal.append(Entry(EntryKind.ANSWER, 0, 1, body=b"{}"))
    journal.close()
    store.journal("empty", 0).close()
    (tmp_path / "frozen-only" / "frozen").mkdir(parents=True)
    for each in tmp_path.iterdir():
        os.utime(each, (0, 0))
    store.sweep()
    assert [each.name for each in tmp_path.iterdir()] == ["paid"]
    assert str(tmp_path / "paid") in caplog.text
