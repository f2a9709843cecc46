"""Whose cap it is makes no difference to what stands in the journal before a call."""

from __future__ import annotations

from decimal import Decimal
from types import SimpleNamespace

import pytest

from batch_llm.clock import ManualClock
from batch_llm.errors import ErrorClass
from batch_llm.journal.base import EntryKind
from batch_llm.limiter.in_process_ledger import InProcessLedger
from batch_llm.limiter.ledger import user_cap
from tests.unit.engine import test_pipeline
from tests.unit.engine.test_pipeline import Bench, Gate, failed


class Capped(InProcessLedger):
    """A ledger in which somebody has capped the user."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self._caps[user_cap("u")] = 10**9


@pytest.mark.parametrize("capped", [True, False])
async def test_a_cap_of_the_user_is_journalled_like_one_of_the_run(
    monkeypatch: pytest.MonkeyPatch, capped: bool
) -> None:
    """What is sent and never heard of again must be known to have been held, and what was not billed as well."""
    if capped:
        monkeypatch.setattr(test_pipeline, "InProcessLedger", Capped)
    bench = Bench(failed(ErrorClass.RATE_LIMITED), gate=Gate())
    bench.parts.price = SimpleNamespace(cost_nano=lambda *tokens: 100_000_000, version="v")
    await bench.run(cap_usd=None)
    expected = [EntryKind.SENT, EntryKind.UNBILLED, EntryKind.SENT, EntryKind.ANSWER]
    assert bench.rows.kinds(0) == (expected if capped else [EntryKind.ANSWER])
    held = [Decimal(entry.detail["held_usd"]) for entry in bench.rows.noted if entry.kind is EntryKind.SENT]
    assert len(held) == 2 * capped
