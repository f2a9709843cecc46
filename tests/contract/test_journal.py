"""What every journal promises, on one machine's folder and in an object store; and what a store adds to it."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from batch_llm.errors import JournalBusy, JournalUnreachable
from batch_llm.journal.base import Entry, EntryKind, Journal, RunStore
from batch_llm.statement_costs import StatementCost
from tests.contract.journal_lab import FAST, RUN, WRITER, Machine, answer, rows
from tests.redis_server import RedisServer
from tests.s3_server import S3Server, s3_environment, s3_server

ROOT = Path(__file__).parents[2]


@pytest.fixture
def shared(tmp_path: Path, s3: str, shared_redis: RedisServer) -> Machine:
    return Machine(tmp_path / "a", s3, shared_redis.url)


@pytest.fixture(params=["local", "s3"])
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Machine:
    return Machine(tmp_path / "a") if request.param == "local" else request.getfixturevalue("shared")


def journal_file(machine: Machine) -> Path:
    return machine.folder / RUN / "journal" / "0000.jsonl"


def test_an_entry_comes_back_as_it_was(machine: Machine) -> None:
    """From the open journal, from a closed one, and by its place."""
    runs = machine.runs()
    journal = runs.journal(RUN, 0)
    written = [
        answer(0),
        Entry(EntryKind.SENT, 1, 2, detail={"held_usd": "0.10"}),
        answer(2, b"\x00\xff" * 1000),
        Entry(EntryKind.FAILED, 1, 2, detail={"error_class": "timeout", "message": "ü"}),
    ]
    places = [journal.append(entry) for entry in written]
    found = list(journal.replay())
    assert [(each.kind, each.row, each.attempt, each.body, each.detail) for each in found] == [
        (each.kind, each.row, each.attempt, each.body, each.detail) for each in written
    ]
    assert [each.place for each in found] == places
    assert [each.body for each in journal.entries_at(places)] == [each.body for each in written]
    journal.close()
    journal.close()
    assert list(machine.runs().entries(RUN, 0)) == found


def test_what_statements_cost_is_kept_once_each(machine: Machine) -> None:
    """Whoever tells it how often; half a line, of a process that was killed, is none."""
    costs = [StatementCost("published", f"job-{number}", number, 10 << 20, 5, None) for number in range(3)]
    assert machine.runs().statements(RUN) == []
    for cost in (*costs, costs[0]):
        machine.runs().note_statement(RUN, cost)
    torn = machine.folder / RUN / "statements"
    if torn.exists():
        torn.write_bytes(torn.read_bytes()[:-9])
    assert sorted(machine.runs().statements(RUN), key=lambda cost: cost.job_id) == costs


def test_a_journal_grows_over_several_openings(machine: Machine) -> None:
    sizes = []
    for row in range(3):
        journal = machine.runs().journal(RUN, 0)
        journal.append(answer(row))
        sizes.append(journal.size())
        journal.close()
        assert machine.runs().size(RUN, 0) == sizes[-1]
    assert sizes == sorted(set(sizes))
    assert rows(list(machine.runs().entries(RUN, 0))) == [0, 1, 2]


def test_a_slice_has_one_writer(machine: Machine) -> None:
    """The second one is refused, and let in when the first has closed."""
    runs, second = machine.runs(), machine.runs()
    journal = runs.journal(RUN, 0)
    assert second.is_busy(RUN, 0)
    with pytest.raises(JournalBusy, match=f"slice 0000 of run {RUN} is being worked on"):
        second.journal(RUN, 0)
    journal.append(answer(0))
    journal.close()
    assert not second.is_busy(RUN, 0)
    again = second.journal(RUN, 0)
    assert rows(list(again.replay())) == [0]
    again.close()


def test_a_torn_end_costs_nothing_but_itself(machine: Machine) -> None:
    """A kill in the middle of a write."""
    journal = machine.runs().journal(RUN, 0)
    journal.append(answer(0))
    journal.close()
    with journal_file(machine).open("ab") as file:
        file.write(b"12345678 90 1000 {")
    again = machine.runs().journal(RUN, 0)
    place = again.append(answer(1))
    assert rows(list(again.replay())) == [0, 1]
    assert again.entries_at([place])[0].body == answer(1).body
    again.close()
    assert rows(list(machine.runs().entries(RUN, 0))) == [0, 1]


def test_what_is_published_is_told_until_the_journal_grows(machine: Machine) -> None:
    runs = machine.runs()
    assert runs.is_published(RUN, 0)
    journal = runs.journal(RUN, 0)
    journal.append(answer(0))
    assert not runs.is_published(RUN, 0)
    runs.mark_published(RUN, 0)
    runs.save_spent(RUN, 0, "0.25")
    assert runs.is_published(RUN, 0) and runs.spent(RUN, 0) == (journal.size(), "0.25")
    journal.append(answer(1))
    assert not runs.is_published(RUN, 0) and runs.spent(RUN, 0) is None
    journal.close()
    assert not machine.runs().is_published(RUN, 0)


def told(out: str, word: str) -> list[int]:
    """The rows a killed `WRITER` told of."""
    lines = out.splitlines(keepends=True)
    return [int(line.split()[1]) for line in lines if line.startswith(word) and line.endswith("\n")]


def killed_writer(machine: Machine, start: int, tells: int, sync_every: int = 50) -> tuple[list[int], list[int]]:
    """A process that writes and is killed with -9 after so many words: the rows it said are stored, and synced."""
    arguments = [str(machine.folder), machine.store or "", machine.redis or "", str(start), str(sync_every)]
    command = [sys.executable, "-c", WRITER, *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        out = "".join(process.stdout.readline() for _ in range(tells))
        process.kill()
        out += process.stdout.read()
        process.wait()
        assert process.returncode == -9, process.stderr.read()
    return told(out, "stored"), told(out, "synced")


@pytest.mark.parametrize("seed", [1, 2])
def test_a_killed_writer_has_lost_nothing_on_its_machine(machine: Machine, seed: int) -> None:
    """Killed at random moments of writing and shipping; what it said is stored is there, once, in order."""
    machine.runs()
    draw = random.Random(seed)
    start = 0
    for _ in range(2):
        stored, _ = killed_writer(machine, start, draw.randrange(1, 400))
        found = rows(list(machine.runs().entries(RUN, 0)))
        assert found == list(range(len(found)))
        assert len(found) > stored[-1]
        start = len(found)
    journal = machine.runs().journal(RUN, 0)  # at once: nobody waits for a dead process's lease
    assert rows(list(journal.replay())) == list(range(start))
    journal.close()


# ---- an object store, several machines


@pytest.mark.parametrize("seed", [1, 2])
def test_a_lost_machine_costs_only_what_was_not_shipped(shared: Machine, seed: int) -> None:
    """What is found elsewhere is what it wrote from the start on, without a gap; what was synced is among it."""
    shared.runs()
    _, synced = killed_writer(shared, 0, random.Random(seed).randrange(60, 500))
    shared.lose()
    elsewhere = shared.other("b")
    found = rows(list(elsewhere.runs().entries(RUN, 0)))
    assert found == list(range(len(found)))
    assert len(found) > max(synced, default=-1)
    assert (elsewhere.folder / RUN / "frozen" / "0000.parquet").exists() is False  # reading entries needs no rows
    assert elsewhere.runs().get(RUN).slice_rows == (100,)
    assert (elsewhere.folder / RUN / "frozen" / "0000.parquet").read_bytes() == b"rows"


def test_the_lease_of_a_machine_that_died_ends(shared: Machine) -> None:
    """Another machine waits for it, then goes on."""
    dying = Machine(shared.folder, shared.store, shared.redis, ttl_s=3.0)
    journal = dying.runs().journal(RUN, 0)
    journal.append(answer(0))
    journal.sync()
    other = dying.other("b").runs()
    with pytest.raises(JournalBusy, match="by another machine"):
        other.journal(RUN, 0)
    journal._lease._leases.drop(journal._lease)  # type: ignore[attr-defined]  # nobody keeps it up any more
    while other.is_busy(RUN, 0):
        time.sleep(0.05)
    later = other.journal(RUN, 0)
    later.append(answer(1))
    later.sync()
    with pytest.raises(JournalBusy, match="lost"):  # the first one is not dead, it only was not heard of
        until_it_fails(journal)
    with pytest.raises(JournalBusy):
        journal.close()
    later.close()
    assert rows(list(dying.other("c").runs().entries(RUN, 0))) == [0, 1]
    merged = rows(list(dying.runs().entries(RUN, 0)))
    assert merged[:2] == [0, 1] and set(merged[2:]) == {7}


def until_it_fails(journal: Journal) -> None:
    """Append until the thread that ships has noticed, then raise that."""
    end = time.monotonic() + 120
    while journal.failure is None and time.monotonic() < end:
        journal.append(answer(7))
        time.sleep(0.01)
    assert journal.failure is not None
    raise journal.failure


def test_a_long_absence_of_the_store_stops_the_writer(
    tmp_path: Path, shared_redis: RedisServer, own_s3: S3Server
) -> None:
    """Its answers stay on the machine, intents are refused, and the next writer there ships all of it."""
    machine = Machine(tmp_path / "a", f"{own_s3.url}/away", shared_redis.url, times=FAST)
    journal = machine.runs().journal(RUN, 0)
    journal.append(answer(0))
    journal.sync()
    own_s3.kill()
    with pytest.raises(JournalUnreachable, match="Every answer is stored on this machine"):
        until_it_fails(journal)
    size = journal.size()
    with pytest.raises(JournalUnreachable):
        journal.append(Entry(EntryKind.SENT, 8, 1, detail={"held_usd": "1"}))
    assert journal.size() == size
    journal.append(answer(9))
    assert journal.size() > size
    with pytest.raises(JournalUnreachable):
        journal.close()
    with pytest.raises(JournalUnreachable, match="cannot list s3://"):
        machine.runs()
    own_s3.start()
    again = machine.runs().journal(RUN, 0)  # the new S3 is empty: the store forgot everything
    again.close()
    found = rows(list(machine.other("b").runs().entries(RUN, 0)))
    assert found[0] == 0 and found[-1] == 9 and 8 not in found


@pytest.fixture
def own_s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    """A server that will be away; its client tries once, so that our own patience decides and not botocore's."""
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with s3_server(tmp_path) as server, s3_environment(server):
        yield server


def test_a_redis_that_forgot_its_leases_costs_nothing(tmp_path: Path, shared: Machine) -> None:
    """The writer takes its lease again; who comes later writes under a higher number, not under the first again."""
    journal = shared.runs().journal(RUN, 0)
    journal.append(answer(0))
    journal.sync()
    with Redis.from_url(str(shared.redis)) as redis:
        redis.flushall()
    journal._lease.renew()  # type: ignore[attr-defined]
    journal.append(answer(1))
    journal.close()
    with Redis.from_url(str(shared.redis)) as redis:
        redis.flushall()
    later = shared.other("b").runs().journal(RUN, 0)
    later.append(answer(2))
    later.close()
    assert rows(list(shared.other("c").runs().entries(RUN, 0))) == [0, 1, 2]


def test_a_published_journal_is_one_object(shared: Machine) -> None:
    runs = shared.runs()
    journal = runs.journal(RUN, 0)
    for row in range(4):
        journal.append(answer(row))
        journal.sync()
    assert len(objects(runs)) == 4
    runs.mark_published(RUN, 0)
    assert len(objects(runs)) == 1
    journal.close()
    other = shared.other("b").runs()
    assert other.is_published(RUN, 0) and rows(list(other.entries(RUN, 0))) == [0, 1, 2, 3]


def test_many_answers_are_shipped_without_being_asked(shared: Machine) -> None:
    journal = shared.runs().journal(RUN, 0)
    other = shared.other("b").runs()
    for row in range(300):
        journal.append(answer(row))
    while len(rows(list(other.entries(RUN, 0)))) < 300:  # its own time limit says that it never came
        time.sleep(0.05)
    journal.close()


def objects(runs: RunStore) -> list[str]:
    names = runs._store.names(f"{RUN}/journal")  # type: ignore[attr-defined]
    return [name for name in names if name.endswith(".seg")]
