"""A slice's journal: nothing whole is ever lost, nothing torn is ever believed."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_llm.errors import JournalBusy, JournalError, JournalFull
from batch_llm.journal.base import Entry, EntryKind
from batch_llm.journal.local import LocalJournal, read_journal

NOW = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)


def answer(row: int, body: bytes) -> Entry:
    return Entry(EntryKind.ANSWER, row, 1, NOW, "ab" * 16, body, 0.25, detail={"provider": "simulator"})


def bodies(path: Path) -> list[bytes]:
    return [entry.body for entry in read_journal(path)]


def test_an_entry_comes_back_as_it_went_in(tmp_path: Path) -> None:
    """Every field, and the body byte for byte, newlines and all."""
    journal = LocalJournal(tmp_path / "0000.jsonl")
    place = journal.append(answer(7, b'{"a": "\n\xff\x00"}'))
    journal.close()
    (entry,) = read_journal(tmp_path / "0000.jsonl")
    assert entry.place == place
    assert (entry.kind, entry.row, entry.attempt, entry.at) == (EntryKind.ANSWER, 7, 1, NOW)
    assert (entry.request_hash, entry.body, entry.latency_s) == ("ab" * 16, b'{"a": "\n\xff\x00"}', 0.25)
    assert entry.detail == {"provider": "simulator"}


def test_a_body_is_found_again_by_its_place(tmp_path: Path) -> None:
    """What publishing relies on."""
    journal = LocalJournal(tmp_path / "0000.jsonl")
    places = [journal.append(answer(row, b"x" * row)) for row in range(5)]
    assert [entry.body for entry in journal.entries_at(places)] == [b"x" * row for row in range(5)]
    assert [entry.row for entry in journal.entries_at(places[::-1])] == [4, 3, 2, 1, 0]
    with pytest.raises(JournalError, match="no whole entry"):
        journal.entries_at([places[1] + 3])
    journal.close()


@given(st.lists(st.binary(max_size=200), min_size=1, max_size=8), st.data())
def test_a_tail_torn_anywhere_costs_only_itself(
    tmp_path_factory: pytest.TempPathFactory, written: list[bytes], data: st.DataObject
) -> None:
    """Cut the file at any byte: all entries before the cut stay, the torn one is gone, and writing goes on."""
    path = tmp_path_factory.mktemp("journal") / "0000.jsonl"
    journal = LocalJournal(path)
    ends = []
    for row, body in enumerate(written):
        journal.append(answer(row, body))
        ends.append(journal.size())
    journal.close()
    cut = data.draw(st.integers(0, path.stat().st_size))
    os.truncate(path, cut)
    whole = [body for body, end in zip(written, ends, strict=True) if end <= cut]
    assert bodies(path) == whole
    journal = LocalJournal(path)
    journal.append(answer(99, b"after"))
    journal.close()
    only_its_line_end_is_gone = next((body for body, end in zip(written, ends, strict=True) if end == cut + 1), None)
    healed = [] if only_its_line_end_is_gone is None else [only_its_line_end_is_gone]  # whole again, checksum and all
    assert bodies(path) == [*whole, *healed, b"after"]


@given(st.lists(st.binary(max_size=100), min_size=2, max_size=6), st.data())
def test_a_damaged_byte_costs_at_most_its_own_entry(
    tmp_path_factory: pytest.TempPathFactory, written: list[bytes], data: st.DataObject
) -> None:
    """Flip any byte: nothing wrong is believed, and every other entry is still read."""
    path = tmp_path_factory.mktemp("journal") / "0000.jsonl"
    journal = LocalJournal(path)
    places = [journal.append(answer(row, body)) for row, body in enumerate(written)]
    journal.close()
    content = bytearray(path.read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= data.draw(st.integers(1, 255))
    path.write_bytes(bytes(content))
    hit = max(number for number, place in enumerate(places) if place <= at)
    found = {entry.row: entry.body for entry in read_journal(path)}
    assert all(found[row] == written[row] for row in found)
    assert set(range(len(written))) - {hit} <= set(found)


def test_a_second_writer_is_turned_away(tmp_path: Path) -> None:
    """Two processes never write one slice's journal."""
    journal = LocalJournal(tmp_path / "run" / "journal" / "0000.jsonl")
    with pytest.raises(JournalBusy, match=rf"slice \d+ of run .* is being worked on by process {os.getpid()}$"):
        LocalJournal(tmp_path / "run" / "journal" / "0000.jsonl")
    journal.close()
    LocalJournal(tmp_path / "run" / "journal" / "0000.jsonl").close()


def test_a_full_disk_leaves_no_half_entry(tmp_path: Path) -> None:
    """The write that does not fit is refused in plain words; what came before is whole, and writing can go on."""
    path = tmp_path / "0000.jsonl"
    journal = LocalJournal(path)
    journal.append(answer(0, b"fits"))
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (journal.size() + 100, hard))
    try:
        with pytest.raises(JournalFull, match="every answer before this one is stored"):
            journal.append(answer(1, b"x" * 1000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    journal.append(answer(2, b"later"))
    journal.close()
    assert bodies(path) == [b"fits", b"later"]


def test_kill_9_loses_nothing_that_was_appended(tmp_path: Path) -> None:
    """A writer killed right after `append` returned: every acknowledged entry is there."""
    path = tmp_path / "0000.jsonl"
    code = (
        "import sys; from pathlib import Path\n"
        "from batch_llm.journal.base import Entry, EntryKind\n"
        "from batch_llm.journal.local import LocalJournal\n"
        "journal = LocalJournal(Path(sys.argv[1]))\n"
        "for row in range(10**6):\n"
        "    journal.append(Entry(EntryKind.ANSWER, row, 1, body=b'x' * 500))\n"
        "    print(row, flush=True)\n"
    )
    writer = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    acknowledged = -1
    for line in writer.stdout:
        acknowledged = int(line)
        if acknowledged == 300:
            writer.kill()
            break
    rest = writer.stdout.read().split("\n")
    writer.stdout.close()
    writer.wait()
    acknowledged = max([acknowledged, *(int(line) for line in rest[:-1] if line)])
    assert [entry.row for entry in read_journal(path)][: acknowledged + 1] == list(range(acknowledged + 1))


def test_damage_in_the_middle_is_told_once_and_a_torn_tail_is_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "0000.jsonl"
    journal = LocalJournal(path)
    for row in range(3):
        journal.append(answer(row, b"body"))
    journal.close()
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:40])  # a writer was killed here
    journal = LocalJournal(path)
    journal.append(answer(3, b"more"))
    assert len(list(journal.replay())) == 4 and not caplog.records
    journal.close()
    path.write_bytes(path.read_bytes().replace(b"body", b"bady", 1))
    journal = LocalJournal(path)
    assert [len(list(journal.replay())) for _ in range(2)] == [3, 3]
    (record,) = caplog.records
    assert "skipped (1)" in record.message and str(path) in record.message
    journal.close()


def test_a_damaged_length_is_not_believed(tmp_path: Path) -> None:
    """Nobody has a terabyte of memory; the entries around it are read."""
    path = tmp_path / "0000.jsonl"
    journal = LocalJournal(path)
    journal.append(answer(0, b"before"))
    journal.close()
    with path.open("ab") as file:
        file.write(b"12345678 9999999999 999999999999 x\n12345678 99999999999999999999 9 x\n")
    journal = LocalJournal(path)
    journal.append(answer(1, b"after"))
    assert [entry.body for entry in journal.replay()] == [b"before", b"after"] == bodies(path)
    journal.close()
