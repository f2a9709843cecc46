"""Nothing is paid twice: equal requests of a job, of several jobs, of several processes; never across users.

Belongs here: what a user sees of reused answers. Not here: the index (test_answer_index_processes.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from batch_llm import wiring
from batch_llm.engine import equal_rows, slice_work
from batch_llm.engine.events import Progress, RunSummary
from batch_llm.engine.slice_work import SliceWork
from batch_llm.journal.answer_index import AnswerIndex, Slice
from batch_llm.journal.base import EntryKind
from tests.integration.engine_lab import (
    answered_body,
    child,
    compatible_server,
    journalled,
    killed_before_publishing,
    write_input,
)
from tests.integration.lab import Lab

RUN = """
import asyncio, sys
from pathlib import Path
from tests.integration.lab import Lab
lab = Lab(Path(sys.argv[1]))
summary = asyncio.run(lab.run(lab.job(name=sys.argv[2], output={"table": sys.argv[2], "schema": {"score": "number"}})))
print(summary.ok, summary.requests)
"""


DIES_WHEN_PUBLISHED = """
import asyncio, os, sys
from pathlib import Path
from batch_llm.journal.runs import LocalRunStore
from tests.integration.lab import Lab

mark = LocalRunStore.mark_published

def marked(store, run_id, number):
    mark(store, run_id, number)
    os._exit(9)

LocalRunStore.mark_published = marked
lab = Lab(Path(sys.argv[1]))
asyncio.run(lab.run(lab.job(slices={"rows": 20}), limit=20))
"""


def repeated(lab: Lab, rows: int, texts: int) -> None:
    """A table in which each text stands in several rows."""
    write_input(lab, id=list(range(rows)), text=[f"text {i % texts}" for i in range(rows)], extra=[0] * rows)


def bill(lab: Lab, place: str = "out") -> tuple[int, Decimal]:
    """Tokens and US dollars of all rows."""
    rows = lab.rows(place)
    tokens = sum(row["llm_input_tokens"] + row["llm_output_tokens"] for row in rows)
    return tokens, sum((row["llm_cost_usd"] for row in rows), Decimal(0))


async def test_equal_rows_of_a_job_are_asked_once(lab: Lab) -> None:
    """The others say so, cost nothing, and have the same answer; the sums are the bill."""
    repeated(lab, 300, 40)
    async with lab.simulator(latency_median_s=0.02) as simulator:
        summary = await lab.run(lab.job(slices={"rows": 120}))
        stats = simulator.stats()
    rows = lab.rows()
    assert (summary.ok, summary.requests, stats["accepted"]) == (300, 40, 40)
    assert sum(row["llm_cached"] for row in rows) == summary.cached == 260
    by_text: dict[int, set[Any]] = {}
    for row in rows:
        by_text.setdefault(row["id"] % 40, set()).add((row["tone"], row["score"]))
        free = (row["llm_cost_usd"], row["llm_input_tokens"], row["llm_attempts"]) == (0, 0, 0)
        assert row["llm_cached"] == free and row["llm_finished_at"] is not None
    assert all(len(answers) == 1 for answers in by_text.values())
    assert bill(lab)[0] == stats["input_tokens"] + stats["output_tokens"]
    assert bill(lab)[1] == summary.cost_usd


async def test_a_resumed_run_does_not_ask_them_again_either(lab: Lab) -> None:
    repeated(lab, 300, 40)
    async with lab.simulator() as simulator:
        await lab.run(lab.job(slices={"rows": 120}), limit=30)
        summary = await lab.run(lab.job(slices={"rows": 120}))
        assert (summary.ok, simulator.stats()["accepted"]) == (300, 40)


async def test_another_job_of_the_same_user_uses_them_and_one_of_another_user_does_not(lab: Lab) -> None:
    lab.table(50)
    async with lab.simulator() as simulator:

        async def ask(name: str, **changes: Any) -> RunSummary:
            output = {"table": name, "schema": {"tone": {"enum": ["calm", "tense"]}, "score": "number"}}
            return await lab.run(lab.job(name=name, output=output, **changes))

        first = await ask("first")
        again = await ask("second")
        assert (first.requests, again.requests, again.cached, again.cost_usd) == (50, 0, 50, 0)
        assert [row["tone"] for row in lab.rows("first")] == [row["tone"] for row in lab.rows("second")]
        assert (await ask("third", user="bob")).requests == 50
        assert (await ask("fourth", cache="off")).requests == 50
        assert (await ask("fifth", params={"max_output_tokens": 100})).requests == 50
        assert simulator.stats()["accepted"] == 200


async def test_what_was_forgotten_is_not_used(lab: Lab) -> None:
    """Neither is an answer whose journal was changed behind our back."""
    lab.table(10)
    async with lab.simulator() as simulator:
        await lab.run(lab.job(name="first", output={"table": "first"}))
        store = wiring.open_store(lab.settings)
        record = store.runs.latest("first")
        assert record is not None
        store.runs.delete(record.run_id)  # as if by hand: the index was not told
        second = await lab.run(lab.job(name="second", output={"table": "second"}))
        assert (second.ok, second.requests, simulator.stats()["accepted"]) == (10, 10, 20)


async def test_equal_rows_share_a_failure(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused once, they are not asked again one after the other; `retry` asks once more."""
    monkeypatch.setenv("LOCAL_KEY", "k")
    repeated(lab, 30, 3)
    asked: list[str] = []

    async def answer(prompt: str) -> tuple[int, dict[str, Any]]:
        asked.append(prompt)
        if "text 1" in prompt:
            return 400, {"error": {"message": "no", "type": "invalid_request_error"}}
        return 200, answered_body("fine")

    async with compatible_server(lab, answer) as model:
        job = lab.job(model=model, output={"table": "out"})
        summary = await lab.run(job)
        assert (summary.ok, summary.failed, len(asked)) == (20, 10, 3)
        assert {row["llm_error_class"] for row in lab.rows() if row["llm_status"] == "failed"} == {"invalid_request"}
        async with lab.engine(job) as engine:
            await engine.retry()
        assert len(asked) == 4


@pytest.mark.parametrize("seed", [1, 2])
async def test_two_jobs_at_once_ask_each_request_once(lab: Lab, root: Path, seed: int) -> None:
    """In two processes, each of which waits for what the other is asking."""
    lab.table(200)
    async with lab.simulator({"requests_per_minute": 3_000}, latency_median_s=0.05, seed=seed) as simulator:
        (code, out, err), mine = await asyncio.gather(
            child(RUN, str(lab.folder), "one"),
            lab.run(lab.job(name="two", output={"table": "two", "schema": {"score": "number"}})),
        )
        assert code == 0, err
        assert (out.split()[0], mine.ok) == ("200", 200), mine
        assert simulator.stats()["accepted"] == int(out.split()[1]) + mine.requests == 200


async def test_who_waits_for_another_runs_answers_says_whose(lab: Lab) -> None:
    lab.table(3)
    one, two = (lab.job(name=name, output={"table": name, "schema": {"score": "number"}}) for name in ("one", "two"))
    async with lab.simulator(latency_median_s=3.0, latency_sigma=0.0):
        first = asyncio.create_task(lab.run(one))
        await asyncio.sleep(0.5)
        lab.events.clear()
        await lab.run(two)
        asking = (await first).run_id
    waits = [event.holding_back for event in lab.events if isinstance(event, Progress)]
    assert f"answers to 3 equal rows, which are asked by run {asking}" in waits


async def test_rows_claimed_ahead_are_handed_out_before_others_are_waited_for(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else rows wait for one that this slice has claimed and keeps back until they wait no more: for ever.

    Slice 1 asks what all rows of slice 0 ask, and gives it up just before slice 0 prepares its third row.
    """
    monkeypatch.setattr(equal_rows, "WAITING_MAX", 2)
    monkeypatch.setattr(slice_work, "PREPARED_BYTES", 1)  # each row is prepared by itself
    monkeypatch.setattr(equal_rows, "LOOK_AGAIN_S", 0.01)
    repeated(lab, 8, 1)
    async with lab.simulator(), lab.engine(lab.job(slices={"rows": 4})) as engine:
        record = (await engine.start()).record
        first, second = (engine.open_slice(record, number, None) for number in range(2))
        assert isinstance(first, SliceWork) and isinstance(second, SliceWork)
        claim, claims = AnswerIndex.claim, 0

        def given_up_in_time(index: AnswerIndex, hashes: Sequence[str], owner: Slice) -> list[Any]:
            nonlocal claims
            claims += owner.number == 0
            if claims == 3:
                second.close()
            return claim(index, hashes, owner)

        async with aclosing(second.works()) as theirs, aclosing(first.works()) as ours:
            assert (await anext(theirs)).row == 0
            monkeypatch.setattr(AnswerIndex, "claim", given_up_in_time)
            async with asyncio.timeout(10):
                assert [work.row async for work in ours] == [2]
        assert first.outstanding == 4 and first.asked_elsewhere == 0
        first.close()


async def test_a_twins_answer_is_told_in_the_journal_without_a_copy(lab: Lab) -> None:
    repeated(lab, 6, 2)
    async with lab.simulator():
        await lab.run()
    entries = journalled(lab, 0)
    kinds = [entry.kind for entry in entries]
    assert (kinds.count(EntryKind.ANSWER), kinds.count(EntryKind.CACHED)) == (2, 4)
    stored = journal_file(lab).read_bytes()
    assert {stored.count(entry.body) for entry in entries} == {1}


async def test_a_damaged_answer_costs_itself_and_no_equal_row(lab: Lab) -> None:
    """It is asked once more; those that had it get that answer, and the run ends."""
    repeated(lab, 10, 2)
    async with lab.simulator() as simulator:
        await killed_before_publishing(lab, "run")
        damaged = next(entry for entry in journalled(lab, 0) if entry.kind is EntryKind.ANSWER)
        content = bytearray(journal_file(lab).read_bytes())
        content[content.index(b"choices", damaged.place)] ^= 1
        journal_file(lab).write_bytes(bytes(content))
        summary = await lab.run()
        stats = simulator.stats()
    assert (summary.ok, summary.failed, summary.pending, stats["answered"]) == (10, 0, 0, 3)
    assert len({(row["tone"], row["score"]) for row in lab.rows() if row["id"] % 2 == 0}) == 1


async def test_a_published_slice_has_told_its_answers(lab: Lab) -> None:
    """It is not opened again: killed right after, its answers must be there for the equal rows of later slices."""
    repeated(lab, 40, 20)
    async with lab.simulator() as simulator:
        code, _, err = await child(DIES_WHEN_PUBLISHED, str(lab.folder))
        assert code == 9, err
        summary = await lab.run(lab.job(slices={"rows": 20}))
        assert (summary.ok, summary.cached, simulator.stats()["answered"]) == (40, 20, 20)


def journal_file(lab: Lab) -> Path:
    """Of the first slice of the latest run."""
    record = wiring.open_store(lab.settings).runs.latest("lab")
    assert record is not None
    return lab.settings.home / "runs" / record.run_id / "journal" / "0000.jsonl"
