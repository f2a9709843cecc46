"""Rows are counted by the last entry about each, whether a call asked one of them or many."""

from __future__ import annotations

from batch_llm.journal.base import HELD_USD, NO_ROW, ROWS, Entry, EntryKind
from batch_llm.journal.last_words import LastWords, last_words


def of_many(kind: EntryKind, *rows: int) -> Entry:
    return Entry(kind, rows[0], 1, detail={ROWS: list(rows)})


def test_nothing_noted_is_nothing_counted() -> None:
    assert last_words([]) == last_words([[], []]) == LastWords()


def test_every_row_of_a_call_counts() -> None:
    """In flight, answered, lost or never billed: the last two are to be asked again."""
    journal = [
        of_many(EntryKind.SENT, 0, 1, 2),
        of_many(EntryKind.SENT, 3, 4),
        of_many(EntryKind.SENT, 5, 6),
        of_many(EntryKind.SENT, 7, 8, 9),
        of_many(EntryKind.ANSWER, 0, 1, 2),
        of_many(EntryKind.LOST, 3, 4),
        of_many(EntryKind.UNBILLED, 5, 6),
        Entry(EntryKind.CACHED, 10),
        Entry(EntryKind.FAILED, 5),
    ]
    assert last_words([journal]) == LastWords(answered=4, failed=1, sent=3, notes_intent=True)
    assert last_words([journal]).ended == 5


def test_an_intent_of_an_earlier_version_names_the_first_row_of_its_call() -> None:
    sent = Entry(EntryKind.SENT, 0, 1, detail={HELD_USD: "1"})
    assert last_words([[sent]]).sent == 1
    answered = last_words([[sent, of_many(EntryKind.ANSWER, 0, 1)]])
    assert (answered.answered, answered.sent) == (2, 0)


def test_slices_count_their_own_rows_and_only_the_last_entry_about_each() -> None:
    """And what is noted beside it does not move a row."""
    answered, failed = Entry(EntryKind.ANSWER, 0, 1), Entry(EntryKind.FAILED, 0, 1)
    beside = [Entry(EntryKind.RETRIED, NO_ROW), Entry(EntryKind.ASKED_AS, 0, request_hash="h")]
    assert last_words([[answered, *beside], [answered, failed]]) == LastWords(answered=1, failed=1)
    assert last_words([[failed, Entry(EntryKind.REOPENED, 0)]]) == LastWords()
