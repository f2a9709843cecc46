"""Equal rows of embedding jobs: asked once, each with its vector, to the cent.

Belongs here: what a user is promised of them. Not here: jobs of one row per call (test_reuse.py).
"""

from __future__ import annotations

import asyncio
import random
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batch_llm import wiring
from batch_llm.engine import equal_rows, packing
from batch_llm.engine.reuse import Reuse
from batch_llm.engine.slice_work import SliceWork
from batch_llm.engine.vectors_aside import VectorsAside
from batch_llm.errors import ErrorClass, JournalError
from batch_llm.job.load import dump_job
from batch_llm.journal import local
from tests.integration.cli_lab import CommandLine
from tests.integration.engine_lab import killed_after, write_input
from tests.integration.lab import Lab
from tests.integration.test_embedding_jobs import SIZE, bill, cost_of, expected, tokens_of, vectors

DRIVER = """
import asyncio, sys
from pathlib import Path
from tests.integration.lab import Lab
from batch_llm.engine import packing
from tests.integration.test_embedding_jobs import vectors
packing.CALL_BYTES = 65_536
lab = Lab(Path(sys.argv[1]))
print(asyncio.run(lab.run(vectors(lab))).ok)
"""
ROWS_PER_CALL = 192
CALL_BYTES = 65_536  # so many rows of SIZE numbers


@pytest.fixture(autouse=True)
def several_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few rows already make several calls."""
    monkeypatch.setattr(packing, "CALL_BYTES", CALL_BYTES)


def written(lab: Lab, texts: list[str]) -> None:
    """These texts are the input."""
    write_input(lab, id=list(range(len(texts))), text=texts, extra=[0] * len(texts))


def check(lab: Lab, texts: list[str], seed: int, stats: dict[str, Any]) -> None:
    """Every row has the vector of its own text, and the rows' sums are the bill."""
    rows = lab.rows()
    assert [row["id"] for row in rows] == list(range(len(texts)))
    vector = {text: expected(text, SIZE, seed) for text in set(texts)}
    assert all(row["embedding"] == vector[texts[row["id"]]] for row in rows)
    assert (tokens_of(rows), cost_of(rows)) == (stats["input_tokens"], bill(stats["input_tokens"]))


@pytest.mark.parametrize("distinct", [1, 40, 700, 1_500])
async def test_equal_rows_are_asked_once(lab: Lab, distinct: int) -> None:
    """In one call with their leader, in a later one, or long after it was answered."""
    draw = random.Random(distinct)
    texts = [
        *(f"text {number}" for number in range(distinct)),
        *(f"text {draw.randrange(distinct)}" for _ in range(1_500)),
    ]
    written(lab, texts)
    async with lab.simulator(seed=7, latency_median_s=0.05) as simulator:
        summary = await lab.run(vectors(lab))
        stats = simulator.stats()
    assert (summary.ok, summary.cached, stats["answered"]) == (len(texts), 1_500, distinct)
    assert distinct / ROWS_PER_CALL <= stats["accepted"] <= distinct / ROWS_PER_CALL + 2
    check(lab, texts, 7, stats)
    twins = [row for row in lab.rows() if row["llm_cached"]]
    nothing = (0, 0, 0, Decimal(0))
    told = {
        (row["llm_attempts"], row["llm_input_tokens"], row["llm_output_tokens"], row["llm_cost_usd"]) for row in twins
    }
    assert (len(twins), told) == (1_500, {nothing})


async def test_of_all_slices_runs_and_jobs(lab: Lab) -> None:
    texts = [f"text {number % 10}" for number in range(100)]
    written(lab, texts)
    async with lab.simulator(seed=1) as simulator:
        summary = await lab.run(vectors(lab, slices={"rows": 30}))
        assert (summary.ok, summary.cached, simulator.stats()["answered"]) == (100, 90, 10)
        check(lab, texts, 1, simulator.stats())

        written(lab, more := [*texts, *(f"text {number}" for number in range(5, 15))])
        assert (await lab.run(vectors(lab, slices={"rows": 30}))).ok == 110
        assert simulator.stats()["answered"] == 15
        check(lab, more, 1, simulator.stats())

        other = await lab.run(vectors(lab, name="other", output={"table": "elsewhere", "keep": ["extra"]}))
        assert (other.ok, other.cached, simulator.stats()["answered"]) == (110, 110, 15)
        shorter = await lab.run(vectors(lab, name="shorter", size=8, output={"table": "shorter"}))
        assert (shorter.ok, simulator.stats()["answered"]) == (110, 30)
    vector = {text: expected(text, SIZE, 1) for text in set(more)}
    assert all(row["embedding"] == vector[more[row["id"]]] for row in lab.rows("elsewhere"))
    assert all(len(row["embedding"]) == 8 for row in lab.rows("shorter"))


@pytest.mark.parametrize("waiting", [1_000, 20])
async def test_of_two_jobs_at_once(lab: Lab, monkeypatch: pytest.MonkeyPatch, waiting: int) -> None:
    """They ask the same texts in opposite order: each waits for what the other asks, and none for ever."""
    monkeypatch.setattr(equal_rows, "WAITING_MAX", waiting)
    texts = [f"text {number}" for number in range(3_000)]
    write_input(lab, id=list(range(3_000)), text=texts, extra=[0] * 3_000)
    pq.write_table(pa.table({"id": list(range(3_000)), "text": texts[::-1]}), lab.folder / "backwards.parquet")
    backwards = {"name": "back", "input": {"table": "backwards.parquet", "key": ["id"]}, "output": {"table": "back"}}
    async with lab.simulator({"requests_per_minute": 1_200}, latency_median_s=0.2, seed=3) as simulator:
        async with asyncio.timeout(100):
            summaries = await asyncio.gather(lab.run(vectors(lab)), lab.run(vectors(lab, **backwards)))
        stats = simulator.stats()
    assert [summary.ok for summary in summaries] == [3_000, 3_000]
    assert (stats["answered"], sum(summary.cached for summary in summaries)) == (3_000, 3_000)
    vector = {text: expected(text, SIZE, 3) for text in texts[::50]}
    assert all(row["embedding"] == vector[texts[row["id"]]] for row in lab.rows() if row["id"] % 50 == 0)
    assert all(row["embedding"] == vector[texts[2_999 - row["id"]]] for row in lab.rows("back") if row["id"] % 50 == 49)


async def test_never_of_another_user(lab: Lab) -> None:
    written(lab, ["the same"] * 5)
    async with lab.simulator() as simulator:
        await lab.run(vectors(lab, user="alice"))
        await lab.run(vectors(lab, name="other", user="bob", output={"table": "elsewhere"}))
        assert simulator.stats()["answered"] == 2


async def test_equal_rows_share_a_failure_and_later_ones_ask_again(lab: Lab) -> None:
    """A text that is too long for the model, among those that share its call."""
    texts = [f"text {number}" for number in range(300)]
    for row in (10, 11, 299):
        texts[row] = "x" * 40_000
    written(lab, texts)
    async with lab.simulator() as simulator:
        summary = await lab.run(vectors(lab))
        stats = simulator.stats()
    failed = {row["id"]: row["llm_error_class"] for row in lab.rows() if row["llm_status"] == "failed"}
    assert failed == dict.fromkeys((10, 11, 299), ErrorClass.TOO_LARGE)
    assert (summary.ok, summary.failed, stats["answered"]) == (297, 3, 297)


@pytest.mark.parametrize("seed", [1, 2])
async def test_killed_runs_go_on_and_know_what_was_answered(lab: Lab, seed: int) -> None:
    draw = random.Random(seed)
    texts = [f"text {draw.randrange(1_500)}" for _ in range(4_000)]
    distinct = len(set(texts))
    written(lab, texts)
    async with lab.simulator({"requests_per_minute": 600}, latency_median_s=0.1, seed=seed) as simulator:
        calls_at_kills = answers = 0
        for _ in range(2):
            answers += draw.randrange(200, 600)
            calls_at_kills += await killed_after(lab, simulator, answers, DRIVER)
        summary = await lab.run(vectors(lab))
        stats = simulator.stats()
    assert (summary.ok, summary.pending, stats["duplicates"]["prompts"]) == (4_000, 0, distinct)
    assert 0 <= stats["answered"] - distinct <= calls_at_kills * ROWS_PER_CALL
    assert all(row["embedding"] == expected(texts[row["id"]], SIZE, seed) for row in lab.rows())


async def test_a_sample_first_and_the_rest_later(lab: Lab) -> None:
    texts = [f"text {number % 30}" for number in range(200)]
    written(lab, texts)
    async with lab.simulator(seed=2) as simulator:
        sample = await lab.run(vectors(lab), limit=10)
        assert (sample.ok + sample.pending, simulator.stats()["answered"]) == (200, 10)
        summary = await lab.run(vectors(lab))
        stats = simulator.stats()
    assert (summary.ok, stats["answered"]) == (200, 30)
    check(lab, texts, 2, stats)


async def test_with_the_cache_off_every_row_is_asked(lab: Lab) -> None:
    written(lab, ["the same"] * 50)
    async with lab.simulator() as simulator:
        await lab.run(vectors(lab, cache="off"))
        assert simulator.stats()["answered"] == 50


async def test_the_plan_knows_that_they_are_free(lab: Lab) -> None:
    written(lab, [f"text {number % 10}" for number in range(100)])
    lab.providers("http://127.0.0.1:1/v1")
    plan = wiring.planner(lab.settings, vectors(lab)).plan()
    assert (plan.rows, plan.free) == (100, 90)


@pytest.mark.parametrize("kind", ["chat", "embedding"])
async def test_an_index_that_fails_meanwhile_loses_no_row(lab: Lab, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Rows wait for an equal one when the index goes off; then another equal one is asked as well."""
    write_input(lab, id=list(range(512)), text=["h", "h", *(f"text {n}" for n in range(254))] * 2, extra=[0] * 512)
    claimed, batches = SliceWork._claimed, []

    def failing(work: SliceWork, prepared: Any) -> Any:
        batches.append(len(prepared))
        if len(batches) == 2 and work.parts.answers is not None:
            work.parts.answers._turn_off("the disk is full")
        return claimed(work, prepared)

    monkeypatch.setattr(SliceWork, "_claimed", failing)
    async with lab.simulator(latency_median_s=1.0):
        slices = {"rows": 512}
        summary = await lab.run(vectors(lab, slices=slices) if kind == "embedding" else lab.job(slices=slices))
    assert len(batches) == 2
    assert (summary.ok, summary.pending, len(lab.rows())) == (512, 0, 512)


async def test_rows_without_an_end_are_never_taken_for_done(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """A defect that forgets twins: the run says so, and the next one goes on."""
    texts = [f"text {number % 10}" for number in range(20)]
    written(lab, texts)
    async with lab.simulator(seed=4) as simulator:
        with monkeypatch.context() as patched:
            patched.setattr(Reuse, "ended", lambda *_: ())
            summary = await lab.run(vectors(lab))
        assert (summary.stopped, summary.ok, summary.pending) == (ErrorClass.INTERNAL, 10, 10)
        summary = await lab.run(vectors(lab))
        assert (summary.stopped, summary.ok, simulator.stats()["answered"]) == (None, 20, 10)
        check(lab, texts, 4, simulator.stats())


async def test_a_journal_that_cannot_be_read_stops_the_run_and_nothing_is_paid_again(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [f"text {number % 10}" for number in range(20)]
    written(lab, texts)

    def unreadable(*_: object) -> Any:
        raise OSError(24, "Too many open files")

    async with lab.simulator(seed=4) as simulator:
        with monkeypatch.context() as patched:
            patched.setattr(VectorsAside, "get", lambda *_: None)
            patched.setattr(local, "_whole_entries", unreadable)
            with pytest.raises(JournalError, match="Too many open files"):
                await lab.run(vectors(lab))
        summary = await lab.run(vectors(lab))
        assert (summary.ok, summary.failed, simulator.stats()["answered"]) == (20, 0, 10)
        check(lab, texts, 4, simulator.stats())


async def test_show_tells_where_a_vector_came_from(lab: Lab) -> None:
    written(lab, ["the same"] * 3)
    cli = CommandLine(lab)
    (lab.folder / "lab.yaml").write_text(dump_job(vectors(lab).job))
    async with lab.simulator():
        assert (await cli.run("run", "lab.yaml", "--yes")).code == 0
    shown = (await cli.run("show", "lab", "2")).out
    assert "cached" in shown
    assert '{"embedding":"' in shown
    assert ".. (344 characters)" in shown  # of base64: 64 numbers
    assert "(64 numbers)" in shown
