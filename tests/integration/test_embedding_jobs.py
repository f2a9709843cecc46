"""Embedding jobs from end to end: every row its own vector, once, to the cent.

Belongs here: what a user is promised of a job with `kind: embedding`. Not here: the plan (test_embedding_plan.py), the
adapter (tests/contract/test_provider_embeddings.py), packing and splitting (tests/unit/engine).
"""

from __future__ import annotations

import random
import struct
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

import batch_llm
from batch_llm import wiring
from batch_llm.cli.status import status_of
from batch_llm.engine.events import RunSummary
from batch_llm.errors import ConfigurationError
from batch_llm.job.load import DeclaredJob
from batch_llm.journal.base import EntryKind
from batch_llm.simulator.faults import FaultKind
from batch_llm.simulator.vectors import unit_vector
from tests.integration.engine_lab import killed_after, write_input
from tests.integration.lab import Lab

SIZE = 64
BIG = 4_096  # numbers per vector: 192 rows per call, so that few rows already make several calls
ROWS_PER_BIG_CALL = 192
DRIVER = """
import asyncio, sys
from pathlib import Path
from tests.integration.lab import Lab
from tests.integration.test_embedding_jobs import BIG, vectors
lab = Lab(Path(sys.argv[1]))
print(asyncio.run(lab.run(vectors(lab, size=BIG, slices={"rows": 500}))).ok)
"""


def vectors(lab: Lab, *, size: int = SIZE, **changes: Any) -> DeclaredJob:
    """An embedding job over the lab's table."""
    data: dict[str, Any] = {
        "prompt": {"user": "{{ text }}"},
        "params": {"dimensions": size},
        "output": {"table": "out", "keep": ["extra"]},
    }
    return lab.job(kind="embedding", **{**data, **changes})


def expected(text: str, size: int = SIZE, seed: int = 0) -> list[float]:
    """What the simulator makes of a text, cut to ``size`` numbers."""
    return list(struct.unpack(f"<{size}f", unit_vector(text.encode(), "simulator/small", seed, size)))


def tokens_of(rows: list[dict[str, Any]]) -> int:
    return sum(row["llm_input_tokens"] or 0 for row in rows)


def cost_of(rows: list[dict[str, Any]]) -> Decimal:
    return sum((row["llm_cost_usd"] or Decimal(0) for row in rows), Decimal(0))


def bill(tokens: int) -> Decimal:
    """At the lab's price, 1 US dollar per million input tokens."""
    return Decimal(tokens) / 1_000_000


async def test_every_row_gets_its_own_vector_in_few_calls_and_the_sums_are_the_bill(lab: Lab) -> None:
    lab.table(3_000, text="text {} — “ü”")
    async with lab.simulator(seed=5) as simulator:
        summary = await lab.run(vectors(lab))
        stats = simulator.stats()
    rows = lab.rows()
    assert (summary.rows, summary.ok, summary.failed, summary.pending) == (3_000, 3_000, 0, 0)
    assert [row["id"] for row in rows] == list(range(3_000))
    assert all(row["embedding"] == expected(f"text {row['id']} — “ü”", seed=5) for row in rows)
    assert all(row["extra"] == row["id"] % 7 for row in rows)
    assert stats["accepted"] == summary.requests <= 4
    assert (stats["answered"], stats["duplicates"]["extra_answers"]) == (3_000, 0)
    assert tokens_of(rows) == summary.input_tokens == stats["input_tokens"]
    assert cost_of(rows) == summary.cost_usd == bill(stats["input_tokens"])
    assert all(row["llm_output_tokens"] == 0 and row["llm_attempts"] == 1 for row in rows)


async def test_the_column_is_a_list_of_one_size_wherever_it_is_read(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.table(5)
    async with lab.simulator():
        job = vectors(lab)
        await lab.run(job)
    store = wiring.open_store(lab.settings)
    assert next(store.warehouse.rows("out")).schema.field("embedding").type == pa.list_(pa.float32(), SIZE)
    monkeypatch.setenv("BATCH_LLM_HOME", str(lab.folder / "home"))
    frame = batch_llm.output(job)
    assert sorted(map(list, frame["embedding"])) == sorted(expected(f"text {number}") for number in range(5))


async def test_bad_rows_fail_alone_each_with_its_own_reason(lab: Lab) -> None:
    """Too long for the model, and empty, in the middle of rows that share a call with them."""
    texts: list[str | None] = [f"text {number}" for number in range(300)]
    texts[150], texts[10], texts[299] = "x" * 40_000, "", None
    write_input(lab, id=list(range(300)), text=texts, extra=[0] * 300)
    async with lab.simulator() as simulator:
        summary = await lab.run(vectors(lab))
        stats = simulator.stats()
    rows = lab.rows()
    failed = {row["id"]: row["llm_error_class"] for row in rows if row["llm_status"] == "failed"}
    assert failed == {10: "template", 150: "too_large", 299: "template"}
    assert (summary.ok, summary.failed) == (297, 3)
    assert all(row["embedding"] is None for row in rows if row["id"] in failed)
    assert all(row["embedding"] == expected(f"text {row['id']}") for row in rows if row["id"] not in failed)
    assert stats["duplicates"]["extra_answers"] == 0
    assert (tokens_of(rows), cost_of(rows)) == (stats["input_tokens"], bill(stats["input_tokens"]))


async def test_a_second_run_asks_only_what_is_new_or_changed(lab: Lab) -> None:
    lab.table(400)
    async with lab.simulator() as simulator:
        await lab.run(vectors(lab))
        again = await lab.run(vectors(lab))
        assert (again.requests, simulator.stats()["answered"]) == (0, 400)
        texts = [f"text {number}" if number != 7 else "another" for number in range(401)]
        write_input(lab, id=list(range(401)), text=texts, extra=[0] * 401)
        third = await lab.run(vectors(lab))
        assert (third.ok, simulator.stats()["answered"]) == (401, 402)
    rows = lab.rows()
    assert [row["embedding"] for row in rows] == [expected(text) for text in texts]


async def test_faults_cost_attempts_and_never_a_wrong_vector(lab: Lab) -> None:
    lab.table(2_000)
    shares = {kind: 0.03 for kind in FaultKind if kind not in (FaultKind.HANG, FaultKind.DRIP)}
    async with lab.simulator(faults=shares, fault_retry_after_s=0.01, seed=3, embedding_dimensions=BIG) as simulator:
        summary = await lab.run(vectors(lab, size=BIG, slices={"rows": 500}))
        stats = simulator.stats()
    rows = lab.rows()
    assert sum(stats["faults"].values()) > 0
    assert (summary.ok, len(rows)) == (2_000, 2_000)
    assert all(row["embedding"] == expected(f"text {row['id']}", BIG, 3) for row in rows[::37])
    known = [row for row in rows if row["llm_cost_usd"] is not None]
    assert cost_of(known) <= bill(stats["input_tokens"])


async def test_the_limit_on_tokens_is_kept_and_used(lab: Lab) -> None:
    """2,000 tokens a second; a call takes no more than that."""
    lab.table(80, text="x" * 396 + "{:04}")  # 100 tokens each
    limits = {"tokens_per_minute": 120_000}
    async with lab.simulator(limits, tokens_per_minute=120_000, burst_s=1) as simulator:
        summary = await lab.run(vectors(lab))
        stats = simulator.stats()
    assert (summary.ok, stats["rejected_total"]) == (80, 0)
    assert stats["accepted"] >= 4


async def test_a_budget_is_never_passed_and_the_rest_is_pending(lab: Lab) -> None:
    lab.table(1_000, text="x" * 396 + "{:04}")
    async with lab.simulator(embedding_dimensions=BIG) as simulator:
        first = await lab.run(vectors(lab, size=BIG, budget_usd="0.1"))
        spent = bill(simulator.stats()["input_tokens"])
        assert spent <= Decimal("0.1")
        assert (first.ok + first.pending, first.pending > 0) == (1_000, True)
        second = await lab.run(vectors(lab, size=BIG, budget_usd="1"))
        assert (second.ok, simulator.stats()["duplicates"]["extra_answers"]) == (1_000, 0)
    assert cost_of(lab.rows()) == bill(100_000)


async def test_a_budget_smaller_than_one_call_pays_for_as_many_rows_as_it_can(lab: Lab) -> None:
    """For the call that would ask them all 0.216 USD would be set aside: 8 for a row whose text takes 1."""
    lab.table(2_000, text="x" * 396 + "{:04}")  # 100 tokens each
    row_usd, budget_usd = bill(100), Decimal("0.1")
    async with lab.simulator() as simulator:
        first = await lab.run(vectors(lab, budget_usd=str(budget_usd)))
        spent = bill(simulator.stats()["input_tokens"])
        assert (first.stopped, first.ok + first.pending, spent) == ("budget", 2_000, first.ok * row_usd)
        assert budget_usd - 5 * row_usd < spent <= budget_usd
        assert first.requests < 100
        assert (await lab.run(vectors(lab, budget_usd="1"))).ok == 2_000
        assert simulator.stats()["duplicates"]["extra_answers"] == 0
    assert [row["embedding"] for row in lab.rows()][::97] == [
        expected("x" * 396 + f"{number:04}") for number in range(0, 2_000, 97)
    ]


async def test_a_budget_below_any_row_is_refused_in_words_about_vectors(lab: Lab) -> None:
    lab.table(3)
    async with lab.simulator() as simulator:
        with pytest.raises(ConfigurationError) as refused:
            await lab.run(vectors(lab, budget_usd="0.0000001"))
        assert simulator.stats()["accepted"] == 0
    told = str(refused.value)
    assert "budget_usd 0.0000001 pays for no row" in told and "Raise budget_usd above 0.000008. Nothing" in told
    assert "max_output_tokens" not in told


async def test_of_a_killed_run_rows_are_counted_and_not_calls(lab: Lab) -> None:
    lab.table(3_000)
    async with lab.simulator({"requests_per_minute": 600}, latency_median_s=0.1, embedding_dimensions=BIG) as simulator:
        await killed_after(lab, simulator, 400, DRIVER)
        store = wiring.open_store(lab.settings)
        (record,) = store.runs.all()
        found, numbers = status_of(store, record), list(range(len(record.slice_rows)))
        entries = [entry for number in numbers for entry in store.runs.entries(record.run_id, number)]
        async with lab.engine(vectors(lab, size=BIG, slices={"rows": 500})) as engine:
            so_far = engine._so_far(record, numbers)
    calls = [entry.rows for entry in entries if entry.kind is EntryKind.ANSWER]
    answered = sum(len(rows) for rows in calls)
    assert 0 < len(calls) < answered == found.ok + found.answered
    assert found.queued == 3_000 - answered
    assert so_far == f", {answered:,} of 3,000 rows so far"


@pytest.mark.parametrize("seed", [1, 2])
async def test_killed_runs_go_on_where_they_stopped(lab: Lab, seed: int) -> None:
    """Three kills at random moments: nothing lost, nothing doubled, paid twice at most what was in flight."""
    count = 3_000
    lab.table(count)
    draw = random.Random(seed)
    async with lab.simulator(
        {"requests_per_minute": 600}, latency_median_s=0.1, seed=seed, embedding_dimensions=BIG
    ) as simulator:
        calls_at_kills = answers = 0
        for _ in range(3):
            answers += draw.randrange(200, 800)
            calls_at_kills += await killed_after(lab, simulator, answers, DRIVER)
        summary: RunSummary = await lab.run(vectors(lab, size=BIG, slices={"rows": 500}))
        stats = simulator.stats()
    rows = lab.rows()
    assert (summary.rows, summary.ok, summary.pending) == (count, count, 0)
    assert [row["id"] for row in rows] == list(range(count))
    assert all(row["embedding"] == expected(f"text {row['id']}", BIG, seed) for row in rows[::41])
    assert stats["duplicates"]["prompts"] == count
    assert 0 <= stats["answered"] - count <= calls_at_kills * ROWS_PER_BIG_CALL
