"""What a slice's journal says of each of its rows.

Belongs here: folding journal entries into the state of rows, and into money. Not here: reading files (journal),
deciding what to do next (calls.py, retry.py).

A row that got a good answer at its first attempt, as nearly all do, is kept as nine bytes: that it is ok, and where its
answer stands in the journal. What else there is to know of it is read there again when it is published. Only rows that
are on their way, failed, or went through more than one call have a `RowState` in memory.
"""

from __future__ import annotations

from array import array
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import orjson

from batch_llm.engine.answerers import FALLBACK, Answerer, Answerers
from batch_llm.engine.answers import Verdict
from batch_llm.engine.row_state import RowState, RowStatus
from batch_llm.engine.shares import shared_tokens
from batch_llm.job.embedding import EMBEDDING_COLUMN
from batch_llm.journal.base import HELD_USD, Entry, EntryKind
from batch_llm.pricing import Price, usd_of_nano
from batch_llm.providers.base import Usage

__all__ = ["HASHES", "WEIGHTS", "Rows", "asked_in", "vector_entry"]

ZERO = Decimal(0)
# In the detail of an answer to many rows, or of their lost call, beside ROWS: each one's part of the bill, its hash.
WEIGHTS, HASHES = "weights", "hashes"
VECTOR = "vector"  # in the detail of a CACHED entry whose body is one vector, and no provider's answer
KEPT_CALLS = 4  # split at once: rows of one call stand together, but for those that were asked again


_PENDING, _OK, _FAILED = range(3)  # a row's byte
_GIVE_WAY = (EntryKind.FAILED, EntryKind.REOPENED)
_WORDS = (RowStatus.PENDING, RowStatus.OK, RowStatus.FAILED)


_Share = tuple[Usage | None, int | None]  # of a call's tokens, and of its cost in nano-dollars


class Rows:
    """The rows of one slice and what they cost."""

    def __init__(
        self,
        answerers: Answerers,
        count: int,
        entry_at: Callable[[int], Entry] | None = None,
    ) -> None:
        """``count``: rows of the slice; nobody asked one yet. ``entry_at``: reads the journal; None: only to look."""
        self.answerers = answerers
        self._own = answerers.own
        self.entry_at = entry_at
        self.ok = self.failed_count = self.cached = 0
        self.retried = False  # somebody asked for all failed rows once more, those that other runs asked included
        self._status = bytearray(count)
        self._places = array("q", [-1]) * count  # of the good answers
        self._states: dict[int, RowState] = {}
        self.input_tokens = self.output_tokens = 0  # of the answers, as they are billed
        self._spent_nano = 0  # settled
        self.unpriced = 0  # rows of answers whose cost is unknown
        self.last_cost_nano: int | None = None  # of the answer that was folded last; None: unknown
        self._unknown_usd = ZERO  # unknown outcomes, in full
        self._held_usd: dict[tuple[int, int], Decimal] = {}
        self._hashes: dict[int, str] = {}  # of rows that `reparse` judged by another schema
        self._calls: dict[int, tuple[dict[int, int], Verdict, list[_Share]]] = {}  # place: of the last few

    @property
    def settled_usd(self) -> Decimal:
        """Settled bills alone."""
        return usd_of_nano(self._spent_nano)

    @property
    def known_usd(self) -> Decimal | None:
        """What the stored rows will say they cost: settled bills; None while there are none, at an unknown price."""
        return None if self._own.price is None and not self._spent_nano else self.settled_usd

    @property
    def spent_usd(self) -> Decimal:
        """Settled bills; unknown outcomes in full."""
        return usd_of_nano(self._spent_nano) + self._unknown_usd

    @property
    def owed_usd(self) -> Decimal:
        """`spent_usd` as a replay of the journal will have it: what was sent and not heard of since, in full."""
        return self.spent_usd + sum(self._held_usd.values(), ZERO)

    def replay(self, entries: Iterable[Entry]) -> None:
        """Fold a whole journal. What was sent and never heard of again counts as spent."""
        for entry in entries:
            self.apply(entry, entry.place)
        self._unknown_usd += sum(self._held_usd.values(), ZERO)
        self._held_usd.clear()

    def apply(self, entry: Entry, place: int) -> Verdict | None:
        """Fold one entry, which stands at this place; the verdict when it is an answer, this row's own or another's."""
        if HASHES in entry.detail:
            return self._apply_to_many(entry, place)
        if entry.kind is EntryKind.RETRIED:
            self.retried = True
            return None
        if entry.kind is EntryKind.ASKED_AS:
            self._hashes[entry.row] = entry.request_hash
            return None
        if entry.kind in _GIVE_WAY and self._status[entry.row] == _OK:
            return None  # noted while the answer was judged otherwise: a good one stands
        if entry.kind is EntryKind.ANSWER:
            return self._answer(entry, place)
        if entry.kind is EntryKind.CACHED:
            return self._others_answer(entry, place)
        self._note(self._asked(entry), entry, place)
        return None

    def take(self, entry: Entry, place: int) -> None:
        """Fold an answer that was paid for elsewhere, and found good a moment ago."""
        state = self._cached(entry)
        self._end_well(entry.row, state, place)

    def _others_answer(self, entry: Entry, place: int) -> Verdict:
        """The same of one that the journal holds: it may be judged by another schema now."""
        verdict = self._judge(entry)
        if verdict.error_class is None:
            self.take(entry, place)
        elif self._status[entry.row] != _OK:  # a good one stands
            self._cached(entry)
        return verdict

    def _cached(self, entry: Entry) -> RowState:
        state = self._asked(entry)
        self._set_cached(state, cached=True)
        state.fallback = entry.detail.get(FALLBACK)
        state.finished_at = entry.at
        return state

    def _set_cached(self, state: RowState, *, cached: bool) -> None:
        self.cached += cached - state.cached
        state.cached = cached

    def _note(self, state: RowState, entry: Entry, place: int) -> None:
        """Fold an entry that is no answer of this row's own."""
        row = entry.row
        match entry.kind:
            case EntryKind.SENT:
                self._held_usd[row, entry.attempt] = Decimal(entry.detail[HELD_USD])
            case EntryKind.LOST:
                state.lost += 1
                self._unknown_usd += self._held_for(entry)
            case EntryKind.UNBILLED:
                self._held_usd.pop((row, entry.attempt), None)
            case EntryKind.FAILED:
                state.failed_place = place
                state.finished_at = entry.at
                state.error_class = entry.detail["error_class"]
                state.error = entry.detail["message"]
                self._set(row, state, RowStatus.FAILED)
            case EntryKind.REOPENED:
                state.bad_answers = state.re_asks_used = state.cuts = 0
                state.error_class = state.error = None
                self._set_cached(state, cached=False)
                self._set(row, state, RowStatus.PENDING)

    def _held_for(self, entry: Entry) -> Decimal:
        """What was set aside for a lost call: by its intent; by the entry itself where money was not capped."""
        held = self._held_usd.pop((entry.row, entry.attempt), None)
        return Decimal(entry.detail.get(HELD_USD, 0)) if held is None else held

    def _asked(self, entry: Entry) -> RowState:
        """The state of the entry's row, with what every entry says of it."""
        state = self._touched(entry.row)
        state.attempts = max(state.attempts, entry.attempt)
        if entry.request_hash:
            state.request_hash = entry.request_hash
        return state

    def _touched(self, row: int) -> RowState:
        state = self._states.get(row)
        if state is None:
            state = self._states[row] = self._kept(row)
        return state

    def _kept(self, row: int) -> RowState:
        """The state of a row that has none in memory."""
        if self._status[row] != _OK or self.entry_at is None:
            return RowState()
        # a plain row about which more is noted, as no run does today: from here on it is not plain
        return self.judged(row, self.entry_at(self._places[row]))[0]

    def _answer(self, entry: Entry, place: int) -> Verdict:
        who = self._who(entry)
        verdict = who.judge.judge(entry.body)
        cost = who.cost_nano(verdict.usage, entry.detail)
        self._settle(entry, verdict.usage, cost)
        if self._is_plain(entry, verdict):  # no state is made for what would be dropped at once
            self._status[entry.row] = _OK
            self.ok += 1
            self._places[entry.row] = place
            return verdict
        state = self._asked(entry)
        self._fold(state, entry, (verdict.usage, cost), who.price_of(entry.detail))
        if verdict.error_class is None or self._status[entry.row] != _OK:
            self._set_cached(state, cached=False)
        if verdict.error_class is not None:
            state.count_bad(verdict.error_class)
            return verdict
        self._end_well(entry.row, state, place)
        return verdict

    def _is_plain(self, entry: Entry, verdict: Verdict) -> bool:
        """Whether this is a good answer, of known usage, to a row's first call: as `RowState.is_plain`."""
        is_first = entry.attempt == 1 and entry.row not in self._states and self._status[entry.row] == _PENDING
        return is_first and verdict.error_class is None and verdict.usage is not None

    def _settle(self, entry: Entry, usage: Usage | None, cost_nano: int | None, rows: int = 1) -> None:
        """The call's hold ends; what it cost is spent, in full where that is unknown."""
        if usage is not None:
            self.input_tokens += usage.input_tokens
            self.output_tokens += usage.output_tokens
        held = self._held_usd.pop((entry.row, entry.attempt), ZERO) if self._held_usd else ZERO
        self.last_cost_nano = cost_nano
        if cost_nano is None:
            self._unknown_usd += held
            self.unpriced += rows
        else:
            self._spent_nano += cost_nano

    def _apply_to_many(self, entry: Entry, place: int) -> Verdict | None:
        """Fold an answer to many rows, or a lost call for them."""
        rows = entry.rows
        states = [self._touched(row) for row in rows]
        for state, request_hash in zip(states, entry.detail[HASHES], strict=True):
            state.attempts = max(state.attempts, entry.attempt)
            state.request_hash = request_hash
        if entry.kind is not EntryKind.ANSWER:
            for state in states:
                state.lost += 1
            self._unknown_usd += self._held_for(entry)
            return None
        verdict, shares = self._split(entry)
        self._settle(entry, verdict.usage, self._own.cost_nano(verdict.usage, entry.detail), len(rows))
        price = self._own.price_of(entry.detail)
        for row, state, share in zip(rows, states, shares, strict=True):
            self._fold(state, entry, share, price)
            if verdict.error_class is None:
                self._end_well(row, state, place)
            else:
                state.count_bad(verdict.error_class)
        return verdict

    def _split(self, entry: Entry) -> tuple[Verdict, list[_Share]]:
        """The verdict on an answer to many rows, and what each of them has of its bill; exact in sum."""
        count, weights = len(entry.rows), entry.detail[WEIGHTS]
        verdict = self._own.judge.judge(entry.body, count)
        usage, cost = verdict.usage, self._own.cost_nano(verdict.usage, entry.detail)
        if usage is None:
            return verdict, [(None, None)] * count
        tokens = shared_tokens(usage.input_tokens, weights)
        costs = [None] * count if cost is None else shared_tokens(cost, tokens)
        return verdict, [(Usage(given, 0), nano) for given, nano in zip(tokens, costs, strict=True)]

    def _end_well(self, row: int, state: RowState, place: int) -> None:
        state.good_place = place
        self._set(row, state, RowStatus.OK)
        if state.is_plain:
            self._places[row] = place
            del self._states[row]

    @staticmethod
    def _fold(state: RowState, entry: Entry, share: _Share, price: Price | None) -> None:
        """What an answer adds to a row; of an answer to many, its share."""
        usage, cost_nano = share
        state.answers += 1
        state.latency_s = entry.latency_s
        state.finished_at = entry.at
        state.price_version = None if price is None else price.version
        state.fallback = entry.detail.get(FALLBACK)
        state.last_output_tokens = None if usage is None else usage.output_tokens
        if usage is None:
            state.usage_unknown = True
        else:
            state.input_tokens += usage.input_tokens
            state.output_tokens += usage.output_tokens
            state.cached_input_tokens += usage.cached_input_tokens
        if cost_nano is not None:
            state.cost_nano = (state.cost_nano or 0) + cost_nano
        elif usage is not None:
            state.price_unknown = True

    def _set(self, row: int, state: RowState, status: str) -> None:
        byte, before = _WORDS.index(status), self._status[row]
        state.status = status
        self._status[row] = byte
        self.ok += (byte == _OK) - (before == _OK)
        self.failed_count += (byte == _FAILED) - (before == _FAILED)

    def _judge(self, entry: Entry) -> Verdict:
        """The verdict on an answer to one row, or on another row's vector."""
        if VECTOR in entry.detail:
            vector = b64decode(orjson.loads(entry.body)[EMBEDDING_COLUMN])
            return Verdict(None, "", None, values={EMBEDDING_COLUMN: vector})
        return self._who(entry).judge.judge(entry.body)

    def _who(self, entry: Entry) -> Answerer:
        fallback = entry.detail.get(FALLBACK)
        return self._own if fallback is None else self.answerers.called(fallback)

    # -- asking about rows -------------------------------------------------------------------------------------------

    def is_done(self, row: int) -> bool:
        """The row ended, ok or failed."""
        return self._status[row] != _PENDING

    def all_done(self, start: int, count: int) -> bool:
        """All rows of this stretch ended."""
        return self._status.find(_PENDING, start, start + count) < 0

    def status(self, row: int) -> str:
        """Its `RowStatus`."""
        return _WORDS[self._status[row]]

    def good_place(self, row: int) -> int:
        """Where the journal keeps the row's good answer; -1 without one."""
        if self._status[row] != _OK:
            return -1
        state = self._states.get(row)
        return self._places[row] if state is None else state.good_place

    def open_state(self, row: int) -> RowState | None:
        """The state of a row that is not plainly ok; None for one that nothing was noted of, and for a plain one."""
        return self._states.get(row)

    def judged(self, row: int, good: Entry | None) -> tuple[RowState, dict[str, Any] | None]:
        """Everything about a row, and the values of the answer's columns if it has a good answer.

        ``good``: the entry at `good_place`, read from the journal. A vector is its bytes.
        """
        state, values = self._judged(row, good)
        asked_as = self._hashes.get(row)
        return (state if asked_as is None else replace(state, request_hash=asked_as)), values

    def _judged(self, row: int, good: Entry | None) -> tuple[RowState, dict[str, Any] | None]:
        state = self._states.get(row)
        if good is None:
            return state or RowState(), None
        if HASHES in good.detail:
            return self._judged_of_many(row, state, good)
        who = self._who(good)
        verdict = self._judge(good)
        if state is None:
            state = RowState(RowStatus.OK, good.attempt, request_hash=good.request_hash, good_place=good.place)
            if good.kind is EntryKind.CACHED:
                state.cached, state.finished_at, state.fallback = True, good.at, good.detail.get(FALLBACK)
            else:
                share = (verdict.usage, who.cost_nano(verdict.usage, good.detail))
                self._fold(state, good, share, who.price_of(good.detail))
        return state, verdict.values

    def _judged_of_many(self, row: int, state: RowState | None, good: Entry) -> tuple[RowState, dict[str, Any] | None]:
        call = self._calls.get(good.place)
        if call is None:
            positions = {each: position for position, each in enumerate(good.rows)}
            call = self._calls[good.place] = (positions, *self._split(good))
            if len(self._calls) > KEPT_CALLS:
                del self._calls[next(iter(self._calls))]
        positions, verdict, shares = call
        at = positions[row]
        if state is None:
            request_hash = good.detail[HASHES][at]
            state = RowState(RowStatus.OK, good.attempt, request_hash=request_hash, good_place=good.place)
            self._fold(state, good, shares[at], self._own.price_of(good.detail))
        return state, {EMBEDDING_COLUMN: verdict.vectors[at]} if verdict.vectors else None

    def failed(self, below: int) -> list[int]:
        """The rows that ended as failed, noted below this place of the journal, in order."""
        return sorted(
            row
            for row, state in self._states.items()
            if state.status == RowStatus.FAILED and state.failed_place < below
        )


def asked_in(entry: Entry) -> Iterator[tuple[int, str]]:
    """The rows whose requests an entry names, each with that request's hash: all of an answered or lost call's."""
    return zip(entry.rows, entry.detail.get(HASHES, (entry.request_hash,)), strict=False)  # an intent names one


def vector_entry(row: int, request_hash: str, vector: bytes, run_id: str) -> Entry:
    """Note that a vector (float32, little endian) that this run was paid for is this row's as well."""
    detail = {VECTOR: True, "run_id": run_id}
    body = orjson.dumps({EMBEDDING_COLUMN: b64encode(vector).decode()})
    return Entry(EntryKind.CACHED, row, request_hash=request_hash, body=body, detail=detail)
