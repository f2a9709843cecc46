"""The engine from table to table: every row once, right or rightly failed, to the cent."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import pytest

from batch_llm import wiring
from batch_llm.clock import ScaledClock
from batch_llm.engine.events import (
    BudgetMark,
    FirstFailure,
    Progress,
    RunFinished,
    RunStarted,
    SlicePublished,
    Stopping,
)
from batch_llm.errors import ConfigurationError, ErrorClass, InputError, NotYetAvailable, OutputError
from batch_llm.simulator import FaultKind
from tests.integration.lab import Lab


async def test_every_row_is_asked_once_and_lands_in_the_output(lab: Lab) -> None:
    """Rows in = rows out; tokens and cost are the simulator's own."""
    lab.table(120)
    async with lab.simulator() as simulator:
        summary = await lab.run(lab.job(slices={"rows": 50}))
        stats = simulator.stats()
    rows = lab.rows()
    assert (summary.rows, summary.ok, summary.failed, summary.pending) == (120, 120, 0, 0)
    assert [row["id"] for row in rows] == list(range(120))
    assert {row["llm_status"] for row in rows} == {"ok"}
    assert {row["tone"] for row in rows} == {"calm", "tense"}
    assert all(row["extra"] == row["id"] % 7 for row in rows)
    assert stats["answered"] == stats["accepted"] == 120
    assert sum(row["llm_input_tokens"] for row in rows) == summary.input_tokens == stats["input_tokens"]
    assert sum(row["llm_output_tokens"] for row in rows) == summary.output_tokens == stats["output_tokens"]
    bill = (Decimal(stats["input_tokens"]) + 2 * Decimal(stats["output_tokens"])) / 1_000_000
    assert sum(row["llm_cost_usd"] for row in rows) == summary.cost_usd == bill
    assert {row["llm_slice"] for row in rows} == {0, 1, 2}


async def test_the_events_tell_the_story_in_order(lab: Lab) -> None:
    """Started first, finished last, one publication per slice, progress that ends at the total; tokens as used."""
    lab.table(60)
    async with lab.simulator():
        await lab.run(lab.job(slices={"rows": 25}))
    assert isinstance(lab.events[0], RunStarted) and isinstance(lab.events[-1], RunFinished)
    assert sorted(event.slice_number for event in lab.events if isinstance(event, SlicePublished)) == [0, 1, 2]
    last = [event for event in lab.events if isinstance(event, Progress)][-1]
    assert (last.rows, last.ok, last.failed, last.pending, last.in_flight) == (60, 60, 0, 0, 0)
    used = (last.input_tokens + last.output_tokens) / 60
    assert last.tokens_per_minute / last.requests_per_minute == pytest.approx(used)


async def test_a_finished_run_with_nothing_changed_asks_nothing(lab: Lab) -> None:
    """It says so, and the output stays."""
    lab.table(30)
    async with lab.simulator() as simulator:
        await lab.run()
        before = lab.rows()
        again = await lab.run()
        assert again.nothing_to_do and (again.ok, again.pending) == (30, 0)
        assert simulator.stats()["accepted"] == 30
    assert lab.rows() == before


async def test_only_new_and_changed_rows_are_asked(lab: Lab) -> None:
    """A longer table with some texts changed; a changed column that nobody uses asks nothing."""
    lab.table(30)
    async with lab.simulator() as simulator:
        first = await lab.run()
        lab.table(28, start=5, text="text {}")
        second = await lab.run()
        assert simulator.stats()["accepted"] == 33
        assert (second.rows, second.ok, second.cached) == (28, 28, 25)
        lab.table(33, text="other {}")
        third = await lab.run()
        assert (third.cached, simulator.stats()["accepted"]) == (0, 66)
    rows = lab.rows()
    assert len(rows) == 33 and {row["llm_run_id"] for row in rows} == {third.run_id}
    assert len({first.run_id, second.run_id, third.run_id}) == 3


async def test_an_earlier_answer_keeps_the_name_of_the_run_that_paid(lab: Lab) -> None:
    """So that the costs of a run's rows add up to its bill."""
    lab.table(10)
    async with lab.simulator():
        first = await lab.run()
        lab.table(12)
        second = await lab.run()
    paid = {
        run: sum(row["llm_cost_usd"] for row in lab.rows() if row["llm_run_id"] == run)
        for run in (first.run_id, second.run_id)
    }
    assert paid == {first.run_id: first.cost_usd, second.run_id: second.cost_usd}


async def test_a_changed_prompt_asks_every_row_again(lab: Lab) -> None:
    """It is another question."""
    lab.table(10)
    async with lab.simulator() as simulator:
        await lab.run()
        await lab.run(lab.job(prompt={"user": "Judge: {{ text }}"}))
        assert simulator.stats()["accepted"] == 20


async def test_faults_never_make_a_wrong_row(lab: Lab) -> None:
    """Ten per cent mixed faults: every row as without faults, or failed with its class; nothing cut short is kept."""
    lab.table(300)
    async with lab.simulator(seed=5):
        await lab.run()
    right = {row["id"]: (row["tone"], row["score"]) for row in lab.rows()}
    spoiled = Lab(lab.folder / "spoiled")
    spoiled.folder.mkdir()
    spoiled.table(300)
    shares = {kind: 0.0125 for kind in FaultKind if kind.value not in ("hang", "drip", "slow_drip")}
    async with spoiled.simulator(seed=5, faults=shares, fault_retry_after_s=0.01) as simulator:
        summary = await spoiled.run(spoiled.job(retries={"attempts": 3, "re_asks": 1}))
        stats = simulator.stats()
    assert sum(stats["faults"].values()) > 10
    rows = spoiled.rows()
    assert len(rows) == 300 == summary.ok + summary.failed
    for row in rows:
        if row["llm_status"] == "ok":
            assert (row["tone"], row["score"]) == right[row["id"]]
        else:
            assert row["llm_error_class"] and row["llm_error"] and row["tone"] is None
    assert summary.ok >= 290


async def test_a_permanent_error_costs_one_call_and_retry_asks_only_failed_rows(lab: Lab) -> None:
    """A row longer than the model's context fails alone; `retry` asks it, and no other, once more."""
    lab.table(20, text="text {}" + "x" * 3000)
    async with lab.simulator(context_tokens=700) as simulator:
        summary = await lab.run()
        assert (summary.ok, summary.failed) == (0, 20)
        assert summary.failed_by_class == {"too_large": 20}
        assert simulator.stats()["rejected_total"] == 20
        async with lab.engine() as engine:
            again = await engine.retry()
        assert (again.failed, simulator.stats()["rejected_total"]) == (20, 40)
    assert {event.error_class for event in lab.events if isinstance(event, FirstFailure)} == {"too_large"}
    async with lab.simulator(), lab.engine() as engine:
        healed = await engine.retry()
    assert (healed.ok, healed.failed, healed.pending) == (20, 0, 0)
    assert {row["llm_status"] for row in lab.rows()} == {"ok"}


async def test_a_budget_is_never_exceeded_and_more_of_it_goes_on(lab: Lab) -> None:
    """At the cap the run drains and the rest is pending; with more money it finishes, no row paid twice."""
    lab.table(200)
    async with lab.simulator(latency_median_s=0.01) as simulator:
        poor = await lab.run(lab.job(budget_usd="0.0025"))
        assert poor.stopped == "budget" and poor.pending > 0 and poor.ok > 0
        assert poor.cost_usd is not None and poor.cost_usd <= Decimal("0.0025")
        rows = lab.rows()
        assert len(rows) == 200
        assert {row["llm_error_class"] for row in rows if row["llm_status"] == "pending"} == {"budget"}
        rich = await lab.run(lab.job(budget_usd="5"))
        assert (rich.ok, rich.pending, rich.run_id) == (200, 0, poor.run_id)
        assert simulator.stats()["duplicates"]["answered_twice"] == 0
        marks = [event.percent for event in lab.events if isinstance(event, BudgetMark)]
    assert marks[0] == 50 and marks[-1] == 100 and marks == sorted(set(marks))  # at last nothing more could be paid


async def test_a_budget_without_a_price_is_refused(lab: Lab) -> None:
    """Before any call."""
    lab.table(3)
    async with lab.simulator() as simulator:
        lab.providers(simulator.base_url, None, prices=None)
        text = (lab.folder / "providers.yaml").read_text().replace("prices: null\n", "")
        (lab.folder / "providers.yaml").write_text(text)
        with pytest.raises(ConfigurationError, match="price of simulator/small is unknown"):
            await lab.run(lab.job(budget_usd="1"))
        assert simulator.stats()["accepted"] == 0
        unpriced = await lab.run()
    assert unpriced.cost_usd is None
    assert {row["llm_cost_usd"] for row in lab.rows()} == {None}


async def test_a_sample_is_part_of_the_whole(lab: Lab) -> None:
    """`--limit`: so many rows are asked, the rest is pending; the whole run pays none of them again."""
    lab.table(50)
    async with lab.simulator() as simulator:
        sample = await lab.run(limit=7)
        assert (sample.ok, sample.pending, sample.stopped) == (7, 43, "sample")
        assert sum(row["llm_status"] == "ok" for row in lab.rows()) == 7
        whole = await lab.run()
        assert (whole.ok, whole.pending, whole.run_id) == (50, 0, sample.run_id)
        assert simulator.stats()["accepted"] == 50


async def test_stop_drains_and_the_same_command_goes_on(lab: Lab) -> None:
    """Ctrl-C once: what is in flight comes home, the rest is pending."""
    lab.table(200)
    async with lab.simulator({"requests_per_minute": 6_000}, latency_median_s=0.1) as simulator:
        async with lab.engine(lab.job(slices={"rows": 60})) as engine:
            running = asyncio.create_task(engine.run())
            while simulator.stats()["answered"] < 20:
                await asyncio.sleep(0.01)
            engine.stop()
            summary = await running
        stats = simulator.stats()
        assert summary.stopped == "cancelled"
        assert summary.ok == stats["answered"] == stats["accepted"] < 200
        assert len(lab.rows()) == 200
        whole = await lab.run(lab.job(slices={"rows": 60}))
        assert (whole.ok, whole.run_id) == (200, summary.run_id)
        assert simulator.stats()["duplicates"]["answered_twice"] == 0
    assert any(isinstance(event, Stopping) for event in lab.events)


async def test_a_refused_key_stops_the_run_and_keeps_the_rest_pending(lab: Lab) -> None:
    """Not one failure per row."""
    lab.table(40)
    async with lab.simulator(api_key="the-only-key") as simulator:
        summary = await lab.run()
        assert (summary.stopped, summary.pending, summary.failed) == ("authentication", 40, 0)
        assert simulator.stats()["accepted"] == 0


async def test_an_unfinished_run_leaves_its_answers_to_the_next(lab: Lab) -> None:
    """The input changed before the run was done: what was paid is used, not bought again."""
    lab.table(50)
    async with lab.simulator() as simulator:
        sample = await lab.run(limit=20)
        lab.table(55)
        whole = await lab.run()
        assert whole.run_id != sample.run_id
        assert (whole.ok, whole.cached, simulator.stats()["accepted"]) == (55, 20, 55)


async def test_a_slice_by_itself_is_published_and_a_rerun_asks_only_failed_rows(lab: Lab) -> None:
    """What a Dagster partition does."""
    lab.table(40)
    job = lab.job(slices={"rows": 20})
    async with lab.simulator(faults={FaultKind.LENGTH: 0.4}) as simulator:
        record = wiring.planner(lab.settings, job).start().record
        async with lab.engine(lab.job(slices={"rows": 20}, retries={"re_asks": 0})) as engine:
            first = await engine.run_slice(record, 1)
        assert first.rows == 20 and first.failed > 0 and first.pending == 0
        answered = simulator.stats()["answered"]
        async with lab.engine(job) as engine:
            second = await engine.run_slice(record, 1)
        assert second.failed < first.failed
        assert simulator.stats()["answered"] - answered == second.ok - first.ok
        async with lab.engine(job) as engine:
            with pytest.raises(ConfigurationError, match="slices 0 are not published"):
                await engine.promote(record)
            await engine.run_slice(record, 0)
            summary = await engine.promote(record)
    assert summary.rows == len(lab.rows()) == 40


async def test_too_many_failures_keep_the_output_table_as_it_was(lab: Lab) -> None:
    """`checks.block_promotion`: nothing is promoted until enough rows are right."""
    lab.table(20, text="text {}" + "x" * 3000)
    job = lab.job(checks={"max_failed_share": 0.1, "block_promotion": True})
    async with lab.simulator(context_tokens=700):
        summary = await lab.run(job)
    assert summary.blocked is not None and "20 of 20 rows failed" in summary.blocked
    with pytest.raises(OutputError):
        lab.rows()
    async with lab.simulator(), lab.engine(job) as engine:
        healed = await engine.retry()
    assert healed.blocked is None and len(lab.rows()) == 20


@pytest.mark.parametrize("requests_per_minute", [3, 30_000])
async def test_a_slow_tier_and_a_fast_one_give_the_same_output(lab: Lab, requests_per_minute: int) -> None:
    """The same job file; the slow tier on a clock that runs sixty times as fast. No 429 on either."""
    lab.table(15)
    clock = ScaledClock(60.0 if requests_per_minute == 3 else 1.0)
    limits = {"requests_per_minute": requests_per_minute}
    async with lab.simulator(limits, clock=clock, burst_s=1.0, seed=3, **limits) as simulator:
        async with lab.engine(clock=clock) as engine:
            summary = await engine.run()
        assert simulator.stats()["rejected_total"] == 0
    assert summary.ok == 15
    assert [(row["tone"], row["score"]) for row in lab.rows()] == await _expected(lab)


async def _expected(lab: Lab) -> list[tuple[str, float]]:
    other = Lab(lab.folder / "other")
    other.folder.mkdir()
    other.table(15)
    async with other.simulator(seed=3):
        await other.run()
    return [(row["tone"], row["score"]) for row in other.rows()]


async def test_bad_input_is_refused_before_any_call(lab: Lab) -> None:
    """A missing column, a key that repeats, a table that is not ours, a run that is not there."""
    lab.table(10)
    async with lab.simulator() as simulator:
        with pytest.raises(InputError, match="'txt'"):
            await lab.run(lab.job(prompt={"user": "{{ txt }}"}))
        with pytest.raises(InputError, match="extra"):
            await lab.run(lab.job(input={"table": "input.parquet", "key": ["extra"]}, output={"table": "out"}))
        with pytest.raises(InputError, match=r"absent\.parquet"):
            await lab.run(lab.job(input={"table": "absent.parquet", "key": ["id"]}))
        async with lab.engine() as engine:
            with pytest.raises(ConfigurationError, match="has not run"):
                await engine.retry()
        with pytest.raises(NotYetAvailable):
            await lab.run(lab.job(lane="flex"))
        assert simulator.stats()["accepted"] == 0


async def test_stop_is_heard_before_the_first_call(lab: Lab) -> None:
    """An interrupt while the input is frozen spends nothing."""
    lab.table(30)
    async with lab.simulator() as simulator:
        async with lab.engine() as engine:
            engine.stop(ErrorClass.CANCELLED)
            await asyncio.sleep(0)
            summary = await engine.run()
        assert (summary.pending, simulator.stats()["accepted"]) == (30, 0)
