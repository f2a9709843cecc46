"""What the engine promises when something around it fails: paid answers stay, nothing is bought twice."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
import yaml

from batch_llm.clock import SystemClock
from batch_llm.engine.events import Stopping
from batch_llm.engine.slice_work import SliceWork
from batch_llm.errors import ConfigurationError, LimiterError, LimiterStoreError, LimiterUnreachable, WarehouseError
from batch_llm.job.load import DeclaredJob
from batch_llm.journal.base import EntryKind
from batch_llm.journal.disk import Reserve
from batch_llm.journal.local import LocalJournal
from batch_llm.limiter.ledger import LedgerCall, LedgerReply
from batch_llm.limiter.redis_ledger import RedisLedger
from batch_llm.simulator import FaultKind
from batch_llm.warehouse.duckdb import DuckDBWarehouse
from tests.integration.engine_lab import (
    answered_body,
    compatible_server,
    journalled,
    killed_before_publishing,
)
from tests.integration.lab import SCHEMA, Lab

TOO_LONG = "text {}" + "x" * 3000  # for a context of 700 tokens
HOLDER = """
import duckdb, sys
print("ready", flush=True)
sys.stdin.readline()
connection = duckdb.connect(sys.argv[1])
print("held", flush=True)
sys.stdin.readline()
"""


def _while_opening(monkeypatch: pytest.MonkeyPatch, number: int, happens: Callable[[], None]) -> None:
    """Let ``happens`` run, once, in the thread that is opening a slice."""
    original = SliceWork.open
    left = [happens]

    def opening(self: SliceWork, *, reopen_below: int | None) -> None:
        if self.number == number and left:
            left.pop()()
        original(self, reopen_below=reopen_below)

    monkeypatch.setattr(SliceWork, "open", opening)


# -- a table or a disk that fails -----------------------------------------------------------------------------------


async def test_calls_in_flight_come_home_when_the_warehouse_is_locked(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another program takes the file while slice 1 opens: slice 0's paid answers are kept, the error is its own."""
    monkeypatch.setitem(DuckDBWarehouse.__init__.__kwdefaults__, "lock_wait_s", 0.1)
    lab.table(60)
    job = lab.job(slices={"rows": 20})
    command = [sys.executable, "-c", HOLDER, str(lab.settings.duckdb_path)]
    async with lab.simulator(latency_median_s=0.7, latency_sigma=0.0001) as simulator:
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
            assert holder.stdout is not None and holder.stdout.readline() == "ready\n"
            _while_opening(monkeypatch, 1, lambda: _take_the_file(holder))
            with pytest.raises(WarehouseError, match="held by another process"):
                await lab.run(job)
            answers = [entry for entry in journalled(lab, 0) if entry.kind is EntryKind.ANSWER]
            assert len(answers) == simulator.stats()["answered"] == simulator.stats()["accepted"] == 20
            holder.kill()
        summary = await lab.run(job)
        assert (summary.ok, summary.pending, simulator.stats()["answered"]) == (60, 0, 60)


def _take_the_file(holder: subprocess.Popen[str]) -> None:
    assert holder.stdin is not None and holder.stdout is not None
    holder.stdin.write("\n")
    holder.stdin.flush()
    assert holder.stdout.readline() == "held\n"


@pytest.mark.parametrize("error", [LimiterStoreError("disk full"), LimiterUnreachable("away")])
async def test_a_store_of_the_limits_that_fails_after_a_call_stops_the_run_with_its_summary(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, error: LimiterError
) -> None:
    """Money was spent: it is no error of the start, whenever the ledger fails, at a reopened budget as well."""
    lab.table(60)
    calling = RedisLedger.call

    async def failing(self: RedisLedger, call: LedgerCall) -> LedgerReply:
        if call.closing and call.sequence > 1 and not call.alone_us:  # a writer's last one, not a look at the dead
            raise error
        return await calling(self, call)

    monkeypatch.setattr(RedisLedger, "call", failing)
    async with lab.simulator() as simulator:
        assert (await lab.run(limit=20)).ok == 20
        async with lab.engine() as engine:
            asking = engine._ask_free
            first = [True]

            async def once(*args: Any) -> Any:
                if not first:
                    raise error
                first.clear()
                _, left = await asking(*args)
                return None, replace(left, numbers=[0])  # another process had it

            monkeypatch.setattr(engine, "_ask_free", once)
            summary = await engine.run(limit=20)
        assert (summary.stopped, summary.ok, summary.pending) == ("budget", 40, 20)
        assert any(isinstance(event, Stopping) and str(error) in event.reason for event in lab.events)
        assert (await lab.run()).ok == simulator.stats()["answered"] == 60


# -- stopping while a slice opens -----------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [0, 1])
async def test_two_stops_while_a_slice_opens_drain_once(lab: Lab, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """The user's and a dying provider's: the slice is published as pending, and its journal is free afterwards."""
    lab.table(40)
    job = lab.job(slices={"rows": 20})
    async with lab.simulator(latency_median_s=0.2, latency_sigma=0.0001) as simulator:
        async with lab.engine(job) as engine:

            def stop_twice() -> None:
                while simulator.stats()["accepted"] < 20 * number:  # the slice before was read, not sent yet
                    time.sleep(0.01)
                for _ in range(2):
                    engine.stop()
                    time.sleep(0.05)  # the loop hears the first before the second comes

            _while_opening(monkeypatch, number, stop_twice)
            summary = await engine.run()
            assert (summary.stopped, summary.ok, summary.pending) == ("cancelled", 20 * number, 40 - 20 * number)
            assert len(lab.rows()) == 40
        whole = await lab.run(job)
        assert (whole.ok, whole.run_id, simulator.stats()["answered"]) == (40, summary.run_id, 40)


async def test_many_refusals_at_once_while_a_slice_opens_drain_once(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty calls hear that the credit is used up: the rest is pending for that reason, and can be run later."""
    monkeypatch.setenv("LOCAL_KEY", "k-1")
    lab.table(40)
    opening, refused = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()
    asked: list[str] = []

    async def refuse(prompt: str) -> tuple[int, dict[str, Any]]:
        asked.append(prompt)
        await opening.wait()
        if len(asked) == 20:
            refused.set()
        return 429, {"error": {"message": "no credit", "type": "insufficient_quota", "code": "insufficient_quota"}}

    def let_all_be_refused() -> None:
        while len(asked) < 20:  # the slice before was read, not sent yet
            time.sleep(0.01)
        loop.call_soon_threadsafe(opening.set)
        refused.wait(10)
        time.sleep(0.2)  # the refusals reach the engine one after the other

    _while_opening(monkeypatch, 1, let_all_be_refused)
    async with compatible_server(lab, refuse) as model:
        summary = await lab.run(lab.job(model=model, slices={"rows": 20}))
    assert (summary.stopped, summary.ok, summary.failed, summary.pending) == ("daily_quota", 0, 0, 40)
    assert {row["llm_error_class"] for row in lab.rows()} == {"daily_quota"} and len(lab.rows()) == 40
    assert len(asked) == 20

    async def answer(prompt: str) -> tuple[int, dict[str, Any]]:
        return 200, answered_body('{"tone": "calm", "score": 1}')

    async with compatible_server(lab, answer) as model:
        whole = await lab.run(lab.job(model=model, slices={"rows": 20}))
    assert (whole.ok, whole.run_id) == (40, summary.run_id)


# -- nothing is bought twice ----------------------------------------------------------------------------------------


async def test_a_retry_killed_before_it_publishes_is_not_paid_again(lab: Lab) -> None:
    """`run` finds its answers, and so does a run over a longer table."""
    lab.table(10, text=TOO_LONG)
    async with lab.simulator(context_tokens=700):
        assert (await lab.run()).failed == 10
    async with lab.simulator() as simulator:
        await killed_before_publishing(lab, "retry")
        assert simulator.stats()["answered"] == 10
        found = await lab.run()
        assert (found.ok, found.failed, found.nothing_to_do) == (10, 0, False)
        assert {row["llm_status"] for row in lab.rows()} == {"ok"}
        assert (await lab.run()).nothing_to_do
        lab.table(11, text=TOO_LONG)
        assert (await lab.run()).ok == 11
        assert simulator.stats()["answered"] == 11


async def test_a_killed_retry_leaves_its_answers_to_a_longer_table(lab: Lab) -> None:
    """Also when no run of the old table comes in between."""
    lab.table(10, text=TOO_LONG)
    async with lab.simulator(context_tokens=700):
        await lab.run()
    async with lab.simulator() as simulator:
        await killed_before_publishing(lab, "retry")
        lab.table(11, text=TOO_LONG)
        summary = await lab.run()
        assert (summary.ok, summary.cached, simulator.stats()["answered"]) == (11, 10, 11)


async def test_append_missing_asks_only_for_keys_that_are_not_there(lab: Lab) -> None:
    """A changed text of a known key changes nothing and costs nothing."""
    lab.table(20)
    job = lab.job(output={"table": "out", "schema": SCHEMA, "mode": "append_missing"})
    async with lab.simulator() as simulator:
        await lab.run(job)
        before = lab.rows()
        lab.table(20, text="changed {}")
        await lab.run(job)
        assert (lab.rows(), simulator.stats()["accepted"]) == (before, 20)
        lab.table(21, text="changed {}")
        await lab.run(job)
        assert simulator.stats()["accepted"] == 21
    rows = lab.rows()
    assert rows[:20] == before and len(rows) == 21


async def test_a_prompt_tried_in_between_does_not_lose_a_killed_runs_answers(lab: Lab) -> None:
    """A killed, a sample of B, back to A: A's forty and B's two are all that is paid."""
    lab.table(40)
    async with lab.simulator() as simulator:
        await killed_before_publishing(lab, "run")
        assert simulator.stats()["answered"] == 40
        sample = await lab.run(lab.job(prompt={"user": "Judge: {{ text }}"}), limit=2)
        assert (sample.ok, simulator.stats()["answered"]) == (2, 42)
        summary = await lab.run()
        assert (summary.ok, summary.cached, simulator.stats()["answered"]) == (40, 40, 42)


async def test_an_output_that_was_dropped_or_renamed_is_not_bought_again(lab: Lab) -> None:
    """Both are made from what is stored."""
    lab.table(20)
    async with lab.simulator() as simulator:
        await lab.run()
        before = lab.rows()
        with duckdb.connect(str(lab.settings.duckdb_path)) as connection:
            connection.execute("DROP TABLE main.out")
        await lab.run()
        assert lab.rows() == before
        renamed = lab.job(output={"table": "out2", "schema": SCHEMA, "keep": ["extra"]})
        summary = await lab.run(renamed)
        assert (summary.ok, summary.cached, simulator.stats()["accepted"]) == (20, 20, 20)
    assert [(row["id"], row["tone"]) for row in lab.rows("out2")] == [(row["id"], row["tone"]) for row in before]


async def test_a_column_kept_later_does_not_lose_the_sample(lab: Lab) -> None:
    """Its five answers are taken over."""
    lab.table(30)
    async with lab.simulator() as simulator:
        await lab.run(lab.job(output={"table": "out", "schema": SCHEMA}), limit=5)
        summary = await lab.run(lab.job(output={"table": "out", "schema": SCHEMA, "keep": ["extra"]}))
        assert (summary.ok, summary.cached, simulator.stats()["accepted"]) == (30, 5, 30)
    assert all(row["extra"] == row["id"] % 7 for row in lab.rows())


# -- what a retry refuses -------------------------------------------------------------------------------------------


async def _refused_retry(lab: Lab, job: DeclaredJob, reason: str) -> None:
    async with lab.engine(job) as engine:
        with pytest.raises(ConfigurationError, match=reason):
            await engine.retry()


async def test_a_retry_refuses_a_budget_without_a_price(lab: Lab) -> None:
    """As `run` does: before any call."""
    lab.table(5, text=TOO_LONG)
    async with lab.simulator(context_tokens=700):
        await lab.run()
    async with lab.simulator() as simulator:
        path = lab.folder / "providers.yaml"
        data = yaml.safe_load(path.read_text())
        del data["providers"]["simulator"]["pools"][0]["prices"]
        path.write_text(yaml.safe_dump(data))
        await _refused_retry(lab, lab.job(budget_usd="0.000001"), "price of simulator/small is unknown")
        assert simulator.stats()["accepted"] == simulator.stats()["rejected_total"] == 0


async def test_a_retry_of_a_changed_job_is_refused_before_any_call(lab: Lab) -> None:
    """The frozen rows lack the column that is kept now; `run` takes the change."""
    lab.table(5, text=TOO_LONG)
    async with lab.simulator(context_tokens=700):
        await lab.run(lab.job(output={"table": "out", "schema": SCHEMA}))
    async with lab.simulator() as simulator:
        changed = lab.job(output={"table": "out", "schema": SCHEMA, "keep": ["extra"]})
        await _refused_retry(lab, changed, "changed since run")
        assert simulator.stats()["accepted"] == simulator.stats()["rejected_total"] == 0
        assert (await lab.run(changed)).rows == 5


# -- figures --------------------------------------------------------------------------------------------------------


async def test_what_calls_without_an_outcome_cost_is_unknown_not_zero(lab: Lab) -> None:
    """The connection broke after the call went out: it may be billed."""
    lab.table(3)
    async with lab.simulator(faults={FaultKind.RESET: 1.0}):
        summary = await lab.run(lab.job(retries={"attempts": 1}))
    assert summary.failed_by_class == {"connection": 3} and summary.cost_usd is None
    for row in lab.rows():
        assert row["llm_attempts"] == 1
        assert row["llm_cost_usd"] is row["llm_input_tokens"] is row["llm_output_tokens"] is None


async def test_many_tiny_slices_are_never_open_all_at_once(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight at most, however fast the answers come, and every row is right."""
    now_open: set[Path] = set()
    most = [0]
    opening, closing = LocalJournal.__init__, LocalJournal.close

    def opened(self: LocalJournal, path: Path, *reserve: Reserve | None) -> None:
        opening(self, path, *reserve)
        now_open.add(path)
        most[0] = max(most[0], len(now_open))

    def closed(self: LocalJournal) -> None:
        closing(self)
        now_open.discard(self.path)

    monkeypatch.setattr(LocalJournal, "__init__", opened)
    monkeypatch.setattr(LocalJournal, "close", closed)
    lab.table(40)
    async with lab.simulator() as simulator:
        summary = await lab.run(lab.job(slices={"rows": 2}))
        assert (summary.ok, simulator.stats()["accepted"]) == (40, 40)
    assert 1 < most[0] <= 8 and not now_open
    rows = lab.rows()
    assert [(row["id"], row["llm_slice"], row["llm_status"]) for row in rows] == [(i, i // 2, "ok") for i in range(40)]


class SetBack(SystemClock):
    """A wall clock that somebody set back by an hour."""

    def now(self) -> datetime:
        return super().now() - timedelta(hours=1)


async def test_a_clock_that_was_set_back_leaves_the_newest_run_the_newest(lab: Lab) -> None:
    """`run` freezes no further run each time, `retry` finds the run of the job as it is."""
    lab.table(4)
    job = lab.job(prompt={"user": "New: {{ text }}"})
    async with lab.simulator():
        await lab.run()
        async with lab.engine(job, clock=SetBack()) as engine:
            first = await engine.run()
        async with lab.engine(job, clock=SetBack()) as engine:
            again = await engine.run()
            tried_again = await engine.retry()
            record = engine.parts.runs.get(first.run_id)
    assert (again.nothing_to_do, again.run_id) == (True, first.run_id)
    assert (tried_again.nothing_to_do, tried_again.run_id) == (True, first.run_id)
    assert record.finished_at is not None and record.finished_at >= record.created_at
