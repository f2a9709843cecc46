"""A row that waits to be sent, or is on its way: its request, and what was tried.

Belongs here: the record that queue, limiter and calls hand around; several rows in one call. Not here: which rows are
to be asked (slice_work.py), what follows from a call (calls.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from batch_llm.engine.answers import Verdict
from batch_llm.engine.packing import halved
from batch_llm.engine.rows import HASHES, WEIGHTS
from batch_llm.engine.window import Failure
from batch_llm.errors import ErrorClass
from batch_llm.journal.base import ROWS, Entry, EntryKind
from batch_llm.limiter.base import Cost
from batch_llm.providers.base import EmbeddingRequest, Request

if TYPE_CHECKING:
    from batch_llm.engine.slice_work import SliceWork

__all__ = ["Form", "Work"]

# Entries that are about every row of a call; those that may be billed say how the bill is split.
OF_ALL_ROWS = frozenset({EntryKind.SENT, EntryKind.ANSWER, EntryKind.LOST, EntryKind.UNBILLED})
MAYBE_BILLED = frozenset({EntryKind.ANSWER, EntryKind.LOST})


class Form(NamedTuple):
    """What a row asks of one model."""

    request: Request | EmbeddingRequest
    cost: Cost  # predicted
    input_bytes: int
    image_tokens: int  # of `cost`


@dataclass(slots=True)
class Work:
    """A row that is to be asked; or several, in one call."""

    slice_work: SliceWork
    row: int
    request: Request | EmbeddingRequest
    request_hash: str
    input_bytes: int
    cost: Cost  # predicted
    attempt: int  # of the next call, starting at 1
    first_messages: int  # how many messages the prompt itself has
    tries: int = 0  # attempts that transient failures used up in this process
    timeouts: int = 0  # of them, calls that took too long: the next may take twice as long
    failure: Failure | None = None  # how its last call ended, where the provider may have been to blame
    throttles: int = 0  # 429s since its last call that ended otherwise
    image_bytes: int = 0  # held beside the input's text
    image_tokens: int = 0  # of `cost`
    others: tuple[Work, ...] = ()  # the further rows of the same call, where a call asks many
    fits_not: frozenset[str] = frozenset()  # pools whose limit is smaller than this row
    fallback: str | None = None  # the model that its request is made for; None: the job's own
    forms: Mapping[str | None, Form] | None = None  # what it would ask of other models, until it is sent
    own: tuple[Request | EmbeddingRequest, int, Cost] | None = None  # then: what its first row alone would be

    @classmethod
    def together(cls, works: Sequence[Work], *, row_is_request: bool) -> Work:
        """One call for these rows, as it is asked for vectors; at least one. ``row_is_request``: see `CallBounds`."""
        first = works[0]
        texts = tuple(work.text for work in works)
        request = EmbeddingRequest(first.request.custom_id, first.request.model, texts, first.request.params)
        tokens, size_bytes = sum(work.input_tokens for work in works), sum(work.input_bytes for work in works)
        attempt = max(work.attempt for work in works)
        cost = Cost(tokens, 0, requests=len(works) if row_is_request else 1)
        call = replace(first, request=request, input_bytes=size_bytes, cost=cost, attempt=attempt)
        call.others = tuple(works[1:])
        call.own = (first.request, first.input_bytes, first.cost)
        return call

    def form(self, fallback: str | None) -> Form | None:
        """What it asks of this model; None: not made yet."""
        if fallback == self.fallback:
            return Form(self.request, self.cost, self.input_bytes, self.image_tokens)
        return None if self.forms is None else self.forms.get(fallback)

    def become(self, fallback: str | None) -> None:
        """From now on it asks this model, for which its form is made."""
        form = self.form(fallback)
        assert form is not None  # noqa: S101  it would not be listed for that model
        now = {self.fallback: Form(self.request, self.cost, self.input_bytes, self.image_tokens)}
        self.forms = {**(self.forms or {}), **now}
        self.request, self.cost, self.input_bytes, self.image_tokens = form
        self.fallback = fallback

    @property
    def input_tokens(self) -> int:
        """Predicted tokens of its input."""
        return self.cost.input_tokens

    @property
    def row_is_request(self) -> bool:
        """Whether each of its rows counts as a request; of one row it makes no difference."""
        return self.cost.requests > 1

    @property
    def held_bytes(self) -> int:
        """What it takes of memory, once."""
        return self.input_bytes + self.image_bytes

    @property
    def count(self) -> int:
        """How many rows the call asks."""
        return 1 + len(self.others)

    def rows(self) -> list[Work]:
        """Every row of the call as a work of its own."""
        if self.own is None:
            return [self]
        request, size_bytes, cost = self.own
        first = replace(self, request=request, input_bytes=size_bytes, cost=cost, others=(), own=None)
        return [first, *(replace(work, attempt=self.attempt, tries=self.tries) for work in self.others)]

    def halves(self, refused: ErrorClass) -> list[Work]:
        """Two calls to make instead of this one; none for a single row, or where fewer rows would do no better."""
        each = halved(self.rows(), refused) if self.others else []
        halves = [Work.together(half, row_is_request=self.row_is_request) for half in each]
        for half in halves:
            half.fits_not = frozenset()  # it is smaller
        return halves

    @property
    def text_count(self) -> int:
        """Messages of its request, or texts of one for vectors."""
        return len(self.request.messages) if isinstance(self.request, Request) else len(self.request.texts)

    @property
    def text(self) -> str:
        """The text to embed: the last message."""
        return self.request.messages[-1].content if isinstance(self.request, Request) else self.request.texts[0]

    def to_send(self) -> Request | EmbeddingRequest:
        """The request of the next call; its attempt is the one that the journal will name."""
        return self.request if self.attempt == self.request.attempt else replace(self.request, attempt=self.attempt)

    def note(
        self, kind: EntryKind, body: bytes = b"", latency_s: float = 0.0, detail: dict[str, Any] | None = None
    ) -> Verdict | None:
        """Store an entry about this row; the verdict when it is an answer."""
        now = self.slice_work.parts.clock.now()
        detail = detail or {}
        if self.own is not None and kind in OF_ALL_ROWS:
            detail = detail | self._all_rows(kind)
        entry = Entry(kind, self.row, self.attempt, now, self.request_hash, body, latency_s, detail=detail)
        return self.slice_work.note(entry)

    def _all_rows(self, kind: EntryKind) -> dict[str, list[Any]]:
        """What an entry about a call for many rows says of them."""
        rows = {ROWS: [self.row, *(work.row for work in self.others)]}
        if kind not in MAYBE_BILLED:
            return rows
        each = self.rows()
        weights, hashes = [work.input_tokens for work in each], [work.request_hash for work in each]
        return {**rows, WEIGHTS: weights, HASHES: hashes}
