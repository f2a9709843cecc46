"""What dispatch decides, without Dagster running."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg

from batch_llm.job.load import DeclaredJob, declare
from batch_llm.journal.base import Entry, EntryKind, RunRecord, RunState
from batch_llm.journal.runs import LocalRunStore
from batch_llm.warehouse.base import StatusCounts
from sensors.dispatch import (
    RUNS_MAX,
    Decision,
    OutputRun,
    RequestedRun,
    SliceRun,
    decide,
    in_turn,
    interleaved,
    requested_records,
    worth_asking,
)

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


def test_an_output_that_the_warehouse_did_not_take_is_requested_again_a_few_times() -> None:
    counts = {0: DONE, 1: DONE, 2: DONE}
    rows = str(decide(run(counts)).promote)

    def after(*ended_s_ago: float, rows: str = rows) -> Decision:
        return decide(replace(run(counts), failed_outputs=[OutputRun(rows, each) for each in ended_s_ago]))

    assert after(10.0) == Decision(waits="the warehouse did not take its rows; tried again in 50 s")
    assert after(61.0) == Decision(promote=rows, again=1)
    assert after(61.0, 200.0).promote is None
    assert after(601.0, 900.0) == Decision(promote=rows, again=2)
    assert after(9e4, 9e4, 9e4) == Decision(promote=rows, again=3)
    assert "4 times" in str(after(9e4, 9e4, 9e4, 9e4).halted)
    assert after(1.0, 1.0, rows="of an earlier request") == Decision(promote=rows)


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


def test_more_runs_than_a_tick_looks_at_all_get_their_turn() -> None:
    """Whatever ended meanwhile; a few runs are looked at from the oldest on."""
    one = job()
    runs = [(one, replace(RECORD, run_id=f"tone-{n:03}", created_at=RECORD.created_at)) for n in range(RUNS_MAX + 5)]
    first = in_turn(reversed(runs), None)
    assert first == runs[:RUNS_MAX]
    left = [run for run in runs if run not in first[-3:]]
    assert in_turn(left, place_of(first[-1][1])) == runs[RUNS_MAX:] + runs[: RUNS_MAX - 5]
    assert in_turn(runs, place_of(runs[-1][1])) == first
    assert in_turn(runs[:3], place_of(runs[1][1])) == runs[:3]


def place_of(record: RunRecord) -> str:
    """As the cursor keeps it."""
    return f"{record.created_at.isoformat()} {record.run_id}"


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


def test_newer_counters_are_asked_for_when_they_matter(tmp_path: Path) -> None:
    """Not while slices are at work: nothing else would be requested. When all ended, one failed, or somebody else
    published what is to be requested next."""
    runs = LocalRunStore(tmp_path)
    at_work = [SliceRun(number, "b", STARTED) for number in range(3)]
    ended = [SliceRun(number, "b", SUCCESS) for number in range(3)]
    assert not worth_asking(runs, run({}, *at_work))
    assert not worth_asking(runs, run({}, *ended[:2], at_work[2]))
    assert not worth_asking(runs, run({}, *ended[:2]))
    assert worth_asking(runs, run({}, *ended))
    assert worth_asking(runs, run({}, *at_work[:2], SliceRun(2, "b", FAILURE)))
    assert worth_asking(runs, run({0: DONE, 1: DONE, 2: DONE}))
    journal = runs.journal("tone-1", 2)
    journal.append(Entry(EntryKind.FAILED, 0, 1))
    journal.close()
    assert not worth_asking(runs, run({}, *ended[:2]))
    runs.mark_published("tone-1", 2)
    assert worth_asking(runs, run({}, *ended[:2]))
