"""The manual clock: alarms ring in order, at their moment, unless they are cancelled (real ones: integration)."""

from __future__ import annotations

import asyncio

from batch_llm.clock import ManualClock


async def test_manual_alarms_ring_in_the_order_of_their_times_and_at_them() -> None:
    clock = ManualClock()
    rung: list[tuple[str, float]] = []
    for name, delay_s in (("c", 3.0), ("a", 1.0), ("b", 1.0), ("late", 5.0)):
        clock.call_later(delay_s, lambda name=name: rung.append((name, clock.monotonic())))  # type: ignore[misc]
    await clock.advance(4)
    assert rung == [("a", 1_001), ("b", 1_001), ("c", 1_003)]
    assert clock.monotonic() == 1_004


async def test_an_alarm_never_rings_at_once_nor_after_it_was_cancelled() -> None:
    clock = ManualClock()
    rung: list[str] = []
    clock.call_later(-1, lambda: rung.append("past"))
    cancelled = clock.call_later(1, lambda: rung.append("cancelled"))
    assert rung == []
    await clock.advance(0)
    assert rung == ["past"]
    cancelled.cancel()
    await clock.advance(2)
    cancelled.cancel()
    assert rung == ["past"]


async def test_an_alarm_may_set_the_next_one_within_the_same_advance() -> None:
    clock = ManualClock()
    times: list[float] = []

    def ring() -> None:
        times.append(clock.monotonic())
        clock.call_later(0.5, ring)

    clock.call_later(0.5, ring)
    await clock.advance(2)
    assert times == [1_000.5, 1_001, 1_001.5, 1_002]


async def test_sleepers_and_alarms_share_one_order_and_a_cancelled_sleep_leaves_nothing() -> None:
    clock = ManualClock()
    seen: list[str] = []

    async def sleep(name: str, delay_s: float) -> None:
        await clock.sleep(delay_s)
        seen.append(name)

    tasks = [asyncio.create_task(sleep("task", 1)), asyncio.create_task(sleep("never", 2))]
    await clock.advance(0)
    clock.call_later(1, lambda: seen.append("alarm"))
    tasks[1].cancel()
    await clock.advance(5)
    assert seen == ["task", "alarm"]
    assert tasks[1].cancelled()
