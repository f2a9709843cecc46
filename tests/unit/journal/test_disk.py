"""A full disk: what is paid is stored on the room that was kept for it, and the user hears what to do."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from batch_llm.errors import JournalError, JournalFull
from batch_llm.journal.base import Entry, EntryKind
from batch_llm.journal.disk import Reserve, disk_error
from batch_llm.journal.local import LocalJournal, read_journal
from batch_llm.journal.runs import LocalRunStore

RESERVE = 1_000_000


class Disk:
    """The disk of this test: so many bytes are left, and whoever wants more gets less, then an error."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
        self.room = room
        self._write, self._truncate, self._allocate = os.write, os.ftruncate, os.posix_fallocate
        monkeypatch.setattr(os, "write", self.write)
        monkeypatch.setattr(os, "ftruncate", self.truncate)
        monkeypatch.setattr(os, "posix_fallocate", self.allocate)

    def write(self, file: int, data: bytes) -> int:
        if data and not self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = self._write(file, data[: self.room])
        self.room -= written
        return written

    def truncate(self, file: int, size: int) -> None:
        before = os.fstat(file).st_size
        self._truncate(file, size)
        self.room += before - size

    def allocate(self, file: int, offset: int, size: int) -> None:
        if size > self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._allocate(file, offset, size)
        self.room -= size


def answer(row: int, size: int = 2_000) -> Entry:
    return Entry(EntryKind.ANSWER, row, 1, body=b"x" * size)


def rows(path: Path) -> list[int]:
    return [entry.row for entry in read_journal(path)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "r1" / "journal" / "0000.jsonl"


def test_answers_in_flight_are_stored_when_the_disk_is_full(
    tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And whoever writes them hears that nothing more is to be asked; an intent is refused."""
    disk = Disk(monkeypatch, RESERVE + 5_000)
    journal = LocalJournal(path, Reserve(tmp_path, RESERVE))
    for row in range(2):
        journal.append(answer(row))
        assert journal.failure is None
    for row in range(2, 40):
        disk.room = 0 if row % 2 else disk.room  # somebody else takes what is free
        journal.append(answer(row))
    assert isinstance(journal.failure, JournalFull)
    assert "every answer that came is stored. Free some space and run the job again" in str(journal.failure)
    size = journal.size()
    with pytest.raises(JournalFull):
        journal.append(Entry(EntryKind.SENT, 40, 1, detail={"held_usd": "1"}))
    assert journal.size() == size == path.stat().st_size
    journal.close()
    assert rows(path) == list(range(40))


def test_an_intent_takes_nothing_of_the_reserve(tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its call is not made."""
    disk = Disk(monkeypatch, RESERVE)
    journal = LocalJournal(path, Reserve(tmp_path, RESERVE))
    disk.room = 0
    with pytest.raises(JournalFull, match="every answer before this one is stored"):
        journal.append(Entry(EntryKind.SENT, 0, 1, detail={"held_usd": "1"}))
    assert (disk.room, journal.failure) == (0, None)
    journal.append(answer(1))
    journal.close()
    assert rows(path) == [1]


def test_when_even_the_reserve_is_gone_nothing_is_left_behind(
    tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch, RESERVE)
    journal = LocalJournal(path, Reserve(tmp_path, RESERVE))
    disk.room = 0
    for row in range(20):
        journal.append(answer(row, 30_000))
    with pytest.raises(JournalFull, match="every answer before this one is stored"):
        journal.append(answer(20, 2 * RESERVE))
    disk.room = RESERVE
    journal.append(answer(21))
    journal.close()
    assert rows(path) == [*range(20), 21]


def test_the_reserve_is_given_back_with_the_last_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all that a process has open there is one, without a name; the next ones have it set aside again."""
    disk = Disk(monkeypatch, 10 * RESERVE)
    store = LocalRunStore(tmp_path)
    store._reserve = Reserve(tmp_path, RESERVE)
    for _ in range(2):
        first, second = store.journal("r1", 0), store.journal("r1", 1)
        assert disk.room == 9 * RESERVE
        assert [each.name for each in tmp_path.iterdir()] == ["r1"]
        first.close()
        first.close()
        assert disk.room == 9 * RESERVE
        second.close()
        assert disk.room == 10 * RESERVE


@pytest.mark.parametrize("why", [errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSPC, errno.EDQUOT])
def test_without_room_or_support_it_goes_on_without(
    tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch, why: int
) -> None:
    disk = Disk(monkeypatch, 5_000)

    def refused(file: int, offset: int, size: int) -> None:
        raise OSError(why, os.strerror(why))

    monkeypatch.setattr(os, "posix_fallocate", refused)
    journal = LocalJournal(path, Reserve(tmp_path))
    journal.append(answer(0))
    disk.room = 0
    with pytest.raises(JournalFull):
        journal.append(answer(1))
    journal.close()
    assert rows(path) == [0]
    assert [each.name for each in tmp_path.iterdir()] == ["r1"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_told_with_what_to_do(tmp_path: Path, code: int) -> None:
    error = disk_error(OSError(code, "x"), "save it", tmp_path, "all is kept")
    assert isinstance(error, JournalFull)
    assert f"the disk of {tmp_path} is full; all is kept. Free some space and run the job again" in str(error)
    other = disk_error(OSError(errno.EACCES, "Permission denied"), "save it", tmp_path, "all is kept")
    assert type(other) is JournalError and str(other) == f"cannot save it in {tmp_path}: Permission denied"
