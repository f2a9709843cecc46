"""What dispatch decides, without Dagster running."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg

from batch_llm.job.load import DeclaredJob, declare
from batch_llm.journal.base import RunRecord, RunState
from batch_llm.warehouse.base import StatusCounts
from sensors.dispatch import Decision, RequestedRun, SliceRun, decide, interleaved, requested_records

DONE = StatusCounts(rows=10, ok=9, failed=1)
OPEN = StatusCounts(rows=10, ok=4, pending=6)
STARTED, FAILURE, CANCELED, SUCCESS = (
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.FAILURE,
    dg.DagsterRunStatus.CANCELED,
    dg.DagsterRunStatus.SUCCESS,
)
RECORD = RunRecord(
    "tone-1", {"name": "tone"}, "/", "", "", "/in.csv", "1", ("id",), ("id",), (10, 10, 10), (), RunState.PLANNED,
    datetime(2026, 1, 1, tzinfo=UTC), requested=True,
)  # fmt: skip


def run(counts: dict[int, StatusCounts], *slice_runs: SliceRun) -> RequestedRun:
    return RequestedRun(RECORD, "b", counts, slice_runs)


def test_every_open_slice_is_requested() -> None:
    assert decide(run({})) == Decision(slices=(0, 1, 2))


def test_a_published_slice_and_one_at_work_are_not() -> None:
    assert decide(run({0: DONE}, SliceRun(1, "b", STARTED))) == Decision(slices=(2,))


def test_one_at_work_for_an_earlier_request_is_not_asked_for_twice() -> None:
    assert decide(run({}, SliceRun(1, "a", STARTED))) == Decision(slices=(0, 2))


def test_a_slice_with_pending_rows_is_open() -> None:
    assert decide(run({0: OPEN, 1: DONE, 2: DONE})).slices == (0,)


def test_a_failed_or_cancelled_slice_halts_the_rest() -> None:
    for status in (FAILURE, CANCELED):
        decision = decide(run({}, SliceRun(0, "b", status)))
        assert (decision.slices, decision.promote) == ((), None)
        assert decision.halted is not None
        assert "tone-1-0000" in decision.halted


def test_a_new_request_forgets_earlier_failures() -> None:
    assert decide(run({}, SliceRun(0, "a", FAILURE))).slices == (0, 1, 2)


def test_a_retry_of_the_crashed_run_goes_on() -> None:
    decision = decide(run({}, SliceRun(0, "b", STARTED), SliceRun(0, "b", FAILURE)))
    assert decision.slices == (1, 2)


def test_the_output_is_requested_once_per_state_of_the_rows() -> None:
    counts = {0: DONE, 1: DONE, 2: DONE}
    first = decide(run(counts)).promote
    assert first is not None
    assert decide(run(counts)).promote == first
    better = counts | {2: StatusCounts(rows=10, ok=10)}
    assert decide(run(better)).promote not in (None, first)


def test_everything_published_is_promoted_although_a_slice_failed_on_the_way() -> None:
    """Somebody reran the failed partition by hand."""
    assert decide(run({0: DONE, 1: DONE, 2: DONE}, SliceRun(0, "b", FAILURE))).promote is not None


def job(**changes: object) -> DeclaredJob:
    data = {
        "name": "tone",
        "input": {"table": "/in.csv", "key": ["id"]},
        "prompt": {"user": "{{ t }}"},
        "model": "simulator/x",
        "output": {"table": "o"},
    }
    return declare({**data, **changes}, Path("/"))


def test_a_job_works_on_its_newest_run_only() -> None:
    newest = replace(RECORD, run_id="tone-2")
    assert requested_records(job(), [newest, RECORD]) == [newest]
    assert requested_records(job(), [replace(newest, state=RunState.FINISHED), RECORD]) == []
    assert requested_records(job(), [replace(newest, requested=False)]) == []


def test_a_watching_job_works_on_one_run_per_table_oldest_first() -> None:
    watching = job(input={"key": ["id"]}, watch={"tables": "*.csv"})
    newer = replace(RECORD, run_id="tone-2", source="/other.csv")
    assert requested_records(watching, [newer, RECORD]) == [RECORD, newer]


def test_a_job_with_date_partitions_works_on_one_run_per_partition_oldest_first() -> None:
    daily = job(schedule={"cadence": "daily", "column": "day", "start": "2026-01-01"})

    def over(day: str | None, run_id: str) -> RunRecord:
        return replace(RECORD, run_id=run_id, job={"name": "tone", "input": {"partition": day}})

    newest_first = [over("2026-01-02", "c"), over("2026-01-01", "b"), over("2026-01-01", "a"), over(None, "before")]
    assert [record.run_id for record in requested_records(daily, newest_first)] == ["b", "c"]
    assert [record.run_id for record in requested_records(job(), newest_first)] == ["before"]


def test_runs_take_turns() -> None:
    first, second = (
        [dg.RunRequest(run_key=f"{name}{n}") for n in range(count)] for name, count in (("a", 3), ("b", 1))
    )
    assert [request.run_key for request in interleaved([first, second])] == ["a0", "b0", "a1", "a2"]


def test_success_without_publication_is_not_asked_for_again() -> None:
    """It would go round for ever."""
    assert decide(run({1: DONE, 2: DONE}, SliceRun(0, "b", SUCCESS))) == Decision()
