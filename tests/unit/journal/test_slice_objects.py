"""A slice's copy on a machine and its objects in the store: nothing is lost, nothing is there twice."""

from __future__ import annotations

import shutil
import tempfile
import uuid
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from batch_llm.journal.base import Entry, EntryKind
from batch_llm.journal.local import LocalJournal, read_journal
from batch_llm.journal.object_store import ObjectStore
from batch_llm.journal.segments import chain_end, newest_epoch
from batch_llm.journal.slice_objects import SliceObjects


def memory() -> ObjectStore:
    return ObjectStore(f"memory://{uuid.uuid4().hex}")


def answer(row: int, body: bytes = b"{}\n") -> Entry:
    return Entry(EntryKind.ANSWER, row, 1, body=body)


def rows(path: Path) -> list[int]:
    return [entry.row for entry in read_journal(path)]


@dataclass
class Writer:
    """One machine's writer, without leases: a test says when it has lost its own."""

    objects: SliceObjects
    epoch: int = 0
    journal: LocalJournal | None = None
    shipped: int = 0
    appended: list[int] = field(default_factory=list)

    def open(self) -> None:
        segments = self.objects.listing().segments
        self.epoch = newest_epoch(segments) + 1
        self.shipped = self.objects.catch_up(segments).size
        self.journal = LocalJournal(self.objects.path)

    def ship(self) -> None:
        assert self.journal is not None
        while self.shipped < self.journal.size():
            self.shipped = self.objects.upload(self.shipped, self.journal.size(), self.epoch)

    def close(self) -> None:
        assert self.journal is not None
        self.journal.close()
        self.journal = None


def writer(store: ObjectStore, folder: Path) -> Writer:
    return Writer(SliceObjects(store, "r1/journal/0000", folder / "0000.jsonl"))


def test_another_machine_goes_on_where_the_first_was(tmp_path: Path) -> None:
    store = memory()
    first, second = writer(store, tmp_path / "a"), writer(store, tmp_path / "b")
    first.open()
    assert first.journal is not None
    first.journal.append(answer(0))
    first.ship()
    first.close()
    second.open()
    assert second.journal is not None
    second.journal.append(answer(1))
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
    assert first.journal is not None
    first.journal.append(answer(0))
    first.ship()
    first.journal.append(answer(1))
    first.close()
    second.open()
    assert second.journal is not None
    second.journal.append(answer(2))
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
    assert stale.journal is not None
    stale.journal.append(answer(0))
    stale.ship()
    later.open()
    assert later.journal is not None
    stale.journal.append(answer(1))
    stale.ship()
    later.journal.append(answer(2))
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
    assert first.journal is not None
    for row in range(3):
        first.journal.append(answer(row))
        first.ship()
    first.close()
    damaged = first.objects.listing().segments[1]
    store.put(f"r1/journal/0000/{damaged.name}", b"?" * (damaged.end - damaged.start))
    second = writer(store, tmp_path / "b")
    second.open()
    assert rows(second.objects.path) == [0]
    assert second.journal is not None
    second.journal.append(answer(7))
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
    first.journal.append(answer(0))
    first.journal.append(answer(1, b"x" * 500))
    first.shipped = first.objects.upload(0, first.journal.size() - 100, first.epoch)
    first.close()
    second = writer(store, tmp_path / "b")
    second.open()
    assert second.journal is not None
    second.journal.append(answer(2))
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
        first.journal.append(answer(row))
        first.ship()
    first.objects.compact(first.journal.size(), first.epoch)
    assert [(each.start, each.end) for each in first.objects.listing().segments] == [(0, first.journal.size())]
    first.journal.append(answer(5))
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
        first.journal.append(answer(row))
        first.ship()
    size = first.journal.size()
    first.journal.append(answer(3))
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


class Machines(RuleBasedStateMachine):
    """Machines that write one slice in turn, are killed, cut off, lost; and what must be true of it."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.store = memory()
        self.writers = [writer(self.store, self.folder / name) for name in "abc"]
        self.holder: Writer | None = None  # of the lease
        self.row = 0
        self.lost: set[int] = set()  # rows of machines that were lost
        self.safe: set[int] = set()  # rows that were in the store while their writer had the lease

    def teardown(self) -> None:
        for each in self.writers:
            if each.journal is not None:
                each.close()
        shutil.rmtree(self.folder)

    @precondition(lambda self: self.holder is None)
    @rule(number=st.integers(0, 2))
    def open(self, number: int) -> None:
        chosen = self.writers[number]
        if chosen.journal is not None:  # it lost its lease and goes on: it has to notice first
            chosen.close()
        chosen.open()
        self.holder = chosen

    @rule(number=st.integers(0, 2), body=st.binary(max_size=40))
    def append(self, number: int, body: bytes) -> None:
        chosen = self.writers[number]
        if chosen.journal is not None:
            chosen.journal.append(answer(self.row, body))
            chosen.appended.append(self.row)
            self.row += 1

    @rule(number=st.integers(0, 2), part=st.sampled_from([1.0, 0.5]), noted=st.booleans())
    def ship(self, number: int, part: float, noted: bool) -> None:
        chosen = self.writers[number]
        if chosen.journal is None or chosen.shipped == chosen.journal.size():
            return
        before = chosen.objects.shipped()
        end = max(chosen.shipped + 1, int(chosen.shipped + (chosen.journal.size() - chosen.shipped) * part))
        chosen.shipped = chosen.objects.upload(chosen.shipped, end, chosen.epoch)
        if self.holder is chosen and chosen.shipped == chosen.journal.size():
            self.safe.update(chosen.appended)
        if not noted:  # killed between the upload and the note
            chosen.objects.note_shipped(before)
            chosen.close()
            self.holder = None if self.holder is chosen else self.holder

    @precondition(lambda self: self.holder is not None)
    @rule()
    def lose_the_lease(self) -> None:
        """It does not notice."""
        self.holder = None

    @precondition(lambda self: self.holder is not None)
    @rule()
    def compact(self) -> None:
        assert self.holder is not None and self.holder.journal is not None
        self.holder.ship()
        if self.holder.journal.size():
            self.holder.objects.compact(self.holder.journal.size(), self.holder.epoch)

    @rule(number=st.integers(0, 2))
    def kill(self, number: int) -> None:
        chosen = self.writers[number]
        if chosen.journal is not None:
            chosen.close()
            self.holder = None if self.holder is chosen else self.holder

    @rule(number=st.integers(0, 2))
    def lose_the_machine(self, number: int) -> None:
        chosen = self.writers[number]
        self.kill(number)
        shutil.rmtree(chosen.objects.path.parent, ignore_errors=True)
        self.lost.update(chosen.appended)
        chosen.appended.clear()

    @rule(number=st.integers(0, 2))
    def read(self, number: int) -> None:
        chosen = self.writers[number]
        if chosen.journal is None:
            chosen.objects.catch_up(chosen.objects.listing().segments)

    @invariant()
    def nothing_on_a_machine_is_lost_or_twice(self) -> None:
        for each in self.writers:
            found = rows(each.objects.path)
            assert len(found) == len(set(found))
            assert set(each.appended) <= set(found)

    @invariant()
    def the_end_of_it_all(self) -> None:
        """Every machine that is left opens the journal once more: then all of it is in the store."""
        if self.row % 7 != 6:
            return
        for each in self.writers:
            if each.journal is not None:
                each.close()
        self.holder = None
        for each in self.writers:
            each.open()
            each.ship()
            each.close()
        with tempfile.TemporaryDirectory() as elsewhere:
            reader = writer(self.store, Path(elsewhere))
            reader.open()
            found = rows(reader.objects.path)
            reader.close()
        assert len(found) == len(set(found))
        assert (set(range(self.row)) - self.lost) | self.safe <= set(found)


Machines.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestMachines = Machines.TestCase
