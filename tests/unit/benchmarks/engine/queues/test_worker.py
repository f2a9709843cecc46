"""Each queue of the evaluation gives out every row once, and after a kill those without an answer again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.engine.queues.worker import QUEUES
from benchmarks.engine.tables import short, write
from benchmarks.limiter.redis_process import redis_process

ROWS = 150


@pytest.fixture(params=list(QUEUES))
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, str, str]]:
    """Name, table and place of a queue."""
    table = str(write(tmp_path / "table.parquet", ROWS, short))
    if request.param == "redis_stream":
        with redis_process(tmp_path) as server:
            yield request.param, table, server.url
    else:
        yield request.param, table, str(tmp_path / "queue")


def test_every_row_is_given_out_once(opened: tuple[str, str, str]) -> None:
    name, table, place = opened
    queue = QUEUES[name](table, place)
    taken = []
    while rows := queue.take(64):
        taken += rows
    assert sorted((number, text) for number, text, _ in taken) == [(number, short(number)) for number in range(ROWS)]


def test_after_a_kill_the_rows_without_an_answer_are_given_out_again(opened: tuple[str, str, str]) -> None:
    name, table, place = opened
    first = QUEUES[name](table, place)
    for row in [*first.take(64), *first.take(64)][:100]:
        first.keep(row, b"{}")
    second = QUEUES[name](table, place)  # the first one never said goodbye
    while rows := second.take(64):
        for row in rows:
            second.keep(row, b"{}")
    assert sorted(second.answers()) == list(range(ROWS))
