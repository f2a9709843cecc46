"""The limits of the simulator: strict, continuous or in windows, all or nothing."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_llm.clock import ManualClock
from batch_llm.simulator.config import SimulatorConfig
from batch_llm.simulator.limits import Gate, Use, duration
from batch_llm.simulator.meters import Bucket, FixedWindow

ARRIVALS = st.lists(st.tuples(st.floats(0, 3), st.integers(1, 400)), min_size=1, max_size=60)


def _worst_excess(accepted: list[tuple[float, float]], rate: float) -> float:
    """The largest amount by which the sum of a window exceeds rate * its length."""
    worst = lowest = 0.0
    before = 0.0
    for number, (at_s, cost) in enumerate(accepted):
        start = before - rate * at_s  # of the windows that begin with this request
        lowest = start if number == 0 else min(lowest, start)
        before += cost
        worst = max(worst, before - rate * at_s - lowest)
    return worst


@given(ARRIVALS, st.integers(1, 6_000), st.floats(0, 60))
async def test_accepted_requests_in_any_window_never_exceed_rate_times_window_plus_burst_plus_one(
    arrivals: list[tuple[float, int]], per_minute: int, burst_s: float
) -> None:
    clock = ManualClock()
    gate = Gate(SimulatorConfig(requests_per_minute=per_minute, burst_s=burst_s), clock.monotonic())
    accepted = []
    for gap_s, count in arrivals:
        await clock.advance(gap_s)
        now_s = clock.monotonic()
        accepted += [(now_s, 1.0) for _ in range(min(count, 30)) if gate.admit(Use(10), now_s) is None]
    rate = per_minute / 60
    assert _worst_excess(accepted, rate) <= min(rate * burst_s + 1, max(per_minute, 1)) + 1e-6


@given(ARRIVALS, st.integers(400, 60_000), st.floats(0, 60))
async def test_accepted_tokens_in_any_window_never_exceed_rate_times_window_plus_burst_plus_one_row(
    arrivals: list[tuple[float, int]], per_minute: int, burst_s: float
) -> None:
    clock = ManualClock()
    gate = Gate(SimulatorConfig(tokens_per_minute=per_minute, burst_s=burst_s), clock.monotonic())
    accepted = []
    for gap_s, tokens in arrivals:
        await clock.advance(gap_s)
        if gate.admit(Use(tokens), clock.monotonic()) is None:
            accepted.append((clock.monotonic(), float(tokens)))
    row = max((tokens for _, tokens in accepted), default=0)
    rate = per_minute / 60
    assert not accepted or _worst_excess(accepted, rate) <= min(rate * burst_s + row, per_minute) + 1e-6


@given(ARRIVALS, st.integers(60, 6_000), st.sampled_from([1.0, 10.0, 60.0]))
def test_no_fixed_window_takes_more_than_its_share(
    arrivals: list[tuple[float, int]], per_minute: int, window_s: float
) -> None:
    gate = Gate(SimulatorConfig(requests_per_minute=per_minute, window_s=window_s), 0.0)
    now_s, taken = 0.0, {}
    for gap_s, count in arrivals:
        now_s += gap_s
        for _ in range(min(count, 150)):
            if gate.admit(Use(1), now_s) is None:
                window = math.floor(now_s / window_s)
                taken[window] = taken.get(window, 0) + 1
    assert max(taken.values()) <= per_minute * window_s / 60 + 1e-6


@given(ARRIVALS, st.integers(400, 60_000), st.sampled_from([None, 1.0, 60.0]))
def test_after_the_wait_that_was_named_the_request_fits_and_a_moment_earlier_it_does_not(
    arrivals: list[tuple[float, int]], per_minute: int, window_s: float | None
) -> None:
    gate = Gate(SimulatorConfig(tokens_per_minute=per_minute, window_s=window_s), 0.0)
    now_s = 0.0
    for gap_s, tokens in arrivals:
        now_s += gap_s
        overrun = gate.admit(Use(tokens), now_s)
        if overrun is not None:
            assert overrun.wait_s is not None
            if overrun.wait_s > 0.01:
                assert gate.admit(Use(tokens), now_s + overrun.wait_s * 0.99) is not None
            now_s += overrun.wait_s + 1e-6
            assert gate.admit(Use(tokens), now_s) is None


def test_a_bucket_of_a_whole_minute_gives_the_waiting_time_of_openais_message() -> None:
    # Source: "Limit 10000, Used 8554, Requested 3082. Please try again in 9.816s", MetaGPT issue 523
    bucket = Bucket(10_000, 60, 60)
    bucket.take(8_554, 0.0)
    assert bucket.wait_s(3_082, 0.0) == pytest.approx(9.816)


def test_a_day_holds_its_whole_quota_and_then_drains_evenly() -> None:
    # OpenAI's own words: on requests per day, limit 200, used 200, requested 1: try again in 7m12s
    gate = Gate(SimulatorConfig(requests_per_day=200), 0.0)
    assert [gate.admit(Use(1), 0.0) for _ in range(200)] == [None] * 200
    overrun = gate.admit(Use(1), 0.0)
    assert overrun is not None
    assert (overrun.name, overrun.used, duration(overrun.wait_s or 0)) == ("requests_per_day", 200, "7m12s")


def test_a_request_refused_by_one_limit_takes_nothing_from_another() -> None:
    gate = Gate(SimulatorConfig(requests_per_minute=60, tokens_per_minute=60, burst_s=1), 0.0)
    assert gate.admit(Use(60), 0.0) is None
    for _ in range(50):
        overrun = gate.admit(Use(60), 0.0)
        assert overrun is not None
        assert overrun.name == "tokens_per_minute"
    assert gate.headers(0.0)["x-ratelimit-remaining-requests"] == "1"


def test_the_limit_that_waits_longest_is_named() -> None:
    gate = Gate(SimulatorConfig(requests_per_minute=6, tokens_per_minute=600_000, burst_s=0), 0.0)
    assert gate.admit(Use(100), 0.0) is None
    overrun = gate.admit(Use(100), 0.0)
    assert overrun is not None
    assert (overrun.name, overrun.wait_s) == ("requests_per_minute", pytest.approx(10))


def test_a_request_larger_than_the_limit_can_never_fit() -> None:
    overrun = Gate(SimulatorConfig(tokens_per_minute=100), 0.0).admit(Use(101), 0.0)
    assert overrun is not None
    assert overrun.wait_s is None


def test_a_limit_below_one_request_per_minute_still_lets_one_through() -> None:
    gate = Gate(SimulatorConfig(requests_per_minute=0.5), 0.0)
    assert gate.admit(Use(1), 0.0) is None
    overrun = gate.admit(Use(1), 0.0)
    assert overrun is not None
    assert gate.admit(Use(1), (overrun.wait_s or 0) + 1e-6) is None


def test_a_correction_gives_back_and_never_mints() -> None:
    gate = Gate(SimulatorConfig(tokens_per_minute=600, burst_s=60), 0.0)
    assert gate.admit(Use(600), 0.0) is None
    gate.correct(-100, 0.0)
    assert gate.headers(0.0)["x-ratelimit-remaining-tokens"] == "100"
    gate.correct(-10_000, 0.0)
    assert gate.headers(0.0)["x-ratelimit-remaining-tokens"] == "600"


def test_a_row_larger_than_a_window_fits_an_empty_one_and_is_paid_back_by_the_next() -> None:
    window = FixedWindow(600, 60, 1, 0.0)  # 10 a second
    assert window.wait_s(25, 0.5) == 0
    window.take(25, 0.5)
    assert window.wait_s(5, 0.5) == pytest.approx(1.5)  # two windows later 5 of 10 are still owed
    assert window.wait_s(6, 0.5) == pytest.approx(2.5)
    assert window.wait_s(5, 2.0) == 0


def test_refused_requests_count_against_the_limit_when_told_so() -> None:
    lenient = Gate(SimulatorConfig(requests_per_minute=60, burst_s=1), 0.0)
    strict = Gate(SimulatorConfig(requests_per_minute=60, burst_s=1, count_rejected=True), 0.0)
    for gate in (lenient, strict):
        for _ in range(10):
            gate.admit(Use(1), 0.0)
    assert lenient.admit(Use(1), 1.0) is None
    assert strict.admit(Use(1), 1.0) is not None


def test_other_limits_take_over_what_was_used() -> None:
    before = Gate(SimulatorConfig(tokens_per_minute=600, burst_s=60), 0.0)
    before.admit(Use(600), 0.0)
    after = Gate(SimulatorConfig(tokens_per_minute=1_200, burst_s=60), 0.0, before=before)
    assert after.admit(Use(700), 0.0) is not None
    assert after.admit(Use(600), 0.0) is None


def test_utilisation_is_what_was_admitted_over_what_was_possible() -> None:
    gate = Gate(SimulatorConfig(requests_per_minute=60, tokens_per_minute=6_000, burst_s=2), 0.0)
    assert gate.utilisation() == {"requests_per_minute": 0.0, "tokens_per_minute": 0.0}
    for second in range(11):
        gate.admit(Use(50), float(second))
    assert gate.utilisation() == {
        "requests_per_minute": pytest.approx(11 / 12, abs=1e-6),
        "tokens_per_minute": pytest.approx(550 / 1200, abs=1e-6),
    }
    gate.count_anew()
    assert gate.utilisation()["requests_per_minute"] == 0.0


def test_utilisation_without_time_and_without_burst_is_unknown() -> None:
    gate = Gate(SimulatorConfig(requests_per_minute=60, burst_s=0), 0.0)
    gate.admit(Use(1), 0.0)
    assert gate.utilisation() == {"requests_per_minute": None}


def test_headers_say_what_would_be_admitted_now_and_when_nothing_is_used() -> None:
    # Source: limit 5000, remaining 4999, reset 12ms, community.openai.com/t/1268905
    gate = Gate(SimulatorConfig(requests_per_minute=5_000, tokens_per_minute=160_000, burst_s=60), 0.0)
    gate.admit(Use(24), 0.0)
    assert gate.headers(0.0) == {
        "x-ratelimit-limit-requests": "5000",
        "x-ratelimit-remaining-requests": "4999",
        "x-ratelimit-reset-requests": "12ms",
        "x-ratelimit-limit-tokens": "160000",
        "x-ratelimit-remaining-tokens": "159976",
        "x-ratelimit-reset-tokens": "9ms",
    }


def test_headers_of_fixed_windows_reset_at_the_end_of_the_window() -> None:
    gate = Gate(SimulatorConfig(requests_per_minute=600, window_s=1), 0.0)
    assert gate.headers(0.0)["x-ratelimit-reset-requests"] == "0s"
    gate.admit(Use(1), 0.25)
    assert gate.headers(0.25)["x-ratelimit-remaining-requests"] == "9"
    assert gate.headers(0.25)["x-ratelimit-reset-requests"] == "750ms"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.0001, "1ms"),
        (0.174, "174ms"),
        (1, "1s"),
        (9.816, "9.816s"),
        (43.2, "43.2s"),
        (59.9999, "1m0s"),
        (360, "6m0s"),
        (432, "7m12s"),
        (86.4, "1m26.4s"),
        (1728, "28m48s"),
        (3600, "1h0m0s"),
        (86_400, "24h0m0s"),
    ],
)
def test_durations_are_written_as_openai_writes_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text
