"""What two copies of one journal have in common, and what only one of them has."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from batch_llm.journal.entry_bytes import common, copy, only_ours
from batch_llm.journal.local import LocalJournal, read_journal
from tests.unit.journal.slice_lab import answer


def journal(path: Path, *rows: int) -> list[int]:
    """A journal with answers to these rows; where each begins, and the end."""
    opened = LocalJournal(path)
    places = [opened.append(answer(row, b"x" * 20)) for row in rows]
    opened.close()
    return [*places, path.stat().st_size]


@contextmanager
def both(folder: Path) -> Iterator[tuple[int, int]]:
    with (folder / "ours").open("r+b") as ours, (folder / "theirs").open("r+b") as theirs:
        yield ours.fileno(), theirs.fileno()


def found(folder: Path, begin: int = 0) -> list[tuple[int, int]]:
    """What only we have, when the other file holds the journal from ``begin`` on."""
    with both(folder) as (ours, theirs):
        return list(only_ours(ours, begin + common(ours, begin, theirs), theirs, begin))


def test_what_stands_in_the_same_place_is_not_only_ours(tmp_path: Path) -> None:
    """A damaged byte on either side ends nothing but its entry."""
    places = journal(tmp_path / "ours", 0, 1, 2, 3)
    journal(tmp_path / "theirs", 0, 1, 2, 3)
    with both(tmp_path) as (ours, theirs):
        os.pwrite(theirs, b"?", places[1] + 30)
        os.pwrite(ours, b"?", places[2] + 30)
    assert found(tmp_path) == [(places[1], places[2]), (places[2], places[3])]
    with both(tmp_path) as (ours, theirs):
        os.pwrite(theirs, b"?", places[1] - 1)  # an end of line: its entry is whole all the same
    assert found(tmp_path) == [(places[1], places[2]), (places[2], places[3])]


def test_an_entry_behind_a_damaged_end_of_line_is_shipped_again(tmp_path: Path) -> None:
    """Behind a torn one nobody would find it there."""
    for name in ("ours", "theirs"):
        journal(tmp_path / name, 0)
        os.truncate(tmp_path / name, 40)
        places = journal(tmp_path / name, 1, 2)
    with both(tmp_path) as (_, theirs):
        os.pwrite(theirs, b"?", 40)
    assert found(tmp_path) == [(places[0], places[1])]


def test_other_entries_in_the_same_place_are_only_ours(tmp_path: Path) -> None:
    places = journal(tmp_path / "ours", 0, 1, 2)
    journal(tmp_path / "theirs", 0, 3, 4, 5)
    assert found(tmp_path) == [(places[1], places[2]), (places[2], places[3])]


def test_the_other_file_may_begin_later(tmp_path: Path) -> None:
    places = journal(tmp_path / "ours", 0, 1, 2)
    journal(tmp_path / "whole", 0, 3, 2)
    (tmp_path / "theirs").write_bytes((tmp_path / "whole").read_bytes()[places[1] :])
    assert found(tmp_path, places[1]) == [(places[1], places[2])]


def test_an_entry_without_its_end_of_line_is_kept_behind_others(tmp_path: Path) -> None:
    """The next writer makes it whole again."""
    places = journal(tmp_path / "ours", 0, 1, 2)
    journal(tmp_path / "theirs", 0, 3)
    os.truncate(tmp_path / "ours", places[3] - 1)
    assert found(tmp_path) == [(places[1], places[2]), (places[2], places[3] - 1)]


def test_a_damaged_length_is_not_believed(tmp_path: Path) -> None:
    """Nobody has a terabyte of memory."""
    places = journal(tmp_path / "ours", 0, 1)
    journal(tmp_path / "theirs", 0)
    with (tmp_path / "ours").open("ab") as file:
        file.write(b"12345678 9999999999 999999999999 x\n12345678 99999999999999999999 9 x\n")
    assert found(tmp_path)[0] == (places[1], places[2])


def test_a_range_is_copied_to_where_the_other_file_stands(tmp_path: Path) -> None:
    places = journal(tmp_path / "ours", 0, 1, 2)
    (tmp_path / "theirs").touch()
    with both(tmp_path) as (ours, theirs):
        copy(ours, places[1], places[3], theirs)
        copy(ours, places[0], places[1], theirs)
    assert [entry.row for entry in read_journal(tmp_path / "theirs")] == [1, 2, 0]
