"""Machines that write one slice in turn, whatever happens to them: nothing is lost, nothing is there twice."""

from __future__ import annotations

import shutil
import tempfile
from enum import StrEnum
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from batch_llm.journal.local import read_journal
from batch_llm.journal.slice_objects import SliceObjects
from tests.unit.journal.slice_lab import Writer, answer, memory, writer


def rows(path: Path) -> list[int]:
    return [entry.row for entry in read_journal(path)]


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
        self.is_damaged = False

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

    def damage(self, where: float) -> None:
        """One byte of the store is another one from now on; ``where``: 0 to 1."""
        segments = self.writers[0].objects.listing().segments
        if segments:
            segment = segments[int(where * len(segments))]
            name = f"r1/journal/0000/{segment.name}"
            held = bytearray(self.store.get(name) or b"")
            held[int(where * 7919) % len(held)] ^= 1
            self.store.put(name, bytes(held))
            self.is_damaged = True

    def read(self, folder: Path) -> list[int]:
        """The rows that a machine without anything finds in the store."""
        shutil.rmtree(folder, ignore_errors=True)
        reader = SliceObjects(self.store, "r1/journal/0000", folder / "0000.jsonl")
        reader.catch_up(reader.listing().segments)
        return rows(reader.path)

    def check(self) -> None:
        """What a machine has written is on it, once, whatever it took over from the store."""
        for each in self.writers:
            found = rows(each.objects.path)
            assert len(found) - len(set(found)) <= self.is_damaged
            assert set(each.appended) <= set(found)

    def end(self, elsewhere: Path) -> None:
        """Every machine that is left opens the journal once more: then all of it is in the store."""
        for each in self.writers * 2:
            if each.journal is not None:
                each.close()
            each.open()
            each.ship()
            each.close()
        found = self.read(elsewhere)
        assert len(found) - len(set(found)) <= self.is_damaged
        assert len(((set(range(self.row)) - self.lost) | self.safe) - set(found)) <= self.is_damaged


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(1, 3), st.sampled_from(How), st.booleans()), max_size=8))
def test_machines_in_turn_lose_nothing_and_have_nothing_twice(sessions: list[tuple[int, int, How, bool]]) -> None:
    """Whatever is killed, cut off or lost in between; somebody reads now and then."""
    in_turn(sessions, None)


@given(
    st.lists(st.tuples(st.integers(0, 1), st.integers(1, 3), st.sampled_from(How), st.booleans()), max_size=6),
    st.tuples(st.integers(0, 5), st.floats(0, 1, exclude_max=True)),
)
def test_a_damaged_byte_in_the_store_costs_one_entry_at_most(
    sessions: list[tuple[int, int, How, bool]], damaged: tuple[int, float]
) -> None:
    """Whoever goes on with it, whatever else happens. And only that one may be there twice: shipped again, it reaches a
    machine that has it whole in its place.
    """
    in_turn(sessions, damaged)


def in_turn(sessions: list[tuple[int, int, How, bool]], damaged: tuple[int, float] | None) -> None:
    """Play these sessions; after the one with the number ``damaged``, a byte in the store changes."""
    with tempfile.TemporaryDirectory() as folder:
        machines = Machines(Path(folder))
        for session, (number, count, how, is_read) in enumerate(sessions):
            machines.session(machines.writers[number], count, how)
            if damaged is not None and damaged[0] == session:
                machines.damage(damaged[1])
            reader = machines.writers[1 - number]
            if is_read and reader.journal is None:
                reader.objects.catch_up(reader.objects.listing().segments)
            machines.check()
        machines.end(Path(folder) / "elsewhere")
