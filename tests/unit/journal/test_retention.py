"""Runs are erased when they are old enough, and never when somebody still needs them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from batch_llm.journal.base import RunRecord, RunState
from batch_llm.journal.retention import Retention, erase_expired, expired
from batch_llm.journal.runs import LocalRunStore

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
