"""A slice's copy on a machine and its objects in the store: nothing is lost, nothing is there twice."""

from __future__ import annotations

import shutil
import tempfile
from enum import StrEnum
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from batch_llm.journal.local import read_journal
from batch_llm.journal.segments import chain_end
from batch_llm.journal.slice_objects import SliceObjects
from tests.unit.journal.slice_lab import Writer, answer, memory, writer


def rows(path: Path) -> list[int]:
    return [entry.row for entry in read_journal(path)]


def test_another_machine_goes_on_where_the_first_was(tmp_path: Path) -> None:
    store = memory()
    first, second = writer(store, tmp_path / "a"), writer(store, tmp_path / "b")
    first.open()
    first.append(0)
    first.ship()
    first.close()
    second.open()
    second.append(1)
    second.ship()
    second.close()
    first.open()
    assert rows(first.objects.path) == rows(second.objects.path) == [0, 1]
    first.close()


def test_what_was_never_shipped_follows_what_others_wrote_meanwhile(tmp_path: Path) -> None:
    """Paid answers on a machine that was away."""
    store = memory()
    first, second = writer(store, tmp_path / "a"), writer(store, tmp_path / "b")
    first.open()
    first.append(0)
    first.ship()
    first.append(1)
    first.close()
    second.open()
    second.append(2)
    second.ship()
    second.close()
    first.open()
    assert rows(first.objects.path) == [0, 2, 1]
    first.ship()
    first.close()
    second.open()
    assert rows(second.objects.path) == [0, 2, 1]
    second.close()


def test_a_writer_without_its_lease_overwrites_nothing(tmp_path: Path) -> None:
    """It was cut off, did not notice, and shipped; its answers are found again when its machine returns."""
    store = memory()
    stale, later = writer(store, tmp_path / "a"), writer(store, tmp_path / "b")
    stale.open()
    stale.append(0)
    stale.ship()
    later.open()
    stale.append(1)
    stale.ship()
    later.append(2)
    later.ship()
    later.close()
    reader = SliceObjects(store, "r1/journal/0000", tmp_path / "c" / "0000.jsonl")
    reader.catch_up(reader.listing().segments)
    assert rows(reader.path) == [0, 2]
    stale.close()
    stale.open()
    assert rows(stale.objects.path) == [0, 2, 1]
    stale.close()


def test_a_damaged_object_ends_what_is_rebuilt(tmp_path: Path) -> None:
    """And a machine that has the right bytes ships them again."""
    store = memory()
    first = writer(store, tmp_path / "a")
    first.open()
    for row in range(3):
        first.append(row)
        first.ship()
    first.close()
    damaged = first.objects.listing().segments[1]
    store.put(f"r1/journal/0000/{damaged.name}", b"?" * (damaged.end - damaged.start))
    second = writer(store, tmp_path / "b")
    second.open()
    assert rows(second.objects.path) == [0]
    second.append(7)
    second.ship()
    second.close()
    first.open()
    assert rows(first.objects.path) == [0, 7, 1, 2]
    first.close()


def test_a_torn_end_in_the_store_damages_nothing_behind_it(tmp_path: Path) -> None:
    """A segment was cut in the middle of an entry, and its writer's machine is gone."""
    store = memory()
    first = writer(store, tmp_path / "a")
    first.open()
    assert first.journal is not None
    first.append(0)
    first.journal.append(answer(1, b"x" * 500))
    first.shipped = first.objects.upload(0, first.journal.size() - 100, first.epoch)
    first.close()
    second = writer(store, tmp_path / "b")
    second.open()
    second.append(2)
    second.ship()
    second.close()
    assert rows(second.objects.path) == [0, 2]
    first.open()
    assert rows(first.objects.path) == [0, 2, 1]
    first.close()


def test_compacting_leaves_one_object_that_says_the_same(tmp_path: Path) -> None:
    store = memory()
    first = writer(store, tmp_path / "a")
    first.open()
    assert first.journal is not None
    for row in range(5):
        first.append(row)
        first.ship()
    first.objects.compact(first.journal.size(), first.epoch)
    assert [(each.start, each.end) for each in first.objects.listing().segments] == [(0, first.journal.size())]
    first.append(5)
    first.ship()
    first.close()
    second = writer(store, tmp_path / "b")
    second.open()
    assert rows(second.objects.path) == list(range(6))
    second.close()


def test_compacting_while_entries_come_loses_none(tmp_path: Path) -> None:
    """The object is not what its name says then, so the others stay."""
    store = memory()
    first = writer(store, tmp_path / "a")
    first.open()
    assert first.journal is not None
    for row in range(3):
        first.append(row)
        first.ship()
    size = first.journal.size()
    first.append(3)
    first.objects.compact(size, first.epoch)
    assert chain_end(first.objects.listing().segments) == size
    first.close()


def test_the_marks_of_a_slice_are_its_newest(tmp_path: Path) -> None:
    store = memory()
    objects = writer(store, tmp_path).objects
    for size, usd in ((5, "0.1"), (90, "1E-7")):
        objects.mark("published", str(size))
        objects.mark("spent", f"{size}-{usd}")
    listing = objects.listing()
    assert (listing.published_bytes, listing.spent) == (90, (90, "1E-7"))
    assert len(store.names("r1")) == 2


class How(StrEnum):
    """How a writer's session ends."""

    SHIPPED = "shipped"
    COMPACTED = "compacted"
    UNSHIPPED = "killed before anything was shipped"
    HALF = "killed when half of it was shipped"
    UNNOTED = "killed between upload and note"
    CUT_OFF = "lost its lease and does not notice"
    LOST = "shipped half, then its disk is gone"


class Machines:
    """Two machines that write one slice in turn, and what must be true of it."""

    def __init__(self, folder: Path) -> None:
        self.store = memory()
        self.writers = [writer(self.store, folder / name) for name in "ab"]
        self.row = 0
        self.lost: set[int] = set()  # rows of disks that are gone
        self.safe: set[int] = set()  # rows that were in the store while their writer had the lease

    def append(self, chosen: Writer, count: int) -> None:
        assert chosen.journal is not None
        for _ in range(count):
            chosen.journal.append(answer(self.row, b"x\n" * (self.row % 5)))
            chosen.appended.append(self.row)
            self.row += 1

    def session(self, chosen: Writer, count: int, how: How) -> None:
        if chosen.journal is not None:  # it was cut off, and goes on until it notices
            self.append(chosen, count)
            chosen.ship()
            chosen.close()
        chosen.open()
        assert chosen.journal is not None
        chosen.ship()
        self.safe.update(chosen.appended)
        self.append(chosen, count)
        noted = chosen.objects.shipped()
        if how in (How.HALF, How.CUT_OFF, How.LOST):
            half = (chosen.shipped + chosen.journal.size()) // 2
            chosen.shipped = chosen.objects.upload(chosen.shipped, half, chosen.epoch)
        elif how is not How.UNSHIPPED:
            chosen.ship()
            self.safe.update(chosen.appended)
        if how is How.COMPACTED:
            chosen.objects.compact(chosen.journal.size(), chosen.epoch)
        elif how is How.UNNOTED:
            chosen.objects.note_shipped(noted)
        if how is not How.CUT_OFF:
            chosen.close()
        if how is How.LOST:
            shutil.rmtree(chosen.objects.path.parent)
            self.lost.update(chosen.appended)
            chosen.appended.clear()

    def check(self) -> None:
        """What a machine has written is on it, once, whatever it took over from the store."""
        for each in self.writers:
            found = rows(each.objects.path)
            assert len(found) == len(set(found))
            assert set(each.appended) <= set(found)

    def end(self, elsewhere: Path) -> None:
        """Every machine that is left opens the journal once more: then all of it is in the store."""
        for each in self.writers * 2:
            if each.journal is not None:
                each.close()
            each.open()
            each.ship()
            each.close()
        reader = SliceObjects(self.store, "r1/journal/0000", elsewhere / "0000.jsonl")
        reader.catch_up(reader.listing().segments)
        found = rows(reader.path)
        assert len(found) == len(set(found))
        assert (set(range(self.row)) - self.lost) | self.safe <= set(found)


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(1, 3), st.sampled_from(How), st.booleans()), max_size=8))
def test_machines_in_turn_lose_nothing_and_have_nothing_twice(sessions: list[tuple[int, int, How, bool]]) -> None:
    """Whatever is killed, cut off or lost in between; somebody reads now and then."""
    with tempfile.TemporaryDirectory() as folder:
        machines = Machines(Path(folder))
        for number, count, how, is_read in sessions:
            machines.session(machines.writers[number], count, how)
            reader = machines.writers[1 - number]
            if is_read and reader.journal is None:
                reader.objects.catch_up(reader.objects.listing().segments)
            machines.check()
        machines.end(Path(folder) / "elsewhere")
