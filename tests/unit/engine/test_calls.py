"""A call for many rows that cannot be answered as one is asked in halves, and each row's calls are counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import pytest

from batch_llm.engine.work import Work
from batch_llm.errors import ErrorClass, NeverFits, ProviderError
from batch_llm.journal.base import EntryKind
from batch_llm.limiter.base import Cost, Reservation, Tenant
from batch_llm.providers.base import EmbeddingRequest, Message, RawAnswer, Request, Sending
from tests.unit.engine.test_pipeline import Bench, Gate

ROWS = 11


class Packs(Bench):
    """All rows in one call, of which the provider refuses one; notes what each call asked."""

    def __init__(self, bad: int | None, gate: Gate | None = None) -> None:
        super().__init__(rows=ROWS, gate=gate)
        self.bad = bad
        self.asked: list[list[int]] = []
        self.named: list[tuple[str, int]] = []
        self.parts.declared.job.is_embedding = True
        self.provider.send = self._send  # type: ignore[method-assign, assignment]
        self.rows.works = self._one_call  # type: ignore[method-assign]

    async def _one_call(self) -> AsyncIterator[Work]:
        works = []
        for row in range(ROWS):
            request = Request(str(row), "m", (Message("user", str(row)),), {}, None)
            works.append(Work(self.rows, row, request, "h", 1, Cost(1, 0), 1, 1))  # type: ignore[arg-type]
        yield Work.together(works, row_is_request=False)

    async def _send(self, request: EmbeddingRequest, *, sending: Sending) -> RawAnswer:
        rows = [int(text) for text in request.texts]
        self.asked.append(rows)
        self.named.append((request.custom_id, request.attempt))
        await self.clock.sleep(0.1)
        if self.bad in rows:
            raise ProviderError(ErrorClass.INVALID_REQUEST, "one of them", maybe_paid=False)
        return RawAnswer(b"{}", {}, 0.0)

    def attempts(self) -> dict[int, int]:
        """The last attempt that the journal names for each row."""
        said: dict[int, int] = {}
        for entry in self.rows.noted:
            for row in entry.detail.get("rows", [entry.row]):
                said[row] = max(said.get(row, 0), entry.attempt)
        return said


class Small(Gate):
    """Takes no call of more tokens than this."""

    most = 3

    async def reserve_next(self, tenant: Tenant, costs: Sequence[Cost], *, more: bool = False) -> list[Reservation]:
        if costs[0].input_tokens > self.most:
            raise NeverFits("too large for the limit")
        return await super().reserve_next(tenant, costs, more=more)


@pytest.mark.parametrize("bad", [0, 5, ROWS - 1])
async def test_each_row_of_a_halved_call_has_as_many_attempts_as_calls(bad: int) -> None:
    """And no two calls have the same name, by which a gateway would take one for a repetition of the other."""
    bench = Packs(bad)
    await bench.run()
    calls = Counter(row for rows in bench.asked for row in rows)
    assert bench.attempts() == dict(calls)
    assert len(set(bench.named)) == len(bench.named)
    failed = [entry.row for entry in bench.rows.noted if entry.kind is EntryKind.FAILED]
    assert failed == [bad] and bench.rows.outstanding == 0


async def test_a_call_that_a_limit_never_lets_through_is_asked_in_halves() -> None:
    bench = Packs(None, gate=Small())
    await bench.run()
    assert sorted(row for rows in bench.asked for row in rows) == list(range(ROWS))
    assert max(map(len, bench.asked)) <= Small.most
    assert bench.attempts() == dict.fromkeys(range(ROWS), 1)


async def test_a_row_that_alone_is_too_large_for_the_limit_fails() -> None:
    gate = Small()
    gate.most = 0
    bench = Packs(None, gate=gate)
    await bench.run()
    kinds: Mapping[Any, int] = Counter(entry.kind for entry in bench.rows.noted)
    assert kinds == {EntryKind.FAILED: ROWS} and not bench.asked
