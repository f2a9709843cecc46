"""A row that waits for the answer to an equal one, asked elsewhere, keeps no other row waiting.

Belongs here: what goes on meanwhile. Not here: that equal rows are asked once (test_reuse.py).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from batch_llm.engine.events import Progress
from batch_llm.engine.publishing import OPEN_SLICES_MAX
from tests.integration.engine_lab import answered_body, compatible_server, write_input
from tests.integration.lab import Lab

SAME = "the same"


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    monkeypatch.setenv("LOCAL_KEY", "k")
    return Lab(tmp_path)


class Server:
    """Answers the row that stands in several slices only when so many others were asked."""

    def __init__(self, others: int) -> None:
        self.others = others
        self.asked: Counter[str] = Counter()
        self.enough = asyncio.Event()
        self.same_is_asked = asyncio.Event()

    async def __call__(self, prompt: str) -> tuple[int, dict[str, Any]]:
        self.asked[prompt] += 1
        if SAME in prompt:
            self.same_is_asked.set()
            await self.enough.wait()
        elif self.asked.total() - (SAME in "".join(self.asked)) >= self.others:
            self.enough.set()
        return 200, answered_body("fine")


def table(lab: Lab, slices: int, rows: int, same_in: range) -> None:
    """So many slices of so many rows; the same text is the second row of some of them."""
    texts = [f"text {number}" for number in range(slices * rows)]
    for number in same_in:
        texts[number * rows + 1] = SAME
    write_input(lab, id=list(range(len(texts))), text=texts, extra=[0] * len(texts))


async def test_later_slices_are_asked_while_a_row_waits_for_an_equal_one(lab: Lab) -> None:
    table(lab, 4, 10, range(2))
    server = Server(38)
    async with compatible_server(lab, server) as model, asyncio.timeout(60):
        summary = await lab.run(lab.job(model=model, output={"table": "out"}, slices={"rows": 10}))
    assert (summary.ok, summary.requests, summary.cached) == (40, 39, 1)
    assert set(server.asked.values()) == {1}


async def test_no_more_slices_are_open_than_may_be_however_many_wait(lab: Lab) -> None:
    """The others are asked when the answer is there; each request once."""
    count = OPEN_SLICES_MAX + 4
    table(lab, count, 3, range(count))
    server = Server(2 * OPEN_SLICES_MAX)
    async with compatible_server(lab, server) as model, asyncio.timeout(60):
        summary = await lab.run(lab.job(model=model, output={"table": "out"}, slices={"rows": 3}))
    assert (summary.ok, summary.requests, summary.cached) == (3 * count, 2 * count + 1, count - 1)
    assert set(server.asked.values()) == {1}


async def test_all_but_the_equal_row_are_asked_while_another_job_does_not_go_on(lab: Lab) -> None:
    """Then it says what it waits for."""
    table(lab, 4, 10, range(1))
    server = Server(10**6)
    async with compatible_server(lab, server) as model, asyncio.timeout(60):
        only = {"table": "input.parquet", "key": ["id"], "where": "id = 1"}
        one = lab.job(model=model, name="one", input=only, output={"table": "one"})
        two = lab.job(model=model, name="two", output={"table": "two"}, slices={"rows": 10})
        first = asyncio.create_task(lab.run(one))
        await server.same_is_asked.wait()
        lab.events.clear()
        second = asyncio.create_task(lab.run(two))
        while not [
            event for event in lab.events if isinstance(event, Progress) and "1 equal row" in event.holding_back
        ]:
            await asyncio.sleep(0.1)
        assert len(server.asked) == 40 and set(server.asked.values()) == {1}
        server.enough.set()
        assert ((await first).ok, (await second).ok) == (1, 40)


async def test_a_limit_counts_rows_that_waited_as_well(lab: Lab) -> None:
    """What is not asked for it stays pending, and is published so."""
    table(lab, 4, 10, range(2))
    server = Server(0)
    async with compatible_server(lab, server) as model, asyncio.timeout(60):
        summary = await lab.run(lab.job(model=model, output={"table": "out"}, slices={"rows": 10}), limit=25)
    assert summary.requests == 25 and summary.ok + summary.pending == 40 and summary.ok in (25, 26)
