"""A journal in an object store: what the machines that share it can do for each other."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from batch_llm import wiring
from batch_llm.cli.doctor import examine
from batch_llm.cli.doctor_services import Check, Verdict
from batch_llm.cli.forget import forget_runs
from batch_llm.cli.status import status_of
from batch_llm.engine import publishing
from batch_llm.errors import ConfigurationError, WarehouseError
from batch_llm.journal.base import EntryKind, RunState
from batch_llm.journal.object_store import ObjectStore
from batch_llm.simulator import Simulator
from tests.integration.lab import Lab
from tests.redis_server import RedisServer, redis_server
from tests.s3_server import S3Server, s3_environment, s3_server

ROWS = 300
LEASE_S = 6.0  # of the processes that are killed; half a minute otherwise
DRIVER = """
import asyncio, sys
from dataclasses import replace
from pathlib import Path
from batch_llm.journal.redis_leases import RedisLeases
from tests.integration.lab import Lab
lab = Lab(Path(sys.argv[1]))
lab.settings = replace(lab.settings, journal=sys.argv[2], redis_url=sys.argv[3])
RedisLeases.__init__.__kwdefaults__["ttl_s"] = float(sys.argv[4])
asyncio.run(lab.run(lab.job(slices={"rows": 100})))
"""


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[S3Server, RedisServer]]:
    folder = tmp_path_factory.mktemp("servers")
    with s3_server(folder) as s3, redis_server(folder) as redis:
        yield s3, redis


@pytest.fixture
def lab(servers: tuple[S3Server, RedisServer], tmp_path: Path) -> Iterator[Lab]:
    """A machine whose journal is in the store."""
    s3, redis = servers
    lab = Lab(tmp_path)
    lab.settings = replace(lab.settings, journal=f"{s3.url}/{tmp_path.name}", redis_url=redis.url)
    with s3_environment(s3):
        yield lab


def elsewhere(lab: Lab) -> Lab:
    """Another machine: a home of its own, the same store, Redis, job and input."""
    other = Lab(lab.folder)
    other.settings = replace(lab.settings, home=lab.folder / "home of the other")
    return other


def store_of(lab: Lab) -> ObjectStore:
    assert lab.settings.journal_url is not None
    return ObjectStore(lab.settings.journal_url)


async def killed_after(lab: Lab, simulator: Simulator, answers: int, root: Path) -> int:
    """Start the run, kill -9 it when so many answers were sent; how many calls were not in its journals then.

    That is what the process had in flight: what the provider has sent may not be read yet on a busy machine.
    """
    arguments = [lab.folder, lab.settings.journal, lab.settings.redis_url, LEASE_S]
    command = [sys.executable, "-c", DRIVER, *map(str, arguments)]
    process = subprocess.Popen(command, cwd=root, stderr=subprocess.PIPE)
    while simulator.stats()["answered"] < answers and process.poll() is None:
        await asyncio.sleep(0.002)
    process.kill()
    sent = simulator.stats()["accepted"]
    _, errors = process.communicate()
    assert process.returncode == -9, errors.decode()
    (record,) = wiring.open_store(lab.settings).runs.all()
    known = journalled(lab)
    print(f"at the kill: {simulator.stats()}, {known} journalled in {record.run_id}")
    return int(sent) - known


def journalled(lab: Lab) -> int:
    """Answers in the journals of the lab's only run, as this machine sees them."""
    runs = wiring.open_store(lab.settings).runs
    entries = (entry for record in runs.all() for number in range(3) for entry in runs.entries(record.run_id, number))
    return sum(entry.kind is EntryKind.ANSWER for entry in entries)


async def test_a_killed_run_goes_on_at_once_on_its_machine(lab: Lab, root: Path) -> None:
    """Nothing lost, nothing doubled; nobody waits for the lease of the dead process."""
    lab.table(ROWS)
    async with lab.simulator(latency_median_s=0.05) as simulator:
        at_kill = await killed_after(lab, simulator, 130, root)
        summary = await lab.run(lab.job(slices={"rows": 100}))
        answered = simulator.stats()["answered"]
    assert (summary.rows, summary.ok, summary.pending) == (ROWS, ROWS, 0)
    assert [row["id"] for row in lab.rows()] == list(range(ROWS))
    assert 0 <= answered - ROWS <= at_kill
    (record,) = wiring.open_store(lab.settings).runs.all()
    assert record.state is RunState.FINISHED
    segments = [name for name in store_of(lab).names(record.run_id) if name.endswith(".seg")]
    assert len(segments) == 3  # one for each published slice


async def test_another_machine_goes_on_when_one_is_lost(lab: Lab, root: Path) -> None:
    """It pays again only what was in flight, and what the lost machine had not shipped yet."""
    lab.table(ROWS)
    async with lab.simulator(latency_median_s=0.05) as simulator:
        at_kill = await killed_after(lab, simulator, 150, root)
        other = elsewhere(lab)
        shipped = journalled(other)
        unshipped = journalled(lab) - shipped
        shutil.rmtree(lab.settings.home)
        await until_its_leases_ended(other)
        summary = await other.run(other.job(slices={"rows": 100}))
        answered = simulator.stats()["answered"]
    assert (summary.rows, summary.ok, summary.pending) == (ROWS, ROWS, 0)
    assert [row["id"] for row in other.rows()] == list(range(ROWS))
    assert 0 <= answered - ROWS <= at_kill + unshipped


async def until_its_leases_ended(lab: Lab) -> None:
    """A machine that died is believed to live for as long as its lease is."""
    runs = wiring.open_store(lab.settings).runs
    (record,) = runs.all()
    while any(runs.is_busy(record.run_id, number) for number in range(3)):
        await asyncio.sleep(0.1)


async def test_a_finished_run_is_nothing_to_do_elsewhere_but_to_promote(lab: Lab) -> None:
    """The other machine's warehouse is its own: it publishes and promotes from the journals, and asks nothing."""
    lab.table(30)
    async with lab.simulator() as simulator:
        first = await lab.run()
        other = elsewhere(lab)
        again = await other.run()
        assert simulator.stats()["answered"] == 30
    assert (first.ok, again.ok, again.run_id) == (30, 30, first.run_id)
    assert [row["id"] for row in other.rows()] == list(range(30))


async def test_status_counts_what_a_run_that_goes_on_has_added(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here, where a part of it is published; and on a machine with a warehouse of its own, where nothing is."""

    def status(machine: Lab) -> tuple[int, int, int, Decimal | None, str | None]:
        store = wiring.open_store(machine.settings)
        found = status_of(store, store.runs.all()[0])
        return found.ok, found.answered, found.queued, found.cost_usd, found.reason

    def away(*_: object) -> None:
        raise WarehouseError("away")

    lab.table(30)
    async with lab.simulator():
        sample = await lab.run(limit=10)
        assert status(lab) == (10, 0, 20, sample.cost_usd, "sample")
        with monkeypatch.context() as patched:
            patched.setattr(publishing, "publish_slice", away)
            with pytest.raises(WarehouseError):
                await lab.run()
        added = status(lab)
        assert (added[:3], added[4]) == ((10, 20, 0), None)
        assert status(elsewhere(lab)) == (0, 30, 0, added[3], None)
        assert (await lab.run()).cost_usd == added[3]
    assert status(lab) == (30, 0, 0, added[3], None)
    assert status(elsewhere(lab)) == (0, 30, 0, added[3], None)


async def test_forget_erases_the_store_as_well(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.table(20)
    async with lab.simulator():
        run_id = (await lab.run()).run_id
    assert store_of(lab).names(run_id)
    for name, value in {
        "HOME": str(lab.settings.home), "JOURNAL": str(lab.settings.journal), "REDIS_URL": str(lab.settings.redis_url),
    }.items():  # fmt: skip
        monkeypatch.setenv(f"BATCH_LLM_{name}", value)
    assert await asyncio.to_thread(forget_runs, "lab") == [run_id]
    assert store_of(lab).names("") == {}
    assert not (lab.settings.runs_dir / run_id).exists()
    assert len(lab.rows()) == 20


def journal_checks(lab: Lab) -> list[Check]:
    return [check for check in examine(lab.settings, {}, online=False) if check.name == "journal"]


def test_doctor_tries_the_store_out(lab: Lab) -> None:
    lab.providers("http://127.0.0.1:1")
    assert [check.verdict for check in journal_checks(lab)] == [Verdict.OK, Verdict.OK]
    assert store_of(lab).names("") == {}


def test_doctor_says_what_is_wrong_with_the_store(lab: Lab) -> None:
    lab.providers("http://127.0.0.1:1")
    lab.settings = replace(lab.settings, journal="s3://no-such-bucket/x")
    store, _ = journal_checks(lab)
    assert store.verdict is Verdict.FAILED and "cannot write s3://no-such-bucket/x" in store.found


def test_a_shared_journal_needs_a_shared_redis(lab: Lab) -> None:
    lab.providers("http://127.0.0.1:1")
    lab.settings = replace(lab.settings, redis_url=None)
    store, _ = journal_checks(lab)
    assert store.verdict is Verdict.FAILED and "set BATCH_LLM_REDIS_URL" in store.found
    with pytest.raises(ConfigurationError, match="set BATCH_LLM_REDIS_URL"):
        wiring.open_store(lab.settings)


@pytest.mark.parametrize(("url", "said"), [("nowhere://x/y", "nowhere"), ("gs://bucket/x", r"batch-llm\[gcs\]")])
def test_a_store_whose_client_is_not_there_is_named(url: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        ObjectStore(url).get("x")
