"""What a run shows while it goes and at its end, beside what its stored rows say.

Belongs here: progress and remarks of whole runs, resumed ones first of all. Not here: the words and the drawing
(tests/unit/watching), single figures (tests/unit/engine/test_progress.py).
"""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from batch_llm import wiring
from batch_llm.engine.events import BudgetMark, FirstFailure, Progress, RunSummary, SlicePublished
from batch_llm.job.load import DeclaredJob
from batch_llm.simulator import FaultKind
from batch_llm.watching.board import Board
from batch_llm.watching.words import usd
from tests.integration.engine_lab import killed_before_publishing, write_input
from tests.integration.lab import Lab

ROWS, SLICES = 100, 5
BUDGET_USD = Decimal(1)


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


def sliced(lab: Lab, **changes: Any) -> DeclaredJob:
    """The job in five slices, its own budget beside the cost; nothing is found, all is asked."""
    keys: dict[str, Any] = {"slices": {"rows": ROWS // SLICES}, "budget_usd": str(BUDGET_USD), "cache": "off"}
    return lab.job(**{**keys, **changes})


def told(lab: Lab) -> list[Progress]:
    """What was told so far; and forget it."""
    found = [event for event in lab.events if isinstance(event, Progress)]
    lab.events.clear()
    return found


def agrees(lab: Lab, summary: RunSummary, slices_done: int) -> Progress:
    """The last word of the panel is the summary's."""
    board = Board("lab", BUDGET_USD)
    for event in lab.events:
        board.take(event)
    facts = {fact.label: fact.text for fact in board.facts()}
    assert facts["rows"].endswith(f"slices {slices_done}/{SLICES}")
    assert facts["cost"] == f"{usd(summary.cost_usd)} of {usd(BUDGET_USD)}"
    assert board.state == ("finished" if summary.stopped is None else "stopped")
    last = told(lab)[-1]
    assert (last.rows, last.ok, last.failed, last.cached, last.pending, last.cost_usd) == (
        summary.rows, summary.ok, summary.failed, summary.cached, summary.pending, summary.cost_usd,
    )  # fmt: skip
    assert (last.input_tokens, last.output_tokens) == (summary.input_tokens, summary.output_tokens)
    assert last.slices_done == slices_done
    return last


async def test_the_panel_of_a_resumed_run_says_what_its_summary_says(lab: Lab) -> None:
    """What the run paid before is in it: in slices that are done, that were left half, that nobody began."""
    lab.table(ROWS)
    async with lab.simulator():
        sample = await lab.run(sliced(lab), limit=50)
        before = agrees(lab, sample, 2)
        whole = await lab.run(sliced(lab))
        assert (whole.run_id, whole.ok, whole.pending) == (sample.run_id, ROWS, 0)
        assert sum(isinstance(event, SlicePublished) for event in lab.events) == 3
        first = next(event for event in lab.events if isinstance(event, Progress))
        assert first.cost_usd is not None and before.cost_usd is not None and first.cost_usd >= before.cost_usd
        agrees(lab, whole, SLICES)


async def test_a_retry_begins_with_what_the_run_has(lab: Lab) -> None:
    """Rows that end without a good answer are paid all the same."""
    lab.table(ROWS)
    async with lab.simulator(faults={FaultKind.LENGTH: 0.3}):
        first = await lab.run(sliced(lab, retries={"re_asks": 0}))
        assert first.failed > 0
        agrees(lab, first, SLICES)
    async with lab.simulator(), lab.engine(sliced(lab)) as engine:
        again = await engine.retry()
    assert (again.ok, again.failed) == (ROWS, 0)
    agrees(lab, again, SLICES)


async def test_a_run_that_was_killed_before_it_published_has_spent_what_its_journal_says(lab: Lab) -> None:
    lab.table(ROWS)
    async with lab.simulator() as simulator:
        await killed_before_publishing(lab, "run")
        summary = await lab.run()
        assert simulator.stats()["accepted"] == ROWS and summary.requests == 0
    assert summary.cost_usd and told(lab)[-1].cost_usd == summary.cost_usd


async def test_vectors_cost_in_the_panel_what_they_cost_in_the_table(lab: Lab) -> None:
    lab.table(ROWS)
    vectors = {"kind": "embedding", "params": {"dimensions": 8}, "output": {"table": "out"}}
    async with lab.simulator(embedding_dimensions=8):
        agrees(lab, await lab.run(sliced(lab, **vectors), limit=50), 2)
        agrees(lab, await lab.run(sliced(lab, **vectors)), SLICES)


async def test_an_unknown_price_stays_unknown(lab: Lab) -> None:
    lab.table(3)
    async with lab.simulator() as simulator:
        lab.providers(simulator.base_url, None, prices=None)
        text = (lab.folder / "providers.yaml").read_text().replace("prices: null\n", "")
        (lab.folder / "providers.yaml").write_text(text)
        sample = await lab.run(limit=2)
        whole = await lab.run()
    assert sample.cost_usd is whole.cost_usd is None
    assert {event.cost_usd for event in told(lab) if event.ok} == {None}


async def test_a_resumed_run_tells_no_mark_of_its_budget_twice(lab: Lab) -> None:
    """With the same budget, only that it is used up."""
    lab.table(200)
    marks = []
    async with lab.simulator(latency_median_s=0.01):
        for _ in range(2):
            lab.events.clear()
            await lab.run(lab.job(budget_usd="0.0025"))
            marks.append([event.percent for event in lab.events if isinstance(event, BudgetMark)])
    assert marks[0][0] == 50 and marks[0][-1] == marks[1][-1] == 100
    assert 50 not in marks[1] and not (80 in marks[0] and 80 in marks[1])


async def test_a_row_that_fails_before_any_call_is_told_of_once(lab: Lab) -> None:
    """As one whose call failed; what an earlier process found out is no news."""
    write_input(lab, id=[0, 1, 2, 3], text=["a", "b", "c", "d"], extra=[1, 0, 2, 0])
    job = lab.job(prompt={"user": "{{ text }} {{ 10 // extra }}"})
    async with lab.simulator():
        sample = await lab.run(job, limit=1)
        whole = await lab.run(job)
    assert sample.failed + sample.pending == 3 and whole.failed_by_class == {"template": 2}
    (failure,) = (event for event in lab.events if isinstance(event, FirstFailure))
    assert (failure.error_class, failure.row) == ("template", 1)
    assert "cannot be rendered" in failure.message


async def test_a_row_that_is_too_large_is_told_of_before_any_call(lab: Lab) -> None:
    """The message holds counts, and no text of the row: samples are keys."""
    write_input(lab, id=[0, 1], text=["secret " * 3_000, "b"], extra=[0, 0])
    async with lab.simulator() as simulator:
        lab.providers(simulator.base_url, context_tokens=700)
        summary = await lab.run()
        assert (summary.failed, simulator.stats()["accepted"]) == (1, 1)
    (failure,) = (event for event in lab.events if isinstance(event, FirstFailure))
    assert (failure.error_class, failure.row) == ("too_large", 0)
    assert "tokens" in failure.message and "secret" not in failure.message


async def test_a_slice_by_itself_tells_of_its_own_rows(lab: Lab) -> None:
    """What a Dagster partition shows."""
    lab.table(ROWS)
    async with lab.simulator():
        record = wiring.planner(lab.settings, sliced(lab)).start().record
        async with lab.engine(sliced(lab)) as engine:
            one = await engine.run_slice(record, 1)
    last = told(lab)[-1]
    assert (last.rows, last.ok, last.slices_done, last.cost_usd) == (20, one.ok, 1, one.cost_usd)
