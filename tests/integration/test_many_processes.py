"""Several processes in one home: one run, one worker per slice, every row asked once, nobody erased under work."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from batch_llm import wiring
from batch_llm.clock import ScaledClock
from batch_llm.engine.events import RunFinished, Waiting
from batch_llm.journal.base import Entry, EntryKind, RunState
from batch_llm.simulator import Simulator
from tests.integration.cli_lab import CommandLine, ended
from tests.integration.lab import SCHEMA, Lab

pytestmark = pytest.mark.timeout(300)

ROOT = Path(__file__).parents[2]
ROWS = 120
OUTPUT = {"table": "out_lab", "schema": SCHEMA}
SLOW = {"requests_per_minute": 600_000, "max_concurrency": 8}
# a process of the home: ready, then (when told) the job `argv[2]`, in slices of 30 rows
RUNNER = """
import asyncio, sys
from pathlib import Path
from batch_llm.engine.events import RunStarted
from tests.integration.lab import SCHEMA, Lab

class Told(list):
    def append(self, event):
        if isinstance(event, RunStarted) and sys.argv[4] == "retry":
            print("begun", flush=True)
            sys.stdin.readline()

lab = Lab(Path(sys.argv[1]))
lab.events = Told()
name = sys.argv[2]
usual = {"output": {"table": f"out_{name}", "schema": SCHEMA}, "slices": {"rows": 30}}
job = lab.job(name=name, **{**usual, **eval(sys.argv[3])})

async def run():
    summary = await lab.run(job)
    print(summary.run_id, summary.ok, summary.pending, summary.ended_elsewhere, flush=True)

async def retry():
    async with lab.engine(job) as engine:
        summary = await engine.retry()
        print(summary.run_id, summary.ok, summary.failed, flush=True)

async def start():
    async with lab.engine(job) as engine:
        started = await engine.start()
        print(started.record.run_id, started.resumed, flush=True)

print("ready", flush=True)
sys.stdin.readline()
asyncio.run({"run": run, "retry": retry, "start": start}[sys.argv[4]]())
"""


class Crew:
    """The processes of one test."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.started: list[Process] = []

    async def __call__(self, command: str = "run", name: str = "lab", **changes: Any) -> Process:
        """One more, which waits for `go`."""
        one = await asyncio.create_subprocess_exec(
            sys.executable, "-c", RUNNER, str(self.lab.folder), name, repr(changes), command,
            cwd=ROOT, stdin=PIPE, stdout=PIPE, stderr=PIPE,
        )  # fmt: skip
        self.started.append(one)
        assert one.stdout is not None
        ready = await one.stdout.readline()
        assert ready == b"ready\n", (await one.communicate())[1].decode()
        return one


@pytest.fixture
async def crew(lab: Lab) -> AsyncIterator[Crew]:
    """Nobody of it outlives the test."""
    made = Crew(lab)
    yield made
    for one in made.started:
        if one.returncode is None:
            one.kill()
            print((await one.communicate())[1].decode())  # what a failed test wants to know


def go(*processes: Process) -> None:
    for one in processes:
        assert one.stdin is not None
        one.stdin.write(b"\n")


async def said(one: Process) -> list[str]:
    """What a process said until its end, line by line."""
    out, err = await one.communicate()
    assert one.returncode == 0, err.decode()
    return out.decode().splitlines()


async def answered(simulator: Simulator, count: int) -> None:
    async with asyncio.timeout(60):
        while simulator.stats()["answered"] < count:
            await asyncio.sleep(0.005)


@pytest.fixture
def table(lab: Lab) -> Lab:
    lab.table(ROWS)
    return lab


# -- starting ---------------------------------------------------------------------------------------------------------


async def test_two_that_start_at_the_same_moment_freeze_one_run(lab: Lab, crew: Crew) -> None:
    """The second finds the run of the first and goes on with it."""
    lab.table(30_000, text="a text that is long enough to keep the freezing going for a moment, number {}")
    async with lab.simulator():
        both = [await crew("start") for _ in range(2)]
        go(*both)
        ends = [(await said(one))[-1].split() for one in both]
    assert sorted(resumed for _, resumed in ends) == ["False", "True"]
    assert {run_id for run_id, _ in ends} == {record.run_id for record in wiring.open_store(lab.settings).runs.all()}
    assert sorted(path.suffix for path in lab.settings.runs_dir.iterdir()) == [""]


async def test_a_run_with_another_question_waits_for_the_one_at_work(table: Lab, crew: Crew) -> None:
    """It would end that run; so it says whom it waits for, and takes the answers that still fit afterwards."""
    async with table.simulator(SLOW, latency_median_s=0.1) as simulator:
        first = await crew()
        go(first)
        await answered(simulator, 10)
        async with table.engine(table.job(prompt={"user": "Again: {{ text }}"}, output=OUTPUT)) as engine:
            second = await engine.run()
        lines = await said(first)
        assert simulator.stats()["answered"] == 2 * ROWS
    assert lines[-1].split()[1:3] == [str(ROWS), "0"]
    waits = [event.reason for event in table.events if isinstance(event, Waiting)]
    assert len(waits) == 1 and f"being worked on by process {first.pid}" in waits[0]
    assert (second.ok, second.pending) == (ROWS, 0) and second.run_id != lines[-1].split()[0]


# -- one run, several processes ---------------------------------------------------------------------------------------


async def test_two_commands_of_one_job_share_its_slices(lab: Lab) -> None:
    """Every row is asked once over both, both end with all of it and exit 0; one of them tells."""
    lab.table(ROWS)
    cli = CommandLine(lab)
    job = cli.job_file(slices={"rows": 30})
    async with lab.simulator(SLOW, latency_median_s=0.3) as simulator:
        both = [await cli.start("run", job, "--json") for _ in range(2)]
        ends = [await ended(one) for one in both]
        assert [(end.code, end.json["ok"], end.json["pending"]) for end in ends] == [(0, ROWS, 0)] * 2, ends
        assert ends[0].json["run_id"] == ends[1].json["run_id"]
        assert simulator.stats()["answered"] == simulator.stats()["duplicates"]["prompts"] == ROWS
        assert ends[0].json["requests"] + ends[1].json["requests"] == ROWS
    assert [row["id"] for row in lab.rows()] == list(range(ROWS))


async def test_both_work_at_once_and_one_brings_the_answers_in(table: Lab, crew: Crew) -> None:
    """Neither sits idle while a slice is free; the run is ended once."""
    async with table.simulator(SLOW, latency_median_s=0.2) as simulator:
        first, second = [await crew() for _ in range(2)]
        go(first)
        await answered(simulator, 1)
        go(second)
        ends = [(await said(one))[-1].split() for one in (first, second)]
        assert simulator.stats()["answered"] == ROWS
    assert [end[1:3] for end in ends] == [[str(ROWS), "0"]] * 2
    assert sorted(end[3] for end in ends) == ["False", "True"]  # ended_elsewhere
    runs = wiring.open_store(table.settings).runs
    (record,) = runs.all()
    assert record.state is RunState.FINISHED
    workers = {runs.worker(record.run_id, number) for number in range(4)}
    assert workers <= {first.pid, second.pid}


async def test_three_jobs_run_in_three_processes_at_once(table: Lab, crew: Crew) -> None:
    """Nobody waits for another job's end."""
    async with table.simulator(SLOW, latency_median_s=0.05) as simulator:
        names = ("one", "two", "three")
        three = [await crew(name=name, prompt={"user": name + ": {{ text }}"}) for name in names]
        go(*three)
        ends = [await said(one) for one in three]
        assert simulator.stats()["answered"] == simulator.stats()["duplicates"]["prompts"] == 3 * ROWS
    assert all(len(lines) == 1 and lines[0].split()[1:3] == [str(ROWS), "0"] for lines in ends), ends
    assert all(len(table.rows(f"out_{name}")) == ROWS for name in names)


async def test_the_other_finishes_what_a_killed_one_had(table: Lab, crew: Crew) -> None:
    """kill -9 frees its slices at once; paid twice is at most what it had in flight."""
    async with table.simulator(SLOW, latency_median_s=0.2) as simulator:
        killed, other = [await crew() for _ in range(2)]
        go(killed)
        await answered(simulator, 1)
        go(other)
        await answered(simulator, ROWS // 2)
        killed.kill()
        await killed.communicate()
        lines = await said(other)
        paid_twice = simulator.stats()["answered"] - ROWS
    assert lines[-1].split()[1:] == [str(ROWS), "0", "False"]
    assert 0 <= paid_twice <= SLOW["max_concurrency"]
    assert [row["id"] for row in table.rows("out_lab")] == list(range(ROWS))


async def test_failed_rows_are_retried_once_by_two_retries_at_once(table: Lab, crew: Crew) -> None:
    """What failed after the command was given is not its own to ask again."""
    async with table.simulator(latency_median_s=0.05) as simulator:
        simulator.configure(faults={"empty": 1.0})
        await table.run(table.job(output=OUTPUT, slices={"rows": 30}, retries={"attempts": 1}))
        assert simulator.stats()["accepted"] == ROWS
        both = [await crew("retry", retries={"attempts": 1}) for _ in range(2)]
        go(*both)
        for one in both:
            assert one.stdout is not None and await one.stdout.readline() == b"begun\n"
        go(*both)
        ends = [(await said(one))[-1].split() for one in both]
        assert simulator.stats()["accepted"] == 2 * ROWS
    assert [end[1:] for end in ends] == [["0", str(ROWS)]] * 2


async def test_a_wait_for_the_other_can_be_given_up(lab: Lab, crew: Crew) -> None:
    """Ctrl-C while it waits: exit 3, and the other one goes on. Nobody may forget the run meanwhile."""
    lab.table(30)
    cli = CommandLine(lab)
    async with lab.simulator(SLOW, latency_median_s=0.2) as simulator:
        first = await crew()
        go(first)
        await answered(simulator, 2)
        simulator.configure(latency_median_s=600.0)
        second = await cli.start("run", cli.job_file(output=OUTPUT, slices={"rows": 30}), "--json")
        assert second.stderr is not None
        line = b""
        while b"waiting" not in line:
            line = await second.stderr.readline()
            assert line, "it did not wait"
        assert f"slice 0 is being worked on by process {first.pid}".encode() in line
        status = await cli.run("status", "lab", "--json")
        assert status.json["state"] == "running"
        forgotten = await cli.run("forget", "lab", "--yes")
        assert forgotten.code == 3 and f"process {first.pid}" in forgotten.err, forgotten.err
        second.send_signal(signal.SIGINT)
        stopped = await ended(second)
        assert (stopped.code, stopped.json["stopped"], stopped.json["requests"]) == (3, "cancelled", 0), stopped.err
        assert first.returncode is None


async def test_a_wait_is_told_again_with_how_far_the_other_is(lab: Lab) -> None:
    """Every 30 s (of a clock that is faster here), as in a log of a run that moves."""
    lab.table(3)
    async with lab.simulator():
        record = wiring.planner(lab.settings, lab.job()).start().record
        journal = wiring.open_store(lab.settings).runs.journal(record.run_id, 0)  # as another process would
        async with lab.engine(clock=ScaledClock(100)) as engine:
            running = asyncio.create_task(engine.run())
            await told(lab, "waiting for the end of that")
            journal.append(Entry(EntryKind.FAILED, 1, 1, detail={"error_class": "refused", "message": "no"}))
            await told(lab, f"slice 0 is being worked on by process {os.getpid()}, 1 of 3 rows so far; waiting")
            journal.close()
            summary = await running
    assert (summary.ok, summary.failed) == (2, 1)


async def told(lab: Lab, words: str) -> None:
    """Until it said so."""
    while not any(isinstance(event, Waiting) and words in event.reason for event in lab.events):
        await asyncio.sleep(0.01)


async def test_a_slice_by_itself_waits_for_who_works_on_it(table: Lab, crew: Crew) -> None:
    """As a Dagster run does beside a `run`: nothing is asked twice, and it does not fail."""
    job = table.job(output=OUTPUT, slices={"rows": 30})
    async with table.simulator(SLOW, latency_median_s=0.1) as simulator:
        other = await crew()
        go(other)
        await answered(simulator, 3)
        async with table.engine(job) as engine:
            started = await engine.start()
            slices = [await engine.run_slice(started.record, number) for number in range(4)]
        await said(other)
        assert simulator.stats()["answered"] == ROWS
    assert [(one.ok, one.pending) for one in slices] == [(30, 0)] * 4
    assert any(isinstance(event, Waiting) for event in table.events)


async def test_a_stop_while_another_is_at_work_does_not_end_the_run(table: Lab, crew: Crew) -> None:
    """What the stopped one leaves, the other asks; who goes on tells the end."""
    async with table.simulator(SLOW, latency_median_s=0.2) as simulator:
        other = await crew()
        async with table.engine(table.job(output=OUTPUT, slices={"rows": 30})) as engine:
            running = asyncio.create_task(engine.run())
            await answered(simulator, 5)
            go(other)
            await answered(simulator, ROWS // 2)
            engine.stop()
            stopped = await running
        lines = await said(other)
        assert simulator.stats()["answered"] == ROWS
    (end,) = [event.summary for event in table.events if isinstance(event, RunFinished)]
    assert stopped.stopped == "cancelled" and end.ended_elsewhere
    assert lines[-1].split()[1:] == [str(ROWS), "0", "False"]


async def test_who_ends_last_takes_away_the_rows_that_replace_leaves_no_place_for(table: Lab, crew: Crew) -> None:
    """One that is stopped meanwhile takes away none: the other's rows would be missing."""
    changes: dict[str, Any] = {"output": {**OUTPUT, "mode": "replace"}, "slices": {"rows": 30}}
    async with table.simulator(SLOW) as simulator:
        await table.run(table.job(**changes))
        table.table(ROWS - 20)
        changes["prompt"] = {"user": "Again: {{ text }}"}
        simulator.configure(latency_median_s=0.2)
        last = await crew(**changes)
        go(last)
        await published(table, 0)
        simulator.configure(latency_median_s=5.0)
        async with table.engine(table.job(**changes)) as engine:
            engine.stop()
            stopped = await engine.run()
        assert (stopped.stopped, stopped.ended_elsewhere) == ("cancelled", True)
        assert [row["id"] for row in table.rows("out_lab")] == list(range(ROWS))
        simulator.configure(latency_median_s=0.0)
        lines = await said(last)
    assert lines[-1].split()[1:3] == [str(ROWS - 20), "0"]
    assert [row["id"] for row in table.rows("out_lab")] == list(range(ROWS - 20))


async def published(lab: Lab, number: int) -> None:
    """Until this slice of the run that is at work is."""
    runs = wiring.open_store(lab.settings).runs
    async with asyncio.timeout(60):
        while not any(
            record.state is RunState.PLANNED and runs.is_published(record.run_id, number) for record in runs.all()
        ):
            await asyncio.sleep(0.02)
