"""What was paid for in an earlier run is found again, and only where it answers the question."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batch_llm import wiring
from batch_llm.engine import engine as engine_module
from batch_llm.job.load import DeclaredJob
from batch_llm.warehouse.base import FrozenInput
from batch_llm.warehouse.duckdb import DuckDBWarehouse
from tests.integration.engine_lab import answered_body, compatible_server
from tests.integration.lab import SCHEMA, Lab

ROWS = 12


class Killed(BaseException):
    """In the place of a `kill -9`."""


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """An empty machine, with the key of `compatible_server`."""
    monkeypatch.setenv("LOCAL_KEY", "sk-local-abcdef123456")
    return Lab(tmp_path)


async def run_without_promotion(lab: Lab, job: DeclaredJob, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is answered and published, then the process dies."""

    async def dies(*_: Any) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(engine_module, "promote", dies)
        with pytest.raises(Killed):
            await lab.run(job)


@pytest.mark.parametrize("kind", ["string", "integer"])
async def test_append_missing_takes_no_answer_to_another_question_from_a_run_that_never_came_in(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """That any answer counts for a key is the output table's rule; the answer's column may be of another type now."""
    lab.table(ROWS)
    asked: list[str] = []

    async def answer(prompt: str) -> tuple[int, dict[str, Any]]:
        asked.append(prompt)
        return 200, answered_body('{"tone": "old"}' if "OLD" in prompt or kind == "string" else '{"tone": 7}')

    async with compatible_server(lab, answer) as model:

        def job(word: str, of_kind: str) -> DeclaredJob:
            output = {"table": "out", "mode": "append_missing", "schema": {"tone": of_kind}}
            return lab.job(model=model, prompt={"user": f"{word} {{{{ text }}}}"}, output=output)

        await run_without_promotion(lab, job("OLD", "string"), monkeypatch)
        asked.clear()
        summary = await lab.run(job("NEW", kind))
        assert (summary.ok, len(asked)) == (ROWS, ROWS)
        # what the output holds stays as it is, whatever is asked now
        again = await lab.run(job("NEWER", kind))
    assert (again.ok, len(asked)) == (ROWS, ROWS)


@pytest.mark.parametrize("odd", ["prompt", "value"])
async def test_append_missing_keeps_what_is_there_although_the_row_makes_no_prompt_any_more(lab: Lab, odd: str) -> None:
    """A key that has its answer needs none; `plan` knows, and the run's table says what its counters say."""
    output = {"table": "out", "mode": "append_missing", "schema": SCHEMA}
    async with lab.simulator() as simulator:
        lab.table(ROWS)
        await lab.run(lab.job(output=output))
        before = lab.rows()
        lab.table(ROWS + 1)
        if odd == "value":  # beyond what Python can hold
            table = pq.read_table(lab.folder / "input.parquet")
            dates = pa.array([10**9] * (ROWS + 1), pa.int32()).cast(pa.date32())
            pq.write_table(table.set_column(1, "text", dates), lab.folder / "input.parquet")
        job = lab.job(output=output, prompt={"user": "{{ text * text }}" if odd == "prompt" else "Grade: {{ text }}"})
        plan = wiring.planner(lab.settings, job).plan()
        summary = await lab.run(job)
        assert (plan.done, plan.failed, plan.new) == (ROWS, 0, 1)
        assert (summary.ok, summary.failed, summary.cached) == (ROWS, 1, ROWS)
        assert simulator.stats()["accepted"] == ROWS
    assert lab.rows()[:ROWS] == before
    published = [row["llm_status"] for row in lab.rows(f"run:{summary.run_id}")]
    assert published == ["ok"] * ROWS + ["failed"]
    again = await wiring.reparser(lab.settings, job).reparse()
    assert again.moves == {("ok", "ok"): ROWS, ("template", "template"): 1} and lab.rows()[:ROWS] == before


JOBS: dict[str, dict[str, Any]] = {
    "chat": {"cache": "off", "output": {"table": "out", "schema": SCHEMA}},
    "file": {"cache": "off", "output": {"table": "out.parquet", "schema": SCHEMA}},
    "embedding": {
        "kind": "embedding",
        "prompt": {"user": "{{ text }}"},
        "params": {"dimensions": 8},
        "output": {"table": "out.parquet"},
    },
}


def lose_output(lab: Lab) -> None:
    """Whatever it is, it is not there any more."""
    (lab.folder / "out.parquet").unlink(missing_ok=True)
    if (lab.settings.home / "warehouse.duckdb").exists():
        with duckdb.connect(str(lab.settings.home / "warehouse.duckdb")) as connection:
            connection.execute("DROP TABLE IF EXISTS out")


@pytest.mark.parametrize("kind", JOBS)
async def test_what_was_paid_is_found_although_the_output_is_gone(lab: Lab, kind: str) -> None:
    """In the tables of the runs that paid for it; `plan` knows."""
    job = lab.job(**JOBS[kind])
    async with lab.simulator() as simulator:
        lab.table(ROWS)
        await lab.run(job)
        lose_output(lab)
        lab.table(ROWS + 1)
        plan = wiring.planner(lab.settings, job).plan()
        assert (plan.done, plan.new) == (ROWS, 1)
        answered = simulator.stats()["answered"]
        summary = await lab.run(job)
    assert (summary.ok, summary.cached) == (ROWS + 1, ROWS)
    assert simulator.stats()["answered"] - answered == 1


async def test_what_another_question_took_away_from_the_output_is_not_paid_again(lab: Lab) -> None:
    """Rows deleted by its `replace`, rows of the same keys in their place."""
    job = lab.job(**JOBS["chat"])
    taking = {"cache": "off", "prompt": {"user": "Otherwise: {{ text }}"}}
    async with lab.simulator() as simulator:
        lab.table(ROWS)
        await lab.run(job)
        lab.table(4)
        output = {"table": "out", "schema": SCHEMA, "mode": "replace"}
        other = await lab.run(lab.job(**taking, output=output))
        assert [row["id"] for row in lab.rows()] == [0, 1, 2, 3]
        lab.table(ROWS + 1)
        answered = simulator.stats()["answered"]
        summary = await lab.run(job)
    assert (summary.ok, simulator.stats()["answered"] - answered) == (ROWS + 1, 1)
    assert other.run_id not in {row["llm_run_id"] for row in lab.rows()}


async def test_a_whole_output_is_the_only_place_that_is_read(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also with rows that nobody asked before, and for several runs."""
    read: list[str] = []
    real = DuckDBWarehouse.prior

    def noted(self: DuckDBWarehouse, frozen: FrozenInput, number: int, place: str) -> Iterator[pa.RecordBatch]:
        read.append(place)
        return real(self, frozen, number, place)

    monkeypatch.setattr(DuckDBWarehouse, "prior", noted)
    async with lab.simulator():
        for rows in (3, 4, 5):
            lab.table(rows)
            await lab.run(lab.job(**JOBS["chat"]))
    assert set(read) == {"out"}


async def test_an_answer_to_an_earlier_question_is_found_behind_several_runs(lab: Lab) -> None:
    """A, B and B with another row: then A again, where the output holds answers to B."""
    one, two = (lab.job(cache="off", prompt={"user": word + " {{ text }}"}) for word in ("A", "B"))
    async with lab.simulator() as simulator:
        lab.table(ROWS)
        await lab.run(one)
        await lab.run(two)
        lab.table(ROWS + 1)
        await lab.run(two)
        answered = simulator.stats()["answered"]
        assert (await lab.run(one)).cached == ROWS
        assert simulator.stats()["answered"] - answered == 1


async def test_a_retry_finds_the_rows_that_its_run_carried(lab: Lab) -> None:
    """The output is gone; only the failed row is asked."""
    asked: list[str] = []
    fails = True

    async def answer(prompt: str) -> tuple[int, dict[str, Any]]:
        asked.append(prompt)
        if f"text {ROWS}" in prompt and fails:
            return 400, {"error": {"message": "no", "type": "invalid_request_error"}}
        return 200, answered_body('{"tone": "calm", "score": 1}')

    async with compatible_server(lab, answer) as model:
        job = lab.job(**JOBS["file"], model=model)
        lab.table(ROWS)
        await lab.run(job)
        lab.table(ROWS + 1)
        assert (await lab.run(job)).failed == 1
        lose_output(lab)
        asked.clear()
        fails = False
        async with lab.engine(job) as engine:
            summary = await engine.retry()
    assert (summary.ok, len(asked)) == (ROWS + 1, 1)


async def test_what_was_forgotten_is_asked_again(lab: Lab) -> None:
    """With the output gone as well, nothing holds the answers any more."""
    async with lab.simulator() as simulator:
        lab.table(ROWS)
        await lab.run(lab.job(**JOBS["chat"]))
        store = wiring.open_store(lab.settings)
        for record in store.runs.all():
            store.warehouse.forget(record.run_id)
            store.runs.delete(record.run_id)
        lose_output(lab)
        answered = simulator.stats()["answered"]
        await lab.run(lab.job(**JOBS["chat"]))
    assert simulator.stats()["answered"] - answered == ROWS
