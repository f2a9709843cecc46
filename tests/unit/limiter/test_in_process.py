"""What only the limiter inside one process promises: timers, the stored schedule, the provider's headers."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batch_llm.clock import Clock, ManualClock, ScaledClock, SystemClock
from batch_llm.errors import NeverFits
from batch_llm.limiter.base import Cost, Limits, Reservation, Tenant, Throttle
from batch_llm.limiter.in_process import TIMER_SLACK_S, InProcessRateLimiter
from tests.contract.strict_bucket import Flow, highest_level, largest_window, overshoot

TENANT = Tenant("alice", "tone")
COST = Cost(100, 0)


class LateClock(ManualClock):
    """A manual clock whose timers wake late, as asyncio's do."""

    def __init__(self, lateness_s: Iterable[float]) -> None:
        super().__init__()
        self._lateness_s: Iterator[float] = iter(lateness_s)

    async def sleep(self, delay_s: float) -> None:
        await super().sleep(delay_s + next(self._lateness_s))


async def start_many(limiter: InProcessRateLimiter, rows: int, cost: Cost = COST) -> list[asyncio.Task[Reservation]]:
    tasks = [asyncio.create_task(limiter.reserve(TENANT, cost)) for _ in range(rows)]
    await asyncio.sleep(0)
    return tasks


async def stop(tasks: list[asyncio.Task[Reservation]]) -> list[Flow]:
    """Cancel who still waits; what was sent, one unit each."""
    flows = [Flow(task.result().granted_at_s, 1) for task in tasks if task.done()]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return flows


# -- timers -----------------------------------------------------------------------------------------------------------


async def test_late_timers_cost_nothing_of_the_rate() -> None:
    """1,000 rows per second with timers 0.2-2 ms late: all of the rate, and never more than the slack allows."""
    late = random.Random(7)
    clock = LateClock(late.uniform(0.0002, 0.002) for _ in itertools.count())
    limiter = InProcessRateLimiter(Limits("p", requests_per_minute=60_000), clock)
    tasks = await start_many(limiter, 3_000)
    await clock.advance(2)
    flows = await stop(tasks)
    assert len(flows) >= 0.985 * 2_000
    assert overshoot(flows, 1_000) <= 1_000 * TIMER_SLACK_S


async def test_a_long_stall_is_not_caught_up() -> None:
    clock = LateClock(0.3 if number == 20 else 0.0 for number in itertools.count())
    limiter = InProcessRateLimiter(Limits("p", requests_per_minute=60_000), clock)
    tasks = await start_many(limiter, 3_000)
    await clock.advance(1)
    flows = await stop(tasks)
    assert 695 <= len(flows) <= 1_001 - 290
    assert overshoot(flows, 1_000) <= 1_000 * TIMER_SLACK_S + 1e-6


async def test_one_timer_for_the_head_and_none_without_a_queue() -> None:
    clock = ManualClock()
    limiter = InProcessRateLimiter(Limits("p", requests_per_minute=60), clock)
    others = asyncio.all_tasks()
    waiting = await start_many(limiter, 500)
    await asyncio.sleep(0)
    assert len(asyncio.all_tasks() - others) <= 500  # 499 of the test's own wait, and one timer
    await stop(waiting)
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == others


async def test_every_dimension_goes_on_from_the_start_of_the_request() -> None:
    """Or tokens bunch up behind a schedule that the requests hold back."""
    clock = LateClock(itertools.repeat(0.004))
    limiter = InProcessRateLimiter(Limits("p", requests_per_minute=60, tokens_per_minute=6_000), clock)
    costs = [Cost(1, 0), Cost(1, 0), Cost(90, 0), Cost(100, 0), Cost(100, 0)] * 4
    tasks = [asyncio.create_task(limiter.reserve(TENANT, cost)) for cost in costs]
    await clock.advance(60)
    sent = [task.result() for task in tasks]
    assert overshoot([Flow(r.granted_at_s, 1) for r in sent], 1) <= TIMER_SLACK_S
    tokens = [Flow(r.granted_at_s, r.cost.input_tokens) for r in sent]
    assert highest_level(tokens, 100) <= 100 + 100 * TIMER_SLACK_S + 1e-6  # one largest row


async def test_rows_of_different_sizes_use_the_binding_one_of_two_limits() -> None:
    """Small rows are held back by the requests, large ones by the tokens: in sum neither may stand idle."""
    clock = ManualClock()
    limits = Limits("p", requests_per_minute=3_000, tokens_per_minute=60_000)
    limiter = InProcessRateLimiter(limits, clock)
    costs = [Cost(size, 0) for size in (5, 5, 60, 5, 40, 10, 50)] * 400  # 25 tokens on average: 40 rows per second
    tasks = [asyncio.create_task(limiter.reserve(TENANT, cost)) for cost in costs]
    await clock.advance(60)
    done = [task.result() for task in tasks if task.done()]
    sent = [Flow(reservation.granted_at_s, reservation.cost.input_tokens) for reservation in done]
    await stop(tasks)
    assert sum(flow.amount for flow in sent) >= 0.985 * 60_000
    assert highest_level(sent, 1_000) <= 60 + 1_000 * TIMER_SLACK_S + 1e-6


def test_real_time_replayed_in_a_strict_bucket_rejects_nothing() -> None:
    """asyncio's own timers, 500 rows per second, answers coming back out of order: counts, no timings."""

    async def main() -> list[Flow]:
        limiter = InProcessRateLimiter(Limits("p", requests_per_minute=30_000, tokens_per_minute=1e9), SystemClock())
        flows: list[Flow] = []
        late = random.Random(3)

        async def send() -> None:
            reservation = await limiter.reserve(TENANT, COST)
            flows.append(Flow(SystemClock().monotonic(), 1))
            await asyncio.sleep(late.uniform(0, 0.05))
            limiter.settle(reservation, Cost(100, late.randrange(50)))

        await asyncio.gather(*(send() for _ in range(600)))
        return flows

    flows = asyncio.run(main())
    assert len(flows) == 600
    assert highest_level(flows, 500) <= 50  # a provider whose bucket holds a tenth of a second rejects none


async def test_a_scaled_clock_scales_the_slack_too() -> None:
    """A tier of 3 requests per minute, 600 times as fast: the schedule does not slip with late timers."""
    clock = ScaledClock(600)
    limiter = InProcessRateLimiter(Limits("p", requests_per_minute=3), clock)
    tasks = await start_many(limiter, 5)
    sent = [(await task).granted_at_s for task in tasks]
    rate = 3 / 60
    assert overshoot([Flow(at_s, 1) for at_s in sent], rate) <= rate * TIMER_SLACK_S * 600 + 1e-6


@pytest.mark.parametrize("window_s", [1.0, 10.0])
async def test_fixed_windows_of_the_provider_never_overflow(window_s: float) -> None:
    late = random.Random(1)
    clock = LateClock(late.uniform(0.0, 0.002) for _ in itertools.count())
    limiter = InProcessRateLimiter(Limits("p", requests_per_minute=12_000, window_s=window_s), clock)
    tasks = await start_many(limiter, 5_000)
    await clock.advance(2 * window_s)
    flows = await stop(tasks)
    assert largest_window(flows, window_s) <= 200 * window_s
    assert len(flows) >= 0.985 * 400 * window_s


# -- the stored schedule ----------------------------------------------------------------------------------------------


async def test_the_next_process_goes_on_with_the_schedule(tmp_path: Path) -> None:
    """A row of 20,000 tokens at 1,000 ... per minute: kill -9 and a restart do not let the next one go at once."""
    clock, path = ManualClock(), tmp_path / "openai_main"
    limits = Limits("p", tokens_per_minute=20_000)
    await InProcessRateLimiter(limits, clock, path).reserve(TENANT, Cost(20_000, 0))
    await clock.advance(5)
    limiter = InProcessRateLimiter(limits, clock, path)
    (task,) = await start_many(limiter, 1)
    await clock.advance(54)
    assert not task.done()
    await clock.advance(1)
    assert task.result().granted_at_s == pytest.approx(1_060)
    limiter.close()


async def test_the_next_process_keeps_the_pause(tmp_path: Path) -> None:
    clock, path = ManualClock(), tmp_path / "s"
    limits = Limits("p", requests_per_minute=6_000)
    first = InProcessRateLimiter(limits, clock, path)
    first.throttled(await first.reserve(TENANT, COST), Throttle(retry_after_s=90))
    (task,) = await start_many(InProcessRateLimiter(limits, clock, path), 1)
    await clock.advance(100)
    assert task.result().granted_at_s == pytest.approx(1_090)


async def test_a_debt_reaches_the_next_process(tmp_path: Path) -> None:
    clock, path = ManualClock(), tmp_path / "s"
    limits = Limits("p", tokens_per_minute=6_000)
    first = InProcessRateLimiter(limits, clock, path)
    first.settle(await first.reserve(TENANT, Cost(10, 0)), Cost(10, 1_990))
    (task,) = await start_many(InProcessRateLimiter(limits, clock, path), 1)
    await clock.advance(60)
    assert task.result().granted_at_s == pytest.approx(1_020)


async def test_a_burst_is_not_granted_twice(tmp_path: Path) -> None:
    clock, path = ManualClock(), tmp_path / "s"
    limits = Limits("p", requests_per_minute=60, burst_s=10)
    flows = []
    for _ in range(5):
        tasks = await start_many(InProcessRateLimiter(limits, clock, path), 30)
        await clock.advance(0.1)
        flows += await stop(tasks)
    assert overshoot(flows, 1) <= 10 + 1e-6


@pytest.mark.parametrize("content", [b"", b"nonsense", b"BLLM-TAT" + b"\xff" * 44])
async def test_a_file_that_makes_no_sense_is_ignored(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "s"
    path.write_bytes(content)
    limiter = InProcessRateLimiter(Limits("p", requests_per_minute=1), ManualClock(), path)
    assert (await limiter.reserve(TENANT, COST)).granted_at_s == 1_000


async def test_a_clock_set_back_does_not_stop_the_pool_for_ever(tmp_path: Path) -> None:
    clock, path = ManualClock(), tmp_path / "s"
    limits = Limits("p", requests_per_minute=1)
    await clock.advance(10_000_000)
    first = InProcessRateLimiter(limits, clock, path)
    first.throttled(await first.reserve(TENANT, COST), Throttle(retry_after_s=10**7))
    clock = ManualClock()
    (task,) = await start_many(InProcessRateLimiter(limits, clock, path), 1)
    await clock.advance(3_600)
    assert task.done()


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.integers(0, 6), st.sampled_from([0.0, 0.2, 3.0, 20.0]), st.booleans()), max_size=15),
    st.sampled_from([0.0, 4.0]),
    st.sampled_from(["actual", "input_plus_max_tokens"]),
)
def test_kills_and_restarts_keep_the_limit(
    tmp_path: Path, steps: list[tuple[int, float, bool]], burst_s: float, debit: Any
) -> None:
    """Any number of kill -9 at any moment: sent in any window stays below rate, burst and one row."""
    path = tmp_path / "s"
    path.unlink(missing_ok=True)
    limits = Limits("p", requests_per_minute=60, tokens_per_minute=30_000, burst_s=burst_s, debit=debit)

    async def main() -> list[Reservation]:
        clock = ManualClock()
        limiter = InProcessRateLimiter(limits, clock, path)
        tasks: list[asyncio.Task[Reservation]] = []
        for rows, pause_s, kill in steps:
            tasks += await start_many(limiter, rows, Cost(300 * rows, 200, 200))
            await clock.advance(pause_s)
            if kill:
                await stop([task for task in tasks if not task.done()])
                limiter.close()
                await clock.advance(0.05)
                limiter = InProcessRateLimiter(limits, clock, path)
        await stop([task for task in tasks if not task.done()])
        limiter.close()
        return [task.result() for task in tasks if not task.cancelled()]

    sent = asyncio.run(main())
    tolerance_s = max(burst_s, TIMER_SLACK_S) + 1e-5
    assert overshoot([Flow(r.granted_at_s, 1) for r in sent], 1) <= tolerance_s
    tokens = [Flow(r.granted_at_s, r.cost.input_tokens + 200) for r in sent]
    largest = max((flow.amount for flow in tokens), default=0.0)
    assert highest_level(tokens, 500) <= 500 * tolerance_s + largest


# -- 429 and headers --------------------------------------------------------------------------------------------------


def limiter_of(clock: Clock | None = None, *, unknown: bool = False, **limits: Any) -> InProcessRateLimiter:
    return InProcessRateLimiter(Limits("p", unknown=unknown, **limits), clock or ManualClock())


async def test_pauses_grow_when_the_provider_does_not_say_how_long() -> None:
    clock = ManualClock()
    limiter = limiter_of(clock, requests_per_minute=60_000)
    pauses = []
    for _ in range(8):
        reservation = await limiter.reserve(TENANT, COST)
        limiter.throttled(reservation, Throttle())
        pauses.append(limiter.state().paused_for_s)
        await clock.advance(pauses[-1])
    assert pauses == pytest.approx([0.5, 1, 2, 4, 8, 16, 30, 30])
    limiter.settle(await limiter.reserve(TENANT, COST), COST)  # one answer: it works again
    await clock.advance(1)
    limiter.throttled(await limiter.reserve(TENANT, COST), Throttle(retry_after_s=float("nan")))
    assert limiter.state().paused_for_s == pytest.approx(0.5)


async def test_many_429s_of_one_moment_are_one_piece_of_news() -> None:
    clock = ManualClock()
    limiter = limiter_of(clock, requests_per_minute=60_000, burst_s=1)
    reservations = [await limiter.reserve(TENANT, COST) for _ in range(100)]
    await clock.advance(3)
    for reservation in reservations[:90]:  # for four seconds, all sent before the first of them
        limiter.throttled(reservation, Throttle())
        await clock.advance(0.05)
    state = limiter.state()
    assert state.paused_for_s == 0
    assert state.requests_per_minute == pytest.approx(60_000 * 0.93)


async def test_the_rate_falls_with_the_share_rejected_and_climbs_back_to_the_limit_and_not_beyond() -> None:
    clock = ManualClock()
    limiter = limiter_of(clock, requests_per_minute=6_000, tokens_per_minute=1e6)
    for number in range(10):
        await clock.advance(0.01)
        reservation = await limiter.reserve(TENANT, COST)
        if number == 9:
            limiter.throttled(reservation, Throttle(retry_after_s=1, scope="requests"))
    assert limiter.state().requests_per_minute == pytest.approx(6_000 * 0.9)
    assert limiter.state().tokens_per_minute == pytest.approx(1e6)  # the provider said which limit it was
    rates = []
    for _ in range(40):
        await clock.advance(1)
        await limiter.reserve(TENANT, COST)
        rates.append(limiter.state().requests_per_minute or 0)
    assert rates == sorted(rates)
    assert rates[1] == pytest.approx(5_400)  # held first
    assert rates[-1] == 6_000


async def test_an_idle_hour_does_not_prove_that_the_limit_is_back() -> None:
    clock = ManualClock()
    limiter = limiter_of(clock, requests_per_minute=6_000)
    limiter.throttled(await limiter.reserve(TENANT, COST), Throttle(retry_after_s=1))
    await clock.advance(3_600)
    await limiter.reserve(TENANT, COST)
    assert limiter.state().requests_per_minute == pytest.approx(6_000 * (0.5 + 0.04))


async def test_a_lower_limit_in_the_headers_caps_a_declared_one_and_a_higher_one_does_not() -> None:
    limiter = limiter_of(requests_per_minute=600, tokens_per_minute=1_000)
    limiter.observe({"x-ratelimit-limit-requests": "60", "x-ratelimit-limit-tokens": "99999"})
    assert (limiter.state().requests_per_minute, limiter.state().tokens_per_minute) == (60, 1_000)
    limiter.observe({"x-ratelimit-limit-requests": "5000"})
    assert limiter.state().requests_per_minute == 600
    limiter.observe({"x-ratelimit-limit-tokens": "10"})
    await limiter.reserve(TENANT, COST)  # not refused: only what was declared or learned refuses
    with pytest.raises(NeverFits):
        await limiter.reserve(TENANT, Cost(1_001, 0))


@pytest.mark.parametrize("value", ["", "many", "-5", "0", "nan", "inf", "1e999", "60;w=60"])
def test_headers_that_make_no_sense_are_ignored(value: str) -> None:
    limiter = limiter_of(requests_per_minute=600)
    limiter.observe({"x-ratelimit-limit-requests": value, "x-ratelimit-remaining-requests": value})
    assert limiter.state().requests_per_minute == 600


async def test_an_unknown_limit_follows_the_headers_up_and_down() -> None:
    limiter = limiter_of(unknown=True, requests_per_minute=500, tokens_per_minute=30_000)
    await limiter.reserve(TENANT, Cost(50_000, 0))  # a guess refuses nothing
    limiter.observe({"x-ratelimit-limit-requests": "10000", "x-ratelimit-limit-tokens": "20000"})
    assert (limiter.state().requests_per_minute, limiter.state().tokens_per_minute) == (10_000, 20_000)
    with pytest.raises(NeverFits, match="allows 20,000 per minute"):
        await limiter.reserve(TENANT, Cost(50_000, 0))


async def test_an_unknown_limit_without_headers_is_probed_while_rows_wait() -> None:
    clock = ManualClock()
    limiter = limiter_of(clock, unknown=True, requests_per_minute=60, tokens_per_minute=1e6)
    await start_many(limiter, 1)
    await clock.advance(100)
    assert limiter.state().requests_per_minute == 60  # nobody waited
    waiting = await start_many(limiter, 400)
    await clock.advance(100)
    faster = limiter.state()
    assert 100 < (faster.requests_per_minute or 0) < 150
    assert faster.tokens_per_minute == 1e6  # it did not bind: nothing was learned of it
    limiter.throttled(await waiting[0], Throttle(retry_after_s=0))
    assert (limiter.state().requests_per_minute or 0) < (faster.requests_per_minute or 0)
    await stop(waiting)


async def test_less_left_than_we_think_means_somebody_else_uses_the_account() -> None:
    limiter = limiter_of(requests_per_minute=60, burst_s=30)
    limiter.observe({"x-ratelimit-remaining-requests": "2"})
    tasks = await start_many(limiter, 10)
    assert len(await stop(tasks)) == 3  # two that were saved up, and the next that is due


async def test_an_empty_bucket_of_a_minute_makes_us_wait_and_a_small_bucket_does_not() -> None:
    by_the_minute, small = limiter_of(requests_per_minute=600), limiter_of(requests_per_minute=600)
    by_the_minute.observe({"x-ratelimit-remaining-requests": "599"})
    by_the_minute.observe({"x-ratelimit-remaining-requests": "0"})
    small.observe({"x-ratelimit-remaining-requests": "0"})  # always near 0: says nothing
    assert len(await stop(await start_many(by_the_minute, 1))) == 0
    assert len(await stop(await start_many(small, 1))) == 1
