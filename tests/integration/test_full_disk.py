"""The journal's disk is full in the middle of a run: what is paid stays, and the same command goes on."""

from __future__ import annotations

import errno
import json
import os

import pytest

from batch_llm import wiring
from batch_llm.errors import JournalFull
from batch_llm.journal.base import EntryKind
from tests.integration.engine_lab import child, journalled
from tests.integration.lab import Lab

DISK_FULL = """
import asyncio, json, resource, signal, sys
from pathlib import Path
from batch_llm.engine.events import RunStarted
from tests.integration.lab import Lab

class Filling(list):
    def append(self, event):
        if isinstance(event, RunStarted):  # all is frozen; from here on files may grow to 12 kB
            resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, resource.RLIM_INFINITY))

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
lab = Lab(Path(sys.argv[1]))
lab.events = Filling()
try:
    asyncio.run(lab.run(lab.job(**json.loads(sys.argv[2]))))
except BaseException as error:
    print(type(error).__name__)
"""


@pytest.mark.parametrize("budget_usd", [None, "5"])
async def test_a_full_disk_stops_the_run_and_loses_only_what_was_in_flight(lab: Lab, budget_usd: str | None) -> None:
    """The error says so plainly; with room again the same command pays at most the calls in flight once more."""
    at_once = 5
    lab.table(100)
    changes = {} if budget_usd is None else {"budget_usd": budget_usd}
    limits = {"requests_per_minute": 600_000, "max_concurrency": at_once}
    async with lab.simulator(limits, latency_median_s=0.02) as simulator:
        _, out, err = await child(DISK_FULL, str(lab.folder), json.dumps(changes))
        assert out.split() == ["JournalFull"], out + err
        stored = sum(entry.kind is EntryKind.ANSWER for entry in journalled(lab, 0))
        stats = simulator.stats()
        assert 0 < stored <= stats["answered"] == stats["accepted"] <= stored + at_once
        summary = await lab.run(lab.job(**changes))
        assert (summary.ok, summary.pending) == (100, 0)
        assert simulator.stats()["answered"] - 100 <= at_once
    assert [row["id"] for row in lab.rows()] == list(range(100))


@pytest.mark.parametrize("budget_usd", [None, "5"])
async def test_a_full_disk_loses_nothing_that_was_in_flight_either(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, budget_usd: str | None
) -> None:
    """The room that was kept takes it; with room again the same command pays nothing twice."""
    lab.table(100)
    changes = {} if budget_usd is None else {"budget_usd": budget_usd}
    write, written, gave = os.write, 0, False

    def full_disk(file: int, data: bytes) -> int:
        """From the 20th entry on, each one needs room of the reserve."""
        nonlocal written, gave
        if not os.readlink(f"/proc/self/fd/{file}").endswith(".jsonl"):
            return write(file, data)
        written += not gave
        if written > 20 and not gave:
            gave = True
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        gave = False
        return write(file, data)

    async with lab.simulator(
        {"requests_per_minute": 600_000, "max_concurrency": 30}, latency_median_s=0.1
    ) as simulator:
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", full_disk)
            with pytest.raises(JournalFull, match="every answer that came is stored"):
                await lab.run(lab.job(**changes))
        stored = sum(entry.kind is EntryKind.ANSWER for entry in journalled(lab, 0))
        assert 0 < stored == simulator.stats()["answered"] == simulator.stats()["accepted"] < 100
        runs = wiring.open_store(lab.settings).runs
        assert runs.spent(journal_of(lab), 0) is not None
        summary = await lab.run(lab.job(**changes))
        assert (summary.ok, summary.pending, simulator.stats()["answered"]) == (100, 0, 100)


def journal_of(lab: Lab) -> str:
    """The latest run."""
    record = wiring.open_store(lab.settings).runs.latest("lab")
    assert record is not None
    return record.run_id
