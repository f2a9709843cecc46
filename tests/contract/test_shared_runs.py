"""Runs that several machines share: their records, and who may do what at once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from batch_llm.errors import JournalError, JournalRefused, SliceBusy
from batch_llm.journal.base import RunState
from batch_llm.journal.object_store import ObjectStore
from tests.contract.journal_lab import RUN, Machine, record
from tests.redis_server import RedisServer
from tests.unit.journal.unremovable import unremovable


@pytest.fixture
def machine(tmp_path: Path, s3: str, shared_redis: RedisServer) -> Machine:
    return Machine(tmp_path / "a", s3, shared_redis.url)


def test_any_number_work_on_a_run_and_one_alone_keeps_them_out(machine: Machine) -> None:
    """Across machines, and from two processes of one."""
    here, beside, there = machine.runs(), machine.runs(), machine.other("b").runs()
    with here.at_work(RUN), there.at_work(RUN):
        assert beside.is_at_work(RUN) and there.is_at_work(RUN)
        with pytest.raises(SliceBusy, match="by process"):
            beside.alone(RUN).__enter__()
    with here.at_work(RUN), pytest.raises(SliceBusy, match="by another machine"):
        there.alone(RUN).__enter__()
    assert not there.is_at_work(RUN)
    with there.alone(RUN):
        assert here.is_at_work(RUN)
        there.delete(RUN)
    with pytest.raises(JournalError, match="forgotten"):
        here.at_work(RUN).__enter__()


def test_a_change_on_one_machine_is_seen_on_the_other(machine: Machine) -> None:
    """Whatever each has read before."""
    here, there = machine.runs(), machine.other("b").runs()
    with here.starting("job"), here.ending(RUN):
        here.change(RUN, state=RunState.FINISHED)
    assert there.change(RUN, requested=True) == here.get(RUN) == record(state=RunState.FINISHED, requested=True)
    assert here.latest("job") == there.all("job")[0]


def test_what_another_machine_erased_goes_here_at_the_next_start(machine: Machine) -> None:
    here, there = machine.runs(), machine.other("b").runs()
    here.get(RUN)
    there.delete(RUN)
    here.sweep()
    assert not (machine.folder / RUN).exists()


def test_a_copy_that_cannot_be_erased_is_told(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """By who forgets the run, and the record stays; by another machine's next start."""
    here, there = machine.runs(), machine.other("b").runs()
    there.get(RUN)
    with monkeypatch.context() as patched:
        unremovable(patched, "0000.parquet")
        with pytest.raises(JournalRefused, match=f"{machine.folder / RUN}/frozen"):
            here.delete(RUN)
        assert [each.run_id for each in here.all()] == [RUN]
    here.delete(RUN)
    assert not (machine.folder / RUN).exists()
    with monkeypatch.context() as patched:
        unremovable(patched, "0000.parquet")
        there.sweep()
        assert f"b/{RUN}/frozen" in caplog.text
    there.sweep()
    assert not (machine.other("b").folder / RUN).exists()


def test_a_record_that_cannot_be_read_stops_its_own_job_alone(
    machine: Machine, s3: str, caplog: pytest.LogCaptureFixture
) -> None:
    runs = machine.runs()
    runs.save(record("other-20260304-050607-abcd", job={"name": "other"}))
    ObjectStore(s3).put(f"{RUN}/run.json", b"{")
    assert [each.run_id for each in runs.all("other")] == ["other-20260304-050607-abcd"]
    with pytest.raises(JournalRefused, match=f"{s3}/{RUN}/run.json"):
        runs.latest("job")
    runs.sweep()
    assert [each.run_id for each in runs.all()] == ["other-20260304-050607-abcd"]
    assert len([each for each in caplog.records if "is passed over" in each.message]) == 1
    assert ObjectStore(s3).names(f"{RUN}/frozen")


def test_a_copy_without_its_record_stays_while_the_store_has_the_run(machine: Machine) -> None:
    """It may hold answers that were never shipped; one of a run that is in no store goes after a day."""
    runs = machine.runs()
    for run_id in (RUN, "gone"):
        folder = machine.folder / run_id
        (folder / "journal").mkdir(parents=True, exist_ok=True)
        (folder / "journal" / "0000.jsonl").write_bytes(b"x")
        (folder / "run.json").unlink(missing_ok=True)
        os.utime(folder, (0, 0))
    runs.sweep()
    assert (machine.folder / RUN).exists() and not (machine.folder / "gone").exists()
