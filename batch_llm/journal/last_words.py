"""What a journal says last of each row, without a look into any answer.

Belongs here: how many rows each kind of entry is the last word on. Not here: whether an answer is good, money
(engine/rows.py), which rows are to be asked (engine).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from batch_llm.journal.base import Entry, EntryKind

__all__ = ["LastWords", "last_words"]

# They say nothing of where a row stands.
BESIDE = frozenset({EntryKind.RETRIED, EntryKind.ASKED_AS})


@dataclass(frozen=True, slots=True)
class LastWords:
    """How many rows stand how, by the last entry about each; one that nothing is noted of is in no number."""

    answered: int = 0  # by an answer of their own or another row's; some may turn out bad
    failed: int = 0
    sent: int = 0  # in flight, or never heard of since; where money is not capped nobody notes it
    notes_intent: bool = False  # some entry says that a call was about to be made

    @property
    def ended(self) -> int:
        """Rows with an answer, or given up."""
        return self.answered + self.failed

    @property
    def noted(self) -> int:
        """Rows that something was done for."""
        return self.ended + self.sent


def last_words(journals: Iterable[Iterable[Entry]]) -> LastWords:
    """Fold the journals of some slices."""
    found = Counter[EntryKind]()
    notes_intent = False
    for entries in journals:
        last: dict[int, EntryKind] = {}
        for entry in entries:
            if entry.kind not in BESIDE:
                last.update(dict.fromkeys(entry.rows, entry.kind))
                notes_intent = notes_intent or entry.kind is EntryKind.SENT
        found.update(last.values())
    answered = found[EntryKind.ANSWER] + found[EntryKind.CACHED]
    return LastWords(answered, found[EntryKind.FAILED], found[EntryKind.SENT], notes_intent)
