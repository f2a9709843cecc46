"""Runs that several machines share: their records, and who may do what at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from batch_llm.errors import JournalError, SliceBusy
from batch_llm.journal.base import RunState
from tests.contract.journal_lab import RUN, Machine, record
from tests.redis_server import RedisServer


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
