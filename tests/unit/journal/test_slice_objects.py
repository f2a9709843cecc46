"""A slice's copy on a machine and its objects in the store: nothing is lost, nothing is there twice."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from batch_llm.errors import JournalFull
from batch_llm.journal.local import LocalJournal, read_journal
from batch_llm.journal.object_store import ObjectStore
from batch_llm.journal.segments import Segment, chain_end
from batch_llm.journal.slice_objects import SliceObjects
from tests.unit.journal.slice_lab import answer, memory, writer


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


def changed(store: ObjectStore, segment: Segment, place: int, data: bytes = b"?") -> None:
    """Other bytes from a place on in a segment's object, which keeps its name and length."""
    name = f"r1/journal/0000/{segment.name}"
    held = store.get(name)
    assert held is not None and held[place : place + len(data)] != data
    store.put(name, held[:place] + data + held[place + len(data) :])


@pytest.mark.parametrize("is_compacted", [False, True])
def test_a_damaged_object_costs_the_entries_that_it_damages(
    tmp_path: Path, is_compacted: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Not what stands behind them, in this object or later ones, now or when somebody has gone on writing."""
    store = memory()
    first = writer(store, tmp_path / "a")
    first.open()
    for row in range(4):
        first.append(row)
        first.ship()
    if is_compacted:
        assert first.journal is not None
        first.objects.compact(first.journal.size(), first.epoch)
    first.close()
    damaged = first.objects.listing().segments[0]
    changed(store, damaged, 50)
    second, third = writer(store, tmp_path / "b"), writer(store, tmp_path / "c")
    second.open()
    assert rows(second.objects.path) == [1, 2, 3]
    assert damaged.name in caplog.text and "is damaged" in caplog.text
    second.append(0)
    second.ship()
    second.close()
    third.open()
    assert rows(third.objects.path) == [1, 2, 3, 0]
    third.close()


def test_an_object_that_ends_too_early_ends_what_is_rebuilt(tmp_path: Path) -> None:
    """It was listed whole: bytes are missing, and where later ones belong nobody knows."""
    store = memory()
    first = writer(store, tmp_path / "a")
    first.open()
    for row in range(3):
        first.append(row)
        first.ship()
    first.close()
    segments = first.objects.listing().segments
    store.put(f"r1/journal/0000/{segments[1].name}", b"?")
    second = SliceObjects(store, "r1/journal/0000", tmp_path / "b" / "0000.jsonl")
    assert second.catch_up(segments).size == segments[0].end
    assert rows(second.path) == [0]


def test_a_machine_with_the_right_bytes_ships_them_again(tmp_path: Path) -> None:
    """Others took over what was damaged and wrote it anew; what is whole there is not there twice."""
    store = memory()
    first, second = writer(store, tmp_path / "a"), writer(store, tmp_path / "b")
    first.open()
    for row in range(3):
        first.append(row)
        first.ship()
    first.close()
    changed(store, first.objects.listing().segments[1], 50)
    second.open()
    second.append(7)
    second.ship()
    assert second.journal is not None
    second.objects.compact(second.journal.size(), second.epoch)
    second.close()
    first.open()
    assert rows(first.objects.path) == [0, 2, 7, 1]
    first.ship()
    first.close()
    second.open()
    assert rows(second.objects.path) == [0, 2, 7, 1]
    second.close()


def test_damage_hides_no_answer_that_only_one_machine_has(tmp_path: Path) -> None:
    """Where the store is damaged, a machine has other answers, never shipped: both are kept."""
    store = memory()
    first, second = writer(store, tmp_path / "a"), writer(store, tmp_path / "b")
    first.open()
    first.append(0)
    first.ship()
    assert first.journal is not None
    first.journal.append(answer(10, b"x" * 200))
    first.close()
    second.open()
    for row in (1, 2, 3):
        second.append(row)
    second.ship()
    second.close()
    changed(store, second.objects.listing().segments[1], 50)
    first.open()
    assert rows(first.objects.path) == [0, 2, 3, 10]
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


@pytest.mark.parametrize("has_more", [False, True])
def test_a_disk_that_gets_full_takes_no_part_for_the_whole(
    tmp_path: Path, has_more: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever it stops: the user hears it, nothing that is missing here counts as shipped, and it goes on later."""
    store = memory()
    first, second = writer(store, tmp_path / "a"), writer(store, tmp_path / "b")
    first.open()
    first.append(*range(4))
    first.ship()
    first.close()
    if has_more:
        journal = LocalJournal(second.objects.path)
        journal.append(answer(9))
        journal.close()
    room, write = 0, os.write

    def written(file: int, data: bytes) -> int:
        nonlocal room
        if not room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        done = write(file, data[:room])
        room -= done
        return done

    segments = second.objects.listing().segments
    needed = 2 * segments[-1].end + (
        second.objects.path.stat().st_size if has_more else 0
    )  # fetched, then put in place
    monkeypatch.setattr(os, "write", written)
    for each in range(0, needed, 37):
        room = each
        with pytest.raises(JournalFull, match="Free some space"):
            second.objects.catch_up(segments)
        assert second.objects.shipped().size == 0
        assert not has_more or 9 in rows(second.objects.path)
        if not has_more:
            second.objects.path.unlink(missing_ok=True)  # else it needs less and less
    room = needed
    second.objects.catch_up(segments)
    assert rows(second.objects.path) == [0, 1, 2, 3, *([9] if has_more else [])]
    assert sorted(each.suffix for each in second.objects.path.parent.iterdir()) == [".jsonl", ".shipped"] + (
        [".worker"] if has_more else []
    )


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
