"""Entries that point to the answer of an equal row: never another answer, whatever happened to the file."""

from __future__ import annotations

import tempfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_llm.errors import JournalError
from batch_llm.journal.base import POINTER, Entry, EntryKind
from batch_llm.journal.local import LocalJournal, read_entries, read_journal
from tests.unit.journal.slice_lab import Writer, memory, writer

ANSWER, CACHED = EntryKind.ANSWER, EntryKind.CACHED


def text(question: int) -> bytes:
    return b'{"text": "the answer to %d"}' % question


def answer(row: int, question: int) -> Entry:
    return Entry(ANSWER, row, 1, request_hash=f"{question:032x}", body=text(question))


def twin(row: int, question: int, place: int) -> Entry:
    return Entry(CACHED, row, request_hash=f"{question:032x}", detail={POINTER: place})


def told(path: Path) -> dict[int, bytes]:
    """row: the answer that the journal has for it."""
    return {entry.row: entry.body for entry in read_journal(path)}


def test_an_entry_that_points_has_the_answers_body(tmp_path: Path) -> None:
    """However it is read, and without a copy of it in the file."""
    path = tmp_path / "0000.jsonl"
    journal = LocalJournal(path)
    place = journal.append(answer(0, 5))
    pointing = journal.append(twin(1, 5, place))
    assert told(path) == {0: text(5), 1: text(5)}
    assert [entry.body for entry in journal.entries_at([pointing, place])] == [text(5)] * 2
    (entry,) = read_entries(path, [pointing])
    assert entry is not None and entry.body == text(5)
    assert path.read_bytes().count(text(5)) == 1
    journal.close()


@pytest.mark.parametrize("damage", ["another request", "another kind", "no entry", "damaged"])
def test_an_entry_that_points_to_no_answer_of_its_own_is_skipped(tmp_path: Path, damage: str) -> None:
    """Its row is as if it had never been noted: it is asked, or gets an equal row's answer."""
    path = tmp_path / "0000.jsonl"
    journal = LocalJournal(path)
    first = journal.append(answer(0, 5))
    other = journal.append(answer(1, 6))
    cached = journal.append(twin(2, 5, first))
    place = {"another request": other, "another kind": cached, "no entry": first + 1, "damaged": first}[damage]
    pointing = journal.append(twin(3, 5, place))
    if damage == "damaged":
        content = bytearray(path.read_bytes())
        content[content.index(b"answer to 5")] ^= 1
        path.write_bytes(bytes(content))
    assert 3 not in told(path)
    assert read_entries(path, [pointing]) == [None]
    with pytest.raises(JournalError, match=f"no whole entry at byte {pointing}"):
        journal.entries_at([pointing])
    journal.close()


def test_an_entry_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    """It does not say where it was written."""
    path = tmp_path / "0000.jsonl"
    journal = LocalJournal(path)
    place = journal.append(answer(0, 5))
    journal.close()
    said = {"kind": "cached", "row": 1, "attempt": 0, "at": None, "hash": f"{5:032x}", "latency_s": 0.0}
    head = orjson.dumps({**said, "detail": {"place": place}})
    rest = b"%d 0 %b" % (len(head), head)
    with path.open("ab") as file:
        file.write(b"%08x %b\n" % (zlib.crc32(rest), rest))
    assert told(path) == {0: text(5), 1: text(5)}


def test_what_is_put_behind_the_entries_of_others_points_as_before(tmp_path: Path) -> None:
    """A machine was away with entries that nobody else had: their places change, their answers do not."""
    store = memory()
    first, second = writer(store, tmp_path / "a"), writer(store, tmp_path / "b")
    first.open()
    assert first.journal is not None
    shared = first.journal.append(answer(0, 0))
    first.ship()
    first.journal.append(twin(1, 0, shared))  # to what is in the store
    own = first.journal.append(answer(2, 2))
    first.journal.append(twin(3, 2, own))
    first.close()
    second.open()
    assert second.journal is not None
    second.journal.append(answer(4, 4))
    second.ship()
    second.close()
    first.open()
    assert told(first.objects.path) == {0: text(0), 1: text(0), 2: text(2), 3: text(2), 4: text(4)}
    first.close()


@dataclass
class Asker:
    """A machine that asks questions and gives equal rows the answer that it knows the place of."""

    writer: Writer
    places: dict[int, int] = field(default_factory=dict)  # question: its answer in this opening of the journal

    def open(self) -> None:
        self.writer.open()
        self.places = {
            int(entry.request_hash, 16): entry.place
            for entry in read_journal(self.writer.objects.path)
            if entry.kind is ANSWER
        }

    def ask(self, row: int, question: int) -> None:
        assert self.writer.journal is not None
        known = self.places.get(question)
        if known is None:
            self.places[question] = self.writer.journal.append(answer(row, question))
        else:
            self.writer.journal.append(twin(row, question, known))


SESSIONS = st.lists(
    st.tuples(
        st.integers(0, 1),  # who
        st.lists(st.integers(0, 3), max_size=5),  # asks these
        st.sampled_from([0.0, 0.5, 1.0]),  # and brings so much of it into the store
    ),
    max_size=6,
)


@given(SESSIONS, st.none() | st.tuples(st.integers(0, 10_000), st.integers(1, 255)))
def test_no_row_ever_has_the_answer_to_another_question(
    sessions: list[tuple[int, list[int], float]], damage: tuple[int, int] | None
) -> None:
    """Machines take turns, each with entries that it never brought to the others; at last a byte flips."""
    questions: dict[int, int] = {}
    with tempfile.TemporaryDirectory() as folder:
        store = memory()
        askers = [Asker(writer(store, Path(folder) / name)) for name in "ab"]
        for number, asked, share in [*sessions, (0, [], 1.0), (1, [], 1.0), (0, [], 1.0)]:
            asker, known = askers[number], askers[number].writer
            asker.open()
            assert known.journal is not None
            for question in asked:
                questions[len(questions)] = question
                asker.ask(len(questions) - 1, question)
            begin, end = known.shipped, known.journal.size()
            upto = begin + int(share * (end - begin))
            while known.shipped < upto:
                known.shipped = known.objects.upload(known.shipped, upto, known.epoch)
            known.close()
            found = told(known.objects.path)
            assert found == {row: text(questions[row]) for row in found}
        path = askers[0].writer.objects.path
        if damage is not None and path.exists() and path.stat().st_size:
            at, flip = damage
            content = bytearray(path.read_bytes())
            content[at % len(content)] ^= flip
            path.write_bytes(bytes(content))
        found = told(path)
        assert found == {row: text(questions[row]) for row in found}
