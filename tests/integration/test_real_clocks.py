"""The clocks that follow the machine's: real seconds pass here.

Belongs here: what only real time can show. Not here: the manual clock (tests/unit/test_clock.py).
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC

import pytest

from batch_llm.clock import Clock, ScaledClock, SystemClock


@pytest.mark.parametrize("clock", [SystemClock(), ScaledClock(100.0)])
async def test_real_clocks_ring_not_before_their_time_and_can_be_cancelled(clock: Clock) -> None:
    began_s = clock.monotonic()
    rung: asyncio.Future[float] = asyncio.get_running_loop().create_future()
    never = clock.call_later(0.01, lambda: pytest.fail("was cancelled"))
    never.cancel()
    clock.call_later(0.02, lambda: rung.set_result(clock.monotonic()))
    assert await rung >= began_s + 0.02 - 1e-6
    await clock.sleep(0.01)
    assert clock.now().tzinfo is UTC


def test_a_scaled_clock_runs_faster_than_the_machine() -> None:
    clock = ScaledClock(1_000.0)
    before_s, real_s = clock.monotonic(), time.monotonic()
    while time.monotonic() < real_s + 0.002:
        pass
    assert clock.monotonic() - before_s >= 2.0
