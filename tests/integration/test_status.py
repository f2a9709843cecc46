"""`status`: what a run that did not end by itself left behind."""

from __future__ import annotations

from contextlib import closing

from batch_llm import wiring
from batch_llm.cli.status import RunStatus, status_of
from batch_llm.journal.base import Entry, EntryKind
from tests.integration.engine_lab import killed_before_publishing
from tests.integration.lab import Lab


def status(lab: Lab) -> RunStatus:
    store = wiring.open_store(lab.settings)
    record = store.runs.latest("lab")
    assert record is not None
    return status_of(store, record)


async def test_answers_of_a_killed_run_are_counted_with_what_they_cost(lab: Lab) -> None:
    """The process died between its last answer and the first publication."""
    lab.table(8)
    async with lab.simulator():
        await killed_before_publishing(lab, "run")
        killed = status(lab)
        assert (killed.state, killed.reason, killed.answered, killed.ok) == ("stopped", None, 8, 0)
        summary = await lab.run()
    assert killed.cost_usd == summary.cost_usd is not None
    assert (status(lab).state, status(lab).cost_usd) == ("finished", summary.cost_usd)


async def test_a_cost_that_nobody_knows_is_none(lab: Lab) -> None:
    lab.table(8)
    async with lab.simulator():
        await killed_before_publishing(lab, "run")
    known, store = status(lab).cost_usd, wiring.open_store(lab.settings)
    (record,) = store.runs.all()
    with closing(store.runs.journal(record.run_id, 0)) as journal:
        journal.append(Entry(EntryKind.SENT, 0, 2, detail={"held_usd": "5"}))
    assert status(lab).cost_usd == known  # what a budget sets aside is no cost
    lab.settings.providers_path.unlink()
    assert (status(lab).answered, status(lab).cost_usd) == (7, None)  # the last word on row 0 is no answer


async def test_what_was_paid_costs_what_it_cost_then(lab: Lab) -> None:
    lab.table(8)
    async with lab.simulator() as simulator:
        await killed_before_publishing(lab, "run")
        paid = status(lab).cost_usd
        assert paid
        for prices in ({"input": "10.00", "output": "20.00"}, None):
            lab.providers(simulator.base_url, prices=prices)
            assert status(lab).cost_usd == paid
        assert (await lab.run()).cost_usd == paid


async def test_a_sample_was_cancelled_by_nobody(lab: Lab) -> None:
    lab.table(8)
    async with lab.simulator():
        await lab.run(limit=3)
    found = status(lab)
    assert (found.state, found.reason, found.pending) == ("stopped", "sample", 5)
    assert {row["llm_error_class"] for row in lab.rows("out__live") if row["llm_status"] == "pending"} == {"sample"}
