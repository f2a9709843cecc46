"""Runs are erased when they are old enough, and never when somebody still needs them."""

from __future__ import annotations

import errno
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from batch_llm.errors import JournalRefused, WarehouseRefused
from batch_llm.journal.base import RunRecord, RunState
from batch_llm.journal.retention import Retention, erase_expired, expired
from batch_llm.journal.runs import LocalRunStore
from tests.unit.journal.unremovable import unremovable

NOW = datetime(2026, 6, 1, tzinfo=UTC)


def record(run_id: str, state: RunState, age_days: float, job: str = "tone", supersedes: str = "") -> RunRecord:
    return RunRecord(
        run_id=run_id,
        job={"name": job},
        job_dir="",
        signature="",
        shape="",
        source="",
        input_version="",
        key=("id",),
        columns=("id",),
        slice_rows=(1,),
        supersedes=tuple(supersedes.split()),
        state=state,
        created_at=NOW - timedelta(days=age_days),
    )


@pytest.fixture
def erased_tables() -> list[str]:
    return []


@pytest.fixture
def retention(erased_tables: list[str]) -> Retention:
    return Retention(30, erased_tables.append, lambda: NOW)


def stored(folder: Path, *records: RunRecord) -> LocalRunStore:
    runs = LocalRunStore(folder)
    for each in records:
        runs.save(each)
    return runs


def test_runs_that_ended_long_ago_go_with_all_they_have(
    tmp_path: Path, retention: Retention, erased_tables: list[str]
) -> None:
    runs = stored(
        tmp_path,
        record("old", RunState.FINISHED, 31),
        record("older", RunState.SUPERSEDED, 50),
        record("new", RunState.FINISHED, 29),
    )
    runs.journal("old", 0).close()
    assert erase_expired(runs, retention) == ["older", "old"] == erased_tables
    assert [each.run_id for each in runs.all()] == ["new"]
    assert not (tmp_path / "old").exists()


def test_what_counts_is_when_a_run_ended(retention: Retention) -> None:
    finished = RunRecord(
        **{
            **{name: getattr(record("r", RunState.FINISHED, 40), name) for name in RunRecord.__dataclass_fields__},
            "finished_at": NOW - timedelta(days=1),
        }
    )
    assert expired([finished], retention) == []


def test_an_unfinished_run_is_never_touched_nor_what_it_takes_over(retention: Retention) -> None:
    """Its answers of earlier runs are paid, and only there."""
    records = [
        record("unfinished", RunState.PLANNED, 90, supersedes="taken gone-before"),
        record("taken", RunState.SUPERSEDED, 99),
        record("other", RunState.SUPERSEDED, 98),
    ]
    assert expired(records, retention) == ["other"]


def test_a_run_at_work_is_never_touched(tmp_path: Path, retention: Retention, erased_tables: list[str]) -> None:
    runs = stored(tmp_path, record("old", RunState.FINISHED, 31))
    with LocalRunStore(tmp_path).at_work("old"):
        assert erase_expired(runs, retention) == [] == erased_tables
    assert erase_expired(runs, retention) == ["old"]


def test_only_the_runs_of_one_job(retention: Retention) -> None:
    records = [record("a", RunState.FINISHED, 40, "one"), record("b", RunState.FINISHED, 40, "two")]
    assert expired(records, retention, "two") == ["b"]


def test_the_next_start_erases_what_is_too_old(tmp_path: Path, retention: Retention) -> None:
    """`sweep`, which a start calls; without a retention it erases no run."""
    stored(tmp_path, record("old", RunState.FINISHED, 31))
    LocalRunStore(tmp_path).sweep()
    assert (tmp_path / "old").exists()
    LocalRunStore(tmp_path, retention).sweep()
    assert not (tmp_path / "old").exists()


def test_a_run_that_cannot_be_erased_is_told_and_the_others_go(
    tmp_path: Path, retention: Retention, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """No start fails for it; it is tried again with the next one."""
    runs = stored(tmp_path, *(record(name, RunState.FINISHED, 40) for name in ("a", "b", "c")))
    for number, name in enumerate("abc"):
        runs.journal(name, number).close()
    with monkeypatch.context() as patched:
        unremovable(patched, "0001.jsonl")
        LocalRunStore(tmp_path, retention).sweep()
        assert [each.run_id for each in runs.all()] == ["b"]
        assert "run b is older" in caplog.text and f"{tmp_path}/b/journal" in caplog.text
    assert erase_expired(runs, retention) == ["b"] and not os.listdir(tmp_path)


def test_a_run_of_another_user_is_told_and_the_others_go(
    tmp_path: Path, retention: Retention, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Not even its lock can be taken."""
    runs = stored(tmp_path, record("a", RunState.FINISHED, 40), record("b", RunState.FINISHED, 40))
    opened = os.open

    def refused(path: str | Path, flags: int, mode: int = 0o777, **options: int) -> int:
        if Path(path) == tmp_path / "a" / "at_work":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return opened(path, flags, mode, **options)

    monkeypatch.setattr(os, "open", refused)
    assert erase_expired(runs, retention) == ["b"]
    assert f"{tmp_path}/a/at_work cannot be locked: Permission denied" in caplog.text


def test_a_warehouse_that_refuses_one_run_is_told_and_the_others_go(tmp_path: Path) -> None:
    def refuse(run_id: str) -> None:
        if run_id == "a":
            raise WarehouseRefused("not yours")

    runs = stored(tmp_path, record("a", RunState.FINISHED, 40), record("b", RunState.FINISHED, 40))
    told: list[str] = []
    erased = erase_expired(runs, Retention(30, refuse, lambda: NOW), None, lambda run_id, error: told.append(run_id))
    assert (erased, told) == (["b"], ["a"])
    assert [each.run_id for each in runs.all()] == ["a"]


def test_nothing_of_a_job_goes_while_one_of_its_records_cannot_be_read(tmp_path: Path, retention: Retention) -> None:
    """It may be an unfinished run that takes over the answers of these."""
    runs = stored(
        tmp_path,
        record("tone-20260101-000000-aaaa", RunState.SUPERSEDED, 40),
        record("tone-20260102-000000-aaaa", RunState.PLANNED, 35),
        record("other-20260101-000000-aaaa", RunState.FINISHED, 40, "other"),
    )
    (tmp_path / "tone-20260102-000000-aaaa" / "run.json").write_bytes(b"")
    told: list[str] = []
    erased = erase_expired(runs, retention, None, lambda run_id, error: told.append(f"{run_id}: {error}"))
    assert erased == ["other-20260101-000000-aaaa"]
    (message,) = told
    assert message.startswith("tone-20260101-000000-aaaa") and "tone-20260102-000000-aaaa/run.json" in message
    with pytest.raises(JournalRefused):
        runs.all("tone")
