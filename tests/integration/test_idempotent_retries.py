"""Each attempt has a name of its own: a retry is a new request, not the stored bad answer once more."""

from __future__ import annotations

from tests.integration.lab import Lab


async def test_a_retry_is_not_answered_with_the_bad_answer_that_is_stored(lab: Lab) -> None:
    """Empty, cut and garbled answers are billed, and so they are stored under the attempt's key."""
    lab.table(60)
    faults = {"empty": 0.2, "length": 0.1, "malformed": 0.1}
    async with lab.simulator(idempotency=True, faults=faults, seed=3) as simulator:
        lab.providers(simulator.base_url, idempotency_header="Idempotency-Key")
        summary = await lab.run(lab.job(retries={"attempts": 8, "re_asks": 5}))
        stats = simulator.stats()
    assert (summary.ok, summary.failed) == (60, 0)
    assert stats["replayed"] == 0 and stats["accepted"] == summary.requests > 60
